"""Downloads from a server on this machine: what breaks off goes on, what was not published never
counts, nothing leaves its folder.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import io
import json
import os
import shutil
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

import audioae.data.corpora.download
from audioae.cli import main
from audioae.data.corpora.catalog import CORPORA
from audioae.data.corpora.collect import choose, download, pending, unpack
from audioae.data.corpora.download import Fetch, fetch, refuse_full_disk
from audioae.data.corpora.records import Archive, Part
from audioae.errors import DataError, OutputError

BODY = np.random.default_rng(0).bytes(300_000)


class Server(ThreadingHTTPServer):
    """Serves `files`; a file breaks off after `stops` bytes, one number for each of its first
    answers.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.stops: list[int] = []
        self.statuses: list[int] = []
        self.ranges, self.validators = True, True
        self.headers: dict[str, str] = {}  # sent instead of the usual ones; empty for none
        self.asked: list[str] = []

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range", "")
        self.server.asked.append(f"{self.path[1:]} {asked}".strip())
        body = self.server.files.get(self.path[1:])
        status = (
            self.server.statuses.pop(0)
            if self.server.statuses
            else 200
            if body is not None
            else 404
        )
        if status != 200 or body is None:
            return self.send_error(status)
        tag = f'"{hashlib.md5(body).hexdigest()}"'
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.server.ranges else 0
        if self.headers.get("If-Range", tag) != tag:
            start = 0
        if asked and start >= len(body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(206 if start else 200)
        headers = {"Content-Length": str(len(body) - start)}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        if self.server.validators:
            headers["ETag"] = tag
        for name, value in (headers | self.server.headers).items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        stop = self.server.stops.pop(0) if self.server.stops else len(body)
        self.wfile.write(body[start : start + stop])

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(audioae.data.corpora.download, "RETRY_SECONDS", (0.0, 0.0))
    monkeypatch.setattr(audioae.data.corpora.download, "CHUNK_BYTES", 10_000)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def published(server: Server, name: str, body: bytes = BODY, **more: Any) -> Archive:
    """`body` on the server, and what its publisher says of it."""
    server.files[name] = body
    return dataclasses.replace(
        Archive(server.url(name), len(body), f"sha256:{hashlib.sha256(body).hexdigest()}"), **more
    )


def test_a_file_comes_whole_with_its_progress(server: Server, tmp_path: Path) -> None:
    seen: list[Fetch] = []
    fetch(published(server, "a.bin"), tmp_path / "new/a.bin", report=seen.append)
    assert (tmp_path / "new/a.bin").read_bytes() == BODY
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.bin"]
    assert [fetched.done for fetched in seen if not fetched.verifying] == [
        *range(0, 300_000, 10_000),
        300_000,
    ]
    assert seen[-1] == Fetch("a.bin", 300_000, 300_000, verifying=True)


def test_a_connection_that_breaks_off_goes_on_where_it_was(server: Server, tmp_path: Path) -> None:
    server.stops = [100_000, 50_000]
    fetch(published(server, "a.bin"), tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert server.asked == ["a.bin", "a.bin bytes=100000-", "a.bin bytes=150000-"]


def test_a_run_that_ends_keeps_what_came_and_the_next_one_goes_on(
    server: Server, tmp_path: Path
) -> None:
    archive = published(server, "a.bin")
    server.stops = [100_000, 0, 0]
    with pytest.raises(
        DataError,
        match=r"cannot be downloaded: 200,000 bytes are missing; 100,000 bytes have come, run it "
        r"again",
    ):
        fetch(archive, tmp_path / "a.bin")
    assert not (tmp_path / "a.bin").exists()
    server.asked.clear()
    fetch(archive, tmp_path / "a.bin")
    assert ((tmp_path / "a.bin").read_bytes(), server.asked) == (BODY, ["a.bin bytes=100000-"])


@pytest.mark.parametrize("validators", [True, False])
def test_a_server_without_ranges_is_asked_for_all_of_it(
    server: Server, tmp_path: Path, validators: bool
) -> None:
    server.ranges, server.validators, server.stops = False, validators, [100_000]
    fetch(published(server, "a.bin"), tmp_path / "a.bin")
    assert ((tmp_path / "a.bin").read_bytes(), len(server.asked)) == (BODY, 2)


def test_a_file_that_changed_in_between_is_begun_anew(server: Server, tmp_path: Path) -> None:
    server.stops = [100_000, 0, 0]
    with pytest.raises(DataError, match="run it again"):
        fetch(published(server, "a.bin"), tmp_path / "a.bin")
    changed = bytes(reversed(BODY))
    fetch(published(server, "a.bin", changed), tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == changed


def test_a_file_that_is_whole_but_not_yet_renamed_is_not_asked_for_again(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "a.bin.part").write_bytes(BODY)
    fetch(published(server, "a.bin"), tmp_path / "a.bin")
    assert server.asked == []
    (tmp_path / "b.bin.part").write_bytes(BODY)
    fetch(
        published(server, "b.bin", exact=False), tmp_path / "b.bin"
    )  # its size is not known: the server says that there is no more
    assert server.asked == ["b.bin bytes=300000-"]
    assert (tmp_path / "b.bin").read_bytes() == BODY


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_another_content_of_the_same_size_never_counts(
    server: Server, tmp_path: Path, kind: str
) -> None:
    archive = published(server, "a.bin", checksum=f"{kind}:{hashlib.new(kind, BODY).hexdigest()}")
    fetch(archive, tmp_path / "good.bin")
    server.files["a.bin"] = bytes(len(BODY))
    with pytest.raises(
        DataError,
        match=rf"a.bin has the {kind} [0-9a-f]+, [0-9a-f]+ was published; it was removed, "
        rf"download it again",
    ):
        fetch(archive, tmp_path / "a.bin")
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".bin"] == ["good.bin"]
    assert not (tmp_path / "a.bin.part").exists()


def test_another_size_is_refused_before_anything_is_written(server: Server, tmp_path: Path) -> None:
    archive = published(server, "a.bin")
    server.files["a.bin"] = b"<html>we have moved</html>"
    with pytest.raises(
        DataError,
        match="offers 26 bytes, 300,000 were published; it is another file or a page about one",
    ):
        fetch(archive, tmp_path / "a.bin")
    assert list(tmp_path.iterdir()) == []


def test_without_a_checksum_the_size_is_what_counts(server: Server, tmp_path: Path) -> None:
    archive = published(server, "a.bin", checksum="", unchecked="a reason")
    (tmp_path / "a.bin").write_bytes(BODY[:-1])  # somebody's broken copy
    with pytest.raises(
        DataError, match=r"a\.bin has 299,999 bytes, 300,000 were published; it was removed"
    ):
        fetch(archive, tmp_path / "a.bin")
    fetch(archive, tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == BODY


@pytest.mark.parametrize(("status", "attempts"), [(404, 1), (403, 1), (503, 3), (429, 3)])
def test_refusals_are_final_and_overload_is_not(
    server: Server, tmp_path: Path, status: int, attempts: int
) -> None:
    server.statuses = [status] * 3
    with pytest.raises(DataError, match=rf"a.bin .*answers {status} "):
        fetch(published(server, "a.bin"), tmp_path / "a.bin")
    assert len(server.asked) == attempts
    server.statuses = [503]
    fetch(published(server, "a.bin"), tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == BODY


def test_a_server_that_is_not_there_is_one_line(server: Server, tmp_path: Path) -> None:
    archive = published(server, "a.bin")
    server.server_close()
    with pytest.raises(DataError, match=r"cannot be downloaded: .*refused"):
        fetch(archive, tmp_path / "a.bin")


def test_a_full_disk_keeps_what_came(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, sync = published(server, "a.bin"), os.fsync

    def full(descriptor: int) -> None:
        sync(descriptor)
        if os.fstat(descriptor).st_size == len(BODY):
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(audioae.data.corpora.download.os, "fsync", full)
        with pytest.raises(
            OutputError,
            match=r"a\.bin: No space left on device; free some space and run it again, it goes on",
        ):
            fetch(archive, tmp_path / "a.bin")
    assert (tmp_path / "a.bin.part").stat().st_size == len(BODY)
    fetch(archive, tmp_path / "a.bin")
    assert len(server.asked) == 1


def test_a_disk_that_is_too_small_is_refused_before_the_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**12, 10**12, 20 * 10**9)
    )
    refuse_full_disk(tmp_path / "not/yet/there", [6 * 10**9])
    with pytest.raises(
        OutputError,
        match=r"needs 24.0 GB for the download and its content, 20.0 GB are free; .*another --root",
    ):
        refuse_full_disk(tmp_path / "not/yet/there", [10 * 10**9])


@pytest.mark.parametrize("exact", [True, False])
def test_a_body_that_does_not_end_is_cut_off(server: Server, tmp_path: Path, exact: bool) -> None:
    archive = published(server, "a.bin", exact=exact)
    server.files["a.bin"], server.headers = BODY * 20, {"Content-Length": ""}
    with pytest.raises(DataError, match="sends more than"):
        fetch(archive, tmp_path / "a.bin")
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 1000
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Length": "²"},
        {"Content-Length": "-5"},
        {"Content-Length": "9" * 40},
        {"Content-Length": "many"},
        {"ETag": '"\xff\xe9"'},
        {"ETag": "", "Last-Modified": "\x01\xfe"},
        {"Content-Range": "bytes x-y/z"},
        {"Content-Range": "bytes 7-9/10"},
        {"Transfer-Encoding": "chunked", "Content-Length": ""},
    ],
    ids=lambda headers: next(iter(headers.items())).__repr__(),
)
def test_odd_headers_are_an_error_or_no_matter(
    server: Server, tmp_path: Path, headers: dict[str, str]
) -> None:
    server.headers, server.stops = headers, [100_000]
    archive = published(server, "a.bin")
    try:
        fetch(archive, tmp_path / "a.bin")
    except DataError as error:
        assert "\n" not in str(error)
    else:
        assert (tmp_path / "a.bin").read_bytes() == BODY
    assert len(server.asked) < 10


def test_a_server_that_always_starts_again_is_given_up(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some bytes, then 416, again and again."""
    monkeypatch.setattr(audioae.data.corpora.download, "RETRY_SECONDS", (0.0,) * 20)
    archive = published(server, "a.bin")
    server.stops, server.statuses = [50_000] * 40, [200, 416] * 20
    with pytest.raises(DataError, match="cannot be downloaded"):
        fetch(archive, tmp_path / "a.bin")
    assert len(server.asked) < 12


def test_damaged_notes_of_a_download_are_no_matter(server: Server, tmp_path: Path) -> None:
    for notes in ("[]", "{", '{"validator": "a\\nb"}', "[" * 5000, '{"validator": "é"}'):
        (tmp_path / "a.bin.part").write_bytes(BODY[:1000])
        (tmp_path / "a.bin.part.json").write_text(notes, encoding="utf-8")
        fetch(published(server, "a.bin"), tmp_path / "a.bin")
        assert (tmp_path / "a.bin").read_bytes() == BODY
        (tmp_path / "a.bin").unlink()


# --- archives


def tar(
    members: dict[str, bytes], mode: str = "w:gz", links: dict[str, str] | None = None
) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as file:  # type: ignore[call-overload]
        for name, body in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            file.addfile(info, io.BytesIO(body))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            file.addfile(info)
    return buffer.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, body in members.items():
            file.writestr(name, body)
    return buffer.getvalue()


MEMBERS = {"top/a/1.wav": b"one", "top/a/2.wav": b"two", "top/README": b"new"}


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("x.zip", zipped(MEMBERS)),
        ("x.tar.gz", tar(MEMBERS)),
        ("x.tar.bz2", tar(MEMBERS, "w:bz2")),
        ("x.tar", tar(MEMBERS, "w")),
    ],
)
def test_archives_are_unpacked_beside_what_is_there(tmp_path: Path, name: str, body: bytes) -> None:
    (tmp_path / name).write_bytes(body)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/README").write_text("mine")
    unpack(tmp_path / name, tmp_path / "out", inside="top")
    unpack(tmp_path / name, tmp_path / "out", inside="top")  # a second time changes nothing
    files = {
        str(path.relative_to(tmp_path / "out")): path.read_bytes()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    assert files == {"a/1.wav": b"one", "a/2.wav": b"two", "README": b"mine"}


@pytest.mark.parametrize(
    ("name", "body", "member"),
    [
        ("x.zip", zipped({"good.wav": b"1", "../evil.wav": b"2"}), "'../evil.wav'"),
        ("x.zip", zipped({"/evil.wav": b"2"}), "'/evil.wav'"),
        ("x.tar.gz", tar({"good.wav": b"1", "a/../../evil.wav": b"2"}), "'a/../../evil.wav'"),
        ("x.tar.gz", tar({"/evil.wav": b"2"}), "'/evil.wav'"),
        ("x.tar.gz", tar({"good.wav": b"1"}, links={"link": "/etc/passwd"}), "'link'"),
        ("x.tar.gz", tar({"C:/evil.wav": b"1"}), "'C:/evil.wav'"),
    ],
)
def test_nothing_leaves_the_folder(tmp_path: Path, name: str, body: bytes, member: str) -> None:
    (tmp_path / name).write_bytes(body)
    with pytest.raises(DataError, match=f"holds {member}, which leads out of the folder"):
        unpack(tmp_path / name, tmp_path / "deep/out")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [name]


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("x.zip", zipped(MEMBERS)[:-30]),
        ("x.zip", b"no zip"),
        ("x.zip", zipped({"a.wav": BODY}).replace(BODY[1000:1010], bytes(10))),
        ("x.tar.gz", tar({"a.wav": BODY})[:-2000]),
        ("x.tar.bz2", tar({"a.wav": BODY}, "w:bz2")[:-2000]),
        ("x.tar.gz", b"no tar"),
    ],
)
def test_damaged_archives_leave_nothing(tmp_path: Path, name: str, body: bytes) -> None:
    (tmp_path / name).write_bytes(body)
    with pytest.raises(DataError, match=r"remove it and download it again"):
        unpack(tmp_path / name, tmp_path / "out")
    assert list((tmp_path / "out").rglob("*")) == []


def bad_zip_name(name: bytes, flag: int = 0x800) -> bytes:
    """A zip with one file whose name is `name`, said to be UTF-8 by default."""
    buffer, info = io.BytesIO(), zipfile.ZipInfo("x" * len(name) or "x")
    info.filename = "x" * len(name)
    with zipfile.ZipFile(buffer, "w") as file, file.open(info, "w") as member:
        member.write(b"1")
    data = bytearray(buffer.getvalue().replace(b"x" * (len(name) or 99), name))
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.index(signature) + place
        data[at : at + 2] = flag.to_bytes(2, "little")
    return bytes(data)


@pytest.mark.parametrize(
    "body",
    [
        bad_zip_name(b"\xff\xfe\xfd\xfcaa"),
        bad_zip_name(b""),
        bad_zip_name(b"aaa", 0x801),  # encrypted
    ],
    ids=["no UTF-8", "no name", "encrypted"],
)
def test_archives_with_impossible_names_are_damaged(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "x.zip").write_bytes(body)
    with pytest.raises(DataError, match=r"x\.zip.*download it again"):
        unpack(tmp_path / "x.zip", tmp_path / "out")
    assert list((tmp_path / "out").rglob("*")) == []


@pytest.mark.parametrize("name", ["x.zip", "x.tar.gz"])
def test_an_archive_that_grows_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("audioae.data.corpora.collect.MOST_MORE", 1_000_000)
    members = {f"{number}.wav": bytes(1_000_000) for number in range(4)}
    (tmp_path / name).write_bytes(zipped(members) if name == "x.zip" else tar(members))
    with pytest.raises(DataError, match="unpacks to more than"):
        unpack(tmp_path / name, tmp_path / "out")
    assert list((tmp_path / "out").rglob("*")) == []


def test_an_archive_of_too_many_files_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audioae.data.corpora.collect.MOST_MEMBERS", 3)
    (tmp_path / "x.zip").write_bytes(zipped({f"{number}": b"" for number in range(4)}))
    with pytest.raises(DataError, match="4 files"):
        unpack(tmp_path / "x.zip", tmp_path / "out")


def test_a_disk_that_fills_up_while_unpacking_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "x.zip").write_bytes(zipped(MEMBERS))
    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(
        OutputError,
        match=r"cannot unpack x\.zip into .*: No space left on device; free some space and run "
        r"it again",
    ):
        unpack(tmp_path / "x.zip", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_an_archive_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(zipped({"other/a.wav": b"1"}))
    with pytest.raises(DataError, match="has no folder top; it is not what the publisher made"):
        unpack(tmp_path / "x.zip", tmp_path / "out", inside="top")


# --- corpora


def clip(seed: int) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(
        buffer, 0.1 * np.random.default_rng(seed).standard_normal(8000), 16000, format="FLAC"
    )
    return buffer.getvalue()


@pytest.fixture
def librispeech(server: Server, monkeypatch: pytest.MonkeyPatch) -> list[Archive]:
    """LibriSpeech with two small parts on the local server instead of its own."""
    parts, archives = {}, []
    for number, part in enumerate(("train-clean-100", "dev-clean")):
        body = tar(
            {
                f"LibriSpeech/{part}/{s}{number}/1/{s}{number}-1-0000.flac": clip(10 * s + number)
                for s in (1, 2)
            }
        )
        archives.append(published(server, f"{part}.tar.gz", body, inside="LibriSpeech"))
        parts[part] = Part((f"{part}/*/*/*.flac",), (archives[-1],))
    changed = dataclasses.replace(CORPORA["librispeech"], parts=MappingProxyType(parts))
    monkeypatch.setitem(CORPORA, "librispeech", changed)
    return archives


def test_a_corpus_is_downloaded_unpacked_and_never_again(
    server: Server, librispeech: list[Archive], tmp_path: Path
) -> None:
    (wanted,) = choose(["librispeech"])
    download(wanted, tmp_path)
    assert sorted(
        path.name for path in (tmp_path / "LibriSpeech").iterdir() if not path.name.startswith(".")
    ) == [
        "dev-clean",
        "train-clean-100",
    ]
    assert pending(wanted, tmp_path) == []
    server.asked.clear()
    download(wanted, tmp_path)
    assert server.asked == []


def test_an_interrupted_corpus_goes_on_at_the_archive_where_it_stopped(
    server: Server, librispeech: list[Archive], tmp_path: Path
) -> None:
    (wanted,) = choose(["librispeech"])
    server.stops = [10**9, 1000, 0, 0]
    with pytest.raises(DataError, match="1,000 bytes have come"):
        download(wanted, tmp_path)
    assert pending(wanted, tmp_path) == librispeech[1:]
    server.asked.clear()
    download(wanted, tmp_path)
    assert server.asked == ["dev-clean.tar.gz bytes=1000-"]
    assert pending(wanted, tmp_path) == []


def test_unpacking_that_was_interrupted_is_done_again_without_a_download(
    server: Server, librispeech: list[Archive], tmp_path: Path
) -> None:
    (wanted,) = choose(["librispeech/dev-clean"])
    folder = tmp_path / "LibriSpeech"
    folder.mkdir()
    (folder / "dev-clean.tar.gz").write_bytes(server.files["dev-clean.tar.gz"])
    download(wanted, tmp_path)
    assert server.asked == []
    assert len(list(folder.rglob("*.flac"))) == 2
    assert not (folder / "dev-clean.tar.gz").exists()


def test_command_says_what_comes_then_downloads_and_prepares(
    server: Server, librispeech: list[Archive], tmp_path: Path
) -> None:
    arguments = [
        "prepare",
        "librispeech",
        "--root",
        str(tmp_path / "corpora"),
        "--download",
        "--out",
        str(tmp_path / "out"),
    ]
    result = CliRunner().invoke(main, [*arguments, "--json", "--progress", "json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["files"] == {"speech": 4}
    lines = result.stderr.splitlines()
    assert lines[0] == f"librispeech: 0.00 GB (CC BY 4.0) from {librispeech[0].url}"
    labels = [
        json.loads(line)["label"]
        for line in lines
        if line.startswith("{") and '"done"}' not in line and '"start"' in line
    ]
    assert labels == [
        label for archive in librispeech for label in (archive.name, f"verifying {archive.name}")
    ] + ["speech"]


def test_command_ends_in_one_line_where_the_address_is_gone(
    server: Server, librispeech: list[Archive], tmp_path: Path
) -> None:
    server.files.clear()
    arguments = [
        "prepare",
        "librispeech",
        "--root",
        str(tmp_path / "corpora"),
        "--download",
        "--out",
        str(tmp_path / "out"),
        "-q",
    ]
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (1, "", 1)
    assert "answers 404 Not Found; the publisher may have moved it" in result.stderr
    assert not (tmp_path / "out").exists()
    nothing = CliRunner().invoke(
        main, ["prepare", "--speech", str(tmp_path), "--download", "--out", str(tmp_path / "out")]
    )
    assert (nothing.exit_code, nothing.stderr) == (
        2,
        "Error: --download was given but no corpus to download; name one, see --list\n",
    )
