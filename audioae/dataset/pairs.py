"""Mixtures as a data set of torch."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from audioae.augment import Remix
from audioae.dataset.mixer import Mixer

Pair = tuple[Tensor, Tensor]


class MixtureDataset(Dataset[Pair]):
    """`pairs` of `(noisy, clean)`, each `[samples]`; pair `index` depends on the seed and the index alone."""

    def __init__(self, mixer: Mixer, *, seed: int, pairs: int) -> None:
        self.mixer, self.seed, self.pairs = mixer, seed, pairs

    def __len__(self) -> int:
        return self.pairs

    def __getitem__(self, index: int) -> Pair:
        noisy, clean = self.mixer.pair(np.random.default_rng([self.seed, index]))
        return torch.from_numpy(noisy.astype(np.float32, copy=False)), torch.from_numpy(clean.astype(np.float32, copy=False))

    def __getitems__(self, indices: list[int]) -> list[Pair]:
        """A batch, as the loader of torch asks for it; where the noises of a batch are remixed, pairs depend on the whole batch."""
        pairs = [self[index] for index in indices]
        rng = np.random.default_rng([self.seed, *indices, len(indices)])
        if len(pairs) < 2 or rng.random() >= self.mixer.augment.remix:
            return pairs
        noisy, clean = (torch.stack(side).numpy() for side in zip(*pairs, strict=True))
        remixed = torch.from_numpy(Remix.draw(rng, len(pairs)).apply(noisy, clean))
        return list(zip(remixed, torch.from_numpy(clean), strict=True))
