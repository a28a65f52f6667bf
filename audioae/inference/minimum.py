"""The level of steady noise, tracked while a recording runs: minimum statistics (R. Martin, IEEE Trans. Speech Audio Proc. 9(5), 2001).

Speech pauses in every bin more often than it seems, so the minimum of a bin's smoothed power over the last second or so is noise. That
minimum lies below the mean; how far follows from the variance of the smoothed power (equations 15 to 17), which is measured alongside.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from audioae.spectrogram import Array, StftSettings

Values = npt.NDArray[np.float32]

WINDOW_SECONDS = 1.5  # over which a minimum is taken: longer than a word is held, shorter than noises change
PARTS = 8  # of the window; one is forgotten at a time
LARGEST_SMOOTHING = 0.96  # per 16 ms, equation 12
FOLLOW = 0.8  # of the variance estimate, per 16 ms
REFERENCE_SECONDS = 0.016  # the hop that Martin's constants are for
# The paper allows 2. Smoothed noise has 30 and more; less comes from words whose variance is not forgotten yet, and would count as noise.
LEAST_FREEDOM = 12
TINY = np.float32(1e-20)
# Table III of the paper: M(D), by the number of frames D that the minimum is taken over.
LENGTHS = (1.0, 2, 5, 8, 10, 15, 20, 30, 40, 60, 80, 120, 140, 160)
CORRECTIONS = (0.0, 0.26, 0.48, 0.58, 0.61, 0.668, 0.705, 0.762, 0.8, 0.841, 0.865, 0.89, 0.9, 0.91)


class MinimumStatistics:
    """Tracks the noise power of every bin, frame by frame; how a recording is cut into blocks changes nothing.

    Args:
        channels: of the recording, each with a noise of its own.
    """

    def __init__(self, stft: StftSettings, channels: int) -> None:
        self._shape = (channels, stft.num_bins)
        speed = stft.hop_length / stft.sample_rate / REFERENCE_SECONDS
        self._most, self._follow = np.float32(LARGEST_SMOOTHING**speed), np.float32(FOLLOW**speed)
        self._part_frames = max(round(WINDOW_SECONDS * stft.sample_rate / stft.hop_length / PARTS), 1)
        self._frames = 0
        self._smooth: Values | None = None  # the others are set with it, by the first frame
        self._noise: Values
        self._mean: Values
        self._square: Values
        self._current: Values
        self._parts: Values

    def powers(self, power: Array) -> Array:
        """The noise power, `[channels, freq, frames]`, after each of the next frames `[channels, freq, frames]`."""
        tracked = np.empty(power.shape, np.float32)
        for index, frame in enumerate(np.moveaxis(power, -1, 0)):
            tracked[..., index] = self._step(frame.astype(np.float32, copy=False))
        return tracked

    def _step(self, power: Values) -> Values:
        if self._smooth is None:
            self._begin(power)
        smooth = self._follow_power(power)
        least_free = np.float32(1) / self._freedom(smooth)
        corrected = smooth * _bias(least_free, PARTS * self._part_frames)
        self._current = np.minimum(self._current, corrected)
        self._frames += 1
        if self._frames % self._part_frames == 0:  # the oldest part of the window is forgotten
            self._parts = np.concatenate([self._parts[1:], self._current[None]])
            self._current = corrected
        spread = np.float32(1) + np.float32(2.12) * np.sqrt(least_free.mean(axis=-1, keepdims=True))  # equation 22: variance biases, too
        self._noise = np.minimum(self._parts.min(axis=0), self._current) * np.minimum(spread, np.float32(1.4))
        return self._noise

    def _begin(self, power: Values) -> None:
        self._smooth = self._noise = self._mean = power.copy()
        self._square = power**2
        self._current = np.full(self._shape, np.inf, np.float32)
        self._parts = np.full((PARTS - 1, *self._shape), np.inf, np.float32)

    def _follow_power(self, power: Values) -> Values:
        """Smooth the power, the more the closer it is to the noise (equations 9 to 12)."""
        assert self._smooth is not None
        ratio = self._smooth / (self._noise + TINY)
        total = self._smooth.mean(axis=-1, keepdims=True) / (power.mean(axis=-1, keepdims=True) + TINY)
        trust = np.maximum(np.float32(1) / (1 + (total - 1) ** 2), np.float32(0.7))
        smoothing = np.maximum(self._most * trust / (1 + (ratio - 1) ** 2), np.float32(0.3))
        self._smooth = smoothing * self._smooth + (1 - smoothing) * power
        return self._smooth

    def _freedom(self, smooth: Values) -> Values:
        """Equivalent degrees of freedom of the smoothed power, from its running variance (equations 20 and 21)."""
        self._mean = self._follow * self._mean + (1 - self._follow) * smooth
        self._square = self._follow * self._square + (1 - self._follow) * smooth**2
        variance = np.maximum(self._square - self._mean**2, 0)
        inverse = np.clip(variance / (2 * self._noise**2 + TINY), 1 / 400, 1 / LEAST_FREEDOM)
        freedom: Values = np.float32(1) / inverse
        return freedom


def _bias(inverse_freedom: Values, length: int) -> Values:
    """What the minimum over `length` frames has to be multiplied by to be a mean (equation 17)."""
    correction = np.float32(np.interp(length, LENGTHS, CORRECTIONS))
    scaled = (np.float32(1) / inverse_freedom - 2 * correction) / (1 - correction)
    bias: Values = 1 + (length - 1) * np.float32(2) / np.maximum(scaled, np.float32(1))
    return bias
