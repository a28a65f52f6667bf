"""Pairs of noisy and clean recordings, from a CSV file or from two folders."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from audioae.audio import AudioInfo, info
from audioae.errors import DataError


@dataclass(frozen=True)
class Pair:
    """A noisy recording and its clean reference; `name` is unique among the pairs of a set."""

    name: str
    noisy: Path
    clean: Path


def read_pairs(path: str | os.PathLike[str]) -> list[Pair]:
    """Find the pairs of a CSV file or folder.

    Args:
        path: a CSV file with the columns `noisy` and `clean` (paths relative to it), read in its
            order; or a folder with the subfolders `noisy` and `clean`, in which the files of a pair
            have the same name, sorted by name.

    Raises:
        DataError: `path` does not exist, has another format or has no pairs, or a file of a pair is
            missing.

    Example:
        >>> _ = Path("pairs.csv").write_text("noisy,clean\\nnoisy/a.wav,clean/a.wav\\n")
        >>> [pair] = read_pairs("pairs.csv")
        >>> pair.name, pair.clean.as_posix()
        ('a', 'clean/a.wav')
    """
    path = Path(path)
    if not path.exists():
        raise DataError(
            f"{path} does not exist; expected a CSV file with the columns noisy and clean, or a "
            "folder with the subfolders noisy and clean"
        )
    files = _folder_files(path) if path.is_dir() else _table_files(path)
    if not files:
        raise DataError(f"{path} has no pairs; expected at least one")
    base = path if path.is_dir() else path.parent
    return [
        Pair(name, base / noisy, base / clean)
        for name, (noisy, clean) in zip(_names(files), files, strict=True)
    ]


def check_pair(pair: Pair) -> AudioInfo:
    """Compare the headers of both files and return that of the noisy one.

    Raises:
        DataError: the files differ in sample rate, channels or length.
        AudioFileError: a file cannot be read as audio.

    Example:
        >>> import numpy as np
        >>> from audioae.audio import write
        >>> write("a.wav", np.zeros(100, np.float32), 16000)
        >>> check_pair(Pair("a", Path("a.wav"), Path("a.wav"))).sample_rate
        16000
    """
    noisy, clean = info(pair.noisy), info(pair.clean)
    for field, unit in (
        ("sample_rate", "Hz"),
        ("channels", "channels"),
        ("num_samples", "samples"),
    ):
        got, expected = getattr(noisy, field), getattr(clean, field)
        if got != expected:
            raise DataError(
                f"pair {pair.name}: noisy has {got} {unit}, clean {expected}; they must match "
                f"({pair.noisy}, {pair.clean})"
            )
    return noisy


def _table_files(path: Path) -> list[tuple[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            columns = table.fieldnames or []
            if missing := {"noisy", "clean"} - set(columns):
                raise DataError(
                    f"{path} has no column {' and '.join(sorted(missing))}; it has "
                    f"{', '.join(columns) or 'none'}"
                )
            rows = [(row["noisy"], row["clean"]) for row in table]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path} cannot be read as CSV ({error}); expected the columns noisy and clean"
        ) from error
    for number, row in enumerate(rows, start=1):
        if not all(row):
            raise DataError(
                f"{path}: row {number} lacks a file; expected noisy and clean in every row"
            )
    return rows


def _folder_files(path: Path) -> list[tuple[str, str]]:
    noisy, clean = path / "noisy", path / "clean"
    for folder in (noisy, clean):
        if not folder.is_dir():
            raise DataError(
                f"{path} has no subfolder {folder.name}; expected noisy and clean, or a CSV file"
            )
    names = sorted(
        file.relative_to(noisy)
        for file in noisy.rglob("*")
        if file.is_file() and not file.name.startswith(".")
    )
    for name in names:
        if not (clean / name).is_file():
            raise DataError(f"{noisy / name} has no clean file; expected {clean / name}")
    return [(str("noisy" / name), str("clean" / name)) for name in names]


def _names(files: Sequence[tuple[str, str]]) -> list[str]:
    """The file name of each noisy file without its suffix, or its path where that is ambiguous."""
    stems = [Path(noisy).stem for noisy, _ in files]
    counts = Counter(stems)
    return [
        stem if counts[stem] == 1 else noisy for stem, (noisy, _) in zip(stems, files, strict=True)
    ]
