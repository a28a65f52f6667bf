"""What of a source is carried to the output besides samples and form, and what is lost on the way."""

from __future__ import annotations

from pathlib import Path

from audioae.audio import flac, id3, media, mux, ogg, riff
from audioae.audio.form import AudioInfo

FAMILIES = {"WAV": "WAV", "WAVEX": "WAV", "RF64": "WAV", "AIFF": "AIFF", "CAF": "CAF", "FLAC": "FLAC", "MP3": "MP3"}


def by_bytes(source: AudioInfo | None, target: AudioInfo) -> bool:
    """Whether all texts and notes of the source are copied byte by byte; if not, the writer sets the texts that it knows one by one."""
    return source is not None and _family(source) == _family(target) != "" and source.tags == target.tags


def finish(path: Path, target: AudioInfo, source: AudioInfo | None, frames: int) -> list[str]:
    """Complete a file that has all its samples; names of what could not be kept.

    Args:
        path: the file, not open.
        target: the form it was written in; source: the form of the file that it comes from, if any.
        frames: samples per channel that were written.
    """
    same = by_bytes(source, target)
    lost = [] if same or source is None else _extras(source)
    origin = source.source if same and source else None
    if target.container == "FLAC" and frames == 0:
        flac.write_empty(path, target)
    if target.container == "OGG":
        lost += ogg.settle(path, origin)
    elif target.container == "MP3" and origin is None:
        id3.write(path, target.tags)
    elif origin is not None:
        lost += _copy(target.container, origin, path)
    riff.settle(path, frames)
    return lost


def lost_tags(asked: AudioInfo, written: AudioInfo) -> list[str]:
    """Names of the texts that the written file does not give back; libsndfile adds its own name to `software`."""
    return [f"tag {name}" for name, text in asked.tags.items() if not written.tags.get(name, "").startswith(text)]


def _copy(container: str, source: Path, target: Path) -> list[str]:
    copy = {"FLAC": flac.copy, "MP3": id3.copy}.get(container, riff.copy)
    return copy(source, target)


def _extras(source: AudioInfo) -> list[str]:
    assert source.source is not None
    if source.source.suffix.lower() in media.SUFFIXES:
        return mux.extras(source.source)
    extras = {"FLAC": flac.extras, "MP3": id3.frames, "OGG": ogg.extras}.get(source.container, riff.extras)
    return extras(source.source)


def _family(form: AudioInfo) -> str:
    return f"OGG {form.subtype}" if form.container == "OGG" else FAMILIES.get(form.container, "")
