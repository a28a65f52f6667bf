"""List the files to prepare from folders and tables, each with its source (speaker, noise recording
or room) and, if a table gives it, its split and licence.
"""

from __future__ import annotations

import csv
import math
import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path
from typing import Literal

from audioae.audio import formats, media
from audioae.data.manifest import SPLITS, Split
from audioae.errors import DataError

Role = Literal["speech", "noise", "rir"]
ROLES: tuple[Role, ...] = ("speech", "noise", "rir")
LICENCE_REASON, NO_LICENCE = "licence", "none given"
UNSEARCHABLE = "unreadable folder"
AUDIO_EXTENSIONS = tuple(sorted(formats.SUFFIXES.keys() | media.SUFFIXES))

_SPLIT_NAMES: dict[str, Split | Literal[""]] = {
    "": "", "train": "train", "training": "train", "valid": "valid", "validation": "valid",
    "val": "valid", "dev": "valid", "test": "test", "testing": "test",
}  # fmt: skip
# ESC-50 names its clips FOLD-ID-TAKE[-CLASS]; clips with one ID are cut from one Freesound
# recording.
_FREESOUND = re.compile(r"\d-(\d+)-[A-Z](?:-\d+)?")
# A response measured with several microphones is often stored as one file per channel.
_CHANNEL = re.compile(r"[-_]ch\d+$")


@dataclass(frozen=True)
class Entry:
    """One file to prepare; the other fields are those of `manifest.Row`.

    Args:
        size: bytes; -1 for a missing file.
        split: "" if it is to be drawn.
        minus: file to subtract sample by sample: noisy minus clean speech gives the noise.
    """

    role: Role
    path: str
    source: str
    size: int = -1
    split: Split | Literal[""] = ""
    licence: str = ""
    corpus: str = ""
    language: str = ""
    kind: str = ""
    quiet_to_loud_db: float | None = None
    minus: str = ""


@dataclass(frozen=True)
class Dropped:
    """A file that is left out, and why: a kind of reason, a colon and details."""

    role: Role
    path: str
    reason: str


def find_entries(
    role: Role,
    places: Iterable[str],
    known: Iterable[Entry] = (),
    licences: Sequence[str] = (),
    others: Counter[str] | None = None,
) -> tuple[list[Entry], list[Dropped]]:
    """The files of all folders and tables, in a fixed order, and those left out.

    A file is left out if it is listed twice, if its licence is not wanted, or if its source would
    be in two splits. So are, in folders, pipes and devices, and subfolders that cannot be searched.

    Args:
        known: entries of corpora; those of this role come first.
        licences: patterns such as "CC0*"; see `has_licence`. Empty: any licence or none.
        others: the number of files in folders without an audio suffix is added to it, by suffix.
    """
    skipped = Counter[str]() if others is None else others
    entries: dict[str, Entry] = {}
    dropped: list[Dropped] = []
    found = (entry for place in places for entry in _of_place(role, Path(place), dropped, skipped))
    for entry in chain((entry for entry in known if entry.role == role), found):
        if entry.path in entries:
            reason = "duplicate: listed twice, the first one is kept"
            dropped.append(Dropped(role, entry.path, reason))
        else:
            entries[entry.path] = entry
    wanted = []
    for entry in entries.values():
        if has_licence(entry, licences):
            wanted.append(entry)
        else:
            reason = f"{LICENCE_REASON}: {entry.licence or NO_LICENCE}"
            dropped.append(Dropped(role, entry.path, reason))
    kept, leaking = _without_leaks(wanted)
    return [replace(entry, size=_size(entry.path)) for entry in kept], dropped + leaking


def has_licence(entry: Entry, patterns: Sequence[str]) -> bool:
    """Whether the licence of an entry matches one of the patterns, or there are no patterns.

    Patterns are those of a shell and ignore case: "CC BY 4*" matches "cc by 4.0". An entry without
    a licence matches none.
    """
    licence = entry.licence.casefold()
    matches = any(fnmatchcase(licence, pattern.casefold()) for pattern in patterns)
    return not patterns or (bool(licence) and matches)


def _of_place(
    role: Role, place: Path, dropped: list[Dropped], skipped: Counter[str]
) -> Iterator[Entry]:
    if place.is_dir():
        return _of_folder(role, place, dropped, skipped)
    if not place.exists():
        raise DataError(
            f"{role}: {place} does not exist; a folder of audio files or a CSV table was expected"
        )
    if place.suffix.lower() not in (".csv", ".tsv"):
        raise DataError(
            f"{role}: {place} is neither a folder of audio files nor a .csv or .tsv table"
        )
    return _of_table(role, place)


def _of_folder(
    role: Role, folder: Path, dropped: list[Dropped], skipped: Counter[str]
) -> Iterator[Entry]:
    """The audio files in and below a folder; adds what is left out to `dropped` and `skipped`."""

    def refuse(error: OSError) -> None:
        reason = f"{UNSEARCHABLE}: {error.strerror}; check its permissions"
        dropped.append(Dropped(role, str(error.filename), reason))

    files = list[Path]()
    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            if not is_audio(name):
                skipped[path.suffix.lower()] += name[0] != "."
            elif _is_stream(str(path)):
                dropped.append(Dropped(role, str(path), "no file: it is a pipe, socket or device"))
            else:
                files.append(path)
    if not files:
        unsearched = [drop.path for drop in dropped if drop.reason.startswith(UNSEARCHABLE)]
        cannot = f", {', '.join(unsearched)} cannot be searched" if unsearched else ""
        raise DataError(
            f"{role}: no audio file in {folder}{cannot}; expected names that end in "
            f"{' '.join(AUDIO_EXTENSIONS)}"
        )
    files.sort()
    corpus = Path(os.path.abspath(folder)).name
    for file, name in zip(files, _by_folder(files), strict=True):
        yield Entry(role, os.path.abspath(file), _source_of_file(role, corpus, name), corpus=corpus)


