"""What an audio file is, read without keeping its samples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import soundfile

from audioae.audio.form import AnyPath, AudioInfo
from audioae.audio.opening import Source, open_sound
from audioae.errors import AudioFileError

UNKNOWN_LENGTH = 2**62  # libsndfile's count for a FLAC that was written to a pipe is beyond this
SKIP_BLOCK = 2**16  # samples per channel that are decoded at a time only to be counted


def info(path: AnyPath) -> AudioInfo:
    """The form of the file at `path`. Raises `AudioFileError` for anything that is not a readable audio file."""
    return inspect(Path(path), Path(path).suffix)


def inspect(path: Path, suffix: str) -> AudioInfo:
    """The form of a file that should have this suffix, whatever it is called."""
    with open_sound(path, suffix) as sound:
        form = sound.form(path)
        return replace(form, frames=_count(sound, path)) if form.frames > UNKNOWN_LENGTH else form


def _count(sound: Source, path: Path) -> int:
    """Samples per channel of a file that does not tell: it is decoded to its end."""
    total = 0
    try:
        while read := len(sound.read(SKIP_BLOCK, dtype="float32", always_2d=True)):
            total += read
    except soundfile.LibsndfileError as error:
        raise AudioFileError(f"{path} is damaged after {total} samples ({error.error_string.rstrip('.')}); copy it again") from error
    return total
