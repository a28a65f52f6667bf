"""A 1D convolutional autoencoder: frequency bins are channels, kernels run over frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from audioae.models.base import Autoencoder, NetworkSettings, State
from audioae.models.layers import TimeConv


@dataclass(frozen=True)
class Conv1dSettings(NetworkSettings):
    """Args beyond `NetworkSettings`:

    channels: of each encoder layer; the decoder mirrors them and the last is the latent's.
    kernel: frames, odd.
    causal: read no frame after the one that is answered.
    skip: add each encoder layer's output to the input of its mirror image.
    """

    channels: tuple[int, ...] = (128, 64, 32)
    kernel: int = 5
    causal: bool = False
    skip: bool = False


class Layer1d(nn.Module):
    """Convolution over frames, BatchNorm, LeakyReLU."""

    def __init__(self, inputs: int, outputs: int, settings: Conv1dSettings, *, transpose: bool) -> None:
        super().__init__()
        self.conv = TimeConv(inputs, outputs, settings.kernel, causal=settings.causal, transpose=transpose)
        self.norm = nn.BatchNorm1d(outputs)
        self.activation = nn.LeakyReLU(0.2)

    def forward(self, x: Tensor, past: Tensor | None) -> tuple[Tensor, Tensor | None]:
        y, past = self.conv(x, past)
        return self.activation(self.norm(y)), past


class Conv1dAutoencoder(Autoencoder):
    """Encoder of Conv1d, decoder of ConvTranspose1d, all of stride 1: `[batch, channels, frames]` throughout."""

    family = "conv1d"

    def __init__(self, settings: Conv1dSettings) -> None:
        super().__init__(settings)
        bins, widths = settings.num_bins, list(settings.channels)
        ins = [settings.num_features * bins, *widths[:-1]]
        outs = [*widths[:-1], widths[-1] * self.bottleneck.width]
        self.encoder = nn.ModuleList(Layer1d(i, o, settings, transpose=False) for i, o in zip(ins, outs, strict=True))
        self.decoder = nn.ModuleList(Layer1d(i, o, settings, transpose=True) for i, o in pairwise(reversed(widths)))
        self.head = TimeConv(widths[0], settings.num_outputs * bins, settings.kernel, causal=settings.causal, transpose=True)
        self.num_outputs, self.skip = settings.num_outputs, settings.skip
        if not settings.causal:
            self.context = self.lookahead = 2 * len(widths) * (settings.kernel // 2)

    def time_convs(self) -> list[TimeConv]:
        """All convolutions in the order of their state."""
        return [layer for layer in self.modules() if isinstance(layer, TimeConv)]

    def initial_state(self, batch: int) -> State:
        return tuple(layer.empty_past(batch) for layer in self.time_convs() if layer.num_past)

    def encode(self, features: Tensor, state: State | None = None) -> tuple[Tensor, list[Tensor], State]:
        x, pasts, skips, following = features.flatten(1, 2), list(state or ()), [], []  # B, C * F, T
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
        decoded = x.unflatten(1, (self.num_outputs, -1))  # B, G, F, T
        return decoded, tuple(past for past in following if past is not None)
