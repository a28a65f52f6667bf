"""The STFT of `signal.spectrogram` and the features of `signal.features` in torch.

Spectra are real tensors `[batch, 2, freq, frames]` (real part, imaginary part), because autocast
and ONNX do not support complex ones.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from audioae.errors import require
from audioae.signal.features import FeatureSettings
from audioae.signal.spectrogram import StftSettings

# -120 dB below a bin of magnitude 1; keeps the power law differentiable at digital silence.
POWER_FLOOR = 1e-12


def window(settings: StftSettings, like: Tensor) -> Tensor:
    """`settings.window` on the device of `like`."""
    return torch.from_numpy(settings.window).to(like.device)


def stft(waveform: Tensor, settings: StftSettings) -> Tensor:
    """The spectrum `[batch, 2, freq, frames]` of whole waveforms `[batch, samples]`.

    Its frames are those of `spectrogram.stft`.
    """
    frames, hop = settings.num_frames(waveform.shape[-1]), settings.hop_length
    signal = F.pad(waveform.float(), (settings.past, frames * hop - waveform.shape[-1]))
    columns = signal.unfold(-1, settings.win_length, hop) * window(settings, waveform)  # B, T, win
    spectrum = torch.fft.rfft(columns, settings.n_fft)  # B, T, F
    return torch.view_as_real(spectrum).permute(0, 3, 2, 1)


def istft(spectrum: Tensor, settings: StftSettings, *, num_samples: int) -> Tensor:
    """The waveforms `[batch, num_samples]` of spectra `[batch, 2, freq, frames]`.

    The inverse of `stft`. torch.istft does not support these frames: it needs windows whose sum is
    not zero at the first sample.
    """
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
    """Extend a spectrum by frames of the signal mirrored in time.

    The window is symmetric, so a frame of the mirrored signal is the complex conjugate of the
    frame of the signal.

    Args:
        spectrum: `[batch, 2, freq, frames]`.
        before, after: number of frames to add on either side, at most `frames - 1`.
    """
    sign = spectrum.new_tensor([1.0, -1.0]).view(1, 2, 1, 1)
    frames = spectrum.shape[-1]
    first = spectrum[..., 1 : before + 1].flip(-1) * sign
    last = spectrum[..., frames - 1 - after : frames - 1].flip(-1) * sign
    return torch.cat([first, spectrum, last], -1)


def power_spectrum(spectrum: Tensor, floor: float = POWER_FLOOR) -> Tensor:
    """The squared magnitude plus `floor`, `[batch, 1, freq, frames]`."""
    return spectrum.square().sum(1, keepdim=True) + floor


def compress(spectrum: Tensor, power: float, floor: float = POWER_FLOOR) -> tuple[Tensor, Tensor]:
    """Power-law compression of a spectrum `[batch, 2, freq, frames]`.

    Returns:
        The magnitude `|X|^power`, `[batch, 1, freq, frames]`, and the spectrum `X |X|^(power - 1)`,
        `[batch, 2, freq, frames]`.
    """
    squared = power_spectrum(spectrum, floor)
    magnitude = squared.pow(power / 2)
    # One `pow` instead of two: it takes most of the time.
    return magnitude, spectrum * (magnitude * squared.rsqrt())


def apply_gain(spectrum: Tensor, gain: Tensor) -> Tensor:
    """Multiply a spectrum by a gain per bin.

    Args:
        spectrum: `[batch, 2, freq, frames]`.
        gain: real, `[batch, 1, freq, frames]`, or complex, `[batch, 2, freq, frames]`.
    """
    if gain.shape[1] == 1:
        return spectrum * gain
    real = spectrum[:, 0] * gain[:, 0] - spectrum[:, 1] * gain[:, 1]
    imaginary = spectrum[:, 0] * gain[:, 1] + spectrum[:, 1] * gain[:, 0]
    return torch.stack([real, imaginary], 1)


@torch.no_grad()
def feature_map(waveform: Tensor, settings: FeatureSettings) -> Tensor:
    """The features of whole waveforms, equal to those of `signal.features.compute`.

    Args:
        waveform: `[batch, num_samples]`.

    Returns:
        `[batch, bins, frames]` in [0, 1].

    Raises:
        DependencyError: torchaudio is not installed.
    """
    functional = require("torchaudio", extra="train").functional
    hann = torch.hann_window(settings.win_length, device=waveform.device)
    power: Tensor = functional.spectrogram(
        waveform.float(),
        pad=0,
        window=hann * settings.scale,
        n_fft=settings.n_fft,
        hop_length=settings.hop_length,
        win_length=settings.win_length,
        power=2.0,
        normalized=False,
        pad_mode="constant",
    )
    if settings.kind == "magnitude":
        top = 10 ** (-settings.top_db / 10)
        return (power * top).pow(settings.compression / 2).clamp(0, 1)
    mel = torchaudio_filter_bank(settings).to(waveform.device) @ power
    floor = 10 ** (settings.floor_db / 10)
    level: Tensor = functional.amplitude_to_DB(mel, multiplier=10.0, amin=floor, db_multiplier=0.0)
    return ((level - settings.floor_db) / (settings.top_db - settings.floor_db)).clamp(0, 1)


@lru_cache(maxsize=16)
def torchaudio_filter_bank(settings: FeatureSettings) -> Tensor:
    """The mel filter bank of torchaudio, `[n_mels, n_fft / 2 + 1]`, see `mel_filter_bank`."""
    functional = require("torchaudio", extra="train").functional
    bank: Tensor = functional.melscale_fbanks(
        n_freqs=settings.num_frequencies,
        f_min=settings.fmin,
        f_max=settings.highest_hz,
        n_mels=settings.n_mels,
        sample_rate=settings.sample_rate,
        norm=None,
        mel_scale="slaney",
    )
    return bank.T.contiguous()
