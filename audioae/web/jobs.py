"""What the local web app does with uploads: check, preview and denoise them in worker processes.

`inspect`, `make_preview` and `denoise_upload` run in a worker process; `DenoiseService` runs in the
server and keeps the state of each upload.
"""

from __future__ import annotations

import base64
import functools
import json
import math
import os
import re
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from audioae.audio import AudioReader, info, write
from audioae.denoising import PRESETS, DenoiseSettings, FileJob, denoise, plan_file, run_plan
from audioae.engine import Engine, Quality, load_model
from audioae.errors import AudioaeError, OutputError, SettingsError, nearest
from audioae.web.measuring import measure
from audioae.web.pool import JobTask, Progress, WorkerPool
from audioae.web.report import match_loudness, player_description
from audioae.web.uploads import ServeLimits, TooManyError, Upload, UploadStore, remove_tree

INSPECT_SECONDS, PREVIEW_SECONDS = 60.0, 120.0  # that a check and a preview may take
CLIP_SECONDS, MOST_CLIP_SECONDS = 10.0, 30.0  # of a preview
END_SECONDS = 30.0  # that a cancelled job has to end
MARGIN_SECONDS = 3.0  # before and after a preview, in which the model adapts
DENOISING_SHARE = 0.8  # of the progress of a job; the rest prepares the player
FORMATS = ("wav", "flac", "mp3", "ogg", "opus")
PART = re.compile(r"(before|after|removed)-\d{1,5}")
_ELEMENT = re.compile(r'id="audio-(\w+-\d+)">([^<]*)<')


@dataclass(frozen=True)
class DenoiseRequest:
    """How an upload is denoised.

    Args:
        model: name of a model; empty is the default.
        preset: "gentle", "default", "strong" or "asr"; the settings below override it.
        quality: "fast" or "best".
        strength: 0 (unchanged) to 1 (full strength).
        max_attenuation_db: limit of the attenuation.
        format: wav, flac, mp3, ogg or opus; empty is the format of the upload.

    Example:
        >>> DenoiseRequest(preset="gentle", strength=0.5).settings().strength
        0.5
    """

    model: str = ""
    preset: str = "default"
    quality: Quality | None = None
    strength: float | None = None
    max_attenuation_db: float | None = None
    format: str = ""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    def settings(self) -> DenoiseSettings:
        """The settings of the denoiser. Raises `SettingsError`."""
        if self.preset not in PRESETS:
            raise SettingsError(
                f"unknown preset {self.preset!r:.60}{nearest(self.preset, PRESETS)}; known: "
                f"{', '.join(PRESETS)}"
            )
        if self.format and self.format not in FORMATS:
            raise SettingsError(
                f"unknown format {self.format!r:.60}; expected one of {', '.join(FORMATS)}"
            )
        given = {
            name: getattr(self, name) for name in ("quality", "strength", "max_attenuation_db")
        }
        changes = {name: value for name, value in given.items() if value is not None}
        return replace(PRESETS[self.preset], **changes)


# --- In a worker process


@functools.lru_cache(maxsize=4)
def _engine(model: Path) -> Engine:
    return load_model(model)


@contextmanager
def _names_of_user(source: Path, name: str) -> Iterator[None]:
    """Raise errors with the name that the user gave the file instead of its path."""
    try:
        yield
    except AudioaeError as error:
        message = str(error).replace(str(source), name)
        message = message.replace(f"{source.parent}{os.sep}", "")
        raise type(error)(message) from error


def inspect(*, source: Path, name: str, progress: Progress) -> dict[str, Any]:
    """The form of an upload, as JSON values.

    Raises:
        AudioFileError: it is no recording that can be denoised.
    """
    with _names_of_user(source, name):
        form = info(source)
        with AudioReader(source) as reader:  # a header alone is no recording
            reader.read(min(form.num_samples, 4096))
    names = ("sample_rate", "channels", "num_samples", "seconds", "container", "subtype")
    return {each: getattr(form, each) for each in names}


def make_preview(
    *,
    source: Path,
    name: str,
    model: Path,
    settings: DenoiseSettings,
    start: float,
    seconds: float,
    folder: Path,
    progress: Progress,
) -> dict[str, Any]:
    """Denoise a stretch of an upload, and write what a player needs into a new folder.

    Args:
        start, seconds: the stretch; it is moved into the recording.
        folder: gets `before.wav`, `after.wav` and the files of `write_player`.

    Returns:
        `start` and `seconds` of the stretch, JSON values.
    """
    with _names_of_user(source, name), AudioReader(source) as reader:
        rate, total = reader.info.sample_rate, reader.info.num_samples
        size = min(round(seconds * rate), total)
        first = min(max(round(start * rate), 0), total - size)
        margin = round(MARGIN_SECONDS * rate)
        lead = min(first, margin)
        reader.seek(first - lead)
        noisy = reader.read(lead + size + margin)
        enhanced = denoise(noisy, rate, model=_engine(model), settings=settings)
        folder.mkdir(mode=0o700)
        paths = {each: folder / f"{each}.wav" for each in ("before", "after")}
        for path, waveform in zip(paths.values(), (noisy, enhanced), strict=True):
            write(path, waveform[:, lead : lead + size], rate, subtype="PCM_24")
        write_player(paths["before"], paths["after"], folder, progress)
    return {"start": first / rate, "seconds": size / rate}


