"""Pairs of recordings from a table or a folder, and the scores of each pair as a row."""

from __future__ import annotations

import csv
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from audioae.audio import AudioInfo, info, read
from audioae.errors import DataError, SettingsError
from audioae.evaluation.metrics import DEFAULT_METRICS, Score, check_metrics, require_packages
from audioae.evaluation.workers import MetricWorkers, ScoringTask


@dataclass(frozen=True)
class Pair:
    """A noisy recording and its clean reference; `name` is unique among the pairs of a set."""

    name: str
    noisy: Path
    clean: Path


def read_pairs(path: str | os.PathLike[str]) -> list[Pair]:
    """Find the pairs of a CSV file or folder.

    Args:
        path: a CSV file with the columns `noisy` and `clean` (paths relative to it), read in its
            order; or a folder with the subfolders `noisy` and `clean`, in which the files of a pair
            have the same name, sorted by name.

    Raises:
        DataError: `path` does not exist, has another format or has no pairs, or a file of a pair is
            missing.

    Example:
        >>> _ = Path("pairs.csv").write_text("noisy,clean\\nnoisy/a.wav,clean/a.wav\\n")
        >>> [pair] = read_pairs("pairs.csv")
        >>> pair.name, pair.clean.as_posix()
        ('a', 'clean/a.wav')
    """
    path = Path(path)
    if not path.exists():
        raise DataError(
            f"{path} does not exist; expected a CSV file with the columns noisy and clean, or a "
            "folder with the subfolders noisy and clean"
        )
    files = _folder_files(path) if path.is_dir() else _table_files(path)
    if not files:
        raise DataError(f"{path} has no pairs; expected at least one")
    base = path if path.is_dir() else path.parent
    return [
        Pair(name, base / noisy, base / clean)
        for name, (noisy, clean) in zip(_names(files), files, strict=True)
    ]


def check_pair(pair: Pair) -> AudioInfo:
    """Compare the headers of both files and return that of the noisy one.

    Raises:
        DataError: the files differ in sample rate, channels or length.
        AudioFileError: a file cannot be read as audio.

    Example:
        >>> import numpy as np
        >>> from audioae.audio import write
        >>> write("a.wav", np.zeros(100, np.float32), 16000)
        >>> check_pair(Pair("a", Path("a.wav"), Path("a.wav"))).sample_rate
        16000
    """
    noisy, clean = info(pair.noisy), info(pair.clean)
    for field, unit in (
        ("sample_rate", "Hz"),
        ("channels", "channels"),
        ("num_samples", "samples"),
    ):
        got, expected = getattr(noisy, field), getattr(clean, field)
        if got != expected:
            raise DataError(
                f"pair {pair.name}: noisy has {got} {unit}, clean {expected}; they must match "
                f"({pair.noisy}, {pair.clean})"
            )
    return noisy


def _table_files(path: Path) -> list[tuple[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            columns = table.fieldnames or []
            if missing := {"noisy", "clean"} - set(columns):
                raise DataError(
                    f"{path} has no column {' and '.join(sorted(missing))}; it has "
                    f"{', '.join(columns) or 'none'}"
                )
            rows = [(row["noisy"], row["clean"]) for row in table]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path} cannot be read as CSV ({error}); expected the columns noisy and clean"
        ) from error
    for number, row in enumerate(rows, start=1):
        if not all(row):
            raise DataError(
                f"{path}: row {number} lacks a file; expected noisy and clean in every row"
            )
    return rows


def _folder_files(path: Path) -> list[tuple[str, str]]:
    noisy, clean = path / "noisy", path / "clean"
    for folder in (noisy, clean):
        if not folder.is_dir():
            raise DataError(
                f"{path} has no subfolder {folder.name}; expected noisy and clean, or a CSV file"
            )
    names = sorted(
        file.relative_to(noisy)
        for file in noisy.rglob("*")
        if file.is_file() and not file.name.startswith(".")
    )
    for name in names:
        if not (clean / name).is_file():
            raise DataError(f"{noisy / name} has no clean file; expected {clean / name}")
    return [(str("noisy" / name), str("clean" / name)) for name in names]


def _names(files: Sequence[tuple[str, str]]) -> list[str]:
    """The file name of each noisy file without its suffix, or its path where that is ambiguous."""
    stems = [Path(noisy).stem for noisy, _ in files]
    counts = Counter(stems)
    return [
        stem if counts[stem] == 1 else noisy for stem, (noisy, _) in zip(stems, files, strict=True)
    ]


Array = npt.NDArray[np.float32]
Denoise = Callable[[Array, int], Array]

SIDES = ("noisy", "enhanced")


