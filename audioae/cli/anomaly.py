"""`audioae anomaly`: fit a detector to normal sound, and make sounds of machines to try it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from audioae.cli.anomaly_score import found_files, score
from audioae.cli.options import quiet_option
from audioae.cli.output import print_json
from audioae.cli.progress import progress_mode, progress_option, show_progress
from audioae.errors import counted

if TYPE_CHECKING:
    from audioae.tasks.anomaly import Aggregate, Norm
    from audioae.tasks.faults import Kind


@click.group("anomaly")
def command() -> None:
    """Find unusual sound with an autoencoder of normal sound.

    `fit` trains a detector on recordings of normal sound, `score` scores recordings or a stream
    with it, `simulate` makes sounds of machines with and without faults to try both.
    """


@command.command("fit")
@click.argument(
    "normal", metavar="NORMAL...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    metavar="MODEL",
    help="The file for the detector, .onnx.",
)
@click.option(
    "--anomalous",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Labelled anomalous recordings, a file or a folder: the threshold is then the one with "
    "the highest F1 score on them and the held-out normal sound. Repeatable.",
)
@click.option(
    "--quantile",
    type=click.FloatRange(0.5, 1.0),
    default=0.99,
    metavar="0.5..1",
    help="Share of the held-out normal sound below the threshold.",
)
@click.option(
    "--aggregate",
    type=click.Choice(["mean", "max", "p95"]),
    default="mean",
    help="How the scores of the windows of a recording become one: mean for lasting changes, max "
    "or the 95th percentile for short events.",
)
@click.option(
    "--norm",
    type=click.Choice(["whitened", "squared"]),
    default="whitened",
    help="Norm of the reconstruction errors of a window: relative to their covariance in normal "
    "sound, or the mean square.",
)
@click.option("--window", type=float, default=1.0, metavar="S", help="Length of a window.")
@click.option(
    "--piece",
    type=float,
    default=10.0,
    metavar="S",
    help="Length of the normal sound that the threshold is measured on. Streams are judged over "
    "this length.",
)
@click.option("--latent", type=click.IntRange(1), default=4, help="Latent values per frame.")
@click.option("--steps", type=click.IntRange(1), default=500, help="Training steps.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Seed of the training.")
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object on stdout.")
@progress_option
@quiet_option
@click.pass_context
def fit(
    ctx: click.Context,
    normal: tuple[Path, ...],
    output: Path,
    anomalous: tuple[Path, ...],
    quantile: float,
    aggregate: Aggregate,
    norm: Norm,
    window: float,
    piece: float,
    latent: int,
    steps: int,
    seed: int,
    overwrite: bool,
    as_json: bool,
    progress: str,
    quiet: bool,
) -> None:
    """Train a detector on the normal recordings NORMAL, files and folders.

    A fifth of them, whole files or the end of each if there are fewer than 5, is held out for the
    threshold. Ten minutes of sound take under two minutes. The detector is an autoencoder that
    `embed --model` accepts too.

    Exit codes: 0 success, 1 some files failed (the detector is fitted to the others), 2 usage
    error, 3 package missing, 130 interrupted.
    """
    from audioae.tasks.anomaly import AnomalySettings
    from audioae.tasks.fit_anomaly import FitSettings, check_detector_path, fit_detector

    check_detector_path(output, overwrite=overwrite)
    settings = AnomalySettings(window, piece, aggregate, quantile, norm)
    training = FitSettings(widths=(64, 32, latent), steps=steps, seed=seed)
    failures: list[str] = []
    mode = progress_mode(progress, quiet=quiet)
    sounds = found_files(normal, failures)
    examples = found_files(anomalous, failures) if anomalous else []
    try:
        with show_progress(mode, "fit", total=steps, unit="steps") as show:
            detector = fit_detector(
                sounds,
                output,
                settings,
                training,
                anomalous=examples,
                progress=lambda step, loss: show(1, loss=f"{loss:.2e}"),
                failed=failures.append,
            )
    finally:  # also if too little could be read
        for line in failures:
            click.echo(f"Error: {line}", err=True)
    about = {"path": str(output), **detector.about, "thresholds": detector.thresholds}
    if as_json:
        print_json({"status": "done", **about})
    if not quiet:
        click.echo(
            f"{output}: {detector.about['seconds']:.0f} s of normal sound in "
            f"{counted(detector.about['files'], 'file')}, threshold "
            f"{detector.thresholds['autoencoder']:.3g} from {detector.about['threshold_from']}",
            err=True,
        )
    if failures:
        ctx.exit(1)


@command.command("simulate")
@click.option(
    "-O",
    "--output-dir",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="A new folder for the recordings.",
)
@click.option(
    "--machine",
    type=click.Choice(["fan", "engine", "pump"]),
    default="fan",
    help="Kind of machine; the seed gives its speed and resonances.",
)
@click.option(
    "--normal",
    "background",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Real recordings of normal sound, files or folders, in place of a machine. Repeatable.",
)
@click.option("--seed", type=click.IntRange(0), default=0, help="Seed of machine and recordings.")
@click.option(
    "--minutes", type=click.FloatRange(0.2), default=10.0, help="Normal sound for training."
)
@click.option("--tests", type=click.IntRange(2), default=20, help="Normal test recordings of 10 s.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object on stdout.")
@quiet_option
def simulate(
    output_dir: Path,
    machine: Kind,
    background: tuple[Path, ...],
    seed: int,
    minutes: float,
    tests: int,
    as_json: bool,
    quiet: bool,
) -> None:
    """Make recordings of a machine with and without faults, of 10 s at 16 kHz.

    DIR/train/normal is for `anomaly fit`. DIR/test has the folders normal, bearing-clicks,
    missing-blade, shifted-tone and rattle for `anomaly score --labels folders`; the faults have
    levels of -10, -5, 0, 5 and 10 dB relative to the machine.
    """
    from audioae.tasks.faults import write_simulation

    sounds = found_files(background, []) if background else []
    count = write_simulation(
        output_dir, machine, seed=seed, minutes=minutes, tests=tests, normal=sounds
    )
    if as_json:
        print_json({"status": "done", "path": str(output_dir), "files": count})
    if not quiet:
        click.echo(f"{output_dir}: {counted(count, 'recording')}", err=True)


command.add_command(score)
