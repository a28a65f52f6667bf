"""Bottlenecks between encoder and decoder: plain, sparse or Gaussian.

A bottleneck maps the output of the encoder to `(latent, penalty)`. The training loop adds `penalty`
to the loss, whichever bottleneck it comes from.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from audioae.errors import SettingsError

BottleneckName = Literal["plain", "sparse", "gaussian"]


class Plain(nn.Module):
    """The encoder's output is the latent; the penalty is 0."""

    width = 1  # encoder channels per latent channel

    def forward(self, encoded: Tensor) -> tuple[Tensor, Tensor]:
        return encoded, encoded.new_zeros(())


class Sparse(nn.Module):
    """Activity penalty: `weight` times the mean of |latent| (`norm` 1) or latent^2 (`norm` 2)."""

    width = 1

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
    """The bottleneck of that name; `weight` scales its penalty, `norm` is that of `Sparse`."""
    if name == "plain":
        return Plain()
    if name == "sparse":
        return Sparse(weight, norm)
    if name == "gaussian":
        return Gaussian(weight)
    raise SettingsError(f"unknown bottleneck {name!r}; known: plain, sparse, gaussian")
