"""Manifests: JSON Lines with one row per prepared file, whose samples are stored in an int16 shard.
Reading, writing, splits, and random access to the samples.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from audioae.errors import DataError, SettingsError
from audioae.storage import write_json_lines

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")
FULL_SCALE = 32768.0


@dataclass(frozen=True)
class Row:
    """One prepared file.

    Args:
        path: the original recording.
        source: speaker, noise recording or room; no source is in two splits.
        seconds: length of the prepared audio.
        shard, offset, samples: file name relative to the data folder, first sample and number of
            samples in it.
        licence, corpus: if known.
        language: of speech, if known.
        kind: class of a noise, if known.
        quiet_to_loud_db: level of the loud frames relative to the quiet ones, dB, if known.
        gain_db: gain applied to the recording before it was stored.
    """

    path: str
    source: str
    seconds: float
    split: Split
    shard: str
    offset: int
    samples: int
    licence: str = ""
    corpus: str = ""
    language: str = ""
    kind: str = ""
    quiet_to_loud_db: float | None = None
    gain_db: float = 0.0


_REQUIRED = tuple(
    field.name for field in dataclasses.fields(Row) if field.default is dataclasses.MISSING
)
_NUMBERS: dict[str, type | tuple[type, ...]] = {
    "seconds": (int, float),
    "offset": int,
    "samples": int,
}


def read_manifest(path: str | os.PathLike[str]) -> list[Row]:
    """Read the rows of a JSON Lines manifest, in order. Unknown keys are ignored.

    Raises:
        DataError: a line is wrong; the message has its number.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"cannot read the manifest {os.fspath(path)}: "
            f"{getattr(error, 'strerror', None) or error}"
        ) from error
    return [
        _row(line, f"{os.fspath(path)} line {number}")
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]


def write_manifest(path: str | os.PathLike[str], rows: Iterable[Row]) -> None:
    """Write rows as JSON Lines, atomically."""
    write_json_lines(path, map(dataclasses.asdict, rows))


def hours(rows: Iterable[Row]) -> dict[str, float]:
    """Hours of audio in each split; 0 for a split without rows."""
    seconds = dict.fromkeys(SPLITS, 0.0)
    for row in rows:
        seconds[row.split] += row.seconds
    return {split: total / 3600 for split, total in seconds.items()}


def assign_splits(
    seconds: dict[str, float],
    *,
    given: dict[str, Split] | None = None,
    valid_share: float = 0.05,
    test_share: float = 0.0,
    seed: int = 0,
) -> dict[str, Split]:
    """Assign a split to every source, so that about `valid_share` and `test_share` of the seconds
    are held out.

    Args:
        seconds: audio of each source.
        given: sources whose split is known; they keep it and are not counted.
        valid_share, test_share: fractions of the seconds of the other sources. A fraction above 0
            gets at least one source, as long as one is left for training.
        seed: for the random order of the sources. The key of a source depends only on its name and
            the seed.
    """
    if not (valid_share >= 0 and test_share >= 0 and valid_share + test_share < 1):
        raise SettingsError(
            f"valid_share {valid_share} and test_share {test_share} leave "
            "nothing to train on; their sum must be below 1"
        )
    splits: dict[str, Split] = {
        source: split for source, split in (given or {}).items() if source in seconds
    }
    free = sorted(
        (source for source in seconds if source not in splits),
        key=lambda source: _draw(seed, source),
    )
    total = sum(seconds[source] for source in free)
    held_out: tuple[tuple[Split, float, int], ...] = (
        ("test", test_share, 1 + (valid_share > 0)),
        ("valid", valid_share, 1),
    )
    for split, share, spare in held_out:
        for source in _fill(free, seconds, share * total, spare):
            splits[source] = split
            free.remove(source)
    return splits | dict.fromkeys(free, SPLITS[0])


class ShardReader:
    """Reads samples of any row of a data folder through memory maps.

    It can be pickled: the maps are left out and opened again in the other process.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._maps: dict[str, npt.NDArray[np.int16]] = {}

    def view(self, row: Row) -> npt.NDArray[np.int16]:
        """All samples of a row as stored, int16 `[samples]`, without a copy. Raises `DataError` if
        the shard is missing or too short.
        """
        shard = self._maps.get(row.shard)
        if shard is None:
            shard = self._maps[row.shard] = self._open(row.shard)
        if row.offset < 0 or row.offset + row.samples > len(shard):
            raise DataError(
                f"{self.folder / row.shard} holds {len(shard)} samples, {row.path} needs "
                f"{row.offset} to {row.offset + row.samples}; "
                "the shard is cut short or the manifest belongs to other data: prepare it again"
            )
        return shard[row.offset : row.offset + row.samples]

    def read(self, row: Row, start: int, count: int) -> npt.NDArray[np.float32]:
        """Samples `start` to `start + count` of a row, float32 `[count]` with full scale 1."""
        if start < 0 or count < 0 or start + count > row.samples:
            raise DataError(
                f"samples {start} to {start + count} were asked of {row.path}, which "
                f"has {row.samples}"
            )
        return self.view(row)[start : start + count].astype(np.float32) / np.float32(FULL_SCALE)

    def __getstate__(self) -> dict[str, Any]:
        # a pickled memory map would carry all its samples
        return {"folder": self.folder, "_maps": {}}

    def _open(self, shard: str) -> npt.NDArray[np.int16]:
        path = self.folder / shard
        try:
            size = path.stat().st_size
            if size % 2:
                raise DataError(
                    f"{path} has {size} bytes, which is no whole number of int16 "
                    "samples; prepare the data again"
                )
            return np.memmap(path, dtype="<i2", mode="r") if size else np.zeros(0, np.int16)
        except OSError as error:
            raise DataError(
                f"cannot read the shard {path}: {error.strerror or error}; prepare the data again"
            ) from error


def _row(line: str, where: str) -> Row:
    try:
        values = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where} is not JSON ({error})") from error
    missing = (
        [name for name in _REQUIRED if name not in values]
        if isinstance(values, dict)
        else list(_REQUIRED)
    )
    if missing:
        raise DataError(f"{where} has no {missing[0]!r}; a row needs {', '.join(_REQUIRED)}")
    for name, kind in _NUMBERS.items():
        if not isinstance(values[name], kind) or isinstance(values[name], bool):
            raise DataError(f"{where} has {name} {values[name]!r}, a number was expected")
    if values["split"] not in SPLITS:
        raise DataError(
            f"{where} has split {values['split']!r}, expected one of {', '.join(SPLITS)}"
        )
    return Row(
        **{
            field.name: values[field.name]
            for field in dataclasses.fields(Row)
            if field.name in values
        }
    )


def _draw(seed: int, source: str) -> bytes:
    return hashlib.sha256(f"{seed}:{source}".encode("utf-8", "surrogatepass")).digest()


def _fill(
    sources: Sequence[str], seconds: dict[str, float], target: float, spare: int
) -> list[str]:
    """Sources, in order, that fit into `target` seconds; the shortest one if none fits, so that no
    wanted split is empty. At least `spare` sources are left for the other splits.
    """
    limit = len(sources) - spare
    if target <= 0 or limit < 1:
        return []
    taken: list[str] = []
    filled = 0.0
    for source in sources:
        if filled + seconds[source] <= target and len(taken) < limit:
            taken.append(source)
            filled += seconds[source]
    return taken or [min(sources, key=seconds.__getitem__)]
