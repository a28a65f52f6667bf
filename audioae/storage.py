"""Bytes put into the middle of a file, in place and in constant memory."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from audioae.errors import OutputError


class Temporary:
    """Creates `PATH.part` (or takes over what a killed process left) and keeps other processes from
    writing it too.

    `publish` gives it its final name at once and whole; leaving the `with` block removes what was
    not published.
    """

    def __init__(self, path: Path) -> None:
        self.final = Path(os.path.realpath(path))  # a link stays a link
        self.path = self.final.with_name(self.final.name + ".part")
        try:
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise OutputError(
                f"{path} cannot be written ({error.strerror}); choose a folder that can"
            ) from error
        self._lock: int | None = handle
        self._pending = True
        if (
            os.name == "nt"
        ):  # where an open file cannot be renamed, or removed by another process anyway
            self._unlock()
        elif not (claim(handle) and _is_still(self.path, handle)):
            self._unlock()
            raise OutputError(
                f"{self.path} is being written by another process; two outputs cannot have one name"
            )

    def publish(self) -> None:
        """Give the file its final name, once its bytes are on the disk."""
        try:
            if self._lock is not None:
                os.fsync(self._lock)
            os.replace(self.path, self.final)
        except OSError as error:
            raise OutputError(
                f"{self.final} cannot be written ({error.strerror}); is its disk full?"
            ) from error
        self._pending = False
        self._unlock()

    def remove(self) -> None:
        """Remove the file unless it was published or removed before."""
        if self._pending:
            self._pending = False
            self.path.unlink(missing_ok=True)
            self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Temporary:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.remove()


def _is_still(path: Path, handle: int) -> bool:
    """Whether an open file has its temporary name; False if another process has just given it its
    final one.
    """
    try:
        return os.fstat(handle).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False


try:
    import fcntl
except ImportError:  # Windows: two processes at once are not noticed
    fcntl = None  # type: ignore[assignment]


def claim(handle: int) -> bool:
    """Lock an open file until it is closed; False where another process has it. A file system
    without locks locks nothing out.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


PIECE = 2**20


def splice(file: BinaryIO, at: int, removed: int, inserted: bytes) -> None:
    """Replace the `removed` bytes from `at` on by `inserted`; what follows moves, and the file
    grows or shrinks.
    """
    end, shift = file.seek(0, 2), len(inserted) - removed
    starts = range(at + removed, end, PIECE)
    for start in reversed(starts) if shift > 0 else starts if shift < 0 else ():
        file.seek(start)
        piece = file.read(min(PIECE, end - start))
        file.seek(start + shift)
        file.write(piece)
    file.seek(at)
    file.write(inserted)
    file.truncate(end + shift)
