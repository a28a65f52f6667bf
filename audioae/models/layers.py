"""Convolutions over frames with an explicit past, and bins merged into ERB bands.

A layer maps `(x, past)` to `(y, next past)`. A causal layer reads the `num_past` frames before its
input from `past` and returns the last frames of its input as the next past; None is a past of
zeros. Whole files and blocks of a stream so use the same code. Layers that are not causal pad both
sides, and their past is None.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, Literal, TypeVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audioae.models.base import Autoencoder, State

Upsampling = Literal["transpose", "nearest"]


class Pasts:
    """The pasts of a sequence of layers, and the next pasts, in the order of the layers."""

    def __init__(self, state: tuple[Tensor, ...] | None) -> None:
        self.waiting = list(state or ())
        self.following: list[Tensor] = []

    def run(self, layer: nn.Module, x: Tensor) -> Tensor:
        """Run a layer, with its past if it has one (`num_past` above 0)."""
        y: Tensor
        y, past = layer(x, self.waiting.pop(0) if layer.num_past and self.waiting else None)
        if past is not None:
            self.following.append(past)
        return y

    @property
    def state(self) -> tuple[Tensor, ...]:
        """The state for the next block."""
        return tuple(self.following)


def with_past(x: Tensor, past: Tensor | None, frames: int) -> tuple[Tensor, Tensor | None]:
    """Put the past before `x`; frames are axis 2.

    Args:
        past: the `frames` frames before `x`; None is zeros.

    Returns:
        `x` with the past, and the past for the next block.
    """
    if not frames:
        return x, None
    past = x.new_zeros(*x.shape[:2], frames, *x.shape[3:]) if past is None else past.to(x.dtype)
    x = torch.cat([past, x], 2)
    return x, x[:, :, -frames:]


class TimeConv(nn.Module):
    """Conv1d, or with `transpose` ConvTranspose1d, that keeps the number of frames.

    Input and output are `[batch, channels, frames]`.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        causal: bool = False,
        transpose: bool = False,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        reach = (kernel - 1) * dilation
        self.num_past = reach if causal else 0
        self.inputs = inputs
        layer = nn.ConvTranspose1d if transpose else nn.Conv1d
        # A transposed convolution of a padded input returns `reach` frames too many on each side;
        # its own padding removes them.
        padding = (reach if transpose else 0) if causal else reach // 2
        self.conv = layer(inputs, outputs, kernel, padding=padding, dilation=dilation)

    def forward(self, x: Tensor, past: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        x, past = with_past(x, past, self.num_past)
        return self.conv(x), past

    def empty_past(self, batch: int) -> Tensor:
        """The past before the first frame: zeros."""
        return self.conv.weight.new_zeros(batch, self.inputs, self.num_past)


class TransposedConv(nn.ConvTranspose2d):
    """A transposed convolution over `[batch, channels, frames, bins]` that is fast in training too.

    In training, a layer that doubles the bins is computed as a convolution with even and odd output
    bins in different channels (Shi et al. 2016, "Is the deconvolution layer the same as a
    convolutional layer?"). The result is the same; in bf16 on a CPU it takes a quarter of the time.
    """

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if self.training and self.stride == (1, 2):
            return self.by_parity(x)
        if x.device.type == "cpu":
            # On a CPU, bf16 is several times slower than fp32 here.
            with torch.autocast("cpu", enabled=False):
                return super().forward(x.float(), output_size)
        return super().forward(x, output_size)

    def by_parity(self, x: Tensor) -> Tensor:
        """Compute even and odd output bins with a kernel for each; F bins become 2 F - 1."""
        pad_time, pad_freq = cast("tuple[int, int]", self.padding)
        reach = (self.kernel_size[0] - 1) * self.dilation[0]
        pad_time = reach - pad_time  # padding of a convolution with the same reach
        taps = pad_freq + 1  # of each kernel
        before, after = pad_freq // 2, taps - 1 - pad_freq // 2  # neighbouring bins that it reads
        kernels = (
            F.pad(self.weight.flip(2, 3), (0, 1) if pad_freq % 2 else (1, 0))
            .unflatten(3, (taps, 2))
            .flip(4)
        )
        kernels = kernels.permute(4, 1, 0, 2, 3).flatten(0, 1)  # 2 * outputs, inputs, time, taps
        bias = None if self.bias is None else self.bias.repeat(2)
        if x.is_contiguous(memory_format=torch.channels_last):
            kernels = kernels.contiguous(memory_format=torch.channels_last)
        y = F.conv2d(x, kernels, bias, padding=(pad_time, after), dilation=self.dilation)
        y = y.unflatten(1, (2, -1)).permute(0, 2, 3, 4, 1).flatten(3)  # B, C, T, F
        return F.pad(y, (-2 * (after - before), -1))


class TimeFrequencyConv(nn.Module):
    """Conv2d over `[batch, channels, frames, bins]`, with kernel and stride as (time, freq).

    Bins are the last axis so that rows are long for a single frame, which makes a hop of live audio
    a quarter faster. Odd numbers of bins are halved and doubled exactly (257, 129, 65, ...).

    Args:
        inputs, outputs: number of channels.
        kernel, stride: as (time, freq).
        causal: read past frames only; the time stride must be 1.
        upsample: None for an encoder layer. A decoder layer is a "transpose" convolution, or
            "nearest" upsampling followed by a convolution, which avoids checkerboard artefacts
            (Odena et al. 2016).
        dilation: in frames.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        *,
        causal: bool = False,
        upsample: Upsampling | None = None,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        self.inputs, self.stride, self.upsample = inputs, stride, upsample
        reach = (kernel[0] - 1) * dilation
        self.num_past = reach if causal else 0
        pad_time, pad_freq = 0 if causal else reach // 2, kernel[1] // 2
        if upsample == "transpose":
            # A transposed convolution of a padded input returns `reach` frames too many on each
            # side; its own padding removes them.
            padding = (reach if causal else pad_time, pad_freq)
            extra = (stride[0] - 1, 0)
            self.conv: nn.Module = TransposedConv(
                inputs, outputs, kernel, stride, padding, extra, dilation=(dilation, 1)
            )
        else:
            own_stride = stride if upsample is None else (1, 1)
            self.conv = nn.Conv2d(
                inputs,
                outputs,
                kernel,
                own_stride,
                padding=(pad_time, pad_freq),
                dilation=(dilation, 1),
            )

    def forward(self, x: Tensor, past: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        x, past = with_past(x, past, self.num_past)
        if self.upsample == "nearest":
            x = self.stretch(x)
        return self.conv(x), past

    def stretch(self, x: Tensor) -> Tensor:
        """Repeat frames and bins by the stride; F bins become 2 F - 1, as in a transposed layer."""
        for dim, factor in zip((2, 3), self.stride, strict=True):
            if factor > 1:
                x = x.repeat_interleave(factor, dim)
        return x[..., :-1] if self.stride[1] > 1 else x

    def empty_past(self, batch: int, bins: int) -> Tensor:
        """The past before the first frame of an input with `bins` bins: zeros."""
        past = next(self.parameters()).new_zeros(batch, self.inputs, self.num_past, bins)
        # The memory layout of training, so that joining it to the input moves no channels.
        return past.contiguous(memory_format=torch.channels_last)


Conv = TypeVar("Conv", TimeConv, TimeFrequencyConv)


class ConvLayer(nn.Module, Generic[Conv]):
    """A convolution, BatchNorm and LeakyReLU(0.2)."""

    conv: Conv

    def __init__(self, conv: Conv, outputs: int) -> None:
        super().__init__()
        self.conv = conv
        self.norm: nn.Module = (
            nn.BatchNorm1d(outputs) if isinstance(conv, TimeConv) else nn.BatchNorm2d(outputs)
        )
        self.activation = nn.LeakyReLU(0.2)
        self.num_past = conv.num_past

    def forward(self, x: Tensor, past: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        y, past = self.conv(x, past)
        return self.activation(self.norm(y)), past


class ConvolutionalAutoencoder(Autoencoder):
    """An autoencoder of layers that map `(x, past)` to `(y, next past)`.

    With `skip`, the input of each encoder layer but the first is added to the input of the decoder
    layer with the same shape.
    """

    encoder: nn.ModuleList
    decoder: nn.ModuleList
    head: nn.Module
    skip: bool

    def encode(
        self, features: Tensor, state: State | None = None
    ) -> tuple[Tensor, list[Tensor], State]:
        pasts, skips, x = Pasts(state), [], features
        for layer in self.encoder:
            skips.append(x)
            x = pasts.run(layer, x)
        return x, skips, pasts.state

    def decode(
        self, latent: Tensor, skips: Sequence[Tensor] = (), state: State | None = None
    ) -> tuple[Tensor, State]:
        pasts, x = Pasts(state), latent
        for depth, layer in enumerate([*self.decoder, self.head]):
            if self.skip and skips and depth:
                x = x + skips[-depth]
            x = pasts.run(layer, x)
        return x, pasts.state


def erb_number(frequency_hz: np.ndarray) -> np.ndarray:
    """Number on the ERB-rate scale of a frequency in Hz (Glasberg & Moore 1990)."""
    return 21.4 * np.log10(1 + 0.00437 * frequency_hz)


def band_matrix(num_bins: int, low_bins: int, num_bands: int, nyquist_hz: float) -> np.ndarray:
    """The matrix that interpolates from bands to bins.

    Each bin below `low_bins` is a band of its own. The other bins are interpolated between the two
    nearest of `num_bands` centres, which are evenly spaced on the ERB scale.

    Args:
        num_bins: number of frequency bins.
        low_bins: number of bins that are kept.
        num_bands: number of bands for the other bins.
        nyquist_hz: frequency of the last bin.

    Returns:
        `[num_bins, low_bins + num_bands]`; each row sums to 1.
    """
    frequency = np.linspace(0, nyquist_hz, num_bins)
    high = erb_number(frequency[low_bins:])
    position = (high - high[0]) / (high[-1] - high[0]) * (num_bands - 1)
    below = np.minimum(position.astype(int), num_bands - 2)
    matrix = np.zeros((num_bins, low_bins + num_bands), np.float32)
    matrix[np.arange(low_bins), np.arange(low_bins)] = 1
    rows = np.arange(low_bins, num_bins)
    matrix[rows, low_bins + below] = 1 - (position - below)
    matrix[rows, low_bins + below + 1] += position - below
    return matrix


class Bands(nn.Module):
    """Bins to bands and back, with the matrix of `band_matrix`."""

    up: Tensor
    down: Tensor

    def __init__(self, num_bins: int, low_bins: int, num_bands: int, nyquist_hz: float) -> None:
        super().__init__()
        matrix = band_matrix(num_bins, low_bins, num_bands, nyquist_hz)
        self.low_bins = low_bins
        high = matrix[low_bins:, low_bins:]
        self.register_buffer("up", torch.from_numpy(high.T.copy()), persistent=False)
        self.register_buffer("down", torch.from_numpy(high / high.sum(0)), persistent=False)

    def merge(self, bins: Tensor) -> Tensor:
        """Weighted means of the bins of each band.

        `[batch, channels, num_bins, frames]` to `[batch, channels, frames, low_bins + num_bands]`.
        """
        bins = bins.transpose(2, 3)
        return torch.cat([bins[..., : self.low_bins], bins[..., self.low_bins :] @ self.down], 3)

    def spread(self, bands: Tensor) -> Tensor:
        """Interpolate bands to bins.

        `[batch, channels, frames, low_bins + num_bands]` to `[batch, channels, num_bins, frames]`.
        """
        bins = torch.cat([bands[..., : self.low_bins], bands[..., self.low_bins :] @ self.up], 3)
        return bins.transpose(2, 3)
