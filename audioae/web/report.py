"""Measure a recording, or a recording and its denoised version, and write the page of a report."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from audioae.denoising import Verdict
from audioae.errors import OutputError
from audioae.fields import build, parse_json
from audioae.signal.loudness import Meter
from audioae.storage import AtomicFile, output_errors
from audioae.web import encoding, page
from audioae.web.columns import decibels
from audioae.web.measuring import Measured, measure
from audioae.web.origin import Provenance

MOST_LEVELS = 3000
TILE = 2048  # columns of an image
RANGE_DB = 80.0  # of the spectrogram, below the loudest part of any track
MATCH_HEADROOM_DB = 1.0  # of the loudest track after loudness matching
MATCH_TARGET = -18.0  # LUFS, unless a track would clip
MOST_GAIN_DB = 30.0
SILENT_LUFS = -70.0
REPORT_ELEMENT = re.compile(r'<script type="application/json" id="report">(.*?)</script>')
HEAD_LENGTH = 200_000  # characters of a page in which its numbers are
LENGTH_TOLERANCE = 0.001  # seconds


@dataclass(frozen=True)
class Track:
    """What is measured of a track.

    Args:
        name: "before", "after" or "removed".
        peak_dbfs, rms_dbfs, loudness_lufs: None for silence.
        gain_db: of the player, for matched loudness.
        is_matched: whether the loudness could be matched.
    """

    name: str
    peak_dbfs: float | None
    rms_dbfs: float | None
    loudness_lufs: float | None
    gain_db: float = 0.0
    is_matched: bool = True


@dataclass(frozen=True)
class Report:
    """A page that was written, and the numbers on it.

    Args:
        path: the page.
        before, after: the recordings; `after` is None for a single one.
        sample_rate, channels, num_samples: of `before`.
        seconds: length of the longer recording.
        delay_seconds: by which `after` was late; it is shifted on the page.
        verdict: of the denoiser, or estimated from the recordings; None for a single one.
        tracks: levels.
        warnings: one line each.
        num_bytes: size of the page.
    """

    path: Path
    before: Path
    after: Path | None
    sample_rate: int
    channels: int
    num_samples: int
    seconds: float
    delay_seconds: float
    verdict: Verdict | None
    tracks: tuple[Track, ...]
    warnings: tuple[str, ...]
    num_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values."""
        paths = {
            name: None if (path := getattr(self, name)) is None else str(path)
            for name in ("path", "before", "after")
        }
        return {**asdict(self), **paths}


def write_report(
    path: str | os.PathLike[str],
    before: str | os.PathLike[str],
    after: str | os.PathLike[str] | None = None,
    *,
    provenance: Provenance | None = None,
    overwrite: bool = False,
    back: str | None = None,
    progress: Callable[[float], None] | None = None,
) -> Report:
    """Write a self-contained HTML page with a player, pictures and measurements of a recording, or
    of a recording and its denoised version.

    The recordings are read once, block by block; memory does not depend on their length.

    Args:
        path: the page.
        before: the recording.
        after: its denoised version; None shows `before` alone.
        provenance: how `after` was made.
        overwrite: replace an existing page.
        back: relative URL of an index that the page links to.
        progress: called after every block with the number of seconds done.

    Raises:
        AudioFileError: a recording cannot be read.
        OutputError: the page exists or cannot be written.

    Example:
        >>> import numpy as np, soundfile
        >>> soundfile.write("noisy.wav", np.random.default_rng(0).normal(0, 0.1, 16000), 16000)
        >>> soundfile.write("enhanced.wav", np.zeros(16000), 16000)
        >>> report = write_report("report.html", "noisy.wav", "enhanced.wav")
        >>> report.seconds, [track.name for track in report.tracks]
        (1.0, ['before', 'after', 'removed'])
    """
    provenance = provenance or Provenance()
    target, before = Path(path), Path(before)
    after = None if after is None else Path(after)
    check_page(target, [before, *([after] if after else [])], overwrite=overwrite)
    with output_errors(target):
        file = AtomicFile(target)
    with file:
        measured = measure(before, after, progress=progress)
        with measured.audio:
            report = _report(target, before, after, measured, provenance)
            view = page.View(
                report=report,
                player=player_description(measured, report.tracks),
                facts=measured.facts,
                notes=_notes(measured, report),
                provenance=provenance,
                back=back,
            )
            with output_errors(target):
                with file.path.open("w", encoding="utf-8", newline="\n") as out:
                    page.write_page(out, view, measured.audio)
                num_bytes = file.path.stat().st_size
                file.commit()
    return replace(report, num_bytes=num_bytes)


