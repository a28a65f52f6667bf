"""What the local web app does with uploads in worker processes: check, preview and denoise them."""

from __future__ import annotations

import base64
import functools
import json
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from audioae.audio import AudioReader, info, write
from audioae.denoising import PRESETS, DenoiseSettings, FileJob, denoise, plan_file, run_plan
from audioae.engine import Engine, Quality, load_model
from audioae.errors import AudioaeError, OutputError, SettingsError, nearest
from audioae.web.measuring import measure
from audioae.web.report import match_loudness, player_description
from audioae.web.server.pool import Progress

CLIP_SECONDS, LEAST_CLIP_SECONDS, MOST_CLIP_SECONDS = 10.0, 0.1, 30.0  # of a preview
MARGIN_SECONDS = 3.0  # before and after a preview, in which the model adapts
DENOISING_SHARE = 0.8  # of the progress of a job; the rest prepares the player
FORMATS = ("wav", "flac", "mp3", "ogg", "opus")
PART = re.compile(r"(before|after|removed)-\d{1,5}")
_ELEMENT = re.compile(r'id="audio-(\w+-\d+)">([^<]*)<')


# The fields of a request, for the description of the HTTP API.
MEANINGS = {
    "model": "Name of a model; empty is the default.",
    "preset": "gentle, default, strong or asr; the settings below override it.",
    "quality": "fast or best.",
    "strength": "0 (unchanged) to 1 (full strength).",
    "max_attenuation_db": "Limit of the attenuation in dB.",
    "format": f"{', '.join(FORMATS)}; empty is the format of the upload.",
    "start": "Start of the stretch in seconds; it is moved into the recording.",
    "seconds": f"Length of the stretch, up to {MOST_CLIP_SECONDS:g} seconds.",
}


def _meaning(name: str) -> dict[str, str]:
    return {"description": MEANINGS[name]}


@dataclass(frozen=True)
class DenoiseRequest:
    """How an upload is denoised; see `MEANINGS`.

    Example:
        >>> DenoiseRequest(preset="gentle", strength=0.5).settings().strength
        0.5
    """

    model: str = field(default="", metadata=_meaning("model"))
    preset: str = field(default="default", metadata=_meaning("preset"))
    quality: Quality | None = field(default=None, metadata=_meaning("quality"))
    strength: float | None = field(default=None, metadata=_meaning("strength"))
    max_attenuation_db: float | None = field(default=None, metadata=_meaning("max_attenuation_db"))
    format: str = field(default="", metadata=_meaning("format"))

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


@dataclass(frozen=True)
class PreviewRequest(DenoiseRequest):
    """A stretch of an upload to denoise at once, and how.

    Raises:
        SettingsError: the stretch is too long or too short.
    """

    start: float = field(default=0.0, metadata=_meaning("start"))
    seconds: float = field(default=CLIP_SECONDS, metadata=_meaning("seconds"))

    def __post_init__(self) -> None:
        if not LEAST_CLIP_SECONDS <= self.seconds <= MOST_CLIP_SECONDS or self.start < 0:
            raise SettingsError(
                f"the stretch starts at {self.start:g} s and has {self.seconds:g} s; expected a "
                f"start of 0 or more and {LEAST_CLIP_SECONDS:g} to {MOST_CLIP_SECONDS:g} s"
            )


@functools.lru_cache(maxsize=4)
def _engine(model: Path) -> Engine:
    return load_model(model, device="cpu")  # CUDA needs more memory than a worker may take


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


def _finite(value: Any) -> Any:
    """A value with None in place of NaN and infinity, which JSON lacks."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value
