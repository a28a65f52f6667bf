"""TensorBoard: curves of losses, learning rate and scores, audio and spectrograms of examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from audioae.data.mixtures import DataSettings
from audioae.errors import require
from audioae.models.checkpoint import load_denoiser
from audioae.signal.spectrogram import Array, StftSettings, stft
from audioae.training import Noisy, Progress, Report, Row, TrainSettings, learning_rate_at
from audioae.training.validation import Validation

EXAMPLES = 3  # validation mixtures
SCORES = ("loss", "si_sdr", "pesq", "stoi")
RANGE_DB = 80.0  # from white to black


class Tracker:
    """Writes the rows of a run to `RUN/tensorboard`, for `tensorboard --logdir RUN`."""

    def __init__(
        self,
        out: Path,
        folder: Path,
        data: DataSettings,
        settings: TrainSettings,
        transform: StftSettings,
    ) -> None:
        require("tensorboard", extra="train")
        from torch.utils.tensorboard import SummaryWriter

        self.out, self.settings, self.stft = out, settings, transform
        self.noisy: Noisy | None = None
        self.writer: Any = SummaryWriter(str(out / "tensorboard"))
        examples = Validation(
            folder,
            data,
            settings.validation,
            settings.loss,
            every=max(1, settings.validation.pairs // EXAMPLES),
        )
        self.pairs = examples.pairs[:EXAMPLES]
        for number, (noisy, clean) in enumerate(self.pairs):
            self.show(number, "noisy", noisy.numpy(), 0)
            self.show(number, "clean", clean.numpy(), 0)

    def write(self, row: Row) -> None:
        """Write a row; after a report, also the enhanced examples."""
        if isinstance(row, Progress):
            self.writer.add_scalar("train/loss", row.loss, row.step)
            self.writer.add_scalar(
                "train/learning_rate", learning_rate_at(row.step - 1, self.settings), row.step
            )
            self.writer.add_scalar(
                "train/audio_seconds_per_second", row.audio_seconds_per_second, row.step
            )
        elif isinstance(row, Noisy):
            self.noisy = row
        elif isinstance(row, Report) and not row.averaged:
            for name in SCORES:
                self.add(f"valid/{name}", getattr(row, f"valid_{name}"), row.step)
                # A constant: the score of the noisy mixtures, for comparison.
                noisy = getattr(self.noisy, f"noisy_{name}", None)
                self.add(f"valid/{name}_noisy", noisy, row.step)
            self.writer.add_scalar("train/skipped_steps", row.skipped_steps, row.step)
            self.enhance(row.step)
            self.writer.flush()

    def add(self, name: str, value: float | None, step: int) -> None:
        """Add a point to a curve, unless the value is None."""
        if value is not None:
            self.writer.add_scalar(name, value, step)

    def enhance(self, step: int) -> None:
        """Denoise the examples with the last checkpoint."""
        import torch

        denoiser = load_denoiser(self.out / "last.safetensors")
        for number, (noisy, _) in enumerate(self.pairs):
            with torch.no_grad():
                enhanced, _ = denoiser(noisy[None])
            self.show(number, "enhanced", enhanced[0].numpy(), step)

    def show(self, number: int, name: str, waveform: Array, step: int) -> None:
        """Write a waveform `[num_samples]` as audio and as a spectrogram."""
        peak = max(1.0, float(np.abs(waveform).max()))
        self.writer.add_audio(
            f"example {number}/{name}",
            waveform[None] / peak,
            step,
            sample_rate=self.stft.sample_rate,
        )
        self.writer.add_image(
            f"example {number}/{name}", picture(waveform, self.stft), step, dataformats="HW"
        )

    def close(self) -> None:
        """Flush and close the files."""
        self.writer.close()


def picture(waveform: Array, settings: StftSettings) -> npt.NDArray[np.uint8]:
    """The spectrogram of `[num_samples]` as grey values `[freq, frames]`.

    High frequencies are at the top; 80 dB below the loudest bin is black.
    """
    magnitude = np.abs(stft(waveform, settings))
    decibels = 20 * np.log10(np.maximum(magnitude / max(float(magnitude.max()), 1e-9), 1e-9))
    return np.round(255 * np.clip(1 + decibels[::-1] / RANGE_DB, 0, 1)).astype(np.uint8)
