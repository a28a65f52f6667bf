"""Render docs/benchmarks.md from docs/benchmarks.json, docs/peers.json and the model cards.

Nothing is measured here; `make_benchmarks.py` measures.
"""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from audioae.pretrained import Scores, list_denoisers, load_card

FOLDER = Path(__file__).parent
MEASURED, PEERS = FOLDER / "benchmarks.json", FOLDER / "peers.json"
PARTS = ("quality", "honesty", "speed")
PEER_PARTS = ("quality", "speed")
PART_TITLES = {"quality": "quality", "honesty": "behaviour", "speed": "speed"}

# One part of the measurements, as it is in the JSON.
Values = Mapping[str, Any]

METRICS = {
    "pesq_wb": ("PESQ-WB", 2),
    "stoi": ("STOI", 3),
    "estoi": ("ESTOI", 3),
    "si_sdr": ("SI-SDR, dB", 1),
    "csig": ("CSIG", 2),
    "cbak": ("CBAK", 2),
    "covl": ("COVL", 2),
    "dnsmos_ovrl": ("DNSMOS OVRL", 2),
}

# Columns of the side-by-side tables: key in peers.json, title, decimals.
COST = (
    ("cpu_60s", "60 s, 16 kHz mono, CPU-s", 2),
    ("cpu_8s", "8 s from a cold start, CPU-s", 2),
    ("cpu_60s_48k", "60 s, 48 kHz stereo, CPU-s", 2),
    ("network_ms", "network per frame, ms", None),
    ("frame_ms", "frame, ms", 0),
)
REAL = (
    ("dnsmos_sig", "DNSMOS SIG", 2),
    ("dnsmos_bak", "DNSMOS BAK", 2),
    ("dnsmos_ovrl", "DNSMOS OVRL", 2),
    ("wer", "WER, %", 1),
)
HIGH_BAND = (
    ("high_band_snr_db", "magnitude SNR, dB", 1),
    ("sibilant_level_db", "sibilant level, dB, mean", 1),
    ("sibilant_level_worst_db", "sibilant level, dB, worst tenth", 1),
)

HEAD = """# Benchmarks

Quality, side effects, speed and memory of the models in the package. This page is written by
`python docs/make_benchmarks.py` from [benchmarks.json](benchmarks.json), which holds every
measurement with its machine and date, from [peers.json](peers.json) and from the model cards. To
change a figure, measure again; `python docs/make_benchmarks.py --help` explains how."""

QUALITY = """## Quality

Means over all pairs, relative to the clean recordings. PESQ is P.862.2 without Corrigendum 2.
`audioae evaluate` computes the same scores for any pairs. Causal models without a quality were
measured in one pass from an empty state, as for a live stream."""

OTHERS = """The other systems were {source}. Empty cells were not measured. Systems that work at
48 kHz got the 16 kHz recordings resampled. Systems trained on the training set of this corpus win
on it and score lower elsewhere."""

BEHAVIOUR = """## Behaviour on clean speech, silence and noise

{clips}

- **Clean speech**: PESQ-WB of the output for clean speech, relative to the input (4.64 means
  unchanged), and the change of its level in frames with speech.
- **Digital silence**: the largest sample of the output, for a silent file and for silence within
  speech.
- **Noise alone**: input power over output power."""

MEASURED_ON = """Measured on files written by `audioae denoise` with the default settings at the
date given below: {clips}."""

LOSS = """### Loss of speech

Let E and S be the spectra of the output and of the clean speech, in frames of 20 ms every 10 ms.
The part of the speech that remains in a set of frames T and a band F is

    kept = sum over t in T of Re<E_t, S_t> / |S_t|  /  sum over t in T of |S_t|,
    <E_t, S_t> = sum over f in F of E_tf conj(S_tf)

and the loss is -20 log10(kept) dB. It measures the component of the output that is the clean
speech: an unprocessed recording has a loss of 0 dB at any SNR, and speech with another phase counts
as lost. Frames are weighted by their amplitude, so that vowels do not mask the rest. *Speech* is
all frames within 30 dB of the loud ones, 300 to 3400 Hz. *Onsets* are their first 50 ms after
200 ms without speech. *Consonants* are frames with more power above 3 kHz than below, 3 to 8 kHz.
The worst clip is the one with the largest loss of speech. The same clips are mixed at every SNR (on
active levels). The SI-SDR gain is shown for comparison: a system that does nothing loses nothing
and gains nothing."""

