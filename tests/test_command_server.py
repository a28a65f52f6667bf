"""The server of commands of the tests: its commands end like processes and leave none behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command_server import SUPPORTED, CommandServer

pytestmark = pytest.mark.skipif(not SUPPORTED, reason="needs Linux")


@pytest.fixture
def server() -> Iterator[CommandServer]:
    server = CommandServer()
    yield server
    server.close()
    assert not server.folder.exists()


def run(server: CommandServer, *arguments: object, **options: Any) -> subprocess.CompletedProcess:
    command = [str(server.folder / "audioae"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, timeout=100, **options)


def start(server: CommandServer, *arguments: str) -> subprocess.Popen[bytes]:
    """A command in its own session, as of a shell."""
    command = [str(server.folder / "audioae"), *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)


def commands_of(server: CommandServer) -> list[int]:
    """Ids of the processes that the server has forked."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    return [int(pid) for pid in children.read_text().split()]


def until(found: Callable[[], Any]) -> Any:
    end = time.monotonic() + 60
    while not (value := found()):
        assert time.monotonic() < end, "timed out"
        time.sleep(0.01)
    return value


WAITING = ("denoise", "-", "-", "--raw", "16000:1:PCM_16", "-q")  # reads stdin


def test_a_command_ends_like_a_process_of_its_own(server: CommandServer, tmp_path: Path) -> None:
    for arguments in (["--version"], ["nothing"], ["denoise", "none.wav", "out.wav"], []):
        real = subprocess.run(
            [sys.executable, "-m", "audioae", *arguments], capture_output=True, cwd=tmp_path
        )
        found = run(server, *arguments, cwd=tmp_path)
        for name in ("returncode", "stdout", "stderr"):
            assert getattr(found, name) == getattr(real, name)


def test_streams_folder_and_environment_are_those_of_the_client(
    server: CommandServer, samples: Path, tmp_path: Path
) -> None:
    silence = bytes(2 * 16000)
    found = run(server, *WAITING, input=silence, cwd=tmp_path)
    assert (found.returncode, found.stdout) == (0, silence)
    environment = {**os.environ, "AUDIOAE_DENOISE_STRENGTH": "much"}
    (tmp_path / "in.wav").symlink_to(samples / "noisy.wav")
    wrong = run(server, "denoise", "in.wav", "out.wav", cwd=tmp_path, env=environment)
    assert wrong.returncode == 2 and b"much" in wrong.stderr
    right = run(server, "denoise", "in.wav", "out.wav", "--json", cwd=tmp_path)
    assert right.returncode == 0 and (tmp_path / "out.wav").is_file()


def test_a_command_that_is_killed_ends_its_client(server: CommandServer) -> None:
    with start(server, *WAITING) as client:
        (pid,) = until(lambda: commands_of(server))
        os.kill(pid, signal.SIGKILL)
        assert client.wait(60) == -signal.SIGKILL
    assert run(server, "--version").returncode == 0


def test_a_client_that_is_killed_ends_its_command(server: CommandServer) -> None:
    with start(server, *WAITING) as client:
        until(lambda: commands_of(server))
        client.kill()
    until(lambda: not commands_of(server))


def test_without_the_server_a_command_is_an_ordinary_process(server: CommandServer) -> None:
    server.process.kill()
    server.process.wait()
    found = run(server, "--version")
    assert found.returncode == 0 and found.stdout.startswith(b"audioae ")


def test_the_commands_end_with_the_server(server: CommandServer) -> None:
    with start(server, *WAITING) as client:
        (pid,) = until(lambda: commands_of(server))
        os.close(server._alive)
        assert server.process.wait(60) == 0
        assert client.wait(60) != 0
    until(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text())
    server._alive = os.open(os.devnull, os.O_RDONLY)  # for `close`
