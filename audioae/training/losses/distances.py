"""Distances between spectra, and between waveforms."""

from __future__ import annotations

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
