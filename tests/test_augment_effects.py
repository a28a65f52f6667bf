"""Each effect does what its parameters say, in their units, repeats with its record, and leaves
silence silent.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("scipy")

from audioae.data.augment import (
    BandLimit,
    Clicks,
    Clipping,
    Codec,
    ColouredNoise,
    Fan,
    Hum,
    Level,
    Melody,
    PacketLoss,
    Remix,
    ShapedNoise,
    SignalToNoise,
    Silence,
    Speed,
    Variation,
    Wind,
    align,
    mix_at_ratios,
    set_levels,
)
from audioae.data.augment.blend import active_rms as batch_active_rms
from audioae.data.augment.blend import rms as batch_rms
from audioae.signal.mixing import active_rms, rms

RATE = 16000
FRAME = RATE // 50


def white(samples: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def voiced(samples: int) -> np.ndarray:
    """A gliding tone with harmonics in syllables, which codecs treat like speech."""
    time = np.arange(samples) / RATE
    phase = 2 * np.pi * np.cumsum(130 * (1 + 0.2 * np.sin(2 * np.pi * 0.7 * time))) / RATE
    tone = sum(np.sin(k * phase) / k for k in range(1, 25))
    return (0.1 * tone * np.sin(2 * np.pi * 2 * time) ** 2).astype(np.float32)


def power(waveform: np.ndarray, low_hz: float, high_hz: float) -> float:
    """Power between two frequencies, dB."""
    spectrum = np.square(np.abs(np.fft.rfft(waveform.astype(np.float64))))
    hz = np.fft.rfftfreq(len(waveform), 1 / RATE)
    return 10 * np.log10(spectrum[(hz >= low_hz) & (hz < high_hz)].sum() + 1e-20)


# --- noises


@pytest.mark.parametrize("kind", [ColouredNoise, Hum, Clicks, Fan, Wind, Melody])
@pytest.mark.parametrize("samples", [799, 16000])
def test_made_noises_have_rms_1_and_repeat(kind: type, samples: int) -> None:
    for seed in range(6):
        drawn = kind.draw(np.random.default_rng(seed))
        noise = drawn.apply(samples, RATE)
        assert (
            noise.shape == (samples,)
            and noise.dtype == np.float32
            and rms(noise) == pytest.approx(1, rel=1e-4)
        )
        np.testing.assert_array_equal(
            noise, kind.draw(np.random.default_rng(seed)).apply(samples, RATE)
        )
        assert kind.draw(np.random.default_rng(seed + 100)) != drawn


@pytest.mark.parametrize("exponent", [-1.0, 0.0, 1.0, 2.0])
def test_coloured_noise_falls_by_its_exponent(exponent: float) -> None:
    noise = ColouredNoise(exponent, 3).apply(1 << 17, RATE)
    fall = power(noise, 200, 400) - power(
        noise, 3200, 6400
    )  # 4 octaves; the upper band is 16 times as wide
    assert fall + 10 * np.log10(16) == pytest.approx(40 * exponent * np.log10(2), abs=0.6)


def test_shaped_noise_has_the_spectrum_of_the_recording_and_none_of_its_time() -> None:
    recording = np.zeros(RATE, np.float32)
    recording[:4000] = np.diff(white(4001))  # high frequencies, a quarter of the time
    noise = ShapedNoise(1).apply(recording)
    for low, high in ((100, 1000), (1000, 3000), (5000, 7000)):
        share = [power(each, low, high) - power(each, 50, 8000) for each in (recording, noise)]
        assert share[0] == pytest.approx(share[1], abs=1)
    assert rms(noise[12000:]) == pytest.approx(rms(noise[:4000]), rel=0.2)
    assert not ShapedNoise(1).apply(np.zeros(500, np.float32)).any()


@pytest.mark.parametrize("mains", [50.0, 60.0])
def test_hum_lies_on_the_harmonics_of_the_mains(mains: float) -> None:
    hum = Hum(mains, (0.0, -6.0, -3.0), (0.0, 1.0, 2.0), -50.0, 0).apply(RATE, RATE)
    levels = [power(hum, k * mains - 1, k * mains + 1) for k in (1, 2, 3)]
    assert levels[0] - levels[1] == pytest.approx(6, abs=0.05) and levels[0] - levels[
        2
    ] == pytest.approx(3, abs=0.05)
    assert power(hum, 3 * mains + 2, 8000) < levels[0] - 40


def test_harmonics_beyond_nyquist_are_left_out() -> None:
    hum = Hum(60.0, (0.0,) * 20, (0.0,) * 20, -80.0, 0).apply(1000, 1000)
    assert np.abs(np.fft.rfft(hum))[480:500].max() == pytest.approx(
        np.abs(np.fft.rfft(hum))[60], rel=0.01
    )  # 480 Hz is the last


def test_clicks_are_rare_and_crackle_is_not() -> None:
    def busy(noise: np.ndarray) -> float:
        return float((np.abs(noise) > 0.05 * np.abs(noise).max()).mean())

    clicks, crackle = (
        Clicks(rate, 3.0, 2000.0, 0.001, 0).apply(3 * RATE, RATE) for rate in (2.0, 200.0)
    )
    assert busy(clicks) < 0.02 < 0.1 < busy(crackle)
    assert Clicks(1e-9, 3.0, 2000.0, 0.001, 0).apply(RATE, RATE).any()


def test_a_fan_has_the_tones_of_its_blades() -> None:
    fan = Fan(100.0, (0.0, -10.0), 1.0, 0.0, 1.0, 0).apply(2 * RATE, RATE)
    beside = power(fan, 90, 98)
    assert power(fan, 99, 101) > beside + 10 and power(fan, 199, 201) > power(fan, 188, 198) + 3
    assert power(fan, 30, 300) > power(fan, 3000, 8000)


def test_wind_blows_low_and_in_gusts() -> None:
    wind = Wind(150.0, 1.0, 6.0, 0).apply(8 * RATE, RATE)
    assert power(wind, 0, 300) > power(wind, 1000, 8000) + 15
    levels = 20 * np.log10([rms(part) for part in np.array_split(wind, 32)])
    assert 3 < levels.std() < 10


# --- speech and noise together


@settings(max_examples=40, deadline=None)
@given(snr_db=st.floats(-20, 40), pause=st.integers(0, 12000))
def test_noise_comes_at_the_asked_ratio_of_active_levels(snr_db: float, pause: int) -> None:
    speech, noise = white(RATE), white(RATE, 1)
    speech[: pause // FRAME * FRAME] = 0
    added = mix_at_ratios(speech[None], noise[None], [snr_db], RATE)[0] - speech
    assert 20 * np.log10(active_rms(speech, RATE) / active_rms(added, RATE)) == pytest.approx(
        snr_db, abs=0.05
    )


@settings(max_examples=40, deadline=None)
@given(samples=st.integers(1, 3000), rate=st.sampled_from([8000, 16000]), seed=st.integers(0, 99))
def test_levels_of_a_batch_are_those_of_each_waveform(samples: int, rate: int, seed: int) -> None:
    batch = np.stack(
        [white(samples, seed), np.zeros(samples, np.float32), white(samples, seed + 1)]
    )
    batch[2, samples // 3 :] *= 1e-3  # a pause
    expected = [active_rms(waveform, rate) for waveform in batch]
    np.testing.assert_allclose(batch_active_rms(batch, rate), expected, rtol=1e-4)
    mixed = mix_at_ratios(batch, batch[::-1], [3.0, 3.0, None], rate)
    levelled = set_levels(mixed, batch, [Level(-20.0)] * 3)
    assert all(each.dtype == np.float32 for each in (batch_rms(batch), mixed, *levelled))
    np.testing.assert_allclose(batch_rms(batch), [rms(waveform) for waveform in batch], rtol=1e-5)


def test_silence_has_no_ratio_and_takes_no_noise() -> None:
    speech, silence = white(RATE), np.zeros(RATE, np.float32)
    for ratio, voice, noise in (
        (None, speech, speech),
        (5.0, speech, silence),
        (5.0, silence, speech),
    ):
        mixed = mix_at_ratios(voice[None], noise[None], [ratio], RATE)[0]
        np.testing.assert_array_equal(mixed, voice)


def test_easy_ratios_are_drawn_as_often_as_asked() -> None:
    drawn = [
        SignalToNoise.draw(rng, (-5, 5), 0.4, (20, 40)).snr_db
        for rng in [np.random.default_rng(0)]
        for _ in range(1000)
    ]
    none, easy = (
        sum(ratio is None for ratio in drawn) / 1000,
        sum(ratio is not None and ratio > 19 for ratio in drawn) / 1000,
    )
    assert none == pytest.approx(0.2, abs=0.04) and easy == pytest.approx(0.2, abs=0.04)


def test_level_moves_mixture_and_target_alike() -> None:
    (noisy,), (clean,) = set_levels(white(RATE)[None], white(RATE, 1)[None], [Level(-30.0)])
    assert 20 * np.log10(rms(noisy)) == pytest.approx(-30, abs=0.01)
    np.testing.assert_allclose(noisy / clean, white(RATE) / white(RATE, 1), rtol=1e-4)
    silence = np.zeros((1, 9), np.float32)
    assert not any(side.any() for side in set_levels(silence, silence, [Level(-30.0)]))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_digital_silence_is_a_stretch_in_both(seed: int) -> None:
    drawn = Silence.draw(np.random.default_rng(seed), (0.1, 3.0), 4.0)
    noisy, clean = drawn.apply(white(4000) + 1, white(4000) + 1)
    silent = np.flatnonzero(noisy == 0)
    np.testing.assert_array_equal(silent, np.flatnonzero(clean == 0))
    assert 99 <= len(silent) <= 2000 and silent[-1] - silent[0] == len(silent) - 1


def test_remix_gives_each_mixture_the_noise_of_another() -> None:
    clean, noise = (np.stack([white(100, seed + side) for seed in range(5)]) for side in (0, 50))
    order = Remix.draw(np.random.default_rng(0), 5).order
    np.testing.assert_allclose(
        Remix(order).apply(clean + noise, clean), clean + noise[list(order)], atol=1e-6
    )
    assert sorted(order) == [0, 1, 2, 3, 4]


# --- the channel


def test_clipping_cuts_at_a_fraction_of_the_peak() -> None:
    waveform = white(1000)
    peak = np.abs(waveform).max()
    clipped = Clipping(0.5).apply(waveform)
    assert np.abs(clipped).max() == pytest.approx(0.5 * peak)
    untouched = np.abs(waveform) <= 0.5 * peak
    np.testing.assert_array_equal(clipped[untouched], waveform[untouched])
    assert (
        not Clipping(0.3).apply(np.zeros(5, np.float32)).any()
        and not Clipping(0.3).apply(np.zeros(0, np.float32)).size
    )


@pytest.mark.parametrize("samples", [15999, 16000])
def test_a_band_limit_passes_what_is_below_and_stops_what_is_above(samples: int) -> None:
    waveform = white(samples)
    limited = BandLimit(4000.0).apply(waveform, RATE)
    assert limited.dtype == np.float32 and limited.shape == waveform.shape
    assert power(limited, 50, 3900) == pytest.approx(power(waveform, 50, 3900), abs=0.05)
    assert power(limited, 4500, 8000) < power(waveform, 4500, 8000) - 40


def test_cut_offs_are_those_that_the_rate_has() -> None:
    drawn = {
        rate: {
            limit and limit.cutoff_hz for limit in (BandLimit.draw(rng, rate) for _ in range(60))
        }
        for rate in (8000, 16000, 48000)
        for rng in [np.random.default_rng(0)]
    }
    assert drawn == {8000: {None}, 16000: {4000.0}, 48000: {4000.0, 8000.0, 11000.0}}


@pytest.mark.parametrize("name", ["opus", "mp3"])
@pytest.mark.parametrize("kbps", [16.0, 64.0])
def test_a_codec_keeps_length_and_place(name: str, kbps: float) -> None:
    speech = voiced(RATE + 123)
    decoded = Codec(name, kbps).apply(speech, RATE)  # type: ignore[arg-type]
    assert decoded.shape == speech.shape and decoded.dtype == np.float32
    size = 1 << 16
    likeness = np.fft.irfft(np.fft.rfft(decoded, size) * np.conj(np.fft.rfft(speech, size)))
    assert likeness.argmax() == 0
    error = rms(decoded - speech) / rms(speech)
    assert 1e-4 < error < (0.5 if kbps < 32 else 0.25)
    np.testing.assert_array_equal(decoded, Codec(name, kbps).apply(speech, RATE))


def test_more_bits_sound_closer_and_full_scale_is_no_limit() -> None:
    speech = 20 * voiced(RATE)
    for name in ("opus", "mp3"):
        errors = [
            rms(Codec(name, kbps).apply(speech, RATE) - speech) / rms(speech)
            for kbps in (8.0, 24.0, 64.0)
        ]  # type: ignore[arg-type]
        assert errors[0] > errors[-1] and errors[-1] < 0.25
    assert not Codec("opus", 24.0).apply(np.zeros(5000, np.float32), RATE).any()


def test_codecs_are_those_that_have_the_rate() -> None:
    rng = np.random.default_rng(0)
    names = {
        rate: {
            codec and codec.name for codec in (Codec.draw(rng, (8, 64), rate) for _ in range(30))
        }
        for rate in (16000, 44100, 12345)
    }
    assert names == {16000: {"opus", "mp3"}, 44100: {"mp3"}, 12345: {None}}


@settings(max_examples=30, deadline=None)
@given(lag=st.integers(-500, 500))
def test_what_came_late_is_moved_back(lag: int) -> None:
    reference = white(3000)
    moved = np.pad(reference, (lag, 0)) if lag >= 0 else reference[-lag:]
    back = align(moved, reference, 600)
    inside = slice(max(0, -lag), 3000)
    np.testing.assert_array_equal(back[inside], reference[inside])
    assert back.shape == reference.shape


def test_lost_packets_are_as_many_and_as_bursty_as_asked() -> None:
    for share, burst in ((0.05, 1.0), (0.2, 3.0)):
        lost = np.array(PacketLoss(share, burst, False, 1).lost(40_000))
        runs = np.count_nonzero(np.diff(lost.astype(int)) == 1)
        assert lost.mean() == pytest.approx(share, rel=0.1) and lost.sum() / runs == pytest.approx(
            burst, rel=0.15
        )


def test_a_lost_packet_is_silent_or_repeats_the_last() -> None:
    waveform = white(FRAME * 100 + 57)
    for repeat in (False, True):
        effect = PacketLoss(0.2, 2.0, repeat, 4)
        received = effect.apply(waveform, RATE)
        lost = effect.lost(101)
        assert any(lost) and not lost[0]
        for number, gone in enumerate(lost[:100]):
            packet = slice(number * FRAME, (number + 1) * FRAME)
            before = received[(number - 1) * FRAME : number * FRAME]
            np.testing.assert_array_equal(
                received[packet],
                (before / 2 if repeat else 0 * before) if gone else waveform[packet],
            )
    np.testing.assert_array_equal(PacketLoss(0.0, 2.0, False, 4).apply(waveform, RATE), waveform)
    assert not PacketLoss(1.0, 2.0, False, 4).apply(waveform, RATE).any()


@settings(max_examples=20, deadline=None)
@given(factor=st.floats(0.5, 2), samples=st.integers(100, 9000))
def test_speed_moves_pitch_and_fills_the_length(factor: float, samples: int) -> None:
    effect = Speed(factor)
    tone = np.sin(2 * np.pi * 500 * np.arange(effect.needed(samples)) / RATE).astype(np.float32)
    faster = effect.apply(tone, samples, RATE)
    assert faster.shape == (samples,) and faster.dtype == np.float32
    if samples > 2000:
        hz = np.abs(np.fft.rfft(faster * np.hanning(samples))).argmax() * RATE / samples
        assert hz == pytest.approx(500 * factor, abs=RATE / samples)


# --- music and varied noise


def test_a_melody_lies_on_its_partials_below_nyquist() -> None:
    """One possible note: octaves 0 leaves the lowest fundamental only."""
    music = Melody(4.0, 500.0, 0.0, 30, 3.0, 5.0, 0).apply(4 * RATE, RATE)
    whole = power(music, 0, 8000)
    assert all(power(music, k * 500 - 40, k * 500 + 40) > whole - 40 for k in range(1, 15))
    assert power(music, 7300, 8000) < whole - 40  # 0.45 of the rate is 7200 Hz


def test_notes_of_a_melody_fade_in_and_decay() -> None:
    music = Melody(1e-9, 200.0, 0.0, 1, 3.0, 0.05, 3).apply(RATE, RATE)  # one note
    onset = int(np.flatnonzero(music)[0])
    assert np.abs(music[onset : onset + 20]).max() < 0.3 * np.abs(music).max()
    assert not music[onset + round(5 * 0.05 * RATE) + 1 :].any()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), samples=st.integers(1, 20000))
def test_varied_noise_keeps_its_length_and_repeats(seed: int, samples: int) -> None:
    noise, drawn = white(samples, seed), Variation.draw(np.random.default_rng(seed))
    varied = drawn.apply(noise, RATE)
    assert varied.shape == noise.shape and varied.dtype == np.float32
    assert np.isfinite(varied).all() and varied.flags.c_contiguous
    again = Variation.draw(np.random.default_rng(seed))
    assert again == drawn
    np.testing.assert_array_equal(again.apply(noise, RATE), varied)
    assert not drawn.apply(np.zeros(samples, np.float32), RATE).any()


def test_noise_played_backwards_is_reversed_and_twice_is_itself() -> None:
    noise, backwards = white(1000), Variation(True, None, 0)
    np.testing.assert_array_equal(backwards.apply(noise, RATE), noise[::-1])
    np.testing.assert_array_equal(backwards.apply(backwards.apply(noise, RATE), RATE), noise)
    np.testing.assert_array_equal(Variation(False, None, 0).apply(noise, RATE), noise)


@settings(max_examples=30, deadline=None)
@given(grain=st.floats(0.05, 0.9), seed=st.integers(0, 999))
def test_grains_cover_the_whole_length_at_one_level(grain: float, seed: int) -> None:
    """Grains of independent noise are cross-faded with equal power, so no part is quieter."""
    varied = Variation(False, grain, seed).apply(white(3 * RATE, seed), RATE)
    fade = round(0.2 * round(grain * RATE))  # the first grain fades in from nothing
    levels = [rms(part) for part in np.array_split(varied[fade:], 40)]
    assert min(levels) > 0.07 and max(levels) < 0.15  # the RMS of the noise is 0.1


def test_grains_come_from_the_noise() -> None:
    """Between its fades a grain is a stretch of the noise, sample for sample."""
    noise, size = white(RATE), 1600
    varied = Variation(False, 0.1, 5).apply(noise, RATE)
    windows = np.lib.stride_tricks.sliding_window_view(noise, 1000)
    for number in range(10):
        inside = varied[number * size + 400 : number * size + 1400]
        assert np.abs(windows - inside).max(-1).min() == 0
    assert not np.array_equal(varied, Variation(False, 0.1, 6).apply(noise, RATE))
