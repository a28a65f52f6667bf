"""`audioae models`: list, describe and verify the models in the package."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from audioae.cli.completion import complete_models

if TYPE_CHECKING:
    from collections.abc import Sequence

    from audioae.pretrained import Card, Entry

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")


@click.group("models")
def command() -> None:
    """List, describe and verify the models in the package. None of it needs a network connection."""


@command.command("list")
@json_option
def list_command(as_json: bool) -> None:
    """List the models in the package, the default first."""
    from audioae.pretrained import list_models, load_card

    rows = [(entry, load_card(entry.name)) for entry in list_models()]
    if as_json:
        click.echo(json.dumps([_as_object(entry, card) for entry, card in rows]))
        return
    columns = [
        "name",
        "network",
        "rate, Hz",
        "timing",
        "parameters",
        "MMAC/s",
        "PESQ-WB (noisy)",
        "default",
    ]
    _print_table(columns, [_as_cells(entry, card) for entry, card in rows])


@command.command("info")
@click.argument("name", shell_complete=complete_models)
@json_option
def info_command(name: str, as_json: bool) -> None:
    """Show the card of model NAME: its data, licence, training and scores."""
    from audioae.pretrained import card_markdown, get_entry, load_card

    entry, card = get_entry(name), load_card(name)
    click.echo(
        json.dumps({**_as_object(entry, card), "card": card.to_dict()})
        if as_json
        else card_markdown(card),
        nl=as_json,
    )


@command.command("verify")
@click.argument("name", required=False, shell_complete=complete_models)
@json_option
@click.pass_context
def verify_command(ctx: click.Context, name: str | None, as_json: bool) -> None:
    """Compare model NAME, or every model, with its sha256 as shipped; exit code 1 if one is
    damaged.
    """
    from audioae.pretrained import list_models, verify_model

    verdicts = [
        verify_model(each) for each in ([name] if name else [entry.name for entry in list_models()])
    ]
    if as_json:
        click.echo(
            json.dumps(
                [
                    {"name": v.name, "ok": v.ok, "sha256": v.sha256, "problems": v.problems}
                    for v in verdicts
                ]
            )
        )
    else:
        _print_table(
            ["name", "sha256", "verdict"],
            [[v.name, v.sha256[:12] or "-", "; ".join(v.problems) or "ok"] for v in verdicts],
        )
    if not all(verdict.ok for verdict in verdicts):
        ctx.exit(1)


def _as_object(entry: Entry, card: Card) -> dict[str, Any]:
    return {
        "name": entry.name,
        "default": entry.default,
        "path": str(entry.path),
        "sha256": entry.sha256,
        "info": card.info.to_dict(),
    }


def _as_cells(entry: Entry, card: Card) -> list[str]:
    info = card.info
    frame = info.stft.hop_length / info.stft.sample_rate * 1000
    timing = "live" if info.causal else f"{info.lookahead * frame:.0f} ms ahead"
    score = "-"
    if card.scores and (pesq := card.scores[0].enhanced.get("pesq_wb")) is not None:
        noisy = card.scores[0].noisy.get("pesq_wb")
        score = f"{pesq:.2f}" + (f" ({noisy:.2f})" if noisy is not None else "")
    size = [f"{info.parameters:,}", f"{info.macs_per_second / 1e6:.1f}"]
    return [
        entry.name,
        info.family,
        str(info.stft.sample_rate),
        timing,
        *size,
        score,
        "yes" if entry.default else "",
    ]


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns of text on stdout, as wide as their longest cell."""
    table = [list(columns), *map(list, rows)]
    widths = [max(len(row[index]) for row in table) for index in range(len(columns))]
    for row in table:
        click.echo(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )
