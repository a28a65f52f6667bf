"""Tampered models, checkpoints and registries end with one line and exit code 3, or work.

A sample of the cases of tests/tools/fuzz_models.py, which is run by hand.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

if os.name == "nt":
    pytest.skip("needs fork", allow_module_level=True)
sys.path.insert(0, str(Path(__file__).parent / "tools"))
from fuzz_models import judge, run_cases

from audioae.engine import load_model
from audioae.engine.checks import try_model
from audioae.errors import CheckpointError
from audioae.pretrained import find_model


@pytest.mark.parametrize("kind", ["onnx", "registry"])
def test_tampered_files_are_refused_or_work(kind: str) -> None:
    if kind == "onnx":
        pytest.importorskip("onnx")
    results = run_cases(kind, range(3 if kind == "onnx" else 12), seed=1)
    assert [each for each in results if each.problem] == []
    assert any(each.code for each in results), "the changes are too weak"


def test_an_endless_loop_ends(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    helper, kinds = onnx.helper, onnx.TensorProto
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["more"], ["again"]),
            helper.make_node("Identity", ["gain_in"], ["gain_out"]),
        ],
        "body",
        [
            value("turn", kinds.INT64, []),
            value("more", kinds.BOOL, []),
            value("gain_in", kinds.FLOAT, None),
        ],
        [value("again", kinds.BOOL, []), value("gain_out", kinds.FLOAT, None)],
    )
    model = onnx.load(str(find_model("speech-small-16k")))
    for node in model.graph.node:
        node.output[:] = ["first" if name == "gain" else name for name in node.output]
    loop = helper.make_node("Loop", ["", "always", "first"], ["gain"], body=body)
    model.graph.node.extend([loop])
    model.graph.initializer.extend([helper.make_tensor("always", kinds.BOOL, [], [True])])
    path = tmp_path / "loop.onnx"
    onnx.save(model, str(path))
    with pytest.raises(CheckpointError, match=r"loop\.onnx takes"):
        load_model(path)


def test_a_model_is_tried_once_per_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(str(find_model("speech-small-16k")))
    model.doc_string = "another file"
    onnx.save(model, str(tmp_path / "a.onnx"))
    load_model(tmp_path / "a.onnx")
    tried = try_model.cache_info().misses
    load_model(tmp_path / "a.onnx")
    load_model("speech-small-16k")  # in the registry
    assert try_model.cache_info().misses == tried


def test_the_judge_sees_internal_errors(tmp_path: Path) -> None:
    from fuzz_models import Result

    bad = Result("onnx", 0, "", 3, 1.0, 1.0, 50.0, "Error: internal: KeyError\n", [], "")
    assert judge(bad, ["denoise", "-m"], tmp_path) == "internal error"
