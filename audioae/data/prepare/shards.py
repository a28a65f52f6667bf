"""Shards and their journal. After an interruption, every shard on disk is either complete and
reused, or removed.

A shard is written under a temporary name and renamed when it is complete. Then a journal page is
written in the same way, with the files in the shard and those left out. A shard without a page, or
with another size than in its page, is removed.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from audioae.data.sources import Dropped, Entry, Role
from audioae.errors import OutputError
from audioae.storage import AtomicFile, write_text

SHARDS, JOURNAL = "shards", "journal"


@dataclass(frozen=True)
class Kept:
    """Position of an entry's samples in the shard of its page."""

    path: str
    offset: int
    samples: int
    gain_db: float


@dataclass
class Page:
    """Consecutive entries of one role, in order, each kept in this shard or dropped."""

    role: Role
    number: int
    samples: int = 0
    sha256: str = ""
    kept: list[Kept] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)

    @property
    def shard(self) -> str:
        """The shard's name in the data folder."""
        return f"{SHARDS}/{self.role}-{self.number:05}.i16"

    @property
    def num_entries(self) -> int:
        return len(self.kept) + len(self.dropped)

    def journal_path(self, folder: Path) -> Path:
        return folder / JOURNAL / f"{self.role}-{self.number:05}.json"

    def is_whole(self, folder: Path) -> bool:
        """Whether the shard exists with the size in the page. A page without kept files has no
        shard.
        """
        shard = folder / self.shard
        return not self.samples or (shard.is_file() and shard.stat().st_size == 2 * self.samples)


class ShardWriter:
    """Writes one shard, as a context manager: without an error shard and page are renamed into
    place, with one both are removed.
    """

    def __init__(self, folder: Path, role: Role, number: int) -> None:
        self.folder, self.page = folder, Page(role, number)
        self._hash = hashlib.sha256()

    def __enter__(self) -> ShardWriter:
        self._shard = AtomicFile(self.folder / self.page.shard)
        self._file = self._shard.path.open("wb")
        return self

    def add(self, entry: Entry, samples: npt.NDArray[np.int16], gain_db: float) -> None:
        """Append little-endian int16 `[samples]`."""
        data = samples.astype("<i2", copy=False).tobytes()
        self._file.write(data)
        self._hash.update(data)
        self.page.kept.append(Kept(entry.path, self.page.samples, len(samples), gain_db))
        self.page.samples += len(samples)

    def drop(self, entry: Entry, reason: str) -> None:
        self.page.dropped.append(Dropped(entry.role, entry.path, reason))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._shard:
            self._file.close()
            if kind is None:
                self._commit()

    def _commit(self) -> None:
        if self.page.samples:
            self.page.sha256 = self._hash.hexdigest()
            self._shard.commit()
        write_text(
            self.page.journal_path(self.folder), json.dumps(dataclasses.asdict(self.page)) + "\n"
        )


def trusted_pages(folder: Path, role: Role) -> list[Page]:
    """The pages of a role up to the first that is missing or whose shard is incomplete. Later ones
    are removed.
    """
    pages: list[Page] = []
    while (page := _read_page(folder, role, len(pages))) and page.is_whole(folder):
        pages.append(page)
    names = {page.shard for page in pages}
    for shard in (folder / SHARDS).glob(f"{role}-*"):
        if f"{SHARDS}/{shard.name}" not in names:
            shard.unlink()
    good = {page.journal_path(folder) for page in pages}
    for stale in set((folder / JOURNAL).glob(f"{role}-*")) - good:
        stale.unlink()
    return pages


def output_error(error: OSError, folder: Path) -> OutputError:
    """The error for a failed write."""
    advice = (
        "free some space and run it again, it goes on where it stopped"
        if error.errno == errno.ENOSPC
        else "check the folder"
    )
    return OutputError(f"cannot write to {folder}: {error.strerror or error}; {advice}")


def _read_page(folder: Path, role: Role, number: int) -> Page | None:
    try:
        values: dict[str, Any] = json.loads(
            Page(role, number).journal_path(folder).read_text(encoding="utf-8")
        )
        values["kept"] = [Kept(**kept) for kept in values["kept"]]
        values["dropped"] = [Dropped(**dropped) for dropped in values["dropped"]]
        return Page(**values)
    except (OSError, ValueError, KeyError, TypeError):
        return None
