"""Synthetic noise: coloured, with the spectrum of a recording, hum, clicks, fans, wind, music. Each
record renders `[samples]` with an RMS of 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft

from audioae.signal.mixing import coloured_noise, rms, shaped_noise
from audioae.signal.spectrogram import Array

SMOOTH_BINS = 33


@dataclass(frozen=True)
class ColouredNoise:
    """Gaussian noise with power ~ 1 / f^exponent: 0 white, 1 pink, 2 brown, below 0 blue."""

    exponent: float
    seed: int

    @classmethod
    def draw(cls, rng: np.random.Generator) -> ColouredNoise:
        """From blue to brown."""
        return cls(float(rng.uniform(-1, 2)), _seed(rng))

    def apply(self, samples: int, sample_rate: int) -> Array:
        """`[samples]`."""
        return coloured_noise(np.random.default_rng(self.seed), samples, exponent=self.exponent)


@dataclass(frozen=True)
class ShapedNoise:
    """Stationary Gaussian noise with the smoothed spectrum of a recording."""

    seed: int

    @classmethod
    def draw(cls, rng: np.random.Generator) -> ShapedNoise:
        """A seed."""
        return cls(_seed(rng))

    def apply(self, recording: Array) -> Array:
        """Noise `[samples]` like the recording `[samples]`; silence for a silent recording."""
        magnitude = np.abs(fft.rfft(recording))
        sums = np.cumsum(
            np.pad(magnitude, (SMOOTH_BINS // 2 + 1, SMOOTH_BINS // 2)), dtype=np.float64
        )
        smooth = np.maximum(sums[SMOOTH_BINS:] - sums[:-SMOOTH_BINS], 0).astype(np.float32)
        return _shaped(self.seed, recording.shape[-1], smooth)


@dataclass(frozen=True)
class Hum:
    """Mains hum: harmonics of 50 or 60 Hz over white noise.

    Args:
        hz: mains frequency.
        levels_db, phases: of each harmonic, dB and radians, from the first on.
        floor_db: RMS of the white noise, dB.
        seed: for the white noise.
    """

    hz: float
    levels_db: tuple[float, ...]
    phases: tuple[float, ...]
    floor_db: float
    seed: int

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Hum:
        """4 to 20 harmonics, the even ones often weaker; the frequency is within 0.2 %."""
        hz = float(rng.choice([50.0, 60.0]) * rng.uniform(0.998, 1.002))
        count, tilt, even_db = int(rng.integers(4, 21)), rng.uniform(3, 9), rng.uniform(-15, 3)
        levels = [
            float(-tilt * math.log2(k) + rng.normal(0, 4) + (even_db if k % 2 == 0 else 0))
            for k in range(1, count + 1)
        ]
        return cls(
            hz,
            tuple(levels),
            tuple(map(float, rng.uniform(0, 2 * math.pi, count))),
            float(rng.uniform(-60, -25)),
            _seed(rng),
        )

    def apply(self, samples: int, sample_rate: int) -> Array:
        """`[samples]`; harmonics above the Nyquist frequency are left out."""
        turns = np.arange(samples) * (self.hz / sample_rate)
        # single precision holds a turn, not thousands of them
        first = (2 * math.pi * (turns - np.floor(turns))).astype(np.float32)
        hum = _normal(self.seed, samples) * np.float32(10 ** (self.floor_db / 20))
        for number, (level_db, phase) in enumerate(
            zip(self.levels_db, self.phases, strict=True), start=1
        ):
            if number * self.hz < sample_rate / 2:
                hum += np.float32(10 ** (level_db / 20)) * np.sin(
                    number * first + np.float32(phase)
                )
        return _unit(hum)


@dataclass(frozen=True)
class Clicks:
    """Clicks (few, loud) or crackle (many, at very different levels): short decaying resonances at
    random times.

    Args:
        rate: clicks per second.
        spread_db: standard deviation of their levels, dB.
        ring_hz, decay: frequency and time constant of the resonance, Hz and seconds.
        seed: for times and levels.
    """

    rate: float
    spread_db: float
    ring_hz: float
    decay: float
    seed: int

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Clicks:
        """Clicks (0.5 to 5 per second) or crackle (20 to 300), equally often."""
        crackle = rng.random() < 0.5
        rate = float(rng.uniform(20, 300) if crackle else rng.uniform(0.5, 5))
        return cls(
            rate,
            10.0 if crackle else 3.0,
            float(rng.uniform(500, 6000)),
            float(10 ** rng.uniform(-3.7, -2.3)),
            _seed(rng),
        )

    def apply(self, samples: int, sample_rate: int) -> Array:
        """`[samples]`, with at least one click."""
        rng = np.random.default_rng(self.seed)
        count = max(1, int(rng.poisson(self.rate * samples / sample_rate)))
        train = np.zeros(samples, np.float32)
        levels = 10 ** (rng.normal(0, self.spread_db, count) / 20) * rng.choice([-1.0, 1.0], count)
        np.add.at(train, rng.integers(0, samples, count), levels.astype(np.float32))
        time = np.arange(min(samples, math.ceil(7 * self.decay * sample_rate))) / sample_rate
        ring = (
            np.exp(-time / self.decay)
            * np.cos(2 * np.pi * min(self.ring_hz, 0.45 * sample_rate) * time)
        ).astype(np.float32)
        size = fft.next_fast_len(samples + len(ring), real=True)
        return _unit(fft.irfft(fft.rfft(train, size) * fft.rfft(ring, size), size)[:samples])


@dataclass(frozen=True)
class Fan:
    """A fan or a motor: low-frequency noise and harmonics of the blade frequency, slowly modulated.

    Args:
        blade_hz: blade-pass frequency.
        tones_db: RMS of each harmonic relative to the noise, dB, from the first on.
        exponent: the noise has power ~ 1 / f^exponent.
        sway, sway_hz: depth (0..1) and frequency of the amplitude modulation.
        seed: for the noise.
    """

    blade_hz: float
    tones_db: tuple[float, ...]
    exponent: float
    sway: float
    sway_hz: float
    seed: int

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Fan:
        """A blade frequency of 40 to 400 Hz and 2 to 6 harmonics."""
        tones = tuple(float(rng.uniform(-25, 3) - 4 * k) for k in range(rng.integers(2, 7)))
        return cls(
            float(rng.uniform(40, 400)),
            tones,
            float(rng.uniform(0.7, 1.8)),
            float(rng.uniform(0, 0.3)),
            float(rng.uniform(0.3, 8)),
            _seed(rng),
        )

    def apply(self, samples: int, sample_rate: int) -> Array:
        """`[samples]`."""
        hz = np.arange(samples // 2 + 1, dtype=np.float32) * np.float32(sample_rate / samples)
        noise = _shaped(
            self.seed, samples, np.exp(np.log(np.maximum(hz, 30)) * np.float32(-self.exponent / 2))
        )
        turns = np.arange(samples) * (self.blade_hz / sample_rate)
        first = (2 * math.pi * (turns - np.floor(turns))).astype(np.float32)
        for number, level_db in enumerate(self.tones_db, start=1):
            if number * self.blade_hz < sample_rate / 2:
                noise += np.float32(math.sqrt(2) * 10 ** (level_db / 20)) * np.sin(number * first)
        time = np.arange(samples, dtype=np.float32) * np.float32(
            2 * math.pi * self.sway_hz / sample_rate
        )
        return _unit(noise * (1 + np.float32(self.sway) * np.sin(time)))


@dataclass(frozen=True)
class Wind:
    """Wind on a microphone: noise below a few hundred Hz whose level varies in gusts.

    Args:
        corner_hz: corner frequency of the low-pass (12 dB per octave).
        gusts_hz, gust_db: rate of the gusts and standard deviation of their level, dB.
        seed: for noise and gusts.
    """

    corner_hz: float
    gusts_hz: float
    gust_db: float
    seed: int

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Wind:
        """Gusts with a standard deviation of 3 to 9 dB."""
        return cls(
            float(rng.uniform(80, 400)),
            float(rng.uniform(0.3, 3)),
            float(rng.uniform(3, 9)),
            _seed(rng),
        )

    def apply(self, samples: int, sample_rate: int) -> Array:
        """`[samples]`."""
        hz = np.arange(samples // 2 + 1, dtype=np.float32) * np.float32(sample_rate / samples)
        noise = _shaped(self.seed, samples, 1 / (1 + np.square(hz / np.float32(self.corner_hz))))
        rng = np.random.default_rng([self.seed, 1])
        gusts = rng.normal(
            0, self.gust_db, math.ceil(samples / sample_rate * self.gusts_hz * 2) + 2
        )
        places = np.arange(samples, dtype=np.float32) * np.float32(2 * self.gusts_hz / sample_rate)
        level_db = np.interp(places, np.arange(len(gusts)), gusts).astype(np.float32)
        return _unit(noise * np.exp(level_db * np.float32(math.log(10) / 20)))


@dataclass(frozen=True)
class Melody:
    """Synthetic music: overlapping notes with harmonics, each with an attack and a decay.

    Args:
        notes_per_second: mean number of note onsets per second.
        lowest_hz, octaves: lowest fundamental, and the range above it.
        harmonics: number of partials of a note.
        tilt_db: decrease of the partials per octave, dB.
        decay: time constant of a note, seconds.
        seed: for times, pitches and levels.
    """

    notes_per_second: float
    lowest_hz: float
    octaves: float
    harmonics: int
    tilt_db: float
    decay: float
    seed: int

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Melody:
        """1 to 16 notes per second."""
        return cls(
            float(2 ** rng.uniform(0, 4)),
            float(rng.uniform(55, 220)),
            float(rng.uniform(1, 4)),
            int(rng.integers(1, 13)),
            float(rng.uniform(3, 12)),
            float(10 ** rng.uniform(-1.3, 0.3)),
            _seed(rng),
        )

    def apply(self, samples: int, sample_rate: int) -> Array:
        """`[samples]`; partials above the Nyquist frequency are left out."""
        rng = np.random.default_rng(self.seed)
        music = np.zeros(samples, np.float32)
        seconds = samples / sample_rate
        for _ in range(1 + int(rng.poisson(self.notes_per_second * (seconds + 1)))):
            first = max(0, round(rng.uniform(-1, seconds) * sample_rate))
            semitone = int(rng.integers(0, 1 + round(12 * self.octaves)))
            level_db = float(rng.normal(0, 4))
            self._add_note(
                music[first:], self.lowest_hz * 2 ** (semitone / 12), level_db, sample_rate
            )
        return _unit(music)

    def _add_note(self, music: Array, hz: float, level_db: float, sample_rate: int) -> None:
        """Add one note at the beginning of `music`."""
        length = min(len(music), math.ceil(5 * self.decay * sample_rate))
        time = np.arange(length, dtype=np.float32) / np.float32(sample_rate)
        envelope = np.minimum(time / np.float32(0.01), 1) * np.exp(-time / np.float32(self.decay))
        note = np.zeros(length, np.float32)
        for number in range(1, self.harmonics + 1):
            if number * hz < 0.45 * sample_rate:
                gain = 10 ** ((level_db - self.tilt_db * math.log2(number)) / 20)
                note += np.float32(gain) * np.sin(np.float32(2 * math.pi * number * hz) * time)
        music[:length] += note * envelope


MadeNoise = ColouredNoise | Hum | Clicks | Fan | Wind | Melody


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(1 << 32))


def _normal(seed: int, samples: int) -> Array:
    return np.random.default_rng(seed).standard_normal(samples, np.float32)


def _unit(noise: Array) -> Array:
    return noise / np.float32(max(rms(noise), 1e-12))


def _shaped(seed: int, samples: int, magnitude: npt.NDArray[np.float32]) -> Array:
    return shaped_noise(np.random.default_rng(seed), samples, magnitude=magnitude)
