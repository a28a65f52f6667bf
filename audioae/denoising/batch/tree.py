"""Find the input files that paths, folders and patterns on a command line stand for, and name their
outputs so that the folder tree is kept and no two inputs write the same file.
"""

from __future__ import annotations

import glob
import os
import stat
import string
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from audioae.audio import formats, media
from audioae.errors import AudioFileError, OutputError, SettingsError, nearest

AnyPath = str | os.PathLike[str]
Source = TypeVar("Source", bound=AnyPath)

SUFFIXES = frozenset(formats.SUFFIXES) | media.SUFFIXES
FIELDS = ("folder", "root", "stem", "ext")
DEFAULT_TEMPLATE = "{stem}{ext}"
SAME_NAMES = '; tell them apart with --template "{root}/{folder}/{stem}{ext}"'


@dataclass(frozen=True, slots=True)
class InputFile:
    """An input file. There may be very many, so it is small.

    Args:
        name: its path.
        folder: its folder, relative to the folder that was given; "." for a file that was given
            itself.
        root: the name of the folder that was given; for a file, of the folder that holds it.
    """

    name: str
    folder: Path
    root: str

    @property
    def path(self) -> Path:
        """Its path."""
        return Path(self.name)


@dataclass
class FoundInputs:
    """All input files in order, each once, and what was not taken from their folders.

    Args:
        num_skipped: number of files without an audio suffix, and hidden files.
        special: pipes, sockets and devices with an audio suffix, which are skipped.
        unreadable: errors about folders that cannot be searched, one line each.
    """

    files: list[InputFile] = field(default_factory=list)
    num_skipped: int = 0
    special: list[Path] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


def find_inputs(
    given: Iterable[str | os.PathLike[str]], *, exclude: Path | None = None
) -> FoundInputs:
    """Find the audio files that `given` stands for.

    A folder stands for all audio files in and below it, told by their suffixes; hidden files and
    folders are left out. A path that does not exist and contains `*`, `?` or `[` is a pattern (`**`
    crosses folders) and is expanded as a shell would.

    Args:
        exclude: a folder that is not searched: the output folder may be inside an input folder.

    Raises:
        AudioFileError: a pattern matches nothing, or there is no audio file at all.
    """
    found, known, words = FoundInputs(), set(), [os.fspath(word) for word in given]
    for name in (name for word in words for name in _expand(word)):
        path = Path(name)
        for each in _walk(path, exclude, found) if os.path.isdir(name) else [_single(path)]:
            if (place := os.path.abspath(each.name)) not in known:
                known.add(place)
                found.files.append(each)
    if not found.files and found.unreadable:
        raise AudioFileError(f"no audio file: {'; '.join(found.unreadable)}")
    if not found.files:
        known_suffixes = " ".join(sorted(SUFFIXES))
        raise AudioFileError(
            f"no audio file in {', '.join(words)}, {found.num_skipped} others; expected names that "
            f"end in {known_suffixes}"
        )
    return found


def _expand(name: str) -> list[str]:
    if os.path.lexists(name) or not glob.has_magic(name):
        return [name]
    if matches := sorted(glob.glob(name, recursive=True)):
        return matches
    raise AudioFileError(f"{name} matches no file; check the pattern, ** crosses folders")


def _single(path: Path) -> InputFile:
    return InputFile(str(path), Path("."), Path(os.path.abspath(path)).parent.name)


