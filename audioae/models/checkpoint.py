"""Checkpoints: safetensors files with weights and all settings, written atomically.

A run folder contains `last.safetensors` and `best.safetensors` (averaged weights, for denoising and
export) and `resume.safetensors` (weights, averages, optimizer state and counters, to resume the
training).
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from audioae import __version__
from audioae.errors import (
    CheckpointError,
    ModelNotFoundError,
    OtherKindError,
    OutputError,
    SettingsError,
    nearest,
)
from audioae.fields import build, parse_json, settings_from
from audioae.models import Denoiser, Reconstructor, build_autoencoder, settings_class
from audioae.pretrained import IS_AUTOENCODER, IS_DENOISER, list_models
from audioae.signal.features import FeatureSettings
from audioae.signal.spectrogram import StftSettings
from audioae.storage import is_text, write_bytes

Model = Denoiser | Reconstructor

METADATA_KEY = "audioae"
# In format 1, which had no number, kernels of two dimensions were (freq, time).
FORMAT = 2
SHIPPED = "weights.safetensors"  # next to the model.onnx of a shipped model: its checkpoint


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write named tensors and JSON metadata atomically: an interruption keeps the previous file."""
    from safetensors.torch import save

    about = {METADATA_KEY: json.dumps({"format": FORMAT, **metadata})}
    data = save(
        {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}, about
    )
    try:
        write_bytes(path, data)
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}; the previous checkpoint is kept"
        ) from error


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors and the metadata of a file that `write_tensors` wrote. Tensors in half
    precision, as models of the package are stored, are read as float32.

    Raises:
        CheckpointError: the file is damaged, or of another kind.
    """
    with _opened(path) as file:
        metadata = _metadata(file)
        tensors = {name: file.get_tensor(name) for name in list(file.keys())}
    tensors = {
        name: tensor.float() if tensor.dtype == torch.float16 else tensor
        for name, tensor in tensors.items()
    }
    if metadata.pop("format", 1) < FORMAT:
        tensors = {
            name: tensor.transpose(2, 3) if tensor.ndim == 4 else tensor
            for name, tensor in tensors.items()
        }
    return tensors, metadata


def read_about(path: Path) -> dict[str, Any]:
    """Read the metadata only. Raises `CheckpointError`."""
    with _opened(path) as file:
        return _metadata(file)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a safetensors file; errors while it is read are raised as `CheckpointError`."""
    from safetensors import SafetensorError, safe_open

    try:
        with ExitStack() as stack:
            yield stack.enter_context(safe_open(_loadable(path, stack), framework="pt"))
    except CheckpointError:
        raise
    # KeyError and RuntimeError come from types and sizes of tensors that torch does not have.
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{path} is not an audioae checkpoint ({error})") from error


def _loadable(path: Path, stack: ExitStack) -> Path:
    """What safetensors opens: the path, or another one for a name that is not valid text."""
    if is_text(path):
        return path
    return Path("/dev/fd", str(stack.enter_context(path.open("rb")).fileno()))


def _metadata(file: Any) -> dict[str, Any]:
    """The metadata of an open file. Raises `ValueError` and `KeyError`."""
    about: dict[str, Any] = parse_json((file.metadata() or {})[METADATA_KEY])
    build(_About, about, "its metadata")
    for stage in about.get("stages", []):
        build(_Stage, stage, "a stage")
    if about.get("format", 1) > FORMAT:
        raise ValueError(
            f"its format {about['format']} is newer than {FORMAT}; update audioae to read it"
        )
    return about


@dataclass(frozen=True)
class _About:
    """The types of what is in the metadata, as far as it is used."""

    format: int = 1
    version: str = ""
    name: str = ""
    family: str = ""
    stft: dict[str, Any] = field(default_factory=dict)
    task: str = "denoise"
    features: dict[str, Any] = field(default_factory=dict)
    output: str = ""
    network: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] | None = None
    data: str = ""
    stages: tuple[dict[str, Any], ...] = ()
    training: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Stage:
    """The types of a training stage."""

    audio_hours: float
    recipe: dict[str, Any] | None = None


