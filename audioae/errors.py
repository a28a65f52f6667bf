"""The errors that audioae raises on purpose, each with the exit code that the command line leaves
with.

AudioaeError               1   anything below; the message is one line: got, expected, what to do
├── AudioFileError         1   a file that cannot be read as audio
├── OutputError            1   an output that cannot or must not be written
├── DataError              1   a corpus, manifest or shard that is wrong or incomplete
├── CheckpointError        1   a checkpoint or weights file that cannot be used
├── ScoreError             1   a metric that cannot be computed on this pair of signals
├── DeviceError            1   a microphone or loudspeaker that cannot be opened or has vanished
├── SettingsError          2   an unknown or impossible setting, option or recipe key
└── MissingError           3   something that has to be there first
    ├── ModelNotFoundError 3   no model of that name or at that path
    └── DependencyError    3   an optional package that is not installed, with the command that installs it
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType


class AudioaeError(Exception):
    """Base of all errors raised on purpose; `exit_code` is what the command line returns for it."""

    exit_code = 1


class AudioFileError(AudioaeError):
    """A file that cannot be read as audio: missing, a folder, empty, cut short, not audio."""


class OutputError(AudioaeError):
    """An output that cannot or must not be written: it exists, no folder, no permission, no space,
    unknown format.
    """


class DataError(AudioaeError):
    """A corpus, manifest or shard that is wrong or incomplete."""


class CheckpointError(AudioaeError):
    """A checkpoint or weights file that is damaged or was made for other settings."""


class ScoreError(AudioaeError):
    """A metric that cannot be computed on this pair of signals; the message is the reason."""


class DeviceError(AudioaeError):
    """A microphone or loudspeaker that cannot be opened, or has vanished while it was used."""


class SettingsError(AudioaeError):
    """An unknown or impossible setting, option or recipe key."""

    exit_code = 2


class MissingError(AudioaeError):
    """Something that has to be there first is not."""

    exit_code = 3


class ModelNotFoundError(MissingError):
    """No model of that name in the package and no weights at that path."""


class DependencyError(MissingError):
    """An optional package is not installed, or does not import beside the others."""


def require(module: str, *, extra: str) -> ModuleType:
    """Import an optional module, or raise `DependencyError` naming the extra that brings it."""
    try:
        return importlib.import_module(module)
    except (
        ImportError,
        OSError,
        RuntimeError,
    ) as error:  # torchaudio raises the last two beside a foreign torch
        package = module.partition(".")[0]
        reason = (
            "is not installed"
            if isinstance(error, ModuleNotFoundError)
            else f"does not import ({error})"
        )
        raise DependencyError(
            f"{package} {reason}; get it with: pip install 'audioae[{extra}]'"
        ) from error


def counted(number: int, one: str, many: str = "") -> str:
    """`"1 row"`, `"2 rows"`; `many` where an s does not do."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def nearest(word: str, known: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` for the known word closest to `word`, or an empty string."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
