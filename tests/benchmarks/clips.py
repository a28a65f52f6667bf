"""The sounds that honesty is measured on: speech and noise of a prepared folder or of files, made
music, and mixtures of them.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path
from typing import Literal

import numpy as np

from audioae.audio import read
from audioae.data.manifest import Row, ShardReader, read_manifest
from audioae.errors import AudioFileError, DataError
from audioae.signal.mixing import active_rms, mix_at_snr
from audioae.signal.resample import resample
from audioae.signal.spectrogram import Array

Side = Literal["speech", "noise"]

SHORTEST_SECONDS = 2.0
QUIET_TO_LOUD_DB = 30.0  # of speech, where it is known: what has more room noise is no reference
LEVEL = 10 ** (-30 / 20)  # active RMS of every clip
PEAK = 0.9  # that nothing exceeds, so that nothing is clamped


@dataclass(frozen=True)
class Clip:
    """A sound `[samples]`; `kind` is its speaker or class."""

    name: str
    kind: str
    waveform: Array


@dataclass(frozen=True)
class Source:
    """A recording that could become a clip, and how its first so many seconds are read:
    `read(seconds)` is `[samples]` and their rate.
    """

    name: str
    kind: str
    read: Callable[[float], tuple[Array, int]]


def load_clips(
    place: Path, side: Side, sample_rate: int, *, count: int, seconds: float
) -> list[Clip]:
    """Up to `count` clips of as many speakers or classes as there are, each at most `seconds` long,
    at one level; always the same ones.

    Args:
        place: a folder that `audioae prepare` wrote, of which the validation split is taken; a
            folder of recordings; or a CSV table with the column path (also speaker or class; where
            some have the split valid, those).
    """
    found = (_clip(source, sample_rate, seconds) for source in spread(_sources(place, side)))
    clips = list(islice((clip for clip in found if clip is not None), count))
    if not clips:
        raise DataError(
            f"{place} gives no {side} of at least {SHORTEST_SECONDS:g} s; name other recordings"
        )
    return clips


def spread(sources: Sequence[Source]) -> Iterator[Source]:
    """One source of each kind, then a second one of each, and so on; kinds in an order that has
    nothing to do with their names' order.
    """
    kinds: dict[str, list[Source]] = {}
    for source in sources:
        kinds.setdefault(source.kind, []).append(source)
    order = sorted(kinds, key=lambda kind: hashlib.sha256(kind.encode()).digest())
    for each in zip_longest(*(kinds[kind] for kind in order)):
        yield from (source for source in each if source is not None)


def mixture(speech: Clip, noise: Clip, *, snr_db: float, sample_rate: int) -> tuple[Array, Array]:
    """The noisy and the clean waveform of speech in noise, which is repeated where it is shorter,
    at a ratio on active levels.
    """
    noisy = mix_at_snr(
        speech.waveform,
        np.resize(noise.waveform, speech.waveform.shape),
        snr_db=snr_db,
        sample_rate=sample_rate,
    )
    scale = np.float32(min(1.0, PEAK / float(np.abs(noisy).max())))
    return noisy * scale, speech.waveform * scale


def make_music(number: int, *, seconds: float, sample_rate: int) -> Clip:
    """Music of a kind: plucked chords, held chords or an arpeggio over a beat, by turns, in another
    key each.
    """
    rng, time = np.random.default_rng([5, number]), np.arange(sample_rate) / sample_rate
    kind = ("plucked chords", "held chords", "arpeggio and beat")[number % 3]
    beats = []
    for _ in range(max(round(seconds), 1)):
        roots = 110 * 2 ** (rng.choice([0, 2, 4, 5, 7, 9]) / 12) * np.array([1, 5 / 4, 3 / 2, 2])
        notes = [
            sum(np.sin(2 * np.pi * root * k * time + rng.uniform(0, 6)) / k for k in range(1, 10))
            for root in roots
        ]
        if kind == "plucked chords":
            beats.append(np.sum(notes, axis=0) * np.exp(-2 * time))
        elif kind == "held chords":
            beats.append(np.sum(notes, axis=0) * np.sin(np.pi * time) ** 0.2)
        else:
            step, decay = sample_rate // 4, np.exp(-8 * time[: sample_rate // 4])
            drum = rng.standard_normal(step) * np.exp(-60 * time[:step])
            beats.append(np.concatenate([(note[:step] + drum) * decay for note in notes]))
    return Clip(
        f"music {number}", kind, _levelled(np.concatenate(beats).astype(np.float32), sample_rate)
    )


def _clip(source: Source, sample_rate: int, seconds: float) -> Clip | None:
    """The start of a recording; None where it is too short, silent or no sound."""
    try:
        waveform, rate = source.read(seconds)
    except AudioFileError:
        return None
    if len(waveform) < SHORTEST_SECONDS * rate or not active_rms(waveform, rate):
        return None
    return Clip(
        source.name,
        source.kind,
        _levelled(resample(waveform[None], rate, sample_rate)[0], sample_rate),
    )


def _levelled(waveform: Array, sample_rate: int) -> Array:
    scale = min(LEVEL / active_rms(waveform, sample_rate), PEAK / float(np.abs(waveform).max()))
    return waveform * np.float32(scale)


def _sources(place: Path, side: Side) -> list[Source]:
    if (place / f"{side}.jsonl").is_file():
        return _prepared(place, side)
    if place.is_dir():
        files = sorted(
            file for file in place.rglob("*") if file.is_file() and not file.name.startswith(".")
        )
        return [
            _file_source(file, file.parent.name if file.parent != place else file.stem)
            for file in files
        ]
    try:
        rows = list(csv.DictReader(place.read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"cannot read {place} ({error}); expected prepared data, a folder of recordings or a "
            "CSV table"
        ) from error
    if not rows or "path" not in rows[0]:
        raise DataError(f"{place} has no column path; expected a table of recordings")
    chosen = [row for row in rows if row.get("split") == "valid"] or rows
    clean = [
        row
        for row in chosen
        if float(row.get("quiet_to_loud_db") or QUIET_TO_LOUD_DB) >= QUIET_TO_LOUD_DB
    ]
    column = {"speech": "speaker", "noise": "class"}[side]
    return [
        _file_source(place.parent / row["path"], row.get(column) or Path(row["path"]).stem)
        for row in clean
    ]


def _file_source(path: Path, kind: str) -> Source:
    def first(seconds: float) -> tuple[Array, int]:
        waveform, rate = read(path)
        return waveform.mean(axis=0)[: round(seconds * rate)], rate

    return Source(path.stem, kind, first)


def _prepared(folder: Path, side: Side) -> list[Source]:
    import json

    rate = int(json.loads((folder / "data.json").read_text(encoding="utf-8"))["sample_rate"])
    shards = ShardReader(folder)

    def source(row: Row) -> Source:
        return Source(
            Path(row.path).stem,
            row.source if side == "speech" else row.kind or row.source,
            lambda seconds: (shards.read(row, 0, min(row.samples, round(seconds * rate))), rate),
        )

    rows = [row for row in read_manifest(folder / f"{side}.jsonl") if row.split == "valid"]
    return [
        source(row)
        for row in rows
        if row.quiet_to_loud_db is None or row.quiet_to_loud_db >= QUIET_TO_LOUD_DB
    ]