WARNED = """### Warning "This does not look like speech"

Share of the clips for which `audioae denoise` warns. It should not warn for speech, and should for
noise and music."""

SPEED = "## Speed and memory"

FASTEST = """One thread, a new process for each run, the fastest of {starts} runs. Files are
denoised in the default quality, "best", for which `speech-offline-16k` takes the place of
`speech-16k`. The real-time factor is processing time divided by audio duration and includes the
start of the program. Where other programs used the cores (see the load below), CPU time is more
reliable than wall time."""

SAME_RUN = """## Other systems in the same run

The packages of these systems were installed when the models were measured, so they got the same
recordings on the same machine. Time is that of a process on one thread, from its start to the
written file, the fastest of {starts} runs. The real-time factor is for a file of 60 s. The size is
that of the package with everything that it requires; for a model of this package its file is
included."""

SIDE_BY_SIDE = "## Side by side with other systems"

WHERE = "## Machines and versions"


def render() -> str:
    """The page as Markdown."""
    measured, peers = (json.loads(path.read_text(encoding="utf-8")) for path in (MEASURED, PEERS))
    models = {entry.name: measured["models"].get(entry.name, {}) for entry in list_denoisers()}
    sections = [
        HEAD,
        *quality(models, peers),
        *behaviour(_having(models, "honesty")),
        *speed(_having(models, "speed")),
        *same_run(models, measured.get("peers", {})),
        *side_by_side(peers),
        *where(models),
    ]
    return "\n\n".join(sections) + "\n"


def quality(models: Mapping[str, Values], peers: Values) -> list[str]:
    """One table of scores for each set of pairs on the cards or in the measurements."""
    sets: dict[str, dict[str, Scores]] = {}
    for name, parts in models.items():
        for scores in scores_of(name, parts):
            sets.setdefault(scores.pairs, {})[name] = scores
    sections = [QUALITY] if sets else []
    for pairs, by_model in sets.items():
        noisy: dict[str, float | None] = {}
        for scores in by_model.values():
            noisy = {
                **scores.noisy,
                **{metric: value for metric, value in noisy.items() if value is not None},
            }
        others = peers["systems"] if peers["pairs"] in pairs else []
        rows = [
            ["noisy input", *_scores(noisy)],
            *(
                [f"**{name}** ({_size(name, scores.quality)})", *_scores(scores.enhanced)]
                for name, scores in by_model.items()
            ),
        ]
        rows += [
            [f"[{each['name']}]({each['project']}) ({_kind(each)})", *_scores(each)]
            for each in others
        ]
        count = next(iter(by_model.values())).count
        sections += [
            f"### {count} {pairs}",
            _table(["", *(title for title, _ in METRICS.values())], rows),
        ]
        sections += [_filled(OTHERS.format(source=peers["source"]))] if others else []
    return sections


def scores_of(name: str, parts: Values) -> list[Scores]:
    """Scores of a shipped model: those on its card, completed by measurements of the same file."""
    card = {scores.pairs: scores for scores in load_card(name).scores}
    part = parts.get("quality")
    for row in part["sets"] if part and is_current(name, part) else []:
        on_card = card.get(row["pairs"], Scores(row["pairs"], row["count"], {}, {}))
        sides = ({**row[side], **_known(getattr(on_card, side))} for side in ("enhanced", "noisy"))
        if on_card.count == row["count"]:
            card[row["pairs"]] = Scores(row["pairs"], row["count"], *sides, on_card.quality)
    return list(card.values())


def behaviour(models: Mapping[str, Values]) -> list[str]:
    """Side effects on clean speech and silence, attenuation of noise, and warnings."""
    if not models:
        return []
    clips = dict.fromkeys(_clips(values) for values in models.values())
    losses = [part for name, values in models.items() for part in (f"**{name}**", _losses(values))]
    warned = [_warned(values) for values in models.values()]
    return [
        BEHAVIOUR.format(clips=_filled(MEASURED_ON.format(clips="; ".join(clips)))),
        _by_model(models, BEHAVIOUR_ROWS),
        LOSS,
        *losses,
        WARNED,
        _table(
            ["", *models],
            [[name, *(_percent(each.get(name)) for each in warned)] for name in warned[0]],
        ),
    ]


