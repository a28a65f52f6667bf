"""Tags that set the playback level: ReplayGain, R128, Sound Check, loudness of broadcast WAV files.

They describe the level of the source. If the form of an output says `level_changed`, the writer
removes them from what it has copied.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from audioae.audio import content, flac, ogg, riff
from audioae.audio.form import AudioInfo
from audioae.audio.mp3 import decode_syncsafe

PREFIXES = ("REPLAYGAIN_", "R128_", "MP3GAIN_", "ITUNNORM")
ID3_GAINS = (b"RVA2", b"RVAD", b"RVA", b"XRVA", b"RGAD")  # frames about the level
ID3_NAMED = (b"TXXX", b"TXX", b"COMM", b"COM")  # frames with a description
ID3_CHUNKS = (b"id3 ", b"ID3 ")
# Of a bext chunk (EBU Tech 3285): its version, and from version 2 on the loudness values. A change
# of level does not change the loudness range, which is among them.
VERSION_AT, LOUDNESS_AT = 346, (412, 416, 418, 420)
UNKNOWN_LOUDNESS = struct.pack("<H", 0x7FFF)


def is_gain_tag(name: str) -> bool:
    """Whether a tag of this name sets the playback level.

    Example:
        >>> is_gain_tag("replaygain_track_gain"), is_gain_tag("TITLE")
        (True, False)
    """
    return name.upper().startswith(PREFIXES)


def is_gain_comment(line: bytes) -> bool:
    """The same for a Vorbis comment, NAME=TEXT."""
    return is_gain_tag(_comment_name(line))


def gain_tags(source: AudioInfo) -> list[str]:
    """Names of the tags in a file that set the playback level.

    Args:
        source: the form of the file.
    """
    if source.source is None:
        return []
    if source.is_native:
        with source.source.open("rb") as file:
            names = [name for edit in _edits(file) for name in edit.names]
    else:
        with content.open_input(source.source) as container:
            held = (container, container.streams.audio[source.track])
            names = [name for each in held for name in each.metadata if is_gain_tag(name)]
    return list(dict.fromkeys(names))


def remove(path: Path) -> None:
    """Remove these tags from a WAV, AIFF, CAF, FLAC or MP3 file."""
    with path.open("r+b") as file:
        for edit in list(_edits(file)):
            content.splice(file, edit.offset, edit.length, edit.replacement)


@dataclass(frozen=True)
class Edit:
    """A part of a file, and the bytes to put there, which lack the tags of these names."""

    offset: int
    length: int
    replacement: bytes
    names: list[str]


def _edits(file: BinaryIO) -> Iterator[Edit]:
    """The changes that remove the tags from an open file. Those of an Ogg file are only named:
    `ogg.normalize_ogg` leaves them out.
    """
    kind = riff.family(file)
    file.seek(0)
    head = file.read(10)
    if kind is not None:
        found = _chunk_edits(file, kind)
    elif head.startswith(b"OggS"):
        opened = ogg.ogg_head(file)
        lines = flac.split_comments(opened.comments)[1] if opened else []
        found = iter([Edit(0, 0, b"", _split(lines)[1])])
    elif comments := flac.find_comments(file):
        kept, names = _split(flac.split_comments(comments.content)[1])
        found = iter([Edit(comments.offset, comments.length, comments.with_lines(kept), names)])
    else:
        file.seek(0)
        found = _id3_edits(0, file.read(content.after_id3(head)))
    yield from (edit for edit in found if edit.names)


def _split(lines: Iterable[bytes]) -> tuple[list[bytes], list[str]]:
    """Vorbis comments without those that set the level, and the names of the latter."""
    kept = [line for line in lines if not is_gain_comment(line)]
    return kept, [_comment_name(line) for line in lines if is_gain_comment(line)]


def _comment_name(line: bytes) -> str:
    return line.partition(b"=")[0].decode("utf-8", "replace")


def _chunk_edits(file: BinaryIO, kind: riff.Family) -> Iterator[Edit]:
    """Changes of chunks, whose lengths stay."""
    for chunk in riff.chunks(file, kind):
        if chunk.name not in (*ID3_CHUNKS, b"bext", b"info") or chunk.held < chunk.size:
            continue
        file.seek(chunk.offset)
        data = file.read(chunk.size)
        if chunk.name in ID3_CHUNKS and data.startswith(b"ID3"):
            yield from _id3_edits(chunk.offset, data)
        elif chunk.name == b"bext" and len(data) >= max(LOUDNESS_AT) + 2:
            yield Edit(chunk.offset, len(data), *_without_bext_loudness(data))
        elif chunk.name == b"info" and kind.name == "CAF":
            yield Edit(chunk.offset, len(data), *_without_caf_gains(data))


def _without_bext_loudness(data: bytes) -> tuple[bytes, list[str]]:
    changed = bytearray(data)
    for at in LOUDNESS_AT:
        changed[at : at + 2] = UNKNOWN_LOUDNESS
    values = b"".join(data[at : at + 2] for at in LOUDNESS_AT)
    unused = data[VERSION_AT] < 2 or not values.strip(b"\0") or changed == data
    return bytes(changed), [] if unused else ["bext loudness"]


def _without_caf_gains(data: bytes) -> tuple[bytes, list[str]]:
    """The strings of an info chunk: their number, and pairs of key and value."""
    texts = data[4:].split(b"\0")
    pairs = list(zip(texts[::2], texts[1::2], strict=False))[: int.from_bytes(data[:4], "big")]
    kept = [pair for pair in pairs if not is_gain_comment(pair[0])]
    changed = struct.pack(">I", len(kept)) + b"".join(
        key + b"\0" + text + b"\0" for key, text in kept
    )
    names = [_comment_name(key) for key, _ in pairs if is_gain_comment(key)]
    return changed.ljust(len(data), b"\0"), names


def _id3_edits(offset: int, tag: bytes) -> Iterator[Edit]:
    """The change of an ID3v2 tag, which keeps its length: zeros at its end are padding."""
    if len(tag) < 20 or tag[3] not in (2, 3, 4):
        return
    version, flags, body = tag[3], tag[5], tag[10:]
    if version < 4 and flags & 0x80:  # every 0xFF was written with a zero after it
        body, flags = body.replace(b"\xff\0", b"\xff"), flags & 0x7F
    wide, head = (3, 6) if version == 2 else (4, 10)
    at = 0
    if version > 2 and flags & 0x40:  # an extended header, whose checksum no longer holds
        at = decode_syncsafe(body[:4]) if version == 4 else 4 + int.from_bytes(body[:4], "big")
        flags &= 0xBF
    kept, names = list[bytes](), list[str]()
    while at + head <= len(body) and body[at]:
        size = body[at + wide : at + 2 * wide]
        end = at + head + (decode_syncsafe(size) if version == 4 else int.from_bytes(size, "big"))
        frame, at = body[at:end], end
        if name := _gain_name(frame[:wide], frame[head:], frame[head - 1] if version == 4 else 0):
            names.append(name)
        else:
            kept.append(frame)
    changed = b"".join((*kept, body[at:])).ljust(len(tag) - 10, b"\0")
    yield Edit(offset, len(tag), tag[:5] + bytes([flags]) + tag[6:10] + changed, names)


def _gain_name(kind: bytes, data: bytes, flags: int) -> str:
    """The name of an ID3 frame that sets the level; empty for other frames.

    Args:
        kind: its four (ID3v2.2: three) letters.
        data: its content.
        flags: its second byte of flags in ID3v2.4: 1 puts a length before the content, 2 a zero
            after every 0xFF.
    """
    if kind in ID3_GAINS:
        return kind.decode("ascii")
    data = data[4:] if flags & 1 else data
    data = data.replace(b"\xff\0", b"\xff") if flags & 2 else data
    if kind not in ID3_NAMED or not data or data[0] > 3:
        return ""
    coding = ("latin-1", "utf-16", "utf-16-be", "utf-8")[data[0]]
    text = data[4:] if kind.startswith(b"COM") else data[1:]  # a comment has a language
    description = text.decode(coding, "replace").partition("\0")[0]
    return description if is_gain_tag(description) else ""
