"""Bytes put into the middle of a file, in place and in constant memory."""

from __future__ import annotations

from typing import BinaryIO

PIECE = 2**20


def splice(file: BinaryIO, at: int, removed: int, inserted: bytes) -> None:
    """Replace the `removed` bytes from `at` on by `inserted`; what follows moves, and the file grows or shrinks."""
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
