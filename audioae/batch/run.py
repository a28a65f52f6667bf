"""Run a batch, in this process, in worker processes or on a Ray cluster, and keep its ledger."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from audioae.batch.ledger import Ledger
from audioae.batch.processes import run_in_processes
from audioae.batch.ray import run_on_ray
from audioae.batch.work import BatchListener, BatchSettings, Outcome, PlanRunner
from audioae.denoising import FilePlan
from audioae.engine import Engine


def run_batch(
    files: Sequence[FilePlan],
    settings: BatchSettings,
    listener: BatchListener,
    *,
    ledger: Ledger | None = None,
    jobs: int = 1,
    ray: str | None = None,
    fail_fast: bool = False,
    engine: Engine | None = None,
) -> None:
    """Denoise all files and report each to the listener; a failure does not stop the others.

    Args:
        ledger: open, or None to keep none.
        jobs: number of worker processes; 1 works in this process.
        ray: address of a Ray cluster, used in place of processes; "local" is the cluster of
            RAY_ADDRESS, or one that is started for this run.
        fail_fast: start no further file after a failure.
        engine: the model of `settings`, if it is loaded already.

    Raises:
        AudioaeError: no worker process starts, or no cluster can be reached.
        DependencyError: Ray is not installed.
    """
    if ledger is not None:
        listener = _LedgerKeeper(ledger, listener)
    if not files:
        return
    if ray is not None:
        address = None if ray == "local" else ray
        run_on_ray(files, settings, listener, address=address, fail_fast=fail_fast)
    elif min(jobs, len(files)) > 1:
        run_in_processes(files, settings, listener, jobs=jobs, fail_fast=fail_fast)
    else:
        _run_here(files, PlanRunner(settings, engine), listener, fail_fast=fail_fast)


def _run_here(
    files: Sequence[FilePlan], runner: PlanRunner, listener: BatchListener, *, fail_fast: bool
) -> None:
    for plan in files:
        listener.started(plan)
        outcome = runner.attempt(plan, partial(listener.advanced, plan))
        listener.ended(plan, outcome)
        if fail_fast and outcome.error:
            return


class _LedgerKeeper:
    """Writes each event to the ledger, then passes it on."""

    def __init__(self, ledger: Ledger, listener: BatchListener) -> None:
        self._ledger, self._listener = ledger, listener

    def started(self, plan: FilePlan) -> None:
        self._ledger.begin(plan.job.src, plan.job.dst)
        self._listener.started(plan)

    def advanced(self, plan: FilePlan, seconds: float) -> None:
        self._listener.advanced(plan, seconds)

    def ended(self, plan: FilePlan, outcome: Outcome) -> None:
        self._ledger.end(plan.job.src, plan.job.dst, error=outcome.error)
        self._listener.ended(plan, outcome)
