"""The output has the format of the input, for pairs of containers, sample formats, sample rates,
channels and lengths, and for special cases.
"""

from __future__ import annotations

import itertools
import resource
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fake_engines import FakeEngine, constant, smoothing
from tiny import noise

from audioae.audio import info, read
from audioae.denoising import DenoiseSettings, denoise, denoise_file
from audioae.denoising.stream import block_length
from audioae.errors import AudioFileError, SettingsError

HOP = 256
FORMS = [
    *(
        ("wav", "WAV", subtype)
        for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW")
    ),
    *(("wav", "WAVEX", subtype) for subtype in ("PCM_16", "PCM_24", "FLOAT")),
    *(("flac", "FLAC", subtype) for subtype in ("PCM_S8", "PCM_16", "PCM_24")),
    *(("aiff", "AIFF", subtype) for subtype in ("PCM_S8", "PCM_16", "PCM_24", "PCM_32", "FLOAT")),
    *(("au", "AU", subtype) for subtype in ("PCM_16", "PCM_24", "FLOAT")),
    # Not ALAC_24: it loses bits, so the output is PCM_24.
    *(("caf", "CAF", subtype) for subtype in ("PCM_16", "PCM_24", "FLOAT", "ALAC_16")),
    *(("w64", "W64", subtype) for subtype in ("PCM_16", "PCM_24")),
    *(("rf64", "RF64", subtype) for subtype in ("PCM_16", "PCM_24")),
]
RATES = [8000, 11025, 16000, 22050, 44100, 48000, 96000, 192000]
CHANNELS = [1, 2, 6]
LENGTHS = [0, 1, HOP - 1, HOP, HOP + 1, "block-1", "block", "block+1"]
EXACT = {"PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "PCM_S8", "PCM_U8", "ALAC_16"}


def to_samples(length: int | str, sample_rate: int, channels: int) -> int:
    return (
        length
        if isinstance(length, int)
        else block_length(sample_rate, channels) + int(length.removeprefix("block") or 0)
    )


def make(path: Path, waveform: np.ndarray, sample_rate: int, container: str, subtype: str) -> Path:
    with soundfile.SoundFile(
        path, "w", sample_rate, len(waveform), subtype, format=container
    ) as sound:
        sound.write(waveform.T)
    return path


def check_format(
    folder: Path, form: tuple[str, str, str], sample_rate: int, channels: int, samples: int
) -> None:
    """With a gain of one half, the output has the format of the input and half its samples."""
    suffix, container, subtype = form
    src, dst = folder / f"in.{suffix}", folder / f"out.{suffix}"
    make(src, noise(samples, channels), sample_rate, container, subtype)
    result = denoise_file(src, dst, model=constant(0.5), overwrite=True)
    before, after = info(src), info(dst)
    for name in ("sample_rate", "channels", "num_samples", "container", "subtype", "endian"):
        assert getattr(before, name) == getattr(after, name), name
    assert (before.sample_rate, before.channels, before.container, before.subtype) == (
        sample_rate,
        channels,
        container,
        subtype,
    )
    assert result.num_samples == before.num_samples
    if form[1:] != ("AIFF", "PCM_S8"):  # libsndfile counts the padding byte of an odd chunk
        assert before.num_samples == samples
    if subtype in EXACT:
        step = 2.0**-7 if subtype.endswith("8") else 2.0**-15 if subtype.endswith("16") else 1e-5
        assert np.abs(read(dst)[0] - 0.5 * read(src)[0]).max(initial=0) < step


@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form[1]}-{form[2]}")
def test_every_format_at_every_length(tmp_path: Path, form: tuple[str, str, str]) -> None:
    for index, length in enumerate(LENGTHS):
        rate, channels = RATES[index % 4], CHANNELS[index % 3]
        samples = to_samples(length, rate, channels)
        # libsndfile cannot write empty FLAC and ALAC files.
        if samples or (form[1] != "FLAC" and form[2] != "ALAC_16"):
            check_format(tmp_path, form, rate, channels, samples)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form[1]}-{form[2]}")
def test_every_format_at_every_rate_and_channel(tmp_path: Path, form: tuple[str, str, str]) -> None:
    for index, (rate, channels) in enumerate(itertools.product(RATES, CHANNELS)):
        check_format(tmp_path, form, rate, channels, (1, HOP - 1, HOP, HOP + 1)[index % 4])


