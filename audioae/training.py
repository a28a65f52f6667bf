"""The training loop: `fit` yields a row per report and never prints."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from audioae.checkpoint import describe, load_weights, read_tensors, save_denoiser, write_tensors
from audioae.dataset import Corpus, DataSettings, Mixer, MixtureDataset
from audioae.errors import CheckpointError, DependencyError, SettingsError
from audioae.losses import check_weights, levelled_loss
from audioae.manifest import replace_text
from audioae.models import Denoiser
from audioae.validation import Validation, ValidationSettings

RESUME, HISTORY = "resume.safetensors", "history.jsonl"
PROGRESS_STEPS = 20
TIMED_STEPS = 5  # after which the start row can tell how long the run takes


def default_weights() -> dict[str, float]:
    """The weights that measured best: lean on the magnitude as far as SI-SDR allows."""
    return {"compressed_magnitude": 9.0, "compressed_complex": 4.0, "negative_si_sdr": 0.003}


@dataclass(frozen=True)
class TrainSettings:
    """How a network is fitted.

    Args:
        steps: optimizer steps in all. batch_size: pairs a step, over all processes.
        learning_rate: its peak, after `warmup_steps`; it stays there and falls to zero as a half cosine over the last `decay_steps`
            (0: over all steps, the usual cosine).
        weight_decay, betas: of AdamW. clip_norm: largest norm of the gradients.
        ema: decay of the running average of weights and BatchNorm statistics a step.
        loss: weight of each loss, see `losses`.
        precision: "bf16" runs the network under autocast; STFT and losses stay in fp32.
        validation: the fixed mixtures that a model is judged on every `report_steps`; `best` is what the best checkpoint is best in.
        workers: processes that mix; 0 mixes in the training process.
        seed: of weights, mixtures and validation set.
    """

    steps: int = 20000
    batch_size: int = 16
    learning_rate: float = 2e-3
    warmup_steps: int = 300
    decay_steps: int = 0
    weight_decay: float = 1e-2
    betas: tuple[float, float] = (0.9, 0.98)
    clip_norm: float = 1.0
    ema: float = 0.999
    loss: dict[str, float] = field(default_factory=default_weights)
    precision: Literal["fp32", "bf16"] = "fp32"
    validation: ValidationSettings = field(default_factory=ValidationSettings)
    report_steps: int = 1000
    best: Literal["pesq", "si_sdr", "loss"] = "pesq"
    workers: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        check_weights(self.loss)
        for name in ("steps", "batch_size", "report_steps"):
            if getattr(self, name) < 1:
                raise SettingsError(f"TrainSettings.{name} is {getattr(self, name)}; expected at least 1")
        for name in ("learning_rate", "weight_decay", "clip_norm", "workers"):
            if getattr(self, name) < 0:
                raise SettingsError(f"TrainSettings.{name} is {getattr(self, name)}; expected no less than 0")


@dataclass(frozen=True)
class Start:
    """What is about to be trained, measured on the first steps."""

    parameters: int
    macs_per_second: int
    speech_hours: float
    noise_hours: float
    steps: int
    first_step: int
    audio_seconds_per_second: float
    seconds_left: float


@dataclass(frozen=True)
class Progress:
    """A few steps further."""

    step: int
    loss: float
    audio_seconds_per_second: float


@dataclass(frozen=True)
class Report:
    """A validation. `loss` is the mean over the training steps since the last report; metrics are means over the validation mixtures."""

    step: int
    audio_hours: float
    learning_rate: float
    loss: float
    valid_loss: float | None
    valid_si_sdr: float | None
    valid_pesq: float | None
    valid_stoi: float | None
    skipped_steps: int
    seconds: float
    is_best: bool


def learning_rate_at(step: int, settings: TrainSettings) -> float:
    """Linear warm-up, a plateau, half a cosine down to zero."""
    decay = settings.decay_steps or settings.steps
    warm = min(1.0, (step + 1) / max(1, settings.warmup_steps))
    into_decay = max(0.0, (step - (settings.steps - decay)) / decay)
    return settings.learning_rate * warm * (1 + math.cos(math.pi * min(1.0, into_decay))) / 2


@contextmanager
def process_group() -> Iterator[tuple[int, int]]:
    """Rank and number of processes: of the group that the caller has opened, else of torchrun's when it started us, else one alone."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        yield torch.distributed.get_rank(), torch.distributed.get_world_size()
        return
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield 0, 1
        return
    torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield torch.distributed.get_rank(), torch.distributed.get_world_size()
    finally:
        torch.distributed.destroy_process_group()


