"""SI-SDR, SNR and log-spectral distance.

librosa, scipy and torchaudio have none of these as a function of two signals.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from audioae.errors import ScoreError
from audioae.signal.spectrogram import StftSettings, stft

Signal = npt.NDArray[np.float64]
AnySignal = npt.NDArray[Any]

LSD_RANGE_DB = 50.0


def checked_pair(estimate: AnySignal, reference: AnySignal) -> tuple[Signal, Signal]:
    """Both signals as float64 `[samples]`.

    Raises:
        ScoreError: the shapes differ, are not `[samples]`, or a signal fails `checked`.
    """
    if np.ndim(estimate) != 1 or np.shape(estimate) != np.shape(reference):
        shapes = f"estimate is {list(np.shape(estimate))} and reference {list(np.shape(reference))}"
        raise ScoreError(f"{shapes}; expected two signals [samples] of the same length")
    return checked(estimate, "estimate"), checked(reference, "reference")


def checked(signal: AnySignal, what: str) -> Signal:
    """The signal as float64.

    Raises:
        ScoreError: it is empty or has NaN or infinite samples; the message begins with `what`.
    """
    if not np.size(signal):
        raise ScoreError(f"{what} has no samples")
    if not np.isfinite(signal).all():
        raise ScoreError(f"{what} has NaN or infinite samples")
    return np.asarray(signal, np.float64)


def check_not_silent(signal: Signal, what: str) -> None:
    """Raise `ScoreError` if all samples are 0."""
    if not signal.any():
        raise ScoreError(f"{what} is silent")


def decibels(power: float, of: float) -> float:
    """10 log10(power / of); infinite if either is 0.

    Example:
        >>> decibels(100.0, 1.0), decibels(1.0, 0.0)
        (20.0, inf)
    """
    if not of:
        return math.inf
    return 10 * math.log10(power / of) if power else -math.inf


def si_sdr(estimate: AnySignal, reference: AnySignal) -> float:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019, eq. 5).

    The means of both signals are subtracted first. Infinite if the estimate is a multiple of the
    reference.

    Args:
        estimate, reference: `[samples]`.

    Raises:
        ScoreError: either signal is constant.

    Example:
        >>> reference = np.array([1.0, -1.0, 1.0, -1.0])
        >>> round(si_sdr(reference + [0.1, 0.1, -0.1, -0.1], reference), 6)
        20.0
    """
    estimate, reference = checked_pair(estimate, reference)
    estimate, reference = estimate - estimate.mean(), reference - reference.mean()
    check_not_silent(estimate, "estimate")
    check_not_silent(reference, "reference")
    target = (estimate @ reference) / (reference @ reference) * reference
    distortion = estimate - target
    return decibels(float(target @ target), float(distortion @ distortion))


def snr(estimate: AnySignal, reference: AnySignal) -> float:
    """Signal-to-noise ratio in dB: power of the reference over power of the difference.

    Args:
        estimate, reference: `[samples]`.

    Raises:
        ScoreError: the reference is silent.

    Example:
        >>> reference = np.ones(4)
        >>> round(snr(1.1 * reference, reference), 6)
        20.0
    """
    estimate, reference = checked_pair(estimate, reference)
    check_not_silent(reference, "reference")
    noise = estimate - reference
    return decibels(float(reference @ reference), float(noise @ noise))


def log_spectral_distance(estimate: AnySignal, reference: AnySignal, sample_rate: int) -> float:
    """Log-spectral distance in dB: the difference of the spectra in dB, root mean square over
    frequency, mean over time.

    Frames of 32 ms, 8 ms apart. Spectra are limited to 50 dB below the loudest bin of the
    reference, so that inaudible differences do not count (Cohen & Gannot 2008, Springer Handbook of
    Speech Processing, ch. 44).

    Args:
        estimate, reference: `[samples]`.
        sample_rate: Hz.

    Raises:
        ScoreError: the reference is silent.

    Example:
        >>> noise = np.random.default_rng(0).standard_normal(16000)
        >>> round(log_spectral_distance(2 * noise, noise, 16000), 1)
        6.0
    """
    estimate, reference = checked_pair(estimate, reference)
    check_not_silent(reference, "reference")
    hop = max(1, round(0.008 * sample_rate))
    settings = StftSettings(
        sample_rate=sample_rate, n_fft=4 * hop, hop_length=hop, win_length=4 * hop
    )
    loudest = np.abs(reference).max()  # float32 spectra of very quiet signals underflow
    power = [
        np.abs(stft((signal / loudest).astype(np.float32), settings)) ** 2
        for signal in (estimate, reference)
    ]
    limit = power[1].max() * 10 ** (-LSD_RANGE_DB / 10)
    estimate_db, reference_db = (10 * np.log10(np.maximum(side, limit)) for side in power)  # F, T
    return float(np.sqrt(((estimate_db - reference_db) ** 2).mean(axis=0)).mean())
