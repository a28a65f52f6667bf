"""What a training tells about itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mixing:
    """The validation mixtures, `pairs` of so many seconds, are about to be made and their noisy
    sides scored.
    """

    pairs: int
    seconds: float


@dataclass(frozen=True)
class Noisy:
    """What a model has to beat: the means over the validation mixtures as they are, noisy; None
    where a metric cannot be computed.

    In the history it is the first line, of step 0.
    """

    step: int
    noisy_loss: float | None
    noisy_si_sdr: float | None
    noisy_pesq: float | None
    noisy_stoi: float | None


@dataclass(frozen=True)
class Start:
    """What is about to be trained, and how fast its first steps were."""

    parameters: int
    macs_per_second: int
    speech_hours: float
    noise_hours: float
    steps: int
    first_step: int
    audio_seconds_per_second: float
    seconds_left: float


@dataclass(frozen=True)
class Progress:
    """A few steps further. Speed and the seconds that are left come from a running average, see
    `Pace`.
    """

    step: int
    loss: float
    audio_seconds_per_second: float
    seconds_left: float


@dataclass(frozen=True)
class Report:
    """A validation. `loss` is the mean over the training steps since the last report; metrics are
    means over the validation mixtures.

    `averaged` counts the checkpoints whose mean was judged, 0 for the running average;
    `reports_since_best` is what patience counts.
    """

    step: int
    audio_hours: float
    learning_rate: float
    loss: float
    valid_loss: float | None
    valid_si_sdr: float | None
    valid_pesq: float | None
    valid_stoi: float | None
    skipped_steps: int
    seconds: float
    is_best: bool
    reports_since_best: int = 0
    averaged: int = 0


Row = Mixing | Noisy | Start | Progress | Report
