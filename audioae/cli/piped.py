"""`audioae denoise - OUT`, `IN -` and `- -`: stdin and stdout in place of files."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from audioae.cli.denoise import (
    PIPE,
    Options,
    preface,
    print_json,
    report_plan,
    told,
    verdict,
    warnings,
    with_progress,
)
from audioae.cli.progress import show_progress

if TYPE_CHECKING:
    from audioae.batch import Outcome
    from audioae.batch.pipes import RawForm


def denoise_piped(src: Path, dst: Path, options: Options) -> None:
    """Clean what comes, send what is clean; either may be a file."""
    from audioae.batch.pipes import RawForm

    raw = RawForm.parse(options.raw) if options.raw else None
    sink = _checked_sink(options) if dst == PIPE else None
    if src == dst == PIPE and raw is not None:
        _stream(raw, options)
    else:
        _through_files(src, dst, sink, raw, options)


def _checked_sink(options: Options) -> BinaryIO:
    if options.as_json:
        raise click.UsageError(
            "--json and - as OUT would both be written to stdout; give OUT a name"
        )
    if options.record:
        raise click.UsageError(
            "--record writes beside OUT, and stdout has no place; give OUT a name"
        )
    sink = sys.stdout.buffer
    if sink.isatty():
        raise click.UsageError(
            "stdout is a terminal, and OUT is no text; send it to a file or a program"
        )
    return sink


def _stream(raw: RawForm, options: Options) -> None:
    """Raw samples in and out, as they arrive."""
    from audioae.batch import Cleaner
    from audioae.batch.pipes import denoise_raw

    if options.residual or options.dry_run or options.format or options.plan_options():
        known = "--residual, --dry-run, --format, --subtype, --start, --end, --clip-mode and --normalize"
        raise click.UsageError(f"--raw from - to - is cleaned as it arrives; leave out {known}")
    cleaner = Cleaner(options.work(facts=False))
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    done = 0.0
    with show_progress(options.shown, "stdin", total=None, unit="s") as advance:

        def report(seconds: float) -> None:
            nonlocal done
            advance(seconds - done)
            done = seconds

        result = denoise_raw(
            source, sink, raw, cleaner.engine, settings=options.settings(), progress=report
        )
    if not options.quiet:
        seconds = result.num_samples / raw.sample_rate
        click.echo(
            f"stdout: {seconds:.2f} s cleaned, {result.mean_attenuation_db:.1f} dB lower on the "
            "whole",
            err=True,
        )
        if result.num_clipped:
            click.echo(
                f"Warning: {result.num_clipped} samples of the output were beyond full scale and "
                "were clamped",
                err=True,
            )


def _through_files(
    src: Path, dst: Path, sink: BinaryIO | None, raw: RawForm | None, options: Options
) -> None:
    """A recording with a header on at least one side: kept in a temporary folder where it comes or
    goes by a pipe.
    """
    from audioae.audio.writer import check_target
    from audioae.batch import Cleaner, Task
    from audioae.batch.pipes import check_raw, pipe_folder, receive, send
    from audioae.denoising import plan_file

    cleaner = Cleaner(options.work(facts=options.as_json))
    if sink is None:
        check_target(dst, overwrite=options.overwrite)  # before all of stdin is read
    with pipe_folder() as folder:
        here = receive(sys.stdin.buffer, folder, raw) if src == PIPE else src
        target = dst if sink is None else folder / f"stdout{_suffix(here, raw, options)}"
        asked = {**options.plan_options(), **({"subtype": raw.subtype} if raw and sink else {})}
        plan = plan_file(
            here, target, overwrite=options.overwrite, residual=options.residual, **asked
        )
        if raw and sink:
            check_raw(plan.source, raw)
        if options.verbose:
            click.echo(preface(plan, cleaner.engine.info), err=True)
        if options.dry_run:
            report_plan(plan, cleaner.engine.info.name, options)
            return
        outcome = with_progress(
            cleaner, Task(0, plan, options.overwrite), options, "stdin" if src == PIPE else src.name
        )
        if sink is not None:
            send(target, sink, raw)
    _report(outcome, src, dst, options)


def _suffix(here: Path, raw: RawForm | None, options: Options) -> str:
    """Of what goes to stdout: as asked, or as it came."""
    from audioae.batch import check_suffix

    if raw is not None:
        return ".wav"
    return check_suffix(options.format) if options.format else here.suffix


def _report(outcome: Outcome, src: Path, dst: Path, options: Options) -> None:
    """Say what was done, with `-` for the temporary files."""
    if outcome.result is None:
        return
    result = dataclasses.replace(outcome.result, src=src, dst=dst)
    if not options.quiet:
        for line in (told(result), *verdict(result, options), *warnings(result)):
            click.echo(line, err=True)
    if options.as_json:
        values = outcome.to_dict()
        values["src"] = values["input"]["path"] = str(src)
        print_json(values)
