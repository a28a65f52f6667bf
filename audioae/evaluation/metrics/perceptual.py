"""Perceptual metrics from the packages of the `metrics` extra: PESQ, STOI, ESTOI, and DNSMOS, which
needs no reference.

PESQ is ITU-T P.862.2 without Corrigendum 2 (2017), as the `pesq` package and nearly every published
figure have it.
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
# The pesq package has room for 50 utterances and does not check: with a few more its figures are
# wrong (by 0.46 in a trial), with many more
# it crashes. What counts as an utterance is for its own activity detector to say, hence the
# distance.
MOST_UTTERANCES = 45
UTTERANCE_SECONDS = 0.2  # the shortest utterance, and the shortest pause between two


class Dnsmos(NamedTuple):
    """Predicted mean opinion scores, 1 to 5: P.835 of the speech, of the background, of the whole;
    P.808 of the whole.
    """

    sig: float
    bak: float
    ovrl: float
    p808: float


def pesq_wb(estimate: AnySignal, reference: AnySignal, sample_rate: int) -> float:
    """Wide-band PESQ (P.862.2 without Corrigendum 2), MOS-LQO 1.04 to 4.64, of signals `[samples]`
    at 16 kHz or more.
    """
    if sample_rate < WIDE_BAND_RATE:
        raise ScoreError(
            f"wide-band PESQ needs 16000 Hz or more, got {sample_rate} Hz; pesq_nb takes it"
        )
    return _pesq(estimate, reference, sample_rate, WIDE_BAND_RATE, "wb")


def pesq_nb(estimate: AnySignal, reference: AnySignal, sample_rate: int) -> float:
    """Narrow-band PESQ (P.862.1), MOS-LQO 1.02 to 4.55, of signals `[samples]` at 8 kHz or more;
    computed at 16 kHz if there is as much.
    """
    if sample_rate < NARROW_BAND_RATE:
        raise ScoreError(f"PESQ needs 8000 Hz or more, got {sample_rate} Hz")
    return _pesq(
        estimate,
        reference,
        sample_rate,
        WIDE_BAND_RATE if sample_rate >= WIDE_BAND_RATE else NARROW_BAND_RATE,
        "nb",
    )


def stoi(estimate: AnySignal, reference: AnySignal, sample_rate: int) -> float:
    """Short-time objective intelligibility, about 0 to 1, of signals `[samples]` (Taal et al.
    2011).
    """
    return _stoi(estimate, reference, sample_rate, extended=False)


def estoi(estimate: AnySignal, reference: AnySignal, sample_rate: int) -> float:
    """Extended short-time objective intelligibility, about 0 to 1, of signals `[samples]` (Jensen &
    Taal 2016).
    """
    return _stoi(estimate, reference, sample_rate, extended=True)


def dnsmos(waveform: AnySignal, sample_rate: int) -> Dnsmos:
    """DNSMOS P.835 and P.808 (Reddy et al. 2021, 2022) of one signal `[samples]`: mean over windows
    of 9 s, shorter signals repeated.
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
            f"PESQ takes 50 utterances, this reference may have {count}; score it in pieces of 20 s"
        )
    try:
        return float(
            package.pesq(
                rate, _at(reference, sample_rate, rate), _at(estimate, sample_rate, rate), mode
            )
        )
    except (
        package.PesqError,
        ValueError,
    ) as error:  # a reason in bytes, or NaN from a signal without level
        reason = (
            error.args[0].decode()
            if error.args and isinstance(error.args[0], bytes)
            else str(error)
        )
        raise ScoreError(f"PESQ: {reason}") from error


def most_utterances(signal: Signal, sample_rate: int) -> int:
    """The most utterances that an activity detector on frame levels can find in `[samples]`, over
    thresholds down to -60 dB.
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
    """Runs of at least `least` active frames, where pauses of up to that length do not end a run."""
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
        warnings.simplefilter(
            "error", RuntimeWarning
        )  # it warns and returns 1e-5 where it has too little to go by
        try:
            return float(package.stoi(reference, estimate, sample_rate, extended=extended))
        except (RuntimeWarning, ValueError, IndexError) as error:
            raise ScoreError("STOI needs 0.4 s of speech that is not silence") from error


@cache
def _dnsmos_model() -> Any:
    """speechmos' model, its two networks on one thread each as everything in a worker process."""
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
