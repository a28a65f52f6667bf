"""Mix speech and noise at a signal-to-noise ratio; make coloured noise and babble."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from audioae.errors import DataError
from audioae.signal.spectrogram import Array

ACTIVE_RANGE_DB = 40.0  # a segment is active if it is within this range of the loudest one


def rms(waveform: Array) -> float:
    """Root mean square of all samples; 0 if there are none."""
    return float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64)))) if waveform.size else 0.0


def active_rms(waveform: Array, sample_rate: int) -> float:
    """Root mean square over the active part of a waveform, so that pauses do not lower it.

    A segment of 20 ms is active if it is within 40 dB of the loudest one. Samples after the last
    whole segment are ignored.

    Args:
        waveform: `[samples]`.
        sample_rate: Hz.

    Returns:
        The level, 1 for a square wave of full scale; 0 for digital silence.

    Example:
        >>> tone = 0.5 * np.sin(2 * np.pi * 100 * np.arange(16000) / 16000)
        >>> paused = np.concatenate([tone, np.zeros(16000)])
        >>> round(rms(paused), 3), round(active_rms(paused, 16000), 3)
        (0.25, 0.354)
    """
    length = min(max(1, sample_rate // 50), max(1, waveform.shape[-1]))
    segments = waveform[: waveform.shape[-1] // length * length].reshape(-1, length)
    power = np.einsum("tn,tn->t", segments, segments) / length
    loudest = power.max(initial=0.0)
    if loudest <= 0:
        return 0.0
    return float(np.sqrt(power[power >= loudest * 10 ** (-ACTIVE_RANGE_DB / 10)].mean()))


def mix_at_snr(clean: Array, noise: Array, *, snr_db: float, sample_rate: int) -> Array:
    """Add noise to clean speech at a given signal-to-noise ratio.

    Args:
        clean, noise: `[samples]`, same length.
        snr_db: 20 log10(`active_rms` of clean / `active_rms` of noise), dB.
        sample_rate: Hz.

    Returns:
        The mixture, `[samples]`.

    Raises:
        DataError: one of the two is digital silence.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> clean, noise = rng.standard_normal((2, 16000), np.float32)
        >>> noisy = mix_at_snr(clean, noise, snr_db=10, sample_rate=16000)
        >>> round(float(20 * np.log10(rms(clean) / rms(noisy - clean))), 3)
        10.0
    """
    return clean + noise * noise_scale(clean, noise, snr_db=snr_db, sample_rate=sample_rate)


def noise_scale(clean: Array, noise: Array, *, snr_db: float, sample_rate: int) -> np.float32:
    """The factor by which `mix_at_snr` multiplies the noise."""
    speech_level, noise_level = active_rms(clean, sample_rate), active_rms(noise, sample_rate)
    if not speech_level or not noise_level:
        silent = "noise" if speech_level else "speech"
        raise DataError(
            f"a signal-to-noise ratio needs sound on both sides; the {silent} is digital silence"
        )
    return np.float32(speech_level / noise_level * 10 ** (-snr_db / 20))


def coloured_noise(rng: np.random.Generator, num_samples: int, *, exponent: float) -> Array:
    """Gaussian noise of unit RMS with a power spectrum of 1 / f^exponent.

    Args:
        rng: source of randomness.
        num_samples: length.
        exponent: 0 is white, 1 pink, 2 brown, -1 blue noise.

    Returns:
        `[num_samples]`, float32.

    Example:
        >>> noise = coloured_noise(np.random.default_rng(0), 16000, exponent=1)
        >>> noise.shape, round(rms(noise), 3)
        ((16000,), 1.0)
    """
    frequency = np.maximum(np.arange(num_samples // 2 + 1, dtype=np.float32), 1)
    magnitude = np.exp(np.log(frequency) * np.float32(-exponent / 2))
    return shaped_noise(rng, num_samples, magnitude=magnitude)


def shaped_noise(
    rng: np.random.Generator, num_samples: int, *, magnitude: npt.NDArray[Any]
) -> Array:
    """Gaussian noise of unit RMS and zero mean with a given spectrum.

    Args:
        rng: source of randomness.
        num_samples: length.
        magnitude: relative magnitude of each bin, `[num_samples // 2 + 1]`.

    Returns:
        `[num_samples]`, float32.
    """
    # Gaussian noise has a complex Gaussian spectrum: drawing that directly saves one transform.
    spectrum = rng.standard_normal(2 * len(magnitude), np.float32).view(np.complex64) * magnitude
    spectrum[0] = 0
    noise = np.fft.irfft(spectrum, num_samples).astype(np.float32, copy=False)
    return noise / np.float32(max(rms(noise), 1e-12))


def babble(speakers: Sequence[Array], sample_rate: int) -> Array:
    """The sum of several speakers at the same active level; silent speakers are left out.

    Args:
        speakers: waveforms `[samples]` of the same length.
        sample_rate: Hz.

    Returns:
        `[samples]`.
    """
    levels = [active_rms(speaker, sample_rate) for speaker in speakers]
    total = np.zeros_like(speakers[0])
    for speaker, level in zip(speakers, levels, strict=True):
        if level:
            total += speaker / np.float32(level)
    return total
