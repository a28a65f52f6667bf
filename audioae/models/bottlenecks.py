"""What sits between encoder and decoder: nothing, a price on activity, or a Gaussian code.

Every bottleneck maps an encoder's output to `(latent, penalty)`; the training loop adds `penalty`
to the loss and never asks which it is.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from audioae.errors import SettingsError

BottleneckName = Literal["plain", "sparse", "gaussian"]


class Plain(nn.Module):
    """The latent as it is."""

    width = 1  # encoder channels that a latent channel takes

    def forward(self, encoded: Tensor) -> tuple[Tensor, Tensor]:
        return encoded, encoded.new_zeros(())


class Sparse(nn.Module):
    """A penalty on activity: `weight` times the mean of |latent| (`norm` 1) or latent^2 (`norm` 2)."""

    width = 1

    def __init__(self, weight: float, norm: int = 1) -> None:
        super().__init__()
        self.weight, self.norm = weight, norm

    def forward(self, encoded: Tensor) -> tuple[Tensor, Tensor]:
        return encoded, self.weight * encoded.abs().pow(self.norm).mean()


class Gaussian(nn.Module):
    """A variational code (Kingma & Welling 2014): the encoder gives mean and log-variance, training
    samples, inference takes the mean.

    The penalty is `weight` times KL(N(mean, var) || N(0, 1)) per latent value: (mean^2 + var - 1 -
    log var) / 2.
    """

    width = 2

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, encoded: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = encoded.chunk(2, dim=1)
        log_variance = log_variance.clamp(-20, 10)
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).mean() / 2
        latent = mean + torch.randn_like(mean) * (log_variance / 2).exp() if self.training else mean
        return latent, self.weight * divergence


def build_bottleneck(
    name: BottleneckName, weight: float, norm: int = 1
) -> Plain | Sparse | Gaussian:
    """The bottleneck of that name; `weight` scales its penalty."""
    if name == "plain":
        return Plain()
    if name == "sparse":
        return Sparse(weight, norm)
    if name == "gaussian":
        return Gaussian(weight)
    raise SettingsError(f"unknown bottleneck {name!r}; known: plain, sparse, gaussian")
