"""Engines that encode features and decode latents, on ONNX Runtime or torch.

An ONNX file has the inputs "features", float32 `[batch, bins, frames]`, and "latent", float32
`[batch, channels, steps]`, and the outputs "code" and "reconstruction" of the same shapes. A file
with one part only has the input and the output of that part. Batch, frames and steps are dynamic.
In a file with both parts, an input without frames or steps is not computed, so a call costs what
its part costs. The metadata entry "audioae" is `CodecInfo` as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from audioae.engine.checks import (
    find_torch_device,
    first_line,
    open_session,
    read_metadata,
    try_model,
)
from audioae.errors import CheckpointError, OtherKindError, require
from audioae.pretrained import IS_DENOISER, CodecInfo, file_hash, find_model, list_models

if TYPE_CHECKING:
    from audioae.models import Reconstructor

FloatArray = npt.NDArray[np.float32]
# Input and output of each part, and the axes of both.
PARTS = {"encoder": ("features", "code"), "decoder": ("latent", "reconstruction")}
MAX_VALUE = 1e9  # of a latent or a feature; squares of larger ones overflow


class CodecEngine(Protocol):
    """An autoencoder that can be run on whole strides of frames, from `load_codec`."""

    info: CodecInfo
    metadata: Mapping[str, str]  # all entries of the model file; none for a checkpoint

    def encode(self, features: FloatArray) -> FloatArray:
        """`[batch, bins, frames]` to `[batch, channels, steps]`."""
        ...

    def decode(self, latent: FloatArray) -> FloatArray:
        """`[batch, channels, steps]` to `[batch, bins, frames]`."""
        ...


class OnnxCodec:
    """Runs an autoencoder with ONNX Runtime, on one thread.

    Args:
        path: the ONNX file.
        device: "cuda", or the CPU.

    Raises:
        CheckpointError: the file is no autoencoder of audioae, or it is damaged.
        DependencyError: `device` is "cuda" and this onnxruntime has no CUDA.
    """

    def __init__(self, path: str | Path, *, device: str = "cpu") -> None:
        self._path, self._session = path, open_session(path, device)
        self.info = read_codec_info(self._session, path)
        self.metadata: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map
        self._check_form()

    def encode(self, features: FloatArray) -> FloatArray:
        """See `CodecEngine.encode`."""
        info, frames = self.info, features.shape[-1]
        if features.shape[1:] != (info.features.num_bins, frames) or frames % info.stride:
            raise CheckpointError(
                f"features of shape {list(features.shape)}; model {info.name!r} expects [batch, "
                f"{info.features.num_bins}, a multiple of {info.stride}]"
            )
        return self._run("encoder", features, (info.channels, frames // info.step))

    def decode(self, latent: FloatArray) -> FloatArray:
        """See `CodecEngine.decode`."""
        info, steps = self.info, latent.shape[-1]
        if latent.shape[1:] != (info.channels, steps) or steps * info.step % info.stride:
            raise CheckpointError(
                f"a latent of shape {list(latent.shape)}; model {info.name!r} expects [batch, "
                f"{info.channels}, a multiple of {info.stride // info.step}]"
            )
        return self._run("decoder", latent, (info.features.num_bins, steps * info.step))

    def _run(self, part: str, given: FloatArray, shape: tuple[int, ...]) -> FloatArray:
        info, (name, output) = self.info, PARTS[part]
        if info.part not in ("whole", part):
            raise CheckpointError(
                f"{self._path} contains the {info.part} only, the {part} is missing; give the "
                "whole model, which audioae export writes without --part"
            )
        if not given.shape[-1]:
            return np.zeros((len(given), *shape), np.float32)
        inputs = {name: np.ascontiguousarray(given, np.float32)}
        if info.part == "whole":
            other, size = ("latent", info.channels), ("features", info.features.num_bins)
            unused = other if part == "encoder" else size
            inputs[unused[0]] = np.zeros((len(given), unused[1], 0), np.float32)
        try:
            found: FloatArray = self._session.run([output], inputs)[0]
        except Exception as error:  # the errors of ONNX Runtime have no common base class
            raise CheckpointError(
                f"model {info.name!r} fails in ONNX Runtime ({first_line(error)}); export it again"
            ) from error
        if found.shape != (len(given), *shape):
            raise CheckpointError(
                f"model {info.name!r} returns the shape {list(found.shape)}; expected "
                f"{[len(given), *shape]}; export it again"
            )
        return found

    def _check_form(self) -> None:
        """Compare the names and types of inputs and outputs with those of `audioae export`."""
        parts = [part for part in PARTS if self.info.part in ("whole", part)]
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        names = [[each.name for each in side] for side in (inputs, outputs)]
        expected = [[PARTS[part][side] for part in parts] for side in (0, 1)]
        if names != expected or any(each.type != "tensor(float)" for each in inputs + outputs):
            raise CheckpointError(
                f"{self._path} is no autoencoder of audioae: it maps {', '.join(names[0])[:60]} to "
                f"{', '.join(names[1])[:60]}; export it again"
            )


class TorchCodec:
    """Runs an autoencoder with torch, for checkpoints that are not exported and for GPUs.

    Args:
        model: the model.
        device: "cpu", "cuda", or "auto": a GPU if torch finds one.
    """

    def __init__(self, model: Reconstructor, *, device: str = "auto") -> None:
        import torch

        self._torch, self._device = torch, find_torch_device(torch, device)
        self._model = model.to(self._device).eval()
        self.info = model.info
        self.metadata: Mapping[str, str] = {}

    def encode(self, features: FloatArray) -> FloatArray:
        """See `CodecEngine.encode`."""
        if not features.shape[-1]:
            return np.zeros((len(features), self.info.channels, 0), np.float32)
        return self._run(self._model.encode, features)

    def decode(self, latent: FloatArray) -> FloatArray:
        """See `CodecEngine.decode`."""
        if not latent.shape[-1]:
            return np.zeros((len(latent), self.info.features.num_bins, 0), np.float32)
        return self._run(self._model.decode, latent)

    def _run(self, function: Any, given: FloatArray) -> FloatArray:
        with self._torch.inference_mode():
            tensor = self._torch.from_numpy(np.ascontiguousarray(given, np.float32))
            found: FloatArray = function(tensor.to(self._device)).float().cpu().numpy()
        return found


def load_codec(name_or_path: str | Path, *, device: str = "auto") -> CodecEngine:
    """Load an autoencoder.

    Args:
        name_or_path: the name of a model in the package, or the path of an .onnx file, a
            .safetensors checkpoint or a run folder.
        device: see `load_model`.

    Raises:
        ModelNotFoundError: there is no such model.
        CheckpointError: it is no autoencoder, or it is damaged.
        DependencyError: the device is not available, or torch is not installed.
    """
    path = find_model(name_or_path)
    if path.suffix == ".onnx":
        sha256 = file_hash(path)
        if all(entry.sha256 != sha256 for entry in list_models()):
            try_model(path, sha256)
        return OnnxCodec(path, device=device)
    require("torch", extra="train")
    from audioae.models.checkpoint import load_reconstructor

    return TorchCodec(load_reconstructor(path), device=device)


def read_codec_info(session: Any, path: str | Path) -> CodecInfo:
    """The properties in the metadata of a file. Raises `CheckpointError`."""
    values = read_metadata(session, path)
    if values.get("kind", "denoiser") != "autoencoder":
        raise OtherKindError(f"{path} {IS_DENOISER}")
    try:
        return CodecInfo.from_dict(values)
    except CheckpointError as error:
        raise CheckpointError(
            f"{path} has damaged audioae metadata ({error}); export it again"
        ) from error


def check_codec(engine: CodecEngine) -> None:
    """Run an autoencoder on silence and on noise.

    Raises:
        CheckpointError: it fails, or returns NaN, infinite or huge values.
    """
    info, rng = engine.info, np.random.default_rng(0)
    frames = 2 * info.stride
    shapes = {
        "encoder": (2, info.features.num_bins, frames),
        "decoder": (2, info.channels, frames // info.step),
    }
    functions = {"encoder": engine.encode, "decoder": engine.decode}
    for part, shape in shapes.items():
        if info.part not in ("whole", part):
            continue
        for given in (np.zeros(shape), rng.random(shape)):
            found = functions[part](given.astype(np.float32))
            if not np.abs(found).max() <= MAX_VALUE:
                raise CheckpointError(
                    f"model {info.name!r} returns NaN, infinite or huge values; train or install "
                    "it again"
                )
