"""Open audio files with libsndfile or FFmpeg, as their content asks for, behind one interface.

libsndfile reads one recording with a complete header. MP3 streams without a frame count, chained
Ogg files and WAV files from a pipe are presented to it through `content.FileView`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt
import soundfile

from audioae.audio import content, damage, layout, media, mp3, ogg, riff
from audioae.audio.form import AnyPath, AudioInfo
from audioae.errors import AudioFileError, DependencyError

PADDED = ("IMA_ADPCM", "MS_ADPCM", "GSM610")  # codecs that pad the last block with silence
SKIP_BLOCK = 2**16  # samples per channel that are decoded at a time only to be skipped or counted


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

    Args:
        file: the open file, without a buffer: libsndfile reads it through its descriptor.
        view: what libsndfile reads in its place, if it cannot read the file as it is.
    """

    def __init__(self, file: BinaryIO, view: content.FileView | None = None) -> None:
        self._opened = file
        file.seek(0)
        super().__init__(view or file.fileno(), closefd=False)

    def seekable(self) -> bool:
        """Always False, so that soundfile does not seek after reading."""
        return False

    @property
    def exact(self) -> bool:
        """Whether `seek` arrives at the requested sample."""
        return self.format not in ("OGG", "MP3")

    def form(self, path: Path) -> AudioInfo:
        """The form of the file, with the length in its header corrected."""
        with position_kept(self._opened):
            return self._form(path)

    def _form(self, path: Path) -> AudioInfo:
        tags = {name: text for name, text in self.copy_metadata().items() if text}
        container, channels = self.format, self.channels
        form = AudioInfo(
            self.samplerate,
            channels,
            self.frames,
            container,
            self.subtype,
            self.endian,
            tags,
            path,
            layout=layout.read_layout(self._opened, container, channels),
            metadata_bytes=riff.extra_bytes(self._opened),
            unread_bytes=riff.unread_bytes(self._opened),
        )
        if form.subtype in PADDED and form.container in ("WAV", "WAVEX"):
            form = replace(form, num_samples=riff.wav_num_samples(self._opened, form.num_samples))
        elif form.container == "W64":
            form = replace(form, num_samples=riff.w64_num_samples(self._opened, form.num_samples))
        elif form.container == "AIFF" and form.subtype.startswith(
            ("PCM", "FLOAT", "DOUBLE", "ULAW", "ALAW")
        ):
            form = replace(form, num_samples=riff.aiff_num_samples(self._opened, form.num_samples))
        lossy = form.container in ("OGG", "MP3") and form.num_samples
        return replace(form, bit_rate=path.stat().st_size * 8 / form.seconds) if lossy else form


class Counted(Sound):
    """An MP3 stream without a header, whose MP3 frames were counted, see `mp3.Stream.bare`."""

    def __init__(
        self, file: BinaryIO, view: content.FileView, stream: mp3.Stream, container: str
    ) -> None:
        super().__init__(file, view)
        self._stream, self._container = stream, container
        left = stream.skipped
        while left and (part := len(super().read(min(left, SKIP_BLOCK), always_2d=True))):
            left -= part

    def form(self, path: Path) -> AudioInfo:
        """The form of the file, with the length of the stream."""
        form, num_samples = super().form(path), self._stream.num_samples
        seconds = num_samples / form.sample_rate
        coded = self._stream.end - self._stream.start
        return replace(
            form,
            num_samples=num_samples,
            container=self._container,
            bit_rate=coded * 8 / seconds if seconds else None,
        )


class Chain:
    """The recordings of a chained Ogg file, one after the other; see `Source`.

    Raises:
        AudioFileError: they differ in sample rate or channels.
    """

    exact = False

    def __init__(self, sounds: Sequence[Sound], path: Path) -> None:
        self._sounds, self._at = sounds, 0
        first, done = sounds[0], 0
        for sound in sounds:
            if (sound.samplerate, sound.channels) != (first.samplerate, first.channels):
                raise _changing(
                    path,
                    done / first.samplerate,
                    f"{first.samplerate} Hz and {first.channels} channels",
                    f"{sound.samplerate} Hz and {sound.channels} channels",
                )
            done += sound.frames

    def form(self, path: Path) -> AudioInfo:
        """The form of the first recording, with the length of all."""
        form, num_samples = self._sounds[0].form(path), sum(each.frames for each in self._sounds)
        seconds = num_samples / form.sample_rate
        bit_rate = path.stat().st_size * 8 / seconds if seconds else None
        return replace(form, num_samples=num_samples, bit_rate=bit_rate)

    def seek(self, sample: int) -> int:
        """Not supported: returns -1."""
        return -1

    def read(
        self, num_samples: int, *, dtype: str, always_2d: bool
    ) -> npt.NDArray[np.floating[Any]]:
        """The next `[n, channels]` samples."""
        parts = [self._sounds[0].read(0, dtype=dtype, always_2d=always_2d)]
        while num_samples and self._at < len(self._sounds):
            part = self._sounds[self._at].read(num_samples, dtype=dtype, always_2d=always_2d)
            self._at += not len(part)
            num_samples -= len(part)
            parts.append(part)
        return np.concatenate(parts)


def _changing(path: Path, seconds: float, before: str, after: str) -> AudioFileError:
    return AudioFileError(
        f"{path} changes from {before} to {after} after {seconds:.2f} s; split it there"
    )


