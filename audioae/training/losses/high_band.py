"""Distances above 8 kHz, beyond the range of the wideband metrics.

Both losses compare only the bins up to the bandwidth of each reference: most recordings have no
content above some frequency, and the bins there tell nothing about speech. A silent reference has
full bandwidth.
"""

from __future__ import annotations

import torch
from torch import Tensor

from audioae.training.losses.distances import FLOOR, Signal

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
