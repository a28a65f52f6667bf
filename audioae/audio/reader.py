"""Read audio files as float waveforms `[channels, samples]`, whole or block by block."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import soundfile

from audioae.audio.form import AnyPath, AudioInfo
from audioae.audio.sources import SKIP_BLOCK, Source, open_sound, reason_of
from audioae.errors import AudioFileError
from audioae.fields import as_path

UNKNOWN_LENGTH = 2**62  # libsndfile reports more for a FLAC that was written to a pipe

Array = npt.NDArray[np.float32]
Precision = Literal["float32", "float64"]


class AudioReader:
    """Reads an audio file block by block, in constant memory.

    Args:
        path: the file.
        dtype: type of the samples. "float32" is exact for up to 24 bits, "float64" also for PCM_32
            and DOUBLE.
        track: number of the audio track of a film, from 0.

    Attributes:
        info: the form of the file.
        dtype: of the next blocks.

    Raises:
        AudioFileError: the file is missing, holds no audio or is cut short.

    Example:
        >>> from audioae.audio import AudioReader, write
        >>> write("tone.wav", np.zeros((2, 1000)), 16000)
        >>> with AudioReader("tone.wav") as reader:
        ...     reader.seek(200)
        ...     while (block := reader.read(300)).shape[1]:
        ...         print(block.shape)
        (2, 300)
        (2, 300)
        (2, 200)
    """

    def __init__(self, path: AnyPath, *, dtype: Precision = "float32", track: int = 0) -> None:
        self.path, self.track = as_path(path, "path"), track
        self.dtype: Precision = dtype
        self._open()
        form = self._sound.form(self.path)
        self.info: AudioInfo = info(path) if form.num_samples > UNKNOWN_LENGTH else form

    def _open(self) -> None:
        self._stack = ExitStack()
        self._sound = self._stack.enter_context(open_sound(self.path, self.track))
        self._at = 0

    def close(self) -> None:
        """Close the file; leaving a `with` block does, too."""
        self._stack.close()

    def __enter__(self) -> AudioReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def seek(self, sample: int) -> None:
        """Start the next block at `sample`; 0 is the first.

        The position is exact for all formats. Where libsndfile's own seek is not, samples are
        decoded and discarded.

        Raises:
            AudioFileError: the position is outside the file.
        """
        if not 0 <= sample <= self.info.num_samples:
            raise AudioFileError(
                f"{self.path} has {self.info.num_samples} samples; cannot start at {sample}"
            )
        if self._sound.exact and self._seek(sample):
            self._at = sample
            return
        if sample < self._at:
            self._stack.close()
            self._open()
        while self._at < sample:
            self.read(min(sample - self._at, SKIP_BLOCK))

    def _seek(self, sample: int) -> bool:
        try:
            return int(self._sound.seek(sample)) == sample
        except soundfile.LibsndfileError:
            return False

    def read(self, num_samples: int) -> Array:
        """Read the next samples.

        Args:
            num_samples: samples per channel.

        Returns:
            `[channels, num_samples]`; fewer samples at the end of the file, 0 after it.

        Raises:
            AudioFileError: the file is damaged or ends too early.
        """
        wanted = min(num_samples, self.info.num_samples - self._at)
        try:
            block = self._sound.read(wanted, dtype=self.dtype, always_2d=True)
        except soundfile.LibsndfileError as error:
            raise self._short(self._at, reason_of(error)) from error
        self._at += len(block)
        if len(block) < wanted:
            raise self._short(self._at, "unexpected end")
        return np.ascontiguousarray(block.T)

    def _short(self, held: int, reason: str) -> AudioFileError:
        total = self.info.num_samples
        return AudioFileError(
            f"{self.path} is damaged or cut short: {held} of {total} samples can be read ({reason})"
        )


def read(
    path: AnyPath, *, start: int = 0, num_samples: int = -1, dtype: Precision = "float32"
) -> tuple[npt.NDArray[Any], int]:
    """Read an audio file, or a part of it.

    Args:
        path: the file.
        start: first sample to read.
        num_samples: samples per channel to read; -1 reads to the end.
        dtype: type of the samples; see `AudioReader`.

    Returns:
        The waveform `[channels, samples]`, between -1 and 1 for integer encodings, and the sample
        rate in Hz.

    Raises:
        AudioFileError: the file is missing, holds no audio, or is damaged.

    Example:
        >>> from audioae.audio import read, write
        >>> write("tone.wav", np.zeros((2, 1000)), 16000)
        >>> waveform, sample_rate = read("tone.wav", start=900)
        >>> waveform.shape, sample_rate
        ((2, 100), 16000)
    """
    with AudioReader(path, dtype=dtype) as reader:
        if start:
            reader.seek(start)
        wanted = reader.info.num_samples - start if num_samples < 0 else num_samples
        return reader.read(wanted), reader.info.sample_rate


def info(path: AnyPath, *, track: int = 0) -> AudioInfo:
    """The form of an audio file, without reading its samples.

    Args:
        path: the file.
        track: number of the audio track of a film, from 0.

    Raises:
        AudioFileError: the file is missing, holds no audio, or is cut short.

    Example:
        >>> from audioae.audio import info, write
        >>> write("tone.wav", np.zeros((2, 8000)), 16000)
        >>> form = info("tone.wav")
        >>> form.container, form.subtype, form.channels, form.seconds
        ('WAV', 'PCM_16', 2, 0.5)
    """
    path = as_path(path, "path")
    try:
        state = os.stat(path)
    except (OSError, ValueError):  # opening it tells why
        return _info(path, track, ())
    return _info(path, track, (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns))


@lru_cache(maxsize=64)
def _info(path: Path, track: int, identity: tuple[int, ...]) -> AudioInfo:
    """`info`, cached while the file has this identity: planning asks several times."""
    with open_sound(path, track) as sound:
        form = sound.form(path)
        if form.num_samples > UNKNOWN_LENGTH:
            form = replace(form, num_samples=_count(sound, path))
        return form


def _count(sound: Source, path: Path) -> int:
    """Samples per channel of a file without a length in its header: decode it to the end."""
    total = 0
    try:
        while read := len(sound.read(SKIP_BLOCK, dtype="float32", always_2d=True)):
            total += read
    except soundfile.LibsndfileError as error:
        raise AudioFileError(
            f"{path} is damaged after {total} samples ({reason_of(error)}); copy it again"
        ) from error
    return total
