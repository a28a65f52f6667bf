"""Audio files opened for reading: whatever is wrong with a file is an `AudioFileError` that names it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import soundfile

from audioae.audio import chunks, mp3
from audioae.errors import AudioFileError

AnyPath = str | os.PathLike[str]


class Sound(soundfile.SoundFile):  # type: ignore[misc]  # soundfile has no types
    """A sound file that is read strictly in order.

    soundfile seeks after every read. libsndfile's seek is off by a constant in Vorbis files and tears MP3 frames apart, so that is left out
    by saying that it cannot be done; `seek` itself still works where it is exact.
    """

    def seekable(self) -> bool:
        """False, whatever the file is."""
        return False


@contextmanager
def open_sound(path: AnyPath) -> Iterator[Sound]:
    """Open `path` for reading; raises `AudioFileError` if there is no audio in it or less than its header promises."""
    check_file(Path(path))
    with _readable(path) as sound:
        if sound.format == "MP3" and (stream := _untold(Path(path))):
            with mp3.Counted(Path(path), stream) as file, _readable(path, file) as counted:
                yield counted
            return
        if wrong := chunks.flaw(Path(path)):
            raise AudioFileError(f"{path}: {wrong}")
        yield sound


@contextmanager
def _readable(path: AnyPath, file: mp3.Counted | None = None) -> Iterator[Sound]:
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
    if path.is_dir():
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
