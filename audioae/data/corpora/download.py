"""Download and verify one archive over HTTP, resuming after an interruption."""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import os
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from audioae import __version__
from audioae.data.corpora.records import Archive
from audioae.errors import DataError, OutputError
from audioae.fields import parse_json
from audioae.storage import publish, temporary_path, write_text

CHUNK_BYTES = 1 << 20
TIMEOUT_SECONDS = 60.0
RETRY_SECONDS = (1.0, 3.0, 10.0, 30.0)  # waits between attempts without progress
MOST_RESTARTS = 3  # from the first byte, because the server has another file or range than before
INEXACT = 1.5  # a file whose size is only roughly known may be so many times as large
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


class Restarted(Interrupted):
    """The bytes received were of another file; they were removed."""


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
    waits, restarts = list(RETRY_SECONDS), 0
    while True:
        before = _size(part)
        try:
            return _continue(archive, part, report)
        except Interrupted as error:
            restarts += isinstance(error, Restarted)
            if _size(part) >= before + CHUNK_BYTES and not restarts:
                waits = list(RETRY_SECONDS)
            if not waits or restarts > MOST_RESTARTS:
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
            if have and answer.status == 206 and not _starts_at(answer, have):
                part.unlink()
                raise Restarted("the server sends another range than it was asked for")
            start = have if answer.status == 206 else 0
            total = _total(answer, start)
            _refuse_other_size(archive, total)
            if not start:
                # first, so that old bytes never stand beside the notes of a new version
                part.unlink(missing_ok=True)
            _remember(part, answer)
            _save(archive, answer, part, Fetch(archive.name, start, total), report)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and have:  # nothing is left to send, or the file has become shorter
            if have == _total_of_416(error):
                return
            part.unlink()
            raise Restarted("the file has changed") from error
        answers = f"{error.code} {http.client.responses.get(error.code, '')}".strip()
        if error.code in (408, 429) or error.code >= 500:
            raise Interrupted(f"the server answers {answers}") from error
        says = f"{archive.url} answers {answers}"
        raise DataError(
            f"{says}; the publisher may have moved it, look at the homepage of the corpus"
        ) from error
    except (
        urllib.error.URLError,
        http.client.HTTPException,
        TimeoutError,
        ConnectionError,
        ssl.SSLError,
        ValueError,  # an address or a header that cannot be read
    ) as error:
        raise Interrupted(
            str(getattr(error, "reason", "") or error) or type(error).__name__
        ) from error


def _save(
    archive: Archive, answer: Any, part: Path, so_far: Fetch, report: Callable[[Fetch], None]
) -> None:
    done, most = so_far.done, _most_bytes(archive)
    report(so_far)
    with part.open("r+b" if part.exists() else "w+b") as file:
        file.truncate(done)
        file.seek(done)
        while chunk := _receive(answer):
            done += len(chunk)
            if done > most:
                file.truncate(0)
                raise DataError(
                    f"{archive.url} sends more than {most:,} bytes; it is another file than "
                    "published, or a page about one"
                )
            file.write(chunk)
            report(Fetch(so_far.name, done, so_far.total))
        file.flush()
        os.fsync(file.fileno())
    # reading in chunks, http.client says nothing of a body that ends early
    if so_far.total is not None and done < so_far.total:
        raise Interrupted(f"{so_far.total - done:,} bytes are missing")


def _receive(answer: Any) -> bytes:
    """The next bytes; errors of the network are `Interrupted`, those of the disk are not."""
    try:
        return bytes(answer.read(CHUNK_BYTES))
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Interrupted(str(error) or type(error).__name__) from error


def _most_bytes(archive: Archive) -> int:
    """The largest size that is accepted for an archive."""
    return archive.size if archive.exact else int(archive.size * INEXACT)


def _refuse_other_size(archive: Archive, total: int | None) -> None:
    if total is None:
        return
    if total > _most_bytes(archive) or (archive.exact and total != archive.size):
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
    length = _number(answer.headers.get("Content-Length"))
    return None if length is None else start + length


def _total_of_416(error: urllib.error.HTTPError) -> int | None:
    return _number(str(error.headers.get("Content-Range")).rpartition("/")[2])


def _number(text: str | None) -> int | None:
    """The number in a header; None for anything else."""
    return int(text) if text and re.fullmatch("[0-9]{1,18}", text.strip()) else None


def _notes(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _remember(part: Path, answer: Any) -> None:
    """Store what identifies this version of the file; a weak ETag does not."""
    tag = answer.headers.get("ETag", "")
    validator = tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified", "")
    write_text(_notes(part), json.dumps({"validator": str(validator or "")}))


def _validator(part: Path) -> str:
    """The header for `If-Range`; empty if it is unknown or could not be sent."""
    try:
        validator = str(parse_json(_notes(part).read_text(encoding="utf-8"))["validator"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return validator if validator.isascii() and validator.isprintable() else ""


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
