"""What a long training does to memory: `audioae train` as people start it, with every effect,
reports, averages and TensorBoard.

Run with `pytest -s tests/benchmarks/test_training_memory.py`: two minutes, or
AUDIOAE_BENCH_MINUTES; an hour is AUDIOAE_BENCH_MINUTES=60. Data are synthetic, or those in
AUDIOAE_DATA (16 kHz). What is watched is the memory that the process has taken for itself
(RssAnon); pages of the shards, which the system gives and takes back, are not in it.
"""

from __future__ import annotations

import faulthandler
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tiny import hiss, voice

pytest.importorskip("torch")
pytest.importorskip("tensorboard")

CHECKOUT = Path(__file__).parents[2]
RATE = 16000
MINUTES = float(os.environ.get("AUDIOAE_BENCH_MINUTES", "2"))
EVERY = max(2.0, MINUTES * 60 / 200)  # seconds between two looks
LINES = 20  # of the course that is printed
GROWTH, MARGIN = 1.03, 20.0  # at most, from a third of the time to its end: a factor, and MiB
PATIENCE = 300  # seconds until it trains, and until it has ended

RECIPE = """
name = "watched"
family = "conv1d"
network = { channels = [64, 32], kernel = 3, skip = true }
[data]
segment_seconds = 2.0
[data.augment]
speech_free = 0.05
second_noise = 0.3
synthetic_noise = 0.2
babble = 0.2
reverb = 0.3
eq = 0.5
clipping = 0.1
speed = 0.2
band_limit = 0.1
codec = 0.05
packet_loss = 0.1
silence = 0.05
remix = 0.2
[training]
steps = 100000000
batch_size = 4
report_steps = 50
average_checkpoints = 3
best = "si_sdr"
validation = { pairs = 4, seconds = 2.0 }
"""


def write_sounds(folder: Path) -> list[str]:
    """Twenty voices of 20 s, twenty noises of 20 s and five rooms, and the options that train on
    them.
    """
    rng = np.random.default_rng(0)
    for number in range(20):
        save(
            folder / "voices" / str(number) / "voice.wav", voice(rng, 40.0)
        )  # written at twice the rate that it is made for
        save(folder / "noises" / str(number) / "noise.wav", hiss(rng, 40.0, number / 20))
    for number in range(5):
        decay = 10 ** (-3 * np.arange(RATE // 2) / RATE / (0.2 + 0.1 * number))
        save(
            folder / "rooms" / str(number) / "room.wav",
            0.1 * rng.standard_normal(RATE // 2) * decay,
        )
    return [
        f"--clean={folder / 'voices'}",
        f"--noise={folder / 'noises'}",
        f"--rir={folder / 'rooms'}",
    ]


def save(path: Path, waveform: np.ndarray) -> None:
    path.parent.mkdir(parents=True)
    soundfile.write(path, waveform, RATE)


@contextmanager
def training(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """`audioae train`, from the moment that it takes steps; what it says is in `log`."""
    (folder / "recipe.toml").write_text(RECIPE)
    data = os.environ.get("AUDIOAE_DATA")
    sounds = [f"--data={data}"] if data else write_sounds(folder)
    command = [
        sys.executable,
        "-m",
        "audioae",
        "train",
        str(folder / "recipe.toml"),
        *sounds,
        "--tensorboard",
        f"--out={folder / 'run'}",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(CHECKOUT)}
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, env=environment, stderr=log, text=True) as process,
    ):
        try:
            began = time.monotonic()
            while "steps 0 to" not in (told := (folder / "log").read_text()):
                assert process.poll() is None and time.monotonic() < began + PATIENCE, told
                time.sleep(0.5)
            yield process
        finally:
            process.kill()


def anonymous_mib(process: int) -> float:
    """What a process has taken for itself, MiB."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.findall(r"^RssAnon:\s+(\d+) kB", status, re.MULTILINE)[0]) / 1024


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(),
    reason="the system does not tell what memory is a process's own",
)
def test_a_long_training_takes_no_more_memory(tmp_path: Path) -> None:
    faulthandler.cancel_dump_traceback_later()  # pytest's, after which a test counts as hung
    with training(tmp_path) as process:
        began, course = time.monotonic(), []
        while (passed := time.monotonic() - began) < 60 * MINUTES:
            assert process.poll() is None, (tmp_path / "log").read_text()
            course.append((passed, anonymous_mib(process.pid)))
            time.sleep(EVERY)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
    reports = re.findall(r"^step ([\d,]+) .*", (tmp_path / "log").read_text(), re.MULTILINE)
    for seconds, mib in course[:: max(1, len(course) // LINES)]:
        print(f"\n{seconds / 60:6.1f} min {mib:8.1f} MiB", end="")
    window = max(1, len(course) // 10)
    third = statistics.median(mib for _, mib in course[len(course) // 3 :][:window])
    end = statistics.median(mib for _, mib in course[-window:])
    print(
        f"\nafter a third {third:.1f} MiB, at the end {end:.1f} MiB; {len(reports)} reports, the "
        f"last at step {(reports or ['0'])[-1]}"
    )
    assert end < GROWTH * third + MARGIN
