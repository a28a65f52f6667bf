"""Trainings that take a second, and comparisons between them; `tiny` makes the data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tiny import BINS, STFT
from torch import Tensor

from audioae.data.mixtures import DataSettings
from audioae.models import Denoiser, NetworkSettings, build_autoencoder
from audioae.models.checkpoint import read_tensors
from audioae.models.conv1d import Conv1dSettings
from audioae.models.conv2d import Conv2dSettings
from audioae.training import Report, Row, Start, TrainSettings, fit
from audioae.training.validation import ValidationSettings

torch.set_num_threads(1)

CONV1D = Conv1dSettings(num_bins=BINS, channels=(24, 16), kernel=3)
SAMPLED = Conv2dSettings(
    num_bins=BINS,
    channels=(4, 6),
    time_strides=(1, 2),
    skip=True,
    bottleneck="gaussian",
    num_features=3,
    gain="complex",
)
DATA = DataSettings(segment_seconds=0.25)
SHORT = TrainSettings(
    steps=18,
    batch_size=2,
    learning_rate=3e-3,
    warmup_steps=3,
    decay_steps=10,
    ema=0.9,
    report_steps=6,
    best="si_sdr",
    validation=ValidationSettings(pairs=2, seconds=0.5),
)


def build(network: NetworkSettings = CONV1D, seed: int = 0) -> Denoiser:
    torch.manual_seed(seed)
    return Denoiser(build_autoencoder(network), STFT, name="small")


def train(
    folder: Path,
    out: Path,
    settings: TrainSettings = SHORT,
    network: NetworkSettings = SAMPLED,
    **more: Any,
) -> list[Row]:
    return list(fit(build(network), settings, DATA, folder=folder, out=out, **more))


def reports(rows: list[Row]) -> list[Report]:
    return [row for row in rows if isinstance(row, Report)]


def stop_after(steps: int) -> Callable[[], bool]:
    """A `stop` function that returns True after that many steps."""
    asked = iter(range(1, steps))
    return lambda: next(asked, None) is None


def start_of(rows: list[Row]) -> Start:
    """The `Start` row."""
    [start] = [row for row in rows if isinstance(row, Start)]
    return start


def history(out: Path) -> list[dict[str, Any]]:
    """The lines of history.jsonl without their times."""
    lines = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def same_tensors(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(value, other[name]) for name, value in one.items()
    )


def assert_same_run(out: Path, expected: Path) -> None:
    """Compare weights, averages, optimizer state, counters and history of two runs bit for bit."""
    for name in ("resume", "last", "best"):
        (tensors, about), (others, their) = (
            read_tensors(run / f"{name}.safetensors") for run in (out, expected)
        )
        assert same_tensors(tensors, others), name
        if name == "resume":
            assert {**about, "seconds": 0} == {**their, "seconds": 0}
    assert history(out) == history(expected)
