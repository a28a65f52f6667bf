"""The one core that cleans sound at any sample rate, whole or block by block: as many samples out
as in, aligned to the sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from audioae.denoising.gain import Gain
from audioae.denoising.level import LevelMatch
from audioae.denoising.noise import NoiseTracker
from audioae.denoising.settings import DenoiseSettings
from audioae.denoising.spectral import Attenuation, SpectralStream
from audioae.denoising.verdict import Judge, Verdict
from audioae.engine import Engine, choose_engine
from audioae.errors import SettingsError
from audioae.pretrained import ModelInfo
from audioae.signal.resample import Counts, Resampler, StreamResampler, prompt_resampler
from audioae.signal.spectrogram import Array, StftSettings

MOST_SAMPLES = (
    2**22
)  # that are looked at; a pattern that takes longer to repeat is told as an upper bound


def find_latency(
    info: ModelInfo,
    sample_rate: int,
    there: Resampler | None,
    back: Resampler | None,
    block: int = 1,
) -> int:
    """The most samples that have to be pushed, a sample being the first of them, before it comes
    back.

    Args:
        sample_rate: of the stream, Hz.
        there, back: resamplers to the model's rate and from it; None at the model's own rate.
        block: what is pushed at a time, samples.

    Returns:
        For a stream at the model's rate `win_length + (lookahead + stride - 1) * hop_length`, and
        with resamplers the delays of their filters more. Exact, unless a resampler or
        `MOST_SAMPLES` makes it an upper bound.
    """
    hops = info.stft.hop_length * info.stride
    common = math.gcd(sample_rate, info.stft.sample_rate)
    # The pattern of pushes and answers repeats when whole strides of the model and whole blocks end
    # together.
    strides = hops // math.gcd(hops, info.stft.sample_rate // common) * (sample_rate // common)
    period = math.lcm(strides, block)
    if period > MOST_SAMPLES and block > 1:
        return find_latency(info, sample_rate, there, back) + block - 1
    samples = np.arange(min(period, MOST_SAMPLES))
    latency = int((-(-_pushed_for(samples, info, there, back) // block) * block - samples).max())
    return (
        latency
        if period <= MOST_SAMPLES
        else latency + -(-hops * sample_rate // info.stft.sample_rate)
    )


def _pushed_for(
    samples: Counts, info: ModelInfo, there: Resampler | None, back: Resampler | None
) -> Counts:
    """How many samples have to be pushed before each of `samples`, counted from 0, comes back."""
    stft = info.stft
    synthesised = samples + 1 if back is None else back.needed(samples + 1)
    frames = (
        -(-(synthesised + stft.past) // (stft.hop_length * info.stride)) * info.stride
        + info.lookahead
    )
    analysed = frames * stft.hop_length
    return analysed if there is None else there.needed(analysed)


LOWEST, HIGHEST = (
    0.625,
    0.9375,
)  # of the band that file and model share: 5 to 7.5 kHz of 8; above it resamplers roll off
ATTACK_SECONDS = 0.004  # a consonant opens the high band at once
RELEASE_SECONDS = 0.05  # and lets it close slowly, so that it does not flutter


class HighBandGain:
    """The smoothed gain magnitude at the top of a model's band, as a curve over time that can be
    read at any rate.

    Args:
        stft: of the model.
        sample_rate: of the file, Hz.
    """

    def __init__(self, stft: StftSettings, sample_rate: int) -> None:
        shared = min(sample_rate, stft.sample_rate) / 2
        bins_per_hz = stft.n_fft / stft.sample_rate
        first = round(LOWEST * shared * bins_per_hz)
        self.bins = slice(first, max(first + 1, round(HIGHEST * shared * bins_per_hz)))
        self._hops_per_sample = stft.sample_rate / sample_rate / stft.hop_length
        self._middle = (
            stft.win_length / 2 - stft.past
        ) / stft.hop_length  # the centre of frame 0, in hops
        hop_seconds = stft.hop_length / stft.sample_rate
        self._attack, self._release = (
            math.exp(-hop_seconds / ATTACK_SECONDS),
            math.exp(-hop_seconds / RELEASE_SECONDS),
        )
        self._frame = 0  # of the first value that is kept
        self._values: npt.NDArray[np.float32] | None = None  # [channels or 1, frames]

    def add(self, gain: Gain) -> None:
        """Take the gains of the next frames, `[channels or 1, freq, frames]`."""
        if gain.shape[-1]:
            level = np.abs(gain[:, self.bins]).mean(axis=1)
            before = level[:, :1] if self._values is None else self._values
            smooth = np.stack(
                [
                    self._smooth(row, float(previous))
                    for row, previous in zip(level, before[:, -1], strict=True)
                ]
            )
            self._values = (
                smooth if self._values is None else np.concatenate([self._values, smooth], axis=1)
            )

    def take(self, start: int, samples: int) -> Array:
        """The gain `[channels or 1, samples]` of the file's samples from `start` on; what lies
        before them is forgotten.
        """
        assert self._values is not None
        hops = np.arange(start, start + samples) * self._hops_per_sample - self._middle
        frames = np.arange(self._values.shape[1]) + self._frame
        curve = np.stack([np.interp(hops, frames, row) for row in self._values]).astype(np.float32)
        if samples:
            used = min(max(math.floor(hops[-1]) - self._frame, 0), self._values.shape[1] - 1)
            self._values, self._frame = self._values[:, used:], self._frame + used
        return curve

    def _smooth(self, level: Array, value: float) -> Array:
        """Follow `level` from `value` on: quickly up, slowly down."""
        smooth = []
        for target in level.tolist():
            keep = self._attack if target > value else self._release
            value = target + keep * (value - target)
            smooth.append(value)
        return np.array(smooth, np.float32)


PIECE_SECONDS = 4
PIECE_SAMPLES = (
    2**20
)  # over all channels; both together keep memory flat whatever is pushed at once
SILENCE = 2.0**-24  # half a 24-bit step
LOWEST_RATE, HIGHEST_RATE = (
    100,
    10_000_000,
)  # Hz; beyond them lies no sound, and resampling it takes hours and gigabytes
LOUDEST = 1e12  # of full scale; what is louder is no sound, and its power would not fit a float32


def piece_length(sample_rate: int, channels: int) -> int:
    """Samples per channel that are worked on at once."""
    return max(min(PIECE_SECONDS * sample_rate, PIECE_SAMPLES // max(channels, 1)), 1)


class Stream:
    """Cleans a stream of `[channels, samples]` at its own sample rate.

    Each `push` gives what is ready by then, `flush` the rest. Joined, that is as long as what was
    pushed and aligned to it: the delays of the resamplers, the STFT and the model's lookahead are
    taken out. What a model at a lower rate cannot hear is not thrown away: it is lowered by the
    smoothed gain at the top of the model's band. Digital silence stays digital silence.

    Args:
        engine: a model that is ready to run, from `load_model`.
        sample_rate: of the stream, Hz.
        channels: of the stream.
        noise: a steady noise that is known beforehand, as `noise_from` of the settings asks for.
        level_dbfs: the running level of each channel at the start, where it is known; see
            `denoise.level`.
        judged: learn what `verdict` tells; costs a little time.
        low_latency: resample with the smallest delay, 6 ms each way in place of 40 to 120; False
            costs less time. The samples are the same.
        recording: a whole recording will be pushed, so that `settings.quality` applies; answers come
            up to 12 s later than `latency` says. False is a live stream.
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
        judged: bool = False,
        low_latency: bool = True,
        recording: bool = False,
    ) -> None:
        settings = settings or DenoiseSettings()
        if settings.noise_from is not None and noise is None:
            raise SettingsError(
                "noise_from needs a recording that is there whole; for a live stream use "
                "adapt_noise"
            )
        if not LOWEST_RATE <= sample_rate <= HIGHEST_RATE or channels < 1:
            raise SettingsError(
                f"cannot clean {channels} channels at {sample_rate} Hz; expected at least one "
                "channel and 100 Hz to 10 MHz"
            )
        engine = choose_engine(engine, sample_rate, settings.quality if recording else None)
        stft = engine.info.stft
        model_rate = stft.sample_rate
        self.model = engine.info
        self.sample_rate, self.channels = sample_rate, channels
        self._judge = Judge(stft) if judged else None
        level = LevelMatch(stft, channels, level_dbfs)
        self._core = SpectralStream(
            engine,
            channels,
            settings,
            noise=noise,
            level=level,
            judge=self._judge,
            recording=recording,
        )
        self._noisy: Array = np.zeros((channels, 0), np.float32)  # taken, not yet given
        self._taken = self._given = 0
        self._flushed = False
        self._bands = (
            None
            if sample_rate == model_rate
            else _Bands(engine, sample_rate, channels, low_latency)
        )

    @property
    def latency(self) -> int:
        """Samples, at the stream's rate, between a sample and its enhanced one: the most that is
        pushed, it included, before it comes back.

        However a stream is cut into blocks, `pending` is below it after every push. It is the
        window and the model's lookahead, in whole hops and strides, and beyond the model's rate the
        filters of two resamplers; exact, but for rates without a small ratio to the model's, and
        without `low_latency`, where it is an upper bound.
        """
        return self.latency_in(1)

    def latency_in(self, block: int) -> int:
        """The same where samples are pushed `block` at a time, and so wait for the block to be
        full.

        That many samples of silence ahead of what is given let a player never wait for more.
        """
        there, back = (None, None) if self._bands is None else (self._bands.there, self._bands.back)
        return find_latency(self._core.engine.info, self.sample_rate, there, back, block)

    @property
    def pending(self) -> int:
        """Samples that were pushed and not given back yet: the delay of the stream at this moment."""
        return self._taken - self._given

    @property
    def attenuation(self) -> Attenuation:
        """How much was taken away so far, in the model's band."""
        return self._core.attenuation

    @property
    def verdict(self) -> Verdict | None:
        """What can be said of the recording so far; None unless the stream is judged."""
        attenuation = self.attenuation
        return (
            None
            if self._judge is None
            else self._judge.verdict(attenuation.mean_db, attenuation.max_db)
        )

    def push(self, block: Array) -> Array:
        """Take `[channels, n]`, give the enhanced samples `[channels, m]` that are ready (m may be
        0).
        """
        return self.process(block)[0]

    def flush(self) -> Array:
        """End the stream: give the rest, `[channels, m]`."""
        return self.process(np.zeros((self.channels, 0), np.float32), last=True)[0]

    def process(self, block: Array, *, last: bool = False) -> tuple[Array, Array]:
        """Take `[channels, n]`, give the enhanced samples that are ready and the noisy ones that
        they were, both `[channels, m]`.
        """
        block = self._checked(block)
        length = piece_length(self.sample_rate, self.channels)
        starts = range(0, max(block.shape[-1], 1), length)
        pieces = [
            self._piece(block[:, start : start + length], last=last and start == starts[-1])
            for start in starts
        ]
        self._flushed = last
        if len(pieces) == 1:
            return pieces[0]
        enhanced, noisy = zip(*pieces, strict=True)
        return np.concatenate(enhanced, axis=-1), np.concatenate(noisy, axis=-1)

    def _checked(self, block: Array) -> Array:
        """`block` as float32, or an error that says what is wrong with it."""
        if self._flushed:
            raise SettingsError("this stream was flushed and is at its end; start a new Stream")
        if (
            block.ndim != 2
            or len(block) != self.channels
            or not np.issubdtype(block.dtype, np.floating)
        ):
            raise SettingsError(
                f"got {block.dtype} samples of shape {block.shape}; expected floats "
                f"[{self.channels}, samples]"
            )
        if (place := find_bad(block)) is not None:
            what = f"sample {self._taken + place[1]} of channel {place[0]} is {block[place]:g}"
            raise SettingsError(f"{what}; expected finite numbers around -1..1")
        return block.astype(np.float32, copy=False)

    def _piece(self, block: Array, *, last: bool) -> tuple[Array, Array]:
        self._taken += block.shape[-1]
        self._noisy = np.concatenate([self._noisy, block], axis=-1)
        if self._bands is None:
            enhanced, _ = self._core.process(block, last=last)
        else:
            enhanced = self._bands.process(block, self._noisy, self._core, last=last)
        ready = enhanced.shape[-1]
        noisy, self._noisy = self._noisy[:, :ready], self._noisy[:, ready:]
        self._given += ready
        if (
            silent := noisy == 0
            # resamplers work in blocks and spread the rounding noise of loud places over silent
            # ones
        ).any():
            enhanced = np.where(silent & (np.abs(enhanced) < SILENCE), np.float32(0), enhanced)
        return enhanced, noisy


