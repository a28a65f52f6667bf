"""Denoising at any sample rate, block by block; the output is time-aligned with the input."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from audioae.denoising.gains import choose_engine
from audioae.denoising.level import LevelMatch
from audioae.denoising.noise import NoiseTracker
from audioae.denoising.rumble import build_splitter
from audioae.denoising.settings import DenoiseSettings, check_denoise_settings
from audioae.denoising.shaping import HighBandGain
from audioae.denoising.spectral import Attenuation, SpectralStream
from audioae.denoising.verdict import Verdict, VerdictMeter
from audioae.engine import Engine
from audioae.engine.checks import as_engine
from audioae.errors import SettingsError
from audioae.fields import as_floats, as_integer, as_levels
from audioae.pretrained import ModelInfo
from audioae.signal.resample import Counts, Resampler, StreamResampler, prompt_resampler
from audioae.signal.spectrogram import Array

# `find_latency` computes the latency of this many samples; for longer periods it is an upper bound.
MAX_PERIOD = 2**22


def find_latency(
    info: ModelInfo,
    sample_rate: int,
    there: Resampler | None,
    back: Resampler | None,
    block: int = 1,
) -> int:
    """The latency of a live stream: the largest number of samples that are pushed, starting with a
    given sample, before that sample is returned.

    Args:
        info: the model.
        sample_rate: of the stream, Hz.
        there, back: resamplers to and from the sample rate of the model; None at its own rate.
        block: number of samples that are pushed at a time.

    Returns:
        Samples. At the sample rate of the model `win_length + (lookahead + stride - 1) *
        hop_length`; at other rates the delays of the resampling filters are added. Exact, unless a
        resampler or `MAX_PERIOD` makes it an upper bound.
    """
    hops = info.stft.hop_length * info.stride
    common = math.gcd(sample_rate, info.stft.sample_rate)
    # The pattern of input and output repeats when a stride of the model and a block end together.
    strides = hops // math.gcd(hops, info.stft.sample_rate // common) * (sample_rate // common)
    period = math.lcm(strides, block)
    if period > MAX_PERIOD and block > 1:
        return find_latency(info, sample_rate, there, back) + block - 1
    samples = np.arange(min(period, MAX_PERIOD))
    latency = int((-(-_pushed_for(samples, info, there, back) // block) * block - samples).max())
    if period > MAX_PERIOD:
        latency += -(-hops * sample_rate // info.stft.sample_rate)
    return latency


def _pushed_for(
    samples: Counts, info: ModelInfo, there: Resampler | None, back: Resampler | None
) -> Counts:
    """The number of samples to push before each of `samples` (indices) is returned."""
    stft = info.stft
    synthesised = samples + 1 if back is None else back.needed(samples + 1)
    frames = (
        -(-(synthesised + stft.past) // (stft.hop_length * info.stride)) * info.stride
        + info.lookahead
    )
    analysed = frames * stft.hop_length
    return analysed if there is None else there.needed(analysed)


# Longer input is split into blocks of at most this length, so that memory does not depend on it.
BLOCK_SECONDS = 4
BLOCK_SAMPLES = 2**20  # over all channels
SILENCE = 2.0**-24  # half a 24-bit step
# Hz. Audio has no other sample rates, and resampling would take hours and gigabytes.
LOWEST_RATE, HIGHEST_RATE = 100, 10_000_000
MAX_CHANNELS = 1024  # of libsndfile
MAX_AMPLITUDE = 1e12  # relative to full scale; float32 cannot hold the power of larger values


def block_length(sample_rate: int, channels: int) -> int:
    """Largest number of samples per channel that are processed at once."""
    return max(min(BLOCK_SECONDS * sample_rate, BLOCK_SAMPLES // max(channels, 1)), 1)


class Stream:
    """Denoises audio block by block.

    `push` returns the enhanced samples that are ready, `flush` the rest. All output together has
    the length of the input and is time-aligned with it: the delays of the resamplers, the STFT and
    the look-ahead of the model are removed. If the sample rate is above the model's, the band above
    the model's is scaled by the smoothed gain at the top of its band. A DC offset and rumble never
    reach the model, see `denoising.rumble`. Digital silence stays digital silence.

    Args:
        engine: the model, from `load_model`.
        sample_rate: of the stream, Hz.
        channels: number of channels.
        settings: None is full strength with linked channels.
        noise: the steady noise, if `settings.noise_from` is set.
        level_dbfs: initial running level of each channel, see `denoising.level`; None if it is
            unknown.
        with_verdict: measure `verdict`, which takes a little time.
        low_latency: resample with a delay of 6 ms in each direction; otherwise 40 to 120 ms and a
            little faster. The samples are the same.
        recording: whether a recording is pushed. `settings.quality` then applies, and output comes
            up to 14 s later than `latency`. Otherwise it is a live stream.

    Raises:
        SettingsError: an impossible sample rate or number of channels, or `noise_from` without
            `noise`.

    Example:
        >>> from audioae.engine import load_model
        >>> stream = Stream(load_model("speech-16k"), sample_rate=16000)
        >>> enhanced = stream.push(np.zeros((1, 1000), np.float32))
        >>> enhanced.shape, stream.pending, stream.latency
        ((1, 512), 488, 512)
        >>> stream.flush().shape
        (1, 488)
    """

    def __init__(
        self,
        engine: Engine,
        sample_rate: int,
        channels: int = 1,
        settings: DenoiseSettings | None = None,
        *,
        noise: NoiseTracker | None = None,
        level_dbfs: Sequence[float | None] | None = None,
        with_verdict: bool = False,
        low_latency: bool = True,
        recording: bool = False,
    ) -> None:
        settings = check_denoise_settings(settings)
        sample_rate = as_integer(sample_rate, "sample_rate")
        channels = as_integer(channels, "channels")
        engine = as_engine(engine)
        if noise is not None and not callable(getattr(noise, "powers", None)):
            raise SettingsError(
                f"noise has the type {type(noise).__name__}; expected the result of measure_noise"
            )
        if settings.noise_from is not None and noise is None:
            raise SettingsError(
                "noise_from works for recordings only; use adapt_noise for a live stream"
            )
        if not LOWEST_RATE <= sample_rate <= HIGHEST_RATE or not 1 <= channels <= MAX_CHANNELS:
            raise SettingsError(
                f"cannot denoise {channels} channels at {sample_rate} Hz; expected at least one "
                f"channel, at most {MAX_CHANNELS}, and 100 Hz to 10 MHz"
            )
        level_dbfs = as_levels(level_dbfs, channels)
        engine = choose_engine(engine, sample_rate, settings.quality if recording else None)
        stft = engine.info.stft
        model_rate = stft.sample_rate
        self.model = engine.info
        self.sample_rate, self.channels = sample_rate, channels
        self._meter = VerdictMeter(stft) if with_verdict else None
        level = LevelMatch(stft, channels, level_dbfs)
        self._core = SpectralStream(
            engine,
            channels,
            settings,
            noise=noise,
            level=level,
            meter=self._meter,
            recording=recording,
        )
        self._splitter = build_splitter(sample_rate, channels, recording=recording)
        self._low_gain = settings.rumble_gain
        # Input without output yet, and the same without rumble, which may be shorter.
        self._noisy: Array = np.zeros((channels, 0), np.float32)
        self._high: Array = np.zeros((channels, 0), np.float32)
        self._taken = self._given = 0  # numbers of input and output samples
        self._flushed = False
        self._bands = (
            None
            if sample_rate == model_rate
            else _Bands(engine, sample_rate, channels, low_latency)
        )

    @property
    def latency(self) -> int:
        """Latency of a live stream in samples: the largest number of samples that are pushed,
        starting with a given sample, before that sample is returned.

        It consists of the window, the look-ahead of the model and, at other rates than the model's,
        the filters of two resamplers. `pending` is less than this after every push. It is exact if
        the ratio of the sample rates is a ratio of small numbers and `low_latency` is set,
        otherwise an upper bound.
        """
        return self.latency_in(1)

    def latency_in(self, block: int) -> int:
        """The latency in samples if samples are pushed `block` at a time.

        A player that starts with this many samples of silence never runs out of samples.

        Raises:
            SettingsError: `block` is no integer above 0.
        """
        if (block := as_integer(block, "block")) < 1:
            raise SettingsError(f"block is {block}; expected at least 1 sample")
        there, back = (None, None) if self._bands is None else (self._bands.there, self._bands.back)
        return find_latency(self._core.engine.info, self.sample_rate, there, back, block)

    @property
    def pending(self) -> int:
        """Number of samples that were pushed and are not returned yet: the current delay."""
        return self._taken - self._given

    @property
    def attenuation(self) -> Attenuation:
        """The attenuation so far, in the band of the model."""
        return self._core.attenuation

    @property
    def verdict(self) -> Verdict | None:
        """Estimates for the recording, after its end; None without `with_verdict`."""
        if self._meter is None:
            return None
        return self._meter.verdict(self.attenuation.mean_db, self.attenuation.max_db)

    def push(self, block: Array) -> Array:
        """Add a block `[channels, samples]`.

        Returns:
            The enhanced samples that are ready, `[channels, samples']`, possibly none.

        Raises:
            SettingsError: a wrong shape or type, NaN or infinite samples, or a flushed stream.
        """
        return self.process(block)[0]

    def flush(self) -> Array:
        """End the stream and return the remaining samples, `[channels, samples]`."""
        return self.process(np.zeros((self.channels, 0), np.float32), last=True)[0]

    def process(self, block: Array, *, last: bool = False) -> tuple[Array, Array]:
        """Add a block `[channels, samples]`.

        Args:
            block: any number of samples.
            last: whether it is the last block; the output then includes all remaining samples.

        Returns:
            The enhanced samples that are ready, and the input samples at the same places, both
            `[channels, samples']`.
        """
        block = self._checked(block)
        length = block_length(self.sample_rate, self.channels)
        starts = range(0, max(block.shape[-1], 1), length)
        parts = [
            self._process(block[:, start : start + length], last=last and start == starts[-1])
            for start in starts
        ]
        self._flushed = last
        if len(parts) == 1:
            return parts[0]
        enhanced, noisy = zip(*parts, strict=True)
        return np.concatenate(enhanced, axis=-1), np.concatenate(noisy, axis=-1)

    def _checked(self, block: Array) -> Array:
        """`block` as float32; raises `SettingsError` if it is invalid."""
        if self._flushed:
            raise SettingsError("the stream was flushed; start a new Stream")
        block = as_floats(block)
        if block.ndim != 2 or len(block) != self.channels:
            raise SettingsError(
                f"got samples of shape {list(block.shape)}; expected floats [{self.channels}, "
                "samples]"
            )
        if (place := find_invalid(block)) is not None:
            what = f"sample {self._taken + place[1]} of channel {place[0]} is {block[place]:g}"
            raise SettingsError(f"{what}; expected finite numbers around -1..1")
        return block.astype(np.float32, copy=False)

    def _process(self, block: Array, *, last: bool) -> tuple[Array, Array]:
        self._taken += block.shape[-1]
        self._noisy = np.concatenate([self._noisy, block], axis=-1)
        block = self._splitter.process(block, last=last)
        self._high = np.concatenate([self._high, block], axis=-1)
        if self._bands is None:
            enhanced, _ = self._core.process(block, last=last)
        else:
            enhanced = self._bands.process(block, self._high, self._core, last=last)
        ready = enhanced.shape[-1]
        noisy, self._noisy = self._noisy[:, :ready], self._noisy[:, ready:]
        high, self._high = self._high[:, :ready], self._high[:, ready:]
        if self._low_gain:
            enhanced = enhanced + np.float32(self._low_gain) * (noisy - high)
        self._given += ready
        # The resamplers work in blocks and spread rounding noise from loud to silent samples.
        if (silent := noisy == 0).any():
            enhanced = np.where(silent & (np.abs(enhanced) < SILENCE), np.float32(0), enhanced)
        return enhanced, noisy


class _Bands:
    """Resamples a stream to the sample rate of the model and back, and scales the high band.

    The high band is what resampling to the rate of the model and back, r(x), removes:

        output = r(enhanced) + gain * (noisy - r(noisy))

    so a gain of 1 returns the input for all filters. Both signals are resampled back by one
    resampler, which keeps them aligned.
    """

    def __init__(self, engine: Engine, sample_rate: int, channels: int, low_latency: bool) -> None:
        stft = engine.info.stft
        resampler = prompt_resampler if low_latency else StreamResampler
        self.there = resampler(sample_rate, stft.sample_rate, channels)
        self.back = resampler(stft.sample_rate, sample_rate, 2 * channels)
        self._high_gain = HighBandGain(stft, sample_rate)
        # Samples at the rate of the model that are not enhanced yet.
        self._waiting: Array = np.zeros((channels, 0), np.float32)
        self._given = 0

    def process(self, block: Array, noisy: Array, core: SpectralStream, *, last: bool) -> Array:
        """Process the next block.

        Args:
            block: the new samples, `[channels, samples]`.
            noisy: all input samples without output yet, which end with `block`.
            core: denoises at the rate of the model.
            last: whether it is the last block.

        Returns:
            The enhanced samples that are ready, at the places of the first samples of `noisy`.
        """
        low = self.there.process(block, last=last)
        enhanced, gain = core.process(low, last=last)
        self._high_gain.add(gain)
        self._waiting = np.concatenate([self._waiting, low], axis=-1)
        ready = enhanced.shape[-1]
        pair = np.concatenate([enhanced, self._waiting[:, :ready]])
        self._waiting = self._waiting[:, ready:]
        # Resampling twice rounds the length up twice, so there may be a few samples too many.
        enhanced, low_band = np.split(
            self.back.process(pair, last=last)[:, : noisy.shape[-1] if last else None], 2
        )
        samples = enhanced.shape[-1]
        if not samples:
            return enhanced
        high = noisy[:, :samples] - low_band
        high *= self._high_gain.take(self._given, samples)
        self._given += samples
        return enhanced + high


def find_invalid(block: Array) -> tuple[int, int] | None:
    """The channel and index of the first sample of `[channels, samples]` that is NaN, infinite or
    above `MAX_AMPLITUDE`; None if there is none.

    Example:
        >>> find_invalid(np.array([[0.0, 1.0], [0.0, np.nan]]))
        (1, 1)
    """
    if np.abs(block).max(initial=0.0) <= MAX_AMPLITUDE:  # False for NaN
        return None
    invalid = ~(np.abs(block) <= MAX_AMPLITUDE)
    sample = int(invalid.any(axis=0).argmax())
    return int(invalid[:, sample].argmax()), sample
