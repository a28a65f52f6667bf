"""Speech and noise become a mixture of a known signal-to-noise ratio; coloured noise and babble to
mix with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from audioae.errors import DataError
from audioae.signal.spectrogram import Array

ACTIVE_RANGE_DB = 40.0  # frames within this of the loudest count as active


def rms(waveform: Array) -> float:
    """Root mean square of all samples."""
    return float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64)))) if waveform.size else 0.0


def active_rms(waveform: Array, sample_rate: int) -> float:
    """Root mean square over the active part of `waveform` `[samples]`; 0 for digital silence.

    Active are the 20 ms frames within 40 dB of the loudest one: pauses do not lower the level of
    speech, nor silence between barks that of a dog. Samples after the last whole frame do not
    count.
    """
    frame = min(max(1, sample_rate // 50), max(1, waveform.shape[-1]))
    frames = waveform[: waveform.shape[-1] // frame * frame].reshape(-1, frame)
    power = np.einsum("tn,tn->t", frames, frames) / frame
    loudest = power.max(initial=0.0)
    if loudest <= 0:
        return 0.0
    return float(np.sqrt(power[power >= loudest * 10 ** (-ACTIVE_RANGE_DB / 10)].mean()))


def mix_at_snr(clean: Array, noise: Array, *, snr_db: float, sample_rate: int) -> Array:
    """Add `noise` to `clean` at the asked signal-to-noise ratio.

    Args:
        clean, noise: `[samples]`, same length.
        snr_db: 20 log10(active level of clean / active level of noise), dB.

    Raises:
        DataError: one of the two is digital silence, so no ratio exists.
    """
    return clean + noise * noise_scale(clean, noise, snr_db=snr_db, sample_rate=sample_rate)


def noise_scale(clean: Array, noise: Array, *, snr_db: float, sample_rate: int) -> np.float32:
    """The factor on `noise` that gives `snr_db` against `clean`; see `mix_at_snr`."""
    speech_level, noise_level = active_rms(clean, sample_rate), active_rms(noise, sample_rate)
    if not speech_level or not noise_level:
        silent = "noise" if speech_level else "speech"
        raise DataError(
            f"a signal-to-noise ratio needs sound on both sides; the {silent} is digital silence"
        )
    return np.float32(speech_level / noise_level * 10 ** (-snr_db / 20))


def coloured_noise(rng: np.random.Generator, samples: int, *, exponent: float) -> Array:
    """Gaussian noise `[samples]` of unit RMS whose power falls as 1 / f^exponent: 0 white, 1 pink,
    2 brown, below 0 blue.
    """
    frequency = np.maximum(np.arange(samples // 2 + 1, dtype=np.float32), 1)
    return shaped_noise(
        rng, samples, magnitude=np.exp(np.log(frequency) * np.float32(-exponent / 2))
    )


def shaped_noise(rng: np.random.Generator, samples: int, *, magnitude: npt.NDArray[Any]) -> Array:
    """Gaussian noise `[samples]` of unit RMS with the spectral magnitude `[samples // 2 + 1]`,
    without a mean.

    The spectrum is drawn as it is: what is Gaussian in time is complex Gaussian in frequency, and
    one transform is saved.
    """
    spectrum = rng.standard_normal(2 * len(magnitude), np.float32).view(np.complex64) * magnitude
    spectrum[0] = 0
    noise = np.fft.irfft(spectrum, samples).astype(np.float32, copy=False)
    return noise / np.float32(max(rms(noise), 1e-12))


def babble(speakers: Sequence[Array], sample_rate: int) -> Array:
    """The sum of speakers `[samples]` brought to one active level; silent ones are left out."""
    levels = [active_rms(speaker, sample_rate) for speaker in speakers]
    total = np.zeros_like(speakers[0])
    for speaker, level in zip(speakers, levels, strict=True):
        if level:
            total += speaker / np.float32(level)
    return total
