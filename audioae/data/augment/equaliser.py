"""Random equalisers: magnitude responses of second-order filters, applied with zero phase to whole
segments in the frequency domain.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import fft

from audioae.data.augment.backend import Waves, beside, transforms

BandKind = Literal["peak", "low_shelf", "high_shelf"]
Coefficients = tuple[float, float, float]


@dataclass(frozen=True)
class Band:
    """A second-order filter of R. Bristow-Johnson's "Cookbook formulae for audio equalizer biquad
    filter coefficients".

    Args:
        kind: a peak (or dip), or a shelf below or above its frequency.
        hz: centre frequency of a peak, midpoint frequency of a shelf.
        gain_db: gain of the peak or the shelf.
        q: quality factor as defined there.
    """

    kind: BandKind
    hz: float
    gain_db: float
    q: float

    def coefficients(self, sample_rate: int) -> tuple[Coefficients, Coefficients]:
        """`(b, a)` of H(z) = (b[0] + b[1]/z + b[2]/z^2) / (a[0] + a[1]/z + a[2]/z^2), the same as
        of torchaudio's biquads.
        """
        omega = 2 * math.pi * self.hz / sample_rate
        cosine, alpha = math.cos(omega), math.sin(omega) / (2 * self.q)
        amplitude = 10 ** (self.gain_db / 40)
        if self.kind == "peak":
            middle = -2 * cosine
            return (
                (1 + alpha * amplitude, middle, 1 - alpha * amplitude),
                (1 + alpha / amplitude, middle, 1 - alpha / amplitude),
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

    def polynomials(self, sample_rate: int) -> tuple[Coefficients, Coefficients]:
        """Squared magnitudes of numerator and denominator, each as c[0] + c[1] p + c[2] p^2 with
        p = sin^2(pi hz / sample_rate).
        """
        numerator, denominator = (
            ((x + y + z) ** 2, -4 * (x * y + 4 * x * z + y * z), 16 * x * z)
            for x, y, z in self.coefficients(sample_rate)
        )
        return numerator, denominator


@dataclass(frozen=True)
class Equaliser:
    """One to three peaks or dips and at most one shelf, with zero phase. Applied by `equalise`."""

    bands: tuple[Band, ...]

    @classmethod
    def draw(cls, rng: np.random.Generator, max_db: float, sample_rate: int) -> Equaliser:
        """One to three peaks within `max_db` and, with probability 0.5, a shelf."""
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

    def response(
        self, frequency_hz: npt.NDArray[np.floating[Any]], sample_rate: int
    ) -> npt.NDArray[np.float64]:
        """Linear gain at each frequency `[points]`."""
        phi = np.square(np.sin(np.pi * np.asarray(frequency_hz, np.float64) / sample_rate))
        gains: npt.NDArray[np.float64] = _responses([self], phi, sample_rate)[0]
        return gains


# Not torchaudio.functional or scipy.signal.sosfilt: their phase would shift speech against its
# target. Zero-phase filtering by scipy.signal.sosfiltfilt takes 2.0 times as long (three bands,
# 3 s at 16 kHz), and with a room the spectrum is needed anyway.
def equalise(waveforms: Waves, equalisers: Sequence[Equaliser | None], sample_rate: int) -> Waves:
    """Filter waveforms `[batch, samples]`, each by its own equaliser; None leaves it unchanged."""
    if not any(equalisers):
        return waveforms
    transform, samples = transforms(waveforms), waveforms.shape[-1]
    size = fft.next_fast_len(samples, real=True)
    spectrum = transform.rfft(waveforms, size) * bin_gains(waveforms, equalisers, size, sample_rate)
    equalised: Waves = transform.irfft(spectrum, size)[:, :samples]
    return equalised


def bin_gains(
    waveforms: Any, equalisers: Sequence[Equaliser | None], size: int, sample_rate: int
) -> Any:
    """Linear gains `[batch, size // 2 + 1]` at the bins of an FFT of `size` samples, in the library
    and on the device of `waveforms`.
    """
    return _responses(equalisers, beside(waveforms, _bin_phi(size)), sample_rate)


@lru_cache(maxsize=16)
def _bin_phi(size: int) -> npt.NDArray[np.float32]:
    phi = np.square(np.sin(np.arange(size // 2 + 1) * (np.pi / size)))
    return np.asarray(phi, np.float32)


def _responses(equalisers: Sequence[Equaliser | None], phi: Any, sample_rate: int) -> Any:
    """Linear gains `[batch, points]` at `phi` = sin^2(pi hz / sample_rate), `[points]`."""
    all_bands = [each.bands if each else () for each in equalisers]
    flat = ((1.0, 0.0, 0.0), (1.0, 0.0, 0.0))
    power = beside(phi, np.ones((len(all_bands), 1)))
    for step in range(max(map(len, all_bands), default=0)):
        polynomials = [
            bands[step].polynomials(sample_rate) if step < len(bands) else flat
            for bands in all_bands
        ]
        # batch, numerator and denominator, powers of phi, 1
        c = beside(phi, polynomials)[..., None]
        numerator, denominator = (
            c[:, side, 0] + phi * (c[:, side, 1] + phi * c[:, side, 2]) for side in (0, 1)
        )
        power = power * (numerator / denominator)
    return power.clip(min=0) ** 0.5