def read_report(path: Path) -> Report | None:
    """The numbers of a page that `write_report` made; None for any other file."""
    try:
        with path.open(encoding="utf-8") as file:
            found = REPORT_ELEMENT.search(file.read(HEAD_LENGTH))
        if found is None:
            return None
        values = parse_json(found[1])
        report: Report = build(Report, {**values, "path": path, **_paths(values)})
        return replace(report, num_bytes=path.stat().st_size)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _paths(values: Mapping[str, Any]) -> dict[str, Path | None]:
    after = values["after"]
    return {"before": Path(values["before"]), "after": None if after is None else Path(after)}


def check_page(path: Path, recordings: list[Path], *, overwrite: bool) -> None:
    """Raise `OutputError` if a page cannot be written: its folder is missing, it is a folder, it
    exists without `overwrite`, or it is one of the recordings.
    """
    if path.is_dir():
        raise OutputError(f"{path} is a folder; expected the name of a page such as report.html")
    if not path.parent.is_dir():
        raise OutputError(f"{path} cannot be written: there is no folder {path.parent}; make it")
    if any(os.path.realpath(each) == os.path.realpath(path) for each in recordings):
        raise OutputError(f"{path} is one of the recordings; give the page another name")
    if os.path.lexists(path) and not overwrite:
        raise OutputError(f"{path} exists; give --overwrite to replace it, or another name")


def _report(
    path: Path, before: Path, after: Path | None, measured: Measured, provenance: Provenance
) -> Report:
    form = measured.facts[0].info
    verdict = provenance.verdict or measured.verdict
    found = verdict.warnings if verdict is not None else ()
    return Report(
        path=path,
        before=before,
        after=after,
        sample_rate=form.sample_rate,
        channels=form.channels,
        num_samples=form.num_samples,
        seconds=measured.seconds,
        delay_seconds=measured.delay,
        verdict=verdict,
        tracks=match_loudness(measured.meters),
        warnings=tuple(dict.fromkeys((*provenance.warnings, *found))),
        num_bytes=0,
    )


def match_loudness(meters: Mapping[str, Meter]) -> tuple[Track, ...]:
    """The levels of the tracks, and gains that give all of them the same loudness without clipping.

    The target is -18 LUFS, or less if a track would clip. Recordings without a loudness (shorter
    than 0.4 s, or below 4 kHz) are matched by their RMS level. Silent tracks keep their level, and
    no track is raised by more than `MOST_GAIN_DB`.
    """
    loudness = {name: _loudness(meter) for name, meter in meters.items()}
    heard = [name for name in meters if loudness[name] > SILENT_LUFS]
    limits = [loudness[name] - (meters[name].peak_dbfs or 0) - MATCH_HEADROOM_DB for name in heard]
    target = min([MATCH_TARGET, *limits])
    gains = {name: min(target - loudness[name], MOST_GAIN_DB) for name in heard}
    return tuple(
        Track(
            name,
            peak_dbfs=_rounded(meter.peak_dbfs),
            rms_dbfs=_rounded(meter.rms_dbfs),
            loudness_lufs=_rounded(meter.lufs),
            gain_db=round(gains.get(name, 0.0), 2),
            is_matched=name in heard and gains[name] < MOST_GAIN_DB,
        )
        for name, meter in meters.items()
    )


