"""The noisy/clean pairs of each step, mixed by worker processes or on the device."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor
from torch.utils.data import DataLoader

from audioae.data.mixtures import Corpus, DataSettings, DeviceMixer, Mixer, MixtureDataset
from audioae.errors import AudioaeError
from audioae.training.settings import TrainSettings
from audioae.training.team import Team
from audioae.training.trainer import Trainer

Batch = tuple[Tensor, Tensor]


class Batches:
    """Indices of the pairs of each step from `first_step` on, for one of several processes."""

    def __init__(self, settings: TrainSettings, first_step: int, team: Team) -> None:
        self.share = settings.share(team.size)
        self.steps = range(first_step, settings.steps)
        self.batch_size, self.rank = settings.batch_size, team.rank

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.steps:
            first = step * self.batch_size + self.rank * self.share
            yield list(range(first, first + self.share))


def batches(trainer: Trainer, corpus: Corpus, data: DataSettings) -> Iterator[Batch]:
    """The pairs of this process for all steps left: noisy and clean, `[pairs, num_samples]`."""
    indices = Batches(trainer.settings, trainer.step, trainer.team)
    mix_on = trainer.settings.mix_on
    if mix_on == "device" or (mix_on == "auto" and trainer.device.type != "cpu"):
        return mixed_on_device(trainer, corpus, data, indices)
    return mixed_by_workers(trainer, corpus, data, indices)


def mixed_on_device(
    trainer: Trainer, corpus: Corpus, data: DataSettings, indices: Batches
) -> Iterator[Batch]:
    """Hold all audio on the device and mix there."""
    mixer = DeviceMixer(corpus, data, trainer.device)
    return (
        mixer.batch(trainer.settings.seed, share[0] // len(share), len(share)) for share in indices
    )


def mixed_by_workers(
    trainer: Trainer, corpus: Corpus, data: DataSettings, indices: Batches
) -> Iterator[Batch]:
    """Mix on the CPU, in `workers` processes."""
    settings = trainer.settings
    pairs = MixtureDataset(
        Mixer(corpus, data), seed=settings.seed, pairs=settings.steps * settings.batch_size
    )
    pin = trainer.device.type == "cuda"
    try:
        yield from DataLoader(
            pairs, batch_sampler=indices, num_workers=settings.workers, pin_memory=pin
        )
    except AudioaeError as error:
        # The message of a worker's error is a traceback, whose last line has the error's message.
        if settings.workers:
            raise type(error)(str(error).strip().splitlines()[-1].partition(": ")[2]) from None
        raise
