"""Write files atomically, lock them, and read JSON into dataclasses.

Every file that audioae writes goes through `AtomicFile`: the data are written to a temporary file
in the target folder, flushed to disk and renamed. A reader sees the earlier file or the complete
new one, also after a crash, a full disk or a power cut.

`write_bytes`, `write_text` and `write_json_lines` write the whole content at once, `atomic_path` is
for code that writes the file itself, and `publish` is the last step alone, for downloads.
`output_errors` turns an `OSError` into an `OutputError` that names the file.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from audioae.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows has no advisory locks: two processes writing one file go unnoticed
    fcntl = None  # type: ignore[assignment]

AnyPath = str | os.PathLike[str]

PART = ".part"  # of unfinished downloads
COPY_BYTES = 2**20
HIDDEN = ".audioae-"  # start of the names of temporary files
_SURROGATE = re.compile("[\ud800-\udfff]")  # stands for a byte of a file name that is not UTF-8
LISTING_SHARE = 0.02  # of the time, at most, is spent on listing a folder


def temporary_path(path: AnyPath) -> Path:
    """The name of an unfinished download: `NAME.part`, beside the target of links."""
    final = Path(os.path.realpath(path))
    return final.with_name(final.name + PART)


def prefix_of(final: Path) -> str:
    """The start of the names of the temporary files of `final`."""
    return f"{HIDDEN}{hashlib.blake2s(os.fsencode(final.name), digest_size=6).hexdigest()}-"


class AtomicFile:
    """A file that is written under a temporary name and renamed when it is complete.

    The temporary file is created at once, so a folder without write permission is noticed before
    anything is computed. Its name is `.audioae-`, a digest of the final name and random letters, so
    it is never a file of the user. It is locked while it is written: a second process that writes
    the same file gets an error, and what a killed process left behind is removed.

    Leaving the `with` block without `commit` removes the temporary file. A symbolic link at `path`
    stays a link; its target is replaced.

    Args:
        like: file whose permissions and owner the new file gets, unless it replaces a file, which
            keeps its own; None or a missing file gives those of a new file.

    Attributes:
        path: the temporary file. It exists; open it for writing.
        final: the name after `commit`.

    Raises:
        OSError: the file cannot be created. `BlockingIOError` if another process is writing it.
    """

    def __init__(self, path: AnyPath, like: AnyPath | None = None) -> None:
        self.final = Path(os.path.realpath(path))
        if self.final in _writing or not remove_leftovers(self.final):
            problem = "another process is writing it"
            raise BlockingIOError(errno.EWOULDBLOCK, problem, os.fspath(path))
        self._like = self.final if self.final.exists() or like is None else Path(like)
        name = f"{prefix_of(self.final)}{secrets.token_hex(8)}{self.final.suffix[:32]}"
        self.path = self.final.with_name(name)
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        self._lock: int | None = handle
        self._pending = True
        _writing.add(self.final)
        lock(handle)
        if os.name == "nt":  # an open file cannot be renamed there
            self._unlock()

    def commit(self) -> None:
        """Flush the file to disk and give it its final name."""
        with suppress(OSError):  # no such file, or a file system without permissions
            _copy_rights(self._like, self.path)
        publish(self.path, self.final)
        self._pending = False
        self._unlock()
        _writing.discard(self.final)

    def discard(self) -> None:
        """Remove the temporary file. Does nothing after `commit` or `discard`."""
        if self._pending:
            self._pending = False
            self.path.unlink(missing_ok=True)
            self._unlock()
            _writing.discard(self.final)

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> AtomicFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.discard()


_writing: set[Path] = set()  # final names of the files that this process is writing
_listed: dict[Path, float] = {}  # when each folder may be listed again


def remove_leftovers(final: Path, *, always: bool = False) -> bool:
    """Remove the temporary files of `final` that killed processes have left.

    In a folder with very many files this is done now and then only, unless `always` is set.

    Returns:
        False if another process is writing `final`.
    """
    started, folder = time.monotonic(), final.parent
    if not always and started < _listed.get(folder, 0.0):
        return True
    prefix, free = prefix_of(final), True
    with os.scandir(folder) as entries:
        found = [entry.path for entry in entries if entry.name.startswith(prefix)]
    for path in found:
        with suppress(OSError):
            handle = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
            if lock(handle):
                os.unlink(path)
            else:
                free = False
            os.close(handle)
    now = time.monotonic()
    _listed[folder] = now + (now - started) / LISTING_SHARE if now - started > 0.01 else 0.0
    return free


def _copy_rights(source: Path, target: Path) -> None:
    """Give `target` the permissions of `source`, and its owner where that is allowed."""
    state = source.stat()
    with suppress(OSError, AttributeError):  # Windows has no owners
        os.chown(target, state.st_uid, state.st_gid)
    os.chmod(target, state.st_mode & 0o777)


@contextmanager
def atomic_path(path: AnyPath) -> Iterator[Path]:
    """Yield a temporary path; rename it to `path` if the block succeeds, remove it if it fails.

    Raises:
        OSError: the file cannot be written. `BlockingIOError` if another process is writing it.

    Example:
        >>> with atomic_path("numbers.txt") as temporary:
        ...     _ = temporary.write_text("1 2 3")
        >>> Path("numbers.txt").read_text()
        '1 2 3'
    """
    with AtomicFile(path) as file:
        yield file.path
        file.commit()


def write_bytes(path: AnyPath, data: bytes) -> None:
    """Write a file atomically. Raises `OSError`."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: AnyPath, text: str) -> None:
    """Write a UTF-8 text file atomically, with the line ends of `text`. Raises `OSError`."""
    write_bytes(path, text.encode("utf-8"))


def write_json_lines(path: AnyPath, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a JSON Lines file atomically, one row per line. Raises `OSError`.

    A row with file names that are not valid text has only ASCII characters.
    """
    write_text(path, "".join(_json_line(row) + "\n" for row in rows))


def _json_line(row: Mapping[str, Any]) -> str:
    line = json.dumps(row, ensure_ascii=False)
    return line if line.isascii() or not _SURROGATE.search(line) else json.dumps(row)


def publish(temporary: Path, path: Path) -> None:
    """Flush a complete file to disk and rename it to `path`, replacing any file of that name.

    Both must be in the same file system. Raises `OSError`; the temporary file then remains.
    """
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Flush a rename to disk, where the system can."""
    with suppress(OSError):  # Windows cannot open folders; some network file systems refuse
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def output_errors(path: AnyPath) -> Iterator[None]:
    """Raise an `OSError` in the block as an `OutputError` that says why `path` was not written."""
    try:
        yield
    except OSError as error:
        advice = (
            "free some space" if error.errno == errno.ENOSPC else "choose another name or folder"
        )
        raise OutputError(
            f"{os.fspath(path)} cannot be written ({error.strerror or error}); {advice}"
        ) from error


def lock(handle: int) -> bool:
    """Lock an open file until it is closed.

    Returns False if another process holds the lock, True if the file is locked now or its file
    system has no locks.
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
