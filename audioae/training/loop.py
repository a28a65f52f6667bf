"""The training loop: the pairs of each step, and `fit`, which yields records and never prints."""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from audioae.data.mixtures import Corpus, DataSettings, DeviceMixer, Mixer, MixtureDataset
from audioae.errors import AudioaeError, DependencyError, OutputError, SettingsError
from audioae.models import Reconstructor
from audioae.models.checkpoint import Model
from audioae.training.closed_form import start_from_data
from audioae.training.losses import check_task
from audioae.training.reconstruction import ReconstructionValidation
from audioae.training.reports import AnyValidation, Judge, mean_of
from audioae.training.rows import Mixing, Progress, Row, Start
from audioae.training.settings import TrainSettings
from audioae.training.sounds import DeviceSounds, SoundCorpus, SoundDataset, Source, StartKind
from audioae.training.state import HISTORY, RESUME, begin_history, check_progress, load, save
from audioae.training.team import Team, process_group
from audioae.training.trainer import Trainer
from audioae.training.validation import Validation

Batch = tuple[Tensor, Tensor]
AnyCorpus = Corpus | SoundCorpus


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


def batches(trainer: Trainer, corpus: AnyCorpus, data: DataSettings) -> Iterator[Batch]:
    """The pairs of this process for all steps left: noisy and clean, `[pairs, num_samples]`. To
    reconstruct, both are the same sounds.
    """
    indices = Batches(trainer.settings, trainer.step, trainer.team)
    mix_on = trainer.settings.mix_on
    if mix_on == "device" or (mix_on == "auto" and trainer.device.type != "cpu"):
        return mixed_on_device(trainer, corpus, data, indices)
    return mixed_by_workers(trainer, corpus, data, indices)


