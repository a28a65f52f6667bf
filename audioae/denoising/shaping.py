"""Post-processing of the gain of a model: linking, strength, attenuation limit, high band."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from audioae.denoising.noise import noise_gain
from audioae.denoising.settings import DenoiseSettings
from audioae.signal.spectrogram import Array, ComplexArray, StftSettings

Gain = npt.NDArray[Any]  # float32 (a magnitude) or complex64 (a magnitude and a phase shift)

# Far below the power of 24-bit dither in a bin. Below it all channels have the same weight.
TINY_POWER = 1e-30
# The range of the band of both file and model that controls the high band: 5 to 7.5 kHz of 8 kHz.
# Above it the resamplers roll off.
LOWEST, HIGHEST = 0.625, 0.9375
ATTACK_SECONDS = 0.004  # short, for the onsets of consonants
RELEASE_SECONDS = 0.05  # longer, so that the gain does not flutter


def shape_gain(
    gain: Gain, spectrum: ComplexArray, settings: DenoiseSettings, noise: Array | None = None
) -> Gain:
    """Apply the settings to the gain of a model.

    Linking is the first step and the limit the last, so that the limit holds for the output.

    Args:
        gain: of the model, `[channels, freq, frames]`.
        spectrum: the noisy spectrum, `[channels, freq, frames]`.
        noise: power of steady noise in every bin, `[channels, freq, frames or 1]`, to be lowered
            further; None for none.

    Returns:
        The gain to apply, `[channels or 1, freq, frames]`.
    """
    if settings.channels == "linked" and len(gain) > 1:
        gain = link(gain, spectrum)
    if noise is not None:
        gain = lower_noise(gain, spectrum, noise)
    if settings.strength < 1:
        gain = scale(gain, settings.strength)
    if settings.max_attenuation_db is not None:
        gain = limit(gain, settings.max_attenuation_db)
    return gain


def link(gain: Gain, spectrum: ComplexArray) -> Gain:
    """One gain for all channels, `[1, freq, frames]`: the mean of their gains, weighted by the
    power of each channel in the bin.
    """
    power = power_of(spectrum)
    total = power.sum(axis=0, keepdims=True)
    silent = total < TINY_POWER
    weighted = (power * gain).sum(axis=0, keepdims=True) / np.where(silent, np.float32(1), total)
    linked: Gain = np.where(silent, gain.mean(axis=0, keepdims=True), weighted)
    return linked


def lower_noise(gain: Gain, spectrum: ComplexArray, noise: Array) -> Gain:
    """Lower steady noise further. Channels with one gain are treated as one: their powers are
    added.
    """
    power = power_of(spectrum)
    if len(gain) < len(power):
        power, noise = power.sum(axis=0, keepdims=True), noise.sum(axis=0, keepdims=True)
    lowered: Gain = gain * noise_gain(power_of(gain) * power, noise)
    return lowered


def scale(gain: Gain, strength: float) -> Gain:
    """Scale a gain in dB, and its phase: a strength of 0 gives exactly 1, 0.5 turns -20 dB into
    -10 dB.

    Example:
        >>> scale(np.array([0.1, 1.0]), 0.5).round(3).tolist()
        [0.316, 1.0]
    """
    return with_phase(np.abs(gain) ** np.float32(strength), gain, np.float32(strength))


def limit(gain: Gain, max_attenuation_db: float) -> Gain:
    """Raise every gain to at least -`max_attenuation_db` dB.

    The phase of a complex gain near zero is arbitrary. Where the magnitude is raised, the phase is
    divided by the same factor, which brings it closer to the noisy phase.

    Example:
        >>> limit(np.array([0.01, 0.5]), 20).round(3).tolist()
        [0.1, 0.5]
    """
    floor = np.float32(10 ** (-max_attenuation_db / 20))
    magnitude = np.abs(gain)
    return with_phase(
        np.maximum(magnitude, floor), gain, np.minimum(magnitude / floor, np.float32(1))
    )


def with_phase(magnitude: Array, gain: Gain, share: Array | np.float32) -> Gain:
    """`magnitude` with `share` times the phase of `gain`; unchanged for a real gain."""
    if not np.iscomplexobj(gain):
        return magnitude
    turned: Gain = magnitude * np.exp(np.complex64(1j) * (np.angle(gain) * share))
    return turned


def power_of(values: Gain) -> Array:
    """Squared magnitudes."""
    squared: Array = values.real**2 + values.imag**2
    return squared


class HighBandGain:
    """The gain of the band above the model's: the smoothed mean gain at the top of its band.

    Args:
        stft: the STFT of the model.
        sample_rate: of the stream, Hz.
    """

    def __init__(self, stft: StftSettings, sample_rate: int) -> None:
        shared = min(sample_rate, stft.sample_rate) / 2
        bins_per_hz = stft.n_fft / stft.sample_rate
        first = round(LOWEST * shared * bins_per_hz)
        self.bins = slice(first, max(first + 1, round(HIGHEST * shared * bins_per_hz)))
        self._hops_per_sample = stft.sample_rate / sample_rate / stft.hop_length
        self._middle = (stft.win_length / 2 - stft.past) / stft.hop_length  # of frame 0, in hops
        hop_seconds = stft.hop_length / stft.sample_rate
        self._attack, self._release = (
            math.exp(-hop_seconds / ATTACK_SECONDS),
            math.exp(-hop_seconds / RELEASE_SECONDS),
        )
        self._frame = 0  # index of the first frame in `_values`
        self._values: npt.NDArray[np.float32] | None = None  # [channels or 1, frames]

    def add(self, gain: Gain) -> None:
        """Add the gains of the next frames, `[channels or 1, freq, frames]`."""
        if gain.shape[-1]:
            level = np.abs(gain[:, self.bins]).mean(axis=1)
            before = level[:, :1] if self._values is None else self._values
            smooth = np.stack(
                [
                    self._smooth(row, float(previous))
                    for row, previous in zip(level, before[:, -1], strict=True)
                ]
            )
            self._values = (
                smooth if self._values is None else np.concatenate([self._values, smooth], axis=1)
            )

    def take(self, start: int, samples: int) -> Array:
        """The gain of the samples from `start` on, `[channels or 1, samples]`.

        Earlier values are dropped.
        """
        assert self._values is not None
        hops = np.arange(start, start + samples) * self._hops_per_sample - self._middle
        frames = np.arange(self._values.shape[1]) + self._frame
        curve = np.stack([np.interp(hops, frames, row) for row in self._values]).astype(np.float32)
        if samples:
            used = min(max(math.floor(hops[-1]) - self._frame, 0), self._values.shape[1] - 1)
            self._values, self._frame = self._values[:, used:], self._frame + used
        return curve

    def _smooth(self, level: Array, value: float) -> Array:
        """Smooth `level` with attack and release, starting at `value`."""
        smooth = []
        for target in level.tolist():
            keep = self._attack if target > value else self._release
            value = target + keep * (value - target)
            smooth.append(value)
        return np.array(smooth, np.float32)
