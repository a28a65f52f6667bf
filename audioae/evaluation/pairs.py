"""Recordings to evaluate: pairs of noisy and clean files from a table or folders, enhanced files of
other programs, and recordings without a clean side.
"""

from __future__ import annotations

import csv
import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from audioae.audio import AudioInfo, info
from audioae.denoising.batch.tree import SUFFIXES
from audioae.errors import DataError, nearest
from audioae.signal.resample import resample

Array = npt.NDArray[np.float32]

GROUP_COLUMNS = ("class", "noise_kind")  # columns of the class, the first that a table has
MOST_DIFFERENCE = 0.1  # s; codecs add or cut this much at the end of a file


@dataclass(frozen=True)
class Pair:
    """A noisy recording and its clean reference.

    Args:
        name: unique among the pairs of a set.
        noisy: None if only enhanced files are scored.
        clean: None for a recording without a clean side.
        group: class of the recording, such as the kind of noise; empty if there is none.
        snr_db: signal-to-noise ratio of the noisy recording if it is known, dB.
        text: what is said, for the word error rate; None if it is unknown.
        enhanced: files that other programs made of the noisy recording, by the name of the program.
    """

    name: str
    noisy: Path | None
    clean: Path | None
    group: str = ""
    snr_db: float | None = None
    text: str | None = None
    enhanced: Mapping[str, Path] = field(default_factory=dict)


