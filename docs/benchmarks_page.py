"""The page docs/benchmarks.md out of docs/benchmarks.json, the cards of the models and
docs/peers.json; nothing is measured here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from audioae.pretrained import Scores, list_models, load_card

FOLDER = Path(__file__).parent
MEASURED, PEERS = FOLDER / "benchmarks.json", FOLDER / "peers.json"
PARTS = ("quality", "honesty", "speed")

Told = Mapping[str, Any]

METRICS = {
    "pesq_wb": ("PESQ-WB", 2), "stoi": ("STOI", 3), "estoi": ("ESTOI", 3), "si_sdr": ("SI-SDR, dB", 1), "csig": ("CSIG", 2),
    "cbak": ("CBAK", 2), "covl": ("COVL", 2), "dnsmos_ovrl": ("DNSMOS OVRL", 2),
}  # fmt: skip

HEAD = """# Benchmarks

What the models in the package reach, what they leave alone, and what they cost. Written by `python docs/make_benchmarks.py` from
[benchmarks.json](benchmarks.json), which holds every measurement with its machine and date, and from the cards of the models: measure
again, do not change this page. `python docs/make_benchmarks.py --help` says how."""

QUALITY = """## Quality

Means over all pairs, against the clean recordings; PESQ is P.862.2 without Corrigendum 2. `audioae evaluate` measures the same on any
pairs."""

OTHERS = """Other systems were {source}.
What was not measured is left empty. Those at 48 kHz were given the 16 kHz recordings resampled; those trained on this corpus win on it and
lose elsewhere."""

HONESTY = """## Honest behaviour

Measured on files as `audioae denoise` writes them with its default settings: {clips}.

- **Clean speech**: PESQ-WB of cleaned clean speech against itself (4.64 is untouched), and the change of its level in frames with speech.
- **Digital silence**: the largest sample that comes of it, as a whole file and amid speech.
- **Noise alone**: power in over power out."""

KEPT = """### What is lost of speech

With E and S the spectra of the output and of the clean speech, in frames of 20 ms every 10 ms, what is left of the speech in frames T and a
band F is

    kept = sum over t in T of Re<E_t, S_t> / |S_t|  /  sum over t in T of |S_t|,    <E_t, S_t> = sum over f in F of E_tf conj(S_tf)

and -20 log10(kept) dB is lost. It is the part of the output that is the clean speech, so a recording that nothing was done to has lost 0 dB
at any ratio; speech that comes back in another phase counts as lost. Frames count by their amplitude, so that vowels do not drown the rest.
*Speech* is all frames within 30 dB of the loud ones, 300 to 3400 Hz; *onsets* are the first 50 ms of them after 200 ms without any;
*consonants* are those with more power above 3 kHz than below, 3 to 8 kHz. The worst clip is the one that loses most speech. The same
clips are mixed at every ratio (on active levels). Beside it stands by how much SI-SDR rises: to do nothing loses nothing, and gains
nothing."""

WARNED = """### "This does not look like speech"

How often the warning comes, of all clips. On speech it should not, on noise and music it should."""

SPEED = """## Speed and memory

One thread, processes started anew; of {starts} runs the quickest counts. A real-time factor is seconds of work per second of audio, the
start of the program included. Where other work shared the cores (see the load below), processor time says more than the clock."""

WHERE = """## Measured where"""


def render() -> str:
    """The page."""
    measured, peers = (json.loads(path.read_text(encoding="utf-8")) for path in (MEASURED, PEERS))
    models = {entry.name: measured["models"].get(entry.name, {}) for entry in list_models()}
    sections = [
        HEAD,
        *quality(models, peers),
        *honesty(_having(models, "honesty")),
        *speed(_having(models, "speed")),
        *where(models),
    ]
    return "\n\n".join(sections) + "\n"


def quality(models: Mapping[str, Told], peers: Told) -> list[str]:
    """A table for each set of pairs that a card, or else a measurement, has scores on."""
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
                [f"**{name}** ({_size(name)})", *_scores(scores.enhanced)]
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
        sections += [OTHERS.format(source=peers["source"])] if others else []
    return sections


def scores_of(name: str, parts: Told) -> list[Scores]:
    """The scores on a shipped model's card, and those that were measured of the same file beside
    it; the card goes first.
    """
    card = {scores.pairs: scores for scores in load_card(name).scores}
    part = parts.get("quality")
    for row in part["sets"] if part and is_current(name, part) else []:
        on_card = card.get(row["pairs"], Scores(row["pairs"], row["count"], {}, {}))
        sides = ({**row[side], **_known(getattr(on_card, side))} for side in ("enhanced", "noisy"))
        if on_card.count == row["count"]:
            card[row["pairs"]] = Scores(row["pairs"], row["count"], *sides)
    return list(card.values())


