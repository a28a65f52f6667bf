"""Denoise a file, block by block.

Memory does not depend on the length of the file, and the output is complete or not there.
"""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from audioae.audio import AudioInfo
from audioae.audio.encoders import holds_tracks
from audioae.audio.formats import coding_changes
from audioae.audio.metadata import stale_tags
from audioae.denoising.gains import choose_engine
from audioae.denoising.passes import Span
from audioae.denoising.settings import DenoiseSettings, check_denoise_settings
from audioae.denoising.tracks import (
    Target,
    TrackPlan,
    TrackResult,
    check_distinct,
    open_passes,
    plan_tracks,
    stamp_of,
    track_lines,
    track_result,
    track_warnings,
    write_tracks,
)
from audioae.denoising.verdict import Verdict
from audioae.engine import Engine, Quality, ready_engine
from audioae.errors import AudioFileError, SettingsError
from audioae.fields import as_path, check_settings

AnyPath = str | os.PathLike[str]
ClipMode = Literal["clamp", "rescale"]
LOWEST_LUFS, HIGHEST_LUFS = -70.0, 0.0  # range of `normalize_lufs`


@dataclass(frozen=True)
class FileJob:
    """A file to denoise, and all options that determine its output apart from the model.

    Args:
        src, dst: the input and the output.
        residual: output file for what is removed; None writes none.
        settings: the settings of the denoiser.
        overwrite: replace existing outputs.
        subtype, start, end, clip_mode, normalize_lufs, tracks: see `denoise_file`.

    Raises:
        SettingsError: an unknown clip mode or an impossible loudness.
    """

    src: Path
    dst: Path
    residual: Path | None = None
    settings: DenoiseSettings = field(default_factory=DenoiseSettings)
    overwrite: bool = False
    subtype: str | None = None
    start: float | None = None
    end: float | None = None
    clip_mode: ClipMode = "clamp"
    normalize_lufs: float | None = None
    tracks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_settings(self, {})
        lufs = self.normalize_lufs
        if lufs is not None and not LOWEST_LUFS <= lufs <= HIGHEST_LUFS:
            raise SettingsError(
                f"normalize_lufs is {lufs:g}; expected {LOWEST_LUFS:g} to {HIGHEST_LUFS:g}, "
                "such as -16 for speech"
            )

    @property
    def outputs(self) -> list[Path]:
        """The output, and the residual if there is one."""
        return [self.dst] if self.residual is None else [self.dst, self.residual]

    def file_options(self) -> dict[str, Any]:
        """The keywords of `denoise_file`, besides `settings`, that change the samples or the format
        of the output: those that differ from their defaults.
        """
        names = ("subtype", "start", "end", "clip_mode", "normalize_lufs", "tracks")
        usual = {each.name: each.default for each in dataclasses.fields(self)}
        asked = {name: getattr(self, name) for name in names}
        return {name: value for name, value in asked.items() if value != usual[name]}


