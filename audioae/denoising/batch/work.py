"""Denoise one file of a batch: the same code in this process, in worker processes and on Ray."""

from __future__ import annotations

import hashlib
import json
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from audioae import __version__
from audioae.denoising import FileJob, FilePlan, FileResult, ready_engine, run_plan
from audioae.denoising.provenance import describe, sha256, write_record
from audioae.engine import Engine
from audioae.errors import AudioaeError


@dataclass(frozen=True)
class BatchSettings:
    """What all files of a batch have in common besides the settings of their jobs.

    Args:
        model: path of the model.
        device: where it runs: "auto", "cpu" or "cuda".
        facts: hash and measure the input and the output afterwards, for `Outcome.facts`.
        record: write a provenance record beside each output.
    """

    model: Path
    device: str = "auto"
    facts: bool = False
    record: bool = False

    @cached_property
    def model_sha256(self) -> str:
        """sha256 of the model file, as hexadecimal digits."""
        return sha256(self.model)

    def recipe(self, job: FileJob) -> str:
        """A digest of everything except the input that decides on the bytes of an output.

        Jobs that differ in their paths only have the same recipe.
        """
        values = {
            "model": self.model_sha256,
            "settings": asdict(job.settings),
            "options": list(job.file_options().items()),
            "audioae": __version__,
        }
        return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


@dataclass(frozen=True)
class Outcome:
    """The result of one file, or the error that it failed with.

    Args:
        src, dst: paths of the input and the output.
        result: None if the file failed.
        facts: see `describe`; None unless asked for.
        error: the error message, in one line; trace: its traceback.
    """

    src: Path
    dst: Path
    result: FileResult | None = None
    facts: dict[str, Any] | None = None
    error: str | None = None
    trace: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        if self.result is None:
            return {
                "status": "failed",
                "src": str(self.src),
                "dst": str(self.dst),
                "error": self.error,
            }
        return self.facts or {"status": "done", **self.result.to_dict()}


class BatchListener(Protocol):
    """Receives the events of a batch, in the process that runs it."""

    def started(self, plan: FilePlan) -> None:
        """A file is started."""

    def advanced(self, plan: FilePlan, seconds: float) -> None:
        """So many seconds of its audio are done in total."""

    def ended(self, plan: FilePlan, outcome: Outcome) -> None:
        """It is complete or has failed."""


class PlanRunner:
    """A loaded model that runs the plans of a batch.

    Args:
        engine: the model of `settings`, if it is loaded already.
    """

    def __init__(self, settings: BatchSettings, engine: Engine | None = None) -> None:
        self.settings = settings
        self.engine = engine or ready_engine(settings.model, device=settings.device)

    def run(self, plan: FilePlan, progress: Callable[[float], None] | None = None) -> Outcome:
        """Denoise a file; raises what `run_plan` raises."""
        settings = self.settings
        result = run_plan(plan, self.engine, progress=progress)
        if settings.record:
            write_record(result, plan.job, model_path=settings.model)
        facts = describe(result, settings.model) if settings.facts else None
        return Outcome(plan.job.src, plan.job.dst, result, facts)

    def attempt(self, plan: FilePlan, progress: Callable[[float], None] | None = None) -> Outcome:
        """Denoise a file; any exception becomes a failed outcome."""
        try:
            return self.run(plan, progress)
        except Exception as error:
            return failure(plan.job, error)


def failure(job: FileJob, error: Exception) -> Outcome:
    """The outcome of a job that failed with `error`. Its message names the input or the output."""
    if isinstance(error, AudioaeError | OSError):
        message = str(error)
    else:
        hint = "run it again with --debug for the traceback"
        message = f"internal: {type(error).__name__}: {error}; {hint}"
    message = " ".join(message.split())
    if str(job.src) not in message and str(job.dst) not in message:
        message = f"{job.src}: {message}"
    trace = "".join(traceback.format_exception(error))
    return Outcome(job.src, job.dst, error=message, trace=trace)