def denoise_upload(
    *,
    source: Path,
    name: str,
    model: Path,
    settings: DenoiseSettings,
    suffix: str,
    folder: Path,
    progress: Progress,
) -> dict[str, Any]:
    """Denoise an upload into a new folder, with the files of `write_player`.

    Args:
        suffix: of the output; empty is that of the upload, or .wav if it cannot be written.

    Returns:
        `output`, its path, and `result`, see `FileResult`.
    """
    with _names_of_user(source, name):
        folder.mkdir(mode=0o700)
        try:
            job = FileJob(source, folder / f"output{suffix or source.suffix}", settings=settings)
            plan = plan_file(job)
        except OutputError:
            if suffix:
                raise
            job = replace(job, dst=folder / "output.wav")
            plan = plan_file(job)
        seconds = max(plan.source.seconds, 1e-9)
        share = DENOISING_SHARE
        result = run_plan(
            plan, _engine(model), progress=lambda done: progress(share * min(done / seconds, 1))
        )
        write_player(
            source,
            job.dst,
            folder,
            lambda done: progress(share + (1 - share) * min(done / seconds, 1)),
        )
    values = result.to_dict()
    hidden = ("src", "dst", "residual", "tracks")
    return {
        "output": job.dst,
        "result": {key: _finite(value) for key, value in values.items() if key not in hidden},
    }


def write_player(before: Path, after: Path, folder: Path, progress: Progress) -> None:
    """Write `player.json`, the description that static/player.js takes, and its parts of audio."""
    measured = measure(before, after, progress=progress)
    with measured.audio as audio:
        audio.seek(0)
        for line in audio:
            if match := _ELEMENT.search(line):
                (folder / f"{match[1]}.ogg").write_bytes(base64.b64decode(match[2]))
        description = player_description(measured, match_loudness(measured.meters))
    for track in description["tracks"]:
        for part in track["parts"]:
            part["src"] = part["src"].removeprefix("#audio-")
    (folder / "player.json").write_text(json.dumps(description), encoding="utf-8")


# --- In the server


class DenoiseService:
    """Runs checks, previews and jobs, and keeps the state of each upload.

    Args:
        store: the uploads.
        models: path of each model by name, the default first.
        workers: number of processes for jobs. Checks and previews have one of their own.
    """

    def __init__(self, store: UploadStore, models: Mapping[str, Path], *, workers: int) -> None:
        self.store, self.models = store, models
        self.limits: ServeLimits = store.limits
        most = 8 * self.limits.max_bytes + 2**28
        self._jobs = WorkerPool(workers, store.folder, file_bytes=most)
        self._quick = WorkerPool(1, store.folder, file_bytes=most)
        self._running: dict[str, JobTask] = {}
        self._previews: dict[str, JobTask] = {}

    def close(self) -> None:
        """Stop all work."""
        self._quick.close()
        self._jobs.close()

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
        return self._quick.submit(inspect, arguments, seconds=INSPECT_SECONDS)

    def preview(
        self, upload: Upload, request: DenoiseRequest, *, start: float, seconds: float
    ) -> tuple[JobTask, int]:
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
            "start": start,
            "seconds": seconds,
            "folder": folder,
        }
        task = self._quick.submit(make_preview, arguments, seconds=PREVIEW_SECONDS)
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
            task.cancel()
            wait([task.future], timeout=END_SECONDS)
            while self._running.get(upload.id) is task:  # until `_ended` has run
                time.sleep(0.01)

    def remove(self, upload: Upload) -> None:
        """Cancel the job of an upload and remove its files."""
        preview = self._previews.pop(upload.id, None)
        if preview is not None and not preview.future.done():
            preview.cancel()
            wait([preview.future], timeout=END_SECONDS)
        self.cancel(upload)
        self.store.remove(upload)

    def remove_idle(self) -> None:
        """Remove the uploads that nobody has asked for in `ServeLimits.keep_seconds`."""
        for upload in self.store.idle():
            if not upload.active:
                self.remove(upload)


def _finite(value: Any) -> Any:
    """A value with None in place of NaN and infinity, which JSON lacks."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value
