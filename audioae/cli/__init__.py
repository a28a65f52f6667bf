"""The `audioae` command: a table of its commands, each imported when it is called, and the one door
that errors leave by.
"""

from __future__ import annotations

import errno
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from audioae import __version__
from audioae.errors import AudioaeError, nearest

# A command `name` is `command` in `audioae/cli/name.py`; what stands here is its first sentence, so
# that --help imports none of them.
COMMANDS = {
    "prepare": "Turn recordings of speech and noise into the folder DATA to train on.",
    "mix": "Mix prepared speech and noise into fixed pairs that any tool can score.",
    "train": "Train a denoiser from a recipe.",
    "export": "Export a checkpoint to an ONNX model that runs without torch.",
    "denoise": "Clean the recording IN into OUT.",
    "live": "Clean what a microphone hears, as it hears it.",
    "evaluate": "Evaluate a model on pairs of noisy and clean recordings.",
    "models": "List, describe and verify the models in the package.",
    "doctor": "Check this installation: packages, formats, devices, models.",
    "completion": "Print the script that lets SHELL complete commands, options, files and names "
    "of models.",
}

INTERRUPTED = 130  # what a shell reports for a program that SIGINT ended


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports one only to run it."""

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
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Hear `--debug` wherever it stands: it is added at the end, to a command that has just
        failed.
        """
        end = args.index("--") if "--" in args else len(args)
        if "--debug" in args[:end]:
            args = ["--debug", *(arg for arg in args[:end] if arg != "--debug"), *args[end:]]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        with door(ctx):
            return super().invoke(ctx)


@contextmanager
def door(ctx: click.Context) -> Iterator[None]:
    """Let an error out as one line on stderr and its exit code; usage errors and closed pipes are
    click's to report.
    """
    try:
        yield
    except AudioaeError as error:
        leave(ctx, error, str(error), error.exit_code)
    except (KeyboardInterrupt, click.Abort) as error:
        leave(ctx, error, "interrupted", INTERRUPTED)
    except (click.ClickException, click.exceptions.Exit):
        raise
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise
        leave(ctx, error, str(error), AudioaeError.exit_code)
    except Exception as error:
        hint = "run it again with --debug for the traceback"
        leave(
            ctx, error, f"internal: {type(error).__name__}: {error}; {hint}", AudioaeError.exit_code
        )


def leave(ctx: click.Context, error: BaseException, message: str, exit_code: int) -> None:
    """Print `Error: message` on one line, after the traceback when `--debug` was given, and exit."""
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
@click.option("--debug", is_flag=True, show_default=False, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Clean recordings with convolutional autoencoders, and train your own.

    Every option can come from the environment: AUDIOAE_DENOISE_MODEL is `audioae denoise --model`.
    Exit codes: 0 done, 1 a file failed, 2 usage, 3 a model or package is missing, 130 interrupted.
    """
