"""Mixing: signal-to-noise ratios are exact, levels ignore pauses, noises have their spectrum."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audioae.errors import DataError
from audioae.signal.mixing import (
    active_rms,
    babble,
    coloured_noise,
    mix_at_snr,
    noise_scale,
    rms,
    shaped_noise,
)

RATE = 16000
FRAME = RATE // 50


def white(samples: int, level: float = 0.1, seed: int = 0) -> np.ndarray:
    return (level * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def decibels(ratio: float) -> float:
    return 20 * np.log10(ratio)


@settings(max_examples=100, deadline=None)
@given(
    snr_db=st.floats(-30, 40),
    speech_db=st.floats(-60, 0),
    noise_db=st.floats(-60, 0),
    samples=st.integers(FRAME, 5000),
    speech_pause=st.floats(0, 0.8),
    noise_pause=st.floats(0, 0.8),
)
def test_a_mixture_has_the_requested_ratio(
    snr_db: float,
    speech_db: float,
    noise_db: float,
    samples: int,
    speech_pause: float,
    noise_pause: float,
) -> None:
    clean, noise = (
        white(samples, 10 ** (speech_db / 20)),
        white(samples, 10 ** (noise_db / 20), seed=1),
    )
    clean[int((1 - speech_pause) * samples) :] = 0
    noise[: int(noise_pause * samples)] = 0
    if not active_rms(clean, RATE) or not active_rms(noise, RATE):
        return
    mixture = mix_at_snr(clean, noise, snr_db=snr_db, sample_rate=RATE)
    assert mixture.shape == clean.shape and mixture.dtype == np.float32
    added = mixture.astype(np.float64) - clean
    assert decibels(active_rms(clean, RATE) / active_rms(added, RATE)) == pytest.approx(
        snr_db, abs=0.01
    )
    np.testing.assert_allclose(
        added,
        noise * noise_scale(clean, noise, snr_db=snr_db, sample_rate=RATE),
        atol=1e-6 * np.abs(mixture).max(),
    )


def test_a_known_mixture() -> None:
    clean, noise = np.full(FRAME, 0.2, np.float32), np.full(FRAME, -0.05, np.float32)
    np.testing.assert_allclose(
        mix_at_snr(clean, noise, snr_db=20, sample_rate=RATE), 0.2 - 0.02, rtol=1e-6
    )
    np.testing.assert_allclose(mix_at_snr(clean, noise, snr_db=0, sample_rate=RATE), 0, atol=1e-7)


@pytest.mark.parametrize(
    ("clean", "noise", "silent"), [(0.0, 0.1, "speech"), (0.1, 0.0, "noise"), (0.0, 0.0, "speech")]
)
def test_digital_silence_is_an_error(clean: float, noise: float, silent: str) -> None:
    with pytest.raises(DataError, match=f"the {silent} is digital silence"):
        mix_at_snr(
            np.full(FRAME, clean, np.float32),
            np.full(FRAME, noise, np.float32),
            snr_db=0,
            sample_rate=RATE,
        )


def test_pauses_do_not_lower_the_active_level() -> None:
    sound = white(10 * FRAME)
    quiet = 0.001 * white(20 * FRAME, seed=1)  # 60 dB below
    level = rms(sound)
    assert active_rms(sound, RATE) == pytest.approx(level, rel=1e-5)
    assert active_rms(
        np.concatenate([np.zeros(5 * FRAME, np.float32), sound, quiet]), RATE
    ) == pytest.approx(level, rel=1e-5)
    assert rms(np.concatenate([sound, quiet])) < 0.6 * level


def test_quiet_speech_is_still_active() -> None:
    loud, soft = white(10 * FRAME), 0.03 * white(10 * FRAME, seed=1)  # 30 dB below
    both = np.concatenate([loud, soft])
    assert active_rms(both, RATE) == pytest.approx(rms(both), rel=1e-5)


@pytest.mark.parametrize("samples", [0, 1, FRAME - 1, FRAME + 1])
def test_levels_of_odd_lengths(samples: int) -> None:
    assert active_rms(np.zeros(samples, np.float32), RATE) == 0
    assert active_rms(np.full(samples, 0.5, np.float32), RATE) == pytest.approx(
        0.5 if samples else 0
    )
    assert rms(np.full(samples, 0.5, np.float32)) == pytest.approx(0.5 if samples else 0)


@pytest.mark.parametrize("exponent", [-1.0, 0.0, 1.0, 2.0])
def test_coloured_noise_has_the_requested_slope(exponent: float) -> None:
    """1 / f^e is a straight line in log-log axes; fit it from 100 Hz to 7 kHz."""
    samples = 1 << 18
    noise = coloured_noise(np.random.default_rng(0), samples, exponent=exponent)
    assert (
        noise.dtype == np.float32
        and rms(noise) == pytest.approx(1, rel=1e-5)
        and abs(noise.mean()) < 1e-5
    )
    power = np.abs(np.fft.rfft(noise.astype(np.float64))) ** 2
    hz = np.fft.rfftfreq(samples, 1 / RATE)
    edges = np.geomspace(100, 7000, 25)
    bands = [(hz >= low) & (hz < high) for low, high in pairwise(edges)]
    slope = np.polyfit(
        np.log([hz[band].mean() for band in bands]),
        np.log([power[band].mean() for band in bands]),
        1,
    )[0]
    assert slope == pytest.approx(-exponent, abs=0.05)


def test_noise_repeats_with_its_seed() -> None:
    draw = lambda seed: coloured_noise(np.random.default_rng(seed), 999, exponent=1.0)
    np.testing.assert_array_equal(draw(3), draw(3))
    assert np.abs(draw(3) - draw(4)).max() > 0.1 and len(draw(3)) == 999


def test_shaped_noise_has_the_requested_spectrum() -> None:
    magnitude = np.zeros(2049)
    magnitude[100:200] = 3.0
    noise = shaped_noise(np.random.default_rng(0), 4096, magnitude=magnitude)
    inside = np.abs(np.fft.rfft(noise))
    assert rms(noise) == pytest.approx(1, rel=1e-5)
    assert np.delete(inside, slice(100, 200)).max() < 1e-3 * inside.max()
    assert not shaped_noise(
        np.random.default_rng(0), 4096, magnitude=0 * magnitude
    ).any()  # the spectrum of a silent recording gives no noise


def test_babble_gives_all_speakers_the_same_level() -> None:
    loud, soft, silent = white(4000, 0.5), white(4000, 0.01, seed=1), np.zeros(4000, np.float32)
    mixed = babble([loud, soft, silent], RATE)
    expected = loud / active_rms(loud, RATE) + soft / active_rms(soft, RATE)
    np.testing.assert_allclose(mixed, expected, atol=1e-4)
    assert not babble([silent, silent], RATE).any()