class _Bands:
    """Takes a stream to the model's rate and back; what does not survive that journey is the high
    band, which has a gain of its own.

    With r the journey there and back: output = r(enhanced) + gain x (noisy - r(noisy)), so a gain
    of 1 gives the input again, whatever the filters do. Both returns share one resampler, so that
    they stay aligned.
    """

    def __init__(self, engine: Engine, sample_rate: int, channels: int, low_latency: bool) -> None:
        stft = engine.info.stft
        resampler = prompt_resampler if low_latency else StreamResampler
        self.there = resampler(sample_rate, stft.sample_rate, channels)
        self.back = resampler(stft.sample_rate, sample_rate, 2 * channels)
        self._high_gain = HighBandGain(stft, sample_rate)
        self._waiting: Array = np.zeros(
            (channels, 0), np.float32
        )  # at the model's rate, not yet enhanced
        self._given = 0

    def process(self, block: Array, noisy: Array, core: SpectralStream, *, last: bool) -> Array:
        """Take `block`; give the enhanced samples that are ready, the first of which belong to the
        first of `noisy`.
        """
        low = self.there.process(block, last=last)
        enhanced, gain = core.process(low, last=last)
        self._high_gain.add(gain)
        self._waiting = np.concatenate([self._waiting, low], axis=-1)
        ready = enhanced.shape[-1]
        pair = np.concatenate([enhanced, self._waiting[:, :ready]])
        self._waiting = self._waiting[:, ready:]
        # There and back rounds the length up twice, so the end may have a few samples too many.
        enhanced, heard = np.split(
            self.back.process(pair, last=last)[:, : noisy.shape[-1] if last else None], 2
        )
        samples = enhanced.shape[-1]
        if not samples:
            return enhanced
        high = noisy[:, :samples] - heard
        high *= self._high_gain.take(self._given, samples)
        self._given += samples
        return enhanced + high


def find_bad(block: Array) -> tuple[int, int] | None:
    """The channel and sample of the first NaN, infinity or absurdly loud value in `[channels,
    samples]`, in the order of time.
    """
    if np.abs(block).max(initial=0.0) <= LOUDEST:  # a NaN is the maximum, and compares false
        return None
    bad = ~(np.abs(block) <= LOUDEST)
    sample = int(bad.any(axis=0).argmax())
    return int(bad[:, sample].argmax()), sample
