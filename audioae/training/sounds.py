"""The sounds that an autoencoder reconstructs: crops of prepared recordings at random levels."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from audioae.data.augment import Level
from audioae.data.manifest import ShardReader
from audioae.data.mixtures import DataSettings
from audioae.data.mixtures.corpus import Crop, Pool, is_clean, read_sample_rate, rows_of
from audioae.data.mixtures.mixer import DevicePool
from audioae.errors import DataError, SettingsError
from audioae.fields import check_settings
from audioae.signal.mixing import rms
from audioae.signal.spectrogram import Array

Source = Literal["clean", "noise"]
StartKind = Literal["random", "pca", "whitened"]
ROLES = {"clean": "speech", "noise": "noise"}  # of the manifests in a data folder


@dataclass(frozen=True)
class TaskSettings:
    """What a network is trained for.

    Args:
        kind: "denoise", or "reconstruct": input and target are the same features.
        source: for "reconstruct": crops of the clean recordings or of the noises.
        output: for "reconstruct": activation of the decoder, see `Reconstructor`.
        start: for "reconstruct": initial weights. "random"; "pca" sets the linear part of a dense
            network to PCA of training crops; "whitened" changes the weights given by --from so that
            the codes of training crops have the mean and the covariance of the prior.
    """

    kind: Literal["denoise", "reconstruct"] = "denoise"
    source: Source = "clean"
    output: Literal["sigmoid", "identity"] = "sigmoid"
    start: StartKind = "random"

    def __post_init__(self) -> None:
        check_settings(self, {})
        if self.kind == "denoise" and (self.source, self.output, self.start) != (
            "clean",
            "sigmoid",
            "random",
        ):
            raise SettingsError(
                "task.source, task.output and task.start are for task.kind = 'reconstruct'; set "
                "it, or leave them out"
            )


class SoundCorpus:
    """The recordings of one role and split of a folder written by `audioae prepare`."""

    def __init__(
        self, folder: Path, split: str, settings: DataSettings, source: Source = "clean"
    ) -> None:
        self.sample_rate, self.source = read_sample_rate(folder), source
        role = ROLES[source]
        rows = rows_of(folder, role, split)
        if source == "clean":
            rows = [row for row in rows if is_clean(row, settings.min_quiet_to_loud_db)]
            weights = [row.seconds for row in rows]
        else:
            weights = [min(row.seconds, settings.max_noise_weight_seconds) for row in rows]
        if not rows:
            raise DataError(f"{folder} has no {role} in its {split} split")
        self.pool = Pool(ShardReader(folder), rows, weights)

    @property
    def hours(self) -> tuple[float, float]:
        """Hours of speech and of noise; one of them is 0."""
        found = sum(row.seconds for row in self.pool.rows) / 3600
        return (found, 0.0) if self.source == "clean" else (0.0, found)


class SoundDataset(Dataset[tuple[Tensor, Tensor]]):
    """`count` crops `[samples]`, each as input and target.

    Crop `index` depends only on the seed and the index. Its level is drawn from
    `settings.augment.level_dbfs`.
    """

    def __init__(
        self, corpus: SoundCorpus, settings: DataSettings, *, seed: int, count: int
    ) -> None:
        self.corpus, self.settings, self.seed, self.count = corpus, settings, seed, count
        self.samples = round(settings.segment_seconds * corpus.sample_rate)

    def __len__(self) -> int:
        return self.count

    def draw(self, index: int) -> tuple[Crop, Level]:
        """The crop of an index, and its level."""
        rng = np.random.default_rng([self.seed, index])
        crop = self.corpus.pool.draw_sound(rng, self.samples, self.corpus.sample_rate)
        return crop, Level.draw(rng, self.settings.augment.level_dbfs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        crop, level = self.draw(index)
        waveform = at_level(self.corpus.pool.read(crop), level)
        sound = torch.from_numpy(waveform)
        return sound, sound


def at_level(waveform: Array, level: Level) -> Array:
    """A waveform `[samples]` at an RMS level."""
    factor = 10 ** (level.dbfs / 20) / max(float(rms(waveform)), 1e-9)
    return (waveform * np.float32(factor)).astype(np.float32, copy=False)


class DeviceSounds:
    """The crops of a `SoundDataset`, cut from audio that is held on a device."""

    def __init__(self, sounds: SoundDataset, device: torch.device) -> None:
        self.sounds, self.pool = sounds, DevicePool(sounds.corpus.pool, device)

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The crops of these indices, `[batch, samples]`, as input and target."""
        crops, levels = zip(*map(self.sounds.draw, indices), strict=True)
        waveforms = self.pool.read(crops)
        wanted = waveforms.new_tensor([10 ** (level.dbfs / 20) for level in levels])
        found = waveforms.square().mean(1).sqrt().clamp_min(1e-9)
        sound = waveforms * (wanted / found)[:, None]
        return sound, sound


def validation_sounds(
    folder: Path, settings: DataSettings, source: Source, *, seconds: float, seed: int, count: int
) -> SoundDataset:
    """The crops of the validation split on which a model is scored."""
    fixed = dataclasses.replace(settings, segment_seconds=seconds)
    return SoundDataset(SoundCorpus(folder, "valid", fixed, source), fixed, seed=seed, count=count)
