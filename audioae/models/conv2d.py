"""A 2D convolutional autoencoder over frequency and time: plain, with skip connections, causal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from audioae.errors import SettingsError
from audioae.models.base import State, Upsampling
from audioae.models.convolutional import ConvolutionalAutoencoder, ConvolutionalSettings
from audioae.models.layers import ConvLayer, TimeFrequencyConv, build_pool


@dataclass(frozen=True)
class Conv2dSettings(ConvolutionalSettings):
    """Settings of a `conv2d` network, besides those of `ConvolutionalSettings`.

    All layers halve the bins.

    Args:
        kernel: size in (bins, frames), both odd; a causal kernel may have any number of frames.
    """

    kernel: tuple[int, int] = (3, 3)
    time_strides: tuple[int, ...] | None = (2, 2, 2)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kernel[0] % 2 == 0 or (self.kernel[1] % 2 == 0 and not self.causal):
            raise SettingsError(
                f"kernel is {self.kernel}; expected odd numbers of bins and, unless causal, of "
                "frames"
            )
        blocks = 2 ** len(self.channels)
        if self.num_bins % blocks > 1 or self.num_bins < blocks:
            raise SettingsError(
                f"{self.num_bins} bins do not halve {len(self.channels)} times; expected a "
                f"multiple of {blocks}, or one more, or fewer channels"
            )

    def bins_at(self, depth: int) -> int:
        """Number of bins after `depth` encoder layers."""
        return ((self.num_bins - 1) >> depth) + 1


class Conv2dAutoencoder(ConvolutionalAutoencoder):
    """An encoder of Conv2d layers that halve the bins, by stride or by pooling, and a mirrored
    decoder.

    All tensors inside are `[batch, channels, frames, freq]`.
    """

    family = "conv2d"
    settings: Conv2dSettings

    def __init__(self, settings: Conv2dSettings) -> None:
        super().__init__(settings)
        widths, strides, depths = list(settings.channels), settings.strides, len(settings.channels)
        code_width = 1 if settings.latent_size else self.bottleneck.width
        ins = [settings.num_features, *widths[:-1]]
        outs = [*widths[:-1], widths[-1] * code_width]

        def conv(
            inputs: int,
            outputs: int,
            stride: tuple[int, int],
            upsample: Upsampling | None = None,
            even: bool = False,
        ) -> TimeFrequencyConv:
            return TimeFrequencyConv(
                inputs,
                outputs,
                settings.kernel[::-1],
                stride,
                causal=settings.causal,
                upsample=upsample,
                even=even,
            )

        self.encoder = nn.ModuleList()
        for depth, (inputs, outputs, stride) in enumerate(zip(ins, outs, strides, strict=True)):
            is_code = depth == depths - 1 and not settings.latent_size
            own_stride = (stride, 2) if settings.encoder == "strided" else (1, 1)
            layer = ConvLayer(
                conv(inputs, outputs, own_stride),
                outputs,
                activation=settings.latent_activation if is_code else "leaky_relu",
                pool=build_pool(settings.encoder, (stride, 2)),
            )
            self.encoder.append(layer)

        even = [settings.bins_at(depth) % 2 == 0 for depth in reversed(range(depths))]
        mirrored = zip(pairwise(settings.decoder_widths), reversed(strides[1:]), even, strict=False)
        self.decoder = nn.ModuleList(
            ConvLayer(conv(i, o, (s, 2), settings.decoder, each), o) for (i, o), s, each in mirrored
        )
        self.head = conv(
            settings.decoder_widths[-1],
            settings.num_outputs,
            (strides[0], 2),
            settings.decoder,
            even[-1],
        )
        self.set_up(settings, settings.kernel[1], (settings.bins_at(depths),))

    def input_bins(self) -> list[int]:
        """Number of input bins of each convolution, in the order of the state."""
        down = [self.settings.bins_at(depth) for depth in range(len(self.encoder) + 1)]
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
