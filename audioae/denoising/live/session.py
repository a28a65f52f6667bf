"""The live loop: read a block from a source, denoise it, write what is ready to the sinks.

The source is a device or a file that is read at the speed of a device.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Literal, Protocol

import numpy as np

from audioae.audio import AudioReader
from audioae.audio.form import AnyPath
from audioae.denoising import DenoiseSettings, Stream
from audioae.denoising.level import START_SECONDS, running_level
from audioae.denoising.passes import blocks
from audioae.engine import Engine
from audioae.errors import AudioaeError, DeviceError, OutputError
from audioae.signal.spectrogram import Array

SILENT_DBFS = -120.0  # the level that silence is reported as
SHORTEST, LONGEST = 1e-6, 100.0  # range of the histogram of durations, seconds
STEPS = 100  # of the histogram per factor of e, so that each is 1 % longer than the one before


class LevelMeter:
    """RMS levels before and after denoising, since they were last taken."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._before = self._after = 0.0
        self._samples = 0

    def add(self, noisy: Array, enhanced: Array) -> None:
        """Add the same samples before and after, `[channels, num_samples]`."""
        self._before += float(np.square(noisy, dtype=np.float64).sum())
        self._after += float(np.square(enhanced, dtype=np.float64).sum())
        self._samples += noisy.size

    def take(self) -> tuple[float, float]:
        """The levels before and after, dBFS. Starts a new measurement."""
        levels = to_dbfs(self._before, self._samples), to_dbfs(self._after, self._samples)
        self._reset()
        return levels


def to_dbfs(power: float, samples: int) -> float:
    """The RMS level of a sum of squares in dBFS, at least `SILENT_DBFS`."""
    mean = power / samples if samples else 0.0
    return max(10 * math.log10(mean), SILENT_DBFS) if mean > 0 else SILENT_DBFS


class TimeMeter:
    """Percentiles of durations with a resolution of 1 %, in constant memory."""

    def __init__(self) -> None:
        self._counts = np.zeros(math.ceil(STEPS * math.log(LONGEST / SHORTEST)) + 1, np.int64)

    def add(self, seconds: float) -> None:
        """Add a duration."""
        index = round(STEPS * math.log(min(max(seconds, SHORTEST), LONGEST) / SHORTEST))
        self._counts[index] += 1

    def percentile(self, percent: float) -> float:
        """The percentile in seconds; 0 if there are no durations."""
        total = int(self._counts.sum())
        if not total:
            return 0.0
        index = int(np.searchsorted(self._counts.cumsum(), max(percent / 100 * total, 1)))
        return SHORTEST * math.exp(index / STEPS)


Ended = Literal["source", "limit", "stopped", "error"]
WARM_BLOCKS = 8  # the first runs of a model are slow


@dataclass
class Xruns:
    """Counters of lost sound.

    Args:
        overruns: times that input was lost, by the device or because denoising fell behind.
        underruns: times that the output device played silence because no output was ready.
        dropped_samples: samples per channel of input dropped because denoising fell behind.
    """

    overruns: int = 0
    underruns: int = 0
    dropped_samples: int = 0


class BlockSource(Protocol):
    """Where blocks come from. It is a context manager; read inside its `with` block.

    Attributes:
        sample_rate: in Hz.
        block: samples per channel in one block.
        device_latency: seconds that the devices add; None if there are none.
    """

    sample_rate: int
    channels: int
    block: int
    xruns: Xruns
    device_latency: float | None

    def read(self) -> Array | None:
        """The next block, `[channels, num_samples]`, or None at the end. A block is empty if
        nothing arrived for a while.

        Raises:
            DeviceError: the device was disconnected.
        """
        ...

    def stop(self) -> None:
        """Stop capturing; `read` still gives what was captured before."""
        ...

    def finish(self) -> None:
        """Stop capturing, and wait until everything written to an output device was played."""
        ...


class BlockSink(Protocol):
    """Where denoised blocks go."""

    def write(self, block: Array, /) -> None:
        """Write the next block, `[channels, num_samples]`."""
        ...


@dataclass(frozen=True)
class LiveResult:
    """The result of a session.

    Args:
        seconds: duration of the denoised sound.
        block_ms: duration of a block, which is the time there is to denoise it.
        latency_samples, latency_ms: latency of the stream with such blocks.
        device_latency_ms: latency that the devices add; None if there are none.
        overruns, underruns, dropped_samples: see `Xruns`.
        processing_p50_ms, processing_p99_ms: percentiles of the time to denoise a block.
        mean_attenuation_db: level of the input over level of the output.
        ended: why the session ended: "source" (end of the source), "limit" (the number of samples
            that was asked for), "stopped" or "error".
        error: the message of that error.
    """

    seconds: float
    sample_rate: int
    channels: int
    model: str
    block_ms: float
    latency_samples: int
    latency_ms: float
    device_latency_ms: float | None
    overruns: int
    underruns: int
    dropped_samples: int
    processing_p50_ms: float
    processing_p99_ms: float
    mean_attenuation_db: float
    ended: Ended
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


