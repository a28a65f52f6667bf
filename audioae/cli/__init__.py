"""The `audioae` command: a group that imports its commands when they are called, and reports errors
as one line and an exit code.

options, progress, output, completion   shared by the commands
denoise, with many and piped            one file, many files, stdin and stdout
live                                    audio devices
serve                                   the local web app
evaluate with scores, against_pca; models   scores, and the models in the package
compress, decompress, generate          codes and new sounds of autoencoders
embed, anomaly with anomaly_score       embeddings, and unusual sound
report, plot                            pages to look and listen, figures
prepare, mix, train with training_rows, export   training
doctor, with machine                    checks of the installation
"""

from __future__ import annotations

import errno
import importlib
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from audioae import __version__
from audioae.errors import AudioaeError, nearest

# The command `name` is the object `command` in `audioae/cli/name.py`. The text here is the first
# sentence of its help, so that `audioae --help` imports no command.
COMMANDS = {
    "prepare": "Prepare recordings of speech and noise for training.",
    "mix": "Mix prepared speech and noise into fixed noisy/clean pairs for evaluation.",
    "train": "Train a model from a recipe.",
    "export": "Export a checkpoint to an ONNX model that runs without torch.",
    "denoise": "Remove noise from the recording IN and write the result to OUT.",
    "live": "Denoise a microphone in real time.",
    "evaluate": "Evaluate models on pairs of noisy and clean recordings.",
    "compress": "Compress the recording IN to a small file with a trained autoencoder.",
    "decompress": "Restore a recording from a file that audioae compress wrote.",
    "embed": "Compute embeddings of the recordings IN: the latent of an autoencoder.",
    "anomaly": "Find unusual sound with an autoencoder of normal sound.",
    "generate": "Generate sounds with a variational autoencoder.",
    "serve": "Denoise recordings in the browser, with a web app on this machine.",
    "report": "Write a page to compare the recording IN and its denoised version OUT.",
    "plot": "Plot recordings, training runs or tables.",
    "models": "List, describe and verify the models in the package.",
    "doctor": "Check this installation: packages, formats, devices, models.",
    "completion": "Print a completion script for SHELL.",
}

# Commands that read recordings with libraries that print to stderr; --debug keeps their lines.
SILENCED = ("prepare", "denoise", "evaluate", "embed", "anomaly")
STDERR = 2  # its file descriptor
INTERRUPTED = 130  # the exit code that shells report for a program ended by SIGINT


class LazyGroup(click.Group):
    """A group of commands that are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(
            f"audioae.cli.{cmd_name.replace('-', '_')}"
        ).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            raise click.UsageError(f"No such command {name!r}{nearest(name, COMMANDS)}", ctx=ctx)
        if name in SILENCED and not ctx.params["debug"]:
            ctx.with_resource(libraries_silenced())
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Accept `--debug` anywhere in the line: users append it to a command that has failed."""
        end = args.index("--") if "--" in args else len(args)
        if "--debug" in args[:end]:
            args = ["--debug", *(arg for arg in args[:end] if arg != "--debug"), *args[end:]]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        with errors_reported(ctx), terminations_raised(), names_printable():
            return super().invoke(ctx)


@contextmanager
def terminations_raised() -> Iterator[None]:
    """Raise SIGTERM and SIGHUP as `SystemExit`, so that temporary files are removed.

    A second one ends the process at once. Signals that are ignored (nohup) stay ignored.
    """

    def terminate(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise SystemExit(128 + number)

    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, terminate)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def names_printable() -> Iterator[None]:
    """Print file names that are not valid text with escapes on stdout, as on stderr."""
    stdout = sys.stdout
    if not isinstance(stdout, io.TextIOWrapper) or stdout.errors != "strict":
        yield
        return
    stdout.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        stdout.reconfigure(errors="strict")


@contextmanager
def libraries_silenced() -> Iterator[None]:
    """Keep the lines that C libraries such as libmpg123 print out of stderr, where they would be
    among JSON lines or inside a progress bar.

    Their file descriptor becomes the null device, and `sys.stderr` a copy of it.
    """
    stderr = sys.stderr
    try:
        number = stderr.fileno()
    except (AttributeError, OSError, ValueError):  # closed, or replaced by a test
        number = -1
    if number != STDERR:
        yield
        return
    stderr.flush()
    copy = os.dup(STDERR)
    with open(copy, "w", 1, stderr.encoding, stderr.errors) as sys.stderr:
        try:
            with open(os.devnull, "wb") as null:
                os.dup2(null.fileno(), STDERR)
            yield
        finally:
            sys.stderr.flush()
            os.dup2(copy, STDERR)
            sys.stderr = stderr


@contextmanager
def errors_reported(ctx: click.Context) -> Iterator[None]:
    """Report an error raised inside as one line on stderr, and exit with its exit code.

    Usage errors and closed pipes are left to click.
    """
    try:
        yield
    except AudioaeError as error:
        exit_with(ctx, error, str(error), error.exit_code)
    except (KeyboardInterrupt, click.Abort) as error:
        exit_with(ctx, error, "interrupted", INTERRUPTED)
    except (click.ClickException, click.exceptions.Exit):
        raise
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise
        exit_with(ctx, error, str(error), AudioaeError.exit_code)
    except Exception as error:
        hint = "run it again with --debug for the traceback"
        message = f"internal: {type(error).__name__}: {error}; {hint}"
        exit_with(ctx, error, message, AudioaeError.exit_code)


def exit_with(ctx: click.Context, error: BaseException, message: str, exit_code: int) -> None:
    """Print `Error: message` on one line and exit. With `--debug`, print the traceback before."""
    if ctx.params["debug"]:
        import traceback

        traceback.print_exception(error, file=sys.stderr)
    click.echo(f"Error: {' '.join(message.splitlines())}", err=True)
    ctx.exit(exit_code)


@click.group(
    cls=LazyGroup,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": "AUDIOAE",
        "show_default": True,
    },
)
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.option(
    "--debug", is_flag=True, show_default=False, help="Show the traceback if an error occurs."
)
def main(debug: bool) -> None:
    """Denoise audio with convolutional autoencoders, and train your own models.

    Options can be set by environment variables: AUDIOAE_DENOISE_MODEL sets --model of `audioae
    denoise`.

    Exit codes: 0 success, 1 some files failed, 2 usage error, 3 model or package missing or
    damaged, 130 interrupted.
    """
