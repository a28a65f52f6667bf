"""How speech and noise are combined: ratio and level, muted stretches, and noises exchanged
within a batch.

The functions take a batch of waveforms `[batch, samples]`, as a NumPy array or a torch tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from audioae.data.augment.backend import Waves, beside, namespace
from audioae.signal.mixing import ACTIVE_RANGE_DB

CHUNK_SAMPLES = 320


@dataclass(frozen=True)
class SignalToNoise:
    """The ratio of the active levels of speech and noise, dB; None: no noise is added.

    Applied by `mix_at_ratios`.
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
        """Uniform in `snr_db`; with probability `easy` uniform in `easy_snr_db`, and half of those
        without noise.
        """
        if rng.random() < easy:
            ratio = float(rng.uniform(*easy_snr_db))
            return cls(ratio if rng.random() < 0.5 else None)
        return cls(float(rng.uniform(*snr_db)))


def mix_at_ratios(
    speech: Waves, noise: Waves, snr_db: Sequence[float | None], sample_rate: int
) -> Waves:
    """Add noise to speech at given ratios of active levels.

    Args:
        speech, noise: `[batch, samples]`.
        snr_db: one ratio per mixture, dB; None adds no noise.

    Returns:
        The mixtures, `[batch, samples]`. Where one side is digital silence there is no ratio, and
        no noise is added.
    """
    ratios = beside(speech, [0.0 if snr is None else 10 ** (-snr / 20) for snr in snr_db])
    noise_level = active_rms(noise, sample_rate)
    is_silent = noise_level == 0
    factor = active_rms(speech, sample_rate) * ratios / (noise_level + is_silent)
    mixed: Waves = speech + noise * (factor * ~is_silent)[:, None]
    return mixed


def active_rms(waveforms: Waves, sample_rate: int) -> Waves:
    """`audioae.signal.mixing.active_rms` of every waveform `[batch, samples]`: `[batch]`."""
    frame = min(max(1, sample_rate // 50), waveforms.shape[-1])
    power = _energies(waveforms, frame) / frame  # batch, frames
    loudest = namespace(waveforms).amax(power, -1, keepdims=True)
    active = power >= loudest * 10 ** (-ACTIVE_RANGE_DB / 10)
    # the dtype: NumPy divides float32 by integers in double precision
    level: Waves = ((power * active).sum(-1) / active.sum(-1, dtype=power.dtype)) ** 0.5
    return level


def rms(waveforms: Waves) -> Waves:
    """Root mean square of every waveform `[batch, samples]`: `[batch]`."""
    samples = waveforms.shape[-1]
    rest = waveforms[:, samples // CHUNK_SAMPLES * CHUNK_SAMPLES :]
    energy = _energies(waveforms, CHUNK_SAMPLES).sum(-1) + (rest * rest).sum(-1)
    level: Waves = (energy / samples) ** 0.5
    return level


def _energies(waveforms: Waves, chunk: int) -> Any:
    """Sums of squares of consecutive chunks, `[batch, chunks]`, of the whole ones only. A sum in
    single precision over all samples at once would be less exact.
    """
    whole = waveforms.shape[-1] // chunk * chunk
    chunks = waveforms[:, :whole].reshape(len(waveforms), -1, chunk)
    return namespace(waveforms).einsum("bcn,bcn->bc", chunks, chunks)


@dataclass(frozen=True)
class Level:
    """The RMS level of a mixture, dBFS. Applied by `set_levels`."""

    dbfs: float

    @classmethod
    def draw(cls, rng: np.random.Generator, dbfs: tuple[float, float]) -> Level:
        """Uniform in the range."""
        return cls(float(rng.uniform(*dbfs)))


def set_levels(noisy: Waves, clean: Waves, levels: Sequence[Level]) -> tuple[Waves, Waves]:
    """Scale every mixture to its level, and its target by the same factor.

    Args:
        noisy, clean: `[batch, samples]`.
        levels: one per mixture.

    Returns:
        `(noisy, clean)`, each `[batch, samples]`. Silence stays silent.
    """
    wanted = beside(noisy, [10 ** (level.dbfs / 20) for level in levels])
    factor = (wanted / rms(noisy).clip(min=1e-9))[:, None]
    return noisy * factor, clean * factor


@dataclass(frozen=True)
class Silence:
    """A stretch of digital silence in mixture and target, as left by gates, mute buttons and
    editors.

    Args:
        start, length: as fractions of the segment, 0..1.
    """

    start: float
    length: float

    @classmethod
    def draw(
        cls, rng: np.random.Generator, seconds: tuple[float, float], segment_seconds: float
    ) -> Silence:
        """`seconds` long, at most half of the segment; it may touch either end of the segment."""
        length = min(0.5, float(rng.uniform(*seconds)) / segment_seconds)
        return cls(min(1 - length, max(0.0, float(rng.uniform(-0.2, 1.2 - length)))), length)

    def apply(self, noisy: Waves, clean: Waves) -> tuple[Waves, Waves]:
        """Mute the stretch in both, each `[..., samples]`."""
        start = round(self.start * noisy.shape[-1])
        end = start + round(self.length * noisy.shape[-1])
        keep = np.ones(noisy.shape[-1], np.float32)
        keep[start:end] = 0
        mask = beside(noisy, keep)
        return noisy * mask, clean * mask


@dataclass(frozen=True)
class Remix:
    """The noises of a batch are exchanged (Défossez et al. 2020): mixture i gets the noise of
    mixture `order[i]`.

    Noise is all that is not in the target, late reflections and clipping included.
    """

    order: tuple[int, ...]

    @classmethod
    def draw(cls, rng: np.random.Generator, size: int) -> Remix:
        """A random permutation of `size` mixtures."""
        return cls(tuple(map(int, rng.permutation(size))))

    def apply(self, noisy: Waves, clean: Waves) -> Waves:
        """The new mixtures; all are `[batch, samples]`."""
        remixed: Waves = clean + (noisy - clean)[list(self.order)]
        return remixed
