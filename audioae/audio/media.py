"""Audio out of m4a, mp4, webm, mkv, wma and other films and phone recordings, through FFmpeg (PyAV, the extra `media`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from audioae.audio.form import AudioInfo
from audioae.errors import AudioFileError, require

SUFFIXES = {
    *(".m4a", ".m4b", ".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".mka", ".webm", ".avi"),
    *(".wma", ".wmv", ".asf", ".aac", ".ac3", ".amr", ".mp2"),
}
# FFmpeg's codecs in libsndfile's words, where there is one
SUBTYPES = {
    "pcm_u8": "PCM_U8",
    "pcm_s16le": "PCM_16",
    "pcm_s16be": "PCM_16",
    "pcm_s24le": "PCM_24",
    "pcm_s24be": "PCM_24",
    "pcm_s32le": "PCM_32",
    "pcm_f32le": "FLOAT",
    "pcm_f64le": "DOUBLE",
    "mp3": "MP3",
    "mp3float": "MP3",
}
TAGS = {"title", "artist", "album", "comment", "date", "genre", "copyright"}


@dataclass(frozen=True)
class Track:
    """An audio track: its form, and the time in seconds when its first sample is heard."""

    info: AudioInfo
    start: float


class MediaSound:
    """The first audio track of a file, decoded in order."""

    exact = False

    def __init__(self, path: Path) -> None:
        self._track = track(path)
        self._container = open_container(path)
        self._path = path
        self._blocks = _decode(self._container, path)
        self._ready: list[npt.NDArray[Any]] = []
        self._left = self._track.info.frames

    def __enter__(self) -> MediaSound:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._container.close()

    def form(self, path: Path) -> AudioInfo:
        """The form of the track, with its true length."""
        return self._track.info

    def seek(self, frames: int) -> int:
        """Never moves: FFmpeg's seeks do not arrive at a sample. Returns -1."""
        return -1

    def read(self, frames: int, *, dtype: str, always_2d: bool) -> npt.NDArray[np.floating[Any]]:
        """The next `[n, channels]` samples."""
        wanted, held = min(frames, self._left), sum(map(len, self._ready))
        while held < wanted and (block := next(self._blocks, None)) is not None:
            self._ready.append(block)
            held += len(block)
        whole = np.concatenate([np.zeros((0, self._track.info.channels), np.float64), *self._ready])
        self._ready = [whole[wanted:]]
        self._left -= min(wanted, len(whole))
        return whole[:wanted].astype(dtype)


def track(path: Path) -> Track:
    """The first audio track of a file. Its length is counted by decoding it: headers of such files tell it roughly or not at all."""
    state = path.stat()
    return _track(path, state.st_size, state.st_mtime_ns)


def open_container(path: Path) -> Any:
    """Open a file with PyAV; raises `AudioFileError` unless it has an audio track."""
    av = require("av", extra="media")
    try:
        container = av.open(str(path))
    except (av.FFmpegError, ValueError) as error:
        raise AudioFileError(f"{path} cannot be read as audio or video ({_reason(error)}); is it complete?") from error
    if not container.streams.audio:
        container.close()
        raise AudioFileError(f"{path} has no audio track; expected a recording")
    return container


@lru_cache(maxsize=16)
def _track(path: Path, size: int, changed: int) -> Track:
    """`track`, remembered as long as the file has this size and time of change."""
    with open_container(path) as container:
        stream = container.streams.audio[0]
        context = stream.codec_context
        rate, channels, tags = context.sample_rate, context.channels, _tags({**container.metadata, **stream.metadata})
        name = SUBTYPES.get(context.name, context.name.upper())
        if name in ("ALAC", "FLAC"):
            name += "_16" if "16" in context.format.name else "_24"
        told = stream.duration * stream.time_base * rate if stream.duration and stream.time_base else None
        start = float(max(stream.start_time or 0, 0) * stream.time_base)
        frames = sum(map(len, _decode(container, path)))
        if told and told.denominator == 1 and told < frames:  # codecs fill their last block; an MP4 tells how much of it is real
            frames = int(told)
    coded = _coded_bytes(path)
    bit_rate = coded * 8 * rate / frames if frames else None
    return Track(AudioInfo(rate, channels, frames, path.suffix[1:].upper(), name, "FILE", tags, path, bit_rate), start)


def _decode(container: Any, path: Path) -> Iterator[npt.NDArray[Any]]:
    """Blocks `[n, channels]` of the first audio track, float64 in [-1, 1)."""
    av = require("av", extra="media")
    stream = container.streams.audio[0]
    rate, channels = stream.codec_context.sample_rate, stream.codec_context.channels
    convert = av.AudioResampler(format="dblp", rate=rate)
    try:
        for frame in container.decode(stream):
            if frame.sample_rate != rate or len(frame.layout.channels) != channels:
                raise AudioFileError(f"{path} changes its sample rate or channels on the way; cut it there")
            for part in convert.resample(frame):
                yield part.to_ndarray().T
    except (av.FFmpegError, ValueError) as error:
        raise AudioFileError(f"{path} is damaged ({_reason(error)}); copy it again") from error


def _coded_bytes(path: Path) -> int:
    with open_container(path) as container:
        return sum(packet.size for packet in container.demux(container.streams.audio[0]))


def _tags(metadata: dict[str, str]) -> dict[str, str]:
    lower = {name.lower(): text for name, text in metadata.items()}
    number = {"tracknumber": lower["track"]} if lower.get("track") else {}
    return {name: text for name, text in lower.items() if name in TAGS and text} | number


def _reason(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error)
