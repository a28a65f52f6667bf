"""Identify a file by its first bytes instead of its suffix, and open it.

FFmpeg takes names for URLs, and some of its formats are lists of other files. `open_input` and
`open_output` open exactly one local file: its absolute path behind `file:`, no other protocol, and
only formats that hold their own samples.

libsndfile needs complete headers. `FileView` presents a file with another header or in parts.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from audioae.audio import riff
from audioae.errors import AudioFileError, require
from audioae.storage import COPY_BYTES

MP3_TAG = 0x55  # of the format in a WAV file
HEAD_BYTES = 2**12  # that tell what a file is
Library = Literal["soundfile", "media", ""]


@dataclass(frozen=True)
class Content:
    """What a file holds.

    Args:
        name: for messages, such as "an MP4 file".
        library: "soundfile" or "media" (FFmpeg) reads it; "" is unknown or neither.
    """

    name: str
    library: Library


UNKNOWN = Content("a file of an unknown kind", "")
MP3 = Content("an MP3 file", "soundfile")
# Kinds of files by their first bytes: (offset, bytes) that all have to be there.
SIGNATURES: tuple[tuple[tuple[tuple[int, bytes], ...], Content], ...] = (
    (((0, b"RIFF"), (8, b"WAVE")), Content("a WAV file", "soundfile")),
    (((0, b"RIFX"), (8, b"WAVE")), Content("a WAV file", "soundfile")),
    (((0, b"RF64"), (8, b"WAVE")), Content("an RF64 file", "soundfile")),
    (((0, b"BW64"), (8, b"WAVE")), Content("a BW64 file", "soundfile")),
    (((0, b"riff\x2e\x91\xcf\x11"),), Content("a W64 file", "soundfile")),
    (((0, b"FORM"), (8, b"AIF")), Content("an AIFF file", "soundfile")),
    (((0, b"caff"),), Content("a CAF file", "soundfile")),
    (((0, b"fLaC"),), Content("a FLAC file", "soundfile")),
    (((0, b"OggS"),), Content("an Ogg file", "soundfile")),
    (((0, b".snd"),), Content("an AU file", "soundfile")),
    (((0, b"Creative Voice"),), Content("a VOC file", "soundfile")),
    (((0, b"NIST_1A"),), Content("a NIST SPHERE file", "soundfile")),
    (((0, b"RIFF"), (8, b"AVI ")), Content("an AVI file", "media")),
    (((4, b"ftyp"),), Content("an MPEG-4 or QuickTime file", "media")),
    (((4, b"moov"),), Content("a QuickTime file", "media")),
    (((4, b"mdat"),), Content("a QuickTime file", "media")),
    (((4, b"wide"),), Content("a QuickTime file", "media")),
    (((0, b"\x1a\x45\xdf\xa3"),), Content("a Matroska or WebM file", "media")),
    (((0, b"\x30\x26\xb2\x75"),), Content("an ASF file (WMA or WMV)", "media")),
    (((0, b"FLV\x01"),), Content("a Flash video", "media")),
    (((0, b"\x06\x0e\x2b\x34\x02\x05\x01\x01"),), Content("an MXF file", "media")),
    (((0, b"\0\0\x01\xba"),), Content("an MPEG program stream", "media")),
    (((0, b"#!AMR"),), Content("an AMR file", "media")),
    (((0, b"\x0b\x77"),), Content("an AC-3 file", "media")),
    (((0, b"\x7f\xfe\x80\x01"),), Content("a DTS file", "media")),
    (((0, b"MAC "),), Content("a Monkey's Audio file", "media")),
    (((0, b"wvpk"),), Content("a WavPack file", "media")),
    (((0, b"TTA1"),), Content("a True Audio file", "media")),
    (((0, b"tBaK"),), Content("a TAK file", "media")),
    (((0, b"MPCK"),), Content("a Musepack file", "media")),
    (((0, b"DSD "),), Content("a DSF file", "media")),
    (((0, b"FRM8"),), Content("a DSDIFF file", "media")),
    (((0, b".RMF"),), Content("a RealMedia file", "media")),
    (((0, b"\x89PNG"),), Content("a PNG picture", "")),
    (((0, b"\xff\xd8\xff"),), Content("a JPEG picture", "")),
    (((0, b"GIF8"),), Content("a GIF picture", "")),
    (((0, b"%PDF"),), Content("a PDF document", "")),
    (((0, b"PK\x03\x04"),), Content("a ZIP archive", "")),
    (((0, b"\x1f\x8b"),), Content("a gzip archive", "")),
    (((0, b"MThd"),), Content("a MIDI file, which holds notes and no samples", "")),
)
SYNC = (b"\xff\xfb", b"\xff\xfa", b"\xff\xf3", b"\xff\xf2", b"\xff\xe3", b"\xff\xe2")  # layer III
ADTS = (b"\xff\xf1", b"\xff\xf9", b"\xff\xf0", b"\xff\xf8")
OTHER_LAYERS = (b"\xff\xfd", b"\xff\xfc", b"\xff\xff", b"\xff\xfe", b"\xff\xf5", b"\xff\xf4")


def sniff(path: Path) -> Content:
    """What a file holds, from its first bytes. Raises `OSError`."""
    with open(path, "rb", buffering=0) as file:
        return sniff_open(file)


def sniff_open(file: BinaryIO) -> Content:
    """What an open file holds, from its first bytes."""
    file.seek(0)
    head = file.read(HEAD_BYTES)
    if (start := after_id3(head)) > 0:
        file.seek(start)
        head = file.read(HEAD_BYTES).lstrip(b"\0") or head
        if head[:2] not in (*ADTS, *OTHER_LAYERS) and head[:4] != b"fLaC":
            return MP3
    return of_head(head)


def after_id3(head: bytes) -> int:
    """Where the ID3v2 tag ends that a file begins with; 0 without one."""
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    size = sum(byte << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
    return 10 + size + (10 if head[5] & 0x10 else 0)


def of_head(head: bytes) -> Content:
    """What a file holds that begins with `head`.

    Example:
        >>> of_head(b"RIFF\\x24\\0\\0\\0WAVEfmt ").name
        'a WAV file'
    """
    for marks, content in SIGNATURES:
        if all(head[at : at + len(mark)] == mark for at, mark in marks):
            return content
    if head[:2] in SYNC:
        return MP3
    if head[:2] in ADTS:
        return Content("an AAC stream", "media")
    if head[:2] in OTHER_LAYERS:
        return Content("an MPEG audio stream of layer I or II", "media")
    for start, step in ((0, 188), (4, 192)):
        if len(head) > start + 3 * step and set(head[start : start + 3 * step + 1 : step]) == {
            0x47
        }:
            return Content("an MPEG transport stream", "media")
    text = head.lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    if text.startswith(
        (b"ffconcat", b"#extm3u", b"[playlist]", b"v=0", b"<?xml", b"<mpd", b"<asx")
    ):
        return Content("a text file that names other files, which are not followed", "")
    if text.startswith((b"<!doctype html", b"<html")):
        return Content("a web page", "")
    if head and not head.strip(b"\0"):
        return Content("a file of zeros", "")
    if head and not (set(head) - {9, 10, 12, 13, 27} - set(range(32, 256))):
        return Content("a text file", "")
    return UNKNOWN


# FFmpeg's demuxers of formats that hold their samples themselves.
DEMUXERS = (
    *("aac", "ac3", "aiff", "amr", "ape", "asf", "au", "avi", "caf", "dsf", "dts", "eac3", "flac"),
    *("flv", "iff", "matroska", "mov", "mp3", "mpc", "mpc8", "mpeg", "mpegts", "mxf", "ogg"),
    *("oma", "rm", "tak", "truehd", "tta", "voc", "w64", "wav", "webm", "wv"),
)
SAFE = {"protocol_whitelist": "file", "format_whitelist": ",".join(DEMUXERS)}


def open_input(path: Path) -> Any:
    """Open a file for reading with PyAV.

    Raises:
        AudioFileError: FFmpeg cannot read it.
    """
    av = require("av", extra="media")
    try:
        return av.open(_url(path), options=SAFE)
    except (av.FFmpegError, ValueError) as error:
        found = sniff(path)
        known = f"it is {found.name}" if found is not UNKNOWN else reason(error)
        raise AudioFileError(
            f"{path} cannot be read as audio or video ({known}); copy it again or convert it"
        ) from error


def open_output(path: Path, muxer: str, options: dict[str, str]) -> Any:
    """Open a file for writing with PyAV. Raises PyAV's errors and `OSError`."""
    av = require("av", extra="media")
    return av.open(_url(path), "w", format=muxer, options=options)


