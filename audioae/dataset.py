"""Prepared speech and noise become noisy/clean pairs, drawn on the fly: pair `index` of a seed is always the same pair."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from audioae.augment import AugmentSettings, Equaliser, clip, draw_equaliser, filter_noise, filter_speech, synthetic_room
from audioae.errors import DataError, SettingsError
from audioae.manifest import Row, ShardReader, read_manifest
from audioae.mixing import active_rms, babble, coloured_noise, noise_scale, rms, shaped_noise
from audioae.spectrogram import Array

TRIES = 20  # draws of a crop before a split counts as silent


@dataclass(frozen=True)
class DataSettings:
    """Which prepared audio is mixed, and how.

    Args:
        segment_seconds: length of a pair.
        min_quiet_to_loud_db: leave out speech that is known to carry more room noise than this; 0 takes all.
        max_noise_weight_seconds: a noise recording counts by its length up to here, so that long ones do not drown the others.
        augment: what is drawn for each mixture.
    """

    segment_seconds: float = 3.0
    min_quiet_to_loud_db: float = 0.0
    max_noise_weight_seconds: float = 30.0
    augment: AugmentSettings = field(default_factory=AugmentSettings)

    def __post_init__(self) -> None:
        if not self.segment_seconds > 0:
            raise SettingsError(f"DataSettings.segment_seconds is {self.segment_seconds}; expected more than 0")


class Pool:
    """Recordings of one kind and split, drawn in proportion to their weight."""

    def __init__(self, shards: ShardReader, rows: list[Row], weights: list[float]) -> None:
        self.shards, self.rows = shards, rows
        self.cumulative = np.cumsum(weights)

    def __len__(self) -> int:
        return len(self.rows)

    def draw(self, rng: np.random.Generator) -> Row:
        """A random recording."""
        return self.rows[int(np.searchsorted(self.cumulative, rng.random() * self.cumulative[-1], side="right"))]

    def draw_crop(self, rng: np.random.Generator, samples: int) -> Array:
        """`[samples]` of a recording, perhaps silent; a short one is followed by others, after a pause of up to half its length."""
        crop = np.zeros(samples, np.float32)
        filled = 0
        while filled < samples:
            row = self.draw(rng)
            start = int(rng.integers(0, max(1, row.samples - samples + 1)))
            piece = self.shards.read(row, start, min(row.samples, samples - filled))
            level = rms(piece)
            if level:
                crop[filled : filled + len(piece)] = piece * np.float32(0.05 / level)
            filled += len(piece) + int(rng.uniform(0, 0.5) * min(samples, row.samples))
        return crop

    def draw_sound(self, rng: np.random.Generator, samples: int, sample_rate: int) -> Array:
        """A crop that is not silent: silent ones have no level that a ratio could refer to, and are drawn again."""
        for _ in range(TRIES):
            crop = self.draw_crop(rng, samples)
            if active_rms(crop, sample_rate):
                return crop
        raise DataError(f"{TRIES} crops in a row were digital silence; the prepared recordings hold almost no sound")


class Corpus:
    """A folder that `audioae prepare` wrote, one split of it."""

    def __init__(self, folder: Path, split: str, settings: DataSettings) -> None:
        self.sample_rate = read_sample_rate(folder)
        self.shards = ShardReader(folder)
        speech = [row for row in rows_of(folder, "speech", split) if is_clean(row, settings.min_quiet_to_loud_db)]
        noise = rows_of(folder, "noise", split)
        rooms = rows_of(folder, "rir", split) or rows_of(folder, "rir", "train")
        if not speech or not noise:
            raise DataError(f"{folder} has no {'speech' if not speech else 'noise'} in its {split} split")
        self.speech = Pool(self.shards, speech, [row.seconds for row in speech])
        self.noise = Pool(self.shards, noise, [min(row.seconds, settings.max_noise_weight_seconds) for row in noise])
        self.rooms = Pool(self.shards, rooms, [1.0] * len(rooms))

    @property
    def hours(self) -> tuple[float, float]:
        """Hours of speech and of noise."""
        speech, noise = (sum(row.seconds for row in pool.rows) / 3600 for pool in (self.speech, self.noise))
        return speech, noise


def read_sample_rate(folder: Path) -> int:
    """The rate in Hz that a folder was prepared at."""
    import json

    try:
        return int(json.loads((folder / "data.json").read_text())["sample_rate"])
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{folder} is no prepared data ({error}); make it with: audioae prepare ... --out {folder}") from error


def is_clean(row: Row, min_quiet_to_loud_db: float) -> bool:
    """Whether a recording is not known to carry more room noise than this."""
    return row.quiet_to_loud_db is None or row.quiet_to_loud_db >= min_quiet_to_loud_db


def rows_of(folder: Path, kind: str, split: str) -> list[Row]:
    """The rows of a manifest that belong to a split; none where there is no such manifest."""
    path = folder / f"{kind}.jsonl"
    return [row for row in read_manifest(path) if row.split == split] if path.exists() else []


class Mixer:
    """Draws and renders mixtures of a corpus."""

    def __init__(self, corpus: Corpus, settings: DataSettings) -> None:
        self.corpus, self.settings, self.augment = corpus, settings, settings.augment
        self.sample_rate = corpus.sample_rate
        self.samples = round(settings.segment_seconds * corpus.sample_rate)

    def pair(self, rng: np.random.Generator) -> tuple[Array, Array]:
        """A noisy and a clean waveform, each `[samples]`."""
        augment = self.augment
        heard, target = self.speech(rng)
        noise = self.noise(rng)
        if rng.random() < augment.speech_free:
            noisy, target = noise, np.zeros_like(target)
        elif rng.random() < augment.easy:
            snr_db = rng.uniform(*augment.easy_snr_db)
            noisy = heard + noise * self.scale(heard, noise, snr_db) if rng.random() < 0.5 else heard
        else:
            noisy = heard + noise * self.scale(heard, noise, rng.uniform(*augment.snr_db))
        factor = np.float32(10 ** (rng.uniform(*augment.level_dbfs) / 20) / max(rms(noisy), 1e-9))
        noisy, target = noisy * factor, target * factor
        if rng.random() < augment.clipping:
            noisy = clip(noisy, rng.uniform(0.3, 0.9))
        return noisy, target

    def scale(self, speech: Array, noise: Array, snr_db: float) -> np.float32:
        """The factor on the noise; 0 where a silent crop of it counts as no noise."""
        return noise_scale(speech, noise, snr_db=snr_db, sample_rate=self.sample_rate) if self.sounds(noise) else np.float32(0)

    def sounds(self, waveform: Array) -> bool:
        """False for digital silence."""
        return active_rms(waveform, self.sample_rate) > 0

    def speech(self, rng: np.random.Generator) -> tuple[Array, Array]:
        """Speech as it is heard in a room, and the part of it that a denoiser should keep."""
        dry = self.corpus.speech.draw_sound(rng, self.samples, self.sample_rate)
        room = self.room(rng) if rng.random() < self.augment.reverb else None
        heard, target = filter_speech(dry, room, self.equaliser(rng), self.sample_rate)
        return (heard, target) if self.sounds(heard) else (dry, dry)

    def room(self, rng: np.random.Generator) -> Array:
        """A room response, measured or synthetic."""
        if len(self.corpus.rooms) and rng.random() < 0.5:
            row = self.corpus.rooms.draw(rng)
            return self.corpus.shards.read(row, 0, row.samples)
        return synthetic_room(rng, self.sample_rate)

    def equaliser(self, rng: np.random.Generator) -> Equaliser | None:
        """A random equaliser, or none."""
        return draw_equaliser(rng, self.augment.eq_db, self.sample_rate) if rng.random() < self.augment.eq else None

    def noise(self, rng: np.random.Generator) -> Array:
        """One noise, or two, `[samples]`."""
        kind = rng.random()
        if kind < self.augment.synthetic_noise:
            noise = self.synthetic_noise(rng)
        elif kind < self.augment.synthetic_noise + self.augment.babble:
            speakers = [self.corpus.speech.draw_sound(rng, self.samples, self.sample_rate) for _ in range(rng.integers(3, 9))]
            noise = babble(speakers, self.sample_rate)
        else:
            noise = self.corpus.noise.draw_crop(rng, self.samples)
        noise = filter_noise(noise, self.equaliser(rng), self.sample_rate)
        if rng.random() < self.augment.second_noise:
            second = self.corpus.noise.draw_crop(rng, self.samples)
            below_db = rng.uniform(0, 10)
            noise = noise + second * self.scale(noise, second, below_db) if self.sounds(noise) else second
        return noise

    def synthetic_noise(self, rng: np.random.Generator) -> Array:
        """Coloured noise, or the stationary noise that has the spectrum of a recorded one."""
        if rng.random() < 0.5:
            return coloured_noise(rng, self.samples, exponent=rng.uniform(-1, 2))
        magnitude = np.abs(np.fft.rfft(self.corpus.noise.draw_crop(rng, self.samples)))
        smooth = np.convolve(magnitude, np.ones(33, np.float32) / 33, mode="same")
        return shaped_noise(rng, self.samples, magnitude=smooth)


class MixtureDataset(Dataset[tuple[Tensor, Tensor]]):
    """`pairs` of `(noisy, clean)`, each `[samples]`; pair `index` depends on the seed and the index alone."""

    def __init__(self, mixer: Mixer, *, seed: int, pairs: int) -> None:
        self.mixer, self.seed, self.pairs = mixer, seed, pairs

    def __len__(self) -> int:
        return self.pairs

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        noisy, clean = self.mixer.pair(np.random.default_rng([self.seed, index]))
        return torch.from_numpy(noisy.astype(np.float32, copy=False)), torch.from_numpy(clean.astype(np.float32, copy=False))
