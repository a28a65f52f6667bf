"""Change the sample rate, whole or block by block, without a delay (soxr, high quality).

`StreamResampler` runs soxr, which is fast, but processes blocks of an FFT and holds back 40 to
120 ms. `PromptResampler` applies the same filter sample by sample: slower, but it holds back only
6 ms at 16 kHz. Both give the same samples.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import soxr

from audioae.errors import SettingsError

Array = npt.NDArray[np.float32]
Counts = npt.NDArray[np.int64]

LARGEST_LAG = 2048  # samples at the lower rate that soxr holds back at most
# Limits of the ratio for which `PromptResampler` has a table of taps: 48 to 16 kHz is 1:3, 44.1 to
# 16 kHz is 160:441.
MOST_PHASES = 1000  # larger number of the reduced ratio
STEEPEST = 32  # higher rate over lower rate
NEGLIGIBLE = 1e-6  # of the largest tap; smaller taps at the ends of the filter are rounding noise
MAX_VALUES = 2**22  # values that are gathered at once


def resample(waveform: Array, from_rate: int, to_rate: int) -> Array:
    """Change the sample rate of a whole waveform.

    Args:
        waveform: `[..., samples]`.
        from_rate, to_rate: Hz.

    Returns:
        `[..., ceil(samples * to_rate / from_rate)]`, float32. The first samples of input and output
        coincide.

    Raises:
        SettingsError: a rate is not positive.

    Example:
        >>> tone = np.sin(2 * np.pi * 1000 * np.arange(48000) / 48000)[np.newaxis]
        >>> resampled = resample(tone, 48000, 16000)
        >>> resampled.shape
        (1, 16000)
        >>> np.allclose(resampled[:, 100:-100], tone[:, 300:-300:3], atol=1e-4)
        True
    """
    rows = waveform.reshape(int(np.prod(waveform.shape[:-1])), waveform.shape[-1])
    output = StreamResampler(from_rate, to_rate, len(rows)).process(rows, last=True)
    return output.reshape(*waveform.shape[:-1], output.shape[-1])


class Resampler(Protocol):
    """Resamples a stream block by block; the joined blocks equal `resample` of the whole."""

    def process(self, block: Array, *, last: bool = False) -> Array:
        """Resample the next block.

        Args:
            block: `[channels, n]`.
            last: the stream ends with this block.

        Returns:
            The samples that are ready, `[channels, m]`; with `last` all that remain.
        """
        ...

    def needed(self, given: Counts) -> Counts:
        """Number of input samples after which `given` (1 or more) output samples are ready.

        Applies to blocks before the last one.
        """
        ...


def prompt_resampler(from_rate: int, to_rate: int, channels: int) -> Resampler:
    """The resampler with the lowest latency for these rates, Hz."""
    common = math.gcd(from_rate, to_rate)
    larger, smaller = max(from_rate, to_rate), min(from_rate, to_rate)
    if (
        min(smaller, channels) < 1
        or larger == smaller
        or larger // common > MOST_PHASES
        or larger > STEEPEST * smaller
    ):
        return StreamResampler(from_rate, to_rate, channels)
    return PromptResampler(from_rate, to_rate, channels)


class StreamResampler:
    """Resamples a stream block by block with soxr; see `Resampler`.

    Args:
        from_rate, to_rate: Hz; with equal rates the blocks pass through.
        channels: number of channels.

    Raises:
        SettingsError: a rate or the number of channels is not positive.

    Example:
        >>> resampler = StreamResampler(48000, 16000, 1)
        >>> blocks = [np.ones((1, 4800), np.float32)] * 10
        >>> parts = [resampler.process(each) for each in blocks]
        >>> parts.append(resampler.process(blocks[0][:, :0], last=True))
        >>> np.concatenate(parts, axis=-1).shape
        (1, 16000)
    """

    def __init__(self, from_rate: int, to_rate: int, channels: int) -> None:
        if min(from_rate, to_rate, channels) < 1:
            raise SettingsError(
                f"cannot resample {channels} channels from {from_rate} Hz to {to_rate} Hz; "
                "expected positive numbers"
            )
        self.from_rate, self.to_rate, self.channels = from_rate, to_rate, channels
        self._taken = self._given = 0
        self._stream = (
            None
            if from_rate == to_rate
            else soxr.ResampleStream(from_rate, to_rate, channels, "float32", "HQ")
        )
        common = math.gcd(from_rate, to_rate)
        self._lead = _lead(to_rate // common, from_rate // common)
        self._drop = self._lead * to_rate // from_rate

    def process(self, block: Array, *, last: bool = False) -> Array:
        """See `Resampler`."""
        block = block.astype(np.float32, copy=False)
        if self._stream is None:
            return block
        self._taken += block.shape[-1]
        # soxr rounds the length to nearest; extra zeros make it at least ceil(samples * ratio).
        if last:
            block = np.pad(block, ((0, 0), (0, 2 + self.from_rate // self.to_rate)))
        if self._lead:
            block, self._lead = np.pad(block, ((0, 0), (self._lead, 0))), 0
        output = self._stream.resample_chunk(np.ascontiguousarray(block.T), last=last).T
        if self._drop:
            drop = min(self._drop, output.shape[-1])
            output, self._drop = output[:, drop:], self._drop - drop
        if last:
            output = output[:, : -(-self._taken * self.to_rate // self.from_rate) - self._given]
        self._given += output.shape[-1]
        return np.ascontiguousarray(output)

    def needed(self, given: Counts) -> Counts:
        """See `Resampler`; an upper bound, because soxr does not tell its delay."""
        if self._stream is None:
            return given
        lag = -(-LARGEST_LAG * self.from_rate // min(self.from_rate, self.to_rate))
        return -(-given * self.from_rate // self.to_rate) + lag


class PromptResampler:
    """Resamples a stream with no more latency than half the filter; see `Resampler`.

    Args:
        from_rate, to_rate: Hz; `prompt_resampler` knows which ratios are possible.
        channels: number of channels.
    """

    def __init__(self, from_rate: int, to_rate: int, channels: int) -> None:
        common = math.gcd(from_rate, to_rate)
        self._up, self._down = to_rate // common, from_rate // common
        self._filter = polyphase(self._up, self._down)
        self._waiting: Array = np.zeros((channels, self._filter.behind), np.float32)
        self._first = -self._filter.behind  # position of `_waiting` in the input
        self._taken = self._given = 0

    def process(self, block: Array, *, last: bool = False) -> Array:
        """See `Resampler`."""
        taps, behind, ahead = self._filter
        self._taken += block.shape[-1]
        silence = np.zeros((len(block), ahead if last else 0), np.float32)
        self._waiting = np.concatenate([self._waiting, block, silence], axis=-1, dtype=np.float32)
        whole = self._taken if last else self._taken - ahead  # inputs followed by `ahead` others
        ready = max(-(-whole * self._up // self._down), self._given)
        length = max(MAX_VALUES // (taps.shape[1] * len(block)), 1)
        pieces = [
            self._outputs(start, min(start + length, ready))
            for start in range(self._given, ready, length)
        ]
        self._given = ready
        unused = max(ready * self._down // self._up - behind - self._first, 0)
        self._waiting, self._first = self._waiting[:, unused:], self._first + unused
        if not pieces:
            return block[:, :0].astype(np.float32, copy=False)
        return np.concatenate(pieces, axis=-1)

    def _outputs(self, start: int, end: int) -> Array:
        """The output samples `start` to `end`, `[channels, end - start]`."""
        taps, behind, _ = self._filter
        nearest, phase = np.divmod(np.arange(start, end) * self._down, self._up)
        windows = np.lib.stride_tricks.sliding_window_view(self._waiting, taps.shape[1], axis=-1)
        windows = windows[:, nearest - behind - self._first]  # channels, outputs, taps
        output: Array = np.einsum("cmt,mt->cm", windows, taps[phase])
        return output

    def needed(self, given: Counts) -> Counts:
        """See `Resampler`; exact."""
        return (given - 1) * self._down // self._up + self._filter.ahead + 1


class Polyphase(NamedTuple):
    """A resampling filter in polyphase form.

    Output `m` is the sum over `j` of `taps[m * down % up, j]` times input
    `m * down // up - behind + j`.

    Args:
        taps: `[up, behind + 1 + ahead]`.
        behind: number of inputs before the nearest one.
        ahead: number of inputs after the nearest one.
    """

    taps: Array
    behind: int
    ahead: int


@functools.lru_cache(maxsize=8)
def polyphase(up: int, down: int) -> Polyphase:
    """soxr's filter for the ratio up:down of two coprime numbers, measured from impulse responses.

    The response to an impulse at input k is `h[m * down - k * up]` at output m, where h is the
    filter at the least common multiple of both rates. `down` successive impulses, each in its own
    channel, give all of h.
    """
    half = _half_filter(up, down)
    waveform = np.zeros((2 * half + down, down))
    waveform[half + np.arange(down), np.arange(down)] = 1
    answers = soxr.resample(waveform, down, up, "HQ")  # outputs, impulses
    places = np.arange(len(answers))[:, None] * down - (half + np.arange(down)) * up
    reach = int(np.abs(places[np.abs(answers) > NEGLIGIBLE * np.abs(answers).max()]).max())
    behind, ahead = reach // up, (reach + up - 1) // up
    filter_ = np.zeros((behind + 1 + ahead) * up)  # from h[-ahead * up] to h[up - 1 + behind * up]
    inside = np.abs(places) <= reach
    filter_[places[inside] + ahead * up] = answers[inside]
    # In phase r, input `nearest - behind + j` is multiplied by h[r + (behind - j) * up].
    taps = filter_.reshape(behind + 1 + ahead, up)[::-1].T
    return Polyphase(np.ascontiguousarray(taps, np.float32), behind, ahead)


def _half_filter(up: int, down: int) -> int:
    """An upper bound of half the length of soxr's filter, in input samples."""
    return 128 * -(-max(up, down) // up)


def _lead(up: int, down: int) -> int:
    """Number of zeros to insert before a stream: a multiple of `down`, so nothing is shifted.

    The first outputs of soxr's multi-stage filters have errors of up to -20 dB. No zeros are
    inserted if the ratio has too many phases.
    """
    return -(-_half_filter(up, down) // down) * down if max(up, down) <= MOST_PHASES else 0
