"""Losses as `loss(estimate, reference)`, each a mean over a batch, and their weighted sum.

What the listener gets is what is judged: spectral losses read the spectrum of the output waveform, analysed anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from audioae.errors import SettingsError, nearest
from audioae.features import compress, power_spectrum, stft
from audioae.spectrogram import StftSettings

POWER = 0.3
FLOOR = 1e-8  # -80 dB below a bin of magnitude 1: quieter bins have no gradient to speak of
LEVEL = 0.06  # RMS; power-law losses grow with the level, and quiet recordings should count as much as loud ones

Loss = Callable[[Tensor, Tensor], Tensor]


def magnitude(spectrum: Tensor) -> Tensor:
    """`[batch, 1, freq, frames]` of a spectrum `[batch, 2, freq, frames]`, uncompressed."""
    return power_spectrum(spectrum, FLOOR).sqrt()


def compressed_magnitude(estimate: Tensor, reference: Tensor) -> Tensor:
    """MSE of |X|^0.3 of two spectra."""
    return F.mse_loss(compress(estimate, POWER, FLOOR)[0], compress(reference, POWER, FLOOR)[0])


def compressed_complex(estimate: Tensor, reference: Tensor) -> Tensor:
    """MSE of the real and imaginary parts of X |X|^-0.7 of two spectra, summed over the two parts (Braun & Tashev 2021)."""
    return 2 * F.mse_loss(compress(estimate, POWER, FLOOR)[1], compress(reference, POWER, FLOOR)[1])


def magnitude_mse(estimate: Tensor, reference: Tensor) -> Tensor:
    """MSE of |X| of two spectra."""
    return F.mse_loss(magnitude(estimate), magnitude(reference))


def magnitude_mae(estimate: Tensor, reference: Tensor) -> Tensor:
    """Mean absolute error of |X| of two spectra."""
    return F.l1_loss(magnitude(estimate), magnitude(reference))


def magnitude_bce(estimate: Tensor, reference: Tensor) -> Tensor:
    """Binary cross-entropy of |X| scaled to 0..1 by each reference's maximum, as for images; less the reference's entropy, so that equality is 0."""
    target = magnitude(reference)
    peak = target.amax((1, 2, 3), keepdim=True)
    target = (target / peak).clamp(1e-6, 1 - 1e-6)
    guess = (magnitude(estimate) / peak).clamp(1e-6, 1 - 1e-6)
    return F.binary_cross_entropy(guess, target) - F.binary_cross_entropy(target, target)


def negative_si_sdr(estimate: Tensor, reference: Tensor) -> Tensor:
    """-SI-SDR in dB (Le Roux et al. 2019) of waveforms `[batch, samples]`, zero-mean, limited to -30..50 dB; silent references count nothing."""
    estimate, reference = (x - x.mean(-1, keepdim=True) for x in (estimate, reference))
    energy = reference.square().sum(-1, keepdim=True)
    target = (estimate * reference).sum(-1, keepdim=True) / (energy + FLOOR) * reference
    ratio = (target.square().sum(-1) + FLOOR) / ((estimate - target).square().sum(-1) + FLOOR)
    decibels = (10 * torch.log10(ratio)).clamp(-30, 50)
    return -torch.where(energy[..., 0] > 1e-6, decibels, torch.zeros_like(decibels)).mean()


def multi_resolution_stft(estimate: Tensor, reference: Tensor) -> Tensor:
    """Spectral convergence plus log-magnitude L1 of waveforms at windows of 512, 1024 and 256 samples (Yamamoto et al. 2020)."""
    total = estimate.new_zeros(())
    for n_fft in (512, 1024, 256):
        settings = StftSettings(n_fft=n_fft, hop_length=n_fft // 4, win_length=n_fft)
        guess, target = magnitude(stft(estimate, settings)), magnitude(stft(reference, settings))
        convergence = torch.linalg.vector_norm(guess - target) / (torch.linalg.vector_norm(target) + FLOOR)
        total = total + convergence + F.l1_loss(guess.log(), target.log())
    return total / 3


WAVEFORM_LOSSES: dict[str, Loss] = {"negative_si_sdr": negative_si_sdr, "multi_resolution_stft": multi_resolution_stft}
SPECTRUM_LOSSES: dict[str, Loss] = {
    "compressed_magnitude": compressed_magnitude,
    "compressed_complex": compressed_complex,
    "magnitude_mse": magnitude_mse,
    "magnitude_mae": magnitude_mae,
    "magnitude_bce": magnitude_bce,
}


def check_weights(weights: Mapping[str, float]) -> None:
    """Raise `SettingsError` for a loss that does not exist, naming the nearest, and for no loss at all."""
    known = [*SPECTRUM_LOSSES, *WAVEFORM_LOSSES]
    for name in weights:
        if name not in known:
            raise SettingsError(f"no loss {name!r}{nearest(name, known)}; known: {', '.join(known)}")
    if not any(weights.values()):
        raise SettingsError("all losses have weight 0; give one at least a weight")


def levelled_loss(estimate: Tensor, reference: Tensor, noisy: Tensor, settings: StftSettings, weights: Mapping[str, float]) -> Tensor:
    """`weighted_loss` with every item scaled by what brings its noisy signal to `LEVEL`."""
    scale = LEVEL / noisy.square().mean(-1, keepdim=True).sqrt().clamp_min(1e-6)
    return weighted_loss(estimate * scale, reference * scale, settings, weights)


def weighted_loss(estimate: Tensor, reference: Tensor, settings: StftSettings, weights: Mapping[str, float]) -> Tensor:
    """The sum of `weights[name] * loss` over waveforms `[batch, samples]`; each spectrum is computed once."""
    total = estimate.new_zeros(())
    if any(weights.get(name) for name in SPECTRUM_LOSSES):
        guess, target = stft(estimate, settings), stft(reference, settings)
        for name, loss in SPECTRUM_LOSSES.items():
            if weights.get(name):
                total = total + weights[name] * loss(guess, target)
    for name, loss in WAVEFORM_LOSSES.items():
        if weights.get(name):
            total = total + weights[name] * loss(estimate, reference)
    return total
