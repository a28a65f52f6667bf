"""Convolutions over frames with an explicit past, in one and two dimensions, forward and
transposed.

A layer is `(x, past) -> (y, next past)`. A causal one reads `num_past` frames before its input from
`past` (None is silence) and hands on the last ones of its own input: one definition for whole files
and for live blocks. Others pad both sides; their past is None.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, Literal, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audioae.models.base import Autoencoder, State

Upsampling = Literal["transpose", "nearest"]


class Pasts:
    """The pasts of a row of layers, taken in order, and those that follow them."""

    def __init__(self, state: tuple[Tensor, ...] | None) -> None:
        self.waiting = list(state or ())
        self.following: list[Tensor] = []

    def run(self, layer: nn.Module, x: Tensor) -> Tensor:
        """Run a layer with its own past, if it has one (`num_past` above 0)."""
        y: Tensor
        y, past = layer(x, self.waiting.pop(0) if layer.num_past and self.waiting else None)
        if past is not None:
            self.following.append(past)
        return y

    @property
    def state(self) -> tuple[Tensor, ...]:
        """What the next block begins with."""
        return tuple(self.following)


def with_past(x: Tensor, past: Tensor | None, frames: int) -> tuple[Tensor, Tensor | None]:
    """Put the last `frames` frames before `x`, silence where `past` is None; also the past of what
    comes after `x`. Frames are axis 2.
    """
    if not frames:
        return x, None
    past = x.new_zeros(*x.shape[:2], frames, *x.shape[3:]) if past is None else past.to(x.dtype)
    x = torch.cat([past, x], 2)
    return x, x[:, :, -frames:]


class TimeConv(nn.Module):
    """Conv1d over frames `[batch, channels, frames]` of stride 1 that keeps the number of frames;
    `transpose` takes ConvTranspose1d.
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
        # A transposed convolution of a padded input answers `reach` frames too many on each side;
        # its own padding cuts them.
        padding = (reach if transpose else 0) if causal else reach // 2
        self.conv = layer(inputs, outputs, kernel, padding=padding, dilation=dilation)

    def forward(self, x: Tensor, past: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        x, past = with_past(x, past, self.num_past)
        return self.conv(x), past

    def empty_past(self, batch: int) -> Tensor:
        """Silence before the first frame."""
        return self.conv.weight.new_zeros(batch, self.inputs, self.num_past)


class TransposedConv(nn.ConvTranspose2d):
    """A transposed convolution over `[batch, channels, frames, bins]`, computed in the way that is
    fast where it runs.

    In training one that doubles the bins is a convolution that answers even and odd bins in
    channels of their own, the same sums (Shi et al. 2016, "Is the deconvolution layer the same as a
    convolutional layer?"): in bf16 on a CPU it takes a quarter of the time.
    """

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if self.training and self.stride == (1, 2):
            return self.by_parity(x)
        if x.device.type == "cpu":
            with torch.autocast(
                "cpu", enabled=False
            ):  # in bf16 a CPU takes a path that is several times slower than fp32
                return super().forward(x.float(), output_size)
        return super().forward(x, output_size)

    def by_parity(self, x: Tensor) -> Tensor:
        """The even and the odd bins of the output, each by a kernel of its own, F bins to 2 F - 1."""
        pad_time, pad_freq = cast("tuple[int, int]", self.padding)
        pad_time = (self.kernel_size[0] - 1) * self.dilation[
            0
        ] - pad_time  # what a convolution of the same reach adds
        taps = pad_freq + 1  # of each kernel
        before, after = (
            pad_freq // 2,
            taps - 1 - pad_freq // 2,
        )  # bins that they read beside their own
        kernels = (
            F.pad(self.weight.flip(2, 3), (0, 1) if pad_freq % 2 else (1, 0))
            .unflatten(3, (taps, 2))
            .flip(4)
        )
        kernels = kernels.permute(4, 1, 0, 2, 3).flatten(0, 1)  # 2 * outputs, inputs, time, taps
        bias = None if self.bias is None else self.bias.repeat(2)
        kernels = kernels.contiguous(memory_format=torch.channels_last)
        y = F.conv2d(x, kernels, bias, padding=(pad_time, after), dilation=self.dilation)
        y = y.unflatten(1, (2, -1)).permute(0, 2, 3, 4, 1).flatten(3)  # B, C, T, F
        return F.pad(y, (-2 * (after - before), -1))


class TimeFrequencyConv(nn.Module):
    """Conv2d over `[batch, channels, frames, bins]`, kernel and stride as (time, freq).

    Bins come last so that rows are long where there is a single frame: a live hop takes a quarter
    less time than the other way round. Odd numbers of bins halve and double back exactly (257, 129,
    65, ...). A causal layer has time stride 1; `dilation` is in frames. `upsample` makes it a
    decoder layer: a transposed convolution, or nearest-neighbour upsampling followed by a
    convolution (Odena et al. 2016: no checkerboard).
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
            # A transposed convolution of a padded input answers `reach` frames too many on each
            # side; its own padding cuts them.
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
        """Repeat frames and bins by the stride; an odd number of bins F becomes 2 F - 1, as a
        transposed convolution answers.
        """
        for dim, factor in zip((2, 3), self.stride, strict=True):
            if factor > 1:
                x = x.repeat_interleave(factor, dim)
        return x[..., :-1] if self.stride[1] > 1 else x

    def empty_past(self, batch: int, bins: int) -> Tensor:
        """Silence before the first frame of an input of `bins` bins."""
        past = next(self.parameters()).new_zeros(batch, self.inputs, self.num_past, bins)
        return past.contiguous(
            memory_format=torch.channels_last
        )  # as training runs, so that joining it to a signal moves no channels


Conv = TypeVar("Conv", TimeConv, TimeFrequencyConv)


class ConvLayer(nn.Module, Generic[Conv]):
    """A convolution, BatchNorm over its outputs, LeakyReLU(0.2)."""

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
    """Layers `encoder`, `decoder` and `head`, each `(x, past) -> (y, past)`.

    With `skip`, what an encoder layer read is added to what its mirror image's successor reads.
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
