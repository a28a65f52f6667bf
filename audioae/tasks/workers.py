"""Apply a function to many files, here or in worker processes; a failure does not stop the rest."""

from __future__ import annotations

import multiprocessing
import signal
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from audioae.denoising.batch.run import one_thread
from audioae.errors import AudioaeError, AudioFileError

T = TypeVar("T")
Advance = Callable[[float], None]  # called with the seconds of a file that are done
Work = Callable[[Path, Advance], T]

AHEAD = 4  # files per process that are handed out before the first result is taken


@dataclass(frozen=True)
class Worked(Generic[T]):
    """The result of one file, or the error that it failed with.

    Args:
        path: the file.
        value: None if the file failed.
        error: the error message in one line; empty if there is none. It names the file.
        trace: the traceback of the error.
    """

    path: Path
    value: T | None = None
    error: str = ""
    trace: str = ""


class FilesListener:
    """Receives the events of `map_files`. This one ignores them."""

    def started(self, path: Path) -> None:
        """A file is started."""

    def advanced(self, path: Path, seconds: float) -> None:
        """So many of its seconds are done; not reported by worker processes."""


def map_files(
    make: Callable[[], Work[T]],
    paths: Sequence[Path],
    *,
    jobs: int = 1,
    listener: FilesListener | None = None,
) -> Iterator[Worked[T]]:
    """Apply a function to files.

    Args:
        make: returns the function. It is called once in each process, for example to load a model,
            and has to be picklable if there are several processes.
        paths: the files.
        jobs: number of processes; 1 works in this one.
        listener: gets the events.

    Yields:
        The results in the order of `paths`.

    Raises:
        AudioaeError: what `make` raises, or no worker process starts.

    Example:
        >>> def make():
        ...     return lambda path, advance: 1 / len(path.stem)
        >>> [each.error or each.value for each in map_files(make, [Path("ab.wav"), Path("a.wav")])]
        [0.5, 1.0]
    """
    listener = listener or FilesListener()
    if min(jobs, len(paths)) > 1:
        yield from _in_processes(make, paths, min(jobs, len(paths)), listener)
        return
    work = make()
    for path in paths:
        listener.started(path)
        yield attempt(work, path, partial(listener.advanced, path))


def attempt(work: Work[T], path: Path, advance: Advance) -> Worked[T]:
    """Apply the function to one file; any exception becomes a failed result."""
    try:
        return Worked(path, work(path, advance))
    except Exception as error:
        return failed(path, error)


def failed(path: Path, error: Exception) -> Worked[Any]:
    """The result of a file that failed with `error`."""
    message = str(error)
    if not isinstance(error, AudioaeError | OSError):
        hint = "run it again with --debug for the traceback"
        message = f"internal: {type(error).__name__}: {error}; {hint}"
    message = " ".join(message.split())
    message = message if str(path) in message else f"{path}: {message}"
    return Worked(path, error=message, trace="".join(traceback.format_exception(error)))


def _in_processes(
    make: Callable[[], Work[T]], paths: Sequence[Path], jobs: int, listener: FilesListener
) -> Iterator[Worked[T]]:
    pool, waiting = _Pool(make, jobs), deque(paths)
    pending: deque[tuple[Path, Future[Worked[T]]]] = deque()
    try:
        while waiting or pending:
            while waiting and len(pending) < AHEAD * jobs:
                path = waiting.popleft()
                listener.started(path)
                pending.append((path, pool.submit(path)))
            path, future = pending.popleft()
            try:
                yield future.result()
            except BrokenProcessPool:
                # A crash ends all that runs at the time. The file at hand is tried again in a
                # process of its own, to tell whether it is the one; the others in a new pool.
                pool.stop()
                yield pool.alone(path)
                pool = _Pool(make, jobs)
                pending = deque((each, pool.submit(each)) for each, _ in pending)
    finally:
        pool.stop()


class _Pool:
    """Worker processes with the function of `make`."""

    def __init__(self, make: Callable[[], Work[Any]], jobs: int) -> None:
        # Not forked: the copy of a process with threads (ONNX Runtime) can hang.
        context = multiprocessing.get_context("spawn")
        self.make, self._stopped = make, context.Event()
        self._pool = ProcessPoolExecutor(
            jobs, context, initializer=_start, initargs=(make, self._stopped)
        )

    def submit(self, path: Path) -> Future[Worked[Any]]:
        """Start a file."""
        with one_thread():  # submitting may start a process
            try:
                return self._pool.submit(_work, path)
            except BrokenProcessPool as error:  # an earlier file crashed
                future: Future[Worked[Any]] = Future()
                future.set_exception(error)
                return future

    def stop(self) -> None:
        """End the processes; a file that is being worked on ends at its next block."""
        self._stopped.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def alone(self, path: Path) -> Worked[Any]:
        """The result of a file in a process of its own, or a failure if that crashes too."""
        pool = _Pool(self.make, 1)
        try:
            return pool.submit(path).result()
        except BrokenProcessPool:
            return failed(path, AudioFileError(f"{path}: the process that read it crashed"))
        finally:
            pool.stop()


_state: dict[str, Any] = {}  # of a worker process


def _start(make: Callable[[], Work[Any]], stopped: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is handled by the parent process
    _state["stopped"] = stopped
    try:
        _state["work"] = make()
    except AudioaeError as error:
        _state["error"] = error


class _StoppedError(Exception):
    """The parent process has ended the work."""


def _work(path: Path) -> Worked[Any]:
    if "error" in _state:
        raise _state["error"]

    def advance(seconds: float) -> None:
        if _state["stopped"].is_set():
            raise _StoppedError

    return attempt(_state["work"], path, advance)
