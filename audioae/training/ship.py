"""Export a checkpoint of any task, to a file or with its card to the package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from audioae.errors import CheckpointError, OutputError, SettingsError
from audioae.models import Reconstructor
from audioae.models.checkpoint import (
    SHIPPED,
    Model,
    checkpoint_file,
    load_any,
    read_tensors,
    save_model,
)
from audioae.pretrained import Card, Scores, add_model, weights_folder
from audioae.pretrained.codec import Part
from audioae.storage import publish
from audioae.training.export import Exported, export
from audioae.training.export_codec import export_codec
from audioae.training.quantize import export_quantized


def export_any(
    model: Model,
    path: str | Path,
    *,
    name: str,
    part: Part = "whole",
    quantize: str | Path | None = None,
    overwrite: bool = False,
) -> Exported:
    """Write a denoiser or an autoencoder as an ONNX file, see `export`, `export_codec` and, with a
    data folder in `quantize`, `export_quantized`.

    Raises:
        SettingsError: a part of a denoiser is wanted, or an autoencoder with 8 bits.
    """
    if isinstance(model, Reconstructor):
        if quantize is not None:
            raise SettingsError(f"{name} is an autoencoder; only denoisers can be quantised")
        return export_codec(model, path, name=name, part=part, overwrite=overwrite)
    if part != "whole":
        raise SettingsError(
            f"{name} is a denoiser, whose decoder uses skip connections and the noisy spectrum; "
            "leave out the part, or export a model with task.kind = 'reconstruct'"
        )
    if quantize is not None:
        return export_quantized(model, path, quantize, name=name, overwrite=overwrite)
    return export(model, path, name=name, overwrite=overwrite)


def ship(
    checkpoint: str | Path,
    *,
    name: str,
    data: Sequence[str],
    licence: str,
    commit: str,
    scores: Sequence[Scores],
    default: bool = False,
    full_band_of: str = "",
    offline_of: str = "",
) -> Exported:
    """Export a checkpoint and its card to the package's `weights/`.

    An existing model of that name is replaced once the new one is complete.

    Args:
        checkpoint: a .safetensors file or a run folder, which also tells the recipe and the hours
            of audio of the training.
        name: name of the model in the package.
        data, licence, commit, scores: see `Card`; an autoencoder has its validation scores instead.
        default: make it the default model.
        full_band_of, offline_of: the model that this one replaces for higher sample rates, or for
            recordings in the quality "best"; see `ModelEntry`.

    Raises:
        CheckpointError: `audioae train` did not write the checkpoint, or the gains differ, see
            `export`.
        OutputError: the package's folder cannot be written.
    """
    file = checkpoint_file(Path(checkpoint))
    about = read_tensors(file)[1]
    if not {"recipe", "training"} <= about.keys():
        raise CheckpointError(
            f"{file} has no record of its training; ship a checkpoint that `audioae train` wrote"
        )
    model, stages = load_any(file), about.get("stages", [])
    if not scores and not isinstance(model, Reconstructor):
        raise SettingsError("a denoiser needs scores for its card; give --scores")
    folder = weights_folder(name)
    try:
        with TemporaryDirectory(prefix=".", dir=folder.parent) as made:
            row = export_any(model, Path(made) / "model.onnx", name=name)
            save_model(
                Path(made) / SHIPPED,
                model,
                half_precision(model.state_dict()),
                recipe=about["recipe"],
                training=about["training"],
                stages=stages,
            )
            folder.mkdir(exist_ok=True)
            for part in list(Path(made).iterdir()):
                publish(part, folder / part.name)
    except OSError as error:
        raise OutputError(
            f"cannot write {folder} ({error.strerror}); check that you have write permission for "
            "the installed package"
        ) from error
    info = replace(model.info, name=name)
    hours = about["training"]["audio_hours"] + sum(stage["audio_hours"] for stage in stages)
    add_model(
        Card(
            info,
            tuple(data),
            licence,
            hours * 3600,
            about["recipe"],
            commit,
            tuple(scores),
            tuple(stages),
            validation_of(about["training"]) if isinstance(model, Reconstructor) else {},
        ),
        default=default,
        full_band_of=full_band_of,
        offline_of=offline_of,
    )
    return replace(row, path=str(folder / "model.onnx"))


def validation_of(training: Mapping[str, Any]) -> dict[str, float]:
    """The scores of the last report of an autoencoder, without those per unit."""
    found = {
        name.removeprefix("valid_"): float(value)
        for name, value in training.items()
        if name.startswith("valid_") and isinstance(value, (int, float))
    }
    if units := training.get("valid_kl"):
        found["kl"] = float(sum(units))
    return found


def half_precision(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights with all matrices and kernels as float16, half as large. They start trainings, so
    three digits are enough.
    """
    return {
        name: value.half() if value.dtype == torch.float32 and value.ndim > 1 else value
        for name, value in weights.items()
    }
