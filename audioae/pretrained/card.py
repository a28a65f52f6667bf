"""A model's card: what it learnt from, how, and what it scores, as JSON and as Markdown."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, Self

from audioae.errors import CheckpointError, DataError
from audioae.signal.spectrogram import StftSettings


@dataclass(frozen=True)
class ModelInfo:
    """All that has to be known of a model to run it.

    Args:
        name: of the model; family: the kind of network ("conv1d", "conv2d", ...).
        stft: how waveforms become its spectra.
        gain: "real" keeps the noisy phase, "complex" corrects it.
        lookahead, context: frames after and before a frame that its gain needs; both 0 for a causal
            model, which carries a state instead.
        stride: frames per time step of the network; a chunk starts at a multiple of it.
        parameters: numbers learnt; macs_per_second: multiply-accumulates per second of audio.
        version: of audioae, which made the model.
        edges: what the model hears beyond the ends of a recording: "silence", or the recording
            mirrored in time. A model with mirrored ends uses both directions of time and runs on
            whole chunks of a recording only, see `denoise.gains`.
    """

    name: str
    family: str
    stft: StftSettings
    gain: Literal["real", "complex"]
    lookahead: int
    context: int
    stride: int
    parameters: int
    macs_per_second: int
    version: str
    edges: Literal["silence", "mirror"] = "silence"

    def __post_init__(self) -> None:
        if self.gain not in ("real", "complex"):
            raise CheckpointError(
                f"model {self.name!r} has gain {self.gain!r}; expected 'real' or 'complex'"
            )
        if self.stride < 1 or self.lookahead < 0 or self.context < 0:
            timing = f"stride {self.stride}, lookahead {self.lookahead}, context {self.context}"
            raise CheckpointError(
                f"model {self.name!r} has {timing}; expected a stride of at least 1 and no "
                "negative frames"
            )

    @property
    def causal(self) -> bool:
        """True if no gain needs a later frame and the past is carried in a state."""
        return self.lookahead == 0 and self.context == 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON takes them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The opposite of `to_dict`."""
        known = known_values(cls, values)
        return cls(**{**known, "stft": StftSettings(**known_values(StftSettings, known["stft"]))})


def known_values(settings: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that a dataclass has fields for.

    A newer audioae may have written more. None without a default may be missing.
    """
    known = {each.name: each for each in fields(settings)}
    missing = [
        name for name, each in known.items() if each.default is MISSING and name not in values
    ]
    if missing:
        raise CheckpointError(
            f"{settings.__name__} lacks {', '.join(missing)}; make the file again with this "
            "version of audioae"
        )
    return {name: values[name] for name in known if name in values}


# How the metrics of a card are written in its table; others keep their own name.
_METRICS = {
    "pesq_wb": "PESQ-WB",
    "stoi": "STOI",
    "estoi": "ESTOI",
    "si_sdr": "SI-SDR, dB",
    "segmental_snr": "segmental SNR, dB",
}


@dataclass(frozen=True)
class Scores:
    """Mean scores over a set of noisy/clean pairs, by metric, of the model's output and of the
    noisy input; None where there is none.
    """

    pairs: str
    count: int
    enhanced: dict[str, float | None]
    noisy: dict[str, float | None]


@dataclass(frozen=True)
class Card:
    """Where a model comes from and what it does.

    Args:
        info: as in the model's own file.
        data: what it learnt from, "corpus (licence)" each.
        licence: of the weights.
        seconds_seen: seconds of mixtures that training showed it, in all stages.
        recipe: all settings of its last training; commit: of the code that did it.
        scores: on pairs that training did not see.
        stages: the trainings before the last, each with its "recipe" and the "audio_hours" that it
            showed.
    """

    info: ModelInfo
    data: tuple[str, ...]
    licence: str
    seconds_seen: float
    recipe: dict[str, Any]
    commit: str
    scores: tuple[Scores, ...] = ()
    stages: tuple[dict[str, Any], ...] = ()

    @property
    def name(self) -> str:
        """The model's name."""
        return self.info.name

    @property
    def recipe_hash(self) -> str:
        """First 12 digits of the sha256 of the recipe's JSON, keys sorted."""
        return hashlib.sha256(json.dumps(self.recipe, sort_keys=True).encode()).hexdigest()[:12]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON takes them."""
        return {**asdict(self), "recipe_hash": self.recipe_hash}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The opposite of `to_dict`."""
        known = known_values(cls, values)
        scores = tuple(Scores(**known_values(Scores, row)) for row in known["scores"])
        sequences = {
            "data": tuple(known["data"]),
            "scores": scores,
            "stages": tuple(known["stages"]),
        }
        return cls(**{**known, **sequences, "info": ModelInfo.from_dict(known["info"])})


def card_markdown(card: Card) -> str:
    """The card as a section of Markdown."""
    info, stft = card.info, card.info.stft
    wait = "causal" if info.causal else f"{info.lookahead} frames of look-ahead"
    lines = [
        f"## {card.name}",
        "",
        f"- network: {info.family}, {info.parameters:,} parameters, "
        f"{info.macs_per_second / 1e6:.1f} MMAC/s, {info.gain} gain, {wait}",
        f"- audio: {stft.sample_rate} Hz, STFT {stft.n_fft}/{stft.hop_length}",
        *(f"- data: {corpus}" for corpus in card.data),
        f"- licence: {card.licence}",
        f"- trained on {card.seconds_seen / 3600:.1f} h of mixtures, recipe {card.recipe_hash}, "
        f"commit {card.commit}",
    ]
    if card.stages:
        before = " + ".join(f"{stage['audio_hours']:.1f} h" for stage in card.stages)
        lines.append(
            f"- in {len(card.stages) + 1} stages, each begun with the weights of the one before: "
            f"{before}, and the last"
        )
    for scores in card.scores:
        lines += ["", f"Mean over {scores.count} {scores.pairs}:", "", *_score_table(scores)]
    return "\n".join(lines) + "\n"


def read_scores(path: Path, *, pairs: str = "") -> Scores:
    """The means in a file that `audioae evaluate --json` printed; `pairs` names the pairs in words,
    else their file does.
    """
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        sides = {
            side: {name: means[side]["value"] for name, means in told["means"].items()}
            for side in ("enhanced", "noisy")
        }
        return Scores(
            pairs or Path(told["pairs"]).name, told["count"], sides["enhanced"], sides["noisy"]
        )
    except OSError as error:
        raise DataError(
            f"cannot read the scores {path} ({error.strerror}); write them with: audioae "
            "evaluate --json"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} holds no scores ({error!r}); write them with: audioae evaluate --json"
        ) from error


def _score_table(scores: Scores) -> list[str]:
    rows = [
        f"| {_METRICS.get(metric, metric)} | {_number(scores.noisy.get(metric))} | "
        f"{_number(value)} |"
        for metric, value in scores.enhanced.items()
    ]
    return ["| metric | noisy | enhanced |", "|---|---|---|", *rows]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}"
