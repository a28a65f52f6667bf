"""A 1D convolutional autoencoder: frequency bins are channels, kernels run over frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from audioae.errors import SettingsError
from audioae.models.base import NetworkSettings, State
from audioae.models.layers import ConvLayer, ConvolutionalAutoencoder, TimeConv


@dataclass(frozen=True)
class Conv1dSettings(NetworkSettings):
    """Settings of a `conv1d` network, besides those of `NetworkSettings`.

    Args:
        channels: channels of each encoder layer, the last one being the latent; the decoder mirrors
            them.
        kernel: length in frames, odd.
        causal: gains depend on no later frame.
        skip: add the output of each encoder layer to the input of its decoder layer.
    """

    channels: tuple[int, ...] = (128, 64, 32)
    kernel: int = 5
    causal: bool = False
    skip: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.channels:
            raise SettingsError("channels is empty; expected one number for each encoder layer")
        if self.kernel % 2 == 0:
            raise SettingsError(f"kernel is {self.kernel}; expected an odd number of frames")


class Conv1dAutoencoder(ConvolutionalAutoencoder):
    """An encoder of Conv1d and a decoder of ConvTranspose1d layers with stride 1.

    All tensors inside are `[batch, channels, frames]`.
    """

    family = "conv1d"

    def __init__(self, settings: Conv1dSettings) -> None:
        super().__init__(settings)
        bins, widths = settings.num_bins, list(settings.channels)
        ins = [settings.num_features * bins, *widths[:-1]]
        outs = [*widths[:-1], widths[-1] * self.bottleneck.width]

        def conv(inputs: int, outputs: int, *, transpose: bool) -> TimeConv:
            return TimeConv(
                inputs, outputs, settings.kernel, causal=settings.causal, transpose=transpose
            )

        self.encoder = nn.ModuleList(
            ConvLayer(conv(i, o, transpose=False), o) for i, o in zip(ins, outs, strict=True)
        )
        self.decoder = nn.ModuleList(
            ConvLayer(conv(i, o, transpose=True), o) for i, o in pairwise(reversed(widths))
        )
        self.head = conv(widths[0], settings.num_outputs * bins, transpose=True)
        self.num_outputs, self.skip = settings.num_outputs, settings.skip
        if not settings.causal:
            self.context = self.lookahead = 2 * len(widths) * (settings.kernel // 2)

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
