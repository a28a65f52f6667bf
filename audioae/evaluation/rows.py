"""The scores of each pair as a row: denoise, score before and after, recognise the speech."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from audioae.audio import read
from audioae.denoising import DenoiseSettings, Stream, Verdict
from audioae.denoising.level import running_level
from audioae.engine import Engine
from audioae.errors import AudioaeError, DataError, ScoreError, SettingsError
from audioae.evaluation.metrics import (
    DEFAULT_METRICS,
    METRICS,
    Score,
    check_metrics,
    require_packages,
    snr,
)
from audioae.evaluation.pairs import Pair, align, check_pair
from audioae.evaluation.recognition import Recogniser, Said
from audioae.evaluation.workers import MetricWorkers, ScoringTask

Array = npt.NDArray[np.float32]
Denoise = Callable[[Array, int], Array]


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
        system: name of the model or program.
        group: class of the pair.
        snr_db: signal-to-noise ratio of the noisy recording in dB: from the table, else from the
            clean recording, else estimated by the model.
        clean: the word error rate of the clean recording, if its text is known.
        words: number of words of the reference text.
        texts: what was said ("reference") and recognised ("clean", "noisy", "enhanced").
        verdict: the fields of `audioae.denoising.Verdict`, if it was measured.
        error: why the pair has no scores at all.
    """

    name: str
    sample_rate: int
    seconds: float
    noisy: dict[str, float | None]
    enhanced: dict[str, float | None]
    reasons: dict[str, str]
    system: str = ""
    group: str = ""
    snr_db: float | None = None
    clean: dict[str, float | None] = field(default_factory=dict)
    words: int = 0
    texts: dict[str, str] = field(default_factory=dict)
    verdict: dict[str, Any] | None = None
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return asdict(self)


class WithVerdict:
    """Denoises a recording as `audioae.denoise` does, and keeps the verdict of the last one.

    Args:
        engine: the model.
        settings: None is the default; `noise_from` is not supported.
    """

    def __init__(self, engine: Engine, settings: DenoiseSettings | None = None) -> None:
        self._engine, self._settings = engine, settings
        self.verdict: Verdict | None = None

    def __call__(self, noisy: Array, sample_rate: int) -> Array:
        """The enhanced waveform; the verdict is in `verdict` afterwards."""
        stream = Stream(
            self._engine,
            sample_rate,
            len(noisy),
            self._settings,
            level_dbfs=running_level([noisy], sample_rate),
            with_verdict=True,
            low_latency=False,
            recording=True,
        )
        enhanced, _ = stream.process(noisy, last=True)
        self.verdict = stream.verdict
        return enhanced


