"""`audioae mix`: prepared data become fixed pairs of noisy and clean recordings to score models on."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from audioae.cli.progress import progress_option, show_progress

LEVEL_DBFS = (-35.0, -20.0)  # recordings as people have them; peaks stay below full scale


@click.command("mix")
@click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DATA",
    help="Folder that audioae prepare wrote.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder to write; new or empty.",
)
@click.option(
    "--pairs", type=click.IntRange(min=1), default=100, metavar="N", help="How many pairs."
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.1),
    default=4.0,
    metavar="S",
    help="Length of each, seconds.",
)
@click.option(
    "--snr",
    default="-5:15",
    metavar="RANGE|GRID",
    help="Signal-to-noise ratio on active levels, dB: a range, or a grid such as -5,0,5,10,15 "
    "that the pairs go through in turn.",
)
@click.option(
    "--split",
    type=click.Choice(["train", "valid", "test"]),
    default="valid",
    help="Speakers and noises of this split alone.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, help="The same seed gives the same pairs."
)
@click.option(
    "--room",
    type=click.FloatRange(0, 1),
    default=0.0,
    metavar="0..1",
    help="Share of the speech that is heard in a room.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["wav", "flac"]),
    default="wav",
    help="Form of the files, 16 bit.",
)
@progress_option
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
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
    """Mix prepared speech and noise into fixed pairs that any tool can score.

    DIR gets noisy/ and clean/ with equal names and pairs.csv, which says what each pair was mixed
    from and at which ratio; audioae evaluate --pairs DIR reads it. No speaker and no noise of one
    split is in another, so pairs of valid or test are new to a model that was trained on the same
    data. In a room, the early 50 ms of the reflections belong to the clean side.
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
    mode = "none" if quiet and progress == "auto" else progress
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
