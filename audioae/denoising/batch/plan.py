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
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import overload

from audioae.audio import AudioInfo, content, formats
from audioae.audio.metadata import stale_tags
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
from audioae.denoising.batch.work import Outcome, PlannedFile, PlannedForm, failure
from audioae.errors import AudioFileError, OutputError
from audioae.storage import remove_leftovers

PLAIN = ("PCM", "FLOAT", "DOUBLE", "ULAW", "ALAW")  # starts of the subtypes of plain samples
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

    files: Sequence[PlannedFile]
    resumed: Sequence[FileJob]
    existing: Sequence[FileJob]
    refused: Sequence[Outcome]

    @property
    def seconds(self) -> float:
        """Total duration of `files` in seconds."""
        return sum(each.seconds for each in self.files)


class BatchJobs(Sequence[FileJob]):
    """The jobs of a batch. There may be very many, so each is made when it is asked for.

    Args:
        paths: the input, the output and the residual or None of each job.
        make_job: makes a job of them.
    """

    def __init__(
        self,
        paths: Sequence[tuple[str, str, str | None]],
        make_job: Callable[[Path, Path, Path | None], FileJob],
    ) -> None:
        self._paths, self._make_job = paths, make_job

    def __len__(self) -> int:
        return len(self._paths)

    @overload
    def __getitem__(self, index: int) -> FileJob: ...

    @overload
    def __getitem__(self, index: slice) -> BatchJobs: ...

    def __getitem__(self, index: int | slice) -> FileJob | BatchJobs:
        if isinstance(index, slice):
            return BatchJobs(self._paths[index], self._make_job)
        src, dst, residual = self._paths[index]
        return self._make_job(Path(src), Path(dst), None if residual is None else Path(residual))

    def take(self, indices: Iterable[int]) -> BatchJobs:
        """Some of the jobs."""
        return BatchJobs([self._paths[index] for index in indices], self._make_job)

    def inputs(self) -> Iterator[str]:
        """The paths of all inputs."""
        return (src for src, _, _ in self._paths)

    def outputs(self) -> Iterator[str]:
        """The paths of all outputs and residuals."""
        return (path for _, *paths in self._paths for path in paths if path is not None)


def name_jobs(
    found: FoundInputs,
    names: OutputNames,
    make_job: Callable[[Path, Path, Path | None], FileJob] = FileJob,
) -> BatchJobs:
    """One job for each input.

    Args:
        make_job: called with the input, the output and the residual or None.

    Raises:
        OutputError: two jobs would write the same file.
    """
    check_template(names.template)
    inputs = found.files
    outputs = output_names(inputs, names.folder, template=names.template, suffix=names.suffix)
    residuals: Sequence[str | None] = [None] * len(inputs)
    if names.residual_folder is not None:
        if os.path.realpath(names.residual_folder) == os.path.realpath(names.folder):
            raise OutputError(
                f"{names.residual_folder} is the folder of the outputs as well as of the "
                "residuals; give each its own"
            )
        residuals = output_names(
            inputs, names.residual_folder, template=names.template, suffix=names.suffix
        )
    paths = zip((each.name for each in inputs), outputs, residuals, strict=True)
    return BatchJobs(list(paths), make_job)


@contextmanager
def output_folders(outputs: Iterable[str]) -> Iterator[None]:
    """Make the folders of outputs and check that they can be written to. On exit, remove those that
    were made here and are empty.

    Raises:
        OutputError: a folder cannot be made or written to.
    """
    made: list[Path] = []
    try:
        for folder in sorted(map(Path, {os.path.dirname(output) for output in outputs})):
            _make(folder, made)
            _try(folder)
        yield
    finally:
        for folder in reversed(made):
            if not any(folder.iterdir()):
                folder.rmdir()


