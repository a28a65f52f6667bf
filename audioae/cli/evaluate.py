"""`audioae evaluate`: score a model on pairs of noisy and clean recordings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from audioae.cli.options import device_option, model_option
from audioae.cli.progress import progress_option, show_progress

if TYPE_CHECKING:
    from rich.table import Table

    from audioae.evaluation import Means, PairRow

DECIMALS = {"MOS": 2, "0..1": 3, "dB": 1}  # by unit, in the table
PESQ_NOTE = "PESQ is P.862.2 without Corrigendum 2 (pesq package)"


@click.command("evaluate")
@model_option
@click.option(
    "--pairs",
    type=click.Path(path_type=Path),
    metavar="CSV|DIR",
    required=True,
    help="A table with the columns noisy and clean, paths relative to it, or a folder with "
    "noisy/ and clean/ and equal names in them.",
)
@click.option(
    "--metrics",
    metavar="A,B,...|all",
    default="pesq_wb,stoi,estoi,si_sdr",
    help="Out of pesq_wb, pesq_nb, csig, cbak, covl, dnsmos_sig, dnsmos_bak, dnsmos_ovrl, "
    "dnsmos_p808 (MOS, 1 to 5), stoi, estoi (0 to 1), "
    "si_sdr, snr, segmental_snr, lsd (dB).",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help="Take the first N pairs only.  [default: all]",
)
@click.option(
    "--rows",
    type=click.Path(path_type=Path),
    metavar="FILE.jsonl",
    help="Write the rows as JSON Lines.  [default: not written]",
)
@click.option("--overwrite", is_flag=True, help="Replace the file of --rows if it exists.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print means and rows as one JSON object on stdout, not as a table.",
)
@device_option
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Processes that compute metrics.  [default: one a CPU]",
)
@progress_option
def command(
    model: str | None,
    pairs: Path,
    metrics: str,
    limit: int | None,
    rows: Path | None,
    overwrite: bool,
    as_json: bool,
    device: str,
    jobs: int | None,
    progress: str,
) -> None:
    """Score a model on pairs of noisy and clean recordings: each metric of the noisy and of the
    enhanced side, against the clean one.

    A metric that cannot be computed on a file is null, with its reason; means are over the files
    that have a value. PESQ is P.862.2 without Corrigendum 2 and takes at most 50 utterances a file;
    CSIG, CBAK and COVL take wide-band PESQ; DNSMOS needs no reference.
    """
    from audioae.denoising import denoise, ready_engine
    from audioae.evaluation import evaluate, read_pairs, summarise

    chosen = read_pairs(pairs)[:limit]
    names = _metric_names(metrics)
    with _open_rows(rows, overwrite=overwrite) as file:
        engine = ready_engine(model, device=device)
        found = evaluate(
            chosen,
            lambda noisy, rate: denoise(noisy, rate, model=engine),
            metrics=names,
            jobs=jobs or _cpus(),
        )
        table = []
        with show_progress(progress, engine.info.name, total=len(chosen), unit="files") as advance:
            for row in found:
                table.append(row)
                if file:
                    file.write(json.dumps(row.to_dict()) + "\n")
                advance(1, last=row.name)
    _warn(table)
    means = summarise(table)
    if as_json:
        click.echo(json.dumps(_as_object(engine.info.name, pairs, means, table)))
    else:
        _print_table(_as_table(engine.info.name, means, table))


def _metric_names(metrics: str) -> tuple[str, ...]:
    from audioae.evaluation.metrics import METRICS, check_metrics, require_packages

    names = check_metrics(
        METRICS
        if metrics == "all"
        else [name.strip() for name in metrics.split(",") if name.strip()]
    )
    require_packages(names)
    return names


def _cpus() -> int:
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _open_rows(path: Path | None, *, overwrite: bool) -> Iterator[IO[str] | None]:
    """A file that takes its name when it is complete; None for None."""
    from audioae.errors import OutputError
    from audioae.storage import AtomicFile, output_errors

    if path is None:
        yield None
        return
    if path.exists() and (path.is_dir() or not overwrite):
        raise OutputError(
            f"{path} exists; "
            + ("expected the name of a file" if path.is_dir() else "give --overwrite to replace it")
        )
    with output_errors(path):
        temporary = AtomicFile(path)
    with temporary:
        with temporary.path.open("w", encoding="utf-8") as file:
            yield file
        with output_errors(path):
            temporary.commit()


def _warn(rows: Sequence[PairRow]) -> None:
    """Say on stderr which metrics are missing, one line a reason."""
    missing: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for metric, reason in row.reasons.items():
            missing.setdefault((metric, reason), []).append(row.name)
    for (metric, reason), names in missing.items():
        click.echo(
            f"Warning: no {metric} on {len(names)} of {len(rows)} files, first {names[0]}: "
            f"{reason}",
            err=True,
        )


def _as_object(
    model: str, pairs: Path, means: dict[str, Means], rows: Sequence[PairRow]
) -> dict[str, Any]:
    from dataclasses import asdict

    from audioae.evaluation.metrics import METRICS

    metrics = {name: {"unit": METRICS[name].unit, **asdict(both)} for name, both in means.items()}
    told = {"model": model, "pairs": str(pairs), "count": len(rows), "note": PESQ_NOTE}
    return {**told, "means": metrics, "rows": [row.to_dict() for row in rows]}


def _as_table(model: str, means: dict[str, Means], rows: Sequence[PairRow]) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from audioae.errors import counted
    from audioae.evaluation.metrics import METRICS

    units = {name: METRICS[name].unit for name in means}
    title = escape(f"{model} on {counted(len(rows), 'pair')}: noisy -> enhanced")
    # Without edges the four default metrics fit into 80 columns.
    table = Table(
        title=title,
        caption=PESQ_NOTE,
        box=box.SIMPLE,
        show_footer=True,
        show_edge=False,
        pad_edge=False,
    )
    table.add_column("file", "mean", no_wrap=True)
    table.add_column(
        "s", f"{sum(row.seconds for row in rows) / len(rows):.1f}", justify="right", no_wrap=True
    )
    for name, both in means.items():
        footer = f"{_figure(both.noisy.value, units[name])} -> {_figure(both.enhanced.value, units[name])}"
        fewer = [side.count for side in (both.noisy, both.enhanced)]
        if min(fewer) < len(rows):
            footer += f" (of {fewer[0]}, {fewer[1]})"
        table.add_column(f"{name} {units[name]}", footer, justify="right", no_wrap=True)
    for row in rows:
        cells = [
            f"{_figure(row.noisy[name], unit)} -> {_figure(row.enhanced[name], unit)}"
            for name, unit in units.items()
        ]
        table.add_row(escape(row.name), f"{row.seconds:.1f}", *cells)
    return table


def _figure(value: float | None, unit: str) -> str:
    return "none" if value is None else f"{value:.{DECIMALS[unit]}f}"


def _print_table(table: Table) -> None:
    """Print the table on stdout; as wide as it needs where no terminal limits it."""
    from rich.console import Console
    from rich.measure import Measurement

    console = Console()
    if not console.is_terminal:
        console.width = max(
            80, Measurement.get(Console(width=10_000), Console(width=10_000).options, table).maximum
        )
    console.print(table)
