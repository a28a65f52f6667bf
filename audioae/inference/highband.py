"""A gain for what lies above a model's band: the mean gain at the top of the band, smoothed over time."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from audioae.inference.gain import Gain
from audioae.spectrogram import Array, StftSettings

LOWEST, HIGHEST = 0.625, 0.9375  # of the band that file and model share: 5 to 7.5 kHz of 8; above it resamplers roll off
ATTACK_SECONDS = 0.004  # a consonant opens the high band at once
RELEASE_SECONDS = 0.05  # and lets it close slowly, so that it does not flutter


class HighBandGain:
    """The smoothed gain magnitude at the top of a model's band, as a curve over time that can be read at any rate.

    Args:
        stft: of the model.
        sample_rate: of the file, Hz.
    """

    def __init__(self, stft: StftSettings, sample_rate: int) -> None:
        shared = min(sample_rate, stft.sample_rate) / 2
        bins_per_hz = stft.n_fft / stft.sample_rate
        first = round(LOWEST * shared * bins_per_hz)
        self.bins = slice(first, max(first + 1, round(HIGHEST * shared * bins_per_hz)))
        self._hops_per_sample = stft.sample_rate / sample_rate / stft.hop_length
        self._middle = (stft.win_length / 2 - stft.past) / stft.hop_length  # the centre of frame 0, in hops
        hop_seconds = stft.hop_length / stft.sample_rate
        self._attack, self._release = math.exp(-hop_seconds / ATTACK_SECONDS), math.exp(-hop_seconds / RELEASE_SECONDS)
        self._frame = 0  # of the first value that is kept
        self._values: npt.NDArray[np.float32] | None = None  # [channels or 1, frames]

    def add(self, gain: Gain) -> None:
        """Take the gains of the next frames, `[channels or 1, freq, frames]`."""
        if gain.shape[-1]:
            level = np.abs(gain[:, self.bins]).mean(axis=1)
            before = level[:, :1] if self._values is None else self._values
            smooth = np.stack([self._smooth(row, float(previous)) for row, previous in zip(level, before[:, -1], strict=True)])
            self._values = smooth if self._values is None else np.concatenate([self._values, smooth], axis=1)

    def take(self, start: int, samples: int) -> Array:
        """The gain `[channels or 1, samples]` of the file's samples from `start` on; what lies before them is forgotten."""
        assert self._values is not None
        hops = np.arange(start, start + samples) * self._hops_per_sample - self._middle
        frames = np.arange(self._values.shape[1]) + self._frame
        curve = np.stack([np.interp(hops, frames, row) for row in self._values]).astype(np.float32)
        if samples:
            used = min(max(math.floor(hops[-1]) - self._frame, 0), self._values.shape[1] - 1)
            self._values, self._frame = self._values[:, used:], self._frame + used
        return curve

    def _smooth(self, level: Array, value: float) -> Array:
        """Follow `level` from `value` on: quickly up, slowly down."""
        smooth = []
        for target in level.tolist():
            keep = self._attack if target > value else self._release
            value = target + keep * (value - target)
            smooth.append(value)
        return np.array(smooth, np.float32)
