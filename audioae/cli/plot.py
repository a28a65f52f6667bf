"""`audioae plot`: figures of recordings, training runs and tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from audioae.cli.options import quiet_option
from audioae.cli.output import print_json

TABLES = (".jsonl", ".json", ".csv", ".tsv")


@click.command("plot")
@click.argument("paths", metavar="IN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    required=True,
    help="The figure: .png, .svg or .html.",
)
@click.option(
    "--axis",
    type=click.Choice(["linear", "log", "mel"]),
    help="Frequency axis of recordings, or horizontal axis of tables (linear, log).  [default: mel "
    "for recordings, linear for tables]",
)
@click.option(
    "--range",
    "range_db",
    type=float,
    metavar="DB",
    help="Range of spectrograms below their loudest part.  [default: 80]",
)
@click.option(
    "--x",
    metavar="COLUMN",
    help="Column of the horizontal axis.  [default: step, or the first column of numbers]",
)
@click.option(
    "--y",
    multiple=True,
    metavar="COLUMN",
    help="Column of the vertical axis. Repeatable: a panel each.  [default: the scores of a run, "
    "or the second column of numbers]",
)
@click.option(
    "--by",
    metavar="COLUMN",
    help="Column whose values are lines of their own.  [default: the first column of text]",
)
@click.option(
    "--dpi", type=click.FloatRange(20, 600), default=110, help="Resolution, pixels per inch."
)
@click.option("--overwrite", is_flag=True, help="Replace an existing figure.")
@click.option("--json", "as_json", is_flag=True, help="Print what was plotted as JSON on stdout.")
@quiet_option
def command(
    paths: tuple[Path, ...],
    output: Path,
    axis: Any,
    range_db: float | None,
    x: str | None,
    y: tuple[str, ...],
    by: str | None,
    dpi: float,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Plot recordings, training runs or tables.

    One recording: waveform and spectrogram. Two recordings: both side by side, and the second
    minus the first. Run folders or history.jsonl files: loss and scores over the steps, one line
    per run. Tables (.csv, .json, .jsonl): columns of numbers, such as distortion against bit rate.

    Needs the extra plots. Long recordings are drawn in constant memory.

    Exit codes: 0 success, 1 an input cannot be read, 2 usage error, 3 package missing.
    """
    from audioae.errors import require
    from audioae.web.plots import check_format, write_figure
    from audioae.web.report import check_page

    check_format(output)
    kinds = {_is_table(path) for path in paths}
    if len(kinds) > 1:
        raise click.UsageError("got recordings and tables together; plot them into two files")
    is_table = kinds == {True}
    if is_table and (axis == "mel" or range_db is not None):
        raise click.UsageError("--axis mel and --range are for recordings; IN is a table")
    if not is_table and (x or y or by):
        raise click.UsageError("--x, --y and --by are for tables and runs; IN is a recording")
    check_page(output, list(paths), overwrite=overwrite)
    require("matplotlib", extra="plots")
    draw = _draw_tables if is_table else _draw_recordings
    figure, kind, values = draw(paths, axis, range_db, x, y, by)
    description = f"{kind}: {', '.join(path.name for path in paths)}"
    num_bytes = write_figure(figure, output, description=description, values=values, dpi=dpi)
    if not quiet:
        click.echo(f"{output}: {kind}, {num_bytes / 1e3:.0f} kB", err=True)
    if as_json:
        inputs = [str(path) for path in paths]
        print_json({"path": str(output), "kind": kind, "inputs": inputs, "num_bytes": num_bytes})


def _is_table(path: Path) -> bool:
    return path.is_dir() or path.suffix.lower() in TABLES


def _draw_recordings(
    paths: tuple[Path, ...], axis: Any, range_db: float | None, *unused: Any
) -> tuple[Any, str, list[list[str]]]:
    from audioae.web.plots import PlotSettings, plot_recordings

    settings = PlotSettings(axis or "mel", 80.0 if range_db is None else range_db)
    kind = "recording" if len(paths) == 1 else "two recordings and their difference"
    return plot_recordings(paths, settings), kind, []


def _draw_tables(
    paths: tuple[Path, ...],
    axis: Any,
    range_db: float | None,
    x: str | None,
    y: tuple[str, ...],
    by: str | None,
) -> tuple[Any, str, list[list[str]]]:
    from audioae.web.charts import ChartSettings, plot_tables, read_table, table_values

    tables = [read_table(path) for path in paths]
    settings = ChartSettings(x, y, by, axis or "linear")
    figure = plot_tables(tables, settings)
    kind = "training" if tables[0].is_history else "table"
    return figure, kind, table_values(tables, settings)
