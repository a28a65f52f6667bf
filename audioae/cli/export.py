"""`audioae export CHECKPOINT OUT.onnx`: turn a checkpoint into an ONNX model that needs no torch."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from audioae.pretrained import Scores


@click.command("export")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("out", metavar="[OUT.onnx]", required=False, type=click.Path(path_type=Path))
@click.option("--name", help="What the model calls itself.  [default: the recipe's name]")
@click.option("--overwrite", is_flag=True, help="Replace OUT.onnx if it exists.")
@click.option(
    "--ship",
    metavar="NAME",
    help="Write it into the package's weights instead of OUT.onnx, with a card, in place of an "
    "earlier NAME.",
)
@click.option(
    "--scores",
    metavar="[WORDS=]FILE.json",
    multiple=True,
    help="For the card: what `audioae evaluate --json` printed; WORDS name the pairs.",
)
@click.option(
    "--data",
    metavar="TEXT",
    multiple=True,
    help="For the card: a corpus that it learnt from, with its licence.",
)
@click.option(
    "--licence", metavar="TEXT", default="MIT", help="For the card: the licence of the weights."
)
@click.option("--commit", metavar="HASH", help="For the card: the code that trained it.")
@click.option("--default", is_flag=True, help="Make the shipped model the default.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print what was written as a JSON object on stdout."
)
def command(
    checkpoint: Path,
    out: Path | None,
    name: str | None,
    overwrite: bool,
    ship: str | None,
    scores: tuple[str, ...],
    data: tuple[str, ...],
    licence: str,
    commit: str | None,
    default: bool,
    as_json: bool,
) -> None:
    """Turn CHECKPOINT, a .safetensors file or a run folder, into an ONNX model that needs no torch.

    Nothing is written when the gains of ONNX Runtime and of torch differ by more than 1e-4, whole
    or in blocks.

    To put a model into the package:

    \b
    audioae export RUN --ship NAME --scores FILE.json --data "CORPUS (LICENCE)" --commit HASH
    """
    if (out is None) == (ship is None):
        raise click.UsageError("give either OUT.onnx or --ship NAME")
    if ship is not None and name is not None:
        raise click.UsageError("--ship NAME names the model; leave --name out")
    if ship is not None and not (scores and data and commit):
        raise click.UsageError("--ship needs --scores, --data and --commit for the model's card")
    from audioae.errors import require

    require("torch", extra="train")
    require("onnx", extra="train")
    import audioae.training.export as exporter
    from audioae.models.checkpoint import load_denoiser

    if ship is not None:
        found = [_scores(each) for each in scores]
        row = exporter.ship(
            checkpoint,
            name=ship,
            data=data,
            licence=licence,
            commit=commit or "",
            scores=found,
            default=default,
        )
    else:
        denoiser = load_denoiser(checkpoint)
        row = exporter.export(
            denoiser, out or "", name=name or denoiser.info.name, overwrite=overwrite
        )
    told = f"{row.parameters:,} parameters, {row.bytes / 1e6:.2f} MB, within {row.difference:.1e} of torch"
    click.echo(json.dumps(asdict(row)) if as_json else f"{row.path}: {row.name}, {told}")


def _scores(option: str) -> Scores:
    from audioae.pretrained import read_scores

    words, _, file = option.rpartition("=")
    return read_scores(Path(file), pairs=words)