# Names of FFmpeg's demuxers, with the suffixes of their files or libsndfile's name.
CONTAINERS = {
    "mov": ("M4A", "M4B", "MP4", "M4V", "MOV", "3GP", "3G2", "F4V"),
    "matroska": ("MKA", "MKV", "WEBM"),
    "asf": ("WMA", "WMV", "ASF"),
    "mpegts": ("TS", "MTS", "M2TS"),
    "mpeg": ("MPG", "MPEG", "VOB"),
    "ogg": ("OGA", "OGV"),  # with codecs that libsndfile does not know, such as FLAC
}


def container_of(demuxer: str, suffix: str) -> str:
    """The container of a file: its suffix, if that is usual for FFmpeg's demuxer.

    Example:
        >>> container_of("mov,mp4,m4a,3gp,3g2,mj2", ".mp3"), container_of("wav", ".wav")
        ('M4A', 'WAV')
    """
    name = demuxer.partition(",")[0]
    usual = CONTAINERS.get(name, (name.upper(),))
    return suffix[1:].upper() if suffix[1:].upper() in usual else usual[0]


def _url(path: Path) -> str:
    return "file:" + os.path.abspath(path)


def reason(error: BaseException) -> str:
    """The cause in an error of FFmpeg."""
    return str(getattr(error, "strerror", None) or error)


