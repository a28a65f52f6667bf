"""Damaged inputs are errors, and outputs that cannot be finished leave no file."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audioae import storage
from audioae.audio import (
    AudioInfo,
    AudioReader,
    AudioWriter,
    check_output,
    info,
    media,
    mp3,
    read,
    write,
)
from audioae.audio.metadata import find_losses
from audioae.errors import AudioaeError, AudioFileError, OutputError
from audioae.storage import AtomicFile

resource = pytest.importorskip("resource", reason="needs the limits of a POSIX system")
NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 20_000)).astype(np.float32)


def scan(path: Path) -> mp3.Stream | None:
    with path.open("rb") as file:
        return mp3.scan(file)


def cut(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


@pytest.mark.parametrize("name", ["a.wav", "a.aiff", "a.w64", "a.rf64", "a.caf", "a.au"])
@pytest.mark.parametrize("share", [0.5, 0.999])
def test_a_truncated_recording_is_an_error_with_both_lengths(
    tmp_path: Path, name: str, share: float
) -> None:
    path = tmp_path / name
    write(path, NOISE, 16000)
    held = int(path.stat().st_size * share)
    cut(path, share)
    with pytest.raises(
        AudioFileError,
        match=rf"{name}.* (declares \d+ bytes of samples, the file holds (\d+)|malformed)",
    ) as caught:
        info(path)
    if "holds" in str(caught.value):
        promised, there = (
            int(word.strip(",:;"))
            for word in str(caught.value).split()
            if word.strip(",:;").isdigit()
        )
        assert 80_000 <= promised <= 80_008
        assert there < held


def test_a_damaged_flac_is_an_error_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    write(path, NOISE, 16000)
    cut(path, 0.5)
    assert info(path).num_samples == 20_000
    with (
        pytest.raises(AudioFileError, match=r"a\.flac .*\d+ of 20000 samples can be read"),
        AudioReader(path) as reader,
    ):
        while reader.read(1000).shape[1]:
            pass


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000])
def test_a_wav_from_a_pipe_is_read_to_its_end(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.wav"
    write(path, NOISE, 16000)
    data = path.read_bytes()
    path.write_bytes(
        data[:4] + struct.pack("<I", size) + data[8:40] + struct.pack("<I", size) + data[44:]
    )
    assert read(path)[0].shape == (2, 20_000)


@pytest.mark.parametrize("outer", [0, 36, 80_036, 0xFFFFFFFF])
def test_a_wav_with_an_unfinished_header_is_read_to_its_end(tmp_path: Path, outer: int) -> None:
    path = tmp_path / "a.wav"
    write(path, NOISE, 16000)
    whole, data = read(path)[0], path.read_bytes()
    path.write_bytes(data[:4] + struct.pack("<I", outer) + data[8:40] + bytes(4) + data[44:])
    assert info(path).num_samples == 20_000
    assert np.array_equal(read(path)[0], whole)


def test_an_empty_wav_with_other_chunks_stays_empty(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    write(path, NOISE[:, :0], 16000)
    path.write_bytes(path.read_bytes() + b"note" + struct.pack("<I", 5) + b"hello\0")
    assert info(path).num_samples == 0


@pytest.mark.parametrize("size", [0, 0xFFFFFFFFFFFFFFFF])
def test_an_rf64_from_a_pipe_is_read_to_its_end(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.rf64"
    write(path, NOISE, 16000)
    whole, data = read(path)[0], bytearray(path.read_bytes())
    struct.pack_into("<QQQ", data, data.index(b"ds64") + 8, size, size, 0)
    path.write_bytes(data)
    assert np.array_equal(read(path)[0], whole)
    path.write_bytes(b"BW64" + data[4:])
    assert np.array_equal(read(path)[0], whole)


def test_an_aiff_from_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.aiff"
    write(path, NOISE, 16000)
    whole, data = read(path)[0], bytearray(path.read_bytes())
    data = data[: data.index(b"SSND") + 16 + 80_000]
    struct.pack_into(">I", data, data.index(b"COMM") + 10, 0)
    struct.pack_into(">I", data, data.index(b"SSND") + 4, 8)
    path.write_bytes(data)
    assert np.array_equal(read(path)[0], whole)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.aiff", "a.caf", "a.rf64", "a.w64", "a.au"])
def test_two_recordings_in_one_file_are_never_half_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write(path, NOISE, 16000)
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(AudioFileError, match=name):
        info(path)


@pytest.mark.parametrize(
    ("name", "muxer", "codec", "is_read"),
    [
        ("a.ts", "mpegts", "aac", True),
        ("a.mpg", "mpeg", "mp2", True),
        ("a.oga", "ogg", "flac", True),
        ("a.mka", "matroska", "flac", True),
        ("a.aac", "adts", "aac", True),
        ("a.mp4", "mp4", "aac", False),
        ("a.flv", "flv", "aac", False),
        ("a.tta", "tta", "tta", False),
    ],
)
def test_two_media_files_in_one_are_read_or_refused(
    tmp_path: Path, name: str, muxer: str, codec: str, is_read: bool
) -> None:
    av = pytest.importorskip("av")
    path = tmp_path / name
    with av.open(str(path), "w", format=muxer) as file:
        stream = file.add_stream(codec, rate=48000, layout="stereo")
        for at in range(0, 20_000, 1000):
            codes = np.round(NOISE[:, at : at + 1000].T.reshape(1, -1) * 2.0**15).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(codes, format="s16", layout="stereo")
            frame.sample_rate, frame.pts = 48000, at
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    once = info(path).num_samples
    path.write_bytes(path.read_bytes() * 2)
    if is_read:
        assert read(path)[0].shape == (2, info(path).num_samples)
        assert abs(info(path).num_samples - 2 * once) <= 2 * 1024
    else:
        with pytest.raises(AudioFileError, match=r"second recording.* byte \d+"):
            info(path)


def test_samples_that_the_header_does_not_declare_are_never_left_out_untold(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.wav"
    write(path, NOISE, 16000)
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = struct.pack("<I", 40_000)  # as after a crash of the recorder
    path.write_bytes(data)
    form = check_output(tmp_path / "out.wav", like=info(path))
    assert any("40,000 bytes" in line for line in find_losses([form]))
    data[at + 40_004 :] = bytes(40_000)  # zeros are padding
    path.write_bytes(data)
    assert info(path).unread_bytes == 0
    data[at + 40_004 :] = b"data" + struct.pack("<I", 40_000) + bytes(40_000)
    path.write_bytes(data)
    with pytest.raises(AudioFileError, match="second part"):
        info(path)


@pytest.mark.parametrize("name", ["a.ogg", "a.opus"])
def test_a_chained_ogg_file_is_read_to_its_end(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write(path, NOISE, 16000)
    whole, bit_rate = read(path)[0], info(path).bit_rate
    path.write_bytes(path.read_bytes() * 3)  # with the same stream number, too
    assert np.array_equal(read(path)[0], np.tile(whole, 3))
    assert np.array_equal(read(path, start=30_000, num_samples=9)[0], whole[:, 10_000:10_009])
    assert info(path).bit_rate == pytest.approx(bit_rate)
    write(tmp_path / f"b{name}", NOISE[:1], 16000)
    path.write_bytes(path.read_bytes() + (tmp_path / f"b{name}").read_bytes())
    with pytest.raises(AudioFileError, match="changes"):
        info(path)


@pytest.mark.parametrize("second", [(2, 24000), (1, 16000)])
def test_an_mp3_that_changes_its_form_is_an_error(tmp_path: Path, second: tuple[int, int]) -> None:
    path, other = tmp_path / "a.mp3", tmp_path / "b.mp3"
    write(path, NOISE, 16000)
    write(other, NOISE[: second[0]], second[1])
    for between in (b"", b"TAG".ljust(128, b" ")):
        path.write_bytes(path.read_bytes() + between + other.read_bytes())
        with pytest.raises(AudioFileError, match=r"a\.mp3 changes"):
            info(path)


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_mp3_streams_are_aligned_with_and_without_their_header(tmp_path: Path, rate: int) -> None:
    path = tmp_path / "a.mp3"
    write(path, NOISE, rate)
    whole, data, stream = read(path)[0], path.read_bytes(), scan(path)
    assert stream is not None and stream.delay is not None
    path.write_bytes(data[stream.start : stream.end])
    bare, late = read(path)[0], stream.delay + mp3.DECODER_DELAY
    assert bare.shape[1] == stream.mp3_frames * stream.samples_per_frame
    assert np.abs(bare[:, late : late + 19_000] - whole[:, :19_000]).max() < 1e-4
    path.write_bytes(data + data)
    twice = read(path)[0]
    assert np.abs(twice[:, :19_000] - whole[:, :19_000]).max() < 1e-4
    assert twice.shape[1] >= 2 * whole.shape[1]


def test_a_flac_from_a_pipe_has_its_exact_length(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    write(path, NOISE, 16000)
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0
    data[22:26] = bytes(4)  # the number of samples
    path.write_bytes(data)
    assert info(path).num_samples == 20_000
    assert np.array_equal(read(path)[0], read(path, start=0, num_samples=30_000)[0])
    assert read(path)[0].shape == (2, 20_000)


@pytest.fixture
def loud_then_silent(tmp_path: Path) -> Path:
    """An MP3 with a variable bit rate, whose first frames do not represent the rest."""
    sound = np.zeros((2, 300_000), np.float32)
    sound[:, :30_000] = np.random.default_rng(0).standard_normal((2, 30_000)) * 0.3
    path = tmp_path / "a.mp3"
    with soundfile.SoundFile(
        path, "w", 44100, 2, compression_level=0.0, bitrate_mode="VARIABLE"
    ) as file:
        file.write(sound.T)
    return path


def without_xing(path: Path) -> mp3.Stream:
    stream = scan(path)
    assert stream is not None and stream.declared_frames is not None
    path.write_bytes(path.read_bytes()[stream.start : stream.end])
    return stream


def test_an_mp3_without_a_header_has_its_exact_length(loud_then_silent: Path) -> None:
    whole, _ = read(loud_then_silent)
    stream = without_xing(loud_then_silent)
    assert stream.mp3_frames == stream.declared_frames
    assert (
        abs(soundfile.info(loud_then_silent).frames - 300_000) > 50_000
    )  # what libsndfile would do
    bare, _ = read(loud_then_silent)
    assert info(loud_then_silent).num_samples == bare.shape[1]
    assert 0 <= bare.shape[1] - 300_000 <= 3 * 1152
    late = 576 + 529  # the delays of encoder and decoder, which the header would tell
    assert np.abs(bare[:, late + 2000 : late + 290_000] - whole[:, 2000:290_000]).max() < 1e-4


def test_blocks_of_an_mp3_equal_the_whole(tmp_path: Path) -> None:
    write(tmp_path / "a.mp3", NOISE, 16000)
    whole, _ = read(tmp_path / "a.mp3")
    with AudioReader(tmp_path / "a.mp3") as reader:
        blocks = [reader.read(700) for _ in range(30)]
    assert np.abs(np.concatenate(blocks, axis=1) - whole).max() < 1e-6


@pytest.mark.parametrize("name", ["a.ogg", "a.opus", "a.mp3", "a.flac", "a.wav"])
def test_seek_is_exact(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, NOISE, 16000)
    whole, _ = read(tmp_path / name)
    with AudioReader(tmp_path / name) as reader:
        for start in (12_345, 777, 20_000, 0):
            reader.seek(start)
            assert np.abs(reader.read(500) - whole[:, start : start + 500]).max(initial=0) < 1e-6
        with pytest.raises(AudioFileError, match=r"20000 samples.*20001"):
            reader.seek(20_001)


def test_a_truncated_mp3_is_an_error_with_both_lengths(loud_then_silent: Path) -> None:
    cut(loud_then_silent, 0.5)
    with pytest.raises(AudioFileError, match=r"declares \d+ samples, the file holds \d+"):
        info(loud_then_silent)


def test_concatenated_mp3_files_are_read_to_the_end(loud_then_silent: Path) -> None:
    data = loud_then_silent.read_bytes()
    loud_then_silent.write_bytes(data + data)
    assert info(loud_then_silent).num_samples >= 600_000
    assert read(loud_then_silent)[0].shape[1] == info(loud_then_silent).num_samples


def test_any_file_name_can_be_read_and_written(tmp_path: Path) -> None:
    for name in ["with space.wav", "ümläut 夢.wav", "-.wav", os.fsdecode(b"\xff\xfe.wav")]:
        write(tmp_path / name, NOISE, 16000)
        assert read(tmp_path / name)[0].shape == NOISE.shape


@contextmanager
def full_disk() -> Iterator[None]:
    """Limit files to 40 kB, so that writes fail as on a full disk.

    Not a fixture, because the log of pytest may be longer.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    "name",
    [
        *("a.wav", "a.flac", "a.aiff", "a.w64", "a.rf64", "a.ogg", "a.mp3", "a.opus"),
        *("a.mka", "a.m4a", "a.webm", "a.mov", "a.ts"),
    ],
)
def test_a_full_disk_is_an_error_and_leaves_no_file(tmp_path: Path, name: str) -> None:
    if Path(name).suffix in media.SUFFIXES:
        pytest.importorskip("av")
    with (
        full_disk(),
        pytest.raises(OutputError, match=rf"{name} could not be written .* bytes free"),
    ):
        write(tmp_path / name, np.tile(NOISE, (1, 20)), 48000)
    assert not list(tmp_path.iterdir())


