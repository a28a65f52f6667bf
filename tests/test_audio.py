"""Reading audio files: information, whole files, blocks, and errors that name the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from audioae.audio import AudioReader, info, read
from audioae.errors import AudioFileError


@pytest.fixture
def noise() -> np.ndarray:
    return (
        np.round(np.random.default_rng(0).uniform(-1, 0.99, (2, 1000)) * 32768).astype(np.float32)
        / 32768
    )


@pytest.fixture
def stereo(tmp_path: Path, noise: np.ndarray) -> Path:
    soundfile.write(tmp_path / "stereo.wav", noise.T, 22050, "PCM_16")
    return tmp_path / "stereo.wav"


def test_info_returns_the_form_of_a_file(stereo: Path) -> None:
    got = info(stereo)
    assert (got.sample_rate, got.channels, got.num_samples, got.container, got.subtype) == (
        22050,
        2,
        1000,
        "WAV",
        "PCM_16",
    )
    assert got.seconds == pytest.approx(1000 / 22050)


def test_read_gives_channels_first_float32(stereo: Path, noise: np.ndarray) -> None:
    waveform, sample_rate = read(stereo)
    assert sample_rate == 22050
    assert waveform.dtype == np.float32
    assert np.array_equal(waveform, noise)
    assert np.array_equal(read(stereo, start=100, num_samples=50)[0], noise[:, 100:150])
    assert read(stereo, start=1000)[0].shape == (2, 0)


def test_blocks_equal_whole(stereo: Path, noise: np.ndarray) -> None:
    with AudioReader(stereo) as reader:
        blocks = [reader.read(300) for _ in range(5)]
    assert [block.shape[1] for block in blocks] == [300, 300, 300, 100, 0]
    assert np.array_equal(np.concatenate(blocks, axis=1), noise)


def test_a_start_after_the_end_is_an_error(stereo: Path) -> None:
    with pytest.raises(AudioFileError, match=r"stereo\.wav has 1000 samples.*1001"):
        read(stereo, start=1001)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.wav", None, "No such file"),
        ("empty.wav", b"", "is empty"),
        (
            "text.wav",
            b"no audio at all, but a long enough line of text\n" * 20,
            "cannot be read as audio",
        ),
        ("headerless.raw", bytes(1000), "no header"),
    ],
)
def test_files_without_audio_are_errors(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(AudioFileError, match=message) as caught:
        info(tmp_path / name)
    assert name in str(caught.value)


def test_a_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AudioFileError, match="is a folder"):
        read(tmp_path)
