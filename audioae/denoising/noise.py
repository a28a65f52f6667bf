"""Steady noise: estimation of its power spectrum, and an additional gain that lowers it.

The power spectrum N of the noise is measured in a part of the recording with nothing but noise, or
tracked with minimum statistics (R. Martin, "Noise power spectral density estimation based on
optimal smoothing and minimum statistics", 2001; its equations are cited below).

Let P be the power of a bin and G the gain of the model. The ratio of what the model keeps to the
noise is xi = |G|² P / N. The gain becomes

    G' = G max(floor, xi / (xi + 1), X / (X + 0.1)),  floor = -6 dB,

where X is the same ratio with the powers summed over all bins of the frame. The first ratio is a
Wiener gain (Lim and Oppenheim 1979) with the output of the model as the a-priori SNR; xi is the
maximum over a bin and its two neighbours, which protects the sides of harmonics. The second ratio
protects frames of speech: if the model keeps as much power as the noise has, the frame is lowered
by at most 0.8 dB. The noise in pauses, of which the model keeps about a thousandth, is lowered by
up to 6 dB. The formula has no memory, so if N does not depend on blocks, G' does not.

Measured with a conv1d model and white, pink, fan and mains noise at 0 and 10 dB: the noise in
pauses is 5 dB lower, SI-SDR changes by less than 0.15 dB, PESQ-WB falls by 0.05. With a floor of
-12 dB the noise is 10 dB lower, but PESQ-WB falls by 0.15, because the ends of words are cut.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from audioae.errors import SettingsError
from audioae.signal.resample import StreamResampler
from audioae.signal.spectrogram import Array, ComplexArray, StftSettings, analyse

Values = npt.NDArray[np.float32]

# The minimum is taken over this time: longer than a vowel, shorter than noise takes to change.
WINDOW_SECONDS = 1.5
PARTS = 8  # parts of the window; the oldest part is dropped at a time
MAX_SMOOTHING = 0.96  # per 16 ms, equation 12
FOLLOW = 0.8  # smoothing of the variance estimate, per 16 ms
REFERENCE_SECONDS = 0.016  # the hop that the constants of the paper are for
# The paper allows 2. Smoothed noise has 30 and more. Lower values come from words that are still in
# the variance estimate, and would make speech count as noise.
MIN_FREEDOM = 12
TINY = np.float32(1e-20)
# Table III of the paper: M(D) for a minimum over D frames.
LENGTHS = (1.0, 2, 5, 8, 10, 15, 20, 30, 40, 60, 80, 120, 140, 160)
CORRECTIONS = (0.0, 0.26, 0.48, 0.58, 0.61, 0.668, 0.705, 0.762, 0.8, 0.841, 0.865, 0.89, 0.9, 0.91)


class MinimumStatistics:
    """Tracks the noise power of every bin, frame by frame, so that blocks make no difference.

    Args:
        stft: the STFT of the frames.
        channels: number of channels; the noise of each is tracked by itself.
    """

    def __init__(self, stft: StftSettings, channels: int) -> None:
        self._shape = (channels, stft.num_bins)
        speed = stft.hop_length / stft.sample_rate / REFERENCE_SECONDS
        self._most, self._follow = np.float32(MAX_SMOOTHING**speed), np.float32(FOLLOW**speed)
        self._part_frames = max(
            round(WINDOW_SECONDS * stft.sample_rate / stft.hop_length / PARTS), 1
        )
        self._frames = 0
        self._smooth: Values | None = None  # the first frame sets it and the arrays below
        self._noise: Values
        self._mean: Values
        self._square: Values
        self._current: Values
        self._parts: Values

    def powers(self, power: Array) -> Array:
        """Update the estimate with the next frames.

        Args:
            power: of the bins, `[channels, freq, frames]`.

        Returns:
            The noise power after each frame, `[channels, freq, frames]`.
        """
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
        if self._frames % self._part_frames == 0:  # drop the oldest part of the window
            self._parts = np.concatenate([self._parts[1:], self._current[None]])
            self._current = corrected
        # Equation 22: the bias from the variance of the smoothed power.
        spread = np.float32(1) + np.float32(2.12) * np.sqrt(least_free.mean(axis=-1, keepdims=True))
        self._noise = np.minimum(self._parts.min(axis=0), self._current) * np.minimum(
            spread, np.float32(1.4)
        )
        return self._noise

    def _begin(self, power: Values) -> None:
        self._smooth = self._noise = self._mean = power.copy()
        self._square = power**2
        self._current = np.full(self._shape, np.inf, np.float32)
        self._parts = np.full((PARTS - 1, *self._shape), np.inf, np.float32)

    def _follow_power(self, power: Values) -> Values:
        """Smooth the power; the closer it is to the noise, the more (equations 9 to 12)."""
        assert self._smooth is not None
        ratio = self._smooth / (self._noise + TINY)
        total = self._smooth.mean(axis=-1, keepdims=True) / (
            power.mean(axis=-1, keepdims=True) + TINY
        )
        trust = np.maximum(np.float32(1) / (1 + (total - 1) ** 2), np.float32(0.7))
        smoothing = np.maximum(self._most * trust / (1 + (ratio - 1) ** 2), np.float32(0.3))
        self._smooth = smoothing * self._smooth + (1 - smoothing) * power
        return self._smooth

    def _freedom(self, smooth: Values) -> Values:
        """Equivalent degrees of freedom of the smoothed power (equations 20 and 21)."""
        self._mean = self._follow * self._mean + (1 - self._follow) * smooth
        self._square = self._follow * self._square + (1 - self._follow) * smooth**2
        variance = np.maximum(self._square - self._mean**2, 0)
        inverse = np.clip(variance / (2 * self._noise**2 + TINY), 1 / 400, 1 / MIN_FREEDOM)
        freedom: Values = np.float32(1) / inverse
        return freedom


def _bias(inverse_freedom: Values, length: int) -> Values:
    """The ratio of the mean to the minimum over `length` frames (equation 17)."""
    correction = np.float32(np.interp(length, LENGTHS, CORRECTIONS))
    scaled = (np.float32(1) / inverse_freedom - 2 * correction) / (1 - correction)
    bias: Values = 1 + (length - 1) * np.float32(2) / np.maximum(scaled, np.float32(1))
    return bias


FLOOR = np.float32(10 ** (-6 / 20))
FRAME_WEIGHT = np.float32(0.1)  # of the noise in the ratio X
TINY_POWER = np.float32(1e-20)  # of a bin; below the noise of 24 bits
MIN_SECONDS = 0.1  # of noise that a profile needs to be within 2 dB


class NoiseTracker(Protocol):
    """Estimates the noise power of frames."""

    def powers(self, power: Array) -> Array:
        """The noise power `[channels, freq, frames or 1]` in the next frames, whose power is
        `[channels, freq, frames]`.
        """
        ...


class NoiseProfile:
    """Noise with a constant power spectrum.

    Args:
        power: of the bins of `analyse`, `[channels, freq]`.
    """

    def __init__(self, power: npt.NDArray[np.float32]) -> None:
        self.power = power

    def powers(self, power: Array) -> Array:
        """The noise power `[channels, freq, 1]`, the same for all frames."""
        return self.power[..., None]


def measure_noise(
    blocks: Iterable[Array], sample_rate: int, channels: int, stft: StftSettings
) -> NoiseProfile:
    """Measure the mean power spectrum of noise.

    Args:
        blocks: the noise in blocks, `[channels, samples]`.
        sample_rate: of the noise, Hz.
        channels: number of channels.
        stft: the STFT of the model.

    Raises:
        SettingsError: there are less than `MIN_SECONDS` of noise.
    """
    resampler = StreamResampler(sample_rate, stft.sample_rate, channels)
    total, frames, samples = np.zeros((channels, stft.num_bins), np.float64), 0, 0
    waiting: Array = np.zeros((channels, 0), np.float32)
    for block in blocks:
        samples += block.shape[-1]
        waiting = np.concatenate([waiting, resampler.process(block)], axis=-1)
        spectrum, waiting = _whole_frames(waiting, stft)
        total += (spectrum.real**2 + spectrum.imag**2).sum(axis=-1, dtype=np.float64)
        frames += spectrum.shape[-1]
    if samples < MIN_SECONDS * sample_rate or not frames:
        covered = f"noise_from covers {samples / sample_rate:g} s of the recording"
        raise SettingsError(f"{covered}; expected at least {MIN_SECONDS:g} s")
    return NoiseProfile((total / frames).astype(np.float32))


def _whole_frames(signal: Array, stft: StftSettings) -> tuple[ComplexArray, Array]:
    """The frames that lie completely within `signal`, without silence before it, and the samples
    that the next frames need.
    """
    hops = max(signal.shape[-1] - stft.past, 0) // stft.hop_length
    spectrum, _ = (
        analyse(
            signal[:, stft.past : stft.past + hops * stft.hop_length], stft, signal[:, : stft.past]
        )
        if hops
        else (None, None)
    )
    if spectrum is None:
        return np.zeros((len(signal), stft.num_bins, 0), np.complex64), signal
    return spectrum, signal[:, hops * stft.hop_length :]


def noise_gain(kept: Array, noise: Array) -> Array:
    """The additional gain that lowers steady noise; see the formula at the top of the module.

    Args:
        kept: power that the model keeps, `[..., freq, frames]`.
        noise: power of the noise, `[..., freq, frames or 1]`.

    Returns:
        `[..., freq, frames]`, from `FLOOR` to 1.

    Example:
        >>> kept = np.array([[[1.0], [0.0], [0.0], [0.0]]])
        >>> noise_gain(kept, np.full((1, 4, 1), 100.0))[0, :, 0].round(2).tolist()
        [0.5, 0.5, 0.5, 0.5]
    """
    padded = np.pad(kept, [(0, 0)] * (kept.ndim - 2) + [(1, 1), (0, 0)])
    largest = np.maximum(np.maximum(padded[..., :-2, :], padded[..., 2:, :]), kept)
    wiener = (largest + TINY_POWER) / (largest + noise + TINY_POWER)
    frame, steady = kept.sum(axis=-2, keepdims=True), noise.sum(axis=-2, keepdims=True)
    protected = (frame + TINY_POWER) / (frame + FRAME_WEIGHT * steady + TINY_POWER)
    lowered: Array = np.maximum(np.maximum(wiener, protected), FLOOR).astype(np.float32, copy=False)
    return lowered
