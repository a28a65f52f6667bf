"""A strong DC offset and rumble never reach the model, and are not in the output."""

import numpy as np
import pytest

from audioae.denoising import DenoiseSettings, Stream, denoise
from audioae.denoising.rumble import build_splitter

RATE = 16000
TIMES = np.arange(3 * RATE) / RATE
SPEECH = (0.05 * np.random.default_rng(0).standard_normal((2, len(TIMES)))).astype(np.float32)


def split(x: np.ndarray, *, recording: bool, block: int = 0) -> np.ndarray:
    splitter = build_splitter(RATE, len(x), recording=recording)
    size = block or max(x.shape[1], 1)
    parts = [splitter.process(x[:, at : at + size]) for at in range(0, x.shape[1], size)]
    return np.concatenate([*parts, splitter.process(x[:, :0], last=True)], axis=1)


@pytest.mark.parametrize("recording", [True, False])
def test_a_recording_without_rumble_is_not_touched(recording: bool) -> None:
    assert np.array_equal(split(SPEECH, recording=recording), SPEECH)
    assert not split(np.zeros_like(SPEECH), recording=recording).any()


@pytest.mark.parametrize("recording", [True, False])
@pytest.mark.parametrize("rumble", ["offset", "10 Hz"])
def test_strong_rumble_is_taken_away(recording: bool, rumble: str) -> None:
    low = np.full(len(TIMES), 0.3) if rumble == "offset" else 0.3 * np.sin(20 * np.pi * TIMES)
    left = split((SPEECH + low).astype(np.float32), recording=recording) - SPEECH
    start = 0 if recording else RATE  # a live stream has to notice it first
    assert left[:, start:].std() < (0.02 if recording else 0.3) * np.sqrt(np.square(low).mean())


@pytest.mark.parametrize("recording", [True, False])
def test_blocks_equal_the_whole(recording: bool) -> None:
    noisy = SPEECH + np.float32(0.2)
    whole = split(noisy, recording=recording)
    assert whole.shape == noisy.shape
    for block in (1000, 333):
        assert np.abs(split(noisy, recording=recording, block=block) - whole).max() < 1e-6


@pytest.mark.parametrize("num_samples", [0, 1, 100, 2400, 2401])
def test_short_recordings_keep_their_length(num_samples: int) -> None:
    assert split(SPEECH[:, :num_samples] + 1, recording=True).shape == (2, num_samples)


def test_the_settings_say_what_becomes_of_it() -> None:
    noisy = (SPEECH + np.float32(0.2))[:, :RATE]
    mean = {
        "default": denoise(noisy, RATE).mean(),
        "kept": denoise(noisy, RATE, settings=DenoiseSettings(keep_rumble=True)).mean(),
        "limited": denoise(noisy, RATE, settings=DenoiseSettings(max_attenuation_db=6)).mean(),
    }
    assert abs(mean["default"]) < 0.002
    assert mean["kept"] == pytest.approx(0.2, abs=0.005)
    assert mean["limited"] == pytest.approx(0.1, abs=0.005)
    unchanged = denoise(noisy, RATE, settings=DenoiseSettings(strength=0))
    assert np.abs(unchanged - noisy).max() < 1e-6


def test_silence_in_a_recording_with_an_offset_stays_silent() -> None:
    from audioae.engine import load_model

    noisy = SPEECH + np.float32(0.2)
    noisy[:, RATE : 2 * RATE] = 0
    assert not denoise(noisy, RATE)[:, RATE + RATE // 4 : 2 * RATE - RATE // 4].any()
    stream = Stream(load_model("speech-16k"), RATE, 2)
    live = np.concatenate([stream.push(noisy), stream.flush()], axis=1)
    assert not live[:, RATE + RATE // 2 : 2 * RATE - RATE // 4].any()
