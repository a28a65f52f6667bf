"""`audioae train`: train a denoiser from a recipe, on prepared data or on recordings."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from audioae.cli.options import listen_for_interrupt
from audioae.cli.progress import Advance, progress_option, show_progress

if TYPE_CHECKING:
    from audioae.data.material import Material
    from audioae.data.prepare import PrepareProgress as Prepared
    from audioae.models import Denoiser
    from audioae.training import Noisy, Report, Row, Start
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
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def command(
    recipe: str | None,
    out: Path,
    data: Path | None,
    clean: tuple[str, ...],
    noise: tuple[str, ...],
    rir: tuple[str, ...],
    model: str | None,
    overrides: tuple[str, ...],
    device: str,
    tensorboard: bool,
    as_json: bool,
    progress: str,
    quiet: bool,
) -> None:
    """Train a denoiser from a recipe.

    RECIPE is a .toml file or the name of a recipe in the package; the default is quick-16k. Give
    your own recordings, a data folder, or both, such as your own noise and the speech of DATA:

    \b
    audioae train --clean SPEECH --noise NOISE --out RUN
    audioae train --noise NOISE --data DATA --from MODEL --out RUN

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
    plan, weights = choose_plan(recipe, model, overrides)
    check_metrics(plan.training)
    material = Material(clean, noise, rir, data or (stored_data(weights) if weights else None))
    with process_group() as team:
        quiet = quiet or not team.leads
        mode = "none" if quiet and (progress == "auto" or not team.leads) else progress
        folder = team.from_first(lambda: gather_material(material, out / "data", plan, mode, quiet))
        denoiser = plan.build()
        if weights and not (out / "resume.safetensors").exists():
            print_line(load_from(weights, denoiser), quiet)
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
                plan, denoiser, folder, out, about, interrupted, device, tensorboard and team.leads
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
        print_line(f"try it: audioae denoise --model {out} noisy.wav enhanced.wav", quiet)


def choose_plan(
    recipe: str | None, model: str | None, overrides: tuple[str, ...]
) -> tuple[Recipe, Path | None]:
    """The recipe, and the checkpoint to start from, if any."""
    from audioae.models.checkpoint import trained_file
    from audioae.training.recipe import DEFAULT_RECIPE, find_recipe, read_recipe, stored_recipe

    weights = trained_file(model) if model else None
    if weights and not recipe:
        return stored_recipe(weights, overrides, tune=True), weights
    return read_recipe(find_recipe(recipe or DEFAULT_RECIPE), overrides), weights


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

        jobs = os.cpu_count() or 1
        data, summary = gather(
            material, folder, sample_rate=plan.stft.sample_rate, jobs=jobs, progress=report
        )
    alone = (
        f"{{role}}: there is a single source, so the last {HELD_SHARE:.0%} of the longest "
        "recording is used for validation"
    )
    for line in describe_summary(summary, folder, alone) if summary else ():
        print_line(line, quiet)
    return data


def load_from(weights: Path, denoiser: Denoiser) -> str:
    """Load the weights to start from; returns a line that describes them."""
    from audioae.models.checkpoint import load_start, read_tensors

    count = load_start(denoiser, read_tensors(weights)[0], weights)
    added = len(denoiser.state_dict()) - count
    return f"loaded {count} of {count} tensors from {weights}" + (
        f"; the network has {added} more" if added else ""
    )


def fit_rows(
    plan: Recipe,
    denoiser: Denoiser,
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
        denoiser,
        plan.training,
        plan.data,
        folder=folder,
        out=out,
        about=about,
        stop=lambda: bool(interrupted),
        device=device,
    )
    if not tensorboard:
        yield from rows
        return
    from audioae.training.tracking import Tracker

    tracker = Tracker(out, folder, plan.data, plan.training, plan.stft)
    try:
        for row in rows:
            tracker.write(row)
            yield row
    finally:
        tracker.close()


