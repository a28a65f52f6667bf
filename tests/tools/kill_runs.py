r"""End runs at random moments by signals, and check what they leave; run by hand.

    python tests/tools/kill_runs.py [--sigkill 100] [--sigterm 50] [--sigint 50] [--seed 0] \
        [--keep DIR]

Each run is one file, a batch in one process or in two, a pipe to a file or a pipe to a pipe. Half
of the SIGINT go to all its processes, as those of a terminal do. Checked are: the exit code, that
no process is left, that every output is complete, and that no temporary file is left, after
SIGKILL by the next run of the same command. The next run has to succeed with the same bytes. Needs
a POSIX system. Prints a line for each fault and the counts at the end.

Python itself prints a traceback if Ctrl-C arrives while it starts, before it runs a line of the
package. Such runs are counted and printed apart: the signal was sent while Python was starting, and
nothing that was printed names a file of the package. Everything else about them is checked.
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

PATIENCE = 120.0  # seconds until a run counts as hanging
LAST_SECONDS = 20.0  # that the workers of a killed run may need to notice it
SECONDS = 2.0  # of audio in each recording
FILES = 3
START_FACTOR = 3.0  # how much longer Python may take to start, with other work on the machine
OWN = f"{os.sep}audioae{os.sep}"  # in the names of the package's files
# What a shell reports after a signal, as a code of the command or of the signal's default action.
CODES = {signal.SIGKILL: {-9}, signal.SIGTERM: {143, -15}, signal.SIGINT: {130, -2}}
KINDS = {
    "file": ["rec/0.wav", "out/0.wav"],
    "film": ["rec/film.mka", "out/film.mka"],
    "batch": ["rec", "-O", "out"],
    "two processes": ["rec", "-O", "out", "-j", "2"],
    "pipe to file": ["-", "out/0.wav"],
    "pipe to pipe": ["-", "-"],
}


def make_recordings(folder: Path) -> None:
    """Files of noise, and a media file if PyAV is there."""
    folder.mkdir()
    for number in range(FILES):
        noise = np.random.default_rng(number).normal(0, 0.1, round(SECONDS * 16000))
        soundfile.write(folder / f"{number}.wav", noise, 16000)
    try:
        from audioae.audio import write

        write(folder / "film.mka", noise, 16000)
    except Exception as error:  # without the extra `media`
        print(f"no film: {error}")
        del KINDS["film"]


def content_of(path: Path) -> bytes:
    """The bytes of a file; for a media file, which has random numbers in it, its samples."""
    from audioae.audio import read

    return read(path)[0].tobytes() if path.suffix == ".mka" else path.read_bytes()


class Runs:
    """Runs of the command in a folder of their own.

    Args:
        folder: an empty folder.
        seed: of the moments.
        kept: folder for files that differ; None keeps none.
    """

    def __init__(self, folder: Path, seed: int, kept: Path | None = None) -> None:
        self.folder, self.draw, self.kept = folder, random.Random(seed), kept
        self.seen: collections.Counter[str] = collections.Counter()
        make_recordings(folder / "rec")
        self.whole: dict[str, dict[str, bytes]] = {}  # the files of a complete run of each kind
        self.seconds: dict[str, float] = {}
        for kind in KINDS:
            self.clear()
            started = time.monotonic()
            code, said = self.wait(self.start(kind))
            assert code == 0, said
            self.seconds[kind] = time.monotonic() - started
            self.whole[kind] = self.outputs()
        self.start_seconds = START_FACTOR * max(python_seconds() for _ in range(5))

    def clear(self) -> None:
        """Empty the output folder and the temporary folder."""
        for name in ("out", "temporary"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
            (self.folder / name).mkdir()

    def outputs(self) -> dict[str, bytes]:
        """The files with final names."""
        files = (self.folder / "out").iterdir()
        return {path.name: content_of(path) for path in files if path.name[0] != "."}

    def differences(self, kind: str) -> list[str]:
        """Names of files that a complete run of this kind makes otherwise."""
        made, whole = self.outputs(), self.whole[kind]
        return [name for name in sorted({*made, *whole}) if made.get(name) != whole.get(name)]

    def keep(self, name: str, made: bytes | None, whole: bytes | None) -> None:
        """Write two versions of a file to the folder that --keep names."""
        if self.kept is None:
            return
        place = self.kept / str(sum(self.seen.values()))
        place.mkdir(parents=True, exist_ok=True)
        for version, content in (("made", made), ("expected", whole)):
            (place / f"{version}-{name}").write_bytes(content or b"")

    def leftovers(self) -> list[str]:
        """Temporary files in the output folder and in the temporary folder."""
        hidden = [path.name for path in (self.folder / "out").iterdir() if path.name[0] == "."]
        left = [name for name in hidden if "ledger" not in name]
        return [*left, *os.listdir(self.folder / "temporary")]

    def start(self, kind: str, *more: str) -> subprocess.Popen[bytes]:
        """Start a run in a process group of its own."""
        options = ["-q", "--quality", "fast", "-m", "speech-small-16k", *more]
        arguments = [sys.executable, "-m", "audioae", "denoise", *KINDS[kind], *options]
        out = self.folder / "out" / "stdout.wav" if kind == "pipe to pipe" else os.devnull
        with (self.folder / "rec" / "0.wav").open("rb") as stdin, open(out, "wb") as stdout:
            return subprocess.Popen(
                arguments,
                stdin=stdin,
                stdout=stdout,
                stderr=subprocess.PIPE,
                cwd=self.folder,
                env={**os.environ, "TMPDIR": str(self.folder / "temporary")},
                start_new_session=True,
            )

    def wait(self, run: subprocess.Popen[bytes]) -> tuple[int | None, str]:
        """The exit code, None for a hanging run, and what the run printed on stderr."""
        try:
            said = run.communicate(timeout=PATIENCE)[1]
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, signal.SIGKILL)
            return None, run.communicate()[1].decode(errors="replace")
        return run.returncode, said.decode(errors="replace")

    def end_at_random(self, number: signal.Signals) -> None:
        """Start a run, send a signal, and check what is left."""
        self.clear()
        kind = self.draw.choice(sorted(KINDS))
        delay = self.draw.uniform(0.0, 1.05) * self.seconds[kind]
        to_all = number is signal.SIGINT and self.draw.random() < 0.5
        run = self.start(kind)
        time.sleep(delay)
        if run.poll() is None:
            (os.killpg if to_all else os.kill)(run.pid, number)
        code, said = self.wait(run)
        name = f"{number.name} after {delay:.2f} s of {self.seconds[kind]:.2f} s, {kind}"
        self.seen[f"{number.name}: exit code {code}"] += 1
        faults = [f"exit code {code}: {said[-300:]}"] if code not in {0, *CODES[number]} else []
        if "Traceback" in said:
            self.seen[f"{number.name}: tracebacks"] += 1
            faults.append(f"traceback: {said[-500:]}")
        if faults and number is signal.SIGINT and delay < self.start_seconds and OWN not in said:
            self.seen["SIGINT while Python itself starts"] += 1
            print(f"{name}: Python was starting: {' '.join(said.split())[-200:]}", flush=True)
            faults = []
        faults += self.faults_after(kind, run, killed=number is signal.SIGKILL)
        for fault in faults:
            self.seen["faults"] += 1
            print(f"{name}: {fault}", flush=True)

    def faults_after(self, kind: str, run: subprocess.Popen[bytes], *, killed: bool) -> list[str]:
        """What is wrong after a run has ended, and after the next one."""
        faults = []
        if not _is_gone(run.pid):
            os.killpg(run.pid, signal.SIGKILL)
            faults.append("processes are left")
        if not killed and (left := self.leftovers()):
            faults.append(f"left behind: {left}")
        for name in self.differences(kind):
            if name in self.outputs() and name != "stdout.wav":
                faults.append(f"{name} is not complete")
        again = [] if kind in ("batch", "two processes") else ["--overwrite"]
        before = self.outputs()
        code, said = self.wait(self.start(kind, *again))
        if code != 0:
            faults.append(f"the next run has the exit code {code}: {said[-300:]}")
        for name in self.differences(kind) if code == 0 else ():
            made, whole = self.outputs().get(name), self.whole[kind].get(name)
            sizes = [
                None if each is None else len(each) for each in (before.get(name), made, whole)
            ]
            self.keep(name, made, whole)
            faults.append(f"the next run makes another {name}: {sizes} bytes before, now, expected")
        if left := self.leftovers():
            faults.append(f"left behind by the next run: {left}")
        return faults


def python_seconds() -> float:
    """Seconds that Python takes to start."""
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", ""], check=True)
    return time.monotonic() - started


def _is_gone(group: int) -> bool:
    """Whether all processes of a group end by themselves."""
    end = time.monotonic() + LAST_SECONDS
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def main() -> None:
    """Print faults and counts; exit with 1 if there are faults."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sigkill", type=int, default=100)
    parser.add_argument("--sigterm", type=int, default=50)
    parser.add_argument("--sigint", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for files that differ from a whole run")
    given = parser.parse_args()
    # Shells let jobs in the background ignore it, which the runs would inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as name:
        runs = Runs(Path(name), given.seed, given.keep)
        for number in CODES:
            for _ in range(getattr(given, number.name.lower())):
                runs.end_at_random(number)
        for what, count in sorted(runs.seen.items()):
            print(f"{count:6d} {what}")
    sys.exit(1 if runs.seen["faults"] else 0)


if __name__ == "__main__":
    main()
