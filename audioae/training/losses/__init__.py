"""Losses `loss(estimate, reference)`, each a mean over a batch, and their weighted sum.

All losses but those of features are computed from output waveforms: spectral losses take the
STFT of the output and do not use the spectrum inside the denoiser.

Modules in reading order:

- `distances`: spectra, compressed spectra, magnitudes above 8 kHz, waveforms, SI-SDR; features of
  autoencoders that reconstruct them
- `envelope`: log-likelihood ratio of linear predictors
- `intelligibility`: STOI
- `pesq`: the disturbance of PESQ
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from audioae.errors import SettingsError, nearest
from audioae.signal.spectrogram import StftSettings
from audioae.training.losses.distances import (
    FEATURE_LOSSES,
    Signal,
    compressed_complex,
    compressed_magnitude,
    high_band_magnitude,
    high_band_snr,
    level_error,
    magnitude_bce,
    magnitude_mae,
    magnitude_mse,
    multi_resolution_stft,
    negative_si_sdr,
)
from audioae.training.losses.envelope import log_likelihood_ratio
from audioae.training.losses.intelligibility import unintelligibility
from audioae.training.losses.pesq import pesq_disturbance

# RMS. Power-law losses depend on the level, and quiet recordings shall count as much as loud ones.
LEVEL = 0.06

Loss = Callable[[Signal, Signal], Tensor]

LOSSES: dict[str, Loss] = {
    "compressed_magnitude": compressed_magnitude,
    "compressed_complex": compressed_complex,
    "magnitude_mse": magnitude_mse,
    "magnitude_mae": magnitude_mae,
    "magnitude_bce": magnitude_bce,
    "negative_si_sdr": negative_si_sdr,
    "level_error": level_error,
    "multi_resolution_stft": multi_resolution_stft,
    "log_likelihood_ratio": log_likelihood_ratio,
    "pesq_disturbance": pesq_disturbance,
    "unintelligibility": unintelligibility,
    "high_band_magnitude": high_band_magnitude,
    "high_band_snr": high_band_snr,
}


def check_weights(weights: Mapping[str, float]) -> None:
    """Raise `SettingsError` if a loss does not exist, or all weights are 0."""
    known = [*LOSSES, *FEATURE_LOSSES]
    for name in weights:
        if name not in known:
            raise SettingsError(
                f"no loss {name!r}{nearest(name, known)}; known: {', '.join(LOSSES)}; to "
                f"reconstruct features: {', '.join(FEATURE_LOSSES)}"
            )
    if not any(weights.values()):
        raise SettingsError("all losses have weight 0; give at least one loss a weight")


def check_task(weights: Mapping[str, float], *, reconstructs: bool) -> None:
    """Raise `SettingsError` if a loss is not for this task."""
    known: Mapping[str, object] = FEATURE_LOSSES if reconstructs else LOSSES
    for name in weights:
        if name not in known:
            task = "reconstruct" if reconstructs else "denoise"
            raise SettingsError(
                f"the loss {name!r} cannot {task}; training.loss has {', '.join(known)} for "
                f"task.kind = {task!r}"
            )


def levelled_loss(
    estimate: Tensor,
    reference: Tensor,
    noisy: Tensor,
    settings: StftSettings,
    weights: Mapping[str, float],
) -> Tensor:
    """`weighted_loss` after scaling each item so that its noisy signal has the RMS `LEVEL`."""
    scale = LEVEL / noisy.square().mean(-1, keepdim=True).sqrt().clamp_min(1e-6)
    return weighted_loss(estimate * scale, reference * scale, settings, weights)


def weighted_loss(
    estimate: Tensor, reference: Tensor, settings: StftSettings, weights: Mapping[str, float]
) -> Tensor:
    """The sum of `weights[name] * LOSSES[name]` for waveforms `[batch, num_samples]`."""
    guess, target = Signal(estimate, settings), Signal(reference, settings)
    return torch.stack(
        [weight * LOSSES[name](guess, target) for name, weight in weights.items() if weight]
    ).sum()
