"""Run a batch, in this process, in worker processes or on a Ray cluster, and keep its ledger.

A worker process that crashes fails the file it was at and is replaced. Each worker has its own
pipe, so a dying process cannot leave a shared queue locked, and a worker whose parent process has
died reads the end of its pipe and exits.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from audioae.denoising.batch.ledger import Ledger
from audioae.denoising.batch.ray import run_on_ray
from audioae.denoising.batch.work import (
    BatchListener,
    BatchSettings,
    JobRunner,
    Outcome,
    PlannedFile,
    failure,
)
from audioae.engine import Engine
from audioae.errors import AudioaeError


def run_batch(
    files: Sequence[PlannedFile],
    settings: BatchSettings,
    listener: BatchListener,
    *,
    ledger: Ledger | None = None,
    jobs: int = 1,
    ray: str | None = None,
    fail_fast: bool = False,
    engine: Engine | None = None,
) -> None:
    """Denoise all files and report each to the listener; a failure does not stop the others.

    Args:
        ledger: open, or None to keep none.
        jobs: number of worker processes; 1 works in this process, unless several files are read
            by decoders that may crash.
        ray: address of a Ray cluster, used in place of processes; "local" is the cluster of
            RAY_ADDRESS, or one that is started for this run.
        fail_fast: start no further file after a failure.
        engine: the model of `settings`, if it is loaded already.

    Raises:
        AudioaeError: no worker process starts, or no cluster can be reached.
        DependencyError: Ray is not installed.
    """
    if ledger is not None:
        listener = _LedgerKeeper(ledger, listener)
    if not files:
        return
    if ray is not None:
        address = None if ray == "local" else ray
        run_on_ray(files, settings, listener, address=address, fail_fast=fail_fast)
    elif min(jobs, len(files)) > 1 or (
        len(files) > 1 and any(each.form.may_crash for each in files)
    ):
        run_in_processes(files, settings, listener, jobs=jobs, fail_fast=fail_fast)
    else:
        _run_here(files, JobRunner(settings, engine), listener, fail_fast=fail_fast)


def _run_here(
    files: Sequence[PlannedFile], runner: JobRunner, listener: BatchListener, *, fail_fast: bool
) -> None:
    for planned in files:
        listener.started(planned)
        outcome = runner.attempt(planned.job, partial(listener.advanced, planned))
        listener.ended(planned, outcome)
        if fail_fast and outcome.error:
            return


class _LedgerKeeper:
    """Writes each event to the ledger, then passes it on."""

    def __init__(self, ledger: Ledger, listener: BatchListener) -> None:
        self._ledger, self._listener = ledger, listener

    def started(self, planned: PlannedFile) -> None:
        job = planned.job
        self._ledger.begin(job.src, job.dst)
        self._listener.started(planned)

    def advanced(self, planned: PlannedFile, seconds: float) -> None:
        self._listener.advanced(planned, seconds)

    def ended(self, planned: PlannedFile, outcome: Outcome) -> None:
        job = planned.job
        self._ledger.end(job.src, job.dst, error=outcome.error)
        self._listener.ended(planned, outcome)


STOP_SECONDS = 10.0  # that a worker has to remove its unfinished output


def run_in_processes(
    files: Sequence[PlannedFile],
    settings: BatchSettings,
    listener: BatchListener,
    *,
    jobs: int,
    fail_fast: bool = False,
) -> None:
    """Denoise the files in up to `jobs` processes; with `fail_fast`, start none after a failure.

    Raises:
        AudioaeError: no worker process starts.
    """
    with _Pool(settings, min(jobs, len(files))) as pool:
        waiting = deque(files)
        while waiting or pool.busy:
            for worker, outcome in pool.events(listener):
                if outcome is not None and worker.planned is not None:
                    planned, worker.planned = worker.planned, None
                    listener.ended(planned, outcome)
                    if fail_fast and outcome.error:
                        waiting.clear()
                if waiting and worker.ready:
                    worker.start(waiting.popleft(), listener)


def start_worker(
    serve: Callable[[Connection, Any], None], argument: Any
) -> tuple[Connection, BaseProcess]:
    """Start a process that runs `serve` with a pipe and the argument; returns the other end."""
    # a forked copy of a process with threads (ONNX Runtime) can hang
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, argument), daemon=True)
    with one_thread(), interrupts_blocked():
        process.start()
    theirs.close()  # the pipe then ends when the process does
    return pipe, process


def death_of(process: BaseProcess) -> str:
    """How a process has ended: the name of a signal, or its exit code."""
    code = process.exitcode or 0
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def shield_worker() -> None:
    """Let the parent process handle Ctrl-C, and remove files when it ends this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _exit)


