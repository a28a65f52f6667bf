"""The files of a run: the state to resume it from, and its history."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from audioae.errors import CheckpointError, OutputError, SettingsError, TrainingError
from audioae.fields import build, parse_json, settings_from
from audioae.models.checkpoint import (
    Model,
    describe,
    load_weights,
    read_tensors,
    write_tensors,
)
from audioae.storage import write_text
from audioae.training.rows import AnyReport, Baseline, Noisy
from audioae.training.trainer import Trainer

RESUME, HISTORY = "resume.safetensors", "history.jsonl"
MAX_SKIPPED = 50  # steps in a row
CHECK_STEPS = 100  # between two checks of the weights, besides those before a file is written


def check_progress(trainer: Trainer, out: Path) -> None:
    """Raise `TrainingError` if a training has diverged: the loss of `MAX_SKIPPED` steps in a row,
    or a weight, is not finite.

    Args:
        out: the run folder, for the error message.
    """
    recent = trainer.losses[-MAX_SKIPPED:]
    if len(recent) == MAX_SKIPPED and not any(map(math.isfinite, recent)):
        raise diverged(trainer, out, f"the loss of the last {MAX_SKIPPED} steps is not finite")
    if trainer.step % CHECK_STEPS == 0:
        check_weights_finite(trainer, out)


def check_weights_finite(trainer: Trainer, out: Path) -> None:
    """Raise `TrainingError` if a weight or its average is NaN or infinite."""
    for module in (trainer.model, trainer.average):
        for name, value in module.state_dict().items():
            if value.is_floating_point() and not value.isfinite().all():
                raise diverged(trainer, out, f"{name} is not finite")


def diverged(trainer: Trainer, out: Path, reason: str) -> TrainingError:
    """The error for a training that has diverged."""
    kept = out / "last.safetensors"
    start = f", or add --from {kept} to start from its last checkpoint" if kept.exists() else ""
    return TrainingError(
        f"the training diverged at step {trainer.step:,}: {reason}. Start again in another --out "
        f"with a lower training.learning_rate (it was {trainer.settings.learning_rate:g}){start}"
    )


def save(trainer: Trainer, path: Path) -> None:
    """Write everything that the next step depends on; `TrainingError` if the training diverged."""
    check_weights_finite(trainer, path.parent)
    tensors = {f"model.{name}": value for name, value in trainer.model.state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in trainer.average.state_dict().items()}
    for index, state in trainer.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
    counters = {
        "step": trainer.step,
        "skipped": trainer.skipped,
        "seconds": trainer.seconds,
        "losses": [loss if math.isfinite(loss) else None for loss in trainer.losses],
        "best": trainer.best if math.isfinite(trainer.best) else None,
        "reports_since_best": trainer.reports_since_best,
        "scaler": trainer.scaler.state_dict(),
    }
    write_tensors(path, tensors, {**describe(trainer.model), **counters})


def load(trainer: Trainer, path: Path) -> None:
    """Restore the state that `save` wrote; the first process reads it for all processes."""
    tensors, metadata = trainer.team.from_first(lambda: read_tensors(path))
    own = json.loads(json.dumps(describe(trainer.model)))
    for part in ("task", "family", "stft", "features", "output", "network"):
        # Runs of older versions lack the settings that were added since, which have their defaults.
        if part == "network" and metadata.get("family") == own["family"]:
            metadata[part] = with_defaults(trainer.model, metadata.get(part))
        if metadata.get(part) != own.get(part):
            raise CheckpointError(
                f"{path} has another {part} than this recipe; give another --out, or the recipe "
                "that began the run"
            )
    try:
        losses = [None if each != each else each for each in metadata.get("losses", [])]  # NaN
        counters = build(Counters, {**metadata, "losses": losses}, "its state")
        counters.check()
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "average": {}, "optimizer": {}}
        for name, value in tensors.items():
            group, _, rest = name.partition(".")
            parts[group][rest] = value
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in parts["optimizer"].items():
            index, _, key = name.partition(".")
            state.setdefault(int(index), {})[key] = value
        check_optimizer(trainer, state)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path} is damaged ({error}); give another --out, or start from a checkpoint with "
            "--from"
        ) from error
    load_weights(trainer.model, parts["model"], path)
    load_weights(trainer.average, parts["average"], path)
    trainer.optimizer.load_state_dict(
        {"state": state, "param_groups": trainer.optimizer.state_dict()["param_groups"]}
    )
    if trainer.scaler.is_enabled() and counters.scaler:
        trainer.scaler.load_state_dict(counters.scaler)
    trainer.step, trainer.skipped, trainer.seconds = (
        counters.step,
        counters.skipped,
        counters.seconds,
    )
    trainer.best = -math.inf if counters.best is None else counters.best
    trainer.reports_since_best = counters.reports_since_best
    trainer.losses = [math.nan if loss is None else loss for loss in counters.losses]


def with_defaults(model: Model, network: Any) -> Any:
    """The settings of a network with all fields of this version; unchanged if they are damaged."""
    try:
        settings = settings_from(type(model.autoencoder.settings), network)
        return json.loads(json.dumps(dataclasses.asdict(settings)))
    except (AttributeError, TypeError, ValueError, SettingsError):
        return network


@dataclass(frozen=True)
class Counters:
    """The counters in the metadata of the state; see `Trainer`. Older versions lack the last ones.

    A loss is None if its step was skipped.
    """

    step: int
    skipped: int
    seconds: float
    best: float | None
    reports_since_best: int = 0
    losses: tuple[float | None, ...] = ()
    scaler: dict[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Raise `ValueError` for counters that are out of range."""
        if not (0 <= self.skipped <= self.step and self.seconds >= 0):
            raise ValueError(f"step is {self.step}, {self.skipped} of them skipped")