class Trainer:
    """Everything that changes from step to step: network, average, optimizer, counters."""

    def __init__(self, denoiser: Denoiser, settings: TrainSettings, *, rank: int = 0, processes: int = 1) -> None:
        self.denoiser, self.settings, self.rank, self.processes = denoiser, settings, rank, processes
        self.device = torch.device("cuda", rank % torch.cuda.device_count()) if torch.cuda.is_available() else torch.device("cpu")
        denoiser.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # what Conv2d is fastest in, here and on a GPU
        self.average = copy.deepcopy(denoiser).eval()
        self.model: nn.Module = nn.parallel.DistributedDataParallel(denoiser) if processes > 1 else denoiser
        self.optimizer = torch.optim.AdamW(
            denoiser.parameters(), lr=settings.learning_rate, betas=settings.betas, weight_decay=settings.weight_decay
        )
        self.step = 0
        self.skipped = 0
        self.seconds = 0.0
        self.best = -math.inf
        self.losses: list[float] = []  # of the steps since the last report

    def train_step(self, noisy: Tensor, clean: Tensor) -> float:
        """One optimizer step on `[batch, samples]`; returns the loss. One that is not finite everywhere changes only the counters."""
        self.denoiser.train()
        torch.manual_seed(self.settings.seed * 1_000_003 + self.step)  # so that a resumed run draws what an undisturbed one does
        rate = learning_rate_at(self.step, self.settings)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        statistics = [buffer.clone() for buffer in self.denoiser.buffers()]
        loss = self.loss(noisy.to(self.device), clean.to(self.device))
        self.optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.denoiser.parameters(), self.settings.clip_norm)
        self.step += 1
        if everywhere(not bool(torch.isfinite(norm) and torch.isfinite(loss)), self):
            self.skipped += 1
            with torch.no_grad():
                for buffer, before in zip(self.denoiser.buffers(), statistics, strict=True):
                    buffer.copy_(before)
            return math.nan
        self.optimizer.step()
        self.update_average()
        return loss.item()

    def loss(self, noisy: Tensor, clean: Tensor) -> Tensor:
        """The weighted loss of a batch, plus the bottleneck's penalty."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.precision == "bf16"):
            enhanced, estimate = self.model(noisy)
        loss: Tensor = levelled_loss(enhanced, clean, noisy, self.denoiser.settings, self.settings.loss) + estimate.penalty
        return loss

    @torch.no_grad()
    def update_average(self) -> None:
        """Move the average towards the weights and statistics, faster in the first steps."""
        decay = min(self.settings.ema, (1 + self.step) / (10 + self.step))
        for average, value in zip(self.average.state_dict().values(), self.denoiser.state_dict().values(), strict=True):
            if value.dtype.is_floating_point:
                average.lerp_(value, 1 - decay)
            else:
                average.copy_(value)

    def save(self, path: Path) -> None:
        """Write all that the next step depends on."""
        tensors = {f"model.{name}": value for name, value in self.denoiser.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
        counters = {"step": self.step, "skipped": self.skipped, "seconds": self.seconds, "losses": self.losses}
        best = self.best if math.isfinite(self.best) else None
        write_tensors(path, tensors, {**describe(self.denoiser), **counters, "best": best})

    def load(self, path: Path) -> None:
        """Go on from what `save` wrote."""
        tensors, metadata = read_tensors(path)
        own = json.loads(json.dumps(describe(self.denoiser)))
        for part in ("family", "stft", "network"):
            if metadata.get(part) != own[part]:
                raise CheckpointError(f"{path} has another {part} than this recipe; give another --out, or the recipe that began the run")
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "average": {}, "optimizer": {}}
        for name, value in tensors.items():
            group, _, rest = name.partition(".")
            parts[group][rest] = value
        load_weights(self.denoiser, parts["model"], path)
        load_weights(self.average, parts["average"], path)
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in parts["optimizer"].items():
            index, _, key = name.partition(".")
            state.setdefault(int(index), {})[key] = value
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})
        self.step, self.skipped, self.seconds = metadata["step"], metadata["skipped"], metadata["seconds"]
        self.best = -math.inf if metadata["best"] is None else metadata["best"]
        self.losses = metadata.get("losses", [])


class Batches:
    """Indices of the pairs of each step from `first_step` on: this process's share of the batch."""

    def __init__(self, settings: TrainSettings, first_step: int, rank: int, processes: int) -> None:
        if settings.batch_size % processes:
            raise SettingsError(f"TrainSettings.batch_size {settings.batch_size} does not divide among {processes} processes")
        self.share = settings.batch_size // processes
        self.steps = range(first_step, settings.steps)
        self.batch_size, self.rank = settings.batch_size, rank

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.steps:
            first = step * self.batch_size + self.rank * self.share
            yield list(range(first, first + self.share))


