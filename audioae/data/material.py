"""Prepare a user's own recordings for a training. Roles without recordings are taken from a data
folder prepared before.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from audioae.data.manifest import Row, read_manifest, write_manifest
from audioae.data.prepare import PrepareProgress, PrepareSettings, Summary, prepare
from audioae.errors import DataError, SettingsError

VALID_SHARE = 0.1  # of the seconds
HELD_SHARE = 0.2  # of the longest recording, if no source can be held out
NEEDED = ("speech", "noise")


@dataclasses.dataclass(frozen=True)
class Material:
    """Folders and tables of recordings, and a folder written by `audioae prepare`; all optional.

    Args:
        needed: the roles that the training needs.
    """

    speech: Sequence[str] = ()
    noise: Sequence[str] = ()
    rir: Sequence[str] = ()
    data: Path | None = None
    needed: Sequence[str] = NEEDED

    @property
    def own(self) -> dict[str, tuple[str, ...]]:
        """The folders and tables by role, without the empty ones."""
        given = {role: tuple(getattr(self, role)) for role in ("speech", "noise", "rir")}
        return {role: places for role, places in given.items() if places}

    @property
    def missing(self) -> list[str]:
        """The roles that a training needs and that are not given."""
        return [] if self.data else [role for role in self.needed if role not in self.own]


def gather(
    material: Material,
    folder: Path,
    *,
    sample_rate: int,
    jobs: int = 1,
    progress: Callable[[PrepareProgress], None] = lambda _: None,
) -> tuple[Path, Summary | None]:
    """Prepare recordings into `folder`, unless only prepared data are given.

    Returns:
        The folder to train on, and the summary of the preparation: `material.data` and None if no
        recordings are given.

    Raises:
        SettingsError: neither recordings nor prepared data give speech, or noise.
        DataError: recordings that cannot be used, or prepared data of another rate.
    """
    if material.missing:
        options = {"speech": "--clean DIR", "noise": "--noise DIR"}
        wanted = " and ".join(options[role] for role in material.missing)
        raise SettingsError(
            f"there is no {' and no '.join(material.missing)} to train on; give "
            f"{wanted}, or --data DATA that has it"
        )
    if not material.own:
        assert material.data
        return material.data, None
    own: dict[str, Any] = material.own
    settings = PrepareSettings(
        out=str(folder), sample_rate=sample_rate, valid_share=VALID_SHARE, jobs=jobs, **own
    )
    summary = prepare(settings, progress=progress)
    for role in set(own) & set(NEEDED):
        hold_out(folder / f"{role}.jsonl")
    if material.data:
        check_rate(material.data, sample_rate)
        for role in ("speech", "noise", "rir"):
            if role not in own and (material.data / f"{role}.jsonl").exists():
                borrow(material.data, folder, role)
    return folder, summary


def hold_out(manifest: Path) -> None:
    """If no row is in the validation split, move the end of the longest recording there."""
    rows = read_manifest(manifest)
    if any(row.split == "valid" for row in rows):
        return
    longest = max(range(len(rows)), key=lambda number: rows[number].samples)
    row = rows[longest]
    held = round(row.samples * HELD_SHARE)
    parts = [
        part_of(row, 0, row.samples - held),
        dataclasses.replace(part_of(row, row.samples - held, held), split="valid"),
    ]
    write_manifest(manifest, [*rows[:longest], *parts, *rows[longest + 1 :]])


def part_of(row: Row, start: int, samples: int) -> Row:
    """A part of a recording as a row of its own."""
    return dataclasses.replace(
        row, offset=row.offset + start, samples=samples, seconds=row.seconds * samples / row.samples
    )


def borrow(data: Path, folder: Path, role: str) -> None:
    """Add the recordings of another data folder; its shards stay where they are."""
    rows = read_manifest(data / f"{role}.jsonl")
    write_manifest(
        folder / f"{role}.jsonl",
        [dataclasses.replace(row, shard=os.path.relpath(data / row.shard, folder)) for row in rows],
    )


def check_rate(data: Path, sample_rate: int) -> None:
    """Raise `DataError` if the sample rate of prepared data differs."""
    try:
        rate = int(json.loads((data / "data.json").read_text())["sample_rate"])
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{data} is no prepared data ({error}); make it with: audioae prepare ... --out {data}"
        ) from error
    if rate != sample_rate:
        raise DataError(
            f"{data} holds audio of {rate} Hz, the recipe is for {sample_rate} Hz; "
            "prepare it at that rate"
        )
