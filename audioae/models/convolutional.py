"""What the convolutional autoencoders `conv1d` and `conv2d` share: layers with an explicit past,
patches, and vectors as latents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import prod

from torch import Tensor, nn

from audioae.errors import SettingsError
from audioae.models.base import Autoencoder, NetworkSettings, State
from audioae.models.layers import Pasts, build_activation


@dataclass(frozen=True)
class ConvolutionalSettings(NetworkSettings):
    """Settings that `conv1d` and `conv2d` share.

    Args:
        channels: channels of each encoder layer; the decoder mirrors them.
        decoder_channels: channels of the decoder layers before the last one, if they do not mirror
            the encoder.
        time_strides: stride over frames of each encoder layer, 1 or 2; None is 1 for all.
        skip: add the output of each encoder layer to the input of its decoder layer.
        causal: gains depend on no later frame; time strides must be 1.
        patch: frames that are encoded together, apart from all others; None is a network that is
            convolutional over all frames.
        latent_size: a linear layer maps the output of the encoder for a patch to a vector of this
            size; None keeps channels and positions.
    """

    channels: tuple[int, ...] = (16, 32, 64)
    decoder_channels: tuple[int, ...] | None = None
    time_strides: tuple[int, ...] | None = None
    skip: bool = False
    causal: bool = False
    patch: int | None = None
    latent_size: int | None = None

    resamples = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.channels:
            raise SettingsError("channels is empty; expected one number for each encoder layer")
        if set(self.strides) - {1, 2}:
            raise SettingsError(f"time_strides are {self.time_strides}; expected 1 or 2 each")
        if len(self.strides) != len(self.channels):
            raise SettingsError(
                f"time_strides {self.time_strides} and channels {self.channels} differ in length"
            )
        if self.causal and max(self.strides) > 1:
            raise SettingsError(
                f"a causal {self._family} needs time strides of 1; got {self.time_strides}"
            )
        if self.causal and self.patch:
            raise SettingsError(
                f"patch is {self.patch} and causal is true; leave out patch for a causal network"
            )
        if self.patch and self.patch % prod(self.strides):
            raise SettingsError(
                f"patch is {self.patch}; expected a multiple of {prod(self.strides)}, the product "
                f"of the time strides {self.strides}"
            )
        if self.latent_size and not self.patch:
            raise SettingsError(
                f"latent_size is {self.latent_size} without patch; set patch to a number of "
                "frames, or leave out latent_size for a network that is convolutional over time"
            )
        if self.latent_size and self.skip:
            raise SettingsError("latent_size has no use with skip = true; leave out one of them")
        if self.decoder_channels is not None and (
            len(self.decoder_channels) != len(self.channels) - 1 or self.skip
        ):
            raise SettingsError(
                f"decoder_channels is {self.decoder_channels}; expected {len(self.channels) - 1} "
                "numbers and skip = false, or leave it out to mirror the encoder"
            )

    @property
    def _family(self) -> str:
        return type(self).__name__.removesuffix("Settings").lower()

    @property
    def strides(self) -> tuple[int, ...]:
        """The time stride of each encoder layer."""
        return (1,) * len(self.channels) if self.time_strides is None else self.time_strides

    @property
    def decoder_widths(self) -> list[int]:
        """Channels of the input of each decoder layer."""
        mirrored = list(reversed(self.channels))
        return mirrored if self.decoder_channels is None else [mirrored[0], *self.decoder_channels]

    def reach(self, kernel: int) -> int:
        """Frames on either side that an output depends on, in whole strides.

        An encoder layer and its decoder layer each read `kernel // 2` time steps on either side. A
        step is as many frames as the product of the strides before the layer. Pooling and nearest
        upsampling each read up to stride - 1 steps more.
        """
        strides = self.strides
        before = list(accumulate(strides[:-1], lambda a, b: a * b, initial=1))
        reach = 2 * (kernel // 2) * sum(before)
        shift = sum(unit * (s - 1) for unit, s in zip(before, strides, strict=True))
        reach += shift * ((self.encoder != "strided") + (self.decoder == "nearest"))
        return -(-reach // prod(strides)) * prod(strides)


class ConvolutionalAutoencoder(Autoencoder):
    """An autoencoder of layers that map `(x, past)` to `(y, next past)`.

    With `skip`, the input of each encoder layer but the first is added to the input of the decoder
    layer with the same shape. Tensors inside are `[batch, channels, frames, ...]`. With a patch of
    P frames, the batch contains each patch as a signal of its own.
    """

    encoder: nn.ModuleList
    decoder: nn.ModuleList
    head: nn.Module
    settings: ConvolutionalSettings

    def set_up(self, settings: ConvolutionalSettings, kernel: int, width: tuple[int, ...]) -> None:
        """Set timing and, if wanted, the layers to a vector and back.

        Args:
            kernel: length in frames of all convolutions.
            width: shape of a time step of the encoder's output, without the channels.
        """
        self.skip, self.stride = settings.skip, prod(settings.strides)
        if settings.patch:
            self.stride, self.lookahead = settings.patch, settings.patch - 1
        elif not settings.causal:
            self.context = self.lookahead = settings.reach(kernel)
        if settings.latent_size and settings.patch:
            steps = settings.patch // prod(settings.strides)
            self.encoded_shape = (settings.channels[-1], steps, *width)
            size, outputs = prod(self.encoded_shape), settings.latent_size * self.bottleneck.width
            activation = build_activation(settings.latent_activation, nn.BatchNorm1d, outputs)
            self.to_vector = nn.Sequential(nn.Linear(size, outputs), *activation)
            self.from_vector = nn.Linear(settings.latent_size, size)

    def to_patches(self, x: Tensor, steps: int) -> Tensor:
        """`[batch, channels, frames, ...]` to `[batch * patches, channels, steps, ...]`."""
        patches: Tensor = x.unflatten(2, (-1, steps))
        return patches.transpose(1, 2).flatten(0, 1)

    def from_patches(self, x: Tensor, batch: int) -> Tensor:
        """The inverse of `to_patches`."""
        patches: Tensor = x.unflatten(0, (batch, -1))
        return patches.transpose(1, 2).flatten(2, 3)

    def encode(
        self, features: Tensor, state: State | None = None
    ) -> tuple[Tensor, list[Tensor], State]:
        pasts, skips, x = Pasts(state), [], features
        if self.settings.patch:
            x = self.to_patches(x, self.settings.patch)
        for layer in self.encoder:
            skips.append(x)
            x = pasts.run(layer, x)
        # Not len(features), which is a constant in an exported graph.
        if self.settings.latent_size:
            x = self.to_vector(x.flatten(1)).unflatten(0, (features.shape[0], -1)).transpose(1, 2)
        elif self.settings.patch:
            x = self.from_patches(x, features.shape[0])
        return x, skips, pasts.state

    def decode(
        self, latent: Tensor, skips: Sequence[Tensor] = (), state: State | None = None
    ) -> tuple[Tensor, State]:
        pasts, x = Pasts(state), latent
        if self.settings.latent_size:
            vectors = x.transpose(1, 2).flatten(0, 1)
            x = self.from_vector(vectors).unflatten(1, self.encoded_shape)
        elif self.settings.patch:
            x = self.to_patches(x, self.settings.patch // prod(self.settings.strides))
        for depth, layer in enumerate([*self.decoder, self.head]):
            if self.skip and skips and depth:
                x = x + skips[-depth]
            x = pasts.run(layer, x)
        return self.from_patches(x, latent.shape[0]) if self.settings.patch else x, pasts.state
