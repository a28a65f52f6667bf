"""The form of an audio file: sample rate, channels, length, container, subtype, texts."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

AnyPath = str | os.PathLike[str]


@dataclass(frozen=True)
class AudioInfo:
    """The form of an audio file, enough to write another one like it.

    Args:
        sample_rate: Hz.
        num_samples: samples per channel.
        container: "WAV", "FLAC", ... as libsndfile names them, or "MP4", "WEBM", ... for what PyAV
            reads.
        subtype: "PCM_16", "VORBIS", ... as libsndfile names them, or PyAV's codec name in capitals.
        endian: "FILE" (what is usual in the container), "LITTLE" or "BIG".
        tags: title, artist, album, comment, date, genre, tracknumber, copyright, license, software.
        source: the file that this was read from; a writer copies from it what libsndfile does not
            carry.
        bit_rate: bits per second of a lossy file, else None.
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

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.num_samples / self.sample_rate