@contextmanager
def open_sound(path: Path, track: int = 0) -> Iterator[Source]:
    """Open `path` for reading, with libsndfile or FFmpeg as its content asks for.

    Args:
        path: the file.
        track: number of the audio track of a film, from 0.

    Raises:
        AudioFileError: the file holds no audio, or less than its header declares.
        DependencyError: it needs FFmpeg, and PyAV is not installed.
    """
    with ExitStack() as stack:
        file = stack.enter_context(open_file(path))
        found, is_media = content.sniff_open(file), path.suffix.lower() in media.SUFFIXES
        if found.library == "media" or (found.library == "" and is_media):
            if problem := damage.second_film(file):
                raise AudioFileError(f"{path} {problem}")
            source: Source = stack.enter_context(media.MediaSource(path, track))
        else:
            try:
                source = _open_native(path, file, stack, found)
            except UnreadableError as error:
                source = _open_other(path, file, stack, found, error)
        yield source


class UnreadableError(AudioFileError):
    """libsndfile cannot read a file, but FFmpeg may."""


def _open_other(
    path: Path,
    file: BinaryIO,
    stack: ExitStack,
    found: content.Content,
    refusal: UnreadableError,
) -> Source:
    """Open a file that libsndfile refused with FFmpeg, which knows more codecs.

    FFmpeg also reads what is left of damaged files, so files that libsndfile should know are left
    out.
    """
    if problem := damage.find_damage(file):
        raise AudioFileError(f"{path} {problem}") from refusal
    with suppress(AudioFileError, DependencyError):
        if found is content.MP3 or not content.is_foreign(file):
            raise refusal
        return stack.enter_context(media.MediaSource(path))
    reason = "a raw file has no header" if path.suffix.lower() == ".raw" else refusal
    raise AudioFileError(
        f"{path} is {found.name} that cannot be read as audio ({reason}); expected wav, flac, "
        "aiff, ogg, mp3, ..."
    ) from refusal


def _open_native(path: Path, file: BinaryIO, stack: ExitStack, found: content.Content) -> Source:
    """Open a file with libsndfile, through a `FileView` if it cannot read it as it is."""
    start, end, container = content.mp3_part(file) or (0, None, "MP3")
    inside = end is not None
    if not inside and (head := content.completed_head(file)):
        view = stack.enter_context(content.FileView(path, [head, (len(head), path.stat().st_size)]))
        return _sound(file, stack, view)
    sound = None if inside or found is content.MP3 else _sound(file, stack)
    if sound is None or sound.format == "MP3":
        stream = mp3.scan(file, start, end)
        if stream is not None:
            _check_stream(path, stream)
            if inside or not stream.is_exact:
                view = stack.enter_context(content.FileView(path, stream.bare()))
                return _entered(stack, lambda: Counted(file, view, stream, container))
    sound = sound or _sound(file, stack)
    if sound.format == "OGG" and len(parts := ogg.links(file)) > 1:
        views = [stack.enter_context(content.FileView(path, [part])) for part in parts]
        return Chain([_sound(file, stack, view) for view in views], path)
    with position_kept(file):
        if problem := damage.find_damage(file):
            raise AudioFileError(f"{path} {problem}")
    return sound


@contextmanager
def position_kept(file: BinaryIO) -> Iterator[None]:
    """Afterwards `file` is where it was before: libsndfile reads on from there."""
    position = file.tell()
    yield
    file.seek(position)


def _sound(file: BinaryIO, stack: ExitStack, view: content.FileView | None = None) -> Sound:
    return _entered(stack, lambda: Sound(file, view))


def _entered(stack: ExitStack, open_it: Callable[[], Sound]) -> Sound:
    try:
        sound = open_it()
    except soundfile.LibsndfileError as error:
        raise UnreadableError(reason_of(error)) from error
    stack.callback(sound.close)
    return sound


def reason_of(error: soundfile.LibsndfileError) -> str:
    """The cause in an error of libsndfile, which calls some damage an internal error."""
    reason = str(error.error_string).rstrip(".")
    return "invalid data" if "internal error" in reason.lower() else reason


def _check_stream(path: Path, stream: mp3.Stream) -> None:
    """Raise `AudioFileError` if an MP3 stream is cut short or changes."""
    declared, per_frame = stream.declared_frames or 0, stream.samples_per_frame
    if stream.change is not None:
        seconds = stream.mp3_frames * per_frame / mp3.sample_rate(stream.header)
        raise _changing(path, seconds, mp3.describe(stream.header), mp3.describe(stream.change))
    if stream.mp3_frames < declared * (1 - mp3.TOLERANCE) - 1:
        raise AudioFileError(
            f"{path} is cut short: its header declares {declared * per_frame} samples, the file "
            f"holds {stream.mp3_frames * per_frame}; copy it again"
        )


def open_file(path: Path) -> BinaryIO:
    """Open `path`; raises `AudioFileError` unless it is a readable file that is not empty."""
    try:
        state = os.stat(path)
        if stat.S_ISDIR(state.st_mode):
            raise AudioFileError(f"{path} is a folder; expected an audio file")
        if not stat.S_ISREG(state.st_mode):  # opening a pipe would wait for its writer
            raise AudioFileError(
                f"{path} is a pipe, socket or device; expected an audio file, or give it to "
                "denoise by name or as -"
            )
        if state.st_size == 0:
            raise AudioFileError(f"{path} is empty (0 bytes); expected an audio file")
        return open(path, "rb", buffering=0)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise AudioFileError(
            f"{path} cannot be opened ({getattr(error, 'strerror', error)}); check the path"
        ) from error


def native_path(path: AnyPath) -> str | bytes:
    """The path as libsndfile expects it: bytes on POSIX, where names need not be valid text."""
    return os.fsencode(path) if os.name == "posix" else os.fspath(path)
