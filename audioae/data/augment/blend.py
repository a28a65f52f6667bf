"""How speech and noise come together: at which ratio and level, with which stretches of silence,
and once more across a batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from audioae.signal.mixing import active_rms, noise_scale, rms
from audioae.signal.spectrogram import Array


@dataclass(frozen=True)
class SignalToNoise:
    """Adds noise at a ratio of active levels, dB; None adds none. A silent crop of noise has no
    level and counts as no noise.
    """

    snr_db: float | None

    @classmethod
    def draw(
        cls,
        rng: np.random.Generator,
        snr_db: tuple[float, float],
        easy: float = 0.0,
        easy_snr_db: tuple[float, float] = (20.0, 40.0),
    ) -> SignalToNoise:
        """Out of `snr_db`; with the probability `easy` out of `easy_snr_db`, half of those without
        noise.
        """
        if rng.random() < easy:
            ratio = float(rng.uniform(*easy_snr_db))
            return cls(ratio if rng.random() < 0.5 else None)
        return cls(float(rng.uniform(*snr_db)))

    def apply(self, speech: Array, noise: Array, sample_rate: int) -> Array:
        """The mixture `[samples]`; where the speech is silent, the speech."""
        if (
            self.snr_db is None
            or not active_rms(noise, sample_rate)
            or not active_rms(speech, sample_rate)
        ):
            return speech
        return speech + noise * noise_scale(
            speech, noise, snr_db=self.snr_db, sample_rate=sample_rate
        )


@dataclass(frozen=True)
class Level:
    """Brings a mixture to an RMS level, dB of full scale, and its target by the same factor."""

    dbfs: float

    @classmethod
    def draw(cls, rng: np.random.Generator, dbfs: tuple[float, float]) -> Level:
        """Even over the range."""
        return cls(float(rng.uniform(*dbfs)))

    def apply(self, noisy: Array, clean: Array) -> tuple[Array, Array]:
        """Both `[samples]`; silence stays silent."""
        factor = np.float32(10 ** (self.dbfs / 20) / max(rms(noisy), 1e-9))
        return noisy * factor, clean * factor


@dataclass(frozen=True)
class Silence:
    """A stretch of digital silence in mixture and target, as gates, mute buttons and editors leave
    it.

    Args:
        start, length: as shares of the segment, 0..1.
    """

    start: float
    length: float

    @classmethod
    def draw(
        cls, rng: np.random.Generator, seconds: tuple[float, float], segment_seconds: float
    ) -> Silence:
        """`seconds` long, half the segment at most; it may begin with the segment or end with it."""
        length = min(0.5, float(rng.uniform(*seconds)) / segment_seconds)
        return cls(min(1 - length, max(0.0, float(rng.uniform(-0.2, 1.2 - length)))), length)

    def apply(self, *waveforms: Array) -> tuple[Array, ...]:
        """Each `[..., samples]`."""
        muted = tuple(waveform.copy() for waveform in waveforms)
        for waveform in muted:
            start = round(self.start * waveform.shape[-1])
            waveform[..., start : start + round(self.length * waveform.shape[-1])] = 0
        return muted


@dataclass(frozen=True)
class Remix:
    """The noises of a batch change places among its mixtures (Defossez et al. 2020): mixture i gets
    the noise of mixture `order[i]`.

    Whatever is not speech goes along, late reflections and clipping included.
    """

    order: tuple[int, ...]

    @classmethod
    def draw(cls, rng: np.random.Generator, size: int) -> Remix:
        """Any order."""
        return cls(tuple(map(int, rng.permutation(size))))

    def apply(self, noisy: Array, clean: Array) -> Array:
        """The new mixtures; all `[batch, samples]`."""
        return clean + (noisy - clean)[list(self.order)]
