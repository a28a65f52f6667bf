"""How many files a second a batch cleans, by the number of processes.

Run with `pytest -s tests/benchmarks/test_batch_speed.py`. The model is the default one, AUDIOAE_DENOISE_MODEL, or one that costs nothing.
Where other work takes the cores, wall-clock time says nothing; the processor time that a file costs does, and is what is asserted
everywhere.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
from half_model import write_half_model

from audioae.pretrained import list_models

FILES, SECONDS = 64, 20
CHECKOUT = Path(__file__).parents[2]


@dataclass
class Run:
    """Wall-clock and processor seconds of a batch, its processes included."""

    seconds: float
    cpu_seconds: float


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("batch")
    (folder / "rec").mkdir()
    rng = np.random.default_rng(0)
    for number in range(FILES):
        soundfile.write(folder / "rec" / f"{number}.wav", rng.normal(0, 0.05, 16000 * SECONDS), 16000)
    return folder


def batch(case: Path, jobs: int) -> Run:
    model = os.environ.get("AUDIOAE_DENOISE_MODEL") or (None if list_models() else write_half_model(case / "half.onnx"))
    command = [sys.executable, "-m", "audioae", "denoise", "rec", "-O", f"out{jobs}", "-q", "--jobs", str(jobs)]
    command += ["-m", str(model)] if model else []
    os.chdir(case)
    started = time.perf_counter()
    process = os.posix_spawn(sys.executable, command, {**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"})
    _, status, usage = os.wait4(process, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert len(list((case / f"out{jobs}").iterdir())) == FILES + 1  # and the ledger
    return Run(time.perf_counter() - started, usage.ru_utime + usage.ru_stime)


def idle_cores() -> float:
    return len(os.sched_getaffinity(0)) - os.getloadavg()[0]


def test_files_per_second_grow_with_processes(case: Path) -> None:
    idle = idle_cores()
    cores = len(os.sched_getaffinity(0))
    curve = {jobs: batch(case, jobs) for jobs in sorted({1, 2, *(2**power for power in range(2, 8) if 2**power <= cores), cores})}
    alone = curve[1]
    for jobs, run in curve.items():
        gain = alone.seconds / run.seconds
        print(
            f"\n{jobs:3} processes: {FILES / run.seconds:6.1f} files/s ({gain:.2f} x), {1000 * run.cpu_seconds / FILES:.0f} ms CPU a file"
        )
    assert curve[2].cpu_seconds < 1.3 * alone.cpu_seconds + 2  # no work is done twice; a process costs a second to start
    if idle > 1.8:
        assert alone.seconds / curve[2].seconds >= 1.8
