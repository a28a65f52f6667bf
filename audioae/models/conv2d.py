"""A 2D convolutional autoencoder over frequency and time: plain, with skip connections, causal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import prod

from torch import Tensor, nn

from audioae.errors import SettingsError
from audioae.models.base import NetworkSettings, State
from audioae.models.layers import ConvLayer, ConvolutionalAutoencoder, TimeFrequencyConv, Upsampling


@dataclass(frozen=True)
class Conv2dSettings(NetworkSettings):
    """Settings of a `conv2d` network, besides those of `NetworkSettings`.

    Args:
        channels: channels of each encoder layer; the decoder mirrors them.
        kernel: size in (bins, frames), both odd; a causal kernel may have any number of frames.
        time_strides: stride over frames of each encoder layer, 1 or 2. All layers halve the bins.
        skip: add the output of each encoder layer to the input of its decoder layer.
        causal: gains depend on no later frame; time strides must be 1.
        decoder: "transpose" for transposed convolutions, "nearest" for upsampling followed by a
            convolution.
    """

    channels: tuple[int, ...] = (16, 32, 64)
    kernel: tuple[int, int] = (3, 3)
    time_strides: tuple[int, ...] = (2, 2, 2)
    skip: bool = False
    causal: bool = False
    decoder: Upsampling = "transpose"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.channels:
            raise SettingsError("channels is empty; expected one number for each encoder layer")
        if self.kernel[0] % 2 == 0 or (self.kernel[1] % 2 == 0 and not self.causal):
            raise SettingsError(
                f"kernel is {self.kernel}; expected odd numbers of bins and, unless causal, of "
                "frames"
            )
        if set(self.time_strides) - {1, 2}:
            raise SettingsError(f"time_strides are {self.time_strides}; expected 1 or 2 each")
        if len(self.time_strides) != len(self.channels):
            raise SettingsError(
                f"time_strides {self.time_strides} and channels {self.channels} differ in length"
            )
        if self.causal and max(self.time_strides) > 1:
            raise SettingsError(f"a causal conv2d needs time strides of 1; got {self.time_strides}")
        if (self.num_bins - 1) % 2 ** len(self.channels):
            raise SettingsError(f"{self.num_bins} bins do not halve {len(self.channels)} times")


class Conv2dAutoencoder(ConvolutionalAutoencoder):
    """An encoder of strided Conv2d layers and a mirrored decoder.

    All tensors inside are `[batch, channels, frames, freq]`.
    """

    family = "conv2d"

    def __init__(self, settings: Conv2dSettings) -> None:
        super().__init__(settings)
        widths, strides = list(settings.channels), settings.time_strides
        outs = [*widths[:-1], widths[-1] * self.bottleneck.width]
        ins = [settings.num_features, *widths[:-1]]

        def conv(
            inputs: int, outputs: int, time_stride: int, upsample: Upsampling | None
        ) -> TimeFrequencyConv:
            return TimeFrequencyConv(
                inputs,
                outputs,
                settings.kernel[::-1],
                (time_stride, 2),
                causal=settings.causal,
                upsample=upsample,
            )

        self.encoder = nn.ModuleList(
            ConvLayer(conv(i, o, s, None), o) for i, o, s in zip(ins, outs, strides, strict=True)
        )
        mirrored = zip(pairwise(reversed(widths)), reversed(strides[1:]), strict=True)
        self.decoder = nn.ModuleList(
            ConvLayer(conv(i, o, s, settings.decoder), o) for (i, o), s in mirrored
        )
        self.head = conv(widths[0], settings.num_outputs, strides[0], settings.decoder)
        self.skip = settings.skip
        self.stride = prod(strides)
        if not settings.causal:
            # An encoder layer and its decoder layer each read kernel // 2 time steps on either
            # side. A step is as many frames as the product of the strides before the layer.
            # Nearest upsampling shifts by up to stride - 1 steps more.
            before = list(accumulate(strides[:-1], lambda a, b: a * b, initial=1))
            reach = 2 * (settings.kernel[1] // 2) * sum(before)
            reach += (
                sum(unit * (s - 1) for unit, s in zip(before, strides, strict=True))
                if settings.decoder == "nearest"
                else 0
            )
            self.context = self.lookahead = -(-reach // self.stride) * self.stride

    def input_bins(self) -> list[int]:
        """Number of input bins of each convolution, in the order of the state."""
        down = [
            (self.settings.num_bins - 1) // 2**depth + 1 for depth in range(len(self.encoder) + 1)
        ]
        return down[:-1] + down[:0:-1]

    def initial_state(self, batch: int) -> State:
        convs = [layer for layer in self.modules() if isinstance(layer, TimeFrequencyConv)]
        return tuple(
            conv.empty_past(batch, bins)
            for conv, bins in zip(convs, self.input_bins(), strict=True)
            if conv.num_past
        )

    def encode(
        self, features: Tensor, state: State | None = None
    ) -> tuple[Tensor, list[Tensor], State]:
        return super().encode(features.transpose(2, 3), state)

    def decode(
        self, latent: Tensor, skips: Sequence[Tensor] = (), state: State | None = None
    ) -> tuple[Tensor, State]:
        decoded, state = super().decode(latent, skips, state)
        return decoded.transpose(2, 3), state
