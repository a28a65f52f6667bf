"""Audio tracks of video files and phone recordings; other tracks are copied unchanged.

Needs the extra `media`.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from audioae.audio import AudioInfo, AudioReader, AudioWriter, check_output, info, read
from audioae.audio.media import SUFFIXES
from audioae.errors import AudioFileError, DependencyError, OutputError

av = pytest.importorskip("av", reason="needs PyAV: pip install 'audioae[media]'")
RATE = 48000


def tone(samples: int, channels: int = 2) -> np.ndarray:
    time = np.arange(samples) / RATE
    sweep = 0.3 * np.sin(2 * np.pi * (200 + 900 * time) * time)
    return np.repeat(sweep[None].astype(np.float32), channels, axis=0)


def save(path: Path, waveform: np.ndarray, subtype: str | None = None) -> AudioWriter:
    like = AudioInfo(
        RATE, len(waveform), waveform.shape[1], "WAV", "FLOAT", tags={"title": "Träume"}
    )
    with AudioWriter(path, check_output(path, like=like, subtype=subtype)) as writer:
        for start in range(0, waveform.shape[1], 5000):
            writer.write(waveform[:, start : start + 5000])
    return writer


def copy_file(source: Path, target: Path) -> AudioWriter:
    form = check_output(target, like=info(source))
    with AudioReader(source) as reader, AudioWriter(target, form) as writer:
        while (block := reader.read(7000)).shape[1]:
            writer.write(block)
    return writer


@pytest.mark.parametrize(
    ("name", "subtype", "error"),
    [
        ("a.m4a", "AAC", 0.05),
        ("a.m4a", "ALAC_16", 1 / 32768),
        ("a.m4a", "ALAC_24", 1 / 2**23),
        ("a.mp4", "AAC", 0.05),
        ("a.webm", "OPUS", 0.05),
        ("a.mkv", "OPUS", 0.05),
        ("a.mka", "FLAC_24", 1 / 2**23),
        ("a.mka", "FLAC_16", 1 / 32768),
        ("a.mov", "PCM_24", 1 / 2**23),
        ("a.mkv", "FLOAT", 0.0),
    ],
)
@pytest.mark.parametrize("samples", [1500, 40_001])
def test_length_alignment_and_form_are_kept(
    tmp_path: Path, name: str, subtype: str, error: float, samples: int
) -> None:
    first, second = tmp_path / name, tmp_path / ("b" + name)
    waveform = tone(samples)
    assert save(first, waveform, subtype).lost == []
    got = info(first)
    assert (got.sample_rate, got.channels, got.num_samples, got.subtype, got.tags) == (
        RATE,
        2,
        samples,
        subtype,
        {"title": "Träume"},
    )
    assert copy_file(first, second).lost == []
    again = info(second)
    assert (again, again.bit_rate is None) == (
        AudioInfo(**{**vars(got), "container": got.container}),
        got.bit_rate is None,
    )
    for path in (first, second):
        decoded, _ = read(path)
        assert decoded.shape == waveform.shape
        assert np.abs(decoded[:, 200:-200] - waveform[:, 200:-200]).max() <= error * 2


def test_blocks_equal_whole_and_seek_is_exact(tmp_path: Path) -> None:
    save(tmp_path / "a.m4a", tone(20_000), "AAC")
    whole, _ = read(tmp_path / "a.m4a")
    with AudioReader(tmp_path / "a.m4a") as reader:
        blocks = [reader.read(3000) for _ in range(8)]
    assert np.array_equal(np.concatenate(blocks, axis=1), whole)
    assert np.array_equal(
        read(tmp_path / "a.m4a", start=4321, num_samples=1000)[0], whole[:, 4321:5321]
    )


def make_video(path: Path, *, delay: float = 0.0) -> None:
    """Write a video of two seconds whose audio track starts `delay` seconds later."""
    waveform = tone(2 * RATE)
    with av.open(str(path), "w") as film:
        video = film.add_stream("mpeg4", rate=25, width=64, height=48, pix_fmt="yuv420p")
        audio = film.add_stream("aac", rate=RATE, layout="stereo")
        film.metadata["title"] = "a film"
        for number in range(50):
            picture = np.full((48, 64, 3), 5 * number, np.uint8)
            film.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            block = waveform[:, number * 1920 : (number + 1) * 1920]
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(block), format="fltp", layout="stereo"
            )
            frame.sample_rate, frame.time_base = RATE, Fraction(1, RATE)
            frame.pts = number * 1920 + round(delay * RATE)
            film.mux(audio.encode(frame))
        film.mux(video.encode(None))
        film.mux(audio.encode(None))


def pictures(path: Path) -> list[tuple[Any, ...]]:
    with av.open(str(path)) as film:
        return [
            (float(packet.pts * packet.time_base), bytes(packet))
            for packet in film.demux(video=0)
            if packet.size
        ]


def audio_time(path: Path, sample: int) -> float:
    """Presentation time of a sample of the audio track, seconds."""
    with av.open(str(path)) as film:
        for frame in film.decode(audio=0):
            if sample < frame.samples:
                return float(frame.time) + sample / RATE
            sample -= frame.samples
    raise AssertionError("the track is too short")


def lag(before: np.ndarray, after: np.ndarray) -> int:
    """Delay of `after` relative to `before`, samples, from the sweep in both."""
    piece = before[0, 20_000:24_000]
    return min(
        range(-3000, 3000),
        key=lambda shift: float(np.abs(after[0, 20_000 + shift : 24_000 + shift] - piece).sum()),
    )


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv", "out.mov"])
@pytest.mark.parametrize("delay", [0.0, 0.5])
def test_a_video_keeps_its_pictures(tmp_path: Path, name: str, delay: float) -> None:
    film, out = tmp_path / "in.mp4", tmp_path / name
    make_video(film, delay=delay)
    lost = copy_file(film, out).lost
    assert lost == [] or (len(lost) == 1 and lost[0].startswith("length: AAC"))
    assert [data for _, data in pictures(out)] == [data for _, data in pictures(film)]
    assert [at for at, _ in pictures(out)] == pytest.approx(
        [at for at, _ in pictures(film)], abs=0.002
    )
    before, after = read(film)[0], read(out)[0]
    shift = lag(before, after)
    assert shift == 0 or (
        delay and shift == 1024
    )  # FFmpeg keeps the encoder's padding if a track starts late, but its times are right
    assert np.abs(before[:, 20_000:80_000] - after[:, 20_000 + shift : 80_000 + shift]).max() < 0.1
    for sample in (20_000, 80_000):
        assert audio_time(out, sample + shift) == pytest.approx(audio_time(film, sample), abs=0.002)
    assert info(out).tags["title"] == "a film"


def test_the_audio_of_a_video_can_be_written_as_wav(tmp_path: Path) -> None:
    make_video(tmp_path / "in.mp4")
    writer = copy_file(tmp_path / "in.mp4", tmp_path / "out.wav")
    assert writer.lost == ["video track 0"]
    assert info(tmp_path / "out.wav").num_samples == info(tmp_path / "in.mp4").num_samples
    assert info(tmp_path / "out.wav").subtype == "PCM_16"


def test_an_audio_container_takes_no_pictures(tmp_path: Path) -> None:
    make_video(tmp_path / "in.mp4")
    assert copy_file(tmp_path / "in.mp4", tmp_path / "out.m4a").lost == ["pictures"]
    assert info(tmp_path / "out.m4a").subtype == "AAC"


def test_the_bit_rate_does_not_decrease(tmp_path: Path) -> None:
    waveform = np.random.default_rng(0).uniform(-0.3, 0.3, (2, 100_000)).astype(np.float32)
    save(tmp_path / "a.m4a", waveform, "AAC")
    copy_file(tmp_path / "a.m4a", tmp_path / "b.m4a")
    assert (info(tmp_path / "b.m4a").bit_rate or 0) >= (info(tmp_path / "a.m4a").bit_rate or 1)


def test_files_without_audio_are_errors(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no film at all\n" * 100)
    with pytest.raises(AudioFileError, match=r"text\.mp4 cannot be read"):
        info(tmp_path / "text.mp4")
    make_video(tmp_path / "in.mp4")
    data = (tmp_path / "in.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    with pytest.raises(AudioFileError, match=r"cut\.mp4 cannot be read"):
        info(tmp_path / "cut.mp4")


def test_an_error_while_writing_leaves_no_file(tmp_path: Path) -> None:
    form = check_output(tmp_path / "a.m4a", like=AudioInfo(RATE, 2, 10, "WAV", "PCM_16"))
    with pytest.raises(RuntimeError, match="stop"), AudioWriter(tmp_path / "a.m4a", form) as writer:
        writer.write(tone(5000))
        raise RuntimeError("stop")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "rate", "channels", "message"),
    [
        ("a.wma", 48000, 2, "read-only"),
        ("a.webm", 44100, 2, r"44\.1 kHz"),
        ("a.m4a", 48000, 12, "12 channels"),
    ],
)
def test_impossible_outputs_are_errors_before_writing(
    tmp_path: Path, name: str, rate: int, channels: int, message: str
) -> None:
    with pytest.raises(OutputError, match=message):
        check_output(tmp_path / name, like=AudioInfo(rate, channels, 10, "FLAC", "PCM_16"))


def test_without_pyav_the_error_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    (tmp_path / "a.m4a").write_bytes(bytes(100))
    with pytest.raises(DependencyError, match=r"audioae\[media\]"):
        info(tmp_path / "a.m4a")
    with pytest.raises(DependencyError, match=r"audioae\[media\]"):
        check_output(tmp_path / "b.m4a", like=AudioInfo(48000, 1, 10, "WAV", "PCM_16"))


def test_flac_in_a_video_becomes_flac(tmp_path: Path) -> None:
    save(tmp_path / "a.mka", tone(9000), "FLAC_24")
    copy_file(tmp_path / "a.mka", tmp_path / "b.wav")
    assert soundfile.info(tmp_path / "b.wav").subtype == "PCM_24"


def encode(path: Path, muxer: str, codec: str, samples: str, waveform: np.ndarray) -> None:
    """Write `[samples, 2]` with PyAV."""
    import av

    with av.open(str(path), "w", format=muxer) as file:
        stream = file.add_stream(codec, rate=48000, layout="stereo", format=samples)
        stream.metadata["TITLE"] = "a title"
        codes = np.round(waveform * 2**15).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(codes.reshape(1, -1), format="s16", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48000, 0, Fraction(1, 48000)
        size = stream.codec_context.frame_size or None
        convert = av.AudioResampler(samples, "stereo", 48000, frame_size=size)
        for part in (*convert.resample(frame), *convert.resample(None)):
            file.mux(stream.encode(part))
        file.mux(stream.encode(None))


@pytest.mark.parametrize("suffix", [".oga", ".ogg"])
@pytest.mark.parametrize("bits", [16, 24])
def test_flac_in_ogg_stays_flac_in_ogg(tmp_path: Path, suffix: str, bits: int) -> None:
    src, dst = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    encode(src, "ogg", "flac", "s16" if bits == 16 else "s32", tone(10_000).T)
    writer = copy_file(src, dst)
    assert writer.lost == []
    assert (info(dst).subtype, info(dst).num_samples) == (f"FLAC_{bits}", 10_000)
    assert np.array_equal(read(src)[0], read(dst)[0])
    assert info(dst).tags["title"] == "a title"
    # Other sources get the usual codec of the suffix, unless FLAC is asked for.
    plain = check_output(dst, like=info(save_wav(tmp_path)), overwrite=True)
    assert (plain.container, plain.subtype) == ("OGG", "VORBIS")
    asked = check_output(dst, like=info(save_wav(tmp_path)), overwrite=True, subtype="FLAC_16")
    assert asked.subtype == "FLAC_16"


def save_wav(folder: Path) -> Path:
    soundfile.write(folder / "plain.wav", tone(1000).T, 48000)
    return folder / "plain.wav"


@pytest.mark.parametrize("samples", ["s16p", "s32p"])
def test_alac_in_caf_is_read_to_its_end(tmp_path: Path, samples: str) -> None:
    """FFmpeg leaves out the padding of the last packet, which is not there, once more."""
    src, waveform = tmp_path / "in.caf", tone(10_000)
    encode(src, "caf", "alac", samples, waveform.T)
    assert info(src).num_samples == 10_000
    assert np.abs(read(src)[0] - waveform).max() < 2**-15


@pytest.mark.parametrize(
    ("name", "muxer", "codec", "samples"),
    [
        ("in.flv", "flv", "aac", "fltp"),
        ("in.wv", "wv", "wavpack", "s16p"),
        ("in.tta", "tta", "tta", "s16"),
    ],
)
def test_other_containers_are_read(
    tmp_path: Path, name: str, muxer: str, codec: str, samples: str
) -> None:
    src, dst = tmp_path / name, tmp_path / "out.wav"
    encode(src, muxer, codec, samples, tone(10_000).T)
    copy_file(src, dst)
    assert 10_000 <= info(dst).num_samples < 13_000
    assert Path(name).suffix in SUFFIXES  # folders are searched for them
