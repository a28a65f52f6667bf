"""Arrays and streams: length and alignment are kept, blocks equal the whole, a gain of 1 changes
nothing, silence stays silent.
"""

from __future__ import annotations

import numpy as np
import pytest
from fake_engines import FakeEngine, constant, foreseeing, per_bin, smoothing
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import noise

from audioae.denoising import DenoiseSettings, Stream, denoise
from audioae.denoising.stream import block_length
from audioae.engine import Quality
from audioae.errors import CheckpointError, SettingsError
from audioae.signal.spectrogram import StftSettings

RATES = [8000, 11025, 16000, 22050, 44100, 48000, 96000]
OVERLAPPED = StftSettings(n_fft=512, hop_length=128, win_length=512)


def tone(hertz: float, sample_rate: int, seconds: float = 1.0) -> np.ndarray:
    return (
        0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * sample_rate)) / sample_rate)
    ).astype(np.float32)


def in_blocks(stream: Stream, waveform: np.ndarray, sizes: list[int]) -> np.ndarray:
    """Push `waveform` in blocks of these sizes, in turn, and flush."""
    parts, start, turn = [], 0, 0
    while start < waveform.shape[-1]:
        size = sizes[turn % len(sizes)]
        parts.append(stream.push(waveform[:, start : start + size]))
        start, turn = start + size, turn + 1
    return np.concatenate([*parts, stream.flush()], axis=-1)


@pytest.mark.parametrize("sample_rate", RATES)
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_a_gain_of_one_gives_the_input_back(sample_rate: int, channels: int) -> None:
    waveform = noise(sample_rate // 2 + 17, channels)
    assert np.abs(denoise(waveform, sample_rate, model=constant(1.0)) - waveform).max() < 1e-5


@pytest.mark.parametrize(
    "engine",
    [constant(1.0, stft=OVERLAPPED), constant(1.0, lookahead=3, stride=4), constant(1 + 0j)],
)
@pytest.mark.parametrize("sample_rate", [16000, 44100])
def test_a_gain_of_one_with_every_kind_of_engine(engine: FakeEngine, sample_rate: int) -> None:
    waveform = noise(sample_rate, 2)
    assert np.abs(denoise(waveform, sample_rate, model=engine) - waveform).max() < 1e-5


@pytest.mark.parametrize("sample_rate", [8000, 16000, 48000])
def test_a_constant_gain_scales_every_band(sample_rate: int) -> None:
    waveform = noise(sample_rate)
    assert (
        np.abs(denoise(waveform, sample_rate, model=constant(0.25)) - 0.25 * waveform).max() < 1e-5
    )


@pytest.mark.parametrize("sample_rate", [8000, 16000, 44100])
@pytest.mark.parametrize(
    "engine", [smoothing(), foreseeing(2, stride=4, stft=OVERLAPPED)], ids=["causal", "lookahead"]
)
@pytest.mark.parametrize("samples", [0, 1, 2, 127, 255, 256, 257, 511, 513, 5000])
def test_the_output_is_as_long_as_the_input(
    sample_rate: int, engine: FakeEngine, samples: int
) -> None:
    enhanced = denoise(noise(samples), sample_rate, model=engine)
    assert enhanced.shape == (1, samples)
    assert enhanced.dtype == np.float32


@pytest.mark.parametrize("quality", [None, "fast", "best"])
@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 3000), min_size=1, max_size=5),
    samples=st.integers(0, 9000),
    data=st.data(),
)
def test_blocks_equal_whole(
    quality: Quality | None, sizes: list[int], samples: int, data: st.DataObject
) -> None:
    """For a live stream (None) and for a recording in both qualities."""
    sample_rate = data.draw(st.sampled_from([8000, 16000, 44100]))
    engine = data.draw(
        st.sampled_from([smoothing(), foreseeing(3, stride=4), foreseeing(1, stft=OVERLAPPED)])
    )
    waveform = noise(samples, 2, seed=samples)
    asked, recording = DenoiseSettings(quality=quality or "best"), quality is not None
    cut, uncut = (Stream(engine, sample_rate, 2, asked, recording=recording) for _ in range(2))
    joined = in_blocks(cut, waveform, sizes)
    assert joined.shape == waveform.shape
    whole, _ = uncut.process(waveform, last=True)
    assert np.abs(joined - whole).max(initial=0) < 1e-5
    if recording:
        array = denoise(waveform, sample_rate, model=engine, settings=asked)
        assert np.abs(joined - array).max(initial=0) < 1e-5


