"""Convolutions over frames with an explicit past, in one and two dimensions, forward and transposed.

A causal layer reads the last `kernel - 1` frames of its input from `past` (None is silence) and hands on those of its own input: one definition for whole
files and for live blocks. A layer that is not causal pads both sides and has an empty past.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Upsampling = Literal["transpose", "nearest"]


class TimeConv(nn.Module):
    """Conv1d over frames `[batch, channels, frames]` of stride 1 that keeps the number of frames; `transpose` takes ConvTranspose1d."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, causal: bool = False, transpose: bool = False, dilation: int = 1) -> None:
        super().__init__()
        reach = (kernel - 1) * dilation
        self.num_past = reach if causal else 0
        self.inputs = inputs
        layer = nn.ConvTranspose1d if transpose else nn.Conv1d
        # A transposed convolution of a padded input answers `reach` frames too many on each side; its own padding cuts them.
        padding = (reach if transpose else 0) if causal else reach // 2
        self.conv = layer(inputs, outputs, kernel, padding=padding, dilation=dilation)

    def forward(self, x: Tensor, past: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        if not self.num_past:
            return self.conv(x), None
        x = F.pad(x, (self.num_past, 0)) if past is None else torch.cat([past, x], -1)
        y = self.conv(x)
        return y, x[..., x.shape[-1] - self.num_past :]

    def empty_past(self, batch: int) -> Tensor:
        """Silence before the first frame."""
        return self.conv.weight.new_zeros(batch, self.inputs, self.num_past)


class TimeFrequencyConv(nn.Module):
    """Conv2d over `[batch, channels, freq, frames]`, kernel and stride as (freq, time).

    Odd numbers of bins halve and double back exactly (257, 129, 65, ...). A causal layer has time stride 1. `upsample` makes it a decoder layer: a transposed
    convolution, or nearest-neighbour upsampling followed by a convolution (Odena et al. 2016: no checkerboard).
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
    ) -> None:
        super().__init__()
        self.inputs, self.stride, self.upsample = inputs, stride, upsample
        self.num_past = kernel[1] - 1 if causal else 0
        pad_freq, pad_time = kernel[0] // 2, 0 if causal else kernel[1] // 2
        if upsample == "transpose":
            padding = (pad_freq, self.num_past if causal else pad_time)
            extra = (0, stride[1] - 1)
            self.conv: nn.Module = nn.ConvTranspose2d(inputs, outputs, kernel, stride, padding=padding, output_padding=extra)
        else:
            own_stride = stride if upsample is None else (1, 1)
            self.conv = nn.Conv2d(inputs, outputs, kernel, own_stride, padding=(pad_freq, pad_time))

    def forward(self, x: Tensor, past: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        if self.num_past:
            x = F.pad(x, (self.num_past, 0)) if past is None else torch.cat([past, x], -1)
            past = x[..., x.shape[-1] - self.num_past :]
        if self.upsample == "nearest":
            x = self.stretch(x)
        return self.conv(x), past

    def stretch(self, x: Tensor) -> Tensor:
        """Repeat bins and frames by the stride; an odd number of bins F becomes 2 F - 1, as a transposed convolution answers."""
        for dim, factor in zip((2, 3), self.stride, strict=True):
            if factor > 1:
                x = x.repeat_interleave(factor, dim)
        return x[:, :, : x.shape[2] - 1] if self.stride[0] > 1 else x

    def empty_past(self, batch: int, bins: int) -> Tensor:
        """Silence before the first frame of an input of `bins` bins."""
        return next(self.parameters()).new_zeros(batch, self.inputs, bins, self.num_past)
