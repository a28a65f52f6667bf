"""Waveforms to audio files: checked before, written under a temporary name, renamed when complete."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from audioae.audio import formats, media, mp3, riff, xiph
from audioae.audio.form import AnyPath, AudioInfo
from audioae.audio.formats import encoder_settings
from audioae.audio.quantise import quantise
from audioae.audio.reader import info, inspect, native
from audioae.errors import AudioFileError, OutputError
from audioae.storage import AtomicFile, output_errors

FAMILIES = {
    "WAV": "WAV",
    "WAVEX": "WAV",
    "RF64": "WAV",
    "AIFF": "AIFF",
    "CAF": "CAF",
    "FLAC": "FLAC",
    "MP3": "MP3",
}


def by_bytes(source: AudioInfo | None, target: AudioInfo) -> bool:
    """Whether all texts and notes of the source are copied byte by byte; if not, the writer sets
    the texts that it knows one by one.
    """
    return (
        source is not None
        and _family(source) == _family(target) != ""
        and source.tags == target.tags
    )


def finish(path: Path, target: AudioInfo, source: AudioInfo | None, num_samples: int) -> list[str]:
    """Complete a file that has all its samples; names of what could not be kept.

    Args:
        path: the file, not open.
        target: the form it was written in; source: the form of the file that it comes from, if any.
        num_samples: samples per channel that were written.
    """
    same = by_bytes(source, target)
    lost = [] if same or source is None else _extras(source)
    origin = source.source if same and source else None
    if target.container == "FLAC" and num_samples == 0:
        xiph.write_empty_flac(path, target)
    if target.container == "OGG":
        lost += xiph.settle_ogg(path, origin)
    elif target.container == "MP3" and origin is None:
        mp3.write_id3(path, target.tags)
    elif origin is not None:
        lost += _copy(target.container, origin, path)
    riff.settle(path, num_samples)
    return lost


def lost_tags(asked: AudioInfo, written: AudioInfo) -> list[str]:
    """Names of the texts that the written file does not give back; libsndfile adds its own name to
    `software`.
    """
    return [
        f"tag {name}"
        for name, text in asked.tags.items()
        if not written.tags.get(name, "").startswith(text)
    ]


def _copy(container: str, source: Path, target: Path) -> list[str]:
    copy = {"FLAC": xiph.copy_flac, "MP3": mp3.copy_id3}.get(container, riff.copy)
    return copy(source, target)


def _extras(source: AudioInfo) -> list[str]:
    assert source.source is not None
    if source.source.suffix.lower() in media.SUFFIXES:
        return media.extras(source.source)
    extras = {"FLAC": xiph.flac_extras, "MP3": mp3.id3_frames, "OGG": xiph.ogg_extras}.get(
        source.container, riff.extras
    )
    return extras(source.source)


def _family(form: AudioInfo) -> str:
    return f"OGG {form.subtype}" if form.container == "OGG" else FAMILIES.get(form.container, "")


MAX_CALL = 65536  # samples per channel and call: libsndfile crashes on longer Ogg writes


def check_output(
    path: AnyPath,
    *,
    overwrite: bool = False,
    like: AudioInfo,
    container: str | None = None,
    subtype: str | None = None,
) -> AudioInfo:
    """The form that a file at `path` will have, or an `OutputError`, before anything is computed.

    Args:
        like: the input's form; it is kept wherever the container (from the suffix) allows.
        container, subtype: what the user asks for instead, libsndfile's names.

    Raises:
        OutputError: the file exists and may not be overwritten, its folder is missing, read-only or
            full, or the format is impossible.
    """
    target = Path(path)
    check_target(target, overwrite=overwrite)
    chosen = formats.choose(target, like, container, subtype)
    needed = formats.estimated_bytes(chosen)
    with output_errors(path), AtomicFile(target) as temporary:
        free = shutil.disk_usage(temporary.path.parent).free
        if needed > free:
            raise OutputError(
                f"{path} needs {needed / 2**20:.0f} MiB, its disk has {free / 2**20:.0f} MiB "
                "free; make space"
            )
    return chosen


def check_target(path: Path, *, overwrite: bool) -> None:
    """Raise `OutputError` where no file may be written."""
    if os.path.isdir(path):  # unlike Path's, these have no errors of their own
        raise OutputError(f"{path} is a folder; expected the name of an audio file")
    if not os.path.isdir(path.parent):
        raise OutputError(f"{path.parent} is no folder; create it first")
    if os.path.exists(path) and not overwrite:
        raise OutputError(f"{path} exists; choose another name or allow overwriting")


class AudioWriter:
    """Writes an audio file block by block; the file appears under its name only when the `with`
    block ends well.

    Args:
        form: the form to write, as `check_output` gives it; texts and notes are copied from its
            `source`.

    Attributes:
        clipped: per channel, samples that were beyond full scale and were clamped (integer subtypes
            only).
        lost: after the end, one phrase for everything of the source that the output could not
    """

    def __init__(self, path: AnyPath, form: AudioInfo, *, overwrite: bool = False) -> None:
        self.path, self.info = Path(path), form
        check_target(self.path, overwrite=overwrite)
        formats.check_limits(self.path, form)
        self.clipped: npt.NDArray[np.int64] = np.zeros(form.channels, np.int64)
        self.lost: list[str] = []
        self.num_samples = 0
        self._is_media = form.container not in soundfile.available_formats()
        self._source = _source(form)

    @property
    def num_clipped(self) -> int:
        """Samples of all channels that were clamped."""
        return int(self.clipped.sum())

    def __enter__(self) -> AudioWriter:
        with output_errors(self.path):
            self._temporary = AtomicFile(self.path)
        try:
            self._sound = self._open()
        except BaseException:
            self._temporary.discard()
            raise
        return self

    def _open(self) -> soundfile.SoundFile | media.MediaSink:
        form, name = self.info, native(self._temporary.path)
        if self._is_media:
            return media.MediaSink(self._temporary.path, form)
        shape = (form.sample_rate, form.channels, form.subtype, form.endian, form.container)
        try:
            sound = soundfile.SoundFile(name, "w", *shape, **encoder_settings(form))
        except (soundfile.LibsndfileError, ValueError, TypeError) as error:
            raise OutputError(
                f"{self.path}: {form.container} {form.subtype} cannot be written ({error}); "
                "choose another format"
            ) from error
        if form.container != "MP3" and not by_bytes(self._source, form):
            for tag, text in form.tags.items():
                with suppress(
                    soundfile.LibsndfileError
                ):  # a container without texts; `lost` will tell
                    setattr(sound, tag, text)
        return sound

    def write(self, block: npt.NDArray[np.floating[Any]]) -> None:
        """Append `[channels, n]` samples. Values that are not finite become 0 or full scale: they
        are nobody's wish.
        """
        if block.ndim != 2 or len(block) != self.info.channels:
            raise OutputError(
                f"{self.path} takes blocks [{self.info.channels} channels, samples], got the "
                f"shape {list(block.shape)}"
            )
        block = np.nan_to_num(block, nan=0.0, posinf=1.0, neginf=-1.0)
        for start in range(0, block.shape[1], MAX_CALL):
            codes, clipped = quantise(block[:, start : start + MAX_CALL], self.info.subtype)
            self.clipped += clipped
            self._append(codes)

    def _append(self, codes: npt.NDArray[Any]) -> None:
        try:
            self._sound.write(codes)
        except (
            soundfile.LibsndfileError,
            AssertionError,
            OSError,
            ValueError,
        ) as error:  # AssertionError: soundfile wrote too little
            raise self._failure(error) from error
        self.num_samples += len(codes)

    def _failure(self, error: BaseException) -> OutputError:
        free = shutil.disk_usage(self._temporary.path.parent).free
        return OutputError(
            f"{self.path} could not be written ({str(error).rstrip('.') or 'short write'}); its "
            f"disk has {free} bytes free"
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._close(complete=kind is None)
        finally:
            self._temporary.discard()  # does nothing after `commit`

    def _close(self, *, complete: bool) -> None:
        if isinstance(self._sound, media.MediaSink) and not complete:
            self._sound.abandon()
            return
        try:
            self._sound.close()
        except (soundfile.LibsndfileError, OSError, ValueError) as error:
            if complete:
                raise self._failure(error) from error
        if complete:
            self._complete()
            with output_errors(self.path):
                self._temporary.commit()

    def _complete(self) -> None:
        """Add what the source has besides samples, and read the file once more as others will."""
        temporary = self._temporary.path
        try:
            if isinstance(self._sound, media.MediaSink):
                self.lost += self._sound.lost
            else:
                self.lost += finish(temporary, self.info, self._source, self.num_samples)
            written = inspect(temporary, "." + self.info.container if self._is_media else "")
        except (AudioFileError, OSError) as error:
            if not self.num_samples:
                raise OutputError(
                    f"{self.path}: {self.info.subtype} cannot hold a recording of no samples; "
                    "write wav or flac"
                ) from error
            raise self._failure(error) from error
        if written.num_samples < self.num_samples:
            raise self._failure(
                AudioFileError(f"{written.num_samples} of {self.num_samples} samples arrived")
            )
        if written.num_samples > self.num_samples:
            self.lost.append(
                f"length: {self.info.subtype} is written in blocks, {written.num_samples} samples for "
                f"{self.num_samples}"
            )
        self.lost += lost_tags(self.info, written)
        if self._source and formats.loses_precision(self._source.subtype, self.info.subtype):
            self.lost.append(f"precision: {self._source.subtype} became {self.info.subtype}")


def _source(form: AudioInfo) -> AudioInfo | None:
    """The form of the file that an output is made from, if there is one."""
    if form.source is None:
        return None
    try:
        return info(form.source)
    except AudioFileError:
        return None


def write(
    path: AnyPath,
    waveform: npt.NDArray[Any],
    sample_rate: int,
    *,
    subtype: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write a whole waveform, `[channels, samples]` or `[samples]`; the suffix of `path` is the
    container.

    Args:
        sample_rate: Hz.
        subtype: libsndfile's name; None is 16 bits, or what is usual in the container.
    """
    rows = np.atleast_2d(waveform)
    if rows.ndim != 2 or (len(rows) > 64 and len(rows) > rows.shape[1]):
        raise OutputError(
            f"{path}: expected a waveform [channels, samples], got the shape "
            f"{list(waveform.shape)}; transpose it"
        )
    form = AudioInfo(sample_rate, len(rows), rows.shape[1], "WAV", "PCM_16")
    with AudioWriter(
        path,
        check_output(path, overwrite=overwrite, like=form, subtype=subtype),
        overwrite=overwrite,
    ) as writer:
        writer.write(rows)
