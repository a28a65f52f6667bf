"""Resampling: exact lengths, no delay, blocks equal the whole, no aliasing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audioae.errors import SettingsError
from audioae.signal.resample import (
    PromptResampler,
    Resampler,
    StreamResampler,
    prompt_resampler,
    resample,
)

RATES = [8000, 11025, 16000, 22050, 44100, 48000, 96000, 192000, 250000]


def sine(hz: float, rate: int, seconds: float = 1.0) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate).astype(np.float32)


def level_db(waveform: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(waveform.astype(np.float64) ** 2) + 1e-30))


@settings(max_examples=60, deadline=None)
@given(
    from_rate=st.sampled_from(RATES),
    to_rate=st.sampled_from(RATES),
    channels=st.integers(1, 3),
    blocks=st.lists(st.integers(0, 3000), max_size=6),
)
def test_blocks_equal_whole(from_rate: int, to_rate: int, channels: int, blocks: list[int]) -> None:
    whole = np.random.default_rng(7).standard_normal((channels, sum(blocks))).astype(np.float32)
    stream, at, parts = StreamResampler(from_rate, to_rate, channels), 0, []
    for length in blocks:
        parts.append(stream.process(whole[:, at : at + length]))
        at += length
    parts.append(stream.process(whole[:, :0], last=True))
    expected = resample(whole, from_rate, to_rate)
    assert expected.shape == (channels, -(-whole.shape[1] * to_rate // from_rate))
    assert expected.dtype == np.float32
    np.testing.assert_allclose(np.concatenate(parts, axis=1), expected, atol=1e-6)


@pytest.mark.parametrize("from_rate", RATES)
@pytest.mark.parametrize("to_rate", [16000, 48000])
def test_a_tone_is_neither_delayed_nor_scaled(from_rate: int, to_rate: int) -> None:
    output = resample(sine(440, from_rate), from_rate, to_rate)
    middle = slice(to_rate // 10, -to_rate // 10)
    np.testing.assert_allclose(output[middle], sine(440, to_rate)[middle], atol=2e-5)


def test_up_and_down_is_aligned_to_the_sample() -> None:
    click = np.zeros((1, 4800), np.float32)
    click[0, 2400] = 1
    back = resample(resample(click, 48000, 96000), 96000, 48000)
    assert back.shape == click.shape
    assert int(np.argmax(back)) == 2400


def test_frequencies_above_the_new_band_are_removed() -> None:
    assert level_db(resample(sine(9000, 48000), 48000, 16000)[1000:-1000]) < -120
    assert level_db(resample(sine(7000, 48000), 48000, 16000)[1000:-1000]) == pytest.approx(
        -3.01, abs=0.1
    )


def test_equal_rates_pass_through() -> None:
    noise = np.random.default_rng(0).standard_normal((2, 1000)).astype(np.float32)
    assert np.array_equal(resample(noise, 44100, 44100), noise)


@pytest.mark.parametrize("shape", [(0,), (1,), (2, 0), (3, 2, 100)])
def test_leading_axes_are_kept(shape: tuple[int, ...]) -> None:
    assert resample(np.ones(shape, np.float32), 48000, 16000).shape == (
        *shape[:-1],
        -(-shape[-1] // 3),
    )


def test_silence_stays_silent() -> None:
    assert not resample(np.zeros((1, 1000), np.float32), 44100, 16000).any()


def test_impossible_rates_are_errors() -> None:
    with pytest.raises(SettingsError, match="0 Hz to 16000 Hz"):
        StreamResampler(0, 16000, 1)


# Low latency


@settings(max_examples=40, deadline=None)
@given(
    from_rate=st.sampled_from(RATES),
    to_rate=st.sampled_from([8000, 16000, 44100, 48000]),
    blocks=st.lists(st.integers(0, 3000), max_size=6),
)
def test_the_prompt_resampler_gives_the_same_samples(
    from_rate: int, to_rate: int, blocks: list[int]
) -> None:
    whole = np.random.default_rng(7).normal(0, 0.2, (2, sum(blocks))).astype(np.float32)
    stream, at, parts = prompt_resampler(from_rate, to_rate, 2), 0, []
    for length in blocks:
        parts.append(stream.process(whole[:, at : at + length]))
        at += length
    parts.append(stream.process(whole[:, :0], last=True))
    output = np.concatenate(parts, axis=1)
    assert output.dtype == np.float32
    np.testing.assert_allclose(output, resample(whole, from_rate, to_rate), atol=3e-6)


def most_kept_back(
    stream: Resampler, from_rate: int, to_rate: int, block: int, pushes: int
) -> float:
    """The largest number of input samples held back, without the current block."""
    taken = given = 0
    most = 0.0
    for _ in range(pushes):
        most = max(most, taken - given * from_rate / to_rate)
        given += stream.process(np.zeros((1, block), np.float32)).shape[-1]
        taken += block
    return most


@pytest.mark.parametrize(
    ("from_rate", "to_rate"),
    [(48000, 16000), (16000, 48000), (44100, 16000), (16000, 44100), (96000, 16000)],
)
def test_the_latency_of_the_prompt_resampler_is_half_its_filter(
    from_rate: int, to_rate: int
) -> None:
    stream = prompt_resampler(from_rate, to_rate, 1)
    assert isinstance(stream, PromptResampler)
    assert most_kept_back(stream, from_rate, to_rate, from_rate // 1000, 100) < 0.008 * from_rate
    assert (
        most_kept_back(
            StreamResampler(from_rate, to_rate, 1), from_rate, to_rate, from_rate // 1000, 400
        )
        > 0.03 * from_rate
    )


@pytest.mark.parametrize(
    ("from_rate", "to_rate"),
    [(48000, 16000), (16000, 48000), (44100, 16000), (11025, 16000), (16000, 16000)],
)
def test_needed_is_exact_for_the_prompt_resampler(from_rate: int, to_rate: int) -> None:
    stream, taken, given = prompt_resampler(from_rate, to_rate, 1), 0, 0
    for block in [1] * 700 + [997]:
        given += stream.process(np.zeros((1, block), np.float32)).shape[-1]
        taken += block
        needed = stream.needed(np.array([given, given + 1]))
        assert (given == 0 or needed[0] <= taken) and needed[1] > taken


@pytest.mark.parametrize("from_rate", [101, 2617, 5412, 15999, 47999, 383000, 1500000])
def test_needed_is_an_upper_bound_for_soxr(from_rate: int) -> None:
    for rates in ((from_rate, 16000), (16000, from_rate)):
        stream, block = StreamResampler(*rates, 1), max(rates[0] // 200, 1)
        taken = given = 0
        for _ in range(max(6000 // min(rates) * 200, 600)):
            given += stream.process(np.zeros((1, block), np.float32)).shape[-1]
            taken += block
            assert int(stream.needed(np.array([given + 1]))[0]) > taken


@pytest.mark.parametrize(
    ("from_rate", "to_rate"), [(44100, 16000), (16000, 44100), (96000, 16000), (48000, 16000)]
)
def test_the_first_samples_are_right_if_the_signal_starts_abruptly(
    from_rate: int, to_rate: int
) -> None:
    """For some ratios, soxr alone has errors of -20 dB there."""
    noise = np.random.default_rng(1).normal(0, 0.2, (1, from_rate // 4)).astype(np.float32)
    silence = np.zeros((1, from_rate // 10), np.float32)
    later = resample(np.concatenate([silence, noise], axis=1), from_rate, to_rate)[
        :, to_rate // 10 :
    ]
    np.testing.assert_allclose(resample(noise, from_rate, to_rate), later, atol=3e-6)