def plan_batch(jobs: BatchJobs, ledger: Ledger, *, skip_existing: bool = False) -> BatchPlan:
    """Check every job. The output folders must exist and be writable, see `output_folders`.

    A file that cannot be read, or whose output format is impossible, is refused on its own;
    everything else raises.

    Args:
        skip_existing: skip jobs whose outputs exist; by default they are an error, unless the job
            has `overwrite` set or an earlier run of the same batch made them.

    Raises:
        OutputError: outputs exist, or the disk is too small for all outputs.
    """
    with ExitStack() as stack:
        planner = stack.enter_context(Planner()) if len(jobs) > 1 else None
        work = _Planning(jobs, planner)
        for index, job in enumerate(jobs):
            state = ledger.state(job.src, job.dst)
            there = [output for output in job.outputs if os.path.lexists(output)]
            if state == "done" and len(there) == len(job.outputs):
                work.resumed.append(index)
            elif there and skip_existing and state == "new":
                work.existing.append(index)
            elif there and not job.overwrite and state == "new":
                work.clashes.append(there[0])
            else:
                work.add(index, job, begun=state == "begun")
    if clashes := work.clashes:
        others = f" and {len(clashes) - 1} other outputs exist" if len(clashes) > 1 else " exists"
        raise OutputError(
            f"{clashes[0]}{others}; choose --skip-existing, --overwrite or another folder"
        )
    work.check_space()
    return BatchPlan(work.files, jobs.take(work.resumed), jobs.take(work.existing), work.refused)


class _Planning:
    """A plan that is being made; `add` checks a job."""

    def __init__(self, jobs: BatchJobs, planner: Planner | None) -> None:
        self._jobs, self._planner = jobs, planner
        self.files: list[PlannedFile] = []
        self.resumed: list[int] = []
        self.existing: list[int] = []
        self.clashes: list[Path] = []
        self.refused: list[Outcome] = []
        self._forms: dict[tuple[object, ...], PlannedForm] = {}
        self._needed: dict[Path, int] = {}  # bytes by output folder

    def add(self, index: int, job: FileJob, *, begun: bool) -> None:
        """Check a job, and keep what its turn needs."""
        if begun:
            _await_orphans(job)
            job = replace(job, overwrite=True)
        try:
            plan = (
                self._planner.plan(job) if self._planner and _is_media(job.src) else _plan_here(job)
            )
        except Exception as error:  # of a decoder, for example: it concerns this file only
            self.refused.append(failure(job, error))
            return
        form = self._form(plan)
        self.files.append(PlannedFile(self._jobs, index, begun, plan.source.num_samples, form))
        for path, output in ((job.dst, plan.output), (job.residual, plan.residual_output)):
            if (
                path is not None
                and output is not None
                and (size := formats.estimated_bytes(output))
            ):
                self._needed[path.parent] = self._needed.get(path.parent, 0) + size

    def _form(self, plan: FilePlan) -> PlannedForm:
        """What `plan` has in common with others: one object for all of them."""
        sources, outputs = zip(*((each.source, each.output) for each in plan.tracks), strict=True)
        kinds = ((form.container, form.subtype) for form in (*sources, *outputs))
        sizes = ((form.sample_rate, form.channels, form.track) for form in sources)
        key = (*kinds, *sizes, plan.warnings, tuple(stale_tags(outputs)))
        if key not in self._forms:
            self._forms[key] = PlannedForm(
                plan.source.sample_rate, plan.to_dict(), plan.warnings, _may_crash(plan.source)
            )
        return self._forms[key]

    def check_space(self) -> None:
        """Raise `OutputError` if all outputs together do not fit on their disks."""
        needed: dict[int, int] = {}
        places: dict[int, Path] = {}
        for folder, size in self._needed.items():
            disk = folder.stat().st_dev
            needed[disk] = needed.get(disk, 0) + size
            places[disk] = folder
        for disk, size in needed.items():
            if size > (free := shutil.disk_usage(places[disk]).free):
                raise OutputError(
                    f"{places[disk]}: the outputs need {size / 2**20:.0f} MiB, "
                    f"{free / 2**20:.0f} MiB are free; make space"
                )


def _plan_here(job: FileJob) -> FilePlan:
    return plan_file(job, try_folders=False)


def _may_crash(source: AudioInfo) -> bool:
    """Whether a file is more than plain samples, so that damage may crash what decodes it."""
    return (
        not source.is_native or not source.subtype.startswith(PLAIN) or source.container == "FLAC"
    )


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

    def __init__(self, plan: Callable[[FileJob], FilePlan] = _plan_here) -> None:
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
