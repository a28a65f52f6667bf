"""Engines: blocks of any size against the whole, states, ONNX files, and companion models."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audioae import engine as engines
from audioae.engine import (
    Engine,
    OnnxEngine,
    State,
    advance,
    load_model,
    run_whole,
)
from audioae.errors import CheckpointError, DependencyError, ModelNotFoundError, SettingsError
from audioae.pretrained import ModelInfo
from audioae.signal.spectrogram import StftSettings

STFT = StftSettings(n_fft=32, hop_length=16, win_length=32)


def info(*, lookahead: int = 0, context: int = 0, stride: int = 1, gain: str = "real") -> ModelInfo:
    return ModelInfo("toy", "toy", STFT, gain, lookahead, context, stride, 1, 1, "0")


def random_spectrum(frames: int, batch: int = 2, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    parts = rng.standard_normal((2, batch, STFT.num_bins, frames)).astype(np.float32)
    return parts[0] + 1j * parts[1]


def neighbourhood(context: int, lookahead: int, stride: int) -> Callable:
    """A network whose gain is a weighted sum over exactly `context` frames before and `lookahead`
    after, wrong within them of either end.

    It also adds the frame's place within its stride, so that a chunk that starts off the stride
    shows.
    """

    def network(spectrum: np.ndarray, tensors: tuple | None) -> tuple[np.ndarray, tuple]:
        assert spectrum.shape[-1] % stride == 0
        padded = np.pad(
            spectrum[:, :1], [(0, 0)] * 3 + [(context, lookahead)], constant_values=99.0
        )
        width = context + lookahead + 1
        windows = np.lib.stride_tricks.sliding_window_view(padded, width, axis=-1)
        return windows @ np.arange(1, width + 1, dtype=np.float32) + np.arange(
            spectrum.shape[-1]
        ) % stride, ()

    return network


def running_sum(spectrum: np.ndarray, tensors: tuple | None) -> tuple[np.ndarray, tuple]:
    """A causal network: the sum of all frames so far."""
    past = 0 if tensors is None else tensors[0]
    sums = past + np.cumsum(spectrum[:, :1], axis=-1)
    return sums, (sums[..., -1:],)


def in_blocks(step: Callable, spectrum: np.ndarray, cuts: list[int]) -> np.ndarray:
    pieces, state = [], None
    for block in np.split(spectrum, sorted(cuts), axis=-1):
        gain, state = step(block, state)
        pieces.append(gain)
    return np.concatenate(pieces, axis=-1)


@settings(max_examples=60, deadline=None)
@given(
    context=st.integers(0, 9),
    lookahead=st.integers(0, 9),
    stride=st.sampled_from([1, 2, 3, 8]),
    frames=st.integers(0, 60),
    cuts=st.lists(st.integers(0, 60), max_size=12),
)
def test_blocks_equal_the_whole_and_both_equal_the_definition(
    context: int, lookahead: int, stride: int, frames: int, cuts: list[int]
) -> None:
    model, network = (
        info(lookahead=lookahead, context=context, stride=stride),
        neighbourhood(context, lookahead, stride),
    )
    spectrum = random_spectrum(frames)

    def step(block: np.ndarray, state: State | None) -> tuple[np.ndarray, State]:
        return advance(network, model, block, state)

    blocks = in_blocks(step, spectrum, [min(cut, frames) for cut in cuts])
    assert blocks.shape[-1] == max(frames - lookahead, 0) // stride * stride
    for frame in range(blocks.shape[-1]):
        around = np.pad(spectrum.real, [(0, 0), (0, 0), (context, 0)])[
            ..., frame : frame + context + lookahead + 1
        ]
        expected = around @ np.arange(1, context + lookahead + 2) + frame % stride
        np.testing.assert_allclose(blocks[..., frame], expected, atol=1e-4)


@pytest.mark.parametrize("stride", [1, 4])
def test_state_of_a_causal_network_passes_on_every_frame_once(stride: int) -> None:
    spectrum = random_spectrum(40)
    step = lambda block, state: advance(running_sum, info(stride=stride), block, state)
    expected = np.cumsum(spectrum.real, axis=-1)
    np.testing.assert_allclose(in_blocks(step, spectrum, [1, 2, 7, 7, 20, 39]), expected, atol=1e-4)


def test_streams_share_an_engine_without_mixing() -> None:
    first, second = random_spectrum(20, seed=1), random_spectrum(20, seed=2)
    model, states, pieces = info(), [None, None], ([], [])
    for start in range(0, 20, 5):
        for index, spectrum in enumerate((first, second)):
            gain, states[index] = advance(
                running_sum, model, spectrum[..., start : start + 5], states[index]
            )  # type: ignore[call-overload]
            pieces[index].append(gain)
    for spectrum, piece in zip((first, second), pieces, strict=True):
        np.testing.assert_allclose(
            np.concatenate(piece, -1), np.cumsum(spectrum.real, -1), atol=1e-4
        )


def test_a_state_can_be_used_twice() -> None:
    _, state = advance(running_sum, info(), random_spectrum(9), None)
    block = random_spectrum(3, seed=5)
    once, again = (
        advance(running_sum, info(), block, state)[0],
        advance(running_sum, info(), block, state)[0],
    )
    np.testing.assert_array_equal(once, again)


def test_gains_are_real_or_complex() -> None:
    network = lambda spectrum, tensors: (spectrum.copy(), ())
    spectrum = random_spectrum(6)
    gain, _ = advance(network, info(gain="complex"), spectrum, None)
    assert gain.dtype == np.complex64
    np.testing.assert_array_equal(gain, spectrum)
    empty, _ = advance(network, info(gain="complex"), spectrum[..., :0], None)
    assert empty.dtype == np.complex64 and empty.shape == (2, STFT.num_bins, 0)
    real, _ = advance(running_sum, info(), spectrum, None)
    assert real.dtype == np.float32


def test_a_spectrum_of_other_bins_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"\[2, 9, 4\].*\[batch, 17, frames\]"):
        advance(running_sum, info(), np.zeros((2, 9, 4), np.complex64), None)


def onnx_running_sum(path: Path, metadata: str | None) -> Path:
    """`running_sum` as an ONNX file, written node by node."""
    onnx = pytest.importorskip("onnx")
    helper, bins = onnx.helper, STFT.num_bins
    value = lambda name, shape: helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
    constant = lambda name, *ints: helper.make_tensor(
        name, onnx.TensorProto.INT64, [len(ints)], ints
    )
    nodes = [
        helper.make_node("Slice", ["spectrum", "zero", "one", "one"], ["real"]),
        helper.make_node("CumSum", ["real", "last"], ["sums"]),
        helper.make_node("Add", ["sums", "state_0"], ["gain"]),
        helper.make_node("Slice", ["gain", "minus_one", "far", "last_axis"], ["next_state_0"]),
    ]
    constants = [
        constant("zero", 0),
        constant("one", 1),
        constant("minus_one", -1),
        constant("far", 1 << 40),
        constant("last_axis", 3),
    ]
    constants.append(helper.make_tensor("last", onnx.TensorProto.INT64, [], [3]))
    inputs = [
        value("spectrum", ["batch", 2, bins, "frames"]),
        value("state_0", ["batch", 1, bins, 1]),
    ]
    outputs = [
        value("gain", ["batch", 1, bins, "frames"]),
        value("next_state_0", ["batch", 1, bins, 1]),
    ]
    graph = helper.make_graph(nodes, "running_sum", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    if metadata is not None:
        helper.set_model_props(model, {"audioae": metadata})
    path.write_bytes(model.SerializeToString())
    return path


def test_onnx_engine_carries_state_and_batch(tmp_path: Path) -> None:
    engine: Engine = load_model(
        onnx_running_sum(tmp_path / "toy.onnx", json.dumps(info().to_dict()))
    )
    assert engine.info == info() and engine.info.causal
    for batch in (1, 3):
        spectrum = random_spectrum(30, batch)
        expected = np.cumsum(spectrum.real, axis=-1)
        np.testing.assert_allclose(engine.step(spectrum)[0], expected, atol=1e-4)
        np.testing.assert_allclose(
            in_blocks(engine.step, spectrum, [1, 4, 4, 29]), expected, atol=1e-4
        )


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "no audioae metadata"),
        ("{broken", "damaged audioae metadata"),
        ("{}", "ModelInfo lacks name, family"),
    ],
)
def test_onnx_files_without_settings_are_refused(
    tmp_path: Path, metadata: str | None, message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_model(onnx_running_sum(tmp_path / "toy.onnx", metadata))


def test_files_that_are_not_models_are_refused_in_one_line(tmp_path: Path) -> None:
    junk = tmp_path / "junk.onnx"
    junk.write_bytes(b"not a model")
    with pytest.raises(CheckpointError, match=r"junk\.onnx") as caught:
        load_model(junk)
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelNotFoundError, match=r"no model at .*gone\.safetensors"):
        load_model(tmp_path / "gone.safetensors")


def test_devices(tmp_path: Path) -> None:
    path = onnx_running_sum(tmp_path / "toy.onnx", json.dumps(info().to_dict()))
    with pytest.raises(SettingsError, match="did you mean 'cuda'"):
        load_model(path, device="cudda")
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(DependencyError, match="no CUDA"):
            load_model(path, device="cuda")


def test_importing_the_engine_imports_nothing_heavy() -> None:
    heavy = {"torch", "onnxruntime", "onnx", "scipy", "librosa", "soundfile", "rich", "click"}
    code = f"import sys, audioae.engine; print(sorted({heavy!r} & set(sys.modules)))"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


@pytest.mark.parametrize("stride", [1, 4])
def test_run_whole_runs_the_network_once_on_all_frames(stride: int) -> None:
    model, network = info(lookahead=3, stride=stride), neighbourhood(0, 3, stride)
    spectrum = random_spectrum(22)
    padded = np.pad(spectrum, [(0, 0), (0, 0), (0, -22 % stride)])
    parts = np.stack([padded.real, padded.imag], 1)
    expected = network(parts.astype(np.float32), None)[0][:, 0, :, :22]
    np.testing.assert_array_equal(run_whole(network, model, spectrum), expected)


def test_run_whole_runs_channels_one_by_one() -> None:
    shapes: list[tuple[int, ...]] = []

    def network(features: Any, tensors: Any) -> Any:
        shapes.append(features.shape)
        return neighbourhood(0, 0, 1)(features, tensors)

    spectrum = random_spectrum(9)
    whole = run_whole(network, info(), spectrum)
    assert shapes == [(1, 2, STFT.num_bins, 9)] * len(spectrum)
    for index, gain in enumerate(whole):
        np.testing.assert_array_equal(run_whole(network, info(), spectrum[[index]])[0], gain)


def test_a_model_for_both_directions_has_no_streaming_form() -> None:
    model = replace(info(lookahead=3, context=3), edges="mirror")
    with pytest.raises(SettingsError, match="toy"):
        advance(running_sum, model, random_spectrum(9), None)
    assert run_whole(running_sum, model, random_spectrum(9)).shape == (2, STFT.num_bins, 9)


def test_each_model_is_opened_once_and_only_offline_models_without_a_memory_plan(
    monkeypatch: Any,
) -> None:
    opened: list[tuple[str, bool]] = []
    open_session = engines.open_session

    def note(path: Any, device: str, *, plan_memory: bool = True) -> Any:
        opened.append((path.parent.name, plan_memory))
        return open_session(path, device, plan_memory=plan_memory)

    monkeypatch.setattr(engines, "open_session", note)
    causal = engines.load_model("speech-16k")
    causal.companion("offline")
    engines.load_model("conv1d-16k")  # without a state, but it can run live
    assert opened == [("speech-16k", True), ("speech-offline-16k", False), ("conv1d-16k", True)]


def test_companions_of_a_model_are_loaded_once(tmp_path: Path, monkeypatch: Any) -> None:
    path = onnx_running_sum(tmp_path / "toy.onnx", json.dumps(info().to_dict()))
    model = OnnxEngine(path, full_band="wide", offline="offline")
    loaded: list[tuple[str, str]] = []

    def load(name: str, *, device: str) -> object:
        loaded.append((name, device))
        return name

    monkeypatch.setattr(engines, "load_model", load)
    for _ in range(2):
        assert model.companion("full_band") == "wide"
        assert model.companion("offline") == "offline"
    assert loaded == [("wide", "cpu"), ("offline", "cpu")]
    alone = OnnxEngine(path)
    assert alone.companion("full_band") is alone
    assert alone.companion("offline") is alone
