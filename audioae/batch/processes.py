"""Worker processes of one thread each; one that crashes costs the file it was at, and no more.

Each has a pipe of its own, so nothing is shared that a dying process could leave locked, and one
whose parent is gone notices.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from audioae.batch.work import Cleaner, Listener, Outcome, Task, Work, failure
from audioae.errors import AudioaeError

PATIENCE = 10.0  # seconds that a worker has to remove what it was writing


def run_in_processes(
    tasks: Sequence[Task], work: Work, listener: Listener, *, jobs: int, fail_fast: bool = False
) -> None:
    """Do the tasks in up to `jobs` processes; with `fail_fast` none is begun after one has failed.

    Raises:
        AudioaeError: no process starts.
    """
    with _Crew(work, min(jobs, len(tasks))) as crew:
        waiting = deque(tasks)
        while waiting or crew.busy:
            for worker, outcome in crew.news(listener):
                if outcome is not None and worker.task is not None:
                    task, worker.task = worker.task, None
                    listener.ended(task, outcome)
                    if fail_fast and outcome.error:
                        waiting.clear()
                if waiting and worker.ready:
                    worker.give(waiting.popleft(), listener)


class _Worker:
    """A process and what it is at."""

    def __init__(self, work: Work) -> None:
        context = multiprocessing.get_context(
            "spawn"
        )  # a forked copy of a process with threads (ONNX Runtime) can hang
        self.pipe, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_serve, args=(theirs, work), daemon=True)
        self.ready = False
        self.task: Task | None = None
        with one_thread(), _deaf_to_interrupts():
            self.process.start()
        theirs.close()  # so that the pipe ends when the process does

    def give(self, task: Task, listener: Listener) -> None:
        self.task = task
        listener.started(task)
        with suppress(OSError):  # it has just died, which `news` will tell
            self.pipe.send(task)


class _Crew:
    """A context of worker processes; leaving it lets the idle ones go and stops those at work."""

    def __init__(self, work: Work, size: int) -> None:
        self.work, self.size = work, size
        self.workers: list[_Worker] = []

    def __enter__(self) -> _Crew:
        try:
            for _ in range(self.size):
                self.workers.append(_Worker(self.work))
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def busy(self) -> bool:
        """Whether any task is being worked on."""
        return any(worker.task for worker in self.workers)

    def news(self, listener: Listener) -> Iterator[tuple[_Worker, Outcome | None]]:
        """Wait, then tell which workers can take a task, with the outcome of the one before."""
        by_pipe = {worker.pipe: worker for worker in self.workers}
        for pipe in wait(list(by_pipe)):
            worker = by_pipe[pipe]  # type: ignore[index]  # what was given is what comes back
            try:
                kind, value = worker.pipe.recv()
            except (EOFError, OSError):
                yield from self._replace(worker)
                continue
            if kind == "broken":
                raise value
            if kind == "advanced" and worker.task is not None:
                listener.advanced(worker.task, value)
                continue
            worker.ready = True
            yield worker, value if kind == "ended" else None

    def _replace(self, worker: _Worker) -> Iterator[tuple[_Worker, Outcome]]:
        """A process died: its task has failed, and another takes its place."""
        worker.process.join()
        code = worker.process.exitcode or 0
        cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        if not worker.ready:
            raise AudioaeError(
                f"no worker process starts ({cause}); in a script, call it below `if __name__ == "
                "'__main__':`"
            )
        self.workers[self.workers.index(worker)] = _Worker(self.work)
        if worker.task is not None:
            plan = worker.task.plan
            worker.ready = False
            yield (
                worker,
                failure(
                    plan.src,
                    plan.dst,
                    AudioaeError(f"the process that cleaned {plan.src} died ({cause})"),
                ),
            )

    def stop(self) -> None:
        """Let all processes end; those at work remove what they were writing."""
        for worker in self.workers:
            worker.pipe.close()
            if worker.task is not None or not worker.ready:
                worker.process.terminate()
        for worker in self.workers:
            worker.process.join(PATIENCE)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()


def _serve(pipe: Connection, work: Work) -> None:
    """The life of a worker: take tasks until the pipe ends, because all is done or the parent is
    gone.
    """
    signal.signal(signal.SIGTERM, _leave)
    with suppress(EOFError, OSError):
        try:
            cleaner = Cleaner(work)
        except AudioaeError as error:
            pipe.send(("broken", error))
            return
        pipe.send(("ready", None))
        while True:
            task = pipe.recv()
            pipe.send(
                ("ended", cleaner.attempt(task, lambda seconds: pipe.send(("advanced", seconds))))
            )


def _leave(number: int, frame: object) -> None:
    raise SystemExit(128 + number)  # unlike the signal alone, it lets files be closed and removed


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Let processes that start meanwhile never hear SIGINT: a terminal sends it to parent and
    workers, and the parent decides.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
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
    """Let processes that start meanwhile use one thread each: their libraries read these variables
    when they are imported.
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
