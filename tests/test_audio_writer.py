"""Writing audio files: samples are kept bit by bit, and an error leaves no file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from audioae.audio import AudioInfo, AudioWriter, check_output, info, read, write
from audioae.errors import OutputError

MONO = AudioInfo(16000, 1, 100, "WAV", "PCM_16")


def test_an_error_while_writing_leaves_no_file(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match="stop"),
        AudioWriter(tmp_path / "out.wav", MONO) as writer,
    ):
        writer.write(np.zeros((1, 50)))
        assert [path.name[:9] for path in tmp_path.iterdir()] == [".audioae-"]
        raise RuntimeError("stop")
    assert not list(tmp_path.iterdir())


def test_an_existing_file_is_only_overwritten_on_request(tmp_path: Path) -> None:
    path = tmp_path / "out.wav"
    write(path, np.zeros(10), 8000)
    before = path.read_bytes()
    with pytest.raises(OutputError, match="exists"):
        write(path, np.ones(10), 8000)
    assert path.read_bytes() == before
    write(path, np.full(10, 0.5), 8000, overwrite=True)
    assert read(path)[0].tolist() == [[0.5] * 10]


def test_samples_beyond_full_scale_are_clamped_and_counted(tmp_path: Path) -> None:
    info_ = AudioInfo(16000, 2, 4, "WAV", "PCM_16")
    with AudioWriter(tmp_path / "out.wav", info_) as writer:
        writer.write(np.array([[0.0, 1.5, -1.0, -2.0], [0.5, 0.5, 1.0, 32767 / 32768]], np.float32))
    assert writer.clipped.tolist() == [2, 1]
    assert writer.num_clipped == 3
    samples, _ = soundfile.read(tmp_path / "out.wav", dtype="int16")
    assert samples.T.tolist() == [[0, 32767, -32768, -32768], [16384, 16384, 32767, 32767]]


def test_check_output_leaves_no_file_and_keeps_the_form(tmp_path: Path) -> None:
    like = AudioInfo(44100, 2, 1000, "FLAC", "PCM_24", tags={"title": "a"})
    assert check_output(tmp_path / "out.flac", like=like) == like
    assert check_output(tmp_path / "out.wav", like=like).subtype == "PCM_24"
    assert not list(tmp_path.iterdir())


def test_info_of_a_written_file_is_its_form(tmp_path: Path) -> None:
    write(tmp_path / "out.flac", np.zeros((2, 300), np.float32), 44100, subtype="PCM_24")
    got = info(tmp_path / "out.flac")
    assert (got.container, got.subtype, got.channels, got.num_samples, got.sample_rate) == (
        "FLAC",
        "PCM_24",
        2,
        300,
        44100,
    )