def describe(model: Model) -> dict[str, Any]:
    """The settings of a model, as JSON values."""
    about = {"version": __version__, "name": model.name}
    if isinstance(model, Reconstructor):
        return {**about, "task": "reconstruct", **model.describe()}
    return {
        **about,
        "family": model.autoencoder.family,
        "stft": dataclasses.asdict(model.settings),
        "network": dataclasses.asdict(model.autoencoder.settings),
    }


def build_model(description: Mapping[str, Any]) -> Model:
    """A model with random weights and the settings that `describe` returned.

    Raises:
        KeyError, ValueError, SettingsError: a setting is missing, wrong or unknown.
    """
    task = description.get("task", "denoise")
    if task not in ("denoise", "reconstruct"):
        raise ValueError(f"its task is {task!r}; expected 'denoise' or 'reconstruct'")
    settings = settings_from(settings_class(description["family"]), description["network"])
    network = build_autoencoder(settings)
    if task == "reconstruct":
        features = settings_from(FeatureSettings, description["features"])
        return Reconstructor(
            network, features, output=description["output"], name=description["name"]
        )
    stft = settings_from(StftSettings, description["stft"])
    if settings.num_bins != stft.num_bins:
        raise ValueError(f"the network has {settings.num_bins} bins, the STFT {stft.num_bins}")
    return Denoiser(network, stft, name=description["name"])


def save_model(
    path: Path, model: Model, weights: Mapping[str, Tensor] | None = None, **about: Any
) -> None:
    """Write the weights and settings of a model.

    Args:
        weights: written instead of the model's own.
        about: more metadata, as JSON values.
    """
    write_tensors(
        path, weights if weights is not None else model.state_dict(), {**describe(model), **about}
    )


def load_denoiser(path: str | os.PathLike[str]) -> Denoiser:
    """Load the denoiser of a checkpoint or a run folder, in evaluation mode.

    Of a run folder, the best checkpoint is loaded, or the last one if there is no best.

    Raises:
        ModelNotFoundError: there is no such file.
        CheckpointError: the file is damaged, was written for other settings, or is no denoiser.
    """
    model = load_any(path)
    if not isinstance(model, Denoiser):
        raise OtherKindError(f"{path} {IS_AUTOENCODER}")
    return model


def load_reconstructor(path: str | os.PathLike[str]) -> Reconstructor:
    """Load the autoencoder of a checkpoint or a run folder, in evaluation mode.

    Raises:
        ModelNotFoundError, CheckpointError: see `load_denoiser`.
    """
    model = load_any(path)
    if not isinstance(model, Reconstructor):
        raise OtherKindError(f"{path} {IS_DENOISER}")
    return model


def load_any(path: str | os.PathLike[str]) -> Model:
    """Load the model of a checkpoint or a run folder, whatever its task; see `load_denoiser`."""
    file = checkpoint_file(Path(path))
    tensors, metadata = read_tensors(file)
    try:
        with torch.device("meta"):  # damaged settings could ask for more memory than there is
            check_weights(build_model(metadata), tensors, file)
        model = build_model(metadata)
        _ = model.info  # raises errors for settings that cannot be run
    except (KeyError, TypeError, ValueError, RuntimeError, SettingsError) as error:
        raise CheckpointError(
            f"{file} was written for other settings than those of this version ({error})"
        ) from error
    load_weights(model, tensors, file)
    return model.eval()


def checkpoint_file(path: Path) -> Path:
    """The checkpoint file for a path: the file, or the best or last one of a run folder."""
    if not path.is_dir():
        if not path.exists():
            raise ModelNotFoundError(
                f"there is no checkpoint at {path}; give a run folder or a .safetensors file"
            )
        if path.suffix == ".onnx":
            raise CheckpointError(
                f"{path} is an exported model; give the run folder or .safetensors file that it "
                "was exported from"
            )
        return path
    for name in ("best.safetensors", "last.safetensors"):
        if (path / name).exists():
            return path / name
    raise ModelNotFoundError(
        f"{path} contains neither best.safetensors nor last.safetensors; a training writes them "
        "with its first report"
    )


