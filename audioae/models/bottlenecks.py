"""Bottlenecks between encoder and decoder: plain, sparse, Gaussian or quantised.

A bottleneck maps the output of the encoder to `(latent, penalty)`. The training loop adds `penalty`
to the loss, whichever bottleneck it comes from.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from audioae.errors import SettingsError

BottleneckName = Literal["plain", "sparse", "gaussian", "quantised"]


class Plain(nn.Module):
    """The encoder's output is the latent; the penalty is 0."""

    width = 1  # encoder channels per latent channel

    def code(self, encoded: Tensor) -> Tensor:
        """The latent without randomness."""
        return encoded

    def forward(self, encoded: Tensor) -> tuple[Tensor, Tensor]:
        return encoded, encoded.new_zeros(())


class Sparse(Plain):
    """Activity penalty: `weight` times the mean of |latent| (`norm` 1) or latent^2 (`norm` 2)."""

    def __init__(self, weight: float, norm: int = 1) -> None:
        super().__init__()
        self.weight, self.norm = weight, norm

    def forward(self, encoded: Tensor) -> tuple[Tensor, Tensor]:
        return encoded, self.weight * encoded.abs().pow(self.norm).mean()


class Gaussian(nn.Module):
    """A variational bottleneck (Kingma & Welling 2014).

    The encoder predicts mean and log-variance. The latent is a sample in training and the mean in
    evaluation. The penalty is `weight` times KL(N(mean, var) || N(0, 1)) per latent value, which is
    (mean^2 + var - 1 - log var) / 2.

    Args:
        weight: of the penalty.
        free_bits: nats of KL per latent value that cost nothing, in the mean over the batch of each
            channel (Kingma et al. 2016); keeps channels from being unused.
        warmup_steps: training steps in which the weight rises from 0 (Bowman et al. 2016).
    """

    width = 2

    def __init__(self, weight: float, *, free_bits: float = 0.0, warmup_steps: int = 0) -> None:
        super().__init__()
        self.weight, self.free_bits, self.warmup_steps = weight, free_bits, warmup_steps
        self.step = warmup_steps  # of the training, see `Autoencoder.at_step`

    def posterior(self, encoded: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance."""
        mean, log_variance = encoded.chunk(2, dim=1)
        return mean, log_variance.clamp(-20, 10)

    def divergence(self, encoded: Tensor) -> Tensor:
        """KL(N(mean, var) || N(0, 1)) of each latent value, nats."""
        mean, log_variance = self.posterior(encoded)
        return (mean.square() + log_variance.exp() - 1 - log_variance) / 2

    def code(self, encoded: Tensor) -> Tensor:
        """The latent without randomness: the mean."""
        return self.posterior(encoded)[0]

    @property
    def warmth(self) -> float:
        """The share of the weight that applies: below 1 during the warm-up only."""
        if not self.training or self.step >= self.warmup_steps:
            return 1.0
        return self.step / self.warmup_steps

    def forward(self, encoded: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.posterior(encoded)
        if self.free_bits:
            channels = self.divergence(encoded).transpose(0, 1).flatten(1).mean(1)
            divergence = channels.clamp_min(self.free_bits).mean()
        else:
            divergence = (mean.square() + log_variance.exp() - 1 - log_variance).mean() / 2
        latent = mean + torch.randn_like(mean) * (log_variance / 2).exp() if self.training else mean
        return latent, self.weight * self.warmth * divergence


class Quantised(Plain):
    """A latent of whole numbers, for compression (Ballé et al. 2017).

    In training, uniform noise in -0.5..0.5 takes the place of rounding, which has no gradient. The
    penalty is `weight` times the mean number of bits of a latent value: those of a Laplace
    distribution around the value of the previous step, with the mean deviation that a channel has
    in the batch. The network learns the step size as the scale of its latent.
    """

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def code(self, encoded: Tensor) -> Tensor:
        """The latent, rounded."""
        return torch.round(encoded)

    def forward(self, encoded: Tensor) -> tuple[Tensor, Tensor]:
        change = encoded[:, :, 1:] - encoded[:, :, :-1] if encoded.shape[2] > 1 else encoded
        deviation = change.abs().transpose(0, 1).flatten(1).mean(1)
        bits = torch.log2(1 + 2 * math.e * deviation).mean()
        noise = torch.rand_like(encoded) - 0.5
        latent = encoded + noise if self.training else self.code(encoded)
        return latent, self.weight * bits


def build_bottleneck(
    name: BottleneckName,
    weight: float,
    norm: int = 1,
    *,
    free_bits: float = 0.0,
    warmup_steps: int = 0,
) -> Plain | Gaussian:
    """The bottleneck of that name; `weight` scales its penalty, `norm` is that of `Sparse`, and the
    others are those of `Gaussian`.
    """
    if name == "plain":
        return Plain()
    if name == "sparse":
        return Sparse(weight, norm)
    if name == "gaussian":
        return Gaussian(weight, free_bits=free_bits, warmup_steps=warmup_steps)
    if name == "quantised":
        return Quantised(weight)
    raise SettingsError(f"unknown bottleneck {name!r}; known: plain, sparse, gaussian, quantised")
