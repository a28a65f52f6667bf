"""Training in several processes.

Gradients are exchanged as one tensor after the backward pass. The networks have a few megabytes of
gradients, for which buckets that overlap with the backward pass are not faster, and with a fixed
order of summation a resumed run is bit-identical to one without interruption.
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
PATIENCE = timedelta(hours=6)  # others wait while the first process prepares data


@dataclass(frozen=True)
class Team:
    """The processes of a training: their number `size`, and the number `rank` of this one."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes files and reports progress."""
        return self.rank == 0

    def any(self, value: bool) -> bool:
        """Whether the value is true in any process."""
        if self.size == 1:
            return value
        device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
        flag = torch.tensor(float(value), device=device)
        torch.distributed.all_reduce(flag)
        return bool(flag > 0)

    def gather(self, value: Answer) -> list[Answer]:
        """The values of all processes, in the order of ranks."""
        if self.size == 1:
            return [value]
        answers: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(answers, value)
        return answers

    def from_first(self, ask: Callable[[], Answer]) -> Answer:
        """Call `ask` in the first process; all processes return its result or raise its error."""
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
        """Replace tensors of one type by their means over the processes, in place.

        A value that is not finite in one process is not finite in all.
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
    """The process group: that of the caller, else that of torchrun, else this process alone."""
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
    """Index of the GPU for this process on its machine."""
    return int(os.environ.get("LOCAL_RANK", "0")) % max(1, torch.cuda.device_count())
