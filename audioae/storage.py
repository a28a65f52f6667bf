"""Write files atomically, lock them, and read JSON into dataclasses.

Every file that audioae writes goes through `AtomicFile`: the data are written to a temporary file
in the target folder, flushed to disk and renamed. A reader sees the earlier file or the complete
new one, also after a crash, a full disk or a power cut.

`write_bytes`, `write_text` and `write_json_lines` write the whole content at once, `atomic_path` is
for code that writes the file itself, and `publish` is the last step alone, for downloads.
`PrivateFolder` is a temporary folder that does not outlive its process for long.
`output_errors` turns an `OSError` into an `OutputError` that names the file.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

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
OWNER = "owner"  # the file that the process of a private folder holds locked
STARTING_SECONDS = 60.0  # that a new private folder may be without it
REMOVALS = 20  # attempts, while a worker process that is ending still writes


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


def is_text(path: AnyPath) -> bool:
    """Whether a path is valid text. File names may have bytes that are not UTF-8, which Python
    stands in for, and which many libraries refuse.

    Example:
        >>> is_text("voice.wav"), is_text(os.fsdecode(b"voice-\\xff.wav"))
        (True, False)
    """
    return not _SURROGATE.search(os.fspath(path))


class PrivateFolder:
    """A temporary folder for this user only, removed on exit.

    What killed processes left is removed when the next folder with the same prefix is made.

    Args:
        prefix: start of its name.
        parent: where to create it; None is the folder for temporary files of the system.

    Attributes:
        path: the folder. It holds the file `OWNER`.

    Raises:
        OSError: it cannot be created.

    Example:
        >>> with PrivateFolder("example-", ".") as folder:
        ...     folder.path.is_dir()
        True
        >>> folder.path.exists()
        False
    """

    def __init__(self, prefix: str, parent: AnyPath | None = None) -> None:
        place = Path(parent or tempfile.gettempdir())
        with suppress(PermissionError):  # a folder that cannot be listed
            remove_abandoned(prefix, place)
        self.path, self._handle = _owned_folder(prefix, place)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for entry in list(self.path.iterdir()) if self.path.is_dir() else []:
            if entry.name != OWNER:
                remove_tree(entry)
        os.close(self._handle)  # an open file cannot be removed on Windows
        remove_tree(self.path)


def _owned_folder(prefix: str, parent: Path) -> tuple[Path, int]:
    """A new folder and the handle of the locked file in it."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))  # for this user only
        handle = os.open(path / OWNER, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        if lock(handle):
            return path, handle
        os.close(handle)  # a process that starts at this moment has locked it to remove the folder


def remove_abandoned(prefix: str, parent: Path) -> None:
    """Remove the private folders of processes that are no longer running. Raises `OSError`."""
    with os.scandir(parent) as entries:
        found = [
            Path(entry.path)
            for entry in entries
            if entry.name.startswith(prefix) and entry.is_dir(follow_symlinks=False)
        ]
    for folder in found:
        with suppress(OSError):
            if _is_abandoned(folder):
                remove_tree(folder)


def _is_abandoned(folder: Path) -> bool:
    """Whether the owner of a folder has died. Raises `OSError`."""
    state = folder.lstat()
    if hasattr(os, "getuid") and state.st_uid != os.getuid():
        return False
    try:
        handle = os.open(folder / OWNER, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    except FileNotFoundError:
        return time.time() - state.st_mtime > STARTING_SECONDS
    try:
        if not lock(handle):
            return False
    finally:
        if os.name == "nt":  # no locks there, but a file that is open cannot be removed
            os.close(handle)
    os.unlink(folder / OWNER)
    if os.name != "nt":
        os.close(handle)
    return True


def remove_tree(path: Path) -> None:
    """Remove a file or folder, also while a process that is ending still writes into it."""
    for _ in range(REMOVALS):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink(missing_ok=True)
        if not os.path.lexists(path):
            return
        time.sleep(0.05)