def speed(models: Mapping[str, Values]) -> list[str]:
    """Time and memory."""
    if not models:
        return []
    batch = next(iter(models.values()))["batch"]
    rows = [
        (title, cell)
        for title, cell in SPEED_ROWS
        if any(cell(values).strip(" /") for values in models.values())
    ]
    for jobs in batch["jobs"]:
        rows += [
            (f"a folder with `--jobs {jobs}`: real-time factor", _factor_of(jobs)),
            (f"a folder with `--jobs {jobs}`: files per second, CPU-s per file", _batch_of(jobs)),
        ]
    starts = ", ".join(dict.fromkeys(str(values["starts"]) for values in models.values()))
    return [
        *(SPEED, _filled(FASTEST.format(starts=starts))),
        _by_model(models, rows),
        f"The folder has {batch['files']} files of {batch['file_seconds']} s.",
    ]


def same_run(models: Mapping[str, Values], peers: Mapping[str, Values]) -> list[str]:
    """The peers beside the models: quality on each set of pairs, time, memory and size."""
    if not peers:
        return []
    head = ["", "8 s from a cold start, s", "real-time factor", "peak MiB", "package, MiB"]
    costs = {**_having(models, "speed"), **_having(peers, "speed")}
    rows = [[_name(name, models), *_cost(values)] for name, values in costs.items()]
    starts = ", ".join(dict.fromkeys(str(values["starts"]) for values in costs.values()))
    sections = [_filled_head(SAME_RUN.format(starts=starts))]
    sections += [_table(head, rows)] if rows else []
    by_pairs: dict[str, dict[str, Mapping[str, float | None]]] = {}
    for name, parts in peers.items():
        for part in parts.get("quality", {}).get("sets", []):
            by_pairs.setdefault(part["pairs"], {})[name] = part["enhanced"]
    for pairs, by_peer in by_pairs.items():
        noisy, own = _scores_on(pairs, models)
        scores = {"noisy input": noisy, **own, **by_peer}
        rows = [[name, *_scores(values)] for name, values in scores.items()]
        sections += [
            f"### Quality on {pairs}",
            _table(["", *(title for title, _ in METRICS.values())], rows),
        ]
    return sections


def _scores_on(
    pairs: str, models: Mapping[str, Values]
) -> tuple[Mapping[str, float | None], dict[str, Mapping[str, float | None]]]:
    """The scores of the noisy input and of each model on a set of pairs."""
    found = {
        name: scores
        for name, parts in models.items()
        for scores in scores_of(name, parts)
        if scores.pairs == pairs
    }
    noisy: dict[str, float | None] = {}
    for scores in found.values():
        noisy |= _known(scores.noisy)
    return noisy, {_name(name, models): scores.enhanced for name, scores in found.items()}


def _name(name: str, models: Mapping[str, Values]) -> str:
    return f"**{name}**" if name in models else name


def _cost(values: Values) -> list[str]:
    return [
        f"{values['8 s']['seconds']:.2f}",
        f"{values['60 s']['seconds'] / 60:.4f}",
        f"{values['60 s']['peak_mib']:.0f}",
        _number(values.get("package_mib"), 0),
    ]


def _filled_head(text: str) -> str:
    """A heading and its paragraphs, filled."""
    title, *paragraphs = text.split("\n\n")
    return "\n\n".join([title, *map(_filled, paragraphs)])


def side_by_side(peers: Values) -> list[str]:
    """Measurements of this package and other systems made together."""
    part = peers.get("side_by_side")
    if not part:
        return []
    sections = [SIDE_BY_SIDE, _filled(part["source"])]
    for title, note, columns in (
        ("Cost", part["cost"], COST),
        ("Real recordings and speech recognition", part["real"], REAL),
        ("Above 8 kHz", part["high_band"], HIGH_BAND),
    ):
        rows = [
            [system["name"], *(_number(system.get(key), digits) for key, _, digits in columns)]
            for system in part["systems"]
            if any(key in system for key, _, _ in columns)
        ]
        head = ["", *(name for _, name, _ in columns)]
        sections += [f"### {title}", _filled(note), _table(head, rows)]
    return sections


