"""Losses of features in [0, 1], for autoencoders that reconstruct them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

MARGIN = 1e-6  # of a reconstruction from 0 and 1, where the cross-entropy is infinite


def mse(estimate: Tensor, reference: Tensor) -> Tensor:
    """Mean squared error."""
    return F.mse_loss(estimate, reference)


def mae(estimate: Tensor, reference: Tensor) -> Tensor:
    """Mean absolute error."""
    return F.l1_loss(estimate, reference)


def bce(estimate: Tensor, reference: Tensor) -> Tensor:
    """Binary cross-entropy, minus that of the reference with itself: 0 at equality."""
    guess, target = (each.clamp(MARGIN, 1 - MARGIN) for each in (estimate, reference))
    return F.binary_cross_entropy(guess, target) - F.binary_cross_entropy(target, target)


FEATURE_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"mse": mse, "mae": mae, "bce": bce}


def feature_loss(estimate: Tensor, reference: Tensor, weights: Mapping[str, float]) -> Tensor:
    """The sum of `weights[name] * FEATURE_LOSSES[name]` for features `[batch, bins, frames]`."""
    return torch.stack(
        [
            weight * FEATURE_LOSSES[name](estimate.float(), reference)
            for name, weight in weights.items()
            if weight
        ]
    ).sum()
