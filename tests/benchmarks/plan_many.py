"""Time and memory for planning a batch of very many files; run by hand.

    python tests/benchmarks/plan_many.py [--files 100000]

Makes short WAV files in a temporary folder and runs `audioae denoise FOLDER -O OUT --dry-run` on
them. The goal for 100,000 files is one minute of CPU time and 200 MB.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

IN_A_FOLDER = 1000


def make_files(folder: Path, number: int) -> None:
    """Equal recordings of 10 ms."""
    memory = io.BytesIO()
    soundfile.write(memory, np.zeros(160), 16000, format="WAV")
    for at in range(number):
        path = folder / f"{at // IN_A_FOLDER:04d}" / f"recording-{at:06d}.wav"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(memory.getvalue())


def loop_seconds() -> float:
    """CPU seconds of an empty loop, to compare machines and their load."""
    started = time.process_time()
    for _ in range(10_000_000):
        pass
    return time.process_time() - started


def main() -> None:
    """Print CPU seconds and the peak of memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        recordings = Path(name, "rec")
        recordings.mkdir()
        make_files(recordings, given.files)
        command = ["denoise", str(recordings), "-O", str(Path(name, "out")), "--dry-run", "-q"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, "-m", "audioae", *command], check=True, env=environment)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"{given.files} files: {used.ru_utime:.1f} s in Python, {used.ru_stime:.1f} s in the",
        end=" ",
    )
    print(f"system, {1e3 * (used.ru_utime + used.ru_stime) / given.files:.2f} ms a file,", end=" ")
    print(
        f"{used.ru_maxrss / 1024:.0f} MB; a loop of 10 million turns takes {loop_seconds():.2f} s"
    )


if __name__ == "__main__":
    main()
