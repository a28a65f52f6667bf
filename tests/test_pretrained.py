"""Models in the package: finding, verifying and describing them, without network access."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import audioae.pretrained
from audioae.errors import CheckpointError, DataError, ModelNotFoundError
from audioae.pretrained import (
    Card,
    CodecInfo,
    ModelInfo,
    Scores,
    add_model,
    card_markdown,
    default_model,
    find_model,
    get_entry,
    list_models,
    load_card,
    read_scores,
    registry,
    verify_model,
)
from audioae.signal.spectrogram import StftSettings

INFO = ModelInfo(
    "first-16k", "conv1d", StftSettings(), "real", 12, 12, 1, 432865, 27_000_000, "0.1.0"
)
SCORES = Scores(
    "public pairs",
    44,
    {"pesq_wb": 2.3, "stoi": 0.92, "si_sdr": None},
    {"pesq_wb": 1.81, "stoi": 0.914, "si_sdr": 6.3},
)
CARD = Card(
    INFO,
    ("Some Speech (CC BY 4.0)", "Some Noise (CC0)"),
    "MIT",
    7200.0,
    {"training": {"steps": 1}},
    "abc1234",
    (SCORES,),
)


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A weights folder with two models; the first one is the default."""
    monkeypatch.setattr(registry, "WEIGHTS", tmp_path)
    (tmp_path / "models.json").write_text('{"models": {}}')
    for name in ("first-16k", "another-16k"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.onnx").write_bytes(name.encode())
        add_model(replace(CARD, info=replace(INFO, name=name)))
    return tmp_path


def test_model_info_and_card_round_trip_through_json() -> None:
    assert ModelInfo.from_dict(json.loads(json.dumps(INFO.to_dict()))) == INFO
    assert Card.from_dict(json.loads(json.dumps(CARD.to_dict()))) == CARD
    assert not INFO.causal and replace(INFO, lookahead=0, context=0).causal


def test_model_info_ignores_unknown_fields_and_requires_its_own() -> None:
    assert ModelInfo.from_dict({**INFO.to_dict(), "colour": "blue"}) == INFO
    values = INFO.to_dict()
    del values["stride"]
    with pytest.raises(CheckpointError, match="stride"):
        ModelInfo.from_dict(values)


@pytest.mark.parametrize("wrong", [{"gain": "imaginary"}, {"stride": 0}, {"lookahead": -1}])
def test_model_info_checks_its_values(wrong: dict[str, object]) -> None:
    with pytest.raises(CheckpointError, match="expected"):
        ModelInfo.from_dict({**INFO.to_dict(), **wrong})


def test_registry_lists_the_default_first(weights: Path) -> None:
    assert [(entry.name, entry.default) for entry in list_models()] == [
        ("first-16k", True),
        ("another-16k", False),
    ]
    assert default_model() == "first-16k"
    add_model(replace(CARD, info=replace(INFO, name="another-16k")), default=True)
    assert [(entry.name, entry.default) for entry in list_models()] == [
        ("another-16k", True),
        ("first-16k", False),
    ]
    add_model(replace(CARD, info=replace(INFO, name="another-16k")))
    assert default_model() == "another-16k", "adding a model again keeps its flag"


def test_models_are_found_by_name_and_by_path(
    weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    assert find_model("first-16k") == weights / "first-16k" / "model.onnx"
    assert load_card("another-16k").info.name == "another-16k"
    own = elsewhere / "own.onnx"
    own.write_bytes(b"x")
    assert find_model(own) == own
    run = elsewhere / "run"
    run.mkdir()
    with pytest.raises(ModelNotFoundError, match=r"best\.safetensors"):
        find_model(run)
    for name in ("last.safetensors", "best.safetensors"):
        (run / name).write_bytes(b"x")
        assert find_model(run) == run / name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("frist-16k", "'first-16k'.*first-16k, another-16k"),
        ("", "''"),
        ("gone.onnx", r"gone\.onnx"),
        (__file__, "test_pretrained.*onnx"),
    ],
)
def test_errors_for_unknown_models_list_the_known_ones(
    weights: Path, name: str, message: str
) -> None:
    with pytest.raises(ModelNotFoundError, match=message) as caught:
        find_model(name)
    assert caught.value.exit_code == 3 and "\n" not in str(caught.value)


