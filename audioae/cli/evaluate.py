"""`audioae evaluate`: evaluate a model on pairs of noisy and clean recordings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from audioae.cli.options import device_option, model_option, quality_option
from audioae.cli.progress import progress_option, show_progress

if TYPE_CHECKING:
    from rich.table import Table

    from audioae.engine import Quality
    from audioae.evaluation import Means, PairRow

DECIMALS = {"MOS": 2, "0..1": 3, "dB": 1}  # in the table, by unit
PESQ_NOTE = "PESQ is P.862.2 without Corrigendum 2 (pesq package)"


@click.command("evaluate")
@model_option
@quality_option
@click.option(
    "--pairs",
    type=click.Path(path_type=Path),
    metavar="CSV|DIR",
    required=True,
    help="CSV file with the columns noisy and clean (paths relative to it), or a folder with the "
    "subfolders noisy and clean, in which files of a pair have the same name.",
)
@click.option(
    "--metrics",
    metavar="A,B,...|all",
    default="pesq_wb,stoi,estoi,si_sdr",
    help="Metrics: pesq_wb, pesq_nb, csig, cbak, covl, dnsmos_sig, dnsmos_bak, dnsmos_ovrl, "
    "dnsmos_p808 (MOS, 1 to 5), stoi, estoi (0 to 1), si_sdr, snr, segmental_snr, lsd (dB).",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of pairs, from the first one.  [default: all]",
)
@click.option(
    "--rows",
    type=click.Path(path_type=Path),
    metavar="FILE.jsonl",
    help="Write the scores of every pair to this file, as JSON Lines.",
)
@click.option("--overwrite", is_flag=True, help="Replace the --rows file if it exists.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print the means and the scores of every pair as JSON on stdout.",
)
@device_option
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of processes that compute metrics.  [default: one per CPU]",
)
@progress_option
def command(
    model: str | None,
    quality: Quality | None,
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
    """Evaluate a model on pairs of noisy and clean recordings.

    Computes each metric for the noisy and for the enhanced recording, with the clean one as
    reference. A metric that cannot be computed is null with a reason, and means are over the files
    that have a value.

    PESQ is P.862.2 without Corrigendum 2 and is limited to 50 utterances per file. CSIG, CBAK and
    COVL are computed from wide-band PESQ. DNSMOS uses no reference.
    """
    from audioae.denoising import DenoiseSettings, denoise, ready_engine
    from audioae.evaluation import evaluate, read_pairs, summarise

    chosen = read_pairs(pairs)[:limit]
    names = _metric_names(metrics)
    with _open_rows(rows, overwrite=overwrite) as file:
        engine = ready_engine(model, device=device)
        settings = DenoiseSettings(quality=quality or "best")
        found = evaluate(
            chosen,
            lambda noisy, rate: denoise(noisy, rate, model=engine, settings=settings),
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
    """Open a file that is renamed to `path` when it is complete; None if there is no path."""
    from audioae.errors import OutputError
    from audioae.storage import AtomicFile, output_errors

    if path is None:
        yield None
        return
    if path.exists() and (path.is_dir() or not overwrite):
        raise OutputError(
            f"{path} exists; "
            + ("expected a file name" if path.is_dir() else "give --overwrite to replace it")
        )
    with output_errors(path):
        temporary = AtomicFile(path)
    with temporary:
        with temporary.path.open("w", encoding="utf-8") as file:
            yield file
        with output_errors(path):
            temporary.commit()


def _warn(rows: Sequence[PairRow]) -> None:
    """Print the missing metrics on stderr, one line per metric and reason."""
    missing: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for metric, reason in row.reasons.items():
            missing.setdefault((metric, reason), []).append(row.name)
    for (metric, reason), names in missing.items():
        click.echo(
            f"Warning: no {metric} for {len(names)} of {len(rows)} files, first {names[0]}: "
            f"{reason}",
            err=True,
        )


def _as_object(
    model: str, pairs: Path, means: dict[str, Means], rows: Sequence[PairRow]
) -> dict[str, Any]:
    from dataclasses import asdict

    from audioae.evaluation.metrics import METRICS

    metrics = {name: {"unit": METRICS[name].unit, **asdict(both)} for name, both in means.items()}
    return {
        "model": model,
        "pairs": str(pairs),
        "count": len(rows),
        "note": PESQ_NOTE,
        "means": metrics,
        "rows": [row.to_dict() for row in rows],
    }


def _as_table(model: str, means: dict[str, Means], rows: Sequence[PairRow]) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from audioae.errors import counted
    from audioae.evaluation.metrics import METRICS

    units = {name: METRICS[name].unit for name in means}
    title = escape(f"{model} on {counted(len(rows), 'pair')}: noisy -> enhanced")
    # Without edges, the default metrics fit into 80 columns.
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
        unit, counts = units[name], [side.count for side in (both.noisy, both.enhanced)]
        footer = f"{_figure(both.noisy.value, unit)} -> {_figure(both.enhanced.value, unit)}"
        if min(counts) < len(rows):
            footer += f" (of {counts[0]}, {counts[1]})"
        table.add_column(f"{name} {unit}", footer, justify="right", no_wrap=True)
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
    """Print the table on stdout; outside a terminal its width is not limited."""
    from rich.console import Console
    from rich.measure import Measurement

    console = Console()
    if not console.is_terminal:
        wide = Console(width=10_000)
        console.width = max(80, Measurement.get(wide, wide.options, table).maximum)
    console.print(table)
