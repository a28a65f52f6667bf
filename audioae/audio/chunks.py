"""The chunks that WAV, RF64, AIFF, CAF and W64 files are made of: found without trusting any size, checked, copied.

A chunk is a name, a size and that many bytes. The files differ in byte order, in the width of the size and in how chunks are aligned.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

W64_TAIL = bytes.fromhex("f3acd3118cd100c04f8edb8a")  # of the GUIDs of fmt, data, fact; their first four bytes are the name
UNKNOWN_SIZES = range(0x7FFFF000, 0x80000001)  # what encoders that write to a pipe put where they do not know the size (sox, arecord)


@dataclass(frozen=True)
class Family:
    """How chunks are laid out in a file.

    Args:
        order: "<" or ">".
        start: byte where the first chunk begins; alignment: bytes that a chunk is padded to.
        data: name of the chunk with the samples.
    """

    name: str
    order: str
    start: int
    alignment: int
    data: bytes

    @property
    def head_bytes(self) -> int:
        """Bytes of a chunk's name and size."""
        return {"W64": 24, "CAF": 12}.get(self.name, 8)


@dataclass(frozen=True)
class Chunk:
    """One chunk: `offset` is where its content begins, `size` how many bytes its header promises, `held` how many there are."""

    name: bytes
    offset: int
    size: int
    held: int


def family(file: BinaryIO) -> Family | None:
    """What kind of chunks a file has, from its first bytes; None for files without."""
    file.seek(0)
    head = file.read(12)
    if head[:4] in (b"RIFF", b"RF64", b"RIFX") and head[8:] == b"WAVE":
        return Family("RF64" if head[:4] == b"RF64" else "WAV", ">" if head[:4] == b"RIFX" else "<", 12, 2, b"data")
    if head[:4] == b"FORM" and head[8:] in (b"AIFF", b"AIFC"):
        return Family("AIFF", ">", 12, 2, b"SSND")
    if head[:4] == b"caff":
        return Family("CAF", ">", 8, 1, b"data")
    if head[:4] == b"riff":
        return Family("W64", "<", 40, 8, b"data")
    return None


def chunks(file: BinaryIO, kind: Family) -> Iterator[Chunk]:
    """The chunks of a file in their order, as far as its bytes go."""
    end, at, wide = file.seek(0, 2), kind.start, 0
    while at + kind.head_bytes <= end:
        file.seek(at)
        name, size = _head(file.read(kind.head_bytes), kind)
        offset = at + kind.head_bytes
        if name == b"ds64" and kind.name == "RF64" and size >= 16:
            wide = struct.unpack("<8xQ", file.read(16))[0] if end - offset >= 16 else 0
        if name == b"data" and kind.name == "RF64" and size == 0xFFFFFFFF and wide:
            size = wide
        if size < 0:  # CAF: to the end
            size = end - offset
        yield Chunk(name, offset, size, min(size, end - offset))
        at = offset + size + -(size if kind.name != "W64" else size + kind.head_bytes) % kind.alignment


def _head(head: bytes, kind: Family) -> tuple[bytes, int]:
    if kind.name == "W64":  # the size counts the header
        return (head[:4] if head[4:16] == W64_TAIL else head[:16]), max(int.from_bytes(head[16:], "little") - 24, 0)
    if kind.name == "CAF":
        return head[:4], struct.unpack(">q", head[4:])[0]
    return head[:4], struct.unpack(kind.order + "I", head[4:])[0]


def flaw(path: Path) -> str | None:
    """What is wrong with the amount of samples in a file, in words; None if its header and its bytes agree.

    libsndfile takes what is there in silence; a recording that was cut short is to be known before it is cleaned.
    """
    with path.open("rb") as file:
        kind = family(file)
        if kind is None:
            return None
        data = next((chunk for chunk in chunks(file, kind) if chunk.name == kind.data), None)
        if data is None or _size_unknown(data.size, kind):
            return None
        end = file.seek(0, 2)
        if data.size > data.held:
            return f"its header promises {data.size} bytes of samples, the file holds {data.held}: it was cut short; copy it again"
        file.seek(4)
        outer = struct.unpack(kind.order + "I", file.read(4))[0] + 8
        rest = end - data.offset - data.size
        if kind.name == "WAV" and ((data.size == 0 < rest and outer < end) or rest > 2**32 - 2**16):
            return f"its header counts {data.size} bytes of samples, {rest} more follow: it was not closed well; repair its header first"
    return None


def _size_unknown(size: int, kind: Family) -> bool:
    return kind.name in ("WAV", "RF64") and (size in UNKNOWN_SIZES or 0xFFFFFF00 <= size <= 0xFFFFFFFF)
