"""`audioae prepare`: prepare corpora, folders and tables of recordings for training, or check
prepared data.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from audioae.cli.options import quiet_option
from audioae.cli.progress import Advance, progress_mode, progress_option, show_progress

if TYPE_CHECKING:
    from rich.table import Table

    from audioae.data.corpora.download import Fetch
    from audioae.data.prepare import PrepareProgress, Summary
    from audioae.data.prepare.measure import Finding

SEVERAL = ("--speech", "--noise", "--rir")


class SeveralValues(click.Command):
    """A command in which `--speech A B` means `--speech A --speech B`, so that shell globs work."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, list(_spread(args)))


def _spread(args: list[str]) -> Iterator[str]:
    option, values = "", 0
    for arg in args:
        if arg.startswith("-"):
            option, values = arg if arg in SEVERAL else "", 0
        else:
            if option and values:
                yield option
            values += 1
        yield arg


@click.command("prepare", cls=SeveralValues)
@click.argument("corpora", nargs=-1, metavar="[CORPUS]...")
@click.option(
    "--root",
    default="corpora",
    metavar="DIR",
    help="Folder with the corpora, also for downloads.",
)
@click.option(
    "--download",
    is_flag=True,
    help="Download missing corpora; their sizes are printed first.",
)
@click.option(
    "--list",
    "list_corpora",
    is_flag=True,
    help="List the known corpora with licence, size and address, and exit.",
)
@click.option(
    "--check",
    metavar="DATA",
    help="Check the prepared folder DATA and exit; exit code 1 if it is not fit for training.",
)
@click.option(
    "--speech",
    multiple=True,
    metavar="DIR|CSV...",
    help="Clean speech: folders, or CSV tables with a column 'path'.  [default: none]",
)
@click.option(
    "--noise",
    multiple=True,
    metavar="DIR|CSV...",
    help="Noise: folders or tables.  [default: none]",
)
@click.option(
    "--rir",
    multiple=True,
    metavar="DIR|CSV...",
    help="Room impulse responses: folders or tables.  [default: none]",
)
@click.option(
    "--licence",
    "licences",
    multiple=True,
    metavar="PATTERN",
    help='Keep only files whose licence matches, such as "CC0*" or "CC BY 4*"; case is ignored. '
    "Files without a licence are left out. May be repeated.  [default: any or none]",
)
@click.option(
    "--out",
    metavar="DATA",
    help="Output folder; an interrupted run is resumed. Required without --list and --check.",
)
@click.option(
    "--sample-rate",
    type=int,
    default=16000,
    metavar="HZ",
    help="Sample rate of the prepared data, Hz.",
)
@click.option(
    "--valid-share",
    type=float,
    default=0.05,
    metavar="0..1",
    help="Fraction held out for validation, of files without a split.",
)
@click.option(
    "--test-share",
    type=float,
    default=0.0,
    metavar="0..1",
    help="Fraction held out for testing, of files without a split.",
)
@click.option("--seed", type=int, default=0, help="Seed for the train/validation/test split.")
@click.option(
    "--min-seconds",
    type=float,
    default=0.25,
    metavar="SECONDS",
    help="Leave out speech and noise shorter than this.",
)
@click.option(
    "--silence-db",
    type=float,
    default=-60.0,
    metavar="DBFS",
    help="Leave out recordings with a peak below this level, dBFS.",
)
@click.option(
    "--max-clipped",
    type=float,
    default=0.001,
    metavar="0..1",
    help="Leave out speech with a larger fraction of clipped samples.",
)
@click.option(
    "-j",
    "--jobs",
    type=int,
    default=1,
    metavar="N",
    help="Number of decoding processes; the output does not depend on it.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print the summary, or the findings of --check, as JSON on stdout.",
)
@progress_option
@quiet_option
def command(
    corpora: tuple[str, ...],
    root: str,
    download: bool,
    list_corpora: bool,
    check: str | None,
    out: str | None,
    as_json: bool,
    progress: str,
    quiet: bool,
    **options: Any,
) -> None:
    """Prepare recordings of speech and noise for training.

    Recordings are public corpora, named before the options, and your own folders and tables. A
    part of a corpus is CORPUS/PART: audioae prepare librispeech/train-clean-100 esc50 --root DIR
    --download --out DATA

    Each file is read once, resampled and stored for random access. Splits are those of the tables;
    other files are split by speaker, noise recording or folder. Silent, clipped and unreadable
    files, folders that cannot be searched, pipes and devices are left out and listed in
    DATA/dropped.jsonl with the reason. Files without an audio suffix are counted. Run the same
    command again to resume after an interruption.
    """
    mode = progress_mode(progress, quiet=quiet)
    if list_corpora:
        return _print(_table_of_corpora())
    if check:
        return _check(check, mode, as_json)
    if not out:
        raise click.UsageError("Missing option '--out'.")
    from audioae.data.prepare import PrepareSettings, prepare

    # the other options have the names of settings
    settings = PrepareSettings(out=out, corpora=corpora, root=root, **options)
    if download:
        _download(corpora, root, mode, quiet)
    with show_preparing(mode) as report:
        summary = prepare(settings, progress=report)
    if not quiet:
        alone = (
            "Warning: {role}: nothing is held out for validation; it has one source only, or its "
            "tables put all files into other splits"
        )
        for line in describe_summary(summary, out, alone if settings.valid_share else ""):
            click.echo(line, err=True)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(summary)))


