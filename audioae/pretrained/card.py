"""Model properties and model cards (training data, training settings, scores), as JSON and
Markdown.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

from audioae.errors import CheckpointError, DataError, SettingsError
from audioae.fields import build, check_types, parse_json
from audioae.signal.spectrogram import StftSettings

MAX_NAME = 100  # characters
MAX_REACH_SECONDS = 60  # of stride, look-ahead and context; more takes gigabytes


@dataclass(frozen=True)
class ModelInfo:
    """The properties of a model that are needed to run it.

    Args:
        name: name of the model.
        family: kind of network ("conv1d", "conv2d", ...).
        stft: the STFT that makes its input.
        gain: "real" keeps the noisy phase, "complex" changes it.
        lookahead, context: frames after and before a frame that its gain depends on; both 0 for a
            causal model, which has a state instead.
        stride: frames per time step of the network; a chunk starts at a multiple of it.
        parameters: number of trained parameters.
        macs_per_second: multiply-accumulate operations per second of audio.
        version: version of audioae that made the model.
        edges: the input before the start and after the end of a recording: "silence", or "mirror",
            the recording reversed in time. A model with "mirror" runs in both directions of time
            and on whole chunks of a recording only, see `denoising.gains`.

    Raises:
        CheckpointError: a value has a wrong type or is out of range.

    Example:
        >>> info = ModelInfo("m", "conv1d", StftSettings(), "real", 0, 0, 1, 9000, 500_000, "0.1")
        >>> info.causal, ModelInfo.from_dict(info.to_dict()) == info
        (True, True)
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
        with damage_errors("the properties of the model"):
            check_types(self)
        if not self.name or not self.name.isprintable() or len(self.name) > MAX_NAME:
            raise CheckpointError(
                f"a model has the name {self.name[:MAX_NAME]!r}; expected 1 to {MAX_NAME} "
                "printable characters"
            )
        if self.stride < 1 or self.lookahead < 0 or self.context < 0:
            timing = f"stride {self.stride}, lookahead {self.lookahead}, context {self.context}"
            raise CheckpointError(
                f"model {self.name!r} has {timing}; expected stride >= 1, lookahead >= 0 and "
                "context >= 0"
            )
        reach = max(self.stride, self.lookahead, self.context) * self.stft.hop_length
        if reach > MAX_REACH_SECONDS * self.stft.sample_rate:
            raise CheckpointError(
                f"model {self.name!r} has a stride of {self.stride}, {self.lookahead} frames of "
                f"look-ahead and {self.context} of context; expected at most "
                f"{MAX_REACH_SECONDS} s of each"
            )
        if self.parameters < 0 or self.macs_per_second < 0:
            raise CheckpointError(
                f"model {self.name!r} has {self.parameters} parameters and {self.macs_per_second} "
                "MAC/s; expected no negative numbers"
            )

    @property
    def causal(self) -> bool:
        """True if gains depend on no later frame and the past is in a state."""
        return self.lookahead == 0 and self.context == 0

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`; unknown keys are ignored.

        Raises:
            CheckpointError: a field is missing, has a wrong type or is out of range.
        """
        with damage_errors("the properties of the model"):
            return build(cls, values)


@contextmanager
def damage_errors(what: str) -> Iterator[None]:
    """Raise the errors of values that are damaged as `CheckpointError`."""
    try:
        yield
    except (ValueError, SettingsError) as error:
        raise CheckpointError(f"{what} cannot be used: {error}") from error


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
    """

    pairs: str
    count: int
    enhanced: dict[str, float | None]
    noisy: dict[str, float | None]


@dataclass(frozen=True)
class Card:
    """The origin of a model and its scores.

    Args:
        info: as in the model file.
        data: training corpora, "corpus (licence)" each.
        licence: licence of the weights.
        seconds_seen: seconds of mixtures used in training, all stages together.
        recipe: all settings of the last training stage.
        commit: version of the code that trained it.
        scores: scores on pairs that were not used in training.
        stages: the earlier training stages, each with its "recipe" and "audio_hours".
    """

    info: ModelInfo
    data: tuple[str, ...]
    licence: str
    seconds_seen: float
    recipe: dict[str, Any]
    commit: str
    scores: tuple[Scores, ...] = ()
    stages: tuple[dict[str, Any], ...] = ()

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
        return {**asdict(self), "recipe_hash": self.recipe_hash}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`; unknown keys are ignored.

        Raises:
            CheckpointError: a field is missing, has a wrong type or is out of range.
        """
        with damage_errors("the model card"):
            return build(cls, values)


def card_markdown(card: Card) -> str:
    """The card as a section of Markdown.

    Example:
        >>> from audioae.pretrained import load_card
        >>> card_markdown(load_card("speech-16k")).splitlines()[0]
        '## speech-16k'
    """
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
            f"- {len(card.stages) + 1} stages, each starting from the weights of the one before: "
            f"{before} + the last one"
        )
    for scores in card.scores:
        lines += ["", f"Mean over {scores.count} {scores.pairs}:", "", *_score_table(scores)]
    return "\n".join(lines) + "\n"


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
        Scores(pairs='pairs.csv', count=3, enhanced={'snr': 9.0}, noisy={'snr': 2.5})
    """
    try:
        found = parse_json(path.read_text(encoding="utf-8"))
        sides = {
            side: {name: means[side]["value"] for name, means in found["means"].items()}
            for side in ("enhanced", "noisy")
        }
        name = pairs or Path(found["pairs"]).name
        return build(Scores, {"pairs": name, "count": found["count"], **sides}, "scores")
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
