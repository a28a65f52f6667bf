"""A fully connected autoencoder on patches of frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from audioae.models.base import Autoencoder, NetworkSettings, State


@dataclass(frozen=True)
class DenseSettings(NetworkSettings):
    """Settings of a `dense` network, besides those of `NetworkSettings`.

    Args:
        patch: frames that are encoded together.
        widths: units of each encoder layer, the last one being the latent; the decoder mirrors
            them.
        activation: "leaky_relu" after BatchNorm, or "identity" for a linear autoencoder, whose
            optimum under MSE is that of PCA (Baldi & Hornik 1989).
    """

    patch: int = 8
    widths: tuple[int, ...] = (512, 128)
    activation: Literal["leaky_relu", "identity"] = "leaky_relu"


class DenseAutoencoder(Autoencoder):
    """Linear layers on patches of frames.

    All tensors inside are `[batch, features, patches]`, so a linear layer is a convolution with a
    kernel of 1.
    """

    family = "dense"

    def __init__(self, settings: DenseSettings) -> None:
        super().__init__(settings)
        self.patch = self.stride = settings.patch
        self.lookahead = settings.patch - 1
        pixels = settings.num_bins * settings.patch
        widths = [
            settings.num_features * pixels,
            *settings.widths[:-1],
            settings.widths[-1] * self.bottleneck.width,
        ]
        self.encoder = nn.Sequential(*(self.layer(i, o, settings) for i, o in pairwise(widths)))
        mirrored = list(reversed(settings.widths))
        self.decoder = nn.Sequential(*(self.layer(i, o, settings) for i, o in pairwise(mirrored)))
        self.head = nn.Conv1d(mirrored[-1], settings.num_outputs * pixels, 1)
        self.output_shape = (settings.num_outputs, settings.num_bins, settings.patch)

    @staticmethod
    def layer(inputs: int, outputs: int, settings: DenseSettings) -> nn.Module:
        """A linear layer, with BatchNorm and LeakyReLU unless the activation is the identity."""
        if settings.activation == "identity":
            return nn.Conv1d(inputs, outputs, 1)
        return nn.Sequential(
            nn.Conv1d(inputs, outputs, 1), nn.BatchNorm1d(outputs), nn.LeakyReLU(0.2)
        )

    def encode(
        self, features: Tensor, state: State | None = None
    ) -> tuple[Tensor, list[Tensor], State]:
        patches = features.unflatten(-1, (-1, self.patch)).permute(0, 1, 2, 4, 3)  # B, C, F, P, N
        return self.encoder(patches.flatten(1, 3)), [], ()

    def decode(
        self, latent: Tensor, skips: Sequence[Tensor] = (), state: State | None = None
    ) -> tuple[Tensor, State]:
        pixels = self.head(self.decoder(latent)).unflatten(1, self.output_shape)  # B, G, F, P, N
        return pixels.transpose(-1, -2).flatten(-2), ()  # B, G, F, T
