"""`audioae export`: export a checkpoint to an ONNX model that runs without torch."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from audioae.pretrained import Scores
    from audioae.pretrained.codec import Part


@click.command("export")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("out", metavar="[OUT.onnx]", required=False, type=click.Path(path_type=Path))
@click.option("--name", help="Name of the model.  [default: the recipe's name]")
@click.option(
    "--part",
    type=click.Choice(["whole", "encoder", "decoder"]),
    default="whole",
    help="Of an autoencoder: export the encoder or the decoder alone.",
)
@click.option(
    "--quantize",
    metavar="DATA",
    type=click.Path(path_type=Path),
    help="Of a denoiser: compute wide convolutions and LSTMs with 8 bits. DATA is a folder of "
    "prepared data: its training split calibrates them, and its validation split compares both.",
)
@click.option("--overwrite", is_flag=True, help="Replace OUT.onnx if it exists.")
@click.option(
    "--ship",
    metavar="NAME",
    help="Add the model and its card to the package under this name, instead of writing OUT.onnx. "
    "Replaces a model of that name.",
)
@click.option(
    "--scores",
    metavar="[PAIRS=]FILE.json",
    multiple=True,
    help="For the card: output of `audioae evaluate --json`; PAIRS describes the pairs. "
    "Repeatable.",
)
@click.option(
    "--data",
    metavar="TEXT",
    multiple=True,
    help="For the card: a training corpus and its licence. Repeatable.",
)
@click.option(
    "--licence", metavar="TEXT", default="MIT", help="For the card: licence of the weights."
)
@click.option("--commit", metavar="HASH", help="For the card: commit of the training code.")
@click.option("--default", is_flag=True, help="With --ship: make it the default model.")
@click.option(
    "--full-band-of",
    metavar="NAME",
    default="",
    help="With --ship: use it in place of this model for sample rates above its own.",
)
@click.option(
    "--offline-of",
    metavar="NAME",
    default="",
    help="With --ship: use it in place of this model for recordings in the quality best.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")
def command(
    checkpoint: Path,
    out: Path | None,
    name: str | None,
    part: Part,
    quantize: Path | None,
    overwrite: bool,
    ship: str | None,
    scores: tuple[str, ...],
    data: tuple[str, ...],
    licence: str,
    commit: str | None,
    default: bool,
    full_band_of: str,
    offline_of: str,
    as_json: bool,
) -> None:
    """Export a checkpoint to an ONNX model that runs without torch.

    CHECKPOINT is a .safetensors file or a run folder. Nothing is written if the gains of ONNX
    Runtime and torch differ by more than 1e-4, for whole files or in blocks. A model that was
    trained with task.kind = "reconstruct" is exported with its encoder and its decoder.

    With --quantize the file is about half as large, and the network takes about 15 % less time. If
    it has LSTMs, the output depends slightly on the blocks in which a recording is processed.

    To add a model to the package:

    \b
    audioae export RUN --ship NAME --scores FILE.json --data "CORPUS (LICENCE)" --commit HASH
    """
    if (out is None) == (ship is None):
        raise click.UsageError("give either OUT.onnx or --ship NAME")
    if ship is not None and name is not None:
        raise click.UsageError("--ship NAME sets the name; leave out --name")
    if ship is not None and part != "whole":
        raise click.UsageError("--ship takes whole models; leave out --part")
    if ship is not None and quantize is not None:
        raise click.UsageError("--ship takes float32 models; leave out --quantize")
    if ship is not None and not (data and commit):
        raise click.UsageError("--ship needs --data and --commit for the model's card")
    from audioae.errors import require

    require("torch", extra="train")
    require("onnx", extra="train")
    import audioae.training.ship as exporter
    from audioae.models.checkpoint import load_any
    from audioae.training.quantize import Quantized

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
            full_band_of=full_band_of,
            offline_of=offline_of,
        )
    else:
        model = load_any(checkpoint)
        row = exporter.export_any(
            model,
            out or "",
            name=name or model.name,
            part=part,
            quantize=quantize,
            overwrite=overwrite,
        )
    if as_json:
        click.echo(json.dumps(asdict(row)))
    else:
        size = f"{row.parameters:,} parameters, {row.bytes / 1e6:.2f} MB"
        difference = f"largest difference from torch {row.difference:.1e}"
        click.echo(f"{row.path}: {row.name}, {size}, {difference}")
        if isinstance(row, Quantized):
            click.echo(
                f"{row.layers} layers of 8 bits, {row.original_bytes / 1e6:.2f} MB before; SNR of "
                f"the gains {row.snr_db:.1f} dB"
            )
            for metric, value in row.valid.items():
                before = row.original_valid[metric]
                if value is not None and before is not None:
                    click.echo(f"{metric} {before:.4f} before, {value:.4f} now")


def _scores(option: str) -> Scores:
    from audioae.pretrained import read_scores

    pairs, _, file = option.rpartition("=")
    return read_scores(Path(file), pairs=pairs)
