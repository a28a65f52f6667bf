"""How far a command has come, on stderr: a bar for people, JSON lines for programs, or nothing."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import click

JSON_INTERVAL = 0.5  # seconds between two "progress" lines

progress_option = click.option(
    "--progress",
    type=click.Choice(["auto", "none", "bar", "json"]),
    default="auto",
    help="Progress on stderr: a bar when it is a terminal (auto), nothing, a bar in any case, or JSON lines.",
)


class Advance(Protocol):
    """Say that `amount` more is done; notes such as `loss=0.12` are shown beside it until the next ones."""

    def __call__(self, amount: float, **notes: object) -> None: ...


@contextmanager
def show_progress(mode: str, label: str, *, total: float | None, unit: str) -> Iterator[Advance]:
    """Show one piece of work from its start to its end, as `--progress` asks.

    Args:
        mode: "auto", "none", "bar" or "json".
        label: what is worked on, a file's name for example.
        total: how much there is to do, None when that is not known.
        unit: of `total` and of what `Advance` is given: "s", "files", "steps".
    """
    if mode == "auto":
        mode = "bar" if sys.stderr.isatty() else "none"
    show = {"bar": _bar, "json": _json_lines, "none": _nothing}[mode]
    with show(label, total, unit) as advance:
        yield advance


@contextmanager
def _nothing(label: str, total: float | None, unit: str) -> Iterator[Advance]:
    yield lambda amount, **notes: None


@contextmanager
def _bar(label: str, total: float | None, unit: str) -> Iterator[Advance]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    done = "{task.completed:,.0f}" + ("" if total is None else "/{task.total:,.0f}") + f" {unit}"
    columns = [TextColumn("{task.description}"), BarColumn(), TextColumn(done), TextColumn("{task.fields[notes]}")]
    console = Console(file=sys.stderr, force_terminal=True)
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as bars:
        task = bars.add_task(escape(label), total=total, notes="")

        def advance(amount: float, **notes: object) -> None:
            shown = {"notes": escape(" ".join(f"{name} {value}" for name, value in notes.items()))} if notes else {}
            bars.update(task, advance=amount, **shown)  # type: ignore[arg-type]

        yield advance


@contextmanager
def _json_lines(label: str, total: float | None, unit: str) -> Iterator[Advance]:
    done, said_at = 0.0, time.monotonic()

    def say(event: str, **more: object) -> None:
        click.echo(json.dumps({"event": event, "label": label, "done": done, "total": total, "unit": unit, **more}), err=True)

    def advance(amount: float, **notes: object) -> None:
        nonlocal done, said_at
        done += amount
        if time.monotonic() - said_at >= JSON_INTERVAL:
            said_at = time.monotonic()
            say("progress", **notes)

    say("start")
    try:
        yield advance
    except BaseException as error:
        say("error", error=str(error) or type(error).__name__)
        raise
    say("done")
