"""A 1D convolutional autoencoder: frequency bins are channels, kernels run over frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from audioae.errors import SettingsError
from audioae.models.base import State, Upsampling
from audioae.models.convolutional import ConvolutionalAutoencoder, ConvolutionalSettings
from audioae.models.layers import ConvLayer, TimeConv, build_pool


@dataclass(frozen=True)
class Conv1dSettings(ConvolutionalSettings):
    """Settings of a `conv1d` network, besides those of `ConvolutionalSettings`.

    Args:
        kernel: length in frames, odd.
    """

    channels: tuple[int, ...] = (128, 64, 32)
    kernel: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kernel % 2 == 0:
            raise SettingsError(f"kernel is {self.kernel}; expected an odd number of frames")
        if self.encoder != "strided" and max(self.strides) == 1:
            raise SettingsError(
                f"encoder is {self.encoder!r} and all time strides are 1, so there is nothing to "
                "pool; set time_strides to 2 for some layers, or encoder to 'strided'"
            )


class Conv1dAutoencoder(ConvolutionalAutoencoder):
    """An encoder of Conv1d and a decoder of ConvTranspose1d layers, with stride 1 by default.

    All tensors inside are `[batch, channels, frames]`.
    """

    family = "conv1d"

    def __init__(self, settings: Conv1dSettings) -> None:
        super().__init__(settings)
        bins, widths, strides = settings.num_bins, list(settings.channels), settings.strides
        code_width = 1 if settings.latent_size else self.bottleneck.width
        ins = [settings.num_features * bins, *widths[:-1]]
        outs = [*widths[:-1], widths[-1] * code_width]

        def conv(inputs: int, outputs: int, stride: int, upsample: Upsampling | None) -> TimeConv:
            return TimeConv(
                inputs,
                outputs,
                settings.kernel,
                stride=stride,
                causal=settings.causal,
                upsample=upsample,
            )

        self.encoder = nn.ModuleList()
        for depth, (inputs, outputs, stride) in enumerate(zip(ins, outs, strides, strict=True)):
            is_code = depth == len(widths) - 1 and not settings.latent_size
            own_stride = stride if settings.encoder == "strided" else 1
            layer = ConvLayer(
                conv(inputs, outputs, own_stride, None),
                outputs,
                activation=settings.latent_activation if is_code else "leaky_relu",
                pool=build_pool(settings.encoder, (stride,)),
            )
            self.encoder.append(layer)
        mirrored = zip(pairwise(settings.decoder_widths), reversed(strides[1:]), strict=True)
        self.decoder = nn.ModuleList(
            ConvLayer(conv(i, o, s, settings.decoder), o) for (i, o), s in mirrored
        )
        self.num_outputs = settings.num_outputs
        self.head = conv(
            settings.decoder_widths[-1], settings.num_outputs * bins, strides[0], settings.decoder
        )
        self.set_up(settings, settings.kernel, ())

    def time_convs(self) -> list[TimeConv]:
        """All convolutions, in the order of the state."""
        return [layer for layer in self.modules() if isinstance(layer, TimeConv)]

    def initial_state(self, batch: int) -> State:
        return tuple(layer.empty_past(batch) for layer in self.time_convs() if layer.num_past)

    def encode(
        self, features: Tensor, state: State | None = None
    ) -> tuple[Tensor, list[Tensor], State]:
        return super().encode(features.flatten(1, 2), state)  # B, C * F, T

    def decode(
        self, latent: Tensor, skips: Sequence[Tensor] = (), state: State | None = None
    ) -> tuple[Tensor, State]:
        decoded, state = super().decode(latent, skips, state)
        return decoded.unflatten(1, (self.num_outputs, -1)), state  # B, G, F, T
