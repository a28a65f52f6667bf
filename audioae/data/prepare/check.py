"""Check a data folder before training: is it complete, do manifests and shards agree, and do its
recordings or splits harm training or validation?
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from audioae.data.manifest import Row, read_manifest
from audioae.data.prepare.measure import (
    Finding,
    Item,
    check_duplicates,
    check_near_duplicates,
    check_sound,
    listen,
    of_rows,
    some,
)
from audioae.data.prepare.settings import PrepareSettings
from audioae.data.sources import ROLES
from audioae.errors import DataError, counted

NEEDED_SPLITS = ("train", "valid")
HASH_BYTES = 1 << 22


def check(data: str | Path, *, progress: Callable[[float], None] = lambda _: None) -> list[Finding]:
    """Run all checks.

    Args:
        data: folder written by `prepare`.
        progress: called with the seconds of each recording that was read.

    Returns:
        One or more findings for each check.

    Raises:
        DataError: the folder was not prepared, or not completely.
    """
    folder = Path(data)
    about = _read_data(folder)
    items, manifests = _read_manifests(folder)
    shards = list(_check_shards(folder, about["shards"], items))
    broken = {finding.example.partition(":")[0] for finding in shards if finding.level == "error"}
    manifests += _check_fit(about, items)
    sound = [item for item in items if item.row.shard not in broken and _fits(item.row, about)]
    measured = listen(folder, sound, about["sample_rate"], progress)
    return [
        *_or_ok("shards", shards, f"{len(about['shards'])} whole"),
        *_or_ok("manifests", manifests, counted(len(items), "row")),
        *_or_ok("splits", _check_splits(items), _hours(items)),
        *_or_ok(
            "leakage",
            _check_sources(items),
            f"{counted(len({item.row.source for item in items}), 'source')}, each in one split",
        ),
        *_or_ok("durations", _check_durations(items, about), _durations(items)),
        *check_sound(measured, about),
        *_or_ok("duplicates", check_duplicates(measured), "no recording twice"),
        *_or_ok(
            "near duplicates",
            check_near_duplicates(measured),
            "no recording of one split again in another",
        ),
    ]


def _or_ok(name: str, findings: Iterable[Finding], found: str) -> list[Finding]:
    return list(findings) or [Finding(name, "ok", found)]


# --- what is on disk


def _read_data(folder: Path) -> dict[str, Any]:
    try:
        about = json.loads((folder / "data.json").read_text(encoding="utf-8"))
        return {
            "sample_rate": int(about["sample_rate"]),
            "shards": dict(about["shards"]),
            "settings": dict(about.get("settings", {})),
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise DataError(
            f"{folder} is no data folder or was not finished (data.json: {why}); run the audioae "
            "prepare that made it again"
        ) from error


def _read_manifests(folder: Path) -> tuple[list[Item], list[Finding]]:
    items: list[Item] = []
    wrong: list[Finding] = []
    for role in ROLES:
        try:
            items += [
                Item(role, row)
                for row in (
                    read_manifest(folder / f"{role}.jsonl")
                    if (folder / f"{role}.jsonl").exists()
                    else []
                )
            ]
        except DataError as error:
            wrong.append(
                Finding(
                    "manifests",
                    "error",
                    f"{role}.jsonl cannot be read",
                    str(error),
                    "prepare it again",
                )
            )
    return items, wrong


def _check_shards(
    folder: Path, shards: dict[str, dict[str, Any]], items: list[Item]
) -> Iterator[Finding]:
    """Missing, short and changed shards. An example begins with the shard and a colon."""
    bad: dict[str, list[str]] = {
        "missing": [],
        "of another size": [],
        "changed since they were written": [],
    }
    for name, about in shards.items():
        path = folder / name
        if not path.is_file():
            bad["missing"].append(f"{name}: not there")
        elif path.stat().st_size != 2 * about["samples"]:
            bad["of another size"].append(
                f"{name}: {path.stat().st_size:,} bytes, {2 * about['samples']:,} were written"
            )
        elif _sha256(path) != about["sha256"]:
            bad["changed since they were written"].append(
                f"{name}: another sha256 than in data.json"
            )
    for what, examples in bad.items():
        for example in examples:
            yield Finding(
                "shards",
                "error",
                f"1 of {len(shards)} {what}",
                example,
                "run the same audioae prepare again, after removing the shard",
            )
    strangers = sorted({item.row.shard for item in items} - set(shards))
    unknown = [f"{name}: not in data.json" for name in strangers]
    yield from some(
        "shards",
        "error",
        "named by manifests only",
        "named by manifests only",
        unknown,
        "prepare it again",
    )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(HASH_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _fits(row: Row, about: dict[str, Any]) -> bool:
    held = about["shards"].get(row.shard, {}).get("samples", 0)
    return row.offset >= 0 and row.samples > 0 and row.offset + row.samples <= held


def _check_fit(about: dict[str, Any], items: list[Item]) -> list[Finding]:
    """Rows outside their shard, at another rate than in data.json, or sharing samples."""
    rate, advice = about["sample_rate"], "the manifests belong to other data; prepare it again"
    known = [item for item in items if item.row.shard in about["shards"]]
    outside = [item.row.path for item in known if not _fits(item.row, about)]
    rates = [
        f"{row.path}: {row.samples} samples in {row.seconds} s"
        for _, row in of_rows(items)
        if abs(row.samples / rate - row.seconds) > 0.01
    ]
    stretches = sorted(
        (row.shard, row.offset, row.offset + row.samples, row.path) for _, row in of_rows(items)
    )
    shared = [b[3] for a, b in pairwise(stretches) if a[0] == b[0] and b[1] < a[2]]
    return [
        *some(
            "manifests",
            "error",
            "row reaches out of its shard",
            "rows reach out of their shards",
            outside,
            advice,
        ),
        *some(
            "manifests",
            "error",
            f"row is not at {rate} Hz",
            f"rows are not at {rate} Hz",
            rates,
            advice,
        ),
        *some(
            "manifests",
            "error",
            "row shares samples with another",
            "rows share samples with another",
            shared,
            advice,
        ),
    ]


# --- splits and sources


def _check_splits(items: list[Item]) -> Iterator[Finding]:
    splits = defaultdict(set)
    for role, row in of_rows(items):
        splits[role].add(row.split)
    for role in ("speech", "noise"):
        if role not in splits:
            yield Finding(
                "splits",
                "warning",
                f"no {role}",
                "",
                f"training needs speech and noise; add --{role} to audioae prepare",
            )
            continue
        empty = [split for split in NEEDED_SPLITS if split not in splits[role]]
        advice = "prepare it with more sources or another --valid-share"
        yield from some(
            "splits",
            "error",
            f"split of {role} is empty",
            f"splits of {role} are empty",
            empty,
            advice,
        )


def _check_sources(items: list[Item]) -> Iterator[Finding]:
    """A source or a file in two splits, by role."""
    for what, key in (("source", "source"), ("file", "path")):
        splits: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        for role, row in of_rows(items):
            splits[role, getattr(row, key)].add(row.split)
        examples = [
            f"{name}: {', '.join(sorted(of))}" for (_, name), of in splits.items() if len(of) > 1
        ]
        advice = "validation would reward memory; prepare it again"
        yield from some(
            "leakage", "error", f"{what} in two splits", f"{what}s in two splits", examples, advice
        )


def _check_durations(items: list[Item], about: dict[str, Any]) -> Iterator[Finding]:
    shortest = float(about["settings"].get("min_seconds", PrepareSettings.min_seconds))
    short = [
        f"{row.path}: {row.seconds} s"
        for role, row in of_rows(items)
        if role != "rir" and row.seconds < shortest
    ]
    too_short = f"shorter than {shortest:g} s"
    yield from some("durations", "warning", too_short, too_short, short, "prepare it again")


def _hours(items: list[Item]) -> str:
    seconds: defaultdict[str, float] = defaultdict(float)
    for role, row in of_rows(items):
        seconds[f"{role} {row.split}"] += row.seconds
    return ", ".join(f"{name} {total / 3600:.2f} h" for name, total in sorted(seconds.items()))


def _durations(items: list[Item]) -> str:
    seconds = [row.seconds for role, row in of_rows(items) if role != "rir"]
    return (
        f"{min(seconds):.2f} to {max(seconds):.2f} s, median {float(np.median(seconds)):.2f} s"
        if seconds
        else "no speech or noise"
    )
