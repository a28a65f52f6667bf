"""What a file holds, told by its first bytes instead of its suffix, and how FFmpeg opens it.

FFmpeg takes names for URLs, and some of its formats are lists of other files. `open_input` and
`open_output` open exactly one local file: its absolute path behind `file:`, no other protocol, and
only formats that hold their own samples.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from audioae.errors import AudioFileError, require

# FFmpeg's demuxers of formats that hold their samples themselves.
DEMUXERS = (
    *("aac", "ac3", "aiff", "amr", "ape", "asf", "au", "avi", "caf", "dsf", "dts", "eac3", "flac"),
    *("flv", "iff", "matroska", "mov", "mp3", "mpc", "mpc8", "mpeg", "mpegts", "mxf", "ogg"),
    *("oma", "rm", "tak", "truehd", "tta", "voc", "w64", "wav", "webm", "wv"),
)
SAFE = {"protocol_whitelist": "file", "format_whitelist": ",".join(DEMUXERS)}


def open_input(path: Path) -> Any:
    """Open a file for reading with PyAV.

    Raises:
        AudioFileError: FFmpeg cannot read it.
    """
    av = require("av", extra="media")
    try:
        return av.open(_url(path), options=SAFE)
    except (av.FFmpegError, ValueError) as error:
        raise AudioFileError(
            f"{path} cannot be read as audio or video ({reason(error)}); copy it again"
        ) from error


def open_output(path: Path, muxer: str, options: dict[str, str]) -> Any:
    """Open a file for writing with PyAV. Raises PyAV's errors and `OSError`."""
    av = require("av", extra="media")
    return av.open(_url(path), "w", format=muxer, options=options)


def _url(path: Path) -> str:
    return "file:" + os.path.abspath(path)


def reason(error: BaseException) -> str:
    """The cause in an error of FFmpeg."""
    return str(getattr(error, "strerror", None) or error)
