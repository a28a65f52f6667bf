"""Short-time objective intelligibility as a loss (STOI, Taal et al. 2011): the correlation of
third-octave envelopes in segments of 384 ms.

Differences from the published measure: frames have the same length in seconds at all sample rates,
without resampling to 10 kHz, and pauses of the reference are removed from the spectrum and not from
the waveform. pystoi is NumPy code without gradients, and neither librosa nor torchaudio have
third-octave bands.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from audioae.training.losses.distances import Signal

FRAME_SECONDS = 0.0256
LOWEST_HZ, NUM_BANDS = 150.0, 15  # third octaves
STRETCH = 30  # frames, 384 ms
ACTIVE_DB = 40.0  # frames further below the loudest one are pauses
CLIP = 1 + 10 ** (15 / 20)  # limits the signal-to-distortion ratio of an envelope to -15 dB
TINY = 1e-9


@lru_cache
def third_octaves(sample_rate: int, n_fft: int) -> Tensor:
    """The bins of each band: `[15, bins]` of 0 and 1."""
    hertz = np.fft.rfftfreq(n_fft, 1 / sample_rate)
    centres = LOWEST_HZ * 2 ** (np.arange(NUM_BANDS) / 3)
    low, high = (
        np.abs(hertz[None] - (centres * 2**shift)[:, None]).argmin(1) for shift in (-1 / 6, 1 / 6)
    )
    bins = np.arange(len(hertz))
    return torch.from_numpy(((bins >= low[:, None]) & (bins < high[:, None])).astype(np.float32))


def envelopes(waveforms: Tensor, sample_rate: int) -> Tensor:
    """Third-octave magnitudes `[batch, 15, frames]` of waveforms `[batch, num_samples]`."""
    length = round(FRAME_SECONDS * sample_rate)
    n_fft = 2 ** (length * 2 - 1).bit_length()
    window = torch.hann_window(length, device=waveforms.device)
    columns = waveforms.unfold(-1, length, length // 2) * window
    power = torch.view_as_real(torch.fft.rfft(columns, n_fft)).square().sum(-1)  # B, T, F
    return (
        (power @ third_octaves(sample_rate, n_fft).T.to(power.device) + TINY).sqrt().transpose(1, 2)
    )


def stoi(estimate: Tensor, reference: Tensor) -> Tensor:
    """STOI of envelopes `[15, frames]` without pauses, of at least 30 frames."""
    guess, truth = (
        envelope.unfold(-1, STRETCH, 1) for envelope in (estimate, reference)
    )  # 15, stretches, 30
    scale = truth.norm(dim=-1, keepdim=True) / (guess.norm(dim=-1, keepdim=True) + TINY)
    guess = torch.minimum(guess * scale, truth * CLIP)
    guess, truth = (envelope - envelope.mean(-1, keepdim=True) for envelope in (guess, truth))
    products = (guess * truth).sum(-1)
    energies = (guess.square().sum(-1) + TINY) * (truth.square().sum(-1) + TINY)
    return ((products + TINY) / energies.sqrt()).mean()


def unintelligibility(estimate: Signal, reference: Signal) -> Tensor:
    """1 - STOI; 0 for references with less than 384 ms of speech."""
    rate = reference.settings.sample_rate
    guess, truth = (envelopes(signal.waveform, rate) for signal in (estimate, reference))
    level = 20 * torch.log10(truth.square().sum(1).sqrt())
    active = level > level.amax(-1, keepdim=True) - ACTIVE_DB
    audible = reference.waveform.square().mean(-1) > 1e-8
    losses = [
        1 - stoi(guess[item][:, active[item]], truth[item][:, active[item]])
        for item in range(len(truth))
        if audible[item] and int(active[item].sum()) >= STRETCH
    ]
    return torch.stack(losses).sum() / len(truth) if losses else 0 * estimate.waveform.sum()
