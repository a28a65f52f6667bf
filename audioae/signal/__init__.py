"""Operations on waveforms in NumPy: spectra, sample rates, loudness, mixing at a signal-to-noise
ratio.
"""
