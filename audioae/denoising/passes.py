"""The passes over a file: what has to be known before it is cleaned, by how much to scale it, and
the one that writes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from audioae.audio import AudioInfo, AudioReader, AudioWriter
from audioae.audio.quantise import BITS, quantise
from audioae.denoising.gains import lookahead_seconds
from audioae.denoising.level import START_SECONDS, running_level
from audioae.denoising.noise import NoiseProfile, measure_noise
from audioae.denoising.settings import DenoiseSettings
from audioae.denoising.stream import Stream, find_bad, piece_length
from audioae.denoising.verdict import Verdict
from audioae.engine import Engine, Quality
from audioae.errors import AudioFileError, SettingsError
from audioae.pretrained import ModelInfo
from audioae.signal.loudness import Meter
from audioae.signal.spectrogram import Array

Samples = npt.NDArray[np.floating[Any]]

FADE_SECONDS = 0.01
BEFORE_SECONDS = 2.0  # that a model hears before the stretch, to know the noise
RESAMPLING_SECONDS = 0.05  # that resamplers look ahead at most


@dataclass(frozen=True)
class Span:
    """The samples `start` to `end` of a recording of `num_samples` samples."""

    start: int
    end: int
    num_samples: int

    @property
    def whole(self) -> bool:
        """True if that is all of it."""
        return self.start == 0 and self.end == self.num_samples

    @classmethod
    def of(cls, source: AudioInfo, start: float | None, end: float | None) -> Span:
        """From seconds; None is the recording's own start or end, and what lies beyond its end
        counts as that.

        Raises:
            SettingsError: the stretch is empty or begins after the recording.
        """
        first, last = 0.0 if start is None else start, source.seconds if end is None else end
        if (
            not 0 <= first <= source.seconds
            or not first <= last
            or (first == last and not (start is None and end is None))
        ):
            asked = f"start {first:g} s and end {last:g} s"
            raise SettingsError(
                f"got {asked} for a recording of {source.seconds:g} s; expected a stretch within "
                "it, start before end"
            )
        return cls(
            round(first * source.sample_rate),
            min(round(last * source.sample_rate), source.num_samples),
            source.num_samples,
        )

    def heard(self, sample_rate: int, model: ModelInfo, quality: Quality) -> tuple[int, int]:
        """The samples that the model is given, so that it has settled when the stretch begins and
        knows what follows its end.
        """
        window = model.stft.win_length / model.stft.sample_rate
        ahead = window + lookahead_seconds(model, quality) + RESAMPLING_SECONDS
        before, after = round(BEFORE_SECONDS * sample_rate), round(ahead * sample_rate)
        return max(self.start - before, 0), min(self.end + after, self.num_samples)

    def blend(self, enhanced: Array, noisy: Samples, first: int, sample_rate: int) -> Samples:
        """`enhanced` inside, `noisy` outside, bit by bit; across the 10 ms inside each edge one
        fades into the other.

        Args:
            enhanced, noisy: `[channels, n]`, of which the first is sample `first` of the recording.
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


def clean(
    reader: AudioReader, stream: Stream, span: Span, heard: tuple[int, int]
) -> Iterator[tuple[Samples, Samples]]:
    """Take a file through a stream: blocks `[channels, n]`, enhanced and noisy, that joined are as
    long as the file. `heard` are the first and last samples that the model is given.
    """
    first, last = heard
    yield from ((block, block) for block in blocks(reader, 0, first))
    waiting: Samples = np.zeros(
        (stream.channels, 0), np.float32
    )  # as read, which may be finer than what the stream works with
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
    """The samples `start` to `end` of a file, of which `start` is the next to be read, in blocks of
    `length`; None is what is handy.

    Raises:
        AudioFileError: some of them are no numbers, or absurdly loud.
    """
    length = length or piece_length(reader.info.sample_rate, reader.info.channels)
    while start < end:
        block = reader.read(min(length, end - start))
        if (place := find_bad(block)) is not None:
            channel, sample = place
            what = f"sample {start + sample} of channel {channel} is {block[place]:g}"
            raise AudioFileError(
                f"{reader.path} cannot be cleaned: {what}; expected finite numbers around -1..1"
            )
        yield block
        start += block.shape[-1]


EXACT = {"PCM_32", "DOUBLE", "ALAC_32"}  # what float32 cannot hold
FLOATS = {"FLOAT", "DOUBLE"}  # what holds samples beyond full scale


@dataclass(frozen=True)
class Scale:
    """By how much a whole output is scaled, and what a listener should know of it."""

    factor: float = 1.0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Written:
    """What the writing pass did."""

    num_samples: int
    num_clipped: int
    verdict: Verdict
    warnings: tuple[str, ...]


