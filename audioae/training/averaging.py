"""Averaged checkpoints: the mean of the weights of several reports of one run (Polyak & Juditsky 1992), often better than each of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audioae.checkpoint import read_about, read_tensors, save_denoiser
from audioae.errors import CheckpointError
from audioae.models import Denoiser
from audioae.training.settings import TrainSettings

KEPT, AVERAGED = "kept", "averaged.safetensors"


def keep(out: Path, denoiser: Denoiser, settings: TrainSettings, **about: Any) -> None:
    """Write `kept/step-N.safetensors` into a run folder, and remove those that are not among the best or last any more."""
    folder = out / KEPT
    try:
        folder.mkdir(exist_ok=True)
        save_denoiser(folder / f"step-{about['training']['step']:09}.safetensors", denoiser, **about)
        for file in set(folder.glob("*.safetensors")) - set(kept(out, settings)):
            file.unlink()
    except OSError as error:
        raise CheckpointError(f"cannot write {folder}: {error.strerror or error}; the earlier checkpoints are intact") from error


def kept(out: Path, settings: TrainSettings) -> list[Path]:
    """The checkpoints to average, the best or the last first."""
    files = sorted((out / KEPT).glob("*.safetensors"), reverse=True)
    if settings.average_of == "best":
        files.sort(key=lambda file: goodness(file, settings.best), reverse=True)
    return files[: settings.average_checkpoints]


def goodness(file: Path, best: str) -> float:
    """How good a kept checkpoint was in its report."""
    value = read_about(file)["training"][f"valid_{best}"]
    return -math.inf if value is None else float(-value if best == "loss" else value)


def mean_weights(files: Sequence[Path]) -> dict[str, Tensor]:
    """The mean of the weights and statistics of checkpoints of one network; counters are those of the first."""
    mean, _ = read_tensors(files[0])
    for count, file in enumerate(files[1:], start=2):
        weights, _ = read_tensors(file)
        if {name: value.shape for name, value in weights.items()} != {name: value.shape for name, value in mean.items()}:
            raise CheckpointError(f"{file} and {files[0]} are of different networks; only checkpoints of one can be averaged")
        for name, value in mean.items():
            if value.dtype.is_floating_point:
                torch.lerp(value, weights[name], 1 / count, out=value)
    return mean
