"""Effects on the playback of a recording: speed for speech, reversal and shuffled grains for
noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from audioae.data.augment.channel import BandLimit
from audioae.signal.resample import resample
from audioae.signal.spectrogram import Array


@dataclass(frozen=True)
class Speed:
    """Plays speech `factor` times as fast by resampling, which scales pitch and formants too."""

    factor: float

    @classmethod
    def draw(cls, rng: np.random.Generator, factor: tuple[float, float]) -> Speed:
        """Uniform in the range on a logarithmic scale."""
        return cls(float(np.exp(rng.uniform(*np.log(factor)))))

    def needed(self, samples: int) -> int:
        """Number of input samples that `apply` needs for `samples` output samples."""
        return math.ceil(samples * self.factor) + 1

    def apply(self, waveform: Array, samples: int, sample_rate: int) -> Array:
        """The first `samples` samples at the new speed; `waveform` has at least
        `needed(samples)` samples.
        """
        return resample(waveform, round(self.factor * sample_rate), sample_rate)[:samples]


LEFT_DB = -50.0  # what a low-pass leaves of a noise above its cut-off
FADE_SHARE = 0.2  # of a grain, over which it fades into the next one


@dataclass(frozen=True)
class Variation:
    """Makes other noise of the same kind from recorded noise: reversed in time, or cut into grains
    that are joined in random order.

    Args:
        backwards: whether the noise is reversed in time.
        grain_seconds: length of the grains; None: no grains.
        seed: for the order of the grains.
        cutoff_hz: of a low-pass, so that a network does not infer noise in one band from another;
            None: none.
    """

    backwards: bool
    grain_seconds: float | None
    seed: int
    cutoff_hz: float | None = None

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Variation:
        """Reversed with probability 0.5; grains of 0.05 to 1 s with probability 0.5; a low-pass at
        1.5 to 15 kHz with probability 0.3.
        """
        grain = float(10 ** rng.uniform(-1.3, 0)) if rng.random() < 0.5 else None
        backwards, seed = bool(rng.random() < 0.5), int(rng.integers(1 << 32))
        cutoff = float(np.exp(rng.uniform(*np.log([1500, 15000])))) if rng.random() < 0.3 else None
        return cls(backwards, grain, seed, cutoff)

    def apply(self, noise: Array, sample_rate: int) -> Array:
        """Vary `noise` `[samples]`; the length stays the same."""
        played = noise[::-1] if self.backwards else noise
        if self.cutoff_hz is not None and self.cutoff_hz < 0.45 * sample_rate:
            limited = BandLimit(self.cutoff_hz).apply(played, sample_rate)
            played = limited + np.float32(10 ** (LEFT_DB / 20)) * played
        if self.grain_seconds is None:
            return np.ascontiguousarray(played)
        return self._shuffled(played, max(16, round(self.grain_seconds * sample_rate)))

    def _shuffled(self, noise: Array, grain: int) -> Array:
        """Grains in random order with equal-power cross-fades."""
        samples, fade = len(noise), max(1, round(FADE_SHARE * grain))
        rng = np.random.default_rng(self.seed)
        starts = rng.integers(0, max(1, samples - grain - fade), -(-samples // grain))
        rise = np.sqrt(np.linspace(0, 1, fade, dtype=np.float32))
        shuffled = np.zeros(samples + grain + fade, np.float32)
        for number, start in enumerate(starts):
            piece = noise[start : start + grain + fade].copy()
            piece[:fade] *= rise[: len(piece)]
            piece[-fade:] *= rise[::-1][-len(piece) :]
            shuffled[number * grain : number * grain + len(piece)] += piece
        return shuffled[:samples]
