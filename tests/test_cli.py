"""The command line: the table of commands, their help, exit codes and error messages."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from fake_models import write_half_model
from test_gain_tags import id3

import audioae
from audioae import __version__, errors
from audioae.cli import COMMANDS, main


def all_commands() -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command and subcommand, with the words that call it."""
    context = click.Context(main)
    for name in COMMANDS:
        command = main.get_command(context, name)
        assert command is not None
        yield (name,), command
        if isinstance(command, click.Group):
            yield from (((name, part), inner) for part, inner in command.commands.items())


def invoke(*arguments: str, **more: object) -> Result:
    return CliRunner().invoke(main, list(arguments), prog_name="audioae", **more)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., None]], None]:
    """`fake(function)` makes `audioae fake --strength X` call `function(X)`."""

    def install(function: Callable[..., None]) -> None:
        command = click.Command(
            "fake",
            callback=function,
            params=[click.Option(["--strength"], type=float, default=1.0)],
        )
        monkeypatch.setitem(sys.modules, "audioae.cli.fake", types.SimpleNamespace(command=command))
        monkeypatch.setitem(COMMANDS, "fake", "A command for tests.")

    return install


def raising(error: BaseException) -> Callable[..., None]:
    def function(strength: float) -> None:
        raise error

    return function


# --- help


@pytest.mark.parametrize("arguments", [(), ("-h",), ("--help",)])
def test_help_names_every_command(arguments: tuple[str, ...]) -> None:
    shown = " ".join(invoke(*arguments).output.split())
    assert all(name in shown and text in shown for name, text in COMMANDS.items())


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_has_the_first_sentence_of_the_help(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None and command.help is not None
    assert " ".join(command.help.split()).startswith(COMMANDS[name].rstrip("."))


def test_every_command_has_h_and_help_for_every_option() -> None:
    for path, command in all_commands():
        short, long = invoke(*path, "-h"), invoke(*path, "--help")
        assert (short.exit_code, short.output) == (0, long.output), path
        for option in command.params:
            if isinstance(option, click.Option):
                assert option.help, f"{' '.join(path)} {option.opts} has no help"
                words = [name for name in option.opts if name.startswith("--")]
                assert all(name == name.lower() and "_" not in name for name in words), (
                    f"{path} {words} are not kebab-case"
                )


def test_version_is_the_newest_of_the_changelog(pytestconfig: pytest.Config) -> None:
    assert invoke("--version").output == f"audioae {__version__}\n"
    changelog = (pytestconfig.rootpath / "CHANGELOG.md").read_text(encoding="utf-8")
    sections = [each.split()[0] for each in changelog.split("\n## ")[1:]]
    assert next(each for each in sections if each != "Unreleased") == __version__


# --- usage


def test_an_unknown_command_names_the_nearest() -> None:
    result = invoke("denose")
    assert result.exit_code == 2
    assert "No such command 'denose'; did you mean 'denoise'?" in result.stderr


@pytest.mark.parametrize(
    "arguments", [("--colour",), ("denoise", "--strenth", "1", "in.wav", "out.wav"), ("qqqq",)]
)
def test_wrong_usage_exits_with_2_and_prints_to_stderr(arguments: tuple[str, ...]) -> None:
    result = invoke(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Error: No such" in result.stderr


def test_an_option_can_come_from_the_environment(fake: Callable[..., None]) -> None:
    seen: list[float] = []
    fake(lambda strength: seen.append(strength))
    assert invoke("fake", env={"AUDIOAE_FAKE_STRENGTH": "0.25"}).exit_code == 0
    assert seen == [0.25]


# --- errors


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (errors.AudioFileError("in.wav is a folder; give a file"), 1),
        (errors.OutputError("out.wav exists"), 1),
        (errors.SettingsError("no setting 'x'"), 2),
        (errors.ModelNotFoundError("no model 'x'"), 3),
        (errors.DependencyError("torch is not installed"), 3),
        (PermissionError(13, "Permission denied", "out.wav"), 1),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    fake: Callable[..., None], error: Exception, exit_code: int
) -> None:
    fake(raising(error))
    result = invoke("fake")
    assert (result.exit_code, result.stdout, result.stderr) == (exit_code, "", f"Error: {error}\n")


def test_an_error_of_several_lines_becomes_one(fake: Callable[..., None]) -> None:
    fake(raising(errors.DataError("first\nsecond")))
    assert invoke("fake").stderr == "Error: first second\n"


def test_a_bug_is_reported_as_internal(fake: Callable[..., None]) -> None:
    fake(raising(ZeroDivisionError("division by zero")))
    result = invoke("fake")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "Error: internal: ZeroDivisionError: division by zero; run it again with --debug for the "
        "traceback"
    ]


