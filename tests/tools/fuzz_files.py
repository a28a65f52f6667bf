"""Denoise thousands of damaged files and count what comes of them; run by hand.

    python tests/tools/fuzz_files.py --files 3000 --seed 0

Each damaged file is a small recording of one format with bytes changed, cut out, doubled or cut
off. All files of a format go through one batch, and some alone. A batch has to end with exit code 0
or 1, without internal errors and lines of other libraries, and leave nothing but outputs. Every
second format is denoised by two worker processes. `kill_runs.py` is about runs that are ended.
"""

from __future__ import annotations

import argparse
import collections
import random
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from audioae.audio import write
from audioae.errors import AudioaeError

FORMATS = (
    *("wav", "aiff", "flac", "ogg", "opus", "mp3", "caf", "w64", "rf64", "au"),
    *("m4a", "mp4", "mka", "webm", "mov"),
)
ALONE = 3  # files of each format that are also denoised alone
HANG_SECONDS = 10.0  # of CPU time for a file
PATIENCE = 10  # factor on the time of a command, for a machine that does other things
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
    for index, suffix in enumerate(FORMATS):
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
        batch = command(str(source), "-O", str(out), "-q", "-j", str(1 + index % 2), *OPTIONS)
        judge(seen, suffix, batch, limit)
        for number in range(ALONE):
            alone = command(str(source / f"{number}.{suffix}"), str(folder / "alone.wav"), "-q")
            judge(seen, f"{suffix} alone", [*alone, "--strength", "0", "--overwrite"], HANG_SECONDS)
        seen["outputs"] += sum(1 for _ in out.glob("*.wav"))
        seen["leftovers"] += len(leftovers(folder))
    return seen


def judge(seen: collections.Counter[str], name: str, arguments: list[str], limit: float) -> None:
    """Run a command and count its exit code, internal errors, tracebacks and hangs."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        ended = subprocess.run(
            arguments, capture_output=True, timeout=PATIENCE * limit, check=False
        )
    except subprocess.TimeoutExpired:
        seen[f"hang: {name}"] += 1
        return
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime > limit:
        seen[f"hang: {name}"] += 1
    said = ended.stderr.decode(errors="replace")
    seen[f"exit code {ended.returncode}"] += 1
    seen["refused"] += said.count("Error: ")
    for line in said.splitlines():
        if "internal:" in line or "Traceback" in line or " died " in line:
            seen[f"internal: {name}"] += 1
            print(name, line[:300], flush=True)
        elif not line.startswith(("Error: ", "Warning: ", "  ")):
            seen["lines of other libraries"] += 1
            print(name, line[:200], flush=True)


def main() -> None:
    """Print the counts as lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        seen: collections.Counter[str] = collections.Counter()
        seen += fuzz(Path(name), given.files, given.seed)
        for what, count in sorted(seen.items()):
            print(f"{count:6d} {what}")


if __name__ == "__main__":
    main()
