"""Clean a file block by block into another one like it: memory does not grow with length, and
nothing half written is left.
"""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from audioae.audio import AudioInfo, check_output, info
from audioae.denoising.arrays import ready_engine
from audioae.denoising.passes import Passes, Span
from audioae.denoising.settings import DenoiseSettings
from audioae.denoising.stream import HIGHEST_RATE, LOWEST_RATE
from audioae.denoising.verdict import Verdict
from audioae.engine import Engine, Quality, choose_engine
from audioae.errors import AudioFileError, OutputError, SettingsError, nearest
from audioae.storage import temporary_path

AnyPath = str | os.PathLike[str]
ClipMode = Literal["clamp", "rescale"]
QUIETEST_LUFS, LOUDEST_LUFS = -70.0, 0.0  # of what a recording may be normalised to


@dataclass(frozen=True)
class FileJob:
    """One file to denoise, and everything that decides on its output apart from the model.

    Args:
        src, dst: the input and the output.
        residual: where to write what is removed; None writes no residual.
        settings: how strongly to denoise.
        overwrite: replace outputs that exist.
        subtype, start, end, clip_mode, normalize_lufs: see `denoise_file`.

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

    def __post_init__(self) -> None:
        known = get_args(ClipMode)
        if self.clip_mode not in known:
            raise SettingsError(
                f"clip_mode is {self.clip_mode!r}; expected one of "
                f"{', '.join(known)}{nearest(str(self.clip_mode), known)}"
            )
        lufs = self.normalize_lufs
        if lufs is not None and not QUIETEST_LUFS <= lufs <= LOUDEST_LUFS:
            raise SettingsError(
                f"normalize_lufs is {lufs:g}; expected {QUIETEST_LUFS:g} to {LOUDEST_LUFS:g}, "
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
        names = ("subtype", "start", "end", "clip_mode", "normalize_lufs")
        usual = {each.name: each.default for each in dataclasses.fields(self)}
        asked = {name: getattr(self, name) for name in names}
        return {name: value for name, value in asked.items() if value != usual[name]}


@dataclass(frozen=True)
class FilePlan:
    """A job whose input and outputs are checked; nothing is computed or written yet.

    Args:
        source: format of the input; output, residual_output: formats of the outputs.
        span: the samples to denoise.
    """

    job: FileJob
    source: AudioInfo
    output: AudioInfo
    residual_output: AudioInfo | None
    span: Span

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON takes them."""
        paths = {name: getattr(self.job, name) for name in ("src", "dst", "residual")}
        form = {
            name: getattr(self.source, name)
            for name in ("sample_rate", "channels", "num_samples", "seconds")
        }
        return _plain(
            {**paths, **form, "container": self.output.container, "subtype": self.output.subtype}
        )


@dataclass(frozen=True)
class FileResult:
    """What became of one file.

    Args:
        num_samples: samples per channel, in and out; seconds: the same in time.
        container, subtype: of the output, as libsndfile names them.
        num_clipped: samples of the output that were beyond full scale and clamped.
        model: its name; model_rate: its sample rate, Hz.
        mean_attenuation_db: level in over level out, of all that was cleaned; max_attenuation_db:
            the most that any frame lost.
        real_time_factor: seconds of work per second of audio; 0 for a file of no samples.
        warnings: what a listener should know, one line each.
        verdict: what can be said of it without a reference.
        scale_db: by how much the whole output (and residual) was scaled, for a loudness or against
            clipping; 0 unless asked.
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

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON takes them."""
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
    progress: Callable[[float], None] | None = None,
) -> FileResult:
    """Clean `src` into `dst`, which keeps its sample rate, channels, number of samples, container,
    bit depth and tags.

    Both are checked before the first sample is computed. The output appears under its name when it
    is complete, not before.

    Args:
        model: a name, a path or a loaded model; None is the default model.
        overwrite: replace `dst` (and `residual`) when they exist.
        residual: a file for what was taken away; output + residual = input, sample by sample and
            for PCM bit by bit. Where the whole output was scaled (see below), the residual is
            scaled alike and the sum is the scaled input.
        subtype: of the outputs, such as "PCM_24", in place of the input's.
        start, end: seconds; only that stretch is cleaned, the rest passes untouched, for PCM bit by
            bit. None is the file's start or end.
        clip_mode: "clamp" holds samples beyond full scale at it; "rescale" lowers the whole file
            instead, only if it would clip and as little as needed, at the price of a second pass.
        normalize_lufs: integrated loudness (ITU-R BS.1770) that the whole output is scaled to;
            takes a second pass. None keeps the level.
        progress: called with the seconds of audio that are done, after every block.

    Raises:
        AudioFileError: `src` cannot be read as audio, tells an impossible sample rate, or holds NaN
            or infinite samples.
        OutputError: an output cannot or must not be written.
        SettingsError: an impossible stretch, clip mode or loudness.
        ModelNotFoundError: no such model.
    """
    job = FileJob(
        src=Path(src),
        dst=Path(dst),
        residual=None if residual is None else Path(residual),
        settings=settings or DenoiseSettings(),
        overwrite=overwrite,
        subtype=subtype,
        start=start,
        end=end,
        clip_mode=clip_mode,
        normalize_lufs=normalize_lufs,
    )
    return run_plan(plan_file(job), ready_engine(model), progress=progress)


