"""Charts of tables: the histories of training runs, and columns of CSV or JSON tables such as bit
rate against distortion or size against error.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from audioae.errors import DataError, SettingsError, nearest, require
from audioae.fields import parse_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Scale = Literal["linear", "log"]
Record = dict[str, Any]

HISTORY = "history.jsonl"
LARGEST_TABLE = 2**26  # bytes
# The panels of a history: title, columns that share it, prefix-free name of the noisy baseline.
PANELS = (
    ("loss", ("loss", "valid_loss"), "noisy_loss"),
    ("SI-SDR, dB", ("valid_si_sdr",), "noisy_si_sdr"),
    ("PESQ", ("valid_pesq",), "noisy_pesq"),
    ("STOI", ("valid_stoi",), "noisy_stoi"),
    ("DNSMOS OVRL", ("valid_ovrl",), "noisy_ovrl"),
)
STYLES = {"loss": ":"}  # of training columns beside validation columns
MOST_GROUPS = 20


@dataclass(frozen=True)
class ChartSettings:
    """Which columns of a table are drawn.

    Args:
        x: column of the horizontal axis; None is "step" of histories, else the first column of
            numbers.
        y: columns of the vertical axes, a panel each; empty is the scores of histories, else the
            second column of numbers.
        by: column whose values are drawn as lines of their own; None is the first column of text.
        scale: of the horizontal axis.
    """

    x: str | None = None
    y: tuple[str, ...] = ()
    by: str | None = None
    scale: Scale = "linear"


@dataclass(frozen=True)
class Table:
    """The rows of a table or a history.

    Args:
        path: its file.
        name: for the legend.
    """

    path: Path
    name: str
    rows: list[Record]
    is_history: bool


def history_path(path: Path) -> Path:
    """The history of a run folder; other paths are returned unchanged."""
    return path / HISTORY if path.is_dir() else path


def read_table(path: Path) -> Table:
    """Read the history of a run (a run folder or history.jsonl), or a table: CSV with a heading, a
    JSON array of objects, or JSON Lines.

    Raises:
        DataError: it cannot be read, or has no rows.
    """
    given, path = path, history_path(path)
    try:
        if path.stat().st_size > LARGEST_TABLE:
            raise DataError(f"{path} is larger than {LARGEST_TABLE // 2**20} MB; choose a part")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}); expected a run folder, history.jsonl, .csv "
            "or .json"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a text file; expected CSV, JSON or JSON Lines") from error
    rows = _rows(path, text)
    if not rows:
        raise DataError(f"{path} has no rows; expected a heading and rows, or JSON objects")
    is_history = path.suffix.lower() == ".jsonl" and any("step" in row for row in rows)
    return Table(path, _name(given), rows, is_history)


def _name(path: Path) -> str:
    return path.resolve().parent.name if path.name == HISTORY else path.name or str(path)


def _rows(path: Path, text: str) -> list[Record]:
    suffix = path.suffix.lower()
    try:
        if suffix == ".jsonl":
            found: Any = [parse_json(line) for line in text.splitlines() if line.strip()]
        elif suffix == ".json":
            found = parse_json(text)
            found = found.get("rows", found) if isinstance(found, dict) else found
        else:
            dialect = "excel-tab" if suffix == ".tsv" else "excel"
            found = [
                {str(key): _number(value) for key, value in row.items() if key is not None}
                for row in csv.DictReader(io.StringIO(text), dialect=dialect)
            ]
    except (ValueError, csv.Error) as error:
        raise DataError(f"{path} cannot be read ({error}); expected CSV or JSON") from error
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise DataError(f'{path} has no rows; expected an array of objects, or one under "rows"')
    return [_flat(row) for row in found]


def _flat(row: Mapping[str, Any], prefix: str = "") -> Record:
    """A row without nested objects: `{"a": {"b": 1}}` is `{"a.b": 1}`."""
    flat: Record = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _number(text: str | None) -> Any:
    try:
        return float(text or "")
    except ValueError:
        return text


def plot_tables(tables: Sequence[Table], settings: ChartSettings | None = None) -> Figure:
    """Draw histories or tables, all in the same panels.

    Raises:
        DataError: histories and tables are mixed, or a column has no numbers.
        DependencyError: matplotlib is not installed.
        SettingsError: a column does not exist.
    """
    settings = settings or ChartSettings()
    if len({table.is_history for table in tables}) > 1:
        raise DataError("got histories and tables together; plot them into two files")
    panels = choose_panels(tables, settings)
    figure_class = require("matplotlib.figure", extra="plots").Figure
    columns = min(len(panels), 2)
    rows = -(-len(panels) // columns)
    figure: Figure = figure_class(figsize=(6.2 * columns, 3.9 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for panel, place in zip(panels, axes, strict=False):
        _draw(place, panel, tables, settings)
    for place in list(axes)[len(panels) :]:
        place.set_visible(False)
    return figure


@dataclass(frozen=True)
class Panel:
    """A panel of a figure.

    Args:
        title: of its vertical axis.
        x: column of the horizontal axis.
        columns: that it shows.
        by: column that separates lines; None separates none.
        baseline: column whose value is a horizontal line; None draws none.
    """

    title: str
    x: str
    columns: tuple[str, ...]
    by: str | None = None
    baseline: str | None = None


def choose_panels(tables: Sequence[Table], settings: ChartSettings) -> list[Panel]:
    """The panels that show these tables. Raises `SettingsError` and `DataError`."""
    rows = [row for table in tables for row in table.rows]
    names = list(dict.fromkeys(key for row in rows for key in row))
    for name in (settings.x, settings.by, *settings.y):
        if name is not None and name not in names:
            raise SettingsError(
                f"there is no column {name!r}{nearest(name, names)}; known are {', '.join(names)}"
            )
    numeric = [name for name in names if any(is_number(row.get(name)) for row in rows)]
    for name in (settings.x, *settings.y):
        if name is not None and name not in numeric:
            raise DataError(f"the column {name!r} has no numbers; choose another one")
    if tables[0].is_history:
        x = settings.x or "step"
        if settings.y:
            return [Panel(name, x, (name,), settings.by) for name in settings.y]
        panels = [
            Panel(title, x, tuple(each for each in columns if each in numeric), None, baseline)
            for title, columns, baseline in PANELS
        ]
        found = [panel for panel in panels if panel.columns]
        if not found:
            raise DataError("the history has no scores yet; choose columns with --y")
        return found
    if len(numeric) < 2:
        raise DataError(f"expected two columns of numbers, got {len(numeric)}")
    x = settings.x or next(name for name in numeric if name not in settings.y)
    texts = [name for name in names if any(isinstance(row.get(name), str) for row in rows)]
    by = settings.by or next((name for name in texts if name not in numeric), None)
    y = settings.y or (next(name for name in numeric if name != x),)
    return [Panel(name, x, (name,), by) for name in y]


def is_number(value: Any) -> bool:
    """Whether a value can be drawn."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _draw(axes: Axes, panel: Panel, tables: Sequence[Table], settings: ChartSettings) -> None:
    number = 0
    for table in tables:
        colour = f"C{number % 10}"
        for label, rows in _groups(table, panel, several=len(tables) > 1):
            for column in panel.columns:
                points = sorted(
                    (row[panel.x], row[column])
                    for row in rows
                    if is_number(row.get(panel.x)) and is_number(row.get(column))
                )
                if not points:
                    continue
                own = f"{label} {column}".strip() if len(panel.columns) > 1 else label
                marker = "o" if len(points) <= 40 else None
                axes.plot(
                    *zip(*points, strict=True),
                    STYLES.get(column, "-") if len(panel.columns) > 1 else "-",
                    marker=marker,
                    markersize=4,
                    color=f"C{number % 10}",
                    label=own,
                )
            number += 1
        noisy = panel.baseline or ""
        baselines = [row[noisy] for row in table.rows if is_number(row.get(noisy))]
        if baselines:
            label = f"{table.name} noisy" if len(tables) > 1 else "noisy"
            axes.axhline(baselines[0], color=colour, linestyle="--", linewidth=1, label=label)
    axes.set_xscale(settings.scale)
    axes.set_xlabel(panel.x.replace("_", " "))
    axes.set_ylabel(panel.title.replace("_", " "))
    axes.grid(alpha=0.3)
    if any(axes.get_legend_handles_labels()[1]):
        axes.legend(fontsize=8)


