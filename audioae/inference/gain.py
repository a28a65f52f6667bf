"""What happens to a model's gain before it meets the spectrum: link the channels, scale its strength, limit its attenuation."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from audioae.inference.settings import DenoiseSettings
from audioae.spectrogram import Array, ComplexArray

Gain = npt.NDArray[Any]  # float32 (a magnitude) or complex64 (a magnitude and a turn of the phase)

TINY_POWER = 1e-30  # far below one bin of 24-bit dither; under it no channel weighs more than another


def shape_gain(gain: Gain, spectrum: ComplexArray, settings: DenoiseSettings) -> Gain:
    """The gain that is applied, `[channels or 1, freq, frames]`, from the one that the model answered for the noisy `spectrum`.

    Linking comes first and the limit last, so that the limit holds for what is heard.
    """
    if settings.channels == "linked" and len(gain) > 1:
        gain = link(gain, spectrum)
    if settings.strength < 1:
        gain = scale(gain, settings.strength)
    if settings.max_attenuation_db is not None:
        gain = limit(gain, settings.max_attenuation_db)
    return gain


def link(gain: Gain, spectrum: ComplexArray) -> Gain:
    """One gain for all channels, `[1, freq, frames]`: the mean of theirs, weighted by the power that each has in the bin."""
    power = spectrum.real**2 + spectrum.imag**2
    total = power.sum(axis=0, keepdims=True)
    silent = total < TINY_POWER
    weighted = (power * gain).sum(axis=0, keepdims=True) / np.where(silent, np.float32(1), total)
    linked: Gain = np.where(silent, gain.mean(axis=0, keepdims=True), weighted)
    return linked


def scale(gain: Gain, strength: float) -> Gain:
    """Scale the gain's decibels by `strength`, and its phase too: 0 gives exactly 1, 0.5 makes -10 dB of -20 dB."""
    return with_phase(np.abs(gain) ** np.float32(strength), gain, np.float32(strength))


def limit(gain: Gain, max_attenuation_db: float) -> Gain:
    """Raise every gain to at least -`max_attenuation_db` dB.

    The phase of a vanishing complex gain means nothing, so one that had to be raised is turned back to the noisy phase in the same measure.
    """
    floor = np.float32(10 ** (-max_attenuation_db / 20))
    magnitude = np.abs(gain)
    return with_phase(np.maximum(magnitude, floor), gain, np.minimum(magnitude / floor, np.float32(1)))


def with_phase(magnitude: Array, gain: Gain, share: Array | np.float32) -> Gain:
    """`magnitude`, turned by `share` of the phase angle of `gain` where that is complex."""
    if not np.iscomplexobj(gain):
        return magnitude
    turned: Gain = magnitude * np.exp(np.complex64(1j) * (np.angle(gain) * share))
    return turned
