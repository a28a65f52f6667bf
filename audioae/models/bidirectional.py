"""The offline network: two dual-path networks, one for each direction of time, that exchange what
they know after every block.
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

CONTEXT_FRAMES = (
    125  # on either side of a chunk, 2 s at a hop of 16 ms: what the recurrences need to settle
)


@dataclass(frozen=True)
class BidirectionalSettings(DualpathSettings):
    """The settings of each of the two `dualpath` networks, which are causal, each in its own
    direction.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.causal:
            raise SettingsError(
                "a bidirectional network is made of causal ones; leave causal = true"
            )


def reverse(x: Tensor) -> Tensor:
    """`[batch, channels, frames, bands]` in the other direction of time."""
    return x.flip(2)


class BidirectionalAutoencoder(Autoencoder):
    """A `dualpath` network for each direction of time, with connections between them after every
    block.

    The window is symmetric about its middle and 0 at its first sample, so a frame of a signal that
    runs backwards is the complex conjugate of the frame of the signal: the network of the other
    direction reads the frames in reverse order with the imaginary part negated, and its mask is
    turned back in the same way. The connections begin at zero and the two masks are averaged, so
    with the weights of one causal network in both directions training starts from the mean of that
    network's masks for a signal and for its time reversal.
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
        """What one direction adds to the other; nothing before it is trained."""
        layer = nn.Conv2d(channels, channels, 1)
        zero(layer)
        return layer

    def start_from(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
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
        """Both networks' codes, joined along the channels; that of the other direction is in its
        own order of time.
        """
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
        turned = masks[1].flip(3) * masks[1].new_tensor([1.0, -1.0]).view(1, 2, 1, 1)
        return (masks[0] + turned) / 2, ()

    @staticmethod
    def block(network: DualpathAutoencoder, index: int, x: Tensor) -> Tensor:
        """One block of one direction."""
        frequency, time = (
            network.frequency_mixers[index],
            cast(AnyTimeMixer, network.time_mixers[index]),
        )
        y: Tensor = time(frequency(x))[0]
        return y
