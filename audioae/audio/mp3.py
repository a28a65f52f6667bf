"""Exact length and ID3 tags of MP3 files.

An MP3 stream has no length field. Most encoders store the number of MP3 frames in a first, silent
frame, the Xing header, and the delays of encoder and decoder in a LAME tag behind it. Where the
header is missing or wrong, libsndfile estimates the length from the bit rate of the first frame and
stops too early or reads past the end, and it leaves out samples. `scan` counts the MP3 frames, and
`Stream.bare` is the stream without a wrong header.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from audioae.audio.content import splice

# Layer III bit rates in kbit/s by index; True is MPEG 1, False is MPEG 2 and 2.5.
KBPS = {
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
RATES = (44100, 48000, 32000)  # Hz, MPEG 1; MPEG 2 has half, MPEG 2.5 a quarter of these
SAME = 0xFFFE0C00  # sync, version, layer and sample rate: equal in all headers of a stream
RUN = 4  # frames in a row that make a stream
DECODER_DELAY = 529  # samples
TOLERANCE = 0.01  # one MP3 frame more or less at the end is common and harmless


@dataclass(frozen=True)
class Stream:
    """An MP3 stream.

    Args:
        start: offset of the first MP3 frame with audio, bytes.
        end: end of the last complete MP3 frame, bytes.
        mp3_frames: number of complete MP3 frames with audio.
        declared_frames: the number in the Xing, Info or VBRI header; None without one.
        header: the first four bytes of an MP3 frame.
        longest: bytes of the longest MP3 frame.
        delay: samples at the start that the encoder has added, as its LAME tag says; None without
            one.
        change: bytes of the header of an MP3 frame with another sample rate or number of channels
            that follows the stream; None if there is none.
    """

    start: int
    end: int
    mp3_frames: int
    declared_frames: int | None
    header: int
    longest: int
    delay: int | None = None
    change: int | None = None

    @property
    def samples_per_frame(self) -> int:
        """Samples per channel in an MP3 frame."""
        return 1152 if _is_mpeg1(self.header) else 576

    @property
    def is_exact(self) -> bool:
        """Whether libsndfile reads the stream as it is, from the first sample to the last one."""
        return self.delay is not None and self.declared_frames == self.mp3_frames

    @property
    def skipped(self) -> int:
        """Samples to leave out at the start of what libsndfile decodes from `bare`: the delays of
        encoder and decoder if a LAME tag tells them, none otherwise.
        """
        return 0 if self.delay is None else self.delay + DECODER_DELAY

    @property
    def num_samples(self) -> int:
        """Samples per channel that libsndfile decodes from `bare`, without `skipped`."""
        return max(self.mp3_frames * self.samples_per_frame - self.skipped, 0)

    def bare(self) -> list[bytes | tuple[int, int] | int]:
        """Pieces for `content.FileView`: the stream without its header, whose count is wrong.

        libsndfile leaves out 529 samples of a stream with a Xing header and none of one without,
        and takes the length of the latter from the bit rate of the first frame. The zeros at the
        end make that length long enough; they are not decoded.
        """
        size = self.end - self.start
        return [(self.start, self.end), max((self.mp3_frames + 8) * (self.longest + 1) - size, 0)]


def scan(file: BinaryIO, start: int = 0, end: int | None = None) -> Stream | None:
    """Count the frames of an MP3 file.

    Args:
        file: the open file.
        start, end: part of the file with the stream, bytes.

    Returns None if there are no layer III frames, or if they have a free bit rate.
    """
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        end = len(data) if end is None else end
        at = _first(data, start, end)
        if at is None:
            return None
        header = _word(data, at)
        declared, delay = _xing_count(data, at, header), None
        if declared is not None:
            delay = _lame_delay(data, at, header)
            at += _length(header)
        count, last, longest, change = _count(data, at, end, header)
        return Stream(at, last, count, declared, header, longest, delay, change)


def describe(header: int) -> str:
    """The sample rate and the channels of an MP3 frame."""
    return f"{sample_rate(header)} Hz {'mono' if _is_mono(header) else 'stereo'}"


def _count(data: mmap.mmap, at: int, end: int, header: int) -> tuple[int, int, int, int | None]:
    """Number of complete frames from offset `at` on, where the last one ends, the bytes of the
    longest, and the header of the first frame of another kind after them.
    """
    count, last, longest = 0, at, 0
    while at + 4 <= end:
        word = _word(data, at)
        length = _length(word) if _is_same(word, header) else 0
        if not length:
            following = min(_next(data, at + 1, header), end)
            if (other := _other(data, at, following, end)) is not None:
                return count, last, longest, other
            at = following
            continue
        at += length
        if at <= end:  # an incomplete frame cannot be decoded
            count, last, longest = count + 1, at, max(longest, length)
    return count, last, longest, None


def _other(data: mmap.mmap, at: int, until: int, end: int) -> int | None:
    """The header of the first of `RUN` frames in a row that start between two offsets."""
    while (at := data.find(b"\xff", at, until)) >= 0:
        word, place = _word(data, at), at
        for _ in range(RUN):
            length = _length(_word(data, place)) if place + 4 <= end else 0
            if not length or not _is_same(_word(data, place), word):
                break
            place += length
        else:
            return word
        at += 1
    return None


def _first(data: mmap.mmap, at: int, end: int) -> int | None:
    """Offset of the first frame header that is followed by another one, after any ID3v2 tags."""
    while data[at : at + 3] == b"ID3" and end >= at + 10:
        at += 10 + decode_syncsafe(data[at + 6 : at + 10]) + (10 if data[at + 5] & 0x10 else 0)
    limit = min(end - 4, at + 2**16)
    while at <= limit:
        word = _word(data, at)
        length = _length(word)
        following = at + length
        if length and (following + 4 > end or _is_same(_word(data, following), word)):
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


def _side_bytes(header: int) -> int:
    """Bytes of the side information of a frame."""
    if _is_mpeg1(header):
        return 17 if _is_mono(header) else 32
    return 9 if _is_mono(header) else 17


def _xing_count(data: mmap.mmap, at: int, header: int) -> int | None:
    """Number of frames in the Xing or VBRI header at offset `at`; None without one."""
    if data[at + 36 : at + 40] == b"VBRI":
        return int.from_bytes(data[at + 50 : at + 54], "big")
    start = at + 4 + _side_bytes(header)
    tag = data[start : start + 12]
    if tag[:4] not in (b"Xing", b"Info") or len(tag) < 12 or not tag[7] & 1:
        return None
    return int.from_bytes(tag[8:], "big")


def _lame_delay(data: mmap.mmap, at: int, header: int) -> int | None:
    """The encoder's delay in the LAME tag of the Xing header at offset `at`; None without one.

    Programs without a known delay leave the tag empty.
    """
    start = at + 4 + _side_bytes(header)
    flags = data[start + 7]
    # After the flags: number of frames, bytes, a table of 100 bytes, the quality.
    tag = start + 8 + sum(size for bit, size in enumerate((4, 4, 100, 4)) if flags >> bit & 1)
    if data[start : start + 4] not in (b"Xing", b"Info") or not data[tag]:
        return None
    return int.from_bytes(data[tag + 21 : tag + 24], "big") >> 12


def _length(header: int) -> int:
    """Bytes of the layer III frame with this header; 0 if it is not a valid header."""
    if header >> 21 != 0x7FF or header >> 17 & 3 != 1 or header >> 19 & 3 == 1:
        return 0
    index = header >> 12 & 15
    if index in (0, 15) or header >> 10 & 3 == 3:
        return 0
    first = _is_mpeg1(header)
    bits = (144 if first else 72) * KBPS[first][index] * 1000
    return bits // sample_rate(header) + (header >> 9 & 1)


def sample_rate(header: int) -> int:
    """The sample rate of an MP3 frame with this header, in Hz."""
    return RATES[header >> 10 & 3] // {3: 1, 2: 2}.get(header >> 19 & 3, 4)


def _is_same(one: int, other: int) -> bool:
    """Whether two headers may be of the same stream."""
    return one & SAME == other & SAME and _is_mono(one) == _is_mono(other)


def _is_mono(header: int) -> bool:
    return header >> 6 & 3 == 3


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
