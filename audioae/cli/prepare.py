"""`audioae prepare`: corpora, folders and tables of recordings become data to train on; `--check`
looks at what it made.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from audioae.cli.progress import Advance, progress_option, show_progress

if TYPE_CHECKING:
    from rich.table import Table

    from audioae.data.corpora.download import Fetch
    from audioae.data.prepare import Progress, Summary
    from audioae.data.prepare.check import Finding

SEVERAL = ("--speech", "--noise", "--rir")


class SeveralValues(click.Command):
    """A command whose `--speech A B` is `--speech A --speech B`, so that a shell's `corpora/*`
    works.
    """

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
    help="Folder in which the corpora are, or are downloaded to.",
)
@click.option(
    "--download",
    is_flag=True,
    help="Download what is missing of the corpora, after saying how large it is.",
)
@click.option(
    "--list",
    "list_corpora",
    is_flag=True,
    help="Show the corpora, with licence, size and address, and do nothing else.",
)
@click.option(
    "--check",
    metavar="DATA",
    help="Check the prepared folder DATA and do nothing else; exit code 1 if it would spoil a "
    "training.",
)
@click.option(
    "--speech",
    multiple=True,
    metavar="DIR|CSV...",
    help="Clean speech: folders, or tables with a column 'path'.  [default: none]",
)
@click.option(
    "--noise", multiple=True, metavar="DIR|CSV...", help="Noise, in the same ways.  [default: none]"
)
@click.option(
    "--rir",
    multiple=True,
    metavar="DIR|CSV...",
    help="Room impulse responses, in the same ways.  [default: none]",
)
@click.option(
    "--out",
    metavar="DATA",
    help="Folder to write, or to go on with. Needed unless --list or --check is given.",
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
    help="Share held out for validation where no table gives a split.",
)
@click.option(
    "--test-share",
    type=float,
    default=0.0,
    metavar="0..1",
    help="Share held out for testing where no table gives a split.",
)
@click.option("--seed", type=int, default=0, help="Of the draw of what is held out.")
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
    help="Leave out recordings whose peak is below this, dBFS.",
)
@click.option(
    "--max-clipped",
    type=float,
    default=0.001,
    metavar="0..1",
    help="Leave out speech with more than this share of clipped samples.",
)
@click.option(
    "-j",
    "--jobs",
    type=int,
    default=1,
    metavar="N",
    help="Processes that decode; the data are the same for any number.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print what was kept, or what --check found, as a JSON object on stdout.",
)
@progress_option
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
def command(
    corpora: tuple[str, ...],
    root: str,
    download: bool,
    list_corpora: bool,
    check: str | None,
    speech: tuple[str, ...],
    noise: tuple[str, ...],
    rir: tuple[str, ...],
    out: str | None,
    sample_rate: int,
    valid_share: float,
    test_share: float,
    seed: int,
    min_seconds: float,
    silence_db: float,
    max_clipped: float,
    jobs: int,
    as_json: bool,
    progress: str,
    quiet: bool,
) -> None:
    """Turn recordings of speech and noise into the folder DATA to train on.

    Recordings are public corpora by name, before the options, and your own folders and tables. A
    part of a corpus is CORPUS/PART: audioae prepare librispeech/train-clean-100 esc50 --root DIR
    --download --out DATA

    Each file is read once, resampled and stored for random access. Splits are those of the tables;
    files without one are split by speaker, noise recording or folder. Silent, clipped and
    unreadable files are left out and listed in DATA/dropped.jsonl with the reason. Run it again
    after an interruption and it goes on.
    """
    mode = "none" if quiet and progress == "auto" else progress
    if list_corpora:
        return _print(_table_of_corpora())
    if check:
        return _check(check, mode, as_json)
    if not out:
        raise click.UsageError("Missing option '--out'.")
    from audioae.data.prepare import PrepareSettings, prepare

    settings = PrepareSettings(
        out=out,
        speech=speech,
        noise=noise,
        rir=rir,
        corpora=corpora,
        root=root,
        sample_rate=sample_rate,
        valid_share=valid_share,
        test_share=test_share,
        seed=seed,
        min_seconds=min_seconds,
        silence_db=silence_db,
        max_clipped=max_clipped,
        jobs=jobs,
    )
    if download:
        _download(corpora, root, mode, quiet)
    with show_preparing(mode) as report:
        summary = prepare(settings, progress=report)
    if not quiet:
        alone = "Warning: {role}: nothing is held out for validation; it has one source only, or its tables put all of it elsewhere"
        for line in describe_summary(summary, out, alone if valid_share else ""):
            click.echo(line, err=True)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(summary)))


def _download(corpora: tuple[str, ...], root: str, mode: str, quiet: bool) -> None:
    """Say what comes from where, then fetch it."""
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
    """Show what was found, and raise `DataError` where it would spoil a training."""
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
    table.caption = "* is taken where no part is named"
    return table


def _print(table: Table) -> None:
    """Print a table on stdout, wide where no terminal limits it."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = 200
    console.print(table)


@contextmanager
def show_preparing(mode: str) -> Iterator[Callable[[Progress], None]]:
    """A bar for speech, then one for noise, then one for room responses, in files."""
    with ExitStack() as bar:
        shown: tuple[str, int, Advance] | None = None

        def report(progress: Progress) -> None:
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
    """What was kept and what was dropped; `alone` is what to say of a {role} of which nothing is
    held out, if anything.
    """
    from audioae.errors import counted

    for role, hours in summary.hours.items():
        kept = ", ".join(f"{split} {value:.2f} h" for split, value in hours.items() if value)
        yield f"{role}: kept {sum(hours.values()):.2f} h in {counted(summary.files[role], 'file')} ({kept})"
        if alone and role != "rir" and not hours["valid"]:  # rooms may be those of the training
            yield alone.format(role=role)
    if summary.dropped:
        reasons = ", ".join(f"{count} {reason}" for reason, count in summary.dropped.items())
        yield f"dropped: {reasons}; see {out}/dropped.jsonl"
