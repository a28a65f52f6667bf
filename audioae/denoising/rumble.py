"""Remove a DC offset and rumble before the model, if they are strong.

A DC offset or the rumble of wind, traffic and handling leaks into all bins of a short window. The
model has been trained with rumble that is weaker than the voice; stronger rumble looks to it like
loud noise in all bins. So what is below 40 Hz is subtracted from its input if its power is near
that of the rest (`STRONG_DB`). It is left out of the output as well unless the settings keep it, as
mastering engineers do: it is not audible, wastes headroom and clicks at cuts. Recordings without it
are not changed.

For a recording the low-pass is a symmetric FIR filter: it shifts no phase, and its delay is
compensated. Before the start and after the end the recording is mirrored, so that an offset is
removed from the first sample on. A live stream cannot wait: its filter is recursive and delays
nothing, and what it subtracts at a time depends on what came before.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
import numpy.typing as npt

from audioae.signal.spectrogram import Array

CUTOFF_HZ = 40.0  # of the FIR filter; 35 Hz are removed and 45 Hz kept
HALF_SECONDS = 0.15  # half the length of the FIR filter
LIVE_CUTOFF_HZ = 20.0  # of the recursive filter; -3 dB, 12 dB per octave
WEAK_DB, STRONG_DB = -4.0, 0.0  # low band over the rest: nothing and everything is subtracted
LIVE_MARGIN_DB = 7.0  # added to both in a live stream, whose filter also lets some voice through
LEAST_POWER = 1e-6  # -60 dBFS; a weaker low band is never subtracted
CELL_SECONDS, FADE_SECONDS = 0.1, 0.3  # of a measurement in a live stream, of a change
MEMORY, LIVE_MEMORY = 0.7, 0.95  # weight of the earlier pieces or cells
CHUNK = 128  # samples that a recursive filter computes at once
LOWEST_RATE = 1000  # Hz; below it there is no voice, and nothing is split off


Powers = npt.NDArray[np.float64]


class Splitter(Protocol):
    """Returns the high band of a stream block by block."""

    def process(self, block: Array, *, last: bool = False) -> Array:
        """The samples of the high band that are ready, `[channels, samples']`, in order.

        Args:
            block: the next samples, `[channels, samples]`.
            last: whether it is the last block; all remaining samples are then returned.
        """
        ...


def build_splitter(sample_rate: int, channels: int, *, recording: bool) -> Splitter:
    """The splitter of a recording or of a live stream.

    Example:
        >>> splitter = build_splitter(16000, 1, recording=True)
        >>> high = splitter.process(np.full((1, 16000), 0.1, np.float32), last=True)
        >>> high.shape, bool(np.abs(high).max() < 1e-6)
        ((1, 16000), True)
    """
    if sample_rate < LOWEST_RATE:
        return NoSplitter()
    if recording:
        return SymmetricSplitter(sample_rate, channels)
    return PromptSplitter(sample_rate, channels)


class _Measure:
    """How much of the low band to subtract, from 0 to 1, for each channel; measured over pieces."""

    def __init__(self, channels: int, memory: float, margin_db: float = 0.0) -> None:
        self._powers = np.zeros((2, channels))  # of the low band and the rest
        self._memory, self._margin_db, self.num_pieces = memory, margin_db, 0
        self.weight = np.zeros(channels)

    def add(self, low: Powers, high: Powers) -> None:
        """Add the mean powers of a piece, `[channels]`."""
        self.num_pieces += 1
        keep = min(self._memory, 1 - 1 / self.num_pieces)
        self._powers = keep * self._powers + (1 - keep) * np.array([low, high])
        power, rest = self._powers
        ratio_db = 10 * np.log10(np.maximum(power, 1e-30) / np.maximum(rest, 1e-30))
        weight = np.clip((ratio_db - self._margin_db - WEAK_DB) / (STRONG_DB - WEAK_DB), 0, 1)
        self.weight = np.where(power < LEAST_POWER, 0.0, weight)


def _powers(piece: Array) -> Powers:
    """The mean power of each channel of `[channels, samples]`."""
    powers: Powers = np.square(piece, dtype=np.float64).mean(axis=-1)
    return powers


class NoSplitter:
    """The high band is the whole signal."""

    def process(self, block: Array, *, last: bool = False) -> Array:
        """See `Splitter`."""
        return block


def _subtract(piece: Array, low: Array, before: Powers, after: Powers, fade: int) -> Array:
    """`piece - weight * low`, `[channels, samples]`; the weight of each channel goes from `before`
    to `after` over `fade` samples.
    """
    if not (before.any() or after.any()):
        return piece
    rise = np.minimum(np.arange(1, piece.shape[-1] + 1) / fade, 1)
    weight = before[:, None] + (after - before)[:, None] * rise
    return (piece - weight * low).astype(np.float32)


class SymmetricSplitter:
    """Subtracts a low-pass: a windowed sinc, applied by overlap-save on a fixed grid of samples, so
    that the result does not depend on the blocks.
    """

    def __init__(self, sample_rate: int, channels: int) -> None:
        self._half = round(HALF_SECONDS * sample_rate)
        times = np.arange(-self._half, self._half + 1)
        taps = np.sinc(2 * CUTOFF_HZ / sample_rate * times) * np.hanning(len(times) + 2)[1:-1]
        self._size = 1 << math.ceil(math.log2(4 * len(taps)))
        self._step = self._size - 2 * self._half
        self._response = np.fft.rfft(taps / taps.sum(), self._size).astype(np.complex64)
        # Input from `half` samples before the next output on, once the start is known.
        self._waiting: Array = np.zeros((channels, 0), np.float32)
        self._started = False
        self._measure = _Measure(channels, MEMORY)
        self._fade = round(FADE_SECONDS * sample_rate)

    def process(self, block: Array, *, last: bool = False) -> Array:
        """See `Splitter`."""
        self._waiting = np.concatenate([self._waiting, block], axis=-1)
        if not self._waiting.shape[-1]:
            return self._waiting
        if not self._started:
            if self._waiting.shape[-1] <= self._half and not last:
                return self._waiting[:, :0]
            self._waiting = np.pad(self._waiting, ((0, 0), (self._half, 0)), "symmetric")
            self._started = True
        if last:
            self._waiting = np.pad(self._waiting, ((0, 0), (0, self._half)), "symmetric")
        ready = [self._waiting[:, :0]]
        while self._waiting.shape[-1] >= self._size or (
            last and self._waiting.shape[-1] > 2 * self._half
        ):
            piece = self._waiting[:, : self._size]
            spectrum = np.fft.rfft(piece, self._size) * self._response
            # The filter is `half` samples late, and its first `2 * half` outputs wrap around.
            low = np.asarray(np.fft.irfft(spectrum, self._size), np.float32)
            low = low[:, 2 * self._half : piece.shape[-1]]
            ready.append(self._next(piece[:, self._half : piece.shape[-1] - self._half], low))
            self._waiting = self._waiting[:, self._step :]
        return np.concatenate(ready, axis=-1)

    def _next(self, piece: Array, low: Array) -> Array:
        """The next piece without as much of its low band as its measure asks for."""
        measure, before = self._measure, self._measure.weight
        is_first = not measure.num_pieces
        # What is low and what is not cannot be told in a recording shorter than the filter.
        if piece.shape[-1] >= (self._half if is_first else self._fade):
            measure.add(_powers(low), _powers(piece - low))
        return _subtract(
            piece, low, measure.weight if is_first else before, measure.weight, self._fade
        )


class PromptSplitter:
    """Subtracts what a high-pass of second order removes, without delay.

    The weight of a cell follows from the cells before it, so a rumble is subtracted after a short
    time. The cells are on a fixed grid of samples.
    """

    def __init__(self, sample_rate: int, channels: int) -> None:
        self._filter = _HighPass(sample_rate, channels)
        self._cell, self._at = round(CELL_SECONDS * sample_rate), 0
        self._energies = np.zeros((2, channels))  # of the low band and the rest, in this cell
        self._measure = _Measure(channels, LIVE_MEMORY, LIVE_MARGIN_DB)
        self._before = self._measure.weight

    def process(self, block: Array, *, last: bool = False) -> Array:
        """See `Splitter`."""
        ready, start = [block[:, :0]], 0
        low = block - self._filter.process(block)
        while start < block.shape[-1]:
            end = min(start + self._cell - self._at, block.shape[-1])
            ready.append(self._next(block[:, start:end], low[:, start:end]))
            start = end
        return np.concatenate(ready, axis=-1)

    def _next(self, piece: Array, low: Array) -> Array:
        """The next samples, all of one cell."""
        places = np.arange(self._at + 1, self._at + piece.shape[-1] + 1) / self._cell
        before, after = self._before, self._measure.weight
        output = piece
        if before.any() or after.any():
            weight = before[:, None] + (after - before)[:, None] * places
            output = (piece - weight * low).astype(np.float32)
        for row, part in zip(self._energies, (low, piece - low), strict=True):
            row += np.square(part, dtype=np.float64).sum(axis=-1)
        self._at += piece.shape[-1]
        if self._at == self._cell:
            self._before = after
            self._measure.add(*(self._energies / self._cell))
            self._energies[:], self._at = 0.0, 0
        return output


class _HighPass:
    """A Butterworth high-pass of second order (R. Bristow-Johnson's audio EQ cookbook).

    In its transposed direct form II the state of a sample follows from the one before,
    `s' = A s + B x`, and the output is `y = s[0] + b0 x`. `CHUNK` samples at a time are computed as
    products with the powers of A.
    """

    def __init__(self, sample_rate: int, channels: int) -> None:
        angle = 2 * math.pi * LIVE_CUTOFF_HZ / sample_rate
        alpha, cosine = math.sin(angle) / math.sqrt(2), math.cos(angle)
        b0 = (1 + cosine) / 2 / (1 + alpha)  # the others are -2 b0 and b0
        a1, a2 = -2 * cosine / (1 + alpha), (1 - alpha) / (1 + alpha)
        step = np.array([[-a1, 1.0], [-a2, 0.0]])
        self._powers = [np.eye(2)]  # of A
        for _ in range(CHUNK):
            self._powers.append(step @ self._powers[-1])
        gains = np.array([-2 * b0 - a1 * b0, b0 - a2 * b0])
        self._inputs = np.array([power @ gains for power in self._powers[:CHUNK]]).T  # 2, CHUNK
        self._outputs = np.array([power[0] for power in self._powers[:CHUNK]]).T  # 2, CHUNK
        response = np.concatenate([[b0], self._inputs[0, :-1]])
        lags = np.subtract.outer(np.arange(CHUNK), np.arange(CHUNK))
        self._direct = np.where(lags >= 0, response[np.abs(lags)], 0.0)  # CHUNK, CHUNK
        self._states = np.zeros((channels, 2))

    def process(self, block: Array) -> Array:
        """Filter the next block, `[channels, samples]`."""
        output = np.empty(block.shape, np.float32)
        for start in range(0, block.shape[-1], CHUNK):
            piece = block[:, start : start + CHUNK].astype(np.float64)
            n = piece.shape[-1]
            output[:, start : start + n] = (
                piece @ self._direct[:n, :n].T + self._states @ self._outputs[:, :n]
            )
            self._states = self._states @ self._powers[n].T + piece @ self._inputs[:, :n][:, ::-1].T
        return output
