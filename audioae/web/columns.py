"""Waveform peaks, levels and spectrogram of a recording of known length, at a limited number of
columns and in constant memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Spectrum = npt.NDArray[np.complexfloating]

WINDOW_SECONDS = 0.032  # of the STFT, rounded up to a power of 2 samples
FRAMES_AT_ONCE = 512
TINY = 1e-12  # power; -120 dBFS


def column_samples(num_samples: int, sample_rate: int, *, per_second: float, most: int) -> int:
    """Samples per column for at most `per_second` columns in a second and `most` in total.

    Example:
        >>> column_samples(16000, 16000, per_second=100, most=1000)
        160
        >>> column_samples(3600 * 16000, 16000, per_second=100, most=1000)
        57600
    """
    return max(math.ceil(num_samples / most), round(sample_rate / per_second), 1)


class Peaks:
    """The lowest and highest sample, and the power, of each column.

    Args:
        num_samples: length of the recording.
        step: samples per column.

    Example:
        >>> peaks = Peaks(6, 2)
        >>> peaks.add(np.array([[0, 1, -1, 0]], np.float32))
        >>> peaks.add(np.array([[0.5, 0.5]], np.float32))
        >>> peaks.low.tolist(), peaks.high.tolist(), peaks.power.tolist()
        ([0.0, -1.0, 0.5], [1.0, 0.0, 0.5], [0.5, 0.5, 0.25])
    """

    def __init__(self, num_samples: int, step: int) -> None:
        columns = -(-num_samples // step)
        self.step = step
        self.low: Array = np.full(columns, np.inf, np.float32)
        self.high: Array = np.full(columns, -np.inf, np.float32)
        self._energy: Float64 = np.zeros(columns)
        self._counts: Float64 = np.zeros(columns)
        self._at = 0

    def add(self, block: Array) -> None:
        """Add the next samples, `[channels, n]`."""
        size = block.shape[-1]
        if not size:
            return
        # Starts of columns in the block; a column that began earlier starts at 0.
        first = self._at // self.step
        starts = np.arange(first, -(-(self._at + size) // self.step)) * self.step - self._at
        starts[0] = 0
        places = slice(first, first + len(starts))
        low, high = block.min(axis=0), block.max(axis=0)
        self.low[places] = np.minimum(self.low[places], np.minimum.reduceat(low, starts))
        self.high[places] = np.maximum(self.high[places], np.maximum.reduceat(high, starts))
        energy = np.square(block, dtype=np.float64).mean(axis=0)
        self._energy[places] += np.add.reduceat(energy, starts)
        self._counts[places] += np.diff(starts, append=size)
        self._at += size

    @property
    def power(self) -> Float64:
        """Mean square of each column."""
        return self._energy / np.maximum(self._counts, 1)

    def levels(self, most: int) -> Float64:
        """The level over time in dBFS, at most `most` values; -120 for silence."""
        group = max(-(-len(self._energy) // most), 1)
        starts = np.arange(0, len(self._energy), group)
        if not len(starts):
            return np.zeros(0)
        energy = np.add.reduceat(self._energy, starts)
        counts = np.maximum(np.add.reduceat(self._counts, starts), 1)
        levels: Float64 = 10 * np.log10(energy / counts + TINY)
        return levels


def mel(hertz: Float64 | float) -> Float64:
    """The pitch on the mel scale of HTK.

    Example:
        >>> float(mel(1000.0).round())
        1000.0
    """
    return np.asarray(2595 * np.log10(1 + np.asarray(hertz) / 700), np.float64)


def mel_bands(n_fft: int, sample_rate: int, rows: int, max_hz: float) -> Array:
    """Weights `[rows, bins]` of rows that are equally wide in mel, from 0 Hz to `max_hz`.

    The weights of a row sum to 1. Rows that are narrower than a bin interpolate between two bins.
    """
    hertz = np.arange(n_fft // 2 + 1) * sample_rate / n_fft
    edges = np.linspace(0, float(mel(max_hz)), rows + 2)
    centres = 700 * (10 ** (edges / 2595) - 1)
    weights = np.zeros((rows, len(hertz)))
    for row, (low, middle, high) in enumerate(
        zip(centres[:-2], centres[1:-1], centres[2:], strict=True)
    ):
        bin_hz = sample_rate / n_fft
        low, high = min(low, middle - bin_hz), max(high, middle + bin_hz)
        rising, falling = (hertz - low) / (middle - low), (high - hertz) / (high - middle)
        weights[row] = np.maximum(np.minimum(rising, falling), 0)
    total = np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)
    return np.asarray(weights / total, np.float32)


class Spectrogram:
    """Mean power spectra of the columns of one or more signals of the same length.

    Channels are added in power. A column is the mean of the frames that start in it.

    Args:
        sample_rate: Hz.
        num_samples: length of the signals.
        step: samples per column.
        count: number of signals that are added together.
        derive: makes one more signal from their spectra, `[channels, frames, bins]` each, such as
            their difference; None makes none.
        rows: number of mel bands; None keeps the bins.
        max_hz: upper end of the mel bands; None is the Nyquist frequency.

    Attributes:
        n_fft: length of the transform.
        power: `[signals, columns, rows or bins]`; a full-scale sine has a power of about 1.
    """

    def __init__(
        self,
        sample_rate: int,
        num_samples: int,
        step: int,
        *,
        count: int = 1,
        derive: Callable[[Sequence[Spectrum]], Spectrum] | None = None,
        rows: int | None = None,
        max_hz: float | None = None,
    ) -> None:
        self.max_hz = sample_rate / 2 if max_hz is None else max_hz
        self.sample_rate, self.step = sample_rate, step
        self.n_fft = int(2 ** math.ceil(math.log2(max(WINDOW_SECONDS * sample_rate, 16))))
        # Frames per column: as few as cover it, at least one.
        self._frames = max(-(-step // (self.n_fft // 2)), 1)
        self._hop = step / self._frames
        self._columns = -(-num_samples // step)
        self._derive = derive
        window = np.hanning(self.n_fft + 1)[:-1]
        self._window = (window * 2 / window.sum()).astype(np.float32)
        self._bands = (
            None if rows is None else mel_bands(self.n_fft, sample_rate, rows, self.max_hz)
        )
        self._count, self._done = count, 0
        self._waiting: Array | None = None
        self._first = -(self.n_fft // 2)  # position of `_waiting`; frames are centred
        self._parts: list[Array] = []
        self._open: list[Array] = []

    def add(self, signals: Sequence[Array]) -> None:
        """Add the next samples of each signal, `[channels, n]`."""
        block = np.stack(signals)
        if self._waiting is None:
            shape = (*block.shape[:2], self.n_fft // 2)
            self._waiting = np.zeros(shape, np.float32)
        self._waiting = np.concatenate([self._waiting, block], axis=-1)
        self._advance()

    def finish(self) -> Array:
        """The power of all columns; see the class."""
        total = self._columns * self._frames
        if self._waiting is not None and self._done < total:
            end = self._start(total - 1) + self.n_fft
            missing = max(end - self._first - self._waiting.shape[-1], 0)
            self._waiting = np.pad(self._waiting, ((0, 0), (0, 0), (0, missing)))
            self._advance()
        if not self._parts:
            signals = self._count + (self._derive is not None)
            return np.zeros((signals, 0, self.n_fft // 2 + 1), np.float32)
        return np.concatenate(self._parts, axis=1)

    def _start(self, frame: int) -> int:
        """The position of the first sample of a frame."""
        return round(frame * self._hop) - self.n_fft // 2

    def _advance(self) -> None:
        """Transform all frames that are complete."""
        assert self._waiting is not None
        total = self._columns * self._frames
        group = max(FRAMES_AT_ONCE // self._frames, 1) * self._frames
        while self._done < total:
            frames = min(group, total - self._done)
            starts = [self._start(self._done + each) - self._first for each in range(frames)]
            if starts[-1] + self.n_fft > self._waiting.shape[-1]:
                return
            self._parts.append(self._powers(np.array(starts)))
            self._done += frames
            drop = max(self._start(self._done) - self._first, 0)
            drop = min(drop, self._waiting.shape[-1])
            self._waiting, self._first = self._waiting[..., drop:], self._first + drop

    def _powers(self, starts: npt.NDArray[np.int64]) -> Array:
        """The power of the columns of these frames, `[signals, columns, rows or bins]`."""
        assert self._waiting is not None
        places = starts[:, np.newaxis] + np.arange(self.n_fft)
        spectra = np.fft.rfft(self._waiting[..., places] * self._window)  # S, C, frames, bins
        signals = list(spectra)
        if self._derive is not None:
            signals.append(self._derive(signals))
        found = []
        for each in signals:
            power = (each.real**2 + each.imag**2).sum(axis=0)  # frames, bins
            columns = power.reshape(-1, self._frames, power.shape[-1]).mean(axis=1)
            found.append(columns if self._bands is None else columns @ self._bands.T)
        return np.stack(found).astype(np.float32)


def decibels(power: npt.NDArray[np.floating]) -> Array:
    """Power in dB, at least -120."""
    return np.asarray(10 * np.log10(np.maximum(power, TINY)), np.float32)
