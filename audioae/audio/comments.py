"""Vorbis comments, the `NAME=text` lines of FLAC, Ogg Vorbis and Opus files.

As bytes: length of the encoder's name, that name, the number of comments, then each with its length; all in 32 bits, little end first.
"""

from __future__ import annotations

import struct

# What libsndfile carries to and from every container that has texts, and its name here.
NAMES = {
    **{name: name.upper() for name in ("title", "copyright", "artist", "comment", "date", "album", "license", "tracknumber", "genre")},
    "software": "ENCODER",
}


def unusual(content: bytes) -> list[str]:
    """Names of the comments that only this kind of file can hold."""
    names = (line.partition(b"=")[0].decode("utf-8", "replace").upper() for line in split(content)[1])
    return [name for name in names if name not in NAMES.values()]


def split(content: bytes) -> tuple[bytes, list[bytes]]:
    """The encoder's name and the comments, as far as the bytes go."""
    vendor, at = _item(content, 0)
    if at + 4 > len(content):
        return vendor, []
    number, at = struct.unpack_from("<I", content, at)[0], at + 4
    lines: list[bytes] = []
    while len(lines) < number and at + 4 <= len(content):
        line, at = _item(content, at)
        lines.append(line)
    return vendor, lines


def join(vendor: bytes, lines: list[bytes]) -> bytes:
    """The bytes of an encoder's name and comments."""
    items = [vendor, struct.pack("<I", len(lines)), *lines]
    return b"".join(item if index == 1 else struct.pack("<I", len(item)) + item for index, item in enumerate(items))


def _item(content: bytes, at: int) -> tuple[bytes, int]:
    if at + 4 > len(content):
        return b"", len(content)
    end = at + 4 + struct.unpack_from("<I", content, at)[0]
    return content[at + 4 : end], end