def _by_folder(files: list[Path]) -> list[str]:
    """The name of the first folder below the common parent of all files, so that the chapters of a
    speaker stay together. A file directly in the parent is a source of its own.
    """
    common = Path(os.path.commonpath([file.parent for file in files])) if files else Path()
    inside = [file.relative_to(common) for file in files]
    return [path.parts[0] if len(path.parts) > 1 else path.stem for path in inside]


def _of_table(role: Role, table: Path) -> Iterator[Entry]:
    """Rows of a table with a header. `path` is relative to the folder of the table; unknown columns
    are ignored.
    """
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t" if table.suffix.lower() == ".tsv" else ",")
            columns, rows = list(reader.fieldnames or ()), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"cannot read the table {table}: {getattr(error, 'strerror', None) or error}"
        ) from error
    if "path" not in columns:
        raise DataError(
            f"{table} has no column 'path' (its columns: "
            f"{', '.join(columns) or 'none'}); name each file relative to the table"
        )
    if not rows:
        raise DataError(f"{table} names no file; a row for each file was expected below the header")
    cells = [{name: (row.get(name) or "").strip() for name in columns} for row in rows]
    for number, row in enumerate(cells, start=2):
        if not row["path"]:
            raise DataError(f"{table} line {number} has an empty path")
    unnamed = [
        Path(os.path.abspath(table.parent / row["path"]))
        for row in cells
        if not _name_of_source(role, row)
    ]
    by_folder = dict(zip(unnamed, _by_folder(unnamed), strict=True))
    for number, row in enumerate(cells, start=2):
        yield _of_row(role, table, row, by_folder, f"{table} line {number}")


def _of_row(
    role: Role, table: Path, row: Mapping[str, str], by_folder: Mapping[Path, str], where: str
) -> Entry:
    path, corpus = Path(os.path.abspath(table.parent / row["path"])), row.get("corpus", "")
    split = row.get("split", "").lower()
    if split not in _SPLIT_NAMES:
        raise DataError(
            f"{where} has split {split!r}, expected one of {', '.join(SPLITS)} or nothing"
        )
    return Entry(
        role,
        str(path),
        _source_of_file(role, corpus, _name_of_source(role, row) or by_folder[path]),
        split=_SPLIT_NAMES[split],
        licence=row.get("licence") or row.get("license", ""),
        corpus=corpus,
        language=row.get("language", ""),
        kind=row.get("class", ""),
        quiet_to_loud_db=_number(row.get("quiet_to_loud_db", ""), where),
    )


def _name_of_source(role: Role, row: Mapping[str, str]) -> str:
    """The source that a table gives, or "". A response without a room is a room of its own."""
    if role == "speech":
        return row.get("speaker", "")
    if role == "rir":
        return row.get("room") or Path(row["path"]).with_suffix("").as_posix()
    return Path(row.get("source_file", "")).stem or row.get("class", "")


def _source_of_file(role: Role, corpus: str, name: str) -> str:
    freesound = _FREESOUND.fullmatch(name) if role == "noise" else None
    if freesound:
        # without the corpus: several corpora contain clips of the same recordings
        return f"freesound/{freesound[1]}"
    return _within(corpus, _CHANNEL.sub("", name) if role == "rir" else name)


def _within(corpus: str, name: str) -> str:
    """Prefix a name with its corpus, once: two corpora may both have a speaker "1"."""
    return (
        name
        if not corpus or name == corpus or name.startswith(f"{corpus}/")
        else f"{corpus}/{name}"
    )


def _without_leaks(entries: list[Entry]) -> tuple[list[Entry], list[Dropped]]:
    """Leave out files so that no source is in two splits. A source in several splits stays in the
    most protected one: test, then valid.
    """
    splits: dict[str, Split] = {}
    for entry in entries:
        if entry.split and SPLITS.index(entry.split) >= SPLITS.index(
            splits.get(entry.source, SPLITS[0])
        ):
            splits[entry.source] = entry.split
    leaking = [entry for entry in entries if entry.split and entry.split != splits[entry.source]]
    reasons = [
        Dropped(
            e.role,
            e.path,
            f"leak: {e.source} is in {splits[e.source]} too, this file is in {e.split}",
        )
        for e in leaking
    ]
    left_out = {entry.path for entry in leaking}
    return [entry for entry in entries if entry.path not in left_out], reasons


def _number(text: str, where: str) -> float | None:
    if not text:
        return None
    try:
        number = float(text)
    except ValueError as error:
        raise DataError(
            f"{where} has quiet_to_loud_db {text!r}, a number of dB was expected"
        ) from error
    return number if math.isfinite(number) else None


def is_audio(name: str) -> bool:
    """Whether a file name has an audio extension and is not hidden."""
    return not name.startswith(".") and Path(name).suffix.lower() in AUDIO_EXTENSIONS


def _is_stream(path: str) -> bool:
    """Whether a path is a pipe, a socket or a device: reading it may wait for ever."""
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except OSError:  # a broken link is named later
        return False


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return -1
