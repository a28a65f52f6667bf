"""FLAC files: their metadata blocks, and Vorbis comments, which Ogg files have as well."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from audioae.audio.content import after_id3, splice
from audioae.audio.form import AudioInfo

# Vorbis comments by tag; libsndfile knows these tags in every container that has tags.
COMMENT_NAMES = {
    **{tag: tag.upper() for tag in ("title", "artist", "album", "comment", "date", "genre")},
    **{tag: tag.upper() for tag in ("copyright", "license", "tracknumber")},
    "software": "ENCODER",
}


def unusual_comments(content: bytes) -> list[str]:
    """Names of the comments that only FLAC and Ogg files can hold."""
    names = (
        line.partition(b"=")[0].decode("utf-8", "replace").upper()
        for line in split_comments(content)[1]
    )
    return [name for name in names if name not in COMMENT_NAMES.values()]


def split_comments(content: bytes) -> tuple[bytes, list[bytes]]:
    """The encoder's name and the comments of a comment packet, as far as its bytes go."""
    vendor, at = _item(content, 0)
    if at + 4 > len(content):
        return vendor, []
    number, at = struct.unpack_from("<I", content, at)[0], at + 4
    lines: list[bytes] = []
    while len(lines) < number and at + 4 <= len(content):
        line, at = _item(content, at)
        lines.append(line)
    return vendor, lines


def join_comments(vendor: bytes, lines: list[bytes]) -> bytes:
    """A comment packet; the inverse of `split_comments`.

    Example:
        >>> split_comments(join_comments(b"encoder", [b"TITLE=One", b"DATE=1999"]))
        (b'encoder', [b'TITLE=One', b'DATE=1999'])
    """
    items = [vendor, struct.pack("<I", len(lines)), *lines]
    return b"".join(
        item if index == 1 else struct.pack("<I", len(item)) + item
        for index, item in enumerate(items)
    )


def _item(content: bytes, at: int) -> tuple[bytes, int]:
    if at + 4 > len(content):
        return b"", len(content)
    end = at + 4 + struct.unpack_from("<I", content, at)[0]
    return content[at + 4 : end], end


STREAMINFO, PADDING, APPLICATION, SEEKTABLE, VORBIS_COMMENT, CUESHEET, PICTURE = range(7)
NAMES = {APPLICATION: "application data", CUESHEET: "cue sheet", PICTURE: "picture"}
OWN = {STREAMINFO, PADDING, SEEKTABLE}  # blocks about the file itself, which are not copied
Block = tuple[int, bytes]


def flac_extras(path: Path) -> list[str]:
    """Names of the metadata that only FLAC files can hold."""
    found = []
    with path.open("rb") as file:
        for kind, content in flac_blocks(file)[0]:
            if kind == VORBIS_COMMENT:
                found += unusual_comments(content)
            elif kind not in OWN:
                found.append(NAMES.get(kind, f"block {kind}"))
    return found


def copy_flac(source: Path, target: Path) -> list[str]:
    """Copy all metadata of `source` to `target`, which keeps its own STREAMINFO.

    Returns:
        Names of the metadata that were not copied: none.
    """
    with source.open("rb") as old, target.open("r+b") as new:
        kept = [block for block in flac_blocks(old)[0] if block[0] not in OWN]
        mine, end = flac_blocks(new)
        stream = [block for block in mine if block[0] == STREAMINFO]
        splice(new, 4, end - 4, _join_blocks(stream + kept))
    return []


def write_empty_flac(target: Path, form: AudioInfo) -> None:
    """Write a FLAC file of no samples, with STREAMINFO (RFC 9639, 8.2) and tags.

    libsndfile cannot write one.
    """
    bits = {"PCM_S8": 8, "PCM_16": 16, "PCM_24": 24}[form.subtype]
    # The last 36 bits are the number of samples.
    numbers = form.sample_rate << 44 | (form.channels - 1) << 41 | (bits - 1) << 36
    stream = (
        (b"\x10\x00" * 2).ljust(10, b"\0")
        + numbers.to_bytes(8, "big")
        + hashlib.md5(usedforsecurity=False).digest()
    )
    lines = [f"{COMMENT_NAMES[name]}={text}".encode() for name, text in form.tags.items()]
    blocks = [(STREAMINFO, stream), (VORBIS_COMMENT, join_comments(b"", lines))]
    target.write_bytes(b"fLaC" + _join_blocks(blocks))


def flac_blocks(file: BinaryIO) -> tuple[list[Block], int]:
    """The metadata blocks of a FLAC file, and the offset of its samples."""
    file.seek(_start(file) + 4)
    found, last = [], False
    while not last:
        head = file.read(4)
        if len(head) < 4:
            break
        last = bool(head[0] & 0x80)
        found.append((head[0] & 0x7F, file.read(int.from_bytes(head[1:], "big"))))
    return found, file.tell()


@dataclass(frozen=True)
class CommentBlock:
    """The block of a FLAC file with the comments.

    Args:
        offset: where its header begins, bytes.
        kind: its type, with the bit that marks the last block.
        content: a comment packet.
    """

    offset: int
    kind: int
    content: bytes

    @property
    def length(self) -> int:
        """Bytes of the block with its header."""
        return 4 + len(self.content)

    def with_lines(self, lines: list[bytes]) -> bytes:
        """The block with its header and other comments."""
        changed = join_comments(split_comments(self.content)[0], lines)
        return bytes([self.kind]) + len(changed).to_bytes(3, "big") + changed


def find_comments(file: BinaryIO) -> CommentBlock | None:
    """The comments of a FLAC file; None for files without them and of other kinds. Other blocks,
    such as pictures, are not read.
    """
    start = _start(file)
    file.seek(start)
    if file.read(4) != b"fLaC":
        return None
    at, head = start + 4, b""
    while not (head and head[0] & 0x80) and len(head := file.read(4)) == 4:
        size = int.from_bytes(head[1:], "big")
        if head[0] & 0x7F == VORBIS_COMMENT:
            return CommentBlock(at, head[0], file.read(size))
        at += 4 + size
        file.seek(at)
    return None


def _start(file: BinaryIO) -> int:
    """Offset of "fLaC": 0, except in files with an ID3 tag at the beginning."""
    file.seek(0)
    return after_id3(file.read(10))


def _join_blocks(blocks: list[Block]) -> bytes:
    return b"".join(
        bytes([kind | (0x80 if index == len(blocks) - 1 else 0)])
        + len(content).to_bytes(3, "big")
        + content
        for index, (kind, content) in enumerate(blocks)
    )
