"""Losses: their values at equality and for known pairs, and finite gradients, silence included."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile

torch = pytest.importorskip("torch")

from torch import Tensor

from audioae.errors import SettingsError
from audioae.evaluation.metrics import si_sdr
from audioae.evaluation.metrics.hu_loizou import (
    log_likelihood_ratio as measured_log_likelihood_ratio,
)
from audioae.models.features import stft
from audioae.signal.spectrogram import StftSettings
from audioae.training.losses import (
    LEVEL,
    LOSSES,
    Signal,
    check_weights,
    levelled_loss,
    weighted_loss,
)
from audioae.training.losses.distances import high_band_magnitude, high_band_snr
from audioae.training.losses.pesq import disturbances, opinion_score

SAMPLES = Path(__file__).parents[1] / "samples"
STFT = StftSettings(8000, 128, 64, 128)
WIDE = StftSettings(32000, 512, 256, 512)  # bins 129 to 256 are above 8 kHz
# SI-SDR and SNR are limited to these values.
AT_EQUALITY = dict.fromkeys(LOSSES, 0.0) | {"negative_si_sdr": -50.0, "high_band_snr": -40.0}
each_loss = pytest.mark.parametrize("name", LOSSES)


def white(batch: int = 2, samples: int = 4000, *, seed: int = 0, level: float = 0.1) -> Tensor:
    return torch.from_numpy(
        (level * np.random.default_rng(seed).standard_normal((batch, samples))).astype(np.float32)
    )


def loss(name: str, estimate: Tensor, reference: Tensor) -> Tensor:
    form = WIDE if name.startswith("high_band") else STFT
    return LOSSES[name](Signal(estimate, form), Signal(reference, form))


@each_loss
def test_equality_is_best(name: str) -> None:
    reference = white()
    assert loss(name, reference, reference).item() == pytest.approx(AT_EQUALITY[name], abs=1e-6)
    for other in (white(seed=1), reference + 0.1 * white(seed=1), torch.zeros_like(reference)):
        assert loss(name, other, reference).item() > AT_EQUALITY[name] + 1e-4


@each_loss
def test_nearer_is_better(name: str) -> None:
    reference, noise = white(), white(seed=1)
    values = [
        loss(name, reference + amount * noise, reference).item() for amount in (0.03, 0.1, 0.3, 1.0)
    ]
    assert values == sorted(values) and values[0] < values[-1]


@each_loss
@pytest.mark.parametrize("silent", ["estimate", "reference", "both", "neither", "equal"])
def test_gradients_are_finite_at_silence_and_at_equality(name: str, silent: str) -> None:
    reference = torch.zeros(2, 4000) if silent in ("reference", "both") else white()
    estimate = (
        torch.zeros(2, 4000)
        if silent in ("estimate", "both")
        else white(seed=0 if silent == "equal" else 1)
    )
    estimate.requires_grad_()
    value = loss(name, estimate, reference)
    value.backward()
    assert value.ndim == 0 and torch.isfinite(value) and torch.isfinite(estimate.grad).all()


@each_loss
def test_the_mean_over_a_batch_does_not_depend_on_its_order(name: str) -> None:
    estimate, reference = white(3, seed=1), white(3)
    assert loss(name, estimate.flip(0), reference.flip(0)).item() == pytest.approx(
        loss(name, estimate, reference).item(), rel=1e-5
    )


def test_magnitude_losses_agree_with_numpy() -> None:
    estimate, reference = white(seed=1), white()
    guess, target = (
        np.abs(stft(signal, STFT)[:, 0].numpy() + 1j * stft(signal, STFT)[:, 1].numpy())
        for signal in (estimate, reference)
    )
    assert loss("magnitude_mse", estimate, reference).item() == pytest.approx(
        np.square(guess - target).mean(), rel=1e-3
    )
    assert loss("magnitude_mae", estimate, reference).item() == pytest.approx(
        np.abs(guess - target).mean(), rel=1e-3
    )
    assert loss("compressed_magnitude", estimate, reference).item() == pytest.approx(
        np.square(guess**0.3 - target**0.3).mean(), rel=1e-3
    )


def test_compressed_complex_is_the_squared_distance_of_compressed_bins() -> None:
    estimate, reference = white(seed=1), white()
    bins = [torch.complex(*stft(signal, STFT).unbind(1)) for signal in (estimate, reference)]
    guess, target = (torch.polar(each.abs() ** 0.3, each.angle()) for each in bins)
    assert loss("compressed_complex", estimate, reference).item() == pytest.approx(
        (guess - target).abs().square().mean().item(), rel=1e-3
    )


def test_a_louder_estimate_has_known_losses() -> None:
    """Twice the amplitude: (2^0.3 - 1)^2 times the compressed power, and the same SI-SDR."""
    reference = white()
    power = stft(reference, STFT).square().sum(1).pow(0.3).mean().item()
    for name in ("compressed_magnitude", "compressed_complex"):
        assert loss(name, 2 * reference, reference).item() == pytest.approx(
            (2**0.3 - 1) ** 2 * power, rel=1e-3
        )
    noisy = reference + 0.3 * white(seed=1)
    assert loss("negative_si_sdr", 2 * noisy, reference).item() == pytest.approx(
        loss("negative_si_sdr", noisy, reference).item(), abs=1e-3
    )


def test_negative_si_sdr_is_the_metric() -> None:
    estimate, reference = white() + 0.2 * white(seed=1), white()
    expected = np.mean(
        [
            si_sdr(guess, truth)
            for guess, truth in zip(estimate.numpy(), reference.numpy(), strict=True)
        ]
    )
    assert loss("negative_si_sdr", estimate, reference).item() == pytest.approx(-expected, abs=0.01)


def test_level_error_is_the_level_of_the_reference_in_the_estimate() -> None:
    reference = white()
    for gain in (0.5, 0.9, 1.2):
        assert loss(
            "level_error", gain * reference + white(seed=1), reference
        ).item() == pytest.approx(abs(20 * math.log10(gain)), abs=0.5)
        assert loss("level_error", gain * reference, reference).item() == pytest.approx(
            abs(20 * math.log10(gain)), abs=1e-3
        )


def test_silent_references_have_an_si_sdr_loss_of_0() -> None:
    estimate, reference = white(seed=1) + white(), white()
    half = torch.cat([reference, torch.zeros_like(reference)]), torch.cat([estimate, estimate])
    assert loss("negative_si_sdr", half[1], half[0]).item() == pytest.approx(
        loss("negative_si_sdr", estimate, reference).item() / 2, rel=1e-5
    )


def spoken(name: str) -> np.ndarray:
    return soundfile.read(SAMPLES / f"{name}.wav", dtype="float32")[0]


def degraded() -> dict[str, np.ndarray]:
    """The clean sample with noise, low-passed and gated."""
    clean, noisy = spoken("clean"), spoken("noisy")
    return {
        f"{share:g} of the noise": clean + share * (noisy - clean)
        for share in (1.0, 0.5, 0.2, 0.05)
    } | {
        "muffled": np.convolve(clean, np.ones(6, np.float32) / 6, "same"),
        "gated": clean * (np.abs(clean) > 0.02),
    }


def test_pesq_disturbance_ranks_as_pesq_does() -> None:
    pesq = pytest.importorskip("pesq").pesq
    clean = spoken("clean")
    measured, heard = [], []
    for estimate in degraded().values():
        measured.append(pesq(16000, clean, estimate, "wb"))
        heard.append(
            opinion_score(
                *disturbances(torch.from_numpy(estimate)[None], torch.from_numpy(clean)[None])
            ).item()
        )
    assert np.corrcoef(measured, heard)[0, 1] > 0.97
    assert np.abs(np.subtract(measured, heard)).max() < 0.3


def test_unintelligibility_is_1_minus_stoi() -> None:
    stoi = pytest.importorskip("pystoi").stoi
    clean = spoken("clean")
    for estimate in degraded().values():
        guess, truth = (
            Signal(torch.from_numpy(waveform)[None], StftSettings())
            for waveform in (estimate, clean)
        )
        assert 1 - LOSSES["unintelligibility"](guess, truth).item() == pytest.approx(
            stoi(clean, estimate, 16000), abs=0.02
        )


def test_log_likelihood_ratio_is_the_metric_where_there_are_no_pauses() -> None:
    generator = np.random.default_rng(2)
    reference, estimate = (
        np.convolve(generator.standard_normal(16000), taps).astype(np.float32)
        for taps in ([1, 0.9, 0.2], [1, 0.5, 0])
    )
    value = LOSSES["log_likelihood_ratio"](
        *(Signal(torch.from_numpy(each)[None], StftSettings()) for each in (estimate, reference))
    )
    assert value.item() == pytest.approx(
        measured_log_likelihood_ratio(estimate, reference, 16000), rel=0.1
    )


def test_log_likelihood_ratio_is_large_for_missing_high_bands() -> None:
    clean, states = spoken("clean"), degraded()
    values = {
        name: LOSSES["log_likelihood_ratio"](
            *(Signal(torch.from_numpy(each)[None], StftSettings()) for each in (estimate, clean))
        ).item()
        for name, estimate in states.items()
    }
    assert values["muffled"] > 2 * values["0.05 of the noise"]


def test_short_references_have_an_unintelligibility_of_0() -> None:
    estimate = white(seed=1)[:, :1500].requires_grad_()
    value = loss("unintelligibility", estimate, white()[:, :1500])
    value.backward()
    assert value.item() == 0 and not estimate.grad.any()


def test_bce_of_a_known_pair() -> None:
    """Reference magnitudes of half the peak everywhere else, guessed at a quarter: -(ln 1/4 + ln
    3/4) / 2 less ln 2.
    """

    def of(magnitude: Tensor) -> Signal:
        signal = Signal(torch.zeros(1, 1), STFT)
        signal.magnitude = magnitude  # type: ignore[misc]
        return signal

    reference, estimate = torch.full((1, 1, 100, 100), 0.5), torch.full((1, 1, 100, 100), 0.25)
    reference[0, 0, 0, 0] = estimate[0, 0, 0, 0] = 1
    expected = -(math.log(1 / 4) + math.log(3 / 4)) / 2 - math.log(2)
    assert LOSSES["magnitude_bce"](of(estimate), of(reference)).item() == pytest.approx(
        expected, rel=1e-3
    )


def test_weights_add_up() -> None:
    estimate, reference = white(seed=1), white()
    weights = {"magnitude_mae": 2.0, "compressed_complex": 0.5, "magnitude_mse": 0.0}
    expected = 2 * loss("magnitude_mae", estimate, reference) + 0.5 * loss(
        "compressed_complex", estimate, reference
    )
    torch.testing.assert_close(weighted_loss(estimate, reference, STFT, weights), expected)


def test_quiet_and_loud_recordings_have_the_same_loss() -> None:
    estimate, reference, noisy = white(seed=1), white(), white(seed=2)
    weights = {"compressed_magnitude": 9.0, "compressed_complex": 4.0}
    values = [
        levelled_loss(level * estimate, level * reference, level * noisy, STFT, weights).item()
        for level in (0.01, 1.0, 30.0)
    ]
    assert values == pytest.approx([values[0]] * 3, rel=1e-4)
    at_level = LEVEL / noisy.square().mean(-1, keepdim=True).sqrt()
    torch.testing.assert_close(
        levelled_loss(estimate, reference, noisy, STFT, weights),
        weighted_loss(estimate * at_level, reference * at_level, STFT, weights),
    )


def test_a_silent_item_is_finite() -> None:
    silence = torch.zeros(2, 4000)
    estimate = silence.clone().requires_grad_()
    value = levelled_loss(
        estimate, silence, silence, STFT, {"compressed_magnitude": 9.0, "negative_si_sdr": 0.003}
    )
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(estimate.grad).all()


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"compresed_magnitude": 1.0}, "did you mean 'compressed_magnitude'"),
        ({"magnitude_mse": 1.0, "si_sdr": 1.0}, "no loss 'si_sdr'"),
        ({"magnitude_mse": 0.0}, "weight 0"),
        ({}, "weight 0"),
    ],
)
def test_wrong_weights_are_named(weights: dict[str, float], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        check_weights(weights)


BINS, EIGHT_KHZ, TWELVE_KHZ = WIDE.num_bins, 129, 193


def of_spectrum(spectrum: Tensor) -> Signal:
    """A signal with the spectrum `[batch, 2, freq, frames]` and no waveform."""
    signal = Signal(torch.zeros(len(spectrum), 1), WIDE)
    signal.spectrum = spectrum  # type: ignore[misc]
    return signal


def random_spectrum(first: int, last: int, *, level: float = 1.0, frames: int = 250) -> Tensor:
    """Noise in the bins from `first` up to `last`."""
    spectrum = torch.zeros(2, 2, BINS, frames)
    generator = torch.Generator().manual_seed(first)
    spectrum[:, :, first:last] = level * torch.randn(
        2, 2, last - first, frames, generator=generator
    )
    return spectrum


def test_high_band_losses_read_the_bins_from_8_khz_to_the_bandwidth() -> None:
    reference = random_spectrum(0, TWELVE_KHZ)
    target = of_spectrum(reference)
    for first, last, counts in (
        (0, EIGHT_KHZ, False),
        (EIGHT_KHZ, EIGHT_KHZ + 1, True),
        (TWELVE_KHZ - 1, TWELVE_KHZ, True),
        (TWELVE_KHZ, BINS, False),
    ):
        estimate = of_spectrum(reference + random_spectrum(first, last, level=3.0))
        assert (high_band_magnitude(estimate, target).item() > 1e-5) == counts
        assert (high_band_snr(estimate, target).item() > -39) == counts


def test_the_bandwidth_is_75_db_below_the_loudest_bin() -> None:
    loud = random_spectrum(0, TWELVE_KHZ)
    for level_db, counts in ((-65, True), (-85, False)):
        reference = loud + random_spectrum(TWELVE_KHZ, BINS, level=10 ** (level_db / 20))
        estimate = of_spectrum(reference + random_spectrum(TWELVE_KHZ, BINS))
        assert (high_band_snr(estimate, of_spectrum(reference)).item() > -39) == counts


def test_high_band_snr_has_the_value_of_a_known_pair() -> None:
    """Magnitudes of half the reference: 20 * log10(2) dB."""
    reference = random_spectrum(0, BINS)
    value = high_band_snr(of_spectrum(reference / 2), of_spectrum(reference))
    assert value.item() == pytest.approx(-20 * math.log10(2), abs=1e-3)


@pytest.mark.parametrize("frames", [10, 250, 1000])
def test_silent_references_count_in_the_magnitude_and_not_in_the_snr(frames: int) -> None:
    silence = of_spectrum(torch.zeros(2, 2, BINS, frames))
    for level in (0.0, 1e-6, 1.0):
        estimate = of_spectrum(random_spectrum(0, BINS, level=level, frames=frames))
        assert high_band_snr(estimate, silence).item() == 0
        assert (high_band_magnitude(estimate, silence).item() > 1e-4) == (level == 1.0)


def test_high_band_losses_are_0_without_high_bands() -> None:
    estimate, reference = (Signal(white(seed=seed), STFT) for seed in (1, 0))
    assert high_band_magnitude(estimate, reference).item() == 0
    assert high_band_snr(estimate, reference).item() == 0
