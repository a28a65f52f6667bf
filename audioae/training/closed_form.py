"""Weights that are computed from training sounds at the start of a training: PCA, and whitening."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from audioae.data.mixtures import DataSettings
from audioae.errors import DataError, SettingsError, counted
from audioae.models import Reconstructor
from audioae.models.convolutional import ConvolutionalAutoencoder
from audioae.models.dense import DenseAutoencoder
from audioae.training.sounds import SoundCorpus, SoundDataset, StartKind

CROPS, TOGETHER = 2500, 50  # training crops that are used, and how many at once


@torch.no_grad()
def start_from_data(
    model: Reconstructor,
    start: StartKind,
    corpus: SoundCorpus,
    data: DataSettings,
    *,
    seed: int = 0,
    crops: int = CROPS,
) -> None:
    """Set weights of an autoencoder from the features of training crops.

    "random" changes nothing. "pca" makes a dense network encode and decode like PCA. "whitened"
    changes the codes of a variational network, not its reconstructions: a linear map before the
    code gives the codes of the crops the mean and the covariance of the prior, and the inverse map
    comes after it.

    Args:
        model: changed in place.
        start: see `TaskSettings`.
        corpus, data: the training sounds.
        seed: for the crops.
        crops: their number.

    Raises:
        SettingsError: the network cannot start like that; the message names the alternative.
        DataError: there are fewer patches than latent values.
    """
    if start == "random":
        return
    check_start(model, start)
    sounds = SoundDataset(corpus, data, seed=seed, count=crops)
    model.eval()
    if start == "pca":
        moments = Moments()
        for features in features_of(model, sounds):
            stride = model.autoencoder.stride
            whole = features[..., : features.shape[-1] // stride * stride]
            patches = whole.unflatten(-1, (-1, stride)).transpose(1, 2)  # B, N, F, P
            moments.add(patches.flatten(2).flatten(0, 1))
        start_as_pca(model, moments)
    else:
        moments, variances = Moments(), []
        for features in features_of(model, sounds):
            mean, log_variance = model.posterior(features)
            moments.add(mean.transpose(1, 2).flatten(0, 1))
            variances.append(log_variance.double().exp().mean((0, 2)))
        whiten(model, moments, torch.stack(variances).mean(0))
    model.train()


def check_start(model: Reconstructor, start: StartKind) -> None:
    """Raise `SettingsError` if a network has not the layers for a start."""
    network = model.autoencoder
    if start == "pca":
        if not isinstance(network, DenseAutoencoder) or model.output != "identity":
            raise SettingsError(
                f"task.start is 'pca' for a {network.family} network with the output "
                f"{model.output!r}; set family = 'dense' and task.output = 'identity', or "
                "task.start = 'random'"
            )
        network.linear_part()
    if start == "whitened" and not (
        isinstance(network, ConvolutionalAutoencoder)
        and network.settings.bottleneck == "gaussian"
        and network.settings.latent_size
    ):
        raise SettingsError(
            "task.start is 'whitened' for a network without a linear layer on either side of a "
            "gaussian code; set bottleneck = 'gaussian', patch and latent_size of a conv1d or "
            "conv2d network, or task.start = 'random'"
        )


def features_of(model: Reconstructor, sounds: SoundDataset) -> Iterator[Tensor]:
    """The features of all crops, `[crops, bins, frames]`."""
    for first in range(0, len(sounds), TOGETHER):
        indices = range(first, min(first + TOGETHER, len(sounds)))
        yield model.features(torch.stack([sounds[index][0] for index in indices]))


class Moments:
    """Mean and covariance of vectors that are added batch by batch."""

    def __init__(self) -> None:
        self.count = 0
        self.sums = self.products = torch.zeros((), dtype=torch.float64)

    def add(self, vectors: Tensor) -> None:
        """Add vectors `[count, size]`."""
        values = vectors.double()
        self.count += len(values)
        self.sums = self.sums + values.sum(0)
        self.products = self.products + values.T @ values

    @property
    def mean(self) -> Tensor:
        """`[size]`."""
        return self.sums / self.count

    @property
    def covariance(self) -> Tensor:
        """`[size, size]`."""
        return self.products / self.count - torch.outer(self.mean, self.mean)


def start_as_pca(model: Reconstructor, patches: Moments) -> None:
    """Set the linear part of a dense network to PCA of patches."""
    network = model.autoencoder
    assert isinstance(network, DenseAutoencoder)
    size = network.settings.widths[-1]
    if patches.count < size:
        raise DataError(
            f"there are {counted(patches.count, 'patch', 'patches')} for PCA with {size} "
            "components; give more or longer recordings"
        )
    directions = torch.linalg.eigh(patches.covariance)[1].flip(1)  # by falling variance
    network.start_as_pca(patches.mean.float(), directions[:, :size].T.float())


def whiten(model: Reconstructor, means: Moments, variances: Tensor) -> None:
    """Give the codes of a variational network the mean 0 and the covariance 1.

    Args:
        model: changed in place; its reconstructions stay the same.
        means: of the codes.
        variances: mean variance of each code value, `[values]`.
    """
    network = model.autoencoder
    assert isinstance(network, ConvolutionalAutoencoder)
    before: Any = network.to_vector[0]
    after = network.from_vector
    size = len(variances)
    if means.count <= size:
        raise DataError(
            f"there are {counted(means.count, 'code')} of {size} values to whiten; give more or "
            "longer recordings"
        )
    # The codes z that the decoder gets have the covariance C = L L^T; L^-1 (z - mean) has 1.
    root = torch.linalg.cholesky(means.covariance + torch.diag(variances))
    inverse = torch.linalg.inv(root)
    weight, bias = before.weight.double(), before.bias.double()
    weight[:size] = inverse @ weight[:size]
    bias[:size] = inverse @ (bias[:size] - means.mean)
    # The variance of each new value; the network keeps one variance for each value.
    bias[size:] += ((inverse.square() @ variances) / variances).log()
    before.weight.copy_(weight)
    before.bias.copy_(bias)
    after.bias.copy_(after.bias.double() + after.weight.double() @ means.mean)
    after.weight.copy_(after.weight.double() @ root)
