"""Reports of all recordings of a folder, or of two folders with the same tree, and their index."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from audioae.denoising.batch import find_inputs
from audioae.errors import AudioaeError, AudioFileError, OutputError, counted
from audioae.storage import output_errors, write_text
from audioae.web.origin import Provenance
from audioae.web.page import Cell, Column, duration, index_page
from audioae.web.report import Report, read_report, write_report

INDEX = "index.html"
LONGEST_NAME = 200  # bytes of a page name; file systems allow 255

COLUMNS = (
    Column("Recording", "text"),
    Column("Duration"),
    Column("Warnings"),
    Column("Input SNR, dB"),
    Column("Attenuation, dB"),
    Column("Kept, %"),
    Column("Out of domain"),
    Column("LUFS before"),
    Column("LUFS after"),
)


@dataclass(frozen=True)
class Match:
    """A recording of a folder and its denoised version.

    Args:
        name: path of `before` below its folder.
        after: None if only one folder was given, or if there is no such file.
        problem: why there is no report; empty if there is one.
    """

    name: Path
    before: Path
    after: Path | None
    problem: str = ""


@dataclass(frozen=True)
class FolderReport:
    """A recording of a folder and its report.

    Args:
        match: the recordings.
        report: None if it failed.
        error: why it failed; empty if it did not.
    """

    match: Match
    report: Report | None
    error: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values."""
        if self.report is None:
            after = None if self.match.after is None else str(self.match.after)
            paths = {"before": str(self.match.before), "after": after}
            return {"status": "failed", **paths, "error": self.error}
        return {"status": "done", **self.report.to_dict()}


def match_folders(before: Path, after: Path | None) -> list[Match]:
    """The recordings of a folder, each with the file of the same path in another folder.

    The suffix may differ, if only one file has the same path without it.

    Raises:
        AudioFileError: there is no recording in `before`, or a folder is missing.
    """
    for folder in (before, after):
        if folder is not None and not folder.is_dir():
            raise AudioFileError(f"{folder} is not a folder; expected two folders")
    inside = after is not None and before.resolve() in after.resolve().parents
    found = find_inputs([before], exclude=after if inside else None)
    names = [each.folder / each.path.name for each in found.files]
    if after is None:
        return [Match(name, before / name, None) for name in names]
    others = find_inputs([after]) if names else None
    places = {each.folder / each.path.name for each in others.files} if others else set()
    stems: dict[Path, list[Path]] = {}
    for place in sorted(places):
        stems.setdefault(place.with_suffix(""), []).append(place)
    return [_match(name, before, after, places, stems) for name in names]


def _match(
    name: Path, before: Path, after: Path, places: set[Path], stems: dict[Path, list[Path]]
) -> Match:
    if name in places:
        return Match(name, before / name, after / name)
    others = stems.get(name.with_suffix(""), [])
    if len(others) == 1:
        return Match(name, before / name, after / others[0])
    found = "no file of that name" if not others else f"{len(others)} files of that name"
    return Match(name, before / name, None, f"{found} in {after}; expected {after / name}")


def page_path(name: Path, suffix: str = ".html") -> Path:
    """The path of the page of a recording below the folder of the reports.

    Example:
        >>> page_path(Path("a/b.wav")).as_posix()
        'a/b.wav.html'
    """
    file = name.name + suffix
    if len(os.fsencode(file)) > LONGEST_NAME:
        digest = hashlib.blake2s(os.fsencode(name.name), digest_size=8).hexdigest()
        stem = os.fsencode(name.name)[: LONGEST_NAME - 30].decode("utf-8", "ignore")
        file = f"{stem}-{digest}{suffix}"
    return name.with_name(file)


def write_folder_report(
    matches: Sequence[Match],
    folder: Path,
    *,
    title: str,
    overwrite: bool = False,
    resume: bool = False,
    provenance: Callable[[Match], Provenance | None] = lambda match: None,
    ended: Callable[[FolderReport], None] = lambda row: None,
    progress: Callable[[Match, float], None] = lambda match, seconds: None,
) -> list[FolderReport]:
    """Write the page of every recording, and an index of them, `index.html`, into a folder.

    A recording that fails does not stop the others; the index lists it first.

    Args:
        matches: the recordings.
        folder: is made if it is missing.
        title: of the index.
        overwrite: replace existing pages.
        resume: keep pages that are newer than their recordings, and replace older ones.
        provenance: how a recording was made.
        ended: called after each recording.
        progress: called with the number of seconds of a recording that are done.

    Raises:
        OutputError: the folder cannot be written, or a page exists already.
    """
    names = [match.name for match in matches]
    pages = check_pages(names, folder, overwrite=overwrite, resume=resume)
    rows = []
    for match, path in zip(matches, pages, strict=True):
        known = read_report(path) if resume and _is_newer(path, match) else None
        if known is not None:
            row = FolderReport(match, known)
        else:
            made = provenance(match)
            row = _attempt(match, path, folder, overwrite or resume, made, progress)
        rows.append(row)
        ended(row)
    write_index(rows, folder, title=title)
    return rows


