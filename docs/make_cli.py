"""Write docs/cli.md from the parser: every command with its arguments and options.

The page does not depend on the terminal or the environment.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import click

from audioae.cli import main

PAGE = Path(__file__).with_name("cli.md")
HEAD = """# The command line

Every command of `audioae` with its arguments and options, as `audioae COMMAND --help` prints them.
This page is written by `python docs/make_cli.py`; to change it, change the command.
"""


def render() -> str:
    """The page as Markdown."""
    return (
        "\n".join(
            [
                HEAD,
                *_sections(main, click.Context(main, info_name="audioae", **main.context_settings)),
            ]
        ).rstrip()
        + "\n"
    )


def _sections(command: click.Command, context: click.Context) -> Iterator[str]:
    yield _section(command, context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None and not inner.hidden:
                yield from _sections(inner, click.Context(inner, info_name=name, parent=context))


def _section(command: click.Command, context: click.Context) -> str:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    parts = [f"## {context.command_path}", f"```\n{usage}\n```", *_paragraphs(command.help or "")]
    records = [
        record
        for parameter in command.get_params(context)
        if (record := parameter.get_help_record(context)) and record[1]
    ]
    if records:
        rows = [f"| `{_cell(names)}` | {_cell(meaning)} |" for names, meaning in records]
        parts.append("\n".join(["| option | meaning |", "|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def _paragraphs(text: str) -> Iterator[str]:
    """The help text as Markdown; paragraphs that click does not wrap (\\b) become code blocks."""
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        if paragraph.startswith("\b\n"):
            yield f"```\n{paragraph[2:]}\n```"
        else:
            yield paragraph.replace("<", "&lt;")


def _cell(text: str) -> str:
    """One cell of a table. "[default: 1] [x>=1]" would be a link in Markdown."""
    return " ".join(text.split()).replace("|", "\\|").replace("] [", "; ")


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
