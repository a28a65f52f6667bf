"""Chunks of WAV, RF64, W64, AIFF and CAF files: metadata and true lengths.

`copy` carries all chunks that are not audio (broadcast extension, iXML, XMP, cue points, loops,
markers, text) to another file of the same family, byte by byte and after the samples. libsndfile
knows few of them. Chunks of W64 files are not copied: libsndfile would read them as samples.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice, takewhile
from pathlib import Path
from typing import BinaryIO

from audioae.storage import COPY_BYTES

# Chunks that describe the samples (the writer has made its own) or are padding.
OWN = {
    "WAV": {
        *(b"fmt ", b"data", b"fact", b"PEAK", b"ds64", b"levl"),
        *(b"JUNK", b"junk", b"PAD ", b"FLLR", b"fllr"),
    },
    "AIFF": {b"COMM", b"SSND", b"FVER", b"PEAK"},
    "CAF": {b"desc", b"data", b"pakt", b"kuki", b"free", b"peak", b"ovvw"},
    "W64": {b"fmt ", b"data", b"fact", b"junk", b"levl"},
}
EXTENSIBLE = 0xFFFE  # format tag of a WAV with a loudspeaker mask
MOST_KEPT = 1000  # chunks of the file that was read last
MASK_OFFSET = 20  # of the mask in the fmt chunk, bytes
W64_TAIL = bytes.fromhex("f3acd3118cd100c04f8edb8a")  # end of the GUIDs of fmt, data and fact
WIDE = (b"RF64", b"BW64")  # with 64-bit sizes in a ds64 chunk
UNKNOWN_SIZES = range(0x7FFFF000, 0x80000001)  # sox and arecord write these to a pipe


@dataclass(frozen=True)
class Family:
    """How chunks are laid out in a file.

    Args:
        name: "WAV", "RF64", "AIFF", "CAF" or "W64".
        order: byte order, "<" or ">".
        start: offset of the first chunk, bytes.
        alignment: multiple of bytes that a chunk is padded to.
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
    """One chunk of a file.

    Args:
        offset: where its content begins, bytes.
        size: bytes of content, as its header declares.
        held: bytes of content that the file holds.
    """

    name: bytes
    offset: int
    size: int
    held: int


def family(file: BinaryIO) -> Family | None:
    """The layout of a file, from its first bytes; None if it has no chunks."""
    return _known_family(file) if getattr(file, "mode", "") == "rb" else _read_family(file)


@lru_cache(maxsize=1)
def _known_family(file: BinaryIO) -> Family | None:
    """`family` of a file that is only read, which is asked for it several times."""
    return _read_family(file)


def _read_family(file: BinaryIO) -> Family | None:
    file.seek(0)
    head = file.read(12)
    if head[:4] in (b"RIFF", b"RIFX", *WIDE) and head[8:] == b"WAVE":
        return Family(
            "RF64" if head[:4] in WIDE else "WAV",
            ">" if head[:4] == b"RIFX" else "<",
            12,
            2,
            b"data",
        )
    if head[:4] == b"FORM" and head[8:] in (b"AIFF", b"AIFC"):
        return Family("AIFF", ">", 12, 2, b"SSND")
    if head[:4] == b"caff":
        return Family("CAF", ">", 8, 1, b"data")
    if head[:4] == b"riff":
        return Family("W64", "<", 40, 8, b"data")
    return None


def chunks(file: BinaryIO, kind: Family) -> Iterable[Chunk]:
    """The chunks of a file in order, up to the end of the file."""
    end = file.seek(0, 2)
    known = _few_chunks(file, end) if getattr(file, "mode", "") == "rb" else None
    return _all_chunks(file, kind, end) if known is None else known


@lru_cache(maxsize=1)
def _few_chunks(file: BinaryIO, end: int) -> tuple[Chunk, ...] | None:
    """The chunks of a file that is only read, which is asked for them several times; None if it has
    too many to keep.
    """
    kind = family(file)
    found = tuple(islice(_all_chunks(file, kind, end), MOST_KEPT + 1)) if kind else ()
    return found if len(found) <= MOST_KEPT else None


def _all_chunks(file: BinaryIO, kind: Family, end: int) -> Iterator[Chunk]:
    at, wide = kind.start, 0
    while at + kind.head_bytes <= end:
        file.seek(at)
        name, size = _head(file.read(kind.head_bytes), kind)
        offset = at + kind.head_bytes
        if name == b"ds64" and kind.name == "RF64" and size >= 16:
            wide = struct.unpack("<8xQ", file.read(16))[0] if end - offset >= 16 else 0
        if name == b"data" and kind.name == "RF64" and size == 0xFFFFFFFF:
            size = wide
        # A CAF may say -1. Programs writing to a pipe leave 0 in other files.
        if size < 0 or size >= 2**63 or (name == kind.data and _is_open(file, kind, offset, size)):
            size = end - offset
        yield Chunk(name, offset, size, min(size, end - offset))
        at = (
            offset
            + size
            + -(size if kind.name != "W64" else size + kind.head_bytes) % kind.alignment
        )


