"""`audioae mix`: mix fixed noisy/clean pairs from prepared data, for evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from audioae.cli.options import quiet_option
from audioae.cli.progress import progress_mode, progress_option, show_progress

LEVEL_DBFS = (-35.0, -20.0)  # typical recordings; peaks stay below full scale


@click.command("mix")
@click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DATA",
    help="Folder written by audioae prepare.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Output folder, new or empty.",
)
@click.option(
    "--pairs", type=click.IntRange(min=1), default=100, metavar="N", help="Number of pairs."
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.1),
    default=4.0,
    metavar="S",
    help="Length of a pair, seconds.",
)
@click.option(
    "--snr",
    default="-5:15",
    metavar="RANGE|GRID",
    help="Signal-to-noise ratio of active levels, dB: a range, or a grid such as -5,0,5,10,15 "
    "that the pairs cycle through.",
)
@click.option(
    "--split",
    type=click.Choice(["train", "valid", "test"]),
    default="valid",
    help="Split of speakers and noises.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    help="Random seed; the same seed gives the same pairs.",
)
@click.option(
    "--room",
    type=click.FloatRange(0, 1),
    default=0.0,
    metavar="0..1",
    help="Fraction of pairs with room reverberation on the speech.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["wav", "flac"]),
    default="wav",
    help="File format, 16 bit.",
)
@progress_option
@quiet_option
def command(
    data: Path,
    out: Path,
    pairs: int,
    seconds: float,
    snr: str,
    split: str,
    seed: int,
    room: float,
    form: Literal["wav", "flac"],
    progress: str,
    quiet: bool,
) -> None:
    """Mix prepared speech and noise into fixed noisy/clean pairs for evaluation.

    DIR gets noisy/ and clean/ with equal file names, and pairs.csv with the sources and the ratio
    of each pair; audioae evaluate --pairs DIR reads it. Speakers and noises of one split are in no
    other, so pairs of valid or test are unknown to a model trained on the same data. With
    reverberation, the clean side has the reflections of the first 50 ms.
    """
    from audioae.errors import counted, require

    require("torch", extra="train")
    from audioae.data.augment import AugmentSettings
    from audioae.data.mixtures import Corpus, DataSettings, Mixer, parse_ratios, write_pairs

    settings = DataSettings(
        segment_seconds=seconds, augment=AugmentSettings.plain(reverb=room, level_dbfs=LEVEL_DBFS)
    )
    mixer = Mixer(Corpus(data, split, settings), settings)
    written = write_pairs(
        out, mixer, pairs=pairs, ratios=parse_ratios(snr), seed=seed, split=split, form=form
    )
    mode = progress_mode(progress, quiet=quiet)
    with show_progress(mode, str(out), total=pairs, unit="pairs") as advance:
        rows = []
        for row in written:
            rows.append(row)
            advance(1, snr=f"{row.snr_db:g} dB")
    if not quiet:
        speakers, noises = (
            len({getattr(row, side) for row in rows}) for side in ("speaker", "noise_source")
        )
        held = f"{counted(speakers, 'voice')}, {counted(noises, 'noise')}"
        click.echo(
            f"{out}: {counted(pairs, 'pair')}, {pairs * seconds / 60:.1f} min of {split}, {held}",
            err=True,
        )
