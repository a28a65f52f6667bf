"""Engines run a model block by block: on ONNX Runtime, or on torch for checkpoints.

A network returns gains for all frames of its input, but only those with `context` frames before and
`lookahead` frames after them are correct. `advance` keeps the frames that later gains still need,
so the gains do not depend on blocks. Both engines run their network with it.

`checks` tries a model file that is not in the package in a child process before it is loaded.
`codecs` runs autoencoders that encode features and reconstruct them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from audioae.engine.checks import (
    answer,
    as_engine,
    check_engine,
    check_form,
    check_gain,
    find_torch_device,
    first_line,
    open_session,
    read_info,
    try_model,
)
from audioae.errors import CheckpointError, OtherKindError, SettingsError, nearest, require
from audioae.pretrained import ModelInfo, default_model, file_hash, find_model, list_models
from audioae.signal.spectrogram import ComplexArray

if TYPE_CHECKING:
    from audioae.engine.codecs import CodecEngine
    from audioae.models import Denoiser

FloatArray = npt.NDArray[np.float32]
Gain = npt.NDArray[np.float32] | npt.NDArray[np.complex64]
Tensors = tuple[Any, ...]
# Maps a spectrum `[batch, 2 (re, im), freq, frames]` and the state of the network (None for an
# empty past) to the gain `[batch, 1 or 2, freq, frames]` and the next state.
Network = Callable[[FloatArray, Tensors | None], tuple[FloatArray, Tensors]]

Quality = Literal["fast", "best"]
DEVICES = ("auto", "cpu", "cuda")
# Number of frames, over all channels, that ONNX Runtime processes at once. Activations of more
# frames do not fit into the cache of a core, which makes networks a sixth slower.
CACHED_FRAMES = 48


@dataclass(frozen=True)
class State:
    """The state of a stream. A step returns a new state, so many streams can share an engine.

    Args:
        frames: the spectrum that later gains still need, `[batch, freq, frames]`. It starts at a
            multiple of the stride of the model.
        tensors: the state of the network; None before its first run.
    """

    frames: ComplexArray
    tensors: Tensors | None = None


class Engine(Protocol):
    """A model that can be run, from `load_model`.

    Example:
        >>> engine = load_model("speech-16k")
        >>> frames = np.zeros((1, engine.info.stft.num_bins, 4), np.complex64)
        >>> gain, state = engine.step(frames)
        >>> next_gain, state = engine.step(frames, state)
        >>> gain.shape, next_gain.shape
        ((1, 257, 4), (1, 257, 4))
    """

    info: ModelInfo

    def step(self, spectrum: ComplexArray, state: State | None = None) -> tuple[Gain, State]:
        """Compute the next gains of a stream.

        After n frames of input there are gains for `n - info.lookahead` frames, rounded down to a
        multiple of `info.stride`. At the end of a signal, add `info.lookahead + info.stride - 1`
        zero frames and drop the gains after the last frame of the signal.

        Args:
            spectrum: the next frames, any number of them, `[batch, freq, frames]` complex64.
            state: the result of the previous step; None is an empty past.

        Returns:
            The gain `[batch, freq, frames']`, float32 or complex64, and the next state.
        """
        ...

    def whole(self, spectrum: ComplexArray) -> Gain:
        """Compute the gains of all frames of a spectrum, from an empty past and without padding.

        Args:
            spectrum: `[batch, freq, frames]` complex64.

        Returns:
            The gain `[batch, freq, frames]`, float32 or complex64.
        """
        ...


def advance(
    network: Network, info: ModelInfo, spectrum: ComplexArray, state: State | None
) -> tuple[Gain, State]:
    """Run a network on the frames whose gains can be computed, and keep the frames that later gains
    need; see `Engine.step`.
    """
    if spectrum.ndim != 3 or spectrum.shape[1] != info.stft.num_bins:
        raise SettingsError(
            f"the spectrum has shape {list(spectrum.shape)}; {info.name} expects [batch, "
            f"{info.stft.num_bins}, frames]"
        )
    stride, context = info.stride, _round_up(info.context, info.stride)
    if info.edges == "mirror":
        raise not_causal(info)
    if state is None:
        state = State(np.zeros((*spectrum.shape[:2], context), np.complex64))
    frames = np.concatenate([state.frames, spectrum.astype(np.complex64, copy=False)], -1)
    due = (frames.shape[-1] - context - info.lookahead) // stride * stride
    if due <= 0:
        empty = np.zeros(
            (spectrum.shape[0], 1 if info.gain == "real" else 2, info.stft.num_bins, 0), np.float32
        )
        return _to_gain(empty), State(frames, state.tensors)
    chunk = frames[..., : context + due + info.lookahead]
    # A network needs whole strides. The padding is after the look-ahead, so it changes no gain
    # that is returned.
    gain, tensors = network(_to_features(chunk, _round_up(chunk.shape[-1], stride)), state.tensors)
    return _to_gain(gain[..., context : context + due]), State(frames[..., due:].copy(), tensors)


def not_causal(info: ModelInfo) -> SettingsError:
    """The error of a step of a model that uses both directions of time."""
    return SettingsError(
        f"model {info.name!r} uses both directions of time and cannot denoise a live stream; "
        "choose a causal model, such as the default"
    )


def run_whole(network: Network, info: ModelInfo, spectrum: ComplexArray) -> Gain:
    """Run a network on all frames of a spectrum; see `Engine.whole`.

    Channels are run one after the other: the memory is that of one channel.
    """
    frames = spectrum.shape[-1]
    features = _to_features(spectrum, _round_up(frames, info.stride))
    gains = [network(features[start : start + 1], None)[0] for start in range(len(features))]
    return _to_gain(np.concatenate(gains)[..., :frames])


class OnnxEngine:
    """Runs a model with ONNX Runtime, on one thread; files are processed in parallel by processes.

    Args:
        path: the ONNX file.
        device: "cuda", or the CPU.
        full_band, offline: names of its companions, see `pretrained.ModelEntry`; empty
            for none.
        plan_memory: see `checks.open_session`.

    Raises:
        CheckpointError: the file is not a model of audioae, or it is damaged.
        DependencyError: `device` is "cuda" and this onnxruntime has no CUDA.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        device: str = "cpu",
        full_band: str = "",
        offline: str = "",
        plan_memory: bool = True,
    ) -> None:
        self._companions = {"full_band": full_band, "offline": offline}
        self._loaded: dict[str, Engine] = {}
        self._device = device
        self._session = open_session(path, device, plan_memory=plan_memory)
        self.info = read_info(self._session, path)
        self._states = check_form(self._session, self.info, path)
        self._outputs = ["gain", *(f"next_{name}" for name in self._states)]

    def step(self, spectrum: ComplexArray, state: State | None = None) -> tuple[Gain, State]:
        """See `Engine.step`."""
        return advance(self._run, self.info, spectrum, state)

    def whole(self, spectrum: ComplexArray) -> Gain:
        """See `Engine.whole`."""
        return run_whole(self._run, self.info, spectrum)

    def companion(self, role: Literal["full_band", "offline"]) -> Engine:
        """The model that replaces this one in a role; this one if there is none."""
        name = self._companions[role]
        if not name:
            return self
        if name not in self._loaded:
            self._loaded[name] = load_model(name, device=self._device)
        return self._loaded[name]

    def _run(self, spectrum: FloatArray, tensors: Tensors | None) -> tuple[FloatArray, Tensors]:
        if tensors is None:
            tensors = tuple(
                self._empty(shape, spectrum.shape[0]) for shape in self._states.values()
            )
        frames = spectrum.shape[-1]
        # A network with a state can be run in parts of whole strides.
        length = (
            _round_up(max(CACHED_FRAMES // len(spectrum), 1), self.info.stride)
            if self._states
            else frames
        )
        gains = []
        for start in range(0, frames, length):
            inputs = dict(
                zip(self._states, tensors, strict=True),
                spectrum=spectrum[..., start : start + length],
            )
            try:
                gain, *following = self._session.run(self._outputs, inputs)
            except Exception as error:  # the errors of ONNX Runtime have no common base class
                raise CheckpointError(
                    f"model {self.info.name!r} fails in ONNX Runtime ({first_line(error)}); "
                    "export it again"
                ) from error
            check_gain(gain, self.info, inputs["spectrum"].shape)
            if [each.shape for each in following] != [each.shape for each in tensors]:
                raise CheckpointError(
                    f"model {self.info.name!r} returns states of other shapes than it takes; "
                    "export it again"
                )
            tensors = tuple(following)
            gains.append(gain)
        return np.concatenate(gains, -1) if len(gains) > 1 else gains[0], tuple(tensors)

    @staticmethod
    def _empty(shape: list[int | str], batch: int) -> FloatArray:
        """Zeros in the shape of a state; its named dimension is the batch size."""
        return np.zeros([size if isinstance(size, int) else batch for size in shape], np.float32)


class TorchEngine:
    """Runs a model with torch, for checkpoints that are not exported and for GPUs.

    Args:
        denoiser: the model.
        device: "cpu", "cuda", or "auto": a GPU if torch finds one.

    Raises:
        DependencyError: `device` is "cuda" and torch finds no GPU.
    """

    def __init__(self, denoiser: Denoiser, *, device: str = "auto") -> None:
        import torch

        self._torch = torch
        self._device = find_torch_device(torch, device)
        self._denoiser = denoiser.to(self._device).eval()
        self.info: ModelInfo = denoiser.info

    def step(self, spectrum: ComplexArray, state: State | None = None) -> tuple[Gain, State]:
        """See `Engine.step`."""
        return advance(self._run, self.info, spectrum, state)

    def whole(self, spectrum: ComplexArray) -> Gain:
        """See `Engine.whole`."""
        return run_whole(self._run, self.info, spectrum)

    def _run(self, spectrum: FloatArray, tensors: Tensors | None) -> tuple[FloatArray, Tensors]:
        with self._torch.inference_mode():
            gain, following = self._denoiser.gain(
                self._torch.from_numpy(spectrum).to(self._device), tensors
            )
        check_gain(gain, self.info, spectrum.shape)
        return gain.float().cpu().numpy(), following


def main(path: str) -> None:
    """The child process of `checks.try_model`."""
    from audioae.engine.codecs import OnnxCodec, check_codec

    def check(file: Path) -> None:
        try:
            engine = OnnxEngine(file)
        except OtherKindError:
            check_codec(OnnxCodec(file))
        else:
            check_engine(engine)

    require("onnxruntime", extra="train")
    answer(Path(path), check)


def load_model(name_or_path: str | Path, *, device: str = "auto") -> Engine:
    """Load a model.

    Args:
        name_or_path: the name of a model in the package, or the path of an .onnx file, a
            .safetensors checkpoint or a run folder.
        device: "cpu", "cuda", or "auto": the CPU for ONNX files, and for checkpoints a GPU if torch
            finds one.

    Raises:
        ModelNotFoundError: there is no such model.
        CheckpointError: the file is not a model of audioae, or it is damaged.
        DependencyError: the device is not available, or torch is not installed.
        SettingsError: an unknown device.

    Example:
        >>> info = load_model("speech-16k").info
        >>> info.stft.sample_rate, info.causal
        (16000, True)
    """
    if not isinstance(device, str) or device not in DEVICES:
        raise SettingsError(
            f"unknown device {device!r:.60}{nearest(str(device), DEVICES)}; known: "
            f"{', '.join(DEVICES)}"
        )
    path = find_model(name_or_path)
    if path.suffix == ".onnx":
        entries, sha256 = list_models(), file_hash(path)
        if all(entry.sha256 != sha256 for entry in entries):
            try_model(path, sha256)
        entry = next((entry for entry in entries if entry.path == path), None)
        if entry is None:
            return OnnxEngine(path, device=device)
        # An offline model runs chunks of seconds: their memory must not be held twice.
        whole = any(each.offline == entry.name for each in entries)
        companions = {"full_band": entry.full_band, "offline": entry.offline}
        return OnnxEngine(path, device=device, plan_memory=not whole, **companions)
    require("torch", extra="train")
    from audioae.models.checkpoint import load_denoiser

    return TorchEngine(load_denoiser(path), device=device)


def ready_engine(model: str | Path | Engine | None, *, device: str = "auto") -> Engine:
    """Load a model, unless it is loaded already; None is the default model.

    Raises:
        SettingsError: `model` is something else.
    """
    if model is None or isinstance(model, (str, os.PathLike)):
        return load_model(default_model() if model is None else model, device=device)
    return as_engine(model)


def load_any(name_or_path: str | Path, *, device: str = "auto") -> Engine | CodecEngine:
    """Load a denoiser or an autoencoder, see `load_model` and `load_codec`."""
    from audioae.engine.codecs import load_codec

    try:
        return load_codec(name_or_path, device=device)
    except OtherKindError:
        return load_model(name_or_path, device=device)


def _to_features(spectrum: ComplexArray, frames: int) -> FloatArray:
    """`[batch, freq, frames]` complex to `[batch, 2 (re, im), freq, frames]`, padded with zeros."""
    features = np.zeros((spectrum.shape[0], 2, spectrum.shape[1], frames), np.float32)
    features[:, 0, :, : spectrum.shape[-1]] = spectrum.real
    features[:, 1, :, : spectrum.shape[-1]] = spectrum.imag
    return features


def _to_gain(gain: FloatArray) -> Gain:
    """`[batch, 1 or 2, freq, frames]` to `[batch, freq, frames]`, real or complex."""
    if gain.shape[1] == 1:
        return gain[:, 0]
    joined = np.empty((gain.shape[0], *gain.shape[2:]), np.complex64)
    joined.real, joined.imag = gain[:, 0], gain[:, 1]
    return joined


def _round_up(frames: int, stride: int) -> int:
    return -(-frames // stride) * stride
