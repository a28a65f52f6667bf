"""The full-band network: a trained 16 kHz network and gains for the bands above it.

A window of 32 ms and a hop of 16 ms give the same frames and a bin spacing of 31.25 Hz at every
sample rate. So the first 257 bins of a 48 kHz spectrum are the 16 kHz spectrum, times three, and
the 16 kHz network needs no resampling. Training does not change it: below 8 kHz, the gains are
those of the 16 kHz model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audioae.errors import SettingsError
from audioae.models.base import Autoencoder, Estimate, GainKind, NetworkSettings, State
from audioae.models.dualpath import DualpathAutoencoder, DualpathSettings, zero
from audioae.models.layers import band_matrix

FLOOR_FRAMES = 94  # 1.5 s
RATIO_FLOOR = 0.02  # of a compressed magnitude; keeps the ratio to a floor near zero finite


@dataclass(frozen=True)
class FullbandSettings(NetworkSettings):
    """Settings of a `fullband` network, besides those of `NetworkSettings`.

    Args:
        trunk: settings of the `dualpath` network for the bins up to its Nyquist frequency.
        rate_ratio: sample rate divided by the sample rate of the trunk.
        high_bands: ERB bands above the trunk's Nyquist frequency.
        low_bands: ERB bands of the trunk's input and mask that the gains above depend on.
        hidden: units of the recurrence over time.
    """

    num_bins: int = 769
    num_features: int = 3
    gain: GainKind = "complex"
    trunk: DualpathSettings = field(default_factory=DualpathSettings)
    rate_ratio: float = 3.0
    high_bands: int = 48
    low_bands: int = 32
    hidden: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rate_ratio <= 0 or self.high_bands < 2 or self.low_bands < 3:
            raise SettingsError(
                f"rate_ratio is {self.rate_ratio:g}, high_bands {self.high_bands}, low_bands "
                f"{self.low_bands}; expected more than 0, at least 2 and at least 3"
            )
        if self.num_features != 3 or self.gain != "complex":
            raise SettingsError("a fullband network has 3 features and a complex gain")
        if not self.trunk.causal or self.trunk.num_bins >= self.num_bins:
            raise SettingsError(
                f"the trunk has {self.trunk.num_bins} bins; expected a causal trunk with fewer "
                f"than {self.num_bins}"
            )

    @property
    def nyquist_hz(self) -> float:
        """Frequency of the last bin in Hz."""
        return self.trunk.nyquist_hz * (self.num_bins - 1) / (self.trunk.num_bins - 1)


class HighBands(nn.Module):
    """Gains for the bands above the trunk, from all magnitudes and the trunk's mask.

    A gain is a sigmoid that starts near 1: an untrained network leaves the bands almost unchanged.
    It applies to the spectrum and not to the compressed spectrum, which would raise errors of the
    network to the power of 1 / compression.

    The noise floor of a band is the minimum of its magnitudes in the last `FLOOR_FRAMES` frames, as
    in minimum statistics (Martin 2001). The argument of the sigmoid is the sum of two outputs: that
    of a recurrent network with all bands, their floors and the trunk as input, and that of a small
    network for each band, with the band and its floor as input and the same weights for all bands.
    """

    to_bands: Tensor
    from_bands: Tensor
    low_to_bands: Tensor

    def __init__(self, settings: FullbandSettings) -> None:
        super().__init__()
        low_bins, trunk = settings.trunk.num_bins, settings.trunk
        matrix = band_matrix(settings.num_bins, low_bins, settings.high_bands, settings.nyquist_hz)[
            low_bins:, low_bins:
        ]
        low = band_matrix(low_bins, 1, settings.low_bands - 1, trunk.nyquist_hz)
        self.register_buffer("to_bands", torch.from_numpy(matrix / matrix.sum(0)), persistent=False)
        self.register_buffer("from_bands", torch.from_numpy(matrix.T.copy()), persistent=False)
        low_weights = (low / np.maximum(low.sum(0), 1e-9)).astype(np.float32)
        self.register_buffer("low_to_bands", torch.from_numpy(low_weights), persistent=False)
        inputs = 2 * settings.high_bands + 2 * settings.low_bands
        hidden, self.hidden, self.num_bands = settings.hidden, settings.hidden, settings.high_bands
        self.norm = nn.BatchNorm1d(inputs)
        self.first = nn.Linear(inputs, hidden)
        self.activation = nn.LeakyReLU(0.2)
        self.recurrence = nn.LSTM(hidden, hidden)
        self.last = nn.Linear(2 * hidden, settings.high_bands)
        nn.init.zeros_(self.last.weight)
        nn.init.constant_(self.last.bias, 3.0)
        self.local = nn.Sequential(nn.Linear(3, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
        zero(self.local[2])

    def forward(
        self, high: Tensor, low: Tensor, mask: Tensor, pasts: State
    ) -> tuple[Tensor, State]:
        """Compute the gains of the bins above the trunk.

        Args:
            high: compressed magnitudes above the trunk, `[batch, bins, frames]`.
            low: compressed magnitudes in the trunk's bins, `[batch, bins, frames]`.
            mask: magnitude of the trunk's mask on the compressed spectrum, shaped as `low`.
            pasts: hidden and cell state of the recurrence, `[batch, 2 * hidden]`, and the last
                magnitudes of the bands, `[batch, FLOOR_FRAMES - 1, bands]`.

        Returns:
            The gain, real, `[batch, bins, frames]`, and the next pasts.
        """
        past, levels = pasts
        bands = high.transpose(1, 2) @ self.to_bands  # B, T, bands
        levels = torch.cat([levels.to(bands.dtype), bands], 1)
        floor = -F.max_pool1d(-levels.transpose(1, 2), FLOOR_FRAMES, 1).transpose(1, 2)
        seen = torch.cat(
            [
                bands,
                floor,
                low.transpose(1, 2) @ self.low_to_bands,
                mask.transpose(1, 2) @ self.low_to_bands,
            ],
            2,
        )  # B, T, C
        x = self.activation(self.first(self.norm(seen.transpose(1, 2)).transpose(1, 2)))
        hidden = tuple(part.contiguous() for part in past.to(x.dtype)[None].chunk(2, -1))
        y, following = self.recurrence(x.transpose(0, 1), hidden)  # T, B, C
        ratio = torch.log((bands + RATIO_FLOOR) / (floor + RATIO_FLOOR))
        local = self.local(torch.stack([bands, floor, ratio], 3))[..., 0]
        decision = (self.last(torch.cat([y.transpose(0, 1), x], 2)) + local).float()
        gain = torch.sigmoid(decision) @ self.from_bands
        pasts = torch.cat(following, -1)[0], levels[:, 1 - FLOOR_FRAMES :]
        return gain.transpose(1, 2), pasts

    def empty_pasts(self, batch: int) -> State:
        """The pasts before the first frame: zeros, so the noise floor starts at zero."""
        zeros = self.last.weight.new_zeros
        return zeros(batch, 2 * self.hidden), zeros(batch, FLOOR_FRAMES - 1, self.num_bands)


class FullbandAutoencoder(Autoencoder):
    """A `dualpath` network for the lower bins, fixed in training, and `HighBands` above it."""

    family = "fullband"

    def __init__(self, settings: FullbandSettings) -> None:
        super().__init__(settings)
        self.trunk = DualpathAutoencoder(settings.trunk)
        self.trunk.requires_grad_(False)
        self.high = HighBands(settings)
        self.low_bins = settings.trunk.num_bins
        self.compression = settings.compression
        # The STFT at three times the sample rate sums over three times as many samples.
        self.scale = settings.rate_ratio**-settings.compression

    def train(self, mode: bool = True) -> Self:
        """Set the mode of `high`; the trunk stays in evaluation mode and keeps its statistics."""
        super().train(mode)
        self.trunk.eval()
        return self

    def initial_state(self, batch: int) -> State:
        return (*self.trunk.initial_state(batch), *self.high.empty_pasts(batch))

    def start_from(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights of a `dualpath` network as the trunk, see `Autoencoder`."""
        if any(name.startswith("trunk.") for name in tensors):
            return dict(tensors)
        own = self.state_dict()
        high = {name: value for name, value in own.items() if name.startswith("high.")}
        return high | {f"trunk.{name}": value for name, value in tensors.items()}

    def forward(self, features: Tensor, state: State | None = None) -> tuple[Estimate, State]:
        if state is None:
            state = self.initial_state(features.shape[0])
        features = features * self.scale
        low, high = features[:, :, : self.low_bins], features[:, 0, self.low_bins :]
        with torch.no_grad():
            estimate, low_state = self.trunk(low, state[:-2])
            # The gain is the mask to the power of 1 / compression, see `Autoencoder.mask`.
            power = estimate.gain.square().sum(1) + 1e-12
            mask = power.pow(self.compression / 2).clamp_max(2.0)
        gain, pasts = self.high(high, low[:, 0], mask, state[-2:])
        upper = torch.stack([gain, torch.zeros_like(gain)], 1)
        joined = torch.cat([estimate.gain, upper.to(estimate.gain.dtype)], 2)
        return Estimate(joined, estimate.latent, estimate.penalty), (*low_state, *pasts)
