"""Download, verify and unpack one archive over HTTP, resuming after an interruption."""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import lzma
import os
import shutil
import ssl
import stat
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from audioae import __version__
from audioae.data.corpora.records import Archive
from audioae.errors import DataError, OutputError
from audioae.storage import publish, temporary_path, write_text

BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    RuntimeError,
)


def unpack(archive: Path, folder: Path, *, inside: str = "") -> None:
    """Unpack a .zip or .tar.*, or the folder `inside` it, into `folder`. Existing files are kept.

    Raises:
        DataError: the archive is damaged, of another kind, or has members outside the folder.
        OutputError: the folder cannot be written or is full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=folder) as temporary:
            _extract(archive, Path(temporary))
            source = Path(temporary, inside)
            if not source.is_dir():
                raise DataError(
                    f"{archive} has no folder {inside}; it is not what the publisher "
                    "made, nothing was kept"
                )
            _move_into(source, folder)
    except BROKEN as error:
        raise DataError(
            f"{archive} is damaged or no archive ({error or type(error).__name__}); "
            "remove it and download it again"
        ) from error
    except OSError as error:
        if error.errno is None:  # gzip and bz2 report bad data so
            raise DataError(
                f"{archive} is damaged ({error}); remove it and download it again"
            ) from error
        advice = (
            "free some space and run it again"
            if error.errno == errno.ENOSPC
            else "check the folder"
        )
        raise OutputError(
            f"cannot unpack {archive.name} into {folder}: {error.strerror or error}; {advice}"
        ) from error


def _extract(archive: Path, folder: Path) -> None:
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as file:
            for member in file.infolist():
                _refuse_outside(archive, member.filename, stat.S_ISLNK(member.external_attr >> 16))
            file.extractall(folder)
        return
    # one pass: seeking back in a compressed archive would start it again
    with tarfile.open(archive, "r|*") as stream:
        for item in stream:
            _refuse_outside(archive, item.name, not (item.isfile() or item.isdir()))
            stream.extract(item, folder, set_attrs=False, filter="data")


def _refuse_outside(archive: Path, name: str, special: bool) -> None:
    """Raise `DataError` for links and for names that lead out of the folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    drive = bool(path.parts) and ":" in path.parts[0]
    if special or drive or path.is_absolute() or ".." in path.parts:
        raise DataError(
            f"{archive} holds {name!r}, which leads out of the folder; it is not "
            "what the publisher made, nothing was kept"
        )


def _move_into(source: Path, folder: Path) -> None:
    """Rename new items and recurse into existing folders, so that new folders are complete."""
    for item in sorted(source.iterdir()):
        target = folder / item.name
        if item.is_dir() and target.is_dir():
            _move_into(item, target)
        elif not target.exists():
            shutil.move(item, target)


CHUNK_BYTES = 1 << 20
TIMEOUT_SECONDS = 60.0
RETRY_SECONDS = (1.0, 3.0, 10.0, 30.0)  # waits between attempts without progress
# size of unpacked archives: FLAC and speech compress little
UNPACKED_GROWTH = 1.4


@dataclass(frozen=True)
class Fetch:
    """Progress of a download or of its verification: `done` of `total` bytes, None if unknown."""

    name: str
    done: int
    total: int | None
    verifying: bool = False


class Interrupted(Exception):
    """The connection ended early; the bytes received are kept."""


