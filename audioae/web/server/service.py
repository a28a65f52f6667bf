"""The work of the local web app, seen from its server: starts checks, previews and jobs, and keeps
the state of each upload.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from concurrent.futures import CancelledError
from contextlib import suppress
from pathlib import Path

from audioae.errors import SettingsError, nearest
from audioae.storage import remove_tree
from audioae.web.server.jobs import (
    DenoiseRequest,
    PreviewRequest,
    denoise_upload,
    inspect,
    make_preview,
)
from audioae.web.server.pool import JobTask, WorkerPool
from audioae.web.server.uploads import ServeLimits, TooManyError, Upload, UploadStore

INSPECT_SECONDS, PREVIEW_SECONDS = 60.0, 120.0  # that a check and a preview may take
END_SECONDS = 30.0  # that a cancelled job has to end
JOB_NICENESS = 5  # previews and the page stay fast while all cores have jobs


class DenoiseService:
    """Runs checks, previews and jobs, and keeps the state of each upload.

    Args:
        store: the uploads.
        models: path of each model by name, the default first.
        workers: number of processes for jobs. Checks and previews have one each.
    """

    def __init__(self, store: UploadStore, models: Mapping[str, Path], *, workers: int) -> None:
        self.store, self.models = store, models
        self.limits: ServeLimits = store.limits
        most = 8 * self.limits.max_bytes + 2**28
        self._jobs = WorkerPool(workers, store.folder, file_bytes=most, niceness=JOB_NICENESS)
        self._checks = WorkerPool(1, store.folder, file_bytes=most)
        self._clips = WorkerPool(1, store.folder, file_bytes=most)
        self._running: dict[str, JobTask] = {}
        self._previews: dict[str, JobTask] = {}

    def close(self) -> None:
        """Stop all work."""
        for pool in (self._checks, self._clips, self._jobs):
            pool.close()

    def __enter__(self) -> DenoiseService:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def model(self, name: str) -> Path:
        """The path of a model. Raises `SettingsError` for a name that is not offered."""
        if not name:
            return next(iter(self.models.values()))
        if name not in self.models:
            raise SettingsError(
                f"unknown model {name!r:.60}{nearest(name, self.models)}; known: "
                f"{', '.join(self.models)}"
            )
        return self.models[name]

    def inspect(self, upload: Upload) -> JobTask:
        """Start the check of a complete upload; its result is `Upload.form`."""
        arguments = {"source": upload.source, "name": upload.name}
        return self._checks.submit(inspect, arguments, seconds=INSPECT_SECONDS)

    def preview(self, upload: Upload, request: PreviewRequest) -> tuple[JobTask, int]:
        """Start a preview. An older one of the same upload that still waits is cancelled.

        Returns:
            The task, and the number of the preview.
        """
        model, settings = self.model(request.model), request.settings()
        if (older := self._previews.get(upload.id)) is not None:
            older.future.cancel()
        upload.previews += 1
        number = upload.previews
        folder = upload.folder / f"preview-{number}"
        arguments = {
            "source": upload.source,
            "name": upload.name,
            "model": model,
            "settings": settings,
            "start": request.start,
            "seconds": request.seconds,
            "folder": folder,
        }
        task = self._clips.submit(make_preview, arguments, seconds=PREVIEW_SECONDS)
        self._previews[upload.id] = task

        def ended(_: object) -> None:
            if task.future.cancelled() or task.future.exception() is not None:
                remove_tree(folder)
            else:  # the newest one only
                for old in upload.folder.glob("preview-*"):
                    if int(old.name.partition("-")[2]) < number:
                        remove_tree(old)

        task.future.add_done_callback(ended)
        return task, number

    def start(self, upload: Upload, request: DenoiseRequest) -> JobTask:
        """Start to denoise an upload; a result that it has is replaced.

        Raises:
            TooManyError: too many jobs wait, or this upload has one.
            SettingsError: a wrong model, preset or setting.
        """
        model, settings = self.model(request.model), request.settings()
        if upload.active:
            raise TooManyError(f"{upload.name} is being denoised; wait, or cancel it first")
        if len(self._running) >= self.limits.max_jobs:
            raise TooManyError(
                f"{len(self._running)} jobs wait or run, the most that this server takes; try "
                "again later"
            )
        old = upload.folder / f"job-{upload.job}"
        upload.job += 1
        upload.state, upload.progress, upload.error = "waiting", 0.0, ""
        upload.result = upload.output = None
        remove_tree(old)
        arguments = {
            "source": upload.source,
            "name": upload.name,
            "model": model,
            "settings": settings,
            "suffix": f".{request.format}" if request.format else "",
            "folder": upload.folder / f"job-{upload.job}",
        }
        task = self._jobs.submit(denoise_upload, arguments, seconds=self.limits.job_seconds)
        self._running[upload.id] = task
        task.future.add_done_callback(functools.partial(self._ended, upload, task))
        return task

    def _ended(self, upload: Upload, task: JobTask, _: object) -> None:
        """Take over the result of a job."""
        if task.stopped:
            upload.state = "cancelled"
        elif (error := task.future.exception()) is not None:
            upload.state, upload.error = "failed", str(error)
        else:
            value = task.future.result()
            upload.result, upload.output = value["result"], value["output"]
            stem = upload.name.rpartition(".")[0] or upload.name
            upload.download_name = f"{stem}-denoised{value['output'].suffix}"
            upload.state, upload.progress = "done", 1.0
        if upload.state != "done":
            remove_tree(upload.folder / f"job-{upload.job}")
        upload.used = time.monotonic()
        self._running.pop(upload.id, None)

    def refresh(self, upload: Upload) -> Upload:
        """Update state and progress of an upload."""
        task = self._running.get(upload.id)
        if task is not None and upload.active:
            upload.state = "running" if task.running else "waiting"
            upload.progress = round(task.progress, 4)
        return upload

    def cancel(self, upload: Upload) -> None:
        """Cancel the job of an upload and wait until it has ended; nothing without a job."""
        if (task := self._running.get(upload.id)) is not None:
            cancel_and_wait(task)
            while self._running.get(upload.id) is task:  # until `_ended` has run
                time.sleep(0.01)

    def remove(self, upload: Upload) -> None:
        """Cancel the job of an upload and remove its files."""
        preview = self._previews.pop(upload.id, None)
        if preview is not None and not preview.future.done():
            cancel_and_wait(preview)
        self.cancel(upload)
        self.store.remove(upload)

    def remove_idle(self) -> None:
        """Remove the uploads that nobody has asked for in `ServeLimits.keep_seconds`."""
        for upload in self.store.idle():
            self.remove(upload)


def cancel_and_wait(task: JobTask) -> None:
    """Cancel a call and wait until it has ended; one that has not been started ends at once."""
    task.cancel()
    # `concurrent.futures.wait` would wait for the whole time if the call was never started.
    with suppress(CancelledError, TimeoutError):
        task.future.exception(timeout=END_SECONDS)
