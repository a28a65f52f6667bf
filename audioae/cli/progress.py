"""Progress on stderr: a bar, JSON lines, occasional lines for a log, or nothing."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import click

JSON_INTERVAL = 0.5  # seconds between two "progress" lines
FIRST_LINE = 30.0  # seconds to the first line of a log
LINE_INTERVAL = 180.0  # seconds between two lines of a log

progress_option = click.option(
    "--progress",
    type=click.Choice(["auto", "none", "bar", "json"]),
    default="auto",
    help="Progress on stderr: a bar on a terminal (auto), nothing, always a bar, or JSON lines.",
)


def progress_mode(mode: str, *, quiet: bool) -> str:
    """The mode of --progress; "auto" shows nothing with --quiet."""
    return "none" if quiet and mode == "auto" else mode


class Advance(Protocol):
    """Report that `amount` more is done. Notes such as `loss=0.12` are shown beside it until the
    next notes.
    """

    def __call__(self, amount: float, **notes: object) -> None: ...


@contextmanager
def show_progress(
    mode: str,
    label: str,
    *,
    total: float | None,
    unit: str,
    is_long: bool = False,
    knows_end: bool = False,
) -> Iterator[Advance]:
    """Show the progress of one piece of work.

    Args:
        mode: "auto", "none", "bar" or "json", the values of `--progress`.
        label: of the work, for example a file name.
        total: amount of work; None if it is unknown.
        unit: of `total` and of the amounts given to `Advance`: "s", "files", "steps".
        is_long: "auto" prints a line every few minutes if stderr is not a terminal.
        knows_end: the notes include the time left, so the bar does not show an estimate.
    """
    if mode == "auto":
        mode = "bar" if sys.stderr.isatty() else "lines" if is_long else "none"
    if mode == "bar":
        shown = _bar(label, total, unit, knows_end)
    else:
        shown = {"json": _json_lines, "lines": _lines, "none": _nothing}[mode](label, total, unit)
    with shown as advance:
        yield advance


class FilesProgress(Protocol):
    """Receives the progress of a batch, file by file, and lines to print above the bar."""

    def started(self, label: str, seconds: float) -> None:
        """A file of so many seconds of audio is started."""

    def advanced(self, label: str, seconds: float) -> None:
        """So many of its seconds are done in total."""

    def ended(self, label: str, error: str | None) -> None:
        """It is complete, or has failed with `error`."""

    def say(self, line: str) -> None:
        """Print a line on stderr."""


@contextmanager
def show_files(mode: str, *, files: int, seconds: float) -> Iterator[FilesProgress]:
    """Show the progress of a batch, in which several files may run at the same time.

    Args:
        mode: "auto", "none", "bar" (one bar for all files) or "json" (the lines of `show_progress`
            for each file).
        files: number of files.
        seconds: total duration of their audio.
    """
    if mode == "auto":
        mode = "bar" if sys.stderr.isatty() else "none"
    if mode == "bar":
        with _files_bar(files, seconds) as shown:
            yield shown
    else:
        yield _FilesJson() if mode == "json" else _FilesSilent()


class _FilesSilent:
    """Prints lines and errors, but no progress."""

    def started(self, label: str, seconds: float) -> None:
        pass

    def advanced(self, label: str, seconds: float) -> None:
        pass

    def ended(self, label: str, error: str | None) -> None:
        if error is not None:
            self.say(f"Error: {error}")

    def say(self, line: str) -> None:
        click.echo(line, err=True)


class _FilesJson(_FilesSilent):
    """Prints the events of `show_progress` for each file; other lines become events too."""

    def __init__(self) -> None:
        self._lines: dict[str, _JsonLines] = {}

    def started(self, label: str, seconds: float) -> None:
        self._lines[label] = _JsonLines(label, seconds, "s")
        self._lines[label].say("start")

    def advanced(self, label: str, seconds: float) -> None:
        self._lines[label].advance_to(seconds)

    def ended(self, label: str, error: str | None) -> None:
        lines = self._lines.pop(label, None) or _JsonLines(label, None, "s")
        if error is None:
            lines.say("done")
        else:
            lines.say("error", error=error)

    def say(self, line: str) -> None:
        click.echo(json.dumps({"event": "message", "text": line}), err=True)


@contextmanager
def _files_bar(files: int, seconds: float) -> Iterator[FilesProgress]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(file=sys.stderr, force_terminal=True)
    columns = [
        TextColumn("{task.fields[done]}" + f"/{files} files"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
    ]
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as bars:
        task = bars.add_task("", total=seconds, done=0)
        at: dict[str, tuple[float, float]] = {}  # seconds done, and in total
        ended = 0

        class Bar(_FilesSilent):
            def started(self, label: str, seconds: float) -> None:
                at[label] = 0.0, seconds

            def advanced(self, label: str, seconds: float) -> None:
                done, total = at[label]
                bars.update(task, advance=seconds - done)
                at[label] = seconds, total

            def ended(self, label: str, error: str | None) -> None:
                nonlocal ended
                ended += 1
                done, total = at.pop(label, (0.0, 0.0))
                bars.update(task, advance=total - done, done=ended)
                super().ended(label, error)

            def say(self, line: str) -> None:
                console.print(line, markup=False, highlight=False, soft_wrap=True)

        yield Bar()


@contextmanager
def _nothing(label: str, total: float | None, unit: str) -> Iterator[Advance]:
    yield lambda amount, **notes: None


@contextmanager
def _lines(label: str, total: float | None, unit: str) -> Iterator[Advance]:
    """Occasional lines for a log. The time to the first line starts at the first `Advance`."""
    done, next_at = 0.0, 0.0

    def advance(amount: float, **notes: object) -> None:
        nonlocal done, next_at
        done += amount
        next_at = next_at or time.monotonic() + FIRST_LINE
        if time.monotonic() >= next_at:
            next_at = time.monotonic() + LINE_INTERVAL
            so_far = f"{done:,.0f}" + ("" if total is None else f"/{total:,.0f}")
            parts = [f"{label}: {so_far} {unit}", *(f"{name} {notes[name]}" for name in notes)]
            click.echo(", ".join(parts), err=True)

    yield advance


@contextmanager
def _bar(label: str, total: float | None, unit: str, knows_end: bool) -> Iterator[Advance]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import (
        BarColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    done = "{task.completed:,.0f}" + ("" if total is None else "/{task.total:,.0f}") + f" {unit}"
    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn(done),
        TextColumn("{task.fields[notes]}"),
    ]
    times: list[ProgressColumn] = (
        [TimeElapsedColumn()] if knows_end else [TimeElapsedColumn(), TimeRemainingColumn()]
    )
    console = Console(file=sys.stderr, force_terminal=True)
    with Progress(*columns, *times, console=console) as bars:
        task = bars.add_task(escape(label), total=total, notes="")

        def advance(amount: float, **notes: object) -> None:
            shown = {}
            if notes:
                text = " ".join(f"{name} {value}" for name, value in notes.items())
                shown["notes"] = escape(text)
            bars.update(task, advance=amount, **shown)  # type: ignore[arg-type]

        yield advance


class _JsonLines:
    """JSON lines about one piece of work."""

    def __init__(self, label: str, total: float | None, unit: str) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done = 0.0
        self._next_at = 0.0  # the first progress line is not delayed: short files have one too

    def say(self, event: str, **more: object) -> None:
        line = {
            "event": event,
            "label": self.label,
            "done": self.done,
            "total": self.total,
            "unit": self.unit,
            **more,
        }
        click.echo(json.dumps(line), err=True)

    def advance_to(self, done: float, **notes: object) -> None:
        """Print a progress line, unless the last one is less than `JSON_INTERVAL` old."""
        self.done = done
        if time.monotonic() >= self._next_at:
            self._next_at = time.monotonic() + JSON_INTERVAL
            self.say("progress", **notes)


@contextmanager
def _json_lines(label: str, total: float | None, unit: str) -> Iterator[Advance]:
    lines = _JsonLines(label, total, unit)

    def advance(amount: float, **notes: object) -> None:
        lines.advance_to(lines.done + amount, **notes)

    lines.say("start")
    try:
        yield advance
    except BaseException as error:
        lines.say("error", error=str(error) or type(error).__name__)
        raise
    lines.say("done")
