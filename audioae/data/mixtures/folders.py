"""Write fixed noisy/clean pairs as audio files with a table, for any evaluation tool."""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from audioae.audio import write
from audioae.data.augment import SignalToNoise
from audioae.data.mixtures.corpus import TRIES
from audioae.data.mixtures.draws import MixtureDraw, Recording
from audioae.data.mixtures.mixer import Mixer
from audioae.errors import DataError, OutputError, SettingsError
from audioae.signal.spectrogram import Array
from audioae.storage import write_bytes

PEAK = 0.98  # of full scale; louder pairs are scaled down, both sides by the same factor
NUMBER = r"\s*([-+]?\d+(?:\.\d+)?)\s*"


@dataclass(frozen=True)
class MixedPair:
    """A row of pairs.csv.

    Args:
        noisy, clean: file names relative to the table.
        snr_db: ratio of active levels, dB.
        speaker, noise_source: sources in the manifests; several are joined by " + ".
        room: kind of room response; empty for none.
    """

    noisy: str
    clean: str
    seconds: float
    sample_rate: int
    snr_db: float
    speaker: str
    noise_source: str
    noise_kind: str
    room: str
    split: str


@dataclass(frozen=True)
class Ratios:
    """Signal-to-noise ratios, dB: a grid that the pairs cycle through, or a range to draw from."""

    values: tuple[float, ...]
    is_range: bool

    def draw(self, rng: np.random.Generator, number: int) -> float:
        """The ratio of pair `number`."""
        if self.is_range:
            low, high = self.values
            return round(float(rng.uniform(low, high)), 2)
        return self.values[number % len(self.values)]


def parse_ratios(text: str) -> Ratios:
    """`"-5:15"` is a range, `"-5,0,5,10,15"` a grid, `"5"` one ratio; dB."""
    if found := re.fullmatch(f"{NUMBER}:{NUMBER}", text):
        low, high = map(float, found.groups())
        if low <= high:
            return Ratios((low, high), is_range=True)
    elif re.fullmatch(f"{NUMBER}(,{NUMBER})*", text):
        return Ratios(tuple(map(float, text.split(","))), is_range=False)
    raise SettingsError(
        f"signal-to-noise ratios {text!r}; expected a range such as -5:15 or a "
        "grid such as -5,0,5,10,15, dB"
    )


def write_pairs(
    folder: Path,
    mixer: Mixer,
    *,
    pairs: int,
    ratios: Ratios,
    seed: int,
    split: str,
    form: Literal["wav", "flac"] = "wav",
) -> Iterator[MixedPair]:
    """Write `folder`/noisy, `folder`/clean and, last, `folder`/pairs.csv; yield each pair once
    written.

    Pair i depends only on the seed, i and the ratios. Raises `OutputError` if the folder is not
    empty.
    """
    check_folder(folder)
    rows = []
    digits = max(3, len(str(pairs - 1)))
    for number in range(pairs):
        rng = np.random.default_rng([seed, number])
        draw = draw_audible(mixer, rng)
        draw = dataclasses.replace(draw, blend=SignalToNoise(ratios.draw(rng, number)))
        rows.append(_row(draw, mixer, f"{number:0{digits}d}.{form}", split))
        for side, waveform in zip(
            (rows[-1].noisy, rows[-1].clean), _within_full_scale(*mixer.render(draw)), strict=True
        ):
            (folder / side).parent.mkdir(parents=True, exist_ok=True)
            write(folder / side, waveform[None], mixer.sample_rate, subtype="PCM_16")
        yield rows[-1]
    write_table(folder / "pairs.csv", rows)


def draw_audible(mixer: Mixer, rng: np.random.Generator) -> MixtureDraw:
    """A mixture whose noise is not digital silence, which would have no signal-to-noise ratio.
    Raises `DataError` if every attempt is silent.
    """
    for _ in range(TRIES):
        draw = mixer.draw_mixture(rng)
        if mixer.has_noise(draw):
            return draw
    raise DataError(
        f"{TRIES} crops of noise in a row were digital silence; the prepared noise "
        "holds almost no sound"
    )


def check_folder(folder: Path) -> None:
    """Raise `OutputError` unless the folder is empty or can be created."""
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise OutputError(
                f"{folder} exists and is not empty; name a new folder, nothing is overwritten"
            )
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot create {folder}: {error.strerror}; name another folder"
        ) from error


def write_table(path: Path, rows: Sequence[MixedPair]) -> None:
    """A CSV table with a column for each field, written atomically. Bytes of file names that are
    not UTF-8 are written as \\x..
    """
    text, names = io.StringIO(), [field.name for field in dataclasses.fields(MixedPair)]
    table = csv.DictWriter(text, names, lineterminator="\n")
    table.writeheader()
    table.writerows(map(dataclasses.asdict, rows))
    write_bytes(path, text.getvalue().encode("utf-8", "backslashreplace"))


def _row(draw: MixtureDraw, mixer: Mixer, name: str, split: str) -> MixedPair:
    assert draw.blend and draw.blend.snr_db is not None
    noise = mixer.corpus.noise
    crop = draw.noise.crop if isinstance(draw.noise, Recording) else None
    kinds = list(dict.fromkeys(noise.rows[piece.row].kind for piece in crop.pieces)) if crop else []
    return MixedPair(
        noisy=f"noisy/{name}",
        clean=f"clean/{name}",
        seconds=draw.samples / mixer.sample_rate,
        sample_rate=mixer.sample_rate,
        snr_db=draw.blend.snr_db,
        speaker=" + ".join(mixer.corpus.speech.sources(draw.speech)),
        noise_source=" + ".join(noise.sources(crop)) if crop else type(draw.noise).__name__,
        noise_kind=" + ".join(filter(None, kinds)),
        room=type(draw.room).__name__ if draw.room else "",
        split=split,
    )


def _within_full_scale(noisy: Array, clean: Array) -> tuple[Array, Array]:
    peak = max(float(np.abs(noisy).max(initial=0)), float(np.abs(clean).max(initial=0)))
    factor = np.float32(min(1.0, PEAK / peak)) if peak else np.float32(1)
    return noisy * factor, clean * factor
