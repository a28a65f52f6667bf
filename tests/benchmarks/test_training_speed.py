"""How fast networks train: audio-seconds per second and core, and what is left of it when all cores
train together; memory over many steps.

Run with `pytest -s tests/benchmarks/test_training_speed.py`. Speeds are per second of processor
time, which other work on the machine disturbs less than the clock; its load is printed beside them.
What is asserted leaves room for slower machines.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import time
from dataclasses import dataclass
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from audioae.models import Denoiser, NetworkSettings, build_autoencoder
from audioae.models.conv2d import Conv2dSettings
from audioae.models.dense import DenseSettings
from audioae.models.dualpath import DualpathSettings
from audioae.signal.spectrogram import StftSettings
from audioae.training import Trainer, TrainSettings
from audioae.training.recipe import find_recipe, read_recipe

SECONDS, PAIRS, STEPS = 2.0, 8, 6
RATE = 16000

NETWORKS: dict[str, NetworkSettings] = {
    "conv2d, 47k parameters": Conv2dSettings(),
    "dualpath, 70k parameters": DualpathSettings(
        outer=16, inner=32, time_mixers=("conv",) * 4, dilations=(1, 2, 4, 8)
    ),
    "recipe conv2d-speech-16k": read_recipe(find_recipe("conv2d-speech-16k")).network,
    "recipe speech-16k": read_recipe(find_recipe("speech-16k")).network,
    "recipe quick-16k": read_recipe(find_recipe("quick-16k")).network,
}
AT_LEAST = {
    "conv2d, 47k parameters": 100,
    "dualpath, 70k parameters": 28,
}  # audio-seconds per second and core


@dataclass
class Speed:
    """Audio-seconds per second of processor time and of the clock."""

    processor: float
    clock: float


def trainer_of(network: NetworkSettings, **more: Any) -> Trainer:
    torch.manual_seed(0)
    settings = TrainSettings(batch_size=PAIRS, report_steps=10**6, **more)
    return Trainer(Denoiser(build_autoencoder(network), StftSettings()), settings, device="cpu")


def measure(network: NetworkSettings, precision: str = "fp32", steps: int = STEPS) -> Speed:
    """Train on one thread; the quickest half of the steps counts, the others were disturbed."""
    torch.set_num_threads(1)
    trainer = trainer_of(network, precision=precision)
    clean = 0.1 * torch.randn(PAIRS, round(SECONDS * RATE))
    noisy = clean + 0.1 * torch.randn_like(clean)
    trainer.train_step(noisy, clean)
    taken = []
    for _ in range(steps):
        processor, clock = time.process_time(), time.perf_counter()
        trainer.train_step(noisy, clean)
        taken.append((time.process_time() - processor, time.perf_counter() - clock))
    taken.sort()
    half = taken[: max(1, steps // 2)]
    audio = SECONDS * PAIRS * len(half)
    return Speed(audio / sum(each[0] for each in half), audio / sum(each[1] for each in half))


def load() -> str:
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


@pytest.mark.parametrize("name", NETWORKS)
def test_a_core_trains(name: str) -> None:
    info = Denoiser(build_autoencoder(NETWORKS[name]), StftSettings()).info
    told = []
    for precision in ("fp32", "bf16"):
        speed = measure(NETWORKS[name], precision)
        told.append(speed.processor)
        print(f"\n{name}: {info.parameters:,} parameters, {info.macs_per_second / 1e6:.0f} "
              f"MMAC/s, {precision}: "
              f"{speed.processor:.0f} audio-s per processor-s, {speed.clock:.0f} by the clock "
              f"({load()})")  # fmt: skip
    assert max(told) > 0.5 * AT_LEAST.get(name, 0)


def in_a_child(network: NetworkSettings, begin: object, answers: object) -> None:
    begin.wait()  # type: ignore[attr-defined]
    answers.put(measure(network))  # type: ignore[attr-defined]


def test_all_cores_train_together() -> None:
    network, cores = NETWORKS["conv2d, 47k parameters"], len(os.sched_getaffinity(0))
    alone = measure(network)
    spawning = multiprocessing.get_context("spawn")
    begin, answers = spawning.Barrier(cores), spawning.Queue()
    processes = [
        spawning.Process(target=in_a_child, args=(network, begin, answers)) for _ in range(cores)
    ]
    for process in processes:
        process.start()
    speeds = [answers.get(timeout=300) for _ in processes]
    for process in processes:
        process.join()
    kept = sum(speed.processor for speed in speeds) / cores / alone.processor
    print(
        f"\n{cores} cores together keep {100 * kept:.0f} % of one core's {alone.processor:.0f} "
        f"audio-s per processor-s ({load()})"
    )
    assert kept > 0.5


def test_memory_does_not_grow() -> None:
    trainer = trainer_of(Conv2dSettings(channels=(4, 8), time_strides=(2, 2)))
    torch.set_num_threads(1)
    clean = 0.1 * torch.randn(2, RATE // 4)
    peaks = []
    for count in (200, 1000):
        for _ in range(count):
            trainer.train_step(clean, clean)
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    print(f"\npeak memory after 200 steps {peaks[0]:.0f} MiB, after 1,200 steps {peaks[1]:.0f} MiB")
    assert peaks[1] < peaks[0] + 10


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")  # of the compiler's own making
def test_compiled_kernels_take_the_same_steps() -> None:
    network = DenseSettings(patch=4, widths=(16,), activation="identity")
    plain, compiled = (trainer_of(network, compile=value) for value in (False, True))
    clean = 0.1 * torch.randn(PAIRS, RATE // 4)
    for _ in range(2):
        losses = [
            trainer.train_step(clean + 0.1 * torch.ones_like(clean), clean)
            for trainer in (plain, compiled)
        ]
        assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    average = compiled.average.state_dict()
    assert plain.model.state_dict().keys() == compiled.model.state_dict().keys()
    for name, value in plain.average.state_dict().items():
        torch.testing.assert_close(average[name], value, atol=2e-3, rtol=0)
