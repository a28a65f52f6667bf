"""Write audio files atomically, with the form and the metadata of their source.

Everything that can fail is checked before the first sample: folder, format, free space. Samples go
to a temporary file, which is completed with the metadata, read back and renamed.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from audioae.audio import copying, formats, muxing
from audioae.audio.form import AnyPath, AudioInfo
from audioae.audio.formats import encoder_settings
from audioae.audio.metadata import (
    channel_order,
    copies_metadata,
    finish,
    lost_tags,
    merge_losses,
    source_of,
)
from audioae.audio.quantise import quantise
from audioae.audio.reader import info
from audioae.audio.sources import native_path
from audioae.errors import AudioFileError, OutputError
from audioae.fields import as_integer, as_path
from audioae.storage import AtomicFile, output_errors

FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)  # errors of a disk, a limit and a quota
MAX_CALL = 65536  # samples per channel and call: libsndfile crashes on longer Ogg writes


def check_output(
    path: AnyPath,
    *,
    overwrite: bool = False,
    like: AudioInfo,
    container: str | None = None,
    subtype: str | None = None,
    try_folder: bool = True,
) -> AudioInfo:
    """Check that an audio file can be written, and choose its form.

    Args:
        path: the output; its suffix determines the container.
        overwrite: allow replacing a file.
        like: the form of the input, which is kept where the container allows it.
        container: libsndfile's name of another container.
        subtype: libsndfile's name of another encoding.
        try_folder: make a temporary file, to see whether the folder can be written to. Planning
            many files does so once for each folder.

    Returns:
        The form to pass to `AudioWriter`.

    Raises:
        OutputError: the file exists and `overwrite` is false, its folder is missing, read-only or
            full, or the format is not possible.

    Example:
        >>> from audioae.audio import AudioInfo, check_output
        >>> form = AudioInfo(44100, 2, 1000, "WAV", "FLOAT")
        >>> output = check_output("out.flac", like=form)
        >>> output.container, output.subtype
        ('FLAC', 'PCM_24')
    """
    target = as_path(path, "path")
    if subtype is not None and not isinstance(subtype, str):
        raise OutputError(f"{target}: the subtype is {subtype!r:.60}; expected a name like PCM_16")
    check_target(target, overwrite=overwrite)
    chosen = formats.choose(target, like, container, subtype)
    needed = formats.estimated_bytes(chosen)
    with output_errors(path):
        if try_folder:
            AtomicFile(target).discard()
        free = shutil.disk_usage(_final_folder(target)).free if needed else 0
    if needed > free:
        raise OutputError(
            f"{path} needs {needed / 2**20:.0f} MiB, its disk has {free / 2**20:.0f} MiB free; "
            "free some space"
        )
    return chosen


def _final_folder(path: Path) -> Path:
    """The folder that a file is made in, behind links. Raises `OSError` for impossible names."""
    try:
        is_link = stat.S_ISLNK(os.lstat(path).st_mode)
    except FileNotFoundError:
        is_link = False
    return Path(os.path.realpath(path)).parent if is_link else path.parent


def check_target(path: Path, *, overwrite: bool) -> None:
    """Raise `OutputError` if `path` is a folder, has no folder, or exists unexpectedly."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        mode = None
    if mode is not None and stat.S_ISDIR(mode):
        raise OutputError(f"{path} is a folder; expected the name of a file")
    if not os.path.isdir(path.parent):  # unlike the method of Path, this function raises no errors
        raise OutputError(f"there is no folder {path.parent}; create it first")
    if mode is not None and not overwrite:
        raise OutputError(f"{path} exists; choose another name or allow overwriting")