@dataclass(frozen=True)
class PairRow:
    """The metrics of one pair.

    Args:
        name: name of the pair.
        sample_rate: Hz.
        seconds: duration.
        noisy, enhanced: value by metric, with the clean recording as reference; None if it cannot
            be computed.
        reasons: why a value is None, such as
            `{"enhanced.pesq_wb": "PESQ: No utterances detected"}`.
    """

    name: str
    sample_rate: int
    seconds: float
    noisy: dict[str, float | None]
    enhanced: dict[str, float | None]
    reasons: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Mean:
    """The mean over the `count` pairs that have a value; None if there are none."""

    value: float | None
    count: int


@dataclass(frozen=True)
class Means:
    """The means of one metric over the noisy and over the enhanced recordings."""

    noisy: Mean
    enhanced: Mean


def evaluate(
    pairs: Iterable[Pair],
    denoise: Denoise,
    *,
    metrics: Iterable[str] = DEFAULT_METRICS,
    jobs: int = 1,
) -> Iterator[PairRow]:
    """Denoise the noisy recording of each pair and score it before and after.

    Metric names, packages and the headers of all files are checked before the first row. Denoising
    runs in this process, metrics run in worker processes. In a script, call this below
    `if __name__ == "__main__":`, because the workers import the script.

    Args:
        pairs: from `read_pairs`.
        denoise: function of a waveform `[channels, samples]` and its sample rate in Hz that returns
            the enhanced waveform in the same shape.
        metrics: keys of `audioae.evaluation.metrics.METRICS`.
        jobs: number of worker processes.

    Returns:
        One row per pair, in their order.

    Raises:
        DataError: the files of a pair differ in sample rate, channels or length, or `denoise`
            changed the shape.
        DependencyError: a metric needs a package that is not installed.
        SettingsError: a metric is unknown, or `jobs` is below 1.

    Example:
        >>> from pathlib import Path
        >>> from audioae.audio import write
        >>> rng = np.random.default_rng(0)
        >>> clean = 0.1 * rng.standard_normal(8000).astype(np.float32)
        >>> write("clean.wav", clean, 16000, overwrite=True)
        >>> write("noisy.wav", 2 * clean, 16000, overwrite=True)
        >>> pair = Pair("a", Path("noisy.wav"), Path("clean.wav"))
        >>> [row] = evaluate([pair], lambda noisy, rate: 0.4 * noisy, metrics=["snr"])
        >>> round(row.noisy["snr"]), round(row.enhanced["snr"])
        (0, 14)
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
    """The means by metric, each over the pairs that have a value.

    Example:
        >>> rows = [
        ...     PairRow("a", 16000, 1.0, {"snr": 4.0}, {"snr": 9.0}, {}),
        ...     PairRow("b", 16000, 1.0, {"snr": 6.0}, {"snr": None}, {}),
        ... ]
        >>> summarise(rows)["snr"]
        Means(noisy=Mean(value=5.0, count=2), enhanced=Mean(value=9.0, count=1))
    """
    rows = list(rows)
    names = rows[0].noisy if rows else ()
    return {
        name: Means(*(_mean([getattr(row, side)[name] for row in rows]) for side in SIDES))
        for name in names
    }


def _rows(
    pairs: Sequence[Pair], denoise: Denoise, names: Sequence[str], jobs: int
) -> Iterator[PairRow]:
    waiting: deque[tuple[Pair, list[ScoringTask]]] = deque()
    with MetricWorkers(names, jobs) as workers:
        for pair in pairs:
            waiting.append((pair, _submit(pair, denoise, workers)))
            while len(waiting) > jobs or (
                waiting and all(task.future.done() for task in waiting[0][1])
            ):
                yield _row(*waiting.popleft(), workers)
        while waiting:
            yield _row(*waiting.popleft(), workers)


def _submit(pair: Pair, denoise: Denoise, workers: MetricWorkers) -> list[ScoringTask]:
    """Start scoring the noisy recording, denoise it meanwhile, and start scoring the result."""
    (noisy, rate), (clean, _) = read(pair.noisy), read(pair.clean)
    tasks = [workers.submit(noisy, clean, rate)]
    enhanced = denoise(noisy, rate)
    if enhanced.shape != clean.shape:
        raise DataError(
            f"pair {pair.name}: enhanced is {list(enhanced.shape)}, clean {list(clean.shape)}; "
            "they must match"
        )
    return [*tasks, workers.submit(enhanced, clean, rate)]


def _row(pair: Pair, tasks: Sequence[ScoringTask], workers: MetricWorkers) -> PairRow:
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
    known = [value for value in values if value is not None]
    return Mean(float(np.mean(known)) if known else None, len(known))
