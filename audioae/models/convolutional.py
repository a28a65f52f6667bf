"""What 1D and 2D convolutional autoencoders share: an encoder of layers, a mirrored decoder and a head, a past threaded through them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from audioae.models.base import Autoencoder, State
from audioae.models.layers import Pasts


class ConvolutionalAutoencoder(Autoencoder):
    """Layers `encoder`, `decoder` and `head`, each `(x, past) -> (y, past)`.

    With `skip`, what an encoder layer read is added to what its mirror image's successor reads.
    """

    encoder: nn.ModuleList
    decoder: nn.ModuleList
    head: nn.Module
    skip: bool

    def encode(self, features: Tensor, state: State | None = None) -> tuple[Tensor, list[Tensor], State]:
        pasts, skips, x = Pasts(state), [], features
        for layer in self.encoder:
            skips.append(x)
            x = pasts.run(layer, x)
        return x, skips, pasts.state

    def decode(self, latent: Tensor, skips: Sequence[Tensor] = (), state: State | None = None) -> tuple[Tensor, State]:
        pasts, x = Pasts(state), latent
        for depth, layer in enumerate([*self.decoder, self.head]):
            if self.skip and skips and depth:
                x = x + skips[-depth]
            x = pasts.run(layer, x)
        return x, pasts.state
