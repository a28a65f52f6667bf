"""The state of a training, and one training step."""

from __future__ import annotations

import copy
import ctypes
import math
import sys

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from audioae.errors import SettingsError
from audioae.models import Reconstructor
from audioae.models.checkpoint import Model
from audioae.training.losses import levelled_loss
from audioae.training.losses.distances import feature_loss
from audioae.training.settings import TrainSettings, learning_rate_at
from audioae.training.team import Team, local_gpu

# From malloc.h of glibc.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
MOST = 2**31 - 1  # bytes that are kept at the end of the heap
AHEAD = 2**28  # bytes that are requested from the kernel at once


def keep_freed_memory() -> bool:
    """Let glibc keep freed memory for later allocations instead of returning it to the kernel.

    Each step allocates and frees the same few hundred MiB, in blocks so large that glibc maps each
    of them again and the kernel clears all its pages. That takes a fifth of the time of a step of
    speech-16k on a CPU.

    Returns:
        Whether it was possible; False for other C libraries.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    return all(
        mallopt(option, value) == 1
        for option, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, MOST), (M_TOP_PAD, AHEAD))
    )


DEVICES = ("auto", "cpu", "cuda")
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Trainer:
    """Network, moving average, optimizer and counters of a training."""

    def __init__(
        self,
        model: Model,
        settings: TrainSettings,
        *,
        team: Team = Team(),  # noqa: B008  # frozen
        device: str = "auto",
    ) -> None:
        self.model, self.settings, self.team = model, settings, team
        self.device = find_device(device)
        memory_format = fastest_format(self.device)
        model.to(self.device, memory_format=memory_format)  # type: ignore[call-overload]
        self.average = copy.deepcopy(model).eval()
        if settings.compile:
            model.autoencoder.compile()
        self.optimizer = torch.optim.AdamW(
            model.parameters(),
            lr=settings.learning_rate,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
        )
        self.scaler = GradScaler(self.device.type, enabled=settings.precision == "fp16")
        norms = [
            module
            for module in model.modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm)
        ]
        self.statistics = [
            value
            for norm in norms
            for value in (norm.running_mean, norm.running_var)
            if value is not None
        ]
        self.step = 0
        self.skipped = 0
        self.seconds = 0.0
        self.best = -math.inf
        self.reports_since_best = 0
        self.losses: list[float] = []  # of the steps since the last report

    def train_step(self, noisy: Tensor, clean: Tensor) -> float:
        """Take an optimizer step.

        If a loss or gradient is not finite in any process, all processes skip the step: only the
        counters change.

        Args:
            noisy, clean: the pairs of this process, `[pairs, num_samples]`.

        Returns:
            The mean loss over all processes; NaN if the step was skipped.
        """
        self.model.train()
        self.model.autoencoder.at_step(self.step)
        # A resumed run draws the same values as one without interruption, and each process
        # different ones.
        torch.manual_seed(
            (self.settings.seed * 1_000_003 + self.step) * self.team.size + self.team.rank
        )
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(self.step, self.settings)
        before = [buffer.clone() for buffer in self.model.buffers()]
        loss = self.backward(
            noisy.to(self.device, non_blocking=True), clean.to(self.device, non_blocking=True)
        )
        self.team.mean_([loss, *self.gradients(), *self.statistics])
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        is_finite = bool(torch.isfinite(norm) & torch.isfinite(loss))
        if is_finite:
            self.optimizer.step()
        self.scaler.update()
        self.step += 1
        if not is_finite:
            self.skipped += 1
            self.restore(before)
            return math.nan
        self.update_average()
        return loss.item()

    def backward(self, noisy: Tensor, clean: Tensor) -> Tensor:
        """Compute the gradients of the loss, part by part; returns the loss."""
        self.optimizer.zero_grad()
        parts = self.settings.accumulate
        total = torch.zeros((), device=self.device)
        for part_noisy, part_clean in zip(noisy.chunk(parts), clean.chunk(parts), strict=True):
            loss = self.loss(part_noisy, part_clean) / parts
            self.scaler.scale(loss).backward()
            total += loss.detach()
        return total

    def loss(self, noisy: Tensor, clean: Tensor) -> Tensor:
        """The weighted loss of a batch, plus the bottleneck's penalty."""
        model, precision = self.model, self.settings.precision
        autocast = torch.autocast(
            self.device.type, DTYPES.get(precision), enabled=precision in DTYPES
        )
        if isinstance(model, Reconstructor):
            features = model.features(clean)
            with autocast:
                found = model(features)
            penalty: Tensor = found.penalty
            return feature_loss(found.features, features, self.settings.loss) + penalty
        with autocast:
            enhanced, estimate = model(noisy)
        loss: Tensor = (
            levelled_loss(enhanced, clean, noisy, model.settings, self.settings.loss)
            + estimate.penalty
        )
        return loss

    def gradients(self) -> list[Tensor]:
        """The gradients of all weights that have one."""
        return [weight.grad for weight in self.model.parameters() if weight.grad is not None]

    @torch.no_grad()
    def restore(self, before: list[Tensor]) -> None:
        """Restore the buffers to their values before a skipped step."""
        for buffer, value in zip(self.model.buffers(), before, strict=True):
            buffer.copy_(value)

    @torch.no_grad()
    def update_average(self) -> None:
        """Update the moving average of weights and statistics, faster in the first steps."""
        decay = min(self.settings.ema, (1 + self.step) / (10 + self.step))
        for average, value in zip(
            self.average.state_dict().values(), self.model.state_dict().values(), strict=True
        ):
            if value.dtype.is_floating_point:
                average.lerp_(value, 1 - decay)
            else:
                average.copy_(value)

    @property
    def is_done(self) -> bool:
        """Whether all steps are taken, or there was no new best for `patience` reports."""
        return (
            self.step >= self.settings.steps
            or 0 < self.settings.patience <= self.reports_since_best
        )


def fastest_format(device: torch.device) -> torch.memory_format:
    """The memory format in which Conv2d trains fastest.

    Channels last, except on CPUs without AVX-512, where the gradients of its weights take 2.5 times
    as long as with contiguous tensors (64 channels, 3 x 3), and a step of speech-offline-16k a
    quarter longer.
    """
    if device.type == "cpu" and not torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        return torch.contiguous_format
    return torch.channels_last


def find_device(name: str) -> torch.device:
    """The torch device for a name; "auto" is the GPU of this process, or the CPU."""
    if name not in DEVICES:
        raise SettingsError(f"device {name!r}; expected one of {', '.join(DEVICES)}")
    if name == "cuda" and not torch.cuda.is_available():
        raise SettingsError(
            "device 'cuda' is not available: torch finds no GPU; choose 'auto' or 'cpu'"
        )
    return (
        torch.device("cuda", local_gpu())
        if name != "cpu" and torch.cuda.is_available()
        else torch.device("cpu")
    )
