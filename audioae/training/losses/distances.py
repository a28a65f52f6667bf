"""Distances between spectra, between waveforms, and between features in [0, 1].

The losses above 8 kHz, beyond the range of the wideband metrics, compare only the bins up to the
bandwidth of each reference: most recordings have no content above some frequency, and the bins
there tell nothing about speech. A silent reference has full bandwidth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from audioae.models.features import compress, power_spectrum, stft
from audioae.signal.spectrogram import StftSettings

POWER = 0.3
FLOOR = 1e-8  # -80 dB below a bin of magnitude 1; quieter bins have almost no gradient


class Signal:
    """Waveforms `[batch, num_samples]` and their spectra, each computed once."""

    def __init__(self, waveform: Tensor, settings: StftSettings) -> None:
        self.waveform, self.settings = waveform, settings

    @cached_property
    def spectrum(self) -> Tensor:
        """`[batch, 2, freq, frames]`."""
        return stft(self.waveform, self.settings)

    @cached_property
    def magnitude(self) -> Tensor:
        """|X|, `[batch, 1, freq, frames]`."""
        return power_spectrum(self.spectrum, FLOOR).sqrt()

    @cached_property
    def compressed(self) -> tuple[Tensor, Tensor]:
        """|X|^0.3 and X |X|^-0.7, `[batch, 1 and 2, freq, frames]`."""
        return compress(self.spectrum, POWER, FLOOR)


def compressed_magnitude(estimate: Signal, reference: Signal) -> Tensor:
    """MSE of |X|^0.3."""
    return F.mse_loss(estimate.compressed[0], reference.compressed[0])


def compressed_complex(estimate: Signal, reference: Signal) -> Tensor:
    """MSE of the real and imaginary parts of X |X|^-0.7, summed over the two parts (Braun & Tashev
    2021).
    """
    return 2 * F.mse_loss(estimate.compressed[1], reference.compressed[1])


def magnitude_mse(estimate: Signal, reference: Signal) -> Tensor:
    """MSE of |X|."""
    return F.mse_loss(estimate.magnitude, reference.magnitude)


def magnitude_mae(estimate: Signal, reference: Signal) -> Tensor:
    """Mean absolute error of |X|."""
    return F.l1_loss(estimate.magnitude, reference.magnitude)


def magnitude_bce(estimate: Signal, reference: Signal) -> Tensor:
    """Binary cross-entropy of |X|, scaled to 0..1 by the maximum of each reference.

    The entropy of the reference is subtracted, so the loss is 0 at equality.
    """
    peak = reference.magnitude.amax((1, 2, 3), keepdim=True)
    target, guess = (
        (signal.magnitude / peak).clamp(1e-6, 1 - 1e-6) for signal in (reference, estimate)
    )
    return F.binary_cross_entropy(guess, target) - F.binary_cross_entropy(target, target)


def negative_si_sdr(estimate: Signal, reference: Signal) -> Tensor:
    """-SI-SDR in dB (Le Roux et al. 2019), zero-mean, limited to -30..50 dB.

    It is 0 for silent references.
    """
    guess, truth = (
        signal.waveform - signal.waveform.mean(-1, keepdim=True) for signal in (estimate, reference)
    )
    energy = truth.square().sum(-1, keepdim=True)
    target = (guess * truth).sum(-1, keepdim=True) / (energy + FLOOR) * truth
    ratio = (target.square().sum(-1) + FLOOR) / ((guess - target).square().sum(-1) + FLOOR)
    decibels = (10 * torch.log10(ratio)).clamp(-30, 50)
    return -torch.where(energy[..., 0] > 1e-6, decibels, torch.zeros_like(decibels)).mean()


def level_error(estimate: Signal, reference: Signal) -> Tensor:
    """Absolute level error of the reference within the estimate, in dB.

    The level is that of the projection of the estimate on the reference, at least -20 dB; the loss
    is 0 for silent references.
    """
    guess, truth = estimate.waveform, reference.waveform
    energy = truth.square().sum(-1)
    share = ((guess * truth).sum(-1) / (energy + FLOOR)).clamp_min(0.1)
    return torch.where(energy > 1e-6, 20 * torch.log10(share).abs(), 0.0).mean()


def multi_resolution_stft(estimate: Signal, reference: Signal) -> Tensor:
    """Spectral convergence plus L1 of log magnitudes (Yamamoto et al. 2020).

    Mean over windows of n_fft, 2 n_fft and n_fft / 2 samples.
    """
    total, n_fft = estimate.waveform.new_zeros(()), estimate.settings.n_fft
    for length in (n_fft, 2 * n_fft, n_fft // 2):
        settings = StftSettings(estimate.settings.sample_rate, length, length // 4, length)
        guess, target = (
            Signal(signal.waveform, settings).magnitude for signal in (estimate, reference)
        )
        convergence = torch.linalg.vector_norm(guess - target) / (
            torch.linalg.vector_norm(target) + FLOOR
        )
        total = total + convergence + F.l1_loss(guess.log(), target.log())
    return total / 3


LOWEST_HZ = 8000.0
BANDWIDTH_DB = 75.0  # the bandwidth ends at the last bin that is not further below the loudest one
SILENCE = 1e-4  # energy of the bins above 8 kHz


def high_band_magnitude(estimate: Signal, reference: Signal) -> Tensor:
    """MSE of |X|^0.3 above 8 kHz."""
    guess, target, weight = (
        _high(each, reference)
        for each in (estimate.compressed[0], reference.compressed[0], _weight(reference))
    )
    return (weight * (guess - target).square()).sum() / weight.sum().clamp_min(1)


def high_band_snr(estimate: Signal, reference: Signal) -> Tensor:
    """-SNR of the magnitudes above 8 kHz in dB, limited to -20..40 dB; 0 for silent references.

    Loud sounds dominate it, so removing a sibilant costs more than leaving some noise.
    """
    guess, target, weight = (
        _high(each, reference)
        for each in (estimate.magnitude, reference.magnitude, _weight(reference))
    )
    signal = (weight * target.square()).sum((1, 2, 3))
    error = (weight * (guess - target).square()).sum((1, 2, 3))
    decibels = (10 * torch.log10((signal + FLOOR) / (error + FLOOR))).clamp(-20, 40)
    # `magnitude` of digital silence is not 0, and adds up over the bins of a long signal.
    silent = (weight * (target.square() - FLOOR)).sum((1, 2, 3)) < SILENCE
    return -torch.where(silent, torch.zeros_like(decibels), decibels).mean()


def _high(values: Tensor, reference: Signal) -> Tensor:
    """The bins above `LOWEST_HZ` of `[batch, 1, freq, frames]`."""
    settings = reference.settings
    return values[:, :, int(LOWEST_HZ * settings.n_fft / settings.sample_rate) + 1 :]


def _weight(reference: Signal) -> Tensor:
    """1 for the bins up to the bandwidth of each reference, else 0, `[batch, 1, freq, frames]`."""
    magnitude = reference.magnitude.detach()
    power = magnitude.square().mean(3, keepdim=True)
    loudest = power.amax(2, keepdim=True)
    audible = power > loudest * 10 ** (-BANDWIDTH_DB / 10)
    within = audible.flip(2).cummax(2).values.flip(2)  # all bins up to the last audible one
    silent = loudest < 2 * FLOOR
    return (within | silent).to(magnitude.dtype).expand_as(magnitude)


# --- Features, for autoencoders that reconstruct them

MARGIN = 1e-6  # of a reconstruction from 0 and 1, where the cross-entropy is infinite


def mse(estimate: Tensor, reference: Tensor) -> Tensor:
    """Mean squared error."""
    return F.mse_loss(estimate, reference)


def mae(estimate: Tensor, reference: Tensor) -> Tensor:
    """Mean absolute error."""
    return F.l1_loss(estimate, reference)


def bce(estimate: Tensor, reference: Tensor) -> Tensor:
    """Binary cross-entropy, minus that of the reference with itself: 0 at equality."""
    guess, target = (each.clamp(MARGIN, 1 - MARGIN) for each in (estimate, reference))
    return F.binary_cross_entropy(guess, target) - F.binary_cross_entropy(target, target)


FEATURE_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"mse": mse, "mae": mae, "bce": bce}


def feature_loss(estimate: Tensor, reference: Tensor, weights: Mapping[str, float]) -> Tensor:
    """The sum of `weights[name] * FEATURE_LOSSES[name]` for features `[batch, bins, frames]`."""
    return torch.stack(
        [
            weight * FEATURE_LOSSES[name](estimate.float(), reference)
            for name, weight in weights.items()
            if weight
        ]
    ).sum()