def fit(
    denoiser: Denoiser,
    settings: TrainSettings,
    data: DataSettings,
    *,
    folder: Path,
    out: Path,
    about: Mapping[str, Any] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Start | Progress | Report]:
    """Train a denoiser on prepared data; a run that was interrupted goes on where it was.

    Args:
        denoiser: changed in place. folder: what `audioae prepare` wrote. out: the run folder (checkpoints and history.jsonl).
        about: stored in the checkpoints beside the settings, such as the recipe.
        stop: asked after every step; True saves and ends the run.

    Yields:
        A `Start`, a `Progress` every 20 steps, a `Report` every `report_steps`; in other processes than the first of several, nothing.
    """
    if settings.best == "pesq" and find_spec("pesq") is None:
        raise DependencyError("the best checkpoint is chosen by PESQ: pip install 'audioae[metrics]', or set training.best to 'si_sdr'")
    corpus = Corpus(folder, "train", data)
    if corpus.sample_rate != denoiser.settings.sample_rate:
        rates = f"{folder} holds audio of {corpus.sample_rate} Hz, the network is for {denoiser.settings.sample_rate} Hz"
        raise SettingsError(f"{rates}; prepare it with that --sample-rate, or set stft.sample_rate")
    with process_group() as (rank, processes):
        out.mkdir(parents=True, exist_ok=True)
        trainer = Trainer(denoiser, settings, rank=rank, processes=processes)
        if (out / RESUME).exists():
            trainer.load(out / RESUME)
        for row in run(trainer, corpus, data, folder=folder, out=out, about=about or {}, stop=stop):
            if rank == 0:
                yield row


