"""Worker processes that compute metrics in parallel. If one crashes, which the C code of pesq can
do, only that metric of that recording is lost.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import numpy.typing as npt

from audioae.denoising.batch.run import one_thread
from audioae.errors import AudioaeError
from audioae.evaluation.metrics import Score, score

Array = npt.NDArray[np.float32]

CRASHED = "the process that computed it crashed; if the recording is long, evaluate it in parts"


@dataclass(frozen=True)
class ScoringTask:
    """Two waveforms `[channels, samples]` that a worker process scores."""

    estimate: Array
    reference: Array
    sample_rate: int
    future: Future[dict[str, Score]]


class MetricWorkers:
    """A pool of single-threaded processes, a context manager.

    Args:
        names: metrics to compute.
        jobs: number of processes.
    """

    def __init__(self, names: Sequence[str], jobs: int) -> None:
        self.names, self.jobs = tuple(names), jobs
        self._pool = self._start(jobs)
        self._checked = False

    def __enter__(self) -> MetricWorkers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=kind is None, cancel_futures=True)

    def submit(self, estimate: Array, reference: Array, sample_rate: int) -> ScoringTask:
        """Start scoring an estimate against its reference, both `[channels, samples]`."""
        try:
            future = self._submit(self._pool, estimate, reference, sample_rate, self.names)
        except BrokenProcessPool:  # an earlier task crashed; `result` handles it
            self._pool = self._start(self.jobs)
            future = self._submit(self._pool, estimate, reference, sample_rate, self.names)
        return ScoringTask(estimate, reference, sample_rate, future)

    def result(self, task: ScoringTask) -> dict[str, Score]:
        """Wait for the scores, each the mean over the channels.

        A crash aborts all tasks that run at the time, and the pool does not say which one caused
        it, so each of them is repeated in a process of its own.

        Raises:
            AudioaeError: worker processes cannot be started at all.
        """
        try:
            return task.future.result()
        except BrokenProcessPool:
            self._check_that_processes_start()
        scores = self._alone(task, self.names)
        if scores is not None:
            return scores
        each = {name: self._alone(task, [name]) for name in self.names}
        return {
            name: Score(None, CRASHED) if alone is None else alone[name]
            for name, alone in each.items()
        }

    def _alone(self, task: ScoringTask, names: Sequence[str]) -> dict[str, Score] | None:
        """The scores, computed in a process of their own; None if it crashes."""
        with self._start(1) as pool:
            try:
                return self._submit(
                    pool, task.estimate, task.reference, task.sample_rate, names
                ).result()
            except BrokenProcessPool:
                return None

    def _check_that_processes_start(self) -> None:
        if self._checked:
            return
        with self._start(1) as pool, one_thread():
            try:
                pool.submit(os.getpid).result()
            except BrokenProcessPool as error:
                raise AudioaeError(
                    "worker processes for metrics do not start; in a script, call evaluate below "
                    "`if __name__ == '__main__':`"
                ) from error
        self._checked = True

    @staticmethod
    def _start(jobs: int) -> ProcessPoolExecutor:
        # Not forked: the copy of a process with threads (ONNX Runtime, torch) can hang.
        return ProcessPoolExecutor(
            jobs, multiprocessing.get_context("spawn"), initializer=_ignore_interrupts
        )

    @staticmethod
    def _submit(
        pool: ProcessPoolExecutor,
        estimate: Array,
        reference: Array,
        sample_rate: int,
        names: Sequence[str],
    ) -> Future[dict[str, Score]]:
        with one_thread():  # submitting a task may start a process
            return pool.submit(score_channels, estimate, reference, sample_rate, names)


def score_channels(
    estimate: Array, reference: Array, sample_rate: int, names: Sequence[str]
) -> dict[str, Score]:
    """The metrics of two waveforms `[channels, samples]`, each the mean over the channels.

    A metric without a value in some channel is None, with the reason of the first such channel.

    Example:
        >>> clean = np.ones((2, 8), np.float32)
        >>> scores = score_channels(1.1 * clean, clean, 16000, ["snr"])
        >>> round(scores["snr"].value, 3)
        20.0
    """
    channels = [score(*pair, sample_rate, names) for pair in zip(estimate, reference, strict=True)]
    return {name: _mean([channel[name] for channel in channels]) for name in names}


def _mean(scores: Sequence[Score]) -> Score:
    values = [score.value for score in scores if score.value is not None]
    return (
        Score(float(np.mean(values)))
        if len(values) == len(scores)
        else next(score for score in scores if score.value is None)
    )


def _ignore_interrupts() -> None:
    """Ctrl-C is handled by the parent process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
