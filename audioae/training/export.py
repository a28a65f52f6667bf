"""A torch denoiser to an ONNX file that runs without torch: state as inputs and outputs, settings
in its metadata, parity checked first.
"""

from __future__ import annotations

import copy
import io
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from audioae.engine import Engine, Gain, OnnxEngine, TorchEngine
from audioae.errors import CheckpointError, OutputError, require
from audioae.models.checkpoint import (
    SHIPPED,
    checkpoint_file,
    load_denoiser,
    read_tensors,
    save_denoiser,
)
from audioae.pretrained import Card, ModelInfo, Scores, add_model, weights_folder
from audioae.signal.spectrogram import ComplexArray, analyse
from audioae.storage import atomic_path, output_errors, publish

if TYPE_CHECKING:
    from audioae.models import Denoiser

MAX_DIFFERENCE = 1e-4
OPSET = 18


@dataclass(frozen=True)
class Exported:
    """What was written. `difference` is the largest between torch's and ONNX Runtime's gains."""

    path: str
    name: str
    parameters: int
    bytes: int
    difference: float


def export(denoiser: Denoiser, path: str | Path, *, name: str, overwrite: bool = False) -> Exported:
    """Write a denoiser as an ONNX file.

    Inputs are "spectrum" `[batch, 2 (re, im), freq, frames]` and "state_0"...; outputs "gain"
    `[batch, 1|2, freq, frames]` and "next_state_0"...; batch and frames are free, an empty past is
    zeros, and the metadata entry "audioae" is the JSON of the `ModelInfo`.

    Args:
        name: what the model calls itself.

    Raises:
        OutputError: the path exists, or cannot be written.
        CheckpointError: ONNX Runtime's gains differ from torch's by more than `MAX_DIFFERENCE`,
            whole or in blocks; nothing is written.
    """
    path = Path(path)
    _check_target(path, overwrite=overwrite)
    model = copy.deepcopy(denoiser).cpu().eval()  # tracing and moving must not touch the caller's
    info = replace(model.info, name=name)
    with output_errors(path), atomic_path(path) as temporary:
        temporary.write_bytes(_with_metadata(_trace(model, info), info))
        difference = parity(TorchEngine(model, device="cpu"), OnnxEngine(temporary))
        if not difference <= MAX_DIFFERENCE:  # also refuses NaN
            reason = f"ONNX Runtime's gains differ from torch's by {difference:.1g}; expected at most {MAX_DIFFERENCE:.0e}"
            raise CheckpointError(
                f"{name} was not written: {reason}, so look for sizes or branches that depend on "
                "the input in its network"
            )
    return Exported(str(path), name, info.parameters, path.stat().st_size, difference)


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
    """Export a checkpoint into the package's `weights/`, in place of an earlier model of that name,
    with its card.

    Args:
        checkpoint: a .safetensors file or a run folder; how long it was trained and by which recipe
            is read from it.
        data, licence, commit, scores: see `Card`.
        default: make it the model that is used when none is named.
        full_band_of, offline_of: the model whose place it takes for higher sample rates, or for
            recordings in the quality "best"; see `ModelEntry`.
    """
    file = checkpoint_file(Path(checkpoint))
    about = read_tensors(file)[1]
    if not {"recipe", "training"} <= about.keys():
        raise CheckpointError(
            f"{file} does not tell how it was trained; ship a checkpoint that `audioae train` wrote"
        )
    denoiser, stages = load_denoiser(file), about.get("stages", [])
    folder = weights_folder(name)
    try:
        with TemporaryDirectory(prefix=".", dir=folder.parent) as made:
            row = export(denoiser, Path(made) / "model.onnx", name=name)
            save_denoiser(
                Path(made) / SHIPPED,
                denoiser,
                recipe=about["recipe"],
                training=about["training"],
                stages=stages,
            )
            folder.mkdir(exist_ok=True)
            for part in list(Path(made).iterdir()):
                publish(part, folder / part.name)
    except OSError as error:
        raise OutputError(
            f"cannot write {folder} ({error.strerror}); is the package installed where you may "
            "write?"
        ) from error
    info = replace(denoiser.info, name=name)
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
        ),
        default=default,
        full_band_of=full_band_of,
        offline_of=offline_of,
    )
    return replace(row, path=str(folder / "model.onnx"))


