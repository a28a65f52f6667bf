"""The dual-path network: a convolutional autoencoder over bands, with blocks in the middle that
process frequency and time in turn.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from audioae.errors import SettingsError
from audioae.models.base import Activation, Autoencoder, NetworkSettings, State, Upsampling
from audioae.models.layers import Bands, ConvLayer, Pasts, TimeFrequencyConv

TimeMixer = Literal["conv", "lstm", "gru"]


@dataclass(frozen=True)
class DualpathSettings(NetworkSettings):
    """Settings of a `dualpath` network, besides those of `NetworkSettings`.

    Args:
        low_bins, num_bands: number of bins that are kept, and of ERB bands for the other bins;
            `low_bins + num_bands - 1` must be a multiple of 4.
        nyquist_hz: frequency of the last bin.
        outer, inner: channels after the first and the second encoder layer.
        time_mixers: layer over time of each block, "conv" (3 bands x 3 frames), "lstm" or "gru".
        dilations: dilation in frames of each block's convolution; recurrent blocks ignore it.
        squeeze: channels of the linear layers over frequency.
        causal: gains depend on no later frame. Otherwise convolutions are symmetric, and
            recurrences are not available.
    """

    num_features: int = 3
    gain: Literal["real", "complex"] = "complex"
    low_bins: int = 65
    num_bands: int = 64
    nyquist_hz: float = 8000.0
    outer: int = 32
    inner: int = 64
    time_mixers: tuple[TimeMixer, ...] = ("conv", "lstm", "conv", "lstm")
    dilations: tuple[int, ...] = (1, 1, 3, 1)
    squeeze: int = 8
    causal: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low_bins > self.num_bins - 2 or self.num_bands < 2 or self.nyquist_hz <= 0:
            raise SettingsError(
                f"low_bins is {self.low_bins}, num_bands {self.num_bands}, nyquist_hz "
                f"{self.nyquist_hz:g}; expected at least 2 of {self.num_bins} bins above the low "
                "ones, 2 bands and a positive frequency"
            )
        if (self.low_bins + self.num_bands - 1) % 4:
            raise SettingsError(
                f"low_bins {self.low_bins} + num_bands {self.num_bands} - 1 is not a multiple of 4"
            )
        if len(self.dilations) != len(self.time_mixers):
            raise SettingsError(
                f"time_mixers {self.time_mixers} and dilations {self.dilations} differ in length"
            )
        if not self.causal and set(self.time_mixers) != {"conv"}:
            raise SettingsError(
                f"a network that is not causal has time_mixers 'conv' only; got {self.time_mixers}"
            )


def zero(layer: nn.Module) -> None:
    """Set all weights of a layer to zero."""
    for weight in layer.parameters():
        nn.init.zeros_(weight)


class FrequencyMixer(nn.Module):
    """A residual linear layer over frequency.

    The channels are reduced to `squeeze`, each of which has a linear layer over all bands, and
    expanded again.
    """

    def __init__(self, channels: int, bands: int, squeeze: int) -> None:
        super().__init__()
        self.squeeze = nn.Sequential(
            nn.Conv2d(channels, squeeze, 1, bias=False), nn.BatchNorm2d(squeeze), nn.LeakyReLU(0.2)
        )
        self.weight = nn.Parameter(torch.randn(squeeze, bands, bands) / bands**0.5)
        self.expand = nn.Sequential(nn.LeakyReLU(0.2), nn.Conv2d(squeeze, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.expand(self.squeeze(x) @ self.weight.transpose(1, 2))  # B, C, T, F
        return x + mixed

    def mute(self) -> None:
        """Set the residual to zero."""
        zero(self.expand[1])


class ConvTimeMixer(nn.Module):
    """A residual convolution over neighbouring bands and past frames."""

    def __init__(self, channels: int, bands: int, dilation: int, *, causal: bool) -> None:
        super().__init__()
        self.bands = bands
        self.layer = ConvLayer(
            TimeFrequencyConv(channels, channels, (3, 3), (1, 1), causal=causal, dilation=dilation),
            channels,
        )
        self.num_past = self.layer.num_past

    def forward(self, x: Tensor, past: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        y, past = self.layer(x, past)
        return x + y, past

    def mute(self) -> None:
        """Set the residual to zero."""
        zero(self.layer.norm)

    def empty_past(self, batch: int) -> Tensor:
        """The past before the first frame: zeros."""
        return self.layer.conv.empty_past(batch, self.bands)


class RecurrentTimeMixer(nn.Module):
    """A residual recurrence over time, with the same weights for all bands.

    Its past is the hidden state of a GRU, `[batch, bands, channels]`, or the hidden and cell state
    of an LSTM, `[batch, bands, 2 * channels]`.
    """

    num_past = 1

    def __init__(self, channels: int, bands: int, kind: Literal["lstm", "gru"]) -> None:
        super().__init__()
        self.channels, self.bands = channels, bands
        self.recurrence = (nn.LSTM if kind == "lstm" else nn.GRU)(channels, channels)
        self.parts = 2 if kind == "lstm" else 1  # of the past
        self.project = nn.Linear(channels, channels)

    def forward(self, x: Tensor, past: Tensor | None = None) -> tuple[Tensor, Tensor]:
        rows = self.to_rows(x)
        # Not len(x), which is a constant in an exported graph.
        memory = self.empty_past(x.shape[0]) if past is None else past
        hidden = [
            part.contiguous()
            for part in memory.to(x.dtype).reshape(1, -1, memory.shape[-1]).split(self.channels, -1)
        ]
        y, following = self.recurrence(rows, tuple(hidden) if self.parts > 1 else hidden[0])
        if self.parts > 1:
            following = torch.cat(following, -1)
        return x + self.from_rows(self.project(y)), following.reshape(
            -1, self.bands, following.shape[-1]
        )

    # ONNX Runtime transposes faster if a single axis moves, so channels and batch move one after
    # the other.

    def to_rows(self, x: Tensor) -> Tensor:
        """`[batch, channels, frames, bands]` to `[frames, batch * bands, channels]`."""
        x = x.permute(0, 2, 3, 1)  # B, T, F, C
        x = x.reshape(x.shape[0], x.shape[1], -1).transpose(0, 1)
        return x.reshape(x.shape[0], -1, self.channels)

    def from_rows(self, rows: Tensor) -> Tensor:
        """The inverse of `to_rows`."""
        x = rows.reshape(rows.shape[0], -1, self.bands * self.channels)  # T, B, F * C
        x = x.transpose(0, 1)
        return x.reshape(x.shape[0], x.shape[1], self.bands, self.channels).permute(0, 3, 1, 2)

    def mute(self) -> None:
        """Set the residual to zero."""
        zero(self.project)

    def empty_past(self, batch: int) -> Tensor:
        """The past before the first frame: zeros."""
        return self.project.weight.new_zeros(batch, self.bands, self.parts * self.channels)


AnyTimeMixer = ConvTimeMixer | RecurrentTimeMixer


def build_time_mixer(
    kind: TimeMixer, channels: int, bands: int, dilation: int, *, causal: bool
) -> AnyTimeMixer:
    """The time mixer of a block."""
    return (
        ConvTimeMixer(channels, bands, dilation, causal=causal)
        if kind == "conv"
        else RecurrentTimeMixer(channels, bands, kind)
    )


class DualpathAutoencoder(Autoencoder):
    """A convolutional autoencoder over bands with a stack of dual-path blocks.

    Bins are merged into bands, which two strided convolutions encode. Each block has a frequency
    mixer and a time mixer. Two transposed convolutions with skip connections decode, and bands are
    interpolated to bins. All tensors inside are `[batch, channels, frames, bands]`.
    """

    family = "dualpath"

    def __init__(self, settings: DualpathSettings) -> None:
        super().__init__(settings)
        outer, inner, causal = settings.outer, settings.inner, settings.causal
        width = settings.low_bins + settings.num_bands
        self.num_bands = [width, (width - 1) // 2 + 1, (width - 1) // 4 + 1]
        self.bands = Bands(
            settings.num_bins, settings.low_bins, settings.num_bands, settings.nyquist_hz
        )

        def layer(
            inputs: int,
            outputs: int,
            kernel: tuple[int, int],
            upsample: Upsampling | None,
            activation: Activation = "leaky_relu",
        ) -> ConvLayer[TimeFrequencyConv]:
            return ConvLayer(
                TimeFrequencyConv(
                    inputs, outputs, kernel, (1, 2), causal=causal, upsample=upsample
                ),
                outputs,
                activation=activation,
            )

        kernel = (2 if causal else 3, 3)
        self.outer_encoder = layer(settings.num_features, outer, (1, 5), None)
        self.inner_encoder = layer(
            outer, inner * self.bottleneck.width, kernel, None, settings.latent_activation
        )
        blocks = zip(settings.time_mixers, settings.dilations, strict=True)
        middle = self.num_bands[2]
        self.frequency_mixers = nn.ModuleList(
            FrequencyMixer(inner, middle, settings.squeeze) for _ in settings.time_mixers
        )
        self.time_mixers = nn.ModuleList(
            build_time_mixer(kind, inner, middle, dilation, causal=causal)
            for kind, dilation in blocks
        )
        self.inner_decoder = layer(inner, outer, kernel, "transpose")
        self.head = TimeFrequencyConv(
            outer, settings.num_outputs, (1, 5), (1, 2), causal=causal, upsample="transpose"
        )
        if not causal:
            self.context = self.lookahead = 2 + sum(settings.dilations)

    def initial_state(self, batch: int) -> State:
        if self.lookahead:
            return ()
        middle = [cast(AnyTimeMixer, mixer).empty_past(batch) for mixer in self.time_mixers]
        ends = (self.inner_encoder, self.num_bands[1]), (self.inner_decoder, self.num_bands[2])
        first, last = (layer.conv.empty_past(batch, bands) for layer, bands in ends)
        return (first, *middle, last)

    def mute_beyond(self, names: Collection[str]) -> list[str]:
        added = [
            index
            for index in range(len(self.time_mixers))
            if not any(name.startswith(f"time_mixers.{index}.") for name in names)
        ]
        for index in added:
            cast(FrequencyMixer, self.frequency_mixers[index]).mute()
            cast(AnyTimeMixer, self.time_mixers[index]).mute()
        prefixes = tuple(
            f"{kind}.{index}." for index in added for kind in ("frequency_mixers", "time_mixers")
        )
        return [name for name in self.state_dict() if name.startswith(prefixes)]

    def encode(
        self, features: Tensor, state: State | None = None
    ) -> tuple[Tensor, list[Tensor], State]:
        pasts = Pasts(state)
        outer = pasts.run(self.outer_encoder, self.bands.merge(features))
        inner = pasts.run(self.inner_encoder, outer)
        return inner, [outer], pasts.state

    def decode(
        self, latent: Tensor, skips: Sequence[Tensor] = (), state: State | None = None
    ) -> tuple[Tensor, State]:
        pasts, x = Pasts(state), latent
        for frequency, time in zip(self.frequency_mixers, self.time_mixers, strict=True):
            x = pasts.run(time, frequency(x))
        return self.finish(x, latent, skips, pasts), pasts.state

    def finish(
        self, x: Tensor, latent: Tensor, skips: Sequence[Tensor], pasts: Pasts | None = None
    ) -> Tensor:
        """Decode the output of the blocks.

        Args:
            x: output of the last block, `[batch, inner, frames, bands]`.
            latent: input of the first block, which is added.
            skips: output of the first encoder layer, or nothing.
            pasts: pasts of the two decoder layers; None is an empty past.

        Returns:
            The input of `mask`, `[batch, num_outputs, freq, frames]`.
        """
        pasts = pasts or Pasts(None)
        x = pasts.run(self.inner_decoder, x + latent)
        x = x + skips[0] if skips else x
        with torch.autocast(x.device.type, enabled=False):  # bf16 has two digits
            x = pasts.run(self.head, x.float())
        return self.bands.spread(x)
