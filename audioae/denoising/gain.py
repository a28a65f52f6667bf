"""What happens to a model's gain before it meets the spectrum: link the channels, scale its
strength, limit its attenuation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from audioae.denoising.noise import noise_gain
from audioae.denoising.settings import DenoiseSettings
from audioae.signal.spectrogram import Array, ComplexArray

Gain = npt.NDArray[Any]  # float32 (a magnitude) or complex64 (a magnitude and a turn of the phase)

TINY_POWER = (
    1e-30  # far below one bin of 24-bit dither; under it no channel weighs more than another
)


def shape_gain(
    gain: Gain, spectrum: ComplexArray, settings: DenoiseSettings, noise: Array | None = None
) -> Gain:
    """The gain that is applied, `[channels or 1, freq, frames]`, from the one that the model
    answered for the noisy `spectrum`.

    Linking comes first and the limit last, so that the limit holds for what is heard.

    Args:
        noise: power of a steady noise in every bin, `[channels, freq, frames or 1]`; None leaves it
            to the model.
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
    """One gain for all channels, `[1, freq, frames]`: the mean of theirs, weighted by the power
    that each has in the bin.
    """
    power = power_of(spectrum)
    total = power.sum(axis=0, keepdims=True)
    silent = total < TINY_POWER
    weighted = (power * gain).sum(axis=0, keepdims=True) / np.where(silent, np.float32(1), total)
    linked: Gain = np.where(silent, gain.mean(axis=0, keepdims=True), weighted)
    return linked


def lower_noise(gain: Gain, spectrum: ComplexArray, noise: Array) -> Gain:
    """The gain with steady noise lowered further; channels that share a gain are judged by the sum
    of their powers.
    """
    power = power_of(spectrum)
    if len(gain) < len(power):
        power, noise = power.sum(axis=0, keepdims=True), noise.sum(axis=0, keepdims=True)
    lowered: Gain = gain * noise_gain(power_of(gain) * power, noise)
    return lowered


def scale(gain: Gain, strength: float) -> Gain:
    """Scale the gain's decibels by `strength`, and its phase too: 0 gives exactly 1, 0.5 makes -10
    dB of -20 dB.
    """
    return with_phase(np.abs(gain) ** np.float32(strength), gain, np.float32(strength))


def limit(gain: Gain, max_attenuation_db: float) -> Gain:
    """Raise every gain to at least -`max_attenuation_db` dB.

    The phase of a vanishing complex gain means nothing, so one that had to be raised is turned back
    to the noisy phase in the same measure.
    """
    floor = np.float32(10 ** (-max_attenuation_db / 20))
    magnitude = np.abs(gain)
    return with_phase(
        np.maximum(magnitude, floor), gain, np.minimum(magnitude / floor, np.float32(1))
    )


def with_phase(magnitude: Array, gain: Gain, share: Array | np.float32) -> Gain:
    """`magnitude`, turned by `share` of the phase angle of `gain` where that is complex."""
    if not np.iscomplexobj(gain):
        return magnitude
    turned: Gain = magnitude * np.exp(np.complex64(1j) * (np.angle(gain) * share))
    return turned


def power_of(values: Gain) -> Array:
    """Squared magnitudes."""
    squared: Array = values.real**2 + values.imag**2
    return squared
