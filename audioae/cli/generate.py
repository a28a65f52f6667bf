"""`audioae generate`: new sounds from a variational autoencoder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from audioae.cli.options import quiet_option
from audioae.cli.progress import progress_mode, progress_option, show_progress

if TYPE_CHECKING:
    from audioae.tasks.generate import Generated

file_type = click.Path(path_type=Path)
PLOTTED = 64  # sounds in a picture at most


@click.command("generate")
@click.option(
    "--sample", type=click.IntRange(min=1), metavar="N", help="Draw N sounds from the prior."
)
@click.option(
    "--between",
    nargs=2,
    type=file_type,
    metavar="A B",
    help="Sounds along the line between the codes of two recordings.",
)
@click.option("--around", type=file_type, metavar="IN", help="Variations of a recording.")
@click.option(
    "--steps",
    type=click.IntRange(min=2),
    default=8,
    metavar="N",
    help="Number of sounds of --between, with both ends.",
)
@click.option(
    "--count",
    type=click.IntRange(min=1),
    default=8,
    metavar="N",
    help="Number of sounds of --around.",
)
@click.option(
    "--spread",
    type=click.FloatRange(0, 10),
    default=0.5,
    metavar="S",
    help="Deviation of --around from the code of IN; the prior has 1.",
)
@click.option(
    "-o",
    "--output-dir",
    type=file_type,
    required=True,
    metavar="DIR",
    help="Folder for the wav files; it is made if it is missing.",
)
@click.option(
    "--plot", type=file_type, metavar="FILE.png", help="Draw the spectrograms of the sounds."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Same seed, same files.")
@click.option(
    "-m",
    "--model",
    metavar="NAME|PATH",
    default="words-16k",
    help="A variational model: a shipped one, an .onnx file, a checkpoint or a run folder.",
)
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object per file on stdout.")
@progress_option
@quiet_option
def command(
    sample: int | None,
    between: tuple[Path, Path] | None,
    around: Path | None,
    steps: int,
    count: int,
    spread: float,
    output_dir: Path,
    plot: Path | None,
    seed: int,
    model: str,
    overwrite: bool,
    as_json: bool,
    progress: str,
    quiet: bool,
) -> None:
    """Generate sounds with a variational autoencoder.

    The shipped model makes sounds of a second that resemble spoken words. From a recording, its
    loudest second is used. The phase is that of Griffin-Lim.
    """
    if sum(each is not None for each in (sample, between, around)) != 1:
        raise click.UsageError("give one of --sample N, --between A B and --around IN")
    from audioae.audio.writer import check_target
    from audioae.errors import require
    from audioae.tasks.generate import Generator, check_count, draw_grid, write_sounds

    if plot is not None:
        require("matplotlib", extra="plots")
        check_target(plot, overwrite=overwrite)
    generator = Generator(model)

    def sounds() -> Iterator[Generated]:
        if sample is not None:
            return generator.sample(sample, seed=seed)
        if between is not None:
            return generator.between(*between, steps, seed=seed)
        assert around is not None
        return generator.around(around, count, spread=spread, seed=seed)

    total = sample or (steps if between else count)
    check_count(total, 1, "sounds")
    if not overwrite:
        check_free(output_dir, "sample" if sample else "between" if between else "around", total)
    mode = progress_mode(progress, quiet=quiet)
    drawn: list[Any] = []
    with show_progress(mode, str(output_dir), total=total, unit="sounds") as advance:
        rate = generator.settings.sample_rate
        for sound, written in write_sounds(sounds(), output_dir, rate, overwrite=overwrite):
            if plot is not None and len(drawn) < PLOTTED:
                drawn.append((sound.name, sound.features))
            if as_json:
                click.echo(json.dumps(written.to_dict()))
            advance(1)
    if plot is not None:
        draw_grid(drawn, generator.settings, plot)
    if not quiet:
        seconds = generator.num_samples / rate
        click.echo(
            f"{output_dir}: {total} sounds of {seconds:.2f} s at {rate} Hz, model "
            f"{generator.codec.info.name}",
            err=True,
        )


def check_free(folder: Path, kind: str, total: int) -> None:
    """Raise `OutputError` if any of the files exists, before the first sound is made."""
    from audioae.errors import OutputError

    for number in range(total):
        if (path := folder / f"{kind}-{number:03d}.wav").exists():
            raise OutputError(f"{path} exists; choose another folder or give --overwrite")
