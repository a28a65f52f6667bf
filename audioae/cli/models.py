"""`audioae models`: list, describe and verify the models in the package."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from audioae.cli.completion import complete_models

if TYPE_CHECKING:
    from collections.abc import Sequence

    from audioae.pretrained import Card, ModelEntry

COLUMNS = (
    "name",
    "network",
    "rate, Hz",
    "look-ahead",
    "parameters",
    "MMAC/s",
    "PESQ-WB (noisy)",
    "default",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")


@click.group("models")
def command() -> None:
    """List, describe and verify the models in the package. No command needs the network."""


@command.command("list")
@json_option
def list_command(as_json: bool) -> None:
    """List the models in the package, the default first."""
    from audioae.pretrained import list_models, load_card

    rows = [(entry, load_card(entry.name)) for entry in list_models()]
    if as_json:
        click.echo(json.dumps([_as_object(entry, card) for entry, card in rows]))
    else:
        _print_table(COLUMNS, [_as_cells(entry, card) for entry, card in rows])


@command.command("info")
@click.argument("name", shell_complete=complete_models)
@json_option
def info_command(name: str, as_json: bool) -> None:
    """Show the card of model NAME: training data, licence, training and scores.

    If NAME is the path of an .onnx file, a checkpoint or a run folder, the model is loaded and its
    properties are shown.
    """
    from audioae.pretrained import card_markdown, get_entry, list_models, load_card

    if all(entry.name != name for entry in list_models()):
        _show_file(name, as_json)
        return
    entry, card = get_entry(name), load_card(name)
    if as_json:
        click.echo(json.dumps({**_as_object(entry, card), "card": card.to_dict()}))
    else:
        click.echo(card_markdown(card), nl=False)


@command.command("verify")
@click.argument("name", required=False, shell_complete=complete_models)
@json_option
@click.pass_context
def verify_command(ctx: click.Context, name: str | None, as_json: bool) -> None:
    """Verify the sha256 of model NAME, or of every model in the package.

    Exit codes: 0 all intact, 1 a model is damaged.
    """
    from audioae.errors import CheckpointError
    from audioae.pretrained import ModelCheck, list_models, verify_model

    try:
        names = [name] if name else [entry.name for entry in list_models()]
        checks = [verify_model(each) for each in names]
    except CheckpointError as error:  # the registry itself
        checks = [ModelCheck("models.json", "", (str(error),))]
    if as_json:
        rows = [
            {"name": each.name, "ok": each.ok, "sha256": each.sha256, "problems": each.problems}
            for each in checks
        ]
        click.echo(json.dumps(rows))
    else:
        cells = [
            [each.name, each.sha256[:12] or "-", "; ".join(each.problems) or "ok"]
            for each in checks
        ]
        _print_table(["name", "sha256", "result"], cells)
    if not all(each.ok for each in checks):
        ctx.exit(1)


def _show_file(path: str, as_json: bool) -> None:
    """Show the properties of a model that is not in the package."""
    from audioae.engine import load_any
    from audioae.pretrained import CodecInfo, file_hash, find_model

    file, info = find_model(path), load_any(path, device="cpu").info
    values = {"name": info.name, "path": str(file), "sha256": file_hash(file)}
    properties = info.to_dict()
    if isinstance(info, CodecInfo):
        properties["weights_sha256"] = properties.pop("sha256")  # of the weights, not of the file
    if as_json:
        click.echo(json.dumps({**values, "info": info.to_dict()}))
        return
    if isinstance(info, CodecInfo):
        own = info.features
        properties["features"] = f"{own.kind}, {own.num_bins} bins, {own.sample_rate} Hz"
    else:
        stft = info.stft
        properties["stft"] = f"{stft.sample_rate} Hz, {stft.n_fft}/{stft.hop_length}"
    _print_table(["property", "value"], [[k, str(v)] for k, v in (values | properties).items()])


def _as_object(entry: ModelEntry, card: Card) -> dict[str, Any]:
    return {
        "name": entry.name,
        "default": entry.default,
        "path": str(entry.path),
        "sha256": entry.sha256,
        "info": card.info.to_dict(),
    }


def _as_cells(entry: ModelEntry, card: Card) -> list[str]:
    """One row of the table of `models list`, in the order of `COLUMNS`."""
    from audioae.pretrained import CodecInfo

    info, macs = card.info, f"{card.info.macs_per_second / 1e6:.1f}"
    if isinstance(info, CodecInfo):
        rate = str(info.features.sample_rate)
        return [entry.name, info.family, rate, "-", f"{info.parameters:,}", macs, "-", ""]
    frame = info.stft.hop_length / info.stft.sample_rate * 1000  # ms
    lookahead = "none" if info.causal else f"{info.lookahead * frame:.0f} ms"
    score = "-"
    if card.scores and (pesq := card.scores[0].enhanced.get("pesq_wb")) is not None:
        noisy = card.scores[0].noisy.get("pesq_wb")
        score = f"{pesq:.2f}" + (f" ({noisy:.2f})" if noisy is not None else "")
    return [
        entry.name,
        info.family,
        str(info.stft.sample_rate),
        lookahead,
        f"{info.parameters:,}",
        macs,
        score,
        "yes" if entry.default else "",
    ]


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns of text on stdout, each as wide as its longest cell."""
    table = [list(columns), *map(list, rows)]
    widths = [max(len(row[index]) for row in table) for index in range(len(columns))]
    for row in table:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        click.echo("  ".join(cells).rstrip())