def mixed_on_device(
    trainer: Trainer, corpus: AnyCorpus, data: DataSettings, indices: Batches
) -> Iterator[Batch]:
    """Hold all audio on the device and mix there."""
    if isinstance(corpus, SoundCorpus):
        sounds = DeviceSounds(dataset(trainer, corpus, data), trainer.device)
        return (sounds.batch(share) for share in indices)
    mixer = DeviceMixer(corpus, data, trainer.device)
    return (
        mixer.batch(trainer.settings.seed, share[0] // len(share), len(share)) for share in indices
    )


def dataset(trainer: Trainer, corpus: SoundCorpus, data: DataSettings) -> SoundDataset:
    """The sounds of all steps."""
    settings = trainer.settings
    count = settings.steps * settings.batch_size
    return SoundDataset(corpus, data, seed=settings.seed, count=count)


def mixed_by_workers(
    trainer: Trainer, corpus: AnyCorpus, data: DataSettings, indices: Batches
) -> Iterator[Batch]:
    """Mix on the CPU, in `workers` processes."""
    settings = trainer.settings
    pairs: Dataset[Batch]
    if isinstance(corpus, SoundCorpus):
        pairs = dataset(trainer, corpus, data)
    else:
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


PROGRESS_STEPS, PROGRESS_SECONDS = 20, 10.0  # between two progress rows, whichever comes first
TIMED_STEPS = 5  # at least, before the first progress row
KEPT = 200  # steps in the running average of the time per step
# Share of them that is left out on either side, such as a step that had to wait for a disk.
CUT = 0.1
SAVE_SECONDS = 300.0  # at most so much work is lost to a crash between two reports


class Pace:
    """Measures the time of steps and reports, to predict the time left.

    `step` and `report` take the time since the last call of either.

    Args:
        first_step, steps: first and last step of the run.
        report_steps: steps between two reports.
    """

    def __init__(self, first_step: int, steps: int, report_steps: int) -> None:
        self.first_step = self.at = self.shown = first_step
        self.steps, self.report_steps = steps, report_steps
        # The first step loads, compiles and fills caches; it counts until there is another one.
        self.first_seconds = 0.0
        self.taken: deque[float] = deque(maxlen=KEPT)  # seconds of the other steps
        self.report_seconds = 0.0  # of the last report
        self.marked = self.shown_at = time.monotonic()

    def step(self) -> None:
        """A step is complete."""
        seconds = self.lap()
        if self.at == self.first_step:
            self.first_seconds = seconds
        else:
            self.taken.append(seconds)
        self.at += 1

    def report(self) -> None:
        """A report is complete, or something that takes about as long."""
        self.report_seconds = self.lap()

    def lap(self) -> float:
        """Seconds since the last call."""
        before, self.marked = self.marked, time.monotonic()
        return self.marked - before

    @property
    def is_due(self) -> bool:
        """Whether it is time for the next progress row."""
        steps = self.at - self.shown
        return steps >= PROGRESS_STEPS or (
            steps >= TIMED_STEPS and self.marked - self.shown_at >= PROGRESS_SECONDS
        )

    def show(self) -> int:
        """A progress row is made now; returns the steps since the last one."""
        steps, self.shown, self.shown_at = self.at - self.shown, self.at, self.marked
        return steps

    @property
    def step_seconds(self) -> float:
        """Seconds per step: mean of the last steps without the fastest and the slowest tenth."""
        ordered = sorted(self.taken) or [self.first_seconds]
        cut = int(CUT * len(ordered))
        middle = ordered[cut : len(ordered) - cut]
        return sum(middle) / len(middle)

    @property
    def seconds_left(self) -> float:
        """Predicted seconds until the last step and the last report."""
        if self.at >= self.steps:
            return 0.0
        reports = -(-self.steps // self.report_steps) - self.at // self.report_steps
        return (self.steps - self.at) * self.step_seconds + reports * self.report_seconds


def fit(
    model: Model,
    settings: TrainSettings,
    data: DataSettings,
    *,
    folder: Path,
    out: Path,
    about: Mapping[str, Any] | None = None,
    source: Source = "clean",
    start: StartKind = "random",
    stop: Callable[[], bool] = lambda: False,
    device: str = "auto",
) -> Iterator[Row]:
    """Train a denoiser or an autoencoder on prepared data, or resume an interrupted run.

    Args:
        model: trained in place.
        settings: the training.
        data: the mixtures, or which sounds an autoencoder reconstructs.
        folder: data folder that `audioae prepare` wrote.
        out: run folder for checkpoints and history.jsonl; a run in it is resumed.
        about: stored in the checkpoints besides the settings, such as the recipe.
        source: the recordings that an autoencoder reconstructs; a denoiser needs both.
        start: initial weights of an autoencoder that are computed from the data, see
            `TaskSettings`; a run that is resumed has its own.
        stop: called after every step; True saves the run and ends it.
        device: "auto", "cpu" or "cuda".

    Yields:
        A `Mixing`, a `Noisy` or `Baseline` and a `Start`, then a `Progress` every 20 steps or 10 s
        and before each report, which comes every `settings.report_steps` steps. Nothing if all
        steps are done. With several processes, only the first one yields rows.

    Raises:
        SettingsError: the batch does not divide among the processes, or the data have another
            sample rate than the network.
        DataError: there are no prepared data in `folder`.
        DependencyError: the metric that selects the best checkpoint is not installed.
        CheckpointError: `out` contains a run with another network.
        OutputError: `out` cannot be created.
        TrainingError: the training diverged; the last good checkpoints are kept.
    """
    reconstructs = isinstance(model, Reconstructor)
    check_task(settings.loss, reconstructs=reconstructs)
    check_metrics(settings)
    corpus: AnyCorpus
    if reconstructs:
        corpus = SoundCorpus(folder, "train", data, source)
    else:
        corpus = Corpus(folder, "train", data)
    check_rate(corpus, model, folder)
    with process_group() as team:
        settings.share(team.size)
        is_resumed = team.from_first((out / RESUME).exists)
        if isinstance(corpus, SoundCorpus) and isinstance(model, Reconstructor) and not is_resumed:
            start_from_data(model, start, corpus, data, seed=settings.seed)
        trainer = Trainer(model, settings, team=team, device=device)
        make_folder(out)
        if is_resumed:
            load(trainer, out / RESUME)
        run = Run(trainer, corpus, data, folder, out, about or {}, stop)
        for row in run.rows():
            if team.leads:
                yield row


@dataclass(frozen=True)
class Run:
    """The part of one process in a training; see `fit` for the fields."""

    trainer: Trainer
    corpus: AnyCorpus
    data: DataSettings
    folder: Path
    out: Path
    about: Mapping[str, Any]
    stop: Callable[[], bool]

    def rows(self) -> Iterator[Row]:
        """Take the steps that are left."""
        trainer, settings, team = self.trainer, self.trainer.settings, self.trainer.team
        first_step, first_seconds = trainer.step, trainer.seconds
        pace = Pace(first_step, settings.steps, settings.report_steps)
        judge = yield from self.prepare_judge()
        pace.report()
        began = saved = time.monotonic()
        pairs = iter(() if trainer.is_done else batches(trainer, self.corpus, self.data))
        for noisy, clean in pairs:
            trainer.losses.append(trainer.train_step(noisy, clean))
            check_progress(trainer, self.out)
            trainer.seconds = first_seconds + time.monotonic() - began
            pace.step()
            is_report = trainer.step % settings.report_steps == 0 or trainer.step == settings.steps
            if is_report or pace.is_due:
                yield from self.progress(pace)
            is_stopped = team.any(self.stop())
            if is_report:
                yield judge.report()
                pace.report()
                saved = time.monotonic()
            elif team.leads and time.monotonic() - saved > SAVE_SECONDS:
                save(trainer, self.out / RESUME)
                saved = time.monotonic()
            if is_stopped or trainer.is_done:
                break
        if team.leads and trainer.step > first_step:
            save(trainer, self.out / RESUME)
        if trainer.is_done and settings.average_checkpoints and (row := judge.report_average()):
            yield row

    def prepare_judge(self) -> Generator[Row, None, Judge]:
        """Make the validation set and, unless all steps are done, score it without a model."""
        trainer, data = self.trainer, self.data
        settings, team = trainer.settings, trainer.team
        if not trainer.is_done:
            yield Mixing(settings.validation.pairs, settings.validation.seconds)
        chosen = (settings.validation, settings.loss)
        validation: AnyValidation
        if isinstance(self.corpus, SoundCorpus):
            validation = ReconstructionValidation(
                self.folder, data, self.corpus.source, *chosen, first=team.rank, every=team.size
            )
        else:
            validation = Validation(self.folder, data, *chosen, first=team.rank, every=team.size)
        judge = Judge(trainer, validation, data.segment_seconds, self.out, self.about)
        if not trainer.is_done:
            row = judge.score_baseline()
            if row.loss is not None:
                judge = dataclasses.replace(judge, baseline_loss=row.loss)
            if team.leads:
                begin_history(self.out / HISTORY, row, trainer.step)
            yield row
        return judge

    def progress(self, pace: Pace) -> Iterator[Row]:
        """A progress row, and before the first one the row that describes the run."""
        trainer, settings = self.trainer, self.trainer.settings
        rate = settings.batch_size * self.data.segment_seconds / pace.step_seconds
        if pace.shown == pace.first_step:
            info = trainer.average.info
            yield Start(
                info.parameters,
                info.macs_per_second,
                *self.corpus.hours,
                settings.steps,
                pace.first_step,
                rate,
                pace.seconds_left,
            )
        loss = mean_of(trainer.losses[-pace.show() :])
        yield Progress(trainer.step, loss, rate, pace.seconds_left)


def check_metrics(settings: TrainSettings) -> None:
    """Raise `DependencyError` if a metric that selects the best checkpoint is not installed."""
    needed = {"pesq": ["pesq"], "combined": ["pesq", "pystoi", "speechmos"]}
    missing = [name for name in needed.get(settings.best, []) if find_spec(name) is None]
    if missing:
        raise DependencyError(
            f"{', '.join(missing)} is not installed, and training.best is {settings.best!r}: "
            "pip install 'audioae[metrics]', or set training.best to 'si_sdr'"
        )


def check_rate(corpus: AnyCorpus, model: Model, folder: Path) -> None:
    """Raise `SettingsError` if data and network have different sample rates."""
    if corpus.sample_rate != model.settings.sample_rate:
        raise SettingsError(
            f"{folder} contains audio at {corpus.sample_rate} Hz, the network is for "
            f"{model.settings.sample_rate} Hz; prepare the data with that --sample-rate, or set "
            f"{'features' if isinstance(model, Reconstructor) else 'stft'}.sample_rate"
        )


def make_folder(out: Path) -> None:
    """Create the run folder."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot create the run folder {out}: {error.strerror or error}"
        ) from error
