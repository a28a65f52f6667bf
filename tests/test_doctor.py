"""`audioae doctor` reports what is missing or broken with the command that repairs it, and survives
crashing and hanging packages.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from click.testing import CliRunner, Result
from fake_models import INFO, write_constant

from audioae import __version__
from audioae.cli import machine, main
from audioae.cli.machine import EXTRAS, SystemCheck, examine, probe
from audioae.errors import SettingsError
from audioae.pretrained import (
    Card,
    CodecInfo,
    add_model,
    list_models,
    load_card,
    registry,
)

CHECKOUT = Path(__file__).parents[1]
LIGHT = {  # replace packages that are slow to import or need hardware
    "torch": "import types\n__version__ = '2.0'\nversion = types.SimpleNamespace(cuda='13')\n"
    "cuda = types.SimpleNamespace(device_count=lambda: 1, get_device_name=lambda index: 'A Card')",
    "torchaudio": "__version__ = '2.0'",
    "av": "ffmpeg_version_info = '8.0'",
    "sounddevice": "query_devices = lambda: [{'name': 'A Microphone', 'max_input_channels': 1, "
    "'max_output_channels': 0}]",
}


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of modules that hide the installed ones; everything that is imported works."""
    folder = tmp_path / "packages"
    folder.mkdir()
    for name, code in LIGHT.items():
        (folder / f"{name}.py").write_text(code)
    versions = dict.fromkeys([name for names in EXTRAS.values() for name in names], "2.0")
    monkeypatch.setattr("audioae.cli.machine._version", lambda name: versions.get(name, ""))
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    return folder


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A registry with one model, whose gain is 0.5 (-6 dB)."""
    folder = tmp_path / "weights"
    monkeypatch.setattr(registry, "WEIGHTS", folder)
    write_constant(folder / INFO.name / "model.onnx", 0.5)
    (folder / "models.json").write_text('{"models": {}}')
    ship(folder)
    return folder


def ship(folder: Path) -> None:
    add_model(Card(INFO, ("noise",), "MIT", 1.0, {}, "abc"))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["doctor", *arguments], prog_name="audioae")


def checks(*need: str) -> dict[tuple[str, str], SystemCheck]:
    return {(check.subject, check.name): check for check in examine(need)}


def test_a_complete_installation_passes(packages: Path, weights: Path) -> None:
    result = run("--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["ok"] is True
    rows: dict[tuple[str, str], dict[str, Any]] = {
        (row["subject"], row["name"]): row for row in told["findings"]
    }
    assert rows["system", "audioae"]["found"] == __version__
    assert {name for subject, name in rows if subject == "core"} == {
        "numpy",
        "soundfile",
        "soxr",
        "onnxruntime",
        "click",
        "rich",
    }
    assert "libsndfile" in rows["core", "soundfile"]["found"]
    assert "FLAC" in rows["formats", "containers"]["found"].split()
    assert rows["train", "torch"]["state"] == "ok"
    assert rows["media", "av"]["found"] == "2.0, FFmpeg 8.0"
    assert rows["devices", "cuda"]["found"] == "A Card; CUDA 13 in torch"
    assert rows["devices", "audio inputs"]["found"] == "A Microphone"
    assert rows["models", INFO.name]["found"].startswith("sha256 ")
    assert "6.0 dB lower" in rows["self-test", INFO.name]["found"]
    assert all(row["state"] == "ok" for row in rows.values() if row["needed"])


def test_every_model_of_the_package_passes_its_self_test(packages: Path) -> None:
    """Denoisers and autoencoders."""
    rows = checks()
    for entry in list_models():
        row = rows["self-test", entry.name]
        assert row.state == "ok", row.found


def test_an_autoencoder_that_decodes_nonsense_fails_the_self_test() -> None:
    info = load_card("codec-16k").info
    assert isinstance(info, CodecInfo)

    class Broken:
        metadata: ClassVar[dict[str, str]] = {}

        def __init__(self, frames: int, value: float) -> None:
            self.info, self.frames, self.value = info, frames, value

        def encode(self, features: np.ndarray) -> np.ndarray:
            return np.zeros((1, 2, 4), np.float32)

        def decode(self, latent: np.ndarray) -> np.ndarray:
            return np.full((1, info.features.num_bins, self.frames), self.value, np.float32)

    whole = 4 * info.stride
    assert machine._run_codec(Broken(whole, 0.5)) == {"code_values": 8}
    assert "shape" in machine._run_codec(Broken(whole - 1, 0.5))["error"]
    assert "finite" in machine._run_codec(Broken(whole, np.nan))["error"]


def test_the_table_has_one_row_per_check_and_a_summary(packages: Path, weights: Path) -> None:
    result = run()
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[-1] == "Everything needed works."
    assert f"ok      core      numpy         {np.__version__}" in lines


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (
            "raise OSError('libc10_cuda.so: cannot open shared object file')",
            "OSError: libc10_cuda.so: cannot open",
        ),
        ("raise RuntimeError('other CUDA\\nsecond line')", "RuntimeError: other CUDA"),
        ("import os; os.abort()", "crashed with SIGABRT"),
        ("import os; os._exit(7)", "exit code 7"),
    ],
)
def test_a_broken_torchaudio_is_reported_and_the_checks_go_on(
    packages: Path, weights: Path, code: str, told: str
) -> None:
    (packages / "torchaudio.py").write_text(code)
    rows = checks("train")
    broken = rows["train", "torchaudio"]
    assert broken.state == "broken" and told in broken.found and "\n" not in broken.found
    assert broken.mend == "pip install --force-reinstall 'torch>=2.9,<2.12' 'torchaudio>=2.9,<2.12'"
    assert rows["media", "av"].state == "ok"  # which is asked after it
    assert broken.failed and not replace(broken, needed=False).failed


def test_a_package_that_hangs_times_out(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (packages / "torchaudio.py").write_text("import time; time.sleep(60)")
    monkeypatch.setattr(machine, "TIMEOUT_SECONDS", 3)
    answers = dict(probe(["torch", "torchaudio", "av"]))
    assert answers["torch"]["devices"] == ["A Card"]
    assert "within 3 s" in answers["torchaudio"]["error"]
    assert answers["av"]["ffmpeg"] == "8.0"


@pytest.mark.parametrize("name", ["soxr", "onnxruntime", "numpy"])
def test_a_needed_package_that_fails_is_exit_code_3_with_a_repair_command(
    packages: Path, weights: Path, name: str
) -> None:
    (packages / f"{name}.py").write_text("raise ImportError('no library')")
    result = run()
    assert result.exit_code == 3, result.output
    assert f"core      {name:<13} ImportError: no library" in result.stdout
    assert f"pip install --force-reinstall {name}" in result.stdout
    assert f"core {name}" in result.stdout.splitlines()[-1]
    assert "broken  self-test" in result.stdout  # models do not run without it
    assert result.stderr == ""


def test_doctor_runs_without_numpy(packages: Path) -> None:
    (packages / "numpy.py").write_text("raise ImportError('no numpy here')")
    code = (
        f"import sys; sys.path.insert(0, {str(packages)!r}); "
        "from audioae.cli import main; main(['doctor', '--json'])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=CHECKOUT
    )
    assert ended.returncode == 3, ended.stderr
    rows = {(row["subject"], row["name"]): row for row in json.loads(ended.stdout)["findings"]}
    assert "no numpy here" in rows["core", "numpy"]["found"]
    assert rows["models", "registry"]["state"] == "broken"


def test_an_absent_extra_fails_only_if_it_is_needed(
    packages: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "audioae.cli.machine._version", lambda name: "1.0" if name == "librosa" else ""
    )
    rows = checks("plots")
    assert rows["media", "av"] == SystemCheck(
        "media", "av", "absent", "not installed", False, "pip install 'audioae[media]'"
    )
    assert (rows["plots", "librosa"].state, rows["plots", "matplotlib"].state) == ("ok", "absent")
    assert not rows["media", "av"].failed and rows["plots", "matplotlib"].failed
    assert run("--need", "plots").exit_code == 3
    with pytest.raises(SettingsError, match="'plots'"):
        checks("plot")


def test_a_damaged_model_is_reported_and_not_run(packages: Path, weights: Path) -> None:
    file = weights / INFO.name / "model.onnx"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    result = run()
    assert result.exit_code == 3
    assert f"broken  models    {INFO.name:<13} {INFO.name}/model.onnx" in result.stdout
    assert "pip install --force-reinstall audioae" in result.stdout
    assert "self-test" not in result.stdout


def test_a_model_with_non_finite_gains_fails_the_self_test(packages: Path, weights: Path) -> None:
    write_constant(weights / INFO.name / "model.onnx", float("nan"))
    ship(weights)
    row = checks()["self-test", INFO.name]
    assert row.failed and row.state == "broken" and "gain" in row.found


def test_a_package_without_models_fails(packages: Path, weights: Path) -> None:
    (weights / "models.json").write_text('{"models": {}}')
    row = checks()["models", "registry"]
    assert row.failed and row.state == "absent"
    (weights / "models.json").write_text("{")
    assert checks()["models", "registry"].state == "broken"


def test_the_extras_are_those_of_pyproject() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {
        name: [line.split(">")[0] for line in lines]
        for name, lines in project["optional-dependencies"].items()
    }
    assert {name: sorted(names) for name, names in EXTRAS.items()} == {
        name: sorted(names) for name, names in extras.items() if name not in ("all", "docs", "test")
    }
    core = {line.split(">")[0] for line in project["dependencies"]}
    assert core == {"numpy", "soundfile", "soxr", "onnxruntime", "click", "rich"}
