"""How long an MP3 file really is, and a file object that says so.

An MP3 stream has no length. Most encoders count their frames in a first, silent one (the Xing
header). Where it is missing or wrong, libsndfile guesses from the first frame's bit rate, and then
cuts the file or runs beyond it. So the frames are counted here, and a header with the count is put
in front.
"""

from __future__ import annotations

import io
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from audioae.storage import splice

# kbit/s of layer III by index, for MPEG 1 and for MPEG 2 and 2.5; Hz of MPEG 1 by index (the others
# have a half and a quarter)
KBPS = {
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
RATES = (44100, 48000, 32000)
SAME = 0xFFFE0C00  # sync, version, layer and sample rate: alike in all frames of a stream
TOLERANCE = 0.01  # a last frame more or less is common and harmless


@dataclass(frozen=True)
class Stream:
    """An MP3 stream.

    Args:
        start, end: bytes where its first frame with sound begins and where its last one ends.
        frames: how many there are; promised: how many its Xing header counts, None without one.
        header: the first four bytes of a frame.
    """

    start: int
    end: int
    frames: int
    promised: int | None
    header: int

    @property
    def samples_per_frame(self) -> int:
        """Samples per channel and frame."""
        return 1152 if _is_mpeg1(self.header) else 576


class Counted(io.RawIOBase):
    """An MP3 file, read-only, with a Xing header in front that counts its frames."""

    def __init__(self, path: Path, stream: Stream) -> None:
        self._head = _xing_frame(stream)
        self._file = path.open("rb")
        self._skip = stream.start
        self._length = (
            len(self._head) + stream.end - stream.start
        )  # what follows may confuse the decoder
        self._at = 0

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to a byte of the whole, header included."""
        self._at = offset + {0: 0, 1: self._at, 2: self._length}[whence]
        return self._at

    def tell(self) -> int:
        """Where the next read begins."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` with the next bytes; how many there were."""
        size = max(min(len(buffer), self._length - self._at), 0)
        part = self._head[self._at : self._at + size]
        self._file.seek(self._skip + max(self._at - len(self._head), 0))
        part += self._file.read(size - len(part))
        buffer[: len(part)] = part
        self._at += len(part)
        return len(part)

    def close(self) -> None:
        """Close the file underneath."""
        self._file.close()
        super().close()


def scan(path: Path) -> Stream | None:
    """Count the frames of an MP3 file; None where it is none that can be counted (free format,
    layers I and II).
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = _first(data)
        if at is None:
            return None
        header = _word(data, at)
        promised = _promised(data, at, header)
        if promised is not None:
            at += _length(header)
        frames, last = _count(data, at, header)
        return Stream(at, last, frames, promised, header)


def _count(data: mmap.mmap, at: int, header: int) -> tuple[int, int]:
    """The whole frames from `at` on, and where the last one ends."""
    frames, last, end = 0, at, len(data)
    while at + 4 <= end:
        word = _word(data, at)
        length = _length(word) if word & SAME == header & SAME else 0
        if not length:
            at = _next(data, at + 1, header)
            continue
        at += length
        if at <= end:  # a frame that was cut is not decoded
            frames, last = frames + 1, at
    return frames, last


def _first(data: mmap.mmap) -> int | None:
    """The first header that another frame follows; tags at the beginning are jumped over."""
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
    """The next place that could be a header of the same stream, or the end."""
    pattern = struct.pack(">I", header)[:2]
    found = data.find(pattern, at)
    return len(data) if found < 0 else found


def _promised(data: mmap.mmap, at: int, header: int) -> int | None:
    mono = header >> 6 & 3 == 3
    side = (17 if mono else 32) if _is_mpeg1(header) else (9 if mono else 17)
    tag = data[at + 4 + side : at + 4 + side + 12]
    if tag[:4] not in (b"Xing", b"Info") or len(tag) < 12 or not tag[7] & 1:
        return None
    frames: int = struct.unpack(">I", tag[8:])[0]
    return frames


def _xing_frame(stream: Stream) -> bytes:
    """A silent frame of the same kind that carries the count; its bit rate only makes it long
    enough for that.
    """
    header = stream.header & ~0xF200 | 0x10000 | 0x9000  # no padding, no check sum, ninth bit rate
    frame = bytearray(_length(header))
    frame[:4] = struct.pack(">I", header)
    mono = header >> 6 & 3 == 3
    at = 4 + ((17 if mono else 32) if _is_mpeg1(header) else (9 if mono else 17))
    frame[at : at + 12] = b"Xing" + struct.pack(">II", 1, stream.frames)
    return bytes(frame)


def _length(header: int) -> int:
    """Bytes of the layer III frame with this header; 0 if it is no header."""
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


FRAMES = {
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
    """Give `target` the tags of `source`: the ID3v2 before the sound, pictures and all, and the
    ID3v1 behind it.
    """
    with source.open("rb") as old, target.open("r+b") as new:
        _replace(new, old.read(_v2_bytes(old)), _v1(old))
        return ["APE tag"] if _has_ape(old) else []


def write_id3(target: Path, tags: dict[str, str]) -> None:
    """Give `target` an ID3v2.4 tag with these texts."""
    body = b"".join(_frame(FRAMES[name], text) for name, text in tags.items() if name in FRAMES)
    with target.open("r+b") as new:
        _replace(new, b"ID3\x04\x00\x00" + encode_syncsafe(len(body)) + body if body else b"", b"")


def id3_frames(path: Path) -> list[str]:
    """Names of the frames in the ID3v2 tag that `write` could not make."""
    with path.open("rb") as file:
        tag = file.read(_v2_bytes(file))
    found, at, wide = [], 10, len(tag) > 3 and tag[3] < 4
    while at + 10 <= len(tag) and tag[at] and tag[3:4] != b"\x02":  # version 2.2 has shorter frames
        size = (
            int.from_bytes(tag[at + 4 : at + 8], "big")
            if wide
            else decode_syncsafe(tag[at + 4 : at + 8])
        )
        found.append(tag[at : at + 4])
        at += 10 + size
    return [name.decode("latin-1") for name in found if name not in FRAMES.values()]


def _replace(new: BinaryIO, front: bytes, back: bytes) -> None:
    splice(new, 0, _v2_bytes(new), front)
    end = new.seek(0, 2) - len(_v1(new))
    new.truncate(end)
    new.seek(end)
    new.write(back)


def _v2_bytes(file: BinaryIO) -> int:
    """Length of the tag at the beginning; the file is at its beginning afterwards."""
    file.seek(0)
    head = file.read(10)
    file.seek(0)
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    return 10 + decode_syncsafe(head[6:]) + (10 if head[5] & 0x10 else 0)


def _v1(file: BinaryIO) -> bytes:
    size = file.seek(0, 2)
    file.seek(max(size - V1_BYTES, 0))
    tail = file.read(V1_BYTES)
    return tail if tail[:3] == b"TAG" and len(tail) == V1_BYTES else b""


def _has_ape(file: BinaryIO) -> bool:
    size = file.seek(0, 2)
    file.seek(max(size - V1_BYTES - 32, 0))
    return b"APETAGEX" in file.read()


def _frame(name: bytes, text: str) -> bytes:
    start = (
        UTF8 + b"eng\x00" if name == b"COMM" else UTF8
    )  # a comment has a language and a (here empty) heading
    content = start + text.encode("utf-8", "replace")
    return name + encode_syncsafe(len(content)) + b"\x00\x00" + content


def encode_syncsafe(size: int) -> bytes:
    """A size in an ID3 tag, seven bits a byte."""
    return bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))


def decode_syncsafe(four: bytes) -> int:
    """The size that `encode_syncsafe` wrote."""
    return sum((byte & 0x7F) << shift for byte, shift in zip(four, (21, 14, 7, 0), strict=True))
