"""Clean a file block by block into another one like it: memory does not grow with length, and
nothing half written is left.
"""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from audioae.audio import AudioInfo, check_output, info
from audioae.denoising.arrays import ready_engine
from audioae.denoising.passes import Passes, Span
from audioae.denoising.settings import DenoiseSettings
from audioae.denoising.stream import HIGHEST_RATE, LOWEST_RATE
from audioae.denoising.verdict import Verdict
from audioae.engine import Engine
from audioae.errors import AudioFileError, OutputError, SettingsError, nearest
from audioae.storage import temporary_path

AnyPath = str | os.PathLike[str]
ClipMode = Literal["clamp", "rescale"]
QUIETEST_LUFS, LOUDEST_LUFS = -70.0, 0.0  # of what a recording may be normalised to


@dataclass(frozen=True)
class FilePlan:
    """One file's work, checked and not begun.

    Args:
        source: what `src` is; output: what `dst` will be; residual_output: what `residual` will be.
        span: the samples that are cleaned; clip_mode, normalize_lufs: as `denoise_file` takes them.
    """

    src: Path
    dst: Path
    source: AudioInfo
    output: AudioInfo
    residual: Path | None = None
    residual_output: AudioInfo | None = None
    span: Span | None = None
    clip_mode: ClipMode = "clamp"
    normalize_lufs: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON takes them."""
        paths = {"src": self.src, "dst": self.dst, "residual": self.residual}
        form = {
            name: getattr(self.source, name)
            for name in ("sample_rate", "channels", "frames", "seconds")
        }
        return _plain(
            {**paths, **form, "container": self.output.container, "subtype": self.output.subtype}
        )


@dataclass(frozen=True)
class FileResult:
    """What became of one file.

    Args:
        frames: samples per channel, in and out; seconds: the same in time.
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
    frames: int
    seconds: float
    container: str
    subtype: str
    num_clipped: int
    model: str
    model_rate: int
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
    plan = plan_file(
        src,
        dst,
        overwrite=overwrite,
        residual=residual,
        subtype=subtype,
        start=start,
        end=end,
        clip_mode=clip_mode,
        normalize_lufs=normalize_lufs,
    )
    return run_plan(
        plan, ready_engine(model), settings=settings, overwrite=overwrite, progress=progress
    )


def plan_file(
    src: AnyPath,
    dst: AnyPath,
    *,
    overwrite: bool = False,
    residual: AnyPath | None = None,
    subtype: str | None = None,
    start: float | None = None,
    end: float | None = None,
    clip_mode: ClipMode = "clamp",
    normalize_lufs: float | None = None,
) -> FilePlan:
    """Check one file's input and outputs as far as that goes without reading samples; takes and
    raises what `denoise_file` does.
    """
    src, dst, residual = Path(src), Path(dst), None if residual is None else Path(residual)
    _check_options(clip_mode, normalize_lufs)
    source = info(src)
    if not LOWEST_RATE <= source.sample_rate <= HIGHEST_RATE:
        raise AudioFileError(
            f"{src} tells a sample rate of {source.sample_rate} Hz; expected 100 Hz to 10 MHz: "
            "is its header damaged?"
        )
    _check_distinct({"input": src, "output": dst, "residual": residual})
    span = Span.of(source, start, end)
    output = check_output(dst, overwrite=overwrite, like=source, subtype=subtype)
    residual_output = (
        None
        if residual is None
        else check_output(residual, overwrite=overwrite, like=source, subtype=subtype)
    )
    return FilePlan(
        src, dst, source, output, residual, residual_output, span, clip_mode, normalize_lufs
    )


def run_plan(
    plan: FilePlan,
    engine: Engine,
    *,
    settings: DenoiseSettings | None = None,
    overwrite: bool = False,
    progress: Callable[[float], None] | None = None,
) -> FileResult:
    """Do what was planned; see `denoise_file`."""
    started = time.perf_counter()
    span = plan.span or Span(0, plan.source.frames, plan.source.frames)
    passes = Passes(plan.src, span, engine, settings or DenoiseSettings(), progress)
    scale = passes.find_scale(
        plan.output, rescale=plan.clip_mode == "rescale", normalize_lufs=plan.normalize_lufs
    )
    residual = (
        None
        if plan.residual is None or plan.residual_output is None
        else (plan.residual, plan.residual_output)
    )
    done = passes.write((plan.dst, plan.output), residual, overwrite=overwrite, scale=scale.factor)
    return FileResult(
        src=plan.src,
        dst=plan.dst,
        residual=plan.residual,
        sample_rate=plan.source.sample_rate,
        channels=plan.source.channels,
        frames=done.frames,
        seconds=done.frames / plan.source.sample_rate,
        container=plan.output.container,
        subtype=plan.output.subtype,
        num_clipped=done.num_clipped,
        model=engine.info.name,
        model_rate=engine.info.stft.sample_rate,
        mean_attenuation_db=done.verdict.mean_attenuation_db,
        max_attenuation_db=done.verdict.max_attenuation_db,
        real_time_factor=(time.perf_counter() - started) * plan.source.sample_rate / done.frames
        if done.frames
        else 0.0,
        warnings=(*done.verdict.warnings, *scale.warnings, *done.warnings),
        verdict=done.verdict,
        scale_db=20 * math.log10(scale.factor),
    )


def _check_options(clip_mode: str, normalize_lufs: float | None) -> None:
    known = get_args(ClipMode)
    if clip_mode not in known:
        raise SettingsError(
            f"clip_mode is {clip_mode!r}; expected one of "
            f"{', '.join(known)}{nearest(str(clip_mode), known)}"
        )
    if normalize_lufs is not None and not QUIETEST_LUFS <= normalize_lufs <= LOUDEST_LUFS:
        raise SettingsError(
            f"normalize_lufs is {normalize_lufs:g}; expected {QUIETEST_LUFS:g} to "
            f"{LOUDEST_LUFS:g}, such as -16 for speech"
        )


def _check_distinct(paths: Mapping[str, Path | None]) -> None:
    """Raise `OutputError` when two of them are one file, by whatever name; the first is the input."""
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