def _head(head: bytes, kind: Family) -> tuple[bytes, int]:
    if kind.name == "W64":  # the size counts the header
        return (head[:4] if head[4:16] == W64_TAIL else head[:16]), max(
            int.from_bytes(head[16:], "little") - 24, 0
        )
    if kind.name == "CAF":
        return head[:4], struct.unpack(">q", head[4:])[0]
    return head[:4], struct.unpack(kind.order + "I", head[4:])[0]


def _is_open(file: BinaryIO, kind: Family, offset: int, size: int) -> bool:
    """Whether samples follow although the header declares none, because it was never finished."""
    empty = 8 if kind.name == "AIFF" else 0
    if size > empty or kind.name == "W64":
        return kind.name == "AIFF" and 0x7F000000 <= size > file.seek(0, 2) - offset
    at, end = offset + size, file.seek(0, 2)
    while at + kind.head_bytes <= end:  # are there only other chunks, up to the end?
        file.seek(at)
        name, length = _head(file.read(kind.head_bytes), kind)
        if not all(32 <= byte < 127 for byte in name):
            return True
        at += kind.head_bytes + length
        at += -at % kind.alignment
    return not end <= at <= end + 1


def size_unknown(size: int, kind: Family) -> bool:
    """Whether a size of the samples stands for "to the end of the file", as libsndfile knows."""
    return kind.name in ("WAV", "RF64") and (
        size in UNKNOWN_SIZES or 0xFFFFFF00 <= size <= 0xFFFFFFFF
    )


