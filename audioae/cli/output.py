"""Run one file with a progress display, and print results: lines on stderr, JSON on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from audioae.cli.options import DenoiseOptions
from audioae.cli.progress import show_progress
from audioae.errors import counted

if TYPE_CHECKING:
    from audioae.denoising import FilePlan, FileResult
    from audioae.denoising.batch import PlannedFile
    from audioae.engine import Engine
    from audioae.pretrained import ModelInfo


def run_one(
    plan: FilePlan, engine: Engine, options: DenoiseOptions, label: str, *, model: Path
) -> tuple[FileResult, dict[str, Any] | None]:
    """Denoise one file with a progress display; raises what `run_plan` raises.

    Args:
        label: shown beside the progress.
        model: path of the model that `engine` runs.

    Returns:
        The result, and with --json the values to print.
    """
    from audioae.denoising import run_plan

    report_warnings(plan, options)
    done = 0.0
    with show_progress(options.progress_mode, label, total=plan.source.seconds, unit="s") as show:

        def advance(seconds: float) -> None:
            nonlocal done
            show(seconds - done)
            done = seconds

        result = run_plan(plan, engine, progress=advance)
    values = None
    if options.record or options.as_json:
        from audioae.denoising.provenance import describe, write_record

        if options.record:
            write_record(result, plan.job, model_path=model)
        values = describe(result, model) if options.as_json else None
    return result, values


def model_line(model: ModelInfo, quality: str) -> str:
    """The model and how it is used."""
    rate, size = model.stft.sample_rate, f"{model.parameters:,} parameters"
    return f"model: {model.name}, {rate} Hz, {size}, quality {quality}"


def preface(plan: FilePlan, model: ModelInfo) -> str:
    """The model, the formats of input and output, and what happens above the model's band."""
    source, output, rate = plan.source, plan.output, model.stft.sample_rate
    channels = counted(source.channels, "channel")
    form = f"{source.sample_rate} Hz, {channels}, {source.num_samples} samples"
    lines = [
        model_line(model, plan.job.settings.quality),
        f"in: {plan.job.src}, {source.container} {source.subtype}, {form}",
        f"out: {plan.job.dst}, {output.container} {output.subtype}, {form}",
    ]
    if source.sample_rate > rate:
        lines.append(
            f"above {rate / 2000:g} kHz, the model's band: attenuated by its smoothed gain at the "
            "top of that band"
        )
    elif source.sample_rate < rate:
        lines.append(f"resampled to {rate} Hz for the model and back to {source.sample_rate} Hz")
    return "\n".join(lines)


def report_plan(plan: FilePlan, model: str, options: DenoiseOptions) -> None:
    """Print what a dry run would have done."""
    job, output = plan.job, plan.output
    work = f"{plan.source.seconds:.2f} s with {model}, {output.container} {output.subtype}"
    options.say(f"{job.src} -> {job.dst}: {work}; dry run, nothing is written")
    report_warnings(plan, options)
    if options.as_json:
        print_json({**plan.to_dict(), "model": model, "dry_run": True})


def report_result(
    result: FileResult,
    values: dict[str, Any] | None,
    options: DenoiseOptions,
    known: Sequence[str] = (),
) -> None:
    """Print what was done to one file; `values` is its JSON object, `known` are the warnings that
    were printed before.
    """
    lines = warning_lines(result, known)
    for line in (summary(result), *assessment(result, options), *lines):
        options.say(line)
    if values is not None:
        print_json(values)


def summary(result: FileResult) -> str:
    """What was done to one file, in one line."""
    speed = f" at {1 / result.real_time_factor:.0f} x real time" if result.real_time_factor else ""
    attenuation = f"mean attenuation {result.mean_attenuation_db:.1f} dB"
    return f"{result.dst}: {result.seconds:.2f} s denoised{speed}, {attenuation}"


def assessment(result: FileResult, options: DenoiseOptions) -> list[str]:
    """The assessment of the output, with --verbose."""
    if not options.verbose or result.verdict is None:
        return []
    return [f"{result.dst}: {result.verdict.line}"]


def warning_lines(result: FileResult, known: Sequence[str] = ()) -> list[str]:
    """The warnings of a result, one line each, without those that are `known`."""
    new = [warning for warning in result.warnings if warning not in known]
    return [f"Warning: {result.dst}: {warning}" for warning in new]


def report_warnings(plan: FilePlan | PlannedFile, options: DenoiseOptions) -> None:
    """Print what the output cannot keep, before it is made."""
    for warning in plan.warnings:
        options.say(f"Warning: {plan.job.dst}: {warning}")


def print_json(values: dict[str, Any], out: IO[str] | None = None) -> None:
    """Print one object on one line and flush it; to `out`, or stdout."""
    out = out or sys.stdout
    if out is None:  # closed
        return
    click.echo(json.dumps(values, default=str), file=out)
    out.flush()
