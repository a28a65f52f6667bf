"""Word error rates of speech recognisers on noisy and denoised speech, for docs/metrics.md.

    python tests/benchmarks/recognition.py mix SPEECH.csv --noise NOISE --out pairs
    python tests/benchmarks/recognition.py run pairs/pairs.csv --rows rows.jsonl \
        --recogniser whisper="python recognise_whisper.py" --system noisy --system asr
    python tests/benchmarks/recognition.py table rows.jsonl

`audioae evaluate --asr-command` measures presets with one recogniser. This also takes settings that
are no preset and several recognisers, and resumes: rows that are in the file are not measured
again, so it can be stopped at any time.
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields, replace
from itertools import cycle, groupby, product
from pathlib import Path
from typing import Any

import click
import numpy as np
from clips import LEVEL, PEAK, Clip, load_clips, mixture

from audioae.audio import read, write
from audioae.denoising import PRESETS, DenoiseSettings, denoise, ready_engine
from audioae.engine import Engine
from audioae.evaluation import Recogniser
from audioae.evaluation.recognition import RATE, word_errors
from audioae.evaluation.summary import interval
from audioae.signal.mixing import active_rms
from audioae.signal.resample import resample
from audioae.signal.spectrogram import Array

SNRS_DB = (-5, 0, 5, 10, 15, 20)
SIDES = ("clean", "noisy")  # systems that are files of the pair
NOISE_SECONDS = 30.0
PAUSE_SECONDS = 0.5  # after each sentence


@dataclass(frozen=True)
class Row:
    """One recording that one recogniser has heard after one system.

    Args:
        file: the recording, as in the table of pairs.
        corpus, snr_db: of the recording.
        system: "clean", "noisy", a preset or settings as in "max_attenuation_db=6".
        recogniser: its name.
        text: what was recognised.
        percent: word error rate.
        words: of the reference.
    """

    file: str
    corpus: str
    snr_db: float
    system: str
    recogniser: str
    text: str
    percent: float
    words: int


@click.group()
def main() -> None:
    """Measure word error rates of noisy and denoised speech."""


@main.command()
@click.argument("speech", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--noise", required=True, type=click.Path(path_type=Path), help="As in clips.py.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Output folder.")
@click.option("--first-noise", default=0, help="Index of the first noise, for a second set.")
@click.option("--every", default=1, help="Use every N-th noise.")
def mix(speech: Path, noise: Path, out: Path, first_noise: int, every: int) -> None:
    """Mix the sentences of SPEECH, a CSV table, with noise.

    The columns are path, corpus, text and recording. Sentences with the same value of recording,
    one after another, become one recording, which is as quick for Whisper as one sentence. The SNR
    cycles through -5 to 20 dB in each corpus, and each sentence gets the next noise.
    """
    sounds = load_clips(noise, "noise", RATE, count=10**6, seconds=NOISE_SECONDS)
    sounds = sounds[first_noise::every]
    noises, pairs = cycle(sounds), []
    ratios: dict[str, Iterator[int]] = defaultdict(lambda: cycle(SNRS_DB))
    for number, group in enumerate(_recordings(_table(speech))):
        corpus = group[0]["corpus"]
        snr_db = next(ratios[corpus])
        both = [_mixed(speech.parent / row["path"], next(noises), snr_db) for row in group]
        name = f"{number:03}_{corpus}_{snr_db:+d}dB.wav"
        for side, parts in zip(("noisy", "clean"), zip(*both, strict=True), strict=True):
            (out / side).mkdir(parents=True, exist_ok=True)
            write(out / side / name, np.hstack(parts), RATE, subtype="PCM_16", overwrite=True)
        pairs.append(
            {
                "noisy": f"noisy/{name}",
                "clean": f"clean/{name}",
                "snr_db": snr_db,
                "corpus": corpus,
                "text": " ".join(row["text"] for row in group).strip(),
            }
        )
    with (out / "pairs.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(pairs[0]))
        writer.writeheader()
        writer.writerows(pairs)
    click.echo(f"{out}: {len(pairs)} pairs, {len(sounds)} noises")


@main.command()
@click.argument("pairs", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--rows", required=True, type=click.Path(path_type=Path), help="JSON Lines file.")
@click.option(
    "--recogniser", "recognisers", multiple=True, required=True, metavar="NAME=COMMAND",
    help="As in audioae evaluate --asr-command.",
)  # fmt: skip
@click.option(
    "--system", "systems", multiple=True, required=True, metavar="NAME|FIELD=VALUE,...",
    help="clean, noisy, a preset, or settings of the denoiser, such as strength=0.5.",
)  # fmt: skip
@click.option("--model", help="Model of the denoiser.  [default: the best shipped model]")
@click.option("--limit", type=click.IntRange(min=1), help="Number of pairs.  [default: all]")
def run(
    pairs: Path,
    rows: Path,
    recognisers: tuple[str, ...],
    systems: tuple[str, ...],
    model: str | None,
    limit: int | None,
) -> None:
    """Recognise the pairs of a table after each system.

    Recordings with an empty text are compared with what is recognised in the clean one.
    """
    commands = dict(each.split("=", 1) for each in recognisers)
    heard = _Heard(pairs.parent, {name: settings_of(name) for name in systems}, model)
    measured = read_rows(rows) if rows.exists() else []
    known = {(row.file, row.system, row.recogniser): row for row in measured}
    with ExitStack() as stack:
        file = stack.enter_context(rows.open("a", encoding="utf-8"))
        running = {
            name: stack.enter_context(Recogniser(command)) for name, command in commands.items()
        }
        for entry, system, name in product(_table(pairs)[:limit], ("clean", *systems), running):
            is_wanted = system in systems or not entry["text"]  # clean is the reference then
            if not is_wanted or (entry["noisy"], system, name) in known:
                continue
            text = running[name].submit(heard(entry, system), RATE).result()
            clean = known.get((entry["noisy"], "clean", name))
            reference = entry["text"] or (clean.text if clean else text)
            row = _row(entry, system, name, text, reference)
            known[row.file, system, name] = row
            file.write(json.dumps(asdict(row)) + "\n")
            file.flush()


class _Heard:
    """What recognisers are given of a pair; the last waveform is kept for the next recogniser."""

    def __init__(
        self, folder: Path, settings: dict[str, DenoiseSettings | None], model: str | None
    ) -> None:
        self._folder, self._settings, self._model = folder, settings, model
        self._engine: Engine | None = None
        self._last: tuple[str, str] | None = None
        self._waveform: Array | None = None

    def __call__(self, entry: dict[str, str], system: str) -> Array:
        if self._last != (entry["noisy"], system) or self._waveform is None:
            side = "clean" if system == "clean" else "noisy"
            self._waveform = read(self._folder / entry[side])[0]
            if (settings := self._settings.get(system)) is not None:
                self._engine = self._engine or ready_engine(self._model)
                self._waveform = denoise(
                    self._waveform, RATE, model=self._engine, settings=settings
                )
            self._last = (entry["noisy"], system)
        return self._waveform


@main.command()
@click.argument("rows", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--corpus", "corpora", multiple=True, help="Only recordings of these corpora.")
@click.option("--bands", is_flag=True, help="Also print the rates by SNR.")
@click.option("--skip", multiple=True, help="Leave out this system.")
def table(rows: Path, corpora: tuple[str, ...], bands: bool, skip: tuple[str, ...]) -> None:
    """Print word error rates with the change from noisy and its 95 % interval.

    Counts the recordings that every system of a recogniser was measured on.
    """
    found = [row for row in read_rows(rows) if row.system not in skip]
    found = [row for row in found if not corpora or row.corpus in corpora]
    for line in markdown(found, bands=bands):
        click.echo(line)


def markdown(rows: Sequence[Row], *, bands: bool = False) -> Iterator[str]:
    """The lines of a Markdown table: a row per recogniser and, with `bands`, SNR."""
    systems = list(dict.fromkeys(row.system for row in rows))
    systems.sort(key=lambda name: (*SIDES, name).index(name))  # clean and noisy first
    yield "| recogniser | SNR | recordings, words | " + " | ".join(systems) + " |"
    yield "|---|--:|--:|" + "--:|" * len(systems)
    for recogniser in dict.fromkeys(row.recogniser for row in rows):
        mine = [row for row in rows if row.recogniser == recogniser]
        has = {row.system for row in mine}
        mine = complete(mine, len(has))
        groups = {"all": mine}
        if bands:
            for snr_db in sorted({row.snr_db for row in mine}):
                groups[f"{snr_db:g} dB"] = [row for row in mine if row.snr_db == snr_db]
        for label, group in groups.items():
            if not group:
                continue
            noisy = {row.file: row for row in group if row.system == "noisy"}
            words = sum(row.words for row in noisy.values())
            cells = [
                _cell([row for row in group if row.system == name], noisy) if name in has else ""
                for name in systems
            ]
            yield f"| {recogniser} | {label} | {len(noisy)}, {words} | {' | '.join(cells)} |"


def complete(rows: Iterable[Row], count: int) -> list[Row]:
    """The rows of the files that were measured after `count` systems."""
    by_file: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_file[row.file].append(row)
    return [row for group in by_file.values() if len(group) == count for row in group]


def change(rows: Sequence[Row], noisy: dict[str, Row]) -> tuple[float, float, float, float]:
    """Word error rate of the set in percent, the change from noisy and its 95 % interval."""
    percent = np.array([row.percent for row in rows])
    before = np.array([noisy[row.file].percent for row in rows])
    words = np.array([row.words for row in rows], np.float64)
    low, high = interval(percent - before, words) if len(rows) > 1 else (np.nan, np.nan)
    return (
        float(np.average(percent, weights=words)),
        float(np.average(percent - before, weights=words)),
        low,
        high,
    )


def settings_of(name: str) -> DenoiseSettings | None:
    """The settings of a preset, or of a list such as "strength=0.8,max_attenuation_db=12"; None for
    a file of the pair.
    """
    if name in SIDES:
        return None
    if name in PRESETS:
        return PRESETS[name]
    known = {field.name for field in fields(DenoiseSettings)}
    changes: dict[str, Any] = {}
    for part in name.split(","):
        field, _, value = part.partition("=")
        if field not in known or not value:
            raise click.UsageError(
                f"{part!r} is neither a preset ({', '.join(PRESETS)}) nor a setting such as "
                "strength=0.5"
            )
        changes[field] = json.loads(value)
    return replace(DenoiseSettings(), **changes)


def read_rows(path: Path) -> list[Row]:
    """The rows of a JSON Lines file."""
    return [Row(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def _row(entry: dict[str, str], system: str, recogniser: str, text: str, reference: str) -> Row:
    percent, words = word_errors(text, reference)
    return Row(
        entry["noisy"],
        entry["corpus"],
        float(entry["snr_db"]),
        system,
        recogniser,
        text,
        percent,
        words,
    )


def _cell(rows: Sequence[Row], noisy: dict[str, Row]) -> str:
    percent, difference, low, high = change(rows, noisy)
    if rows[0].system in SIDES:
        return f"{percent:.1f}"
    return f"{percent:.1f} ({difference:+.1f} [{low:.1f}, {high:.1f}])"


def _mixed(path: Path, noise: Clip, snr_db: int) -> tuple[Array, Array]:
    """The noisy and the clean waveform of a sentence and the pause after it, `[1, samples]`."""
    waveform, rate = read(path)
    mono = resample(waveform.mean(axis=0, keepdims=True), rate, RATE)[0]
    mono = np.append(mono, np.zeros(round(PAUSE_SECONDS * RATE), np.float32))
    scale = min(LEVEL / active_rms(mono, RATE), PEAK / float(np.abs(mono).max()))
    clip = Clip(path.stem, "", mono * np.float32(scale))
    noisy, clean = mixture(clip, noise, snr_db=snr_db, sample_rate=RATE)
    return noisy[None], clean[None]


def _recordings(rows: Iterable[dict[str, str]]) -> Iterator[list[dict[str, str]]]:
    for _, group in groupby(rows, key=lambda row: row["recording"]):
        yield list(group)


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
