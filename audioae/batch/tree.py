"""Which files are meant by what stands on a command line: files, folders with all that is below
them, and patterns.
"""

from __future__ import annotations

import glob
import os
import string
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from audioae.audio import formats, media
from audioae.errors import AudioFileError, OutputError, SettingsError, nearest

FIELDS = ("folder", "root", "stem", "ext")
DEFAULT_TEMPLATE = "{stem}{ext}"
SAME_NAMES = '; tell them apart with --template "{root}/{folder}/{stem}{ext}"'


def output_names(
    inputs: Sequence[Found],
    folder: Path,
    *,
    template: str = DEFAULT_TEMPLATE,
    suffix: str | None = None,
) -> list[Path]:
    """The output of each input, in and below `folder`; no file is made.

    Args:
        template: of a name alone, which stays in the mirrored folder; with a `/` it is the path
            below `folder`. Fields: `{stem}` and `{ext}` of the input, `{folder}` where it lies
            below the folder that was given, and `{root}`, that folder's name.
        suffix: in place of the input's.

    Raises:
        SettingsError: the template has unknown fields or leads out of `folder`.
        OutputError: two inputs would write one output, or one would write over another.
    """
    check_template(template)
    names = [folder / _relative(found, template, suffix) for found in inputs]
    refuse_clashes(dict(zip((found.path for found in inputs), names, strict=True)))
    return names


def check_template(template: str) -> None:
    """Raise `SettingsError` for a template that cannot name files."""
    try:
        fields = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise SettingsError(
            f"template {template!r} cannot be read ({error}); expected names like "
            f"{DEFAULT_TEMPLATE!r}"
        ) from error
    for name in fields:
        if name not in FIELDS:
            known = ", ".join(f"{{{field}}}" for field in FIELDS)
            raise SettingsError(
                f"template {template!r} has the unknown field {name!r}{nearest(name, FIELDS)}; "
                f"known are {known}"
            )
    if "stem" not in fields:
        raise SettingsError(
            f"template {template!r} gives all files of a folder one name; it needs {{stem}}"
        )


def check_suffix(kind: str) -> str:
    """The suffix, with its dot, of a kind of file such as "flac"; `SettingsError` where there is
    none.
    """
    known = sorted(suffix[1:] for suffix in frozenset(formats.SUFFIXES) | media.SUFFIXES)
    name = kind.lower().lstrip(".")
    if name not in known:
        raise SettingsError(
            f"format {kind!r} is unknown{nearest(name, known)}; known are {' '.join(known)}"
        )
    return f".{name}"


def refuse_clashes(outputs: Mapping[Path, Path]) -> None:
    """Raise `OutputError` where two inputs have one output, or an output is an input; by whatever
    names.
    """
    writers: dict[str, Path] = {}
    inputs = {_place(source): source for source in outputs}
    for source, output in outputs.items():
        place = _place(output)
        if (other := writers.setdefault(place, source)) is not source:
            raise OutputError(f"{other} and {source} would both be written to {output}{SAME_NAMES}")
        if place in inputs:
            raise OutputError(
                f"{output}, the output of {source}, is the input {inputs[place]}; choose another "
                "output folder"
            )


def _relative(found: Found, template: str, suffix: str | None) -> Path:
    values = {
        "folder": found.folder.as_posix(),
        "root": found.root,
        "stem": found.path.stem,
        "ext": suffix or found.path.suffix,
    }
    name = Path(template.format(**values))
    relative = name if "/" in template or os.sep in template else found.folder / name
    if relative.is_absolute() or ".." in relative.parts or not relative.name:
        raise SettingsError(
            f"template {template!r} makes {str(name)!r} of {found.path}; expected a path inside "
            "the output folder"
        )
    return relative


def _place(path: Path) -> str:
    """What two names of one file have in common."""
    real = os.path.realpath(path)
    return real.casefold() if sys.platform in ("win32", "darwin") else real


SUFFIXES = frozenset(formats.SUFFIXES) | media.SUFFIXES


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
    """All inputs in order, each once, and how many files in folders were passed over because they
    are not audio.
    """

    inputs: list[Found] = field(default_factory=list)
    skipped: int = 0


def find_inputs(given: Iterable[str | os.PathLike[str]], *, exclude: Path | None = None) -> Finds:
    """The audio files that `given` names.

    A folder stands for the audio files in and below it, by their suffixes, hidden ones left out. A
    path that does not exist and has `*`, `?` or `[` in it is a pattern (`**` crosses folders) and
    means the same as when a shell had expanded it.

    Args:
        exclude: a folder that is not entered, so that outputs inside an input folder are not taken
            for inputs.

    Raises:
        AudioFileError: a pattern matches nothing, or there is no audio at all.
    """
    finds, known, words = Finds(), set(), [os.fspath(word) for word in given]
    for name in (name for word in words for name in _expand(word)):
        for found in (
            _walk(Path(name), exclude, finds) if os.path.isdir(name) else [_single(Path(name))]
        ):
            if (place := os.path.abspath(found.path)) not in known:
                known.add(place)
                finds.inputs.append(found)
    if not finds.inputs:
        known_suffixes = " ".join(sorted(SUFFIXES))
        raise AudioFileError(
            f"no audio file in {', '.join(words)}, {finds.skipped} others; expected names that "
            f"end in {known_suffixes}"
        )
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
    """The audio files in and below `top`, sorted; links are followed, but no folder is entered
    twice.
    """
    entered = {os.path.realpath(exclude)} if exclude else set()
    root = Path(os.path.abspath(top)).name
    for folder, folders, files in os.walk(top, followlinks=True):
        entered.add(os.path.realpath(folder))
        folders[:] = sorted(
            name
            for name in folders
            if name[0] != "." and os.path.realpath(os.path.join(folder, name)) not in entered
        )
        for name in sorted(files):
            if name[0] != "." and os.path.splitext(name)[1].lower() in SUFFIXES:
                yield Found(Path(folder, name), Path(os.path.relpath(folder, top)), root)
            else:
                finds.skipped += 1
