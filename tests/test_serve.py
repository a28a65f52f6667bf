"""The local web app: uploads, jobs and downloads over HTTP, limits, and what is left on disk."""

from __future__ import annotations

import http.client
import io
import json
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

for package in ("fastapi", "uvicorn", "python_multipart"):
    pytest.importorskip(package, reason="needs the extra serve")

from audioae.cli import main
from audioae.cli.serve import offered_models
from audioae.denoising import DenoiseSettings, denoise_file
from audioae.errors import OutputError
from audioae.pretrained import find_model, list_denoisers
from audioae.storage import OWNER, remove_abandoned
from audioae.web.server.app import create_app
from audioae.web.server.guard import HostRules
from audioae.web.server.http import listen, make_server
from audioae.web.server.pool import JobError, WorkerPool, echo
from audioae.web.server.service import END_SECONDS, DenoiseService
from audioae.web.server.uploads import PREFIX, ServeFolder, ServeLimits, UploadStore, clean_name

RATE = 16000
SMALL = "speech-small-16k"
FAST = {"model": SMALL, "quality": "fast"}
UNCHANGED = "strength=0&quality=fast&model=" + SMALL


def wav(waveform: np.ndarray, rate: int = RATE) -> bytes:
    """A 16-bit WAV file of a waveform `[samples]`."""
    file = io.BytesIO()
    soundfile.write(file, waveform, rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.05, round(seconds * RATE))


SHORT, LONG = wav(noise(0.5)), wav(noise(240.0))


@dataclass
class Answer:
    """A response."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Client:
    """Sends requests to a server."""

    port: int
    folder: Path
    service: Any = None

    def __call__(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = dict(headers or {})
        if isinstance(body, dict):
            body, headers["content-type"] = json.dumps(body), "application/json"
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def upload(self, data: bytes = SHORT, name: str = "talk.wav") -> str:
        """Upload a file; returns its id."""
        answer = self("POST", f"/api/files?name={quote(name)}", data)
        assert answer.status == 201, answer.body
        return str(answer.json["id"])

    def wait(self, key: str) -> dict[str, Any]:
        """The state of an upload whose job has ended."""
        return until(lambda: (found := self.state(key))["state"] not in ACTIVE and found)

    def state(self, key: str) -> dict[str, Any]:
        return dict(self("GET", f"/api/files/{key}").json)

    def files(self) -> list[Path]:
        """All files of uploads on disk; a folder may be removed while it is searched."""
        found = (os.path.join(at, name) for at, _, names in os.walk(self.folder) for name in names)
        return [Path(path) for path in found if os.path.basename(path) != OWNER]

    def raw(self, data: bytes, *, read: bool = True) -> bytes:
        """Send bytes on a connection of its own; the answer, or nothing if it is cut off."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            connection.sendall(data)
            if not read:
                return b""
            parts = []
            with suppress(ConnectionResetError):
                while part := connection.recv(65536):
                    parts.append(part)
            return b"".join(parts)


ACTIVE = ("waiting", "running")


def until(found: Callable[[], Any], seconds: float = 60) -> Any:
    """Wait until a function returns something that is true."""
    end = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < end, "timed out"
        time.sleep(0.02)
    return value


@contextmanager
def serving(
    parent: Path, limits: ServeLimits | None = None, *, root_path: str = "", allow: Any = ()
) -> Iterator[Client]:
    """A server in a thread of this process, with one worker."""
    with ExitStack() as stack:
        folder = stack.enter_context(ServeFolder(parent))
        store = UploadStore(folder.path, limits or ServeLimits())
        models = {name: find_model(name) for name in ("speech-16k", SMALL)}
        service = stack.enter_context(DenoiseService(store, models, workers=1))
        app = create_app(service, rules=HostRules("127.0.0.1", allow), root_path=root_path)
        listening = stack.enter_context(listen("127.0.0.1", 0))
        server = make_server(app, stop=service.close)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield Client(listening.getsockname()[1], folder.path, service)
        finally:
            server.should_exit = True
            thread.join()
    assert list(parent.glob(f"{PREFIX}*")) == []


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    limits = ServeLimits(max_bytes=3_000_000)
    with serving(tmp_path_factory.mktemp("serve"), limits) as found:
        yield found


