"""Distances above 8 kHz, where 16 kHz measures hear nothing.

Both count only the bins below the bandwidth of each reference: most recordings end somewhere, and
what lies beyond that says nothing about speech. Silent references count in full.
"""

from __future__ import annotations

import torch
from torch import Tensor

from audioae.training.losses.distances import FLOOR, Signal

LOWEST_HZ = 8000.0
BANDWIDTH_DB = 75.0  # bins this far below the loudest one are beyond a recording's bandwidth


def high_band_magnitude(estimate: Signal, reference: Signal) -> Tensor:
    """MSE of |X|^0.3 above 8 kHz."""
    guess, target, weight = (
        _high(each, reference)
        for each in (estimate.compressed[0], reference.compressed[0], _weight(reference))
    )
    return (weight * (guess - target).square()).sum() / weight.sum().clamp_min(1)


def high_band_snr(estimate: Signal, reference: Signal) -> Tensor:
    """-SNR of the magnitudes above 8 kHz in dB, limited to -20..40 dB; silent references count
    nothing.

    It is led by loud sounds, so it rewards leaving a sibilant alone.
    """
    guess, target, weight = (
        _high(each, reference)
        for each in (estimate.magnitude, reference.magnitude, _weight(reference))
    )
    signal = (weight * target.square()).sum((1, 2, 3))
    error = (weight * (guess - target).square()).sum((1, 2, 3))
    decibels = (10 * torch.log10((signal + FLOOR) / (error + FLOOR))).clamp(-20, 40)
    silent = signal < 1e-4
    return -torch.where(silent, torch.zeros_like(decibels), decibels).mean()


def _high(values: Tensor, reference: Signal) -> Tensor:
    """The bins above `LOWEST_HZ` of `[batch, 1, freq, frames]`."""
    settings = reference.settings
    return values[:, :, int(LOWEST_HZ * settings.n_fft / settings.sample_rate) + 1 :]


def _weight(reference: Signal) -> Tensor:
    """1 for bins below the bandwidth of each reference, else 0, `[batch, 1, freq, frames]`."""
    magnitude = reference.magnitude.detach()
    power = magnitude.square().mean(3, keepdim=True)
    loudest = power.amax(2, keepdim=True)
    sounds = power > loudest * 10 ** (-BANDWIDTH_DB / 10)
    highest = sounds.flip(2).cummax(2).values.flip(2)  # all bins up to the last one that sounds
    silent = loudest < 2 * FLOOR
    return (highest | silent).to(magnitude.dtype).expand_as(magnitude)
