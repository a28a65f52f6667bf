"""The files of a run: the state to resume it from, and its history."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from audioae.errors import CheckpointError
from audioae.models.checkpoint import describe, load_weights, read_tensors, write_tensors
from audioae.storage import write_text
from audioae.training.rows import Noisy, Report
from audioae.training.trainer import Trainer

RESUME, HISTORY = "resume.safetensors", "history.jsonl"


def save(trainer: Trainer, path: Path) -> None:
    """Write everything that the next step depends on."""
    tensors = {f"model.{name}": value for name, value in trainer.denoiser.state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in trainer.average.state_dict().items()}
    for index, state in trainer.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
    counters = {
        "step": trainer.step,
        "skipped": trainer.skipped,
        "seconds": trainer.seconds,
        "losses": trainer.losses,
        "best": trainer.best if math.isfinite(trainer.best) else None,
        "reports_since_best": trainer.reports_since_best,
        "scaler": trainer.scaler.state_dict(),
    }
    write_tensors(path, tensors, {**describe(trainer.denoiser), **counters})


def load(trainer: Trainer, path: Path) -> None:
    """Restore the state that `save` wrote; the first process reads it for all processes."""
    tensors, metadata = trainer.team.from_first(lambda: read_tensors(path))
    own = json.loads(json.dumps(describe(trainer.denoiser)))
    for part in ("family", "stft", "network"):
        if metadata.get(part) != own[part]:
            raise CheckpointError(
                f"{path} has another {part} than this recipe; give another --out, or the recipe "
                "that began the run"
            )
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "average": {}, "optimizer": {}}
    for name, value in tensors.items():
        group, _, rest = name.partition(".")
        parts[group][rest] = value
    load_weights(trainer.denoiser, parts["model"], path)
    load_weights(trainer.average, parts["average"], path)
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in parts["optimizer"].items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = value
    trainer.optimizer.load_state_dict(
        {"state": state, "param_groups": trainer.optimizer.state_dict()["param_groups"]}
    )
    if trainer.scaler.is_enabled() and metadata.get("scaler"):
        trainer.scaler.load_state_dict(metadata["scaler"])
    trainer.step, trainer.skipped, trainer.seconds = (
        metadata["step"],
        metadata["skipped"],
        metadata["seconds"],
    )
    trainer.best = -math.inf if metadata["best"] is None else metadata["best"]
    # Older versions wrote neither.
    trainer.reports_since_best = metadata.get("reports_since_best", 0)
    trainer.losses = metadata.get("losses", [])


def begin_history(history: Path, noisy: Noisy, step: int) -> None:
    """Start the history with the scores of the noisy mixtures, and keep its reports up to `step`.

    Later reports, which a resumed run makes again, are removed, and so is an incomplete last line.
    """
    with history_errors(history):
        *lines, _incomplete = history.read_text().split("\n") if history.exists() else [""]
        reports = [line for line in lines if 0 < json.loads(line)["step"] <= step]
        write_text(history, "".join(line + "\n" for line in [line_of(noisy), *reports]))


def append_history(history: Path, row: Report) -> None:
    """Append a report."""
    with history_errors(history), history.open("a") as file:
        file.write(line_of(row) + "\n")


def line_of(row: Noisy | Report) -> str:
    """A row as a line of JSON."""
    return json.dumps(dataclasses.asdict(row))


@contextmanager
def history_errors(history: Path) -> Iterator[None]:
    """Raise OSError as `CheckpointError`."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"cannot write {history}: {error.strerror or error}; the checkpoints are not affected"
        ) from error
