"""`audioae denoise IN OUT`: clean a recording."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from audioae.cli.progress import progress_option, show_progress

if TYPE_CHECKING:
    from audioae.engine import Engine
    from audioae.inference import FilePlan, FileResult


@click.command("denoise")
@click.argument("src", metavar="IN", type=click.Path(path_type=Path))
@click.argument("dst", metavar="OUT", type=click.Path(path_type=Path))
@click.option(
    "-m",
    "--model",
    metavar="NAME|PATH",
    help="A shipped model, an .onnx file, a checkpoint or a run folder.  [default: the best shipped model]",
)
@click.option(
    "--strength", type=float, default=1.0, metavar="0..1", help="0 leaves the recording untouched, 1 is full; scales the decibels."
)
@click.option("--max-attenuation", type=float, metavar="DB", help="Lower nothing by more than this many dB.  [default: no limit]")
@click.option(
    "--channels", type=click.Choice(["linked", "independent"]), default="linked", help="One gain for all channels, or one for each."
)
@click.option(
    "--residual", type=click.Path(path_type=Path), metavar="PATH", help="Write what is taken away: OUT + PATH = IN.  [default: not written]"
)
@click.option("--subtype", metavar="SUBTYPE", help="Sample format of the output, such as PCM_16, PCM_24, FLOAT.  [default: the input's]")
@click.option("-d", "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", help="Where the model runs.")
@click.option("--overwrite", is_flag=True, help="Replace outputs that exist.")
@click.option("--json", "as_json", is_flag=True, help="Print what was done as a JSON object on stdout.")
@progress_option
@click.option("-n", "--dry-run", is_flag=True, help="Check everything and say what would be done; write nothing.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
@click.option("-v", "--verbose", is_flag=True, help="Say more: the model, the formats, what happens above the model's band.")
def command(
    src: Path,
    dst: Path,
    model: str | None,
    strength: float,
    max_attenuation: float | None,
    channels: Any,
    residual: Path | None,
    subtype: str | None,
    device: str,
    overwrite: bool,
    as_json: bool,
    progress: str,
    dry_run: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Clean the recording IN into OUT.

    OUT keeps the sample rate, channels, length, container, bit depth and tags of IN, unless its name or an option says otherwise.
    It appears when it is complete; nothing is overwritten without --overwrite.
    """
    from audioae.inference import DenoiseSettings, plan_file, ready_engine, run_plan

    if quiet and verbose:
        raise click.UsageError("--quiet and --verbose exclude each other")
    settings = DenoiseSettings(strength, max_attenuation, channels)
    plan = plan_file(src, dst, overwrite=overwrite, residual=residual, subtype=subtype)
    engine = ready_engine(model, device=device)
    if verbose:
        click.echo(_preface(plan, engine), err=True)
    if dry_run:
        _report_plan(plan, engine, as_json=as_json, quiet=quiet)
        return
    mode = "none" if quiet and progress == "auto" else progress
    done = 0.0
    with show_progress(mode, src.name, total=plan.source.seconds, unit="s") as advance:

        def report(seconds: float) -> None:
            nonlocal done
            advance(seconds - done)
            done = seconds

        result = run_plan(plan, engine, settings=settings, overwrite=overwrite, progress=report)
    _report_result(result, as_json=as_json, quiet=quiet)


def _preface(plan: FilePlan, engine: Engine) -> str:
    """The model, the formats on both sides, and what becomes of what the model cannot hear."""
    source, output, rate = plan.source, plan.output, engine.info.stft.sample_rate
    form = f"{source.sample_rate} Hz, {source.channels} channels, {source.frames} samples"
    lines = [
        f"model: {engine.info.name}, {rate} Hz, {engine.info.parameters:,} parameters",
        f"in: {plan.src}, {source.container} {source.subtype}, {form}",
        f"out: {plan.dst}, {output.container} {output.subtype}, {form}",
    ]
    if source.sample_rate > rate:
        lines.append(f"above {rate / 2000:g} kHz, beyond the model's band: lowered by the smoothed gain of the top of that band")
    elif source.sample_rate < rate:
        lines.append(f"resampled to {rate} Hz for the model and back to {source.sample_rate} Hz")
    return "\n".join(lines)


def _report_plan(plan: FilePlan, engine: Engine, *, as_json: bool, quiet: bool) -> None:
    if not quiet:
        work = f"{plan.source.seconds:.2f} s with {engine.info.name}, {plan.output.container} {plan.output.subtype}"
        click.echo(f"{plan.src} -> {plan.dst}: {work}; a dry run, nothing is written", err=True)
    if as_json:
        click.echo(json.dumps({**plan.to_dict(), "model": engine.info.name, "dry_run": True}))


def _report_result(result: FileResult, *, as_json: bool, quiet: bool) -> None:
    if not quiet:
        speed = f" at {1 / result.real_time_factor:.0f} x real time" if result.real_time_factor else ""
        click.echo(f"{result.dst}: {result.seconds:.2f} s cleaned{speed}, {result.mean_attenuation_db:.1f} dB lower on the whole", err=True)
        for warning in result.warnings:
            click.echo(f"Warning: {result.dst}: {warning}", err=True)
    if as_json:
        click.echo(json.dumps(result.to_dict()))