@pytest.fixture
def empty(client: Client) -> Iterator[Client]:
    """The server, which must have no files of uploads before and after the test."""
    until(lambda: client.files() == [], 10)
    yield client
    until(lambda: client.files() == [] and len(client.service.store) == 0, 10)


# --- Denoising


def test_an_upload_is_denoised_as_on_the_command_line(empty: Client, tmp_path: Path) -> None:
    data = wav(noise(1.0))
    (tmp_path / "noisy.wav").write_bytes(data)
    settings = DenoiseSettings(quality="fast", strength=0.7)
    denoise_file(tmp_path / "noisy.wav", tmp_path / "enhanced.wav", model=SMALL, settings=settings)
    key = empty.upload(data)
    answer = empty("POST", f"/api/files/{key}/denoise", {**FAST, "strength": 0.7})
    assert answer.status == 202 and answer.json["state"] in ACTIVE
    state = empty.wait(key)
    assert state["state"] == "done" and state["progress"] == 1
    assert state["result"]["num_samples"] == RATE and state["result"]["quality"] == "fast"
    download = empty("GET", f"/api/files/{key}/result")
    assert download.body == (tmp_path / "enhanced.wav").read_bytes()
    assert download.headers["content-disposition"] == 'attachment; filename="talk-denoised.wav"'
    assert empty("DELETE", f"/api/files/{key}").status == 204
    assert empty("GET", f"/api/files/{key}").status == 404


def test_the_player_of_the_page_gets_its_description_and_audio(empty: Client) -> None:
    key = empty.upload(wav(noise(1.0)))
    empty("POST", f"/api/files/{key}/denoise", FAST)
    empty.wait(key)
    description = empty("GET", f"/api/files/{key}/player.json").json
    assert [track["id"] for track in description["tracks"]] == ["before", "after", "removed"]
    for track in description["tracks"]:
        audio = empty("GET", f"/api/files/{key}/{track['parts'][0]['src']}")
        assert audio.headers["content-type"] == "audio/ogg"
        assert soundfile.info(io.BytesIO(audio.body)).duration == pytest.approx(1, abs=0.1)
    assert empty("GET", f"/api/files/{key}/input").status == 404
    empty("DELETE", f"/api/files/{key}")


def test_a_preview_is_a_stretch_of_the_recording(empty: Client) -> None:
    data = wav(noise(6.0))
    key = empty.upload(data)
    answer = empty("POST", f"/api/files/{key}/preview", {**FAST, "start": 3, "seconds": 1}).json
    assert (answer["start"], answer["seconds"]) == (3, 1)
    before, rate = soundfile.read(io.BytesIO(empty("GET", f"/{answer['before']}").body))
    after, _ = soundfile.read(io.BytesIO(empty("GET", f"/{answer['after']}").body))
    whole, _ = soundfile.read(io.BytesIO(data))
    np.testing.assert_array_equal(before, whole[3 * rate : 4 * rate])
    assert len(after) == rate and after.std() < 0.5 * before.std()
    assert empty("GET", f"/{answer['player']}").json["seconds"] == pytest.approx(1)
    late = empty("POST", f"/api/files/{key}/preview", {**FAST, "start": 99, "seconds": 1}).json
    assert late["start"] == 5
    assert empty("GET", f"/{answer['after']}").status == 404  # only the newest one is kept
    empty("DELETE", f"/api/files/{key}")


def test_one_request_denoises_and_leaves_nothing(empty: Client) -> None:
    name = 'Gespräch "1".wav'
    form, headers = form_of(SHORT, name)
    answer = empty("POST", f"/api/denoise?{UNCHANGED}", form, headers)
    assert answer.status == 200
    np.testing.assert_array_equal(
        soundfile.read(io.BytesIO(answer.body))[0], soundfile.read(io.BytesIO(SHORT))[0]
    )
    expected = quote('Gespräch "1"-denoised.wav')
    assert answer.headers["content-disposition"].endswith(f"filename*=utf-8''{expected}")


def form_of(data: bytes, name: str) -> tuple[bytes, dict[str, str]]:
    """A form with a text field and a file, and its header."""
    escaped = name.replace('"', "%22").encode()
    parts = [
        b'--x\r\nContent-Disposition: form-data; name="note"\r\n\r\nhello',
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="' + escaped + b'"',
        b"Content-Type: audio/wav\r\n",
        data,
        b"--x--\r\n",
    ]
    return b"\r\n".join(parts), {"content-type": "multipart/form-data; boundary=x"}


