"""`audioae report`: a page for listening and looking, of recordings before and after denoising."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from audioae.cli.options import quiet_option
from audioae.cli.output import print_json
from audioae.cli.progress import progress_mode, progress_option, show_files, show_progress
from audioae.errors import counted

if TYPE_CHECKING:
    from audioae.cli.options import DenoiseOptions
    from audioae.denoising import FileJob, FileResult
    from audioae.web import FolderReport, Match, Provenance, Report

INDEX = "index.html"


@click.command("report")
@click.argument("before", metavar="IN", type=click.Path(path_type=Path))
@click.argument("after", metavar="[OUT]", required=False, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE|DIR",
    help="The page; for folders, the folder of the pages.  [default: the name of the last "
    "recording with .html]",
)
@click.option("--overwrite", is_flag=True, help="Replace existing pages.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object per page on stdout.")
@progress_option
@quiet_option
@click.pass_context
def command(
    ctx: click.Context,
    before: Path,
    after: Path | None,
    output: Path | None,
    overwrite: bool,
    as_json: bool,
    progress: str,
    quiet: bool,
) -> None:
    """Write a page to compare the recording IN and its denoised version OUT.

    The page plays before, after and removed (IN minus OUT) in sync and at the same loudness, and
    shows waveform, spectrogram, level, gain and measurements. It is one HTML file that needs no
    network. Without OUT it shows IN alone; nothing is denoised.

    Two folders are compared file by file: OUT has the same names as IN, other suffixes are
    accepted. DIR gets a page for each recording and index.html, the worst recordings first.

    Exit codes: 0 success, 1 some recordings failed, 2 usage error, 130 interrupted.
    """
    mode = progress_mode(progress, quiet=quiet)
    if before.is_dir() or (after is not None and after.is_dir()):
        if output is None:
            raise click.UsageError("a report of folders needs -o DIR")
        rows = _report_folders(before, after, output, overwrite, mode)
        _print_rows(rows, output, as_json=as_json, quiet=quiet)
        if any(row.report is None for row in rows):
            ctx.exit(1)
        return
    report = _report_file(before, after, output, overwrite, mode)
    if not quiet:
        click.echo(f"{report.path}: {report.seconds:.2f} s, {_size(report.num_bytes)}", err=True)
        for warning in report.warnings:
            click.echo(f"Warning: {report.path}: {warning}", err=True)
    if as_json:
        print_json({"status": "done", **report.to_dict()})


def _report_file(
    before: Path, after: Path | None, output: Path | None, overwrite: bool, mode: str
) -> Report:
    from audioae.web import page_path, write_report
    from audioae.web.origin import from_record

    last = after or before
    path = output if output is not None else last.with_name(page_path(Path(last.name)).name)
    done = 0.0
    with show_progress(mode, last.name, total=_seconds(last), unit="s") as show:

        def advance(seconds: float) -> None:
            nonlocal done
            show(seconds - done)
            done = seconds

        return write_report(
            path,
            before,
            after,
            provenance=None if after is None else from_record(after),
            overwrite=overwrite,
            progress=advance,
        )


def _report_folders(
    before: Path, after: Path | None, output: Path, overwrite: bool, mode: str
) -> list[FolderReport]:
    from audioae.web import match_folders, write_folder_report
    from audioae.web.origin import from_record

    matches = match_folders(before, after)
    lengths = {str(each.name): _seconds(each.before) or 0.0 for each in matches}
    with show_files(mode, files=len(matches), seconds=sum(lengths.values())) as shown:
        started: set[str] = set()

        def advance(match: Match, seconds: float) -> None:
            name = str(match.name)
            if name not in started:
                started.add(name)
                shown.started(name, lengths[name])
            shown.advanced(name, seconds)

        def end(row: FolderReport) -> None:
            name = str(row.match.name)
            if name not in started:
                shown.started(name, lengths[name])
            shown.ended(name, f"{row.match.before}: {row.error}" if row.error else None)

        return write_folder_report(
            matches,
            output,
            title=" → ".join(
                each.name or str(each) for each in (before, after) if each is not None
            ),
            overwrite=overwrite,
            provenance=lambda match: None if match.after is None else from_record(match.after),
            ended=end,
            progress=advance,
        )


def report_denoised(result: FileResult, job: FileJob, model: Path, options: DenoiseOptions) -> None:
    """Write the page of `audioae denoise --report` and print its name."""
    from audioae.web import write_report
    from audioae.web.origin import from_result

    assert options.report is not None
    report = write_report(
        options.report,
        result.src,
        result.dst,
        provenance=from_result(result, job, model),
        overwrite=options.overwrite,
    )
    options.say(f"{report.path}: report, {_size(report.num_bytes)}")


def report_batch(
    jobs: Sequence[FileJob],
    results: Mapping[Path, FileResult],
    model: Path,
    options: DenoiseOptions,
    say: Callable[[str], None],
) -> list[FolderReport]:
    """Write the pages and the index of `audioae denoise -O DIR --report FOLDER`.

    Pages of an earlier run that are newer than their recordings are kept.

    Args:
        jobs: all jobs of the batch whose output exists.
        results: of the jobs of this run, by input.
    """
    from audioae.web import Match, write_folder_report
    from audioae.web.origin import from_record, from_result

    assert options.report is not None and options.output_dir is not None
    top = options.output_dir
    by_name = {Path(os.path.relpath(job.dst, top)): job for job in jobs}

    def made(match: Match) -> Provenance | None:
        job = by_name[match.name]
        result = results.get(job.src)
        return from_record(job.dst) if result is None else from_result(result, job, model)

    rows = write_folder_report(
        [Match(name, job.src, job.dst) for name, job in by_name.items()],
        options.report,
        title=str(top),
        overwrite=options.overwrite,
        resume=True,
        provenance=made,
        ended=lambda row: say(f"Error: {row.error}") if row.error else None,
    )
    say(f"{options.report / INDEX}: {counted(len(rows), 'recording')}")
    return rows


def _seconds(path: Path) -> float | None:
    """The length of a recording for the progress display; None if it cannot be read."""
    from audioae.audio import info
    from audioae.errors import AudioaeError

    try:
        return info(path).seconds
    except AudioaeError:
        return None


def _print_rows(rows: list[FolderReport], output: Path, *, as_json: bool, quiet: bool) -> None:
    if as_json:
        for row in rows:
            print_json(row.to_dict())
    if not quiet:
        failed = sum(row.report is None for row in rows)
        pages = counted(len(rows) - failed, "page")
        more = f", {failed} failed" if failed else ""
        click.echo(f"{output / INDEX}: {pages}{more}", err=True)


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:.1f} MB" if num_bytes >= 1e5 else f"{num_bytes / 1e3:.0f} kB"