@pytest.mark.parametrize("extra", [-1, 0, 1])
@pytest.mark.parametrize("sample_rate", [16000, 24000])
def test_there_are_no_seams_between_blocks(sample_rate: int, extra: int) -> None:
    waveform = noise(block_length(sample_rate, 1) + extra)
    engine = constant(0.5)
    assert np.abs(denoise(waveform, sample_rate, model=engine) - 0.5 * waveform).max() < 1e-5


def test_the_length_of_a_step_is_bounded() -> None:
    """By a block and what the filter of rumble has held back, 2 s at most."""
    long, wide, fast = constant(0.5), constant(0.5), DenoiseSettings(quality="fast")
    denoise(noise(16000 * 20), 16000, model=long, settings=fast)
    denoise(noise(16000 * 4, 32), 16000, model=wide, settings=fast)
    held = 2 * 16000 / 256
    assert long.most_frames <= 4 * 16000 / 256 + held + 2
    assert wide.most_frames <= 2**20 / 256 + (held + 2) * 32


def test_a_step_is_never_longer_than_a_chunk_with_its_contexts() -> None:
    """A last chunk shorter than two contexts is added to the chunk before it."""
    long = constant(0.5)
    denoise(noise(16000 * 30), 16000, model=long)
    assert long.most_frames <= (10 + 2 * 2 + 2 * 2) * 16000 / 256


