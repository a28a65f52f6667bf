"""A fully connected autoencoder on patches of frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from audioae.errors import SettingsError
from audioae.models.base import Activation, Autoencoder, NetworkSettings, State
from audioae.models.layers import build_activation


@dataclass(frozen=True)
class DenseSettings(NetworkSettings):
    """Settings of a `dense` network, besides those of `NetworkSettings`.

    Args:
        patch: frames that are encoded together.
        widths: units of each encoder layer, the last one being the latent; the decoder mirrors
            them.
        decoder_widths: units of each decoder layer before the last one, if they do not mirror the
            encoder.
        activation: "leaky_relu" after BatchNorm, or "identity" for a linear autoencoder, whose
            optimum under MSE is that of PCA (Baldi & Hornik 1989).
    """

    patch: int = 8
    widths: tuple[int, ...] = (512, 128)
    decoder_widths: tuple[int, ...] | None = None
    activation: Literal["leaky_relu", "identity"] = "leaky_relu"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.widths:
            raise SettingsError("widths is empty; expected one number for each encoder layer")


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
        kinds: list[Activation] = [settings.activation] * (len(settings.widths) - 1)
        # A linear network is linear in its latent too.
        is_linear = settings.activation == "identity"
        kinds.append("identity" if is_linear else settings.latent_activation)
        self.encoder = nn.Sequential(
            *(self.layer(*pair, kind) for pair, kind in zip(pairwise(widths), kinds, strict=True))
        )
        hidden = settings.decoder_widths
        mirrored = [settings.widths[-1], *(settings.widths[-2::-1] if hidden is None else hidden)]
        self.decoder = nn.Sequential(
            *(self.layer(i, o, settings.activation) for i, o in pairwise(mirrored))
        )
        self.head = nn.Conv1d(mirrored[-1], settings.num_outputs * pixels, 1)
        self.output_shape = (settings.num_outputs, settings.num_bins, settings.patch)

    @staticmethod
    def layer(inputs: int, outputs: int, activation: Activation) -> nn.Module:
        """A linear layer and its activation; "leaky_relu" comes after BatchNorm."""
        linear = nn.Conv1d(inputs, outputs, 1)
        if activation == "identity":
            return linear
        return nn.Sequential(linear, *build_activation(activation, nn.BatchNorm1d, outputs))

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
