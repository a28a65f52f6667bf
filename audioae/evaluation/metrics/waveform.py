"""Metrics of plain arithmetic on a signal and its reference: SI-SDR, SNR and log-spectral distance."""

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
    """Both signals as float64 `[samples]`; `ScoreError` where they cannot be compared at all."""
    if np.ndim(estimate) != 1 or np.shape(estimate) != np.shape(reference):
        shapes = f"estimate is {list(np.shape(estimate))} and reference {list(np.shape(reference))}"
        raise ScoreError(f"{shapes}; expected [samples] of both, equally long")
    return checked(estimate, "estimate"), checked(reference, "reference")


def checked(signal: AnySignal, what: str) -> Signal:
    """The signal as float64; `ScoreError` where it is empty or holds NaN or infinity."""
    if not np.size(signal):
        raise ScoreError(f"{what} has no samples")
    if not np.isfinite(signal).all():
        raise ScoreError(f"{what} has NaN or infinite samples")
    return np.asarray(signal, np.float64)


def check_not_silent(signal: Signal, what: str) -> None:
    if not signal.any():
        raise ScoreError(f"{what} is silent")


def decibels(power: float, of: float) -> float:
    """`10 log10(power / of)`, infinite where one of the two is zero."""
    if not of:
        return math.inf
    return 10 * math.log10(power / of) if power else -math.inf


def si_sdr(estimate: AnySignal, reference: AnySignal) -> float:
    """Scale-invariant signal-to-distortion ratio, dB, of the zero-mean signals `[samples]` (Le Roux
    et al. 2019, eq. 5).

    Infinite where the estimate is the reference at another level. `ScoreError` where either of the
    two is constant.
    """
    estimate, reference = checked_pair(estimate, reference)
    estimate, reference = estimate - estimate.mean(), reference - reference.mean()
    check_not_silent(estimate, "estimate")
    check_not_silent(reference, "reference")
    target = (estimate @ reference) / (reference @ reference) * reference
    distortion = estimate - target
    return decibels(float(target @ target), float(distortion @ distortion))


def snr(estimate: AnySignal, reference: AnySignal) -> float:
    """Signal-to-noise ratio, dB: power of the reference over power of the difference, over the
    whole signals `[samples]`.
    """
    estimate, reference = checked_pair(estimate, reference)
    check_not_silent(reference, "reference")
    noise = estimate - reference
    return decibels(float(reference @ reference), float(noise @ noise))


def log_spectral_distance(estimate: AnySignal, reference: AnySignal, sample_rate: int) -> float:
    """Log-spectral distance, dB: over time the mean, over frequency the root mean square, of the
    difference of the spectra in dB.

    Frames of 32 ms every 8 ms. Spectra are cut 50 dB below the loudest bin of the reference, so
    that what nobody hears does not decide (Cohen & Gannot 2008, Springer Handbook of Speech
    Processing, ch. 44).

    Args:
        estimate, reference: `[samples]`.
        sample_rate: Hz.
    """
    estimate, reference = checked_pair(estimate, reference)
    check_not_silent(reference, "reference")
    hop = max(1, round(0.008 * sample_rate))
    settings = StftSettings(
        sample_rate=sample_rate, n_fft=4 * hop, hop_length=hop, win_length=4 * hop
    )
    loudest = np.abs(reference).max()  # float32 spectra of very soft signals would underflow
    power = [
        np.abs(stft((signal / loudest).astype(np.float32), settings)) ** 2
        for signal in (estimate, reference)
    ]
    floor = power[1].max() * 10 ** (-LSD_RANGE_DB / 10)
    estimate_db, reference_db = (10 * np.log10(np.maximum(side, floor)) for side in power)  # F, T
    return float(np.sqrt(((estimate_db - reference_db) ** 2).mean(axis=0)).mean())
