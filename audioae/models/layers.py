"""Convolutions over frames with an explicit past, and bins merged into ERB bands.

A layer maps `(x, past)` to `(y, next past)`. A causal layer reads the `num_past` frames before its
input from `past` and returns the last frames of its input as the next past; None is a past of
zeros. Whole files and blocks of a stream so use the same code. Layers that are not causal pad both
sides, and their past is None.
"""

from __future__ import annotations

from typing import Generic, TypeVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audioae.models.base import Activation, Downsampling, Upsampling

THRESHOLD = 0.2  # of "soft_threshold", in standard deviations


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
    """A convolution over frames; input and output are `[batch, channels, frames]`.

    Args:
        inputs, outputs: number of channels.
        kernel: length in frames; odd unless causal.
        stride: divides the number of frames, or multiplies it in a decoder layer.
        causal: read past frames only; the stride must be 1.
        upsample: None for an encoder layer; for a decoder layer see `TimeFrequencyConv`.
        dilation: in frames; the stride must be 1.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        causal: bool = False,
        upsample: Upsampling | None = None,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        reach = (kernel - 1) * dilation
        self.num_past = reach if causal else 0
        self.inputs, self.repeats = inputs, stride if upsample == "nearest" else 1
        if upsample == "transpose":
            # A transposed convolution of a padded input returns `reach` frames too many on each
            # side; its own padding removes them.
            self.conv: nn.Conv1d | nn.ConvTranspose1d = nn.ConvTranspose1d(
                inputs,
                outputs,
                kernel,
                stride,
                padding=reach if causal else reach // 2,
                output_padding=stride - 1,
                dilation=dilation,
            )
        else:
            self.conv = nn.Conv1d(
                inputs,
                outputs,
                kernel,
                stride if upsample is None else 1,
                padding=0 if causal else reach // 2,
                dilation=dilation,
            )

    def forward(self, x: Tensor, past: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        x, past = with_past(x, past, self.num_past)
        if self.repeats > 1:
            x = x.repeat_interleave(self.repeats, 2)
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
        if self.training and self.stride == (1, 2) and not self.output_padding[1]:
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
    a quarter faster. Numbers of bins are halved and doubled exactly: odd ones (257, 129, 65, ...),
    and even ones (64, 32, 16, ...) with `even`.

    Args:
        inputs, outputs: number of channels.
        kernel, stride: as (time, freq).
        causal: read past frames only; the time stride must be 1.
        upsample: None for an encoder layer. A decoder layer is a "transpose" convolution, or
            "nearest" upsampling followed by a convolution, which avoids checkerboard artefacts
            (Odena et al. 2016).
        dilation: in frames.
        even: of a decoder layer: F bins become 2 F, not 2 F - 1.
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
        even: bool = False,
    ) -> None:
        super().__init__()
        self.inputs, self.stride, self.upsample, self.even = inputs, stride, upsample, even
        reach = (kernel[0] - 1) * dilation
        self.num_past = reach if causal else 0
        pad_time, pad_freq = 0 if causal else reach // 2, kernel[1] // 2
        if upsample == "transpose":
            # A transposed convolution of a padded input returns `reach` frames too many on each
            # side; its own padding removes them.
            padding = (reach if causal else pad_time, pad_freq)
            extra = (stride[0] - 1, 1 if even else 0)
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
        """Repeat frames and bins by the stride, to the size that a transposed layer returns."""
        for dim, factor in zip((2, 3), self.stride, strict=True):
            if factor > 1:
                x = x.repeat_interleave(factor, dim)
        return x[..., :-1] if self.stride[1] > 1 and not self.even else x

    def empty_past(self, batch: int, bins: int) -> Tensor:
        """The past before the first frame of an input with `bins` bins: zeros."""
        past = next(self.parameters()).new_zeros(batch, self.inputs, self.num_past, bins)
        # The memory layout of training, so that joining it to the input moves no channels.
        return past.contiguous(memory_format=torch.channels_last)


Conv = TypeVar("Conv", TimeConv, TimeFrequencyConv)


class ConvLayer(nn.Module, Generic[Conv]):
    """A convolution, BatchNorm and LeakyReLU(0.2), then pooling if wanted.

    Args:
        conv: the convolution.
        outputs: its number of channels.
        activation: see `build_activation`.
        pool: over blocks of frames, or of frames and bins.
    """

    conv: Conv

    def __init__(
        self,
        conv: Conv,
        outputs: int,
        *,
        activation: Activation = "leaky_relu",
        pool: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.conv = conv
        norm = nn.BatchNorm1d if isinstance(conv, TimeConv) else nn.BatchNorm2d
        self.norm, self.activation = build_activation(activation, norm, outputs)
        self.pool = pool
        self.num_past = conv.num_past

    def forward(self, x: Tensor, past: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        y, past = self.conv(x, past)
        y = self.activation(self.norm(y))
        return y if self.pool is None else self.pool(y), past


def build_activation(
    name: Activation, norm: type[nn.BatchNorm1d | nn.BatchNorm2d], channels: int
) -> tuple[nn.Module, nn.Module]:
    """The normalisation before an activation, and the activation.

    "leaky_relu" (slope 0.2) has a BatchNorm before it, "relu" and "identity" have none, and
    "batch_norm" is a BatchNorm without learned scale and shift; "soft_threshold" is the same and
    soft thresholding, whose zeros make a code sparse.
    """
    if name == "leaky_relu":
        return norm(channels), nn.LeakyReLU(0.2)
    if name in ("batch_norm", "soft_threshold"):
        soft = nn.Softshrink(THRESHOLD) if name == "soft_threshold" else nn.Identity()
        return norm(channels, affine=False), soft
    return nn.Identity(), nn.ReLU() if name == "relu" else nn.Identity()


def build_pool(kind: Downsampling, size: tuple[int, ...]) -> nn.Module | None:
    """Pooling over blocks of `size`; None for "strided" convolutions, or if there is no more than
    one value in a block. The last block of an odd number of bins is a smaller one.
    """
    if kind == "strided" or max(size) == 1:
        return None
    pools: dict[tuple[str, int], type[nn.Module]] = {
        ("max_pool", 1): nn.MaxPool1d,
        ("max_pool", 2): nn.MaxPool2d,
        ("average_pool", 1): nn.AvgPool1d,
        ("average_pool", 2): nn.AvgPool2d,
    }
    return pools[kind, len(size)](size, ceil_mode=True)


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
