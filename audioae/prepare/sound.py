"""What the prepared sound is like: clipped, silent, off centre, or there twice."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from audioae.manifest import ShardReader
from audioae.prepare.findings import Finding, Item, Level, names, some
from audioae.prepare.fingerprint import Bits, Index, fingerprint
from audioae.prepare.measure import Measured, measure
from audioae.prepare.settings import PrepareSettings
from audioae.prepare.sources import Role

TOLERATED = 0.01  # of the seconds of a role: a flaw in less of it is a warning


@dataclass(frozen=True)
class Heard:
    """An item, what its samples are like, and what sounds the same in the splits before its own, with the share of bits that differ."""

    item: Item
    measured: Measured
    alike: list[tuple[Item, float]]


def listen(folder: Path, items: list[Item], sample_rate: int, progress: Callable[[float], None]) -> list[Heard]:
    """Test, then valid, then train: only what is held out has to be remembered, and training audio may be long."""
    reader, heard = ShardReader(folder), []
    prints: list[Bits] = []
    owners: list[Item] = []
    for split in ("test", "valid", "train"):
        index, known = Index(prints), list(owners)
        for item in (item for item in items if item.row.split == split):
            samples = reader.view(item.row)
            bits = np.zeros(0, np.uint32) if item.role == "rir" else fingerprint(samples, sample_rate)
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
    yield from _flawed("clipping", asked, lambda one: one.measured.clipped > limits[one.item.role], "a network learns to distort from it")
    yield from _flawed("silence", asked, lambda one: one.measured.silent, "silent recordings teach nothing; leave them out")
    yield from _flawed(
        "DC offset", asked, lambda one: one.measured.offset, "it takes the place of sound; filter it below 20 Hz", worst="warning"
    )


def _flawed(name: str, heard: list[Heard], wrong: Callable[[Heard], bool], advice: str, *, worst: Level = "error") -> Iterator[Finding]:
    """A flaw spoils a role when it is in more than 1 % of its seconds."""
    found = False
    for role in ("speech", "noise"):
        of_role = [one for one in heard if one.item.role == role]
        bad = [one.item.row for one in of_role if wrong(one)]
        share = sum(row.seconds for row in bad) / max(sum(one.item.row.seconds for one in of_role), 1e-9)
        if bad:
            found = True
            level: Level = worst if share > TOLERATED else "warning"
            yield Finding(name, level, f"{len(bad)} of {role}, {share:.2%} of its seconds", bad[0].path, advice)
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
        ("error", "recording is speech and noise", "recordings are speech and noise", both, "decide what it is"),
        ("warning", "recording twice in a split", "recordings twice in a split", rest, "it counts double"),
    )
    for level, singular, plural, alike, advice in found:
        yield from some("duplicates", level, singular, plural, [names(group) for group in alike], advice)


def check_near_duplicates(heard: list[Heard]) -> Iterator[Finding]:
    """Sounds of a held-out split that are in another split, too, in another encoding, level or cut.

    Noise that is cut twice from one recording is mixed with other speech at another level: it flatters the validation but spoils nothing.
    """
    digests = {(one.item.role, one.item.row.path): one.measured.digest for one in heard}
    levels: tuple[tuple[Role, Level], ...] = (("speech", "error"), ("noise", "warning"))
    for role, level in levels:
        pairs = [
            f"{names([other, one.item])} ({errors:.0%} of the bits differ)"
            for one in heard
            for other, errors in one.alike
            if other.role == one.item.role == role and digests[role, other.row.path] != one.measured.digest
        ]
        advice = "validation would reward memory; put both into one split or leave one out"
        yield from some("near duplicates", level, f"pair of {role} across splits", f"pairs of {role} across splits", pairs, advice)