def trained_file(name_or_path: str | os.PathLike[str]) -> Path:
    """The checkpoint file to start a training from.

    Args:
        name_or_path: name of a shipped model, a checkpoint or a run folder.
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
            f"model {name!r} was shipped without a checkpoint; give the run folder that it was "
            "exported from"
        )
    return shipped or checkpoint_file(Path(name))


def stages_of(path: Path) -> list[dict[str, Any]]:
    """The training stages of a checkpoint, first to last: "recipe" and "audio_hours" of each."""
    about = read_about(path)
    last = {
        "recipe": about.get("recipe"),
        "audio_hours": about.get("training", {}).get("audio_hours", 0.0),
    }
    return [*about.get("stages", []), last]


def stages_before(run: Path, start: Path | None) -> list[dict[str, Any]]:
    """The training stages before that of a run folder.

    Args:
        run: the run folder; a run that is resumed has its stages in its checkpoints.
        start: the checkpoint that a new run starts from, if any.
    """
    own = run / "last.safetensors"
    if own.exists() and (run / "resume.safetensors").exists():  # the run is resumed
        stages: list[dict[str, Any]] = read_about(own).get("stages", [])
        return stages
    return stages_of(start) if start else []


def load_start(model: Model, tensors: Mapping[str, Tensor], source: Path) -> int:
    """Load the weights that a training starts from.

    They are of the same network, of one with fewer blocks (the new blocks start with an output of
    zero), of the causal network in a `bidirectional` one, or of the trunk of a `fullband` one.

    Args:
        model: changed in place.
        tensors: the weights.
        source: their file, for error messages.

    Returns:
        The number of tensors in `tensors`.

    Raises:
        CheckpointError: the weights are of another network; nothing is loaded.
    """
    prefix = "autoencoder."
    network = model.autoencoder
    given = network.start_from(
        {name.removeprefix(prefix): value for name, value in tensors.items()}
    )
    added = network.mute_beyond(given)
    own = network.state_dict()
    start = {**given, **{name: own[name] for name in added}}
    load_weights(model, {prefix + name: value for name, value in start.items()}, source)
    return len(tensors)


def check_weights(module: nn.Module, tensors: Mapping[str, Tensor], source: Path) -> None:
    """Compare weights with those of a module, which may be without memory (on the device "meta").

    Raises:
        CheckpointError: names, shapes or types differ, or a weight is NaN or infinite.
    """
    own = module.state_dict()
    wrong = [name for name in own if name not in tensors or tensors[name].shape != own[name].shape]
    extra = [name for name in tensors if name not in own]
    if wrong or extra:
        fitting, examples = len(own) - len(wrong), ", ".join((wrong + extra)[:3])
        raise CheckpointError(
            f"{source} fits {fitting} of {len(own)} tensors (not: {examples} ...); it is from "
            "another network"
        )
    for name, value in own.items():
        given = tensors[name]
        if given.is_floating_point() != value.is_floating_point() or given.is_complex():
            raise CheckpointError(
                f"{source} is damaged: {name} has type {given.dtype}; expected {value.dtype}"
            )
        if not given.float().isfinite().all():
            raise CheckpointError(
                f"{source} cannot be used: {name} contains NaN or infinite numbers; the training "
                "diverged, or the file is damaged"
            )


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor], source: Path) -> int:
    """Load all weights of a module; names and shapes must be those of the module.

    Returns:
        The number of tensors.

    Raises:
        CheckpointError: see `check_weights`; nothing is loaded.
    """
    check_weights(module, tensors, source)
    own = module.state_dict()
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(tensors[name])
    return len(own)
