"""How a mixture may vary: draws are small records, rendering one is a pure function of the draw and the audio."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft

from audioae.errors import SettingsError
from audioae.spectrogram import Array

EARLY_SECONDS = 0.05  # reflections up to here help intelligibility, so they stay in the target (Bradley et al. 2003)
Range = tuple[float, float]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class AugmentSettings:
    """What is drawn for each mixture; probabilities are 0..1.

    Args:
        snr_db: range of the signal-to-noise ratio on active levels.
        easy: probability of `easy_snr_db` instead, half of them without any noise.
        speech_free: probability of noise alone, whose target is silence.
        second_noise: probability of a second recording, 0..10 dB below the first.
        synthetic_noise: probability that the noise is coloured noise of ours.
        babble: probability that the noise is 3 to 8 speakers of the training split.
        reverb: probability of a room on the speech; half measured (when there are any), half synthetic.
        eq: probability of a random equaliser, drawn apart for speech and noise; `eq_db` is its largest gain.
        level_dbfs: range of the mixture's RMS level.
        clipping: probability of clipping the mixture at 0.3..0.9 of its peak.
    """

    snr_db: Range = (-5.0, 20.0)
    easy: float = 0.1
    easy_snr_db: Range = (20.0, 40.0)
    speech_free: float = 0.02
    second_noise: float = 0.25
    synthetic_noise: float = 0.1
    babble: float = 0.1
    reverb: float = 0.2
    eq: float = 0.4
    eq_db: float = 9.0
    level_dbfs: Range = (-40.0, -12.0)
    clipping: float = 0.05

    def __post_init__(self) -> None:
        for name in ("easy", "speech_free", "second_noise", "synthetic_noise", "babble", "reverb", "eq", "clipping"):
            if not 0 <= getattr(self, name) <= 1:
                raise SettingsError(f"AugmentSettings.{name} is {getattr(self, name)}; expected a probability, 0..1")
        for name in ("snr_db", "easy_snr_db", "level_dbfs"):
            low, high = getattr(self, name)
            if low > high:
                raise SettingsError(f"AugmentSettings.{name} is ({low}, {high}); expected (lowest, highest)")


@dataclass(frozen=True)
class Equaliser:
    """Up to three peaks or dips and two shelves, as a magnitude response without phase.

    Each band is a Gaussian bump over log-frequency, each shelf a logistic step: (centre_hz, gain_db, width_octaves), width 0 for a shelf
    upwards of the centre.
    """

    bands: tuple[tuple[float, float, float], ...]

    def response(self, frequency_hz: npt.NDArray[np.floating[Any]]) -> FloatArray:
        """Linear gain at each frequency."""
        octaves = np.log2(np.maximum(frequency_hz, 20.0))
        decibels: FloatArray = np.zeros_like(octaves)
        for centre_hz, gain_db, width in self.bands:
            distance = octaves - np.log2(centre_hz)
            decibels += gain_db * (np.exp(-np.square(distance / width) / 2) if width else 1 / (1 + np.exp(-4 * distance)))
        return np.power(10.0, decibels / 20)


def draw_equaliser(rng: np.random.Generator, max_db: float, sample_rate: int) -> Equaliser:
    """A random equaliser of one to three bands and, half the time, a shelf."""
    bands = [
        (float(2 ** rng.uniform(6, np.log2(sample_rate / 2))), float(rng.uniform(-max_db, max_db)), float(rng.uniform(0.3, 1.5)))
        for _ in range(rng.integers(1, 4))
    ]
    if rng.random() < 0.5:
        bands.append((float(2 ** rng.uniform(7, np.log2(sample_rate / 3))), float(rng.uniform(-max_db, max_db)), 0.0))
    return Equaliser(tuple(bands))


def synthetic_room(rng: np.random.Generator, sample_rate: int) -> Array:
    """A room response `[samples]`: a direct sound, then noise that decays by 60 dB in 0.15..0.8 s (the idea: Lehmann & Johansson 2008)."""
    t60, distance_db = rng.uniform(0.15, 0.8), rng.uniform(-3.0, 12.0)
    samples = int(t60 * sample_rate)
    delay = np.arange(samples) / sample_rate
    tail = rng.standard_normal(samples) * 10 ** (-3 * delay / t60)
    tail[: int(rng.uniform(0.001, 0.008) * sample_rate)] = 0
    tail *= 10 ** (-distance_db / 20) / max(float(np.sqrt(np.square(tail).sum())), 1e-9)
    tail[0] = 1.0
    return tail.astype(np.float32)


def direct_sound(room: Array) -> int:
    """The sample at which the direct sound arrives: the first that reaches half of the peak."""
    loud = np.abs(room)
    return int(np.argmax(loud >= loud.max() / 2))


def filter_speech(speech: Array, room: Array | None, equaliser: Equaliser | None, sample_rate: int) -> tuple[Array, Array]:
    """Speech in a room behind an equaliser: `(heard, target)`, each `[samples]`, aligned to the direct sound.

    The target keeps the direct sound and `EARLY_SECONDS` of reflections and passes the same equaliser.
    """
    if room is None and equaliser is None:
        return speech, speech
    samples = speech.shape[-1]
    size = fft.next_fast_len(samples + (0 if room is None else room.shape[-1]), real=True)
    spectrum = fft.rfft(speech, size)
    if equaliser is not None:
        spectrum *= equaliser.response(np.fft.rfftfreq(size, 1 / sample_rate)).astype(np.float32)
    if room is None:
        heard = fft.irfft(spectrum, size)[:samples]
        return heard, heard
    direct = direct_sound(room)
    room = room[direct:] / max(float(np.abs(room).max()), 1e-9)
    early = room[: int(EARLY_SECONDS * sample_rate)]
    heard, target = (fft.irfft(spectrum * fft.rfft(response, size), size)[:samples] for response in (room, early))
    return heard, target


def filter_noise(noise: Array, equaliser: Equaliser | None, sample_rate: int) -> Array:
    """Noise `[samples]` behind an equaliser."""
    return filter_speech(noise, None, equaliser, sample_rate)[0]


def clip(waveform: Array, fraction: float) -> Array:
    """Cut the waveform off at `fraction` of its peak."""
    limit = fraction * float(np.abs(waveform).max(initial=0.0))
    return np.clip(waveform, -limit, limit)
