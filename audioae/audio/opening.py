"""Audio files opened for reading: whatever is wrong with a file is an `AudioFileError` that names it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import soundfile

from audioae.audio import chunks, media, mp3, riff
from audioae.audio.form import AnyPath, AudioInfo
from audioae.errors import AudioFileError

IN_BLOCKS = ("IMA_ADPCM", "MS_ADPCM", "GSM610")  # subtypes whose last block is filled up with silence


class Source(Protocol):
    """An open file, whichever library reads it."""

    exact: bool  # whether `seek` arrives where it says

    def read(self, frames: int, *, dtype: str, always_2d: bool) -> npt.NDArray[np.floating[Any]]:
        """The next `[n, channels]` samples."""

    def seek(self, frames: int) -> int:
        """Move to a sample; which one it is."""

    def form(self, path: Path) -> AudioInfo:
        """The form of the file, with the length that its header tells."""


class Sound(soundfile.SoundFile):  # type: ignore[misc]  # soundfile has no types
    """A sound file that is read strictly in order.

    soundfile seeks after every read. libsndfile's seek is off by a constant in Vorbis files and tears MP3 frames apart, so that is left out
    by saying that it cannot be done; `seek` itself still works where it is exact.
    """

    def seekable(self) -> bool:
        """False, whatever the file is."""
        return False

    @property
    def exact(self) -> bool:
        """Whether `seek` arrives where it says."""
        return self.format not in ("OGG", "MP3")

    def form(self, path: Path) -> AudioInfo:
        """The form of the file, with the length that its header tells."""
        tags = {name: text for name, text in self.copy_metadata().items() if text}
        form = AudioInfo(self.samplerate, self.channels, self.frames, self.format, self.subtype, self.endian, tags, path)
        if form.subtype in IN_BLOCKS and form.container in ("WAV", "WAVEX"):
            form = replace(form, frames=riff.told_frames(path, form.frames))
        elif form.container == "W64":
            form = replace(form, frames=riff.data_frames(path, form.frames))
        elif form.container == "AIFF" and form.subtype.startswith(("PCM", "FLOAT", "DOUBLE", "ULAW", "ALAW")):
            form = replace(form, frames=riff.common_frames(path, form.frames))
        lossy = form.container in ("OGG", "MP3") and form.frames
        return replace(form, bit_rate=path.stat().st_size * 8 / form.seconds) if lossy else form


@contextmanager
def open_sound(path: Path, suffix: str) -> Iterator[Source]:
    """Open `path` for reading; raises `AudioFileError` if there is no audio in it or less than its header promises."""
    check_file(path)
    if suffix.lower() in media.SUFFIXES:
        with media.MediaSound(path) as decoded:
            yield decoded
        return
    with _readable(path) as sound:
        if sound.format == "MP3" and (stream := _untold(path)):
            with mp3.Counted(path, stream) as file, _readable(path, file) as counted:
                yield counted
            return
        if wrong := chunks.flaw(path):
            raise AudioFileError(f"{path}: {wrong}")
        yield sound


@contextmanager
def _readable(path: Path, file: mp3.Counted | None = None) -> Iterator[Sound]:
    try:
        sound = Sound(file or native(path))
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: a headerless .raw file
        reason = getattr(error, "error_string", "a raw file has no header").rstrip(".")
        raise AudioFileError(f"{path} cannot be read as audio ({reason}); expected wav, flac, aiff, ogg, mp3, ...") from error
    try:
        yield sound
    finally:
        sound.close()


def _untold(path: Path) -> mp3.Stream | None:
    """The frames of an MP3 file if its own header does not count them rightly."""
    stream = mp3.scan(path)
    if stream is None or stream.promised == stream.frames:
        return None
    if stream.promised and stream.frames < stream.promised * (1 - mp3.TOLERANCE) - 1:
        raise AudioFileError(
            f"{path}: its header promises {stream.promised * stream.samples_per_frame} samples, the file holds "
            f"{stream.frames * stream.samples_per_frame}: it was cut short; copy it again"
        )
    return stream


def check_file(path: Path) -> None:
    """Raise `AudioFileError` unless `path` is a file with something in it that may be read."""
    if os.path.isdir(path):  # unlike Path.is_dir it has no errors of its own
        raise AudioFileError(f"{path} is a folder; expected an audio file")
    try:
        size = path.stat().st_size
        with path.open("rb"):
            pass
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise AudioFileError(f"{path} cannot be opened ({getattr(error, 'strerror', error)}); check the path") from error
    if size == 0:
        raise AudioFileError(f"{path} is empty (0 bytes); expected an audio file")


def native(path: AnyPath) -> str | bytes:
    """The path as libsndfile wants it: bytes where file names are bytes (they need not be valid text), else text."""
    return os.fsencode(path) if os.name == "posix" else os.fspath(path)