class Passes:
    """Cleans one file, as often as needed; every pass gives the same samples.

    Args:
        span: the samples that are cleaned.
        progress: called with the seconds that are done; two passes count half each.
    """

    def __init__(
        self,
        src: Path,
        span: Span,
        engine: Engine,
        settings: DenoiseSettings,
        progress: Callable[[float], None] | None = None,
    ) -> None:
        self._src, self._span, self._engine, self._settings, self._progress = (
            src,
            span,
            engine,
            settings,
            progress,
        )
        self._share, self._told = 1.0, 0.0
        with AudioReader(src) as reader:
            self._level = self._find_level(reader)
            self._noise = self._find_noise(reader)

    def find_scale(
        self, output: AudioInfo, *, rescale: bool, normalize_lufs: float | None
    ) -> Scale:
        """Clean without writing, where the whole has to be known before its first sample is
        written.
        """
        if normalize_lufs is None and (not rescale or output.subtype in FLOATS):
            return Scale()
        self._share = 0.5
        ceiling, peak, over = _ceiling(output.subtype), 0.0, 0
        meter = None
        for enhanced, _ in self._blocks(stream := self._stream()):
            peak = max(peak, float(np.abs(enhanced).max(initial=0.0)))
            over += int(np.count_nonzero(np.abs(enhanced) > ceiling))
            if normalize_lufs is not None:
                meter = meter or Meter(stream.sample_rate, stream.channels)
                meter.add(enhanced)
        loud = _to_loudness(meter.lufs if meter else None, normalize_lufs)
        if not rescale or output.subtype in FLOATS or peak * loud.factor <= ceiling:
            return loud
        factor = ceiling / peak * (1 - 2.0**-22)  # less than rounding to float32 may add
        what = (
            f"{over} samples would have been"
            if normalize_lufs is None
            else "what was to be normalised would have been"
        )
        lowered = f"{what} beyond full scale; the whole was lowered by {20 * math.log10(loud.factor / factor):.2f} dB"
        return Scale(factor, (*loud.warnings, lowered))

    def write(
        self,
        output: tuple[Path, AudioInfo],
        residual: tuple[Path, AudioInfo] | None,
        *,
        overwrite: bool,
        scale: float = 1.0,
    ) -> Written:
        """Clean into files. The residual is the input less the output as it is written: rounded and
        clamped.
        """
        num_samples, rest = 0, None
        with ExitStack() as stack:
            writer = stack.enter_context(AudioWriter(*output, overwrite=overwrite))
            if residual is not None:
                rest = stack.enter_context(AudioWriter(*residual, overwrite=overwrite))
            stream = self._stream()
            for enhanced, noisy in self._blocks(stream):
                scaled = enhanced if scale == 1 else enhanced * np.float32(scale)
                writer.write(scaled)
                if rest is not None:
                    rest.write(
                        (noisy if scale == 1 else noisy * np.float32(scale))
                        - _as_written(scaled, output[1].subtype)
                    )
                num_samples += noisy.shape[-1]
        verdict = stream.verdict
        assert verdict is not None
        return Written(num_samples, writer.num_clipped, verdict, _warnings(writer, rest))

    def _blocks(self, stream: Stream) -> Iterator[tuple[Samples, Samples]]:
        """The blocks of the file, enhanced and noisy, in one pass through `stream`."""
        num_samples, before = 0, self._told
        with AudioReader(self._src, dtype=self._precision) as reader:
            for enhanced, noisy in clean(
                reader, stream, self._span, self._heard(stream.sample_rate)
            ):
                yield enhanced, noisy
                num_samples += noisy.shape[-1]
                self._told = before + self._share * num_samples / stream.sample_rate
                if self._progress is not None:
                    self._progress(self._told)

    def _stream(self) -> Stream:
        return Stream(
            self._engine,
            self._form.sample_rate,
            self._form.channels,
            self._settings,
            noise=self._noise,
            level_dbfs=self._level,
            judged=True,
            low_latency=False,
            recording=True,
        )

    def _heard(self, sample_rate: int) -> tuple[int, int]:
        return self._span.heard(sample_rate, self._engine.info, self._settings.quality)

    def _find_level(self, reader: AudioReader) -> list[float | None] | None:
        """The level of what is cleaned, by its beginning."""
        self._form = reader.info
        self._precision: Any = "float64" if reader.info.subtype in EXACT else "float32"
        rate = reader.info.sample_rate
        first, last = self._heard(rate)
        end = min(first + round(START_SECONDS * rate), last)
        return running_level(_stretch(reader, first, end), rate)

    def _find_noise(self, reader: AudioReader) -> NoiseProfile | None:
        """The noise in the stretch that the settings name."""
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
    """The largest sample that is not clamped."""
    return 1 - 2.0 ** (1 - BITS[subtype]) if subtype in BITS else 1.0


def _to_loudness(lufs: float | None, wanted: float | None) -> Scale:
    if wanted is None:
        return Scale()
    if lufs is None:
        return Scale(warnings=("not normalised: too short or too quiet to have a loudness",))
    return Scale(10 ** ((wanted - lufs) / 20))


def _as_written(block: Samples, subtype: str) -> Samples:
    """What the samples are once they are whole numbers of a subtype; as they are for what takes
    floats.
    """
    codes, _ = quantise(block, subtype)
    return codes.T / 2.0**31 if subtype in BITS else block


def _warnings(writer: AudioWriter, residual: AudioWriter | None) -> tuple[str, ...]:
    """What a listener should know: what was clamped, and what of the input the container could not
    keep.
    """
    clipped = {"output": writer.num_clipped, "residual": residual.num_clipped if residual else 0}
    clamped = (
        f"{number} samples of the {name} were beyond full scale and were clamped"
        for name, number in clipped.items()
        if number
    )
    return *clamped, *(f"not kept: {what}" for what in writer.lost)