def _download(corpora: tuple[str, ...], root: str, mode: str, quiet: bool) -> None:
    """Print sizes and addresses, then download."""
    from audioae.data.corpora.collect import choose, pending
    from audioae.data.corpora.collect import download as fetch_corpus
    from audioae.errors import SettingsError

    if not corpora:
        raise SettingsError("--download was given but no corpus to download; name one, see --list")
    chosen = [(wanted, pending(wanted, Path(root))) for wanted in choose(corpora)]
    for wanted, archives in chosen:
        for archive in archives if not quiet else ():
            about = "" if archive.exact else "about "
            click.echo(
                f"{wanted.name}: {about}{archive.size / 1e9:.2f} GB ({wanted.corpus.licence}) "
                f"from {archive.url}",
                err=True,
            )
    for wanted, archives in chosen:
        if archives:
            with _download_bars(mode) as report:
                fetch_corpus(wanted, Path(root), report=report)


@contextmanager
def _download_bars(mode: str) -> Iterator[Callable[[Fetch], None]]:
    """A bar for each archive and one for its verification, in MB."""
    with ExitStack() as bar:
        shown: tuple[tuple[str, bool], float, Advance] | None = None

        def report(fetch: Fetch) -> None:
            nonlocal shown
            if (
                shown is None
                or shown[0] != (fetch.name, fetch.verifying)
                or fetch.done / 1e6 < shown[1]
            ):
                bar.close()
                label = f"verifying {fetch.name}" if fetch.verifying else fetch.name
                total = None if fetch.total is None else fetch.total / 1e6
                advance = bar.enter_context(show_progress(mode, label, total=total, unit="MB"))
                shown = ((fetch.name, fetch.verifying), 0.0, advance)
            key, done, advance = shown
            advance(fetch.done / 1e6 - done)
            shown = (key, fetch.done / 1e6, advance)

        yield report


def _check(data: str, mode: str, as_json: bool) -> None:
    """Print the findings; raise `DataError` if there is an error among them."""
    from audioae.data.prepare.check import check
    from audioae.errors import DataError

    with show_progress(mode, f"checking {data}", total=None, unit="s") as advance:
        findings = check(data, progress=advance)
    if as_json:
        click.echo(
            json.dumps(
                {"data": data, "findings": [dataclasses.asdict(finding) for finding in findings]}
            )
        )
    else:
        _print(_table_of_findings(data, findings))
    spoilt = [finding.check for finding in findings if finding.level == "error"]
    if spoilt:
        raise DataError(
            f"{data} would spoil a training: {', '.join(spoilt)}; see the table for what to do"
        )


