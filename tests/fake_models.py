"""ONNX models of a few bytes, in the format that `audioae export` writes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from audioae.pretrained import ModelInfo
from audioae.signal.spectrogram import StftSettings

INFO = ModelInfo(
    "half-16k",
    "fake",
    StftSettings(),
    "real",
    0,
    0,
    1,
    parameters=1,
    macs_per_second=1,
    version="0",
)


def write_constant(path: Path, gain: float, info: ModelInfo = INFO) -> Path:
    """A model whose gain is the same in every bin."""
    onnx = pytest.importorskip("onnx")
    helper, float32 = onnx.helper, onnx.TensorProto.FLOAT
    bins = info.stft.num_bins
    nodes = [
        helper.make_node("Split", ["spectrum"], ["real", "imaginary"], axis=1, num_outputs=2),
        helper.make_node("Mul", ["real", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "constant"], ["gain"]),
    ]
    constants = [
        helper.make_tensor("zero", float32, [1], [0.0]),
        helper.make_tensor("constant", float32, [1], np.float32([gain])),
    ]
    inputs = [helper.make_tensor_value_info("spectrum", float32, ["batch", 2, bins, "frames"])]
    outputs = [helper.make_tensor_value_info("gain", float32, ["batch", 1, bins, "frames"])]
    graph = helper.make_graph(nodes, "constant", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, {"audioae": json.dumps(info.to_dict())})
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    return path


def write_half_model(path: Path, *, gain: float = 0.5) -> Path:
    """A model for 16 kHz that attenuates everything by 6 dB."""
    return write_constant(path, gain)
