"""Audio files to float waveforms `[channels, samples]`, whole or block by block."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import soundfile

from audioae.audio.form import AnyPath, AudioInfo
from audioae.audio.info import SKIP_BLOCK, UNKNOWN_LENGTH, info
from audioae.audio.opening import open_sound
from audioae.errors import AudioFileError

Array = npt.NDArray[np.float32]
Precision = Literal["float32", "float64"]


class AudioReader:
    """Reads an audio file block by block; `info` tells its form.

    with AudioReader(path) as reader:
        while (block := reader.read(65536)).shape[1]: ...

    Args:
        dtype: "float32" is exact for up to 24 bits; "float64" also for PCM_32 and DOUBLE.
    """

    def __init__(self, path: AnyPath, *, dtype: Precision = "float32") -> None:
        self.path, self.dtype = Path(path), dtype
        self._open()
        form = self._sound.form(self.path)
        self.info: AudioInfo = info(path) if form.frames > UNKNOWN_LENGTH else form

    def _open(self) -> None:
        self._stack = ExitStack()
        self._sound = self._stack.enter_context(open_sound(self.path, self.path.suffix))
        self._at = 0

    def __enter__(self) -> AudioReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def seek(self, frame: int) -> None:
        """Let the next block start at `frame` (0 is the first), exactly: where libsndfile cannot, samples are decoded and dropped."""
        if not 0 <= frame <= self.info.frames:
            raise AudioFileError(f"{self.path} has {self.info.frames} samples; it cannot be read from sample {frame} on")
        if self._sound.exact and self._seek(frame):
            self._at = frame
            return
        if frame < self._at:
            self._stack.close()
            self._open()
        while self._at < frame:
            self.read(min(frame - self._at, SKIP_BLOCK))

    def _seek(self, frame: int) -> bool:
        try:
            return int(self._sound.seek(frame)) == frame
        except soundfile.LibsndfileError:
            return False

    def read(self, frames: int) -> Array:
        """The next `[channels, n]` samples; n is less than `frames` only at the end, and 0 after it.

        Raises:
            AudioFileError: the file is damaged, or ends before its length.
        """
        wanted = min(frames, self.info.frames - self._at)
        try:
            block = self._sound.read(wanted, dtype=self.dtype, always_2d=True)
        except soundfile.LibsndfileError as error:
            raise self._short(self._at, error.error_string.rstrip(".")) from error
        self._at += len(block)
        if len(block) < wanted:
            raise self._short(self._at, "no more can be decoded")
        return np.ascontiguousarray(block.T)

    def _short(self, held: int, reason: str) -> AudioFileError:
        total = self.info.frames
        return AudioFileError(f"{self.path} promises {total} samples, {held} can be read ({reason}); it is damaged or was cut short")


def read(path: AnyPath, *, start: int = 0, frames: int = -1, dtype: Precision = "float32") -> tuple[npt.NDArray[Any], int]:
    """Read `frames` samples per channel (-1: all) from sample `start` on.

    Returns:
        The waveform `[channels, samples]`, in [-1, 1) for integer files, and the sample rate in Hz.
    """
    with AudioReader(path, dtype=dtype) as reader:
        if start:
            reader.seek(start)
        return reader.read(reader.info.frames - start if frames < 0 else frames), reader.info.sample_rate