def _table_of_findings(data: str, findings: list[Finding]) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(data), box=box.SIMPLE, show_edge=False, pad_edge=False)
    for column in ("check", "result", "found", "example", "what to do"):
        table.add_column(column, overflow="fold")
    colours = {"ok": "green", "warning": "yellow", "error": "red"}
    for finding in findings:
        result = f"[{colours[finding.level]}]{finding.level}[/]"
        table.add_row(
            finding.check,
            result,
            *(escape(text) for text in (finding.found, finding.example, finding.advice)),
        )
    return table


def _table_of_corpora() -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from audioae.data.corpora.catalog import CORPORA

    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False)
    for column in ("corpus", "parts (GB to download)", "what it is", "licence", "address"):
        table.add_column(column, overflow="fold")
    for name, corpus in CORPORA.items():
        stars = {part: "*" if part in corpus.default else "" for part in corpus.parts}
        parts = [
            f"{name}{stars[name]} ({f'{part.size / 1e9:.1f}' if part.size else 'by hand'})"
            for name, part in corpus.parts.items()
        ]
        table.add_row(
            name,
            escape("\n".join(parts)),
            escape(corpus.contents),
            escape(corpus.licence),
            corpus.homepage,
        )
    table.caption = "* used if no part is named"
    return table


def _print(table: Table) -> None:
    """Print a table on stdout; 200 columns wide if that is not a terminal."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = 200
    console.print(table)


@contextmanager
def show_preparing(mode: str) -> Iterator[Callable[[PrepareProgress], None]]:
    """A bar for speech, then one for noise, then one for room responses, in files."""
    with ExitStack() as bar:
        shown: tuple[str, int, Advance] | None = None

        def report(progress: PrepareProgress) -> None:
            nonlocal shown
            if shown is None or shown[0] != progress.role:
                bar.close()
                advance = bar.enter_context(
                    show_progress(
                        mode, progress.role, total=progress.total, unit="files", is_long=True
                    )
                )
                shown = (progress.role, 0, advance)
            role, done, advance = shown
            advance(
                progress.done - done,
                kept=f"{progress.kept_seconds / 3600:.2f} h",
                dropped=progress.dropped,
            )
            shown = (role, progress.done, advance)

        yield report


def describe_summary(summary: Summary, out: str | Path, alone: str) -> Iterator[str]:
    """Lines about files kept and dropped. `alone` is the line for a {role} without validation data;
    "" for none.
    """
    from audioae.data.sources import NO_LICENCE
    from audioae.errors import counted

    for role, hours in summary.hours.items():
        kept = ", ".join(f"{split} {value:.2f} h" for split, value in hours.items() if value)
        files = counted(summary.files[role], "file")
        yield f"{role}: kept {sum(hours.values()):.2f} h in {files} ({kept})"
        if (
            alone and role != "rir" and not hours["valid"]
        ):  # rooms of the training split may be used
            yield alone.format(role=role)
    if set(summary.licences) - {NO_LICENCE}:
        licences = (
            f"{name} {count['kept']} kept, {count['dropped']} dropped"
            for name, count in summary.licences.items()
        )
        yield f"licences, files: {'; '.join(licences)}"
    if summary.dropped:
        reasons = ", ".join(f"{count} {reason}" for reason, count in summary.dropped.items())
        yield f"dropped: {reasons}; see {out}/dropped.jsonl"
    if summary.skipped:
        suffixes = ", ".join(
            f"{suffix or 'no suffix'} {number}" for suffix, number in summary.skipped.items()
        )
        files = counted(sum(summary.skipped.values()), "file")
        yield f"skipped: {files} without an audio suffix ({suffixes})"
