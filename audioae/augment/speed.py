"""Speech that is faster and higher, or slower and lower."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from audioae.resample import resample
from audioae.spectrogram import Array


@dataclass(frozen=True)
class Speed:
    """Plays speech `factor` times as fast, which raises its pitch and its formants by as much: a voice of another size."""

    factor: float

    @classmethod
    def draw(cls, rng: np.random.Generator, factor: tuple[float, float]) -> Speed:
        """Even over the range in octaves."""
        return cls(float(np.exp(rng.uniform(*np.log(factor)))))

    def needed(self, samples: int) -> int:
        """Samples of speech of which `apply` makes `samples`."""
        return math.ceil(samples * self.factor) + 1

    def apply(self, waveform: Array, samples: int, sample_rate: int) -> Array:
        """The first `samples` of the faster speech; `waveform` has at least `needed(samples)`."""
        return resample(waveform, round(self.factor * sample_rate), sample_rate)[:samples]
