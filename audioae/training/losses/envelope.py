"""The distance of spectral envelopes as a loss: the log-likelihood ratio of linear predictors
(Itakura 1975; Quackenbush et al. 1988).

It weighs what is missing between the peaks of speech and above them, which losses of power and of
loudness hardly notice: a recording whose weak high bands went with the noise sounds dull. Against
the published measure, what lies `FLOOR_DB` below the reference's level is white noise in both
signals, so that pauses and rounding have no envelope, and no frame is left out.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from audioae.training.losses.distances import Signal

FRAME_SECONDS, HOP_SECONDS = 0.03, 0.015
ORDER = 16
FLOOR_DB = 60.0
SILENCE = 1e-8  # mean square; references below it count nothing


def autocorrelations(waveforms: Tensor, sample_rate: int) -> Tensor:
    """Lags 0 to 16 of every frame, `[batch, frames, 17]` in float64, of `[batch, samples]`."""
    length = round(FRAME_SECONDS * sample_rate)
    n_fft = 2 ** (length + ORDER - 1).bit_length()
    window = torch.hann_window(length, device=waveforms.device)
    frames = waveforms.unfold(-1, length, round(HOP_SECONDS * sample_rate)) * window
    power = torch.view_as_real(torch.fft.rfft(frames, n_fft)).square().sum(-1)
    lags: Tensor = torch.fft.irfft(power.double(), n_fft)[..., : ORDER + 1]
    return lags / window.square().sum()


def predictors(lags: Tensor) -> Tensor:
    """The prediction error filters `[..., 17]`, the first tap 1, of lags `[..., 17]`: Levinson and
    Durbin's recursion.
    """
    filters, error = torch.ones_like(lags[..., :1]), lags[..., :1]
    for step in range(1, lags.shape[-1]):
        reflection = -(filters * lags[..., 1 : step + 1].flip(-1)).sum(-1, keepdim=True) / error
        longer = F.pad(filters, (0, 1))
        filters = longer + reflection * longer.flip(-1)
        error = error * (1 - reflection.square())
    return filters


def residual_power(filters: Tensor, lags: Tensor) -> Tensor:
    """What filters `[..., 17]` leave of signals with lags `[..., 17]`: `[...]`."""
    order = filters.shape[-1] - 1
    padded = F.pad(filters, (0, order))
    own = (padded.unfold(-1, order + 1, 1) * filters[..., None, :]).sum(
        -1
    )  # the filters' autocorrelations
    return own[..., 0] * lags[..., 0] + 2 * (own[..., 1:] * lags[..., 1:]).sum(-1)


def log_likelihood_ratio(estimate: Signal, reference: Signal) -> Tensor:
    """The log of how much more of the reference the estimate's predictor leaves than its own, a
    mean over frames; silent references count nothing.
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
