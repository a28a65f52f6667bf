"""Measure models and write docs/benchmarks.json and docs/benchmarks.md.

Everything, for all shipped models:
    python docs/make_benchmarks.py
One part for one model; other measurements are kept:
    python docs/make_benchmarks.py --measure speed -m speech-16k
The page only, from existing measurements:
    python docs/make_benchmarks.py --page-only
Without the other systems whose packages are installed, or only one of them:
    python docs/make_benchmarks.py --peers
    python docs/make_benchmarks.py --measure quality --peers noisereduce -m speech-16k
Any model, printed on stdout, with nothing written:
    python docs/make_benchmarks.py --measure honesty -m runs/mine --json
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks_page import FOLDER, MEASURED, METRICS, PARTS, PEER_PARTS, is_current, render

from audioae.denoising import denoise, ready_engine
from audioae.denoising.batch.run import one_thread
from audioae.errors import AudioaeError, DataError
from audioae.evaluation import evaluate, read_pairs, summarise
from audioae.evaluation.rows import Denoise
from audioae.pretrained import list_denoisers, load_card
from audioae.storage import write_text

sys.path.insert(0, str(FOLDER.parent / "tests" / "benchmarks"))

from clips import Side, load_clips
from honesty import measure_honesty
from machine import describe, describe_machine
from peers import PEERS, denoiser, installed, measure_cost
from speed import BATCH_FILES, STARTS, measure_speed

PAGE = FOLDER / "benchmarks.md"
PAIRS = {  # names of the sets of pairs on the model cards
    "pairs": "public test pairs of VoiceBank+DEMAND, speaker p232",
    "unseen": "mixtures of voices and noises that training did not hear, -5..15 dB",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, then write or print the results."""
    parser = _parser()
    options = parser.parse_args(arguments)
    shipped = [entry.name for entry in list_denoisers()]
    models = options.model or shipped
    if not options.json and (strange := [name for name in models if name not in shipped]):
        parser.error(
            f"{strange[0]} is not shipped ({', '.join(shipped)}), so it is not on the page; "
            "add --json to print its results"
        )
    found: dict[str, dict[str, Any]] = {}
    peers: dict[str, dict[str, Any]] = {}
    wanted = options.peers
    if wanted is None:
        wanted = [] if options.model else installed()
    try:
        with one_thread():  # before torch is imported
            for model in [] if options.page_only else models:
                found[model] = {}
                for part, values in measure(model, options):
                    found[model][part] = values
                    if not options.json:
                        keep(found)
            for name in [] if options.page_only else wanted:
                peers[name] = dict(measure_peer(name, options))
                if not options.json:
                    keep(found, peers)
        if options.json:
            print(json.dumps({"models": found, "peers": peers}, indent=1))
        else:
            PAGE.write_text(render(), encoding="utf-8")
    except AudioaeError as error:
        parser.exit(error.exit_code, f"Error: {error}\n")


def measure(model: str, options: argparse.Namespace) -> Iterable[tuple[str, dict[str, Any]]]:
    """Yield the requested parts of one model: name and measurements."""
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


def measure_peer(name: str, options: argparse.Namespace) -> Iterable[tuple[str, dict[str, Any]]]:
    """Yield quality and speed of another system: name and measurements."""
    for part in (part for part in options.measure if part in PEER_PARTS):
        print(f"{name}: {part}", file=sys.stderr)
        made = describe_machine(PEERS[name].package)
        if part == "speed":
            with tempfile.TemporaryDirectory() as folder:
                cost = measure_cost(name, Path(folder), starts=options.starts)
            yield part, {"made": made, **cost}
            continue
        tables = {PAIRS[side]: getattr(options, side) for side in PAIRS}
        sets = [
            {"pairs": pairs, **_scores(table, denoiser(name), list(METRICS))}
            for pairs, table in tables.items()
            if table is not None
        ]
        if sets:
            yield part, {"made": made, "sets": sets}