def _loudness(meter: Meter) -> float:
    if meter.lufs is not None:
        return meter.lufs
    return -math.inf if meter.rms_dbfs is None else meter.rms_dbfs


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def player_description(measured: Measured, tracks: Sequence[Track]) -> dict[str, Any]:
    """The description of the tracks that `AudioaePlayer` of static/player.js takes, as JSON values.

    `parts` have the URL of their audio ("#id" is an element with base64 text), their start and
    length, and `lead`, the time before the start that the audio has too. Peaks are int8, -127 to
    127 for full scale, low and high in turns; levels are int16 in 0.1 dB; both as base64.
    """
    levels = {name: each.levels(MOST_LEVELS) for name, each in measured.peaks.items()}
    images = _images(measured)
    described = []
    for track in tracks:
        peaks = measured.peaks[track.name]
        both = np.stack([peaks.low, peaks.high], axis=1)
        described.append(
            {
                "id": track.name,
                "label": track.name.capitalize(),
                "gainDb": track.gain_db,
                "parts": measured.parts[track.name],
                "peaks": {
                    "seconds": peaks.step / measured.sample_rate,
                    "data": encoding.base64_text(
                        np.rint(np.clip(both, -1, 1) * 127).astype(np.int8)
                    ),
                },
                "spectrogram": images[track.name],
                "levels": encoding.base64_text(np.rint(levels[track.name] * 10).astype(np.int16)),
            }
        )
    return {
        "seconds": measured.seconds,
        "maxHz": measured.spectrogram.max_hz,
        "levelSeconds": measured.seconds / max(len(levels["before"]), 1),
        "tracks": described,
    }


def _images(measured: Measured) -> dict[str, dict[str, Any]]:
    """The spectrogram of each track as PNG tiles, on one scale."""
    power = decibels(measured.spectrogram.finish())  # tracks, columns, rows
    top = float(power.max()) if power.size else 0.0
    steps = (power - (top - RANGE_DB)) / RANGE_DB * (encoding.NUM_COLOURS - 1)
    indices = np.rint(np.clip(steps, 0, encoding.NUM_COLOURS - 1)).astype(np.uint8)
    colours = encoding.palette()
    images = {}
    for name, columns in zip(measured.peaks, indices, strict=True):
        tiles = []
        for start in range(0, len(columns), TILE):
            image = columns[start : start + TILE].T[::-1]  # low frequencies at the bottom
            uri = encoding.data_uri(encoding.png(image, colours), "image/png")
            tiles.append({"src": uri, "column": start, "columns": image.shape[1]})
        seconds = measured.spectrogram.step / measured.sample_rate
        images[name] = {
            "seconds": seconds,
            "topDb": round(top, 1),
            "rangeDb": RANGE_DB,
            "tiles": tiles,
        }
    return images


def _notes(measured: Measured, report: Report) -> list[str]:
    """What a listener has to know about the page, one sentence each."""
    notes, forms = [], [each.info for each in measured.facts]
    most = max(each.channels for each in forms)
    if most > measured.channels:
        notes.append(
            f"The {most} channels are mixed down to {'one' if measured.channels == 1 else 'two'} "
            "for listening and for the pictures; the levels in the table are those of the files."
        )
    kbps = ", ".join(
        f"{name} {rate * measured.channels:.0f}" for name, rate in measured.kbps.items()
    )
    notes.append(
        f"Audio on this page: Opus, {measured.sample_rate / 1000:g} kHz, {kbps} kbit/s. "
        "Pictures and numbers are measured on the files."
    )
    if report.delay_seconds:
        word = "late" if report.delay_seconds > 0 else "early"
        notes.append(
            f"The denoised recording is {abs(report.delay_seconds) * 1000:.0f} ms {word}; it is "
            "shifted by that."
        )
    lengths = [each.seconds for each in forms]
    if len(forms) == 2 and abs(lengths[0] - lengths[1]) > LENGTH_TOLERANCE:
        notes.append(
            f"The recordings differ in length: {lengths[0]:.3f} s before, {lengths[1]:.3f} s "
            "after. The shorter one is filled with silence."
        )
    if report.after is not None and forms[0].sample_rate != forms[1].sample_rate:
        notes.append(
            f"The sample rates differ: {forms[0].sample_rate} Hz before, {forms[1].sample_rate} Hz "
            "after."
        )
    quiet = [each.name for each in report.tracks if not each.is_matched]
    if quiet:
        notes.append(f"Silent or very quiet, not matched in loudness: {', '.join(quiet)}.")
    return notes
