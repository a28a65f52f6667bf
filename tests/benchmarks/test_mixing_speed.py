"""How many audio-seconds a second mixing gives, by processor time: one process of `Mixer`, and
`DeviceMixer` on each device.

Run with `pytest -s tests/benchmarks/test_mixing_speed.py`. Data are synthetic, at 16 kHz, or those
in AUDIOAE_DATA.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from audioae.data.augment import AugmentSettings
from audioae.data.manifest import Row, write_manifest
from audioae.data.mixtures import Corpus, DataSettings, DeviceMixer, Mixer

RATE, SECONDS = 16000, 3.0
LEAST = 600  # audio-seconds per second and process, with all effects on
EVERYTHING = AugmentSettings(
    speech_free=0.05, second_noise=0.3, synthetic_noise=0.2, reverb=0.3, eq=0.5, clipping=0.1,
    speed=0.2, band_limit=0.1, codec=0.02, packet_loss=0.05, silence=0.05,
)  # fmt: skip
SETTINGS = {
    "the defaults": AugmentSettings(),
    "all effects": EVERYTHING,
    "no effects": AugmentSettings.plain(),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared data: two minutes of noise that stand in for speech, two of noise, and two rooms."""
    if "AUDIOAE_DATA" in os.environ:
        return Path(os.environ["AUDIOAE_DATA"])
    folder = tmp_path_factory.mktemp("data")
    (folder / "shards").mkdir()
    (folder / "data.json").write_text(json.dumps({"sample_rate": RATE}))
    rng = np.random.default_rng(0)
    for kind, length in (("speech", 10 * RATE), ("noise", 10 * RATE), ("rir", RATE)):
        count, shard = (2 if kind == "rir" else 12), f"shards/{kind}.i16"
        (3000 * rng.standard_normal(count * length)).astype("<i2").tofile(folder / shard)
        rows = [
            Row(f"{kind}{i}", f"{kind}{i}", length / RATE, "train", shard, i * length, length)
            for i in range(count)
        ]
        write_manifest(folder / f"{kind}.jsonl", rows)
    return folder


def rate(mix: Callable[[int], int], clock: Callable[[], float] = time.process_time) -> float:
    """Audio-seconds a second, best of three, after a warm-up in which rooms are computed;
    `mix(number)` tells how many pairs it made.
    """
    for number in range(4):
        mix(10_000 + number)
    best = 0.0
    for attempt in range(3):
        started, made = clock(), 0
        while clock() - started < 1.0:
            made += mix(1000 * attempt + made)
        best = max(best, made * SECONDS / (clock() - started))
    return best


@pytest.mark.parametrize("name", SETTINGS)
def test_one_process_feeds_a_training(data: Path, name: str) -> None:
    settings = DataSettings(segment_seconds=SECONDS, augment=SETTINGS[name])
    mixer = Mixer(Corpus(data, "train", settings), settings)
    for room in range(300):
        mixer.pair(np.random.default_rng([7, room]))

    def mix(number: int) -> int:
        for offset in range(10):
            mixer.pair(np.random.default_rng([1, number + offset]))
        return 10

    found = rate(mix)
    print(
        f"\nMixer, {name}: {found:.0f} audio-seconds per second of processor time, load "
        f"{os.getloadavg()[0]:.1f}"
    )
    assert found > LEAST


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("name", SETTINGS)
def test_a_device_mixes_batches(data: Path, name: str, device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    settings = DataSettings(
        segment_seconds=SECONDS, augment=dataclasses.replace(SETTINGS[name], codec=0.0)
    )
    mixer = DeviceMixer(Corpus(data, "train", settings), settings, device)
    size = 16 if device == "cpu" else 64

    def mix(number: int) -> int:
        mixer.batch(1, number, size)
        if device == "cuda":
            torch.cuda.synchronize()
        return size

    found = rate(mix, time.process_time if device == "cpu" else time.perf_counter)
    draws = rate(
        lambda number: len(
            [mixer.mixer.draw_mixture(np.random.default_rng([2, number + i])) for i in range(size)]
        )
    )
    print(
        f"\nDeviceMixer on {device}, {name}, no codec: {found:.0f} audio-seconds per second; its "
        f"draws alone {draws:.0f}"
    )
    assert found > (LEAST / 2 if device == "cpu" else LEAST)