def parity(reference: Engine, engine: Engine) -> float:
    """The largest difference of an engine's gains, whole and in blocks, from the reference's whole
    ones; relative to gains above 1.
    """
    info = reference.info
    spectrum = _test_spectrum(
        info, batch=2, frames=2 * (info.context + info.lookahead) + 24 * info.stride + 37
    )
    expected, _ = reference.step(spectrum)
    whole, _ = engine.step(spectrum)
    differences = [
        _difference(whole, expected),
        _difference(_in_blocks(engine, spectrum), expected),
    ]
    return max(differences) if np.isfinite(differences).all() else float("nan")


class _Graph(nn.Module):
    """A denoiser's gain with the state as plain arguments and results, as ONNX wants it."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, spectrum: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        gain, following = self.denoiser.gain(spectrum, state)
        return (gain, *following)


def _trace(model: Denoiser, info: ModelInfo) -> bytes:
    """The model as ONNX, by the exporter that traces: the one on torch.export unrolls a GRU into a
    fixed number of frames.

    Its warnings are of its age, and of Python values that may depend on the input: whether they do,
    the parity check finds out.
    """
    require("onnx", extra="train")
    batch, buffer = 3, io.BytesIO()
    state = model.initial_state(batch)
    complex_spectrum = _test_spectrum(info, batch=batch, frames=5 * info.stride)
    spectrum = torch.from_numpy(np.stack([complex_spectrum.real, complex_spectrum.imag], 1))
    names = [f"state_{index}" for index in range(len(state))]
    axes = [_batch_axis(*pair) for pair in zip(state, model.initial_state(batch + 1), strict=True)]
    free = {name: {axis: "batch"} for name, axis in zip(names, axes, strict=True)}
    free |= {f"next_{name}": batch_axis for name, batch_axis in free.items()}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Graph(model).eval(),
            (spectrum, *state),
            buffer,  # type: ignore[arg-type]  # takes files too, as its documentation says
            dynamo=False,
            opset_version=OPSET,
            input_names=["spectrum", *names],
            output_names=["gain", *(f"next_{name}" for name in names)],
            dynamic_axes={
                "spectrum": {0: "batch", 3: "frames"},
                "gain": {0: "batch", 3: "frames"},
                **free,
            },
        )
    return buffer.getvalue()


def _batch_axis(tensor: Tensor, other: Tensor) -> int:
    """The axis in which the states of two batch sizes differ."""
    return next(
        axis
        for axis, (size, other_size) in enumerate(zip(tensor.shape, other.shape, strict=True))
        if size != other_size
    )


def _with_metadata(graph: bytes, info: ModelInfo) -> bytes:
    import onnx

    model = onnx.load_model_from_string(graph)
    onnx.helper.set_model_props(model, {"audioae": json.dumps(info.to_dict())})
    data: bytes = model.SerializeToString()
    return data


def _test_spectrum(info: ModelInfo, *, batch: int, frames: int) -> ComplexArray:
    """`[batch, freq, frames]` of pink noise at -20 dBFS that swells four times a second and is
    silent for a tenth of it.
    """
    samples = frames * info.stft.hop_length
    white = np.random.default_rng(0).standard_normal((batch, samples))
    pink = np.fft.irfft(
        np.fft.rfft(white) / np.sqrt(np.maximum(np.arange(samples // 2 + 1), 1)), samples
    )
    position = np.arange(samples)
    swell = np.sin(4 * np.pi * position / info.stft.sample_rate) ** 2 * (
        abs(position / samples - 0.6) > 0.05
    )
    waveform = 0.1 * pink / pink.std() * swell
    return analyse(waveform.astype(np.float32), info.stft)[0]


def _in_blocks(engine: Engine, spectrum: ComplexArray) -> Gain:
    """The gains of a spectrum that is fed in unequal blocks."""
    cuts = np.cumsum([1, 2, 1, 5, 3, engine.info.stride, 17])
    pieces: list[Any] = []
    state = None
    for block in np.split(spectrum, cuts[cuts < spectrum.shape[-1]], axis=-1):
        gain, state = engine.step(block, state)
        pieces.append(gain)
    joined: Gain = np.concatenate(pieces, axis=-1)
    return joined


def _difference(gain: Gain, expected: Gain) -> float:
    return float(np.max(abs(gain - expected) / np.maximum(abs(expected), 1), initial=0.0))


def _check_target(path: Path, *, overwrite: bool) -> None:
    if path.suffix != ".onnx":
        raise OutputError(f"{path} does not end in .onnx; name the exported model like OUT.onnx")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists; choose another name or pass --overwrite")
    if not path.parent.is_dir():
        raise OutputError(f"there is no folder {path.parent}; make it first")
