"""`audioae evaluate --against-pca`: autoencoders beside PCA of the same code size."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from audioae.cli.evaluate import EvaluateOptions
    from audioae.tasks.pca import PcaComparison


def pca_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of `compare_with_pca`, for the command."""
    given = click.option(
        "--against-pca",
        type=click.Path(path_type=Path),
        metavar="DATA|FILE|DIR",
        help="Compare each --model, an autoencoder, with PCA of the same code size: on a data "
        "folder written by audioae prepare, an audio file or a folder of them.",
    )
    plot = click.option(
        "--plot",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE.png",
        help="With --against-pca: draw the error of PCA and of the models against the code size.",
    )
    return given(plot(command))


def compare_with_pca(options: EvaluateOptions) -> None:
    """Compare each model with PCA, print the rows and draw them if wanted."""
    others = (options.pairs, options.clean, options.noisy_only, options.rows, options.csv)
    if any(each is not None for each in others) or options.preset or options.quality:
        raise click.UsageError(
            "--against-pca scores autoencoders; of the other options only --model, --plot, "
            "--overwrite, --device and --json apply"
        )
    if not options.model:
        raise click.UsageError("--against-pca needs --model, an autoencoder")
    assert options.against_pca is not None
    if not options.against_pca.exists():
        raise click.UsageError(
            f"--against-pca {options.against_pca} does not exist; give a data folder, an audio "
            "file or a folder of them"
        )
    if options.plot is not None and options.plot.exists() and not options.overwrite:
        raise click.UsageError(f"{options.plot} exists; give another path or pass --overwrite")
    from audioae.errors import require
    from audioae.tasks import Codec
    from audioae.tasks.pca import MAX_PATCHES, compare, pca_curve, plot_errors, sounds_of
    from audioae.tasks.pca import take_patches as take

    require("sklearn", extra="tasks")
    rows: list[PcaComparison] = []
    curve: list[tuple[int, float]] = []
    sounds: dict[str, Any] = {}  # by what they depend on, so that models of a recipe share them
    for model in options.model:
        codec, recipe = Codec(model, device=options.device), _recipe(model)
        key = repr((codec.settings, (recipe or {}).get("task"), (recipe or {}).get("data")))
        if key not in sounds:
            sounds[key] = sounds_of(codec, options.against_pca, recipe)
        fitted, held_out = sounds[key]
        rows.append(compare(codec, fitted, held_out))
        if not curve:
            frames = codec.info.stride
            patches = [take(each, frames, MAX_PATCHES) for each in (fitted, held_out)]
            most = min(128, patches[0].shape[1] - 1, len(patches[0]) - 1)
            sizes = [size for size in (1, 2, 4, 8, 16, 32, 64, 128) if size <= most]
            curve = pca_curve(patches[0], patches[1], sizes)
    if len({row.model for row in rows}) < len(rows):  # two runs of one recipe
        rows = [replace(row, model=each) for row, each in zip(rows, options.model, strict=True)]
    if options.plot is not None:
        plot_errors(rows, curve, options.plot)
    if options.as_json:
        pca = [{"code_size": size, "error": error} for size, error in curve]
        click.echo(json.dumps({"models": [row.to_dict() for row in rows], "pca": pca}))
        return
    for row in rows:
        click.echo(describe(row))


def describe(row: PcaComparison) -> str:
    """A line about a comparison."""
    angles = ""
    if row.angles_deg is not None:
        angles = f", largest principal angle {max(row.angles_deg):.1f} degrees"
    return (
        f"{row.model}: {row.code_size} values per patch of {row.patch_frames} frames, error "
        f"{row.model_error:.6f}, PCA {row.pca_error:.6f} (ratio {row.ratio:.4f}), mean patch "
        f"{row.mean_error:.6f}, {row.held_out:,} held-out patches{angles}"
    )


def _recipe(model: str) -> dict[str, Any] | None:
    """The recipe of a checkpoint or a run folder; None for an ONNX file."""
    from audioae.pretrained import find_model

    if find_model(model).suffix == ".onnx":
        return None
    from audioae.models.checkpoint import read_about

    recipe: dict[str, Any] | None = read_about(find_model(model)).get("recipe")
    return recipe
