"""A batch that is killed at any moment leaves only complete outputs, and resumes to the same bytes.

Twenty moments are tried; set AUDIOAE_KILLS=100 to try a hundred.
"""

from __future__ import annotations

import math
import os
import random
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fake_models import write_half_model
from forking import forking

CHECKOUT = Path(__file__).parents[1]
KILLS = int(os.environ.get("AUDIOAE_KILLS", "20"))
AT_ONCE = 10
FILES = 12
PATIENCE = 120.0  # seconds until a test gives up
pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")


@pytest.fixture
def case(tmp_path: Path) -> Path:
    """A folder with a model and `rec/`, which has files of different lengths."""
    rng = np.random.default_rng(0)
    (tmp_path / "rec").mkdir()
    for number in range(FILES):
        soundfile.write(
            tmp_path / "rec" / f"{number}.wav",
            rng.normal(0, 0.1, 16000 * (1 + 3 * (number % 4))),
            16000,
        )
    write_half_model(tmp_path / "half.onnx")
    return tmp_path


def arguments(out: str, jobs: int) -> list[str]:
    return ["denoise", "rec", "-O", out, "-m", "half.onnx", "-q", "--jobs", str(jobs)]


def run_batch(case: Path, out: str, jobs: int) -> None:
    """Run the command in this process, with stderr in a file."""
    from audioae.cli import main

    os.environ["OMP_NUM_THREADS"] = "1"
    os.chdir(case)
    os.dup2(os.open("stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    main(arguments(out, jobs), prog_name="audioae")


def start(case: Path, out: str, jobs: int) -> ForkServerProcess:
    """A batch as a child of a server that has the package loaded: it starts in milliseconds."""
    batch = forking().Process(target=run_batch, args=(case, out, jobs))
    batch.start()
    return batch


def end(batch: ForkServerProcess, case: Path) -> tuple[bytes, int | None]:
    """Wait for the end of a batch; what it printed on stderr, and its exit code."""
    batch.join(PATIENCE)
    return (case / "stderr").read_bytes(), batch.exitcode


def audio(folder: Path) -> dict[str, bytes]:
    """The files with final names."""
    files = (path for path in folder.glob("*.wav") if not path.name.startswith("."))
    return {path.name: path.read_bytes() for path in files}


def written(case: Path, out: str) -> int:
    """The size of the ledger in bytes."""
    ledger = case / out / ".audioae-ledger.jsonl"
    return ledger.stat().st_size if ledger.exists() else 0


def until_files(batch: ForkServerProcess, case: Path, out: str) -> None:
    """Wait until a batch has started a file, or has ended."""
    before = written(case, out)
    while batch.is_alive() and written(case, out) == before:
        time.sleep(0.002)


def undisturbed(case: Path) -> tuple[dict[str, bytes], float, float]:
    """The outputs of a batch, the seconds until it starts a file, and the seconds after that."""
    started = time.monotonic()
    batch = start(case, "whole", 1)
    until_files(batch, case, "whole")
    begun = time.monotonic()
    assert end(batch, case) == (b"", 0)
    return audio(case / "whole"), begun - started, time.monotonic() - begun


@pytest.mark.parametrize("seed", range(math.ceil(KILLS / AT_ONCE)))
def test_kills_at_random_moments(case: Path, seed: int) -> None:
    end(start(case, "nowhere", 1), case)  # starts the server
    expected, start_seconds, work_seconds = undisturbed(case)
    assert len(expected) == FILES
    draw, kills, completed, at_work, run = random.Random(seed), 0, 0, 0, 0
    while kills < min(AT_ONCE, KILLS):
        run += 1
        out = f"out{completed}"
        batch = start(case, out, jobs=1 + run % 2)
        if run % 4:  # most kills are during the files, some before
            until_files(batch, case, out)
        batch.join(draw.uniform(0, work_seconds if run % 4 else start_seconds))
        if batch.is_alive():
            batch.kill()
            kills += 1
        stderr, exit_code = end(batch, case)
        there = audio(case / out)
        assert there.items() <= expected.items(), "files with final names are complete"
        if exit_code == 0:
            assert there == expected
            completed += 1
        else:
            assert exit_code == -9
            # Python itself may complain about a parent that dies while it starts a process
            assert b"audioae" not in stderr, stderr
            at_work += 0 < len(there) < FILES
    out = f"out{completed}"
    assert end(start(case, out, 1), case) == (b"", 0)
    assert audio(case / out) == expected
    assert not list((case / out).glob(".audioae-*-*"))
    print(f"\n{kills} kills, {at_work} of them between files, {completed + 1} batches completed")
    assert at_work