def _walk(top: Path, exclude: Path | None, found: FoundInputs) -> Iterator[InputFile]:
    """The audio files in and below `top`, sorted. Links are followed; no folder is read twice."""
    entered = {os.path.realpath(exclude)} if exclude else set()
    root = Path(os.path.abspath(top)).name

    def refuse(error: OSError) -> None:
        found.unreadable.append(
            f"the folder {error.filename} cannot be searched ({error.strerror}); check its "
            "permissions"
        )

    for folder, folders, files in os.walk(top, onerror=refuse, followlinks=True):
        entered.add(os.path.realpath(folder))
        folders[:] = sorted(
            name
            for name in folders
            if name[0] != "." and os.path.realpath(os.path.join(folder, name)) not in entered
        )
        start, relative = str(Path(folder)), Path(os.path.relpath(folder, top))
        for name in sorted(files):
            path = name if start == "." else os.path.join(start, name)
            is_named = name[0] != "." and os.path.splitext(name)[1].lower() in SUFFIXES
            if is_named and is_stream(path):
                found.special.append(Path(path))
            elif is_named:
                yield InputFile(path, relative, root)
            else:
                found.num_skipped += 1


def is_stream(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a pipe, a socket or a device, which can be read once at most."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def output_names(
    inputs: Sequence[InputFile],
    folder: Path,
    *,
    template: str = DEFAULT_TEMPLATE,
    suffix: str | None = None,
) -> list[str]:
    """The output path of each input, in or below `folder`. No file is made.

    Args:
        template: without a `/`, a file name in the mirrored folder; with one, the path below
            `folder`. Its fields are `{stem}` and `{ext}` of the input, `{folder}`, its folder
            relative to the one that was given, and `{root}`, the name of the one that was given.
        suffix: in place of the input's.

    Raises:
        SettingsError: the template has unknown fields or leads out of `folder`.
        OutputError: two inputs have the same output, or an output is an input.
    """
    check_template(template)
    names = [_output_name(each, folder, template, suffix) for each in inputs]
    refuse_clashes(dict(zip((each.name for each in inputs), names, strict=True)))
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
    """The suffix of a format: ".flac" for "flac". Raises `SettingsError` for an unknown format."""
    known = sorted(suffix[1:] for suffix in SUFFIXES)
    name = kind.lower().lstrip(".")
    if name not in known:
        raise SettingsError(
            f"format {kind!r} is unknown{nearest(name, known)}; known are {' '.join(known)}"
        )
    return f".{name}"


def refuse_clashes(outputs: Mapping[Source, AnyPath]) -> None:
    """Raise `OutputError` if two inputs have the same output, or an output is an input.

    Paths are compared after links are resolved.

    Args:
        outputs: the output of each input.
    """
    writers: dict[str, Source] = {}
    folders: dict[str, str] = {}
    for source, output in outputs.items():
        place = _place(output, folders)
        if (other := writers.setdefault(place, source)) is not source:
            raise OutputError(f"{other} and {source} would both be written to {output}{SAME_NAMES}")
    inputs = ((_place(source, folders), source) for source in outputs)
    replaced = {place: source for place, source in inputs if place in writers}
    for place, source in writers.items() if replaced else ():
        if place in replaced:
            raise OutputError(
                f"{outputs[source]}, the output of {source}, is the input {replaced[place]}; "
                "choose another output folder"
            )


def _output_name(each: InputFile, folder: Path, template: str, suffix: str | None) -> str:
    path = Path(each.name)
    values = {
        "folder": each.folder.as_posix(),
        "root": each.root,
        "stem": path.stem,
        "ext": suffix or path.suffix,
    }
    name = Path(template.format(**values))
    relative = name if "/" in template or os.sep in template else each.folder / name
    if relative.is_absolute() or ".." in relative.parts or not relative.name:
        raise SettingsError(
            f"template {template!r} makes {str(name)!r} of {each.name}; expected a path inside "
            "the output folder"
        )
    return str(folder / relative)


def _place(path: AnyPath, folders: dict[str, str]) -> str:
    """A string that is the same for all names of a file. `folders` keeps the resolved folders."""
    folder, name = os.path.split(path)
    if folder not in folders:
        folders[folder] = os.path.realpath(folder)
    real = os.path.join(folders[folder], name)
    real = os.path.realpath(real) if os.path.islink(real) else real
    return real.casefold() if sys.platform in ("win32", "darwin") else real