def honesty(models: Mapping[str, Told]) -> list[str]:
    """How models behave on what they should leave alone, and on what they should not."""
    if not models:
        return []
    rows: list[tuple[str, Callable[[Told], str]]] = [
        (
            "clean speech: PESQ-WB, mean / worst",
            lambda of: _both((of["clean"]["pesq_wb"] or {}).values(), 2),
        ),
        (
            "clean speech: level change, dB, mean / largest",
            lambda of: _both(of["clean"]["level_change_db"].values(), 2),
        ),
        (
            "digital silence, a file / amid speech",
            lambda of: " / ".join(_silence(peak) for peak in of["silence"].values()),
        ),
        (
            "noise alone: lowered by, dB, mean / median",
            lambda of: _both((of["noise"]["mean_db"], of["noise"]["median_db"]), 1),
        ),
        ("noise alone: class that is lowered least", lambda of: _worst(of["noise"]["worst_class"])),
    ]
    clips = dict.fromkeys(_clips(of) for of in models.values())
    lost = [part for name, of in models.items() for part in (f"**{name}**", _lost(of))]
    warned = [_warned(of) for of in models.values()]
    names = list(warned[0])
    return [
        HONESTY.format(clips="; ".join(clips)),
        _table(
            ["", *models], [[title, *(tell(of) for of in models.values())] for title, tell in rows]
        ),
        *(KEPT, *lost, WARNED),
        _table(
            ["", *models],
            [[name, *(_percent(each.get(name)) for each in warned)] for name in names],
        ),
    ]


def speed(models: Mapping[str, Told]) -> list[str]:
    """What models cost."""
    if not models:
        return []
    batch = next(iter(models.values()))["batch"]
    rows: list[tuple[str, Callable[[Told], str]]] = [
        (
            "`audioae --help`, s (of which Python's own start)",
            lambda of: f"{of['help']['seconds']:.2f} ({of['python']['seconds']:.2f})",
        ),
        ("a file of 8 s from a cold start: s, CPU-s, peak MiB", lambda of: _run(of["8 s"])),
        ("a file of 60 s: real-time factor, clock / CPU", lambda of: _factors(of["60 s"])),
        ("a file of 60 s: peak MiB", lambda of: f"{of['60 s']['peak_mib']:.0f}"),
        (
            "60 s of 48 kHz stereo: real-time factor, clock / CPU",
            lambda of: _factors(of["60 s, 48 kHz stereo"]),
        ),
        (
            "60 s of 48 kHz stereo: peak MiB",
            lambda of: f"{of['60 s, 48 kHz stereo']['peak_mib']:.0f}",
        ),
        (
            "the network alone in ONNX Runtime: real-time factor, CPU",
            lambda of: _network(of["network"]),
        ),
        ("a hop of a live stream, ms: its length", lambda of: f"{of['hop']['hop_ms']:g}"),
        (
            "a hop of a live stream, ms: median / 99th percentile, clock",
            lambda of: _both((of["hop"]["median_ms"], of["hop"]["p99_ms"]), 2),
        ),
        (
            "a hop of a live stream, ms: median / 99th percentile, CPU",
            lambda of: _both(_hop_cpu(of["hop"]), 2),
        ),
        *(
            (f"a batch with `--jobs {jobs}`: files a second, CPU-s a file", _batch_of(jobs))
            for jobs in batch["jobs"]
        ),
    ]
    starts = ", ".join(dict.fromkeys(str(of["starts"]) for of in models.values()))
    table = _table(
        ["", *models], [[title, *(tell(of) for of in models.values())] for title, tell in rows]
    )
    return [
        SPEED.format(starts=starts),
        table,
        f"The batch has {batch['files']} files of {batch['file_seconds']} s.",
    ]


def where(models: Mapping[str, Told]) -> list[str]:
    """The machine, the date and the model's file of each measurement."""
    rows = []
    for name, parts in models.items():
        for part in (part for part in PARTS if part in parts):
            made = parts[part]["made"]
            versions = ", ".join(
                f"{package} {version}" for package, version in made["versions"].items()
            )
            file = made["sha256"][:12] + (
                "" if is_current(name, parts[part]) else ", **replaced since**"
            )
            machine = f"{made['cpu']}, {made['cores']} cores, {made['system']}"
            rows.append([name, part, made["date"], file, machine, f"{made['load']:.1f}", versions])
    return (
        [
            WHERE,
            _table(
                ["model", "what", "date", "sha256 of the model", "machine", "load", "versions"],
                rows,
            ),
        ]
        if rows
        else []
    )


def is_current(name: str, part: Told) -> bool:
    """Whether a measurement is of the model's file as it is shipped now."""
    return any(
        entry.name == name and entry.sha256 == part["made"]["sha256"] for entry in list_models()
    )


def _having(models: Mapping[str, Told], part: str) -> dict[str, Told]:
    return {name: parts[part] for name, parts in models.items() if part in parts}


def _known(values: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: value for name, value in values.items() if value is not None}


def _scores(values: Told) -> list[str]:
    return [_number(values.get(metric), digits) for metric, (_, digits) in METRICS.items()]


def _size(name: str) -> str:
    info = load_card(name).info
    timing = "causal" if info.causal else f"{info.lookahead} frames of look-ahead"
    return f"{timing}, {info.parameters / 1e3:,.0f} k parameters, {info.macs_per_second / 1e6:.0f} M MAC/s"


def _kind(system: Told) -> str:
    sizes = [
        f"{system[key]} {unit}"
        for key, unit in (("parameters", "parameters"), ("macs_per_second", "MAC/s"))
        if key in system
    ]
    return ", ".join([system["kind"], *sizes])


def _clips(of: Told) -> str:
    frames = of["clean"]["frames"]
    return (
        f"{of['speech_clips']} clips of speech ({of['audio_seconds']:.0f} s; "
        f"{frames['speech']:,} frames with speech, {frames['onset']:,} "
        f"of onsets, {frames['consonant']:,} of consonants) and {of['noise_clips']} of noise "
        f"({of['source']}), {of['music_clips']} of "
        "synthetic music"
    )


def _lost(of: Told) -> str:
    columns = (
        "speech_lost_db",
        "onset_lost_db",
        "consonant_lost_db",
        "worst_clip_lost_db",
        "si_sdr_gain_db",
    )
    rows = [["none", *(_number(of["clean"].get(name), 1) for name in columns)]]
    rows += [
        [f"{_number(row['snr_db'], 0)} dB", *(_number(row.get(name), 1) for name in columns)]
        for row in of["mixtures"]
    ]
    return _table(
        [
            "noise at",
            "speech, dB",
            "onsets, dB",
            "consonants, dB",
            "worst clip, dB",
            "SI-SDR gain, dB",
        ],
        rows,
    )


def _warned(of: Told) -> dict[str, float | None]:
    mixed = {
        f"speech, noise at {_number(row['snr_db'], 0)} dB": row["warned"] for row in of["mixtures"]
    }
    return {
        "clean speech": of["clean"]["warned"],
        **mixed,
        "noise alone": of["warned"]["noise"],
        "synthetic music": of["warned"]["music"],
    }


def _batch_of(jobs: str) -> Callable[[Told], str]:
    def tell(of: Told) -> str:
        run = of["batch"]["jobs"][jobs]
        return f"{of['batch']['files'] / run['seconds']:.1f}, {run['cpu_seconds'] / of['batch']['files']:.2f}"

    return tell


def _network(of: Told) -> str:
    return f"{of['cpu_seconds'] / of['audio_seconds']:.4f}"


def _hop_cpu(hop: Told) -> tuple[float, float]:
    return hop["cpu_median_ms"], hop["cpu_p99_ms"]


def _run(run: Told) -> str:
    return f"{run['seconds']:.2f}, {run['cpu_seconds']:.2f}, {run['peak_mib']:.0f}"


def _factors(run: Told) -> str:
    return f"{run['seconds'] / 60:.4f} / {run['cpu_seconds'] / 60:.4f}"


def _silence(peak: float) -> str:
    return "exact zeros" if peak == 0 else f"{20 * math.log10(peak):.0f} dBFS"


def _worst(worst: Told) -> str:
    clips = "1 clip" if worst["clips"] == 1 else f"{worst['clips']} clips"
    return f"{worst['attenuation_db']:.1f} dB ({worst['name']}, {clips})"


def _both(values: Iterable[float | None], digits: int) -> str:
    return " / ".join(_number(value, digits) for value in values)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f} %"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}".replace("-", "−")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---", *("--:" for _ in head[1:])], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