def evaluate(
    pairs: Iterable[Pair],
    denoise: Denoise | Mapping[str, Denoise] | None,
    *,
    metrics: Iterable[str] = DEFAULT_METRICS,
    jobs: int = 1,
    recogniser: Recogniser | None = None,
    keep_going: bool = False,
) -> Iterator[PairRow]:
    """Denoise the noisy recording of each pair and score it before and after.

    Metric names and packages are checked before the first row. Denoising runs in this process,
    metrics run in worker processes. In a script, call this below `if __name__ == "__main__":`,
    because the workers import the script.

    Args:
        pairs: from `read_pairs`, `read_recordings` or `pair_folders`. Pairs without a clean side
            need metrics without a reference.
        denoise: function of a waveform `[channels, samples]` and its sample rate in Hz that returns
            the enhanced waveform in the same shape; several with their names; or None for the
            enhanced files of the pairs.
        metrics: keys of `audioae.evaluation.metrics.METRICS`.
        jobs: number of worker processes.
        recogniser: adds the metric `wer`, the word error rate in percent.
        keep_going: make a pair that fails a row with `error`, instead of raising. Without it, the
            headers of all pairs are compared before the first row.

    Returns:
        One row per pair and system, in the order of the pairs.

    Raises:
        DataError: the files of a pair differ in sample rate, channels or length, or `denoise`
            changed the shape.
        DependencyError: a metric needs a package that is not installed.
        SettingsError: a metric is unknown or needs a reference that a pair does not have, or `jobs`
            is below 1.

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
    if any(pair.clean is None for pair in pairs):
        _check_without_reference(names)
    if not keep_going:
        for pair in pairs:
            if pair.clean is not None and pair.noisy is not None:
                check_pair(pair)
    systems = denoise if denoise is None or isinstance(denoise, Mapping) else {"": denoise}
    return _Evaluation(names, systems, recogniser, keep_going).rows(pairs, jobs)


def _check_without_reference(names: Sequence[str]) -> None:
    if needing := [name for name in names if METRICS[name].needs_reference]:
        known = ", ".join(name for name, metric in METRICS.items() if not metric.needs_reference)
        raise SettingsError(f"{needing[0]} needs a clean recording; without one there are: {known}")


@dataclass
class _Side:
    """The scores and the text of one waveform, when they are ready."""

    scores: ScoringTask | None
    text: Future[str] | None

    def done(self) -> bool:
        futures = [self.scores.future if self.scores else None, self.text]
        return all(future is None or future.done() for future in futures)


@dataclass
class _Work:
    """A pair that is being scored: the sides that all systems share, and one per system."""

    pair: Pair
    sample_rate: int = 0
    seconds: float = 0.0
    snr_db: float | None = None
    noisy: _Side | None = None
    clean: _Side | None = None
    enhanced: dict[str, _Side] = field(default_factory=dict)
    verdicts: dict[str, Verdict | None] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    def done(self) -> bool:
        return all(
            side is None or side.done()
            for side in (self.noisy, self.clean, *self.enhanced.values())
        )


class _Evaluation:
    def __init__(
        self,
        names: Sequence[str],
        systems: Mapping[str, Denoise] | None,
        recogniser: Recogniser | None,
        keep_going: bool,
    ) -> None:
        self.names, self.systems = tuple(names), systems
        self.recogniser, self.keep_going = recogniser, keep_going

    def rows(self, pairs: Sequence[Pair], jobs: int) -> Iterator[PairRow]:
        waiting: deque[_Work] = deque()
        with MetricWorkers(self.names, jobs) as workers:
            for pair in pairs:
                waiting.append(self._start(pair, workers))
                while len(waiting) > jobs or (waiting and waiting[0].done()):
                    yield from self._finish(waiting.popleft(), workers)
            while waiting:
                yield from self._finish(waiting.popleft(), workers)

    def _start(self, pair: Pair, workers: MetricWorkers) -> _Work:
        """Start scoring the noisy recording, denoise it meanwhile, and start scoring the result."""
        work = _Work(pair)
        try:
            self._read(work, workers)
        except (AudioaeError, OSError) as error:
            if not self.keep_going:
                raise
            work.errors = dict.fromkeys(self._systems_of(pair), str(error))
        return work

    def _systems_of(self, pair: Pair) -> Sequence[str]:
        return tuple(pair.enhanced if self.systems is None else self.systems)

    def _read(self, work: _Work, workers: MetricWorkers) -> None:
        pair, noisy, clean = work.pair, None, None
        if pair.noisy is not None and pair.clean is not None:
            check_pair(pair)
        if pair.clean is not None:
            clean, work.sample_rate = read(pair.clean)
        if pair.noisy is not None:
            noisy, work.sample_rate = read(pair.noisy)
        waveform = clean if clean is not None else noisy
        if waveform is None:
            raise DataError(f"pair {pair.name} has no recording; expected a noisy or a clean one")
        work.seconds = waveform.shape[-1] / work.sample_rate
        work.snr_db = pair.snr_db if pair.snr_db is not None else _measured_snr(noisy, clean)
        if noisy is not None:
            work.noisy = self._submit(noisy, clean, work.sample_rate, workers)
        if clean is not None and self.recogniser is not None:
            work.clean = _Side(None, self.recogniser.submit(clean, work.sample_rate))
        for system in self._systems_of(pair):
            try:
                enhanced = self._enhanced(system, work, noisy, clean)
                work.enhanced[system] = self._submit(enhanced, clean, work.sample_rate, workers)
            except (AudioaeError, OSError) as error:
                if not self.keep_going:
                    raise
                work.errors[system] = str(error)

    def _enhanced(
        self, system: str, work: _Work, noisy: Array | None, clean: Array | None
    ) -> Array:
        pair = work.pair
        if self.systems is None:
            found, rate = read(pair.enhanced[system])
            like = clean if clean is not None else noisy
            assert like is not None  # `_read` has checked it
            try:
                return align(found, rate, like, work.sample_rate)
            except DataError as error:
                raise DataError(f"{pair.enhanced[system]}: {error}") from error
        if noisy is None:
            raise DataError(f"pair {pair.name} has no noisy recording to denoise")
        denoise = self.systems[system]
        enhanced = denoise(noisy, work.sample_rate)
        if enhanced.shape != noisy.shape:
            raise DataError(
                f"pair {pair.name}: enhanced is {list(enhanced.shape)}, noisy "
                f"{list(noisy.shape)}; they must match"
            )
        if isinstance(denoise, WithVerdict):
            work.verdicts[system] = denoise.verdict
        return enhanced

    def _submit(
        self, waveform: Array, clean: Array | None, rate: int, workers: MetricWorkers
    ) -> _Side:
        # Metrics without a reference ignore it.
        task = workers.submit(waveform, waveform if clean is None else clean, rate)
        return _Side(task, self.recogniser.submit(waveform, rate) if self.recogniser else None)

    def _finish(self, work: _Work, workers: MetricWorkers) -> Iterator[PairRow]:
        noisy = workers.result(work.noisy.scores) if work.noisy and work.noisy.scores else {}
        heard = {"clean": _heard(work.clean), "noisy": _heard(work.noisy)}
        for system in self._systems_of(work.pair):
            side = work.enhanced.get(system)
            scores = {"noisy": noisy, "enhanced": {}}
            if side is not None and side.scores is not None:
                scores["enhanced"] = workers.result(side.scores)
            said = Said(work.pair.text, {**heard, "enhanced": _heard(side)})
            yield self._row(work, system, scores, said)

    def _row(
        self, work: _Work, system: str, scores: dict[str, dict[str, Score]], said: Said
    ) -> PairRow:
        pair, error = work.pair, work.errors.get(system)
        empty = dict.fromkeys(self.names, None)
        values: dict[str, dict[str, float | None]] = {
            side: {**({} if side == "noisy" and pair.noisy is None else empty)}
            | {name: score.value for name, score in found.items()}
            for side, found in scores.items()
        }
        values["clean"] = {}
        reasons = {
            f"{side}.{name}": score.reason
            for side, found in scores.items()
            for name, score in found.items()
            if score.reason
        }
        if self.recogniser is not None and error is None:
            said.score(values, reasons)
        verdict = work.verdicts.get(system)
        snr_db = work.snr_db
        if snr_db is None and verdict is not None:
            snr_db = verdict.input_snr_db
        return PairRow(
            pair.name,
            work.sample_rate,
            work.seconds,
            values["noisy"],
            values["enhanced"],
            reasons,
            system=system,
            group=pair.group,
            snr_db=snr_db,
            clean=values["clean"],
            words=said.words,
            texts=said.texts,
            verdict=verdict.to_dict() if verdict else None,
            error=error,
        )


def _heard(side: _Side | None) -> str | ScoreError | None:
    """The recognised text, or why there is none; None if nothing was recognised."""
    if side is None or side.text is None:
        return None
    try:
        return side.text.result()
    except ScoreError as error:
        return error


def _measured_snr(noisy: Array | None, clean: Array | None) -> float | None:
    if noisy is None or clean is None:
        return None
    try:
        value = snr(noisy.reshape(-1), clean.reshape(-1))
    except ScoreError:
        return None
    return value if np.isfinite(value) else None
