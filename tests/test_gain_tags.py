"""Tags that set the playback level are kept with the level, and dropped when it is changed."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fake_engines import constant

from audioae.audio import flac, info, ogg
from audioae.audio.gain_tags import LOUDNESS_AT, gain_tags
from audioae.audio.metadata import _copy
from audioae.audio.mp3 import encode_syncsafe
from audioae.denoising import FileJob, denoise_file, plan_file

NAMES = ["REPLAYGAIN_TRACK_GAIN", "REPLAYGAIN_ALBUM_PEAK", "R128_TRACK_GAIN"]
LINES = [b"MOOD=calm", *(f"{name}=-3.20 dB".encode() for name in NAMES), b"LABEL=one"]
LEVEL = 0.2


def make(path: Path, subtype: str | None = None) -> Path:
    noise = np.random.default_rng(0).normal(0, LEVEL, (48000, 1))
    soundfile.write(path, noise, 48000, subtype, format="OGG" if subtype else None)
    return path


def make_flac(folder: Path) -> Path:
    path = make(folder / "in.flac")
    with path.open("r+b") as file:
        blocks, end = flac.flac_blocks(file)
        kept = [block for block in blocks if block[0] == flac.STREAMINFO]
        comments = (flac.VORBIS_COMMENT, flac.join_comments(b"me", LINES))
        flac.splice(
            file, 4, end - 4, flac._join_blocks([*kept, comments, (flac.PADDING, bytes(9))])
        )
    return path


def make_ogg(folder: Path, name: str, subtype: str) -> Path:
    """An Ogg file with the comments of `make_flac`."""
    path, source = make(folder / name, subtype), make(folder / "comments.ogg", "VORBIS")
    with source.open("r+b") as file:
        head = ogg.ogg_head(file)
        assert head is not None
        packet = head.magic + flac.join_comments(b"me", LINES) + b"\x01"
        pages = ogg._paginate([packet, *head.packets[1:]], head.first.head[14:18])
        flac.splice(file, head.first.length, head.end - head.first.length, b"".join(pages))
    ogg.normalize_ogg(path, source)
    return path


def frame(version: int, name: bytes, data: bytes) -> bytes:
    if version == 2:
        return name + len(data).to_bytes(3, "big") + data
    size = encode_syncsafe(len(data)) if version == 4 else struct.pack(">I", len(data))
    return name + size + b"\0\0" + data


def id3(version: int) -> bytes:
    """A tag with a title, gains in several frames and codings, and another text."""
    texts = (b"TXX", b"TT2", b"RVA") if version == 2 else (b"TXXX", b"TIT2", b"RVA2")
    wide = b"\x01" + "replaygain_track_gain\0-3.20 dB".encode("utf-16")
    comment = b"\0engiTunNORM\0 00000000 0000"
    body = b"".join(
        frame(version, *each)
        for each in (
            (texts[0], b"\0MOOD\0calm"),
            (texts[0], b"\0REPLAYGAIN_ALBUM_PEAK\x000.91"),
            (texts[0], wide),
            (texts[1], b"\0a title"),
            (texts[2], b"track\0\x01\xfe\0\0"),
            (b"COM" if version == 2 else b"COMM", comment),
            (texts[0], b"\0LABEL\0one"),
        )
    )
    unsynchronised = version == 3
    if unsynchronised:
        body = body.replace(b"\xff", b"\xff\0")
    head = bytes([version, 0, 0x80 if unsynchronised else 0])
    return b"ID3" + head + encode_syncsafe(len(body)) + body


def make_mp3(folder: Path, version: int) -> Path:
    path = make(folder / "in.mp3")
    path.write_bytes(id3(version) + path.read_bytes())
    return path


def with_chunk(path: Path, name: bytes, data: bytes, order: str = "<") -> Path:
    data += bytes(len(data) % 2)
    whole = path.read_bytes() + name + struct.pack(order + "I", len(data)) + data
    path.write_bytes(whole[:4] + struct.pack(order + "I", len(whole) - 8) + whole[8:])
    return path


def bext() -> bytes:
    data = bytearray(b"MOOD calm LABEL one".ljust(602, b"\0"))
    data[346] = 2
    for number, at in enumerate(LOUDNESS_AT):
        struct.pack_into("<h", data, at, -2300 + number)
    struct.pack_into("<h", data, 414, 730)  # the loudness range
    return bytes(data)


def make_caf(folder: Path) -> Path:
    path = make(folder / "in.caf")
    texts = ["MOOD", "calm", "replaygain_track_gain", "-3.20 dB", "LABEL", "one"]
    data = struct.pack(">I", 3) + "".join(f"{text}\0" for text in texts).encode()
    path.write_bytes(path.read_bytes() + b"info" + struct.pack(">q", len(data)) + data)
    return path


ID3_NAMES = ["REPLAYGAIN_ALBUM_PEAK", "replaygain_track_gain", "RVA2", "iTunNORM"]
Maker = Callable[[Path], Path]
SOURCES: dict[str, tuple[Maker, list[str]]] = {
    "flac": (make_flac, NAMES),
    "vorbis": (lambda folder: make_ogg(folder, "in.ogg", "VORBIS"), NAMES),
    "opus": (lambda folder: make_ogg(folder, "in.opus", "OPUS"), NAMES),
    "id3v2.2": (lambda folder: make_mp3(folder, 2), [*ID3_NAMES[:2], "RVA", "iTunNORM"]),
    "id3v2.3": (lambda folder: make_mp3(folder, 3), ID3_NAMES),
    "id3v2.4": (lambda folder: make_mp3(folder, 4), ID3_NAMES),
    "wav id3": (lambda folder: with_chunk(make(folder / "in.wav"), b"id3 ", id3(4)), ID3_NAMES),
    "aiff id3": (
        lambda folder: with_chunk(make(folder / "in.aiff"), b"ID3 ", id3(4), ">"),
        ID3_NAMES,
    ),
    "bext": (
        lambda folder: with_chunk(make(folder / "in.wav"), b"bext", bext()),
        ["bext loudness"],
    ),
    "caf": (make_caf, ["replaygain_track_gain"]),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_tags_are_dropped_with_another_level(tmp_path: Path, kind: str) -> None:
    maker, names = SOURCES[kind]
    src = maker(tmp_path)
    kept, changed = (tmp_path / f"{name}{src.suffix}" for name in ("kept", "changed"))
    assert gain_tags(info(src)) == names
    assert denoise_file(src, kept, model=constant(0.5)).dropped_tags == ()
    assert gain_tags(info(kept)) == names

    job = FileJob(src, changed, tmp_path / f"residual{src.suffix}", normalize_lufs=-30.0)
    plan = plan_file(job)
    assert plan.to_dict()["dropped_tags"] == names
    result = denoise_file(
        src, changed, model=constant(0.5), normalize_lufs=-30, residual=job.residual
    )
    assert list(result.dropped_tags) == names
    naming = [line for line in result.warnings if names[0] in line]
    assert len(naming) == 1 and all(name in naming[0] for name in names)
    assert set(plan.warnings) <= set(result.warnings)
    for path in (changed, job.residual):
        assert path is not None and gain_tags(info(path)) == []
        data = path.read_bytes()
        assert b"MOOD" in data and b"calm" in data and b"LABEL" in data and b"one" in data
        assert info(path).num_samples == 48000
        assert b"a title" in data or "id3" not in kind


def test_the_loudness_range_of_a_broadcast_file_stays(tmp_path: Path) -> None:
    src = with_chunk(make(tmp_path / "in.wav"), b"bext", bext())
    denoise_file(src, tmp_path / "out.wav", model=constant(0.5), normalize_lufs=-30)
    data = (tmp_path / "out.wav").read_bytes()
    at = data.index(b"bext") + 8
    values = struct.unpack_from("<5h", data, at + LOUDNESS_AT[0])
    assert values == (0x7FFF, 730, 0x7FFF, 0x7FFF, 0x7FFF)


def test_another_container_names_the_tags_once(tmp_path: Path) -> None:
    result = denoise_file(
        make_flac(tmp_path), tmp_path / "out.wav", model=constant(0.5), normalize_lufs=-30
    )
    assert sum(NAMES[0] in line for line in result.warnings) == 1
    assert list(result.dropped_tags) == NAMES


def test_a_lowered_output_loses_the_tags(tmp_path: Path) -> None:
    src, dst = make_flac(tmp_path), tmp_path / "out.flac"
    same = denoise_file(src, dst, model=constant(0.5), clip_mode="rescale")
    assert same.dropped_tags == () and gain_tags(info(dst)) == NAMES
    loud = constant(9.0)
    result = denoise_file(src, dst, model=loud, clip_mode="rescale", overwrite=True)
    assert result.scale_db < 0
    assert list(result.dropped_tags) == NAMES and gain_tags(info(dst)) == []
    assert any(NAMES[0] in line for line in result.warnings)


@pytest.mark.parametrize("suffix", [".mka", ".mkv"])
def test_tags_of_films_are_dropped(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("av")
    from tiny_media import Form, make_media

    tags = {"MOOD": "calm", "REPLAYGAIN_TRACK_GAIN": "-3.20 dB"}
    src = make_media(tmp_path / f"in{suffix}", Form("libopus", 1, tags=tags))
    kept, changed = tmp_path / f"kept{suffix}", tmp_path / f"changed{suffix}"
    denoise_file(src, kept, model=constant(0.5))
    assert gain_tags(info(kept)) == ["REPLAYGAIN_TRACK_GAIN"]
    result = denoise_file(src, changed, model=constant(0.5), normalize_lufs=-30)
    assert result.dropped_tags == ("REPLAYGAIN_TRACK_GAIN",)
    assert gain_tags(info(changed)) == [] and b"calm" in changed.read_bytes()
    assert sum("REPLAYGAIN_TRACK_GAIN" in line for line in result.warnings) == 1


def test_the_gain_of_an_opus_header_is_in_the_samples(tmp_path: Path) -> None:
    """The decoder applies it, so the output has it in its samples and 0 in its header."""
    src, dst = make_ogg(tmp_path, "in.opus", "OPUS"), tmp_path / "out.opus"
    data = bytearray(src.read_bytes())
    at = data.index(b"OpusHead") + 16
    struct.pack_into("<h", data, at, -6 * 256)
    page = bytes(data[: at + 3])
    data[22:26] = struct.pack("<I", ogg._crc(page[:22] + bytes(4) + page[26:]))
    quiet = tmp_path / "quiet.opus"
    quiet.write_bytes(data)
    levels = {}
    for path in (src, quiet):
        denoise_file(path, dst, model=constant(1.0), overwrite=True)
        written = dst.read_bytes()
        assert struct.unpack_from("<h", written, written.index(b"OpusHead") + 16) == (0,)
        assert gain_tags(info(dst)) == NAMES
        levels[path] = float(np.std(soundfile.read(dst)[0]))
    assert levels[quiet] / levels[src] == pytest.approx(10 ** (-6 / 20), rel=0.05)


def test_copying_alone_keeps_all_tags(tmp_path: Path) -> None:
    src, target = make_flac(tmp_path), make(tmp_path / "other.flac")
    assert _copy("FLAC", src, target) == []
    assert gain_tags(info(target)) == NAMES
