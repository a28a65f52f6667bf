"""A data folder before a training: is it whole, do its manifests fit, and does anything in it spoil
what a training learns or measures.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from audioae.data.manifest import Row, ShardReader, read_manifest
from audioae.data.prepare.measure import Bits, Index, Measured, fingerprint, measure
from audioae.data.prepare.settings import PrepareSettings
from audioae.data.sources import ROLES, Role
from audioae.errors import DataError, counted

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """What one check found: "error" spoils a training, "warning" costs some of it. `found` counts,
    `example` names the first.
    """

    check: str
    level: Level
    found: str
    example: str = ""
    advice: str = ""


@dataclass(frozen=True)
class Item:
    """A row and the role that its manifest gives it."""

    role: Role
    row: Row


def some(
    name: str, level: Level, one: str, many: str, examples: list[str], advice: str
) -> Iterator[Finding]:
    """One finding for all examples, in the words for `one` or for `many` of them; none for none."""
    if examples:
        yield Finding(name, level, counted(len(examples), one, many), examples[0], advice)


def of_rows(items: Iterable[Item]) -> Iterator[tuple[Role, Row]]:
    """Roles and rows apart."""
    return ((item.role, item.row) for item in items)


def names(items: list[Item]) -> str:
    """The first two of items that are alike, with role and split."""
    return " = ".join(f"{item.row.path} ({item.role} {item.row.split})" for item in items[:2])


TOLERATED = 0.01  # of the seconds of a role: a flaw in less of it is a warning


@dataclass(frozen=True)
class Heard:
    """An item, what its samples are like, and what sounds the same in the splits before its own,
    with the share of bits that differ.
    """

    item: Item
    measured: Measured
    alike: list[tuple[Item, float]]


def listen(
    folder: Path, items: list[Item], sample_rate: int, progress: Callable[[float], None]
) -> list[Heard]:
    """Test, then valid, then train: only what is held out has to be remembered, and training audio
    may be long.
    """
    reader, heard = ShardReader(folder), []
    prints: list[Bits] = []
    owners: list[Item] = []
    for split in ("test", "valid", "train"):
        index, known = Index(prints), list(owners)
        for item in (item for item in items if item.row.split == split):
            samples = reader.view(item.row)
            bits = (
                np.zeros(0, np.uint32) if item.role == "rir" else fingerprint(samples, sample_rate)
            )
            alike = [(known[match.known], match.bit_errors) for match in index.find(bits)]
            heard.append(Heard(item, measure(samples), alike))
            if split != "train" and len(bits):
                prints.append(bits)
                owners.append(item)
            progress(item.row.seconds)
    return heard


def check_sound(heard: list[Heard], about: dict[str, Any]) -> Iterator[Finding]:
    settings = about["settings"]
    limits = {
        "speech": float(settings.get("max_clipped", PrepareSettings.max_clipped)),
        "noise": float(settings.get("max_clipped_noise", PrepareSettings.max_clipped_noise)),
        "rir": math.inf,
    }
    asked = [one for one in heard if one.item.role != "rir"]
    yield from _flawed(
        "clipping",
        asked,
        lambda one: one.measured.clipped > limits[one.item.role],
        "a network learns to distort from it",
    )
    yield from _flawed(
        "silence",
        asked,
        lambda one: one.measured.silent,
        "silent recordings teach nothing; leave them out",
    )
    yield from _flawed(
        "DC offset",
        asked,
        lambda one: one.measured.offset,
        "it takes the place of sound; filter it below 20 Hz",
        worst="warning",
    )


def _flawed(
    name: str,
    heard: list[Heard],
    wrong: Callable[[Heard], bool],
    advice: str,
    *,
    worst: Level = "error",
) -> Iterator[Finding]:
    """A flaw spoils a role when it is in more than 1 % of its seconds."""
    found = False
    for role in ("speech", "noise"):
        of_role = [one for one in heard if one.item.role == role]
        bad = [one.item.row for one in of_role if wrong(one)]
        share = sum(row.seconds for row in bad) / max(
            sum(one.item.row.seconds for one in of_role), 1e-9
        )
        if bad:
            found = True
            level: Level = worst if share > TOLERATED else "warning"
            yield Finding(
                name,
                level,
                f"{len(bad)} of {role}, {share:.2%} of its seconds",
                bad[0].path,
                advice,
            )
    if not found:
        yield Finding(name, "ok", "none")


def check_duplicates(heard: list[Heard]) -> Iterator[Finding]:
    """The same samples twice: across splits, as speech and as noise, or only in vain."""
    groups: defaultdict[str, list[Item]] = defaultdict(list)
    for one in heard:
        groups[one.measured.digest].append(one.item)
    twice = [group for group in groups.values() if len(group) > 1]
    across = [group for group in twice if len({item.row.split for item in group}) > 1]
    both = [group for group in twice if {"speech", "noise"} <= {item.role for item in group}]
    rest = [group for group in twice if group not in across and group not in both]
    leak = "validation would reward memory; leave one of each out"
    found: tuple[tuple[Level, str, str, list[list[Item]], str], ...] = (
        ("error", "recording in two splits", "recordings in two splits", across, leak),
        (
            "error",
            "recording is speech and noise",
            "recordings are speech and noise",
            both,
            "decide what it is",
        ),
        (
            "warning",
            "recording twice in a split",
            "recordings twice in a split",
            rest,
            "it counts double",
        ),
    )
    for level, singular, plural, alike, advice in found:
        yield from some(
            "duplicates", level, singular, plural, [names(group) for group in alike], advice
        )


def check_near_duplicates(heard: list[Heard]) -> Iterator[Finding]:
    """Sounds of a held-out split that are in another split, too, in another encoding, level or cut.

    Noise that is cut twice from one recording is mixed with other speech at another level: it
    flatters the validation but spoils nothing.
    """
    digests = {(one.item.role, one.item.row.path): one.measured.digest for one in heard}
    levels: tuple[tuple[Role, Level], ...] = (("speech", "error"), ("noise", "warning"))
    for role, level in levels:
        pairs = [
            f"{names([other, one.item])} ({errors:.0%} of the bits differ)"
            for one in heard
            for other, errors in one.alike
            if other.role == one.item.role == role
            and digests[role, other.row.path] != one.measured.digest
        ]
        advice = "validation would reward memory; put both into one split or leave one out"
        yield from some(
            "near duplicates",
            level,
            f"pair of {role} across splits",
            f"pairs of {role} across splits",
            pairs,
            advice,
        )


NEEDED_SPLITS = ("train", "valid")
HASH_BYTES = 1 << 22


def check(data: str | Path, *, progress: Callable[[float], None] = lambda _: None) -> list[Finding]:
    """All findings, one or more for each check. `progress` hears of each stretch of audio that was
    looked at, seconds.

    Raises:
        DataError: the folder was not prepared, or not to the end.
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
# --------------------------------------------------------------------------------------------------------------------


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
    """Missing, short and changed shards; in an example the shard comes first, then a colon."""
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
    """Rows outside their shard, of another rate than data.json says, or that share samples."""
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
# -----------------------------------------------------------------------------------------------------------------


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
    """A source, or one file, in two splits. Speech and noise may share the name of a corpus."""
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
