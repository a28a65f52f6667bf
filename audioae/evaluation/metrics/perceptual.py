"""PESQ, STOI, ESTOI and DNSMOS, from the packages of the `metrics` extra.

PESQ is ITU-T P.862.2 without Corrigendum 2 (2017), as in the `pesq` package and nearly all
publications.
"""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from audioae.errors import ScoreError, require
from audioae.evaluation.metrics.waveform import (
    AnySignal,
    Signal,
    check_not_silent,
    checked,
    checked_pair,
)
from audioae.signal.resample import resample

EXTRA = "metrics"
WIDE_BAND_RATE = 16000  # Hz
NARROW_BAND_RATE = 8000
# The pesq package has buffers for 50 utterances and no check: with a few more its result is wrong
# (by 0.46 in one case), with many more it crashes. The limit is below 50 because its own activity
# detector, not ours, defines what an utterance is.
MOST_UTTERANCES = 45
UTTERANCE_SECONDS = 0.2  # of the shortest utterance, and of the shortest pause between two


class Dnsmos(NamedTuple):
    """Predicted mean opinion scores, 1 to 5: P.835 speech signal, background and overall quality,
    and P.808 overall quality.
    """

    sig: float
    bak: float
    ovrl: float
    p808: float


def pesq_wb(estimate: AnySignal, reference: AnySignal, sample_rate: int) -> float:
    """Wide-band PESQ (P.862.2 without Corrigendum 2), MOS-LQO 1.04 to 4.64.

    Args:
        estimate, reference: `[samples]`.
        sample_rate: Hz, at least 16000; resampled to 16 kHz.

    Raises:
        ScoreError: the sample rate is too low, a signal is silent or shorter than 0.25 s, PESQ
            finds no speech, or there are more than 45 utterances.
        DependencyError: the package pesq is not installed.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> noise = rng.standard_normal(16000) * np.repeat([0.1, 0, 0.1, 0], 4000)
        >>> round(pesq_wb(noise, noise, 16000), 2)
        4.64
    """
    if sample_rate < WIDE_BAND_RATE:
        raise ScoreError(
            f"wide-band PESQ needs 16000 Hz or more, got {sample_rate} Hz; use pesq_nb"
        )
    return _pesq(estimate, reference, sample_rate, WIDE_BAND_RATE, "wb")


def pesq_nb(estimate: AnySignal, reference: AnySignal, sample_rate: int) -> float:
    """Narrow-band PESQ (P.862.1), MOS-LQO 1.02 to 4.55.

    Args:
        estimate, reference: `[samples]`.
        sample_rate: Hz, at least 8000; computed at 16 kHz if it is at least that, else at 8 kHz.

    Raises:
        ScoreError: see `pesq_wb`.
        DependencyError: the package pesq is not installed.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> noise = rng.standard_normal(8000) * np.repeat([0.1, 0, 0.1, 0], 2000)
        >>> round(pesq_nb(noise, noise, 8000), 2)
        4.55
    """
    if sample_rate < NARROW_BAND_RATE:
        raise ScoreError(f"PESQ needs 8000 Hz or more, got {sample_rate} Hz")
    rate = WIDE_BAND_RATE if sample_rate >= WIDE_BAND_RATE else NARROW_BAND_RATE
    return _pesq(estimate, reference, sample_rate, rate, "nb")


def stoi(estimate: AnySignal, reference: AnySignal, sample_rate: int) -> float:
    """Short-time objective intelligibility, about 0 to 1 (Taal et al. 2011).

    Args:
        estimate, reference: `[samples]`.
        sample_rate: Hz.

    Raises:
        ScoreError: a signal is silent, or there is less than 0.4 s of speech.
        DependencyError: the package pystoi is not installed.

    Example:
        >>> noise = np.random.default_rng(0).standard_normal(16000)
        >>> round(stoi(0.5 * noise, noise, 16000), 3)
        1.0
    """
    return _stoi(estimate, reference, sample_rate, extended=False)


def estoi(estimate: AnySignal, reference: AnySignal, sample_rate: int) -> float:
    """Extended short-time objective intelligibility, about 0 to 1 (Jensen & Taal 2016).

    Args:
        estimate, reference: `[samples]`.
        sample_rate: Hz.

    Raises:
        ScoreError, DependencyError: see `stoi`.

    Example:
        >>> noise = np.random.default_rng(0).standard_normal(16000)
        >>> round(estoi(0.5 * noise, noise, 16000), 3)
        1.0
    """
    return _stoi(estimate, reference, sample_rate, extended=True)


