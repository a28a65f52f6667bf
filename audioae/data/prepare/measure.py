"""The same sound is found again after another encoding, level or cut: 32 bits for every 16 ms tell
how its spectrum changes.

After Haitsma and Kalker, "A Highly Robust Audio Fingerprinting System", ISMIR 2002: a bit is the
sign of the difference of neighbouring bands, differenced over time. Equal 32-bit words give
candidates, the share of differing bits around them decides.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from audioae.data.manifest import FULL_SCALE

# of the recording's own peak: clipping stays flat whatever the level was set to afterwards
FLAT_TOP = 0.9995
OFFSET_RATIO = 0.25  # of the RMS, -12 dB; rumble that a short clip cuts in the middle stays below
SILENT_PEAK = 0.01  # of full scale; prepare stores all peaks at 0.9
SILENT_SHARE = 0.9  # of digital silence


@dataclass(frozen=True)
class Measured:
    """What was measured of `[samples]`.

    Args:
        digest: equal for equal samples.
        clipped: share of samples in runs of three or more at the recording's own peak.
        offset: whether a constant is as strong as a quarter of the sound.
        silent: whether it is silent altogether, or nine tenths of it are digital silence.
    """

    digest: str
    clipped: float
    offset: bool
    silent: bool


def measure(samples: npt.NDArray[np.int16]) -> Measured:
    """Measure one recording, `[samples]`."""
    peak = int(np.abs(samples.astype(np.int32)).max())
    digest = hashlib.blake2b(samples.tobytes(), digest_size=16).hexdigest()
    if peak < SILENT_PEAK * FULL_SCALE:
        return Measured(digest, 0.0, False, True)
    wave = samples.astype(np.float32)
    mean, rms = float(wave.mean(dtype=np.float64)), float(np.sqrt((wave**2).mean(dtype=np.float64)))
    silent = np.count_nonzero(samples == 0) > SILENT_SHARE * len(samples)
    return Measured(digest, _clipped(samples, peak), abs(mean) > OFFSET_RATIO * rms, bool(silent))


def _clipped(samples: npt.NDArray[np.int16], peak: int) -> float:
    """Share of samples that begin a run of three on the same side, at the peak."""
    top = FLAT_TOP * peak
    runs = 0
    for full in (samples >= top, samples <= -top):
        runs += int(np.count_nonzero(full[:-2] & full[1:-1] & full[2:]))
    return runs / len(samples)


Bits = npt.NDArray[np.uint32]
HOP_SECONDS, WINDOW_SECONDS = 0.016, 0.064
SMOOTHED_HOPS = 16  # energies are sums over 256 ms, so that a shift of half a hop changes few bits
LAG_HOPS = 8  # differences over 128 ms
LOW_HZ, HIGH_HZ, BANDS = 300.0, 3800.0, 33
BLOCK_FRAMES = 2000
MIN_HOPS = 32  # compared at least, half a second; shorter matches happen by chance
# share of bits; other sounds have 0.5, the same one through a low-rate codec about 0.1
MAX_BIT_ERRORS = 0.2
COMMON = 64  # a word that occurs more often tells nothing
CANDIDATES = 4  # places that are looked at closely for each sound


def fingerprint(samples: npt.NDArray[np.int16], sample_rate: int) -> Bits:
    """`[hops]` of 32 bits; empty for what is shorter than about half a second."""
    energy = np.log(_band_energies(samples, sample_rate))  # hops, BANDS
    slope = np.diff(energy, axis=1)
    bits = slope[LAG_HOPS:] > slope[:-LAG_HOPS]  # hops, 32
    return np.packbits(bits, axis=1).view(">u4")[:, 0].astype(np.uint32)


def _band_energies(samples: npt.NDArray[np.int16], sample_rate: int) -> npt.NDArray[np.float32]:
    """`[hops, BANDS]`, each summed over `SMOOTHED_HOPS` and never zero."""
    hop, size = (
        round(HOP_SECONDS * sample_rate),
        1 << math.ceil(math.log2(WINDOW_SECONDS * sample_rate)),
    )
    if len(samples) < size + (SMOOTHED_HOPS + LAG_HOPS) * hop:
        return np.ones((LAG_HOPS, BANDS), np.float32)
    edges = np.geomspace(LOW_HZ, min(HIGH_HZ, 0.45 * sample_rate), BANDS + 1) * size / sample_rate
    bins = np.rint(edges).astype(int)
    bins = np.maximum(bins, bins[0] + np.arange(BANDS + 1))  # every band has one bin at least
    window = np.hanning(size + 1)[:-1].astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(samples, size)[::hop]
    energies = []
    for start in range(0, len(frames), BLOCK_FRAMES):
        spectrum = np.fft.rfft(
            frames[start : start + BLOCK_FRAMES].astype(np.float32) * window, axis=1
        )
        power = spectrum.real**2 + spectrum.imag**2
        energies.append(np.add.reduceat(power[:, : bins[-1]], bins[:-1], axis=1))
    total = np.cumsum(np.concatenate(energies), axis=0, dtype=np.float64)
    smooth = total[SMOOTHED_HOPS:] - total[:-SMOOTHED_HOPS]
    floored: npt.NDArray[np.float32] = np.maximum(smooth, 1e-7 * smooth.max() + 1.0).astype(
        np.float32
    )
    return floored


@dataclass(frozen=True)
class Match:
    """A known sound, by its place in the index, and the share of bits in which it differs."""

    known: int
    bit_errors: float


class Index:
    """Fingerprints that others are looked up in."""

    def __init__(self, prints: list[Bits]) -> None:
        self.prints = prints
        words = np.concatenate([*prints, np.zeros(0, np.uint32)])
        owners = np.repeat(np.arange(len(prints)), [len(bits) for bits in prints])
        places = np.concatenate([*(np.arange(len(bits)) for bits in prints), np.zeros(0, int)])
        order = np.argsort(words, kind="stable")
        self._words, self._owners, self._places = words[order], owners[order], places[order]

    def find(self, bits: Bits) -> list[Match]:
        """Known sounds that hold half a second or more of this one, the closest first."""
        found: dict[int, float] = {}
        for known, shift in self._candidates(bits):
            errors = _bit_errors(self.prints[known], bits, shift)
            if errors <= MAX_BIT_ERRORS:
                found[known] = min(errors, found.get(known, 1.0))
        return [
            Match(known, errors)
            for known, errors in sorted(found.items(), key=lambda item: item[1])
        ]

    def _candidates(self, bits: Bits) -> list[tuple[int, int]]:
        """Sounds with equal words, and by how many hops they are shifted; the most frequent first."""
        first, last = (np.searchsorted(self._words, bits, side=side) for side in ("left", "right"))
        count = np.where(
            (last - first <= COMMON) & (bits != 0) & (bits != 0xFFFFFFFF), last - first, 0
        )
        if not count.sum():
            return []
        here = np.repeat(np.arange(len(bits)), count)
        ends = np.cumsum(count)
        there = np.arange(ends[-1]) - np.repeat(ends - count, count) + np.repeat(first, count)
        pairs = np.stack([self._owners[there], self._places[there] - here], axis=1)
        unique, times = np.unique(pairs, axis=0, return_counts=True)
        best = np.argsort(-times, kind="stable")[:CANDIDATES]
        return [(int(known), int(shift)) for known, shift in unique[best]]


def _bit_errors(known: Bits, bits: Bits, shift: int) -> float:
    """Share of differing bits where both overlap; 1 where they overlap too little, or in a sound
    that hardly changes.
    """
    start, stop = max(0, shift), min(len(known), len(bits) + shift)
    if stop - start < min(MIN_HOPS, len(bits), len(known)) or stop - start < MIN_HOPS // 2:
        return 1.0
    theirs, ours = known[start:stop], bits[start - shift : stop - shift]
    sounding = (theirs != 0) & (ours != 0)  # all pauses are alike
    theirs, ours = theirs[sounding], ours[sounding]
    if len(ours) < MIN_HOPS // 2 or len(np.unique(ours)) * 3 < len(ours):
        return 1.0
    return float(np.bitwise_count(theirs ^ ours).mean()) / 32
