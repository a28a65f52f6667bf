"""Recordings that are cut short, or go on after the end that their header tells.

libsndfile and FFmpeg read such files up to that end without an error. The texts continue a sentence
that starts with the name of the file.
"""

from __future__ import annotations

import mmap
import struct
from typing import BinaryIO

from audioae.audio import riff
from audioae.audio.content import after_id3

FLAC_START = b"fLaC\0\0\0\x22"  # a STREAMINFO of 34 bytes comes first
STARTS = (b"RIFF", b"RIFX", b"FORM", b"caff", b"riff", *riff.WIDE)
FORMS = (b"WAVE", b"AIFF", b"AIFC")
AU_ORDERS = {b".snd": ">", b"dns.": "<"}
# Bytes at the start of files for FFmpeg that all files of the same form begin with.
REPEATED = {b"FLV\x01": 9, b"TTA1": 14}
MOST_BOXES = 100_000  # of an MP4 file


def find_damage(file: BinaryIO) -> str | None:
    """Describe a mismatch between the header and the samples of a file for libsndfile; None if they
    agree.
    """
    if kind := riff.family(file):
        return _in_chunks(file, kind)
    file.seek(0)
    head = file.read(24)
    if order := AU_ORDERS.get(head[:4]):
        return _in_au(file, *struct.unpack(order + "II", head[4:12])) if len(head) == 24 else None
    return _repeated(file, after_id3(head), FLAC_START)


def _in_chunks(file: BinaryIO, kind: riff.Family) -> str | None:
    parts = [chunk for chunk in riff.chunks(file, kind) if chunk.name == kind.data]
    if not parts or riff.size_unknown(parts[0].size, kind):
        return None
    data, end = parts[0], file.seek(0, 2)
    if data.size > data.held:
        return _cut_short(data.size, data.held)
    after = data.offset + data.size
    file.seek(after + -after % kind.alignment)
    following = file.read(12)
    if following[:4] in STARTS and (following[8:] in FORMS or following[:4] in (b"caff", b"riff")):
        return _second(after)
    if len(parts) > 1:
        at = parts[1].offset - kind.head_bytes
        return f"holds a second part with samples, from byte {at} on; join both or cut it there"
    if kind.name == "WAV" and end - after > 2**32 - 2**16:
        return (
            f"was not closed properly: its header declares {data.size} bytes of samples, "
            f"{end - after} more follow; repair its header first"
        )
    return None


def _in_au(file: BinaryIO, start: int, size: int) -> str | None:
    end = file.seek(0, 2)
    if size == 0xFFFFFFFF:  # to the end
        return None
    if size > end - start:
        return _cut_short(size, max(end - start, 0))
    file.seek(start + size)
    return _second(start + size) if file.read(4) in AU_ORDERS else None


def _cut_short(declared: int, held: int) -> str:
    return (
        f"is cut short: its header declares {declared} bytes of samples, the file holds {held}; "
        "copy it again"
    )


def _second(at: int) -> str:
    return f"holds a second recording after the first one, from byte {at} on; cut it there"


def second_film(file: BinaryIO) -> str | None:
    """Describe a second file after the first one, of a kind of which FFmpeg reads the first only;
    None if there is none.
    """
    file.seek(0)
    head = file.read(16)
    if head[4:8] == b"ftyp":
        return _second_mp4(file)
    if length := REPEATED.get(head[:4]):
        return _repeated(file, 0, head[:length])
    return None


def _repeated(file: BinaryIO, start: int, mark: bytes) -> str | None:
    """Describe a second file if `mark` is at `start` and again later."""
    file.seek(start)
    if file.read(len(mark)) != mark:
        return None
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = data.find(mark, start + len(mark))
    return None if at < 0 else _second(at)


def _second_mp4(file: BinaryIO) -> str | None:
    """A second pair of the boxes `ftyp` and `moov`."""
    at, end, start, described = 0, file.seek(0, 2), 0, False
    for _ in range(MOST_BOXES):
        file.seek(at)
        head = file.read(16)
        if len(head) < 8:
            return None
        size, name = int.from_bytes(head[:4], "big"), head[4:8]
        size = int.from_bytes(head[8:], "big") if size == 1 else size
        if name == b"ftyp":
            start = at
        if name == b"moov" and described and start:
            return _second(start)
        described = described or name == b"moov"
        if not 8 <= size <= end - at:
            return None
        at += size
    return None
