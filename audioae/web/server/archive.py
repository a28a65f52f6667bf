"""ZIP archives that are made while they are sent."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

ZIP_BYTES = 2**18  # that are read at once


def zip_chunks(files: Sequence[tuple[str, Path]]) -> Iterator[bytes]:
    """The bytes of a ZIP archive, made while they are read; of two equal names one gets a number.

    Args:
        files: name in the archive and path of each file.
    """
    target = _Unseekable()
    taken: set[str] = set()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, path in files:
            entry = zipfile.ZipInfo(_free_name(name, taken), (1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            large = path.stat().st_size > 2**31 - 1
            with path.open("rb") as source, archive.open(entry, "w", force_zip64=large) as out:
                while block := source.read(ZIP_BYTES):
                    out.write(block)
                    yield target.take()
    yield target.take()


def _free_name(name: str, taken: set[str]) -> str:
    """`name`, or with a number before its suffix if it is taken; adds it to `taken`."""
    stem, dot, suffix = name.rpartition(".")
    chosen, number = name, 1
    while chosen.casefold() in taken:
        number += 1
        chosen = f"{stem} ({number}){dot}{suffix}"
    taken.add(chosen.casefold())
    return chosen


class _Unseekable:
    """A file that keeps what is written until it is taken."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""

    def take(self) -> bytes:
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data