def _scores(table: Path, denoise: Denoise, metrics: Sequence[str]) -> dict[str, Any]:
    """The number of pairs, and the mean scores of both sides."""
    pairs = read_pairs(table)
    means = summarise(evaluate(pairs, denoise, metrics=metrics))
    sides = {
        side: {metric: getattr(both, side).value for metric, both in means.items()}
        for side in ("enhanced", "noisy")
    }
    return {"count": len(pairs), **sides}


def measure_quality(model: str, tables: dict[str, Path | None]) -> Iterable[dict[str, Any]]:
    """Yield mean scores on the given pairs, for the metrics that are not on the model's card."""
    shipped = [entry.name for entry in list_denoisers()]
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
                f"{table} has {len(pairs)} pairs, but the scores on the card of {model} are from "
                f"{card[name].count}; use the same pairs"
            )
        yield {"pairs": name, **_scores(table, partial(denoise, model=engine), metrics)}


def keep(found: dict[str, dict[str, Any]], peers: dict[str, dict[str, Any]] | None = None) -> None:
    """Replace earlier measurements of these models, peers and parts; drop models that no longer
    ship.
    """
    kept = json.loads(MEASURED.read_text(encoding="utf-8")) if MEASURED.exists() else {}
    before, others = kept.get("models", {}), kept.get("peers", {})
    others |= {name: {**others.get(name, {}), **parts} for name, parts in (peers or {}).items()}
    models = {
        entry.name: {**before.get(entry.name, {}), **found.get(entry.name, {})}
        for entry in list_denoisers()
    }
    for name, parts in models.items():
        if "quality" in parts and not is_current(name, parts["quality"]):
            del parts["quality"]
    everything = {"models": models, **({"peers": others} if others else {})}
    write_text(MEASURED, json.dumps(everything, indent=1, ensure_ascii=False) + "\n")


def _source(places: dict[Side, Path]) -> str:
    """Describe where clips come from, without absolute paths."""
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
        help="a shipped model, or any model with --json; repeatable [all shipped]",
    )
    add(
        "--measure",
        nargs="+",
        choices=PARTS,
        default=list(PARTS),
        help="parts to measure [all]",
    )
    add("--page-only", action="store_true", help="write the page without measuring")
    add("--json", action="store_true", help="print the results on stdout and write nothing")
    add(
        "--peers",
        nargs="*",
        choices=list(PEERS),
        help="other systems to measure in the same run; their packages must be installed, see "
        "tests/benchmarks/peers.py [all installed; with -m none]",
    )
    quality = parser.add_argument_group(
        "quality", "scores that are not on the cards; without pairs, only the cards are used"
    )
    quality.add_argument("--pairs", type=Path, metavar="CSV|DIR", help=PAIRS["pairs"])
    quality.add_argument("--unseen", type=Path, metavar="CSV|DIR", help=PAIRS["unseen"])
    honesty = parser.add_argument_group("honesty")
    honesty.add_argument(
        "--data",
        type=Path,
        default=Path("data/16k"),
        metavar="DATA",
        help="prepared data, validation split [data/16k]",
    )
    honesty.add_argument(
        "--speech", type=Path, metavar="DIR|CSV|DATA", help="clean speech to use instead"
    )
    honesty.add_argument("--noise", type=Path, metavar="DIR|CSV|DATA", help="noise to use instead")
    honesty.add_argument(
        "--clips", type=int, default=40, metavar="N", help="clips of speech, and of noise [40]"
    )
    honesty.add_argument(
        "--seconds",
        type=float,
        default=4.0,
        metavar="S",
        help="maximum length of a clip, seconds [4]",
    )
    speed = parser.add_argument_group("speed")
    speed.add_argument(
        "--starts",
        type=int,
        default=STARTS,
        metavar="N",
        help=f"runs of each command; the fastest counts [{STARTS}]",
    )
    speed.add_argument(
        "--files",
        type=int,
        default=BATCH_FILES,
        metavar="N",
        help=f"files in the folder [{BATCH_FILES}]",
    )
    return parser


if __name__ == "__main__":
    main()