def dnsmos(waveform: AnySignal, sample_rate: int) -> Dnsmos:
    """DNSMOS P.835 and P.808 (Reddy et al. 2021, 2022) of one signal, without a reference.

    Mean over windows of 9 s; shorter signals are repeated.

    Args:
        waveform: `[samples]`.
        sample_rate: Hz; resampled to 16 kHz.

    Raises:
        ScoreError: the signal is silent, empty or not finite.
        DependencyError: a package of the `metrics` extra is not installed.

    Example:
        >>> noise = 0.1 * np.random.default_rng(0).standard_normal(16000)
        >>> dnsmos(noise, 16000).bak < 2
        True
    """
    model = _dnsmos_model()
    signal = checked(waveform, "estimate")
    check_not_silent(signal, "estimate")
    scores = model(_at(signal, sample_rate, WIDE_BAND_RATE).clip(-1, 1), WIDE_BAND_RATE, False)
    return Dnsmos(*(float(scores[f"{name}_mos"]) for name in Dnsmos._fields))


def _at(signal: Signal, from_rate: int, to_rate: int) -> Any:
    return resample(signal.astype(np.float32), from_rate, to_rate)


def _sounding_pair(estimate: AnySignal, reference: AnySignal) -> tuple[Signal, Signal]:
    estimate, reference = checked_pair(estimate, reference)
    check_not_silent(estimate, "estimate")
    check_not_silent(reference, "reference")
    return estimate, reference


def _pesq(
    estimate: AnySignal, reference: AnySignal, sample_rate: int, rate: int, mode: str
) -> float:
    package = require("pesq", extra=EXTRA)
    estimate, reference = _sounding_pair(estimate, reference)
    if (count := most_utterances(reference, sample_rate)) > MOST_UTTERANCES:
        raise ScoreError(
            f"PESQ is limited to 50 utterances, this reference may have {count}; use parts of 20 s"
        )
    try:
        return float(
            package.pesq(
                rate, _at(reference, sample_rate, rate), _at(estimate, sample_rate, rate), mode
            )
        )
    except (package.PesqError, ValueError) as error:  # ValueError: NaN from a signal without level
        message = error.args[0] if error.args else ""
        reason = message.decode() if isinstance(message, bytes) else str(error)
        raise ScoreError(f"PESQ: {reason}") from error


def most_utterances(signal: Signal, sample_rate: int) -> int:
    """An upper bound of the number of utterances in a signal.

    The largest number that an activity detector on frame levels finds with any threshold from -60
    to -3 dB below the loudest frame.

    Args:
        signal: `[samples]`.
        sample_rate: Hz.

    Example:
        >>> most_utterances(np.tile(np.repeat([1.0, 0.0], 4000), 60), 16000)
        60
    """
    hop = max(1, round(0.004 * sample_rate))
    least = round(UTTERANCE_SECONDS / 0.004)  # frames
    level = (signal[: len(signal) // hop * hop].reshape(-1, hop) ** 2).mean(axis=1)
    if len(level) < 2 * least * MOST_UTTERANCES:
        return len(level) // (2 * least)
    return max(
        _utterances(level > level.max() * 10 ** (threshold_db / 10), least)
        for threshold_db in range(-60, 0, 3)
    )


def _utterances(active: npt.NDArray[np.bool_], least: int) -> int:
    """The number of runs of at least `least` active frames; pauses of up to that length do not end
    a run.
    """
    edges = np.flatnonzero(np.diff(active.astype(np.int8), prepend=0, append=0))
    starts, stops = edges[::2], edges[1::2]
    ends = starts[1:] - stops[:-1] > least
    return int(
        (
            np.append(stops[:-1][ends], stops[-1:]) - np.append(starts[:1], starts[1:][ends])
            >= least
        ).sum()
    )


def _stoi(estimate: AnySignal, reference: AnySignal, sample_rate: int, *, extended: bool) -> float:
    package = require("pystoi", extra=EXTRA)
    estimate, reference = _sounding_pair(estimate, reference)
    with warnings.catch_warnings():
        # Without enough speech, pystoi warns and returns 1e-5.
        warnings.simplefilter("error", RuntimeWarning)
        try:
            return float(package.stoi(reference, estimate, sample_rate, extended=extended))
        except (RuntimeWarning, ValueError, IndexError) as error:
            raise ScoreError("STOI needs at least 0.4 s of speech") from error


@cache
def _dnsmos_model() -> Any:
    """The model of speechmos, with one thread for each of its two networks."""
    speechmos = require("speechmos.dnsmos", extra=EXTRA)
    onnxruntime = require("onnxruntime", extra=EXTRA)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    folder = Path(str(speechmos.__file__)).parent / "dnsmos_models"
    model = speechmos.DNSMOS(str(folder / "sig_bak_ovr.onnx"), str(folder / "model_v8.onnx"))
    for name, file in (("onnx_sess", "sig_bak_ovr.onnx"), ("p808_onnx_sess", "model_v8.onnx")):
        setattr(
            model,
            name,
            onnxruntime.InferenceSession(
                str(folder / file), options, providers=["CPUExecutionProvider"]
            ),
        )
    return model
