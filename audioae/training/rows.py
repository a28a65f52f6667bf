"""What a training tells about itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Start:
    """What is about to be trained, measured on the first steps."""

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
    """A few steps further."""

    step: int
    loss: float
    audio_seconds_per_second: float


@dataclass(frozen=True)
class Report:
    """A validation. `loss` is the mean over the training steps since the last report; metrics are means over the validation mixtures.

    `averaged` counts the checkpoints whose mean was judged, 0 for the running average; `reports_since_best` is what patience counts.
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


Row = Start | Progress | Report