def where(models: Mapping[str, Values]) -> list[str]:
    """Machine, date and model file of each measurement."""
    rows = []
    for name, parts in models.items():
        for part in (part for part in PARTS if part in parts):
            made = parts[part]["made"]
            packages = [f"{package} {version}" for package, version in made["versions"].items()]
            replaced = "" if is_current(name, parts[part]) else ", **replaced since**"
            rows.append(
                [
                    name,
                    PART_TITLES[part],
                    made["date"],
                    made["sha256"][:12] + replaced,
                    f"{made['cpu']}, {made['cores']} cores, {made['system']}",
                    f"{made['load']:.1f}",
                    ", ".join(packages),
                ]
            )
    head = ["model", "part", "date", "sha256 of the model", "machine", "load", "versions"]
    return [WHERE, _table(head, rows)] if rows else []


def is_current(name: str, part: Values) -> bool:
    """Whether a measurement was made with the model file that ships now."""
    return any(
        entry.name == name and entry.sha256 == part["made"]["sha256"] for entry in list_denoisers()
    )


def _having(models: Mapping[str, Values], part: str) -> dict[str, Values]:
    return {name: parts[part] for name, parts in models.items() if part in parts}


def _known(values: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: value for name, value in values.items() if value is not None}


def _scores(values: Values) -> list[str]:
    return [_number(values.get(metric), digits) for metric, (_, digits) in METRICS.items()]


def _size(name: str, quality: str) -> str:
    info = load_card(name).info
    timing = "causal" if info.causal else f"{info.lookahead} frames of look-ahead"
    timing += f", quality {quality}" if quality else ""
    parameters, macs = info.parameters / 1e3, info.macs_per_second / 1e6
    return f"{timing}, {parameters:,.0f} k parameters, {macs:.0f} M MAC/s"


def _kind(system: Values) -> str:
    sizes = [
        f"{system[key]} {unit}"
        for key, unit in (("parameters", "parameters"), ("macs_per_second", "MAC/s"))
        if key in system
    ]
    return ", ".join([system["kind"], *sizes])


def _clips(values: Values) -> str:
    frames = values["clean"]["frames"]
    return (
        f"{values['speech_clips']} clips of speech ({values['audio_seconds']:.0f} s; "
        f"{frames['speech']:,} frames with speech, {frames['onset']:,} of onsets, "
        f"{frames['consonant']:,} of consonants) and {values['noise_clips']} of noise "
        f"({values['source']}), {values['music_clips']} of synthetic music"
    )


def _losses(values: Values) -> str:
    columns = {
        "speech_lost_db": "speech, dB",
        "onset_lost_db": "onsets, dB",
        "consonant_lost_db": "consonants, dB",
        "worst_clip_lost_db": "worst clip, dB",
        "si_sdr_gain_db": "SI-SDR gain, dB",
    }
    by_snr = {"clean": values["clean"]}
    by_snr |= {f"{_number(row['snr_db'], 0)} dB": row for row in values["mixtures"]}
    rows = [
        [snr, *(_number(row.get(column), 1) for column in columns)] for snr, row in by_snr.items()
    ]
    return _table(["SNR", *columns.values()], rows)


def _warned(values: Values) -> dict[str, float | None]:
    mixed = {
        f"speech at {_number(row['snr_db'], 0)} dB SNR": row["warned"] for row in values["mixtures"]
    }
    return {
        "clean speech": values["clean"]["warned"],
        **mixed,
        "noise alone": values["warned"]["noise"],
        "synthetic music": values["warned"]["music"],
    }


def _batch_of(jobs: str) -> Callable[[Values], str]:
    def cell(values: Values) -> str:
        run, files = values["batch"]["jobs"][jobs], values["batch"]["files"]
        return f"{files / run['seconds']:.1f}, {run['cpu_seconds'] / files:.2f}"

    return cell


def _factor_of(jobs: str) -> Callable[[Values], str]:
    def cell(values: Values) -> str:
        batch = values["batch"]
        audio_seconds = batch["files"] * batch["file_seconds"]
        return f"{batch['jobs'][jobs]['seconds'] / audio_seconds:.4f}"

    return cell


def _run(run: Values) -> str:
    return f"{run['seconds']:.2f}, {run['cpu_seconds']:.2f}, {run['peak_mib']:.0f}"