def test_a_package_without_models_is_an_error(weights: Path) -> None:
    (weights / "models.json").write_text('{"models": {}}')
    with pytest.raises(ModelNotFoundError):
        default_model()
    with pytest.raises(ModelNotFoundError, match="first-16k"):
        get_entry("first-16k")


def test_a_damaged_model_is_not_returned(weights: Path) -> None:
    assert verify_model("first-16k").ok
    (weights / "first-16k" / "model.onnx").write_bytes(b"first-16x")
    with pytest.raises(CheckpointError, match="first-16k"):
        find_model("first-16k")
    check = verify_model("first-16k")
    assert not check.ok and check.sha256[:12] in check.problems[0]
    assert verify_model("another-16k").ok


def test_verify_reports_a_missing_file_and_a_wrong_card(weights: Path) -> None:
    (weights / "first-16k" / "model.onnx").unlink()
    assert "model.onnx" in verify_model("first-16k").problems[0]
    (weights / "another-16k" / "card.json").write_text(json.dumps(CARD.to_dict()))
    (problem,) = verify_model("another-16k").problems
    assert "sha256" in problem and "card.json" in problem
    without_hashes(weights)
    (problem,) = verify_model("another-16k").problems
    assert "'first-16k'" in problem
    (weights / "another-16k" / "card.json").write_text("{")
    (problem,) = verify_model("another-16k").problems
    assert "card.json" in problem


def without_hashes(weights: Path) -> dict[str, Any]:
    """Write the registry as older versions did, without hashes of cards and of itself."""
    rows = json.loads((weights / "models.json").read_text())["models"]
    for row in rows.values():
        row.pop("card_sha256", None)
    (weights / "models.json").write_text(json.dumps({"models": rows}))
    return rows


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"file": "../elsewhere/model.onnx"}, "elsewhere"),
        ({"file": "/etc/model.onnx"}, "/etc"),
        ({"file": 3}, "file"),
        ({"sha256": "abc"}, "'abc'"),
        ({"sha256": None}, "sha256"),
        ({"default": "yes"}, "default"),
        ({"full_band": "gone-48k"}, "gone-48k"),
        ({"offline": []}, "offline"),
        (None, "models.json"),
    ],
)
def test_a_damaged_registry_is_an_error_that_names_the_field(
    weights: Path, change: dict[str, Any] | None, word: str
) -> None:
    rows = without_hashes(weights)
    rows["first-16k"] = {**rows["first-16k"], **change} if change else None
    (weights / "models.json").write_text(json.dumps({"models": rows}))
    with pytest.raises(CheckpointError, match=re.escape(word)):
        list_models()


def test_a_byte_changed_in_the_registry_or_a_card_is_noticed(weights: Path) -> None:
    text = (weights / "models.json").read_text()
    assert json.loads(text)["models"]["first-16k"]["card_sha256"]
    (weights / "models.json").write_text(text.replace("first-16k/model", "another-16k/model"))
    with pytest.raises(CheckpointError, match=r"models\.json"):
        find_model("first-16k")
    (weights / "models.json").write_text(text)
    card = weights / "first-16k" / "card.json"
    card.write_text(card.read_text().replace("MIT", "MITT"))
    with pytest.raises(CheckpointError, match=r"card\.json"):
        load_card("first-16k")
    assert not verify_model("first-16k").ok and verify_model("another-16k").ok


WRONG: dict[str, list[object]] = {
    "name": [3, None, "", "a\x1b[31m", "x" * 101],
    "family": [3, None, ["conv1d"]],
    "stft": [None, [], "x", {"sample_rate": 10**9}, {"sample_rate": 1}, {"sample_rate": "16000"},
             {"sample_rate": 16000.5}, {"n_fft": 0}, {"n_fft": 1 << 40}, {"hop_length": 0},
             {"hop_length": -256}, {"win_length": True}, {"win_length": None}],
    "gain": ["imaginary", 1, None, ["real"]],
    "lookahead": [-1, 1.5, "0", True, None, 10**6, float("nan")],
    "context": [-1, "x", 10**9, {}],
    "stride": [0, -1, 10**9, 1.0, "1", False],
    "parameters": [-1, "many", None, float("inf")],
    "macs_per_second": [-1, "many", 0.5],
    "version": [1, None, {}],
    "edges": ["cliff", 0, None],
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, each in WRONG.items() for v in each])
def test_every_field_of_model_info_is_checked(name: str, value: object) -> None:
    with pytest.raises(CheckpointError) as caught:
        ModelInfo.from_dict({**INFO.to_dict(), name: value})
    assert "\n" not in str(caught.value) and caught.value.exit_code == 3


@pytest.mark.parametrize("values", [None, [], "x", 3, {"info": None}, {"stages": [{}]}])
def test_a_card_of_another_form_is_an_error(values: Any) -> None:
    if isinstance(values, dict):
        values = {**CARD.to_dict(), **values}
    with pytest.raises(CheckpointError, match="card"):
        Card.from_dict(values)


def test_card_as_markdown() -> None:
    text = card_markdown(CARD)
    assert text.startswith("## first-16k\n")
    for said in (
        "432,865 parameters",
        "27.0 MMAC/s",
        "12 frames of look-ahead",
        "Some Noise (CC0)",
        "licence: MIT",
        "2.0 h",
        CARD.recipe_hash,
        "abc1234",
    ):
        assert said in text
    assert "Mean over 44 public pairs" in text
    assert (
        "| PESQ-WB | 1.81 | 2.30 |" in text
        and "| STOI | 0.914 | 0.920 |" in text
        and "| SI-SDR, dB | 6.30 | - |" in text
    )


def test_scores_are_read_from_the_json_of_evaluate(tmp_path: Path) -> None:
    means = {
        "stoi": {
            "unit": "0..1",
            "noisy": {"value": 0.9, "count": 2},
            "enhanced": {"value": None, "count": 0},
        }
    }
    file = tmp_path / "scores.json"
    file.write_text(
        json.dumps(
            {"model": "m", "pairs": "/a/pairs.csv", "count": 2, "quality": "fast", "means": means}
        )
    )
    assert read_scores(file) == Scores("pairs.csv", 2, {"stoi": None}, {"stoi": 0.9}, "fast")
    assert read_scores(file, pairs="unseen voices").pairs == "unseen voices"
    for text in ("[]", "{}", "no JSON", '{"means": {"stoi": 1}}'):
        file.write_text(text)
        with pytest.raises(DataError, match=r"scores\.json"):
            read_scores(file)


def test_models_in_the_package_are_intact() -> None:
    for entry in list_models():
        assert verify_model(entry.name).ok and entry.card_sha256
        card = load_card(entry.name)
        assert card.scores or isinstance(card.info, CodecInfo), "the card of a denoiser has scores"
    assert sum(entry.default for entry in list_models()) == min(len(list_models()), 1)


def test_the_package_uses_neither_the_network_nor_a_runtime() -> None:
    allowed = {
        "__future__",
        "audioae",
        "collections",
        "contextlib",
        "dataclasses",
        "hashlib",
        "json",
        "os",
        "pathlib",
        "re",
        "typing",
    }
    for file in Path(audioae.pretrained.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = (
                [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else [node.module]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            assert {str(name).partition(".")[0] for name in names} <= allowed, file
    code = (
        "import sys, audioae.pretrained; "
        "print(sorted({'torch', 'onnxruntime', 'socket', 'urllib.request'} & set(sys.modules)))"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


def test_all_weights_together_are_small() -> None:
    files = [path for path in registry.WEIGHTS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 20e6
