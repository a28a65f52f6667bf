"""One row a pair: the metrics of its noisy and of its enhanced side; and the means of many rows."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from audioae.audio import read
from audioae.errors import DataError, SettingsError
from audioae.evaluation.metrics import DEFAULT_METRICS, Score, check_metrics, require_packages
from audioae.evaluation.pairs import Pair, check_pair
from audioae.evaluation.workers import MetricWorkers, Task

Array = npt.NDArray[np.float32]
Denoise = Callable[[Array, int], Array]

SIDES = ("noisy", "enhanced")


@dataclass(frozen=True)
class PairRow:
    """The metrics of one pair, against its clean recording.

    noisy, enhanced: value by metric, None where it could not be computed.
    reasons: why, by side and metric: `{"enhanced.pesq_wb": "PESQ: No utterances detected"}`.
    """

    name: str
    sample_rate: int
    seconds: float
    noisy: dict[str, float | None]
    enhanced: dict[str, float | None]
    reasons: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, a line of JSON Lines."""
        return asdict(self)


@dataclass(frozen=True)
class Mean:
    """The mean over the `count` pairs for which there is a value; None over none."""

    value: float | None
    count: int


@dataclass(frozen=True)
class Means:
    """One metric over all pairs, on either side."""

    noisy: Mean
    enhanced: Mean


def evaluate(
    pairs: Iterable[Pair],
    denoise: Denoise,
    *,
    metrics: Iterable[str] = DEFAULT_METRICS,
    jobs: int = 1,
) -> Iterator[PairRow]:
    """Denoise every pair's noisy side here, score both sides in worker processes, and yield the
    rows in the order of the pairs.

    Everything that can be known beforehand (names, packages, headers of all files) is checked in
    the call, before the first row.

    Args:
        pairs: as `read_pairs` gives them.
        denoise: from a waveform `[channels, samples]` and its sample rate in Hz to the enhanced
            waveform of the same shape.
        metrics: names out of `audioae.evaluation.metrics.METRICS`.
        jobs: worker processes.

    Raises:
        DataError: two files of a pair differ in sample rate, channels or length, or `denoise`
            changed the shape.
        DependencyError: a metric needs a package that is not installed.
    """
    names = check_metrics(metrics)
    require_packages(names)
    if jobs < 1:
        raise SettingsError(f"jobs is {jobs}; expected at least 1")
    pairs = list(pairs)
    for pair in pairs:
        check_pair(pair)
    return _rows(pairs, denoise, names, jobs)


def summarise(rows: Iterable[PairRow]) -> dict[str, Means]:
    """The means by metric, each side over the pairs for which it has a value."""
    rows = list(rows)
    names = rows[0].noisy if rows else ()
    return {
        name: Means(*(_mean([getattr(row, side)[name] for row in rows]) for side in SIDES))
        for name in names
    }


def _rows(
    pairs: Sequence[Pair], denoise: Denoise, names: Sequence[str], jobs: int
) -> Iterator[PairRow]:
    waiting: deque[tuple[Pair, list[Task]]] = deque()
    with MetricWorkers(names, jobs) as workers:
        for pair in pairs:
            waiting.append((pair, _submit(pair, denoise, workers)))
            while len(waiting) > jobs or (
                waiting and all(task.future.done() for task in waiting[0][1])
            ):
                yield _row(*waiting.popleft(), workers)
        while waiting:
            yield _row(*waiting.popleft(), workers)


def _submit(pair: Pair, denoise: Denoise, workers: MetricWorkers) -> list[Task]:
    """Score the noisy side while the enhanced one is made, then that."""
    (noisy, rate), (clean, _) = read(pair.noisy), read(pair.clean)
    tasks = [workers.submit(noisy, clean, rate)]
    enhanced = denoise(noisy, rate)
    if enhanced.shape != clean.shape:
        raise DataError(
            f"pair {pair.name}: enhanced is {list(enhanced.shape)}, clean {list(clean.shape)}; "
            "they must match"
        )
    return [*tasks, workers.submit(enhanced, clean, rate)]


def _row(pair: Pair, tasks: Sequence[Task], workers: MetricWorkers) -> PairRow:
    scores: list[dict[str, Score]] = [workers.result(task) for task in tasks]
    noisy, enhanced = ({name: score.value for name, score in side.items()} for side in scores)
    by_side = zip(SIDES, scores, strict=True)
    reasons = {
        f"{side}.{name}": score.reason
        for side, by_name in by_side
        for name, score in by_name.items()
        if score.reason
    }
    rate, samples = tasks[0].sample_rate, tasks[0].reference.shape[-1]
    return PairRow(pair.name, rate, samples / rate, noisy, enhanced, reasons)


def _mean(values: Sequence[float | None]) -> Mean:
    there = [value for value in values if value is not None]
    return Mean(float(np.mean(there)) if there else None, len(there))