def test_an_output_larger_than_its_disk_is_an_error_before_writing(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"needs \d+ MiB, its disk has \d+ MiB free"):
        check_output(tmp_path / "a.w64", like=AudioInfo(48000, 64, 2**45, "WAV", "PCM_16"))
    assert not list(tmp_path.iterdir())


def test_a_file_that_was_not_written_completely_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(path: Path, *_: object) -> list[str]:
        cut(path, 0.5)
        return []

    monkeypatch.setattr("audioae.audio.writer.finish", half)
    with pytest.raises(OutputError, match="could not be written"):
        write(tmp_path / "a.wav", NOISE, 16000)
    assert not list(tmp_path.iterdir())


def test_unwritable_outputs_are_errors_before_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    like = AudioInfo(16000, 1, 10, "WAV", "PCM_16")
    (tmp_path / "there.wav").write_bytes(b"something")
    (tmp_path / "folder.wav").mkdir()
    for target, overwrite, message in [
        (tmp_path / "there.wav", False, "exists"),
        (tmp_path / "folder.wav", True, "is a folder"),
        (tmp_path / "none" / "a.wav", False, "no folder"),
        (Path("/proc/a.wav"), False, "cannot be written|no folder"),
        (tmp_path / ("x" * 300 + ".wav"), False, "cannot be written|too long"),
    ]:
        with pytest.raises(OutputError, match=message):
            check_output(target, overwrite=overwrite, like=like)
    real = os.open

    def denied(path: object, *rest: int) -> int:
        if "/.audioae-" in str(path):
            raise PermissionError(13, "Permission denied")
        return real(path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("os.open", denied)
    with pytest.raises(OutputError, match=r"a\.wav cannot be written \(Permission denied\)"):
        check_output(tmp_path / "a.wav", like=like)
    assert (tmp_path / "there.wav").read_bytes() == b"something"


def test_only_one_process_can_write_a_file(tmp_path: Path) -> None:
    with AtomicFile(tmp_path / "a.wav"), pytest.raises(OutputError, match="another process"):
        write(tmp_path / "a.wav", NOISE, 16000)
    assert not list(tmp_path.iterdir())


def test_a_temporary_file_of_a_killed_process_is_overwritten(tmp_path: Path) -> None:
    left = AtomicFile(tmp_path / "a.wav")
    left.path.write_bytes(b"half a file" * 100_000)
    left._unlock()
    storage._writing.clear()
    write(tmp_path / "a.wav", NOISE, 16000)
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]
    assert read(tmp_path / "a.wav")[0].shape == NOISE.shape


