"""Metrics by name: for each a value, or the reason why there is none."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec

import numpy as np

from audioae.errors import DependencyError, ScoreError, SettingsError, nearest, require
from audioae.evaluation.metrics.hu_loizou import Composite, composite, segmental_snr
from audioae.evaluation.metrics.perceptual import (
    EXTRA,
    WIDE_BAND_RATE,
    Dnsmos,
    dnsmos,
    estoi,
    pesq_nb,
    pesq_wb,
    stoi,
)
from audioae.evaluation.metrics.waveform import (
    AnySignal,
    checked_pair,
    log_spectral_distance,
    si_sdr,
    snr,
)
from audioae.signal.resample import resample

INT16_SCALE = 32768.0


@dataclass(frozen=True)
class Score:
    """The value of a metric, or None and the reason why it cannot be computed."""

    value: float | None
    reason: str | None = None


class Signals:
    """An estimate and its reference; results that several metrics need are computed once.

    Args:
        estimate, reference: `[samples]`.
        sample_rate: Hz.
    """

    def __init__(self, estimate: AnySignal, reference: AnySignal, sample_rate: int) -> None:
        self.estimate, self.reference, self.sample_rate = estimate, reference, sample_rate

    @cached_property
    def pesq_wb(self) -> float:
        return pesq_wb(self.estimate, self.reference, self.sample_rate)

    @cached_property
    def composite(self) -> Composite:
        """Of the samples as they are."""
        return composite(*self._wide_band, WIDE_BAND_RATE, pesq=self.pesq_wb)

    @cached_property
    def composite_int16(self) -> Composite:
        """Of the samples that a 16 bit file would have, as in most published figures.

        Rounding puts a floor under the pauses. Without it, LLR compares their spectra far below the
        last bit, which makes csig about 0.1 lower.
        """
        estimate, reference = (_as_int16(signal) for signal in self._wide_band)
        return composite(estimate, reference, WIDE_BAND_RATE, pesq=self.pesq_wb)

    @cached_property
    def _wide_band(self) -> tuple[AnySignal, AnySignal]:
        estimate, reference = (
            resample(signal, self.sample_rate, WIDE_BAND_RATE)
            for signal in (self.estimate, self.reference)
        )
        return estimate, reference

    @cached_property
    def dnsmos(self) -> Dnsmos:
        return dnsmos(self.estimate, self.sample_rate)


def _as_int16(signal: AnySignal) -> AnySignal:
    rounded: AnySignal = np.rint(INT16_SCALE * signal).clip(-INT16_SCALE, INT16_SCALE - 1)
    return rounded


@dataclass(frozen=True)
class Metric:
    """A metric: unit, description, packages it needs beyond the core, how it is computed, and
    whether it compares with a reference.
    """

    unit: str
    text: str
    packages: tuple[str, ...]
    compute: Callable[[Signals], float]
    needs_reference: bool = True


PESQ_PACKAGES, STOI_PACKAGES, DNSMOS_PACKAGES = (
    ("pesq",),
    ("pystoi",),
    ("speechmos", "requests", "librosa"),
)

METRICS = {
    "pesq_wb": Metric(
        "MOS", "wide-band PESQ (P.862.2 without Corrigendum 2)", PESQ_PACKAGES, lambda s: s.pesq_wb
    ),
    "pesq_nb": Metric(
        "MOS",
        "narrow-band PESQ (P.862.1)",
        PESQ_PACKAGES,
        lambda s: pesq_nb(s.estimate, s.reference, s.sample_rate),
    ),
    "stoi": Metric(
        "0..1",
        "intelligibility",
        STOI_PACKAGES,
        lambda s: stoi(s.estimate, s.reference, s.sample_rate),
    ),
    "estoi": Metric(
        "0..1",
        "extended intelligibility",
        STOI_PACKAGES,
        lambda s: estoi(s.estimate, s.reference, s.sample_rate),
    ),
    "si_sdr": Metric(
        "dB",
        "scale-invariant signal-to-distortion ratio",
        (),
        lambda s: si_sdr(s.estimate, s.reference),
    ),
    "snr": Metric("dB", "signal-to-noise ratio", (), lambda s: snr(s.estimate, s.reference)),
    "segmental_snr": Metric(
        "dB",
        "mean SNR of 30 ms frames",
        (),
        lambda s: segmental_snr(s.estimate, s.reference, s.sample_rate),
    ),
    "lsd": Metric(
        "dB",
        "log-spectral distance, 0 is best",
        (),
        lambda s: log_spectral_distance(s.estimate, s.reference, s.sample_rate),
    ),
    "csig": Metric(
        "MOS",
        "composite of wide-band PESQ, LLR and WSS: signal distortion",
        PESQ_PACKAGES,
        lambda s: s.composite.csig,
    ),
    "cbak": Metric(
        "MOS",
        "composite of wide-band PESQ, WSS and segmental SNR: background",
        PESQ_PACKAGES,
        lambda s: s.composite.cbak,
    ),
    "covl": Metric(
        "MOS",
        "composite of wide-band PESQ, LLR and WSS: overall quality",
        PESQ_PACKAGES,
        lambda s: s.composite.covl,
    ),
    "csig_int16": Metric(
        "MOS",
        "csig of samples rounded to 16 bits",
        PESQ_PACKAGES,
        lambda s: s.composite_int16.csig,
    ),
    "cbak_int16": Metric(
        "MOS",
        "cbak of samples rounded to 16 bits",
        PESQ_PACKAGES,
        lambda s: s.composite_int16.cbak,
    ),
    "covl_int16": Metric(
        "MOS",
        "covl of samples rounded to 16 bits",
        PESQ_PACKAGES,
        lambda s: s.composite_int16.covl,
    ),
    "dnsmos_sig": Metric(
        "MOS",
        "DNSMOS P.835, speech signal; no reference",
        DNSMOS_PACKAGES,
        lambda s: s.dnsmos.sig,
        needs_reference=False,
    ),
    "dnsmos_bak": Metric(
        "MOS",
        "DNSMOS P.835, background; no reference",
        DNSMOS_PACKAGES,
        lambda s: s.dnsmos.bak,
        needs_reference=False,
    ),
    "dnsmos_ovrl": Metric(
        "MOS",
        "DNSMOS P.835, overall quality; no reference",
        DNSMOS_PACKAGES,
        lambda s: s.dnsmos.ovrl,
        needs_reference=False,
    ),
    "dnsmos_p808": Metric(
        "MOS",
        "DNSMOS P.808, overall quality; no reference",
        DNSMOS_PACKAGES,
        lambda s: s.dnsmos.p808,
        needs_reference=False,
    ),
}

DEFAULT_METRICS = ("pesq_wb", "stoi", "estoi", "si_sdr")


def check_metrics(names: Iterable[str]) -> tuple[str, ...]:
    """The names without repetitions.

    Raises:
        SettingsError: a name is unknown, or there are none.

    Example:
        >>> check_metrics(["snr", "lsd", "snr"])
        ('snr', 'lsd')
    """
    names = tuple(dict.fromkeys(names))
    for name in names:
        if name not in METRICS:
            raise SettingsError(
                f"no metric {name!r}{nearest(name, METRICS)}; known: {', '.join(METRICS)}"
            )
    if not names:
        raise SettingsError(f"no metric is given; known: {', '.join(METRICS)}")
    return names


def require_packages(names: Iterable[str]) -> None:
    """Check that the packages for these metrics are installed, without importing them.

    Raises:
        DependencyError: a package is not installed.

    Example:
        >>> require_packages(["snr", "si_sdr"])
    """
    for package in dict.fromkeys(package for name in names for package in METRICS[name].packages):
        if find_spec(package) is None:
            require(package, extra=EXTRA)


def score(
    estimate: AnySignal, reference: AnySignal, sample_rate: int, names: Iterable[str] | None = None
) -> dict[str, Score]:
    """Compute metrics by name.

    A metric that cannot be computed, or whose package is not installed, has the value None and a
    reason.

    Args:
        estimate, reference: `[samples]`.
        sample_rate: Hz.
        names: keys of `METRICS`; None for `DEFAULT_METRICS`.

    Raises:
        ScoreError: the shapes differ or are not `[samples]`.
        SettingsError: a name is unknown.

    Example:
        >>> import numpy as np
        >>> reference = np.array([1.0, -1.0, 1.0, -1.0])
        >>> scores = score(1.1 * reference, reference, 16000, ["snr", "segmental_snr"])
        >>> round(scores["snr"].value, 3), scores["segmental_snr"].value
        (20.0, None)
    """
    names = check_metrics(DEFAULT_METRICS if names is None else names)
    try:
        checked_pair(estimate, reference)
    except ScoreError as error:
        if estimate.shape != reference.shape or estimate.ndim != 1:
            raise
        return dict.fromkeys(names, Score(None, str(error)))
    signals = Signals(estimate, reference, sample_rate)
    return {name: _attempt(METRICS[name], signals) for name in names}


def _attempt(metric: Metric, signals: Signals) -> Score:
    try:
        value = metric.compute(signals)
    except (ScoreError, DependencyError) as error:
        return Score(None, str(error))
    if math.isfinite(value):
        return Score(value)
    if value > 0:
        return Score(None, "infinite: the estimate equals the reference")
    return Score(None, f"{value}: the estimate has no part of the reference")
