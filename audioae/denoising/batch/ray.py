"""Run a batch on a Ray cluster. A file whose worker or machine is lost is tried again by another.

The machines of the cluster need the inputs, the outputs and the model under the same paths.
"""

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

from audioae.denoising import FileJob
from audioae.denoising.batch.work import (
    BatchListener,
    BatchSettings,
    JobRunner,
    Outcome,
    PlannedFile,
    failure,
)
from audioae.errors import AudioaeError, require

RETRIES = 3  # of a file whose worker or machine is lost
CONNECT_SECONDS = 5.0
QUEUED_PER_CPU = 2  # files submitted for each processor, so that none is idle


def run_on_ray(
    files: Sequence[PlannedFile],
    settings: BatchSettings,
    listener: BatchListener,
    *,
    address: str | None = None,
    fail_fast: bool = False,
) -> None:
    """Denoise the files on a Ray cluster; with `fail_fast`, start none after a failure.

    Ray prints messages about lost workers to stdout, so `sys.stdout` is stderr while this runs. A
    listener that prints to stdout has to keep a reference to it.

    Args:
        address: of the cluster; None is the cluster of RAY_ADDRESS, or a local one that is started
            here and stopped at the end.

    Raises:
        DependencyError: Ray is not installed.
        AudioaeError: no cluster can be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # send no usage data
    ray = require("ray", extra="ray")
    _check_address(address)
    with redirect_stdout(sys.stderr):
        _run(ray, files, settings, listener, address, fail_fast)


def _run(
    ray: Any,
    files: Sequence[PlannedFile],
    settings: BatchSettings,
    listener: BatchListener,
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
        settings = replace(settings, model=settings.model.absolute())
        remote = ray.remote(num_cpus=1, max_retries=RETRIES)(_denoise)
        capacity = QUEUED_PER_CPU * max(int(ray.cluster_resources().get("CPU", 1)), 1)
        waiting = deque(files)
        submitted: dict[Any, PlannedFile] = {}
        while waiting or submitted:
            while waiting and len(submitted) < capacity:
                planned = waiting.popleft()
                listener.started(planned)
                submitted[remote.remote(settings, _for_any_machine(planned.job))] = planned
            ended, _ = ray.wait(list(submitted))
            for reference in ended:
                planned = submitted.pop(reference)
                outcome = _outcome(ray, reference, planned.job)
                listener.ended(planned, outcome)
                if fail_fast and outcome.error:
                    waiting.clear()
    finally:
        ray.shutdown()


def _check_address(address: str | None) -> None:
    """Raise `AudioaeError` if nothing listens there: Ray itself would try for minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal()):
        return  # "auto", or none
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise AudioaeError(
            f"no Ray cluster at {address} ({error.strerror or error}); check the address"
        ) from error


def _outcome(ray: Any, reference: Any, job: FileJob) -> Outcome:
    try:
        outcome: Outcome = ray.get(reference)
    except Exception as error:  # Ray's own: the worker died more than `RETRIES` times, for example
        reason = " ".join(str(error).split())[:200]
        return failure(job, AudioaeError(f"{job.src} was lost by the cluster ({reason})"))
    return replace(outcome, src=job.src, dst=job.dst)


def _for_any_machine(job: FileJob) -> FileJob:
    """The job with absolute paths, which do not depend on the working directory.

    A worker may be lost after it has published its output, so a second attempt may overwrite it.
    """
    return replace(
        job,
        src=job.src.absolute(),
        dst=job.dst.absolute(),
        residual=job.residual and job.residual.absolute(),
        overwrite=True,
    )


def _denoise(settings: BatchSettings, job: FileJob) -> Outcome:
    try:
        runner = _runner(settings)
    except AudioaeError as error:
        return failure(job, error)
    return runner.attempt(job)


@lru_cache(maxsize=1)
def _runner(settings: BatchSettings) -> JobRunner:
    """The model of a worker process, loaded once."""
    return JobRunner(settings)
