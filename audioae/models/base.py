"""The one interface of all networks: features in, an estimate and the next state out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from audioae.errors import SettingsError
from audioae.models.bottlenecks import BottleneckName, build_bottleneck

State = tuple[Tensor, ...]
GainKind = Literal["real", "complex"]
Edges = Literal["silence", "mirror"]


class Estimate(NamedTuple):
    """What a network answers.

    gain: `[batch, 1 or 2, freq, frames]`, real or complex (real part, imaginary part), to be
        multiplied with the noisy spectrum.
    latent: the code between encoder and decoder.
    penalty: a scalar that the bottleneck adds to the loss.
    """

    gain: Tensor
    latent: Tensor
    penalty: Tensor


@dataclass(frozen=True)
class NetworkSettings:
    """What every network has.

    Args:
        num_bins: frequency bins of the features.
        num_features: 1 (compressed magnitude) or 3 (and compressed real and imaginary parts).
        gain: a real gain keeps the noisy phase, a complex one corrects it.
        compression: power that the features were compressed with; masks act on the compressed
            spectrum.
        bottleneck, bottleneck_weight: the kind of code and the weight of its penalty.
    """

    num_bins: int = 257
    num_features: int = 1
    gain: GainKind = "real"
    compression: float = 0.3
    bottleneck: BottleneckName = "plain"
    bottleneck_weight: float = 1e-3

    def __post_init__(self) -> None:
        if self.num_features not in (1, 3):
            raise SettingsError(
                f"num_features is {self.num_features}; expected 1 (magnitude) or 3 (magnitude, "
                "real, imaginary)"
            )
        if self.gain not in ("real", "complex"):
            raise SettingsError(f"gain is {self.gain!r}; expected 'real' or 'complex'")
        if not 0 < self.compression <= 1:
            raise SettingsError(
                f"compression is {self.compression}; expected a power above 0, at most 1"
            )

    @property
    def num_outputs(self) -> int:
        """Channels of the decoder's output."""
        return 1 if self.gain == "real" else 2


class Autoencoder(nn.Module):
    """Encoder, bottleneck, decoder.

    A causal network has `lookahead == context == 0` and carries its past in the state; the others
    are stateless and need `context` frames before and `lookahead` frames after the frames that are
    asked for. Chunks of a network with time strides start at multiples of `stride`. `edges` says
    what stands for the frames before the beginning and after the end of a recording: silence, or
    the recording mirrored in time.
    """

    family = ""
    lookahead = 0
    context = 0
    stride = 1
    edges: Edges = "silence"

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.settings = settings
        self.bottleneck = build_bottleneck(settings.bottleneck, settings.bottleneck_weight)

    def initial_state(self, batch: int) -> State:
        """An empty past for `batch` signals; networks without state have none."""
        return ()

    def mute_beyond(self, names: Collection[str]) -> list[str]:
        """Let the blocks that a shallower network lacks add nothing, so that with its weights this
        one begins where that one was (Net2Net, Chen et al. 2016).

        Args:
            names: of the shallower network's weights.

        Returns:
            The names of the weights of those blocks; a family that has no such blocks answers none.
        """
        return []

    def start_from(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights to begin a training with, out of those of another network that this one can
        go on from; others are left as they are.
        """
        return dict(tensors)

    def encode(
        self, features: Tensor, state: State | None = None
    ) -> tuple[Tensor, list[Tensor], State]:
        """Features `[batch, num_features, freq, frames]` to `(encoded, skips, next state)`;
        `encoded` is what the bottleneck reads.
        """
        raise TypeError(f"{type(self).__name__} has no encoder")

    def decode(
        self, latent: Tensor, skips: Sequence[Tensor] = (), state: State | None = None
    ) -> tuple[Tensor, State]:
        """A latent to the decoder's output `[batch, num_outputs, freq, frames]`, before the mask;
        without `skips` from the latent alone.
        """
        raise TypeError(f"{type(self).__name__} has no decoder")

    def forward(self, features: Tensor, state: State | None = None) -> tuple[Estimate, State]:
        frames = features.shape[-1]
        if self.stride > 1:
            features = nn.functional.pad(features, (0, -frames % self.stride))
        if state is None:
            state = self.initial_state(features.shape[0])
        encoded, skips, encoder_state = self.encode(features, state)
        latent, penalty = self.bottleneck(encoded)
        decoded, decoder_state = self.decode(latent, skips, state[len(encoder_state) :])
        return Estimate(
            self.mask(decoded[..., :frames].float()), latent, penalty
        ), encoder_state + decoder_state

    def mask(self, decoded: Tensor) -> Tensor:
        """Gain per bin of a mask M on the compressed spectrum.

        With Xc = X |X|^(c-1), the enhanced spectrum Y has Yc = M Xc, so Y = X M |M|^(1/c - 1): a
        gain on X. A real mask is a sigmoid; a complex one is free and 1 where the decoder answers
        zero.
        """
        power = 1 / self.settings.compression
        if self.settings.gain == "real":
            return torch.sigmoid(decoded).pow(power)
        mask = decoded + decoded.new_tensor([1.0, 0.0]).view(1, 2, 1, 1)
        return mask * (mask.square().sum(1, keepdim=True) + 1e-12).pow((power - 1) / 2)
