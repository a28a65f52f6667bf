"""Run many `audioae` commands without the seconds that each takes to import its libraries.

`CommandServer` starts a process that imports the libraries that a command needs once, and forks for
each command. Its folder has a program `audioae`, a small client: it hands its arguments, folder,
environment and standard streams to the server, and ends as the command ends. The modules of audioae
itself are imported by each command, as usual.

Commands that are killed, or whose imports are tested, should be started as ordinary processes.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import marshal
import os
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

SUPPORTED = sys.platform == "linux" and hasattr(socket, "send_fds")
STARTED = b"started"
POLL_SECONDS = 0.01

TORCH = ("torch", "librosa", "scipy.signal", "onnx", "pydantic")
PLOTS = ("librosa", "scipy.signal", "matplotlib.pyplot", "matplotlib.backends.backend_agg")
TRAINING = (*TORCH, "torch._dynamo")  # which every optimizer imports
# The libraries that the commands import, beside those that start within a moment.
LIBRARIES = {
    "train": TRAINING,
    "export": TORCH,
    "evaluate": (*TORCH, *PLOTS),
    "generate": (*TORCH, *PLOTS),
    "anomaly": (*TRAINING, *PLOTS, "sklearn.covariance", "sklearn.neighbors"),
    "embed": (*PLOTS, "sklearn.linear_model", "sklearn.decomposition"),
    "plot": PLOTS,
    "compress": ("librosa", "scipy.signal"),
    "decompress": ("librosa", "scipy.signal"),
}


class CommandServer:
    """A server of commands, which ends when this object is closed or its process dies.

    Attributes:
        folder: has the program `audioae`; put it first on the PATH.
        process: the server.
    """

    def __init__(self) -> None:
        self._temporary = tempfile.TemporaryDirectory(
            prefix="audioae-commands-", ignore_cleanup_errors=True
        )
        self.folder = Path(self._temporary.name)
        address = str(self.folder / "socket")
        program = self.folder / "audioae"
        client = [sys.executable, "-IS", str(Path(__file__).with_name("command_client.py"))]
        program.write_text(f'#!/bin/sh\nexec {shlex.join([*client, address])} "$@"\n')
        program.chmod(0o755)
        alive, self._alive = os.pipe()  # its other end is at its end when this process has died
        command = [sys.executable, "-P", __file__, address, str(alive)]
        self.process = subprocess.Popen(
            command,
            pass_fds=[alive],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C ends the tests, which end the server
        )
        os.close(alive)
        assert self.process.stdout is not None
        with self.process.stdout as output:
            assert output.read(len(STARTED)) == STARTED, "the server of commands did not start"

    def close(self) -> None:
        """End the server and the commands that are running. The server removes the folder, so that
        it is removed too if the tests are killed.
        """
        os.close(self._alive)
        self.process.wait(30)
        self._temporary.cleanup()


# --- In the server


class Server:
    """Starts commands and tells their clients how they end."""

    def __init__(self, address: str, alive: int) -> None:
        self.alive = alive
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(address)
        self.listening.listen()
        self.clients: dict[int, socket.socket] = {}  # of each process

    def serve(self) -> list[str] | None:
        """Start commands until nobody needs the server. Returns None then, and in the process of a
        command the arguments of the command.
        """
        while True:
            waiting = [self.alive, self.listening, *self.clients.values()]
            ready, _, _ = select.select(waiting, [], [], POLL_SECONDS if self.clients else None)
            if self.alive in ready:
                for pid in self.clients:
                    kill(pid)
                return None
            for pid, client in self.clients.items():
                if client in ready:  # it was killed: it sends nothing more
                    kill(pid)
            self.report_ended()
            if self.listening in ready:
                client, _ = self.listening.accept()
                with suppress(OSError, EOFError, ValueError):  # it was killed meanwhile
                    arguments = self.start(client)
                    if arguments is not None:
                        return arguments

    def report_ended(self) -> None:
        """Send the exit codes of the processes that have ended to their clients."""
        for pid in list(self.clients):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                with self.clients.pop(pid) as client, suppress(OSError):
                    client.sendall(marshal.dumps(os.waitstatus_to_exitcode(status)))

    def start(self, client: socket.socket) -> list[str] | None:
        """Start a process for the command of a client; returns its arguments in that process."""
        size, streams, _, _ = socket.recv_fds(client, 8, 3)
        with client.makefile("rb") as file:
            arguments, folder, environment = marshal.loads(file.read(int.from_bytes(size)))
        for name in LIBRARIES.get(next(iter(arguments), ""), ()):
            with suppress(ImportError):  # the command tells what is missing
                importlib.import_module(name)
        gc.freeze()  # the processes share what they do not touch
        pid = os.fork()
        if pid:
            with suppress(OSError):  # either process does it, so that it is done at once
                os.setpgid(pid, pid)
            self.clients[pid] = client
            for stream in streams:
                os.close(stream)
            return None
        become(streams, folder, environment)
        for each in (self.listening, client, *self.clients.values()):
            each.close()
        os.close(self.alive)
        return list(arguments)


def kill(group: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def become(streams: list[int], folder: str, environment: dict[str, str]) -> None:
    """Give this process the standard streams, the folder and the environment of another."""
    with suppress(OSError):
        os.setpgid(0, 0)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin = sys.__stdin__ = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = sys.__stdout__ = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(  # noqa: SIM115
        2, "w", buffering=1, errors="backslashreplace", closefd=False
    )
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    if "numpy" in sys.modules:  # otherwise all commands would draw the same random numbers
        sys.modules["numpy"].random.seed()


def serve_commands(address: str, alive: int) -> None:
    server = Server(address, alive)
    os.write(1, STARTED)
    with open(os.devnull, "w") as null:
        os.dup2(null.fileno(), 1)
    arguments = server.serve()
    if arguments is not None:
        run_command(arguments)
    shutil.rmtree(Path(address).parent, ignore_errors=True)


def run_command(arguments: list[str]) -> NoReturn:
    """Run `audioae` in this process and end it, but leave its memory to the operating system: to
    take apart all libraries takes longer than most commands.
    """
    sys.argv = ["audioae", *arguments]
    code: object = 0
    try:
        from audioae.__main__ import run

        run()
    except SystemExit as end:
        code = end.code or 0
        if not isinstance(code, int):
            print(code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        code = 120  # as Python itself
    os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    serve_commands(sys.argv[1], int(sys.argv[2]))
