"""The torch twin of `spectrogram`: the same frames as tensors, and the features that networks read.

Spectra are real tensors `[batch, 2, freq, frames]` (real part, imaginary part), so that they pass
through autocast and ONNX as they are.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from audioae.signal.spectrogram import StftSettings

# keeps the power law differentiable at digital silence; -120 dB below a bin of magnitude 1
POWER_FLOOR = 1e-12


def window(settings: StftSettings, like: Tensor) -> Tensor:
    """`settings.window` on the device of `like`."""
    return torch.from_numpy(settings.window).to(like.device)


def stft(waveform: Tensor, settings: StftSettings) -> Tensor:
    """The spectrum `[batch, 2, freq, frames]` of whole waveforms `[batch, samples]`; frames as in
    `spectrogram.stft`.
    """
    frames, hop = settings.num_frames(waveform.shape[-1]), settings.hop_length
    signal = F.pad(waveform.float(), (settings.past, frames * hop - waveform.shape[-1]))
    columns = signal.unfold(-1, settings.win_length, hop) * window(settings, waveform)  # B, T, win
    spectrum = torch.fft.rfft(columns, settings.n_fft)  # B, T, F
    return torch.view_as_real(spectrum).permute(0, 3, 2, 1)


def istft(spectrum: Tensor, settings: StftSettings, *, num_samples: int) -> Tensor:
    """The waveforms `[batch, samples]` of spectra `[batch, 2, freq, frames]` made by `stft`."""
    parts, hop = settings.win_length // settings.hop_length, settings.hop_length
    bins = torch.complex(spectrum[:, 0].float(), spectrum[:, 1].float()).transpose(1, 2)  # B, T, F
    columns = torch.fft.irfft(bins, settings.n_fft)[..., : settings.win_length] * window(
        settings, spectrum
    )
    hops = [columns[..., part * hop : (part + 1) * hop].flatten(1) for part in range(parts)]
    shifted = [
        F.pad(piece, (part * hop, (parts - 1 - part) * hop)) for part, piece in enumerate(hops)
    ]
    return torch.stack(shifted).sum(0)[:, settings.past : settings.past + num_samples]


def mirror(spectrum: Tensor, before: int, after: int) -> Tensor:
    """A spectrum `[batch, 2, freq, frames]` with frames of the signal mirrored in time on either
    side, fewer than there are frames.

    The window is symmetric, so a mirrored frame is the complex conjugate of the frame.
    """
    sign = spectrum.new_tensor([1.0, -1.0]).view(1, 2, 1, 1)
    frames = spectrum.shape[-1]
    first = spectrum[..., 1 : before + 1].flip(-1) * sign
    last = spectrum[..., frames - 1 - after : frames - 1].flip(-1) * sign
    return torch.cat([first, spectrum, last], -1)


def power_spectrum(spectrum: Tensor, floor: float = POWER_FLOOR) -> Tensor:
    """`[batch, 1, freq, frames]`, squared magnitude of a spectrum `[batch, 2, freq, frames]`, plus
    `floor`.
    """
    return spectrum.square().sum(1, keepdim=True) + floor


def compress(spectrum: Tensor, power: float, floor: float = POWER_FLOOR) -> tuple[Tensor, Tensor]:
    """Magnitude `|X|^power` and complex `X |X|^(power - 1)` of a spectrum, `[batch, 1 and 2, freq,
    frames]`.
    """
    squared = power_spectrum(spectrum, floor)
    magnitude = squared.pow(power / 2)
    return magnitude, spectrum * (
        magnitude * squared.rsqrt()
    )  # one power, not two: they are the costly part


def apply_gain(spectrum: Tensor, gain: Tensor) -> Tensor:
    """`[batch, 2, freq, frames]` times a real (`[batch, 1, ...]`) or complex (`[batch, 2, ...]`)
    gain per bin.
    """
    if gain.shape[1] == 1:
        return spectrum * gain
    real = spectrum[:, 0] * gain[:, 0] - spectrum[:, 1] * gain[:, 1]
    imaginary = spectrum[:, 0] * gain[:, 1] + spectrum[:, 1] * gain[:, 0]
    return torch.stack([real, imaginary], 1)