def read_pairs(path: str | os.PathLike[str], *, group_column: str | None = None) -> list[Pair]:
    """Find the pairs of a CSV file or folder.

    Args:
        path: a CSV file with the columns `noisy` and `clean` (paths relative to it), read in its
            order; or a folder with the subfolders `noisy` and `clean`, in which the files of a pair
            have the same name, sorted by name. A table may have the columns `class`, `snr_db` and
            `text`, see `Pair`.
        group_column: the column of the class; None for `class`, or `noise_kind` as written by
            `audioae mix`, if the table has one of them.

    Raises:
        DataError: `path` does not exist, has another format, has no pairs or no column
            `group_column`, or a file of a pair is missing.

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
    if path.is_dir():
        if group_column is not None:
            raise DataError(f"{path} is a folder; the column {group_column!r} needs a CSV file")
        files, rows = _folder_files(path), []
    else:
        rows = _table(path, ("noisy", "clean"), group_column)
        files = [(row["noisy"], row["clean"]) for row in rows]
    if not files:
        raise DataError(f"{path} has no pairs; expected at least one")
    base = path if path.is_dir() else path.parent
    pairs = [
        Pair(name, base / noisy, base / clean)
        for name, (noisy, clean) in zip(_names([noisy for noisy, _ in files]), files, strict=True)
    ]
    if not rows:
        return pairs
    return [
        _with_columns(pair, row, path, group_column) for pair, row in zip(pairs, rows, strict=True)
    ]


def read_recordings(path: str | os.PathLike[str], *, group_column: str | None = None) -> list[Pair]:
    """Find recordings without a clean side.

    Args:
        path: an audio file, a folder (searched recursively), or a CSV file with the column `noisy`;
            the columns `class`, `snr_db` and `text` are optional.
        group_column: the column of the class, see `read_pairs`.

    Raises:
        DataError: `path` does not exist, has no recordings or no column `group_column`.

    Example:
        >>> _ = Path("table.csv").write_text("noisy,class\\na.wav,rain\\n")
        >>> [recording] = read_recordings("table.csv")
        >>> recording.name, recording.clean, recording.group
        ('a', None, 'rain')
    """
    path = Path(path)
    if not path.exists():
        raise DataError(
            f"{path} does not exist; expected an audio file, a folder or a CSV file with the "
            "column noisy"
        )
    if not path.is_dir() and path.suffix.lower() == ".csv":
        rows = _table(path, ("noisy",), group_column)
        names = _names([row["noisy"] for row in rows])
        found = [
            _with_columns(Pair(name, path.parent / row["noisy"], None), row, path, group_column)
            for name, row in zip(names, rows, strict=True)
        ]
    elif group_column is not None:
        raise DataError(f"{path} is not a CSV file; the column {group_column!r} needs one")
    elif path.is_dir():
        files = [str(file) for file in _files(path) if file.suffix.lower() in SUFFIXES]
        found = [
            Pair(name, path / file, None) for name, file in zip(_names(files), files, strict=True)
        ]
    else:
        found = [Pair(path.stem, path, None)]
    if not found:
        raise DataError(f"{path} has no recordings; expected at least one")
    return found


def pair_folders(
    clean: str | os.PathLike[str],
    *,
    noisy: str | os.PathLike[str] | None = None,
    enhanced: Sequence[str | os.PathLike[str]] = (),
) -> list[Pair]:
    """Pair the files of folders by their names without suffix, in any container.

    Args:
        clean: folder of the clean recordings; every file in it needs a file in the other folders.
        noisy: folder of the noisy recordings, if there is one.
        enhanced: folders of files that other programs made of the noisy recordings. A program has
            the name of its folder.

    Raises:
        DataError: a folder is missing, two folders or two files of one have the same name, or a
            file has no counterpart.
    """
    folders = [Path(folder) for folder in enhanced]
    names = [folder.name or str(folder) for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    references = _by_stem(Path(clean))
    before = None if noisy is None else _by_stem(Path(noisy))
    after = {name: _by_stem(folder) for name, folder in zip(names, folders, strict=True)}
    sides = [(Path(folder), files) for folder, files in zip(folders, after.values(), strict=True)]
    if noisy is not None and before is not None:
        sides.append((Path(noisy), before))
    for folder, files in sides:
        if missing := sorted(set(references) - set(files)):
            raise DataError(
                f"{folder} has no file {missing[0]}.*, in any format, for {references[missing[0]]}"
            )
    return [
        Pair(
            stem,
            before[stem] if before else None,
            references[stem],
            enhanced={name: files[stem] for name, files in after.items()},
        )
        for stem in sorted(references)
    ]


def with_texts(pairs: Iterable[Pair], folder: str | os.PathLike[str]) -> list[Pair]:
    """The pairs with their texts from a folder of `NAME.txt` files in UTF-8.

    Raises:
        DataError: the folder or a text is missing, or a text cannot be read.
    """
    found = []
    for pair in pairs:
        path = Path(folder) / f"{Path(pair.name).stem}.txt"
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"pair {pair.name} has no text ({error}); expected {path}") from error
        found.append(replace(pair, text=" ".join(text.split())))
    return found


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
    if pair.noisy is None or pair.clean is None:
        raise DataError(f"pair {pair.name} has one side only; expected noisy and clean")
    noisy, clean = info(pair.noisy), info(pair.clean)
    for name, unit in (
        ("sample_rate", "Hz"),
        ("channels", "channels"),
        ("num_samples", "samples"),
    ):
        got, expected = getattr(noisy, name), getattr(clean, name)
        if got != expected:
            raise DataError(
                f"pair {pair.name}: noisy has {got} {unit}, clean {expected}; they must match "
                f"({pair.noisy}, {pair.clean})"
            )
    return noisy


def align(waveform: Array, sample_rate: int, like: Array, like_rate: int) -> Array:
    """A waveform at the sample rate and in the length of its reference.

    Rates of other programs and the lengths of lossy codecs differ. The start is not moved: a delay
    of the estimate is part of its errors.

    Args:
        waveform, like: `[channels, samples]`.
        sample_rate, like_rate: Hz.

    Returns:
        `[channels, samples]`, as long as `like`; up to 0.1 s are cut off or filled with zeros.

    Raises:
        DataError: the channels differ, or the lengths by more than 0.1 s.

    Example:
        >>> align(np.ones((1, 8001), np.float32), 8000, np.ones((1, 16000)), 16000).shape
        (1, 16000)
    """
    if len(waveform) != len(like):
        raise DataError(f"it has {len(waveform)} channels, its reference {len(like)}")
    waveform = resample(waveform, sample_rate, like_rate) if sample_rate != like_rate else waveform
    more = waveform.shape[-1] - like.shape[-1]
    if abs(more) > MOST_DIFFERENCE * like_rate:
        raise DataError(
            f"it has {waveform.shape[-1] / like_rate:.3f} s, its reference "
            f"{like.shape[-1] / like_rate:.3f} s; expected the same length to {MOST_DIFFERENCE} s"
        )
    return np.pad(waveform, ((0, 0), (0, max(-more, 0))))[:, : like.shape[-1]]


def _table(path: Path, needed: Sequence[str], group_column: str | None) -> list[dict[str, str]]:
    expected = f"expected the column{'s' * (len(needed) > 1)} {' and '.join(needed)}"
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            columns = list(table.fieldnames or [])
            if missing := set(needed) - set(columns):
                raise DataError(
                    f"{path} has no column {' and '.join(sorted(missing))}; it has "
                    f"{', '.join(columns) or 'none'}"
                )
            if group_column is not None and group_column not in columns:
                raise DataError(
                    f"{path} has no column {group_column!r}{nearest(group_column, columns)}; it "
                    f"has {', '.join(columns)}"
                )
            rows = list(table)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as CSV ({error}); {expected}") from error
    for number, row in enumerate(rows, start=1):
        if not all(row[name] for name in needed):
            raise DataError(
                f"{path}: row {number} lacks a file; expected {' and '.join(needed)} in every row"
            )
    return rows


def _with_columns(pair: Pair, row: Mapping[str, str], path: Path, group_column: str | None) -> Pair:
    """The pair with the class, SNR and text of its row."""
    columns = GROUP_COLUMNS if group_column is None else (group_column,)
    group = next((row[name] for name in columns if name in row), None)
    try:
        snr_db = float(row["snr_db"]) if row.get("snr_db") else None
    except ValueError:
        snr_db = math.nan
    if snr_db is not None and not math.isfinite(snr_db):
        raise DataError(f"{path}: snr_db of {pair.name} is {row['snr_db']!r}; expected a number")
    return replace(pair, group=group or "", snr_db=snr_db, text=row.get("text") or None)


def _files(folder: Path) -> list[Path]:
    """Files below a folder, relative to it and sorted; hidden ones are left out."""
    return sorted(
        file.relative_to(folder)
        for file in folder.rglob("*")
        if file.is_file() and not file.name.startswith(".")
    )


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; expected a folder of recordings")
    found: dict[str, Path] = {}
    for file in (file for file in _files(folder) if file.suffix.lower() in SUFFIXES):
        stem = str(file.with_suffix(""))
        if stem in found:
            raise DataError(
                f"{folder / file} and {found[stem]} have the same name without suffix; expected "
                "one file for each"
            )
        found[stem] = folder / file
    if not found:
        raise DataError(f"{folder} has no audio files; expected recordings")
    return found


def _folder_files(path: Path) -> list[tuple[str, str]]:
    noisy, clean = path / "noisy", path / "clean"
    for folder in (noisy, clean):
        if not folder.is_dir():
            raise DataError(
                f"{path} has no subfolder {folder.name}; expected noisy and clean, or a CSV file"
            )
    names = _files(noisy)
    for name in names:
        if not (clean / name).is_file():
            raise DataError(f"{noisy / name} has no clean file; expected {clean / name}")
    return [(str("noisy" / name), str("clean" / name)) for name in names]


def _names(files: Sequence[str]) -> list[str]:
    """The file name of each file without its suffix, or its path where that is ambiguous."""
    stems = [Path(file).stem for file in files]
    counts = Counter(stems)
    return [stem if counts[stem] == 1 else file for stem, file in zip(stems, files, strict=True)]
