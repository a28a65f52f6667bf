"""Summaries of rows: means, medians and bootstrap intervals, by SNR band and by class, and the
paired comparison of two systems.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from audioae.evaluation.recognition import WER
from audioae.evaluation.rows import PairRow

Values = npt.NDArray[np.float64]

BAND_EDGES_DB = (-5.0, 0.0, 5.0, 10.0, 15.0)
RESAMPLES = 2000
AT_ONCE = 2**20  # drawn indices
SIDES = ("noisy", "enhanced")
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Mean:
    """A mean over the `count` pairs that have a value; None if there are none.

    The word error rate is weighted by the words of each pair, so its mean is that of the whole set.

    Args:
        value: the mean.
        count: number of pairs with a value.
        median: the median.
        low, high: ends of the 95 % interval of the mean, from 2000 bootstrap samples of the pairs
            with a fixed seed; None below two pairs.
    """

    value: float | None
    count: int
    median: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Means:
    """The means of one metric.

    Args:
        noisy, enhanced: over the recordings before and after.
        change: enhanced minus noisy, over the pairs that have both.
        clean: over the clean recordings; only the word error rate has it.
    """

    noisy: Mean
    enhanced: Mean
    change: Mean
    clean: Mean | None = None

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values; without `clean` if it is None."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Comparison:
    """One metric of two systems on the same pairs.

    Args:
        difference: of the second minus the first, over the pairs that both have a value for.
        higher: share of these pairs in which the second has the higher value, 0 to 1; ties count
            half. None without pairs.
    """

    difference: Mean
    higher: float | None


def summarise(rows: Iterable[PairRow]) -> dict[str, Means]:
    """The means by metric, each over the pairs that have a value.

    Args:
        rows: of one system.

    Example:
        >>> rows = [
        ...     PairRow("a", 16000, 1.0, {"snr": 4.0}, {"snr": 9.0}, {}),
        ...     PairRow("b", 16000, 1.0, {"snr": 6.0}, {"snr": None}, {}),
        ... ]
        >>> means = summarise(rows)["snr"]
        >>> means.noisy.value, means.enhanced.value, means.enhanced.count, means.change.value
        (5.0, 9.0, 1, 5.0)
    """
    rows = list(rows)
    names = dict.fromkeys(name for row in rows for name in (*row.noisy, *row.enhanced))
    return {name: _means(name, rows) for name in names}


def compare(first: Iterable[PairRow], second: Iterable[PairRow]) -> dict[str, Comparison]:
    """Compare the enhanced recordings of two systems pair by pair.

    The interval of the paired difference is much narrower than those of the two means, because
    difficult pairs are difficult for both.

    Args:
        first, second: rows of the two systems; pairs are matched by name.

    Example:
        >>> a = [PairRow(name, 16000, 1.0, {}, {"snr": 5.0}, {}) for name in "xy"]
        >>> b = [PairRow(name, 16000, 1.0, {}, {"snr": 7.0}, {}) for name in "xy"]
        >>> compared = compare(a, b)["snr"]
        >>> compared.difference.value, compared.difference.low, compared.higher
        (2.0, 2.0, 1.0)
    """
    others = {row.name: row for row in second}
    both = [(row, others[row.name]) for row in first if row.name in others]
    names = dict.fromkeys(name for one, other in both for name in (*one.enhanced, *other.enhanced))
    return {name: _comparison(name, both) for name in names}


def by_band(rows: Iterable[PairRow]) -> dict[str, list[PairRow]]:
    """The rows by the SNR of the noisy recording, in bands of 5 dB from low to high; rows without
    an SNR are left out.

    Example:
        >>> rows = [PairRow("a", 16000, 1.0, {}, {}, {}, snr_db=snr) for snr in (12.0, -7.0)]
        >>> [(band, len(found)) for band, found in by_band(rows).items()]
        [('below -5 dB', 1), ('10 to 15 dB', 1)]
    """
    known = [row for row in rows if row.snr_db is not None and row.error is None]
    known.sort(key=lambda row: row.snr_db or 0.0)
    return _grouped(known, lambda row: snr_band(row.snr_db or 0.0))


def by_group(rows: Iterable[PairRow]) -> dict[str, list[PairRow]]:
    """The rows by their class, sorted; empty if no row has one."""
    known = sorted((row for row in rows if row.group), key=lambda row: row.group)
    return _grouped(known, lambda row: row.group)


def snr_band(snr_db: float) -> str:
    """The band of an SNR.

    Example:
        >>> snr_band(0.0), snr_band(15.0)
        ('0 to 5 dB', 'from 15 dB')
    """
    place = int(np.searchsorted(BAND_EDGES_DB, snr_db, side="right"))
    if place == 0:
        return f"below {BAND_EDGES_DB[0]:g} dB"
    if place == len(BAND_EDGES_DB):
        return f"from {BAND_EDGES_DB[-1]:g} dB"
    return f"{BAND_EDGES_DB[place - 1]:g} to {BAND_EDGES_DB[place]:g} dB"


def interval(values: Values, weights: Values) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of a weighted mean.

    Args:
        values, weights: one per pair, at least two.

    Example:
        >>> low, high = interval(np.array([1.0, 2.0, 3.0, 4.0]), np.ones(4))
        >>> 1.0 < low < 2.5 < high < 4.0
        True
    """
    rng, count = np.random.default_rng(0), len(values)
    means = []
    for left in range(RESAMPLES, 0, -(step := max(AT_ONCE // count, 1))):
        picked = rng.integers(0, count, (min(step, left), count))
        means.append((values * weights)[picked].sum(axis=1) / weights[picked].sum(axis=1))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(means), (tail, 1 - tail))
    return float(low), float(high)


def _means(name: str, rows: Sequence[PairRow]) -> Means:
    noisy, enhanced = ([getattr(row, side).get(name) for row in rows] for side in SIDES)
    change = [
        None if before is None or after is None else after - before
        for before, after in zip(noisy, enhanced, strict=True)
    ]
    weights = [_weight(name, row) for row in rows]
    clean = [row.clean.get(name) for row in rows]
    return Means(
        noisy=_mean(noisy, weights),
        enhanced=_mean(enhanced, weights),
        change=_mean(change, weights),
        clean=_mean(clean, weights) if any(name in row.clean for row in rows) else None,
    )


def _comparison(name: str, both: Sequence[tuple[PairRow, PairRow]]) -> Comparison:
    differences: list[float | None] = []
    for one, other in both:
        before, after = one.enhanced.get(name), other.enhanced.get(name)
        differences.append(None if before is None or after is None else after - before)
    known = np.array([value for value in differences if value is not None])
    higher = float((np.sign(known) / 2 + 0.5).mean()) if len(known) else None
    return Comparison(_mean(differences, [_weight(name, one) for one, _ in both]), higher)


def _weight(name: str, row: PairRow) -> float:
    return float(row.words) if name == WER else 1.0


def _mean(values: Sequence[float | None], weights: Sequence[float]) -> Mean:
    known = [
        (value, weight) for value, weight in zip(values, weights, strict=True) if value is not None
    ]
    if not known:
        return Mean(None, 0)
    numbers, factors = np.array(known, np.float64).T
    low, high = interval(numbers, factors) if len(known) > 1 else (None, None)
    return Mean(
        float(np.average(numbers, weights=factors)),
        len(known),
        float(np.median(numbers)),
        low,
        high,
    )


def _grouped(rows: Iterable[PairRow], key: Callable[[PairRow], str]) -> dict[str, list[PairRow]]:
    groups: dict[str, list[PairRow]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups
