"""`audioae denoise IN... -O DIR`: denoise many files and keep their folder tree."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import click

from audioae.cli.options import DenoiseOptions, available_cores
from audioae.cli.output import (
    assessment,
    model_line,
    preface,
    print_json,
    report_warnings,
    summary,
    warning_lines,
)
from audioae.cli.progress import FilesProgress, show_files
from audioae.errors import AudioaeError, OutputError, counted

if TYPE_CHECKING:
    from audioae.denoising import FileResult
    from audioae.denoising.batch import (
        BatchJobs,
        BatchPlan,
        BatchSettings,
        Ledger,
        Outcome,
        OutputNames,
        PlannedFile,
    )
    from audioae.engine import Engine


def denoise_many(ctx: click.Context, options: DenoiseOptions, folder: Path) -> None:
    """Check everything, then denoise all files. Exits with 1 if a file failed."""
    from audioae.denoising import ready_engine
    from audioae.denoising.batch import (
        BatchSettings,
        Ledger,
        find_inputs,
        name_jobs,
        output_folders,
        plan_batch,
    )

    settings = BatchSettings(
        options.model_path(), options.device, facts=options.as_json, record=options.record
    )
    names = _names(options, folder)
    found = find_inputs(options.paths, exclude=folder)
    jobs = name_jobs(found, names, options.file_job)
    _check_list(options.failed_list, jobs)
    _check_report(options, folder, jobs)
    engine = ready_engine(settings.model, device=settings.device)
    for path in found.special:
        _report_special(path, options)
    with output_folders(jobs.outputs()):
        ledger = Ledger(folder, settings.recipe(jobs[0]))
        if options.dry_run:
            plan = plan_batch(jobs, ledger, skip_existing=options.skip_existing)
            _report_dry_run(plan, engine, found.num_skipped, options)
            failed = len(plan.refused)
        else:
            with ledger:
                plan = plan_batch(jobs, ledger, skip_existing=options.skip_existing)
                failed = _run(ctx, plan, ledger, settings, engine, found.num_skipped, options)
    for line in found.unreadable:
        _say_event(f"Error: {line}", options)
    if failed or found.unreadable:
        ctx.exit(1)


def _report_special(path: Path, options: DenoiseOptions) -> None:
    """Name a pipe, socket or device in a folder, which is skipped."""
    reason = "a pipe, socket or device"
    if not options.quiet:
        _say_event(f"Warning: {path} is {reason}; skipped", options)
    if options.as_json:
        print_json({"status": "skipped", "src": str(path), "dst": None, "reason": reason})


def _say_event(line: str, options: DenoiseOptions) -> None:
    """Print a line on stderr, with --progress json as an event."""
    is_json = options.progress_mode == "json"
    click.echo(json.dumps({"event": "message", "text": line}) if is_json else line, err=True)


def _names(options: DenoiseOptions, folder: Path) -> OutputNames:
    from audioae.denoising.batch import OutputNames, check_suffix

    suffix = check_suffix(options.format) if options.format else None
    return OutputNames(folder, options.residual, options.template, suffix)


def _check_list(path: Path | None, jobs: BatchJobs) -> None:
    """Raise `OutputError` if the list of failures cannot be written or would replace an input."""
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
    place = os.path.realpath(path)
    if any(os.path.realpath(each) == place for each in chain(jobs.inputs(), jobs.outputs())):
        raise OutputError(
            f"{path} is a recording of this batch; give the list of failures another name"
        )


def _check_report(options: DenoiseOptions, folder: Path, jobs: BatchJobs) -> None:
    """Raise `OutputError` if the folder of the pages is a file, is the output folder, or holds
    files with the names of pages that audioae did not write.
    """
    path = options.report
    if path is None:
        return
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path} is a file; with -O, --report is a folder of pages")
    if path.resolve() == folder.resolve():
        raise OutputError(f"{path} is the output folder; give the pages a folder of their own")
    from audioae.web.folder import check_pages

    names = (Path(os.path.relpath(job.dst, folder)) for job in jobs)
    check_pages(names, path, overwrite=options.overwrite, resume=True)


def _report_dry_run(
    plan: BatchPlan, engine: Engine, num_skipped: int, options: DenoiseOptions
) -> None:
    """Print what a batch would do."""
    from audioae.denoising import choose_engine

    for outcome in plan.refused:
        click.echo(f"Error: {outcome.error}", err=True)
    for each in plan.files:
        if not options.quiet:
            options.say(f"{each.job.src} -> {each.job.dst}: {each.seconds:.2f} s")
        report_warnings(each, options)
        if options.as_json:
            rate, quality = each.form.sample_rate, each.job.settings.quality
            chosen = choose_engine(engine, rate, quality)
            print_json({**each.to_dict(), "model": chosen.info.name, "dry_run": True})
    finished = len(plan.resumed) + len(plan.existing)
    done = f", {finished} done before" if finished else ""
    files = counted(len(plan.files), "file")
    work = f"{files}, {plan.seconds:.0f} s with {engine.info.name}{done}"
    options.say(f"{work}{_not_audio(num_skipped, options)}; dry run, nothing is written")


def _run(
    ctx: click.Context,
    plan: BatchPlan,
    ledger: Ledger,
    settings: BatchSettings,
    engine: Engine,
    num_skipped: int,
    options: DenoiseOptions,
) -> int:
    """Denoise the files; returns how many failed."""
    from audioae.denoising.batch import run_batch

    mode = options.progress_mode
    with show_files(mode, files=len(plan.files), seconds=plan.seconds) as progress:
        reporter = _Reporter(progress, options, debug=bool(ctx.find_root().params.get("debug")))
        reporter.begin(plan, engine, num_skipped)
        try:
            run_batch(
                plan.files if not (options.fail_fast and plan.refused) else [],
                settings,
                reporter,
                ledger=ledger,
                jobs=options.jobs or available_cores(),
                ray=options.ray,
                fail_fast=options.fail_fast,
                engine=engine,
            )
        except KeyboardInterrupt:
            files = counted(len(plan.files), "file")
            reporter.say(
                f"{reporter.num_done} of {files} denoised; run the same command again to resume"
            )
            raise
        finally:
            if options.failed_list is not None:
                end = b"\0" if options.null else b"\n"
                lines = [os.fsencode(path) + end for path in reporter.failed]
                options.failed_list.write_bytes(b"".join(lines))
        reporter.conclude(plan)
    return len(reporter.failed) + _write_reports(plan, reporter, settings, options)


def _write_reports(
    plan: BatchPlan, reporter: _Reporter, settings: BatchSettings, options: DenoiseOptions
) -> int:
    """Write the pages of --report; returns how many failed."""
    if options.report is None:
        return 0
    from audioae.cli.report import report_batch

    jobs = [each.job for each in plan.files if each.job.src in reporter.results]
    jobs = [*plan.resumed, *plan.existing, *jobs]
    rows = report_batch(jobs, reporter.results, settings.model, options, options.say)
    return sum(row.report is None for row in rows)


class _Reporter:
    """Reports the events of a batch: progress and lines on stderr, JSON on stdout."""

    def __init__(self, progress: FilesProgress, options: DenoiseOptions, *, debug: bool) -> None:
        self.progress, self.options, self.debug = progress, options, debug
        self.failed: list[Path] = []
        self.out = sys.stdout  # Ray redirects `sys.stdout`
        self.num_done = 0
        self.results: dict[Path, FileResult] = {}  # of this run by input, for --report

    def begin(self, plan: BatchPlan, engine: Engine, num_skipped: int) -> None:
        """Report what is known before the first file."""
        if self.options.verbose:
            self._describe(plan, engine, num_skipped)
        skipped = [(plan.resumed, "done before"), (plan.existing, "exists")]
        for job, reason in ((job, reason) for jobs, reason in skipped for job in jobs):
            if self.options.verbose:
                self.say(f"{job.dst}: {reason}")
            if self.options.as_json:
                paths = {"src": str(job.src), "dst": str(job.dst)}
                print_json({"status": "skipped", **paths, "reason": reason}, self.out)
        for outcome in plan.refused:
            self._fail(outcome)
        for each in plan.files:
            for warning in each.warnings:
                self.say(f"Warning: {each.job.dst}: {warning}")

    def _describe(self, plan: BatchPlan, engine: Engine, num_skipped: int) -> None:
        from audioae.denoising import choose_engine, plan_file

        if plan.files:
            first = plan.files[0]
            quality = first.job.settings.quality
            text = model_line(engine.info, quality)
            if len(plan.files) == 1:
                engine = choose_engine(engine, first.form.sample_rate, quality)
                with suppress(AudioaeError):  # the file has changed; its turn tells
                    text = preface(plan_file(first.job), engine.info)
            for line in text.splitlines():
                self.say(line)
        skipped = _not_audio(num_skipped, self.options)
        self.say(f"{counted(len(plan.files), 'file')} to denoise{skipped}")

    def started(self, planned: PlannedFile) -> None:
        self.progress.started(str(planned.job.src), planned.seconds)

    def advanced(self, planned: PlannedFile, seconds: float) -> None:
        self.progress.advanced(str(planned.job.src), seconds)

    def ended(self, planned: PlannedFile, outcome: Outcome) -> None:
        if outcome.result is None:
            self._fail(outcome)
            return
        self.num_done += 1
        if self.options.report is not None:
            self.results[outcome.src] = outcome.result
        self.progress.ended(str(outcome.src), None)
        if self.options.verbose:
            for line in (summary(outcome.result), *assessment(outcome.result, self.options)):
                self.say(line)
        for line in warning_lines(outcome.result, planned.warnings):
            self.say(line)
        if self.options.as_json:
            print_json(outcome.to_dict(), self.out)

    def _fail(self, outcome: Outcome) -> None:
        self.failed.append(outcome.src)
        if self.debug:
            click.echo(outcome.trace, err=True)
        self.progress.ended(str(outcome.src), outcome.error)
        if self.options.as_json:
            print_json(outcome.to_dict(), self.out)

    def conclude(self, plan: BatchPlan) -> None:
        """Report the numbers of files."""
        counts = {
            "failed": len(self.failed),
            "done before": len(plan.resumed),
            "existing skipped": len(plan.existing),
            "not started": len(plan.files) + len(plan.refused) - self.num_done - len(self.failed),
        }
        others = "".join(f", {count} {what}" for what, count in counts.items() if count)
        self.say(f"{counted(self.num_done, 'file')} denoised{others}")

    def say(self, line: str) -> None:
        """Print a line on stderr, unless --quiet."""
        if not self.options.quiet:
            self.progress.say(line)


def _not_audio(num_skipped: int, options: DenoiseOptions) -> str:
    """The number of files in the folders that are not audio, with --verbose."""
    if not num_skipped or not options.verbose:
        return ""
    return f", {counted(num_skipped, 'file')} in folders skipped (no audio suffix)"