def w64_num_samples(file: BinaryIO, num_samples: int) -> int:
    """Samples per channel of an uncompressed W64.

    Args:
        file: the open file.
        num_samples: libsndfile's count, which includes chunks after the samples.
    """
    block = size = 0
    kind = family(file)
    for chunk in chunks(file, kind) if kind else ():
        if chunk.name == b"fmt " and chunk.held >= 14:
            file.seek(chunk.offset)
            block = struct.unpack("<12xH", file.read(14))[0]
        if chunk.name == b"data":
            size = chunk.size
    return min(num_samples, size // block) if block else num_samples


def aiff_num_samples(file: BinaryIO, num_samples: int) -> int:
    """Samples per channel of an uncompressed AIFF.

    Args:
        file: the open file.
        num_samples: libsndfile's count, which includes the padding byte.
    """
    kind = family(file)
    for chunk in chunks(file, kind) if kind and kind.name == "AIFF" else ():
        if chunk.name == b"COMM" and chunk.held >= 6:
            # 0 in a file that was written to a pipe
            return min(num_samples, _number(file, chunk.offset + 2) or num_samples)
    return num_samples


def wav_num_samples(file: BinaryIO, num_samples: int) -> int:
    """Samples per channel of a WAV whose codec pads the last block, from its fact chunk.

    The fact chunk is ignored unless it ends in the last block: some writers count differently.

    Args:
        file: the open file.
        num_samples: libsndfile's count, which includes the padding.
    """
    block, declared = 0, num_samples
    kind = family(file)
    for chunk in chunks(file, kind) if kind else ():
        file.seek(chunk.offset)
        if chunk.name == b"fmt " and chunk.held >= 20 and kind:
            block = struct.unpack(kind.order + "18xH", file.read(20))[0]
        if chunk.name == b"fact" and chunk.held >= 4 and kind:
            declared = struct.unpack(kind.order + "I", file.read(4))[0]
    return declared if 0 <= num_samples - declared < block else num_samples


def normalize(path: Path, num_samples: int) -> None:
    """Make the header of a new WAV or AIFF file exact and reproducible.

    Sets the number of samples and clears the time stamp of the PEAK chunk.
    """
    with path.open("r+b") as file:
        kind = family(file)
        if kind is None or kind.name not in ("WAV", "AIFF"):
            return
        found = {chunk.name: chunk for chunk in chunks(file, kind)}
        if b"PEAK" in found:
            _put(file, found[b"PEAK"].offset + 4, bytes(4))
        if b"fact" in found:
            _put(file, found[b"fact"].offset, struct.pack(kind.order + "I", num_samples))
        # libsndfile counts the padding byte as a sample.
        if kind.name == "AIFF" and _number(file, found[b"COMM"].offset + 2) == num_samples + 1:
            _put(file, found[b"COMM"].offset + 2, struct.pack(">I", num_samples))
            _put(file, found[b"SSND"].offset - 4, struct.pack(">I", 8 + num_samples))


def extras(path: Path) -> list[str]:
    """Names of the metadata that only this family of containers can hold."""
    with path.open("rb") as file:
        kind = family(file)
        return (
            [_label(file, chunk) for chunk in _extras(file, kind) if not _is_text(file, chunk)]
            if kind
            else []
        )


def unread_bytes(file: BinaryIO) -> int:
    """Bytes at the end of a file that are no chunks, and not only zeros: samples perhaps, if the
    header is older than they are.
    """
    kind = family(file)
    for chunk in chunks(file, kind) if kind else ():
        if not _has_name(chunk):
            file.seek(at := chunk.offset - (kind.head_bytes if kind else 0))
            return file.seek(0, 2) - at if any(file.read(COPY_BYTES)) else 0
    return 0


def _has_name(chunk: Chunk) -> bool:
    """Whether the name of a chunk can be one: four ASCII characters, or the GUID of a W64."""
    return len(chunk.name) != 4 or all(32 <= byte < 127 for byte in chunk.name)


def extra_bytes(file: BinaryIO) -> int:
    """Upper bound of the bytes that `copy` would add."""
    kind = family(file)
    return sum(chunk.held + 32 for chunk in _extras(file, kind)) if kind else 0


def copy(source: Path, target: Path) -> list[str]:
    """Append the metadata chunks of `source` to `target`.

    Returns:
        Names of the chunks that were not copied: they are cut short, or the family or byte order of
        the files differs.
    """
    lost = []
    with source.open("rb") as old, target.open("r+b") as new:
        kind, into = family(old), family(new)
        if (
            kind is None
            or into is None
            or kind.order != into.order
            or _group(kind) != _group(into)
            or kind.name == "W64"
        ):
            return extras(source)
        present = {chunk.name for chunk in chunks(new, into)}
        # Texts first: libsndfile stops reading an RF64 at the first chunk of odd length.
        for chunk in sorted(_extras(old, kind), key=lambda chunk: not _is_text(old, chunk)):
            if chunk.held < chunk.size:
                lost.append(_label(old, chunk))
            elif chunk.name not in present:
                _append(old, new, chunk, into)
        _copy_mask(old, new, kind, into)
        _close(new, into)
    return lost


def _number(file: BinaryIO, at: int) -> int:
    """The 32-bit big-endian number at a position of a file."""
    file.seek(at)
    return int.from_bytes(file.read(4), "big")


def _put(file: BinaryIO, at: int, data: bytes) -> None:
    file.seek(at)
    file.write(data)


def _extras(file: BinaryIO, kind: Family) -> list[Chunk]:
    named = takewhile(_has_name, chunks(file, kind))
    return [chunk for chunk in named if chunk.name not in OWN[_group(kind)]]


def _group(kind: Family) -> str:
    return "WAV" if kind.name == "RF64" else kind.name


def _is_text(file: BinaryIO, chunk: Chunk) -> bool:
    """Whether libsndfile reads the chunk as title, artist and so on."""
    return (
        chunk.name in (b"NAME", b"AUTH", b"(c) ", b"ANNO", b"info")
        or _label(file, chunk) == "LIST INFO"
    )


def _label(file: BinaryIO, chunk: Chunk) -> str:
    name = chunk.name.decode("latin-1").strip() if len(chunk.name) == 4 else chunk.name.hex()
    if chunk.name != b"LIST":
        return name
    file.seek(chunk.offset)
    return f"{name} {file.read(4).decode('latin-1')}"


def _append(old: BinaryIO, new: BinaryIO, chunk: Chunk, kind: Family) -> None:
    """Copy a chunk with its header to the end of `new`."""
    end = new.seek(0, 2)
    new.write(bytes(-end % kind.alignment))
    old.seek(chunk.offset - kind.head_bytes)
    left = kind.head_bytes + chunk.size
    while left:
        piece = old.read(min(left, COPY_BYTES))
        new.write(piece)
        left -= len(piece)


def _copy_mask(old: BinaryIO, new: BinaryIO, kind: Family, into: Family) -> None:
    """Copy the loudspeaker mask; libsndfile writes a default one."""
    source, target = mask_offset(old, kind), mask_offset(new, into)
    if source is None or target is None:
        return
    old.seek(source)
    new.seek(target)
    new.write(old.read(4))


def mask_offset(file: BinaryIO, kind: Family) -> int | None:
    """Where the loudspeaker mask of a WAV or RF64 file is; None if it has none."""
    for chunk in chunks(file, kind) if _group(kind) == "WAV" else ():
        if chunk.name == b"fmt " and chunk.held >= MASK_OFFSET + 4:
            file.seek(chunk.offset)
            tag = struct.unpack(kind.order + "H", file.read(2))[0]
            return chunk.offset + MASK_OFFSET if tag == EXTENSIBLE else None
    return None


def _close(file: BinaryIO, kind: Family) -> None:
    """Pad the file and write its new length into its first header."""
    size = file.seek(0, 2)
    file.write(bytes(-size % kind.alignment))
    size += -size % kind.alignment
    if kind.name in ("WAV", "AIFF"):
        file.seek(4)
        file.write(struct.pack(kind.order + "I", size - 8))
    elif kind.name == "RF64":
        file.seek(20)  # RF64, size, WAVE, ds64, its size
        file.write(struct.pack("<Q", size - 8))
