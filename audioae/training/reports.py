"""Reports: score the moving average, write the checkpoints and a line of history."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audioae.errors import CheckpointError, OutputError
from audioae.models.checkpoint import Model, load_weights, read_about, read_tensors, save_model
from audioae.training.reconstruction import ReconstructionValidation
from audioae.training.rows import AnyReport, Baseline, Noisy
from audioae.training.settings import TrainSettings, learning_rate_at
from audioae.training.state import (
    HISTORY,
    RESUME,
    append_history,
    check_weights_finite,
    diverged,
    save,
)
from audioae.training.trainer import Trainer
from audioae.training.validation import Validation, means

KEPT, AVERAGED = "kept", "averaged.safetensors"
WORST = 1000.0  # times the loss without a model: a training that is worse has diverged


def keep(out: Path, model: Model, settings: TrainSettings, **about: Any) -> None:
    """Write `kept/step-N.safetensors` to a run folder, and remove those that are no longer kept."""
    folder = out / KEPT
    try:
        folder.mkdir(exist_ok=True)
        save_model(folder / f"step-{about['training']['step']:09}.safetensors", model, **about)
        for file in set(folder.glob("*.safetensors")) - set(kept(out, settings)):
            file.unlink()
    except OSError as error:
        raise OutputError(
            f"cannot write {folder}: {error.strerror or error}; the previous checkpoints are kept"
        ) from error


def kept(out: Path, settings: TrainSettings) -> list[Path]:
    """The checkpoints to average, the best or the last one first."""
    files = sorted((out / KEPT).glob("*.safetensors"), reverse=True)
    if settings.average_of == "best":
        files.sort(key=lambda file: goodness(file, settings.best), reverse=True)
    return files[: settings.average_checkpoints]


def goodness(file: Path, best: str) -> float:
    """The score of a kept checkpoint in its report; higher is better, -inf without a score."""
    value = read_about(file).get("training", {}).get(f"valid_{best}")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
        return -math.inf
    return float(-value if best == "loss" else value)


def mean_weights(files: Sequence[Path]) -> dict[str, Tensor]:
    """The mean of the weights and statistics of checkpoints; counters are those of the first.

    Raises:
        CheckpointError: the checkpoints are of different networks.
    """
    mean, _ = read_tensors(files[0])
    for count, file in enumerate(files[1:], start=2):
        weights, _ = read_tensors(file)
        if {name: value.shape for name, value in weights.items()} != {
            name: value.shape for name, value in mean.items()
        }:
            raise CheckpointError(
                f"{file} and {files[0]} are from different networks and cannot be averaged"
            )
        for name, value in mean.items():
            if value.dtype.is_floating_point:
                torch.lerp(value, weights[name], 1 / count, out=value)
    return mean


AnyValidation = Validation | ReconstructionValidation


@dataclass(frozen=True)
class Judge:
    """Scores a training and writes its files.

    Args:
        trainer: the training.
        validation: the share of the validation set of this process.
        segment_seconds: length of a training segment, to count hours of audio.
        out: the run folder.
        about: stored in every checkpoint.
        baseline_loss: the validation loss without a model.
    """

    trainer: Trainer
    validation: AnyValidation
    segment_seconds: float
    out: Path
    about: Mapping[str, Any]
    baseline_loss: float = math.inf

    def score(self, model: Model) -> dict[str, Any]:
        """Scores of a model on the validation set."""
        validation: Any = self.validation  # of the kind of the model
        scores: dict[str, Any] = validation.summarise(self.gather(validation.rows(model)))
        return scores

    def score_baseline(self) -> Noisy | Baseline:
        """Scores without a model."""
        validation: Any = self.validation
        rows = self.gather(validation.baseline_rows(self.trainer.model))
        return self.validation.baseline(means(rows))

    def gather(self, rows: list[Any]) -> list[Any]:
        """The rows of all processes in the order of the validation set, so that results are the
        same for any number of processes.
        """
        shares = self.trainer.team.gather(rows)
        longest = max(map(len, shares))
        return [share[place] for place in range(longest) for share in shares if place < len(share)]

    def report(self) -> AnyReport:
        """Score the moving average; write checkpoints, history and state."""
        trainer = self.trainer
        check_weights_finite(trainer, self.out)
        loss = mean_of(trainer.losses)
        scores = self.score(trainer.average)
        self.check(loss, scores["loss"])
        trainer.losses = []
        is_best = self.is_best(scores)
        trainer.reports_since_best = 0 if is_best else trainer.reports_since_best + 1
        row = self.row(scores, loss, is_best)
        if trainer.team.leads:
            self.write(trainer.average, row, ["last", "best"] if is_best else ["last"])
            if trainer.settings.average_checkpoints:
                keep(self.out, trainer.average, trainer.settings, **self.known(row))
            append_history(self.out / HISTORY, row)
            save(trainer, self.out / RESUME)
        return row

    def check(self, loss: float, valid_loss: float | None) -> None:
        """Raise `TrainingError` if no step since the last report had a finite loss, or the model is
        far worse than no model.
        """
        if not math.isfinite(loss):
            raise diverged(self.trainer, self.out, "no loss since the last report is finite")
        if valid_loss is None or not valid_loss <= WORST * max(self.baseline_loss, 1.0):
            raise diverged(
                self.trainer,
                self.out,
                f"the validation loss is {valid_loss}, without a model it is "
                f"{self.baseline_loss:g}",
            )

    def report_average(self) -> AnyReport | None:
        """Score the mean of the kept checkpoints, once at the end of a run.

        Returns:
            The report; None if there are fewer than two checkpoints, or it was made before.
        """
        trainer, path = self.trainer, self.out / AVERAGED
        files = trainer.team.from_first(lambda: kept(self.out, trainer.settings))
        if len(files) < 2 or trainer.team.from_first(
            lambda: (
                path.exists() and read_about(path).get("training", {}).get("step") == trainer.step
            )
        ):
            return None
        model = copy.deepcopy(trainer.average)
        load_weights(model, trainer.team.from_first(lambda: mean_weights(files)), path)
        scores = self.score(model)
        is_best = self.is_best(scores)
        row = dataclasses.replace(self.row(scores, math.nan, is_best), averaged=len(files))
        if trainer.team.leads:
            self.write(model, row, ["best", "averaged"] if is_best else ["averaged"])
            save(trainer, self.out / RESUME)
        return row

    def is_best(self, scores: Mapping[str, Any]) -> bool:
        """Whether no earlier report was better; updates the best score."""
        trainer = self.trainer
        value = scores[trainer.settings.best]
        goodness = (
            -math.inf if value is None else -value if trainer.settings.best == "loss" else value
        )
        is_best = goodness > trainer.best
        trainer.best = max(trainer.best, goodness)
        return is_best

    def row(self, scores: Mapping[str, Any], loss: float, is_best: bool) -> AnyReport:
        """The record of a report."""
        trainer, settings = self.trainer, self.trainer.settings
        common = {
            "step": trainer.step,
            "audio_hours": trainer.step * settings.batch_size * self.segment_seconds / 3600,
            "learning_rate": learning_rate_at(trainer.step - 1, settings),
            "loss": loss,
            "skipped_steps": trainer.skipped,
            "seconds": trainer.seconds,
            "is_best": is_best,
            "reports_since_best": trainer.reports_since_best,
        }
        return self.validation.report(scores, common)

    def known(self, row: AnyReport) -> dict[str, Any]:
        """The metadata of a checkpoint besides the settings of its network."""
        return {**self.about, "training": dataclasses.asdict(row)}

    def write(self, model: Model, row: AnyReport, names: list[str]) -> None:
        """Write checkpoints with these names."""
        for name in names:
            save_model(self.out / f"{name}.safetensors", model, **self.known(row))


def mean_of(losses: list[float]) -> float:
    """Mean loss over the steps that were not skipped; NaN if there is none."""
    known = [loss for loss in losses if math.isfinite(loss)]
    return sum(known) / len(known) if known else math.nan
