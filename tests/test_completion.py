"""Completion: the scripts for the shells, and the completed commands, options, files and models."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from audioae.cli import COMMANDS, main
from audioae.cli.completion import SHELLS, complete_models
from audioae.pretrained import ModelEntry, registry

CHECKOUT = Path(__file__).parents[1]


def script(shell: str) -> str:
    result = CliRunner().invoke(main, ["completion", shell], prog_name="audioae")
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def completions(*words: str) -> list[str]:
    """The completions of `audioae WORDS`, whose last word is incomplete."""
    complete = ShellComplete(main, {}, "audioae", "_AUDIOAE_COMPLETE")
    return [
        item.value if item.type == "plain" else item.type
        for item in complete.get_completions(list(words[:-1]), words[-1])
    ]


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_has_a_script_that_calls_audioae(shell: str) -> None:
    text = script(shell)
    assert f"_AUDIOAE_COMPLETE={shell}_complete" in text
    assert "\r" not in text
    if program := shutil.which(shell):
        # reads the script without running it
        subprocess.run([program, "-n"], input=text, text=True, check=True, timeout=20)


def test_an_unknown_shell_is_a_usage_error() -> None:
    result = CliRunner().invoke(main, ["completion", "tcsh"], prog_name="audioae")
    assert (result.exit_code, result.stdout) == (2, "")


def test_commands_options_choices_and_files_are_completed() -> None:
    assert completions("") == list(COMMANDS)
    assert completions("den") == ["denoise"]
    assert completions("models", "v") == ["verify"]
    assert "--strength" in completions("denoise", "--s")
    assert completions("denoise", "--channels", "l") == ["linked"]
    assert completions("denoise", "") == ["file"]


@pytest.fixture
def two_models(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [
        ModelEntry(name, f"{name}/model.onnx", "0" * 64) for name in ("speech-16k", "speech-48k")
    ]
    monkeypatch.setattr("audioae.pretrained.list_models", lambda: entries)
    monkeypatch.setattr("audioae.pretrained.list_denoisers", lambda: entries[:1])


def model_completions(incomplete: str) -> list[tuple[str, str]]:
    items = complete_models(click.Context(main), click.Option(["--model"]), incomplete)
    return [(item.type, item.value) for item in items]


def test_model_names_are_completed_and_otherwise_paths(two_models: None) -> None:
    assert model_completions("") == [("plain", "speech-16k"), ("plain", "speech-48k")]
    assert model_completions("speech-4") == [("plain", "speech-48k")]
    assert model_completions("runs/") == [("file", "runs/")]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (("denoise", "-m", ""), ["speech-16k"]),  # denoisers only
        (("denoise", "--model", ""), ["speech-16k"]),
        (("live", "--model", ""), ["speech-16k"]),
        (("evaluate", "--model", ""), ["speech-16k", "speech-48k"]),
        (("models", "info", ""), ["speech-16k", "speech-48k"]),
    ],
)
def test_models_are_completed_where_a_command_takes_one(
    two_models: None, words: tuple[str, ...], names: list[str]
) -> None:
    assert completions(*words) == names


def test_a_damaged_installation_does_not_disturb_the_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "WEIGHTS", tmp_path)
    assert model_completions("sp") == [("file", "sp")]


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash here")
def test_bash_completes_a_real_line(tmp_path: Path) -> None:
    program = tmp_path / "audioae"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m audioae "$@"\n')
    program.chmod(0o755)
    line = (
        "COMP_WORDS=(audioae denoise --channels in); COMP_CWORD=3; _audioae_completion audioae; "
        'echo "${COMPREPLY[@]}"'
    )
    env = {
        **os.environ,
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(CHECKOUT),
    }
    command = ["bash", "--norc", "-c", f'eval "$(audioae completion bash)"\n{line}']
    ended = subprocess.run(command, capture_output=True, text=True, env=env, timeout=60)
    assert (ended.stdout, ended.stderr) == ("independent\n", "")


def test_completing_loads_nothing_heavy() -> None:
    code = (
        "import sys; from audioae.cli import main\n"
        "try: main(prog_name='audioae')\n"
        "finally: print('loaded:', *sys.modules)"
    )
    env = {
        **os.environ,
        "_AUDIOAE_COMPLETE": "bash_complete",
        "COMP_WORDS": "audioae ",
        "COMP_CWORD": "1",
        "PYTHONPATH": str(CHECKOUT),
    }
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=60
    )
    answer, _, loaded = ended.stdout.partition("loaded:")
    assert answer.split() == [f"plain,{name}" for name in COMMANDS]
    assert not {"numpy", "torch", "onnxruntime", "soundfile", "rich"} & set(loaded.split())
