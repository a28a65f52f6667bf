"""Spectra in torch equal those in NumPy; values and gradients of the features."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from audioae.models.features import apply_gain, compress, istft, mirror, power_spectrum, stft
from audioae.signal import spectrogram
from audioae.signal.spectrogram import StftSettings

FORMS = [
    StftSettings(),
    StftSettings(hop_length=128),
    StftSettings(48000, 1024, 512, 1024),
    StftSettings(n_fft=64, hop_length=16, win_length=48),
]
each_form = pytest.mark.parametrize(
    "form", FORMS, ids=lambda form: f"{form.n_fft}-{form.hop_length}-{form.win_length}"
)


def speechlike(batch: int, samples: int) -> np.ndarray:
    """Noise `[batch, samples]` with a varying level of at most RMS 0.1."""
    rng = np.random.default_rng(0)
    return (
        0.1 * rng.standard_normal((batch, samples)) * np.sin(np.arange(samples) / 900) ** 2
    ).astype(np.float32)


@each_form
@pytest.mark.parametrize("samples", [1, 255, 4000])
def test_torch_and_numpy_agree(form: StftSettings, samples: int) -> None:
    waveform = speechlike(3, samples)
    expected = spectrogram.stft(waveform, form)
    spectrum = stft(torch.from_numpy(waveform), form)
    assert spectrum.shape == (3, 2, form.num_bins, form.num_frames(samples))
    np.testing.assert_allclose(spectrum[:, 0], expected.real, atol=1e-5)
    np.testing.assert_allclose(spectrum[:, 1], expected.imag, atol=1e-5)
    back = istft(spectrum, form, num_samples=samples).numpy()
    np.testing.assert_allclose(
        back, spectrogram.istft(expected, form, num_samples=samples), atol=1e-5
    )
    np.testing.assert_allclose(back, waveform, atol=1e-5)


def test_torch_and_numpy_agree_on_spectra_that_no_waveform_has() -> None:
    form, rng = StftSettings(), np.random.default_rng(1)
    parts = 0.1 * rng.standard_normal((2, 2, form.num_bins, 20)).astype(np.float32)  # B, 2, F, T
    expected = spectrogram.istft(parts[:, 0] + 1j * parts[:, 1], form, num_samples=4000)
    np.testing.assert_allclose(
        istft(torch.from_numpy(parts), form, num_samples=4000), expected, atol=1e-5
    )


def test_compression_is_a_power_law_that_keeps_the_phase() -> None:
    spectrum = torch.from_numpy(
        np.random.default_rng(2).standard_normal((2, 2, 9, 5)).astype(np.float32)
    )
    bins = torch.complex(spectrum[:, 0], spectrum[:, 1])
    magnitude, compressed = compress(spectrum, 0.3)
    torch.testing.assert_close(magnitude[:, 0], bins.abs() ** 0.3)
    torch.testing.assert_close(
        torch.complex(compressed[:, 0], compressed[:, 1]),
        torch.polar(bins.abs() ** 0.3, bins.angle()),
    )
    torch.testing.assert_close(power_spectrum(spectrum)[:, 0], bins.abs() ** 2)


def test_silence_has_finite_features_and_gradients() -> None:
    spectrum = torch.zeros(1, 2, 9, 5, requires_grad=True)
    magnitude, compressed = compress(spectrum, 0.3)
    assert magnitude.max() < 0.02 and not compressed.any()  # the floor: (1e-12)^(0.3 / 2)
    (magnitude.sum() + compressed.sum()).backward()
    assert torch.isfinite(spectrum.grad).all()


def test_gains_multiply() -> None:
    rng = np.random.default_rng(3)
    spectrum, gain = (
        torch.from_numpy(rng.standard_normal((2, 2, 9, 5)).astype(np.float32)) for _ in range(2)
    )
    product = torch.complex(spectrum[:, 0], spectrum[:, 1]) * torch.complex(gain[:, 0], gain[:, 1])
    enhanced = apply_gain(spectrum, gain)
    torch.testing.assert_close(torch.complex(enhanced[:, 0], enhanced[:, 1]), product)
    torch.testing.assert_close(apply_gain(spectrum, gain[:, :1]), spectrum * gain[:, :1])


def test_gradients_pass_through_both_transforms() -> None:
    form = FORMS[3]
    waveform = torch.from_numpy(speechlike(1, 100)).requires_grad_()
    istft(stft(waveform, form), form, num_samples=100).sum().backward()
    torch.testing.assert_close(waveform.grad, torch.ones_like(waveform), atol=1e-5, rtol=0)


@pytest.mark.parametrize("form", [FORMS[0], FORMS[2]], ids=["16k", "48k"])
def test_mirrored_frames_are_those_of_the_mirrored_signal(form: StftSettings) -> None:
    """The first and the last frame have silence on one side, so the signal is mirrored at them."""
    samples, count = 10 * form.hop_length, 4
    waveform = torch.from_numpy(speechlike(2, samples))
    spectrum = stft(waveform, form)
    assert form.past == form.hop_length and spectrum.shape[-1] == 11  # frame t is at t * hop
    mirrored = mirror(spectrum, count, count)
    beyond = count * form.hop_length
    before = torch.cat([waveform[:, 1 : beyond + 1].flip(-1), waveform], -1)
    after = torch.cat([waveform, torch.zeros(2, 1), waveform.flip(-1)[:, :beyond]], -1)
    torch.testing.assert_close(
        mirrored[..., 1:count], stft(before, form)[..., 1:count], atol=1e-5, rtol=0
    )
    last = slice(11 + count, 11 + 2 * count - 1)
    torch.testing.assert_close(
        mirrored[..., last], stft(after, form)[..., 11 : 11 + count - 1], atol=1e-5, rtol=0
    )
    torch.testing.assert_close(mirrored[..., count:-count], spectrum)
