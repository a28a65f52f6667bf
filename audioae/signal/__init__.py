"""Operations on waveforms in NumPy, without files or networks.

In reading order:

- `spectrogram`: `StftSettings`, `stft` and `istft`, also block by block.
- `features`: log-mel and magnitude features of autoencoders, and back to a waveform.
- `mdct`: the modified discrete cosine transform, for compression.
- `resample`: change the sample rate, also block by block.
- `loudness`: peak, RMS level and the integrated loudness of ITU-R BS.1770-4.
- `mixing`: speech and noise at a signal-to-noise ratio; coloured noise and babble.

Waveforms are float32 `[..., samples]` with full scale 1.
"""
