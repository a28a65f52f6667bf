"""The stretch of a file that is cleaned: the rest passes untouched, and the edges are faded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from audioae.audio import AudioInfo, AudioReader
from audioae.errors import AudioFileError, SettingsError
from audioae.inference.stream import Stream, find_bad, piece_length
from audioae.pretrained import ModelInfo
from audioae.spectrogram import Array

Samples = npt.NDArray[np.floating[Any]]

FADE_SECONDS = 0.01
BEFORE_SECONDS = 2.0  # that a model hears before the stretch, to know the noise
RESAMPLING_SECONDS = 0.05  # that resamplers look ahead at most


@dataclass(frozen=True)
class Span:
    """The samples `start` to `end` of a recording of `frames` samples."""

    start: int
    end: int
    frames: int

    @property
    def whole(self) -> bool:
        """True if that is all of it."""
        return self.start == 0 and self.end == self.frames

    @classmethod
    def of(cls, source: AudioInfo, start: float | None, end: float | None) -> Span:
        """From seconds; None is the recording's own start or end, and what lies beyond its end counts as that.

        Raises:
            SettingsError: the stretch is empty or begins after the recording.
        """
        first, last = 0.0 if start is None else start, source.seconds if end is None else end
        if not 0 <= first <= source.seconds or not first <= last or (first == last and not (start is None and end is None)):
            asked = f"start {first:g} s and end {last:g} s"
            raise SettingsError(f"got {asked} for a recording of {source.seconds:g} s; expected a stretch within it, start before end")
        return cls(round(first * source.sample_rate), min(round(last * source.sample_rate), source.frames), source.frames)

    def heard(self, sample_rate: int, model: ModelInfo) -> tuple[int, int]:
        """The samples that the model is given, so that it has settled when the stretch begins and knows what follows its end."""
        stft = model.stft
        ahead = (stft.win_length + (model.lookahead + model.stride) * stft.hop_length) / stft.sample_rate + RESAMPLING_SECONDS
        before, after = round(BEFORE_SECONDS * sample_rate), round(ahead * sample_rate)
        return max(self.start - before, 0), min(self.end + after, self.frames)

    def blend(self, enhanced: Array, noisy: Samples, first: int, sample_rate: int) -> Samples:
        """`enhanced` inside, `noisy` outside, bit by bit; across the 10 ms inside each edge one fades into the other.

        Args:
            enhanced, noisy: `[channels, n]`, of which the first is sample `first` of the recording.
        """
        if self.whole:
            return enhanced
        fade = max(min(round(FADE_SECONDS * sample_rate), (self.end - self.start) // 2), 1)
        samples = first + np.arange(noisy.shape[-1])
        opening = (samples + 1 - self.start) / fade if self.start else np.full(len(samples), np.inf)
        closing = (self.end - samples) / fade if self.end < self.frames else np.full(len(samples), np.inf)
        inside = (samples >= self.start) & (samples < self.end)
        weight = np.where(inside, np.clip(np.minimum(opening, closing), 0, 1), 0)
        blended: Samples = np.where(weight >= 1, enhanced, np.where(weight <= 0, noisy, noisy + weight * (enhanced - noisy)))
        return blended


def clean(reader: AudioReader, stream: Stream, span: Span, model: ModelInfo) -> Iterator[tuple[Samples, Samples]]:
    """Take a file through a stream: blocks `[channels, n]`, enhanced and noisy, that joined are as long as the file."""
    first, last = span.heard(stream.sample_rate, model)
    yield from ((block, block) for block in blocks(reader, 0, first))
    waiting: Samples = np.zeros((stream.channels, 0), np.float32)  # as read, which may be finer than what the stream works with
    for block in chain(blocks(reader, first, last), [waiting]):
        waiting = np.concatenate([waiting, block], axis=-1)
        enhanced, _ = stream.process(block.astype(np.float32, copy=False), last=not block.shape[-1])
        ready = enhanced.shape[-1]
        noisy, waiting = waiting[:, :ready], waiting[:, ready:]
        yield span.blend(enhanced, noisy, first, stream.sample_rate), noisy
        first += ready
    yield from ((block, block) for block in blocks(reader, last, span.frames))


def blocks(reader: AudioReader, start: int, end: int, length: int | None = None) -> Iterator[Samples]:
    """The samples `start` to `end` of a file, of which `start` is the next to be read, in blocks of `length`; None is what is handy.

    Raises:
        AudioFileError: some of them are no numbers, or absurdly loud.
    """
    length = length or piece_length(reader.info.sample_rate, reader.info.channels)
    while start < end:
        block = reader.read(min(length, end - start))
        if (place := find_bad(block)) is not None:
            channel, sample = place
            what = f"sample {start + sample} of channel {channel} is {block[place]:g}"
            raise AudioFileError(f"{reader.path} cannot be cleaned: {what}; expected finite numbers around -1..1")
        yield block
        start += block.shape[-1]
