"""Denoise thousands of damaged files and count what comes of them; run by hand.

    python tests/tools/fuzz_files.py --files 3000 --seed 0
    python tests/tools/fuzz_files.py --kills 30

Each damaged file is a small recording of one format with bytes changed, cut out, doubled or cut
off. All files of a format go through one batch, and some alone. A batch has to end with exit code 0
or 1, without internal errors, and leave nothing but outputs. Killed runs may leave a temporary file
after SIGKILL only, which the next run removes.
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

from audioae.audio import write
from audioae.errors import AudioaeError

FORMATS = (
    *("wav", "aiff", "flac", "ogg", "opus", "mp3", "caf", "w64", "rf64", "au"),
    *("m4a", "mp4", "mka", "webm", "mov"),
)
ALONE = 3  # files of each format that are also denoised alone
HANG_SECONDS = 10.0
SECONDS = 0.4
OPTIONS = ["--strength", "0", "--quality", "fast", "--format", "wav"]


def damage(data: bytes, draw: random.Random) -> bytes:
    """`data` with one to four kinds of damage, most of it near the start, where headers are."""
    broken = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        reach = len(broken) if draw.random() < 0.4 else min(len(broken), 200)
        at, length = draw.randrange(max(reach, 1)), draw.choice((1, 2, 4, 16, 300))
        kind = draw.randrange(6)
        if kind <= 1:
            broken[at : at + length] = draw.randbytes(length)
        elif kind == 2:
            del broken[at : at + length]
        elif kind == 3:
            broken[at:at] = broken[at : at + length]
        elif kind == 4:
            broken[at : at + 4] = draw.choice((b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff"))
        else:
            del broken[draw.randrange(max(len(broken), 1)) :]
    return bytes(broken)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "audioae", "denoise", *arguments]


def leftovers(folder: Path) -> list[str]:
    """Temporary files in and below a folder."""
    return [path.name for path in folder.rglob(".audioae-*") if "ledger" not in path.name]


def fuzz(folder: Path, num_files: int, seed: int) -> collections.Counter[str]:
    """Denoise `num_files` damaged files; what was seen, by kind."""
    seen: collections.Counter[str] = collections.Counter()
    wave = np.random.default_rng(seed).normal(0, 0.1, (1, round(SECONDS * 48000)))
    for suffix in FORMATS:
        whole, source = folder / f"whole.{suffix}", folder / suffix
        try:
            write(whole, wave, 48000)
        except AudioaeError as error:
            seen[f"no {suffix} here ({error})"] += 1
            continue
        source.mkdir()
        draw, data = random.Random(f"{seed} {suffix}"), whole.read_bytes()
        for number in range(num_files // len(FORMATS)):
            (source / f"{number}.{suffix}").write_bytes(damage(data, draw))
        out, limit = folder / f"out-{suffix}", HANG_SECONDS * num_files
        judge(seen, suffix, command(str(source), "-O", str(out), "-q", *OPTIONS), limit)
        for number in range(ALONE):
            alone = command(str(source / f"{number}.{suffix}"), str(folder / "alone.wav"), "-q")
            judge(seen, f"{suffix} alone", [*alone, "--strength", "0", "--overwrite"], HANG_SECONDS)
        seen["outputs"] += sum(1 for _ in out.glob("*.wav"))
        seen["leftovers"] += len(leftovers(folder))
    return seen


def judge(seen: collections.Counter[str], name: str, arguments: list[str], limit: float) -> None:
    """Run a command and count its exit code, internal errors, tracebacks and hangs."""
    try:
        ended = subprocess.run(arguments, capture_output=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        seen[f"hang: {name}"] += 1
        return
    said = ended.stderr.decode(errors="replace")
    seen[f"exit code {ended.returncode}"] += 1
    seen["refused"] += said.count("Error: ")
    for line in said.splitlines():
        if "internal:" in line or "Traceback" in line:
            seen[f"internal: {name}"] += 1
            print(name, line[:300], flush=True)
        elif not line.startswith(("Error: ", "Warning: ", "  ")):
            seen["lines of other libraries"] += 1


def kill(folder: Path, number: int, seed: int) -> collections.Counter[str]:
    """Kill `number` runs at random moments; what was seen, by kind."""
    seen: collections.Counter[str] = collections.Counter()
    draw, source, out = random.Random(seed), folder / "rec", folder / "out"
    source.mkdir()
    for name in range(6):
        write(source / f"{name}.wav", np.random.default_rng(name).normal(0, 0.1, 480_000), 16000)
    started = time.monotonic()
    subprocess.run(command(str(source), "-O", str(out), "-q"), check=True)
    whole = time.monotonic() - started
    for _ in range(number):
        shutil.rmtree(out)
        number_of = draw.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGINT))
        piped = draw.random() < 0.3
        arguments = (
            command("-", str(out / "a.wav"), "-q")
            if piped
            else command(str(source), "-O", str(out), "-q", "-j", str(draw.randint(1, 2)))
        )
        out.mkdir()
        environment = {**os.environ, "TMPDIR": str(folder / "temporary")}
        (folder / "temporary").mkdir(exist_ok=True)
        with (source / "0.wav").open("rb") as stdin:
            run = subprocess.Popen(arguments, stdin=stdin, stderr=subprocess.PIPE, env=environment)
            time.sleep(draw.uniform(0.05, whole))
            run.send_signal(number_of)
            said = (run.communicate(timeout=60)[1] or b"").decode(errors="replace")
        name = number_of.name
        seen[f"{name}: exit code {run.returncode}"] += 1
        seen[f"{name}: tracebacks"] += said.count("Traceback")
        if number_of is not signal.SIGKILL:
            left = [*leftovers(out), *os.listdir(folder / "temporary")]
            seen[f"{name}: leftovers"] += len(left)
        else:
            subprocess.run(command(str(source), "-O", str(out), "-q", "--overwrite"), check=True)
            if not piped:
                seen["left after the next run"] += len(leftovers(out))
        shutil.rmtree(folder / "temporary")
    return seen


def main() -> None:
    """Print the counts as lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=0)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        seen: collections.Counter[str] = collections.Counter()
        if given.files:
            seen += fuzz(Path(name), given.files, given.seed)
        if given.kills:
            seen += kill(Path(name), given.kills, given.seed)
        for what, count in sorted(seen.items()):
            print(f"{count:6d} {what}")


if __name__ == "__main__":
    main()
