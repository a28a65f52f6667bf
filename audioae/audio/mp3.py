"""Exact length and ID3 tags of MP3 files.

An MP3 stream has no length field. Most encoders store the number of MP3 frames in a first, silent
frame, the Xing header. Where it is missing or wrong, libsndfile estimates the length from the bit
rate of the first frame and stops too early or reads past the end. `scan` counts the MP3 frames, and
`CountedFile` presents the file with a correct Xing header.
"""

from __future__ import annotations

import io
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from audioae.storage import splice

# Layer III bit rates in kbit/s by index; True is MPEG 1, False is MPEG 2 and 2.5.
KBPS = {
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
RATES = (44100, 48000, 32000)  # Hz, MPEG 1; MPEG 2 has half, MPEG 2.5 a quarter of these
SAME = 0xFFFE0C00  # sync, version, layer and sample rate: equal in all headers of a stream
TOLERANCE = 0.01  # one MP3 frame more or less at the end is common and harmless


@dataclass(frozen=True)
class Stream:
    """An MP3 stream.

    Args:
        start: offset of the first MP3 frame with audio, bytes.
        end: end of the last complete MP3 frame, bytes.
        mp3_frames: number of complete MP3 frames with audio.
        declared_frames: the number in the Xing header; None without one.
        header: the first four bytes of an MP3 frame.
    """

    start: int
    end: int
    mp3_frames: int
    declared_frames: int | None
    header: int

    @property
    def samples_per_frame(self) -> int:
        """Samples per channel in an MP3 frame."""
        return 1152 if _is_mpeg1(self.header) else 576


class CountedFile(io.RawIOBase):
    """An MP3 file, read-only, behind a Xing header with the true number of MP3 frames."""

    def __init__(self, path: Path, stream: Stream) -> None:
        self._head = _xing_frame(stream)
        self._file = path.open("rb")
        self._skip = stream.start
        # Bytes after the last MP3 frame may confuse the decoder, so they are left out.
        self._length = len(self._head) + stream.end - stream.start
        self._at = 0

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to a byte position; the Xing header counts."""
        self._at = offset + {0: 0, 1: self._at, 2: self._length}[whence]
        return self._at

    def tell(self) -> int:
        """The byte position of the next read."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` with the next bytes and return their number."""
        size = max(min(len(buffer), self._length - self._at), 0)
        part = self._head[self._at : self._at + size]
        self._file.seek(self._skip + max(self._at - len(self._head), 0))
        part += self._file.read(size - len(part))
        buffer[: len(part)] = part
        self._at += len(part)
        return len(part)

    def close(self) -> None:
        """Close the MP3 file."""
        self._file.close()
        super().close()


def scan(path: Path) -> Stream | None:
    """Count the frames of an MP3 file.

    Returns None if there are no layer III frames, or if they have a free bit rate.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = _first(data)
        if at is None:
            return None
        header = _word(data, at)
        declared = _xing_count(data, at, header)
        if declared is not None:
            at += _length(header)
        count, end = _count(data, at, header)
        return Stream(at, end, count, declared, header)


def _count(data: mmap.mmap, at: int, header: int) -> tuple[int, int]:
    """Number of complete frames from offset `at` on, and where the last one ends."""
    count, last, end = 0, at, len(data)
    while at + 4 <= end:
        word = _word(data, at)
        length = _length(word) if word & SAME == header & SAME else 0
        if not length:
            at = _next(data, at + 1, header)
            continue
        at += length
        if at <= end:  # an incomplete frame cannot be decoded
            count, last = count + 1, at
    return count, last


def _first(data: mmap.mmap) -> int | None:
    """Offset of the first frame header that is followed by another one, after any ID3v2 tags."""
    at = 0
    while data[at : at + 3] == b"ID3" and len(data) >= at + 10:
        at += 10 + decode_syncsafe(data[at + 6 : at + 10]) + (10 if data[at + 5] & 0x10 else 0)
    limit = min(len(data) - 4, at + 2**16)
    while at <= limit:
        word = _word(data, at)
        length = _length(word)
        following = at + length
        if length and (following + 4 > len(data) or _word(data, following) & SAME == word & SAME):
            return at
        at = data.find(b"\xff", at + 1)
        if at < 0:
            break
    return None


def _next(data: mmap.mmap, at: int, header: int) -> int:
    """Offset of the next possible header of the same stream, or the end."""
    pattern = struct.pack(">I", header)[:2]
    found = data.find(pattern, at)
    return len(data) if found < 0 else found


def _xing_count(data: mmap.mmap, at: int, header: int) -> int | None:
    """Number of frames in the Xing header at offset `at`; None without one."""
    mono = header >> 6 & 3 == 3
    side = (17 if mono else 32) if _is_mpeg1(header) else (9 if mono else 17)
    tag = data[at + 4 + side : at + 4 + side + 12]
    if tag[:4] not in (b"Xing", b"Info") or len(tag) < 12 or not tag[7] & 1:
        return None
    return int.from_bytes(tag[8:], "big")


def _xing_frame(stream: Stream) -> bytes:
    """A silent frame of the same kind with a Xing header."""
    # No padding, no checksum, and a bit rate that makes the frame long enough for the header.
    header = stream.header & ~0xF200 | 0x10000 | 0x9000
    frame = bytearray(_length(header))
    frame[:4] = struct.pack(">I", header)
    mono = header >> 6 & 3 == 3
    at = 4 + ((17 if mono else 32) if _is_mpeg1(header) else (9 if mono else 17))
    frame[at : at + 12] = b"Xing" + struct.pack(">II", 1, stream.mp3_frames)
    return bytes(frame)


def _length(header: int) -> int:
    """Bytes of the layer III frame with this header; 0 if it is not a valid header."""
    if header >> 21 != 0x7FF or header >> 17 & 3 != 1 or header >> 19 & 3 == 1:
        return 0
    index, rate = header >> 12 & 15, header >> 10 & 3
    if index in (0, 15) or rate == 3:
        return 0
    first = _is_mpeg1(header)
    hertz = RATES[rate] // (1 if first else 4 if header >> 19 & 3 == 0 else 2)
    return (144 if first else 72) * KBPS[first][index] * 1000 // hertz + (header >> 9 & 1)


def _is_mpeg1(header: int) -> bool:
    return header >> 19 & 3 == 3


def _word(data: mmap.mmap, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "big")


ID3_FRAMES = {  # names of ID3v2 frames by tag
    "title": b"TIT2",
    "artist": b"TPE1",
    "album": b"TALB",
    "date": b"TDRC",
    "genre": b"TCON",
    "tracknumber": b"TRCK",
    "copyright": b"TCOP",
    "software": b"TSSE",
    "comment": b"COMM",
}
UTF8 = b"\x03"
V1_BYTES = 128


def copy_id3(source: Path, target: Path) -> list[str]:
    """Copy the ID3v2 tag (with pictures) and the ID3v1 tag of `source` to `target`.

    Returns:
        Names of the tags that were not copied.
    """
    with source.open("rb") as old, target.open("r+b") as new:
        _replace(new, old.read(_v2_bytes(old)), _v1(old))
        return ["APE tag"] if _has_ape(old) else []


def write_id3(target: Path, tags: dict[str, str]) -> None:
    """Write the tags as an ID3v2.4 tag, replacing an earlier one."""
    body = b"".join(
        _id3_frame(ID3_FRAMES[name], text) for name, text in tags.items() if name in ID3_FRAMES
    )
    tag = b"ID3\x04\x00\x00" + encode_syncsafe(len(body)) + body if body else b""
    with target.open("r+b") as new:
        _replace(new, tag, b"")


def id3_extras(path: Path) -> list[str]:
    """Names of the ID3v2 frames that `write_id3` cannot write."""
    with path.open("rb") as file:
        tag = file.read(_v2_bytes(file))
    found, at, wide = [], 10, len(tag) > 3 and tag[3] < 4
    while at + 10 <= len(tag) and tag[at] and tag[3:4] != b"\x02":  # ID3v2.2 has another layout
        field = tag[at + 4 : at + 8]
        size = int.from_bytes(field, "big") if wide else decode_syncsafe(field)
        found.append(tag[at : at + 4])
        at += 10 + size
    return [name.decode("latin-1") for name in found if name not in ID3_FRAMES.values()]


def _replace(new: BinaryIO, front: bytes, back: bytes) -> None:
    """Replace the ID3v2 tag at the beginning and the ID3v1 tag at the end."""
    splice(new, 0, _v2_bytes(new), front)
    end = new.seek(0, 2) - len(_v1(new))
    new.truncate(end)
    new.seek(end)
    new.write(back)


def _v2_bytes(file: BinaryIO) -> int:
    """Bytes of the ID3v2 tag at the beginning, 0 without one; rewinds the file."""
    file.seek(0)
    head = file.read(10)
    file.seek(0)
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    return 10 + decode_syncsafe(head[6:]) + (10 if head[5] & 0x10 else 0)


def _v1(file: BinaryIO) -> bytes:
    """The ID3v1 tag at the end, empty without one."""
    size = file.seek(0, 2)
    file.seek(max(size - V1_BYTES, 0))
    tail = file.read(V1_BYTES)
    return tail if tail[:3] == b"TAG" and len(tail) == V1_BYTES else b""


def _has_ape(file: BinaryIO) -> bool:
    size = file.seek(0, 2)
    file.seek(max(size - V1_BYTES - 32, 0))
    return b"APETAGEX" in file.read()


def _id3_frame(name: bytes, text: str) -> bytes:
    # A comment has a language and a description, which is empty here.
    start = UTF8 + b"eng\x00" if name == b"COMM" else UTF8
    content = start + text.encode("utf-8", "replace")
    return name + encode_syncsafe(len(content)) + b"\x00\x00" + content


def encode_syncsafe(size: int) -> bytes:
    """A size in an ID3 tag: 28 bits in four bytes, seven bits each."""
    return bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))


def decode_syncsafe(four: bytes) -> int:
    """The inverse of `encode_syncsafe`."""
    return sum((byte & 0x7F) << shift for byte, shift in zip(four, (21, 14, 7, 0), strict=True))