class FileView(io.RawIOBase):
    """Pieces of a file and other bytes as one file, read-only.

    Args:
        path: the file.
        pieces: bytes, the start and end of a part of the file, or a number of zeros.

    Example:
        >>> _ = Path("numbers.txt").write_text("0123456789")
        >>> FileView(Path("numbers.txt"), [b"n: ", (2, 5), 1]).read()
        b'n: 234\\x00'
    """

    def __init__(self, path: Path, pieces: Sequence[bytes | tuple[int, int] | int]) -> None:
        self._file = path.open("rb")
        self._pieces: list[tuple[int, int, bytes | tuple[int, int] | int]] = []
        self._length = self._at = 0
        for piece in pieces:
            size = piece if isinstance(piece, int) else len(piece)
            size = piece[1] - piece[0] if isinstance(piece, tuple) else size
            self._pieces.append((self._length, size, piece))
            self._length += size

    def seekable(self) -> bool:
        """Always True."""
        return True

    def readable(self) -> bool:
        """Always True."""
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to a byte position of the view."""
        self._at = offset + {0: 0, 1: self._at, 2: self._length}[whence]
        return self._at

    def tell(self) -> int:
        """The byte position of the next read."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` with the next bytes and return their number."""
        target, filled = memoryview(buffer).cast("B"), 0
        for start, length, piece in self._pieces:
            skip = self._at - start
            if filled == len(target) or not 0 <= skip < length:
                continue
            wanted = min(len(target) - filled, length - skip)
            if isinstance(piece, tuple):
                self._file.seek(piece[0] + skip)
                part = self._file.read(wanted)
            else:
                part = piece[skip : skip + wanted] if isinstance(piece, bytes) else bytes(wanted)
            target[filled : filled + len(part)] = part
            filled += len(part)
            self._at += len(part)
        return filled

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


