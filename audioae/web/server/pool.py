"""Worker processes of the local web app: each runs one call at a time, can be stopped at any moment
and is replaced when it dies.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from audioae.denoising.batch.run import interrupts_blocked, one_thread
from audioae.errors import AudioaeError
from audioae.storage import remove_tree

try:
    import resource
except ImportError:  # Windows has no limits for processes
    resource = None  # type: ignore[assignment]

STOP_SECONDS = 3.0  # that a worker has to end
POLL_SECONDS = 0.05
MEMORY_BYTES = 6 * 2**30  # of address space of a worker

Progress = Callable[[float], None]
# A function of a module, called in a worker process with keyword arguments and `progress`.
WorkerFunction = Callable[..., Any]


class JobError(AudioaeError):
    """A call in a worker process failed; the message is one line.

    Attributes:
        internal: True if the fault is not that of the recording or the settings.
    """

    def __init__(self, message: str, *, internal: bool = False) -> None:
        super().__init__(message)
        self.internal = internal


class JobTask:
    """A call that waits for a worker process or runs in one.

    Attributes:
        future: its result, a `JobError`, or cancelled.
        progress: 0 to 1.
        running: whether a process works on it.
    """

    def __init__(
        self, function: WorkerFunction, arguments: dict[str, Any], *, seconds: float
    ) -> None:
        self.function, self.arguments, self.seconds = function, arguments, seconds
        self.future: Future[Any] = Future()
        self.progress, self.running = 0.0, False
        self._stop = threading.Event()

    def cancel(self) -> None:
        """Do not start it, or end the process that works on it."""
        self._stop.set()
        self.future.cancel()

    @property
    def stopped(self) -> bool:
        """Whether it was cancelled."""
        return self._stop.is_set()


class WorkerPool:
    """Up to `size` processes of one thread each, started when they are needed.

    Args:
        size: number of processes.
        folder: removed by the processes if this process dies.
        file_bytes: largest file that a process may write.
        niceness: added to that of this process.

    Example:
        >>> with WorkerPool(1, Path(".").resolve() / "own", file_bytes=1000) as pool:
        ...     pool.submit(echo, {"value": 3}, seconds=60).future.result()
        3
    """

    def __init__(self, size: int, folder: Path, *, file_bytes: int, niceness: int = 0) -> None:
        self.settings = (folder, file_bytes, niceness)
        self._queue: queue.SimpleQueue[JobTask | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._tasks: set[JobTask] = set()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(size)]
        for thread in self._threads:
            thread.start()

    def submit(
        self, function: WorkerFunction, arguments: dict[str, Any], *, seconds: float
    ) -> JobTask:
        """Call a function in a process; it ends with a `JobError` after so many seconds."""
        task = JobTask(function, arguments, seconds=seconds)
        self._tasks.add(task)
        task.future.add_done_callback(lambda _: self._tasks.discard(task))
        self._queue.put(task)
        return task

    def close(self) -> None:
        """Cancel all calls and end the processes."""
        self._closing.set()
        for task in list(self._tasks):
            task.cancel()
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _work(self) -> None:
        """The thread of one process: run the calls that come until the pool is closed."""
        worker: _Worker | None = None
        try:
            while (task := self._queue.get()) is not None:
                if self._closing.is_set():
                    task.cancel()
                if not task.future.set_running_or_notify_cancel():
                    continue
                task.running = True
                try:
                    if worker is None or not worker.process.is_alive():
                        worker = _Worker(*self.settings)
                    task.future.set_result(worker.run(task))
                except JobError as error:
                    task.future.set_exception(error)
                except Exception as error:
                    message = f"internal: {type(error).__name__}: {error}"
                    task.future.set_exception(JobError(message, internal=True))
        finally:
            if worker is not None:
                worker.stop()


class _Worker:
    """A process, seen from its server."""

    def __init__(self, folder: Path, file_bytes: int, niceness: int) -> None:
        # a forked copy of a process with threads (ONNX Runtime) can hang
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        ended, self._alive = context.Pipe(duplex=False)  # `ended` has an end when this process has
        self.process: BaseProcess = context.Process(
            target=_serve, args=(theirs, ended, folder, file_bytes, niceness), daemon=True
        )
        with _starting, one_thread(), interrupts_blocked():
            self.process.start()
        theirs.close()
        ended.close()

    def run(self, task: JobTask) -> Any:
        """Send a call and wait for its result. Raises `JobError`."""
        deadline = time.monotonic() + task.seconds
        with suppress(OSError):  # the process has just died; the end of the pipe tells
            self.pipe.send((task.function, task.arguments))
        while True:
            if task.stopped:
                self.stop()
                raise JobError("cancelled")
            if time.monotonic() > deadline:
                self.stop()
                raise JobError(f"it took more than {task.seconds:g} s, the limit of this server")
            try:
                if not self.pipe.poll(POLL_SECONDS):
                    continue
                kind, value = self.pipe.recv()
            except (EOFError, OSError):
                raise self._death() from None
            if kind == "progress":
                task.progress = value
            elif kind == "done":
                return value
            else:
                raise JobError(value, internal=kind == "internal")

    def _death(self) -> JobError:
        self.stop()
        code = self.process.exitcode or 0
        cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return JobError(f"the process that worked on it died ({cause})")

    def stop(self) -> None:
        """End the process; it removes its unfinished output."""
        if self.process.is_alive():
            self.process.terminate()
            self.process.join(STOP_SECONDS)
        if self.process.is_alive():
            self.process.kill()
        self.process.join()
        self.pipe.close()
        self._alive.close()


_starting = threading.Lock()  # `one_thread` changes the environment of this process


def _serve(
    pipe: Connection, ended: Connection, folder: Path, file_bytes: int, niceness: int
) -> None:
    """The main loop of a process: run calls until it is stopped or its server dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _exit)
    _set_limits(file_bytes)
    if hasattr(os, "nice"):
        os.nice(niceness)
    watch = threading.Thread(target=_end_with_server, args=(ended, folder), daemon=True)
    watch.start()
    with suppress(EOFError, OSError):
        while True:
            function, arguments = pipe.recv()
            pipe.send(_answer(function, arguments, lambda done: pipe.send(("progress", done))))
    watch.join()  # the server has died