def run(
    trainer: Trainer, corpus: Corpus, data: DataSettings, *, folder: Path, out: Path, about: Mapping[str, Any], stop: Callable[[], bool]
) -> Iterator[Start | Progress | Report]:
    """The loop of one process."""
    settings, main = trainer.settings, trainer.rank == 0
    validation = Validation(folder, data, settings.validation, settings.loss) if main else None
    if main:
        forget_after(out / HISTORY, trainer.step)
    first_step = trainer.step
    next_report = first_step + settings.report_steps - first_step % settings.report_steps
    timed_step = min(first_step + TIMED_STEPS, next_report, settings.steps)
    batches = Batches(settings, first_step, trainer.rank, trainer.processes)
    pairs = MixtureDataset(Mixer(corpus, data), seed=settings.seed, pairs=settings.steps * settings.batch_size)
    loader = DataLoader(pairs, batch_sampler=batches, num_workers=settings.workers, persistent_workers=False)
    began, mark, marked = time.monotonic() - trainer.seconds, time.monotonic(), first_step
    for noisy, clean in loader:
        trainer.losses.append(trainer.train_step(noisy, clean))
        trainer.seconds = time.monotonic() - began
        if trainer.step == timed_step or (trainer.step - first_step) % PROGRESS_STEPS == 0:
            steps = trainer.step - marked
            rate = steps * settings.batch_size * data.segment_seconds / (time.monotonic() - mark)
            if trainer.step == timed_step:
                yield start_row(trainer, corpus, data, first_step, rate)
            yield Progress(trainer.step, mean_of(trainer.losses[-steps:]), rate)
            mark, marked = time.monotonic(), trainer.step
        ended = trainer.step == settings.steps or everywhere(stop(), trainer)
        if trainer.step % settings.report_steps == 0 or trainer.step == settings.steps:
            loss, trainer.losses = mean_of(trainer.losses), []
            if validation:
                yield report(trainer, validation, data, out, loss, about)
            mark, marked = time.monotonic(), trainer.step
        if ended:
            break
    if main:
        trainer.save(out / RESUME)


def start_row(trainer: Trainer, corpus: Corpus, data: DataSettings, first_step: int, rate: float) -> Start:
    """The line of truth at the start."""
    settings, info = trainer.settings, trainer.denoiser.info
    seconds_left = (settings.steps - trainer.step) * settings.batch_size * data.segment_seconds / rate
    return Start(info.parameters, info.macs_per_second, *corpus.hours, settings.steps, first_step, rate, seconds_left)


def report(trainer: Trainer, validation: Validation, data: DataSettings, out: Path, loss: float, about: Mapping[str, Any]) -> Report:
    """Validate the average, write the checkpoints and a line of history."""
    settings = trainer.settings
    scores = validation.score(trainer.average)
    value = scores[settings.best]
    goodness = -math.inf if value is None else -value if settings.best == "loss" else value
    is_best = goodness > trainer.best
    trainer.best = max(trainer.best, goodness)
    row = Report(
        step=trainer.step,
        audio_hours=trainer.step * settings.batch_size * data.segment_seconds / 3600,
        learning_rate=learning_rate_at(trainer.step - 1, settings),
        loss=loss,
        valid_loss=scores["loss"],
        valid_si_sdr=scores["si_sdr"],
        valid_pesq=scores["pesq"],
        valid_stoi=scores["stoi"],
        skipped_steps=trainer.skipped,
        seconds=trainer.seconds,
        is_best=is_best,
    )
    known = {**about, "training": dataclasses.asdict(row)}
    for name in ["last", "best"] if is_best else ["last"]:
        save_denoiser(out / f"{name}.safetensors", trainer.average, **known)
    with (out / HISTORY).open("a") as history:
        history.write(json.dumps(dataclasses.asdict(row)) + "\n")
    trainer.save(out / RESUME)
    return row


def forget_after(history: Path, step: int) -> None:
    """Drop the lines of steps that a resumed run will take again, and a last one that an interruption cut short."""
    if history.exists():
        *lines, _cut_short = history.read_text().split("\n")
        replace_text(history, "".join(line + "\n" for line in lines if json.loads(line)["step"] <= step))


def everywhere(value: bool, trainer: Trainer) -> bool:
    """True in all processes as soon as it is true in one."""
    if trainer.processes == 1:
        return value
    flag = torch.tensor(float(value), device=trainer.device)
    torch.distributed.all_reduce(flag)
    return bool(flag > 0)


def mean_of(losses: list[float]) -> float:
    """The mean over steps that were not skipped."""
    known = [loss for loss in losses if math.isfinite(loss)]
    return sum(known) / len(known) if known else math.nan
