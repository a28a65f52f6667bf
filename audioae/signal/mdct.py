"""The modified discrete cosine transform: overlapping frames, and as many coefficients as samples.

Frame t has the samples from `(t - 1) * size` to `(t + 1) * size`, so it is centred at `t * size`
like a frame of `signal.features` with a hop of `size`.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from audioae.signal.spectrogram import Array


@lru_cache(maxsize=4)
def mdct_matrix(size: int) -> Array:
    """The windowed, orthonormal MDCT `[size, 2 * size]` with a sine window (Malvar 1990)."""
    n, k = np.arange(2 * size), np.arange(size)[:, None]
    window = np.sin(np.pi * (n + 0.5) / (2 * size))
    basis = np.cos(np.pi / size * (n + 0.5 + size / 2) * (k + 0.5))
    found: Array = (np.sqrt(2 / size) * window * basis).astype(np.float32)
    return found


def mdct(waveform: Array, size: int) -> Array:
    """The MDCT `[..., size, frames]` of `[..., (frames + 1) * size]` samples.

    Example:
        >>> sound = np.random.default_rng(0).normal(size=50 * 32).astype(np.float32)
        >>> again = overlap(mdct(sound, 32), np.zeros(32, np.float32))[0]
        >>> np.allclose(again[32:], sound[32:-32], atol=1e-5)
        True
    """
    hops = waveform.reshape(*waveform.shape[:-1], -1, size)
    pairs = np.concatenate([hops[..., :-1, :], hops[..., 1:, :]], -1)
    return np.swapaxes(pairs @ mdct_matrix(size).T, -1, -2)


def overlap(coefficients: Array, tail: Array) -> tuple[Array, Array]:
    """The inverse of `mdct`, block by block.

    Args:
        coefficients: `[..., size, frames]`.
        tail: the second half of the frame before, `[..., size]`.

    Returns:
        `[..., frames * size]` samples, and the tail for the next block.
    """
    size = coefficients.shape[-2]
    pairs = np.swapaxes(coefficients, -1, -2) @ mdct_matrix(size)  # ..., T, 2N
    second = np.concatenate([tail[..., None, :], pairs[..., size:]], -2)
    samples = pairs[..., :size] + second[..., :-1, :]
    return samples.reshape(*samples.shape[:-2], -1), second[..., -1, :]
