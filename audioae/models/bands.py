"""Frequency bins to bands and back.

Low bins are kept; the others are merged into triangular bands of equal width on the ERB scale.
librosa and torchaudio have no ERB scale.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn


def erb_number(frequency_hz: np.ndarray) -> np.ndarray:
    """Number on the ERB-rate scale of a frequency in Hz (Glasberg & Moore 1990)."""
    return 21.4 * np.log10(1 + 0.00437 * frequency_hz)


def band_matrix(num_bins: int, low_bins: int, num_bands: int, nyquist_hz: float) -> np.ndarray:
    """The matrix that interpolates from bands to bins.

    Each bin below `low_bins` is a band of its own. The other bins are interpolated between the two
    nearest of `num_bands` centres, which are evenly spaced on the ERB scale.

    Args:
        num_bins: number of frequency bins.
        low_bins: number of bins that are kept.
        num_bands: number of bands for the other bins.
        nyquist_hz: frequency of the last bin.

    Returns:
        `[num_bins, low_bins + num_bands]`; each row sums to 1.
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
    """Bins to bands and back, with the matrix of `band_matrix`."""

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
        """Weighted means of the bins of each band.

        `[batch, channels, num_bins, frames]` to `[batch, channels, frames, low_bins + num_bands]`.
        """
        bins = bins.transpose(2, 3)
        return torch.cat([bins[..., : self.low_bins], bins[..., self.low_bins :] @ self.down], 3)

    def spread(self, bands: Tensor) -> Tensor:
        """Interpolate bands to bins.

        `[batch, channels, frames, low_bins + num_bands]` to `[batch, channels, num_bins, frames]`.
        """
        bins = torch.cat([bands[..., : self.low_bins], bands[..., self.low_bins :] @ self.up], 3)
        return bins.transpose(2, 3)
