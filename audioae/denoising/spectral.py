"""The core at the model's own sample rate: waveform to spectrum, the model's gain on it, and back,
block by block.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

from audioae.denoising.gain import Gain, power_of, shape_gain
from audioae.denoising.gains import build_gains
from audioae.denoising.level import LevelMatch
from audioae.denoising.noise import MinimumStatistics, NoiseTracker
from audioae.denoising.settings import DenoiseSettings
from audioae.denoising.verdict import Judge
from audioae.engine import Engine
from audioae.errors import CheckpointError
from audioae.signal.spectrogram import Array, ComplexArray, analyse, frame_powers, synthesise

LARGEST_DB = 120.0  # what a frame that was silenced altogether counts as


@dataclass
class Attenuation:
    """How much was taken away so far: the powers before and after, and the share of its power that
    the most lowered frame kept.
    """

    power_in: float = 0.0
    power_out: float = 0.0
    least_kept: float = 1.0

    @property
    def mean_db(self) -> float:
        """Level before over level after, of everything so far, dB; 0 when there was only silence."""
        return drop_db(self.power_out / self.power_in) if self.power_in else 0.0

    @property
    def max_db(self) -> float:
        """The most that any frame lost, dB."""
        return drop_db(self.least_kept)

    def add(self, noisy: ComplexArray, enhanced: ComplexArray) -> None:
        """Count some frames, `[channels, freq, frames]`."""
        before, after = (frame_powers(each).sum(axis=0).tolist() for each in (noisy, enhanced))
        self.power_in += sum(before)
        self.power_out += sum(after)
        self.least_kept = min(
            [
                self.least_kept,
                *(left / whole for left, whole in zip(after, before, strict=True) if whole),
            ]
        )


def drop_db(kept: float) -> float:
    """How far a power fell of which that share was kept, dB, at most `LARGEST_DB`."""
    return 10 * math.log10(1 / max(kept, 10 ** (-LARGEST_DB / 10)))


class SpectralStream:
    """Cleans `[channels, samples]` at the engine's sample rate; what comes out is as long as what
    went in, and aligned to it.

    Args:
        noise: a steady noise that is known.
        level: scales what the network hears; None does so for a recording of which nothing is
            known.
        judge: learns what the model does with the recording; None where nobody will ask.
        recording: whether this is a recording, for which the quality of the settings counts, or a
            live stream.
    """

    def __init__(
        self,
        engine: Engine,
        channels: int,
        settings: DenoiseSettings,
        *,
        noise: NoiseTracker | None = None,
        level: LevelMatch | None = None,
        judge: Judge | None = None,
        recording: bool = False,
    ) -> None:
        self.engine, self.settings, self.stft = engine, settings, engine.info.stft
        self.attenuation = Attenuation()
        self._level = level or LevelMatch(self.stft, channels)
        self._noises = [
            each
            for each in (
                noise,
                MinimumStatistics(self.stft, channels) if settings.adapt_noise else None,
            )
            if each
        ]
        self._judge = judge
        self._waiting: Array = np.zeros(
            (channels, 0), np.float32
        )  # samples that do not fill a hop yet
        self._past: Array | None = None
        self._spectrum: ComplexArray = np.zeros(
            (channels, self.stft.num_bins, 0), np.complex64
        )  # frames that wait for their gains
        self._gains = build_gains(engine, settings.quality if recording else None)
        self._overlap: Array | None = None
        self._samples = self._frames = 0  # taken so far
        self._given = (
            -self.stft.past
        )  # synthesis answers `past` samples late, so that many are dropped

    def process(self, waveform: Array, *, last: bool = False) -> tuple[Array, Gain]:
        """Take `[channels, n]`; with `last` give everything that is left.

        Returns:
            The enhanced samples `[channels, m]` that are ready, and the gain `[channels or 1, freq,
            frames]` of the frames used for them.
        """
        noisy, gain = self._gain_for(self._analyse(waveform, last=last), last=last)
        if self._judge is not None:
            self._judge.add(noisy, gain)
        gain = shape_gain(gain, noisy, self.settings, self._noise_in(noisy))
        enhanced = noisy * gain
        self.attenuation.add(noisy, enhanced)
        if not math.isfinite(self.attenuation.power_out):
            raise CheckpointError(
                f"model {self.engine.info.name!r} answers gains that are no numbers; train or "
                "install it again"
            )
        output, self._overlap = synthesise(enhanced, self.stft, self._overlap)
        start, self._given = (
            min(max(-self._given, 0), output.shape[-1]),
            self._given + output.shape[-1],
        )
        surplus = max(self._given - self._samples, 0) if last else 0
        return output[:, start : output.shape[-1] - surplus], gain

    def _noise_in(self, noisy: ComplexArray) -> Array | None:
        """The largest of the steady noises that are known, `[channels, freq, frames or 1]`."""
        powers = [noise.powers(power_of(noisy)) for noise in self._noises]
        return functools.reduce(np.maximum, powers) if powers else None

    def _analyse(self, waveform: Array, *, last: bool) -> ComplexArray:
        """The frames that `waveform` completes; the last ones are completed with silence."""
        hop = self.stft.hop_length
        self._samples += waveform.shape[-1]
        signal = np.concatenate([self._waiting, waveform], axis=-1)
        if last:
            missing = (self.stft.num_frames(self._samples) - self._frames) * hop - signal.shape[-1]
            signal = np.pad(signal, ((0, 0), (0, missing)))
        whole = signal.shape[-1] // hop * hop
        self._waiting = signal[:, whole:]
        spectrum, self._past = analyse(signal[:, :whole], self.stft, self._past)
        self._frames += spectrum.shape[-1]
        return spectrum

    def _gain_for(self, spectrum: ComplexArray, *, last: bool) -> tuple[ComplexArray, Gain]:
        """Hand frames to the engine; give back those, new or waiting, whose gains are known, with
        these gains.
        """
        self._spectrum = np.concatenate([self._spectrum, spectrum], axis=-1)
        if (factors := self._level.factors(spectrum)) is not None:
            spectrum = spectrum * factors
        gain = self._gains.add(spectrum, last=last)
        if gain is None:
            none = self._spectrum[..., :0]
            return none, np.ones(none.shape, np.float32)
        ready = min(gain.shape[-1], self._spectrum.shape[-1])
        noisy, self._spectrum = self._spectrum[..., :ready], self._spectrum[..., ready:]
        return noisy, gain[..., :ready]
