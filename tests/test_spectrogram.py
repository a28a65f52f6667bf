"""The STFT: perfect reconstruction, blocks equal the whole, a tone is in its bin."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audioae.errors import SettingsError
from audioae.signal.spectrogram import StftSettings, analyse, istft, stft, synthesise

FORMS = [
    StftSettings(),
    StftSettings(hop_length=128),
    StftSettings(48000, 1024, 512, 1024),
    StftSettings(n_fft=64, hop_length=16, win_length=48),
    StftSettings(n_fft=64, hop_length=16, win_length=32),
]
each_form = pytest.mark.parametrize(
    "form", FORMS, ids=lambda form: f"{form.n_fft}-{form.hop_length}-{form.win_length}"
)


def white(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@each_form
def test_windows_of_analysis_and_synthesis_add_up_to_one(form: StftSettings) -> None:
    squared = np.square(form.window, dtype=np.float64).reshape(-1, form.hop_length)
    np.testing.assert_allclose(squared.sum(0), 1, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(samples=st.integers(0, 700), form=st.sampled_from(FORMS[3:]))
def test_istft_inverts_stft(samples: int, form: StftSettings) -> None:
    waveform = white(2, samples)
    spectrum = stft(waveform, form)
    assert (
        spectrum.shape == (2, form.num_bins, form.num_frames(samples))
        and spectrum.dtype == np.complex64
    )
    back = istft(spectrum, form, num_samples=samples)
    assert back.shape == waveform.shape and back.dtype == np.float32
    np.testing.assert_allclose(back, waveform, atol=2e-6)


@each_form
def test_istft_inverts_stft_for_one_second(form: StftSettings) -> None:
    waveform = white(form.sample_rate)
    np.testing.assert_allclose(
        istft(stft(waveform, form), form, num_samples=waveform.size), waveform, atol=5e-6
    )


@settings(max_examples=60, deadline=None)
@given(hops=st.lists(st.integers(0, 9), min_size=1, max_size=8), form=st.sampled_from(FORMS[3:]))
def test_blocks_equal_the_whole(hops: list[int], form: StftSettings) -> None:
    waveform = white(2, sum(hops) * form.hop_length)
    whole, _ = analyse(waveform, form)
    back, rest = synthesise(whole, form)
    spectra, waveforms, past, overlap = [], [], None, None
    for block in np.split(waveform, np.cumsum(hops)[:-1] * form.hop_length, axis=-1):
        spectrum, past = analyse(block, form, past)
        piece, overlap = synthesise(spectrum, form, overlap)
        spectra.append(spectrum)
        waveforms.append(piece)
    np.testing.assert_allclose(np.concatenate(spectra, -1), whole, atol=1e-5)
    np.testing.assert_allclose(np.concatenate(waveforms, -1), back, atol=1e-5)
    np.testing.assert_allclose(overlap, rest, atol=1e-5)


@each_form
def test_the_latency_of_a_stream_is_the_past(form: StftSettings) -> None:
    waveform = white(20 * form.hop_length)
    back, _ = synthesise(analyse(waveform, form)[0], form)
    np.testing.assert_allclose(back[form.past :], waveform[: -form.past], atol=5e-6)


def test_a_frame_ends_with_its_newest_hop() -> None:
    form = FORMS[3]
    waveform = np.zeros(10 * form.hop_length, np.float32)
    waveform[5 * form.hop_length + 8] = 1  # in hop 5: frames 5 to 7 cover it
    energy = np.abs(analyse(waveform, form)[0]).sum(0)
    assert np.flatnonzero(energy > 1e-6).tolist() == [5, 6, 7]


def test_a_tone_is_in_its_bin() -> None:
    form = StftSettings()
    hz = 50 * form.sample_rate / form.n_fft
    magnitude = np.abs(
        stft(np.sin(2 * np.pi * hz * np.arange(8000) / form.sample_rate).astype(np.float32), form)
    )
    assert (magnitude[:, 2:-2].argmax(0) == 50).all()


def test_energy_is_preserved() -> None:
    """Parseval, for windows whose squares add up to one: |X|^2 summed over all n_fft bins is n_fft
    times the energy.
    """
    form = StftSettings()
    waveform = white(16000)
    power = np.abs(stft(waveform, form)) ** 2
    both_sides = 2 * power.sum() - power[0].sum() - power[-1].sum()
    assert both_sides / form.n_fft == pytest.approx(np.square(waveform).sum(), rel=1e-4)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((512, 200, 512), "multiple"),
        ((512, 512, 512), "multiple"),
        ((512, 0, 512), "multiple"),
        ((256, 256, 512), "at most n_fft"),
    ],
)
def test_impossible_settings_are_errors(sizes: tuple[int, int, int], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        StftSettings(16000, *sizes)