def _factors(run: Values) -> str:
    return f"{run['seconds'] / 60:.4f} / {run['cpu_seconds'] / 60:.4f}"


def _silence(peak: float) -> str:
    return "exact zeros" if peak == 0 else f"{20 * math.log10(peak):.0f} dBFS"


def _worst(worst: Values) -> str:
    clips = "1 clip" if worst["clips"] == 1 else f"{worst['clips']} clips"
    return f"{worst['attenuation_db']:.1f} dB ({worst['name']}, {clips})"


def _hop(hop: Mapping[str, float] | None, clock: str) -> str:
    """The times of a hop by one clock; empty for a model that cannot denoise a live stream."""
    return _both((hop[f"{clock}median_ms"], hop[f"{clock}p99_ms"]), 2) if hop else ""


def _both(values: Iterable[float | None], digits: int) -> str:
    return " / ".join(_number(value, digits) for value in values)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f} %"


def _number(value: float | None, digits: int | None) -> str:
    """A number with that many decimals, or as it is (None); empty for a missing value."""
    if value is None:
        return ""
    return (f"{value:g}" if digits is None else f"{value:.{digits}f}").replace("-", "−")


def _filled(text: str) -> str:
    """A paragraph with lines of at most 100 columns."""
    return textwrap.fill(" ".join(text.split()), 100, break_on_hyphens=False)


def _by_model(models: Mapping[str, Values], rows: Iterable[Row]) -> str:
    """A table with a column for each model."""
    cells = [[title, *(cell(values) for values in models.values())] for title, cell in rows]
    return _table(["", *models], cells)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---", *("--:" for _ in head[1:])], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


# Rows of the tables with a column for each model: title, and the cell of a model's values.
Row = tuple[str, Callable[[Values], str]]

BEHAVIOUR_ROWS: list[Row] = [
    (
        "clean speech: PESQ-WB, mean / worst",
        lambda values: _both((values["clean"]["pesq_wb"] or {}).values(), 2),
    ),
    (
        "clean speech: level change, dB, mean / largest",
        lambda values: _both(values["clean"]["level_change_db"].values(), 2),
    ),
    (
        "digital silence: whole file / within speech",
        lambda values: " / ".join(_silence(peak) for peak in values["silence"].values()),
    ),
    (
        "noise alone: attenuation, dB, mean / median",
        lambda values: _both((values["noise"]["mean_db"], values["noise"]["median_db"]), 1),
    ),
    (
        "noise alone: class with the least attenuation",
        lambda values: _worst(values["noise"]["worst_class"]),
    ),
]

SPEED_ROWS: list[Row] = [
    (
        "`audioae --help`, s (Python's own start)",
        lambda values: f"{values['help']['seconds']:.2f} ({values['python']['seconds']:.2f})",
    ),
    ("file of 8 s from a cold start: s, CPU-s, peak MiB", lambda values: _run(values["8 s"])),
    ("file of 60 s: real-time factor, wall / CPU", lambda values: _factors(values["60 s"])),
    (
        "size of the model, of the package with what it requires, MiB",
        lambda values: _both((values.get("model_mib"), values.get("package_mib")), 1),
    ),
    ("file of 60 s: peak MiB", lambda values: f"{values['60 s']['peak_mib']:.0f}"),
    (
        "60 s of 48 kHz stereo: real-time factor, wall / CPU",
        lambda values: _factors(values["60 s, 48 kHz stereo"]),
    ),
    (
        "60 s of 48 kHz stereo: peak MiB",
        lambda values: f"{values['60 s, 48 kHz stereo']['peak_mib']:.0f}",
    ),
    (
        "network alone in ONNX Runtime: real-time factor, CPU",
        lambda values: (
            f"{values['network']['cpu_seconds'] / values['network']['audio_seconds']:.4f}"
        ),
    ),
    (
        "hop of a live stream: length, ms",
        lambda values: f"{values['hop']['hop_ms']:g}" if values["hop"] else "not live",
    ),
    (
        "hop of a live stream: median / 99th percentile, ms, wall",
        lambda values: _hop(values["hop"], ""),
    ),
    (
        "hop of a live stream: median / 99th percentile, ms, CPU",
        lambda values: _hop(values["hop"], "cpu_"),
    ),
]
