"""The network for files: two dual-path networks, one for each direction of time, that exchange
their features after every block.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from audioae.errors import SettingsError
from audioae.models.base import Autoencoder, State
from audioae.models.dualpath import AnyTimeMixer, DualpathAutoencoder, DualpathSettings, zero

# On either side of a chunk; 2 s at a hop of 16 ms, so that the recurrences settle.
CONTEXT_FRAMES = 125


@dataclass(frozen=True)
class BidirectionalSettings(DualpathSettings):
    """Settings of each of the two `dualpath` networks, which are causal in their own direction."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.causal:
            raise SettingsError(
                "a bidirectional network consists of causal ones; leave causal = true"
            )


def reverse(x: Tensor) -> Tensor:
    """Reverse the frames of `[batch, channels, frames, bands]`."""
    return x.flip(2)


class BidirectionalAutoencoder(Autoencoder):
    """A `dualpath` network for each direction of time, connected after every block.

    The analysis window is symmetric about its middle and 0 at its first sample, so the frames of a
    reversed signal are the complex conjugates of the frames of the signal, in reverse order. The
    second network gets these frames, and its mask is reversed and conjugated again.

    The output is the mean of both masks, and the connections start at zero. With the weights of one
    causal network in both directions, training therefore starts from the mean of that network's
    masks for a signal and for its time reversal.
    """

    family = "bidirectional"
    lookahead = context = CONTEXT_FRAMES
    edges = "mirror"

    def __init__(self, settings: BidirectionalSettings) -> None:
        super().__init__(settings)
        if (
            settings.bottleneck != "plain"
            or settings.num_features != 3
            or settings.gain != "complex"
        ):
            raise SettingsError(
                "a bidirectional network has 3 features, a complex gain and a plain bottleneck"
            )
        self.ahead, self.back = DualpathAutoencoder(settings), DualpathAutoencoder(settings)
        blocks = len(settings.time_mixers)
        self.to_ahead = nn.ModuleList(self.connection(settings.inner) for _ in range(blocks))
        self.to_back = nn.ModuleList(self.connection(settings.inner) for _ in range(blocks))

    @staticmethod
    def connection(channels: int) -> nn.Conv2d:
        """A 1x1 convolution from one direction to the other, with weights of zero."""
        layer = nn.Conv2d(channels, channels, 1)
        zero(layer)
        return layer

    def start_from(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights of a causal `dualpath` network in both directions, see `Autoencoder`."""
        if any(name.startswith("ahead.") for name in tensors):
            return dict(tensors)
        own = self.state_dict()
        copies = {
            f"{side}.{name}": value for side in ("ahead", "back") for name, value in tensors.items()
        }
        return {name: value for name, value in own.items() if name.startswith("to_")} | copies

    def encode(
        self, features: Tensor, state: State | None = None
    ) -> tuple[Tensor, list[Tensor], State]:
        """Encode both directions; their codes are joined along the channels.

        The frames of the second code are in reverse order.
        """
        # Magnitude, real and imaginary part.
        conjugated = features * features.new_tensor([1.0, 1.0, -1.0]).view(1, 3, 1, 1)
        ahead, skips, _ = self.ahead.encode(features)
        back, back_skips, _ = self.back.encode(conjugated.flip(3))
        return torch.cat([ahead, back], 1), [*skips, *back_skips], ()

    def decode(
        self, latent: Tensor, skips: Sequence[Tensor] = (), state: State | None = None
    ) -> tuple[Tensor, State]:
        codes = latent.chunk(2, 1)
        ahead, back = codes
        for index in range(len(self.to_ahead)):
            ahead, back = self.block(self.ahead, index, ahead), self.block(self.back, index, back)
            ahead, back = (
                ahead + self.to_ahead[index](reverse(back)),
                back + self.to_back[index](reverse(ahead)),
            )
        masks = [
            network.finish(x, code, skips[side : side + 1])
            for side, (network, x, code) in enumerate(
                zip((self.ahead, self.back), (ahead, back), codes, strict=True)
            )
        ]
        reversed_back = masks[1].flip(3) * masks[1].new_tensor([1.0, -1.0]).view(1, 2, 1, 1)
        return (masks[0] + reversed_back) / 2, ()

    @staticmethod
    def block(network: DualpathAutoencoder, index: int, x: Tensor) -> Tensor:
        """Run one block of one direction."""
        frequency, time = (
            network.frequency_mixers[index],
            cast(AnyTimeMixer, network.time_mixers[index]),
        )
        y: Tensor = time(frequency(x))[0]
        return y
