"""`AudioInfo`: sample rate, channels, length, container, encoding and tags of an audio file."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import soundfile

AnyPath = str | os.PathLike[str]


@cache
def native_formats() -> frozenset[str]:
    """Names of the containers that libsndfile reads and writes; it takes a while to list them."""
    return frozenset(soundfile.available_formats())


@dataclass(frozen=True)
class AudioInfo:
    """The form of an audio file: everything needed to write another file like it.

    Args:
        sample_rate: Hz.
        channels: number of channels.
        num_samples: samples per channel.
        container: "WAV", "FLAC", ... (libsndfile's names), or "MP4", "WEBM", ... for files that
            FFmpeg reads.
        subtype: encoding of the samples: "PCM_16", "VORBIS", ... (libsndfile's names), or FFmpeg's
            codec name in capitals.
        endian: "FILE" (the default of the container), "LITTLE" or "BIG".
        tags: title, artist, album, comment, date, genre, tracknumber, copyright, license, software.
        source: the file this was read from. A writer copies other metadata (pictures, markers,
            broadcast chunks) from it.
        bit_rate: mean bits per second of a lossy file, else None.
        layout: loudspeakers of the channels in their order, such as ("FL", "FR", "FC", "LFE", "BL",
            "BR"), see `layout`; empty if the file does not tell.
        track: number of the audio track in `source`, from 0.
        metadata_bytes: at most so many bytes of metadata are copied from `source`.
        unread_bytes: bytes after the samples that are neither samples nor metadata.
        level_changed: of an output: its samples have another level than `source`, so tags such as
            ReplayGain are not copied.

    Example:
        >>> AudioInfo(16000, 1, 8000, "WAV", "PCM_16").seconds
        0.5
    """

    sample_rate: int
    channels: int
    num_samples: int
    container: str
    subtype: str
    endian: str = "FILE"
    tags: dict[str, str] = field(default_factory=dict, hash=False)
    source: Path | None = field(default=None, compare=False)
    bit_rate: float | None = field(default=None, compare=False)
    layout: tuple[str, ...] = field(default=(), compare=False)
    track: int = field(default=0, compare=False)
    metadata_bytes: int = field(default=0, compare=False)
    unread_bytes: int = field(default=0, compare=False)
    level_changed: bool = field(default=False, compare=False)

    @property
    def is_native(self) -> bool:
        """Whether libsndfile reads and writes the container; FFmpeg does otherwise."""
        return self.container in native_formats()

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.num_samples / self.sample_rate
