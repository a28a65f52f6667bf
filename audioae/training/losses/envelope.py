"""The log-likelihood ratio of linear predictors as a loss, a distance of spectral envelopes
(Itakura 1975; Quackenbush et al. 1988).

It is sensitive to missing energy in weak bands, such as high frequencies that were removed with the
noise, which losses of power and loudness hardly change for. Differences from the published measure:
white noise `FLOOR_DB` below the level of the reference is added to both signals, so pauses and
rounding errors have no envelope, and no frame is left out.

librosa.lpc is no alternative: it has no gradient.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from audioae.training.losses.distances import Signal

FRAME_SECONDS, HOP_SECONDS = 0.03, 0.015
ORDER = 16
FLOOR_DB = 60.0
SILENCE = 1e-8  # mean square; the loss is 0 for references below it


def autocorrelations(waveforms: Tensor, sample_rate: int) -> Tensor:
    """Lags 0 to 16 of each frame of `[batch, num_samples]`: float64 `[batch, frames, 17]`."""
    length = round(FRAME_SECONDS * sample_rate)
    n_fft = 2 ** (length + ORDER - 1).bit_length()
    window = torch.hann_window(length, device=waveforms.device)
    frames = waveforms.unfold(-1, length, round(HOP_SECONDS * sample_rate)) * window
    power = torch.view_as_real(torch.fft.rfft(frames, n_fft)).square().sum(-1)
    lags: Tensor = torch.fft.irfft(power.double(), n_fft)[..., : ORDER + 1]
    return lags / window.square().sum()


def predictors(lags: Tensor) -> Tensor:
    """Prediction error filters by the Levinson-Durbin recursion.

    Args:
        lags: `[..., 17]`.

    Returns:
        The filters, `[..., 17]`, whose first tap is 1.
    """
    filters, error = torch.ones_like(lags[..., :1]), lags[..., :1]
    for step in range(1, lags.shape[-1]):
        reflection = -(filters * lags[..., 1 : step + 1].flip(-1)).sum(-1, keepdim=True) / error
        longer = F.pad(filters, (0, 1))
        filters = longer + reflection * longer.flip(-1)
        error = error * (1 - reflection.square())
    return filters


def residual_power(filters: Tensor, lags: Tensor) -> Tensor:
    """Power of signals with lags `[..., 17]` after filters `[..., 17]`: `[...]`."""
    order = filters.shape[-1] - 1
    padded = F.pad(filters, (0, order))
    # The autocorrelations of the filters.
    own = (padded.unfold(-1, order + 1, 1) * filters[..., None, :]).sum(-1)
    return own[..., 0] * lags[..., 0] + 2 * (own[..., 1:] * lags[..., 1:]).sum(-1)


def log_likelihood_ratio(estimate: Signal, reference: Signal) -> Tensor:
    """Log ratio of the residual powers of the reference, mean over frames.

    The residuals are those of the estimate's predictor and of the reference's own. The loss is 0
    for silent references.
    """
    rate = reference.settings.sample_rate
    level = reference.waveform.square().mean(-1, keepdim=True)
    floor = (10 ** (-FLOOR_DB / 10) * level).clamp_min(1e-12)[..., None]
    white = F.pad(floor, (0, ORDER)).double()
    guess, truth = (
        autocorrelations(signal.waveform, rate) + white for signal in (estimate, reference)
    )
    ratio = residual_power(predictors(guess), truth) / residual_power(predictors(truth), truth)
    return torch.where(level[:, 0] > SILENCE, ratio.log().mean(-1), 0.0).mean().float()
