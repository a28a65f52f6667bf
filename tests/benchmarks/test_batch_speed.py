"""How many files a second a batch cleans, by the number of processes; measured by `speed`.

Run with `pytest -s tests/benchmarks/test_batch_speed.py`. The model is the default one,
AUDIOAE_DENOISE_MODEL, or one that costs nothing. Where other work takes the cores, wall-clock time
says nothing; the processor time that a file costs does, and is what is asserted everywhere.
"""

from __future__ import annotations

import os
from pathlib import Path

from fake_models import write_half_model
from machine import cores
from speed import batch, make_batch

from audioae.pretrained import list_models

FILES = 64


def test_files_per_second_grow_with_processes(tmp_path: Path) -> None:
    model = os.environ.get("AUDIOAE_DENOISE_MODEL") or (
        None if list_models() else write_half_model(tmp_path / "half.onnx")
    )
    recordings = make_batch(tmp_path / "rec", files=FILES)
    idle = cores() - os.getloadavg()[0]
    numbers = sorted({1, 2, *(2**power for power in range(2, 8) if 2**power <= cores()), cores()})
    curve = {jobs: batch(recordings, jobs, model=model) for jobs in numbers}
    alone = curve[1]
    for jobs, run in curve.items():
        gain = alone.seconds / run.seconds
        print(
            f"\n{jobs:3} processes: {FILES / run.seconds:6.1f} files/s ({gain:.2f} x), "
            f"{1000 * run.cpu_seconds / FILES:.0f} ms CPU a file"
        )
    assert (
        curve[2].cpu_seconds < 1.3 * alone.cpu_seconds + 2
    )  # no work is done twice; a process costs a second to start
    if idle > 1.8:
        assert alone.seconds / curve[2].seconds >= 1.8
