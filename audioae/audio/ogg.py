"""The comments of Ogg Vorbis and Opus files, all of them (pictures too), copied to another one; and a stream number not drawn by lot.

An Ogg file is a row of pages. A page has a header of 27 bytes, a table of the lengths of its segments (up to 255 of up to 255 bytes), then
these. The first page holds the first packet; the comments, and Vorbis' code books, follow on pages of their own (RFC 3533, RFC 7845).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO

from audioae.audio import comments
from audioae.audio.splice import splice

MAGIC = {b"\x01vorbis": b"\x03vorbis", b"OpusHead": b"OpusTags"}  # first packet: what its comment packet begins with
POLYNOMIAL = 0x104C11DB7
SERIAL_AT, SEQUENCE_AT, CRC_AT = 14, 18, 22


@dataclass(frozen=True)
class Page:
    """A page: where it begins, its header with the segment table, its length in all."""

    offset: int
    head: bytes
    length: int

    @property
    def table(self) -> bytes:
        """Lengths of the segments; a packet ends with the first that is shorter than 255."""
        return self.head[27:]


@dataclass(frozen=True)
class Head:
    """The headers of a stream: its first page, the packets after it up to the sound, and the byte where the sound begins."""

    first: Page
    magic: bytes
    packets: list[bytes]
    pages: int
    end: int

    @property
    def comments(self) -> bytes:
        """The comment packet without its magic."""
        return self.packets[0][len(self.magic) :]


def extras(path: Path) -> list[str]:
    """Names of the comments that other containers do not have."""
    with path.open("rb") as file:
        head = _head(file)
        return comments.unusual(head.comments) if head else []


def settle(target: Path, source: Path | None) -> list[str]:
    """Give `target` the comments of `source` and a stream number that is the same whenever it is written; names of what was lost.

    libsndfile draws the number by lot, so that one recording cleaned twice would not give the same bytes.
    """
    with target.open("r+b") as new:
        head = _head(new)
        if head is None:
            return []
        packets, lost = _packets(head, source)
        serial = struct.pack("<I", 1)
        pages = _paginate(packets, serial)
        shift = len(pages) - head.pages
        splice(new, head.first.length, head.end - head.first.length, b"".join(pages))
        _renumber(new, head.first, serial, 0)
        for page in _pages(new, head.first.length + sum(map(len, pages))):
            _renumber(new, page, serial, shift)
    return lost


def _packets(head: Head, source: Path | None) -> tuple[list[bytes], list[str]]:
    """The packets of the new file: its own, with the encoder's name of the new and the comments of the old file."""
    if source is None:
        return head.packets, []
    with source.open("rb") as file:
        old = _head(file)
    if old is None:
        return head.packets, ["comments"]
    vendor = comments.split(head.comments)[0]
    framing = b"\x01" if head.magic == b"\x03vorbis" else b""
    return [head.magic + comments.join(vendor, comments.split(old.comments)[1]) + framing, *head.packets[1:]], []


def _head(file: BinaryIO) -> Head | None:
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
    """The pages from a byte on; others may read and write the file in between."""
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
    """Pages, from the second of a stream on, that hold the packets; none of them ends a sample, so their position is 0."""
    table = b"".join(b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255]) for packet in packets)
    body, at = b"".join(packets), 0
    pages: list[bytes] = []
    for start in range(0, len(table), 255):
        part = table[start : start + 255]
        continued = start > 0 and table[start - 1] == 255
        ends = any(size < 255 for size in part)
        position = bytes(8) if ends else b"\xff" * 8
        head = b"OggS\x00" + bytes([continued]) + position + serial + struct.pack("<II", len(pages) + 1, 0) + bytes([len(part)]) + part
        page = head + body[at : at + sum(part)]
        at += sum(part)
        pages.append(page[:CRC_AT] + struct.pack("<I", _crc(page)) + page[CRC_AT + 4 :])
    return pages


def _renumber(file: BinaryIO, page: Page, serial: bytes, shift: int) -> None:
    """Write another stream number and page number. The check sum is linear: only what changes is summed, and moved to its place."""
    old = page.head[SERIAL_AT:CRC_AT]
    new = serial + struct.pack("<I", (struct.unpack_from("<I", old, 4)[0] + shift) & 0xFFFFFFFF)
    change = bytes(a ^ b for a, b in zip(old, new, strict=True))
    crc = struct.unpack_from("<I", page.head, CRC_AT)[0] ^ _multiply(_crc(change), _power(page.length - CRC_AT))
    file.seek(page.offset + SERIAL_AT)
    file.write(new + struct.pack("<I", crc))


def _crc(data: bytes) -> int:
    """Ogg's check sum: the polynomial 0x04c11db7, highest bit first, from zero."""
    crc = 0
    for byte in data:
        crc = (crc << 8 & 0xFFFFFFFF) ^ _table()[crc >> 24 ^ byte]
    return crc


@cache
def _table() -> list[int]:
    return [_multiply(byte << 24, 0x100) for byte in range(256)]


@cache
def _power(count: int) -> int:
    """x to the power of 8 `count`, modulo the polynomial: what so many bytes behind do to a check sum."""
    result, base = 1, 0x100
    while count:
        if count & 1:
            result = _multiply(result, base)
        base = _multiply(base, base)
        count >>= 1
    return result


def _multiply(a: int, b: int) -> int:
    """The product of two polynomials over {0, 1}, modulo the check sum's."""
    product = 0
    while b:
        if b & 1:
            product ^= a
        a <<= 1
        if a >> 32:
            a ^= POLYNOMIAL
        b >>= 1
    return product
