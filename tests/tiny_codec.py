"""A small autoencoder with random weights as an ONNX file, for the commands that use codes."""

from __future__ import annotations

from pathlib import Path

import torch

from audioae.models import Reconstructor, build_autoencoder
from audioae.models.dense import DenseSettings
from audioae.signal.features import FeatureSettings
from audioae.training.export_codec import export_codec


def write_codec(path: Path, *, patch: int = 4, channels: int = 6) -> Path:
    """Write an autoencoder of 32 mel bands at 8 kHz."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_autoencoder(DenseSettings(num_bins=32, patch=patch, widths=(16, channels)))
    settings = FeatureSettings(sample_rate=8000, n_fft=256, hop_length=128, win_length=256,
                               n_mels=32)  # fmt: skip
    export_codec(Reconstructor(network, settings).eval(), path, name="tiny", overwrite=True)
    return path