def check_pages(
    names: Iterable[Path], folder: Path, *, overwrite: bool = False, resume: bool = False
) -> list[Path]:
    """The pages of recordings in a folder of reports.

    Args:
        names: paths of the recordings below their folder.
        overwrite, resume: see `write_folder_report`.

    Raises:
        OutputError: a page or the index exists already, and may not be replaced.
    """
    pages = [folder / page_path(name) for name in names]
    existing = [each for each in (*pages, folder / INDEX) if os.path.lexists(each)]
    if resume:
        existing = [each for each in existing if not _is_ours(each)]
    if existing and not overwrite:
        more = f" and {counted(len(existing) - 1, 'other page')}" if len(existing) > 1 else ""
        raise OutputError(
            f"{existing[0]}{more} exist; give --overwrite to replace them, or another folder"
        )
    return pages


def _is_ours(path: Path) -> bool:
    """Whether a file is a page or an index that audioae wrote."""
    try:
        with path.open("rb") as file:
            return b'name="generator" content="audioae ' in file.read(1000)
    except OSError:
        return False


def _is_newer(page: Path, match: Match) -> bool:
    """Whether a page is newer than its recordings."""
    try:
        recordings = [path for path in (match.before, match.after) if path is not None]
        made = page.stat().st_mtime_ns
        return all(made >= path.stat().st_mtime_ns for path in recordings)
    except OSError:
        return False


def _attempt(
    match: Match,
    path: Path,
    folder: Path,
    overwrite: bool,
    provenance: Provenance | None,
    progress: Callable[[Match, float], None],
) -> FolderReport:
    if match.problem:
        return FolderReport(match, None, match.problem)
    try:
        with output_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        report = write_report(
            path,
            match.before,
            match.after,
            provenance=provenance,
            overwrite=overwrite,
            back=relative_url(folder / INDEX, path.parent),
            progress=lambda seconds: progress(match, seconds),
        )
    except AudioaeError as error:
        return FolderReport(match, None, str(error))
    return FolderReport(match, report)


def relative_url(path: Path, folder: Path) -> str:
    """The URL of a file relative to a folder."""
    relative = Path(os.path.relpath(path, folder)).as_posix()
    return "./" + quote(os.fsencode(relative))  # "./": a name with a colon is no scheme


def write_index(rows: Iterable[FolderReport], folder: Path, *, title: str) -> Path:
    """Write the index of the reports in a folder, the worst recordings first.

    Recordings that failed come first, then those with warnings, then by input SNR.
    """
    ordered = sorted(rows, key=_badness)
    failed = sum(row.report is None for row in ordered)
    seconds = sum(row.report.seconds for row in ordered if row.report is not None)
    lead = f"{counted(len(ordered), 'recording')}, {duration(seconds)}, worst first"
    if failed:
        lead += f"; {failed} failed"
    path = folder / INDEX
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, index_page(title, lead, COLUMNS, [_cells(row, folder) for row in ordered]))
    return path


def _badness(row: FolderReport) -> tuple[int, int, float, str]:
    if row.report is None:
        return (0, 0, 0.0, str(row.match.name))
    verdict = row.report.verdict
    snr = None if verdict is None else verdict.input_snr_db
    key = math.inf if snr is None else snr
    return (1, -len(row.report.warnings), key, str(row.match.name))


def _cells(row: FolderReport, folder: Path) -> list[Cell]:
    name = row.match.name.as_posix()
    if row.report is None:
        text = f"{name}: {row.error}"
        return [Cell(text, name, is_problem=True), *[Cell("", None)] * (len(COLUMNS) - 1)]
    report, verdict = row.report, row.report.verdict
    loudness = {track.name: track.loudness_lufs for track in report.tracks}
    kept = None if verdict is None or verdict.speech_kept is None else 100 * verdict.speech_kept
    warnings = len(report.warnings)
    return [
        Cell(name, name, relative_url(report.path, folder)),
        Cell(duration(report.seconds), report.seconds),
        Cell(str(warnings) if warnings else "", warnings, is_problem=warnings > 0),
        _number(None if verdict is None else verdict.input_snr_db, 1),
        _number(None if verdict is None else verdict.mean_attenuation_db, 1),
        _number(kept, 0),
        _number(None if verdict is None else verdict.out_of_domain, 2),
        _number(loudness["before"], 1),
        _number(loudness.get("after"), 1),
    ]


def _number(value: float | None, decimals: int) -> Cell:
    if value is None:
        return Cell("", None)
    return Cell(f"{value:.{decimals}f}".replace("-", "−"), value)