def show_rows(
    rows: Iterator[Row], plan: Recipe, advance: Advance, quiet: bool, as_json: bool
) -> bool:
    """Print the rows; returns whether there were any."""
    from audioae.errors import counted
    from audioae.training import Mixing, Noisy, Progress, Report, Start

    shown, left, any_rows = 0, 0.0, False
    for row in rows:
        any_rows = True
        if isinstance(row, Mixing):
            print_line(
                f"mixing {counted(row.pairs, 'validation pair')} of {row.seconds:g} s and scoring "
                "the noisy side",
                quiet,
            )
        elif isinstance(row, Noisy):
            print_line(describe_noisy(row), quiet)
        elif isinstance(row, Start):
            print_line(describe_start(plan.name, row), quiet)
        elif isinstance(row, Progress):
            left = row.seconds_left
            notes = {
                "loss": f"{row.loss:.3f}",
                "audio": f"{row.audio_seconds_per_second:.0f} s/s",
                "left": f"about {duration(left)}",
            }
            advance(row.step - shown, **notes)
            shown = row.step
        else:
            is_over = 0 < plan.training.patience <= row.reports_since_best
            print_line(
                describe_report(row, None if is_over or row.step >= plan.training.steps else left),
                quiet,
            )
            if is_over and row.step < plan.training.steps and not row.averaged:
                print_line(
                    f"no improvement in {counted(row.reports_since_best, 'report')}: stopped at "
                    f"step {row.step:,}",
                    quiet,
                )
        if as_json and isinstance(row, (Noisy, Report)):
            click.echo(json.dumps(dataclasses.asdict(row)))
    return any_rows


def print_line(text: str, quiet: bool) -> None:
    """Print a line on stderr, unless quiet."""
    if not quiet:
        print(text, file=sys.stderr, flush=True)


def describe_start(name: str, row: Start) -> str:
    """A line with the size of the network and the data, and the predicted duration."""
    return (
        f"{name}: {row.parameters:,} parameters, {row.macs_per_second / 1e6:.0f} MMAC/s, "
        f"{duration(3600 * row.speech_hours)} of speech and {duration(3600 * row.noise_hours)} "
        "of noise, "
        f"steps {row.first_step:,} to {row.steps:,}, "
        f"{row.audio_seconds_per_second:.0f} audio-seconds per second, about "
        f"{duration(row.seconds_left)} left"
    )


def duration(seconds: float) -> str:
    """A duration in hours, minutes or seconds."""
    for unit, length in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.{0 if seconds >= 10 * length else 1}f} {unit}"
    return f"{seconds:.0f} s"


def describe_noisy(row: Noisy) -> str:
    """A line with the scores of the noisy validation mixtures."""
    scores = describe_scores(row.noisy_loss, row.noisy_si_sdr, row.noisy_pesq, row.noisy_stoi)
    return f"noisy baseline: {', '.join(scores)}"


def describe_report(row: Report, seconds_left: float | None) -> str:
    """A line with the scores of a report, and the time left unless the run is over."""
    from audioae.errors import counted

    scores = [f"mean of {row.averaged} checkpoints" if row.averaged else f"loss {row.loss:.4f}"]
    scores += describe_scores(row.valid_loss, row.valid_si_sdr, row.valid_pesq, row.valid_stoi)
    skipped = f", {counted(row.skipped_steps, 'step')} skipped" if row.skipped_steps else ""
    left = "" if seconds_left is None else f", about {duration(seconds_left)} left"
    best = " (best)" if row.is_best else ""
    return f"step {row.step:,} ({row.audio_hours:.1f} h): {', '.join(scores)}{best}{skipped}{left}"


def describe_scores(
    loss: float | None, si_sdr: float | None, pesq: float | None, stoi: float | None
) -> list[str]:
    """The scores that are not None."""
    words = {
        "valid {:.4f}": loss,
        "SI-SDR {:.2f} dB": si_sdr,
        "PESQ {:.3f}": pesq,
        "STOI {:.4f}": stoi,
    }
    return [word.format(value) for word, value in words.items() if value is not None]
