"""The ledger of an output folder: which outputs were started and which are complete, so that a
batch that was interrupted or killed can be resumed.

It is a JSON Lines file. One line is written before a file is started and one when it has ended. An
output whose last line says "begun" was being written when the run died, and is made again.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from audioae.errors import OutputError
from audioae.storage import lock

NAME = ".audioae-ledger.jsonl"
State = Literal["new", "begun", "done"]


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """The last line about an output. There may be very many, so it is small.

    Args:
        state: "begun", "done" or "failed".
        path: the absolute path of the input.
        source: size and time of the input, see `stamp`.
        is_current: whether its recipe is that of this batch.
        output: size and time of the complete output.
    """

    state: str
    path: str
    source: tuple[int | None, int | None]
    is_current: bool
    output: tuple[int | None, int | None] | None = None


class Ledger:
    """The ledger of an output folder. Writing needs a `with` block, which locks the ledger.

    Args:
        folder: the output folder.
        recipe: a digest of everything except the inputs that decides on the outputs, see
            `BatchSettings.recipe`.

    Raises:
        OutputError: it cannot be read; on entering, it cannot be written or another run has it.
    """

    def __init__(self, folder: Path, recipe: str) -> None:
        self.folder, self.path, self.recipe = folder, folder / NAME, recipe
        self._entries: dict[str, LedgerEntry] = {}
        self._begun: dict[str, dict[str, Any]] = {}  # inputs of the files that were started
        self._file: int | None = None
        self._torn = False  # whether the last line lacks its line end
        self._load()

    def state(self, src: Path, dst: Path) -> State:
        """The state of `dst`: "done" if it was made from `src` as it is now, "begun" if a run was
        killed while writing it, "new" otherwise.
        """
        entry = self._entries.get(self._key(dst)) if self._entries else None
        if entry is None or entry.path != os.path.abspath(src):
            return "new"
        if entry.state == "begun":
            return "begun"
        same = entry.state == "done" and entry.is_current and entry.source == _numbers(stamp(src))
        return "done" if same and entry.output == _numbers(stamp(dst)) else "new"

    def begin(self, src: Path, dst: Path) -> None:
        """Record that `dst` is going to be written; on the disk before this returns."""
        self._begun[self._key(dst)] = identity(src)
        self._append(
            {
                "state": "begun",
                "source": self._begun[self._key(dst)],
                "dst": self._key(dst),
                "recipe": self.recipe,
            },
            sync=True,
        )

    def end(self, src: Path, dst: Path, *, error: str | None = None) -> None:
        """Record that `dst` is complete, or the error that it failed with."""
        how = (
            {"state": "failed", "error": error}
            if error
            else {"state": "done", "output": stamp(dst)}
        )
        with suppress(OutputError) if error else nullcontext():  # the file's own error matters more
            # As it was when it was started: it may have changed since.
            source = self._begun.pop(self._key(dst), None) or identity(src)
            self._append({**how, "source": source, "dst": self._key(dst), "recipe": self.recipe})

    def __enter__(self) -> Ledger:
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        except OSError as error:
            raise OutputError(
                f"{self.path} cannot be written ({error.strerror}); choose a folder that can"
            ) from error
        if not lock(self._file):
            self._close()
            raise OutputError(
                f"another run is writing into {self.folder}; wait for it or choose another folder"
            )
        self._entries.clear()
        self._load()  # another run may have written until it was locked
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        empty = self._file is not None and os.fstat(self._file).st_size == 0
        self._close()
        if empty:
            self.path.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _key(self, dst: Path) -> str:
        path, start = os.fspath(dst), os.path.join(self.folder, "")
        inside = path.startswith(start)  # as `name_jobs` makes them; the rest is slower
        relative = path[len(start) :] if inside else os.path.relpath(dst, self.folder)
        return Path(relative).as_posix() if os.sep != "/" else relative

    def _append(self, row: dict[str, Any], *, sync: bool = False) -> None:
        if self._file is None:
            raise OutputError(f"{self.path} is not open; write inside its with block")
        line = json.dumps(row, ensure_ascii=True).encode() + b"\n"
        line = b"\n" + line if self._torn else line
        try:
            self._torn = os.write(self._file, line) < len(line)
            if sync:
                os.fsync(self._file)
        except OSError as error:
            raise OutputError(
                f"{self.path} cannot be written ({error.strerror}); is its disk full?"
            ) from error

    def _load(self) -> None:
        line = b"\n"
        try:
            with self.path.open("rb") as file:
                for line in file:
                    self._add(line)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise OutputError(
                f"{self.path} cannot be read ({error.strerror}); choose another folder"
            ) from error
        self._torn = not line.endswith(b"\n")

    def _add(self, line: bytes) -> None:
        with suppress(ValueError, KeyError, TypeError, AttributeError):  # cut off by a kill
            row = json.loads(line)
            source, output = row["source"], row.get("output")
            self._entries[row["dst"]] = LedgerEntry(
                sys.intern(row["state"]),
                source["path"],
                _numbers(source),
                row["recipe"] == self.recipe,
                None if output is None else _numbers(output),
            )


def identity(path: Path) -> dict[str, Any]:
    """The absolute path, size and modification time of an input."""
    return {"path": os.path.abspath(path), **stamp(path)}


def _numbers(stamp: dict[str, Any]) -> tuple[int | None, int | None]:
    return stamp["size"], stamp["mtime_ns"]


def stamp(path: Path) -> dict[str, int | None]:
    """The size and modification time of a file; they stay the same if its folder is moved."""
    try:
        state = path.stat()
    except OSError:
        return {"size": None, "mtime_ns": None}
    return {"size": state.st_size, "mtime_ns": state.st_mtime_ns}