def test_another_format_and_all_results_as_zip(empty: Client) -> None:
    keys = [empty.upload(SHORT, "é.wav") for _ in range(2)]
    assert empty("GET", f"/api/zip?id={keys[0]}").status == 409
    for key in keys:
        empty("POST", f"/api/files/{key}/denoise", {**FAST, "format": "flac"})
    assert [empty.wait(key)["result"]["container"] for key in keys] == ["FLAC", "FLAC"]
    answer = empty("GET", "/api/zip?" + "&".join(f"id={key}" for key in keys))
    with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
        assert archive.namelist() == ["é-denoised.flac", "é-denoised (2).flac"]
        assert archive.testzip() is None
        result = empty("GET", f"/api/files/{keys[1]}/result").body
        assert archive.read("é-denoised (2).flac") == result
    for key in keys:
        empty("DELETE", f"/api/files/{key}")


def test_20_uploads_at_once_are_not_mixed(empty: Client) -> None:
    recordings = [wav(0.5 * noise(0.3 + 0.02 * number, number)) for number in range(20)]

    def run(number: int) -> Answer:
        path = f"/api/denoise?{UNCHANGED}&name={number}.wav"
        return empty("POST", path, recordings[number])

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(run, range(20)))
    for number, answer in enumerate(answers):
        assert answer.status == 200, answer.body
        assert f'"{number}-denoised.wav"' in answer.headers["content-disposition"]
        found, wanted = (
            soundfile.read(io.BytesIO(each))[0] for each in (answer.body, recordings[number])
        )
        np.testing.assert_array_equal(found, wanted)


# --- Bodies that are refused


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"this is a text\n" * 100, 422),
        (SHORT[:30], 422),
        (b"", 422),
        (bytes(3_000_001), 413),
    ],
    ids=["text", "header only", "empty", "large"],
)
def test_a_body_that_is_no_recording(empty: Client, data: bytes, status: int) -> None:
    answer = empty("POST", "/api/files?name=talk.wav", data)
    assert answer.status == status
    assert str(empty.folder) not in answer.json["error"]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"--x--\r\n", "multipart/form-data; boundary=x"),
        (form_of(SHORT, "a.wav")[0][:-4000], "multipart/form-data; boundary=x"),
        (b"no form at all", "multipart/form-data; boundary=x"),
        (form_of(SHORT, "a.wav")[0], "multipart/form-data"),
        (b"--x\r\n" + b"a: b\r\n" * 1000, "multipart/form-data; boundary=x"),
    ],
    ids=["no file", "cut off", "no form", "no boundary", "many headers"],
)
def test_a_form_that_is_damaged(empty: Client, body: bytes, kind: str) -> None:
    assert empty("POST", "/api/files", body, {"content-type": kind}).status == 400


def head_of(*headers: str, path: str = "/api/files", host: str = "127.0.0.1") -> bytes:
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", *headers, "", ""]
    return "\r\n".join(lines).encode()


def test_2_gb_are_refused_before_they_are_sent(empty: Client) -> None:
    started = time.monotonic()
    answer = empty.raw(head_of("Content-Length: 2000000000") + bytes(1000))
    assert answer.startswith(b"HTTP/1.1 413 ") and b'"error"' in answer
    assert time.monotonic() - started < 10


def test_a_large_body_without_a_length_is_refused(empty: Client) -> None:
    chunk = b"10000\r\n" + bytes(65536) + b"\r\n"
    with socket.create_connection(("127.0.0.1", empty.port), timeout=20) as connection:
        with suppress(OSError):  # it is cut off while it is sent
            connection.sendall(head_of("Transfer-Encoding: chunked"))
            for _ in range(60):
                connection.sendall(chunk)
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_a_body_that_is_cut_off_leaves_nothing(empty: Client) -> None:
    empty.raw(head_of("Content-Length: 100000") + bytes(50000), read=False)
    body, headers = form_of(SHORT, "a.wav")
    kind = f"Content-Type: {headers['content-type']}"
    empty.raw(head_of(f"Content-Length: {len(body)}", kind) + body[:-4000], read=False)