def mp3_part(file: BinaryIO) -> tuple[int, int, str] | None:
    """The start and end of the MP3 stream inside a WAV file, in bytes, and the container; None for
    other files.
    """
    kind = riff.family(file)
    if kind is None or kind.name not in ("WAV", "RF64"):
        return None
    tag = 0
    for chunk in riff.chunks(file, kind):
        if chunk.name == b"fmt " and chunk.held >= 2:
            file.seek(chunk.offset)
            tag = struct.unpack(kind.order + "H", file.read(2))[0]
        if chunk.name == b"data":
            end = chunk.offset + chunk.held
            return (chunk.offset, end, kind.name) if tag == MP3_TAG else None
    return None


def is_foreign(file: BinaryIO) -> bool:
    """Whether libsndfile does not know the codec of a file: FLAC of 32 bits, and Ogg files without
    Vorbis and Opus. True for all files of other kinds.
    """
    file.seek(0)
    file.seek(after_id3(file.read(10)))
    head = file.read(64)
    if head.startswith(b"fLaC"):
        return len(head) >= 22 and ((head[20] & 1) << 4 | head[21] >> 4) + 1 > 24
    return not (head.startswith(b"OggS") and (b"\x01vorbis" in head or b"OpusHead" in head))


def completed_head(file: BinaryIO) -> bytes | None:
    """The first bytes of a file, up to its samples, with the sizes that its writer left open; None
    if they are complete.

    BW64 becomes RF64, which has the same layout and is known to libsndfile.
    """
    kind = riff.family(file)
    if kind is None or kind.name not in ("WAV", "RF64", "AIFF"):
        return None
    found = {chunk.name: chunk for chunk in riff.chunks(file, kind)}
    data, end = found.get(kind.data), file.seek(0, 2)
    if data is None:
        return None
    file.seek(0)
    head = bytearray(file.read(data.offset))
    wide = found.get(b"ds64")
    declared = int.from_bytes(head[-4:], "big" if kind.order == ">" else "little")
    if declared == 0xFFFFFFFF and wide and wide.size >= 16:
        declared = struct.unpack_from("<8xQ", head, wide.offset)[0]
    is_bw64 = head[:4] == b"BW64"
    if not is_bw64 and (declared == data.size or riff.size_unknown(declared, kind)):
        return None
    if is_bw64:
        head[:4] = b"RF64"
    if declared == data.size:
        return bytes(head)
    struct.pack_into(kind.order + "I", head, 4, min(end - 8, 0xFFFFFFFF))
    struct.pack_into(kind.order + "I", head, len(head) - 4, min(data.size, 0xFFFFFFFF))
    if wide and wide.size >= 24:
        struct.pack_into("<QQQ", head, wide.offset, end - 8, data.size, 0)
    if kind.name == "AIFF" and (comm := found.get(b"COMM")) and comm.held >= 8:
        channels, _, bits = struct.unpack_from(">HIH", head, comm.offset)
        block = max(channels * -(-bits // 8), 1)
        struct.pack_into(">I", head, comm.offset + 2, (data.size - 8) // block)
    return bytes(head)


def splice(file: BinaryIO, at: int, removed: int, inserted: bytes) -> None:
    """Replace `removed` bytes at position `at` by `inserted`, in place and in constant memory.

    The rest of the file moves; the file grows or shrinks.

    Example:
        >>> import io
        >>> file = io.BytesIO(b"one two three")
        >>> splice(file, 4, 3, b"2")
        >>> file.getvalue()
        b'one 2 three'
    """
    end, shift = file.seek(0, 2), len(inserted) - removed
    starts = range(at + removed, end, COPY_BYTES)
    if shift > 0:  # from the end, so that nothing is overwritten before it is moved
        starts = starts[::-1]
    for start in starts if shift else ():
        file.seek(start)
        block = file.read(min(COPY_BYTES, end - start))
        file.seek(start + shift)
        file.write(block)
    file.seek(at)
    file.write(inserted)
    file.truncate(end + shift)
