"""A batch from its plan to its outcomes, here, in processes or on a cluster; the ledger is kept on
the way.
"""

from __future__ import annotations

from collections.abc import Sequence

from audioae.batch.ledger import Ledger
from audioae.batch.processes import run_in_processes
from audioae.batch.ray import run_on_ray
from audioae.batch.work import Cleaner, Listener, Outcome, Task, Work
from audioae.engine import Engine


def run_tasks(
    tasks: Sequence[Task],
    work: Work,
    listener: Listener,
    *,
    ledger: Ledger | None = None,
    jobs: int = 1,
    ray: str | None = None,
    fail_fast: bool = False,
    engine: Engine | None = None,
) -> None:
    """Do all tasks and tell the listener of each; one that fails keeps no other from being done.

    Args:
        ledger: open, or None to keep none.
        jobs: processes; 1 is this one.
        ray: address of a Ray cluster in place of processes; "local" is that of RAY_ADDRESS, or one
            that is started for this run.
        fail_fast: begin none after one has failed.
        engine: the model of `work`, where it is loaded already.
    """
    if ledger is not None:
        listener = _Bookkeeper(ledger, listener)
    if not tasks:
        return
    if ray is not None:
        run_on_ray(
            tasks, work, listener, address=None if ray == "local" else ray, fail_fast=fail_fast
        )
    elif min(jobs, len(tasks)) > 1:
        run_in_processes(tasks, work, listener, jobs=jobs, fail_fast=fail_fast)
    else:
        _run_here(tasks, Cleaner(work, engine), listener, fail_fast=fail_fast)


def _run_here(
    tasks: Sequence[Task], cleaner: Cleaner, listener: Listener, *, fail_fast: bool
) -> None:
    for task in tasks:
        listener.started(task)
        outcome = cleaner.attempt(task, lambda seconds, task=task: listener.advanced(task, seconds))  # type: ignore[misc]
        listener.ended(task, outcome)
        if fail_fast and outcome.error:
            return


class _Bookkeeper:
    """Writes to the ledger what it hears, then passes it on."""

    def __init__(self, ledger: Ledger, listener: Listener) -> None:
        self._ledger, self._listener = ledger, listener

    def started(self, task: Task) -> None:
        self._ledger.begin(task.plan.src, task.plan.dst)
        self._listener.started(task)

    def advanced(self, task: Task, seconds: float) -> None:
        self._listener.advanced(task, seconds)

    def ended(self, task: Task, outcome: Outcome) -> None:
        self._ledger.end(task.plan.src, task.plan.dst, error=outcome.error)
        self._listener.ended(task, outcome)
