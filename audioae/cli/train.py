"""`audioae train`: train a model from a recipe, on prepared data or on recordings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from audioae.cli.options import available_cores, listen_for_interrupt, quiet_option
from audioae.cli.progress import progress_mode, progress_option, show_progress
from audioae.cli.training_rows import print_line, show_rows

if TYPE_CHECKING:
    from audioae.data.material import Material
    from audioae.data.prepare import PrepareProgress as Prepared
    from audioae.models.checkpoint import Model
    from audioae.training import Row
    from audioae.training.recipe import Recipe


@click.command("train")
@click.argument("recipe", required=False)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Run folder for checkpoints and history.jsonl.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="DATA",
    help="Data folder, as written by audioae prepare.",
)
@click.option(
    "--clean",
    multiple=True,
    metavar="DIR",
    help="Folder of clean speech recordings, prepared into RUN/data. Repeatable.",
)
@click.option(
    "--noise",
    multiple=True,
    metavar="DIR",
    help="Folder of noise recordings, prepared into RUN/data. Repeatable.",
)
@click.option(
    "--rir",
    multiple=True,
    metavar="DIR",
    help="Folder of room impulse responses, prepared into RUN/data. Repeatable.",
)
@click.option(
    "--sounds",
    multiple=True,
    metavar="DIR",
    help="Folder of any sounds for a recipe that reconstructs, prepared into RUN/data. Repeatable.",
)
@click.option(
    "--from",
    "model",
    metavar="MODEL",
    help="Start from the weights of a shipped model, a run folder or a checkpoint. Without RECIPE, "
    "fine-tune it: its recipe with fewer steps and a lower learning rate.",
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a recipe key, such as training.steps=1000. Repeatable.",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    help="Device to train on.",
)
@click.option(
    "--tensorboard", is_flag=True, help="Write curves, audio and spectrograms to RUN/tensorboard."
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print each report as a JSON object on stdout."
)
@progress_option
@quiet_option
def command(
    recipe: str | None,
    out: Path,
    data: Path | None,
    clean: tuple[str, ...],
    noise: tuple[str, ...],
    rir: tuple[str, ...],
    sounds: tuple[str, ...],
    model: str | None,
    overrides: tuple[str, ...],
    device: str,
    tensorboard: bool,
    as_json: bool,
    progress: str,
    quiet: bool,
) -> None:
    """Train a model from a recipe.

    RECIPE is a .toml file or the name of a recipe in the package; the default is quick-16k. Give
    your own recordings, a data folder, or both, such as your own noise and the speech of DATA:

    \b
    audioae train --clean SPEECH --noise NOISE --out RUN
    audioae train --noise NOISE --data DATA --from MODEL --out RUN
    audioae train RECIPE --sounds SOUNDS --out RUN

    The last line is for recipes with task.kind = "reconstruct", whose models encode sounds instead
    of denoising them. They need recordings of one kind only.

    Ctrl-C stops a run after the current step. Repeat the command to resume it.

    Several processes: torchrun --nproc-per-node=2 -m audioae train ...
    """
    from audioae.errors import require

    # Before torch is imported: threads that spin while waiting can be 100 times slower on shared
    # cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    require("torch", extra="train")
    from audioae.data.material import Material
    from audioae.models.checkpoint import stages_before
    from audioae.training import check_metrics, keep_freed_memory, process_group

    keep_freed_memory()
    if tensorboard:
        from audioae.training.tracking import check_tracking_path

        check_tracking_path(out)
    if sounds:  # they are prepared like noise, without the checks for clean speech
        overrides = (*overrides, "task.source=noise")
    plan, weights = choose_plan(recipe, model, overrides)
    check_metrics(plan.training)
    found = data or (stored_data(weights) if weights else None)
    material = Material(clean, (*noise, *sounds), rir, found, plan.roles)
    with process_group() as team:
        quiet = quiet or not team.leads
        mode = progress_mode(progress, quiet=quiet) if team.leads else "none"
        folder = team.from_first(lambda: gather_material(material, out / "data", plan, mode, quiet))
        network = plan.build()
        if weights and not (out / "resume.safetensors").exists():
            print_line(load_from(weights, network), quiet)
        about = {
            "recipe": plan.to_dict(),
            "data": str(folder),
            "stages": stages_before(out, weights),
        }
        shown = show_progress(
            mode, plan.name, total=plan.training.steps, unit="steps", is_long=True, knows_end=True
        )
        with listen_for_interrupt() as interrupted, shown as advance:
            rows = fit_rows(
                plan, network, folder, out, about, interrupted, device, tensorboard and team.leads
            )
            any_rows = show_rows(rows, plan, advance, quiet, as_json)
            if interrupted:
                raise KeyboardInterrupt
        if not any_rows and team.leads:
            print_line(
                f"{plan.name}: all {plan.training.steps:,} steps are done in {out}; train longer "
                "with --set training.steps=N",
                quiet,
            )
        task = (
            "export {} model.onnx"
            if plan.reconstructs
            else "denoise --model {} noisy.wav enhanced.wav"
        )
        print_line(f"try it: audioae {task.format(out)}", quiet)


def choose_plan(
    recipe: str | None, model: str | None, overrides: tuple[str, ...]
) -> tuple[Recipe, Path | None]:
    """The recipe, and the checkpoint to start from, if any."""
    from audioae.models.checkpoint import trained_file
    from audioae.training.recipe import DEFAULT_RECIPE, find_recipe, read_recipe, stored_recipe

    weights = trained_file(model) if model else None
    if weights and not recipe:
        return stored_recipe(weights, overrides, tune=True), weights
    plan = read_recipe(find_recipe(recipe or DEFAULT_RECIPE), overrides)
    if plan.task.start == "whitened" and not weights:
        raise click.UsageError(
            "task.start = 'whitened' changes the weights of a trained model; give it with --from"
        )
    if plan.task.start == "pca" and weights:
        raise click.UsageError(
            "--from and task.start = 'pca' both set the initial weights; add --set "
            "task.start=random, or leave out --from"
        )
    return plan, weights


def stored_data(weights: Path) -> Path | None:
    """The data folder that a checkpoint was trained on, if it still exists."""
    from audioae.models.checkpoint import read_about

    data = read_about(weights).get("data")
    return Path(data) if data and (Path(data) / "data.json").exists() else None


def gather_material(material: Material, folder: Path, plan: Recipe, mode: str, quiet: bool) -> Path:
    """Prepare the user's recordings, if any, and print a summary.

    Returns:
        The data folder to train on.
    """
    from audioae.cli.prepare import describe_summary, show_preparing
    from audioae.data.material import HELD_SHARE, gather
    from audioae.errors import counted

    printed: set[str] = set()
    with show_preparing(mode) as show:

        def report(progress: Prepared) -> None:
            if progress.role not in printed and progress.done < progress.total:
                printed.add(progress.role)
                print_line(
                    f"preparing {counted(progress.total - progress.done, 'file')} of "
                    f"{progress.role} into {folder}",
                    quiet,
                )
            show(progress)

        jobs = available_cores()
        data, summary = gather(
            material, folder, sample_rate=plan.sample_rate, jobs=jobs, progress=report
        )
    alone = (
        f"{{role}}: there is a single source, so the last {HELD_SHARE:.0%} of the longest "
        "recording is used for validation"
    )
    for line in describe_summary(summary, folder, alone) if summary else ():
        print_line(line, quiet)
    return data


def load_from(weights: Path, model: Model) -> str:
    """Load the weights to start from; returns a line that describes them."""
    from audioae.models.checkpoint import load_start, read_tensors

    count = load_start(model, read_tensors(weights)[0], weights)
    added = len(model.state_dict()) - count
    return f"loaded {count} of {count} tensors from {weights}" + (
        f"; the network has {added} more" if added else ""
    )


def fit_rows(
    plan: Recipe,
    model: Model,
    folder: Path,
    out: Path,
    about: dict[str, Any],
    interrupted: list[int],
    device: str,
    tensorboard: bool,
) -> Iterator[Row]:
    """The rows of the training, which are also written to TensorBoard if wanted."""
    from audioae.training import fit

    rows = fit(
        model,
        plan.training,
        plan.data,
        folder=folder,
        out=out,
        about=about,
        source=plan.task.source,
        start=plan.task.start,
        stop=lambda: bool(interrupted),
        device=device,
    )
    if not tensorboard:
        yield from rows
        return
    from audioae.training.tracking import Mixtures, Sounds, Tracker

    examples = (
        Sounds(folder, plan.data, plan.task.source, plan.training)
        if plan.reconstructs
        else Mixtures(folder, plan.data, plan.training, plan.stft)
    )
    tracker = Tracker(out, plan.training, examples)
    try:
        for row in rows:
            tracker.write(row)
            yield row
    finally:
        tracker.close()
