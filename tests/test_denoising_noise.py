"""Steady noise, measured in a part of a recording or tracked: it is lowered, and speech is kept."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tiny
from fake_engines import constant, foreseeing, smoothing
from hypothesis import given
from hypothesis import strategies as st

from audioae.audio import read
from audioae.denoising import DenoiseSettings, Stream, denoise, denoise_file
from audioae.denoising.noise import FLOOR, MinimumStatistics, measure_noise, noise_gain
from audioae.engine import Quality
from audioae.errors import SettingsError
from audioae.signal.spectrogram import StftSettings, stft

STFT = StftSettings()


noise = partial(tiny.noise, level=0.02)


def with_tone(seconds: float = 6.0) -> np.ndarray:
    """Noise with a loud tone of 1 kHz, on and off, from the third second."""
    waveform = noise(round(16000 * seconds))
    time = np.arange(waveform.shape[-1]) / 16000
    return waveform + (
        0.3 * np.sin(2 * np.pi * 1000 * time) * ((time > 2) & (time % 1 < 0.6))
    ).astype(np.float32)


def power(waveform: np.ndarray) -> np.ndarray:
    return np.abs(stft(waveform, STFT)) ** 2


@given(seed=st.integers(0, 10**6), level_db=st.floats(-80, 80))
def test_the_gain_is_between_its_floor_and_one(seed: int, level_db: float) -> None:
    rng = np.random.default_rng(seed)
    kept = (rng.exponential(1, (2, 9, 5)) * 10 ** (level_db / 10)).astype(np.float32)
    gain = noise_gain(kept, rng.exponential(1, (2, 9, 1)).astype(np.float32))
    assert gain.dtype == np.float32
    assert gain.min() >= FLOOR
    assert gain.max() <= 1


def test_no_noise_changes_nothing_and_silence_is_finite() -> None:
    kept = np.random.default_rng(0).exponential(1, (1, 9, 5)).astype(np.float32)
    assert np.array_equal(noise_gain(kept, np.zeros((1, 9, 1), np.float32)), np.ones_like(kept))
    assert np.isfinite(noise_gain(np.zeros_like(kept), np.zeros((1, 9, 1), np.float32))).all()


def test_a_profile_is_the_mean_power_of_the_noise() -> None:
    profile = measure_noise(np.split(noise(160000), [777, 50000], axis=-1), 16000, 1, STFT)
    # White noise has this power in a bin: the squares of the window sum to the hop length.
    expected = 0.02**2 * STFT.hop_length
    assert np.allclose(profile.power[:, 1:-1], expected, rtol=0.25)
    assert profile.power[:, 1:-1].mean() == pytest.approx(expected, rel=0.02)
    whole = measure_noise([noise(160000)], 16000, 1, STFT)
    assert np.allclose(whole.power, profile.power, rtol=1e-5)


def test_minimum_statistics_find_white_noise() -> None:
    tracked = MinimumStatistics(STFT, 1).powers(power(noise(16000 * 10)))
    found = 10 * np.log10(tracked[0, 5:-5, 200:].mean() / (0.02**2 * STFT.hop_length))
    assert abs(found) < 1.5


def test_minimum_statistics_do_not_follow_words() -> None:
    time = np.arange(16000 * 12) / 16000
    words = noise(len(time), level=0.3, seed=1) * (np.sin(2 * np.pi * 0.9 * time) > 0.3)
    tracked = MinimumStatistics(STFT, 1).powers(power(words + noise(len(time))))
    found = 10 * np.log10(tracked[0, 5:-5, 200:].mean() / (0.02**2 * STFT.hop_length))
    assert -3 < found < 4  # the words are 23 dB above the noise


def test_minimum_statistics_follow_noise_that_grows() -> None:
    tracked = MinimumStatistics(STFT, 1).powers(
        power(np.concatenate([noise(16000 * 5), 10 * noise(16000 * 5)], -1))
    )
    rise = 10 * np.log10(tracked[0, 5:-5, -30:].mean() / tracked[0, 5:-5, 200:300].mean())
    assert rise == pytest.approx(20, abs=2)


def test_minimum_statistics_do_not_depend_on_blocks() -> None:
    frames = power(noise(16000 * 4, channels=2))
    tracker = MinimumStatistics(STFT, 2)
    parts = [tracker.powers(part) for part in np.split(frames, [1, 5, 100], axis=-1)]
    assert np.array_equal(np.concatenate(parts, -1), MinimumStatistics(STFT, 2).powers(frames))


@pytest.mark.parametrize(
    "asked",
    [DenoiseSettings(noise_from=(0.0, 1.5)), DenoiseSettings(adapt_noise=True)],
    ids=["from", "adapt"],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_noise_is_lowered_and_a_tone_is_kept(asked: DenoiseSettings, channels: int) -> None:
    waveform = np.tile(with_tone(), (channels, 1))
    plain, more = (
        denoise(waveform, 16000, model=constant(0.1), settings=each)
        for each in (DenoiseSettings(), asked)
    )
    pause, tone = slice(16000, 30000), slice(48000, 90000)
    assert 3 < 10 * np.log10(np.sum(plain[:, pause] ** 2) / np.sum(more[:, pause] ** 2)) < 6.1
    assert 10 * np.log10(np.sum(plain[:, tone] ** 2) / np.sum(more[:, tone] ** 2)) < 1


def test_the_limit_holds_for_steady_noise_too() -> None:
    asked = DenoiseSettings(noise_from=(0.0, 1.5), max_attenuation_db=20)
    enhanced = denoise(with_tone(), 16000, model=constant(0.1), settings=asked)
    assert np.abs(enhanced - 0.1 * with_tone()).max() < 1e-5


@pytest.mark.parametrize("sample_rate", [16000, 44100])
@pytest.mark.parametrize(
    "engine", [smoothing(), foreseeing(2, stride=4)], ids=["causal", "lookahead"]
)
@pytest.mark.parametrize("quality", ["fast", "best"])
def test_blocks_equal_whole(sample_rate: int, engine: object, quality: Quality) -> None:
    waveform = noise(4 * sample_rate, channels=2)
    asked = DenoiseSettings(adapt_noise=True, quality=quality)
    stream, parts = Stream(engine, sample_rate, 2, asked, recording=True), []
    for start in range(0, waveform.shape[-1], 3333):
        parts.append(stream.push(waveform[:, start : start + 3333]))
    joined = np.concatenate([*parts, stream.flush()], -1)
    assert (
        np.abs(joined - denoise(waveform, sample_rate, model=engine, settings=asked)).max() < 1e-5
    )


@pytest.mark.parametrize("sample_rate", [16000, 48000])
def test_a_file_equals_an_array(tmp_path: Path, sample_rate: int) -> None:
    soundfile.write(
        tmp_path / "in.wav", noise(5 * sample_rate, channels=2).T, sample_rate, subtype="FLOAT"
    )
    asked = DenoiseSettings(noise_from=(1.0, 3.0))
    denoise_file(tmp_path / "in.wav", tmp_path / "out.wav", model=smoothing(), settings=asked)
    expected = denoise(read(tmp_path / "in.wav")[0], sample_rate, model=smoothing(), settings=asked)
    assert np.abs(read(tmp_path / "out.wav")[0] - expected).max() < 1e-5
    assert (
        np.abs(
            expected - denoise(read(tmp_path / "in.wav")[0], sample_rate, model=smoothing())
        ).max()
        > 1e-3
    )


@pytest.mark.parametrize(
    ("noise_from", "message"),
    [((3.0, 4.0), r"starts at 3 s; .*in\.wav has 1 s"), ((0.5, 0.55), "covers 0.05 s")],
)
def test_an_unusable_noise_from_is_refused(
    tmp_path: Path, noise_from: tuple[float, float], message: str
) -> None:
    soundfile.write(tmp_path / "in.wav", noise(16000).T, 16000)
    with pytest.raises(SettingsError, match=message):
        denoise_file(
            tmp_path / "in.wav",
            tmp_path / "out.wav",
            model=constant(),
            settings=DenoiseSettings(noise_from=noise_from),
        )
    assert [path.name for path in tmp_path.iterdir()] == ["in.wav"]


def test_an_impossible_noise_from_is_refused() -> None:
    for noise_from in (
        (2.0, 1.0),
        (-1.0, 1.0),
        (1.0, 1.0),
        (0.0, float("inf")),
        (float("nan"), 1.0),
    ):
        with pytest.raises(SettingsError, match="noise_from is"):
            DenoiseSettings(noise_from=noise_from)
    with pytest.raises(SettingsError, match="adapt_noise"):
        Stream(constant(), 16000, settings=DenoiseSettings(noise_from=(0, 1)))
