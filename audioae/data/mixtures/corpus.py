"""The prepared recordings of one split, and crops of them, which are drawn as records and read on
demand.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from audioae.data.augment import AugmentSettings
from audioae.data.manifest import Row, ShardReader, read_manifest
from audioae.errors import DataError
from audioae.fields import check_settings
from audioae.signal.mixing import active_rms, rms
from audioae.signal.spectrogram import Array

PROBE_SAMPLES = 53  # step between the samples checked for silence
TRIES = 20  # silent crops in a row before giving up
CROP_RMS = 0.05  # of every recording in a crop


@dataclass(frozen=True)
class DataSettings:
    """Which prepared audio is mixed, and how.

    Args:
        segment_seconds: length of a pair.
        min_quiet_to_loud_db: leave out speech whose known level difference between loud and quiet
            frames is below this; 0 keeps all.
        max_noise_weight_seconds: noise recordings are drawn in proportion to their length, up to
            this one, so that a few long recordings do not dominate.
        augment: probabilities and ranges of the effects.
    """

    segment_seconds: float = 3.0
    min_quiet_to_loud_db: float = 0.0
    max_noise_weight_seconds: float = 30.0
    augment: AugmentSettings = field(default_factory=AugmentSettings)

    def __post_init__(self) -> None:
        check_settings(
            self,
            {
                "segment_seconds": (0.01, 600),
                "min_quiet_to_loud_db": (0, 200),
                "max_noise_weight_seconds": (0.01, 1e9),
            },
        )


@dataclass(frozen=True)
class Piece:
    """`count` samples of recording `row` from `start` on, at sample `place` of a crop."""

    row: int
    start: int
    count: int
    place: int


@dataclass(frozen=True)
class Crop:
    """`samples` samples of a pool: of one recording, or of several with pauses between them."""

    samples: int
    pieces: tuple[Piece, ...]


class Pool:
    """Recordings of one role and split, drawn in proportion to their weights."""

    def __init__(self, shards: ShardReader, rows: list[Row], weights: list[float]) -> None:
        self.shards, self.rows = shards, rows
        self.cumulative = np.cumsum(weights)

    def __len__(self) -> int:
        return len(self.rows)

    def draw(self, rng: np.random.Generator) -> int:
        """The row number of a random recording."""
        return int(
            np.searchsorted(self.cumulative, rng.random() * self.cumulative[-1], side="right")
        )

    def draw_crop(self, rng: np.random.Generator, samples: int) -> Crop:
        """A crop, possibly silent. A recording shorter than the crop is followed by others, each
        after a pause of up to half its length.
        """
        pieces, filled = [], 0
        while filled < samples:
            number = self.draw(rng)
            length = self.rows[number].samples
            start = int(rng.integers(0, max(1, length - samples + 1)))
            pieces.append(Piece(number, start, min(length, samples - filled), filled))
            filled += pieces[-1].count + int(rng.uniform(0, 0.5) * min(samples, length))
        return Crop(samples, tuple(pieces))

    def draw_sound(self, rng: np.random.Generator, samples: int, sample_rate: int) -> Crop:
        """A crop that is not digital silence, which has no level that a ratio could refer to."""
        for _ in range(TRIES):
            crop = self.draw_crop(rng, samples)
            if self.is_surely_sound(crop, sample_rate) or active_rms(self.read(crop), sample_rate):
                return crop
        raise DataError(
            f"{TRIES} crops in a row were digital silence; the prepared recordings "
            "hold almost no sound"
        )

    def is_surely_sound(self, crop: Crop, sample_rate: int) -> bool:
        """Whether one of a few samples within whole 20 ms frames is not zero. Much faster than
        reading the crop; False says nothing.
        """
        end = crop.samples // max(1, sample_rate // 50) * (sample_rate // 50)
        piece = crop.pieces[0]
        return bool(
            self.shards.view(self.rows[piece.row])[
                piece.start : piece.start + min(piece.count, end) : PROBE_SAMPLES
            ].any()
        )

    def read(self, crop: Crop) -> Array:
        """The waveform `[samples]` of a crop; each recording is scaled to the RMS `CROP_RMS`."""
        waveform = np.zeros(crop.samples, np.float32)
        for piece in crop.pieces:
            sound = self.shards.read(self.rows[piece.row], piece.start, piece.count)
            level = rms(sound)
            if level:
                np.multiply(
                    sound,
                    np.float32(CROP_RMS / level),
                    out=waveform[piece.place : piece.place + piece.count],
                )
        return waveform

    def read_all(self, crops: Sequence[Crop]) -> Array:
        """Crops of one length, `[batch, samples]`."""
        return np.stack([self.read(crop) for crop in crops])

    def sources(self, crop: Crop) -> list[str]:
        """The sources (speakers, noise recordings) in a crop, in order."""
        return list(dict.fromkeys(self.rows[piece.row].source for piece in crop.pieces))


class Corpus:
    """One split of a folder written by `audioae prepare`."""

    def __init__(self, folder: Path, split: str, settings: DataSettings) -> None:
        self.sample_rate = read_sample_rate(folder)
        self.shards = ShardReader(folder)
        speech = [
            row
            for row in rows_of(folder, "speech", split)
            if is_clean(row, settings.min_quiet_to_loud_db)
        ]
        noise = rows_of(folder, "noise", split)
        rooms = rows_of(folder, "rir", split) or rows_of(folder, "rir", "train")
        if not speech or not noise:
            raise DataError(
                f"{folder} has no {'speech' if not speech else 'noise'} in its {split} split"
            )
        self.speech = Pool(self.shards, speech, [row.seconds for row in speech])
        self.noise = Pool(
            self.shards,
            noise,
            [min(row.seconds, settings.max_noise_weight_seconds) for row in noise],
        )
        self.rooms = Pool(self.shards, rooms, [1.0] * len(rooms))

    @property
    def hours(self) -> tuple[float, float]:
        """Hours of speech and of noise."""
        speech, noise = (
            sum(row.seconds for row in pool.rows) / 3600 for pool in (self.speech, self.noise)
        )
        return speech, noise

    def room(self, number: int) -> Array:
        """The measured room response `[samples]` of that number."""
        row = self.rooms.rows[number]
        return self.shards.read(row, 0, row.samples)


def read_sample_rate(folder: Path) -> int:
    """The sample rate of a prepared folder, Hz."""
    try:
        return int(json.loads((folder / "data.json").read_text())["sample_rate"])
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{folder} is no prepared data ({error}); make it with: audioae prepare "
            f"... --out {folder}"
        ) from error


def is_clean(row: Row, min_quiet_to_loud_db: float) -> bool:
    """Whether the level difference of loud and quiet frames is unknown or at least this."""
    return row.quiet_to_loud_db is None or row.quiet_to_loud_db >= min_quiet_to_loud_db


def rows_of(folder: Path, kind: str, split: str) -> list[Row]:
    """The rows of a manifest in a split; empty if there is no such manifest."""
    path = folder / f"{kind}.jsonl"
    return [row for row in read_manifest(path) if row.split == split] if path.exists() else []