@pytest.mark.parametrize(
    "name",
    ["../../../tmp/x.wav", "/etc/passwd", "C:\\x\\..\\y.wav", "a\0b.wav", "..", "\r\nX: y.wav",
     "x" * 900 + ".wav", "\u202egpj.wav", "<img src=x>.wav", "con.wav/", ""],
)  # fmt: skip
def test_names_never_become_paths(empty: Client, name: str) -> None:
    key = empty.upload(SHORT, name)
    upload = empty.service.store.get(key)
    assert upload.source.parent.parent == empty.folder
    assert upload.source.name in ("input", "input.wav")
    shown = empty.state(key)["name"]
    assert shown and not re.search(r"[/\\\x00-\x1f\u202e]", shown) and len(shown) <= 140
    assert shown == clean_name(shown)
    empty("DELETE", f"/api/files/{key}")


@pytest.mark.parametrize(
    "path",
    ["/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static//etc/passwd",
     "/api/files/..%2f..", "/api/files/x/preview-1/..%2finput.wav", "/nothing"],
)  # fmt: skip
def test_paths_outside_are_not_found(empty: Client, path: str) -> None:
    assert empty("GET", path).status == 404


def test_slow_bodies_and_heads_are_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audioae.web.server.http.HEADER_SECONDS", 0.3)
    monkeypatch.setattr("audioae.web.server.receiving.GRACE_SECONDS", 0.5)
    with serving(tmp_path, ServeLimits(idle_seconds=0.5)) as client:
        answer = client.raw(head_of("Content-Length: 100000") + b"RIFF")
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert client.raw(b"POST /api/files HTTP/1.1\r\nHost: ") == b""
        with socket.create_connection(("127.0.0.1", client.port), timeout=20) as connection:
            connection.sendall(head_of("Content-Length: 100000"))
            for _ in range(20):  # never idle, but far too slow
                time.sleep(0.1)
                with suppress(OSError):
                    connection.sendall(b"x")
            assert connection.recv(65536).startswith(b"HTTP/1.1 408 ")
        until(lambda: client.files() == [])


# --- Who may use it


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil", "10.0.0.1"],
)
@pytest.mark.parametrize("path", ["/", "/api/models", "/api/files/x", "/static/player.js"])
def test_other_hosts_are_refused(client: Client, host: str, path: str) -> None:
    answer = client("GET", path, headers={"host": host})
    assert answer.status == 421 and "error" in answer.json


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:9000", "[::1]:1", "LOCALHOST"])
def test_own_hosts_are_served(client: Client, host: str) -> None:
    assert client("GET", "/api/models", headers={"host": host}).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"origin": "http://localhost"},
        {"origin": "file://"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/api/files"), ("POST", "/api/denoise"), ("DELETE", "/api/files/x"),
     ("POST", "/api/files/x/cancel")],
)  # fmt: skip
def test_requests_of_other_pages_are_refused(
    empty: Client, headers: dict[str, str], method: str, path: str
) -> None:
    assert empty(method, path, SHORT, headers).status == 403


def test_requests_of_the_own_page_are_served(empty: Client) -> None:
    own = {"origin": f"http://127.0.0.1:{empty.port}", "sec-fetch-site": "same-origin"}
    answer = empty("POST", "/api/files", SHORT, own)
    assert answer.status == 201
    assert empty("DELETE", f"/api/files/{answer.json['id']}", headers=own).status == 204


