"""The passes over an audio track: measuring levels, and denoising it once or twice."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from audioae.audio import AudioInfo, AudioReader
from audioae.audio.quantise import BITS
from audioae.denoising.gains import lookahead_seconds
from audioae.denoising.level import START_SECONDS, running_level
from audioae.denoising.noise import NoiseProfile, measure_noise
from audioae.denoising.settings import DenoiseSettings
from audioae.denoising.stream import Stream, block_length, find_invalid
from audioae.engine import Engine, Quality
from audioae.errors import AudioFileError, SettingsError
from audioae.pretrained import ModelInfo
from audioae.signal.loudness import Meter
from audioae.signal.spectrogram import Array

Samples = npt.NDArray[np.floating[Any]]

FADE_SECONDS = 0.01
BEFORE_SECONDS = 2.0  # input of the model before the span, so that it adapts to the noise
RESAMPLING_SECONDS = 0.05  # the largest look-ahead of the resamplers


@dataclass(frozen=True)
class Span:
    """The samples `start` to `end` of a recording of `num_samples` samples.

    Example:
        >>> Span(160, 320, 320).whole
        False
    """

    start: int
    end: int
    num_samples: int

    @property
    def whole(self) -> bool:
        """True if that is the whole recording."""
        return self.start == 0 and self.end == self.num_samples

    @classmethod
    def of(cls, source: AudioInfo, start: float | None, end: float | None) -> Span:
        """The span from `start` to `end` in seconds.

        None is the start or the end of the recording. An end after the recording is its end.

        Raises:
            SettingsError: the span is empty or starts after the recording.
        """
        first, last = 0.0 if start is None else start, source.seconds if end is None else end
        if (
            not 0 <= first <= source.seconds
            or not first <= last
            or (first == last and not (start is None and end is None))
        ):
            asked = f"start {first:g} s and end {last:g} s"
            raise SettingsError(
                f"got {asked} for a recording of {source.seconds:g} s; expected a start within the "
                "recording and a later end"
            )
        return cls(
            round(first * source.sample_rate),
            min(round(last * source.sample_rate), source.num_samples),
            source.num_samples,
        )

    def input_range(self, sample_rate: int, model: ModelInfo, quality: Quality) -> tuple[int, int]:
        """The first and the last sample of the input of the model: the span, 2 s before it, so that
        the model has adapted, and the look-ahead after it.
        """
        window = model.stft.win_length / model.stft.sample_rate
        ahead = window + lookahead_seconds(model, quality) + RESAMPLING_SECONDS
        before, after = round(BEFORE_SECONDS * sample_rate), round(ahead * sample_rate)
        return max(self.start - before, 0), min(self.end + after, self.num_samples)

    def blend(self, enhanced: Array, noisy: Samples, first: int, sample_rate: int) -> Samples:
        """`enhanced` inside the span and `noisy`, bit-exact, outside, with a crossfade over the
        first and the last 10 ms of the span.

        Args:
            enhanced, noisy: `[channels, samples]`, from sample `first` of the recording.
            first: see above.
            sample_rate: Hz.
        """
        if self.whole:
            return enhanced
        fade = max(min(round(FADE_SECONDS * sample_rate), (self.end - self.start) // 2), 1)
        samples = first + np.arange(noisy.shape[-1])
        opening = (samples + 1 - self.start) / fade if self.start else np.full(len(samples), np.inf)
        closing = (
            (self.end - samples) / fade
            if self.end < self.num_samples
            else np.full(len(samples), np.inf)
        )
        inside = (samples >= self.start) & (samples < self.end)
        weight = np.where(inside, np.clip(np.minimum(opening, closing), 0, 1), 0)
        blended: Samples = np.where(
            weight >= 1, enhanced, np.where(weight <= 0, noisy, noisy + weight * (enhanced - noisy))
        )
        return blended


def denoise_blocks(
    reader: AudioReader, stream: Stream, span: Span, input_range: tuple[int, int]
) -> Iterator[tuple[Samples, Samples]]:
    """Denoise the span of a file; yields the enhanced and the noisy blocks of the whole file.

    Args:
        reader: the file, at its start.
        stream: the denoiser.
        span: outside it, the enhanced blocks are the noisy ones.
        input_range: the first and the last sample of the input of the model.
    """
    first, last = input_range
    yield from ((block, block) for block in blocks(reader, 0, first))
    # Input without output yet, in the precision of the file, which may be higher than the stream's.
    waiting: Samples = np.zeros((stream.channels, 0), np.float32)
    for block in chain(blocks(reader, first, last), [waiting]):
        waiting = np.concatenate([waiting, block], axis=-1)
        enhanced, _ = stream.process(block.astype(np.float32, copy=False), last=not block.shape[-1])
        ready = enhanced.shape[-1]
        noisy, waiting = waiting[:, :ready], waiting[:, ready:]
        yield span.blend(enhanced, noisy, first, stream.sample_rate), noisy
        first += ready
    yield from ((block, block) for block in blocks(reader, last, span.num_samples))


def blocks(
    reader: AudioReader, start: int, end: int, length: int | None = None
) -> Iterator[Samples]:
    """Read the samples `start` to `end` of a file in blocks.

    Args:
        reader: the file, at sample `start`.
        start, end: indices of samples.
        length: samples per block; None is `block_length`.

    Raises:
        AudioFileError: a sample is NaN, infinite or far above full scale.
    """
    length = length or block_length(reader.info.sample_rate, reader.info.channels)
    while start < end:
        block = reader.read(min(length, end - start))
        if (place := find_invalid(block)) is not None:
            channel, sample = place
            what = f"sample {start + sample} of channel {channel} is {block[place]:g}"
            raise AudioFileError(
                f"{reader.path} cannot be denoised: {what}; expected finite numbers around -1..1"
            )
        yield block
        start += block.shape[-1]


# Subtypes with a higher precision than float32.
EXACT = {"PCM_32", "DOUBLE", *(f"{name}_32" for name in ("ALAC", "FLAC", "WAVPACK", "TTA"))}
FLOATS = {"FLOAT", "DOUBLE"}  # subtypes that can hold samples above full scale


@dataclass(frozen=True)
class Scale:
    """The factor by which the output is scaled, and warnings about it."""

    factor: float = 1.0
    warnings: tuple[str, ...] = ()


class Passes:
    """Denoises an audio track, once or twice; both passes give the same samples.

    The file is open from the start to the end of the `with` block.

    Args:
        src: the file.
        span: the samples to denoise.
        engine: the model.
        settings: the settings of the denoiser.
        progress: called with the number of seconds done; each of two passes counts half.
        track: number of the audio track of a film, from 0.
    """

    def __init__(
        self,
        src: Path,
        span: Span,
        engine: Engine,
        settings: DenoiseSettings,
        progress: Callable[[float], None] | None = None,
        track: int = 0,
    ) -> None:
        self._src, self._span, self._engine = src, span, engine
        # Taking a DC offset away from a part of the recording only would make a step.
        self._settings = settings if span.whole else replace(settings, keep_rumble=True)
        self._progress = progress
        self._share, self._seconds_done = 1.0, 0.0
        self._reader = AudioReader(src, track=track)
        try:
            self._level = self._find_level(self._reader)
            self._noise = self._find_noise(self._reader)
        except BaseException:
            self._reader.close()
            raise
        self._reader.dtype = "float64" if self._form.subtype in EXACT else "float32"

    def __enter__(self) -> Passes:
        return self

    def __exit__(self, *error: object) -> None:
        self._reader.close()

    def find_scale(
        self, output: AudioInfo, *, rescale: bool, normalize_lufs: float | None
    ) -> Scale:
        """Find the factor for the whole output, by denoising without writing if necessary.

        Args:
            output: format of the output.
            rescale: lower the output if it would clip.
            normalize_lufs: loudness of the output; None keeps the level.
        """
        if normalize_lufs is None and (not rescale or output.subtype in FLOATS):
            return Scale()
        self._share = 0.5
        ceiling, peak, over = _ceiling(output.subtype), 0.0, 0
        meter = None
        for enhanced, _ in self.blocks(stream := self.stream()):
            peak = max(peak, float(np.abs(enhanced).max(initial=0.0)))
            over += int(np.count_nonzero(np.abs(enhanced) > ceiling))
            if normalize_lufs is not None:
                meter = meter or Meter(stream.sample_rate, stream.channels)
                meter.add(enhanced)
        normalized = _normalize(meter.lufs if meter else None, normalize_lufs)
        if not rescale or output.subtype in FLOATS or peak * normalized.factor <= ceiling:
            return normalized
        factor = ceiling / peak * (1 - 2.0**-22)  # leaves margin for rounding to float32
        what = f"{over} samples" if normalize_lufs is None else "the normalized output"
        lowered_db = 20 * math.log10(normalized.factor / factor)
        warning = f"{what} would have clipped; the output was lowered by {lowered_db:.2f} dB"
        return Scale(factor, (*normalized.warnings, warning))

    def blocks(self, stream: Stream) -> Iterator[tuple[Samples, Samples]]:
        """One pass through `stream`: the enhanced and the noisy blocks of the file."""
        num_samples, before = 0, self._seconds_done
        self._reader.seek(0)
        for enhanced, noisy in denoise_blocks(
            self._reader, stream, self._span, self._input_range(stream.sample_rate)
        ):
            yield enhanced, noisy
            num_samples += noisy.shape[-1]
            self._seconds_done = before + self._share * num_samples / stream.sample_rate
            if self._progress is not None:
                self._progress(self._seconds_done)

    def stream(self) -> Stream:
        """A new denoiser for one pass."""
        return Stream(
            self._engine,
            self._form.sample_rate,
            self._form.channels,
            self._settings,
            noise=self._noise,
            level_dbfs=self._level,
            with_verdict=True,
            low_latency=False,
            recording=True,
        )

    def _input_range(self, sample_rate: int) -> tuple[int, int]:
        return self._span.input_range(sample_rate, self._engine.info, self._settings.quality)

    def _find_level(self, reader: AudioReader) -> list[float | None] | None:
        """The running level at the start of the input of the model."""
        self._form = reader.info
        rate = reader.info.sample_rate
        first, last = self._input_range(rate)
        end = min(first + round(START_SECONDS * rate), last)
        return running_level(_stretch(reader, first, end), rate)

    def _find_noise(self, reader: AudioReader) -> NoiseProfile | None:
        """The noise in the part of the file that the settings name."""
        if self._settings.noise_from is None:
            return None
        form = reader.info
        start, end = (round(each * form.sample_rate) for each in self._settings.noise_from)
        if start >= form.num_samples:
            raise SettingsError(
                f"noise_from starts at {start / form.sample_rate:g} s; {self._src} has "
                f"{form.seconds:g} s"
            )
        stretch = _stretch(reader, start, min(end, form.num_samples))
        return measure_noise(stretch, form.sample_rate, form.channels, self._engine.info.stft)


def _stretch(reader: AudioReader, start: int, end: int) -> Iterator[Any]:
    reader.seek(start)
    return blocks(reader, start, end)


def _ceiling(subtype: str) -> float:
    """The largest sample that is not clipped."""
    return 1 - 2.0 ** (1 - BITS[subtype]) if subtype in BITS else 1.0


def _normalize(lufs: float | None, wanted: float | None) -> Scale:
    """The factor from the loudness `lufs` to the wanted one; 1 if either is None."""
    if wanted is None:
        return Scale()
    if lufs is None:
        return Scale(warnings=("not normalized: too short or too quiet to have a loudness",))
    return Scale(10 ** ((wanted - lufs) / 20))
