"""Write files atomically, lock them, replace bytes inside them, and read JSON into dataclasses.

Every file that audioae writes goes through `AtomicFile`: the data are written to a temporary file
in the target folder, flushed to disk and renamed. A reader sees the earlier file or the complete
new one, also after a crash, a full disk or a power cut.

- `write_bytes`, `write_text`, `write_json_lines`: the whole content at once.
- `atomic_path`: the temporary path, for code that writes the file itself.
- `AtomicFile`: the same with explicit `commit` and `discard`, for writers that stay open.
- `publish`: the last step alone, for temporary files that survive an interruption (downloads).
- `output_errors`: turns an `OSError` into an `OutputError` that names the file.

`parse_json`, `build`, `check_types` and `check_settings` read JSON and settings that may be wrong:
types are checked as strictly as pydantic does, without the dependency.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
import json
import math
import numbers
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType, UnionType
from typing import Any, BinaryIO, Literal, TypeVar, get_args, get_origin, get_type_hints

from audioae.errors import OutputError, SettingsError

try:
    import fcntl
except ImportError:  # Windows has no advisory locks: two processes writing one file go unnoticed
    fcntl = None  # type: ignore[assignment]

AnyPath = str | os.PathLike[str]
Record = TypeVar("Record")

SUFFIX = ".part"  # of temporary files
COPY_BYTES = 2**20


def temporary_path(path: AnyPath) -> Path:
    """The name that a file has while it is written: `NAME.part`, beside the target of links."""
    final = Path(os.path.realpath(path))
    return final.with_name(final.name + SUFFIX)


class AtomicFile:
    """A file that is written under a temporary name and renamed when it is complete.

    The temporary file is created at once, so a folder without write permission is noticed before
    anything is computed. It is locked while it is written: a second process that writes the same
    file gets an error, and a temporary file that a killed process left behind is overwritten.

    Leaving the `with` block without `commit` removes the temporary file. A symbolic link at `path`
    stays a link; its target is replaced.

    Attributes:
        path: the temporary file. It exists; open it for writing.
        final: the name after `commit`.

    Raises:
        OSError: the file cannot be created. `BlockingIOError` if another process is writing it.
    """

    def __init__(self, path: AnyPath) -> None:
        self.path = temporary_path(path)
        self.final = self.path.with_name(self.path.name.removesuffix(SUFFIX))
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        self._lock: int | None = handle
        self._pending = True
        if os.name == "nt":  # an open file cannot be renamed there
            self._unlock()
        elif not (lock(handle) and _has_name(handle, self.path)):
            self._unlock()
            raise BlockingIOError(
                errno.EWOULDBLOCK, "another process is writing it", os.fspath(path)
            )

    def commit(self) -> None:
        """Flush the file to disk and give it its final name."""
        publish(self.path, self.final)
        self._pending = False
        self._unlock()

    def discard(self) -> None:
        """Remove the temporary file. Does nothing after `commit` or `discard`."""
        if self._pending:
            self._pending = False
            self.path.unlink(missing_ok=True)
            self._unlock()

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
    """Write a JSON Lines file atomically, one row per line. Raises `OSError`."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


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


def _has_name(handle: int, path: Path) -> bool:
    """Whether an open file still has this name, and was not just renamed by another process."""
    try:
        return os.fstat(handle).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False


def splice(file: BinaryIO, at: int, removed: int, inserted: bytes) -> None:
    """Replace `removed` bytes at position `at` by `inserted`, in place and in constant memory.

    The rest of the file moves; the file grows or shrinks.

    Example:
        >>> import io
        >>> file = io.BytesIO(b"one two three")
        >>> splice(file, 4, 3, b"2")
        >>> file.getvalue()
        b'one 2 three'
    """
    end, shift = file.seek(0, 2), len(inserted) - removed
    starts = range(at + removed, end, COPY_BYTES)
    if shift > 0:  # from the end, so that nothing is overwritten before it is moved
        starts = starts[::-1]
    for start in starts if shift else ():
        file.seek(start)
        block = file.read(min(COPY_BYTES, end - start))
        file.seek(start + shift)
        file.write(block)
    file.seek(at)
    file.write(inserted)
    file.truncate(end + shift)


