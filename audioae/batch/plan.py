"""A batch, checked from end to end before the first sample is computed: names, folders, space, and
every file's header.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from audioae.audio import formats
from audioae.batch.ledger import Ledger
from audioae.batch.tree import DEFAULT_TEMPLATE, Finds, check_template, output_names
from audioae.batch.work import Outcome, Task, failure
from audioae.denoising import plan_file
from audioae.errors import AudioaeError, OutputError
from audioae.storage import AtomicFile

Existing = Literal["refuse", "skip", "overwrite"]
ORPHAN_SECONDS = 10.0  # that a worker of a killed run may still be at its last block


@dataclass(frozen=True)
class Job:
    """An input and its outputs."""

    src: Path
    dst: Path
    residual: Path | None = None

    @property
    def outputs(self) -> list[Path]:
        """The output, and the residual if there is one."""
        return [self.dst] if self.residual is None else [self.dst, self.residual]


@dataclass(frozen=True)
class OutputForm:
    """What outputs are called and what they are.

    Args:
        folder: where they go; residual_folder: where what was taken away goes.
        template: of their names, see `output_names`; suffix: ".flac" in place of the input's.
        options: keywords of `plan_file`, such as `{"subtype": "PCM_24"}`.
        existing: what is done where an output exists that was not made by an earlier run of the
            same batch.
    """

    folder: Path
    residual_folder: Path | None = None
    template: str = DEFAULT_TEMPLATE
    suffix: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    existing: Existing = "refuse"


@dataclass
class BatchPlan:
    """What is left to do, what is done, and what cannot be done.

    Args:
        resumed: outputs that an earlier run of the same batch has made; existing: others that are
            there and skipped.
        refused: files that cannot be cleaned, known from their headers.
    """

    tasks: list[Task] = field(default_factory=list)
    resumed: list[Job] = field(default_factory=list)
    existing: list[Job] = field(default_factory=list)
    refused: list[Outcome] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Of audio, of the tasks."""
        return sum(task.plan.source.seconds for task in self.tasks)


def name_jobs(finds: Finds, form: OutputForm) -> list[Job]:
    """The outputs of all inputs; raises `OutputError` where one would be written twice."""
    check_template(form.template)
    outputs = output_names(finds.inputs, form.folder, template=form.template, suffix=form.suffix)
    sources = [found.path for found in finds.inputs]
    if form.residual_folder is None:
        return [Job(*pair) for pair in zip(sources, outputs, strict=True)]
    if os.path.realpath(form.residual_folder) == os.path.realpath(form.folder):
        raise OutputError(
            f"{form.residual_folder} is the folder of the outputs as well as of the residuals; "
            "give each its own"
        )
    residuals = output_names(
        finds.inputs, form.residual_folder, template=form.template, suffix=form.suffix
    )
    return [Job(*three) for three in zip(sources, outputs, residuals, strict=True)]


@contextmanager
def output_folders(jobs: Iterable[Job]) -> Iterator[None]:
    """Make the folders of all outputs and see that they can be written to; in the end remove those
    that stayed empty.

    Raises:
        OutputError: a folder cannot be made or written to.
    """
    made: list[Path] = []
    try:
        for folder in sorted({output.parent for job in jobs for output in job.outputs}):
            _make(folder, made)
            _try(folder)
        yield
    finally:
        for folder in reversed(made):
            if not any(folder.iterdir()):
                folder.rmdir()


def plan_batch(jobs: Sequence[Job], form: OutputForm, ledger: Ledger) -> BatchPlan:
    """Check every job; the folders must be there.

    A file that cannot be read, or an output that its container cannot hold, is refused by itself.
    What concerns all stops all.

    Raises:
        OutputError: outputs exist and are neither to be skipped nor overwritten, or the disk is too
            small.
    """
    plan, clashes = BatchPlan(), []
    for index, job in enumerate(jobs):
        state = ledger.state(job.src, job.dst)
        there = [output for output in job.outputs if os.path.lexists(output)]
        if state == "done" and len(there) == len(job.outputs):
            plan.resumed.append(job)
        elif there and form.existing == "skip" and state == "new":
            plan.existing.append(job)
        elif there and form.existing == "refuse" and state == "new":
            clashes.append(there[0])
        else:
            _add(plan, index, job, form, begun=state == "begun")
    if clashes:
        others = f" and {len(clashes) - 1} other outputs exist" if len(clashes) > 1 else " exists"
        raise OutputError(
            f"{clashes[0]}{others}; choose --skip-existing, --overwrite or another folder"
        )
    _check_space(plan.tasks)
    return plan


def _add(plan: BatchPlan, index: int, job: Job, form: OutputForm, *, begun: bool) -> None:
    if begun:
        _await_orphans(job)
    overwrite = begun or form.existing == "overwrite"
    try:
        file_plan = plan_file(
            job.src, job.dst, overwrite=overwrite, residual=job.residual, **form.options
        )
    except (AudioaeError, OSError) as error:
        plan.refused.append(failure(job.src, job.dst, error))
    else:
        plan.tasks.append(Task(index, file_plan, overwrite))


def _await_orphans(job: Job) -> None:
    """Wait until no worker of the run that was killed writes these files any more, and remove what
    it left.
    """
    until = time.monotonic() + ORPHAN_SECONDS
    while time.monotonic() < until and any(_is_locked(output) for output in job.outputs):
        time.sleep(0.05)


def _is_locked(output: Path) -> bool:
    try:
        with AtomicFile(output):
            return False
    except OSError:
        return True


def _make(folder: Path, made: list[Path]) -> None:
    missing = [folder, *folder.parents]
    for each in reversed(missing):
        if os.path.isdir(each):
            continue
        try:
            each.mkdir()
        except OSError as error:
            raise OutputError(
                f"{each} cannot be made ({error.strerror}); choose an output folder that can"
            ) from error
        made.append(each)


def _try(folder: Path) -> None:
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written to ({error.strerror}); choose an output folder that can"
        ) from error


def _check_space(tasks: Sequence[Task]) -> None:
    """Raise `OutputError` where the outputs of all tasks together are larger than their disk is
    free.
    """
    needed: dict[int, int] = {}
    places: dict[int, Path] = {}
    for plan in (task.plan for task in tasks):
        for path, form in ((plan.dst, plan.output), (plan.residual, plan.residual_output)):
            if path is not None and form is not None:
                disk = path.parent.stat().st_dev
                needed[disk] = needed.get(disk, 0) + formats.estimated_bytes(form)
                places[disk] = path.parent
    for disk, size in needed.items():
        if size > (free := shutil.disk_usage(places[disk]).free):
            raise OutputError(
                f"{places[disk]}: the outputs need {size / 2**20:.0f} MiB, {free / 2**20:.0f} "
                "MiB are free; make space"
            )