def test_a_request_needs_one_host(client: Client) -> None:
    answer = client.raw(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n")
    assert answer.split()[1] == b"400"
    assert client.raw(b"GET / HTTP/1.0\r\n\r\n").split()[1] == b"400"


def test_headers_of_all_responses(client: Client) -> None:
    key = client.upload()
    for path, status in (
        ("/", 200), ("/docs", 200), (f"/api/files/{key}", 200), ("/nothing", 404),
        (f"/api/files/{key}/result", 409),
    ):  # fmt: skip
        answer = client("GET", path)
        assert answer.status == status
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["access-control-allow-origin"] is None
        if path.startswith("/api"):
            assert answer.headers["cache-control"] == "no-store"
    client("DELETE", f"/api/files/{key}")


def test_every_address_is_a_name_only_on_a_wildcard_address() -> None:
    wildcard, loopback = HostRules("0.0.0.0"), HostRules("127.0.0.1")
    assert wildcard.knows("192.168.1.5:8000") and not loopback.knows("192.168.1.5:8000")
    assert not wildcard.knows("evil.example")
    assert wildcard.is_public and HostRules("192.168.1.5").is_public
    assert not loopback.is_public and not HostRules("::1").is_public


# --- Errors in requests


@pytest.mark.parametrize(
    "wanted",
    [
        {"model": "speech-17k"},
        {"model": "/etc/passwd"},
        {"preset": "soft"},
        {"quality": "worst"},
        {"strength": 2},
        {"strength": "much"},
        {"max_attenuation_db": -1},
        {"format": "exe"},
        {"format": "../x"},
        {"strenth": 1},
    ],
    ids=str,
)
def test_wrong_settings(empty: Client, wanted: dict[str, Any]) -> None:
    key = empty.upload()
    for kind in ("denoise", "preview"):
        answer = empty("POST", f"/api/files/{key}/{kind}", wanted)
        assert answer.status == 422
        assert isinstance(answer.json["error"], str)
    assert empty("POST", f"/api/files/{key}/preview", {"seconds": 1000}).status == 422
    assert empty.state(key)["state"] == "ready"
    empty("DELETE", f"/api/files/{key}")


def test_unknown_uploads(client: Client) -> None:
    for method, path in (
        ("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/result"),
        ("GET", "/player.json"), ("GET", "/preview-1/before-0"), ("GET", "/before-0"),
    ):  # fmt: skip
        answer = client(method, f"/api/files/AAAAAAAAAAAAAAAAAAAAAA{path}")
        assert answer.status == 404 and "error" in answer.json
    assert client("GET", "/api/files?id=AAAA").json == []
    assert client("GET", "/api/zip?id=AAAA").status == 404
    assert client("PUT", "/api/files").status == 405


# --- Limits and cancelling


def test_jobs_are_cancelled_and_limited(tmp_path: Path) -> None:
    with serving(tmp_path, ServeLimits(max_jobs=2, max_uploads=3)) as client:
        first, second, third = map(client.upload, (LONG, SHORT, LONG))
        assert client("POST", "/api/files?name=a.wav", SHORT).status == 429
        for key in (first, second):
            client("POST", f"/api/files/{key}/denoise", {})
        assert client("POST", f"/api/files/{third}/denoise", {}).status == 429
        assert client("POST", f"/api/files/{first}/denoise", {}).status == 429
        until(lambda: client.state(first)["state"] == "running")
        assert client.state(second)["state"] == "waiting"
        start = time.monotonic()
        assert client("POST", f"/api/files/{second}/cancel").json["state"] == "cancelled"
        assert time.monotonic() - start < END_SECONDS / 2  # nothing to wait for
        assert client("POST", f"/api/files/{first}/cancel").json["state"] == "cancelled"
        assert {path.name for path in client.files()} == {"input.wav"}
        assert client("POST", f"/api/files/{third}/denoise", {}).status == 202
        until(lambda: client.state(third)["state"] == "running")
        client("DELETE", f"/api/files/{third}")
        assert len(client.files()) == 2
        client("POST", f"/api/files/{second}/denoise", FAST)  # the worker was replaced
        assert client.wait(second)["state"] == "done"


def test_a_job_that_takes_too_long_or_dies_is_a_failed_one(tmp_path: Path) -> None:
    with serving(tmp_path, ServeLimits(job_seconds=2.0)) as client:
        key = client.upload(LONG)
        client("POST", f"/api/files/{key}/denoise", {})
        state = client.wait(key)
        assert state["state"] == "failed" and "2 s" in state["error"]
    with serving(tmp_path, ServeLimits()) as client:
        key = client.upload(LONG)
        client("POST", f"/api/files/{key}/denoise", {})
        until(lambda: client.state(key)["state"] == "running")

        def killed() -> bool:
            """Kill all workers; the one of the job may still be starting."""
            for process in multiprocessing.active_children():
                process.kill()
            return bool(client.state(key)["state"] != "running")

        until(killed)
        state = client.wait(key)
        assert state["state"] == "failed" and "SIGKILL" in state["error"]
        assert {path.name for path in client.files()} == {"input.wav"}


@pytest.mark.parametrize("path", ["/api/denoise", "/api/files"])
def test_a_client_that_leaves_ends_its_job(empty: Client, path: str) -> None:
    empty.raw(head_of(f"Content-Length: {len(LONG)}", path=path) + LONG, read=False)
    until(lambda: len(empty.service.store) == 0)


def test_uploads_that_nobody_asks_for_are_removed(tmp_path: Path) -> None:
    with serving(tmp_path) as client:
        kept, key = client.upload(), client.upload()
        client.service.store.get(key).used -= client.service.limits.keep_seconds
        client.service.remove_idle()
        assert client("GET", f"/api/files/{key}").status == 404
        assert client.state(kept)["state"] == "ready" and len(client.files()) == 1
    with serving(tmp_path, ServeLimits(keep_seconds=0.2)) as client:
        client.upload()
        until(lambda: client.files() == [] and len(client.service.store) == 0)


def test_the_space_of_all_uploads_is_limited(tmp_path: Path) -> None:
    with serving(tmp_path, ServeLimits(total_bytes=2 * len(SHORT))) as client:
        keys = [client.upload() for _ in range(2)]
        answer = client("POST", "/api/files", SHORT)
        assert answer.status == 507
        client("DELETE", f"/api/files/{keys[0]}")
        client.upload()


# --- Behind a proxy


def test_a_prefix_works_whether_the_proxy_removes_it_or_not(tmp_path: Path) -> None:
    public = {"host": "audio.example.org", "origin": "https://audio.example.org"}
    with serving(tmp_path, root_path="/denoise", allow=["audio.example.org"]) as client:
        for prefix in ("", "/denoise"):
            assert client("GET", f"{prefix}/", headers=public).status == 200
            assert client("GET", f"{prefix}/static/player.js", headers=public).status == 200
            assert client("POST", f"{prefix}/api/files", SHORT, public).status == 201
        rewritten = {"host": f"127.0.0.1:{client.port}", "origin": "https://audio.example.org"}
        assert client("POST", "/api/files", SHORT, rewritten).status == 201
        assert client("GET", "/openapi.json").json["servers"] == [{"url": "/denoise"}]


def test_urls_of_the_page_are_relative_and_local(client: Client) -> None:
    for page in ("/", "/docs"):
        text = client("GET", page).body.decode()
        urls = re.findall(r'(?:href|src)="([^"]*)"', text)
        assert len(urls) > 4
        for url in urls:
            assert not re.match(r"(https?:)?/", url)
            if url.startswith("static/"):
                assert client("GET", f"/{url}").status == 200
    script = client("GET", "/static/serve.js").body.decode()
    assert not re.search(r"""["'`](https?:|/\w)""", script)


def test_the_api_is_described(client: Client) -> None:
    api = client("GET", "/openapi.json").json
    assert {
        "/api/models", "/api/files", "/api/files/{id}", "/api/files/{id}/denoise", "/api/denoise",
        "/api/files/{id}/preview", "/api/files/{id}/cancel", "/api/files/{id}/result", "/api/zip",
    } <= set(api["paths"])  # fmt: skip
    assert all(
        values["description"] for methods in api["paths"].values() for values in methods.values()
    )
    offered = client("GET", "/api/models").json
    assert offered["models"] == ["speech-16k", SMALL]
    assert offered["limits"]["max_bytes"] == 3_000_000


# --- Folders and processes


def test_the_folder_of_a_killed_server_is_removed_and_that_of_a_living_one_stays(
    tmp_path: Path,
) -> None:
    killed = tmp_path / f"{PREFIX}killed"
    (killed / "upload").mkdir(parents=True)
    (killed / OWNER).touch()
    (killed / "upload" / "input.wav").write_bytes(SHORT)
    foreign = tmp_path / "other"
    foreign.mkdir()
    (tmp_path / f"{PREFIX}link").symlink_to(foreign)
    with ServeFolder(tmp_path) as first, ServeFolder(tmp_path) as second:
        assert not killed.exists() and foreign.is_dir()
        assert first.path.is_dir() and second.path.is_dir() and first.path != second.path
        assert first.path.stat().st_mode & 0o777 == 0o700
        starting = tmp_path / f"{PREFIX}starting"
        starting.mkdir()
        remove_abandoned(PREFIX, tmp_path)
        assert starting.is_dir()  # its server may be about to lock it
        os.utime(starting, (0, 0))
        remove_abandoned(PREFIX, tmp_path)
        assert not starting.exists() and first.path.is_dir()
    with pytest.raises(OutputError):
        ServeFolder(tmp_path / "missing")


def test_a_pool_replaces_processes_that_die(tmp_path: Path) -> None:
    with WorkerPool(1, tmp_path / "own", file_bytes=1000) as pool:
        assert pool.submit(echo, {"value": 1}, seconds=60).future.result() == 1
        for process in multiprocessing.active_children():
            process.kill()
            process.join()
        assert pool.submit(echo, {"value": 2}, seconds=60).future.result() == 2
        with pytest.raises(JobError) as failed:
            pool.submit(echo, {"values": 3}, seconds=60).future.result()
        assert failed.value.internal


@contextmanager
def command(parent: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], Client]]:
    """`audioae serve` in a process of its own."""
    line = [sys.executable, "-m", "audioae", "serve", "--port", "0", "--temp-dir", str(parent)]
    process = subprocess.Popen(
        [*line, "--workers", "1", *options],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stderr is not None
        port = re.search(r"http://127\.0\.0\.1:(\d+)/", process.stderr.readline())
        assert port
        yield process, Client(int(port[1]), parent)
    finally:
        process.kill()
        process.communicate()


def suppress_all(client: Client, *request: Any) -> None:
    """Send a request to a server that ends meanwhile."""
    with suppress(OSError, http.client.HTTPException):
        client(*request)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_ends_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    with command(tmp_path) as (process, client):
        key = client.upload(LONG)
        client("POST", f"/api/files/{key}/denoise", {})
        until(lambda: client.state(key)["state"] == "running")
        wanted = {"seconds": 30, "quality": "best"}
        preview = threading.Thread(
            target=lambda: suppress_all(client, "POST", f"/api/files/{key}/preview", wanted)
        )
        preview.start()
        with socket.create_connection(("127.0.0.1", client.port)) as connection:
            connection.sendall(head_of("Content-Length: 100000") + b"RIFF")
            until(lambda: len({path.parent for path in client.files()}) > 2)
            os.killpg(process.pid, number)  # as a terminal does, to its workers too
            assert process.wait(60) == 0
        preview.join()
        assert process.stderr is not None and process.stderr.read() == ""
    assert list(tmp_path.iterdir()) == []


def test_a_killed_server_leaves_no_files(tmp_path: Path) -> None:
    with command(tmp_path) as (process, client):
        key = client.upload(LONG)
        client("POST", f"/api/files/{key}/denoise", {})
        until(lambda: client.state(key)["state"] == "running")
        process.kill()
        until(lambda: list(tmp_path.iterdir()) == [], 30)  # its workers remove them


def test_a_server_that_was_killed_with_its_workers_is_cleaned_up_by_the_next(
    tmp_path: Path,
) -> None:
    with command(tmp_path) as (process, client):
        client.upload()
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    with command(tmp_path) as (_, client):
        assert client.files() == []
        assert len(list(tmp_path.iterdir())) == 1


def test_a_port_in_use_and_other_wrong_options(tmp_path: Path) -> None:
    runner = CliRunner()
    with listen("127.0.0.1", 0) as taken:
        port = str(taken.getsockname()[1])
        result = runner.invoke(main, ["serve", "--port", port, "--temp-dir", str(tmp_path)])
        assert result.exit_code == 1
        assert port in result.stderr and result.stderr.count("\n") == 1
    for options, code in (
        (["--max-size", "big"], 2),
        (["--root-path", "https://x"], 2),
        (["--port", "70000"], 2),
        (["--temp-dir", str(tmp_path / "missing")], 2),
        (["--model", "nothing"], 3),
        (["--model", "codec-16k"], 3),  # an autoencoder that cannot denoise
    ):
        result = runner.invoke(main, ["serve", "--port", "0", *options])
        assert result.exit_code == code, result.output
    assert list(tmp_path.iterdir()) == []


def test_only_denoisers_are_offered() -> None:
    offered = offered_models((SMALL,))
    assert list(offered) == [SMALL, *(e.name for e in list_denoisers() if e.name != SMALL)]


@pytest.mark.parametrize("package", ["fastapi", "uvicorn", "python_multipart"])
def test_without_the_extra(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    result = CliRunner().invoke(main, ["serve", "--port", "0"])
    assert result.exit_code == 3
    assert "audioae[serve]" in result.stderr
