"""Frequency bins to bands and back: low bins as they are, high ones merged into triangular bands of
equal width on the ERB scale.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn


def erb_number(frequency_hz: np.ndarray) -> np.ndarray:
    """The ERB-rate scale (Glasberg & Moore 1990)."""
    return 21.4 * np.log10(1 + 0.00437 * frequency_hz)


def band_matrix(num_bins: int, low_bins: int, num_bands: int, nyquist_hz: float) -> np.ndarray:
    """Interpolation `[num_bins, low_bins + num_bands]` from bands to bins; every row sums to one.

    Bins below `low_bins` have a band each; the others lie between the two nearest of `num_bands`
    centres, spaced evenly on the ERB scale.
    """
    frequency = np.linspace(0, nyquist_hz, num_bins)
    high = erb_number(frequency[low_bins:])
    position = (high - high[0]) / (high[-1] - high[0]) * (num_bands - 1)
    below = np.minimum(position.astype(int), num_bands - 2)
    matrix = np.zeros((num_bins, low_bins + num_bands), np.float32)
    matrix[np.arange(low_bins), np.arange(low_bins)] = 1
    rows = np.arange(low_bins, num_bins)
    matrix[rows, low_bins + below] = 1 - (position - below)
    matrix[rows, low_bins + below + 1] += position - below
    return matrix


class Bands(nn.Module):
    """`merge` takes the weighted mean of a band's bins, `spread` interpolates bands back to bins."""

    up: Tensor
    down: Tensor

    def __init__(self, num_bins: int, low_bins: int, num_bands: int, nyquist_hz: float) -> None:
        super().__init__()
        matrix = band_matrix(num_bins, low_bins, num_bands, nyquist_hz)
        self.low_bins = low_bins
        high = matrix[low_bins:, low_bins:]
        self.register_buffer("up", torch.from_numpy(high.T.copy()), persistent=False)
        self.register_buffer("down", torch.from_numpy(high / high.sum(0)), persistent=False)

    def merge(self, bins: Tensor) -> Tensor:
        """`[batch, channels, num_bins, frames]` to `[batch, channels, frames, low_bins +
        num_bands]`.
        """
        bins = bins.transpose(2, 3)
        return torch.cat([bins[..., : self.low_bins], bins[..., self.low_bins :] @ self.down], 3)

    def spread(self, bands: Tensor) -> Tensor:
        """`[batch, channels, frames, low_bins + num_bands]` to `[batch, channels, num_bins,
        frames]`.
        """
        bins = torch.cat([bands[..., : self.low_bins], bands[..., self.low_bins :] @ self.up], 3)
        return bins.transpose(2, 3)
