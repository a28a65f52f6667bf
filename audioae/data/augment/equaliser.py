"""Random equalisers: the magnitude responses of second-order filters, applied to a whole segment in
the frequency domain.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BandKind = Literal["peak", "low_shelf", "high_shelf"]
# above the first, responses are evaluated in such steps and joined by lines
COARSE_HZ, STEP_HZ = 1000.0, 8.0


@dataclass(frozen=True)
class Band:
    """A second-order filter of R. Bristow-Johnson's "Cookbook formulae for audio equalizer biquad
    filter coefficients".

    Args:
        kind: a peak (or dip), or a shelf below or above its frequency.
        hz: centre of a peak, middle of a shelf. gain_db: of the peak or of the shelf. q: quality,
            as in the cookbook.
    """

    kind: BandKind
    hz: float
    gain_db: float
    q: float

    def coefficients(
        self, sample_rate: int
    ) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        """`(b, a)` of the filter, b[0] + b[1] / z + b[2] / z^2 over the same of a, those of
        torchaudio's biquads.
        """
        omega = 2 * math.pi * self.hz / sample_rate
        cosine, alpha, amplitude = (
            math.cos(omega),
            math.sin(omega) / (2 * self.q),
            10 ** (self.gain_db / 40),
        )
        if self.kind == "peak":
            middle = -2 * cosine
            return (1 + alpha * amplitude, middle, 1 - alpha * amplitude), (
                1 + alpha / amplitude,
                middle,
                1 - alpha / amplitude,
            )
        sign = 1.0 if self.kind == "low_shelf" else -1.0
        up, down, slope = amplitude + 1, amplitude - 1, 2 * math.sqrt(amplitude) * alpha
        b = (
            amplitude * (up - sign * down * cosine + slope),
            sign * 2 * amplitude * (down - sign * up * cosine),
            amplitude * (up - sign * down * cosine - slope),
        )
        a = (
            up + sign * down * cosine + slope,
            -sign * 2 * (down + sign * up * cosine),
            up + sign * down * cosine - slope,
        )
        return b, a

    def polynomials(
        self, sample_rate: int
    ) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        """Of numerator and denominator, the squared magnitude as c[0] + c[1] p + c[2] p^2 with p =
        sin^2(pi hz / sample_rate).
        """
        numerator, denominator = (
            ((x + y + z) ** 2, -4 * (x * y + 4 * x * z + y * z), 16 * x * z)
            for x, y, z in self.coefficients(sample_rate)
        )
        return numerator, denominator


@dataclass(frozen=True)
class Equaliser:
    """Up to three peaks or dips and a shelf, as a magnitude response without phase.

    Why not filters in time: their recursion runs sample by sample, 2 ms a band and 3 s of audio,
    while the spectrum is at hand where a room is applied anyway, and a product over its bins costs
    a tenth. Without phase, speech and target stay aligned to the sample.
    """

    bands: tuple[Band, ...]

    @classmethod
    def draw(cls, rng: np.random.Generator, max_db: float, sample_rate: int) -> Equaliser:
        """One to three bands within `max_db` and, half the time, a shelf."""
        highest = 0.45 * sample_rate
        peaks = [
            Band(
                "peak",
                float(2 ** rng.uniform(6, math.log2(highest))),
                float(rng.uniform(-max_db, max_db)),
                float(rng.uniform(0.4, 3.0)),
            )
            for _ in range(rng.integers(1, 4))
        ]
        if rng.random() < 0.5:
            kind: BandKind = "low_shelf" if rng.random() < 0.5 else "high_shelf"
            hz = float(2 ** rng.uniform(7, math.log2(sample_rate / 3)))
            peaks.append(Band(kind, hz, float(rng.uniform(-max_db, max_db)), math.sqrt(0.5)))
        return cls(tuple(peaks))

    def response(self, frequency_hz: npt.NDArray[np.floating[Any]], sample_rate: int) -> FloatArray:
        """Linear gain at each frequency."""
        phi: FloatArray = np.square(
            np.sin(np.pi * np.asarray(frequency_hz, np.float64) / sample_rate)
        )
        power: FloatArray = np.ones_like(phi)
        for band in self.bands:
            (b0, b1, b2), (a0, a1, a2) = band.polynomials(sample_rate)
            power *= (b0 + phi * (b1 + phi * b2)) / (a0 + phi * (a1 + phi * a2))
        return np.sqrt(np.maximum(power, 0))

    def bins(self, size: int, sample_rate: int) -> npt.NDArray[np.float32]:
        """Linear gain at the bins of a real transform of `size` samples."""
        hz, coarse = _grid(size, sample_rate)
        return np.interp(hz, hz[coarse], self.response(hz[coarse], sample_rate)).astype(np.float32)


@lru_cache(maxsize=16)
def _grid(size: int, sample_rate: int) -> tuple[FloatArray, npt.NDArray[np.intp]]:
    """The bins of a transform, Hz, and those at which a response is evaluated: the others lie
    between them on a line (error < 0.05 dB).
    """
    hz: FloatArray = np.arange(size // 2 + 1, dtype=np.float64) * (sample_rate / size)
    fine = np.searchsorted(hz, COARSE_HZ)
    step = max(1, int(STEP_HZ * size / sample_rate))
    coarse = np.unique(
        np.concatenate([np.arange(fine), np.arange(fine, len(hz), step), [len(hz) - 1]])
    ).astype(np.intp)
    return hz, coarse
