"""Which files are meant by what stands on a command line: files, folders with all that is below them, and patterns."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from audioae.audio import containers, media
from audioae.errors import AudioFileError

SUFFIXES = frozenset(containers.SUFFIXES) | media.SUFFIXES


@dataclass(frozen=True)
class Found:
    """An input.

    Args:
        folder: where it lies below the folder that was given; "." for a file that was given itself.
        root: the name of that folder; for a file, of the folder that holds it.
    """

    path: Path
    folder: Path
    root: str


@dataclass
class Finds:
    """All inputs in order, each once, and how many files in folders were passed over because they are not audio."""

    inputs: list[Found] = field(default_factory=list)
    skipped: int = 0


def find_inputs(given: Iterable[str | os.PathLike[str]], *, exclude: Path | None = None) -> Finds:
    """The audio files that `given` names.

    A folder stands for the audio files in and below it, by their suffixes, hidden ones left out. A path that does not exist and has `*`,
    `?` or `[` in it is a pattern (`**` crosses folders) and means the same as when a shell had expanded it.

    Args:
        exclude: a folder that is not entered, so that outputs inside an input folder are not taken for inputs.

    Raises:
        AudioFileError: a pattern matches nothing, or there is no audio at all.
    """
    finds, known, words = Finds(), set(), [os.fspath(word) for word in given]
    for name in (name for word in words for name in _expand(word)):
        for found in _walk(Path(name), exclude, finds) if os.path.isdir(name) else [_single(Path(name))]:
            if (place := os.path.abspath(found.path)) not in known:
                known.add(place)
                finds.inputs.append(found)
    if not finds.inputs:
        known_suffixes = " ".join(sorted(SUFFIXES))
        raise AudioFileError(f"no audio file in {', '.join(words)}, {finds.skipped} others; expected names that end in {known_suffixes}")
    return finds


def _expand(name: str) -> list[str]:
    if os.path.lexists(name) or not glob.has_magic(name):
        return [name]
    if matches := sorted(glob.glob(name, recursive=True)):
        return matches
    raise AudioFileError(f"{name} matches no file; check the pattern, ** crosses folders")


def _single(path: Path) -> Found:
    return Found(path, Path("."), Path(os.path.abspath(path)).parent.name)


def _walk(top: Path, exclude: Path | None, finds: Finds) -> Iterator[Found]:
    """The audio files in and below `top`, sorted; links are followed, but no folder is entered twice."""
    entered = {os.path.realpath(exclude)} if exclude else set()
    root = Path(os.path.abspath(top)).name
    for folder, folders, files in os.walk(top, followlinks=True):
        entered.add(os.path.realpath(folder))
        folders[:] = sorted(name for name in folders if name[0] != "." and os.path.realpath(os.path.join(folder, name)) not in entered)
        for name in sorted(files):
            if name[0] != "." and os.path.splitext(name)[1].lower() in SUFFIXES:
                yield Found(Path(folder, name), Path(os.path.relpath(folder, top)), root)
            else:
                finds.skipped += 1
