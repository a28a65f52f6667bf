"""Ogg Vorbis and Opus files: comments, chained recordings, and a fixed stream number.

An Ogg file is a sequence of pages. A page has a header of 27 bytes, a table with the lengths of its
segments (up to 255 segments of up to 255 bytes), and the segments. The first page holds the first
packet; the comments and the codebooks of Vorbis follow on pages of their own (RFC 3533, RFC 7845).
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO

from audioae.audio.content import splice
from audioae.audio.flac import join_comments, split_comments, unusual_comments

MAGIC = {b"\x01vorbis": b"\x03vorbis", b"OpusHead": b"OpusTags"}  # of first and comment packet
POLYNOMIAL = 0x104C11DB7  # of the checksum of a page
FIRST_PAGE = b"OggS\0\x02"  # start of the first page of a stream
SERIAL_AT, SEQUENCE_AT, CRC_AT = 14, 18, 22


@dataclass(frozen=True)
class Page:
    """A page of an Ogg file.

    Args:
        offset: where it begins, bytes.
        head: its header and segment table.
        length: of the whole page, bytes.
    """

    offset: int
    head: bytes
    length: int

    @property
    def table(self) -> bytes:
        """Lengths of the segments; a segment shorter than 255 bytes ends a packet."""
        return self.head[27:]


@dataclass(frozen=True)
class Head:
    """The headers of an Ogg stream.

    Args:
        first: the first page.
        magic: the first bytes of the comment packet.
        packets: the packets after the first page, up to the audio; the first holds the comments.
        pages: number of pages of these packets.
        end: offset of the audio, bytes.
    """

    first: Page
    magic: bytes
    packets: list[bytes]
    pages: int
    end: int

    @property
    def comments(self) -> bytes:
        """The comment packet without its first bytes, `magic`."""
        return self.packets[0][len(self.magic) :]


def ogg_extras(path: Path) -> list[str]:
    """Names of the metadata that only FLAC and Ogg files can hold."""
    with path.open("rb") as file:
        head = ogg_head(file)
        return unusual_comments(head.comments) if head else []


def links(file: BinaryIO) -> list[tuple[int, int]]:
    """The start and end, in bytes, of the recordings in a chained Ogg file; one in most files.

    Streams that start together, such as sound and picture, are one recording.
    """
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        starts, end, at = [0], 0, 0
        while (at := data.find(FIRST_PAGE, at)) >= 0:
            table = data[at + 27 : at + 27 + data[at + 26]] if at + 27 <= len(data) else b""
            length = 27 + len(table) + sum(table)
            page = data[at : at + length]
            if len(page) == length > 27 and _is_sound(page):
                starts += [at] if at > end else []
                end = max(at + length, end)
            at += 4
        return list(zip(starts, [*starts[1:], len(data)], strict=True))


def _is_sound(page: bytes) -> bool:
    """Whether a page is undamaged: its checksum holds."""
    cleared = page[:CRC_AT] + bytes(4) + page[CRC_AT + 4 :]
    return page[CRC_AT : CRC_AT + 4] == struct.pack("<I", _crc(cleared))


def normalize_ogg(
    target: Path, source: Path | None, *, drop: Callable[[bytes], bool] = lambda line: False
) -> list[str]:
    """Copy the comments of `source` to `target`, and set its stream number to 1.

    libsndfile draws a random stream number, so two identical recordings would differ.

    Args:
        source: None keeps the comments of `target`.
        drop: whether a comment of `source` is left out.

    Returns:
        Names of the metadata that were not copied.
    """
    with target.open("r+b") as new:
        head = ogg_head(new)
        if head is None:
            return []
        packets, lost = _packets(head, source, drop)
        serial = struct.pack("<I", 1)
        pages = _paginate(packets, serial)
        shift = len(pages) - head.pages
        splice(new, head.first.length, head.end - head.first.length, b"".join(pages))
        _renumber(new, head.first, serial, 0)
        for page in _pages(new, head.first.length + sum(map(len, pages))):
            _renumber(new, page, serial, shift)
    return lost


def _packets(
    head: Head, source: Path | None, drop: Callable[[bytes], bool]
) -> tuple[list[bytes], list[str]]:
    """The header packets of the new file with the comments of `source`, and what was lost.

    The encoder's name is that of the new file.
    """
    if source is None:
        return head.packets, []
    with source.open("rb") as file:
        old = ogg_head(file)
    if old is None:
        return head.packets, ["comments"]
    vendor, lines = split_comments(head.comments)[0], split_comments(old.comments)[1]
    comments = join_comments(vendor, [line for line in lines if not drop(line)])
    framing = b"\x01" if head.magic == b"\x03vorbis" else b""
    return [head.magic + comments + framing, *head.packets[1:]], []


def ogg_head(file: BinaryIO) -> Head | None:
    """The headers of a Vorbis or Opus file; None if it is neither or has no audio."""
    pages = _pages(file, 0)
    first = next(pages, None)
    if first is None:
        return None
    file.seek(first.offset + len(first.head))
    begin = file.read(8)
    magic = next((MAGIC[key] for key in MAGIC if begin.startswith(key)), None)
    if magic is None:
        return None
    wanted = 2 if magic == b"\x03vorbis" else 1
    packets: list[bytes] = [b""]
    for number, page in enumerate(pages, start=1):
        file.seek(page.offset + len(page.head))
        for size in page.table:
            packets[-1] += file.read(size)
            if size < 255:
                packets.append(b"")
        if len(packets) > wanted:
            return Head(first, magic, packets[:wanted], number, page.offset + page.length)
    return None


def _pages(file: BinaryIO, offset: int) -> Iterator[Page]:
    """The pages from an offset on. The position of the file may change between two pages."""
    while True:
        file.seek(offset)
        head = file.read(27)
        if len(head) < 27 or head[:4] != b"OggS":
            return
        head += file.read(head[26])
        page = Page(offset, head, len(head) + sum(head[27:]))
        yield page
        offset += page.length


def _paginate(packets: list[bytes], serial: bytes) -> list[bytes]:
    """Pages with these packets, numbered from 1.

    Headers end no audio, so the granule position of a page is 0, or -1 if no packet ends on it.
    """
    table = b"".join(
        b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255]) for packet in packets
    )
    body, at = b"".join(packets), 0
    pages: list[bytes] = []
    for start in range(0, len(table), 255):
        part = table[start : start + 255]
        continued = start > 0 and table[start - 1] == 255
        ends = any(size < 255 for size in part)
        position = bytes(8) if ends else b"\xff" * 8
        head = (
            b"OggS\x00"
            + bytes([continued])
            + position
            + serial
            + struct.pack("<II", len(pages) + 1, 0)
            + bytes([len(part)])
            + part
        )
        page = head + body[at : at + sum(part)]
        at += sum(part)
        pages.append(page[:CRC_AT] + struct.pack("<I", _crc(page)) + page[CRC_AT + 4 :])
    return pages


def _renumber(file: BinaryIO, page: Page, serial: bytes, shift: int) -> None:
    """Set the stream number and shift the page number of a page.

    The checksum is linear: it changes by the checksum of the changed bits, shifted to their place.
    """
    old = page.head[SERIAL_AT:CRC_AT]
    new = serial + struct.pack("<I", (struct.unpack_from("<I", old, 4)[0] + shift) & 0xFFFFFFFF)
    change = bytes(a ^ b for a, b in zip(old, new, strict=True))
    crc = struct.unpack_from("<I", page.head, CRC_AT)[0] ^ _multiply(
        _crc(change), _power(page.length - CRC_AT)
    )
    file.seek(page.offset + SERIAL_AT)
    file.write(new + struct.pack("<I", crc))


def _crc(data: bytes) -> int:
    """Ogg's checksum: CRC-32 with the polynomial 0x04c11db7, highest bit first, initially 0."""
    crc = 0
    for byte in data:
        crc = (crc << 8 & 0xFFFFFFFF) ^ _table()[crc >> 24 ^ byte]
    return crc


@cache
def _table() -> list[int]:
    return [_multiply(byte << 24, 0x100) for byte in range(256)]


@cache
def _power(count: int) -> int:
    """x^(8 `count`) modulo the polynomial: the effect of `count` further bytes on a checksum."""
    result, base = 1, 0x100
    while count:
        if count & 1:
            result = _multiply(result, base)
        base = _multiply(base, base)
        count >>= 1
    return result


def _multiply(a: int, b: int) -> int:
    """The product of two polynomials over GF(2), modulo `POLYNOMIAL`."""
    product = 0
    while b:
        if b & 1:
            product ^= a
        a <<= 1
        if a >> 32:
            a ^= POLYNOMIAL
        b >>= 1
    return product
