"""The settings of a training, and the learning rate schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from audioae.errors import SettingsError
from audioae.fields import check_settings
from audioae.training.losses import check_weights
from audioae.training.validation import ValidationSettings

Precision = Literal["fp32", "bf16", "fp16"]


MAX_STEPS = 10**9
# Larger values are mistakes: nothing trains with them, or there is no memory for it.
RANGES: dict[str, tuple[float, float]] = {
    "steps": (1, MAX_STEPS),
    "batch_size": (1, 65_536),
    "accumulate": (1, 65_536),
    "learning_rate": (0, 10),
    "warmup_steps": (0, MAX_STEPS),
    "decay_steps": (0, MAX_STEPS),
    "weight_decay": (0, 100),
    "betas": (0, 1),
    "clip_norm": (0, 1e6),
    "ema": (0, 1),
    "report_steps": (1, MAX_STEPS),
    "patience": (0, MAX_STEPS),
    "average_checkpoints": (0, 1000),
    "workers": (0, 1024),
    "seed": (0, 2**31 - 1),
}


def default_weights() -> dict[str, float]:
    """The weights with the best scores: as much magnitude loss as SI-SDR allows."""
    return {"compressed_magnitude": 9.0, "compressed_complex": 4.0, "negative_si_sdr": 0.003}


@dataclass(frozen=True)
class TrainSettings:
    """The settings of a training.

    Args:
        steps: number of optimizer steps.
        batch_size: pairs per step, over all processes.
        accumulate: number of parts in which each process computes its share of a batch, to save
            memory.
        learning_rate: its maximum, after `warmup_steps`. It is constant until the last
            `decay_steps`, in which it falls to zero as half a cosine; 0 is a decay over all steps.
        weight_decay, betas: settings of AdamW.
        clip_norm: maximum norm of the gradients.
        ema: decay per step of the moving average of weights and BatchNorm statistics.
        loss: weight of each loss, see `losses`.
        precision: "bf16" and "fp16" run the network under autocast, "fp16" with a scaled loss. STFT
            and losses are always fp32.
        compile: compile the network with torch.compile, which needs a C++ compiler and takes about
            a minute.
        validation: the fixed mixtures on which the model is scored every `report_steps` steps.
        best: the score that selects the best checkpoint; "combined" is the sum of all, see
            `validation.COMBINED`, and needs `validation.dnsmos`.
        patience: the run ends after this many reports without a new best; 0 is never.
        average_checkpoints: number of checkpoints that are kept and averaged at the end of the run;
            0 is none.
        average_of: the checkpoints that are kept, "best" or "last".
        mix_on: "workers" mixes on the CPU; "device" mixes on the device of the network and holds
            all audio there; "auto" is "device" on a GPU.
        workers: number of processes that mix; 0 mixes in the training process.
        seed: for weights and mixtures. The validation set is the same for all seeds.

    Raises:
        SettingsError: a value is out of range, or a loss does not exist.
    """

    steps: int = 20000
    batch_size: int = 16
    accumulate: int = 1
    learning_rate: float = 2e-3
    warmup_steps: int = 300
    decay_steps: int = 0
    weight_decay: float = 1e-2
    betas: tuple[float, float] = (0.9, 0.98)
    clip_norm: float = 1.0
    ema: float = 0.999
    loss: dict[str, float] = field(default_factory=default_weights)
    precision: Precision = "fp32"
    compile: bool = False
    validation: ValidationSettings = field(default_factory=ValidationSettings)
    report_steps: int = 1000
    best: Literal["pesq", "si_sdr", "loss", "combined"] = "pesq"
    patience: int = 0
    average_checkpoints: int = 0
    average_of: Literal["best", "last"] = "best"
    mix_on: Literal["auto", "workers", "device"] = "auto"
    workers: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        check_settings(self, RANGES)
        check_weights(self.loss)
        if not all(0 <= weight <= 1e6 for weight in self.loss.values()):
            raise SettingsError(f"TrainSettings.loss is {self.loss}; expected weights of 0 to 1e6")
        if self.best == "combined" and not self.validation.dnsmos:
            raise SettingsError(
                "TrainSettings.best is 'combined', which has DNSMOS in it; set validation.dnsmos"
            )
        if max(self.betas) >= 1:
            raise SettingsError(f"TrainSettings.betas is {self.betas}; expected less than 1 each")

    def share(self, processes: int) -> int:
        """Pairs per batch and process; `SettingsError` if the batch does not divide evenly."""
        share, rest = divmod(self.batch_size, processes)
        if rest:
            raise SettingsError(
                f"TrainSettings.batch_size {self.batch_size} does not divide among {processes} "
                "processes"
            )
        if share % self.accumulate:
            raise SettingsError(
                f"TrainSettings.accumulate {self.accumulate} does not divide the {share} pairs "
                "that each process takes"
            )
        return share


def learning_rate_at(step: int, settings: TrainSettings) -> float:
    """Learning rate of a step: linear warm-up, constant, half a cosine down to zero."""
    decay = settings.decay_steps or settings.steps
    warm = min(1.0, (step + 1) / max(1, settings.warmup_steps))
    into_decay = max(0.0, (step - (settings.steps - decay)) / decay)
    return settings.learning_rate * warm * (1 + math.cos(math.pi * min(1.0, into_decay))) / 2
