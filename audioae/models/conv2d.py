"""A 2D convolutional autoencoder over frequency and time: plain, with skip connections (U-Net), or causal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import prod

from torch import Tensor, nn

from audioae.errors import SettingsError
from audioae.models.base import Autoencoder, NetworkSettings, State
from audioae.models.layers import TimeFrequencyConv, Upsampling


@dataclass(frozen=True)
class Conv2dSettings(NetworkSettings):
    """Args beyond `NetworkSettings`:

    channels: of each encoder layer; the decoder mirrors them.
    kernel: (freq, time), both odd unless causal.
    time_strides: of each encoder layer, 1 or 2; every layer halves the bins.
    skip: add each encoder layer's output to the input of its mirror image.
    causal: read no frame after the one that is answered; time strides must be 1.
    decoder: "transpose" convolution, or "nearest" upsampling followed by a convolution.
    """

    channels: tuple[int, ...] = (16, 32, 64)
    kernel: tuple[int, int] = (3, 3)
    time_strides: tuple[int, ...] = (2, 2, 2)
    skip: bool = False
    causal: bool = False
    decoder: Upsampling = "transpose"

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.time_strides) != len(self.channels):
            raise SettingsError(f"time_strides {self.time_strides} and channels {self.channels} differ in length")
        if self.causal and max(self.time_strides) > 1:
            raise SettingsError(f"a causal conv2d needs time strides of 1; got {self.time_strides}")
        if (self.num_bins - 1) % 2 ** len(self.channels):
            raise SettingsError(f"{self.num_bins} bins do not halve {len(self.channels)} times")


class Layer2d(nn.Module):
    """Convolution over frequency and time, BatchNorm, LeakyReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int, settings: Conv2dSettings, *, decoder: bool) -> None:
        super().__init__()
        upsample = settings.decoder if decoder else None
        self.conv = TimeFrequencyConv(inputs, outputs, settings.kernel, (2, stride), causal=settings.causal, upsample=upsample)
        self.norm = nn.BatchNorm2d(outputs)
        self.activation = nn.LeakyReLU(0.2)

    def forward(self, x: Tensor, past: Tensor | None) -> tuple[Tensor, Tensor | None]:
        y, past = self.conv(x, past)
        return self.activation(self.norm(y)), past


class Conv2dAutoencoder(Autoencoder):
    """Encoder of strided Conv2d, mirrored decoder: `[batch, channels, freq, frames]` throughout."""

    family = "conv2d"

    def __init__(self, settings: Conv2dSettings) -> None:
        super().__init__(settings)
        widths, strides = list(settings.channels), settings.time_strides
        outs = [*widths[:-1], widths[-1] * self.bottleneck.width]
        ins = [settings.num_features, *widths[:-1]]
        self.encoder = nn.ModuleList(Layer2d(i, o, s, settings, decoder=False) for i, o, s in zip(ins, outs, strides, strict=True))
        mirrored = zip(pairwise(reversed(widths)), reversed(strides[1:]), strict=True)
        self.decoder = nn.ModuleList(Layer2d(i, o, s, settings, decoder=True) for (i, o), s in mirrored)
        self.head = TimeFrequencyConv(
            widths[0], settings.num_outputs, settings.kernel, (2, strides[0]), causal=settings.causal, upsample=settings.decoder
        )
        self.skip = settings.skip
        self.stride = prod(strides)
        if not settings.causal:
            # Encoder layer n reads kernel // 2 of its own frames on each side, each worth the strides before it; a decoder layer as much at its input.
            before = list(accumulate([1, *strides], lambda a, b: a * b))
            reach = settings.kernel[1] // 2 * (sum(before[:-1]) + sum(before[1:]))
            self.context = self.lookahead = -(-reach // self.stride) * self.stride

    def input_bins(self) -> list[int]:
        """Bins that each convolution reads, in the order of the state."""
        down = [(self.settings.num_bins - 1) // 2**depth + 1 for depth in range(len(self.encoder) + 1)]
        return down[:-1] + down[:0:-1]

    def initial_state(self, batch: int) -> State:
        convs = [layer for layer in self.modules() if isinstance(layer, TimeFrequencyConv)]
        return tuple(conv.empty_past(batch, bins) for conv, bins in zip(convs, self.input_bins(), strict=True) if conv.num_past)

    def encode(self, features: Tensor, state: State | None = None) -> tuple[Tensor, list[Tensor], State]:
        x, pasts, skips, following = features, list(state or ()), [], []
        for layer in self.encoder:
            skips.append(x)
            x, past = layer(x, pasts.pop(0) if pasts else None)
            following.append(past)
        return x, skips, tuple(past for past in following if past is not None)

    def decode(self, latent: Tensor, skips: Sequence[Tensor] = (), state: State | None = None) -> tuple[Tensor, State]:
        x, pasts, following = latent, list(state or ()), []
        for depth, layer in enumerate([*self.decoder, self.head]):
            if self.skip and skips and depth:
                x = x + skips[-depth]
            x, past = layer(x, pasts.pop(0) if pasts else None)
            following.append(past)
        return x, tuple(past for past in following if past is not None)