def check_optimizer(trainer: Trainer, state: Mapping[int, Mapping[str, Tensor]]) -> None:
    """Compare the state of the optimizer with the weights; raises `ValueError`."""
    weights = [each for group in trainer.optimizer.param_groups for each in group["params"]]
    for index, values in state.items():
        if not 0 <= index < len(weights) or set(values) != {"step", "exp_avg", "exp_avg_sq"}:
            raise ValueError(f"its optimizer has another form at weight {index}")
        for name, value in values.items():
            if name != "step" and value.shape != weights[index].shape:
                raise ValueError(f"its optimizer has {name} of another shape at weight {index}")
            if not (value.is_floating_point() and value.isfinite().all()):
                raise ValueError(f"its optimizer has {name} that is no finite number")


def begin_history(history: Path, baseline: Noisy | Baseline, step: int) -> None:
    """Start the history with the scores without a model, and keep its reports up to `step`.

    Later reports, which a resumed run makes again, are removed, and so is an incomplete last line.
    """
    with history_errors(history):
        text = history.read_text(errors="replace") if history.exists() else ""
        *lines, _incomplete = text.split("\n")
        reports = [line for line in lines if 0 < step_of(line) <= step]
        write_text(history, "".join(line + "\n" for line in [line_of(baseline), *reports]))


def step_of(line: str) -> int:
    """The step of a line of the history; 0 for a damaged line, which is dropped."""
    try:
        step = parse_json(line)["step"]
    except (ValueError, KeyError, TypeError):
        return 0
    return step if isinstance(step, int) else 0


def append_history(history: Path, row: AnyReport) -> None:
    """Append a report."""
    with history_errors(history), history.open("a") as file:
        file.write(line_of(row) + "\n")


def line_of(row: Noisy | Baseline | AnyReport) -> str:
    """A row as a line of JSON."""
    return json.dumps(dataclasses.asdict(row))


@contextmanager
def history_errors(history: Path) -> Iterator[None]:
    """Raise OSError as `OutputError`."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"cannot write {history}: {error.strerror or error}; the checkpoints are not affected"
        ) from error
