"""Shipped models: blocks equal the whole, silence stays silent, and the look-ahead is as stated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from audioae.denoising import DenoiseSettings, Stream, denoise
from audioae.engine import Engine, Quality, load_model
from audioae.pretrained import list_denoisers

SAMPLES = Path(__file__).parents[1] / "samples"


@pytest.fixture(scope="module", params=[entry.name for entry in list_denoisers()])
def engine(request: pytest.FixtureRequest) -> Engine:
    return load_model(request.param)


def noise(samples: int, *, seed: int = 0) -> np.ndarray:
    """Noise whose level changes, so that the gains do too."""
    rng = np.random.default_rng(seed)
    return (rng.normal(0, 0.1, (1, samples)) * (1 + np.sin(np.arange(samples) / 3000))).astype(
        np.float32
    )


@pytest.mark.parametrize("sample_rate", [8000, 16000, 44100])
@pytest.mark.parametrize("quality", ["fast", "best"])
def test_blocks_equal_whole(engine: Engine, sample_rate: int, quality: Quality) -> None:
    waveform, settings = noise(4 * sample_rate), DenoiseSettings(quality=quality)
    whole = denoise(waveform, sample_rate, model=engine, settings=settings)
    differences = {}
    for low_latency in (False, True):
        stream, cuts = (
            Stream(engine, sample_rate, settings=settings, recording=True, low_latency=low_latency),
            np.random.default_rng(1),
        )
        parts, start = [], 0
        while start < waveform.shape[-1]:
            end = start + int(cuts.integers(1, sample_rate // 2))
            parts.append(stream.push(waveform[:, start:end]))
            start = end
        joined = np.concatenate([*parts, stream.flush()], axis=-1)
        differences[low_latency] = np.abs(joined - whole)
    assert differences[False].max() < 1e-7
    # The resampler of low latency differs from the other by 1e-6, and steep gains amplify that.
    assert np.sqrt(np.square(differences[True]).mean()) < 1e-5


def test_silence_stays_silent(engine: Engine) -> None:
    for sample_rate in (16000, 48000):
        assert not denoise(np.zeros((2, sample_rate), np.float32), sample_rate, model=engine).any()


@pytest.mark.parametrize("samples", [0, 1, 255, 256, 257, 5000])
def test_the_length_is_kept(engine: Engine, samples: int) -> None:
    assert denoise(noise(samples), 16000, model=engine).shape == (1, samples)


def test_gains_do_not_depend_on_frames_after_the_lookahead(engine: Engine) -> None:
    stft, change = engine.info.stft, 30000
    if engine.info.edges == "mirror":
        pytest.skip("a model for both directions of time depends on all frames of a chunk")
    # Speech, because a good model removes too much of noise to show a change.
    speech, _ = soundfile.read(SAMPLES / "clean.wav", dtype="float32")
    waveform = speech[None, :48000]
    changed = np.concatenate([waveform[:, :change], speech[None, 60000:78000]], axis=-1)
    before, after = (
        Stream(engine, stft.sample_rate).process(each, last=True)[0] for each in (waveform, changed)
    )
    strides = engine.info.lookahead + engine.info.stride - 1
    reach = change - stft.win_length - strides * stft.hop_length
    assert np.abs(before - after)[:, :reach].max() < 1e-5
    assert np.abs(before - after)[:, change:].max() > 1e-3
