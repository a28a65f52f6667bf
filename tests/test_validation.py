"""Validation: what is lost of speech, envelopes, DNSMOS, and the score of all of them together."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tiny import STFT
from torch import Tensor, nn

from audioae.data.mixtures import DataSettings
from audioae.errors import DependencyError, SettingsError
from audioae.training import TrainSettings, check_metrics, loop
from audioae.training.losses.distances import Signal
from audioae.training.validation import (
    COMBINED,
    Validation,
    ValidationSettings,
    combined,
    speech_lost_db,
)

SCORES: dict[str, float | None] = {
    "pesq": 2.5,
    "stoi": 0.9,
    "si_sdr": 12.0,
    "ovrl": 3.0,
    "llr": 0.4,
    "lost_db": 1.5,
}


class Scaled(nn.Module):
    """A denoiser that only changes the level."""

    settings = STFT

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, waveform: Tensor) -> tuple[Tensor]:
        return (self.factor * waveform,)


def bursts() -> Tensor:
    """A tone that is on and off, `[1, num_samples]`."""
    time = np.arange(8000) / STFT.sample_rate
    waveform = 0.2 * np.sin(2 * np.pi * 1000 * time) * (np.sin(2 * np.pi * 3 * time) > 0)
    return torch.from_numpy(waveform.astype(np.float32))[None]


@pytest.mark.parametrize("factor", [1.0, 0.5, 0.1])
def test_a_lower_level_is_lost_speech(factor: float) -> None:
    clean = bursts()
    lost = speech_lost_db(Signal(factor * clean, STFT), Signal(clean, STFT))
    assert lost == pytest.approx(-20 * np.log10(factor), abs=1e-3)


def test_noise_does_not_make_up_for_lost_speech() -> None:
    clean = bursts()
    noise = torch.from_numpy(np.random.default_rng(0).normal(0, 0.3, clean.shape)).float()
    kept = speech_lost_db(Signal(clean + 0.01 * noise, STFT), Signal(clean, STFT))
    gone = speech_lost_db(Signal(0 * clean + noise, STFT), Signal(clean, STFT))
    assert kept < 0.2 and gone > 3
    silence = torch.zeros_like(clean)
    assert speech_lost_db(Signal(noise, STFT), Signal(silence, STFT)) == 0


def test_the_combined_score_weighs_every_score() -> None:
    assert combined(SCORES) == pytest.approx(2.5 + 9 + 1.2 + 3 - 0.4 - 0.3)
    for name, better in COMBINED.items():
        changed = {**SCORES, name: (SCORES[name] or 0) + np.sign(better)}
        assert (combined(changed) or 0) > (combined(SCORES) or 0)
        assert combined({**SCORES, name: None}) is None


def test_dnsmos_is_computed_on_request(prepared: Path) -> None:
    """DNSMOS needs 16 kHz; data of another rate are resampled for it."""
    pytest.importorskip("speechmos")
    pytest.importorskip("pystoi")
    settings = ValidationSettings(pairs=1, seconds=2.0)
    weights = {"compressed_magnitude": 1.0}
    without = Validation(prepared, DataSettings(), settings, weights)
    with_it = Validation(
        prepared, DataSettings(), dataclasses.replace(settings, dnsmos=True), weights
    )
    quiet: Any = Scaled(0.5)
    [plain], [full] = without.rows(quiet), with_it.rows(quiet)
    assert plain["ovrl"] is None and plain["combined"] is None
    assert full["ovrl"] is not None and 1 <= full["ovrl"] <= 5
    assert {name: full[name] for name in ("loss", "si_sdr", "llr", "lost_db")} == pytest.approx(
        {name: plain[name] for name in ("loss", "si_sdr", "llr", "lost_db")}
    )
    assert full["lost_db"] is not None and full["lost_db"] > 1


def test_the_combined_score_needs_dnsmos_and_its_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match=r"validation\.dnsmos"):
        TrainSettings(best="combined")
    settings = TrainSettings(best="combined", validation=ValidationSettings(dnsmos=True))
    monkeypatch.setattr(loop, "find_spec", lambda name: None if name == "speechmos" else name)
    with pytest.raises(DependencyError, match="speechmos"):
        check_metrics(settings)
