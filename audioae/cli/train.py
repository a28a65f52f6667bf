"""`audioae train`: a recipe and prepared data become a run folder."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from audioae.cli.progress import progress_option, show_progress

if TYPE_CHECKING:
    from audioae.training import Report, Start


@click.command("train")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--data", required=True, type=click.Path(path_type=Path), metavar="DATA", help="Folder that audioae prepare wrote.")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="RUN", help="Run folder: checkpoints and history.jsonl.")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a recipe key, such as training.steps=1000.  [default: none]"
)
@click.option("--json", "as_json", is_flag=True, help="Print every report as a JSON object on stdout.")
@progress_option
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
def command(recipe: Path, data: Path, out: Path, overrides: tuple[str, ...], as_json: bool, progress: str, quiet: bool) -> None:
    """Train a denoiser from a recipe.

    A run that was interrupted goes on where it was: give the same command again. Ctrl-C ends a run after the step that it is in.
    Several processes: torchrun --nproc-per-node=2 -m audioae train ...
    """
    from audioae.errors import require

    require("torch", extra="train")
    from audioae.recipe import read_recipe
    from audioae.training import Progress, Start, fit

    plan = read_recipe(recipe, overrides)
    first_process = os.environ.get("RANK", "0") == "0"
    quiet = quiet or not first_process
    mode = "none" if quiet and (progress == "auto" or not first_process) else progress
    with (
        listen_for_interrupt() as interrupted,
        show_progress(mode, plan.name, total=plan.training.steps, unit="steps") as advance,
    ):
        about = {"recipe": plan.to_dict()}
        rows = fit(plan.build(), plan.training, plan.data, folder=data, out=out, about=about, stop=lambda: bool(interrupted))
        shown = 0
        for row in rows:
            if isinstance(row, Start):
                say(describe_start(plan.name, row), quiet)
            elif isinstance(row, Progress):
                notes = {"loss": f"{row.loss:.3f}", "audio": f"{row.audio_seconds_per_second:.0f} s/s"}
                advance(row.step - shown, **notes)
                shown = row.step
            else:
                say(describe_report(row), quiet)
                if as_json:
                    click.echo(json.dumps(dataclasses.asdict(row)))
        if interrupted:
            raise KeyboardInterrupt
        if not shown:
            say(f"{plan.name}: {out} has taken all {plan.training.steps:,} steps; ask for more with --set training.steps=N", quiet)


@contextmanager
def listen_for_interrupt() -> Iterator[list[int]]:
    """A list that the first SIGINT or SIGTERM adds itself to; the second acts as usual."""
    heard: list[int] = []

    def hear(number: int, frame: object) -> None:
        heard.append(number)
        signal.signal(number, signal.default_int_handler)

    before = {number: signal.signal(number, hear) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def say(text: str, quiet: bool) -> None:
    """A line on stderr."""
    if not quiet:
        print(text, file=sys.stderr, flush=True)


def describe_start(name: str, row: Start) -> str:
    """The line of truth."""
    return (
        f"{name}: {row.parameters:,} parameters, {row.macs_per_second / 1e6:.0f} MMAC/s, "
        f"{duration(3600 * row.speech_hours)} of speech and {duration(3600 * row.noise_hours)} of noise, "
        f"steps {row.first_step:,} to {row.steps:,}, "
        f"{row.audio_seconds_per_second:.0f} audio-seconds per second, about {duration(row.seconds_left)} left"
    )


def duration(seconds: float) -> str:
    """A time in the unit that suits it."""
    for unit, length in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.{0 if seconds >= 10 * length else 1}f} {unit}"
    return f"{seconds:.0f} s"


def describe_report(row: Report) -> str:
    """A validation in a line."""
    scores = [f"loss {row.loss:.4f}"]
    scores += [f"valid {row.valid_loss:.4f}"] if row.valid_loss is not None else []
    scores += [f"SI-SDR {row.valid_si_sdr:.2f} dB"] if row.valid_si_sdr is not None else []
    scores += [f"PESQ {row.valid_pesq:.3f}"] if row.valid_pesq is not None else []
    scores += [f"STOI {row.valid_stoi:.4f}"] if row.valid_stoi is not None else []
    skipped = f", {row.skipped_steps} steps skipped" if row.skipped_steps else ""
    return f"step {row.step:,} ({row.audio_hours:.1f} h): {', '.join(scores)}{' (best)' if row.is_best else ''}{skipped}"
