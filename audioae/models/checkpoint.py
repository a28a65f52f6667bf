"""Checkpoints: safetensors with all settings inside, written whole or not at all.

A run folder holds `last.safetensors` and `best.safetensors` (averaged weights, ready to denoise or
export) and `resume.safetensors` (weights, averages, optimizer and step, everything that the next
step depends on).
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

import torch
from torch import Tensor, nn

from audioae import __version__
from audioae.errors import CheckpointError, ModelNotFoundError, SettingsError, nearest
from audioae.models import Denoiser, build_autoencoder, settings_class
from audioae.pretrained import list_models
from audioae.signal.spectrogram import StftSettings
from audioae.storage import write_bytes

METADATA_KEY = "audioae"
# of the tensors; in the first, which had no number, kernels of two dimensions were (freq, time)
FORMAT = 2
SHIPPED = (
    "weights.safetensors"  # beside the model.onnx of a shipped model: what it was exported from
)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write named tensors and JSON metadata under a temporary name, then rename: an interruption
    leaves the earlier file.
    """
    from safetensors.torch import save

    about = {METADATA_KEY: json.dumps({"format": FORMAT, **metadata})}
    data = save(
        {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}, about
    )
    try:
        write_bytes(path, data)
    except OSError as error:
        raise CheckpointError(
            f"cannot write {path}: {error.strerror or error}; the earlier checkpoint is intact"
        ) from error


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the metadata of a file written by `write_tensors`."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {})[METADATA_KEY])
            earlier = metadata.pop("format", 1) < FORMAT
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path} is no checkpoint of audioae ({error})") from error
    if earlier:
        tensors = {
            name: tensor.transpose(2, 3) if tensor.ndim == 4 else tensor
            for name, tensor in tensors.items()
        }
    return tensors, metadata


def read_about(path: Path) -> dict[str, Any]:
    """The metadata alone."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            about: dict[str, Any] = json.loads((file.metadata() or {})[METADATA_KEY])
            return about
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path} is no checkpoint of audioae ({error})") from error


def describe(denoiser: Denoiser) -> dict[str, Any]:
    """The settings that a denoiser is built from, as JSON."""
    return {
        "version": __version__,
        "name": denoiser.name,
        "family": denoiser.autoencoder.family,
        "stft": dataclasses.asdict(denoiser.settings),
        "network": dataclasses.asdict(denoiser.autoencoder.settings),
    }


def build_denoiser(description: Mapping[str, Any]) -> Denoiser:
    """A denoiser with random weights from what `describe` wrote."""
    settings = settings_from(settings_class(description["family"]), description["network"])
    return Denoiser(
        build_autoencoder(settings), StftSettings(**description["stft"]), name=description["name"]
    )


def settings_from(settings: type[Any], values: Mapping[str, Any]) -> Any:
    """Settings from JSON: lists become tuples, and tables the settings classes of their fields."""
    hints = get_type_hints(settings)
    parsed = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and dataclasses.is_dataclass(hints.get(name)):
            parsed[name] = settings_from(hints[name], value)
        else:
            parsed[name] = tuple(value) if isinstance(value, list) else value
    return settings(**parsed)


def save_denoiser(
    path: Path, denoiser: Denoiser, weights: Mapping[str, Tensor] | None = None, **about: Any
) -> None:
    """Write a denoiser's weights (or `weights` in their place) with its settings and whatever else
    is told about it.
    """
    write_tensors(
        path,
        weights if weights is not None else denoiser.state_dict(),
        {**describe(denoiser), **about},
    )


def load_denoiser(path: str | os.PathLike[str]) -> Denoiser:
    """The denoiser in a checkpoint or in a run folder (its best weights, else its last), in eval
    mode.
    """
    file = checkpoint_file(Path(path))
    tensors, metadata = read_tensors(file)
    try:
        denoiser = build_denoiser(metadata)
    except (KeyError, TypeError, SettingsError) as error:
        raise CheckpointError(
            f"{file} was written for other settings than this version has ({error})"
        ) from error
    load_weights(denoiser, tensors, file)
    return denoiser.eval()


def checkpoint_file(path: Path) -> Path:
    """The weights that a path stands for."""
    if not path.is_dir():
        if not path.exists():
            raise ModelNotFoundError(f"no checkpoint at {path}")
        return path
    for name in ("best.safetensors", "last.safetensors"):
        if (path / name).exists():
            return path / name
    raise ModelNotFoundError(
        f"{path} holds no best.safetensors and no last.safetensors; has its training reported yet?"
    )


def trained_file(name_or_path: str | os.PathLike[str]) -> Path:
    """The weights that a training can go on from: of a shipped model by its name, else of a
    checkpoint or a run folder.
    """
    name = os.fspath(name_or_path)
    shipped = next(
        (entry.path.with_name(SHIPPED) for entry in list_models() if entry.name == name), None
    )
    if shipped is None and not Path(name).exists():
        names = [entry.name for entry in list_models()]
        raise ModelNotFoundError(
            f"no model {name!r}{nearest(name, names)}; give a run folder, a .safetensors "
            "checkpoint or a shipped name"
        )
    if shipped is not None and not shipped.exists():
        raise ModelNotFoundError(
            f"model {name!r} was shipped without weights to train on; give the run folder that "
            "it came from"
        )
    if shipped is None and Path(name).suffix == ".onnx":
        raise CheckpointError(
            f"{name} is an exported model; a training goes on from the run folder or "
            ".safetensors that it was made from"
        )
    return shipped or checkpoint_file(Path(name))


def stages_of(path: Path) -> list[dict[str, Any]]:
    """The trainings that made a checkpoint, the first one first: the "recipe" of each and the
    "audio_hours" that it showed.
    """
    about = read_about(path)
    last = {
        "recipe": about.get("recipe"),
        "audio_hours": about.get("training", {}).get("audio_hours", 0.0),
    }
    return [*about.get("stages", []), last]


def stages_before(run: Path, start: Path | None) -> list[dict[str, Any]]:
    """The trainings before that of a run folder: what its own checkpoints tell where it goes on,
    else those of what it begins with.
    """
    own = run / "last.safetensors"
    if (
        own.exists() and (run / "resume.safetensors").exists()
    ):  # without the second file a run begins anew
        stages: list[dict[str, Any]] = read_about(own).get("stages", [])
        return stages
    return stages_of(start) if start else []


def load_start(denoiser: Denoiser, tensors: Mapping[str, Tensor], source: Path) -> int:
    """Load what a training begins with: weights of the same network, of one with fewer blocks,
    which the others add nothing to yet, or of the causal network that a bidirectional one is made
    of.

    Returns how many tensors were in the source.
    """
    prefix = "autoencoder."
    network = denoiser.autoencoder
    given = network.start_from(
        {name.removeprefix(prefix): value for name, value in tensors.items()}
    )
    added = network.mute_beyond(given)
    own = network.state_dict()
    start = {**given, **{name: own[name] for name in added}}
    load_weights(denoiser, {prefix + name: value for name, value in start.items()}, source)
    return len(tensors)


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor], source: Path) -> int:
    """Load all weights of a module, or none: names and shapes must be the module's own. Returns how
    many there are.
    """
    own = module.state_dict()
    wrong = [name for name in own if name not in tensors or tensors[name].shape != own[name].shape]
    extra = [name for name in tensors if name not in own]
    if wrong or extra:
        fitting, examples = len(own) - len(wrong), ", ".join((wrong + extra)[:3])
        raise CheckpointError(
            f"{source} fits {fitting} of {len(own)} tensors (not: {examples} ...); it is of "
            "another network"
        )
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(tensors[name])
    return len(own)
