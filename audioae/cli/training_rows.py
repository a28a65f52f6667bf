"""The lines that `audioae train` prints about a training."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import click

from audioae.cli.progress import Advance

if TYPE_CHECKING:
    from audioae.training import (
        AnyReport,
        Mixing,
        Noisy,
        ReconstructionReport,
        Report,
        Row,
        Start,
    )
    from audioae.training.recipe import Recipe


def show_rows(
    rows: Iterator[Row], plan: Recipe, advance: Advance, quiet: bool, as_json: bool
) -> bool:
    """Print the rows; returns whether there were any."""
    from audioae.errors import counted
    from audioae.training import AnyReport, Baseline, Mixing, Noisy, Progress, Start

    shown, left, any_rows = 0, 0.0, False
    for row in rows:
        any_rows = True
        if isinstance(row, Mixing):
            print_line(describe_mixing(row, plan.reconstructs), quiet)
        elif isinstance(row, Noisy):
            print_line(describe_noisy(row), quiet)
        elif isinstance(row, Baseline):
            print_line(f"mean spectrum as the answer: loss {row.baseline_loss:.5f}", quiet)
        elif isinstance(row, Start):
            print_line(describe_start(plan.name, row), quiet)
        elif isinstance(row, Progress):
            left = row.seconds_left
            notes = {
                "loss": f"{row.loss:.3f}",
                "audio": f"{row.audio_seconds_per_second:.0f} s/s",
                "left": f"about {duration(left)}",
            }
            advance(row.step - shown, **notes)
            shown = row.step
        else:
            is_over = 0 < plan.training.patience <= row.reports_since_best
            print_line(
                describe_report(row, None if is_over or row.step >= plan.training.steps else left),
                quiet,
            )
            if is_over and row.step < plan.training.steps and not row.averaged:
                print_line(
                    f"no improvement in {counted(row.reports_since_best, 'report')}: stopped at "
                    f"step {row.step:,}",
                    quiet,
                )
        if as_json and isinstance(row, (Noisy, Baseline, AnyReport)):
            click.echo(json.dumps(dataclasses.asdict(row)))
    return any_rows


def print_line(text: str, quiet: bool) -> None:
    """Print a line on stderr, unless quiet."""
    if not quiet:
        print(text, file=sys.stderr, flush=True)


def describe_start(name: str, row: Start) -> str:
    """A line with the size of the network and the data, and the predicted duration."""
    return (
        f"{name}: {row.parameters:,} parameters, {row.macs_per_second / 1e6:.0f} MMAC/s, "
        f"{duration(3600 * row.speech_hours)} of speech and {duration(3600 * row.noise_hours)} "
        "of noise, "
        f"steps {row.first_step:,} to {row.steps:,}, "
        f"{row.audio_seconds_per_second:.0f} audio-seconds per second, about "
        f"{duration(row.seconds_left)} left"
    )


def duration(seconds: float) -> str:
    """A duration in hours, minutes or seconds."""
    for unit, length in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.{0 if seconds >= 10 * length else 1}f} {unit}"
    return f"{seconds:.0f} s"


def describe_mixing(row: Mixing, reconstructs: bool) -> str:
    """A line about the validation set that is about to be made."""
    from audioae.errors import counted

    if reconstructs:
        sounds = counted(row.pairs, "validation sound")
        return f"reading {sounds} of {row.seconds:g} s"
    pairs = counted(row.pairs, "validation pair")
    return f"mixing {pairs} of {row.seconds:g} s and scoring the noisy side"


def describe_noisy(row: Noisy) -> str:
    """A line with the scores of the noisy validation mixtures."""
    return f"noisy baseline: {', '.join(describe_scores(row, 'noisy'))}"


def describe_report(row: AnyReport, seconds_left: float | None) -> str:
    """A line with the scores of a report, and the time left unless the run is over."""
    from audioae.errors import counted
    from audioae.training import ReconstructionReport, Report

    scores = [f"mean of {row.averaged} checkpoints" if row.averaged else f"loss {row.loss:.4f}"]
    if isinstance(row, ReconstructionReport):
        scores[-1:] = describe_reconstruction(row, scores[-1] if row.averaged else "")
    elif isinstance(row, Report):
        scores += describe_scores(row, "valid")
    skipped = f", {counted(row.skipped_steps, 'step')} skipped" if row.skipped_steps else ""
    left = "" if seconds_left is None else f", about {duration(seconds_left)} left"
    best = " (best)" if row.is_best else ""
    return f"step {row.step:,} ({row.audio_hours:.1f} h): {', '.join(scores)}{best}{skipped}{left}"


def describe_reconstruction(row: ReconstructionReport, averaged: str) -> list[str]:
    """The scores of an autoencoder; its losses are small numbers."""
    scores = [averaged or f"loss {row.loss:.5f}", f"valid {row.valid_loss:.5f}"]
    if row.valid_explained_variance is not None:
        scores.append(f"explained variance {row.valid_explained_variance:.3f}")
    scores.append(f"{row.valid_active_units} active units")
    scores.append(f"small latents {row.valid_small_share:.1%}")
    scores.append(f"{row.valid_active_values:.1f} active values per step")
    if row.valid_kl is not None:
        scores.append(f"KL {sum(row.valid_kl):.2f} nats per step")
    return scores


SCORES = {
    "loss": "valid {:.4f}",
    "si_sdr": "SI-SDR {:.2f} dB",
    "pesq": "PESQ {:.3f}",
    "stoi": "STOI {:.4f}",
    "ovrl": "OVRL {:.2f}",
    "lost_db": "speech -{:.1f} dB",
}


def describe_scores(row: Noisy | Report, side: Literal["noisy", "valid"]) -> list[str]:
    """The scores of one side that are not None."""
    values = {name: getattr(row, f"{side}_{name}") for name in SCORES}
    return [SCORES[name].format(value) for name, value in values.items() if value is not None]
