"""The fixed mixtures on which a model is scored during training."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audioae.data.augment import AugmentSettings
from audioae.data.mixtures import Corpus, DataSettings, Mixer, MixtureDataset
from audioae.errors import SettingsError
from audioae.evaluation.metrics import score
from audioae.fields import check_settings
from audioae.models import Denoiser
from audioae.signal.spectrogram import StftSettings
from audioae.training.losses import levelled_loss
from audioae.training.losses.distances import Signal
from audioae.training.losses.envelope import log_likelihood_ratio
from audioae.training.rows import Noisy, Report

METRICS = {"si_sdr": "si_sdr", "pesq": "pesq_wb", "stoi": "stoi"}
OVERALL = {"ovrl": "dnsmos_ovrl"}  # on request: it takes as long as the other metrics together
# Weights of the combined score: .1 PESQ counts as much as .01 STOI, 1 dB SI-SDR, .1 DNSMOS OVRL, a
# log-likelihood ratio lower by .1, or .5 dB less speech lost.
COMBINED = {"pesq": 1, "stoi": 10, "si_sdr": 0.1, "ovrl": 1, "llr": -1, "lost_db": -0.2}
ACTIVE_DB = 40.0  # frames further below the loudest one are pauses
SEED = 20_000_003  # for all runs, whatever their seed, so that their scores can be compared


@dataclass(frozen=True)
class ValidationSettings:
    """The validation mixtures.

    Args:
        pairs: number of mixtures, from the validation split of the data.
        seconds: length of each.
        snr_db: range of the signal-to-noise ratios.
        dnsmos: also compute the overall quality of DNSMOS P.835, which "combined" needs.
    """

    pairs: int = 64
    seconds: float = 4.0
    snr_db: tuple[float, float] = (-5.0, 15.0)
    dnsmos: bool = False

    def __post_init__(self) -> None:
        check_settings(self, {"pairs": (1, 100_000), "seconds": (0.01, 600), "snr_db": (-100, 100)})
        if self.snr_db[0] > self.snr_db[1]:
            raise SettingsError(
                f"ValidationSettings.snr_db is {self.snr_db}; expected (lowest, highest)"
            )


class Validation:
    """The mixtures, rendered once, and the scores of models on them.

    Args:
        folder: the data folder.
        data: how mixtures are made.
        settings: number, length and SNR of the mixtures.
        weights: weight of each loss.
        first, every: take every `every`-th mixture from `first` on, to divide them among processes.
    """

    def __init__(
        self,
        folder: Path,
        data: DataSettings,
        settings: ValidationSettings,
        weights: Mapping[str, float],
        *,
        first: int = 0,
        every: int = 1,
    ) -> None:
        plain = AugmentSettings.plain(snr_db=settings.snr_db, second_noise=0.25)
        fixed = dataclasses.replace(data, segment_seconds=settings.seconds, augment=plain)
        corpus = Corpus(folder, "valid", fixed)
        mixtures = MixtureDataset(Mixer(corpus, fixed), seed=SEED, pairs=settings.pairs)
        self.pairs = [mixtures[index] for index in range(first, settings.pairs, every)]
        self.sample_rate, self.weights = corpus.sample_rate, weights
        self.metrics = METRICS | (OVERALL if settings.dnsmos else {})

    def score(self, denoiser: Denoiser) -> dict[str, float | None]:
        """Mean scores over the mixtures; None if no mixture has a value."""
        return means(self.rows(denoiser))

    @torch.no_grad()
    def rows(self, denoiser: Denoiser) -> list[dict[str, float | None]]:
        """The scores of each mixture, denoised."""
        device = next(denoiser.parameters()).device
        outputs = (denoiser(noisy[None].to(device))[0].cpu() for noisy, _ in self.pairs)
        return [
            self.row(enhanced, *pair, denoiser.settings)
            for enhanced, pair in zip(outputs, self.pairs, strict=True)
        ]

    @torch.no_grad()
    def baseline_rows(self, denoiser: Denoiser) -> list[dict[str, float | None]]:
        """The scores of each noisy mixture, without denoising."""
        settings = denoiser.settings
        return [self.row(noisy[None], noisy, clean, settings) for noisy, clean in self.pairs]

    def baseline(self, scores: Mapping[str, float | None]) -> Noisy:
        """The record of the means of `baseline_rows`."""
        return Noisy(step=0, **{f"noisy_{name}": value for name, value in scores.items()})

    def summarise(self, rows: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
        """Mean scores over the mixtures; None if no mixture has a value."""
        return means(rows)

    def report(self, scores: Mapping[str, float | None], common: Mapping[str, Any]) -> Report:
        """The record of a report."""
        values: dict[str, Any] = {f"valid_{name}": value for name, value in scores.items()}
        return Report(**common, **values)

    def row(
        self, estimate: Tensor, noisy: Tensor, clean: Tensor, settings: StftSettings
    ) -> dict[str, float | None]:
        """Score an estimate.

        Args:
            estimate: `[1, num_samples]`.
            noisy, clean: `[num_samples]`.

        Returns:
            Loss, SI-SDR in dB, PESQ-WB, STOI, DNSMOS OVRL, log-likelihood ratio, dB of speech lost
            and the combined score; None if a metric cannot be computed, for example without the
            `metrics` extra.
        """
        loss = levelled_loss(estimate, clean[None], noisy[None], settings, self.weights)
        found = score(
            estimate[0].numpy(), clean.numpy(), self.sample_rate, list(self.metrics.values())
        )
        sides = Signal(estimate, settings), Signal(clean[None], settings)
        scores = {
            "ovrl": None,
            **{name: found[metric].value for name, metric in self.metrics.items()},
            "llr": log_likelihood_ratio(*sides).item(),
            "lost_db": speech_lost_db(*sides),
        }
        return {"loss": loss.item(), **scores, "combined": combined(scores)}


def combined(scores: Mapping[str, float | None]) -> float | None:
    """The sum of all scores with the weights `COMBINED`; None if one is missing."""
    parts = [(weight, scores[name]) for name, weight in COMBINED.items()]
    known = [weight * value for weight, value in parts if value is not None]
    return sum(known) if len(known) == len(parts) else None


def speech_lost_db(estimate: Signal, clean: Signal) -> float:
    """Power of the clean signal over what the estimate keeps of it, in dB, in frames with speech.

    Of each bin, the smaller power of both counts as kept, so noise that is left does not make up
    for speech that is not. 0 for a silent clean signal.
    """
    powers = [signal.magnitude[0, 0].square() for signal in (estimate, clean)]  # F, T
    level = powers[1].sum(0)
    active = level > level.amax() * 10 ** (-ACTIVE_DB / 10)
    kept, whole = torch.minimum(*powers)[:, active].sum(), powers[1][:, active].sum()
    if not level.amax() > 0:
        return 0.0
    return float(10 * torch.log10(whole / kept.clamp_min(1e-12 * whole)))


def means(rows: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """The mean of each column."""
    return {name: mean_of([row[name] for row in rows]) for name in rows[0]}


def mean_of(values: list[float | None]) -> float | None:
    """The mean of the values that are not None; None if there is none."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
