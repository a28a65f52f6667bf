"""The same work on a Ray cluster: a task that a lost machine had is done again by another."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from functools import lru_cache
from typing import Any

from audioae.audio import AudioInfo
from audioae.batch.work import Cleaner, Listener, Outcome, Task, Work, failure
from audioae.errors import AudioaeError, require

RETRIES = 3  # of a task whose worker or machine is lost
LISTEN_SECONDS = 5.0
AHEAD = 2  # tasks handed out for each processor, so that none waits


def run_on_ray(
    tasks: Sequence[Task],
    work: Work,
    listener: Listener,
    *,
    address: str | None = None,
    fail_fast: bool = False,
) -> None:
    """Do the tasks on the cluster at `address`; None is that of RAY_ADDRESS, or one that is started
    here and ends with the run.

    Ray tells of lost workers on stdout; as long as this runs, `sys.stdout` is stderr. A listener
    that prints keeps the stream it wants. Inputs, outputs and the model have to have the same paths
    on all machines of the cluster.

    Raises:
        DependencyError: ray is not installed.
        AudioaeError: no cluster can be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing leaves the machine
    ray = require("ray", extra="ray")
    _check_address(address)
    with redirect_stdout(sys.stderr):
        _run(ray, tasks, work, listener, address, fail_fast)


def _run(
    ray: Any,
    tasks: Sequence[Task],
    work: Work,
    listener: Listener,
    address: str | None,
    fail_fast: bool,
) -> None:
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            include_dashboard=None if address else False,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise AudioaeError(
            f"no Ray cluster at {address or 'RAY_ADDRESS'} ({' '.join(str(error).split())}); "
            "check the address"
        ) from error
    try:
        work = replace(work, model=work.model.absolute())
        remote = ray.remote(num_cpus=1, max_retries=RETRIES)(_clean)
        room = AHEAD * max(int(ray.cluster_resources().get("CPU", 1)), 1)
        waiting = deque(tasks)
        at_work: dict[Any, Task] = {}
        while waiting or at_work:
            while waiting and len(at_work) < room:
                task = waiting.popleft()
                listener.started(task)
                at_work[remote.remote(work, _anywhere(task))] = task
            ended, _ = ray.wait(list(at_work))
            for reference in ended:
                task = at_work.pop(reference)
                outcome = _outcome(ray, reference, task)
                listener.ended(task, outcome)
                if fail_fast and outcome.error:
                    waiting.clear()
    finally:
        ray.shutdown()


def _check_address(address: str | None) -> None:
    """Raise `AudioaeError` where nobody listens: Ray itself would try for minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal()):
        return  # "auto", or none
    try:
        socket.create_connection((host, int(port)), timeout=LISTEN_SECONDS).close()
    except OSError as error:
        raise AudioaeError(
            f"no Ray cluster at {address} ({error.strerror or error}); check the address"
        ) from error


def _outcome(ray: Any, reference: Any, task: Task) -> Outcome:
    try:
        outcome: Outcome = ray.get(reference)
    except (
        Exception
    ) as error:  # Ray's own errors: the worker died more often than `RETRIES`, the object is lost
        reason = " ".join(str(error).split())[:200]
        return failure(
            task.plan.src,
            task.plan.dst,
            AudioaeError(f"{task.plan.src} was lost by the cluster ({reason})"),
        )
    return replace(outcome, src=task.plan.src, dst=task.plan.dst)


def _anywhere(task: Task) -> Task:
    """The task with paths that do not depend on the folder that a process is in.

    A worker may be lost after it has given its output the final name, so the second attempt may
    write over it.
    """
    plan = task.plan
    paths = {
        name: path and path.absolute()
        for name, path in (("src", plan.src), ("dst", plan.dst), ("residual", plan.residual))
    }
    forms = {"source": _absolute(plan.source), "output": _absolute(plan.output)}
    if plan.residual_output is not None:
        forms["residual_output"] = _absolute(plan.residual_output)
    return replace(task, overwrite=True, plan=replace(plan, **paths, **forms))  # type: ignore[arg-type]


def _absolute(form: AudioInfo) -> AudioInfo:
    return replace(form, source=form.source and form.source.absolute())


def _clean(work: Work, task: Task) -> Outcome:
    try:
        cleaner = _cleaner(work)
    except AudioaeError as error:
        return failure(task.plan.src, task.plan.dst, error)
    return cleaner.attempt(task)


@lru_cache(maxsize=1)
def _cleaner(work: Work) -> Cleaner:
    """The model of a worker process, loaded once."""
    return Cleaner(work)
