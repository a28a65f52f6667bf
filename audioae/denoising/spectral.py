"""Denoising at the sample rate of the model, block by block: STFT, gain, inverse STFT."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

from audioae.denoising.gains import build_gains
from audioae.denoising.level import LevelMatch
from audioae.denoising.noise import MinimumStatistics, NoiseTracker
from audioae.denoising.settings import DenoiseSettings
from audioae.denoising.shaping import Gain, power_of, shape_gain
from audioae.denoising.verdict import VerdictMeter
from audioae.engine import Engine
from audioae.engine.checks import check_values
from audioae.errors import CheckpointError
from audioae.signal.spectrogram import Array, ComplexArray, analyse, frame_powers, synthesise

MAX_ATTENUATION_DB = 120.0  # the attenuation of a frame that was muted completely


@dataclass
class Attenuation:
    """The attenuation so far.

    Args:
        power_in, power_out: the power of all frames before and after.
        least_kept: the smallest ratio of the power of a frame after to before.
    """

    power_in: float = 0.0
    power_out: float = 0.0
    least_kept: float = 1.0

    @property
    def mean_db(self) -> float:
        """Mean attenuation in dB: the level before minus the level after; 0 for silence."""
        return attenuation_db(self.power_out / self.power_in) if self.power_in else 0.0

    @property
    def max_db(self) -> float:
        """The largest attenuation of a frame in dB."""
        return attenuation_db(self.least_kept)

    def add(self, noisy: ComplexArray, enhanced: ComplexArray) -> None:
        """Add frames, `[channels, freq, frames]`."""
        before, after = (frame_powers(each).sum(axis=0).tolist() for each in (noisy, enhanced))
        self.power_in += sum(before)
        self.power_out += sum(after)
        self.least_kept = min(
            [
                self.least_kept,
                *(left / whole for left, whole in zip(after, before, strict=True) if whole),
            ]
        )


def attenuation_db(kept: float) -> float:
    """The attenuation in dB for a ratio of the power after to before, at most
    `MAX_ATTENUATION_DB`.

    Example:
        >>> attenuation_db(0.01), attenuation_db(0)
        (20.0, 120.0)
    """
    return 10 * math.log10(1 / max(kept, 10 ** (-MAX_ATTENUATION_DB / 10)))


class SpectralStream:
    """Denoises `[channels, samples]` at the sample rate of the model.

    All output together has the length of the input and is time-aligned with it.

    Args:
        engine: the model.
        channels: number of channels.
        settings: the settings of the denoiser.
        noise: the steady noise, if it is known beforehand.
        level: the level correction at the input of the network; None starts with a usual level.
        meter: measures the verdict; None measures none.
        recording: whether this is a recording, in the quality that the settings ask for, or a live
            stream.
    """

    def __init__(
        self,
        engine: Engine,
        channels: int,
        settings: DenoiseSettings,
        *,
        noise: NoiseTracker | None = None,
        level: LevelMatch | None = None,
        meter: VerdictMeter | None = None,
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
        self._meter = meter
        # Samples that do not fill a hop yet.
        self._waiting: Array = np.zeros((channels, 0), np.float32)
        self._past: Array | None = None
        # Frames whose gains are not known yet.
        self._spectrum: ComplexArray = np.zeros((channels, self.stft.num_bins, 0), np.complex64)
        self._gains = build_gains(engine, settings.quality if recording else None)
        self._overlap: Array | None = None
        self._samples = self._frames = 0  # numbers of input samples and of frames so far
        # Number of output samples. The inverse STFT is `past` samples late; these are dropped.
        self._given = -self.stft.past

    def process(self, waveform: Array, *, last: bool = False) -> tuple[Array, Gain]:
        """Process the next block.

        Args:
            waveform: `[channels, samples]`.
            last: whether it is the last block; the output then includes all remaining samples.

        Returns:
            The enhanced samples that are ready, `[channels, samples']`, and the gain of the frames
            that were used for them, `[channels or 1, freq, frames]`.
        """
        noisy, gain = self._gain_for(self._analyse(waveform, last=last), last=last)
        check_values(gain, self.engine.info)
        if self._meter is not None:
            self._meter.add(noisy, gain)
        gain = shape_gain(gain, noisy, self.settings, self._noise_in(noisy))
        enhanced = noisy * gain
        self.attenuation.add(noisy, enhanced)
        output, self._overlap = synthesise(enhanced, self.stft, self._overlap)
        start, self._given = (
            min(max(-self._given, 0), output.shape[-1]),
            self._given + output.shape[-1],
        )
        surplus = max(self._given - self._samples, 0) if last else 0
        if last and max(self._given, 0) < self._samples:
            raise CheckpointError(
                f"model {self.engine.info.name!r} returns gains for {max(self._given, 0)} of "
                f"{self._samples} samples; export it again"
            )
        return output[:, start : output.shape[-1] - surplus], gain

    def _noise_in(self, noisy: ComplexArray) -> Array | None:
        """The maximum of the estimates of steady noise, `[channels, freq, frames or 1]`."""
        powers = [noise.powers(power_of(noisy)) for noise in self._noises]
        return functools.reduce(np.maximum, powers) if powers else None

    def _analyse(self, waveform: Array, *, last: bool) -> ComplexArray:
        """The frames that are complete with `waveform`; the last ones are padded with silence."""
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
        """The frames, new or waiting, whose gains are known now, and these gains."""
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
