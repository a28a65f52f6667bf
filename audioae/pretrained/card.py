"""Model cards: training data, training settings and scores of a model, as JSON and Markdown."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from audioae.errors import DataError
from audioae.fields import build, check_types, parse_json
from audioae.pretrained.codec import CodecInfo
from audioae.pretrained.info import ModelInfo, damage_errors

# Names of metrics in the Markdown table; others are written as they are.
_METRICS = {
    "pesq_wb": "PESQ-WB",
    "stoi": "STOI",
    "estoi": "ESTOI",
    "si_sdr": "SI-SDR, dB",
    "segmental_snr": "segmental SNR, dB",
}


@dataclass(frozen=True)
class Scores:
    """Mean scores over a set of noisy/clean pairs.

    Args:
        pairs: description of the pairs.
        count: number of pairs.
        enhanced, noisy: mean by metric of the model's output and of the noisy input; None if no
            pair has a value.
        quality: "fast" or "best", see `audioae denoise`; empty if it is not known.
    """

    pairs: str
    count: int
    enhanced: dict[str, float | None]
    noisy: dict[str, float | None]
    quality: str = ""


@dataclass(frozen=True)
class Card:
    """The origin of a model and its scores.

    Args:
        info: as in the model file; that of a denoiser or of an autoencoder.
        data: training corpora, "corpus (licence)" each.
        licence: licence of the weights.
        seconds_seen: seconds of mixtures used in training, all stages together.
        recipe: all settings of the last training stage.
        commit: version of the code that trained it.
        scores: scores on pairs that were not used in training; empty for an autoencoder.
        stages: the earlier training stages, each with its "recipe" and "audio_hours".
        validation: scores of an autoencoder on its validation set.
    """

    info: ModelInfo | CodecInfo
    data: tuple[str, ...]
    licence: str
    seconds_seen: float
    recipe: dict[str, Any]
    commit: str
    scores: tuple[Scores, ...] = ()
    stages: tuple[dict[str, Any], ...] = ()
    validation: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        with damage_errors("the model card"):
            check_types(self)
            texts = [*self.data, self.licence, self.commit, *(each.pairs for each in self.scores)]
            if wrong := next((each for each in texts if not each.isprintable()), None):
                raise ValueError(f"{wrong[:60]!r} has control characters; expected plain text")
            if self.seconds_seen < 0:
                raise ValueError(f"seconds_seen is {self.seconds_seen}; expected no less than 0")
            for stage in self.stages:
                hours = stage.get("audio_hours")
                if isinstance(hours, bool) or not isinstance(hours, (int, float)):
                    raise ValueError("a stage has no audio_hours; expected a number")

    @property
    def name(self) -> str:
        """The name of the model."""
        return self.info.name

    @property
    def recipe_hash(self) -> str:
        """First 12 digits of the sha256 of the recipe's JSON, keys sorted."""
        return hashlib.sha256(json.dumps(self.recipe, sort_keys=True).encode()).hexdigest()[:12]

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values, and the hash of the recipe."""
        values = {**asdict(self), "recipe_hash": self.recipe_hash}
        if not self.validation:
            del values["validation"]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`; unknown keys are ignored.

        Raises:
            CheckpointError: a field is missing, has a wrong type or is out of range.
        """
        with damage_errors("the model card"):
            given = values.get("info") if isinstance(values, Mapping) else None
            if not isinstance(given, Mapping):
                raise ValueError("info is missing or no object")
            if given.get("kind") == "autoencoder":
                values = {**values, "info": CodecInfo.from_dict(given)}
            return build(cls, values)


def card_markdown(card: Card) -> str:
    """The card as a section of Markdown.

    Example:
        >>> from audioae.pretrained import load_card
        >>> card_markdown(load_card("speech-16k")).splitlines()[0]
        '## speech-16k'
    """
    lines = [
        f"## {card.name}",
        "",
        *_properties(card.info),
        *(f"- data: {corpus}" for corpus in card.data),
        f"- licence: {card.licence}",
        f"- trained on {card.seconds_seen / 3600:.1f} h of mixtures, recipe {card.recipe_hash}, "
        f"commit {card.commit}",
    ]
    if card.stages:
        before = " + ".join(f"{stage['audio_hours']:.1f} h" for stage in card.stages)
        lines.append(
            f"- {len(card.stages) + 1} stages, each starting from the weights of the one before: "
            f"{before} + the last one"
        )
    if card.validation:
        lines += ["", "| validation | value |", "|---|---|"]
        lines += [
            f"| {name.replace('_', ' ')} | {value:.4g} |" for name, value in card.validation.items()
        ]
    for scores in card.scores:
        how = f" (quality {scores.quality})" if scores.quality else ""
        lines += ["", f"Mean over {scores.count} {scores.pairs}{how}:", "", *_score_table(scores)]
    return "\n".join(lines) + "\n"


def _properties(info: ModelInfo | CodecInfo) -> list[str]:
    """Lines about the network and the audio of a model."""
    size = f"{info.parameters:,} parameters, {info.macs_per_second / 1e6:.1f} MMAC/s"
    if isinstance(info, CodecInfo):
        own = info.features
        return [
            f"- network: {info.family}, {size}, {info.bottleneck} bottleneck, "
            f"{info.channels} latent values per {info.step} frames",
            f"- features: {own.num_bins} bins of {own.kind.replace('_', '-')} at "
            f"{own.sample_rate} Hz, STFT {own.n_fft}/{own.hop_length}",
        ]
    stft = info.stft
    wait = "causal" if info.causal else f"{info.lookahead} frames of look-ahead"
    return [
        f"- network: {info.family}, {size}, {info.gain} gain, {wait}",
        f"- audio: {stft.sample_rate} Hz, STFT {stft.n_fft}/{stft.hop_length}",
    ]


def read_scores(path: Path, *, pairs: str = "") -> Scores:
    """Read the mean scores from a file that `audioae evaluate --json` printed.

    Args:
        pairs: description of the pairs; the name of their file if empty.

    Raises:
        DataError: the file cannot be read or has another format.

    Example:
        >>> means = {"snr": {"noisy": {"value": 2.5}, "enhanced": {"value": 9.0}}}
        >>> text = json.dumps({"pairs": "pairs.csv", "count": 3, "means": means})
        >>> _ = Path("scores.json").write_text(text)
        >>> read_scores(Path("scores.json"))
        Scores(pairs='pairs.csv', count=3, enhanced={'snr': 9.0}, noisy={'snr': 2.5}, quality='')
    """
    try:
        found = parse_json(path.read_text(encoding="utf-8"))
        sides = {
            side: {name: means[side]["value"] for name, means in found["means"].items()}
            for side in ("enhanced", "noisy")
        }
        name = pairs or Path(found["pairs"]).name
        values = {"pairs": name, "count": found["count"], "quality": found.get("quality", "")}
        return build(Scores, {**values, **sides}, "scores")
    except OSError as error:
        raise DataError(
            f"cannot read the scores {path} ({error.strerror}); make them with: audioae "
            "evaluate --json"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} has no scores ({error!r}); make them with: audioae evaluate --json"
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
