"""Draws are records that repeat with their seed; what they do to speech is what their parameters say, aligned to the sample."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("scipy")

from audioae.augment import (
    EARLY_SECONDS,
    AugmentSettings,
    Equaliser,
    clip,
    direct_sound,
    draw_equaliser,
    filter_noise,
    filter_speech,
    synthetic_room,
)
from audioae.errors import SettingsError

RATE = 16000
EARLY = int(EARLY_SECONDS * RATE)


def white(samples: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def room_of(*reflections: tuple[int, float], samples: int = 4000) -> np.ndarray:
    """A room response with a gain at each of some samples."""
    room = np.zeros(samples, np.float32)
    for sample, gain in reflections:
        room[sample] = gain
    return room


def gain_db(heard: np.ndarray, speech: np.ndarray, hz: float) -> float:
    """What became of the part of `speech` within 1/6 octave of `hz`, dB."""
    frequency = np.fft.rfftfreq(len(speech), 1 / RATE)
    band = np.abs(np.log2(np.maximum(frequency, 1) / hz)) < 1 / 12
    before, after = (np.square(np.abs(np.fft.rfft(signal))[band]).sum() for signal in (speech, heard))
    return 10 * np.log10(after / before)


def test_nothing_drawn_changes_nothing() -> None:
    speech = white(3000)
    for each in (*filter_speech(speech, None, None, RATE), filter_noise(speech, None, RATE)):
        np.testing.assert_array_equal(each, speech)


def test_the_target_keeps_early_reflections_and_loses_late_ones() -> None:
    speech = white(8000)
    room = room_of((0, 1.0), (EARLY - 1, 0.5), (EARLY, 0.4), (3000, -0.3))
    heard, target = filter_speech(speech, room, None, RATE)
    delayed = lambda samples: np.pad(speech, (samples, 0))[: len(speech)]  # noqa: E731
    early = speech + 0.5 * delayed(EARLY - 1)
    np.testing.assert_allclose(target, early, atol=1e-5)
    np.testing.assert_allclose(heard, early + 0.4 * delayed(EARLY) - 0.3 * delayed(3000), atol=1e-5)
    assert heard.dtype == target.dtype == np.float32


@settings(max_examples=30, deadline=None)
@given(distance=st.integers(0, 3000), level=st.floats(0.01, 10), seed=st.integers(0, 99))
def test_heard_speech_and_target_stay_aligned_to_the_dry_speech(distance: int, level: float, seed: int) -> None:
    """Whatever the distance and gain of a measured room, the direct sound comes at once and at its own level."""
    speech = white(4000, seed)
    room = np.float32(level) * room_of((distance, 1.0), (distance + 1500, 0.4), samples=6000)
    heard, target = filter_speech(speech, room, None, RATE)
    np.testing.assert_allclose(target, speech, atol=1e-5)
    np.testing.assert_allclose(heard[:1500], speech[:1500], atol=1e-5)


def test_the_direct_sound_is_found_before_a_louder_reflection() -> None:
    assert direct_sound(room_of((10, 0.3), (200, -0.7), (300, 1.0))) == 200
    assert direct_sound(room_of((0, 1.0))) == 0


@pytest.mark.parametrize("seed", range(5))
def test_synthetic_rooms_decay_after_their_direct_sound(seed: int) -> None:
    room = synthetic_room(np.random.default_rng(seed), RATE)
    assert 0.15 * RATE - 1 <= len(room) <= 0.8 * RATE and room.dtype == np.float32
    assert room[0] == 1 and direct_sound(room) == 0 and not room[1 : RATE // 1000].any()
    first, last = np.array_split(room[RATE // 100 :], 10)[::9]
    assert 10 * np.log10(np.square(last).sum() / np.square(first).sum()) < -45  # 60 dB from end to end, 54 between the tenths


@pytest.mark.parametrize("gain", [-12.0, 9.0])
def test_a_band_lifts_its_centre_and_leaves_the_rest(gain: float) -> None:
    speech = white(1 << 15)
    heard, target = filter_speech(speech, None, Equaliser(((1000.0, gain, 0.5),)), RATE)
    np.testing.assert_array_equal(heard, target)
    assert gain_db(heard, speech, 1000) == pytest.approx(gain, abs=0.3)
    assert gain_db(heard, speech, 1000 * 2**0.5) == pytest.approx(gain * np.exp(-0.5), abs=0.3)  # one standard deviation away
    for hz in (125, 6000):
        assert gain_db(heard, speech, hz) == pytest.approx(0, abs=0.1)


def test_a_shelf_lifts_what_lies_above() -> None:
    response = Equaliser(((1000.0, 6.0, 0.0),)).response(np.array([0.0, 100.0, 1000.0, 8000.0]))
    np.testing.assert_allclose(20 * np.log10(response), [0, 0, 3, 6], atol=0.01)


def test_bands_add_up_in_decibels() -> None:
    bands = ((300.0, 4.0, 1.0), (2000.0, -7.0, 0.4), (500.0, 3.0, 0.0))
    hz = np.linspace(0, 8000, 99)
    product = np.prod([Equaliser((band,)).response(hz) for band in bands], axis=0)
    np.testing.assert_allclose(Equaliser(bands).response(hz), product, rtol=1e-12)


def test_an_equaliser_does_not_move_speech() -> None:
    speech = room_of((2000, 1.0))
    heard, _ = filter_speech(speech, None, Equaliser(((800.0, 6.0, 1.0), (3000.0, -6.0, 0.0))), RATE)
    assert np.abs(heard).argmax() == 2000
    np.testing.assert_allclose(heard[1:2000][::-1], heard[2001:], atol=1e-6)  # zero phase: as much before as after


def test_room_and_equaliser_go_together() -> None:
    speech, room, equaliser = white(6000), room_of((0, 1.0), (300, 0.4), (2000, 0.2)), Equaliser(((1000.0, 6.0, 1.0),))
    heard, target = filter_speech(speech, room, equaliser, RATE)
    for got, response in ((heard, room), (target, room[:EARLY])):
        expected = filter_speech(speech, response, None, RATE)[0]
        whole = np.fft.rfft(expected, 16384) * equaliser.response(np.fft.rfftfreq(16384, 1 / RATE))
        np.testing.assert_allclose(got[500:-500], np.fft.irfft(whole)[500:5500], atol=2e-4)


def test_a_silent_room_gives_silence_and_no_error() -> None:
    heard, target = filter_speech(white(1000), np.zeros(500, np.float32), None, RATE)
    assert not heard.any() and not target.any()


def test_clipping_cuts_at_a_fraction_of_the_peak() -> None:
    waveform = white(1000)
    peak = np.abs(waveform).max()
    clipped = clip(waveform, 0.5)
    assert np.abs(clipped).max() == pytest.approx(0.5 * peak)
    untouched = np.abs(waveform) <= 0.5 * peak
    np.testing.assert_array_equal(clipped[untouched], waveform[untouched])
    assert not clip(np.zeros(5, np.float32), 0.3).any() and not clip(np.zeros(0, np.float32), 0.3).size


def test_draws_repeat_with_their_seed() -> None:
    for draw in (lambda rng: draw_equaliser(rng, 9, RATE), lambda rng: synthetic_room(rng, RATE).tolist()):
        assert draw(np.random.default_rng(7)) == draw(np.random.default_rng(7)) != draw(np.random.default_rng(8))


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6), max_db=st.floats(0, 20), rate=st.sampled_from([8000, 16000, 48000]))
def test_drawn_equalisers_stay_in_their_range(seed: int, max_db: float, rate: int) -> None:
    equaliser = draw_equaliser(np.random.default_rng(seed), max_db, rate)
    assert 1 <= len(equaliser.bands) <= 4
    for centre_hz, gain, _ in equaliser.bands:
        assert 60 <= centre_hz <= rate / 2 and abs(gain) <= max_db
    response = equaliser.response(np.linspace(0, rate / 2, 64))
    assert (np.abs(20 * np.log10(response)) <= 4 * max_db + 1e-9).all()


@pytest.mark.parametrize("wrong", [{"reverb": 1.5}, {"easy": -0.1}, {"clipping": 2}, {"snr_db": (5.0, -5.0)}, {"level_dbfs": (0.0, -9.0)}])
def test_impossible_settings_are_named(wrong: dict) -> None:
    with pytest.raises(SettingsError, match=f"AugmentSettings.{next(iter(wrong))} is"):
        AugmentSettings(**wrong)
