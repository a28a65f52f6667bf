"""Export of a torch denoiser to an ONNX file that runs without torch.

States are inputs and outputs of the graph, and its metadata hold the settings. A file is written
only if ONNX Runtime and torch compute the same gains.
"""

from __future__ import annotations

import copy
import io
import json
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from audioae.engine import Engine, Gain, OnnxEngine, TorchEngine
from audioae.errors import CheckpointError, OutputError, require
from audioae.pretrained import ModelInfo
from audioae.signal.spectrogram import ComplexArray, analyse
from audioae.storage import atomic_path, output_errors

if TYPE_CHECKING:
    from audioae.models import Denoiser

MAX_DIFFERENCE = 1e-4
OPSET = 18


@dataclass(frozen=True)
class Exported:
    """An exported model.

    Args:
        path: the ONNX file.
        name: name of the model.
        parameters: number of trained parameters.
        bytes: size of the file.
        difference: largest difference between the gains of torch and ONNX Runtime, see `parity`.
    """

    path: str
    name: str
    parameters: int
    bytes: int
    difference: float


def export(denoiser: Denoiser, path: str | Path, *, name: str, overwrite: bool = False) -> Exported:
    """Write a denoiser as an ONNX file.

    The inputs of the graph are "spectrum", `[batch, 2 (re, im), freq, frames]`, and "state_0",
    "state_1", ...; the outputs are "gain", `[batch, 1 or 2, freq, frames]`, and "next_state_0",
    .... Batch and frames are dynamic. An empty past is all zeros. The metadata entry "audioae" is
    the `ModelInfo` as JSON.

    Args:
        denoiser: left unchanged; a copy is traced on the CPU in evaluation mode.
        path: the file to write, ending in .onnx.
        name: name of the model, stored in the file.
        overwrite: replace an existing file.

    Raises:
        OutputError: the path exists or cannot be written.
        CheckpointError: the gains of ONNX Runtime and torch differ by more than `MAX_DIFFERENCE`;
            nothing is written.
    """
    path = Path(path)
    check_target(path, overwrite=overwrite)
    model = copy.deepcopy(denoiser).cpu().eval()  # the caller's model stays as it is
    info = replace(model.info, name=name)
    with output_errors(path), atomic_path(path) as temporary:
        temporary.write_bytes(_with_metadata(_trace(model, info), info))
        difference = parity(TorchEngine(model, device="cpu"), OnnxEngine(temporary))
        if not difference <= MAX_DIFFERENCE:  # also refuses NaN
            raise CheckpointError(
                f"{name} was not written: the gains of ONNX Runtime and torch differ by "
                f"{difference:.1g}; expected at most {MAX_DIFFERENCE:.0e}. Look for sizes or "
                "branches in the network that depend on its input"
            )
    return Exported(str(path), name, info.parameters, path.stat().st_size, difference)


def parity(reference: Engine, engine: Engine) -> float:
    """The largest difference between the gains of two engines for a test spectrum.

    The reference computes the whole spectrum at once; the engine computes it at once and in blocks.
    A model that runs in both directions of time has no streaming form and is compared on whole
    spectra of two lengths instead.

    Returns:
        The difference, relative to gains with a magnitude above 1; NaN if a gain is not finite.
    """
    info = reference.info
    frames = 2 * (info.context + info.lookahead) + 24 * info.stride + 37
    spectrum = _test_spectrum(info, batch=2, frames=frames)
    if info.edges == "mirror":
        differences = [
            _difference(engine.whole(part), reference.whole(part))
            for part in (spectrum, spectrum[:1, :, : frames // 3])
        ]
    else:
        expected, _ = reference.step(spectrum)
        whole, _ = engine.step(spectrum)
        differences = [
            _difference(whole, expected),
            _difference(_in_blocks(engine, spectrum), expected),
        ]
    return max(differences) if np.isfinite(differences).all() else float("nan")


class _Graph(nn.Module):
    """The gain of a denoiser, with the state as separate arguments and results."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, spectrum: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        gain, following = self.denoiser.gain(spectrum, state)
        return (gain, *following)


def _trace(model: Denoiser, info: ModelInfo) -> bytes:
    """The model as a serialized ONNX graph.

    The tracing exporter is used because the one based on torch.export unrolls a GRU into a fixed
    number of frames. Its warnings concern its age, and Python values that may depend on the input;
    the parity check covers the latter.
    """
    require("onnx", extra="train")
    batch, buffer = 3, io.BytesIO()
    state = model.initial_state(batch)
    complex_spectrum = _test_spectrum(info, batch=batch, frames=5 * info.stride)
    spectrum = torch.from_numpy(np.stack([complex_spectrum.real, complex_spectrum.imag], 1))
    names = [f"state_{index}" for index in range(len(state))]
    axes = [_batch_axis(*pair) for pair in zip(state, model.initial_state(batch + 1), strict=True)]
    states = {name: {axis: "batch"} for name, axis in zip(names, axes, strict=True)}
    states |= {f"next_{name}": batch_axis for name, batch_axis in states.items()}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Graph(model).eval(),
            (spectrum, *state),
            buffer,  # type: ignore[arg-type]  # the annotation lacks files
            dynamo=False,
            opset_version=OPSET,
            input_names=["spectrum", *names],
            output_names=["gain", *(f"next_{name}" for name in names)],
            dynamic_axes={
                "spectrum": {0: "batch", 3: "frames"},
                "gain": {0: "batch", 3: "frames"},
                **states,
            },
        )
    return buffer.getvalue()


def _batch_axis(tensor: Tensor, other: Tensor) -> int:
    """The batch axis: the one in which states for two batch sizes differ."""
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
    """The spectrum `[batch, freq, frames]` of pink noise at -20 dBFS.

    Its level rises and falls four times per second, and a tenth of it is digital silence.
    """
    num_samples = frames * info.stft.hop_length
    white = np.random.default_rng(0).standard_normal((batch, num_samples))
    pink = np.fft.irfft(
        np.fft.rfft(white) / np.sqrt(np.maximum(np.arange(num_samples // 2 + 1), 1)), num_samples
    )
    position = np.arange(num_samples)
    swell = np.sin(4 * np.pi * position / info.stft.sample_rate) ** 2 * (
        abs(position / num_samples - 0.6) > 0.05
    )
    waveform = 0.1 * pink / pink.std() * swell
    return analyse(waveform.astype(np.float32), info.stft)[0]


def _in_blocks(engine: Engine, spectrum: ComplexArray) -> Gain:
    """The gains of a spectrum that is processed in blocks of different sizes."""
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


def check_target(path: Path, *, overwrite: bool) -> None:
    """Raise `OutputError` unless an ONNX file can be written to this path."""
    if path.suffix != ".onnx":
        raise OutputError(f"{path} does not end in .onnx; give a path such as OUT.onnx")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists; choose another path or pass --overwrite")
    if not path.parent.is_dir():
        raise OutputError(f"no folder {path.parent}; create it first")