def plan_file(job: FileJob) -> FilePlan:
    """Check the input and the outputs of a job without reading samples.

    Raises:
        AudioFileError, OutputError, SettingsError: as `denoise_file`.
    """
    source = info(job.src)
    if not LOWEST_RATE <= source.sample_rate <= HIGHEST_RATE:
        raise AudioFileError(
            f"{job.src} has a sample rate of {source.sample_rate} Hz; expected 100 Hz to 10 MHz: "
            "is its header damaged?"
        )
    _check_distinct({"input": job.src, "output": job.dst, "residual": job.residual})
    span = Span.of(source, job.start, job.end)
    forms = [
        check_output(path, overwrite=job.overwrite, like=source, subtype=job.subtype)
        for path in job.outputs
    ]
    return FilePlan(job, source, forms[0], forms[1] if job.residual else None, span)


def run_plan(
    plan: FilePlan, engine: Engine, *, progress: Callable[[float], None] | None = None
) -> FileResult:
    """Denoise a file that `plan_file` has checked; `progress` as in `denoise_file`."""
    started, job = time.perf_counter(), plan.job
    engine = choose_engine(engine, plan.source.sample_rate, job.settings.quality)
    passes = Passes(job.src, plan.span, engine, job.settings, progress)
    scale = passes.find_scale(
        plan.output, rescale=job.clip_mode == "rescale", normalize_lufs=job.normalize_lufs
    )
    residual = None
    if job.residual is not None and plan.residual_output is not None:
        residual = job.residual, plan.residual_output
    done = passes.write(
        (job.dst, plan.output), residual, overwrite=job.overwrite, scale=scale.factor
    )
    return FileResult(
        src=job.src,
        dst=job.dst,
        residual=job.residual,
        sample_rate=plan.source.sample_rate,
        channels=plan.source.channels,
        num_samples=done.num_samples,
        seconds=done.num_samples / plan.source.sample_rate,
        container=plan.output.container,
        subtype=plan.output.subtype,
        num_clipped=done.num_clipped,
        model=engine.info.name,
        model_rate=engine.info.stft.sample_rate,
        quality=job.settings.quality,
        mean_attenuation_db=done.verdict.mean_attenuation_db,
        max_attenuation_db=done.verdict.max_attenuation_db,
        real_time_factor=(time.perf_counter() - started)
        * plan.source.sample_rate
        / done.num_samples
        if done.num_samples
        else 0.0,
        warnings=(*done.verdict.warnings, *scale.warnings, *done.warnings),
        verdict=done.verdict,
        scale_db=20 * math.log10(scale.factor),
    )


def _check_distinct(paths: Mapping[str, Path | None]) -> None:
    """Raise `OutputError` if two of the paths are the same file. The first is the input."""
    known = [(name, path) for name, path in paths.items() if path is not None]
    for index, (name, path) in enumerate(known):
        for other_name, other in known[index + 1 :]:
            if path.resolve() == other.resolve() or (
                path.exists() and other.exists() and path.samefile(other)
            ):
                raise OutputError(
                    f"{other} is the {name} as well as the {other_name}; give the {other_name} a "
                    "name of its own"
                )
    for name, path in known[
        1:
    ]:  # a writer takes over what has its temporary name, as left by a killed run
        if known[0][1].resolve() == temporary_path(path):
            raise OutputError(
                f"{known[0][1]} is what {path} is called while it is written; give the {name} "
                "another name"
            )


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: str(value) if isinstance(value, Path) else value for name, value in values.items()
    }