class Session:
    """Denoises a source into sinks. As many samples are written as are read.

    Args:
        num_samples: end after so many samples per channel; None is no limit.
        stopped: called before every block; True ends the session after what was captured so far.

    Attributes:
        levels: before and after denoising.
        error: the error that ended the session, or None. Everything denoised before it has been
            written.
    """

    def __init__(
        self,
        stream: Stream,
        source: BlockSource,
        sinks: Sequence[BlockSink],
        *,
        num_samples: int | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self.stream, self.source, self.sinks = stream, source, sinks
        self.levels = LevelMeter()
        self.error: AudioaeError | None = None
        self._left, self._stopped = num_samples, stopped
        self._times, self._num_samples = TimeMeter(), 0
        self._ended: Ended = "source"

    def run(self) -> Iterator[int]:
        """Denoise until the end. Yields the samples per channel of each block.

        A `DeviceError` or `OutputError` ends the session and is stored in `error`.
        """
        try:
            yield from self._blocks()
        except (DeviceError, OutputError) as error:
            self._ended, self.error = "error", error
        if not isinstance(self.error, OutputError):
            enhanced, noisy = self.stream.process(
                np.zeros((self.stream.channels, 0), np.float32), last=True
            )
            self._write(enhanced, noisy)
        if self._ended in ("source", "limit"):
            self.source.finish()

    def _blocks(self) -> Iterator[int]:
        while self._left is None or self._left > 0:
            if self._stopped():
                self._ended = "stopped"
                self.source.stop()
            block = self.source.read()
            if block is None:
                return
            if block.shape[-1]:
                yield self._denoise(block[:, : self._left])
        self._ended = "limit"

    def _denoise(self, block: Array) -> int:
        begun = time.perf_counter()
        enhanced, noisy = self.stream.process(block)
        self._times.add(time.perf_counter() - begun)
        self._write(enhanced, noisy)
        samples: int = block.shape[-1]
        self._num_samples += samples
        self._left = None if self._left is None else self._left - samples
        return samples

    def _write(self, enhanced: Array, noisy: Array) -> None:
        self.levels.add(noisy, enhanced)
        for sink in self.sinks:
            sink.write(enhanced)

    def result(self, model: str) -> LiveResult:
        """The result so far.

        Args:
            model: name of the model.
        """
        rate, xruns, delay = self.stream.sample_rate, self.source.xruns, self.source.device_latency
        latency = self.stream.latency_in(self.source.block)
        return LiveResult(
            seconds=self._num_samples / rate,
            sample_rate=rate,
            channels=self.stream.channels,
            model=model,
            block_ms=1000 * self.source.block / rate,
            latency_samples=latency,
            latency_ms=1000 * latency / rate,
            device_latency_ms=None if delay is None else 1000 * delay,
            overruns=xruns.overruns,
            underruns=xruns.underruns,
            dropped_samples=xruns.dropped_samples,
            processing_p50_ms=1000 * self._times.percentile(50),
            processing_p99_ms=1000 * self._times.percentile(99),
            mean_attenuation_db=self.stream.attenuation.mean_db,
            ended=self._ended,
            error=None if self.error is None else str(self.error),
        )


def warm_up(
    engine: Engine, sample_rate: int, channels: int, settings: DenoiseSettings, block: int
) -> None:
    """Denoise some silence, so that no block of a session is delayed by what is done only once: the
    first runs of the model, the tables of the resamplers.
    """
    stream = Stream(engine, sample_rate, channels, settings)
    for _ in range(-(-stream.latency // block) + WARM_BLOCKS):
        stream.push(np.zeros((channels, block), np.float32))


class FileSource:
    """The blocks of a file.

    Args:
        block_seconds: duration of a block, rounded to whole samples.
        real_time: give blocks at real-time speed; False gives them at once.

    Raises:
        AudioFileError: it cannot be read, or has NaN or infinite samples.
    """

    def __init__(self, path: AnyPath, block_seconds: float, *, real_time: bool = False) -> None:
        self._reader = AudioReader(path)
        self.info = self._reader.info
        self.sample_rate, self.channels = self.info.sample_rate, self.info.channels
        self.block = max(round(block_seconds * self.sample_rate), 1)
        self.device_latency: float | None = None
        self.xruns = Xruns()
        self._real_time, self._stopped = real_time, False
        self._blocks = blocks(self._reader, 0, self.info.num_samples, self.block)
        self._begun: float | None = None
        self._given = 0

    def level_dbfs(self) -> list[float | None] | None:
        """The level of each channel at the start of the recording, dBFS, as `denoise_file` measures
        it. Call it before the first `read`.
        """
        num_samples = min(round(START_SECONDS * self.sample_rate), self.info.num_samples)
        level = running_level(blocks(self._reader, 0, num_samples), self.sample_rate)
        self._reader.seek(0)
        return level

    def __enter__(self) -> FileSource:
        self._begun = time.monotonic()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._reader.__exit__(kind, error, trace)

    def read(self) -> Array | None:
        """The next block, `[channels, num_samples]`; None at the end."""
        block = None if self._stopped else next(self._blocks, None)
        if block is None:
            return None
        self._given += block.shape[-1]
        if self._real_time and self._begun is not None:
            time.sleep(max(self._begun + self._given / self.sample_rate - time.monotonic(), 0))
        return block.astype(np.float32, copy=False)

    def stop(self) -> None:
        """Give no more blocks."""
        self._stopped = True

    def finish(self) -> None:
        """Do nothing: a file has nothing to wait for."""