def test_a_symbolic_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link.wav").symlink_to(tmp_path / "real.wav")
    write(tmp_path / "real.wav", NOISE, 16000)
    write(tmp_path / "link.wav", NOISE[:1], 8000, overwrite=True)
    assert (tmp_path / "link.wav").is_symlink()
    assert info(tmp_path / "real.wav").sample_rate == 8000


def test_transposed_arrays_are_errors(tmp_path: Path) -> None:
    with pytest.raises(
        OutputError, match=r"\[channels, samples\], got the shape \[20000, 2\]; transpose"
    ):
        write(tmp_path / "a.wav", NOISE.T, 16000)
    with AudioWriter(tmp_path / "b.wav", AudioInfo(16000, 2, 0, "WAV", "PCM_16")) as writer:
        with pytest.raises(OutputError, match="2 channels"):
            writer.write(NOISE[:1])
        writer.write(NOISE)


@pytest.mark.parametrize(
    "name", ["a.wav", "a.flac", "a.aiff", "a.ogg", "a.mp3", "a.caf", "a.w64", "a.rf64", "a.opus"]
)
def test_mutated_files_are_read_completely_or_are_errors(tmp_path: Path, name: str) -> None:
    """A mutated file gives as many samples as its `info` says, or an `AudioaeError`."""
    write(tmp_path / name, NOISE[:, :3000], 16000)
    data = (tmp_path / name).read_bytes()
    for seed in range(40):
        draw = np.random.default_rng([seed, 7])
        mutated = bytearray(data)
        for _ in range(int(draw.integers(1, 6))):
            at = int(
                draw.integers(0, min(len(mutated), 200 if draw.random() < 0.7 else len(mutated)))
            )
            mutated[at] = int(draw.choice([0, 0xFF, 0x7F, int(draw.integers(256))]))
        if draw.random() < 0.3:
            mutated = mutated[: int(draw.integers(0, len(mutated)))]
        (tmp_path / name).write_bytes(mutated)
        try:
            with AudioReader(tmp_path / name) as reader:
                total = 0
                while (block := reader.read(4096)).shape[1] and total < 100_000:
                    total += block.shape[1]
                assert total in (reader.info.num_samples, 100_000) or total > 100_000
        except AudioaeError as error:
            assert name in str(error)
            assert "\n" not in str(error)


def test_import_is_light() -> None:
    heavy = ("av", "scipy", "torch", "librosa", "soxr")
    code = f"import sys, audioae.audio; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
    )
    assert done.stdout.strip() == "[]"