@pytest.mark.parametrize(
    "arguments", [("--debug", "fake"), ("fake", "--debug"), ("fake", "--strength", "1", "--debug")]
)
def test_debug_shows_the_traceback_anywhere_in_the_line(
    fake: Callable[..., None], arguments: tuple[str, ...]
) -> None:
    fake(raising(errors.DataError("no rows")))
    result = invoke(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Traceback") and result.stderr.endswith("\nError: no rows\n")


def test_after_two_dashes_debug_is_a_file_name(fake: Callable[..., None]) -> None:
    fake(raising(errors.DataError("no rows")))
    result = invoke("fake", "--", "--debug")
    assert result.exit_code == 2 and "unexpected extra argument" in result.stderr


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_an_interrupt_exits_with_130(fake: Callable[..., None], error: BaseException) -> None:
    fake(raising(error))
    result = invoke("fake")
    assert (result.exit_code, result.stderr) == (130, "Error: interrupted\n")


SLEEPER = """
import sys, time, types, click
from audioae import cli
def sleep():
    print("ready", flush=True)
    time.sleep(30)
fake = click.Command("fake", callback=sleep)
sys.modules["audioae.cli.fake"] = types.SimpleNamespace(command=fake)
cli.COMMANDS["fake"] = "Sleeps."
cli.main(["fake"], prog_name="audioae")
"""


@pytest.mark.skipif(os.name == "nt", reason="SIGINT cannot be sent to one process on Windows")
def test_sigint_ends_the_process_with_130() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SLEEPER], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=20)[1] == "Error: interrupted\n"
    assert process.returncode == 130


def test_a_closed_pipe_is_quiet() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "wb") as closed:
        ended = subprocess.run(
            [sys.executable, "-m", "audioae", "--help"],
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert ended.stderr == ""


# --- the public names


def test_public_names_resolve_and_others_do_not() -> None:
    for name in audioae.__all__:
        assert getattr(audioae, name) is not None
        assert name in dir(audioae)
    with pytest.raises(AttributeError, match="no attribute 'denoize'"):
        audioae.denoize  # noqa: B018


@pytest.mark.parametrize("ended", [KeyboardInterrupt(), SystemExit(143)], ids=["SIGINT", "SIGTERM"])
def test_a_signal_while_a_package_is_initialised_is_no_import_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: BaseException
) -> None:
    """pybind11 turns any exception in the initialisation of a module into an ImportError."""
    text = f"try:\n    raise {ended!r}\nexcept BaseException as error:\n    raise ImportError"
    name = f"interrupted_by_{type(ended).__name__}"
    (tmp_path / f"{name}.py").write_text(f"{text}('failed') from error\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(type(ended)) as raised:
        errors.require(name, extra="train")
    assert raised.value.args == ended.args


@pytest.mark.skipif(os.name != "posix", reason="needs the signals of a POSIX system")
def test_an_interrupt_while_modules_are_imported_ends_without_a_traceback(tmp_path: Path) -> None:
    stub = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n"
    (tmp_path / "click.py").write_text(stub)
    places = os.pathsep.join([str(tmp_path), str(Path(audioae.__file__).parents[1])])
    for restore in ("default_int_handler", "SIG_IGN"):
        code = (
            f"import signal; signal.signal(signal.SIGINT, signal.{restore}); "
            "from audioae.__main__ import run; run()"
        )
        ended = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": places},
        )
        if restore == "SIG_IGN":  # as set by nohup: the stub has no commands
            assert ended.returncode == 1 and "KeyboardInterrupt" not in ended.stderr
        else:
            assert (ended.returncode, ended.stderr) == (-signal.SIGINT, "")


def test_lines_of_c_libraries_do_not_reach_stderr(tmp_path: Path) -> None:
    """libmpg123 prints a warning about this ID3 tag."""
    src = tmp_path / "in.mp3"
    soundfile.write(src, np.random.default_rng(0).normal(0, 0.1, 16000), 16000)
    src.write_bytes(id3(3) + src.read_bytes())
    command = [sys.executable, "-m", "audioae", "denoise", str(src), str(tmp_path / "out.mp3")]
    model = ["-m", str(write_half_model(tmp_path / "half.onnx")), "--overwrite"]
    said = {}
    for more in (["--progress", "json"], ["-q"], ["-q", "--debug"]):
        ended = subprocess.run([*command, *model, *more], capture_output=True, text=True)
        assert ended.returncode == 0
        said[more[-1]] = ended.stderr
    assert "done" in said["json"]
    assert set(said["json"].splitlines()).isdisjoint(said["--debug"].splitlines())
    assert said["-q"] == ""
    if not said["--debug"]:
        pytest.skip("this libmpg123 does not print about this tag")


def test_names_that_are_no_text_are_printed_with_escapes(fake: Callable[..., None]) -> None:
    fake(lambda strength: click.echo(os.fsdecode(b"a\xe9.wav")))
    result = invoke("fake")
    assert (result.exit_code, result.stdout) == (0, "a\\udce9.wav\n")