def fetch(
    archive: Archive, target: Path, *, report: Callable[[Fetch], None] = lambda _: None
) -> None:
    """Download `archive`, or the rest of it, and verify it. `target` appears when it is complete.

    Raises:
        DataError: the server refuses, interrupts repeatedly, or sends another file than published.
        OutputError: it cannot be written; the bytes received are kept.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            part = _part(target)
            _complete(archive, part, report)
            _verify(archive, part, report)
            publish(part, target)
            _notes(part).unlink(missing_ok=True)
        else:
            _verify(archive, target, report)
    except OSError as error:
        kept = (
            "free some space and run it again, it goes on where it stopped"
            if error.errno == errno.ENOSPC
            else "check the folder"
        )
        raise OutputError(f"cannot write {target}: {error.strerror or error}; {kept}") from error


def was_begun(target: Path) -> bool:
    """Whether `target` has been downloaded completely or in part."""
    return target.exists() or _part(target).exists()


def refuse_full_disk(folder: Path, sizes: Sequence[int]) -> None:
    """Raise `OutputError` if there is no space for archives of these sizes (bytes), unpacked and
    removed one after the other.
    """
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    needed, free = (
        sum(sizes) * UNPACKED_GROWTH + max(sizes, default=0),
        shutil.disk_usage(there).free,
    )
    if needed > free:
        room = (
            f"{needed / 1e9:.1f} GB for the download and its content, {free / 1e9:.1f} GB are free"
        )
        raise OutputError(f"{folder} needs {room}; free some space or choose another --root")


def _part(target: Path) -> Path:
    """File name of an incomplete download."""
    return temporary_path(target)


def _complete(archive: Archive, part: Path, report: Callable[[Fetch], None]) -> None:
    """Retry after each interruption, as long as an attempt makes progress or waits are left."""
    waits = list(RETRY_SECONDS)
    while True:
        before = _size(part)
        try:
            return _continue(archive, part, report)
        except Interrupted as error:
            if _size(part) > before:
                waits = list(RETRY_SECONDS)
            if not waits:
                came = f"{_size(part):,} bytes have come"
                raise DataError(
                    f"{archive.url} cannot be downloaded: {error}; {came}, run it "
                    "again and it goes on from there"
                ) from error
            time.sleep(waits.pop(0))


def _continue(archive: Archive, part: Path, report: Callable[[Fetch], None]) -> None:
    """One request, for the bytes that are missing where the server can send only those and they are
    of the same file.
    """
    have, validator = _size(part), _validator(part)
    if archive.exact and have == archive.size:
        return
    headers = {"User-Agent": f"audioae/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-"} | ({"If-Range": validator} if validator else {})
    try:
        with urllib.request.urlopen(
            urllib.request.Request(archive.url, headers=headers), timeout=TIMEOUT_SECONDS
        ) as answer:
            start = have if answer.status == 206 and _starts_at(answer, have) else 0
            total = _total(answer, start)
            _refuse_other_size(archive, total)
            if not start:
                # first, so that old bytes never stand beside the notes of a new version
                part.unlink(missing_ok=True)
            _remember(part, answer)
            _save(answer, part, start, Fetch(archive.name, start, total), report)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and have:  # nothing is left to send, or the file has become shorter
            if have == _total_of_416(error):
                return
            part.unlink()
            raise Interrupted("the file has changed") from error
        if error.code in (408, 429) or error.code >= 500:
            raise Interrupted(f"the server answers {error.code} {error.reason}") from error
        says = f"{archive.url} answers {error.code} {error.reason}"
        raise DataError(
            f"{says}; the publisher may have moved it, look at the homepage of the corpus"
        ) from error
    except (
        urllib.error.URLError,
        http.client.HTTPException,
        TimeoutError,
        ConnectionError,
        ssl.SSLError,
    ) as error:
        raise Interrupted(
            str(getattr(error, "reason", "") or error) or type(error).__name__
        ) from error


def _save(
    answer: Any, part: Path, start: int, so_far: Fetch, report: Callable[[Fetch], None]
) -> None:
    done = start
    report(so_far)
    with part.open("r+b" if part.exists() else "w+b") as file:
        file.truncate(start)
        file.seek(start)
        while chunk := answer.read(CHUNK_BYTES):
            file.write(chunk)
            done += len(chunk)
            report(Fetch(so_far.name, done, so_far.total))
        file.flush()
        os.fsync(file.fileno())
    # reading in chunks, http.client says nothing of a body that ends early
    if so_far.total is not None and done < so_far.total:
        raise Interrupted(f"{so_far.total - done:,} bytes are missing")


def _refuse_other_size(archive: Archive, total: int | None) -> None:
    if archive.exact and total is not None and total != archive.size:
        raise DataError(
            f"{archive.url} offers {total:,} bytes, {archive.size:,} were published; "
            "it is another file or a page about one"
        )


def _verify(archive: Archive, path: Path, report: Callable[[Fetch], None]) -> None:
    size = _size(path)
    if archive.exact and size != archive.size:
        path.unlink()
        raise DataError(
            f"{archive.name} has {size:,} bytes, {archive.size:,} were published; it "
            "was removed, download it again"
        )
    if not archive.checksum:
        return
    kind, _, wanted = archive.checksum.partition(":")
    with path.open("rb") as file:
        found = _digest(file, kind, Fetch(archive.name, 0, size, verifying=True), report)
    if found != wanted:
        path.unlink()
        raise DataError(
            f"{archive.name} has the {kind} {found}, {wanted} was published; it was "
            "removed, download it again"
        )


def _digest(file: BinaryIO, kind: str, so_far: Fetch, report: Callable[[Fetch], None]) -> str:
    digest, done = hashlib.new(kind, usedforsecurity=False), 0
    while chunk := file.read(CHUNK_BYTES):
        digest.update(chunk)
        done += len(chunk)
        report(Fetch(so_far.name, done, so_far.total, verifying=True))
    return digest.hexdigest()


def _starts_at(answer: Any, have: int) -> bool:
    return str(answer.headers.get("Content-Range", "")).startswith(f"bytes {have}-")


def _total(answer: Any, start: int) -> int | None:
    length = answer.headers.get("Content-Length", "")
    return start + int(length) if length.isdigit() else None


def _total_of_416(error: urllib.error.HTTPError) -> int | None:
    total = str(error.headers.get("Content-Range", "")).rpartition("/")[2]
    return int(total) if total.isdigit() else None


def _notes(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _remember(part: Path, answer: Any) -> None:
    """Store what identifies this version of the file; a weak ETag does not."""
    tag = answer.headers.get("ETag", "")
    validator = tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified", "")
    write_text(_notes(part), json.dumps({"validator": validator or ""}))


def _validator(part: Path) -> str:
    try:
        return str(json.loads(_notes(part).read_text(encoding="utf-8"))["validator"])
    except (OSError, ValueError, KeyError):
        return ""


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
