"""Every script in examples/ runs as its documentation says and gives the expected result."""

from __future__ import annotations

import ast
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest
import soundfile

import audioae
from audioae.pretrained import find_model

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))


class Runner(Protocol):
    def __call__(self, script: str, *arguments: object, exit_code: int = 0) -> tuple[str, str]: ...


def start(script: str, *arguments: object, cwd: Path, exit_code: int = 0) -> tuple[str, str]:
    """Run a script as a program in `cwd`, check its exit code, and return stdout and stderr."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / script), *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        timeout=300,
        encoding="utf-8",
    )
    assert done.returncode == exit_code, done.stderr
    return done.stdout, done.stderr


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Runner:
    """`start` in `tmp_path`, but in this process, which has the libraries loaded."""
    monkeypatch.chdir(tmp_path)

    def run(script: str, *arguments: object, exit_code: int = 0) -> tuple[str, str]:
        code: object = 0
        with monkeypatch.context() as patched:
            patched.setattr(sys, "argv", [str(EXAMPLES / script), *map(str, arguments)])
            try:
                runpy.run_path(str(EXAMPLES / script), run_name="__main__")
            except SystemExit as end:  # a text is printed by Python, and is exit code 1
                code = end.code or 0
        assert (code if isinstance(code, int) else 1) == exit_code, code
        return capsys.readouterr()

    return run


def streamed(noisy: np.ndarray, sample_rate: int) -> np.ndarray:
    """Enhanced samples `[num_samples]` of a stream that gets everything in one block."""
    stream = audioae.Stream(audioae.load_model("speech-16k"), sample_rate)
    return np.concatenate([stream.push(noisy[None]), stream.flush()], axis=-1)[0]


def imports_of(script: Path) -> set[str]:
    """Top-level names of the packages that a script imports."""
    found = set()
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return found


def test_every_script_is_listed_and_tested() -> None:
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    tests = Path(__file__).read_text(encoding="utf-8")
    for script in SCRIPTS:
        assert f"]({script.name})" in readme
        assert f'"{script.name}"' in tests
    assert len(SCRIPTS) >= 5


def test_denoise_folder_mirrors_the_tree_and_names_failures(tmp_path: Path, samples: Path) -> None:
    source = tmp_path / "in"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "a.wav").write_bytes((samples / "noisy.wav").read_bytes())
    (source / "notes.txt").write_text("not audio")
    start("denoise_folder.py", "in", "out", cwd=tmp_path)
    outputs = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert [path.relative_to(tmp_path).as_posix() for path in outputs] == ["out/sub/a.wav"]
    noisy, enhanced = (soundfile.info(path) for path in (source / "sub" / "a.wav", outputs[0]))
    assert (noisy.samplerate, noisy.frames) == (enhanced.samplerate, enhanced.frames)
    (source / "broken.wav").write_text("not audio")
    _, errors = start("denoise_folder.py", "in", "out2", cwd=tmp_path, exit_code=1)
    assert "broken.wav" in errors
    assert (tmp_path / "out2" / "sub" / "a.wav").exists()


def test_stream_tcp_equals_the_whole_file(run: Runner, tmp_path: Path, samples: Path) -> None:
    noisy, rate = soundfile.read(samples / "noisy.wav", dtype="float32")
    soundfile.write(tmp_path / "noisy.wav", noisy[: 2 * rate], rate, subtype="PCM_16")
    run("stream_tcp.py", "noisy.wav", "enhanced.wav")
    enhanced, _ = soundfile.read(tmp_path / "enhanced.wav", dtype="float32")
    assert enhanced == pytest.approx(streamed(noisy[: 2 * rate], rate), abs=1e-4)


def test_train_own_data_makes_a_model(run: Runner, tmp_path: Path, samples: Path) -> None:
    for package in ("torch", "pydantic", "safetensors"):
        pytest.importorskip(package)
    run(
        *("train_own_data.py", "--out", "run"),
        *("--set", "training.steps=2", "--set", "training.warmup_steps=1"),
        *("--set", "training.batch_size=2", "--set", "training.validation.pairs=2"),
        *("--set", "training.validation.seconds=1", "--set", "data.segment_seconds=0.5"),
    )
    noisy, enhanced = (
        soundfile.info(path) for path in (samples / "noisy.wav", tmp_path / "run" / "enhanced.wav")
    )
    assert noisy.frames == enhanced.frames
    assert (tmp_path / "run" / "best.safetensors").exists()


def test_compare_models_prints_a_row_for_each(run: Runner, tmp_path: Path, samples: Path) -> None:
    models = ("speech-16k", "speech-small-16k")
    metrics = ("si_sdr", "snr")  # need no extra
    arguments = (samples / "paired.csv", *models, "--metrics", *metrics)
    table, _ = run("compare_models.py", *arguments)
    rows = {line.split()[0]: line.split()[1:] for line in table.splitlines()[1:]}
    assert set(rows) == {"noisy", *models}
    assert all(len(cells) == len(metrics) for cells in rows.values())
    assert all(float(rows[model][0]) > float(rows["noisy"][0]) + 3 for model in models)


def test_onnx_only_needs_no_audioae_and_equals_it(
    run: Runner, tmp_path: Path, samples: Path
) -> None:
    others = imports_of(EXAMPLES / "onnx_only.py") - set(sys.stdlib_module_names)
    assert others == {"numpy", "onnxruntime", "soundfile"}
    model = find_model("speech-16k")
    run("onnx_only.py", model, samples / "noisy.wav", "enhanced.wav")
    enhanced, rate = soundfile.read(tmp_path / "enhanced.wav", dtype="float32")
    noisy, _ = soundfile.read(samples / "noisy.wav", dtype="float32")
    assert enhanced == pytest.approx(streamed(noisy, rate), abs=1e-4)


def test_onnx_only_refuses_models_with_look_ahead(
    run: Runner, tmp_path: Path, samples: Path
) -> None:
    run(
        *("onnx_only.py", find_model("conv1d-16k"), samples / "noisy.wav", "enhanced.wav"),
        exit_code=1,
    )
    assert not (tmp_path / "enhanced.wav").exists()
