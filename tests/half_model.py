"""A model file of a kilobyte that lowers everything by 6 dB: for tests in which several processes
load a model.
"""

from __future__ import annotations

import json
from pathlib import Path

from onnx import TensorProto, helper

from audioae.pretrained import ModelInfo
from audioae.signal.spectrogram import StftSettings


def write_half_model(path: Path, *, gain: float = 0.5) -> Path:
    """An ONNX file that answers `gain` for every bin of 16 kHz sound."""
    stft = StftSettings()
    value = lambda name, parts: helper.make_tensor_value_info(
        name, TensorProto.FLOAT, ["batch", parts, stft.num_bins, "frames"]
    )
    numbers = {"zero": [0], "one": [1]}
    constants = [
        helper.make_tensor(name, TensorProto.INT64, [1], value) for name, value in numbers.items()
    ]
    constants += [
        helper.make_tensor(name, TensorProto.FLOAT, [], [value])
        for name, value in (("none", 0.0), ("gain_value", gain))
    ]
    nodes = [
        helper.make_node("Slice", ["spectrum", "zero", "one", "one"], ["real"]),
        helper.make_node("Mul", ["real", "none"], ["nothing"]),
        helper.make_node("Add", ["nothing", "gain_value"], ["gain"]),
    ]
    graph = helper.make_graph(nodes, "half", [value("spectrum", 2)], [value("gain", 1)], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    info = ModelInfo(
        "half", "fake", stft, "real", 0, 0, 1, parameters=0, macs_per_second=0, version="0"
    )
    helper.set_model_props(model, {"audioae": json.dumps(info.to_dict())})
    path.write_bytes(model.SerializeToString())
    return path
