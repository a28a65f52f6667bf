"""Steady noise: its power in every bin, from a stretch of the recording or tracked as it runs, and what of a gain it takes away.

Where the model leaves power |G|² P of a bin's power P, and the noise has power N there, the rest stands at xi = |G|² P / N above it. The
gain becomes

    G' = G max(floor, xi / (xi + 1), X / (X + 0.1)),  floor = -6 dB,

where X is the same ratio for the sums over all bins of the frame. The first is a Wiener gain (Lim and Oppenheim 1979) whose a-priori ratio
is the model's own answer; xi is the largest of a bin and its two neighbours, to spare the flanks of harmonics. The second spares frames of
speech: a frame that the model leaves as strong as the noise loses 0.8 dB at most. So what is left of the noise falls by up to 6 dB
in pauses, where the model keeps a thousandth of it. The product has no memory, so blocks equal the whole as long as N does.

Measured with a conv1d at 0 and 10 dB of white, pink, fan and mains noise: 5 dB less noise in pauses, SI-SDR within 0.15 dB, PESQ-WB 0.05
lower. A floor of -12 dB gave 10 dB less noise and cost 0.15 PESQ-WB, for it takes the tails of words.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from audioae.errors import SettingsError
from audioae.resample import StreamResampler
from audioae.spectrogram import Array, ComplexArray, StftSettings, analyse

FLOOR = np.float32(10 ** (-6 / 20))
SPARED = np.float32(0.1)
TINY_POWER = np.float32(1e-20)  # of a bin; below any noise of 24 bits
SHORTEST = 0.1  # seconds that a profile needs, so that the mean of a bin's power is within 2 dB


class NoiseTracker(Protocol):
    """Anything that knows the noise power of frames."""

    def powers(self, power: Array) -> Array:
        """The noise power, `[channels, freq, frames or 1]`, in the next frames `[channels, freq, frames]` of a recording."""
        ...


class NoiseProfile:
    """A noise that stays as it is: power `[channels, freq]` of a bin, as `analyse` measures it."""

    def __init__(self, power: npt.NDArray[np.float32]) -> None:
        self.power = power

    def powers(self, power: Array) -> Array:
        """The profile, whatever the frames are."""
        return self.power[..., None]


def measure_noise(blocks: Iterable[Array], sample_rate: int, channels: int, stft: StftSettings) -> NoiseProfile:
    """The mean power of every bin over a stretch of noise, given as blocks `[channels, samples]` at `sample_rate`.

    Raises:
        SettingsError: the stretch is shorter than `SHORTEST`.
    """
    resampler = StreamResampler(sample_rate, stft.sample_rate, channels)
    total, frames, samples = np.zeros((channels, stft.num_bins), np.float64), 0, 0
    waiting: Array = np.zeros((channels, 0), np.float32)
    for block in blocks:
        samples += block.shape[-1]
        waiting = np.concatenate([waiting, resampler.process(block)], axis=-1)
        spectrum, waiting = _whole_frames(waiting, stft)
        total += (spectrum.real**2 + spectrum.imag**2).sum(axis=-1, dtype=np.float64)
        frames += spectrum.shape[-1]
    if samples < SHORTEST * sample_rate or not frames:
        covered = f"noise_from covers {samples / sample_rate:g} s of the recording"
        raise SettingsError(f"{covered}; expected at least {SHORTEST:g} s of noise in it")
    return NoiseProfile((total / frames).astype(np.float32))


def _whole_frames(signal: Array, stft: StftSettings) -> tuple[ComplexArray, Array]:
    """The frames that lie wholly within `signal`, and the samples that the next frames need: no frame sees the silence before a stretch."""
    hops = max(signal.shape[-1] - stft.past, 0) // stft.hop_length
    spectrum, _ = analyse(signal[:, stft.past : stft.past + hops * stft.hop_length], stft, signal[:, : stft.past]) if hops else (None, None)
    if spectrum is None:
        return np.zeros((len(signal), stft.num_bins, 0), np.complex64), signal
    return spectrum, signal[:, hops * stft.hop_length :]


def noise_gain(kept: Array, noise: Array) -> Array:
    """What of a gain steady noise takes away, `[..., freq, frames]` in `FLOOR`..1; the formula stands above.

    Args:
        kept: power that the model leaves, `[..., freq, frames]`.
        noise: power of the noise, `[..., freq, frames or 1]`.
    """
    padded = np.pad(kept, [(0, 0)] * (kept.ndim - 2) + [(1, 1), (0, 0)])
    widest = np.maximum(np.maximum(padded[..., :-2, :], padded[..., 2:, :]), kept)
    wiener = (widest + TINY_POWER) / (widest + noise + TINY_POWER)
    frame, steady = kept.sum(axis=-2, keepdims=True), noise.sum(axis=-2, keepdims=True)
    spared = (frame + TINY_POWER) / (frame + SPARED * steady + TINY_POWER)
    lowered: Array = np.maximum(np.maximum(wiener, spared), FLOOR).astype(np.float32, copy=False)
    return lowered