def _answer(
    function: WorkerFunction, arguments: dict[str, Any], progress: Progress
) -> tuple[str, Any]:
    """The result of a call, or the message of its error."""
    try:
        return "done", function(**arguments, progress=progress)
    except AudioaeError as error:
        return "failed", " ".join(str(error).split())
    except MemoryError:
        return "failed", "it takes more memory than this server allows"
    except OSError as error:
        return "failed", error.strerror or str(error)
    except Exception as error:
        return "internal", " ".join(f"internal: {type(error).__name__}: {error}".split())


def _exit(number: int, frame: object) -> None:
    raise SystemExit(128 + number)  # unlike the default action, this closes and removes files


def _end_with_server(ended: Connection, folder: Path) -> None:
    """Wait until the server dies, then remove the uploads and end."""
    with suppress(EOFError, OSError):
        ended.recv()
    remove_tree(folder)
    os._exit(1)


def _set_limits(file_bytes: int) -> None:
    """Limit the memory and the files of this process, and keep recordings out of core dumps."""
    if resource is None:
        return
    for name, limit in (
        ("RLIMIT_CORE", 0),
        ("RLIMIT_FSIZE", file_bytes),
        ("RLIMIT_AS", MEMORY_BYTES),
    ):
        with suppress(ValueError, OSError, AttributeError):
            number = getattr(resource, name)
            hard = resource.getrlimit(number)[1]
            most = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
            resource.setrlimit(number, (most, hard))


def echo(*, value: Any, progress: Progress) -> Any:
    """Return the value; for checks of a pool."""
    progress(1.0)
    return value
