"""Export of an autoencoder to an ONNX file: encoder and decoder, or one of them.

A file with both has an `If` node for each, so that a call computes the part whose input is not
empty; see `engine.codecs`.
"""

from __future__ import annotations

import copy
import io
import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audioae.engine.codecs import PARTS, CodecEngine, OnnxCodec, TorchCodec
from audioae.errors import CheckpointError, require
from audioae.models import Reconstructor
from audioae.pretrained import CodecInfo
from audioae.pretrained.codec import Part
from audioae.storage import atomic_path, output_errors
from audioae.training.export import MAX_DIFFERENCE, OPSET, Exported, check_target

# The name of the last axis of each value of the graph.
AXES = {"features": "frames", "code": "steps", "latent": "steps", "reconstruction": "frames"}


def export_codec(
    model: Reconstructor, path: str | Path, *, name: str, part: Part = "whole", overwrite: bool
) -> Exported:
    """Write an autoencoder as an ONNX file, whose form `engine.codecs` describes.

    Args:
        model: left unchanged; a copy is traced on the CPU in evaluation mode.
        path: the file to write, ending in .onnx.
        name: name of the model, stored in the file.
        part: "encoder" or "decoder" alone, or the "whole" model.
        overwrite: replace an existing file.

    Raises:
        OutputError: the path exists or cannot be written.
        CheckpointError: the results of ONNX Runtime and torch differ by more than
            `MAX_DIFFERENCE`; nothing is written.
    """
    path = Path(path)
    check_target(path, overwrite=overwrite)
    model = copy.deepcopy(model).cpu().eval()  # the caller's model stays as it is
    info = replace(model.info, name=name, part=part)
    onnx = require("onnx", extra="train")
    parts = {each: trace(model, each) for each in PARTS if part in ("whole", each)}
    graph = join(parts, info) if part == "whole" else parts[part]
    onnx.helper.set_model_props(graph, {"audioae": json.dumps(info.to_dict())})
    with output_errors(path), atomic_path(path) as temporary:
        temporary.write_bytes(graph.SerializeToString())
        difference = codec_parity(TorchCodec(model, device="cpu"), OnnxCodec(temporary))
        if not difference <= MAX_DIFFERENCE:  # also refuses NaN
            raise CheckpointError(
                f"{name} was not written: the results of ONNX Runtime and torch differ by "
                f"{difference:.1g}; expected at most {MAX_DIFFERENCE:.0e}. Look for sizes or "
                "branches in the network that depend on its input"
            )
    return Exported(str(path), name, info.parameters, path.stat().st_size, difference)


class _Part(nn.Module):
    """The encoder or the decoder of a model as a module of its own."""

    def __init__(self, model: Reconstructor, part: str) -> None:
        super().__init__()
        self.model, self.part = model, part

    def forward(self, values: Tensor) -> Tensor:
        return self.model.encode(values) if self.part == "encoder" else self.model.decode(values)


def trace(model: Reconstructor, part: str) -> Any:
    """One part of a model as an ONNX model."""
    onnx = require("onnx", extra="train")
    (given, result), buffer = PARTS[part], io.BytesIO()
    rows, unit = model.settings.num_bins, model.autoencoder.stride
    if part == "decoder":
        rows, unit = model.channels, unit // model.step
    example = torch.rand(2, rows, 3 * unit)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Part(model, part).eval(),
            (example,),
            buffer,  # type: ignore[arg-type]  # the annotation lacks files
            dynamo=False,
            opset_version=OPSET,
            input_names=[given],
            output_names=[result],
            dynamic_axes={name: {0: "batch", 2: AXES[name]} for name in (given, result)},
        )
    return onnx.load_model_from_string(buffer.getvalue())


def join(parts: dict[str, Any], info: CodecInfo) -> Any:
    """One ONNX model of encoder and decoder, of which each run computes what has an input."""
    onnx = require("onnx", extra="train")
    helper, floats = onnx.helper, onnx.TensorProto.FLOAT
    rows = {"encoder": (info.features.num_bins, info.channels)}
    rows["decoder"] = rows["encoder"][::-1]
    nodes, inputs, outputs, initializers = [], [], [], []
    for part, model in parts.items():
        (given, result), (rows_in, rows_out) = PARTS[part], rows[part]
        inputs.append(helper.make_tensor_value_info(given, floats, ["batch", rows_in, AXES[given]]))
        outputs.append(
            helper.make_tensor_value_info(result, floats, ["batch", rows_out, AXES[result]])
        )
        # Names are unique in the whole file, and the value `given` is visible inside the branch.
        branch = onnx.compose.add_prefix(model, f"{part}/").graph
        for node in branch.node:
            node.input[:] = [given if each == f"{part}/{given}" else each for each in node.input]
        then = helper.make_graph(
            list(branch.node), f"{part}_runs", [], list(branch.output), list(branch.initializer)
        )
        empty = helper.make_tensor(f"{part}/empty", floats, [0, rows_out, 0], [])
        unused = helper.make_node("Constant", [], [f"{part}/unused"], value=empty)
        skip = helper.make_graph(
            [unused],
            f"{part}_skips",
            [],
            [helper.make_tensor_value_info(f"{part}/unused", floats, [0, rows_out, 0])],
        )
        zero = helper.make_tensor(f"{part}/zero", onnx.TensorProto.INT64, [], [0])
        initializers.append(zero)
        nodes += [
            helper.make_node("Size", [given], [f"{part}/size"]),
            helper.make_node("Greater", [f"{part}/size", f"{part}/zero"], [f"{part}/is_given"]),
            helper.make_node(
                "If", [f"{part}/is_given"], [result], then_branch=then, else_branch=skip
            ),
        ]
    graph = helper.make_graph(nodes, "autoencoder", inputs, outputs, initializers)
    first = next(iter(parts.values()))
    joined = helper.make_model(graph, opset_imports=list(first.opset_import))
    joined.ir_version = first.ir_version
    onnx.checker.check_model(joined)
    return joined


def codec_parity(reference: CodecEngine, engine: CodecEngine) -> float:
    """The largest difference between two autoencoders for random features and codes.

    Returns:
        The difference, relative to values with a magnitude above 1; NaN if a value is not finite.
    """
    info, rng, differences = engine.info, np.random.default_rng(0), []
    for batch, strides in ((1, 1), (3, 7)):
        frames = strides * info.stride
        features = rng.random((batch, info.features.num_bins, frames)).astype(np.float32)
        code = reference.encode(features)
        expected = {"encoder": code, "decoder": reference.decode(code)}
        for part, run in (("encoder", engine.encode), ("decoder", engine.decode)):
            if info.part in ("whole", part):
                found = run(features if part == "encoder" else code)
                scale = np.maximum(np.abs(expected[part]), 1)
                differences.append(float(np.max(np.abs(found - expected[part]) / scale)))
    return max(differences) if np.isfinite(differences).all() else float("nan")
