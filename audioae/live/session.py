"""The loop of live sound: a block comes from a source, is cleaned, and what is ready goes to the
sinks; and what is told of it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import numpy as np

from audioae.denoising import DenoiseSettings, Stream
from audioae.engine import Engine
from audioae.errors import AudioaeError, DeviceError, OutputError
from audioae.signal.spectrogram import Array

SILENT_DBFS = -120.0  # what silence counts as
SHORTEST, LONGEST = 1e-6, 100.0  # seconds that blocks are told apart between
STEPS = 100  # of the histogram, per factor of e: each 1 % longer than the one before


class LevelMeter:
    """The RMS levels before and after cleaning of what came since they were last taken."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._before = self._after = 0.0
        self._samples = 0

    def add(self, noisy: Array, enhanced: Array) -> None:
        """Take the same moments before and after, `[channels, samples]`."""
        self._before += float(np.square(noisy, dtype=np.float64).sum())
        self._after += float(np.square(enhanced, dtype=np.float64).sum())
        self._samples += noisy.size

    def take(self) -> tuple[float, float]:
        """The levels before and after, dBFS; the next ones are those of what comes from now on."""
        levels = to_dbfs(self._before, self._samples), to_dbfs(self._after, self._samples)
        self._reset()
        return levels


def to_dbfs(power: float, samples: int) -> float:
    """The RMS level of a sum of squares, dBFS, not below `SILENT_DBFS`."""
    mean = power / samples if samples else 0.0
    return max(10 * math.log10(mean), SILENT_DBFS) if mean > 0 else SILENT_DBFS


class TimeMeter:
    """Percentiles of durations, to 1 %."""

    def __init__(self) -> None:
        self._counts = np.zeros(math.ceil(STEPS * math.log(LONGEST / SHORTEST)) + 1, np.int64)

    def add(self, seconds: float) -> None:
        """Count one duration."""
        index = round(STEPS * math.log(min(max(seconds, SHORTEST), LONGEST) / SHORTEST))
        self._counts[index] += 1

    def percentile(self, percent: float) -> float:
        """The duration, seconds, that so many percent of all do not exceed; 0 where there were
        none.
        """
        total = int(self._counts.sum())
        if not total:
            return 0.0
        index = int(np.searchsorted(self._counts.cumsum(), max(percent / 100 * total, 1)))
        return SHORTEST * math.exp(index / STEPS)


Ended = Literal["source", "limit", "stopped", "error"]
WARM_BLOCKS = 8  # after which a model's first, slow runs are over


@dataclass
class Xruns:
    """How often sound was lost.

    Args:
        overruns: times that input was lost, by the device or because cleaning fell behind.
        underruns: times that the output device was given silence because nothing was ready.
        dropped_samples: samples per channel of input that were thrown away because cleaning fell
            behind.
    """

    overruns: int = 0
    underruns: int = 0
    dropped_samples: int = 0


class Source(Protocol):
    """Where blocks come from, once its `with` block is entered."""

    sample_rate: int
    channels: int
    block: int  # samples that it gives at a time
    xruns: Xruns
    device_latency: float | None  # seconds, of the devices on both sides

    def read(self) -> Array | None:
        """The next `[channels, n]`, n may be 0 when nothing came for a while; None at the end.

        Raises:
            DeviceError: the device has vanished.
        """
        ...

    def stop(self) -> None:
        """Take no more sound; `read` gives what was taken before."""
        ...

    def finish(self) -> None:
        """Take no more sound; all is handed on to the sinks, so wait until it was heard."""
        ...


class Sink(Protocol):
    """Where cleaned sound goes."""

    def write(self, block: Array, /) -> None:
        """Take the next `[channels, n]`."""
        ...


@dataclass(frozen=True)
class LiveResult:
    """What became of a session.

    Args:
        seconds: of sound that was cleaned.
        block_ms: how much comes at a time, and so the time there is to clean it; latency_ms: of the
            stream in such blocks, with latency_samples the same at its sample rate;
            device_latency_ms: what the devices add, None where there are none.
        overruns, underruns, dropped_samples: see `Xruns`.
        processing_p50_ms, processing_p99_ms: that cleaning a block took, half and 99 % of them at
            most.
        mean_attenuation_db: level in over level out.
        ended: "source": it came to its end; "limit": as many as were asked for; "stopped";
            "error".
        error: why it ended, where that is an error.
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
        """Plain values, as JSON takes them."""
        return asdict(self)


class Session:
    """Takes a source through a stream to its sinks, as many samples out as in.

    Args:
        num_samples: end after so many samples per channel; None is no limit.
        stopped: asked before every block; True ends the session, and what was taken by then is
            cleaned.

    Attributes:
        levels: before and after cleaning.
        error: what ended the session, if that was an error; what was cleaned before it has gone to
            the sinks.
    """

    def __init__(
        self,
        stream: Stream,
        source: Source,
        sinks: Sequence[Sink],
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
        """Clean until there is an end; gives, after every block, how many samples per channel it
        had.

        A device that vanishes and an output that cannot be written further end it too, and are kept
        in `error`.
        """
        try:
            yield from self._blocks()
        except (DeviceError, OutputError) as error:
            self._ended, self.error = "error", error
        if not isinstance(self.error, OutputError):
            enhanced, noisy = self.stream.process(
                np.zeros((self.stream.channels, 0), np.float32), last=True
            )
            self._hand_on(enhanced, noisy)
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
                yield self._clean(block[:, : self._left])
        self._ended = "limit"

    def _clean(self, block: Array) -> int:
        begun = time.perf_counter()
        enhanced, noisy = self.stream.process(block)
        self._times.add(time.perf_counter() - begun)
        self._hand_on(enhanced, noisy)
        samples: int = block.shape[-1]
        self._num_samples += samples
        self._left = None if self._left is None else self._left - samples
        return samples

    def _hand_on(self, enhanced: Array, noisy: Array) -> None:
        self.levels.add(noisy, enhanced)
        for sink in self.sinks:
            sink.write(enhanced)

    def result(self, model: str) -> LiveResult:
        """What became of it, by the name of the model."""
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


def warm(
    engine: Engine, sample_rate: int, channels: int, settings: DenoiseSettings, block: int
) -> None:
    """Clean some silence, so that no block of a session waits for what happens once: a model's
    first runs, the tables of resamplers.
    """
    stream = Stream(engine, sample_rate, channels, settings)
    for _ in range(-(-stream.latency // block) + WARM_BLOCKS):
        stream.push(np.zeros((channels, block), np.float32))
