"""`audioae --help` and `audioae denoise` import no slow library."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import audioae

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
    """The modules that a successful run of `audioae ARGUMENTS` imports."""
    ended = subprocess.run(
        [sys.executable, "-c", RUN, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    return set(ended.stderr.rpartition("loaded:")[2].split())


def test_importing_the_package_imports_no_module() -> None:
    code = "import sys, audioae; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert [name for name in loaded if name.startswith("audioae.") or name == "numpy"] == []


def test_help_imports_no_command_and_no_array_library() -> None:
    loaded = modules_loaded_by("--help")
    assert not loaded & {*HEAVY, "numpy", "onnxruntime", "soundfile", "rich"}
    assert [name for name in loaded if name.startswith("audioae.cli.")] == []


def test_denoise_imports_no_training_library(samples: Path, tmp_path: Path) -> None:
    loaded = modules_loaded_by("denoise", samples / "noisy.wav", tmp_path / "clean.wav")
    assert (tmp_path / "clean.wav").is_file()
    assert not loaded & HEAVY


def test_every_public_name_is_there_on_first_use() -> None:
    """In any order: importing one name must not replace another."""
    for names in (audioae.__all__, audioae.__all__[::-1]):
        code = (
            f"import audioae\nprint(*(type(getattr(audioae, name)).__name__ for name in {names!r}))"
        )
        kinds = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.split()
        assert "module" not in kinds and len(kinds) == len(names)
    assert set(audioae.__all__) <= set(dir(audioae))
