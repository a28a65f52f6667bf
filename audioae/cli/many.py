"""`audioae denoise IN... -O DIR`: many recordings, the tree mirrored, what fails told and the rest
done.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from audioae.cli.denoise import Options, preface, print_json, told, verdict, warnings
from audioae.cli.progress import FilesProgress, show_files
from audioae.errors import OutputError

if TYPE_CHECKING:
    from audioae.batch import BatchPlan, Job, Ledger, Outcome, OutputForm, Task
    from audioae.engine import Engine


def denoise_many(ctx: click.Context, options: Options, folder: Path) -> None:
    """Check everything, then clean everything; exits with 1 when a file failed."""
    from audioae.batch import Cleaner, Ledger, find_inputs, name_jobs, output_folders

    work = options.work(facts=options.as_json)
    form = _form(options, folder)
    finds = find_inputs(options.paths, exclude=folder)
    jobs = name_jobs(finds, form)
    _check_list(options.failed_list, jobs)
    engine = Cleaner(work).engine
    with output_folders(jobs):
        ledger = Ledger(folder, work.recipe())
        if options.dry_run:
            failed = _rehearse(jobs, form, ledger, engine, finds.skipped, options)
        else:
            with ledger:
                failed = _perform(ctx, jobs, form, ledger, engine, finds.skipped, options)
    if failed:
        ctx.exit(1)


def _form(options: Options, folder: Path) -> OutputForm:
    from audioae.batch import OutputForm, check_suffix

    return OutputForm(
        folder=folder,
        residual_folder=options.residual,
        template=options.template,
        suffix=check_suffix(options.format) if options.format else None,
        options=options.plan_options(),
        existing="overwrite"
        if options.overwrite
        else "skip"
        if options.skip_existing
        else "refuse",
    )


def _check_list(path: Path | None, jobs: list[Job]) -> None:
    """Raise `OutputError` where the list of failures cannot be written, or would be written over a
    recording.
    """
    if path is None:
        return
    if (
        path.is_dir()
        or not path.parent.is_dir()
        or not os.access(path if path.exists() else path.parent, os.W_OK)
    ):
        raise OutputError(
            f"{path} cannot be written; expected the name of a list in a folder that can be "
            "written to"
        )
    if path.resolve() in {each.resolve() for job in jobs for each in (job.src, *job.outputs)}:
        raise OutputError(
            f"{path} is a recording of this batch; give the list of failures another name"
        )


def _rehearse(
    jobs: list[Job],
    form: OutputForm,
    ledger: Ledger,
    engine: Engine,
    skipped: int,
    options: Options,
) -> int:
    """A dry run; how many files cannot be cleaned."""
    from audioae.batch import plan_batch

    plan = plan_batch(jobs, form, ledger)
    for outcome in plan.refused:
        click.echo(f"Error: {outcome.error}", err=True)
    for task in plan.tasks:
        if not options.quiet:
            click.echo(
                f"{task.plan.src} -> {task.plan.dst}: {task.plan.source.seconds:.2f} s", err=True
            )
        if options.as_json:
            print_json({**task.plan.to_dict(), "model": engine.info.name, "dry_run": True})
    if not options.quiet:
        done = (
            f", {len(plan.resumed) + len(plan.existing)} done before"
            if plan.resumed or plan.existing
            else ""
        )
        work = f"{_files(len(plan.tasks))}, {plan.seconds:.0f} s with {engine.info.name}{done}"
        click.echo(
            f"{work}{_passed_over(skipped, options)}; a dry run, nothing is written", err=True
        )
    return len(plan.refused)


def _perform(
    ctx: click.Context,
    jobs: list[Job],
    form: OutputForm,
    ledger: Ledger,
    engine: Engine,
    skipped: int,
    options: Options,
) -> int:
    """Clean; how many files failed."""
    from audioae.batch import plan_batch, run_tasks

    plan = plan_batch(jobs, form, ledger)
    with show_files(options.shown, files=len(plan.tasks), seconds=plan.seconds) as progress:
        teller = _Teller(progress, options, debug=bool(ctx.find_root().params.get("debug")))
        teller.begin(plan, engine, skipped)
        try:
            run_tasks(
                plan.tasks if not (options.fail_fast and plan.refused) else [],
                options.work(facts=options.as_json),
                teller,
                ledger=ledger,
                jobs=options.jobs or _processors(),
                ray=options.ray,
                fail_fast=options.fail_fast,
                engine=engine,
            )
        except KeyboardInterrupt:
            teller.say(
                f"{teller.cleaned} of {_files(len(plan.tasks))} cleaned; the same command goes "
                "on from here"
            )
            raise
        finally:
            if options.failed_list is not None:
                options.failed_list.write_bytes(
                    b"".join(os.fsencode(path) + b"\n" for path in teller.failed)
                )
        teller.conclude(plan)
    return len(teller.failed)


class _Teller:
    """Tells of each file as it goes: progress and lines on stderr, JSON on stdout."""

    def __init__(self, progress: FilesProgress, options: Options, *, debug: bool) -> None:
        self.progress, self.options, self.debug = progress, options, debug
        self.failed: list[Path] = []
        self.out = sys.stdout  # Ray takes its name for itself
        self.cleaned = 0

    def begin(self, plan: BatchPlan, engine: Engine, skipped: int) -> None:
        """What is known beforehand."""
        if self.options.verbose:
            for line in (
                preface(plan.tasks[0].plan, engine.info).splitlines()[
                    : 1 if len(plan.tasks) != 1 else None
                ]
                if plan.tasks
                else []
            ):
                self.say(line)
            self.say(f"{_files(len(plan.tasks))} to clean{_passed_over(skipped, self.options)}")
        for job, reason in [
            *((job, "done before") for job in plan.resumed),
            *((job, "exists") for job in plan.existing),
        ]:
            if self.options.verbose:
                self.say(f"{job.dst}: {reason}")
            if self.options.as_json:
                print_json(
                    {
                        "status": "skipped",
                        "src": str(job.src),
                        "dst": str(job.dst),
                        "reason": reason,
                    },
                    self.out,
                )
        for outcome in plan.refused:
            self._failed(outcome)

    def started(self, task: Task) -> None:
        self.progress.started(str(task.plan.src), task.plan.source.seconds)

    def advanced(self, task: Task, seconds: float) -> None:
        self.progress.advanced(str(task.plan.src), seconds)

    def ended(self, task: Task, outcome: Outcome) -> None:
        if outcome.result is None:
            self._failed(outcome)
            return
        self.cleaned += 1
        self.progress.ended(str(outcome.src), None)
        lines = (
            [told(outcome.result), *verdict(outcome.result, self.options)]
            if self.options.verbose
            else []
        )
        for line in lines + warnings(outcome.result):
            self.say(line)
        if self.options.as_json:
            print_json(outcome.to_dict(), self.out)

    def _failed(self, outcome: Outcome) -> None:
        self.failed.append(outcome.src)
        if self.debug:
            click.echo(outcome.trace, err=True)
        self.progress.ended(str(outcome.src), outcome.error)
        if self.options.as_json:
            print_json(outcome.to_dict(), self.out)

    def conclude(self, plan: BatchPlan) -> None:
        """The numbers."""
        left = len(plan.tasks) + len(plan.refused) - self.cleaned - len(self.failed)
        numbers = {
            "failed": len(self.failed),
            "done before": len(plan.resumed),
            "left as they are": len(plan.existing),
            "not begun": left,
        }
        self.say(
            f"{_files(self.cleaned)} cleaned"
            + "".join(f", {number} {what}" for what, number in numbers.items() if number)
        )

    def say(self, line: str) -> None:
        """A line on stderr, unless --quiet."""
        if not self.options.quiet:
            self.progress.say(line)


def _passed_over(skipped: int, options: Options) -> str:
    return (
        f", {_files(skipped)} in folders passed over: no audio by the name"
        if skipped and options.verbose
        else ""
    )


def _processors() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _files(number: int) -> str:
    return f"{number} file{'s' if number != 1 else ''}"