class _Worker:
    """A worker process and the file it is at."""

    def __init__(self, settings: BatchSettings) -> None:
        self.pipe, self.process = start_worker(_serve, settings)
        self.ready = False
        self.planned: PlannedFile | None = None

    def start(self, planned: PlannedFile, listener: BatchListener) -> None:
        self.planned = planned
        listener.started(planned)
        with suppress(OSError):  # the process has just died; `events` reports it
            self.pipe.send(planned.job)


class _Pool:
    """Worker processes. On exit, idle ones end and busy ones are stopped."""

    def __init__(self, settings: BatchSettings, size: int) -> None:
        self.settings, self.size = settings, size
        self.workers: list[_Worker] = []

    def __enter__(self) -> _Pool:
        try:
            for _ in range(self.size):
                self.workers.append(_Worker(self.settings))
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def busy(self) -> bool:
        """Whether any worker is at a file."""
        return any(worker.planned for worker in self.workers)

    def events(self, listener: BatchListener) -> Iterator[tuple[_Worker, Outcome | None]]:
        """Wait for messages. Yields the workers that are ready for a file, with the outcome of the
        last one, and the workers that died.
        """
        by_pipe = {worker.pipe: worker for worker in self.workers}
        for pipe in wait(list(by_pipe)):
            worker = by_pipe[pipe]  # type: ignore[index]  # `wait` returns what it is given
            try:
                kind, value = worker.pipe.recv()
            except (EOFError, OSError):
                yield from self._replace(worker)
                continue
            if kind == "broken":
                raise value
            if kind == "advanced" and worker.planned is not None:
                listener.advanced(worker.planned, value)
                continue
            worker.ready = True
            yield worker, value if kind == "ended" else None

    def _replace(self, worker: _Worker) -> Iterator[tuple[_Worker, Outcome]]:
        """Start another worker in place of one that died, whose file has failed."""
        worker.process.join()
        cause = death_of(worker.process)
        if not worker.ready:
            raise AudioaeError(
                f"no worker process starts ({cause}); in a script, call it below `if __name__ == "
                "'__main__':`"
            )
        self.workers[self.workers.index(worker)] = _Worker(self.settings)
        if worker.planned is not None:
            worker.ready = False
            job = worker.planned.job
            error = AudioaeError(f"the process that denoised {job.src} died ({cause})")
            yield worker, failure(job, error)

    def stop(self) -> None:
        """End all processes; busy ones remove their unfinished outputs."""
        for worker in self.workers:
            worker.pipe.close()
            if worker.planned is not None or not worker.ready:
                worker.process.terminate()
        for worker in self.workers:
            worker.process.join(STOP_SECONDS)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()


def _serve(pipe: Connection, settings: BatchSettings) -> None:
    """The main loop of a worker: denoise files until the pipe ends."""
    shield_worker()
    with suppress(EOFError, OSError):
        try:
            runner = JobRunner(settings)
        except AudioaeError as error:
            pipe.send(("broken", error))
            return
        pipe.send(("ready", None))
        while True:
            job = pipe.recv()
            outcome = runner.attempt(job, lambda seconds: pipe.send(("advanced", seconds)))
            pipe.send(("ended", outcome))


def _exit(number: int, frame: object) -> None:
    raise SystemExit(128 + number)  # unlike the default action, this closes and removes files


@contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Block SIGINT in processes started in this context.

    A terminal sends SIGINT to the workers as well as to the parent; the parent handles it.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # its start would unblock SIGINT
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
)


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit processes started in this context to one thread each.

    Their numeric libraries read these environment variables when they are imported.
    """
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
