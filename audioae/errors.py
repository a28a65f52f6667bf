"""The error classes of audioae and the exit codes that the command line uses for them.

AudioaeError               1   base class; the message is one line: found, expected, what to do
├── AudioFileError         1   a file cannot be read as audio
├── OutputError            1   an output cannot be written
├── DataError              1   a corpus, manifest or shard is wrong or incomplete
├── TrainingError          1   a training diverged and was stopped
├── ScoreError             1   a metric cannot be computed for this pair of signals
├── DeviceError            1   an audio device cannot be opened, or was disconnected
├── SettingsError          2   a setting, option or recipe key is unknown or out of range
├── CheckpointError        3   a checkpoint, model file or model card cannot be used
│   └── OtherKindError     3   it is a denoiser where an autoencoder is needed, or the reverse
└── MissingError           3   a requirement is missing
    ├── ModelNotFoundError 3   there is no model of that name or at that path
    └── DependencyError    3   an optional package is missing; names the command that installs it
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Iterable
from types import ModuleType


class AudioaeError(Exception):
    """Base class of all errors that audioae raises on purpose.

    Attributes:
        exit_code: the exit code of the command line for this error.

    Example:
        >>> try:
        ...     require("no_such_package", extra="train")
        ... except AudioaeError as error:
        ...     print(type(error).__name__, error.exit_code)
        DependencyError 3
    """

    exit_code = 1


class AudioFileError(AudioaeError):
    """A file cannot be read as audio: missing, a folder, empty, truncated or not audio."""


class OutputError(AudioaeError):
    """An output cannot be written: it exists, or its folder, permission, disk space or format is
    the problem.
    """


class DataError(AudioaeError):
    """A corpus, manifest or shard is wrong or incomplete."""


class CheckpointError(AudioaeError):
    """A checkpoint, model file or model card is damaged or was made for other settings."""

    exit_code = 3


class OtherKindError(CheckpointError):
    """A model is of another kind than the one that is needed: a denoiser, or an autoencoder for
    codes of sound.
    """


class TrainingError(AudioaeError):
    """A training diverged and was stopped; its last good checkpoints are kept."""


class ScoreError(AudioaeError):
    """A metric cannot be computed for this pair of signals; the message is the reason."""


class DeviceError(AudioaeError):
    """An audio device cannot be opened, or was disconnected during use."""


class SettingsError(AudioaeError):
    """A setting, option or recipe key is unknown or out of range."""

    exit_code = 2


class MissingError(AudioaeError):
    """A model or package that is required is missing."""

    exit_code = 3


class ModelNotFoundError(MissingError):
    """There is no model of that name in the package and no model file at that path."""


class DependencyError(MissingError):
    """An optional package is not installed, or its import fails."""


# Commands that repair an installed package whose import fails. A plain install would keep a wrong
# build, because its version satisfies the requirement.
REPAIR_COMMANDS = {
    **dict.fromkeys(
        ("torch", "torchaudio"),
        "pip install --force-reinstall 'torch>=2.9,<2.12' 'torchaudio>=2.9,<2.12'",
    ),
    "av": "pip install --force-reinstall av",
    "sounddevice": "sudo apt-get install libportaudio2"
    if sys.platform == "linux"
    else "pip install --force-reinstall sounddevice",
}


def require(module: str, *, extra: str) -> ModuleType:
    """Import an optional module.

    Args:
        module: dotted name of the module.
        extra: the extra of audioae that installs it, for the error message.

    Raises:
        DependencyError: the package is not installed, or its import fails.

    Example:
        >>> require("json", extra="train").dumps([1, 2])
        '[1, 2]'
    """
    try:
        return importlib.import_module(module)
    # torchaudio raises OSError or RuntimeError next to a torch of another version or build.
    except (ImportError, OSError, RuntimeError) as error:
        ended = error.__cause__ or error.__context__
        if isinstance(ended, KeyboardInterrupt | SystemExit):  # while the package was initialised
            raise type(ended)(*ended.args) from error
        package = module.partition(".")[0]
        missing = isinstance(error, ModuleNotFoundError)
        reason = "is not installed" if missing else f"does not import ({error})"
        raise DependencyError(
            f"{package} {reason}; get it with: pip install 'audioae[{extra}]'"
        ) from error


def counted(number: int, one: str, many: str = "") -> str:
    """A number with its noun in the singular or plural.

    Args:
        one: the noun in the singular.
        many: the plural; `one` and an "s" if empty.

    Example:
        >>> counted(1, "row"), counted(2000, "row"), counted(0, "entry", "entries")
        ('1 row', '2,000 rows', '0 entries')
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def nearest(word: str, known: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` for the known word closest to `word`; empty if none is close.

    Example:
        >>> nearest("strenght", ["strength", "channels"])
        "; did you mean 'strength'?"
        >>> nearest("xyz", ["strength", "channels"])
        ''
    """
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
