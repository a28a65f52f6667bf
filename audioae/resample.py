"""Change the sample rate, whole or block by block, with no delay (soxr, high quality)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import soxr

from audioae.errors import SettingsError

Array = npt.NDArray[np.float32]


def resample(waveform: Array, from_rate: int, to_rate: int) -> Array:
    """Resample `[..., samples]` to `[..., ceil(samples * to_rate / from_rate)]`, aligned to the first sample.

    Args:
        from_rate, to_rate: Hz.
    """
    rows = waveform.reshape(int(np.prod(waveform.shape[:-1])), waveform.shape[-1])
    output = StreamResampler(from_rate, to_rate, len(rows)).process(rows, last=True)
    return output.reshape(*waveform.shape[:-1], output.shape[-1])


class StreamResampler:
    """Resamples a stream block by block; the joined output is what `resample` makes of the joined input.

    Args:
        from_rate, to_rate: Hz; equal rates pass through.
    """

    def __init__(self, from_rate: int, to_rate: int, channels: int) -> None:
        if min(from_rate, to_rate, channels) < 1:
            raise SettingsError(f"cannot resample {channels} channels from {from_rate} Hz to {to_rate} Hz; all three must be positive")
        self.from_rate, self.to_rate, self.channels = from_rate, to_rate, channels
        self._taken = self._given = 0
        self._stream = None if from_rate == to_rate else soxr.ResampleStream(from_rate, to_rate, channels, "float32", "HQ")

    def process(self, block: Array, *, last: bool = False) -> Array:
        """Take `[channels, n]`, give the `[channels, m]` that are ready; with `last` everything that is left."""
        block = block.astype(np.float32, copy=False)
        if self._stream is None:
            return block
        self._taken += block.shape[-1]
        if last:  # soxr rounds the length to the nearest, so a few zeros more make it reach ceil(samples * to / from)
            block = np.pad(block, ((0, 0), (0, 2 + self.from_rate // self.to_rate)))
        output = self._stream.resample_chunk(np.ascontiguousarray(block.T), last=last).T
        if last:
            output = output[:, : -(-self._taken * self.to_rate // self.from_rate) - self._given]
        self._given += output.shape[-1]
        return np.ascontiguousarray(output)
