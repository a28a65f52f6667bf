"""Draws are records that repeat with their seed; what they do to speech is what their parameters
say, aligned to the sample.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("scipy")

from audioae.data.augment import (
    EARLY_SECONDS,
    AugmentSettings,
    Band,
    DecayingRoom,
    Equaliser,
    ImageRoom,
    bank_room,
    direct_sound,
    equalise,
    filter_speech,
)
from audioae.data.augment.equaliser import bin_gains
from audioae.data.augment.rooms import NUM_ROOMS
from audioae.data.augment.settings import PROBABILITIES
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
    before, after = (
        np.square(np.abs(np.fft.rfft(signal))[band]).sum() for signal in (speech, heard)
    )
    return 10 * np.log10(after / before)


def filtered(
    speech: np.ndarray, room: np.ndarray | None, equaliser: Equaliser | None
) -> tuple[np.ndarray, np.ndarray]:
    """`filter_speech` of one waveform."""
    heard, target = filter_speech(speech[None], [room], [equaliser], RATE)
    return heard[0], target[0]


def test_nothing_drawn_changes_nothing() -> None:
    speech = white(3000)
    for each in (*filtered(speech, None, None), equalise(speech[None], [None], RATE)[0]):
        np.testing.assert_array_equal(each, speech)


def test_rows_of_a_batch_are_filtered_by_their_own_room_and_equaliser() -> None:
    """The batch is padded to its longest room, which moves only how equalisers wrap around."""
    rooms = [None, room_of((0, 1.0), (900, 0.5)), None, room_of((30, 0.8), samples=9000)]
    equalisers = [None, None, one("peak", 1000.0, 6.0, 1.0), one("low_shelf", 500.0, -6.0, 0.7)]
    speech = np.stack([white(6000, seed) for seed in range(4)])
    heard, target = filter_speech(speech, rooms, equalisers, RATE)
    for row in range(4):
        alone = filtered(speech[row], rooms[row], equalisers[row])
        for side, expected in zip((heard[row], target[row]), alone, strict=True):
            np.testing.assert_allclose(side[500:-500], expected[500:-500], atol=3e-4)


def test_the_target_keeps_early_reflections_and_loses_late_ones() -> None:
    speech = white(8000)
    room = room_of((0, 1.0), (EARLY - 1, 0.5), (EARLY, 0.4), (3000, -0.3))
    heard, target = filtered(speech, room, None)
    delayed = lambda samples: np.pad(speech, (samples, 0))[: len(speech)]
    early = speech + 0.5 * delayed(EARLY - 1)
    np.testing.assert_allclose(target, early, atol=1e-5)
    np.testing.assert_allclose(heard, early + 0.4 * delayed(EARLY) - 0.3 * delayed(3000), atol=1e-5)
    assert heard.dtype == target.dtype == np.float32


@settings(max_examples=30, deadline=None)
@given(distance=st.integers(0, 3000), level=st.floats(0.01, 10), seed=st.integers(0, 99))
def test_heard_speech_and_target_stay_aligned_to_the_dry_speech(
    distance: int, level: float, seed: int
) -> None:
    """Whatever the distance and gain of a measured room, the direct sound comes at once and at its
    own level.
    """
    speech = white(4000, seed)
    room = np.float32(level) * room_of((distance, 1.0), (distance + 1500, 0.4), samples=6000)
    heard, target = filtered(speech, room, None)
    np.testing.assert_allclose(target, speech, atol=1e-5)
    np.testing.assert_allclose(heard[:1500], speech[:1500], atol=1e-5)


def test_the_direct_sound_is_found_before_a_louder_reflection() -> None:
    assert direct_sound(room_of((10, 0.3), (200, -0.7), (300, 1.0))) == 200
    assert direct_sound(room_of((0, 1.0))) == 0


@pytest.mark.parametrize("seed", range(5))
def test_decaying_rooms_decay_after_their_direct_sound(seed: int) -> None:
    drawn = DecayingRoom.draw(np.random.default_rng(seed))
    room = drawn.response(RATE)
    assert (
        len(room) == int(drawn.t60 * RATE) and 0.15 <= drawn.t60 <= 0.8 and room.dtype == np.float32
    )
    assert room[0] == 1 and direct_sound(room) == 0 and not room[1 : RATE // 1000].any()
    first, last = np.array_split(room[RATE // 100 :], 10)[::9]
    assert (
        10 * np.log10(np.square(last).sum() / np.square(first).sum()) < -45
    )  # 60 dB from end to end, 54 between the tenths
    assert -20 * np.log10(np.linalg.norm(room[1:])) == pytest.approx(drawn.distance_db, abs=0.01)


BOX = ImageRoom((5.0, 4.0, 3.0), (1.0, 2.0, 1.5), (3.0, 1.0, 1.2), 0.4, 0)


def test_images_are_where_a_mirror_would_show_them() -> None:
    """The direct sound and the six walls of a shoe box, worked out by hand."""
    delays, amplitudes = BOX.images(0.05)
    source, microphone = np.array(BOX.source), np.array(BOX.microphone)
    mirrored = [source]
    for axis, size in enumerate(BOX.size):
        for wall in (0.0, size):
            image = source.copy()
            image[axis] = 2 * wall - image[axis]
            mirrored.append(image)
    for number, image in enumerate(mirrored):
        distance = np.linalg.norm(image - microphone)
        nearest = np.abs(delays - distance / 343.0).argmin()
        assert delays[nearest] == pytest.approx(distance / 343.0, rel=1e-5)
        assert amplitudes[nearest] == pytest.approx(
            (BOX.reflection if number else 1) / distance, rel=1e-4
        )
    assert delays.min() == pytest.approx(np.linalg.norm(source - microphone) / 343.0, rel=1e-5)


@pytest.mark.parametrize("seconds", [0.03, 0.08])
def test_as_many_images_as_rooms_fit_into_a_ball(seconds: float) -> None:
    ball = 4 / 3 * np.pi * (343.0 * seconds) ** 3
    assert len(BOX.images(seconds)[0]) == pytest.approx(ball / np.prod(BOX.size), rel=0.1)


@pytest.mark.parametrize("number", range(0, NUM_ROOMS, 60))
def test_rooms_of_the_bank_fall_by_60_db_in_their_time(number: int) -> None:
    room = bank_room(number)
    response = room.response(RATE)
    assert response[0] == 1 and direct_sound(response) == 0 and response.dtype == np.float32
    assert response is bank_room(number).response(RATE)  # computed once
    left_db = 10 * np.log10(
        np.cumsum(np.square(response[::-1], dtype=np.float64))[::-1] + 1e-20
    )  # Schroeder 1965
    start, end = (int(np.argmax(left_db < left_db[0] - down)) for down in (5, 30))
    assert 60 / 25 * (end - start) / RATE == pytest.approx(room.t60, rel=0.35)
    assert all(
        0 < place < length
        for point in (room.source, room.microphone)
        for place, length in zip(point, room.size, strict=True)
    )


def test_early_reflections_of_a_made_room_stay_in_the_target() -> None:
    click = room_of((0, 1.0), samples=RATE)
    heard, target = filtered(click, bank_room(3).response(RATE), None)
    np.testing.assert_allclose(heard[:EARLY], target[:EARLY], atol=1e-5)
    assert np.abs(heard[EARLY:]).max() > 1e-3 and np.abs(target[EARLY:]).max() < 1e-5


def one(kind: str, hz: float, gain: float, q: float) -> Equaliser:
    return Equaliser((Band(kind, hz, gain, q),))  # type: ignore[arg-type]


@pytest.mark.parametrize("gain", [-12.0, 9.0])
def test_a_band_lifts_its_centre_and_leaves_the_rest(gain: float) -> None:
    speech = white(1 << 15)
    heard, target = filtered(speech, None, one("peak", 1000.0, gain, 2.0))
    np.testing.assert_array_equal(heard, target)
    assert gain_db(heard, speech, 1000) == pytest.approx(gain, abs=0.3)
    for hz in (60, 7500):
        assert gain_db(heard, speech, hz) == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize(
    ("kind", "expected"), [("high_shelf", [0, 3, 6]), ("low_shelf", [6, 3, 0])]
)
def test_a_shelf_lifts_one_side(kind: str, expected: list[float]) -> None:
    response = one(kind, 1000.0, 6.0, 0.5**0.5).response(np.array([0.0, 1000.0, 8000.0]), RATE)
    np.testing.assert_allclose(20 * np.log10(response), expected, atol=0.01)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["peak", "low_shelf", "high_shelf"]),
    hz=st.floats(60, 7000),
    gain=st.floats(-20, 20),
    q=st.floats(0.3, 3),
)
def test_responses_are_those_of_the_filters(kind: str, hz: float, gain: float, q: float) -> None:
    from scipy.signal import freqz

    band = Band(kind, hz, gain, q)  # type: ignore[arg-type]
    frequency = np.linspace(0, RATE / 2, 200)
    expected = np.abs(freqz(*band.coefficients(RATE), worN=frequency, fs=RATE)[1])
    np.testing.assert_allclose(Equaliser((band,)).response(frequency, RATE), expected, rtol=1e-5)


def test_peaks_are_those_of_torchaudio() -> None:
    torch = pytest.importorskip("torch")
    try:
        from torchaudio.functional import equalizer_biquad
    except (ImportError, OSError, RuntimeError) as error:  # beside a foreign torch
        pytest.skip(f"torchaudio does not import: {error}")
    click = room_of((0, 1.0), samples=1 << 14)
    filtered = equalizer_biquad(torch.from_numpy(click), RATE, 1200.0, -7.0, 0.9).numpy()
    response = one("peak", 1200.0, -7.0, 0.9).response(np.fft.rfftfreq(len(click), 1 / RATE), RATE)
    np.testing.assert_allclose(np.abs(np.fft.rfft(filtered)), response, atol=1e-3)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.sampled_from([511, 8000, 48000, 61440]))
def test_gains_at_the_bins_are_those_of_the_response(seed: int, size: int) -> None:
    equaliser = Equaliser.draw(np.random.default_rng(seed), 9, RATE)
    exact = equaliser.response(np.arange(size // 2 + 1) * RATE / size, RATE)
    (gains,) = bin_gains(white(size)[None], [equaliser], size, RATE)
    assert np.abs(20 * np.log10(gains / exact)).max() < 0.05  # of float32 polynomials, in dB


def test_bands_add_up_in_decibels() -> None:
    bands = (
        Band("peak", 300.0, 4.0, 1.0),
        Band("peak", 2000.0, -7.0, 2.0),
        Band("high_shelf", 500.0, 3.0, 0.7),
    )
    hz = np.linspace(0, 8000, 99)
    product = np.prod([Equaliser((band,)).response(hz, RATE) for band in bands], axis=0)
    np.testing.assert_allclose(Equaliser(bands).response(hz, RATE), product, rtol=1e-12)


def test_an_equaliser_does_not_move_speech() -> None:
    speech = room_of((2000, 1.0))
    heard, _ = filtered(
        speech,
        None,
        Equaliser((Band("peak", 800.0, 6.0, 1.0), Band("high_shelf", 3000.0, -6.0, 0.7))),
    )
    assert np.abs(heard).argmax() == 2000
    np.testing.assert_allclose(
        heard[1:2000][::-1], heard[2001:], atol=1e-6
    )  # zero phase: as much before as after


def test_room_and_equaliser_go_together() -> None:
    speech, room, equaliser = (
        white(6000),
        room_of((0, 1.0), (300, 0.4), (2000, 0.2)),
        one("peak", 1000.0, 6.0, 1.0),
    )
    heard, target = filtered(speech, room, equaliser)
    for got, response in ((heard, room), (target, room[:EARLY])):
        expected = filtered(speech, response, None)[0]
        whole = np.fft.rfft(expected, 16384) * equaliser.response(
            np.fft.rfftfreq(16384, 1 / RATE), RATE
        )
        np.testing.assert_allclose(got[500:-500], np.fft.irfft(whole)[500:5500], atol=2e-4)


def test_a_silent_room_gives_silence_and_no_error() -> None:
    heard, target = filtered(white(1000), np.zeros(500, np.float32), None)
    assert not heard.any() and not target.any()


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 10**6), max_db=st.floats(0, 20), rate=st.sampled_from([8000, 16000, 48000])
)
def test_drawn_equalisers_stay_in_their_range(seed: int, max_db: float, rate: int) -> None:
    equaliser = Equaliser.draw(np.random.default_rng(seed), max_db, rate)
    assert 1 <= len(equaliser.bands) <= 4
    for band in equaliser.bands:
        assert 60 <= band.hz <= rate / 2 and abs(band.gain_db) <= max_db
    response = equaliser.response(np.linspace(0, rate / 2, 64), rate)
    assert (np.abs(20 * np.log10(response)) <= 4 * max_db + 1e-9).all()


WRONG: list[dict] = [
    {"reverb": 1.5},
    {"easy": -0.1},
    {"clipping": 2},
    {"codec": 1.01},
    {"snr_db": (5.0, -5.0)},
    {"level_dbfs": (0.0, -9.0)},
    {"speed_factor": (0.1, 1)},
]


@pytest.mark.parametrize("wrong", WRONG)
def test_impossible_settings_are_named(wrong: dict) -> None:
    with pytest.raises(SettingsError, match=f"AugmentSettings.{next(iter(wrong))} is"):
        AugmentSettings(**wrong)


def test_plain_settings_draw_nothing_but_what_is_asked() -> None:
    plain = AugmentSettings.plain(eq=0.5)
    assert {name: getattr(plain, name) for name in PROBABILITIES if getattr(plain, name)} == {
        "eq": 0.5
    }
    assert plain.snr_db == AugmentSettings().snr_db


def test_every_effect_that_is_drawn_has_a_probability() -> None:
    numbers = {
        field.name for field in dataclasses.fields(AugmentSettings) if type(field.default) is float
    }
    assert numbers - {"eq_db"} == set(PROBABILITIES)
