"""The processes that train together: who is who, and what they tell each other.

Gradients travel as one tensor after the backward pass. Networks here have a few megabytes of them,
which buckets that overlap with the backward pass do not make faster, and a fixed order of summation
lets a resumed run repeat an undisturbed one bit for bit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor

from audioae.errors import AudioaeError

Answer = TypeVar("Answer")
PATIENCE = timedelta(hours=6)  # for the first process, which prepares data while the others wait


@dataclass(frozen=True)
class Team:
    """`size` processes, of which this one is number `rank`."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process speaks and writes for all."""
        return self.rank == 0

    def any(self, value: bool) -> bool:
        """True in all processes as soon as it is true in one."""
        if self.size == 1:
            return value
        device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
        flag = torch.tensor(float(value), device=device)
        torch.distributed.all_reduce(flag)
        return bool(flag > 0)

    def gather(self, value: Answer) -> list[Answer]:
        """What every process says, in the order of ranks."""
        if self.size == 1:
            return [value]
        answers: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(answers, value)
        return answers

    def from_first(self, ask: Callable[[], Answer]) -> Answer:
        """The first process's answer, or its error, in all processes."""
        if self.size == 1:
            return ask()
        answer: list[Any] = [None, None]
        if self.leads:
            try:
                answer[0] = ask()
            except AudioaeError as error:
                answer[1] = error
        torch.distributed.broadcast_object_list(answer)
        if answer[1] is not None:
            raise answer[1]
        found: Answer = answer[0]
        return found

    @torch.no_grad()
    def mean_(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors of one type by their means over the processes; what is not finite in one
        becomes so in all.
        """
        if self.size == 1:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        torch.distributed.all_reduce(flat)
        flat /= self.size
        for tensor, mean in zip(
            tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True
        ):
            tensor.copy_(mean.view(tensor.shape))


@contextmanager
def process_group() -> Iterator[Team]:
    """The group that the caller has opened, else that of torchrun when it started us, else one
    process alone.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        yield Team(torch.distributed.get_rank(), torch.distributed.get_world_size())
        return
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Team()
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(local_gpu())
    torch.distributed.init_process_group(
        "nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE
    )
    try:
        yield Team(torch.distributed.get_rank(), torch.distributed.get_world_size())
    finally:
        torch.distributed.destroy_process_group()


def local_gpu() -> int:
    """The GPU of this process among those of its machine."""
    return int(os.environ.get("LOCAL_RANK", "0")) % max(1, torch.cuda.device_count())
