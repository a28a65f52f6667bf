"""Read a recording, or a recording and its denoised version, block by block: aligned, at one sample
rate, mixed down for listening.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from audioae.audio import AudioInfo, AudioReader
from audioae.audio.formats import OPUS_RATES
from audioae.signal.loudness import Meter
from audioae.signal.resample import StreamResampler, resample

Array = npt.NDArray[np.float32]

BLOCK = 2**16  # samples per channel that are read at once
ALIGN_SECONDS = 30.0  # of sound that are compared to find the delay
SEARCH_SECONDS = 120.0  # from the start in which sound is looked for
LARGEST_DELAY = 1.0  # seconds
ALIGN_RATE = 16000  # Hz, at most, of the signals that are compared
LEAST_CORRELATION = 0.3  # below it the recordings are taken as they are
LARGEST = 1e4  # 80 dB over full scale; squares of larger samples would overflow
QUIET = 1e-5  # peak of a block without sound


def listening_rate(*rates: int) -> int:
    """The lowest rate of Opus that keeps the band of all `rates`, Hz; at most 48 kHz.

    Example:
        >>> listening_rate(44100), listening_rate(16000, 8000), listening_rate(192000)
        (48000, 16000, 48000)
    """
    return next((each for each in OPUS_RATES if each >= max(rates)), OPUS_RATES[-1])


@dataclass
class Facts:
    """What is measured of a recording in its own form, before it is mixed down.

    Args:
        info: the form.
        meter: its levels, complete after the last block.
    """

    path: Path
    info: AudioInfo
    meter: Meter


class _Feed:
    """A recording at the listening rate and number of channels, any number of samples at a time.

    Args:
        skip: samples at the listening rate that are left out at the start; negative: silence that
            is put before.
    """

    def __init__(self, reader: AudioReader, rate: int, channels: int, skip: int = 0) -> None:
        form = reader.info
        self.facts = Facts(reader.path, form, Meter(form.sample_rate, form.channels))
        self._reader, self._channels, self._skip = reader, channels, max(skip, 0)
        self._resampler = StreamResampler(form.sample_rate, rate, channels)
        self._waiting: Array = np.zeros((channels, max(-skip, 0)), np.float32)
        self.ended = False

    def read(self, num_samples: int) -> Array:
        """The next samples, `[channels, num_samples]`; fewer at the end."""
        parts, held = [self._waiting], self._waiting.shape[-1]
        while held < num_samples and not self.ended:
            block = finite(self._reader.read(BLOCK))
            self.facts.meter.add(block)
            self.ended = block.shape[-1] < BLOCK
            part = self._resampler.process(mix_down(block, self._channels), last=self.ended)
            drop = min(self._skip, part.shape[-1])
            self._skip -= drop
            parts.append(part[:, drop:])
            held += part.shape[-1] - drop
        joined = np.concatenate(parts, axis=-1)
        self._waiting = joined[:, num_samples:]
        return joined[:, :num_samples]


def finite(block: Array) -> Array:
    """The samples with NaN as 0, infinity as full scale, and at most `LARGEST`."""
    return np.clip(np.nan_to_num(block, nan=0.0, posinf=1.0, neginf=-1.0), -LARGEST, LARGEST)


def mix_down(block: Array, channels: int) -> Array:
    """`[channels, n]` as one or two channels: unchanged, or the mean of all channels."""
    if len(block) == channels:
        return block
    mean = block.mean(axis=0, dtype=np.float32, keepdims=True)
    return np.repeat(mean, channels, axis=0)


class Span(NamedTuple):
    """A block of a `Pair`: `[channels, n]` each, `after` None without a second recording."""

    before: Array
    after: Array | None


class Pair:
    """Reads one or two recordings block by block, in constant memory.

    Args:
        before: the recording.
        after: its denoised version, or None.
        stereo: keep two channels if all recordings have two; else they are mixed down to one.

    Attributes:
        sample_rate: of the blocks, Hz.
        channels: of the blocks, 1 or 2.
        num_samples: of all blocks, per channel: those of the longer recording.
        delay: seconds by which `after` is late; it is shifted by as much.
        facts: of `before`, and of `after`.

    Raises:
        AudioFileError: a recording cannot be read.
    """

    def __init__(self, before: Path, after: Path | None = None, *, stereo: bool = True) -> None:
        paths = [before] if after is None else [before, after]
        with ExitStack() as stack:
            readers = [stack.enter_context(AudioReader(path)) for path in paths]
            rates = [each.info.sample_rate for each in readers]
            self.sample_rate = listening_rate(*rates)
            is_stereo = all(each.info.channels == 2 for each in readers)
            self.channels = 2 if stereo and is_stereo else 1
            self.delay = find_delay(before, after) if after is not None else 0.0
            skips = [0, round(self.delay * self.sample_rate)]
            self._feeds = [
                _Feed(reader, self.sample_rate, self.channels, skip)
                for reader, skip in zip(readers, skips, strict=False)
            ]
            lengths = [
                -(-each.info.num_samples * self.sample_rate // each.info.sample_rate) - skip
                for each, skip in zip(readers, skips, strict=False)
            ]
            self.num_samples = max(lengths)
            self._stack = stack.pop_all()

    @property
    def seconds(self) -> float:
        """Length of the longer recording in seconds."""
        return self.num_samples / self.sample_rate

    @property
    def facts(self) -> list[Facts]:
        """The form and the levels of each recording; complete after the last block."""
        return [feed.facts for feed in self._feeds]

    def __enter__(self) -> Pair:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def blocks(self, num_samples: int = BLOCK) -> Iterator[Span]:
        """All blocks in order, `[channels, num_samples]`; the shorter recording ends in silence."""
        for start in range(0, self.num_samples, num_samples):
            size = min(num_samples, self.num_samples - start)
            parts = [_padded(feed.read(size), size) for feed in self._feeds]
            yield Span(parts[0], parts[1] if len(parts) > 1 else None)
        for feed in self._feeds:  # complete the levels of recordings that are cut by the delay
            while not feed.ended:
                feed.read(num_samples)


def _padded(block: Array, num_samples: int) -> Array:
    missing = num_samples - block.shape[-1]
    return np.pad(block, ((0, 0), (0, missing))) if missing > 0 else block


def find_delay(before: Path, after: Path) -> float:
    """Seconds by which `after` is late; negative if it is early, 0 if none is found.

    The first seconds with sound are cross-correlated. Delays below a millisecond are taken as 0.
    """
    start = _first_sound(before)
    if start is None:
        return 0.0
    rate, signals = 0, []
    for path in (before, after):
        with AudioReader(path) as reader:
            own = reader.info.sample_rate
            rate = rate or min(own, ALIGN_RATE)
            reader.seek(min(round(start * own), reader.info.num_samples))
            mono = mix_down(finite(reader.read(round(ALIGN_SECONDS * own))), 1)
            signals.append(resample(mono, own, rate)[0].astype(np.float64))
    return _lag(signals[0], signals[1], rate)


def _first_sound(path: Path) -> float | None:
    """Where the sound starts, in seconds; None if there is none at the beginning of the file."""
    with AudioReader(path) as reader:
        rate = reader.info.sample_rate
        for number in range(math.ceil(SEARCH_SECONDS)):
            block = finite(reader.read(rate))
            if block.size and np.abs(block).max() > QUIET:
                return float(max(number - 1, 0))
            if block.shape[-1] < rate:
                break
    return None


def _lag(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64], rate: int) -> float:
    """The lag of `second` in seconds, where their correlation is largest."""
    if not min(len(first), len(second)):
        return 0.0
    size = 2 ** math.ceil(math.log2(len(first) + len(second)))
    spectra = [np.fft.rfft(each, size) for each in (first, second)]
    correlation = np.fft.irfft(np.conj(spectra[0]) * spectra[1], size)
    power = math.sqrt(float((first**2).sum()) * float((second**2).sum()))
    reach = min(round(LARGEST_DELAY * rate), size // 2 - 1)
    near = np.concatenate([correlation[-reach:], correlation[: reach + 1]])  # -reach ... reach
    best = int(near.argmax())
    # the gap to no shift matters: a periodic sound correlates with itself at many lags
    if not power or near[best] < LEAST_CORRELATION * power or near[best] < 1.02 * near[reach]:
        return 0.0
    lag = (best - reach) / rate
    return lag if abs(lag) >= 0.001 else 0.0
