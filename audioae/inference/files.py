"""Clean a file block by block into another one like it: memory does not grow with length, and nothing half written is left."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audioae.audio import AudioInfo, AudioReader, AudioWriter, check_output, info
from audioae.engine import Engine
from audioae.errors import AudioFileError, OutputError
from audioae.inference.arrays import ready_engine
from audioae.inference.settings import DenoiseSettings
from audioae.inference.stream import Stream, find_bad, piece_length
from audioae.spectrogram import Array

AnyPath = str | os.PathLike[str]


@dataclass(frozen=True)
class FilePlan:
    """One file's work, checked and not begun.

    Args:
        source: what `src` is; output: what `dst` will be; residual_output: what `residual` will be.
    """

    src: Path
    dst: Path
    source: AudioInfo
    output: AudioInfo
    residual: Path | None = None
    residual_output: AudioInfo | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON takes them."""
        paths = {"src": self.src, "dst": self.dst, "residual": self.residual}
        form = {name: getattr(self.source, name) for name in ("sample_rate", "channels", "frames", "seconds")}
        return _plain({**paths, **form, "container": self.output.container, "subtype": self.output.subtype})


@dataclass(frozen=True)
class FileResult:
    """What became of one file.

    Args:
        frames: samples per channel, in and out; seconds: the same in time.
        container, subtype: of the output, as libsndfile names them.
        num_clipped: samples of the output that were beyond full scale and clamped.
        model: its name; model_rate: its sample rate, Hz.
        mean_attenuation_db: level in over level out, of the whole file; max_attenuation_db: the most that any frame lost.
        real_time_factor: seconds of work per second of audio; 0 for a file of no samples.
        warnings: what a listener should know, one line each.
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
    progress: Callable[[float], None] | None = None,
) -> FileResult:
    """Clean `src` into `dst`, which keeps its sample rate, channels, number of samples, container, bit depth and tags.

    Both are checked before the first sample is computed. The output appears under its name when it is complete, not before.

    Args:
        model: a name, a path or a loaded model; None is the default model.
        overwrite: replace `dst` (and `residual`) when they exist.
        residual: a file for what was taken away; output + residual = input, sample by sample.
        subtype: of the outputs, such as "PCM_24", in place of the input's.
        progress: called with the seconds of audio that are done, after every block.

    Raises:
        AudioFileError: `src` cannot be read as audio, or holds NaN or infinite samples.
        OutputError: an output cannot or must not be written.
        ModelNotFoundError: no such model.
    """
    plan = plan_file(src, dst, overwrite=overwrite, residual=residual, subtype=subtype)
    return run_plan(plan, ready_engine(model), settings=settings, overwrite=overwrite, progress=progress)


def plan_file(
    src: AnyPath, dst: AnyPath, *, overwrite: bool = False, residual: AnyPath | None = None, subtype: str | None = None
) -> FilePlan:
    """Check one file's input and outputs as far as that goes without reading samples; raises what `denoise_file` raises."""
    src, dst, residual = Path(src), Path(dst), None if residual is None else Path(residual)
    source = info(src)
    _check_distinct({"input": src, "output": dst, "residual": residual})
    output = check_output(dst, overwrite=overwrite, like=source, subtype=subtype)
    residual_output = None if residual is None else check_output(residual, overwrite=overwrite, like=source, subtype=subtype)
    return FilePlan(src, dst, source, output, residual, residual_output)


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
    with ExitStack() as stack:
        reader = stack.enter_context(AudioReader(plan.src))
        writer = stack.enter_context(AudioWriter(plan.dst, plan.output, overwrite=overwrite))
        residual = None
        if plan.residual is not None and plan.residual_output is not None:
            residual = stack.enter_context(AudioWriter(plan.residual, plan.residual_output, overwrite=overwrite))
        stream = Stream(engine, plan.source.sample_rate, plan.source.channels, settings)
        frames = _pump(reader, stream, writer, residual, progress)
    seconds = frames / plan.source.sample_rate
    return FileResult(
        src=plan.src,
        dst=plan.dst,
        residual=plan.residual,
        sample_rate=plan.source.sample_rate,
        channels=plan.source.channels,
        frames=frames,
        seconds=seconds,
        container=plan.output.container,
        subtype=plan.output.subtype,
        num_clipped=writer.num_clipped,
        model=engine.info.name,
        model_rate=engine.info.stft.sample_rate,
        mean_attenuation_db=stream.attenuation.mean_db,
        max_attenuation_db=stream.attenuation.max_db,
        real_time_factor=(time.perf_counter() - started) / seconds if seconds else 0.0,
        warnings=_warnings(writer, residual),
    )


def _pump(
    reader: AudioReader, stream: Stream, writer: AudioWriter, residual: AudioWriter | None, progress: Callable[[float], None] | None
) -> int:
    """Take the file through the stream; the number of samples that came in, which is that of those that went out."""
    length = piece_length(stream.sample_rate, stream.channels)
    frames, last = 0, False
    while not last:
        block = reader.read(length)
        last = block.shape[-1] == 0
        _check_samples(block, reader.path, frames)
        frames += block.shape[-1]
        enhanced, noisy = stream.process(block, last=last)
        writer.write(enhanced)
        if residual is not None:
            residual.write(noisy - enhanced)
        if progress is not None:
            progress(frames / stream.sample_rate)
    return frames


def _check_samples(block: Array, path: Path, start: int) -> None:
    if (place := find_bad(block)) is not None:
        channel, sample = place
        what = f"sample {start + sample} of channel {channel} is {block[place]:g}"
        raise AudioFileError(f"{path} cannot be cleaned: {what}; expected finite numbers around -1..1")


def _check_distinct(paths: dict[str, Path | None]) -> None:
    """Raise `OutputError` when two of them are one file, by whatever name; the first is the input."""
    known = [(name, path) for name, path in paths.items() if path is not None]
    for index, (name, path) in enumerate(known):
        for other_name, other in known[index + 1 :]:
            if path.resolve() == other.resolve() or (path.exists() and other.exists() and path.samefile(other)):
                raise OutputError(f"{other} is the {name} as well as the {other_name}; give the {other_name} a name of its own")
    for name, path in known[1:]:  # a writer takes over what has its temporary name, as left by a killed run
        if known[0][1].resolve() == path.resolve().with_name(f"{path.resolve().name}.part"):
            raise OutputError(f"{known[0][1]} is what {path} is called while it is written; give the {name} another name")


def _warnings(writer: AudioWriter, residual: AudioWriter | None) -> tuple[str, ...]:
    """What a listener should know: what was clamped, and what of the input the container could not keep."""
    clipped = {"output": writer.num_clipped, "residual": residual.num_clipped if residual else 0}
    clamped = (f"{number} samples of the {name} were beyond full scale and were clamped" for name, number in clipped.items() if number)
    return *clamped, *(f"not kept: {what}" for what in writer.lost)


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
