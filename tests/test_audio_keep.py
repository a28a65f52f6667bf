"""Metadata of a recording are kept, and those that cannot be kept are reported."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audioae.audio import AudioInfo, AudioWriter, check_output, info, ogg, read, write
from audioae.audio.content import splice
from audioae.audio.flac import join_comments

BEXT = b"archive of a small town".ljust(602, b"\0") + b"A=PCM,F=16000\r\n"
NOTES = {
    b"bext": BEXT,
    b"iXML": b"<BWFXML/>x",
    b"cue ": struct.pack("<I", 0),
    b"smpl": bytes(36),
    b"LIST": b"adtlnote\x04\0\0\0abcd",
}
TEXTS = (
    b"INFO"
    + b"INAM"
    + struct.pack("<I", 6)
    + b"title\0"
    + b"IART"
    + struct.pack("<I", 4)
    + b"who\0"
)
PICTURE = np.random.default_rng(5).integers(0, 256, 100_000, dtype=np.uint8).tobytes()


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, (2, 5000)).astype(np.float32)


def copy_file(source: Path, target: Path) -> AudioWriter:
    """Read a file and write it again in the form that `check_output` chooses."""
    form = check_output(target, like=info(source))
    with AudioWriter(target, form) as writer:
        writer.write(read(source)[0])
    return writer


def riff_chunks(data: bytes, order: str = "<", start: int = 12) -> dict[bytes, bytes]:
    found, at = {}, start
    while at < len(data):
        name, size = struct.unpack(order + "4sI", data[at : at + 8])
        found[name if name != b"LIST" else name + data[at + 8 : at + 12]] = data[
            at + 8 : at + 8 + size
        ]
        at += 8 + size + size % 2
    return found


def add_chunks(path: Path, notes: dict[bytes, bytes], order: str = "<") -> None:
    data = path.read_bytes()
    for name, content in notes.items():
        data += name + struct.pack(order + "I", len(content)) + content + bytes(len(content) % 2)
    path.write_bytes(data[:4] + struct.pack(order + "I", len(data) - 8) + data[8:])


@pytest.fixture
def broadcast(tmp_path: Path, noise: np.ndarray) -> Path:
    path = tmp_path / "broadcast.wav"
    soundfile.write(path, noise.T[:4999], 16000, "PCM_24")
    add_chunks(path, {**NOTES, b"junk": bytes(7)})
    add_chunks(path, {b"LIST": TEXTS})
    return path


def test_wav_chunks_are_copied_byte_by_byte(broadcast: Path, tmp_path: Path) -> None:
    assert info(broadcast).tags == {"title": "title", "artist": "who"}
    writer = copy_file(broadcast, tmp_path / "out.wav")
    data = (tmp_path / "out.wav").read_bytes()
    found = riff_chunks(data)
    assert struct.unpack("<I", data[4:8])[0] == len(data) - 8
    assert found[b"LISTINFO"] == TEXTS
    assert found[b"LISTadtl"] == NOTES[b"LIST"]
    assert {name: found[name] for name in (b"bext", b"iXML", b"cue ", b"smpl")} == {
        k: v for k, v in NOTES.items() if k != b"LIST"
    }
    assert b"junk" not in found
    assert writer.lost == []
    assert info(tmp_path / "out.wav") == info(broadcast)
    assert np.array_equal(read(tmp_path / "out.wav")[0], read(broadcast)[0])


def test_another_container_keeps_the_tags_and_reports_the_rest(
    broadcast: Path, tmp_path: Path
) -> None:
    writer = copy_file(broadcast, tmp_path / "out.flac")
    assert info(tmp_path / "out.flac").tags == {"title": "title", "artist": "who"}
    assert writer.lost == ["bext", "iXML", "cue", "smpl", "LIST adtl"]


def test_a_container_without_tags_reports_them_as_lost(broadcast: Path, tmp_path: Path) -> None:
    assert {"tag title", "tag artist"} <= set(copy_file(broadcast, tmp_path / "out.w64").lost)


def test_a_large_wav_becomes_rf64_and_keeps_its_chunks(
    broadcast: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audioae.audio.formats.RIFF_LIMIT", 80_000)
    copy_file(broadcast, tmp_path / "out.wav")
    data = (tmp_path / "out.wav").read_bytes()
    assert data[:4] == b"RF64"
    assert struct.unpack("<Q", data[20:28])[0] == len(data) - 8
    got = info(tmp_path / "out.wav")
    assert (got.container, got.num_samples, got.tags) == (
        "RF64",
        4999,
        {"title": "title", "artist": "who"},
    )
    assert BEXT in data
    copy_file(tmp_path / "out.wav", tmp_path / "again.wav")
    assert np.array_equal(read(tmp_path / "again.wav")[0], read(broadcast)[0])


def test_the_loudspeaker_mask_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "surround.wav"
    soundfile.write(path, np.zeros((100, 6)), 48000, "PCM_16", format="WAVEX")
    data = bytearray(path.read_bytes())
    data[40:44] = struct.pack("<I", 0x60F)  # side instead of back loudspeakers
    path.write_bytes(data)
    copy_file(path, tmp_path / "out.wav")
    assert (
        riff_chunks((tmp_path / "out.wav").read_bytes())[b"fmt "]
        == riff_chunks(bytes(data))[b"fmt "]
    )


def test_aiff_markers_are_kept(tmp_path: Path, noise: np.ndarray) -> None:
    path = tmp_path / "in.aiff"
    with soundfile.SoundFile(path, "w", 44100, 2, "PCM_16") as sound:
        sound.title = "a title"
        sound.write(noise.T)
    markers = struct.pack(">HHI", 1, 1, 100) + b"\x03one"
    add_chunks(path, {b"MARK": markers}, ">")
    assert copy_file(path, tmp_path / "out.aiff").lost == []
    found = riff_chunks((tmp_path / "out.aiff").read_bytes(), ">")
    assert found[b"MARK"] == markers
    assert info(tmp_path / "out.aiff") == info(path)


def test_caf_chunks_are_kept(tmp_path: Path, noise: np.ndarray) -> None:
    path = tmp_path / "in.caf"
    soundfile.write(path, noise.T, 44100, "PCM_16")
    note = b"uuid" + struct.pack(">q", 20) + b"0123456789abcdefnote"
    path.write_bytes(path.read_bytes() + note)
    copy_file(path, tmp_path / "out.caf")
    assert (tmp_path / "out.caf").read_bytes().endswith(note)
    assert np.array_equal(read(tmp_path / "out.caf")[0], read(path)[0])


def test_w64_chunks_are_not_read_as_samples(tmp_path: Path, noise: np.ndarray) -> None:
    path = tmp_path / "in.w64"
    soundfile.write(path, noise.T[:4999, :1], 44100, "PCM_24")
    note = (
        b"bext"
        + bytes.fromhex("f3acd3118cd100c04f8edb8a")
        + struct.pack("<Q", 24 + 9)
        + b"some text"
    )
    before = read(path)[0]
    path.write_bytes(path.read_bytes() + bytes(-path.stat().st_size % 8) + note)
    assert np.array_equal(read(path)[0], before)
    assert copy_file(path, tmp_path / "out.w64").lost == ["bext"]
    assert np.array_equal(read(tmp_path / "out.w64")[0], before)


def test_flac_comments_and_pictures_are_kept(tmp_path: Path, noise: np.ndarray) -> None:
    path = tmp_path / "in.flac"
    soundfile.write(path, noise.T, 44100, "PCM_24")
    lines = ["TITLE=Träume".encode(), b"ALBUMARTIST=somebody", b"ISRC=XX0001"]
    picture = (
        struct.pack(">II9sI4s5I", 3, 9, b"image/png", 4, b"text", 1, 1, 24, 0, len(PICTURE))
        + PICTURE
    )
    blocks = [(4, join_comments(b"an encoder", lines)), (6, picture), (2, b"appldata")]
    new = b"".join(
        bytes([kind | (0x80 if kind == 2 else 0)]) + len(data).to_bytes(3, "big") + data
        for kind, data in blocks
    )
    data, end, last = path.read_bytes(), 4, False
    while not last:
        last, end = data[end] >= 0x80, end + 4 + int.from_bytes(data[end + 1 : end + 4], "big")
    path.write_bytes(
        data[:4] + bytes([0]) + data[5:42] + new + data[end:]
    )  # STREAMINFO comes first
    assert info(path).tags == {"title": "Träume"}
    assert copy_file(path, tmp_path / "out.flac").lost == []
    data = (tmp_path / "out.flac").read_bytes()
    assert new in data
    assert info(tmp_path / "out.flac") == info(path)
    assert np.array_equal(read(tmp_path / "out.flac")[0], read(path)[0])
    assert copy_file(path, tmp_path / "out.wav").lost == [
        "ALBUMARTIST",
        "ISRC",
        "picture",
        "application data",
    ]


def test_mp3_tags_are_copied_completely(tmp_path: Path, noise: np.ndarray) -> None:
    path = tmp_path / "in.mp3"
    write(path, noise, 44100)
    image = b"APIC" + struct.pack(">I", 1000) + bytes(2) + PICTURE[:1000]
    title = b"TIT2" + struct.pack(">I", 7) + bytes(2) + b"\x00abcdef"
    tag = (
        b"ID3\x03\x00\x00\x00\x00"
        + bytes([(len(image + title)) >> 7, len(image + title) & 0x7F])
        + image
        + title
    )
    old = b"TAG" + b"abcdef".ljust(125, b"\0")
    path.write_bytes(tag + path.read_bytes() + old)
    assert copy_file(path, tmp_path / "out.mp3").lost == []
    data = (tmp_path / "out.mp3").read_bytes()
    assert data.startswith(tag)
    assert data.endswith(old)
    assert info(tmp_path / "out.mp3").num_samples == info(path).num_samples == 5000
    assert info(tmp_path / "out.mp3").tags["title"] == "abcdef"
    assert "APIC" in copy_file(path, tmp_path / "out.wav").lost


def test_mp3_tags_from_other_containers_are_unicode(tmp_path: Path, noise: np.ndarray) -> None:
    tags = {
        "title": "Träume 夢",
        "artist": "Ægir",
        "album": "a",
        "date": "2021",
        "genre": "Speech",
        "tracknumber": "7",
        "comment": "ó",
    }
    with soundfile.SoundFile(tmp_path / "in.flac", "w", 44100, 2, "PCM_16") as sound:
        for name, text in tags.items():
            setattr(sound, name, text)
        sound.write(noise.T)
    assert copy_file(tmp_path / "in.flac", tmp_path / "out.mp3").lost == []
    assert info(tmp_path / "out.mp3").tags == tags


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_ogg_comments_of_any_length_are_kept(
    tmp_path: Path, noise: np.ndarray, subtype: str
) -> None:
    long, short, plain = tmp_path / "long.ogg", tmp_path / "short.ogg", tmp_path / "plain.ogg"
    tags = {"title": "x" * 150_000, "artist": "who"}  # on three pages
    with soundfile.SoundFile(long, "w", 48000, 2, "VORBIS") as sound:
        for name, text in tags.items():
            setattr(sound, name, text)
        sound.write(noise.T)
    with soundfile.SoundFile(short, "w", 48000, 2, subtype) as sound:
        sound.write(np.tile(noise.T, (4, 1)))
    shutil.copy(short, plain)
    for path in (long, short):
        assert ogg.normalize_ogg(short, path) == []
        got = info(short)  # libsndfile drops pages with a wrong checksum
        assert {name: got.tags[name] for name in tags} == tags
        assert (got.num_samples, got.subtype) == (20_000, subtype)
        assert np.array_equal(read(short)[0], read(plain)[0])
    assert copy_file(short, tmp_path / "out.ogg").lost == []
    assert info(tmp_path / "out.ogg") == got
    ogg.normalize_ogg(short, plain)
    assert info(short).tags == {}
    assert np.array_equal(read(short)[0], read(plain)[0])


@pytest.mark.parametrize(
    "name", ["a.wav", "a.aiff", "a.caf", "a.ogg", "a.opus", "a.mp3", "a.flac", "a.w64", "a.rf64"]
)
def test_writing_twice_gives_the_same_bytes(
    tmp_path: Path, noise: np.ndarray, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    like = AudioInfo(48000, 2, 5000, "WAV", "FLOAT", tags={"title": "a"})
    first, second = tmp_path / name, tmp_path / ("b" + name)
    for path in (first, second):
        with AudioWriter(path, check_output(path, like=like)) as writer:
            writer.write(noise)
    a, b = first.read_bytes(), second.read_bytes()
    assert a == b
    peak = a.find(b"PEAK")
    assert peak < 0 or a[peak + 12 : peak + 16] == bytes(4)


@pytest.mark.parametrize("removed", [0, 3, 5000])
@pytest.mark.parametrize("inserted", [0, 3, 7000])
def test_splice_moves_the_rest_of_the_file(
    tmp_path: Path, removed: int, inserted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audioae.storage.COPY_BYTES", 1000)
    old, new = PICTURE[:30_000], PICTURE[50_000 : 50_000 + inserted]
    path = tmp_path / "bytes"
    path.write_bytes(old)
    with path.open("r+b") as file:
        splice(file, 100, removed, new)
    assert path.read_bytes() == old[:100] + new + old[100 + removed :]


def test_a_writer_needs_no_source(tmp_path: Path, noise: np.ndarray) -> None:
    tags: dict[str, str] = {"title": "a", "genre": "b"}
    make: Callable[[str], AudioInfo] = lambda name: AudioInfo(
        48000, 2, 10, name, "PCM_16", tags=tags, source=Path("gone")
    )
    with AudioWriter(tmp_path / "out.wav", make("WAV")) as writer:
        writer.write(noise)
    assert info(tmp_path / "out.wav").tags == tags
    assert writer.lost == []
