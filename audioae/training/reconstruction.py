"""Validation of an autoencoder that reconstructs: how well, and how its code is used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from audioae.data.mixtures import DataSettings
from audioae.models import Reconstructor
from audioae.models.bottlenecks import Gaussian
from audioae.training.losses.distances import feature_loss
from audioae.training.rows import Baseline, ReconstructionReport
from audioae.training.sounds import Source, validation_sounds
from audioae.training.validation import SEED, ValidationSettings

SMALL = 0.01  # of the largest latent value; smaller ones count as unused
ACTIVE = 0.01  # variance of an active unit, see `active_units`

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SegmentScore:
    """The scores of a validation segment.

    Args:
        reconstruction: the weighted losses of its features.
        penalty: of the bottleneck.
        error: sum of the squared errors.
        sums, squares: sum of each feature and of its square over the frames, `[bins]`.
        frames: number of frames.
        latent: the code, `[channels, steps]`.
        divergence: mean KL divergence of each unit in nats, `[channels]`; empty if the bottleneck
            is not Gaussian.
    """

    reconstruction: float
    penalty: float
    error: float
    sums: Values
    squares: Values
    frames: int
    latent: npt.NDArray[np.float32]
    divergence: Values


class ReconstructionValidation:
    """The validation segments, and the scores of models on them.

    Args:
        folder: the data folder.
        data: which recordings are used, and their levels.
        source: see `TaskSettings`.
        settings: number and length of the segments.
        weights: weight of each loss.
        first, every: take every `every`-th segment from `first` on, to divide them among processes.
    """

    def __init__(
        self,
        folder: Path,
        data: DataSettings,
        source: Source,
        settings: ValidationSettings,
        weights: Mapping[str, float],
        *,
        first: int = 0,
        every: int = 1,
    ) -> None:
        sounds = validation_sounds(
            folder, data, source, seconds=settings.seconds, seed=SEED, count=settings.pairs
        )
        self.segments = [sounds[index][0] for index in range(first, settings.pairs, every)]
        self.weights = weights

    def score(self, model: Reconstructor) -> dict[str, Any]:
        """The scores of a model, see `summarise`."""
        return self.summarise(self.rows(model))

    @torch.no_grad()
    def rows(self, model: Reconstructor) -> list[SegmentScore]:
        """The scores of each segment."""
        return [score_segment(model, sound, self.weights) for sound in self.segments]

    @torch.no_grad()
    def baseline_rows(self, model: Reconstructor) -> list[dict[str, float | None]]:
        """The loss of each segment if its mean spectrum over the frames is the answer."""
        device = next(model.parameters()).device
        rows: list[dict[str, float | None]] = []
        for sound in self.segments:
            features = model.features(sound[None].to(device))
            mean = features.mean(2, keepdim=True).expand_as(features)
            rows.append({"loss": feature_loss(mean, features, self.weights).item()})
        return rows

    def baseline(self, scores: Mapping[str, Any]) -> Baseline:
        """The record of the mean of `baseline_rows`."""
        return Baseline(step=0, baseline_loss=scores["loss"])

    def summarise(self, rows: Sequence[SegmentScore]) -> dict[str, Any]:
        """The scores over all segments, see `ReconstructionReport`."""
        frames = sum(row.frames for row in rows)
        mean = np.sum([row.sums for row in rows], axis=0) / frames
        squares = np.sum([row.squares for row in rows], axis=0) / frames
        variance = float((squares - mean**2).sum())
        error = sum(row.error for row in rows) / frames
        reconstruction = float(np.mean([row.reconstruction for row in rows]))
        latent = np.concatenate([row.latent for row in rows], axis=1)
        scores: dict[str, Any] = {
            "loss": reconstruction + float(np.mean([row.penalty for row in rows])),
            "reconstruction": reconstruction,
            "explained_variance": 1 - error / variance if variance > 0 else None,
            "small_share": small_share(latent),
            "active_values": active_values(latent),
            "active_units": 0,
            "kl": None,
        }
        divergence = np.mean([row.divergence for row in rows], axis=0)
        if divergence.size:
            scores["kl"] = tuple(float(each) for each in divergence)
        scores["active_units"] = active_units(latent, has_prior=divergence.size > 0)
        return scores

    def report(self, scores: Mapping[str, Any], common: Mapping[str, Any]) -> ReconstructionReport:
        """The record of a report."""
        return ReconstructionReport(
            **common,
            valid_loss=scores["loss"],
            valid_reconstruction=scores["reconstruction"],
            valid_explained_variance=scores["explained_variance"],
            valid_small_share=scores["small_share"],
            valid_active_values=scores["active_values"],
            valid_active_units=scores["active_units"],
            valid_kl=scores["kl"],
        )


def score_segment(
    model: Reconstructor, sound: Tensor, weights: Mapping[str, float]
) -> SegmentScore:
    """Reconstruct a waveform `[samples]` and score the result."""
    features = model.features(sound[None].to(next(model.parameters()).device))
    found = model(features)
    divergence = np.zeros(0)
    bottleneck = model.autoencoder.bottleneck
    if isinstance(bottleneck, Gaussian):
        mean, log_variance = model.posterior(features)
        each = (mean.square() + log_variance.exp() - 1 - log_variance) / 2
        divergence = each[0].mean(1).double().cpu().numpy()
    exact, estimate = features[0].double(), found.features[0].double()
    return SegmentScore(
        reconstruction=feature_loss(found.features, features, weights).item(),
        penalty=found.penalty.item(),
        error=(estimate - exact).square().sum().item(),
        sums=exact.sum(1).cpu().numpy(),
        squares=exact.square().sum(1).cpu().numpy(),
        frames=features.shape[-1],
        latent=found.latent[0].float().cpu().numpy(),
        divergence=divergence,
    )


def small_share(latent: npt.NDArray[np.float32]) -> float:
    """The share of latent values below 1 % of the largest, `[channels, steps]`; 1 for no code."""
    size = np.abs(latent)
    return float((size <= SMALL * size.max()).mean())


def active_values(latent: npt.NDArray[np.float32]) -> float:
    """The mean number of values of a step that are above 1 % of its largest one, for a latent
    `[channels, steps]`.
    """
    size = np.abs(latent)
    return float((size > SMALL * size.max(0, initial=0)).sum(0).mean()) if latent.size else 0.0


def active_units(latent: npt.NDArray[np.float32], *, has_prior: bool) -> int:
    """The number of channels of a latent `[channels, steps]` that carry information.

    A channel is active if its variance over steps is above 0.01 (Burda et al. 2016), which is
    relative to the variance of the prior. Without a prior it is relative to the largest variance of
    a channel.
    """
    variance = latent.astype(np.float64).var(axis=1)
    scale = 1.0 if has_prior else float(variance.max(initial=0.0))
    return int((variance > ACTIVE * scale).sum()) if scale > 0 else 0
