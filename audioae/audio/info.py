"""What an audio file is: sample rate, channels, length, container, subtype, tags; read without decoding the samples."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import soundfile

from audioae.errors import AudioFileError

AnyPath = str | os.PathLike[str]


@dataclass(frozen=True)
class AudioInfo:
    """The form of an audio file, enough to write another one like it.

    Args:
        sample_rate: Hz.
        frames: samples per channel.
        container: "WAV", "FLAC", ... as libsndfile names them, or "MP4", "WEBM", ... for what PyAV reads.
        subtype: "PCM_16", "VORBIS", ... as libsndfile names them, or PyAV's codec name in capitals.
        endian: "FILE" (what is usual in the container), "LITTLE" or "BIG".
        tags: title, artist, album, comment, date, genre, tracknumber, copyright, license, software.
        source: the file that this was read from; a writer copies from it what libsndfile does not carry.
        bit_rate: bits per second of a lossy file, else None.
    """

    sample_rate: int
    channels: int
    frames: int
    container: str
    subtype: str
    endian: str = "FILE"
    tags: dict[str, str] = field(default_factory=dict, hash=False)
    source: Path | None = field(default=None, compare=False)
    bit_rate: float | None = field(default=None, compare=False)

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.frames / self.sample_rate


def info(path: AnyPath) -> AudioInfo:
    """The form of the file at `path`. Raises `AudioFileError` for anything that is not a readable audio file."""
    with open_sound(path) as sound:
        return describe(sound, Path(path))


def describe(sound: soundfile.SoundFile, path: Path) -> AudioInfo:
    """The form of an open file."""
    tags = {name: text for name, text in sound.copy_metadata().items() if text}
    form = AudioInfo(sound.samplerate, sound.channels, sound.frames, sound.format, sound.subtype, sound.endian, tags, path)
    lossy = form.container in ("OGG", "MP3") and form.frames
    return replace(form, bit_rate=path.stat().st_size * 8 / form.seconds) if lossy else form


@contextmanager
def open_sound(path: AnyPath) -> Iterator[soundfile.SoundFile]:
    """Open `path` for reading; whatever is wrong with it becomes an `AudioFileError` that names it."""
    check_file(Path(path))
    try:
        sound = soundfile.SoundFile(native(path))
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: a headerless .raw file
        reason = getattr(error, "error_string", "a raw file has no header").rstrip(".")
        raise AudioFileError(f"{path} cannot be read as audio ({reason}); expected wav, flac, aiff, ogg, mp3, ...") from error
    with sound:
        yield sound


def check_file(path: Path) -> None:
    """Raise `AudioFileError` unless `path` is a file with something in it that may be read."""
    if path.is_dir():
        raise AudioFileError(f"{path} is a folder; expected an audio file")
    try:
        size = path.stat().st_size
        with path.open("rb"):
            pass
    except OSError as error:
        raise AudioFileError(f"{path} cannot be opened ({error.strerror}); check the path") from error
    if size == 0:
        raise AudioFileError(f"{path} is empty (0 bytes); expected an audio file")


def native(path: AnyPath) -> str | bytes:
    """The path as libsndfile wants it: bytes where file names are bytes (they need not be valid text), else text."""
    return os.fsencode(path) if os.name == "posix" else os.fspath(path)
