"""The ID3 tags of MP3 files: copied whole from another MP3, or written from plain texts in UTF-8 (libsndfile would garble them)."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from audioae.audio.splice import splice

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


def copy(source: Path, target: Path) -> list[str]:
    """Give `target` the tags of `source`: the ID3v2 before the sound, pictures and all, and the ID3v1 behind it."""
    with source.open("rb") as old, target.open("r+b") as new:
        _replace(new, old.read(_v2_bytes(old)), _v1(old))
        return ["APE tag"] if _has_ape(old) else []


def write(target: Path, tags: dict[str, str]) -> None:
    """Give `target` an ID3v2.4 tag with these texts."""
    body = b"".join(_frame(FRAMES[name], text) for name, text in tags.items() if name in FRAMES)
    with target.open("r+b") as new:
        _replace(new, b"ID3\x04\x00\x00" + _syncsafe(len(body)) + body if body else b"", b"")


def frames(path: Path) -> list[str]:
    """Names of the frames in the ID3v2 tag that `write` could not make."""
    with path.open("rb") as file:
        tag = file.read(_v2_bytes(file))
    found, at, wide = [], 10, len(tag) > 3 and tag[3] < 4
    while at + 10 <= len(tag) and tag[at] and tag[3:4] != b"\x02":  # version 2.2 has shorter frames
        size = int.from_bytes(tag[at + 4 : at + 8], "big") if wide else _unsafe(tag[at + 4 : at + 8])
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
    return 10 + _unsafe(head[6:]) + (10 if head[5] & 0x10 else 0)


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
    start = UTF8 + b"eng\x00" if name == b"COMM" else UTF8  # a comment has a language and a (here empty) heading
    content = start + text.encode("utf-8", "replace")
    return name + _syncsafe(len(content)) + b"\x00\x00" + content


def _syncsafe(size: int) -> bytes:
    """A size in ID3: seven bits a byte."""
    return bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))


def _unsafe(four: bytes) -> int:
    return sum((byte & 0x7F) << shift for byte, shift in zip(four, (21, 14, 7, 0), strict=True))