@pytest.mark.parametrize("sample_rate", RATES)
@pytest.mark.parametrize("channels", CHANNELS)
def test_every_rate_channel_and_short_length(
    tmp_path: Path, sample_rate: int, channels: int
) -> None:
    for length in (0, 1, HOP - 1, HOP, HOP + 1):
        check_format(tmp_path, ("wav", "WAV", "PCM_24"), sample_rate, channels, length)


@pytest.mark.parametrize("sample_rate", RATES)
@pytest.mark.parametrize("extra", ["block-1", "block", "block+1"])
def test_every_rate_around_a_block(tmp_path: Path, sample_rate: int, extra: str) -> None:
    check_format(
        tmp_path, ("wav", "WAV", "PCM_16"), sample_rate, 1, to_samples(extra, sample_rate, 1)
    )


# Special cases.


def test_full_scale_samples(tmp_path: Path) -> None:
    square = np.where(np.arange(16000) // 40 % 2, 1.0, -1.0)[None]
    make(tmp_path / "in.wav", square, 16000, "WAV", "PCM_16")
    result = denoise_file(tmp_path / "in.wav", tmp_path / "out.wav", model=constant(1.0))
    assert np.abs(read(tmp_path / "out.wav")[0] - read(tmp_path / "in.wav")[0]).max() <= 2.0**-15
    assert result.num_clipped <= 16000


def test_over_full_scale_samples(tmp_path: Path) -> None:
    make(tmp_path / "in.wav", noise(16000, level=1.0), 16000, "WAV", "FLOAT")
    over = int((np.abs(read(tmp_path / "in.wav")[0]) > 1).sum())
    kept = denoise_file(tmp_path / "in.wav", tmp_path / "float.wav", model=constant(1.0))
    assert kept.num_clipped == 0
    assert np.abs(read(tmp_path / "float.wav")[0] - read(tmp_path / "in.wav")[0]).max() < 1e-5
    clamped = denoise_file(
        tmp_path / "in.wav", tmp_path / "int.wav", model=constant(1.0), subtype="PCM_16"
    )
    assert clamped.num_clipped == pytest.approx(over, abs=5)
    assert np.abs(read(tmp_path / "int.wav")[0]).max() == 1


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
@pytest.mark.parametrize("sample_rate", [16000, 44100])
def test_all_zeros(tmp_path: Path, subtype: str, sample_rate: int) -> None:
    make(tmp_path / "in.wav", np.zeros((2, 3 * sample_rate)), sample_rate, "WAV", subtype)
    result = denoise_file(
        tmp_path / "in.wav",
        tmp_path / "out.wav",
        model=smoothing(),
        settings=DenoiseSettings(adapt_noise=True),
    )
    assert not read(tmp_path / "out.wav")[0].any()
    assert result.verdict is not None
    assert (
        result.verdict.input_snr_db,
        result.verdict.out_of_domain,
        result.mean_attenuation_db,
    ) == (None, None, 0.0)


def test_six_channels(tmp_path: Path) -> None:
    waveform = noise(48000, 6) * np.float32(2.0) ** -np.arange(6, dtype=np.float32)[:, None]
    waveform[3] = 0
    make(tmp_path / "in.wav", waveform, 48000, "WAVEX", "PCM_24")
    denoise_file(tmp_path / "in.wav", tmp_path / "out.wav", model=constant(0.5))
    enhanced = read(tmp_path / "out.wav")[0]
    assert np.abs(enhanced - 0.5 * waveform).max() < 1e-5
    assert not enhanced[3].any()
    layout = [(tmp_path / name).read_bytes()[40:44] for name in ("in.wav", "out.wav")]
    assert layout[0] == layout[1]


def test_quiet_24_bit(tmp_path: Path) -> None:
    make(tmp_path / "in.wav", noise(16000, level=1e-5), 16000, "WAV", "PCM_24")
    denoise_file(tmp_path / "in.wav", tmp_path / "out.wav", model=constant(1.0))
    assert np.array_equal(read(tmp_path / "in.wav")[0], read(tmp_path / "out.wav")[0])


def test_tagged_24_bit_44k_stereo_flac(tmp_path: Path) -> None:
    src, dst = tmp_path / "in.flac", tmp_path / "out.flac"
    with soundfile.SoundFile(src, "w", 44100, 2, "PCM_24") as sound:
        sound.title, sound.artist, sound.date = "Träume", "somebody", "1987"
        sound.write(noise(44100, 2).T)
    denoise_file(src, dst, model=constant(0.5))
    before, after = info(src), info(dst)
    assert before == after
    assert (after.sample_rate, after.channels, after.num_samples, after.subtype) == (
        44100,
        2,
        44100,
        "PCM_24",
    )
    assert after.tags == {"title": "Träume", "artist": "somebody", "date": "1987"}
    assert np.abs(read(dst)[0] - 0.5 * read(src)[0]).max() < 1e-5


@pytest.mark.parametrize("samples", [2, 100, 511, 512, 513])
@pytest.mark.parametrize("sample_rate", [8000, 16000, 192000])
def test_shorter_than_a_window(tmp_path: Path, samples: int, sample_rate: int) -> None:
    make(tmp_path / "in.wav", noise(samples), sample_rate, "WAV", "FLOAT")
    denoise_file(tmp_path / "in.wav", tmp_path / "out.wav", model=constant(1.0))
    assert np.abs(read(tmp_path / "out.wav")[0] - read(tmp_path / "in.wav")[0]).max() < 1e-5


@pytest.mark.parametrize("sample_rate", [16000, 44100])
def test_seams_between_blocks(tmp_path: Path, sample_rate: int) -> None:
    length = block_length(sample_rate, 1)
    hum = 0.3 * np.sin(2 * np.pi * 440 * np.arange(2 * length + 5000) / sample_rate)[None]
    make(tmp_path / "in.wav", hum, sample_rate, "WAV", "FLOAT")
    denoise_file(
        tmp_path / "in.wav",
        tmp_path / "out.wav",
        model=smoothing(),
        settings=DenoiseSettings(adapt_noise=True),
    )
    jerk = np.abs(np.diff(read(tmp_path / "out.wav")[0][0], 3))
    usual = jerk[length // 2 : length - 2000].max()
    for seam in (length, 2 * length):
        assert jerk[seam - 1500 : seam + 1500].max() < 1.2 * usual


def test_memory_on_long_files(tmp_path: Path) -> None:
    """A file of 20 minutes needs as much memory as one of a minute; tests/benchmarks measures
    hours.
    """
    minute = np.tile(noise(8000), (1, 60)).T
    for name, minutes in (("short", 1), ("long", 20)):
        with soundfile.SoundFile(tmp_path / f"{name}.wav", "w", 8000, 1, "PCM_16") as sound:
            for _ in range(minutes):
                sound.write(minute)
    peaks = []
    model = stateless(0.5)
    for name in ("short", "long"):
        denoise_file(tmp_path / f"{name}.wav", tmp_path / "out.wav", model=model, overwrite=True)
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    assert peaks[1] - peaks[0] < 20  # MiB; the file as float32 is 37


def stateless(gain: float) -> FakeEngine:
    """A constant gain whose state, unlike that of `constant`, does not hold all frames."""
    engine = constant(gain)
    engine.step = lambda spectrum, state=None: (np.full(spectrum.shape, gain, np.float32), state)
    return engine


def test_samples_by_channels_arrays_in_the_api() -> None:
    with pytest.raises(SettingsError, match=r"\(16000, 2\).*transpose"):
        denoise(np.zeros((16000, 2), np.float32), 16000, model=constant(1.0))


def test_0_db_snr_level(tmp_path: Path) -> None:
    tone = 0.1 * np.sqrt(2) * np.sin(2 * np.pi * 1000 * np.arange(48000) / 16000)
    noisy = tone + noise(48000)[0]
    curve = np.where(np.abs(np.arange(257) - 32) < 3, 1.0, 0.0).astype(np.float32)
    narrow = FakeEngine(lambda spectrum: np.broadcast_to(curve[:, None], spectrum.shape))
    make(tmp_path / "in.wav", noisy[None], 16000, "WAV", "FLOAT")
    result = denoise_file(tmp_path / "in.wav", tmp_path / "out.wav", model=narrow)
    assert result.verdict is not None
    assert result.verdict.input_snr_db == pytest.approx(0, abs=0.3)
    middle = read(tmp_path / "out.wav")[0][0][1000:-1000]
    assert 20 * np.log10(np.sqrt(np.mean(middle**2)) / 0.1) == pytest.approx(0, abs=0.3)


def test_nan_in_a_file_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "in.wav", np.full((1, 100), np.nan), 16000, "WAV", "FLOAT")
    with pytest.raises(AudioFileError, match=r"in\.wav.*sample 0 of channel 0 is nan"):
        denoise_file(tmp_path / "in.wav", tmp_path / "out.wav", model=constant(1.0))
    assert [path.name for path in tmp_path.iterdir()] == ["in.wav"]
