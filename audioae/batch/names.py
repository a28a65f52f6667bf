"""What the output of each input is called: the tree mirrored, a template for names, and never one name for two."""

from __future__ import annotations

import os
import string
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from audioae.audio import containers, media
from audioae.batch.tree import Found
from audioae.errors import OutputError, SettingsError, nearest

FIELDS = ("folder", "root", "stem", "ext")
DEFAULT_TEMPLATE = "{stem}{ext}"
SAME_NAMES = '; tell them apart with --template "{root}/{folder}/{stem}{ext}"'


def output_names(inputs: Sequence[Found], folder: Path, *, template: str = DEFAULT_TEMPLATE, suffix: str | None = None) -> list[Path]:
    """The output of each input, in and below `folder`; no file is made.

    Args:
        template: of a name alone, which stays in the mirrored folder; with a `/` it is the path below `folder`. Fields: `{stem}` and
            `{ext}` of the input, `{folder}` where it lies below the folder that was given, and `{root}`, that folder's name.
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
        raise SettingsError(f"template {template!r} cannot be read ({error}); expected names like {DEFAULT_TEMPLATE!r}") from error
    for name in fields:
        if name not in FIELDS:
            known = ", ".join(f"{{{field}}}" for field in FIELDS)
            raise SettingsError(f"template {template!r} has the unknown field {name!r}{nearest(name, FIELDS)}; known are {known}")
    if "stem" not in fields:
        raise SettingsError(f"template {template!r} gives all files of a folder one name; it needs {{stem}}")


def check_suffix(kind: str) -> str:
    """The suffix, with its dot, of a kind of file such as "flac"; `SettingsError` where there is none."""
    known = sorted(suffix[1:] for suffix in frozenset(containers.SUFFIXES) | media.SUFFIXES)
    name = kind.lower().lstrip(".")
    if name not in known:
        raise SettingsError(f"format {kind!r} is unknown{nearest(name, known)}; known are {' '.join(known)}")
    return f".{name}"


def refuse_clashes(outputs: Mapping[Path, Path]) -> None:
    """Raise `OutputError` where two inputs have one output, or an output is an input; by whatever names."""
    writers: dict[str, Path] = {}
    inputs = {_place(source): source for source in outputs}
    for source, output in outputs.items():
        place = _place(output)
        if (other := writers.setdefault(place, source)) is not source:
            raise OutputError(f"{other} and {source} would both be written to {output}{SAME_NAMES}")
        if place in inputs:
            raise OutputError(f"{output}, the output of {source}, is the input {inputs[place]}; choose another output folder")


def _relative(found: Found, template: str, suffix: str | None) -> Path:
    values = {"folder": found.folder.as_posix(), "root": found.root, "stem": found.path.stem, "ext": suffix or found.path.suffix}
    name = Path(template.format(**values))
    relative = name if "/" in template or os.sep in template else found.folder / name
    if relative.is_absolute() or ".." in relative.parts or not relative.name:
        raise SettingsError(f"template {template!r} makes {str(name)!r} of {found.path}; expected a path inside the output folder")
    return relative


def _place(path: Path) -> str:
    """What two names of one file have in common."""
    real = os.path.realpath(path)
    return real.casefold() if sys.platform in ("win32", "darwin") else real
