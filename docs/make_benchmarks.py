"""Measure models and write docs/benchmarks.json and, from it, docs/benchmarks.md.

- All that can be measured here, of the shipped models: `python docs/make_benchmarks.py` - One part
of one model, while the rest stays as it was measured: `python docs/make_benchmarks.py --measure
speed -m speech-16k` - The page, from what is measured already: `python docs/make_benchmarks.py
--page-only` - Any model, on stdout, nothing written: `python docs/make_benchmarks.py --measure
honesty -m runs/mine --json`
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks_page import FOLDER, MEASURED, METRICS, PARTS, is_current, render

from audioae.batch.processes import one_thread
from audioae.data.manifest import replace_text
from audioae.denoising import denoise, ready_engine
from audioae.errors import AudioaeError, DataError
from audioae.evaluation import evaluate, read_pairs, summarise
from audioae.pretrained import list_models, load_card

sys.path.insert(0, str(FOLDER.parent / "tests" / "benchmarks"))

from clips import Side, load_clips
from honesty import measure_honesty
from machine import describe
from speed import BATCH_FILES, STARTS, measure_speed

PAGE = FOLDER / "benchmarks.md"
PAIRS = {  # as the cards call them
    "pairs": "public test pairs of VoiceBank+DEMAND, speaker p232",
    "unseen": "mixtures of voices and noises that training did not hear, -5..15 dB",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write or print what was found."""
    parser = _parser()
    options = parser.parse_args(arguments)
    shipped = [entry.name for entry in list_models()]
    models = options.model or shipped
    if not options.json and (strange := [name for name in models if name not in shipped]):
        parser.error(
            f"{strange[0]} is not shipped ({', '.join(shipped)}) and has no place on the page; "
            "add --json to print what is found"
        )
    found: dict[str, dict[str, Any]] = {}
    try:
        with one_thread():  # torch, where a model needs it, is imported meanwhile
            for model in [] if options.page_only else models:
                found[model] = {}
                for part, told in measure(model, options):
                    found[model][part] = told
                    if not options.json:
                        keep(found)
        if options.json:
            print(json.dumps({"models": found}, indent=1))
        else:
            PAGE.write_text(render(), encoding="utf-8")
    except AudioaeError as error:
        parser.exit(error.exit_code, f"Error: {error}\n")


def measure(model: str, options: argparse.Namespace) -> Iterable[tuple[str, dict[str, Any]]]:
    """The parts that are asked for, of one model."""
    engine = ready_engine(model, device="cpu")
    for part in options.measure:
        print(f"{model}: {part}", file=sys.stderr)
        made = describe(model)
        if part == "speed":
            yield (
                part,
                {"made": made, **measure_speed(model, starts=options.starts, files=options.files)},
            )
        elif part == "honesty":
            places: dict[Side, Path] = {
                "speech": options.speech or options.data,
                "noise": options.noise or options.data,
            }
            rate = engine.info.stft.sample_rate
            clips = [
                load_clips(place, side, rate, count=options.clips, seconds=options.seconds)
                for side, place in places.items()
            ]
            yield part, {"made": made, "source": _source(places), **measure_honesty(engine, *clips)}
        elif sets := list(measure_quality(model, {side: getattr(options, side) for side in PAIRS})):
            yield part, {"made": made, "sets": sets}


def measure_quality(model: str, tables: dict[str, Path | None]) -> Iterable[dict[str, Any]]:
    """Mean scores on the pairs that are given, by the metrics that the model's card does not have
    yet.
    """
    shipped = [entry.name for entry in list_models()]
    card = {scores.pairs: scores for scores in load_card(model).scores} if model in shipped else {}
    engine = ready_engine(model, device="cpu")
    for side, table in tables.items():
        name = PAIRS[side]
        metrics = [
            metric
            for metric in METRICS
            if name not in card or card[name].enhanced.get(metric) is None
        ]
        if table is None or not metrics:
            continue
        pairs = read_pairs(table)
        if name in card and card[name].count != len(pairs):
            raise DataError(
                f"{table} has {len(pairs)} pairs, the card of {model} scores of "
                f"{card[name].count}; give the same pairs"
            )
        means = summarise(
            evaluate(pairs, lambda noisy, rate: denoise(noisy, rate, model=engine), metrics=metrics)
        )
        sides = {
            each: {metric: getattr(both, each).value for metric, both in means.items()}
            for each in ("enhanced", "noisy")
        }
        yield {"pairs": name, "count": len(pairs), **sides}


def keep(found: dict[str, dict[str, Any]]) -> None:
    """Put what was found in place of what was measured of the same models and parts before; models
    that are gone leave.
    """
    before = json.loads(MEASURED.read_text(encoding="utf-8"))["models"] if MEASURED.exists() else {}
    models = {
        entry.name: {**before.get(entry.name, {}), **found.get(entry.name, {})}
        for entry in list_models()
    }
    for name, parts in models.items():
        if "quality" in parts and not is_current(name, parts["quality"]):
            del parts["quality"]
    replace_text(MEASURED, json.dumps({"models": models}, indent=1, ensure_ascii=False) + "\n")


def _source(places: dict[Side, Path]) -> str:
    """Where clips come from, in words that mean the same on another machine."""
    named = {
        place: place.name if place.is_absolute() else place.as_posix() for place in places.values()
    }
    return " and ".join(
        f"the validation split of {name}" if (place / "data.json").is_file() else name
        for place, name in named.items()
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "-m",
        "--model",
        action="append",
        metavar="NAME|PATH",
        help="a shipped model or, with --json, any; repeatable [all shipped]",
    )
    add(
        "--measure",
        nargs="+",
        choices=PARTS,
        default=list(PARTS),
        help="what is measured anew [all]",
    )
    add("--page-only", action="store_true", help="measure nothing, write the page")
    add("--json", action="store_true", help="print what was found on stdout, write nothing")
    quality = parser.add_argument_group(
        "quality", "scores that the cards do not have; without pairs only the cards are shown"
    )
    quality.add_argument("--pairs", type=Path, metavar="CSV|DIR", help=PAIRS["pairs"])
    quality.add_argument("--unseen", type=Path, metavar="CSV|DIR", help=PAIRS["unseen"])
    honesty = parser.add_argument_group("honesty")
    honesty.add_argument(
        "--data",
        type=Path,
        default=Path("data/16k"),
        metavar="DATA",
        help="prepared folder, validation split [data/16k]",
    )
    honesty.add_argument(
        "--speech", type=Path, metavar="DIR|CSV|DATA", help="clean speech in place of that"
    )
    honesty.add_argument(
        "--noise", type=Path, metavar="DIR|CSV|DATA", help="noise in place of that"
    )
    honesty.add_argument(
        "--clips", type=int, default=40, metavar="N", help="of speech and of noise [40]"
    )
    honesty.add_argument(
        "--seconds", type=float, default=4.0, metavar="S", help="length of a clip at most [4]"
    )
    speed = parser.add_argument_group("speed")
    speed.add_argument(
        "--starts",
        type=int,
        default=STARTS,
        metavar="N",
        help=f"runs of each command; the quickest counts [{STARTS}]",
    )
    speed.add_argument(
        "--files",
        type=int,
        default=BATCH_FILES,
        metavar="N",
        help=f"files of the batch [{BATCH_FILES}]",
    )
    return parser


if __name__ == "__main__":
    main()
