"""A fully connected autoencoder on patches of frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
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
        linear_path: add a linear layer beside the hidden layers, one in the encoder and one in the
            decoder. Without what the hidden layers add, the network is a linear autoencoder.
    """

    patch: int = 8
    widths: tuple[int, ...] = (512, 128)
    decoder_widths: tuple[int, ...] | None = None
    activation: Literal["leaky_relu", "identity"] = "leaky_relu"
    linear_path: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.widths:
            raise SettingsError("widths is empty; expected one number for each encoder layer")
        if self.linear_path and (self.activation == "identity" or len(self.widths) < 2):
            raise SettingsError(
                "linear_path is for networks with hidden layers; give two or more widths and the "
                "activation 'leaky_relu', or leave it out"
            )
        if self.linear_path and self.latent_activation != "identity":
            raise SettingsError(
                f"latent_activation is {self.latent_activation!r}; with linear_path it must be "
                "'identity'"
            )


class DenseAutoencoder(Autoencoder):
    """Linear layers on patches of frames.

    All tensors inside are `[batch, features, patches]`, so a linear layer is a convolution with a
    kernel of 1.
    """

    family = "dense"
    settings: DenseSettings

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
        self.encoder_path: nn.Conv1d | None = None
        self.decoder_path: nn.Conv1d | None = None
        if settings.linear_path:
            self.encoder_path = nn.Conv1d(widths[0], widths[-1], 1, bias=False)
            self.decoder_path = nn.Conv1d(mirrored[0], settings.num_outputs * pixels, 1, bias=False)

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
        values = patches.flatten(1, 3)
        encoded = self.encoder(values)
        if self.encoder_path is not None:
            encoded = encoded + self.encoder_path(values)
        return encoded, [], ()

    def decode(
        self, latent: Tensor, skips: Sequence[Tensor] = (), state: State | None = None
    ) -> tuple[Tensor, State]:
        values = self.head(self.decoder(latent))
        if self.decoder_path is not None:
            values = values + self.decoder_path(latent)
        pixels = values.unflatten(1, self.output_shape)  # B, G, F, P, N
        return pixels.transpose(-1, -2).flatten(-2), ()  # B, G, F, T

    def linear_part(self) -> tuple[nn.Conv1d, nn.Conv1d]:
        """The layers of encoder and decoder that are a linear autoencoder if all others give 0.

        Raises:
            SettingsError: the network has none, or its code is not the output of the encoder.
        """
        own = self.settings
        if own.bottleneck not in ("plain", "sparse"):
            raise SettingsError(
                f"the network has a {own.bottleneck} bottleneck; a start as PCA needs a plain or a "
                "sparse one"
            )
        if self.encoder_path is not None and self.decoder_path is not None:
            return self.encoder_path, self.decoder_path
        if own.activation == "identity" and len(self.encoder) == 1 and not len(self.decoder):
            linear: Any = self.encoder[0]
            return linear, self.head
        raise SettingsError(
            "the network has no linear part that could start as PCA; set linear_path = true, or "
            "use one width and activation = 'identity'"
        )

    @torch.no_grad()
    def start_as_pca(self, mean: Tensor, components: Tensor) -> None:
        """Set the weights so that the network encodes and decodes like PCA.

        The last hidden layers of encoder and decoder start with an output of zero, and training
        adds to PCA what is not linear.

        Args:
            mean: of the patches, `[bins * frames]`.
            components: orthonormal, `[values, bins * frames]`.

        Raises:
            SettingsError: see `linear_part`.
        """
        encoder, decoder = self.linear_part()
        last: Any = self.encoder[-1]
        head: Any = self.head
        for layer in (last, head):
            layer.weight.zero_()
        encoder.weight.copy_(components[..., None])
        decoder.weight.copy_(components.T[..., None])
        last.bias.copy_(-components @ mean)
        head.bias.copy_(mean)
