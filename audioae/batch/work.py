"""One file's work, as any process on any machine does it: the same function for a batch here, in
processes and on a cluster.
"""

from __future__ import annotations

import hashlib
import json
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from audioae import __version__
from audioae.audio import AudioReader
from audioae.batch.provenance import sha256, write_record
from audioae.denoising import DenoiseSettings, FilePlan, FileResult, ready_engine, run_plan
from audioae.engine import Engine
from audioae.errors import AudioaeError
from audioae.signal.loudness import Meter

BLOCK = 2**16  # samples per channel


def describe(result: FileResult, model_sha256: str) -> dict[str, Any]:
    """`result`, the model's hash and both files, as plain values for JSON."""
    files = {"input": file_facts(result.src), "output": file_facts(result.dst)}
    return {"status": "done", **result.to_dict(), "model_sha256": model_sha256, **files}


def file_facts(path: Path) -> dict[str, Any]:
    """Hash, form and levels of an audio file; a level of silence is None."""
    with AudioReader(path) as reader:
        meter = Meter(reader.info.sample_rate, reader.info.channels)
        while (block := reader.read(BLOCK)).shape[-1]:
            meter.add(block)
        form = reader.info
    return {
        "path": str(path),
        "sha256": sha256(path),
        "bytes": path.stat().st_size,
        "container": form.container,
        "subtype": form.subtype,
        "sample_rate": form.sample_rate,
        "channels": form.channels,
        "num_samples": meter.samples,
        "peak_dbfs": _rounded(meter.peak_dbfs),
        "rms_dbfs": _rounded(meter.rms_dbfs),
        "loudness_lufs": _rounded(meter.lufs),
    }


def _rounded(level: float | None) -> float | None:
    return None if level is None else round(level, 3)


@dataclass(frozen=True)
class Work:
    """What is done to every file of a batch.

    Args:
        model: the model's file; device: where it runs.
        facts: measure and hash both files afterwards, for `Outcome.facts`.
        record: write how an output was made beside it.
        options: what else decides about the bytes, keywords of `denoise_file`; they are in the
            plans already, and in the record.
    """

    model: Path
    device: str = "auto"
    settings: DenoiseSettings = field(default_factory=DenoiseSettings)
    facts: bool = False
    record: bool = False
    options: tuple[tuple[str, Any], ...] = ()

    @cached_property
    def model_sha256(self) -> str:
        """Of the model's file."""
        return sha256(self.model)

    def recipe(self) -> str:
        """A digest of all that decides about the bytes of an output besides its input."""
        values = {
            "model": self.model_sha256,
            "settings": asdict(self.settings),
            "options": self.options,
            "audioae": __version__,
        }
        return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


@dataclass(frozen=True)
class Task:
    """A file to clean; `overwrite` because somebody allowed it or a killed run left it."""

    index: int
    plan: FilePlan
    overwrite: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of a task: a result (and its facts, if asked for), or an error in one line and
    its traceback.
    """

    src: Path
    dst: Path
    result: FileResult | None = None
    facts: dict[str, Any] | None = None
    error: str | None = None
    trace: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON takes them."""
        if self.result is None:
            return {
                "status": "failed",
                "src": str(self.src),
                "dst": str(self.dst),
                "error": self.error,
            }
        return self.facts or {"status": "done", **self.result.to_dict()}


class Listener(Protocol):
    """Hears how a batch goes on; called in the process that runs it."""

    def started(self, task: Task) -> None:
        """A task is about to be worked on."""

    def advanced(self, task: Task, seconds: float) -> None:
        """So much of its audio is done, in all."""

    def ended(self, task: Task, outcome: Outcome) -> None:
        """It is done or has failed."""


class Cleaner:
    """A model that is ready, and what to do with it."""

    def __init__(self, work: Work, engine: Engine | None = None) -> None:
        self.work = work
        self.engine = engine or ready_engine(work.model, device=work.device)

    def run(self, task: Task, advance: Callable[[float], None] | None = None) -> Outcome:
        """Do a task; raises what `run_plan` raises."""
        plan = task.plan
        result = run_plan(
            plan,
            self.engine,
            settings=self.work.settings,
            overwrite=task.overwrite,
            progress=advance,
        )
        if self.work.record:
            write_record(
                result,
                self.work.settings,
                model_path=self.work.model,
                options=dict(self.work.options),
            )
        return Outcome(
            plan.src,
            plan.dst,
            result,
            describe(result, self.work.model_sha256) if self.work.facts else None,
        )

    def attempt(self, task: Task, advance: Callable[[float], None] | None = None) -> Outcome:
        """Do a task; whatever goes wrong with it is in the outcome."""
        try:
            return self.run(task, advance)
        except Exception as error:
            return failure(task.plan.src, task.plan.dst, error)


def failure(src: Path, dst: Path, error: Exception) -> Outcome:
    """The outcome of an error."""
    known = isinstance(error, AudioaeError | OSError)
    message = (
        str(error)
        if known
        else f"internal: {type(error).__name__}: {error}; run it again with --debug for the "
        "traceback"
    )
    message = " ".join(message.split())
    if str(src) not in message and str(dst) not in message:
        message = f"{src}: {message}"
    return Outcome(src, dst, error=message, trace="".join(traceback.format_exception(error)))