def parse_json(text: str | bytes) -> Any:
    """Parse JSON. Raises `ValueError` for all damage, nesting that is too deep included."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("its lists or objects are nested too deeply") from None


def build(record: type[Record], values: Any, name: str = "") -> Record:
    """Build a dataclass from JSON values. Keys that are no fields are ignored: a newer version of
    audioae may have written them.

    Args:
        record: the dataclass.
        values: a JSON object, not trusted.
        name: name of the object, for error messages; empty for that of the class.

    Raises:
        ValueError: it is no object, or a field is missing or has a wrong type. The dataclass itself
            raises errors for values that are out of range.

    Example:
        >>> from audioae.signal.spectrogram import StftSettings
        >>> build(StftSettings, {"sample_rate": "16000"})
        Traceback (most recent call last):
        ValueError: StftSettings.sample_rate is '16000'; expected an integer
    """
    name = name or record.__name__
    if not isinstance(values, Mapping):
        raise ValueError(f"{name} is {_short(values)}; expected an object")
    fields = dataclasses.fields(record)  # type: ignore[arg-type]
    required = [
        field.name
        for field in fields
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    missing = [each for each in required if each not in values]
    if missing:
        raise ValueError(f"{name} lacks {', '.join(missing)}")
    hints = _hints(record)
    return record(
        **{
            field.name: _typed(hints[field.name], values[field.name], f"{name}.{field.name}")
            for field in fields
            if field.name in values
        }
    )


def check_types(record: Any) -> None:
    """Check the types of the fields of a frozen dataclass, for its `__post_init__`.

    NumPy numbers become numbers of Python, and lists become tuples where the field is a tuple.

    Raises:
        ValueError: a field has a wrong type, or is a number that is NaN or infinite.
    """
    for name, hint in _hints(type(record)).items():
        value = getattr(record, name)
        checked = _typed(hint, value, f"{type(record).__name__}.{name}")
        if checked is not value:
            object.__setattr__(record, name, checked)


def check_settings(record: Any, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Check the types and ranges of a settings class, for its `__post_init__`.

    Args:
        record: the settings.
        ranges: the lowest and the highest value by name of field; of each value for a tuple.

    Raises:
        SettingsError: a field has a wrong type, is NaN or infinite, or is out of range.
    """
    try:
        check_types(record)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    for name, (lowest, highest) in ranges.items():
        value = getattr(record, name)
        values = value if isinstance(value, tuple) else (value,)
        if not all(lowest <= each <= highest for each in values):
            raise SettingsError(
                f"{type(record).__name__}.{name} is {_short(value)}; expected {lowest:,} to "
                f"{highest:,}"
            )


@functools.cache
def _hints(record: type) -> dict[str, Any]:
    return get_type_hints(record)


def _typed(hint: Any, value: Any, name: str) -> Any:
    """A value as the type of a field; `ValueError` if it has another type."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin is Literal:
        if isinstance(value, str) and value in arguments:
            return value
        raise _wrong(name, value, f"one of {', '.join(map(repr, arguments))}")
    if origin is UnionType:  # X | None
        return None if value is None else _typed(arguments[0], value, name)
    if origin is tuple and isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        if arguments[-1] is Ellipsis:
            return tuple(_typed(arguments[0], each, name) for each in value)
        if len(value) == len(arguments):
            return tuple(map(_typed, arguments, value, [name] * len(value)))
        raise _wrong(name, value, f"{len(arguments)} values")
    if origin is dict and isinstance(value, Mapping):
        for key in value:
            _typed(arguments[0], key, f"a key of {name}")
        return {key: _typed(arguments[1], each, f"{name}.{key}") for key, each in value.items()}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return value if isinstance(value, hint) else build(hint, value, name)
    if hint in (str, bool) and isinstance(value, hint):
        return value
    if not isinstance(value, bool):
        if hint is int and isinstance(value, numbers.Integral):
            return int(value)
        if hint is float and isinstance(value, numbers.Real):
            with suppress(OverflowError):
                if math.isfinite(number := float(value)):
                    return number
    raise _wrong(name, value, _EXPECTED.get(origin or hint, "another type"))


_EXPECTED: dict[Any, str] = {
    str: "a string",
    bool: "true or false",
    int: "an integer",
    float: "a finite number",
    tuple: "a list",
    dict: "an object",
}


def _wrong(name: str, value: Any, expected: str) -> ValueError:
    return ValueError(f"{name} is {_short(value)}; expected {expected}")


def _short(value: Any) -> str:
    """A value for an error message, in one line of at most 60 characters."""
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        nested = len(value) > 8 or any(isinstance(each, (Mapping, list, tuple)) for each in value)
        return "a list" if nested else f"[{', '.join(map(_short, value))}]"
    if isinstance(value, int) and abs(value) >= 10**20:  # Python refuses to print huge ones
        return "a huge integer"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
