"""What a FLAC file holds besides its samples: comments of any name, pictures, cue sheets, copied to another FLAC file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO

from audioae.audio import comments
from audioae.audio.form import AudioInfo
from audioae.audio.splice import splice

STREAMINFO, PADDING, APPLICATION, SEEKTABLE, VORBIS_COMMENT, CUESHEET, PICTURE = range(7)
NAMES = {APPLICATION: "application data", CUESHEET: "cue sheet", PICTURE: "picture"}
OWN = {STREAMINFO, PADDING, SEEKTABLE}  # what is about the file itself; the copy has its own or needs none
Block = tuple[int, bytes]


def extras(path: Path) -> list[str]:
    """Names of what a file holds besides its samples and the texts that every container has."""
    found = []
    with path.open("rb") as file:
        for kind, content in _blocks(file)[0]:
            if kind == VORBIS_COMMENT:
                found += comments.unusual(content)
            elif kind not in OWN:
                found.append(NAMES.get(kind, f"block {kind}"))
    return found


def copy(source: Path, target: Path) -> list[str]:
    """Put all that `source` has besides samples into `target`, which has its own STREAMINFO; nothing is lost."""
    with source.open("rb") as old, target.open("r+b") as new:
        kept = [block for block in _blocks(old)[0] if block[0] not in OWN]
        mine, end = _blocks(new)
        stream = [block for block in mine if block[0] == STREAMINFO]
        splice(new, 4, end - 4, _join(stream + kept))
    return []


def write_empty(target: Path, form: AudioInfo) -> None:
    """A FLAC file of no samples, which libsndfile does not write: STREAMINFO (RFC 9639, 8.2) and the texts."""
    bits = {"PCM_S8": 8, "PCM_16": 16, "PCM_24": 24}[form.subtype]
    numbers = form.sample_rate << 44 | (form.channels - 1) << 41 | (bits - 1) << 36  # the last 36 bits are the number of samples
    stream = (b"\x10\x00" * 2).ljust(10, b"\0") + numbers.to_bytes(8, "big") + hashlib.md5(usedforsecurity=False).digest()
    lines = [f"{comments.NAMES[name]}={text}".encode() for name, text in form.tags.items()]
    target.write_bytes(b"fLaC" + _join([(STREAMINFO, stream), (VORBIS_COMMENT, comments.join(b"", lines))]))


def _blocks(file: BinaryIO) -> tuple[list[Block], int]:
    """The metadata blocks of a file, and where its samples begin."""
    file.seek(_start(file) + 4)
    found, last = [], False
    while not last:
        head = file.read(4)
        if len(head) < 4:
            break
        last = bool(head[0] & 0x80)
        found.append((head[0] & 0x7F, file.read(int.from_bytes(head[1:], "big"))))
    return found, file.tell()


def _start(file: BinaryIO) -> int:
    """Where "fLaC" is: at the beginning, but for files that somebody has put an ID3 tag before."""
    file.seek(0)
    head = file.read(10)
    if head[:3] != b"ID3":
        return 0
    return 10 + sum(byte << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))


def _join(blocks: list[Block]) -> bytes:
    return b"".join(
        bytes([kind | (0x80 if index == len(blocks) - 1 else 0)]) + len(content).to_bytes(3, "big") + content
        for index, (kind, content) in enumerate(blocks)
    )
