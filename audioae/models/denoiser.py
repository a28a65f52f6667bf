"""A denoiser: STFT, autoencoder, gain on the noisy spectrum, inverse STFT."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audioae import __version__
from audioae.models.base import Autoencoder, Estimate, State, count_macs_of
from audioae.models.features import apply_gain, compress, istft, mirror, stft
from audioae.pretrained import ModelInfo
from audioae.signal.spectrogram import StftSettings


class Denoiser(nn.Module):
    """An autoencoder with the STFT before and after it.

    Args:
        autoencoder: the network; its `num_bins` must be `settings.num_bins`.
        settings: the STFT.
        name: name of the model; empty is the name of the network's family.
    """

    def __init__(self, autoencoder: Autoencoder, settings: StftSettings, *, name: str = "") -> None:
        super().__init__()
        self.autoencoder, self.settings, self.name = (
            autoencoder,
            settings,
            name or autoencoder.family,
        )

    @property
    def info(self) -> ModelInfo:
        """The properties of the model that are needed to run it."""
        network = self.autoencoder
        return ModelInfo(
            name=self.name,
            family=network.family,
            stft=self.settings,
            gain=network.settings.gain,
            lookahead=network.lookahead,
            context=network.context,
            stride=network.stride,
            parameters=sum(p.numel() for p in self.parameters()),
            macs_per_second=count_macs(self),
            version=__version__,
            edges=network.edges,
        )

    def initial_state(self, batch: int) -> State:
        """An empty past for `batch` signals; the empty tuple for a network without state."""
        return self.autoencoder.initial_state(batch)

    def estimate(self, spectrum: Tensor, state: State | None = None) -> tuple[Estimate, State]:
        """Output of the network for a spectrum `[batch, 2, freq, frames]`, and the next state."""
        magnitude, bins = compress(spectrum, self.autoencoder.settings.compression)
        features = (
            magnitude
            if self.autoencoder.settings.num_features == 1
            else torch.cat([magnitude, bins], 1)
        )
        estimate, state = self.autoencoder(features, state)
        return estimate, state

    def gain(self, spectrum: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """The gain `[batch, 1 or 2, freq, frames]` for a spectrum `[batch, 2, freq, frames]`, and
        the next state.
        """
        estimate, state = self.estimate(spectrum, state)
        return estimate.gain, state

    def forward(self, waveform: Tensor) -> tuple[Tensor, Estimate]:
        """Denoise whole waveforms.

        Args:
            waveform: `[batch, samples]`.

        Returns:
            The enhanced waveforms, `[batch, samples]`, and the output of the network, with one gain
            per frame of the STFT.
        """
        spectrum = stft(waveform, self.settings)
        before, after = self.autoencoder.context, self.autoencoder.lookahead
        if self.training:
            # A training segment is cut from a longer signal, so no context is right at its edges;
            # the zero padding of the network is cheaper.
            before = after = 0
        frames = spectrum.shape[-1]
        if self.autoencoder.edges == "mirror":
            before, after = min(before, frames - 1), min(after, frames - 1)
            surrounded = mirror(spectrum, before, after)
        else:
            surrounded = F.pad(spectrum, (before, after))
        estimate, _ = self.estimate(surrounded)
        gain = estimate.gain[..., before : before + frames]
        enhanced = istft(apply_gain(spectrum, gain), self.settings, num_samples=waveform.shape[-1])
        return enhanced, estimate._replace(gain=gain)


def count_macs(denoiser: Denoiser) -> int:
    """Multiply-accumulate operations per second of audio.

    Counted are convolutions, linear layers and recurrences of the network, without the STFT.
    """
    frames = round(denoiser.settings.sample_rate / denoiser.settings.hop_length)
    frames = -(-frames // denoiser.autoencoder.stride) * denoiser.autoencoder.stride
    spectrum = next(denoiser.parameters()).new_zeros(1, 2, denoiser.settings.num_bins, frames)
    macs = count_macs_of(denoiser, lambda: denoiser.gain(spectrum))
    return round(macs * denoiser.settings.sample_rate / denoiser.settings.hop_length / frames)
