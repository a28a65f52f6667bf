"""What embeddings and anomaly scores are compared with: PCA, Mahalanobis distance, neighbours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from audioae.errors import DataError, require
from audioae.signal.spectrogram import Array

NEIGHBOURS = 5
MOST_NEIGHBOURS = 1000  # vectors that are kept; a random choice of more
SMALLEST_DEVIATION = 1e-4  # of a feature in [0, 1]; silence and quantised sound have none


@dataclass(frozen=True)
class PcaEncoder:
    """PCA of patches of features, in place of the encoder of an autoencoder.

    Args:
        mean: of the patches, `[bins * frames]`.
        components: `[channels, bins * frames]`.
        frames: frames per patch.

    Example:
        >>> patches = np.random.default_rng(0).normal(size=(100, 12)).astype(np.float32)
        >>> encoder = PcaEncoder.fit(patches, channels=3, frames=4)
        >>> [block.shape for block in encoder.encode_blocks([np.zeros((3, 10), np.float32)])]
        [(3, 2), (3, 1)]
    """

    mean: Array
    components: Array
    frames: int

    @classmethod
    def fit(cls, patches: Array, *, channels: int, frames: int, seed: int = 0) -> PcaEncoder:
        """Fit to patches `[count, bins * frames]`. Raises `DataError` if there are too few."""
        decomposition: Any = require("sklearn.decomposition", extra="tasks")
        if min(patches.shape) < channels:
            raise DataError(
                f"PCA with {channels} components has {len(patches)} patches of "
                f"{patches.shape[-1]} values; expected at least {channels} of both. Give more or "
                "longer recordings"
            )
        pca = decomposition.PCA(channels, random_state=seed).fit(patches)
        return cls(pca.mean_.astype(np.float32), pca.components_.astype(np.float32), frames)

    def encode_blocks(self, blocks: Iterable[Array]) -> Iterator[Array]:
        """`[bins, frames]` blocks to `[channels, steps]` blocks; zeros complete the last step."""
        rest: Array | None = None
        for block in blocks:
            held = block if rest is None else np.concatenate([rest, block], -1)
            whole = held.shape[-1] // self.frames * self.frames
            rest = held[:, whole:]
            if whole:
                yield self._encode(held[:, :whole])
        if rest is not None and rest.shape[-1]:
            yield self._encode(np.pad(rest, ((0, 0), (0, self.frames - rest.shape[-1]))))

    def _encode(self, features: Array) -> Array:
        bins, frames = features.shape
        patches = features.reshape(bins, frames // self.frames, self.frames)
        flat = patches.transpose(1, 0, 2).reshape(frames // self.frames, -1)
        encoded: Array = self.components @ (flat - self.mean).T
        return encoded


def mel_statistics(features: Array) -> Array:
    """Mean and standard deviation over time, `[..., bins, frames]` to `[..., 2 * bins]`."""
    return np.concatenate([features.mean(-1), features.std(-1)], -1).astype(np.float32)


@dataclass(frozen=True)
class Mahalanobis:
    """The Mahalanobis distance to the mean of normal vectors, with the covariance of Ledoit & Wolf
    (2004), which is well conditioned for few vectors.

    Args:
        mean: `[dim]`.
        precision: inverse covariance, `[dim, dim]`.

    Example:
        >>> normal = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
        >>> model = Mahalanobis.fit(normal)
        >>> bool(model.score(normal + 5).min() > model.score(normal).max())
        True
    """

    mean: Array
    precision: Array

    @classmethod
    def fit(cls, normal: Array) -> Mahalanobis:
        """Fit to normal vectors `[count, dim]`."""
        covariance: Any = require("sklearn.covariance", extra="tasks")
        spread = np.square(SMALLEST_DEVIATION) * np.eye(normal.shape[-1])
        found = covariance.LedoitWolf(store_precision=False).fit(normal.astype(np.float64))
        precision = np.linalg.inv(found.covariance_ + spread)
        return cls(found.location_.astype(np.float32), precision.astype(np.float32))

    def score(self, vectors: Array) -> Array:
        """The distance of each vector, `[count, dim]` to `[count]`."""
        apart = (vectors - self.mean).astype(np.float64)
        squared = np.einsum("nd,de,ne->n", apart, self.precision.astype(np.float64), apart)
        found: Array = np.sqrt(np.maximum(squared, 0)).astype(np.float32)
        return found


@dataclass(frozen=True)
class Neighbours:
    """The mean distance to the nearest normal vectors, after each dimension is standardised.

    Args:
        normal: standardised normal vectors, `[count, dim]`.
        mean, deviation: of the normal vectors, `[dim]`.

    Example:
        >>> normal = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
        >>> model = Neighbours.fit(normal)
        >>> bool(model.score(normal + 5).min() > model.score(normal).max())
        True
    """

    normal: Array
    mean: Array
    deviation: Array

    @classmethod
    def fit(cls, normal: Array, *, seed: int = 0) -> Neighbours:
        """Fit to normal vectors `[count, dim]`."""
        if len(normal) > MOST_NEIGHBOURS:
            rng = np.random.default_rng(seed)
            normal = normal[np.sort(rng.choice(len(normal), MOST_NEIGHBOURS, replace=False))]
        mean, deviation = normal.mean(0), np.maximum(normal.std(0), SMALLEST_DEVIATION)
        return cls(((normal - mean) / deviation).astype(np.float32), mean, deviation)

    @cached_property
    def _search(self) -> Any:
        neighbors: Any = require("sklearn.neighbors", extra="tasks")
        return neighbors.NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(self.normal))).fit(
            self.normal
        )

    def score(self, vectors: Array) -> Array:
        """The mean distance of each vector, `[count, dim]` to `[count]`."""
        if not len(vectors):
            return np.zeros(0, np.float32)
        distances, _ = self._search.kneighbors((vectors - self.mean) / self.deviation)
        found: Array = distances.mean(-1).astype(np.float32)
        return found
