"""The results of `audioae evaluate` as JSON, as CSV and as tables on a terminal; its warnings."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.table import Table

    from audioae.evaluation import Comparison, Mean, Means, PairRow

DECIMALS = {"MOS": 2, "0..1": 3, "dB": 1, "%": 1}  # in the tables, by unit
PESQ_NOTE = "PESQ is P.862.2 without Corrigendum 2 (pesq package)"
VERDICT = {"input_snr_db": "SNR dB", "speech_kept": "speech kept", "out_of_domain": "not speech"}


@dataclass(frozen=True)
class Result:
    """The rows of an evaluation.

    Args:
        source: where the recordings are from.
        rows: of all pairs and systems.
        quality: in which all systems denoised; empty if in several, or if they did not.
    """

    source: str
    rows: Sequence[PairRow]
    quality: str = ""

    @cached_property
    def systems(self) -> dict[str, list[PairRow]]:
        """The rows of each system that has scores."""
        found: dict[str, list[PairRow]] = {}
        for row in self.rows:
            found.setdefault(row.system, []).append(row)
        return found

    @cached_property
    def means(self) -> dict[str, dict[str, Means]]:
        """The means by system and metric."""
        from audioae.evaluation import summarise

        return {name: summarise(rows) for name, rows in self.systems.items()}

    @cached_property
    def comparisons(self) -> dict[str, dict[str, Comparison]]:
        """Each further system compared with the first."""
        from audioae.evaluation import compare

        (_, first), *others = self.systems.items()
        return {name: compare(first, rows) for name, rows in others}


def unit_of(metric: str) -> str:
    """The unit of a metric or of the word error rate."""
    from audioae.evaluation.metrics import METRICS
    from audioae.evaluation.recognition import WER_UNIT

    return METRICS[metric].unit if metric in METRICS else WER_UNIT


def as_object(result: Result) -> dict[str, Any]:
    """The JSON object of a result.

    For a single system, `model`, `quality` and `means` are at the top, as `audioae export --scores`
    reads them.
    """
    from audioae.evaluation import by_band, by_group

    systems = [
        {
            "name": name,
            "means": _means_object(result.means[name]),
            "snr_bands": _by_key(by_band(rows)),
            "classes": _by_key(by_group(rows)),
        }
        for name, rows in result.systems.items()
    ]
    scored = {row.name for row in result.rows if row.error is None}
    alone: dict[str, Any] = {}
    if len(systems) == 1:
        alone = {"model": systems[0]["name"], "quality": result.quality}
        alone["means"] = systems[0]["means"]
    return {
        **alone,
        "pairs": result.source,
        "count": len(scored),
        "failed": sum(row.error is not None for row in result.rows),
        "note": PESQ_NOTE,
        "systems": systems,
        "comparisons": _comparison_objects(result),
        "rows": [row.to_dict() for row in result.rows],
    }


def _comparison_objects(result: Result) -> list[dict[str, Any]]:
    if not result.rows:
        return []
    first = next(iter(result.systems))
    return [
        {
            "first": first,
            "second": name,
            "metrics": {metric: asdict(one) for metric, one in by_metric.items()},
        }
        for name, by_metric in result.comparisons.items()
    ]


def _means_object(means: Mapping[str, Means]) -> dict[str, Any]:
    return {name: {"unit": unit_of(name), **one.to_dict()} for name, one in means.items()}


def _by_key(groups: Mapping[str, Sequence[PairRow]]) -> dict[str, Any]:
    from audioae.evaluation import summarise

    return {
        key: {"count": len(rows), "means": _means_object(summarise(rows))}
        for key, rows in groups.items()
    }


def csv_lines(rows: Sequence[PairRow]) -> Iterable[str]:
    """The lines of a CSV file: a header, and a line per pair and system."""
    from audioae.evaluation.recognition import WER

    metrics = dict.fromkeys(name for row in rows for name in (*row.noisy, *row.enhanced))
    facts = ["name", "system", "group", "snr_db", "seconds", "sample_rate", "words", "error"]
    sides = [("clean", WER)] if any(row.clean for row in rows) else []
    sides += [(side, name) for name in metrics for side in ("noisy", "enhanced")]
    verdict = dict.fromkeys(name for row in rows for name in row.verdict or ())
    head = [*facts, *(f"{side}_{name}" for side, name in sides), *verdict]
    yield _csv_line(head)
    for row in rows:
        values = [getattr(row, name) for name in facts]
        values += [getattr(row, side).get(name) for side, name in sides]
        yield _csv_line([*values, *((row.verdict or {}).get(name) for name in verdict)])


def _csv_line(values: Sequence[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue()


@contextmanager
def open_new(path: Path | None, *, overwrite: bool) -> Iterator[IO[str] | None]:
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
        # Bytes of file names that are not UTF-8 are written as \udcxx.
        with temporary.path.open(
            "w", encoding="utf-8", errors="backslashreplace", newline=""
        ) as file:
            yield file
        with output_errors(path):
            temporary.commit()


def report_problems(rows: Sequence[PairRow]) -> None:
    """Print the pairs that failed, and the missing metrics, one line per metric and reason."""
    several = len({row.system for row in rows}) > 1
    for row in rows:
        if row.error is not None:
            of = f" ({row.system})" if several else ""
            click.echo(f"Error: {row.name}{of}: {row.error}", err=True)
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


def print_tables(result: Result) -> None:
    """Print all tables on stdout; outside a terminal their width is not limited."""
    from audioae.evaluation import by_band, by_group

    if len(result.systems) == 1:
        _print(_each_pair(result))
    if any(row.error is None for row in result.rows):
        _print(_all_means(result))
    for title, split in (("SNR", by_band), ("class", by_group)):
        groups = {name: split(rows) for name, rows in result.systems.items()}
        if len(next(iter(groups.values()))) > 1:
            _print(_split_means(result, title, groups))
    if result.comparisons:
        _print(_differences(result))


def _print(table: Table) -> None:
    from rich.console import Console
    from rich.measure import Measurement

    console = Console()
    if not console.is_terminal:
        wide = Console(width=10_000)
        console.width = max(80, Measurement.get(wide, wide.options, table).maximum)
    console.print(table)
    console.print()


def _table(title: str, **options: Any) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    # Without edges, the default metrics fit into 80 columns.
    return Table(title=escape(title), box=box.SIMPLE, show_edge=False, pad_edge=False, **options)


def _each_pair(result: Result) -> Table:
    """A row per pair, with the means in the footer."""
    from rich.markup import escape

    from audioae.errors import counted

    (system, rows), *_ = result.systems.items()
    scored = [row for row in rows if row.error is None]
    means = result.means[system]
    table = _table(
        f"{system} on {counted(len(rows), 'pair')}: noisy -> enhanced",
        caption=PESQ_NOTE,
        show_footer=True,
    )
    seconds = sum(row.seconds for row in scored) / max(len(scored), 1)
    table.add_column("file", "mean", no_wrap=True)
    table.add_column("s", f"{seconds:.1f}", justify="right", no_wrap=True)
    for name, both in means.items():
        counts = [side.count for side in (both.noisy, both.enhanced)]
        footer = f"{_figure(both.noisy.value, name)} -> {_figure(both.enhanced.value, name)}"
        if min(counts) < len(rows):
            footer += f" (of {counts[0]}, {counts[1]})"
        table.add_column(f"{name} {unit_of(name)}", footer, justify="right", no_wrap=True)
    verdict = VERDICT if any(row.verdict for row in rows) else {}
    for title in verdict.values():
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        cells = [
            f"{_figure(row.noisy.get(name), name)} -> {_figure(row.enhanced.get(name), name)}"
            for name in means
        ]
        facts = [(row.verdict or {}).get(name) for name in verdict]
        table.add_row(
            escape(row.name),
            "failed" if row.error else f"{row.seconds:.1f}",
            *cells,
            *("none" if fact is None else f"{fact:.2f}" for fact in facts),
        )
    return table


def _all_means(result: Result) -> Table:
    """For each metric its mean with the interval, its median, and the change of each system."""
    first = next(iter(result.means.values()))
    table = _table("Means [95 % intervals]")
    table.add_column("metric", no_wrap=True)
    with_clean = any(means.clean for means in first.values())
    for title in (*(["clean"] if with_clean else []), "noisy", *result.means):
        table.add_column(title or "enhanced", justify="right", no_wrap=True)
    for name in first:
        by_system = [means[name] for means in result.means.values()]
        sides: list[Mean | None] = [first[name].clean] if with_clean else []
        sides += [first[name].noisy, *(each.enhanced for each in by_system)]
        table.add_row(f"{name} {unit_of(name)}", *(_with_interval(side, name) for side in sides))
        medians = (_figure(side.median if side else None, name) for side in sides)
        table.add_row("  median", *medians)
        blank = [""] * (len(sides) - len(by_system))
        changes = (_with_interval(each.change, name, sign="+") for each in by_system)
        table.add_row("  change", *blank, *changes)
    return table


def _split_means(
    result: Result, title: str, groups: Mapping[str, Mapping[str, Sequence[PairRow]]]
) -> Table:
    """The means of each part of the pairs: a row for the noisy recordings and one per system."""
    from rich.markup import escape

    from audioae.evaluation import summarise

    metrics = list(next(iter(result.means.values())))
    table = _table(f"Means by {title}")
    for head in (title, "pairs", ""):
        table.add_column(head, no_wrap=True)
    for name in metrics:
        table.add_column(f"{name} {unit_of(name)}", justify="right", no_wrap=True)
    for key, first in next(iter(groups.values())).items():
        noisy = summarise(first)
        before = [_figure(noisy[name].noisy.value, name) for name in metrics]
        table.add_row(escape(key), str(len(first)), "noisy", *before)
        for system, parts in groups.items():
            means = summarise(parts.get(key, []))
            known = [means[name].enhanced.value if name in means else None for name in metrics]
            cells = [_figure(value, name) for value, name in zip(known, metrics, strict=True)]
            table.add_row("", "", escape(system or "enhanced"), *cells)
    return table


def _differences(result: Result) -> Table:
    """The paired differences of each further system to the first."""
    from rich.markup import escape

    first = next(iter(result.systems))
    table = _table(f"Paired difference to {first} [95 % interval], share of pairs that are higher")
    table.add_column("metric", no_wrap=True)
    for name in result.comparisons:
        table.add_column(escape(name), justify="right", no_wrap=True)
    for metric in next(iter(result.means.values())):
        cells = []
        for by_metric in result.comparisons.values():
            one = by_metric.get(metric)
            known = one is not None and one.higher is not None
            cells.append(
                f"{_with_interval(one.difference, metric, sign='+')}, {100 * one.higher:.0f} %"
                if known and one is not None and one.higher is not None
                else "none"
            )
        table.add_row(f"{metric} {unit_of(metric)}", *cells)
    return table


def _with_interval(mean: Mean | None, metric: str, *, sign: str = "") -> str:
    if mean is None:
        return "none"
    text = _figure(mean.value, metric, sign)
    if mean.low is None:
        return text
    # A backslash keeps rich from reading the bracket as markup.
    return f"{text} \\[{_figure(mean.low, metric)}, {_figure(mean.high, metric)}]"


def _figure(value: float | None, metric: str, sign: str = "") -> str:
    return "none" if value is None else f"{value:{sign}.{DECIMALS[unit_of(metric)]}f}"
