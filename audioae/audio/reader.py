"""Read audio files as float waveforms `[channels, samples]`, whole or block by block."""

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

PADDED = ("IMA_ADPCM", "MS_ADPCM", "GSM610")  # codecs that pad the last block with silence
UNKNOWN_LENGTH = 2**62  # libsndfile reports more for a FLAC that was written to a pipe
SKIP_BLOCK = 2**16  # samples per channel that are decoded at a time only to be skipped or counted

Array = npt.NDArray[np.float32]
Precision = Literal["float32", "float64"]


class Source(Protocol):
    """An open audio file, read by libsndfile or FFmpeg."""

    exact: bool  # whether `seek` arrives at the requested sample

    def read(
        self, num_samples: int, *, dtype: str, always_2d: bool
    ) -> npt.NDArray[np.floating[Any]]:
        """The next `[n, channels]` samples."""

    def seek(self, sample: int) -> int:
        """Move to a sample and return the position reached."""

    def form(self, path: Path) -> AudioInfo:
        """The form of the file, with the length in its header."""


class Sound(soundfile.SoundFile):  # type: ignore[misc]  # soundfile has no types
    """A sound file that is read strictly in order.

    soundfile seeks after every read. libsndfile's seek is off by a constant in Vorbis files and
    damages the decoding of MP3 files. `seekable` returns False to prevent it; `seek` still works
    where it is exact.
    """

    def seekable(self) -> bool:
        """Always False, so that soundfile does not seek after reading."""
        return False

    @property
    def exact(self) -> bool:
        """Whether `seek` arrives at the requested sample."""
        return self.format not in ("OGG", "MP3")

    def form(self, path: Path) -> AudioInfo:
        """The form of the file, with the length in its header corrected."""
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
        if form.subtype in PADDED and form.container in ("WAV", "WAVEX"):
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
    """Open `path` for reading, as a file with this suffix.

    Raises:
        AudioFileError: the file holds no audio, or less than its header declares.
    """
    check_file(path)
    if suffix.lower() in media.SUFFIXES:
        with media.MediaSource(path) as decoded:
            yield decoded
        return
    with _readable(path) as sound:
        if sound.format == "MP3" and (stream := _miscounted_mp3(path)):
            with mp3.CountedFile(path, stream) as file, _readable(path, file) as counted:
                yield counted
            return
        if damage := riff.find_damage(path):
            raise AudioFileError(f"{path} {damage}")
        yield sound


@contextmanager
def _readable(path: Path, file: mp3.CountedFile | None = None) -> Iterator[Sound]:
    try:
        sound = Sound(file or native_path(path))
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: a headerless .raw file
        reason = getattr(error, "error_string", "a raw file has no header").rstrip(".")
        raise AudioFileError(
            f"{path} cannot be read as audio ({reason}); expected wav, flac, aiff, ogg, mp3, ..."
        ) from error
    try:
        yield sound
    finally:
        sound.close()


def _miscounted_mp3(path: Path) -> mp3.Stream | None:
    """The stream of an MP3 file whose header has no frame count or a wrong one, else None."""
    stream = mp3.scan(path)
    if stream is None or stream.declared_frames == stream.mp3_frames:
        return None
    declared = stream.declared_frames or 0
    if stream.mp3_frames < declared * (1 - mp3.TOLERANCE) - 1:
        raise AudioFileError(
            f"{path} is cut short: its header declares {declared * stream.samples_per_frame} "
            f"samples, the file holds {stream.mp3_frames * stream.samples_per_frame}; copy it again"
        )
    return stream


def check_file(path: Path) -> None:
    """Raise `AudioFileError` unless `path` is a readable file that is not empty."""
    if os.path.isdir(path):  # unlike Path.is_dir it raises no errors
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


def native_path(path: AnyPath) -> str | bytes:
    """The path as libsndfile expects it: bytes on POSIX, where names need not be valid text."""
    return os.fsencode(path) if os.name == "posix" else os.fspath(path)


class AudioReader:
    """Reads an audio file block by block, in constant memory.

    Args:
        path: the file.
        dtype: type of the samples. "float32" is exact for up to 24 bits, "float64" also for PCM_32
            and DOUBLE.

    Attributes:
        info: the form of the file.

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
            raise self._short(self._at, error.error_string.rstrip(".")) from error
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


def info(path: AnyPath) -> AudioInfo:
    """The form of an audio file, without reading its samples.

    Raises:
        AudioFileError: the file is missing, holds no audio, or is cut short.

    Example:
        >>> from audioae.audio import info, write
        >>> write("tone.wav", np.zeros((2, 8000)), 16000)
        >>> form = info("tone.wav")
        >>> form.container, form.subtype, form.channels, form.seconds
        ('WAV', 'PCM_16', 2, 0.5)
    """
    return info_as(Path(path), Path(path).suffix)


def info_as(path: Path, suffix: str) -> AudioInfo:
    """The form of a file, read as if its name had this suffix."""
    with open_sound(path, suffix) as sound:
        form = sound.form(path)
        return (
            replace(form, num_samples=_count(sound, path))
            if form.num_samples > UNKNOWN_LENGTH
            else form
        )


def _count(sound: Source, path: Path) -> int:
    """Samples per channel of a file without a length in its header: decode it to the end."""
    total = 0
    try:
        while read := len(sound.read(SKIP_BLOCK, dtype="float32", always_2d=True)):
            total += read
    except soundfile.LibsndfileError as error:
        raise AudioFileError(
            f"{path} is damaged after {total} samples ({error.error_string.rstrip('.')}); "
            "copy it again"
        ) from error
    return total
