"""Audio files to float waveforms `[channels, samples]`, whole or block by block."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import soundfile

from audioae.audio import media, mp3, riff
from audioae.audio.form import AnyPath, AudioInfo
from audioae.errors import AudioFileError

IN_BLOCKS = (
    "IMA_ADPCM",
    "MS_ADPCM",
    "GSM610",
)  # subtypes whose last block is filled up with silence


class Source(Protocol):
    """An open file, whichever library reads it."""

    exact: bool  # whether `seek` arrives where it says

    def read(
        self, num_samples: int, *, dtype: str, always_2d: bool
    ) -> npt.NDArray[np.floating[Any]]:
        """The next `[n, channels]` samples."""

    def seek(self, num_samples: int) -> int:
        """Move to a sample; which one it is."""

    def form(self, path: Path) -> AudioInfo:
        """The form of the file, with the length that its header tells."""


class Sound(soundfile.SoundFile):  # type: ignore[misc]  # soundfile has no types
    """A sound file that is read strictly in order.

    soundfile seeks after every read. libsndfile's seek is off by a constant in Vorbis files and
    tears MP3 frames apart, so that is left out by saying that it cannot be done; `seek` itself
    still works where it is exact.
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
        form = AudioInfo(
            self.samplerate,
            self.channels,
            self.frames,
            self.format,
            self.subtype,
            self.endian,
            tags,
            path,
        )
        if form.subtype in IN_BLOCKS and form.container in ("WAV", "WAVEX"):
            form = replace(form, num_samples=riff.wav_num_samples(path, form.num_samples))
        elif form.container == "W64":
            form = replace(form, num_samples=riff.w64_num_samples(path, form.num_samples))
        elif form.container == "AIFF" and form.subtype.startswith(
            ("PCM", "FLOAT", "DOUBLE", "ULAW", "ALAW")
        ):
            form = replace(form, num_samples=riff.aiff_num_samples(path, form.num_samples))
        lossy = form.container in ("OGG", "MP3") and form.num_samples
        return replace(form, bit_rate=path.stat().st_size * 8 / form.seconds) if lossy else form


@contextmanager
def open_sound(path: Path, suffix: str) -> Iterator[Source]:
    """Open `path` for reading; raises `AudioFileError` if there is no audio in it or less than its
    header promises.
    """
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
        if wrong := riff.flaw(path):
            raise AudioFileError(f"{path}: {wrong}")
        yield sound


@contextmanager
def _readable(path: Path, file: mp3.Counted | None = None) -> Iterator[Sound]:
    try:
        sound = Sound(file or native(path))
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: a headerless .raw file
        reason = getattr(error, "error_string", "a raw file has no header").rstrip(".")
        raise AudioFileError(
            f"{path} cannot be read as audio ({reason}); expected wav, flac, aiff, ogg, mp3, ..."
        ) from error
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
            f"{path}: its header promises {stream.promised * stream.samples_per_frame} samples, "
            "the file holds "
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
        raise AudioFileError(
            f"{path} cannot be opened ({getattr(error, 'strerror', error)}); check the path"
        ) from error
    if size == 0:
        raise AudioFileError(f"{path} is empty (0 bytes); expected an audio file")


def native(path: AnyPath) -> str | bytes:
    """The path as libsndfile wants it: bytes where file names are bytes (they need not be valid
    text), else text.
    """
    return os.fsencode(path) if os.name == "posix" else os.fspath(path)


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
        self.info: AudioInfo = info(path) if form.num_samples > UNKNOWN_LENGTH else form

    def _open(self) -> None:
        self._stack = ExitStack()
        self._sound = self._stack.enter_context(open_sound(self.path, self.path.suffix))
        self._at = 0

    def __enter__(self) -> AudioReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def seek(self, sample: int) -> None:
        """Let the next block start at `sample` (0 is the first), exactly: where libsndfile cannot,
        samples are decoded and dropped.
        """
        if not 0 <= sample <= self.info.num_samples:
            raise AudioFileError(
                f"{self.path} has {self.info.num_samples} samples; it cannot be read from sample "
                f"{sample} on"
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
        """The next `[channels, n]` samples; n is less than `num_samples` only at the end, and 0 after
        it.

        Raises:
            AudioFileError: the file is damaged, or ends before its length.
        """
        wanted = min(num_samples, self.info.num_samples - self._at)
        try:
            block = self._sound.read(wanted, dtype=self.dtype, always_2d=True)
        except soundfile.LibsndfileError as error:
            raise self._short(self._at, error.error_string.rstrip(".")) from error
        self._at += len(block)
        if len(block) < wanted:
            raise self._short(self._at, "no more can be decoded")
        return np.ascontiguousarray(block.T)

    def _short(self, held: int, reason: str) -> AudioFileError:
        total = self.info.num_samples
        return AudioFileError(
            f"{self.path} promises {total} samples, {held} can be read ({reason}); it is damaged "
            "or was cut short"
        )


def read(
    path: AnyPath, *, start: int = 0, num_samples: int = -1, dtype: Precision = "float32"
) -> tuple[npt.NDArray[Any], int]:
    """Read `num_samples` samples per channel (-1: all) from sample `start` on.

    Returns:
        The waveform `[channels, samples]`, in [-1, 1) for integer files, and the sample rate in Hz.
    """
    with AudioReader(path, dtype=dtype) as reader:
        if start:
            reader.seek(start)
        return reader.read(
            reader.info.num_samples - start if num_samples < 0 else num_samples
        ), reader.info.sample_rate


UNKNOWN_LENGTH = 2**62  # libsndfile's count for a FLAC that was written to a pipe is beyond this
SKIP_BLOCK = 2**16  # samples per channel that are decoded at a time only to be counted


def info(path: AnyPath) -> AudioInfo:
    """The form of the file at `path`. Raises `AudioFileError` for anything that is not a readable
    audio file.
    """
    return inspect(Path(path), Path(path).suffix)


def inspect(path: Path, suffix: str) -> AudioInfo:
    """The form of a file that should have this suffix, whatever it is called."""
    with open_sound(path, suffix) as sound:
        form = sound.form(path)
        return (
            replace(form, num_samples=_count(sound, path))
            if form.num_samples > UNKNOWN_LENGTH
            else form
        )


def _count(sound: Source, path: Path) -> int:
    """Samples per channel of a file that does not tell: it is decoded to its end."""
    total = 0
    try:
        while read := len(sound.read(SKIP_BLOCK, dtype="float32", always_2d=True)):
            total += read
    except soundfile.LibsndfileError as error:
        raise AudioFileError(
            f"{path} is damaged after {total} samples ({error.error_string.rstrip('.')}); copy "
            "it again"
        ) from error
    return total
