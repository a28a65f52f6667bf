"""The measures of Hu & Loizou (2008): segmental SNR, LLR, WSS, and the composite measures CSIG,
CBAK and COVL.

Y. Hu, P. C. Loizou: Evaluation of objective quality measures for speech enhancement, IEEE Trans.
Audio, Speech, Language Proc. 16(1), 2008; LLR after Quackenbush et al. (1988), WSS after Klatt
(ICASSP 1982). Frames of 30 ms with a Hann window, 7.5 ms apart. Published figures come from the
authors' `composite.m`, so this code follows it where it differs from the papers (marked below).

Linear prediction is our own: `scipy.linalg.solve_toeplitz` takes one frame at a time (80 times
slower for 4000 frames, same result to 2e-16) and fails on singular frames, and `librosa.lpc` uses
Burg's method instead of the autocorrelation method and is as slow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from audioae.errors import ScoreError
from audioae.evaluation.metrics.waveform import AnySignal, Signal, checked_pair

Matrix = npt.NDArray[np.float64]

EPS = float(np.finfo(np.float64).eps)
FRAME_SECONDS = 0.03
SEGMENTAL_RANGE_DB = (-10.0, 35.0)
KEPT = 0.95  # LLR and WSS are means over this share of the frames, the least distorted ones
FRAMES_AT_ONCE = 4096  # about 30 s; limits memory use for long files

# Critical bands of WSS in Hz.
# fmt: off
BAND_CENTRES = np.array([
    50, 120, 190, 260, 330, 400, 470, 540, 617.372, 703.378, 798.717, 904.128, 1020.38, 1148.30,
    1288.72, 1442.54, 1610.70, 1794.16, 1993.93, 2211.08, 2446.71, 2701.97, 2978.04, 3276.17,
    3597.63,
])
BAND_WIDTHS = np.array([
    70, 70, 70, 70, 70, 70, 70, 77.3724, 86.0056, 95.3398, 105.411, 116.256, 127.914, 140.423,
    153.823, 168.154, 183.457, 199.776, 217.153, 235.631, 255.255, 276.072, 298.126, 321.465,
    346.136,
])
# fmt: on
NEAR_GLOBAL_PEAK, NEAR_LOCAL_PEAK = 20.0, 1.0  # dB, Klatt's K_max and K_locmax


class Composite(NamedTuple):
    """Predicted mean opinion scores, 1 to 5: signal distortion (csig), background intrusiveness
    (cbak), overall quality (covl).
    """

    csig: float
    cbak: float
    covl: float


def segmental_snr(estimate: AnySignal, reference: AnySignal, sample_rate: int) -> float:
    """Mean of the SNR per frame in dB, limited to -10..35 dB in each frame.

    A frame in which the reference is digital silence counts as -10 dB.

    Args:
        estimate, reference: `[samples]`.
        sample_rate: Hz.

    Raises:
        ScoreError: the signals are shorter than 37.5 ms.

    Example:
        >>> reference = np.random.default_rng(0).standard_normal(16000)
        >>> round(segmental_snr(1.1 * reference, reference, 16000), 3)
        20.0
    """

    def per_frame(processed: Matrix, clean: Matrix) -> Signal:
        noise = ((clean - processed) ** 2).sum(axis=1)
        ratio: Signal = 10 * np.log10((clean**2).sum(axis=1) / (noise + EPS) + EPS)
        return ratio.clip(*SEGMENTAL_RANGE_DB)

    return float(_by_frames(per_frame, *checked_pair(estimate, reference), sample_rate).mean())


def log_likelihood_ratio(estimate: AnySignal, reference: AnySignal, sample_rate: int) -> float:
    """Log-likelihood ratio (LLR): mean of `log(a' R a / c' R c)` over the best 95 % of the frames.

    `c` and `a` are the linear predictors of reference and estimate (order 16, or 10 below a sample
    rate of 10 kHz), `R` is the autocorrelation matrix of the reference. 0 for equal spectral
    envelopes. Not limited to 2, as in the authors' composite measure.

    Args:
        estimate, reference: `[samples]`.
        sample_rate: Hz.

    Raises:
        ScoreError: the signals are shorter than 37.5 ms.

    Example:
        >>> reference = np.random.default_rng(0).standard_normal(16000)
        >>> log_likelihood_ratio(0.5 * reference, reference, 16000) < 1e-9
        True
    """
    order = 10 if sample_rate < 10000 else 16
    estimate, reference = checked_pair(estimate, reference)
    # Adding 1 eps, as in composite.m, makes the predictor of digital silence defined.
    return _trimmed_mean(
        _by_frames(
            lambda processed, clean: _llr(processed, clean, order),
            estimate + EPS,
            reference + EPS,
            sample_rate,
        )
    )


def weighted_spectral_slope(estimate: AnySignal, reference: AnySignal, sample_rate: int) -> float:
    """Weighted spectral slope distance (WSS) in dB²: mean over the best 95 % of the frames.

    The distance of a frame is the weighted squared difference of the slopes from band to band;
    slopes near spectral peaks have larger weights. 0 for equal slopes.

    Args:
        estimate, reference: `[samples]`.
        sample_rate: Hz.

    Raises:
        ScoreError: the signals are shorter than 37.5 ms.

    Example:
        >>> reference = np.random.default_rng(0).standard_normal(16000)
        >>> weighted_spectral_slope(reference, reference, 16000)
        0.0
    """
    estimate, reference = checked_pair(estimate, reference)
    n_fft = 1 << (2 * round(FRAME_SECONDS * sample_rate) - 1).bit_length()
    bands = _critical_bands(sample_rate, n_fft)  # band, F
    return _trimmed_mean(
        _by_frames(
            lambda processed, clean: _wss(processed, clean, bands, n_fft),
            estimate,
            reference,
            sample_rate,
        )
    )


def composite(
    estimate: AnySignal, reference: AnySignal, sample_rate: int, *, pesq: float
) -> Composite:
    """The composite measures CSIG, CBAK and COVL, limited to 1..5.

    Args:
        estimate, reference: `[samples]`.
        sample_rate: Hz; published figures use 16 kHz.
        pesq: PESQ of the same signals. The regression was fitted to narrow-band PESQ, but
            publications since SEGAN (2017) use wide-band PESQ.

    Raises:
        ScoreError: the signals are shorter than 37.5 ms.

    Example:
        >>> reference = np.random.default_rng(0).standard_normal(16000)
        >>> composite(reference, reference, 16000, pesq=4.64)
        Composite(csig=5.0, cbak=5.0, covl=5.0)
    """
    llr = log_likelihood_ratio(estimate, reference, sample_rate)
    wss = weighted_spectral_slope(estimate, reference, sample_rate)
    segmental = segmental_snr(estimate, reference, sample_rate)
    ratings = (
        3.093 - 1.029 * llr + 0.603 * pesq - 0.009 * wss,
        1.634 + 0.478 * pesq - 0.007 * wss + 0.063 * segmental,
        1.594 + 0.805 * pesq - 0.512 * llr - 0.007 * wss,
    )
    return Composite(*(min(max(rating, 1.0), 5.0) for rating in ratings))


def _by_frames(
    measure: Callable[[Matrix, Matrix], Signal],
    estimate: Signal,
    reference: Signal,
    sample_rate: int,
) -> Signal:
    """Apply `measure` to the windowed frames `[frames, samples]` of both signals; one value per
    frame.
    """
    length = round(FRAME_SECONDS * sample_rate)
    hop = length // 4
    if not hop or (len(reference) - length) // hop < 1:
        raise ScoreError(
            f"{len(reference) / sample_rate:.3f} s is too short; frame measures need "
            f"{1.25 * FRAME_SECONDS:.4f} s"
        )
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1, length + 1) / (length + 1))
    count = (len(reference) - length) // hop  # without the last full frame, as in composite.m
    views = [
        np.lib.stride_tricks.sliding_window_view(signal, length)[::hop][:count]
        for signal in (estimate, reference)
    ]
    starts = range(0, count, FRAMES_AT_ONCE)
    return np.concatenate(
        [
            measure(*(view[start : start + FRAMES_AT_ONCE] * window for view in views))
            for start in starts
        ]
    )


def _trimmed_mean(distortion: Signal) -> float:
    return float(np.sort(distortion)[: max(1, int(KEPT * len(distortion) + 0.5))].mean())


def _llr(processed: Matrix, clean: Matrix, order: int) -> Signal:
    correlation = _autocorrelation(clean, order)
    lags = np.abs(np.subtract.outer(np.arange(order + 1), np.arange(order + 1)))
    toeplitz = correlation[:, lags]  # T, order + 1, order + 1
    # The residual of a nearly predictable frame can be negative by rounding.
    least = EPS * correlation[:, 0]
    energies = [
        np.maximum(np.einsum("ti,tij,tj->t", predictor, toeplitz, predictor), least)
        for predictor in (_predictor(_autocorrelation(processed, order)), _predictor(correlation))
    ]
    ratio: Signal = np.log(energies[0] / energies[1])
    return ratio


def _autocorrelation(frames: Matrix, order: int) -> Matrix:
    """Lags 0 to `order` of every frame, `[frames, order + 1]`."""
    length = frames.shape[1]
    return np.stack(
        [
            np.einsum("ts,ts->t", frames[:, : length - lag], frames[:, lag:])
            for lag in range(order + 1)
        ],
        axis=1,
    )


def _predictor(correlation: Matrix) -> Matrix:
    """The prediction error filters `[1, -a1, ..., -ap]` of every row of lags, by the
    Levinson-Durbin recursion.

    It stops early in a frame (a constant, a low tone) whose error is below rounding errors, where
    the filter would diverge.
    """
    filters = np.zeros_like(correlation)
    filters[:, 0] = 1
    error, least = correlation[:, 0].copy(), EPS * correlation[:, 0]
    for step in range(1, correlation.shape[1]):
        unfinished = error > least
        residual = np.einsum("tk,tk->t", filters[:, :step], correlation[:, step:0:-1])
        reflection = np.where(unfinished, -residual / np.where(unfinished, error, 1), 0).clip(-1, 1)
        filters[:, 1 : step + 1] += reflection[:, None] * filters[:, step - 1 :: -1]
        error *= 1 - reflection**2
    return filters


def _critical_bands(sample_rate: int, n_fft: int) -> Matrix:
    """Gaussian filters `[25, n_fft / 2]` of equal weight, 0 below -30 dB."""
    bins = np.arange(n_fft // 2)
    bins_per_hz = n_fft / sample_rate
    centres, widths = (
        np.floor(BAND_CENTRES * bins_per_hz)[:, None],
        (BAND_WIDTHS * bins_per_hz)[:, None],
    )
    filters = (
        np.exp(-11 * ((bins - centres) / widths) ** 2) * (BAND_WIDTHS[0] / BAND_WIDTHS)[:, None]
    )
    least = np.exp(-30 / (2 * 2.303))  # -30 dB as in composite.m
    kept: Matrix = np.where(filters > least, filters, 0.0)
    return kept


def _wss(processed: Matrix, clean: Matrix, bands: Matrix, n_fft: int) -> Signal:
    (processed_slope, processed_weight), (clean_slope, clean_weight) = (
        _slopes(frames, bands, n_fft) for frames in (processed, clean)
    )
    weight = (processed_weight + clean_weight) / 2
    distortion: Signal = (weight * (clean_slope - processed_slope) ** 2).sum(axis=1) / weight.sum(
        axis=1
    )
    return distortion


def _slopes(frames: Matrix, bands: Matrix, n_fft: int) -> tuple[Matrix, Matrix]:
    """The slope from each band to the next in dB, and its weight, both `[frames, 24]`."""
    power = np.abs(np.fft.rfft(frames, n_fft, axis=1)[:, : n_fft // 2]) ** 2
    energy = 10 * np.log10(np.maximum(power @ bands.T, 1e-10))  # T, band
    slope = np.diff(energy, axis=1)
    below_global = energy.max(axis=1, keepdims=True) - energy[:, :-1]
    below_local = _nearest_peaks(energy, slope) - energy[:, :-1]
    weight = (
        NEAR_GLOBAL_PEAK
        / (NEAR_GLOBAL_PEAK + below_global)
        * NEAR_LOCAL_PEAK
        / (NEAR_LOCAL_PEAK + below_local)
    )
    return slope, weight


def _nearest_peaks(energy: Matrix, slope: Matrix) -> Matrix:
    """The energy of the peak next to each slope, `[frames, 24]`: the peak to the right of a rising
    slope, or to the left of a falling one.
    """
    count = slope.shape[1]
    right, left = np.full((len(slope), count + 1), count), np.full((len(slope), count + 1), -1)
    for band in reversed(range(count)):
        right[:, band] = np.where(slope[:, band] > 0, right[:, band + 1], band)
    for band in range(count):
        left[:, band] = np.where(slope[:, band] > 0, band, left[:, band - 1])  # left[:, -1] is -1
    # On the right side composite.m uses the band before the peak.
    peaks: Matrix = np.take_along_axis(
        energy, np.where(slope > 0, right[:, :-1] - 1, left[:, :-1] + 1), axis=1
    )
    return peaks