@pytest.mark.parametrize("sample_rate", [16000, 44100])
def test_a_causal_stream_does_not_depend_on_later_samples(sample_rate: int) -> None:
    waveform = noise(sample_rate)
    changed = waveform.copy()
    changed[:, sample_rate // 2 :] = noise(sample_rate - sample_rate // 2, seed=1)
    before, after = (
        Stream(smoothing(), sample_rate).process(each, last=True)[0] for each in (waveform, changed)
    )
    # The window and the filters of the resamplers reach 40 ms back.
    reach = sample_rate // 2 - round(0.04 * sample_rate)
    assert np.abs(before - after)[:, :reach].max() < 1e-5


@pytest.mark.parametrize("sample_rate", RATES)
def test_silence_stays_silent(sample_rate: int) -> None:
    assert not denoise(np.zeros((2, sample_rate), np.float32), sample_rate, model=smoothing()).any()


@pytest.mark.parametrize("sample_rate", [16000, 44100])
def test_silence_between_sounds_stays_silent(sample_rate: int) -> None:
    waveform = noise(3 * sample_rate)
    waveform[:, sample_rate : 2 * sample_rate] = 0
    enhanced = denoise(waveform, sample_rate, model=smoothing())
    edge = sample_rate // 10
    assert not enhanced[:, sample_rate + edge : 2 * sample_rate - edge].any()
    assert enhanced[:, :sample_rate].any()


def test_pending_is_the_delay() -> None:
    stream = Stream(constant(1.0, lookahead=2), 16000)
    assert stream.push(noise(16000)).shape[-1] == 16000 - stream.pending
    assert stream.pending == 256 + 2 * 256 + 16000 % 256
    assert stream.flush().shape[-1] == 256 + 2 * 256 + 16000 % 256
    assert stream.pending == 0


def test_the_high_band_follows_the_top_of_the_models_band() -> None:
    hertz = np.arange(257) * 16000 / 512
    both = tone(12000, 48000) + tone(1000, 48000)
    without_low = denoise(both, 48000, model=per_bin(np.where(hertz < 4000, 0.0, 1.0)))
    without_top = denoise(both, 48000, model=per_bin(np.where(hertz > 4000, 0.1, 1.0)))
    middle = slice(4800, -4800)
    assert np.abs(without_low - tone(12000, 48000))[middle].max() < 1e-3
    assert np.abs(without_top - tone(1000, 48000) - 0.1 * tone(12000, 48000))[middle].max() < 1e-3


def test_the_high_band_gain_rises_fast_and_falls_slowly() -> None:
    gate = FakeEngine(
        lambda spectrum: (
            np.arange(spectrum.shape[-1]) // 31 % 2 * np.ones(spectrum.shape, np.float32)
        )
    )
    enhanced, _ = Stream(gate, 48000).process(tone(12000, 48000, 2.0)[None], last=True)
    envelope = np.abs(enhanced[0])
    change = 31 * 256 * 3  # samples at 48 kHz per 31 hops at 16 kHz

    def level(at: int) -> float:
        return float(envelope[at - 240 : at + 240].max())

    assert level(change - 1500) < 0.01
    assert level(change + 1500) > 0.45
    assert 0.2 < level(2 * change + 1500) < 0.45
    assert level(3 * change - 1500) < 0.01


def test_output_and_residual_make_the_input() -> None:
    waveform = noise(30000, 2)
    stream = Stream(smoothing(), 44100, 2)
    parts = [stream.process(waveform[:, :12345]), stream.process(waveform[:, 12345:], last=True)]
    enhanced, noisy = (np.concatenate(each, axis=-1) for each in zip(*parts, strict=True))
    assert np.array_equal(noisy, waveform)
    assert np.abs(noisy - enhanced).max() > 0.01
    assert np.abs(enhanced + (noisy - enhanced) - waveform).max() < 1e-7


def test_attenuation_is_measured() -> None:
    stream = Stream(constant(0.1), 16000)
    in_blocks(stream, noise(8000), [1000])
    assert stream.attenuation.mean_db == pytest.approx(20, abs=0.01)
    assert stream.attenuation.max_db == pytest.approx(20, abs=0.01)
    silenced = Stream(constant(0.0), 16000)
    in_blocks(silenced, noise(8000), [1000])
    assert silenced.attenuation.mean_db == silenced.attenuation.max_db == 120
    assert Stream(constant(0.0), 16000).attenuation.mean_db == 0


def test_nan_gains_are_refused() -> None:
    with pytest.raises(CheckpointError, match="'fake'"):
        denoise(noise(1000), 16000, model=constant(np.nan))


def test_one_dimensional_arrays() -> None:
    waveform = noise(4000)[0]
    assert (
        np.abs(denoise(waveform.astype(np.float64), 22050, model=constant(1.0)) - waveform).max()
        < 1e-5
    )
    assert denoise(waveform, 22050, model=constant(1.0)).shape == (4000,)


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (np.zeros((16000, 2), np.float32), r"\(16000, 2\).*transpose"),
        (np.zeros((2, 3, 4), np.float32), r"\(2, 3, 4\)"),
        (np.zeros((), np.float32), r"\(\)"),
        (np.zeros(100, np.int16), "int16.*divide"),
        (np.zeros((0, 100), np.float32), "0 channels"),
        (np.array([0.0, 0.1, np.nan], np.float32), "sample 2 of channel 0 is nan"),
        (np.array([[0.0, 0.1], [np.inf, 0.0]], np.float32), "sample 0 of channel 1 is inf"),
        (np.array([1e30, 0.0], np.float32), r"sample 0 of channel 0 is 1e\+30"),
    ],
)
def test_invalid_waveforms_are_refused(waveform: np.ndarray, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        denoise(waveform, 16000, model=constant(1.0))


def test_a_stream_names_the_invalid_sample() -> None:
    stream = Stream(constant(1.0), 16000)
    stream.push(noise(1000))
    with pytest.raises(SettingsError, match="sample 1003 of channel 0 is nan"):
        stream.push(np.array([[0, 0, 0, np.nan]], np.float32))


def test_a_flushed_stream_takes_no_samples() -> None:
    stream = Stream(constant(1.0), 16000)
    stream.flush()
    with pytest.raises(SettingsError, match="flushed"):
        stream.push(noise(10))


def test_a_stream_refuses_a_wrong_number_of_channels() -> None:
    with pytest.raises(SettingsError, match="expected float"):
        Stream(constant(1.0), 16000, 2).push(noise(10))
    with pytest.raises(SettingsError, match="0 Hz"):
        Stream(constant(1.0), 0)


def test_two_streams_share_an_engine() -> None:
    engine = smoothing()
    streams = [Stream(engine, 16000, recording=True), Stream(engine, 16000, recording=True)]
    waveforms = [noise(5000, seed=seed) for seed in (1, 2)]
    parts: list[list[np.ndarray]] = [[], []]
    for start in range(0, 5000, 500):
        for stream, waveform, part in zip(streams, waveforms, parts, strict=True):
            part.append(stream.push(waveform[:, start : start + 500]))
    for stream, waveform, part in zip(streams, waveforms, parts, strict=True):
        alone = denoise(waveform, 16000, model=engine, settings=DenoiseSettings())
        assert np.abs(np.concatenate([*part, stream.flush()], axis=-1) - alone).max() < 1e-6
