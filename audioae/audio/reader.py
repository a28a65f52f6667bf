"""Audio files to float32 waveforms `[channels, samples]`, whole or block by block."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from audioae.audio.info import AnyPath, AudioInfo, describe, open_sound
from audioae.errors import AudioFileError

Array = npt.NDArray[np.float32]


class AudioReader:
    """Reads an audio file block by block; `info` tells its form.

    with AudioReader(path) as reader:
        while (block := reader.read(65536)).shape[1]: ...
    """

    def __init__(self, path: AnyPath) -> None:
        self.path = Path(path)
        self._stack = ExitStack()
        self._sound = self._stack.enter_context(open_sound(path))
        self.info: AudioInfo = describe(self._sound, self.path)

    def __enter__(self) -> AudioReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def seek(self, frame: int) -> None:
        """Let the next block start at `frame` (0 is the first)."""
        self._sound.seek(frame)

    def read(self, frames: int) -> Array:
        """The next `[channels, n]` samples; n is less than `frames` only at the end, and 0 after it."""
        block = self._sound.read(frames, dtype="float32", always_2d=True)
        return np.ascontiguousarray(block.T)


def read(path: AnyPath, *, start: int = 0, frames: int = -1) -> tuple[Array, int]:
    """Read `frames` samples per channel (-1: all) from sample `start` on.

    Returns:
        The waveform `[channels, samples]`, float32 in [-1, 1) for integer files, and the sample rate in Hz.
    """
    with AudioReader(path) as reader:
        total = reader.info.frames
        if not 0 <= start <= total:
            raise AudioFileError(f"{path} has {total} samples; a read cannot start at sample {start}")
        if start:
            reader.seek(start)
        return reader.read(total - start if frames < 0 else frames), reader.info.sample_rate
