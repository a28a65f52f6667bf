"""How much of clean speech is left in an enhanced recording, in frames where it is easily lost.

With E and S the spectra of the enhanced and of the clean recording, frames of 20 ms every 10 ms,
what is left in the frames T and band F is

    kept = sum over t in T of Re<E_t, S_t> / |S_t|  /  sum over t in T of |S_t|,
    <E_t, S_t> = sum over f in F of E_tf conj(S_tf)

and its attenuation -20 log10(kept) dB. It is the part of the output that is the clean speech: noise
that is left has nothing to do with S and takes no part in it, so a recording that nothing was done
to has lost 0 dB at any ratio. Frames count by their amplitude, not by their power, so that vowels
do not drown the rest. Speech that comes back in another phase counts as lost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from audioae.signal.spectrogram import Array, ComplexArray, StftSettings, stft

Mask = npt.NDArray[np.bool_]
Band = tuple[float, float]

WHOLE, SPEECH, HIGH = (100.0, 8000.0), (300.0, 3400.0), (3000.0, 8000.0)  # Hz
ACTIVE_DB = 30.0  # frames this close to the 95th percentile of the levels are active
PAUSE_FRAMES, ONSET_FRAMES = 20, 5  # 200 ms without an active frame; the 50 ms after them
MOST_DB = 60.0  # of attenuation, that is told


@dataclass(frozen=True)
class Frames:
    """Frames `[frames]` of a clean recording: with speech; right after a pause; with speech whose
    high band is the stronger one.
    """

    active: Mask
    onset: Mask
    consonant: Mask


@dataclass(frozen=True)
class Kept:
    """What is left of `whole`, summed over `frames` frames; sums of several recordings add up."""

    left: float = 0.0
    whole: float = 0.0
    frames: int = 0

    def __add__(self, other: Kept) -> Kept:
        return Kept(self.left + other.left, self.whole + other.whole, self.frames + other.frames)

    @property
    def attenuation_db(self) -> float | None:
        """Positive where speech is lost; None without frames."""
        if not self.whole:
            return None
        return -20 * math.log10(max(self.left / self.whole, 10 ** (-MOST_DB / 20)))


def spectrum(waveform: Array, sample_rate: int) -> ComplexArray:
    """Frames of 20 ms every 10 ms, `[freq, frames]`."""
    hop = sample_rate // 100
    return stft(waveform, StftSettings(sample_rate, 2 * hop, hop, 2 * hop))


def find_frames(clean: ComplexArray, sample_rate: int) -> Frames:
    """The frames of clean speech `[freq, frames]`."""
    power = _power(clean, WHOLE, sample_rate)
    active: Mask = (power > 0) & (power >= np.percentile(power, 95) * 10 ** (-ACTIVE_DB / 10))
    before = np.concatenate([[0], np.cumsum(active)])  # active frames before each
    onset = np.zeros_like(active)
    for start in (
        np.flatnonzero(
            active[PAUSE_FRAMES:] & (before[PAUSE_FRAMES:-1] == before[: -PAUSE_FRAMES - 1])
        )
        + PAUSE_FRAMES
    ):
        onset[start : start + ONSET_FRAMES] = True
    consonant = _power(clean, HIGH, sample_rate) > _power(clean, (WHOLE[0], HIGH[0]), sample_rate)
    return Frames(active, onset & active, consonant & active)


def kept(
    enhanced: ComplexArray, clean: ComplexArray, frames: Mask, band: Band, sample_rate: int
) -> Kept:
    """What is left of the clean speech `[freq, frames]` in those frames and that band; see the top
    of the module.
    """
    bins = _bins(clean, band, sample_rate)
    product = (enhanced[bins] * clean[bins].conj()).real.sum(axis=0, dtype=np.float64)
    size = np.sqrt(_power(clean, band, sample_rate))
    there = frames & (size > 0)
    return Kept(
        float((product[there] / size[there]).sum()), float(size[there].sum()), int(there.sum())
    )


def level_change_db(enhanced: ComplexArray, clean: ComplexArray, frames: Mask) -> float:
    """The level of the enhanced recording over that of the clean one in those frames, dB."""
    before, after = (
        float((np.abs(each[:, frames]) ** 2).sum(dtype=np.float64)) for each in (clean, enhanced)
    )
    return max(10 * math.log10(max(after, 1e-30) / before), -MOST_DB)


def _power(values: ComplexArray, band: Band, sample_rate: int) -> npt.NDArray[np.float64]:
    power: npt.NDArray[np.float64] = (np.abs(values[_bins(values, band, sample_rate)]) ** 2).sum(
        axis=0, dtype=np.float64
    )
    return power


def _bins(values: ComplexArray, band: Band, sample_rate: int) -> slice:
    """The bins of `[freq, frames]` from one frequency up to another."""
    low, high = (math.ceil(hertz / (sample_rate / 2) * (len(values) - 1)) for hertz in band)
    return slice(low, high)