@dataclass(frozen=True)
class FilePlan:
    """A job whose input and outputs were checked. Nothing is computed or written yet.

    Args:
        job: the job.
        source: format of the input.
        output: format of the output.
        residual_output: format of the residual; None without one.
        span: the samples to denoise.
        others: further audio tracks of a film that are denoised.
        warnings: what the output cannot keep of the input, one line each.
        stamp: size and time of the input when it was checked.
    """

    job: FileJob
    source: AudioInfo
    output: AudioInfo
    residual_output: AudioInfo | None
    span: Span
    others: tuple[TrackPlan, ...] = ()
    warnings: tuple[str, ...] = ()
    stamp: tuple[int, int] | None = None

    @property
    def tracks(self) -> tuple[TrackPlan, ...]:
        """All audio tracks that are denoised."""
        first = TrackPlan(self.source, self.output, self.residual_output, self.span)
        return (first, *self.others)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values."""
        paths = {name: getattr(self.job, name) for name in ("src", "dst", "residual")}
        form = {
            name: getattr(self.source, name)
            for name in ("sample_rate", "channels", "num_samples", "seconds")
        }
        output = {"container": self.output.container, "subtype": self.output.subtype}
        found = {"changes": self.changes, "warnings": list(self.warnings)}
        found["dropped_tags"] = stale_tags([each.output for each in self.tracks])
        numbers = [each.source.track + 1 for each in self.tracks]
        return _plain({**paths, **form, **output, **found, "tracks": numbers})

    @property
    def changes(self) -> dict[str, list[Any]]:
        """What differs in the coding of the output, see `TrackResult`."""
        return coding_changes(self.source, self.output)


@dataclass(frozen=True)
class FileResult:
    """The result of `denoise_file`.

    Args:
        src, dst, residual: the input and the outputs.
        sample_rate: Hz.
        channels: number of channels.
        num_samples: per channel.
        seconds: duration.
        container, subtype: format of the output, as libsndfile names it.
        num_clipped: number of output samples above full scale, which were clipped.
        model: name of the model.
        model_rate: sample rate of the model, Hz.
        quality: "fast" or "best".
        mean_attenuation_db: level of the input minus level of the output, in the denoised part.
        max_attenuation_db: the largest attenuation of a frame.
        real_time_factor: computing time per second of audio; 0 for an empty file.
        warnings: possible problems of the output, one line each.
        verdict: estimates without a reference.
        scale_db: gain of the whole output and residual, for `normalize_lufs` or `clip_mode`; 0
            unless one of them is used.
        changes: what differs in the coding of the output, `[before, after]`: "codec", and "bits"
            per sample.
        dropped_tags: names of tags that set the playback level, such as ReplayGain, which are not
            copied because the output was scaled.
        tracks: a result for each audio track, if the input is a film.

    Example:
        >>> import numpy as np, soundfile
        >>> soundfile.write("noisy.wav", np.random.default_rng(0).normal(0, 0.1, 16000), 16000)
        >>> result = denoise_file("noisy.wav", "enhanced.wav")
        >>> result.seconds, result.num_clipped, result.verdict.speech_kept <= 1
        (1.0, 0, True)
    """

    src: Path
    dst: Path
    residual: Path | None
    sample_rate: int
    channels: int
    num_samples: int
    seconds: float
    container: str
    subtype: str
    num_clipped: int
    model: str
    model_rate: int
    quality: Quality
    mean_attenuation_db: float
    max_attenuation_db: float
    real_time_factor: float
    warnings: tuple[str, ...] = ()
    verdict: Verdict | None = None
    scale_db: float = 0.0
    changes: dict[str, list[Any]] = field(default_factory=dict)
    dropped_tags: tuple[str, ...] = ()
    tracks: tuple[TrackResult, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return _plain(dataclasses.asdict(self))


def denoise_file(
    src: AnyPath,
    dst: AnyPath,
    *,
    model: str | Path | Engine | None = None,
    settings: DenoiseSettings | None = None,
    overwrite: bool = False,
    residual: AnyPath | None = None,
    subtype: str | None = None,
    start: float | None = None,
    end: float | None = None,
    clip_mode: ClipMode = "clamp",
    normalize_lufs: float | None = None,
    tracks: Sequence[str | int] = (),
    progress: Callable[[float], None] | None = None,
) -> FileResult:
    """Denoise a file.

    The output keeps the sample rate, channels, number of samples, container, bit depth and tags of
    the input, apart from the options below. Input and outputs are checked before the first sample
    is computed. The output appears under its name when it is complete.

    Args:
        src: the input file.
        dst: the output file.
        model: a name, a path or a loaded model; None is the default model.
        settings: None is full strength with linked channels in the quality "best".
        overwrite: replace existing outputs.
        residual: output file for what is removed. Output + residual = input, bit-exact for PCM. If
            the output is scaled (see below), the residual is scaled by the same factor, and the sum
            is the scaled input.
        subtype: sample format of the outputs, such as "PCM_24"; None is that of the input.
        start, end: seconds. Only this part is denoised, the rest is copied, bit-exact for PCM. None
            is the start or the end of the file.
        clip_mode: "clamp" clips samples above full scale; "rescale" lowers the whole output as far
            as needed, which takes a second pass.
        normalize_lufs: integrated loudness (ITU-R BS.1770) of the output, which takes a second
            pass; None keeps the level.
        tracks: audio tracks of a film to denoise: numbers from 1, or languages such as "eng".
            Empty is all tracks. The others are copied unchanged.
        progress: called after every block with the number of seconds done.

    Returns:
        What was done, with estimates of the quality of the recording.

    Raises:
        AudioFileError: `src` cannot be read, has an impossible sample rate, or contains NaN or
            infinite samples.
        OutputError: an output cannot be written, or exists already.
        SettingsError: impossible `start` and `end`, `clip_mode` or `normalize_lufs`.
        ModelNotFoundError: there is no such model.

    Example:
        >>> import numpy as np, soundfile
        >>> soundfile.write("noisy.flac", np.random.default_rng(0).normal(0, 0.1, 8000), 8000)
        >>> result = denoise_file("noisy.flac", "enhanced.flac", residual="noise.flac")
        >>> result.container, result.num_samples, result.quality
        ('FLAC', 8000, 'best')
    """
    if progress is not None and not callable(progress):
        raise SettingsError(
            f"progress has the type {type(progress).__name__}; expected a function or None"
        )
    job = FileJob(
        src=as_path(src, "src"),
        dst=as_path(dst, "dst"),
        residual=None if residual is None else as_path(residual, "residual"),
        settings=check_denoise_settings(settings),
        overwrite=overwrite,
        subtype=subtype,
        start=start,
        end=end,
        clip_mode=clip_mode,
        normalize_lufs=normalize_lufs,
        tracks=tuple(map(str, tracks)),
    )
    return run_plan(plan_file(job), ready_engine(model), progress=progress)


def plan_file(job: FileJob, *, try_folders: bool = True) -> FilePlan:
    """Check the input and outputs of a job, not its samples. For `try_folders` see `check_output`.

    Raises:
        AudioFileError, OutputError, SettingsError: see `denoise_file`.
    """
    check_distinct({"input": job.src, "output": job.dst, "residual": job.residual})
    stamp = stamp_of(job.src)
    tracks = plan_tracks(
        job.src,
        job.outputs,
        job.tracks,
        overwrite=job.overwrite,
        subtype=job.subtype,
        start=job.start,
        end=job.end,
        try_folders=try_folders,
    )
    if job.normalize_lufs is not None:
        tracks = [each.rescaled() for each in tracks]
    first = tracks[0]
    return FilePlan(
        job,
        first.source,
        first.output,
        first.residual,
        first.span,
        tuple(tracks[1:]),
        track_warnings(tracks),
        stamp,
    )


def run_plan(
    plan: FilePlan, engine: Engine, *, progress: Callable[[float], None] | None = None
) -> FileResult:
    """Denoise a file that was checked by `plan_file`; for `progress` see `denoise_file`."""
    started, job = time.perf_counter(), plan.job
    if plan.stamp != stamp_of(job.src):  # the folder may have been synchronised since
        plan = plan_file(job)
    tracks = plan.tracks

    def check() -> None:
        if plan.stamp != stamp_of(job.src):
            raise AudioFileError(f"{job.src} has changed while it was denoised; run it again")

    residual = None
    if job.residual is not None and plan.residual_output is not None:
        forms = tuple(each.residual for each in tracks if each.residual is not None)
        residual = Target(job.residual, forms if holds_tracks(job.residual) else forms[:1])
    with ExitStack() as stack:
        passes = open_passes(stack, job.src, tracks, engine, job.settings, progress)
        scales = [
            each.find_scale(
                track.output,
                rescale=job.clip_mode == "rescale",
                normalize_lufs=job.normalize_lufs,
            )
            for each, track in zip(passes, tracks, strict=True)
        ]
        tracks = tuple(
            track if scale.factor == 1 else track.rescaled()
            for track, scale in zip(tracks, scales, strict=True)
        )
        results = write_tracks(
            passes,
            Target(job.dst, tuple(each.output for each in tracks)),
            residual,
            overwrite=job.overwrite,
            scales=[each.factor for each in scales],
            check=check,
        )
    engine = choose_engine(engine, plan.source.sample_rate, job.settings.quality)
    done = results[0]
    films = [
        track_result(track, result.num_samples, result.verdict.mean_attenuation_db)
        for track, result in zip(tracks, results, strict=True)
    ]
    seconds = done.num_samples / plan.source.sample_rate
    elapsed = time.perf_counter() - started
    return FileResult(
        src=job.src,
        dst=job.dst,
        residual=job.residual,
        sample_rate=plan.source.sample_rate,
        channels=plan.source.channels,
        num_samples=done.num_samples,
        seconds=seconds,
        container=plan.output.container,
        subtype=plan.output.subtype,
        num_clipped=done.num_clipped,
        model=engine.info.name,
        model_rate=engine.info.stft.sample_rate,
        quality=job.settings.quality,
        mean_attenuation_db=done.verdict.mean_attenuation_db,
        max_attenuation_db=done.verdict.max_attenuation_db,
        real_time_factor=elapsed / seconds if seconds else 0.0,
        warnings=tuple(dict.fromkeys((*track_lines(tracks, results, scales), *plan.warnings))),
        verdict=done.verdict,
        scale_db=20 * math.log10(scales[0].factor),
        changes=plan.changes,
        dropped_tags=tuple(stale_tags([each.output for each in tracks])),
        tracks=tuple(each for each in films if each is not None),
    )


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: str(value) if isinstance(value, Path) else value for name, value in values.items()
    }
