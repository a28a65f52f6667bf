"""The audio tracks of a file: which are denoised, and how they are written to one output.

Most files have one; films may have several.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from audioae.audio import AudioInfo, AudioWriter, check_output, info, media
from audioae.audio.encoders import holds_tracks
from audioae.audio.formats import coding_changes
from audioae.audio.media import TrackHead
from audioae.audio.metadata import find_losses
from audioae.audio.quantise import BITS, quantise
from audioae.denoising.gains import choose_engine
from audioae.denoising.passes import Passes, Samples, Scale, Span
from audioae.denoising.settings import DenoiseSettings
from audioae.denoising.stream import HIGHEST_RATE, LOWEST_RATE
from audioae.denoising.verdict import Verdict
from audioae.engine import Engine
from audioae.errors import AudioFileError, DependencyError, OutputError, SettingsError


@dataclass(frozen=True)
class TrackPlan:
    """A track that was checked.

    Args:
        source: format of the input.
        output: format of the output.
        residual: format of the residual; None without one.
        span: the samples to denoise.
    """

    source: AudioInfo
    output: AudioInfo
    residual: AudioInfo | None
    span: Span

    def rescaled(self) -> TrackPlan:
        """The plan for an output with another level than the source."""
        return replace(self, output=replace(self.output, level_changed=True))


@dataclass(frozen=True)
class TrackResult:
    """The result for one audio track of a film.

    Args:
        number: of the track among the audio tracks, from 1.
        language: its code, such as "eng"; empty if the file does not tell.
        sample_rate: Hz.
        channels: number of channels.
        num_samples: per channel.
        start: time of the first sample in the input, seconds.
        gap_seconds: total length of gaps in the input, which are silent in the output.
        subtype: encoding of the output.
        changes: what differs from the input, `[before, after]`: "codec", and "bits" per sample.
        mean_attenuation_db: level of the input minus level of the output, in the denoised part.
    """

    number: int
    language: str
    sample_rate: int
    channels: int
    num_samples: int
    start: float
    gap_seconds: float
    subtype: str
    changes: dict[str, list[Any]] = field(default_factory=dict)
    mean_attenuation_db: float = 0.0


@dataclass(frozen=True)
class WriteResult:
    """The result of the pass that writes the output."""

    num_samples: int
    num_clipped: int
    verdict: Verdict
    warnings: tuple[str, ...]


def select_tracks(src: Path, dst: Path, wanted: Sequence[str]) -> list[int]:
    """The audio tracks to denoise, from 0.

    Args:
        src: the input.
        dst: the output. A film keeps all tracks; other files hold one: the default track.
        wanted: numbers of tracks from 1, or languages; empty is all tracks.

    Raises:
        SettingsError: there is no such track, or several are chosen and the output holds one.
    """
    tracks = _list_tracks(src)
    chosen = [each.number for each in tracks if each.is_known]
    for word in wanted:
        if not any(each.is_named(word) for each in tracks):
            known = ", ".join(f"{each.number + 1} {each.language}".strip() for each in tracks)
            raise SettingsError(
                f"{src} has no audio track {word!r}; expected a number or a language of {known}"
            )
    if wanted:
        chosen = [each.number for each in tracks if any(each.is_named(word) for word in wanted)]
    if holds_tracks(dst) or len(chosen) <= 1:
        return chosen or [0]
    if wanted:
        raise SettingsError(
            f"{dst} holds one audio track, --track chooses {len(chosen)}; choose one, or write "
            ".mkv or .mp4"
        )
    return [next((each.number for each in tracks if each.is_default), chosen[0])]


def _only_track(src: Path) -> AudioInfo | None:
    """The form of a file that libsndfile reads, which has one track; None for others."""
    with suppress(AudioFileError, DependencyError):  # of the first track; others may be readable
        return form if (form := info(src)).is_native else None
    return None


def _list_tracks(src: Path) -> list[TrackHead]:
    if _only_track(src):
        return [TrackHead(0)]
    try:
        return media.list_tracks(src)
    except OSError as error:
        raise AudioFileError(f"cannot read {src}: {error.strerror or error}") from error


def plan_tracks(
    src: Path,
    outputs: Sequence[Path],
    wanted: Sequence[str],
    *,
    overwrite: bool,
    subtype: str | None,
    start: float | None,
    end: float | None,
    try_folders: bool = True,
) -> list[TrackPlan]:
    """Check the tracks of an input and of its outputs.

    Args:
        src: the input.
        outputs: the output, and the residual if there is one.
        wanted: see `select_tracks`.
        overwrite, subtype, start, end: see `denoise_file`.
        try_folders: see `check_output`.
    """
    plans, known = [], None if wanted else _only_track(src)
    for track in [0] if known else select_tracks(src, outputs[0], wanted):
        source = known or info(src, track=track)
        if not LOWEST_RATE <= source.sample_rate <= HIGHEST_RATE:
            raise AudioFileError(
                f"{src} has a sample rate of {source.sample_rate} Hz; expected 100 Hz to 10 MHz: "
                "is its header damaged?"
            )
        forms = [
            check_output(
                path, overwrite=overwrite, like=source, subtype=subtype, try_folder=try_folders
            )
            for path in outputs
        ]
        residual = replace(forms[1], level_changed=True) if len(forms) > 1 else None
        plans.append(TrackPlan(source, forms[0], residual, Span.of(source, start, end)))
    return plans


def track_warnings(plans: Sequence[TrackPlan]) -> tuple[str, ...]:
    """What the output cannot keep, and gaps of the input, one line each."""
    missing = [f"not kept: {what}" for what in find_losses([each.output for each in plans])]
    gaps = []
    for each in plans:
        track = None if each.source.is_native else media.track_of(each.source)
        if track is not None and track.gap_seconds:
            gaps.append(
                f"{track.gap_seconds:.3f} s of audio track {each.source.track + 1} are missing; "
                "they are silent in the output, so that the rest keeps its time"
            )
    return (*missing, *gaps)


def track_result(
    plan: TrackPlan, num_samples: int, mean_attenuation_db: float
) -> TrackResult | None:
    """The result for a track of a film; None for other inputs."""
    track = None if plan.source.is_native else media.track_of(plan.source)
    if track is None:
        return None
    return TrackResult(
        number=plan.source.track + 1,
        language=track.language,
        sample_rate=plan.source.sample_rate,
        channels=plan.source.channels,
        num_samples=num_samples,
        start=track.start,
        gap_seconds=track.gap_seconds,
        subtype=plan.output.subtype,
        changes=coding_changes(plan.source, plan.output),
        mean_attenuation_db=mean_attenuation_db,
    )


@dataclass(frozen=True)
class Target:
    """A file to write.

    Args:
        path: of the file.
        forms: the formats of its audio tracks, one for each that is denoised.
    """

    path: Path
    forms: tuple[AudioInfo, ...]

    def open(self, *, overwrite: bool) -> AudioWriter:
        """The writer; see `AudioWriter`."""
        return AudioWriter(self.path, self.forms[0], overwrite=overwrite, others=self.forms[1:])


def open_passes(
    stack: ExitStack,
    src: Path,
    plans: Sequence[TrackPlan],
    engine: Engine,
    settings: DenoiseSettings,
    progress: Callable[[float], None] | None,
) -> list[Passes]:
    """The passes over each track of a file, which `stack` closes. `progress` gets the mean of the
    seconds done.
    """
    done = [0.0] * len(plans)

    def advance(track: int, seconds: float) -> None:
        done[track] = seconds
        if progress is not None:
            progress(sum(done) / len(done))

    return [
        stack.enter_context(
            Passes(
                src,
                each.span,
                choose_engine(engine, each.source.sample_rate, settings.quality),
                settings,
                partial(advance, number),
                each.source.track,
            )
        )
        for number, each in enumerate(plans)
    ]


def track_lines(
    plans: Sequence[TrackPlan], results: Sequence[WriteResult], scales: Sequence[Scale]
) -> list[str]:
    """The warnings about all tracks, which are named if there are several."""
    lines = []
    for plan, result, scale in zip(plans, results, scales, strict=True):
        name = f"audio track {plan.source.track + 1}: " if len(plans) > 1 else ""
        own = (*result.verdict.warnings, *scale.warnings)
        lines += [f"{name}{line}" for line in own]
    return [*lines, *results[0].warnings]


def write_tracks(
    passes: Sequence[Passes],
    output: Target,
    residual: Target | None,
    *,
    overwrite: bool,
    scales: Sequence[float],
    check: Callable[[], None] = lambda: None,
) -> list[WriteResult]:
    """Denoise the tracks of a file and write the output and the residual.

    The residual is the input minus the output as it is written, rounded and clipped. Several tracks
    are denoised in turns, so that what has to be held does not depend on the length of the file.

    Args:
        passes: one for each track.
        output, residual: the files. A residual that holds fewer tracks has the first ones.
        overwrite: replace existing files.
        scales: factor for each track, in both files.
        check: called before the files get their names; an error keeps them from it.

    Returns:
        A result for each track; the first has the clipped samples and the warnings of all.
    """
    num_samples, seconds = [0] * len(passes), [0.0] * len(passes)
    with ExitStack() as stack:
        writer = stack.enter_context(output.open(overwrite=overwrite))
        rest, kept = None, 0
        if residual is not None:
            rest = stack.enter_context(residual.open(overwrite=overwrite))
            kept = len(residual.forms)
        streams = [each.stream() for each in passes]
        sources = {
            track: each.blocks(stream)
            for track, (each, stream) in enumerate(zip(passes, streams, strict=True))
        }
        while sources:
            track = min(sources, key=seconds.__getitem__)
            if (pair := next(sources[track], None)) is None:
                del sources[track]
                continue
            (enhanced, noisy), scale = pair, np.float32(scales[track])
            scaled = enhanced if scale == 1 else enhanced * scale
            writer.write(scaled, track)
            if rest is not None and track < kept:
                written = _as_written(scaled, output.forms[track].subtype)
                rest.write((noisy if scale == 1 else noisy * scale) - written, track)
            num_samples[track] += noisy.shape[-1]
            seconds[track] = num_samples[track] / streams[track].sample_rate
        check()
    results: list[WriteResult] = []
    for count, stream in zip(num_samples, streams, strict=True):
        assert stream.verdict is not None
        is_first = not results
        clipped, lines = (writer.num_clipped, _warnings(writer, rest)) if is_first else (0, ())
        results.append(WriteResult(count, clipped, stream.verdict, lines))
    return results


def _as_written(block: Samples, subtype: str) -> Samples:
    """The samples as they are written in a subtype: rounded and clipped, except for floats."""
    codes, _ = quantise(block, subtype)
    return codes.T / 2.0**31 if subtype in BITS else block


def _warnings(writer: AudioWriter, residual: AudioWriter | None) -> tuple[str, ...]:
    """Warnings about clipping, and about metadata that the container cannot hold."""
    clipped = {"output": writer.num_clipped, "residual": residual.num_clipped if residual else 0}
    clamped = (
        f"{number} samples of the {name} were above full scale and were clipped"
        for name, number in clipped.items()
        if number
    )
    return *clamped, *(f"not kept: {what}" for what in writer.lost)


def check_distinct(paths: Mapping[str, Path | None]) -> None:
    """Raise `OutputError` if two of the paths are the same file. The first is the input."""
    known = [(name, path) for name, path in paths.items() if path is not None]
    for index, (name, path) in enumerate(known):
        for other_name, other in known[index + 1 :]:
            if os.path.exists(path) and not os.path.lexists(other):
                continue
            if _place(path) == _place(other) or (
                os.path.exists(path) and os.path.exists(other) and os.path.samefile(path, other)
            ):
                raise OutputError(
                    f"{other} is both the {name} and the {other_name}; choose another name for the "
                    f"{other_name}"
                )


def stamp_of(path: Path) -> tuple[int, int] | None:
    """The size and the time of the last change of a file; None if it is not there."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_size, state.st_mtime_ns


def _place(path: Path) -> Path:
    """The path with all links resolved. A loop of links stays; `Path.resolve` would raise."""
    return Path(os.path.realpath(path))
