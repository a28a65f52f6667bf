"""`audioae prepare`: folders and tables of recordings become data to train on."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import click

from audioae.cli.progress import Advance, progress_option, show_progress

if TYPE_CHECKING:
    from audioae.prepare import Progress, Summary

SEVERAL = ("--speech", "--noise", "--rir")


class SeveralValues(click.Command):
    """A command whose `--speech A B` is `--speech A --speech B`, so that a shell's `corpora/*` works."""

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
@click.option(
    "--speech", multiple=True, metavar="DIR|CSV...", help="Clean speech: folders, or tables with a column 'path'.  [default: none]"
)
@click.option("--noise", multiple=True, metavar="DIR|CSV...", help="Noise, in the same ways.  [default: none]")
@click.option("--rir", multiple=True, metavar="DIR|CSV...", help="Room impulse responses, in the same ways.  [default: none]")
@click.option("--out", required=True, metavar="DATA", show_default=False, help="Folder to write, or to go on with.")
@click.option("--sample-rate", type=int, default=16000, metavar="HZ", help="Sample rate of the prepared data, Hz.")
@click.option("--valid-share", type=float, default=0.05, metavar="0..1", help="Share held out for validation where no table gives a split.")
@click.option("--test-share", type=float, default=0.0, metavar="0..1", help="Share held out for testing where no table gives a split.")
@click.option("--seed", type=int, default=0, help="Of the draw of what is held out.")
@click.option("--min-seconds", type=float, default=0.25, metavar="SECONDS", help="Leave out speech and noise shorter than this.")
@click.option("--silence-db", type=float, default=-60.0, metavar="DBFS", help="Leave out recordings whose peak is below this, dBFS.")
@click.option(
    "--max-clipped", type=float, default=0.001, metavar="0..1", help="Leave out speech with more than this share of clipped samples."
)
@click.option("-j", "--jobs", type=int, default=1, metavar="N", help="Processes that decode; the data are the same for any number.")
@click.option("--json", "as_json", is_flag=True, help="Print what was kept as a JSON object on stdout.")
@progress_option
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
def command(
    speech: tuple[str, ...],
    noise: tuple[str, ...],
    rir: tuple[str, ...],
    out: str,
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

    Each file is read once, resampled and stored for random access. Splits are those of the tables; files without one are split by speaker,
    noise recording or folder. Silent, clipped and unreadable files are left out and listed in DATA/dropped.jsonl with the reason.
    Run it again after an interruption and it goes on.
    """
    from audioae.prepare import PrepareSettings, prepare

    settings = PrepareSettings(
        out=out,
        speech=speech,
        noise=noise,
        rir=rir,
        sample_rate=sample_rate,
        valid_share=valid_share,
        test_share=test_share,
        seed=seed,
        min_seconds=min_seconds,
        silence_db=silence_db,
        max_clipped=max_clipped,
        jobs=jobs,
    )
    with _bars("none" if quiet and progress == "auto" else progress) as report:
        summary = prepare(settings, progress=report)
    if not quiet:
        for line in _lines(summary, out, valid_share):
            click.echo(line, err=True)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(summary)))


@contextmanager
def _bars(mode: str) -> Iterator[Callable[[Progress], None]]:
    """A bar for speech, then one for noise, then one for room responses, in files."""
    with ExitStack() as bar:
        shown: tuple[str, int, Advance] | None = None

        def report(progress: Progress) -> None:
            nonlocal shown
            if shown is None or shown[0] != progress.role:
                bar.close()
                advance = bar.enter_context(show_progress(mode, progress.role, total=progress.total, unit="files"))
                shown = (progress.role, 0, advance)
            role, done, advance = shown
            advance(progress.done - done, kept=f"{progress.kept_seconds / 3600:.2f} h", dropped=progress.dropped)
            shown = (role, progress.done, advance)

        yield report


def _lines(summary: Summary, out: str, valid_share: float) -> Iterator[str]:
    for role, hours in summary.hours.items():
        kept = ", ".join(f"{split} {value:.2f} h" for split, value in hours.items() if value)
        yield f"{role}: kept {sum(hours.values()):.2f} h in {summary.files[role]} files ({kept})"
        if valid_share and not hours["valid"]:
            yield f"Warning: {role}: nothing is held out for validation; it has one source only, or its tables put all of it elsewhere"
    if summary.dropped:
        reasons = ", ".join(f"{count} {reason}" for reason, count in summary.dropped.items())
        yield f"dropped: {reasons}; see {out}/dropped.jsonl"
