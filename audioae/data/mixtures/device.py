"""Mix batches on an accelerator that holds all prepared audio as int16."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from audioae.data.augment import Remix
from audioae.data.manifest import FULL_SCALE
from audioae.data.mixtures.corpus import CROP_RMS, Corpus, Crop, DataSettings, Pool
from audioae.data.mixtures.draws import MixtureDraw
from audioae.data.mixtures.mixer import Mixer
from audioae.data.mixtures.renderer import Renderer
from audioae.signal.spectrogram import Array


class DeviceMixer:
    """Mixes batches of a corpus on a device.

    Mixture i of batch `index` is drawn as pair `index * size + i` of `MixtureDataset` and rendered
    by the same `Renderer`. Only the reading of crops differs: they are cut from audio on the
    device.
    """

    def __init__(self, corpus: Corpus, settings: DataSettings, device: str | torch.device) -> None:
        self.mixer, self.device = Mixer(corpus, settings), torch.device(device)
        self.speech = DevicePool(corpus.speech, self.device)
        self.noise = DevicePool(corpus.noise, self.device)
        self.renderer = Renderer(corpus, self.speech.read, self.noise.read, self._place)

    def batch(self, seed: int, index: int, size: int) -> tuple[Tensor, Tensor]:
        """`(noisy, clean)`, each float32 `[size, samples]` on the device. It depends on the
        arguments only.
        """
        indices = range(index * size, (index + 1) * size)
        noisy, clean = self.render(
            [self.mixer.draw_mixture(np.random.default_rng([seed, number])) for number in indices]
        )
        rng = np.random.default_rng([seed, *indices, size])
        if size > 1 and rng.random() < self.mixer.augment.remix:
            noisy = Remix.draw(rng, size).apply(noisy, clean)
        return noisy, clean

    def render(self, draws: Sequence[MixtureDraw]) -> tuple[Tensor, Tensor]:
        """The mixtures of these draws, `(noisy, clean)`, each `[batch, samples]`."""
        return self.renderer.render(draws)

    def _place(self, array: Array) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)


class DevicePool:
    """The samples of a pool on a device, int16 as in the shards."""

    def __init__(self, pool: Pool, device: torch.device) -> None:
        self.device = device
        self.starts = np.cumsum([0, *(row.samples for row in pool.rows)])
        held = np.empty(self.starts[-1], np.int16)
        for row, start in zip(pool.rows, self.starts, strict=False):
            held[start : start + row.samples] = pool.shards.view(row)
        self.held = torch.from_numpy(held).to(device)

    def read(self, crops: Sequence[Crop]) -> Tensor:
        """At least one crop of one length: `[n, samples]`, as `Pool.read` reads each."""
        parts, lengths = [], []
        for crop in crops:
            ends = [piece.place for piece in crop.pieces[1:]] + [crop.samples]
            for piece, end in zip(crop.pieces, ends, strict=True):
                start = int(self.starts[piece.row]) + piece.start
                parts += [
                    self.held[start : start + piece.count],
                    self.silence(end - piece.place - piece.count),
                ]
                lengths += [piece.count, end - piece.place - piece.count]
        waveform = torch.cat(parts).float() / FULL_SCALE
        held = torch.tensor(lengths, device=self.device)
        # not index_add: on a GPU it adds in any order, and the bits would not repeat
        power = torch.segment_reduce(
            waveform.square(), "sum", lengths=held, unsafe=True
        ) / torch.clamp(held, min=1)
        gain = torch.where(power > 0, CROP_RMS / torch.sqrt(power), 0)
        levelled: Tensor = waveform * torch.repeat_interleave(gain, held, output_size=len(waveform))
        return levelled.view(len(crops), crops[0].samples)

    def silence(self, samples: int) -> Tensor:
        """`[samples]` of zeros, int16."""
        return torch.zeros(max(samples, 0), dtype=torch.int16, device=self.device)
