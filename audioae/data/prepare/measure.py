"""Measurements and audio fingerprints of prepared recordings, and the checks based on them. A
fingerprint has 32 bits per 16 ms and finds the same sound after another encoding, level or cut.

After Haitsma and Kalker, "A Highly Robust Audio Fingerprinting System", ISMIR 2002: a bit is the
sign of the difference of neighbouring bands, differenced over time. Equal 32-bit words give
candidates, the share of differing bits around them decides.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from audioae.data.manifest import FULL_SCALE, Row, ShardReader
from audioae.data.prepare.settings import PrepareSettings
from audioae.data.sources import Role
from audioae.errors import counted

# relative to the peak of the recording: clipping stays flat when the level is changed
FLAT_TOP = 0.9995
OFFSET_RATIO = 0.25  # of the RMS, -12 dB; rumble in a short clip stays below
SILENT_PEAK = 0.01  # of full scale; prepare stores all peaks at 0.9
SILENT_SHARE = 0.9  # of digital silence


@dataclass(frozen=True)
class Measured:
    """Measurements of one recording.

    Args:
        digest: hash of the samples.
        clipped: fraction of samples in runs of three or more at the peak of the recording.
        offset: whether the DC offset is above a quarter of the RMS.
        silent: whether the peak is very low, or nine tenths are digital silence.
    """

    digest: str
    clipped: float
    offset: bool
    silent: bool


def measure(samples: npt.NDArray[np.int16]) -> Measured:
    """Measure one recording, `[samples]`."""
    peak = int(np.abs(samples.astype(np.int32)).max())
    digest = hashlib.blake2b(samples.tobytes(), digest_size=16).hexdigest()
    if peak < SILENT_PEAK * FULL_SCALE:
        return Measured(digest, 0.0, False, True)
    wave = samples.astype(np.float32)
    mean, rms = float(wave.mean(dtype=np.float64)), float(np.sqrt((wave**2).mean(dtype=np.float64)))
    silent = np.count_nonzero(samples == 0) > SILENT_SHARE * len(samples)
    return Measured(digest, _clipped(samples, peak), abs(mean) > OFFSET_RATIO * rms, bool(silent))


def _clipped(samples: npt.NDArray[np.int16], peak: int) -> float:
    """Fraction of samples that begin a run of three with the same sign at the peak."""
    top = FLAT_TOP * peak
    runs = 0
    for full in (samples >= top, samples <= -top):
        runs += int(np.count_nonzero(full[:-2] & full[1:-1] & full[2:]))
    return runs / len(samples)


Bits = npt.NDArray[np.uint32]
HOP_SECONDS, WINDOW_SECONDS = 0.016, 0.064
SMOOTHED_HOPS = 16  # energies are sums over 256 ms, so that a shift of half a hop changes few bits
LAG_HOPS = 8  # differences over 128 ms
LOW_HZ, HIGH_HZ, BANDS = 300.0, 3800.0, 33
BLOCK_FRAMES = 2000
MIN_HOPS = 32  # half a second; shorter matches happen by chance
# fraction of bits; 0.5 for different sounds, about 0.1 after a low-rate codec
MAX_BIT_ERRORS = 0.2
COMMON = 64  # more frequent words are ignored
CANDIDATES = 4  # positions compared bit by bit for each sound


def fingerprint(samples: npt.NDArray[np.int16], sample_rate: int) -> Bits:
    """`[hops]` words of 32 bits; empty for less than about half a second."""
    energy = np.log(_band_energies(samples, sample_rate))  # hops, BANDS
    slope = np.diff(energy, axis=1)
    bits = slope[LAG_HOPS:] > slope[:-LAG_HOPS]  # hops, 32
    return np.packbits(bits, axis=1).view(">u4")[:, 0].astype(np.uint32)


def _band_energies(samples: npt.NDArray[np.int16], sample_rate: int) -> npt.NDArray[np.float32]:
    """`[hops, BANDS]`, each summed over `SMOOTHED_HOPS` and never zero."""
    hop, size = (
        round(HOP_SECONDS * sample_rate),
        1 << math.ceil(math.log2(WINDOW_SECONDS * sample_rate)),
    )
    if len(samples) < size + (SMOOTHED_HOPS + LAG_HOPS) * hop:
        return np.ones((LAG_HOPS, BANDS), np.float32)
    edges = np.geomspace(LOW_HZ, min(HIGH_HZ, 0.45 * sample_rate), BANDS + 1) * size / sample_rate
    bins = np.rint(edges).astype(int)
    bins = np.maximum(bins, bins[0] + np.arange(BANDS + 1))  # every band has one bin at least
    window = np.hanning(size + 1)[:-1].astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(samples, size)[::hop]
    energies = []
    for start in range(0, len(frames), BLOCK_FRAMES):
        spectrum = np.fft.rfft(
            frames[start : start + BLOCK_FRAMES].astype(np.float32) * window, axis=1
        )
        power = spectrum.real**2 + spectrum.imag**2
        energies.append(np.add.reduceat(power[:, : bins[-1]], bins[:-1], axis=1))
    total = np.cumsum(np.concatenate(energies), axis=0, dtype=np.float64)
    smooth = total[SMOOTHED_HOPS:] - total[:-SMOOTHED_HOPS]
    floored: npt.NDArray[np.float32] = np.maximum(smooth, 1e-7 * smooth.max() + 1.0).astype(
        np.float32
    )
    return floored


@dataclass(frozen=True)
class Match:
    """A known sound, by its number in the index, and the fraction of differing bits."""

    known: int
    bit_errors: float


class Index:
    """An index of fingerprints to look others up in."""

    def __init__(self, prints: list[Bits]) -> None:
        self.prints = prints
        words = np.concatenate([*prints, np.zeros(0, np.uint32)])
        owners = np.repeat(np.arange(len(prints)), [len(bits) for bits in prints])
        places = np.concatenate([*(np.arange(len(bits)) for bits in prints), np.zeros(0, int)])
        order = np.argsort(words, kind="stable")
        self._words, self._owners, self._places = words[order], owners[order], places[order]

    def find(self, bits: Bits) -> list[Match]:
        """Known sounds that share half a second or more with this one, the closest first."""
        found: dict[int, float] = {}
        for known, shift in self._candidates(bits):
            errors = _bit_errors(self.prints[known], bits, shift)
            if errors <= MAX_BIT_ERRORS:
                found[known] = min(errors, found.get(known, 1.0))
        return [
            Match(known, errors)
            for known, errors in sorted(found.items(), key=lambda item: item[1])
        ]

    def _candidates(self, bits: Bits) -> list[tuple[int, int]]:
        """Sounds with equal words and their shifts in hops, the most frequent first."""
        first, last = (np.searchsorted(self._words, bits, side=side) for side in ("left", "right"))
        count = np.where(
            (last - first <= COMMON) & (bits != 0) & (bits != 0xFFFFFFFF), last - first, 0
        )
        if not count.sum():
            return []
        here = np.repeat(np.arange(len(bits)), count)
        ends = np.cumsum(count)
        there = np.arange(ends[-1]) - np.repeat(ends - count, count) + np.repeat(first, count)
        pairs = np.stack([self._owners[there], self._places[there] - here], axis=1)
        unique, times = np.unique(pairs, axis=0, return_counts=True)
        best = np.argsort(-times, kind="stable")[:CANDIDATES]
        return [(int(known), int(shift)) for known, shift in unique[best]]


def _bit_errors(known: Bits, bits: Bits, shift: int) -> float:
    """Fraction of differing bits in the overlap; 1 if it is too short or hardly changes."""
    start, stop = max(0, shift), min(len(known), len(bits) + shift)
    if stop - start < min(MIN_HOPS, len(bits), len(known)) or stop - start < MIN_HOPS // 2:
        return 1.0
    theirs, ours = known[start:stop], bits[start - shift : stop - shift]
    sounding = (theirs != 0) & (ours != 0)  # pauses are all equal
    theirs, ours = theirs[sounding], ours[sounding]
    if len(ours) < MIN_HOPS // 2 or len(np.unique(ours)) * 3 < len(ours):
        return 1.0
    return float(np.bitwise_count(theirs ^ ours).mean()) / 32


Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """The result of one check. An "error" makes training or validation worthless, a "warning"
    makes it worse. `found` has the count, `example` the first case.
    """

    check: str
    level: Level
    found: str
    example: str = ""
    advice: str = ""


@dataclass(frozen=True)
class Item:
    """A row and its role."""

    role: Role
    row: Row


def some(
    name: str, level: Level, one: str, many: str, examples: list[str], advice: str
) -> Iterator[Finding]:
    """One finding for all examples, worded for `one` or `many`; nothing without examples."""
    if examples:
        yield Finding(name, level, counted(len(examples), one, many), examples[0], advice)


def of_rows(items: Iterable[Item]) -> Iterator[tuple[Role, Row]]:
    """The items as pairs of role and row."""
    return ((item.role, item.row) for item in items)


def names(items: list[Item]) -> str:
    """The first two of equal items, with role and split."""
    return " = ".join(f"{item.row.path} ({item.role} {item.row.split})" for item in items[:2])


TOLERATED = 0.01  # of the seconds of a role: a flaw in less is only a warning


@dataclass(frozen=True)
class Heard:
    """An item with its measurements and the similar items of other splits, each with the fraction
    of differing fingerprint bits.
    """

    item: Item
    measured: Measured
    alike: list[tuple[Item, float]]


def listen(
    folder: Path, items: list[Item], sample_rate: int, progress: Callable[[float], None]
) -> list[Heard]:
    """Measure all items: test, then valid, then train, so that only the fingerprints of held-out
    audio are kept in memory.
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
    """Report a flaw; it is an error if it affects more than 1 % of the seconds of a role."""
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
    """Equal samples: across splits, as speech and as noise, or within a split."""
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
    """Sounds of a held-out split that are also in another split, with another encoding, level or
    cut.

    For noise it is a warning: clips of one recording are mixed with other speech at other levels,
    which makes validation too optimistic but not useless.
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
