"""Files are told by their content, and FFmpeg opens nothing but the file that was named."""

from pathlib import Path

import numpy as np
import pytest

from audioae.audio import info, read, write
from audioae.errors import AudioFileError


def tone(num_samples: int = 16000, channels: int = 1) -> np.ndarray:
    """A tone `[channels, num_samples]` with another level in each channel."""
    wave = np.sin(2 * np.pi * 440 * np.arange(num_samples) / 16000)
    return np.outer(0.5 / np.arange(1, channels + 1), wave).astype(np.float32)


@pytest.mark.parametrize(
    "name",
    ["2024-05-06T12:30:00.m4a", "Interview: part 1.m4a", "file:x.m4a", "http:a.m4a", "-.m4a"],
)
def test_names_are_no_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    pytest.importorskip("av")
    monkeypatch.chdir(tmp_path)
    write("x.m4a", tone(1000), 16000)
    write(name, tone(2000), 16000, overwrite=True)
    assert info("x.m4a").num_samples == 1000
    assert read(name)[0].shape == (1, 2000)


def test_a_list_of_other_files_is_no_recording(tmp_path: Path) -> None:
    pytest.importorskip("av")
    write(tmp_path / "secret.wav", tone(), 16000)
    for name, text in {
        "concat.m4a": "ffconcat version 1.0\nfile secret.wav\n",
        "hls.mp4": "#EXTM3U\n#EXTINF:1,\nsecret.wav\n#EXT-X-ENDLIST\n",
        "sdp.mkv": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n",
    }.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(AudioFileError, match=name):
            info(tmp_path / name)
