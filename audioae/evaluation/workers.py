"""Processes that compute metrics side by side; one that crashes (pesq is C) costs the metric that
crashed it, nothing else.
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

from audioae.batch.processes import one_thread
from audioae.errors import AudioaeError
from audioae.evaluation.metrics import Score, score

Array = npt.NDArray[np.float32]

CRASHED = "the process that computed it crashed; if the recording is long, score it in pieces"


@dataclass(frozen=True)
class Task:
    """Two waveforms `[channels, samples]` at work in a process."""

    estimate: Array
    reference: Array
    sample_rate: int
    future: Future[dict[str, Score]]


class MetricWorkers:
    """A context of up to `jobs` processes of one thread each that compute the metrics `names`."""

    def __init__(self, names: Sequence[str], jobs: int) -> None:
        self.names, self.jobs = tuple(names), jobs
        self._pool = self._start(jobs)
        self._proved = False

    def __enter__(self) -> MetricWorkers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=kind is None, cancel_futures=True)

    def submit(self, estimate: Array, reference: Array, sample_rate: int) -> Task:
        """Begin to score; both `[channels, samples]`."""
        try:
            future = self._submit(self._pool, estimate, reference, sample_rate, self.names)
        except BrokenProcessPool:  # by an earlier task, which finds out in `result`
            self._pool = self._start(self.jobs)
            future = self._submit(self._pool, estimate, reference, sample_rate, self.names)
        return Task(estimate, reference, sample_rate, future)

    def result(self, task: Task) -> dict[str, Score]:
        """Wait for the scores, each the mean of the channels.

        A crash breaks whatever was at work at the same time, and no one knows which task it was:
        each is done again on its own.
        """
        try:
            return task.future.result()
        except BrokenProcessPool:
            self._prove_that_processes_start()
        scores = self._alone(task, self.names)
        if scores is not None:
            return scores
        each = {name: self._alone(task, [name]) for name in self.names}
        return {
            name: Score(None, CRASHED) if alone is None else alone[name]
            for name, alone in each.items()
        }

    def _alone(self, task: Task, names: Sequence[str]) -> dict[str, Score] | None:
        """The scores from a process of their own, None when it crashes."""
        with self._start(1) as pool:
            try:
                return self._submit(
                    pool, task.estimate, task.reference, task.sample_rate, names
                ).result()
            except BrokenProcessPool:
                return None

    def _prove_that_processes_start(self) -> None:
        if self._proved:
            return
        with self._start(1) as pool, one_thread():
            try:
                pool.submit(os.getpid).result()
            except BrokenProcessPool as error:
                raise AudioaeError(
                    "no process for metrics starts; in a script call evaluate below `if __name__ "
                    "== '__main__':`"
                ) from error
        self._proved = True

    @staticmethod
    def _start(jobs: int) -> ProcessPoolExecutor:
        # Spawned, not forked: a copy of a process with threads (ONNX Runtime, torch) can hang.
        return ProcessPoolExecutor(
            jobs, multiprocessing.get_context("spawn"), initializer=_leave_interrupts_to_parent
        )

    @staticmethod
    def _submit(
        pool: ProcessPoolExecutor,
        estimate: Array,
        reference: Array,
        sample_rate: int,
        names: Sequence[str],
    ) -> Future[dict[str, Score]]:
        with one_thread():  # a process is started by the task that finds none idle
            return pool.submit(score_channels, estimate, reference, sample_rate, names)


def score_channels(
    estimate: Array, reference: Array, sample_rate: int, names: Sequence[str]
) -> dict[str, Score]:
    """The mean over the channels of each metric of `[channels, samples]`; None with the first
    reason where a channel has none.
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


def _leave_interrupts_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
