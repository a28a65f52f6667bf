"""TensorBoard: curves of losses, learning rate and scores, audio and spectrograms of examples; for
an autoencoder, features and reconstructions.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from audioae.data.mixtures import DataSettings
from audioae.errors import OutputError, require
from audioae.models.checkpoint import load_denoiser, load_reconstructor
from audioae.signal.spectrogram import Array, StftSettings, stft
from audioae.storage import is_text
from audioae.training import (
    AnyReport,
    Baseline,
    Noisy,
    Progress,
    Row,
    TrainSettings,
    learning_rate_at,
)
from audioae.training.reconstruction import ReconstructionValidation
from audioae.training.sounds import Source
from audioae.training.validation import Validation

EXAMPLES = 3  # validation mixtures
RANGE_DB = 80.0  # from white to black


def check_tracking_path(out: Path) -> None:
    """Raise `OutputError` if TensorBoard cannot write to a run folder: it takes valid text only."""
    if not is_text(out):
        raise OutputError(
            f"TensorBoard cannot write to {out}, whose name is not UTF-8; give another --out, or "
            "leave out --tensorboard"
        )


class Tracker:
    """Writes the rows of a run to `RUN/tensorboard`, for `tensorboard --logdir RUN`.

    Args:
        out: the run folder.
        settings: the training.
        examples: writes the examples of the validation set.
    """

    def __init__(self, out: Path, settings: TrainSettings, examples: AnyExamples) -> None:
        require("tensorboard", extra="train")
        from torch.utils.tensorboard import SummaryWriter

        self.out, self.settings, self.examples = out, settings, examples
        self.baseline: Noisy | Baseline | None = None
        self.writer: Any = SummaryWriter(str(out / "tensorboard"))
        examples.write_inputs(self.writer)

    def write(self, row: Row) -> None:
        """Write a row; after a report, also the outputs for the examples."""
        if isinstance(row, Progress):
            self.writer.add_scalar("train/loss", row.loss, row.step)
            self.writer.add_scalar(
                "train/learning_rate", learning_rate_at(row.step - 1, self.settings), row.step
            )
            self.writer.add_scalar(
                "train/audio_seconds_per_second", row.audio_seconds_per_second, row.step
            )
        elif isinstance(row, (Noisy, Baseline)):
            self.baseline = row
        elif isinstance(row, AnyReport) and not row.averaged:
            self.write_scores(row)
            self.writer.add_scalar("train/skipped_steps", row.skipped_steps, row.step)
            self.examples.write_outputs(self.writer, self.out, row.step)
            self.writer.flush()

    def write_scores(self, row: AnyReport) -> None:
        """Write the scores of a report, and those without a model as constants to compare with."""
        for field in dataclasses.fields(row):
            name, value = field.name.removeprefix("valid_"), getattr(row, field.name)
            if name == field.name:
                continue
            if isinstance(value, tuple):  # one number per unit of the code
                self.writer.add_histogram(f"valid/{name}_per_unit", np.array(value), row.step)
                value = sum(value)
            self.add(f"valid/{name}", value, row.step)
            # A constant: the score of the noisy mixtures, for comparison.
            self.add(f"valid/{name}_noisy", getattr(self.baseline, f"noisy_{name}", None), row.step)
        if isinstance(self.baseline, Baseline):
            self.add("valid/loss_baseline", self.baseline.loss, row.step)

    def add(self, name: str, value: float | None, step: int) -> None:
        """Add a point to a curve, unless the value is None."""
        if value is not None:
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close the files."""
        self.writer.close()


class Mixtures:
    """The first validation mixtures: audio and spectrograms of both sides and of the output."""

    def __init__(
        self, folder: Path, data: DataSettings, settings: TrainSettings, transform: StftSettings
    ) -> None:
        every = max(1, settings.validation.pairs // EXAMPLES)
        validation = Validation(folder, data, settings.validation, settings.loss, every=every)
        self.pairs, self.stft = validation.pairs[:EXAMPLES], transform

    def write_inputs(self, writer: Any) -> None:
        """Write the noisy and the clean sides."""
        for number, (noisy, clean) in enumerate(self.pairs):
            self.show(writer, f"example {number}/noisy", noisy.numpy(), 0)
            self.show(writer, f"example {number}/clean", clean.numpy(), 0)

    def write_outputs(self, writer: Any, run: Path, step: int) -> None:
        """Denoise the examples with the last checkpoint of a run."""
        import torch

        denoiser = load_denoiser(run / "last.safetensors")
        for number, (noisy, _) in enumerate(self.pairs):
            with torch.no_grad():
                enhanced, _ = denoiser(noisy[None])
            self.show(writer, f"example {number}/enhanced", enhanced[0].numpy(), step)

    def show(self, writer: Any, name: str, waveform: Array, step: int) -> None:
        """Write a waveform `[num_samples]` as audio and as a spectrogram."""
        peak = max(1.0, float(np.abs(waveform).max()))
        audio = waveform[None] / peak
        writer.add_audio(name, audio, step, sample_rate=self.stft.sample_rate)
        writer.add_image(name, picture(waveform, self.stft), step, dataformats="HW")


class Sounds:
    """The first validation sounds of an autoencoder: features and their reconstruction."""

    def __init__(
        self, folder: Path, data: DataSettings, source: Source, settings: TrainSettings
    ) -> None:
        every, chosen = max(1, settings.validation.pairs // EXAMPLES), settings.validation
        validation = ReconstructionValidation(
            folder, data, source, chosen, settings.loss, every=every
        )
        self.segments = validation.segments[:EXAMPLES]

    def write_inputs(self, writer: Any) -> None:
        """Nothing: the features are written with their reconstruction."""

    def write_outputs(self, writer: Any, run: Path, step: int) -> None:
        """Write the features above their reconstruction by the last checkpoint of a run."""
        import torch

        model = load_reconstructor(run / "last.safetensors")
        for number, sound in enumerate(self.segments):
            with torch.no_grad():
                features = model.features(sound[None])
                both = torch.cat([model(features).features, features], 1)[0]
            image = np.round(255 * both.clamp(0, 1).numpy()[::-1]).astype(np.uint8)
            writer.add_image(f"example {number}/reconstruction", image, step, dataformats="HW")


AnyExamples = Mixtures | Sounds


def picture(waveform: Array, settings: StftSettings) -> npt.NDArray[np.uint8]:
    """The spectrogram of `[num_samples]` as grey values `[freq, frames]`.

    High frequencies are at the top; 80 dB below the loudest bin is black.
    """
    magnitude = np.abs(stft(waveform, settings))
    decibels = 20 * np.log10(np.maximum(magnitude / max(float(magnitude.max()), 1e-9), 1e-9))
    return np.round(255 * np.clip(1 + decibels[::-1] / RANGE_DB, 0, 1)).astype(np.uint8)