def _groups(table: Table, panel: Panel, *, several: bool) -> Iterable[tuple[str, list[Record]]]:
    """The lines of a table: their labels and rows."""
    if panel.by is None:
        return [(table.name if several else "", table.rows)]
    groups: dict[str, list[Record]] = {}
    for row in table.rows:
        groups.setdefault(_text(row.get(panel.by)), []).append(row)
    if len(groups) > MOST_GROUPS:
        raise SettingsError(
            f"the column {panel.by!r} has {len(groups)} values; choose one with at most "
            f"{MOST_GROUPS} with --by"
        )
    prefix = f"{table.name} " if several else ""
    return [(prefix + name, rows) for name, rows in groups.items()]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return f"{value:g}" if is_number(value) else json.dumps(value)


def table_values(tables: Sequence[Table], settings: ChartSettings) -> list[list[str]]:
    """The values that a figure shows, as rows of text; the first row is the heading."""
    panels = choose_panels(tables, settings)
    columns = list(
        dict.fromkeys(
            name
            for panel in panels
            for name in (panel.by, panel.x, *panel.columns)
            if name is not None
        )
    )
    rows = [
        [table.name, *(_text(row[name]) if name in row else "" for name in columns)]
        for table in tables
        for row in table.rows
        if any(is_number(row.get(column)) for panel in panels for column in panel.columns)
    ]
    return [["file", *columns], *rows]
