"""A file in place of a microphone, so that the live loop also runs without audio devices."""

from __future__ import annotations

import time
from types import TracebackType

import numpy as np

from audioae.audio import AudioReader
from audioae.audio.form import AnyPath
from audioae.denoising.level import START_SECONDS, running_level
from audioae.denoising.passes import blocks
from audioae.live.session import Xruns
from audioae.signal.spectrogram import Array


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
