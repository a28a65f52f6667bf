"""How a network is fitted, and the learning rate that follows from it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from audioae.errors import SettingsError
from audioae.training.losses import check_weights
from audioae.training.validation import ValidationSettings

Precision = Literal["fp32", "bf16", "fp16"]


def default_weights() -> dict[str, float]:
    """The weights that measured best: lean on the magnitude as far as SI-SDR allows."""
    return {"compressed_magnitude": 9.0, "compressed_complex": 4.0, "negative_si_sdr": 0.003}


@dataclass(frozen=True)
class TrainSettings:
    """How a network is fitted.

    Args:
        steps: optimizer steps in all. batch_size: pairs a step, over all processes.
        accumulate: parts that each process takes its share of a batch in, one after the other: less
            memory for the same step.
        learning_rate: its peak, after `warmup_steps`; it stays there and falls to zero as a half
            cosine over the last `decay_steps` (0: over all steps, the usual cosine).
        weight_decay, betas: of AdamW. clip_norm: largest norm of the gradients.
        ema: decay of the running average of weights and BatchNorm statistics a step.
        loss: weight of each loss, see `losses`.
        precision: "bf16" and "fp16" run the network under autocast, "fp16" with a scaled loss; STFT
            and losses stay in fp32.
        compile: let torch.compile build the network's kernels; needs a C++ compiler, and a minute
            at the start.
        validation: the fixed mixtures that a model is judged on every `report_steps`; `best` is
            what the best checkpoint is best in.
        patience: reports without a new best after which the run ends; 0 never ends it.
        average_checkpoints: as many checkpoints are kept and averaged when the run ends; 0 averages
            none.
        average_of: which are kept, the "best" or the "last".
        mix_on: "workers" mixes in the processor, "device" where the network is, with all audio held
            there; "auto" takes the device when it is a GPU.
        workers: processes that mix; 0 mixes in the training process.
        seed: of weights, mixtures and validation set.
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
    best: Literal["pesq", "si_sdr", "loss"] = "pesq"
    patience: int = 0
    average_checkpoints: int = 0
    average_of: Literal["best", "last"] = "best"
    mix_on: Literal["auto", "workers", "device"] = "auto"
    workers: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        check_weights(self.loss)
        for name in ("steps", "batch_size", "accumulate", "report_steps"):
            if getattr(self, name) < 1:
                raise SettingsError(
                    f"TrainSettings.{name} is {getattr(self, name)}; expected at least 1"
                )
        for name in (
            "learning_rate",
            "weight_decay",
            "clip_norm",
            "workers",
            "patience",
            "average_checkpoints",
        ):
            if getattr(self, name) < 0:
                raise SettingsError(
                    f"TrainSettings.{name} is {getattr(self, name)}; expected no less than 0"
                )

    def share(self, processes: int) -> int:
        """Pairs of a batch that each of `processes` takes; `SettingsError` where they do not divide
        evenly.
        """
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
    """Linear warm-up, a plateau, half a cosine down to zero."""
    decay = settings.decay_steps or settings.steps
    warm = min(1.0, (step + 1) / max(1, settings.warmup_steps))
    into_decay = max(0.0, (step - (settings.steps - decay)) / decay)
    return settings.learning_rate * warm * (1 + math.cos(math.pi * min(1.0, into_decay))) / 2
