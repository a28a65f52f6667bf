"""Looking at the help and cleaning a file load nothing heavy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HEAVY = {"torch", "torchaudio", "librosa", "scipy", "matplotlib", "numba", "pydantic", "onnx"}
RUN = """
import sys
from audioae.cli import main
try:
    main(sys.argv[1:], prog_name="audioae")
finally:
    print("loaded:", *sys.modules, file=sys.stderr)
"""


def modules_loaded_by(*arguments: str | Path) -> set[str]:
    """The modules that are loaded when `audioae ARGUMENTS` has ended well."""
    ended = subprocess.run(
        [sys.executable, "-c", RUN, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    return set(ended.stderr.rpartition("loaded:")[2].split())


def test_importing_the_package_loads_no_room() -> None:
    code = "import sys, audioae; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert [name for name in loaded if name.startswith("audioae.") or name == "numpy"] == []


def test_help_imports_no_command_and_no_array_library() -> None:
    loaded = modules_loaded_by("--help")
    assert not loaded & {*HEAVY, "numpy", "onnxruntime", "soundfile", "rich"}
    assert [name for name in loaded if name.startswith("audioae.cli.")] == []


def test_denoise_never_loads_a_training_library(samples: Path, tmp_path: Path) -> None:
    loaded = modules_loaded_by("denoise", samples / "noisy.wav", tmp_path / "clean.wav")
    assert (tmp_path / "clean.wav").is_file()
    assert not loaded & HEAVY
