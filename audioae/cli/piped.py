"""Commands with `-` as input or output: stdin and stdout, in place of files."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from audioae.cli.options import PIPE, DenoiseOptions
from audioae.cli.output import preface, print_json, report_plan, report_result, run_one
from audioae.cli.progress import show_progress
from audioae.errors import AudioFileError, OutputError

if TYPE_CHECKING:
    from audioae.denoising.batch.pipes import RawForm


def denoise_piped(src: Path, dst: Path, options: DenoiseOptions) -> None:
    """Denoise from stdin, to stdout, or both."""
    from audioae.denoising.batch.pipes import RawForm

    raw = RawForm.parse(options.raw) if options.raw else None
    if dst == PIPE and options.record:
        raise click.UsageError("--record writes a file beside OUT; give OUT a name instead of -")
    sink = checked_sink(as_json=options.as_json) if dst == PIPE else None
    if src == dst == PIPE and raw is not None:
        _stream(raw, options)
    else:
        _through_files(src, dst, sink, raw, options)


@contextmanager
def files_for_pipes(
    src: Path, dst: Path, suffix: str, *, overwrite: bool, as_json: bool
) -> Iterator[tuple[Path, Path]]:
    """Files in place of `-`, for a command that reads one file and writes another.

    stdin is read into a temporary file. After the block, what was written in place of stdout is
    sent there.

    Args:
        src, dst: as given to the command.
        suffix: of the file in place of stdout.
        overwrite: whether an existing `dst` may be replaced; checked before stdin is read.
        as_json: whether the command prints JSON on stdout.
    """
    from audioae.audio.writer import check_target
    from audioae.denoising.batch.pipes import pipe_folder, send, spool

    if PIPE not in (src, dst):
        yield src, dst
        return
    sink = checked_sink(as_json=as_json) if dst == PIPE else None
    if sink is None:
        check_target(dst, overwrite=overwrite)
    with pipe_folder() as folder:
        here = spool(_stdin(), folder / "stdin") if src == PIPE else src
        there = dst if sink is None else folder / f"stdout{suffix}"
        yield here, there
        if sink is not None:
            send(there, sink)


def checked_sink(*, as_json: bool) -> BinaryIO:
    """stdout, or a usage error if a file must not be written to it."""
    if as_json:
        raise click.UsageError("--json and OUT = - would both write to stdout; give OUT a name")
    sink = _stdout()
    if sink.isatty():
        raise click.UsageError(
            "refusing to write audio to a terminal; redirect stdout to a file or a program"
        )
    return sink


def _stdout() -> BinaryIO:
    if sys.stdout is None:  # `>&-` in a shell
        raise OutputError("stdout is closed; redirect it to a file or a program")
    return sys.stdout.buffer


def _stdin() -> BinaryIO:
    if sys.stdin is None:  # `<&-` in a shell
        raise AudioFileError("stdin is closed; expected a recording")
    return sys.stdin.buffer


def _stream(raw: RawForm, options: DenoiseOptions) -> None:
    """Denoise raw samples as they arrive."""
    from audioae.denoising import ready_engine
    from audioae.denoising.batch.pipes import denoise_raw

    needs_file = options.residual or options.dry_run or options.format
    if needs_file or options.file_job(PIPE, PIPE).file_options():
        raise click.UsageError(
            "--raw from - to - is denoised as it arrives; leave out --residual, --dry-run, "
            "--format, --subtype, --start, --end, --clip-mode and --normalize"
        )
    engine = ready_engine(options.model_path(), device=options.device)
    settings = options.settings
    source, sink = _stdin(), _stdout()
    done = 0.0
    with show_progress(options.progress_mode, "stdin", total=None, unit="s") as show:

        def advance(seconds: float) -> None:
            nonlocal done
            show(seconds - done)
            done = seconds

        result = denoise_raw(source, sink, raw, engine, settings=settings, progress=advance)
    seconds = result.num_samples / raw.sample_rate
    attenuation = f"mean attenuation {result.mean_attenuation_db:.1f} dB"
    options.say(f"stdout: {seconds:.2f} s denoised, {attenuation}")
    if result.num_clipped:
        options.say(f"Warning: {result.num_clipped} samples of the output were clipped")


def _through_files(
    src: Path, dst: Path, sink: BinaryIO | None, raw: RawForm | None, options: DenoiseOptions
) -> None:
    """Denoise through temporary files: at least one side has a header."""
    from audioae.audio.writer import check_target
    from audioae.denoising import choose_engine, plan_file, ready_engine
    from audioae.denoising.batch.pipes import check_raw, pipe_folder, receive, send

    model = options.model_path()
    engine = ready_engine(model, device=options.device)
    if sink is None:
        check_target(dst, overwrite=options.overwrite)  # before all of stdin is read
    with pipe_folder() as folder:
        here = src
        if src == PIPE:
            here = receive(_stdin(), folder, raw)
        elif src.is_fifo():
            with src.open("rb") as stream:
                here = receive(stream, folder, raw)
        target = dst if sink is None else folder / f"stdout{_suffix(here, raw, options)}"
        job = options.file_job(here, target, options.residual)
        plan = plan_file(dataclasses.replace(job, subtype=raw.subtype) if raw and sink else job)
        if raw and sink:
            check_raw(plan.source, raw)
        chosen = choose_engine(engine, plan.source.sample_rate, plan.job.settings.quality)
        if options.verbose:
            click.echo(preface(plan, chosen.info), err=True)
        if options.dry_run:
            report_plan(plan, chosen.info.name, options)
            return
        label = "stdin" if src == PIPE else src.name
        result, values = run_one(plan, engine, options, label, model=model)
        if sink is not None:
            send(target, sink, raw)
    report_result(dataclasses.replace(result, src=src, dst=dst), None, options, plan.warnings)
    if values is not None:
        values["src"] = values["input"]["path"] = str(src)
        print_json(values)


def _suffix(here: Path, raw: RawForm | None, options: DenoiseOptions) -> str:
    """The suffix of what goes to stdout: as asked for, or that of the input."""
    from audioae.denoising.batch import check_suffix

    if raw is not None:
        return ".wav"
    return check_suffix(options.format) if options.format else here.suffix
