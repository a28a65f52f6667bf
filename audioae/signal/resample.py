"""Change the sample rate, whole or block by block, aligned to the sample (soxr, high quality).

`StreamResampler` is soxr itself: fast, but it works on the blocks of an FFT and hands them out 40
    to 120 ms late. `PromptResampler` applies
the same filter sample by sample: slower, and 6 ms late at 16 kHz. Both give the same samples.
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

LARGEST_LAG = 2048  # samples of the lower rate that soxr keeps back at most
# a ratio of larger whole numbers than these has a table too large to make: 48000 to 16000 is 1:3,
# 44100 160:441
MOST_PHASES = 1000
STEEPEST = 32  # a rate over the other, likewise
NEGLIGIBLE = (
    1e-6  # of the largest tap; what is smaller, at both ends of the filter, is rounding noise
)
PIECE_VALUES = 2**22  # that are gathered at once


def resample(waveform: Array, from_rate: int, to_rate: int) -> Array:
    """Resample `[..., samples]` to `[..., ceil(samples * to_rate / from_rate)]`, aligned to the
    first sample.

    Args:
        from_rate, to_rate: Hz.
    """
    rows = waveform.reshape(int(np.prod(waveform.shape[:-1])), waveform.shape[-1])
    output = StreamResampler(from_rate, to_rate, len(rows)).process(rows, last=True)
    return output.reshape(*waveform.shape[:-1], output.shape[-1])


class Resampler(Protocol):
    """Resamples a stream block by block; the joined output is what `resample` makes of the joined
    input.
    """

    def process(self, block: Array, *, last: bool = False) -> Array:
        """Take `[channels, n]`, give the `[channels, m]` that are ready; with `last` everything
        that is left.
        """
        ...

    def needed(self, given: Counts) -> Counts:
        """How many samples have to be taken before so many (1 or more) have been given; with no
        last block.
        """
        ...


def prompt_resampler(from_rate: int, to_rate: int, channels: int) -> Resampler:
    """The resampler with the smallest delay for these rates, Hz."""
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
    """Resamples a stream block by block; the joined output is what `resample` makes of the joined
    input.

    Args:
        from_rate, to_rate: Hz; equal rates pass through.
    """

    def __init__(self, from_rate: int, to_rate: int, channels: int) -> None:
        if min(from_rate, to_rate, channels) < 1:
            raise SettingsError(
                f"cannot resample {channels} channels from {from_rate} Hz to {to_rate} Hz; all "
                "three must be positive"
            )
        self.from_rate, self.to_rate, self.channels = from_rate, to_rate, channels
        self._taken = self._given = 0
        self._stream = (
            None
            if from_rate == to_rate
            else soxr.ResampleStream(from_rate, to_rate, channels, "float32", "HQ")
        )
        self._lead = _lead(to_rate // (common := math.gcd(from_rate, to_rate)), from_rate // common)
        self._drop = self._lead * to_rate // from_rate

    def process(self, block: Array, *, last: bool = False) -> Array:
        """Take `[channels, n]`, give the `[channels, m]` that are ready; with `last` everything
        that is left.
        """
        block = block.astype(np.float32, copy=False)
        if self._stream is None:
            return block
        self._taken += block.shape[-1]
        # soxr rounds the length to the nearest, so a few zeros more make it reach ceil(samples * to
        # / from)
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
        """See `Resampler`; an upper bound, for soxr does not tell."""
        if self._stream is None:
            return given
        lag = -(-LARGEST_LAG * self.from_rate // min(self.from_rate, self.to_rate))
        return -(-given * self.from_rate // self.to_rate) + lag


class PromptResampler:
    """Resamples a stream block by block with the delay of the filter and no more; the samples are
    those of `StreamResampler`.

    Args:
        from_rate, to_rate: Hz; see `prompt_resampler` for those that are possible.
    """

    def __init__(self, from_rate: int, to_rate: int, channels: int) -> None:
        common = math.gcd(from_rate, to_rate)
        self._up, self._down = to_rate // common, from_rate // common
        self._filter = polyphase(self._up, self._down)
        self._waiting: Array = np.zeros((channels, self._filter.behind), np.float32)
        self._first = -self._filter.behind  # of the input, in `_waiting`
        self._taken = self._given = 0

    def process(self, block: Array, *, last: bool = False) -> Array:
        """Take `[channels, n]`, give the `[channels, m]` that are ready; with `last` everything
        that is left.
        """
        taps, behind, ahead = self._filter
        self._taken += block.shape[-1]
        silence = np.zeros((len(block), ahead if last else 0), np.float32)
        self._waiting = np.concatenate([self._waiting, block, silence], axis=-1, dtype=np.float32)
        whole = self._taken if last else self._taken - ahead  # inputs whose future is known
        ready = max(-(-whole * self._up // self._down), self._given)
        length = max(PIECE_VALUES // (taps.shape[1] * len(block)), 1)
        pieces = [
            self._outputs(start, min(start + length, ready))
            for start in range(self._given, ready, length)
        ]
        self._given = ready
        unused = max(ready * self._down // self._up - behind - self._first, 0)
        self._waiting, self._first = self._waiting[:, unused:], self._first + unused
        return (
            np.concatenate(pieces, axis=-1)
            if pieces
            else block[:, :0].astype(np.float32, copy=False)
        )

    def _outputs(self, start: int, end: int) -> Array:
        """The output samples `start` to `end`, `[channels, end - start]`."""
        taps, behind, _ = self._filter
        nearest, phase = np.divmod(np.arange(start, end) * self._down, self._up)
        windows = np.lib.stride_tricks.sliding_window_view(self._waiting, taps.shape[1], axis=-1)
        output: Array = np.einsum(
            "cmt,mt->cm", windows[:, nearest - behind - self._first], taps[phase]
        )
        return output

    def needed(self, given: Counts) -> Counts:
        """See `Resampler`; exact."""
        return (given - 1) * self._down // self._up + self._filter.ahead + 1


class Polyphase(NamedTuple):
    """A filter that resamples: output m is the sum of `taps[m * down % up, j]` times input `m *
    down // up - behind + j`.

    taps: `[up, behind + 1 + ahead]`.
    """

    taps: Array
    behind: int
    ahead: int


@functools.lru_cache(maxsize=8)
def polyphase(up: int, down: int) -> Polyphase:
    """soxr's filter for the ratio up:down of two coprime numbers, as its answers to impulses tell
    it.

    An impulse at input k makes the output m = h[m * down - k * up], h being the filter at the rate
    that both rates divide; `down` impulses in a row, each in a channel of its own, make all of h.
    """
    half = _half_filter(up, down)
    waveform = np.zeros((2 * half + down, down))
    waveform[half + np.arange(down), np.arange(down)] = 1
    answers = soxr.resample(waveform, down, up, "HQ")  # outputs, impulses
    places = np.arange(len(answers))[:, None] * down - (half + np.arange(down)) * up
    reach = int(np.abs(places[np.abs(answers) > NEGLIGIBLE * np.abs(answers).max()]).max())
    behind, ahead = reach // up, (reach + up - 1) // up
    filter_ = np.zeros(
        (behind + 1 + ahead) * up
    )  # h[up - 1 + behind * up] comes last, h[-ahead * up] first
    inside = np.abs(places) <= reach
    filter_[places[inside] + ahead * up] = answers[inside]
    # Input nearest - behind + j of phase r meets h[r + (behind - j) * up].
    taps = filter_.reshape(behind + 1 + ahead, up)[::-1].T
    return Polyphase(np.ascontiguousarray(taps, np.float32), behind, ahead)


def _half_filter(up: int, down: int) -> int:
    """More input samples than half of the filter has."""
    return 128 * -(-max(up, down) // up)


def _lead(up: int, down: int) -> int:
    """Silent samples, of whole periods, that go before a stream: soxr's filters of several stages
    are wrong by up to 20 dB below the signal in their first samples. A period too long is left out.
    """
    return -(-_half_filter(up, down) // down) * down if max(up, down) <= MOST_PHASES else 0
