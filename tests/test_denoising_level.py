"""Level correction: the input of the model has a level that it was trained on, usual levels are not
changed, blocks make no difference.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from fake_engines import FakeEngine, constant, smoothing

from audioae.audio import read
from audioae.denoising import DenoiseSettings, Stream, denoise, denoise_file
from audioae.denoising.level import (
    HIGHEST,
    LOUD_TARGET,
    LOWEST,
    QUIET_TARGET,
    factor_db,
    frame_levels,
    running_level,
)
from audioae.denoising.spectral import SpectralStream
from audioae.engine import Engine, load_model
from audioae.pretrained import list_denoisers
from audioae.signal.spectrogram import StftSettings, stft


def speechlike(seconds: float = 12.0, *, sample_rate: int = 16000, seed: int = 0) -> np.ndarray:
    """Noise in syllables with pauses, RMS -30 dBFS over faint steady noise, `[1, samples]`."""
    rng, samples = np.random.default_rng(seed), round(seconds * sample_rate)
    time = np.arange(samples) / sample_rate
    syllables = np.maximum(np.sin(2 * np.pi * 3 * time), 0) * (time % 2.5 < 1.7)
    waveform = (syllables + 0.01) * rng.normal(size=samples)
    return (waveform / np.sqrt((waveform**2).mean()) * 10 ** (-30 / 20)).astype(np.float32)[None]


def recorder() -> tuple[FakeEngine, list[np.ndarray]]:
    """An engine with a gain of one, and the list of the spectra that it is given."""
    given: list[np.ndarray] = []
    engine = constant(1.0)
    step = engine.step

    def record(spectrum: np.ndarray, state: object = None) -> object:
        given.append(spectrum)
        return step(spectrum, state)

    engine.step = record
    return engine, given


def model_input(waveform: np.ndarray) -> np.ndarray:
    """What the model is given for a recording, after the mirrored beginning of the priming."""
    engine, given = recorder()
    denoise(waveform, 16000, model=engine, settings=DenoiseSettings(quality="fast"))
    return np.concatenate(given[1:], axis=-1)


@pytest.mark.parametrize("level_db", [-100, -80, -60, -3, 6])
def test_the_model_is_given_a_level_that_it_was_trained_on(level_db: float) -> None:
    spectrum = model_input(speechlike() * np.float32(10 ** ((level_db + 30) / 20)))
    assert -42 < 10 * np.log10(frame_levels(spectrum, StftSettings()).mean()) < -10


@pytest.mark.parametrize("level_db", [-43, -40, -30, -20, -12])
def test_a_usual_level_is_not_changed(level_db: float) -> None:
    waveform = speechlike() * np.float32(10 ** ((level_db + 30) / 20))
    expected = stft(waveform, StftSettings())[..., :700]
    assert np.array_equal(model_input(waveform)[..., :700], expected)


@pytest.mark.parametrize("level_db", [-60, -3])
def test_the_attenuation_does_not_depend_on_the_level(level_db: float) -> None:
    waveform, factor = speechlike(), np.float32(10 ** ((level_db + 30) / 20))
    model = FakeEngine(
        lambda spectrum: (np.abs(spectrum) ** 0.3 / (np.abs(spectrum) ** 0.3 + 0.5)).astype(
            np.float32
        )
    )
    usual, other = (
        denoise(waveform, 16000, model=model),
        denoise(waveform * factor, 16000, model=model) / factor,
    )
    loss = 10 * np.log10(np.sum(np.square(other)) / np.sum(np.square(usual)))
    assert abs(loss) < 1.5
    bare = SpectralStream(model, 1, DenoiseSettings(), recording=True)
    bare._level.factors = lambda spectrum: None  # without level correction
    alone, _ = bare.process(waveform * factor, last=True)
    assert abs(
        10 * np.log10(np.sum(np.square(alone / factor)) / np.sum(np.square(usual)))
    ) > 1.2 * abs(loss)


def test_blocks_equal_whole_at_a_very_low_level() -> None:
    waveform, level = speechlike(20.0) * np.float32(1e-3), [-80.0]
    whole = Stream(smoothing(), 16000, level_dbfs=level).process(waveform, last=True)[0]
    stream, parts, cuts = Stream(smoothing(), 16000, level_dbfs=level), [], np.random.default_rng(0)
    start = 0
    while start < waveform.shape[-1]:
        end = start + int(cuts.integers(1, 9000))
        parts.append(stream.push(waveform[:, start:end]))
        start = end
    assert np.abs(np.concatenate([*parts, stream.flush()], -1) - whole).max() < 1e-9


def test_a_live_stream_finds_the_level_in_a_few_seconds() -> None:
    engine, given = recorder()
    Stream(engine, 16000).process(speechlike() * np.float32(10 ** (-30 / 20)), last=True)
    levels = 10 * np.log10(frame_levels(np.concatenate(given, -1), StftSettings())[0] + 1e-20)
    assert levels[:180].max() < -45
    assert levels[600:].max() > -40


def test_a_quiet_recording_may_become_loud() -> None:
    engine, given = recorder()
    waveform = speechlike()
    waveform[:, : 16000 * 9] *= np.float32(1e-3)
    Stream(engine, 16000, level_dbfs=[-86.0]).process(waveform, last=True)
    assert frame_levels(np.concatenate(given, -1), StftSettings()).max() < 1


def test_silence_does_not_change_the_level() -> None:
    waveform = speechlike()
    waveform[:, 16000 * 2 : 16000 * 9] = 0
    expected = stft(waveform, StftSettings())[..., :700]
    assert np.array_equal(model_input(waveform)[..., :700], expected)


def test_corrections_are_continuous_and_reach_the_targets() -> None:
    levels = np.arange(-140, 20, 0.1)
    factors = np.array([factor_db(level) for level in levels])
    assert np.abs(np.diff(factors)).max() < 0.21
    assert not factors[(levels >= LOWEST) & (levels <= HIGHEST)].any()
    assert factor_db(-90) - 90 == pytest.approx(QUIET_TARGET)
    assert factor_db(15) + 15 == pytest.approx(LOUD_TARGET)


def test_the_level_of_a_recording_does_not_depend_on_blocks() -> None:
    waveform = np.concatenate([speechlike(40.0), 0 * speechlike(40.0)])
    whole = running_level([waveform], 16000)
    assert whole == running_level(np.split(waveform, [7, 1000, 44444, 300000], axis=-1), 16000)
    assert whole[0] == pytest.approx(-27, abs=3)
    assert whole[1] is None
    assert running_level([], 16000) is None
    assert running_level([waveform[:, :3]], 16000) is None


def test_a_quiet_file_equals_a_quiet_array(tmp_path: Path) -> None:
    soundfile.write(
        tmp_path / "in.wav", 1e-3 * speechlike(40.0, sample_rate=44100)[0], 44100, subtype="FLOAT"
    )
    denoise_file(tmp_path / "in.wav", tmp_path / "out.wav", model=smoothing())
    waveform, sample_rate = read(tmp_path / "in.wav")
    assert (
        np.abs(
            read(tmp_path / "out.wav")[0] - denoise(waveform, sample_rate, model=smoothing())
        ).max()
        < 1e-7
    )


@pytest.fixture(scope="module", params=[entry.name for entry in list_denoisers()])
def engine(request: pytest.FixtureRequest) -> Engine:
    return load_model(request.param)


def test_shipped_models_denoise_quiet_and_loud_speech_equally(
    engine: Engine, samples: Path
) -> None:
    noisy, sample_rate = read(samples / "noisy.wav")
    noisy = noisy / np.sqrt(np.mean(np.square(noisy))) * np.float32(10 ** (-30 / 20))
    usual = denoise(noisy, sample_rate, model=engine)
    for level_db in (-60, -3):
        factor = np.float32(10 ** ((level_db + 30) / 20))
        other = denoise(noisy * factor, sample_rate, model=engine) / factor
        assert 10 * np.log10(np.sum(np.square(other - usual)) / np.sum(np.square(usual))) < -9, (
            level_db
        )
