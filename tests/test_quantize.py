"""Export with 8-bit layers: smaller, close to the original, and refused where it is not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from tiny import BINS, STFT

from audioae import denoise
from audioae.cli import main
from audioae.engine import TorchEngine
from audioae.errors import CheckpointError, DataError
from audioae.models import Denoiser, build_autoencoder
from audioae.models.checkpoint import save_model
from audioae.models.conv1d import Conv1dSettings
from audioae.models.dualpath import DualpathSettings
from audioae.signal.spectrogram import StftSettings
from audioae.training import quantize
from audioae.training.quantize import export_quantized
from audioae.training.validation import ValidationSettings

FEW = ValidationSettings(pairs=2, seconds=1.0)


def dualpath(**changes: object) -> Denoiser:
    """An untrained network with two wide convolutions over time and an LSTM."""
    torch.manual_seed(0)
    settings = DualpathSettings(
        num_bins=BINS,
        low_bins=17,
        num_bands=16,
        nyquist_hz=4000.0,
        outer=8,
        inner=32,
        time_mixers=("conv", "lstm", "conv"),
        dilations=(1, 1, 2),
        **changes,
    )
    return Denoiser(build_autoencoder(settings), STFT, name="small").eval()


@pytest.fixture(autouse=True)
def few_mixtures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantize, "MIXTURES", 3)
    monkeypatch.setattr(quantize, "SECONDS", 1.0)


def test_a_quantised_model_is_smaller_and_denoises_almost_equally(
    prepared: Path, tmp_path: Path
) -> None:
    denoiser, path = dualpath(), tmp_path / "small.onnx"
    row = export_quantized(denoiser, path, prepared, name="small-int8", validation=FEW)
    assert row.layers == 3 and row.snr_db > quantize.LEAST_SNR_DB
    assert row.bytes == path.stat().st_size < 0.8 * row.original_bytes
    assert row.valid.keys() == row.original_valid.keys() >= {"si_sdr"}
    assert row.valid["si_sdr"] == pytest.approx(row.original_valid["si_sdr"], abs=0.5)
    operations = [node.op_type for node in onnx.load(path).graph.node]
    assert "DynamicQuantizeLSTM" in operations and operations.count("DequantizeLinear") >= 4
    noisy = np.random.default_rng(0).normal(0, 0.1, (1, 8000)).astype(np.float32)
    found = denoise(noisy, 8000, model=path)
    expected = denoise(noisy, 8000, model=TorchEngine(denoiser, device="cpu"))
    assert 0 < np.std(found - expected) < 0.1 * np.std(expected)
    assert [file.name for file in tmp_path.iterdir()] == ["small.onnx"]


def test_a_model_that_changes_or_has_no_layer_for_it_is_not_written(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow = build_autoencoder(Conv1dSettings(num_bins=BINS, channels=(8, 4)))
    monkeypatch.setattr(quantize, "LEAST_CHANNELS", 64)
    with pytest.raises(CheckpointError, match="no LSTM and no convolution of 64 channels"):
        export_quantized(Denoiser(narrow, STFT), tmp_path / "a.onnx", prepared, name="narrow")
    monkeypatch.setattr(quantize, "LEAST_SNR_DB", 100.0)
    with pytest.raises(CheckpointError, match="small was not written"):
        export_quantized(dualpath(), tmp_path / "a.onnx", prepared, name="small", validation=FEW)
    assert list(tmp_path.iterdir()) == []


def test_data_of_another_sample_rate_are_refused(prepared: Path, tmp_path: Path) -> None:
    wide = build_autoencoder(Conv1dSettings(num_bins=BINS, channels=(8, 4)))
    denoiser = Denoiser(wide, StftSettings(16000, 64, 32, 64))
    with pytest.raises(DataError, match=r"8000 Hz.*16000 Hz"):
        export_quantized(denoiser, tmp_path / "a.onnx", prepared, name="wide")


def audioae(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_the_command_reports_both_models(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantize, "ValidationSettings", lambda: FEW)
    checkpoint, out = tmp_path / "best.safetensors", tmp_path / "small.onnx"
    save_model(checkpoint, dualpath())
    done = audioae("export", checkpoint, out, "--quantize", prepared, "--json")
    assert done.exit_code == 0, done.output
    row = json.loads(done.stdout)
    assert row["bytes"] == out.stat().st_size and row["layers"] == 3
    assert {*row["valid"], *row["original_valid"]} == {"si_sdr", "pesq", "stoi"}
    again = audioae("export", checkpoint, out, "--quantize", prepared)
    assert again.exit_code == 1 and "--overwrite" in again.stderr
    told = audioae("export", checkpoint, out, "--quantize", prepared, "--overwrite")
    assert told.exit_code == 0 and "si_sdr" in told.stdout
    no_data = audioae("export", checkpoint, tmp_path / "b.onnx", "--quantize", tmp_path / "none")
    assert no_data.exit_code == 1 and not (tmp_path / "b.onnx").exists()
    shipped = audioae(
        "export", checkpoint, "--ship", "x", "--data", "d", "--commit", "c", "--quantize", prepared
    )
    assert shipped.exit_code == 2