class AudioWriter:
    """Writes an audio file block by block.

    The file appears under its name when the `with` block succeeds, and not at all if it fails.

    Args:
        path: the output.
        form: the form to write, from `check_output`. Metadata are copied from its `source`.
        overwrite: allow replacing a file.
        others: forms of further audio tracks of a film; the container is that of `form`.

    Attributes:
        clipped: number of samples beyond full scale that were clamped, per channel; integer
            encodings only.
        lost: after the `with` block, one phrase for each property of the source that was not kept.
        num_samples: samples per channel written so far.

    Raises:
        OutputError: the file cannot be written.

    Example:
        >>> from audioae.audio import AudioInfo, AudioWriter, check_output, info
        >>> like = AudioInfo(16000, 1, 0, "WAV", "PCM_16")
        >>> with AudioWriter("ramp.wav", check_output("ramp.wav", like=like)) as writer:
        ...     for start in range(0, 3000, 1000):
        ...         writer.write(np.linspace(start, start + 1000, 1000)[np.newaxis] / 2000)
        >>> info("ramp.wav").num_samples, writer.num_clipped
        (3000, 1001)
    """

    def __init__(
        self,
        path: AnyPath,
        form: AudioInfo,
        *,
        overwrite: bool = False,
        others: Sequence[AudioInfo] = (),
    ) -> None:
        self.path, self.info = Path(path), form
        self._forms = (form, *others)
        check_target(self.path, overwrite=overwrite)
        formats.check_limits(self.path, form)
        self.clipped: npt.NDArray[np.int64] = np.zeros(form.channels, np.int64)
        self.lost: list[str] = []
        self.num_samples = 0
        self._is_media = not form.is_native
        self._source = source_of(form)
        self._orders = [channel_order(each, self._source) for each in self._forms]
        self._clipped_others, self._position = 0, 0

    @property
    def num_clipped(self) -> int:
        """Number of clamped samples in all channels."""
        return int(self.clipped.sum()) + self._clipped_others

    def __enter__(self) -> AudioWriter:
        with output_errors(self.path):
            self._temporary = AtomicFile(self.path, like=self.info.source)
        try:
            self._sound = self._open()
        except BaseException:
            self._temporary.discard()
            raise
        return self

    def _open(self) -> soundfile.SoundFile | muxing.MediaSink:
        form, name = self.info, native_path(self._temporary.path)
        if self._is_media:
            return self._open_media()
        shape = (form.sample_rate, form.channels, form.subtype, form.endian, form.container)
        try:
            sound = soundfile.SoundFile(name, "w", *shape, **encoder_settings(form))
        except (soundfile.LibsndfileError, ValueError, TypeError) as error:
            raise OutputError(
                f"{self.path}: {form.container} {form.subtype} cannot be written ({error}); "
                "choose another format"
            ) from error
        if form.container != "MP3" and not copies_metadata(self._source, form):
            for tag, text in form.tags.items():
                # A container without tags; `lost_tags` finds out.
                with suppress(soundfile.LibsndfileError):
                    setattr(sound, tag, text)
        return sound

    def _open_media(self) -> muxing.MediaSink:
        try:
            return muxing.MediaSink(
                self._temporary.path, self._forms, copying.plan_copies(self._forms)
            )
        except (OSError, ValueError) as error:
            raise self._failure(error) from error

    def write(self, block: npt.NDArray[np.floating[Any]], track: int = 0) -> None:
        """Append `[channels, n]` samples. NaN becomes 0, infinities become full scale.

        Args:
            block: the samples.
            track: 0 for `form`, 1 for the first of `others`, ...

        Raises:
            OutputError: the block has another shape, or the disk is full.
        """
        form, order = self._forms[track], self._orders[track]
        if block.ndim != 2 or len(block) != form.channels:
            raise OutputError(
                f"{self.path} expects blocks [{form.channels} channels, samples], got the "
                f"shape {list(block.shape)}"
            )
        block = np.nan_to_num(block, nan=0.0, posinf=1.0, neginf=-1.0)
        for start in range(0, block.shape[1], MAX_CALL):
            codes, clipped = quantise(block[:, start : start + MAX_CALL], form.subtype)
            if track:
                self._clipped_others += int(clipped.sum())
            else:
                self.clipped += clipped
            self._append(codes if order is None else codes[:, order], track)

    def _append(self, codes: npt.NDArray[Any], track: int) -> None:
        try:
            if isinstance(self._sound, muxing.MediaSink):
                self._sound.write(codes, track)
            else:
                self._sound.write(codes)
        except (soundfile.LibsndfileError, AssertionError, OSError, ValueError) as error:
            # soundfile raises AssertionError after a short write.
            raise self._failure(error) from error
        self.num_samples += len(codes) if track == 0 else 0

    def _failure(self, error: BaseException) -> OutputError:
        free = shutil.disk_usage(self._temporary.path.parent).free
        reason = str(getattr(error, "strerror", None) or error).rstrip(".") or "short write"
        if self._is_media and getattr(error, "errno", errno.ENOSPC) not in FULL:
            return OutputError(
                f"{self.path} could not be written ({reason}); choose another container, such as "
                ".mkv or .wav"
            )
        return OutputError(
            f"{self.path} could not be written ({reason}); its disk has {free} bytes free"
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
        if isinstance(self._sound, muxing.MediaSink) and not complete:
            self._sound.abandon()
            return
        if isinstance(self._sound, muxing.MediaSink):
            self._position = self._sound.positions[0]
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
        """Add the metadata, then read the file back and compare it with what was written."""
        temporary = self._temporary.path
        try:
            if isinstance(self._sound, muxing.MediaSink):
                self.lost += self._sound.lost
            else:
                self.lost += finish(temporary, self.info, self._source, self.num_samples)
            written = info(temporary, track=self._position)
        except (AudioFileError, OSError) as error:
            if not self.num_samples:
                raise OutputError(
                    f"{self.path}: {self.info.subtype} cannot hold an empty recording; write .wav "
                    "or .flac"
                ) from error
            raise self._failure(error) from error
        if written.num_samples < self.num_samples:
            held = f"wrote {written.num_samples} of {self.num_samples} samples"
            raise self._failure(AudioFileError(held))
        if written.num_samples > self.num_samples:
            self.lost.append(
                f"length: {self.info.subtype} pads its last block, {written.num_samples} samples "
                f"instead of {self.num_samples}"
            )
        self.lost += lost_tags(self.info, written)
        self.lost = merge_losses(self.lost, self._forms)


def write(
    path: AnyPath,
    waveform: npt.NDArray[Any],
    sample_rate: int,
    *,
    subtype: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write a waveform to an audio file.

    Args:
        path: the output; its suffix determines the container.
        waveform: `[channels, samples]` or `[samples]`; full scale is 1.
        sample_rate: Hz.
        subtype: libsndfile's name of the encoding; None is PCM_16, or the default of the container.
        overwrite: allow replacing a file.

    Raises:
        OutputError: the waveform has another shape, or the file cannot be written.

    Example:
        >>> from audioae.audio import info, write
        >>> tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
        >>> write("tone.flac", tone, 16000, subtype="PCM_24")
        >>> info("tone.flac").seconds
        1.0
    """
    sample_rate = as_integer(sample_rate, "sample_rate")
    if not 1 <= sample_rate < 2**31:
        raise OutputError(f"{path}: the sample rate is {sample_rate} Hz; no file can hold it")
    try:
        waveform = np.asarray(waveform)
    except ValueError as error:  # lists of unequal length
        raise OutputError(f"{path}: the waveform is no array ({error})") from error
    if waveform.dtype.kind not in "fiub":
        raise OutputError(f"{path}: the waveform has type {waveform.dtype}; expected floats")
    rows = np.atleast_2d(waveform)
    if rows.ndim != 2 or (len(rows) > 64 and len(rows) > rows.shape[1]):
        raise OutputError(
            f"{path}: expected a waveform [channels, samples], got the shape "
            f"{list(waveform.shape)}; transpose it"
        )
    like = AudioInfo(sample_rate, len(rows), rows.shape[1], "WAV", "PCM_16")
    form = check_output(path, overwrite=overwrite, like=like, subtype=subtype)
    with AudioWriter(path, form, overwrite=overwrite) as writer:
        writer.write(rows)
