"""Post-processing of gains: the strength scales dB, the limit holds, linking keeps the stereo
image.
"""

from __future__ import annotations

import numpy as np
import pytest
from fake_engines import constant, smoothing
from hypothesis import given
from hypothesis import strategies as st

from audioae.denoising import DenoiseSettings, denoise
from audioae.denoising.shaping import limit, link, scale, shape_gain
from audioae.errors import SettingsError


def random_gain(seed: int, *, channels: int = 2, complex_valued: bool = False) -> np.ndarray:
    rng = np.random.default_rng(seed)
    magnitude = rng.uniform(0, 1.2, (channels, 5, 4)) * (rng.uniform(size=(channels, 5, 4)) > 0.2)
    turn = np.exp(1j * rng.uniform(-np.pi, np.pi, magnitude.shape)) if complex_valued else 1.0
    return (magnitude * turn).astype(np.complex64 if complex_valued else np.float32)


def random_spectrum(seed: int, channels: int = 2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(channels, 5, 4)) + 1j * rng.normal(size=(channels, 5, 4))).astype(
        np.complex64
    )


@given(
    seed=st.integers(0, 10**6),
    complex_valued=st.booleans(),
    strength=st.floats(0.01, 1),
    limit_db=st.floats(0, 60),
)
def test_no_gain_is_below_the_limit(
    seed: int, complex_valued: bool, strength: float, limit_db: float
) -> None:
    asked = DenoiseSettings(strength, limit_db)
    gain = random_gain(seed, complex_valued=complex_valued)
    shaped = shape_gain(gain, random_spectrum(seed), asked)
    assert shaped.dtype == gain.dtype
    assert np.abs(shaped).min() >= 10 ** (-limit_db / 20) * (1 - 1e-5)


@given(seed=st.integers(0, 10**6), complex_valued=st.booleans(), strength=st.floats(0.01, 1))
def test_strength_scales_decibels(seed: int, complex_valued: bool, strength: float) -> None:
    gain = random_gain(seed, complex_valued=complex_valued)
    assert np.allclose(np.abs(scale(gain, strength)), np.abs(gain) ** strength, atol=1e-5)


@pytest.mark.parametrize("complex_valued", [False, True])
def test_a_strength_of_zero_is_a_gain_of_one(complex_valued: bool) -> None:
    gain = random_gain(3, complex_valued=complex_valued)
    assert np.array_equal(scale(gain, 0.0), np.ones_like(gain))
    assert np.allclose(scale(gain, 1.0), gain, atol=1e-6)


def test_the_limit_reduces_the_phase_of_small_gains() -> None:
    gain = np.array([[[0.5j, 0.05j, 0.0]]], np.complex64)
    limited = limit(gain, 20.0)
    assert np.allclose(limited, [[[0.5j, 0.1 * np.exp(0.25j * np.pi), 0.1]]], atol=1e-6)


@pytest.mark.parametrize("complex_valued", [False, True])
def test_the_loud_channel_determines_the_linked_gain(complex_valued: bool) -> None:
    gain, spectrum = random_gain(1, complex_valued=complex_valued), random_spectrum(1)
    spectrum[1] *= 1e-4
    linked = link(gain, spectrum)
    assert linked.shape == (1, 5, 4)
    assert linked.dtype == gain.dtype
    assert np.allclose(linked[0], gain[0], atol=1e-5)


def test_in_silence_all_channels_have_the_same_weight() -> None:
    gain = random_gain(2)
    assert np.allclose(link(gain, np.zeros_like(random_spectrum(2)))[0], gain.mean(axis=0))


@pytest.mark.parametrize("sample_rate", [16000, 44100])
def test_linked_channels_keep_the_stereo_image(sample_rate: int) -> None:
    mono = np.random.default_rng(0).normal(0, 0.2, sample_rate).astype(np.float32)
    linked = denoise(np.stack([mono, 0.3 * mono]), sample_rate, model=smoothing())
    assert np.allclose(linked[1], 0.3 * linked[0], atol=1e-6)
    independent = denoise(
        np.stack([mono, 0.3 * mono]),
        sample_rate,
        model=smoothing(),
        settings=DenoiseSettings(channels="independent"),
    )
    assert np.abs(independent[1] - 0.3 * independent[0]).max() > 0.01
    alone = denoise(mono, sample_rate, model=smoothing())
    assert np.allclose(independent[0], alone, atol=1e-6)


@pytest.mark.parametrize("sample_rate", [16000, 48000])
@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (DenoiseSettings(strength=0), 1.0),
        (DenoiseSettings(strength=0.5), 0.1),
        (DenoiseSettings(max_attenuation_db=12), 10 ** (-12 / 20)),
    ],
)
def test_settings_change_the_output(
    sample_rate: int, asked: DenoiseSettings, expected: float
) -> None:
    waveform = np.random.default_rng(0).normal(0, 0.2, (1, sample_rate)).astype(np.float32)
    assert (
        np.abs(
            denoise(waveform, sample_rate, model=constant(0.01), settings=asked)
            - expected * waveform
        ).max()
        < 1e-5
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": 1.5}, "strength is 1.5"),
        ({"strength": -0.1}, "strength is -0.1"),
        ({"strength": float("nan")}, "strength is nan"),
        ({"max_attenuation_db": -3.0}, "max_attenuation_db is -3.0"),
        ({"max_attenuation_db": float("inf")}, "max_attenuation_db is inf"),
        ({"channels": "linkd"}, "did you mean 'linked'"),
    ],
)
def test_impossible_settings_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        DenoiseSettings(**options)
