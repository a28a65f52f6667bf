"""Meters of a live session that may last for days: levels since they were last read, and how long blocks take; memory stays constant."""

from __future__ import annotations

import math

import numpy as np

from audioae.spectrogram import Array

SILENT_DBFS = -120.0  # what silence counts as
SHORTEST, LONGEST = 1e-6, 100.0  # seconds that blocks are told apart between
STEPS = 100  # of the histogram, per factor of e: each 1 % longer than the one before


class LevelMeter:
    """The RMS levels before and after cleaning of what came since they were last taken."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._before = self._after = 0.0
        self._samples = 0

    def add(self, noisy: Array, enhanced: Array) -> None:
        """Take the same moments before and after, `[channels, samples]`."""
        self._before += float(np.square(noisy, dtype=np.float64).sum())
        self._after += float(np.square(enhanced, dtype=np.float64).sum())
        self._samples += noisy.size

    def take(self) -> tuple[float, float]:
        """The levels before and after, dBFS; the next ones are those of what comes from now on."""
        levels = to_dbfs(self._before, self._samples), to_dbfs(self._after, self._samples)
        self._reset()
        return levels


def to_dbfs(power: float, samples: int) -> float:
    """The RMS level of a sum of squares, dBFS, not below `SILENT_DBFS`."""
    mean = power / samples if samples else 0.0
    return max(10 * math.log10(mean), SILENT_DBFS) if mean > 0 else SILENT_DBFS


class TimeMeter:
    """Percentiles of durations, to 1 %."""

    def __init__(self) -> None:
        self._counts = np.zeros(math.ceil(STEPS * math.log(LONGEST / SHORTEST)) + 1, np.int64)

    def add(self, seconds: float) -> None:
        """Count one duration."""
        index = round(STEPS * math.log(min(max(seconds, SHORTEST), LONGEST) / SHORTEST))
        self._counts[index] += 1

    def percentile(self, percent: float) -> float:
        """The duration, seconds, that so many percent of all do not exceed; 0 where there were none."""
        total = int(self._counts.sum())
        if not total:
            return 0.0
        index = int(np.searchsorted(self._counts.cumsum(), max(percent / 100 * total, 1)))
        return SHORTEST * math.exp(index / STEPS)
