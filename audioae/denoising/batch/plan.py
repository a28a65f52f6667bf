"""Plan a batch: name the outputs, make their folders, and check every file and the disk space
before the first sample is computed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from audioae.audio import content, formats
from audioae.denoising import FileJob, FilePlan, plan_file
from audioae.denoising.batch.ledger import Ledger
from audioae.denoising.batch.run import death_of, shield_worker, start_worker
from audioae.denoising.batch.tree import (
    DEFAULT_TEMPLATE,
    FoundInputs,
    check_template,
    is_stream,
    output_names,
)
from audioae.denoising.batch.work import Outcome, failure
from audioae.errors import AudioFileError, OutputError
from audioae.storage import remove_leftovers

ORPHAN_SECONDS = 10.0  # a worker of a killed run may need this long to finish its last block


@dataclass(frozen=True)
class OutputNames:
    """Where the outputs of a batch go.

    Args:
        folder: of the outputs.
        residual_folder: of the residuals; None writes none.
        template: of the names, see `output_names`.
        suffix: such as ".flac", in place of the input's; None keeps the input's.
    """

    folder: Path
    residual_folder: Path | None = None
    template: str = DEFAULT_TEMPLATE
    suffix: str | None = None


@dataclass
class BatchPlan:
    """What a batch has to do.

    Args:
        files: the files to denoise, checked.
        resumed: jobs that an earlier run of the same batch has completed.
        existing: jobs that are skipped because their outputs exist.
        refused: files that cannot be denoised, as their headers show.
    """

    files: list[FilePlan] = field(default_factory=list)
    resumed: list[FileJob] = field(default_factory=list)
    existing: list[FileJob] = field(default_factory=list)
    refused: list[Outcome] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Total duration of `files` in seconds."""
        return sum(each.source.seconds for each in self.files)


def name_jobs(
    found: FoundInputs,
    names: OutputNames,
    make_job: Callable[[Path, Path, Path | None], FileJob] = FileJob,
) -> list[FileJob]:
    """One job for each input.

    Args:
        make_job: called with the input, the output and the residual or None.

    Raises:
        OutputError: two jobs would write the same file.
    """
    check_template(names.template)
    inputs = found.files
    outputs = output_names(inputs, names.folder, template=names.template, suffix=names.suffix)
    if names.residual_folder is None:
        return [make_job(each.path, out, None) for each, out in zip(inputs, outputs, strict=True)]
    if os.path.realpath(names.residual_folder) == os.path.realpath(names.folder):
        raise OutputError(
            f"{names.residual_folder} is the folder of the outputs as well as of the residuals; "
            "give each its own"
        )
    residuals = output_names(
        inputs, names.residual_folder, template=names.template, suffix=names.suffix
    )
    paths = zip((each.path for each in inputs), outputs, residuals, strict=True)
    return [make_job(*each) for each in paths]


@contextmanager
def output_folders(jobs: Iterable[FileJob]) -> Iterator[None]:
    """Make the output folders and check that they can be written to. On exit, remove those that
    were made here and are empty.

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


def plan_batch(
    jobs: Sequence[FileJob], ledger: Ledger, *, skip_existing: bool = False
) -> BatchPlan:
    """Check every job. The output folders must exist.

    A file that cannot be read, or whose output format is impossible, is refused on its own;
    everything else raises.

    Args:
        skip_existing: skip jobs whose outputs exist; by default they are an error, unless the job
            has `overwrite` set or an earlier run of the same batch made them.

    Raises:
        OutputError: outputs exist, or the disk is too small for all outputs.
    """
    plan = BatchPlan()
    with ExitStack() as stack:
        planner = stack.enter_context(Planner()) if len(jobs) > 1 else None
        clashes = _plan_all(plan, jobs, ledger, planner, skip_existing=skip_existing)
    if clashes:
        others = f" and {len(clashes) - 1} other outputs exist" if len(clashes) > 1 else " exists"
        raise OutputError(
            f"{clashes[0]}{others}; choose --skip-existing, --overwrite or another folder"
        )
    _check_space(plan.files)
    return plan


def _plan_all(
    plan: BatchPlan,
    jobs: Sequence[FileJob],
    ledger: Ledger,
    planner: Planner | None,
    *,
    skip_existing: bool,
) -> list[Path]:
    """Add each job to the plan; returns outputs that exist and should not."""
    clashes = []
    for job in jobs:
        state = ledger.state(job.src, job.dst)
        there = [output for output in job.outputs if os.path.lexists(output)]
        if state == "done" and len(there) == len(job.outputs):
            plan.resumed.append(job)
        elif there and skip_existing and state == "new":
            plan.existing.append(job)
        elif there and not job.overwrite and state == "new":
            clashes.append(there[0])
        else:
            _add(plan, job, planner, begun=state == "begun")
    return clashes


def _add(plan: BatchPlan, job: FileJob, planner: Planner | None, *, begun: bool) -> None:
    if begun:
        _await_orphans(job)
    try:
        job = replace(job, overwrite=begun or job.overwrite)
        file_plan = planner.plan(job) if planner and _is_media(job.src) else plan_file(job)
    except Exception as error:  # of a decoder, for example: it concerns this file only
        plan.refused.append(failure(job, error))
    else:
        plan.files.append(file_plan)


def _is_media(path: Path) -> bool:
    """Whether FFmpeg reads a file, which it decodes to find its length."""
    try:
        return not is_stream(path) and content.sniff(path).library != "soundfile"
    except OSError:
        return False


class Planner:
    """Plans files in a process of its own, which starts with the first one: a decoder that crashes
    fails the file that it was at.

    Args:
        plan: the function that is called there.
    """

    def __init__(self, plan: Callable[[FileJob], FilePlan] = plan_file) -> None:
        self._plan = plan
        self._process: BaseProcess | None = None

    def plan(self, job: FileJob) -> FilePlan:
        """The plan of a job; raises what `plan_file` raises.

        Raises:
            AudioFileError: the process died.
        """
        if self._process is None:
            self._pipe, self._process = start_worker(_answer, self._plan)
        try:
            self._pipe.send(job)
            answer = self._pipe.recv()
        except (EOFError, OSError) as error:
            self._process.join()
            cause = death_of(self._process)
            self._process = None
            raise AudioFileError(f"the process that read {job.src} died ({cause})") from error
        if isinstance(answer, Exception):
            raise answer
        plan: FilePlan = answer
        return plan

    def __enter__(self) -> Planner:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._pipe.close()
            self._process.terminate()
            self._process.join()


def _answer(pipe: Connection, plan: Callable[[FileJob], FilePlan]) -> None:
    """The main loop of the process of a `Planner`."""
    shield_worker()
    with suppress(EOFError, OSError):
        while True:
            job = pipe.recv()
            answer: FilePlan | Exception
            try:
                answer = plan(job)
            except Exception as error:
                answer = error
            pipe.send(answer)


def _await_orphans(job: FileJob) -> None:
    """Wait until no worker of a killed run writes these files, and remove what it left."""
    until = time.monotonic() + ORPHAN_SECONDS
    while time.monotonic() < until and any(_is_locked(output) for output in job.outputs):
        time.sleep(0.05)


def _is_locked(output: Path) -> bool:
    try:
        return not remove_leftovers(Path(os.path.realpath(output)), always=True)
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


def _check_space(plans: Sequence[FilePlan]) -> None:
    """Raise `OutputError` if all outputs together do not fit on their disks."""
    needed: dict[int, int] = {}
    places: dict[int, Path] = {}
    for plan in plans:
        for path, form in ((plan.job.dst, plan.output), (plan.job.residual, plan.residual_output)):
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
