"""Denoise one file of a batch: the same code in this process, in worker processes and on Ray."""

from __future__ import annotations

import hashlib
import json
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from audioae import __version__
from audioae.denoising import FileJob, FileResult, plan_file, ready_engine, run_plan
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


@dataclass(frozen=True)
class PlannedForm:
    """What planned files of the same kind have in common.

    Args:
        sample_rate: Hz.
        values: `FilePlan.to_dict` of one of them.
        warnings: what their outputs cannot keep, one line each.
        may_crash: whether they are more than plain samples, so that damage may crash what decodes
            them.
    """

    sample_rate: int
    values: dict[str, Any]
    warnings: tuple[str, ...]
    may_crash: bool


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """A file of a batch that was checked: what is kept of its plan until its turn.

    There may be very many, so everything that others have as well is shared.

    Args:
        jobs: all jobs of the batch.
        index: of the file among them.
        overwrite: replace an output that an earlier run has begun.
        num_samples: per channel.
        form: the rest.
    """

    jobs: Sequence[FileJob]
    index: int
    overwrite: bool
    num_samples: int
    form: PlannedForm

    @property
    def job(self) -> FileJob:
        """The job."""
        job = self.jobs[self.index]
        return replace(job, overwrite=True) if self.overwrite and not job.overwrite else job

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the output cannot keep, one line each."""
        return self.form.warnings

    @property
    def seconds(self) -> float:
        """Duration of the input."""
        return self.num_samples / self.form.sample_rate

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values: the same as `FilePlan.to_dict`."""
        job = self.job
        paths = {"src": job.src, "dst": job.dst, "residual": job.residual}
        own = {name: None if path is None else str(path) for name, path in paths.items()}
        length = {"num_samples": self.num_samples, "seconds": self.seconds}
        return {**self.form.values, **own, **length}


class BatchListener(Protocol):
    """Receives the events of a batch, in the process that runs it."""

    def started(self, planned: PlannedFile) -> None:
        """A file is started."""

    def advanced(self, planned: PlannedFile, seconds: float) -> None:
        """So many seconds of its audio are done in total."""

    def ended(self, planned: PlannedFile, outcome: Outcome) -> None:
        """It is complete or has failed."""


class JobRunner:
    """A loaded model that runs the jobs of a batch.

    Args:
        engine: the model of `settings`, if it is loaded already.
    """

    def __init__(self, settings: BatchSettings, engine: Engine | None = None) -> None:
        self.settings = settings
        self.engine = engine or ready_engine(settings.model, device=settings.device)

    def run(self, job: FileJob, progress: Callable[[float], None] | None = None) -> Outcome:
        """Denoise a file; raises what `plan_file` and `run_plan` raise.

        The file is checked again: it may have changed since the batch was planned.
        """
        settings = self.settings
        plan = plan_file(job, try_folders=False)
        result = run_plan(plan, self.engine, progress=progress)
        if settings.record:
            write_record(result, job, model_path=settings.model)
        facts = describe(result, settings.model) if settings.facts else None
        return Outcome(job.src, job.dst, result, facts)

    def attempt(self, job: FileJob, progress: Callable[[float], None] | None = None) -> Outcome:
        """Denoise a file; any exception becomes a failed outcome."""
        try:
            return self.run(job, progress)
        except Exception as error:
            return failure(job, error)


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
