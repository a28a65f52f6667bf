"""The loop: `fit` yields a row per report and never prints."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from audioae.data.mixtures import Corpus, DataSettings
from audioae.errors import DependencyError, OutputError, SettingsError
from audioae.models import Denoiser
from audioae.training.batches import batches
from audioae.training.reports import Judge, mean_of
from audioae.training.rows import Mixing, Progress, Row, Start
from audioae.training.settings import TrainSettings
from audioae.training.state import HISTORY, RESUME, begin_history, load, save
from audioae.training.team import process_group
from audioae.training.trainer import Trainer
from audioae.training.validation import Validation

PROGRESS_STEPS, PROGRESS_SECONDS = 20, 10.0  # between two progress rows, whichever comes first
TIMED_STEPS = 5  # at least, before anything is told
KEPT = 200  # steps that are averaged
# of them on either side: a step that had to wait for a disk, or for a program that has ended since
CUT = 0.1


class Pace:
    """A clock beside the loop: `step` and `report` say what the time since the last call went into.

    Args:
        first_step, steps: of the run. report_steps: between two reports.
    """

    def __init__(self, first_step: int, steps: int, report_steps: int) -> None:
        self.first_step = self.at = self.told = first_step
        self.steps, self.report_steps = steps, report_steps
        # of the first step, which loads, compiles and fills caches: counts while there is no other
        self.first_seconds = 0.0
        self.taken: deque[float] = deque(maxlen=KEPT)  # seconds of the others
        self.report_seconds = 0.0  # of the last report
        self.marked = self.told_at = time.monotonic()

    def step(self) -> None:
        """A step was taken."""
        seconds = self.lap()
        if self.at == self.first_step:
            self.first_seconds = seconds
        else:
            self.taken.append(seconds)
        self.at += 1

    def report(self) -> None:
        """A report was made, or something that takes as long."""
        self.report_seconds = self.lap()

    def lap(self) -> float:
        """Seconds since the last call."""
        before, self.marked = self.marked, time.monotonic()
        return self.marked - before

    @property
    def is_due(self) -> bool:
        """Whether it is time to tell how far the run is."""
        steps = self.at - self.told
        return steps >= PROGRESS_STEPS or (
            steps >= TIMED_STEPS and self.marked - self.told_at >= PROGRESS_SECONDS
        )

    def tell(self) -> int:
        """It is told now; returns the steps since it last was."""
        steps, self.told, self.told_at = self.at - self.told, self.at, self.marked
        return steps

    @property
    def step_seconds(self) -> float:
        """What a step takes: the mean of the last ones, without the quickest and the slowest tenth."""
        ordered = sorted(self.taken) or [self.first_seconds]
        cut = int(CUT * len(ordered))
        middle = ordered[cut : len(ordered) - cut]
        return sum(middle) / len(middle)

    @property
    def seconds_left(self) -> float:
        """Until all steps are taken and all reports made."""
        if self.at >= self.steps:
            return 0.0
        reports = -(-self.steps // self.report_steps) - self.at // self.report_steps
        return (self.steps - self.at) * self.step_seconds + reports * self.report_seconds


SAVE_SECONDS = 300.0  # at most so much work is lost to a crash between two reports


def fit(
    denoiser: Denoiser,
    settings: TrainSettings,
    data: DataSettings,
    *,
    folder: Path,
    out: Path,
    about: Mapping[str, Any] | None = None,
    stop: Callable[[], bool] = lambda: False,
    device: str = "auto",
) -> Iterator[Row]:
    """Train a denoiser on prepared data; a run that was interrupted goes on where it was.

    Args:
        denoiser: changed in place. folder: what `audioae prepare` wrote. out: the run folder
            (checkpoints and history.jsonl).
        about: stored in the checkpoints beside the settings, such as the recipe.
        stop: asked after every step; True saves and ends the run.
        device: "auto", "cpu" or "cuda".

    Yields:
        A `Mixing`, a `Noisy`, a `Start`, a `Progress` every 20 steps or 10 s and before each
        `Report`, which come every `report_steps`; nothing where there is nothing left to do, and in
        other processes than the first of several.
    """
    check_metrics(settings)
    corpus = Corpus(folder, "train", data)
    check_rate(corpus, denoiser, folder)
    with process_group() as team:
        settings.share(team.size)
        trainer = Trainer(denoiser, settings, team=team, device=device)
        make_folder(out)
        if team.from_first((out / RESUME).exists):
            load(trainer, out / RESUME)
        for row in run(trainer, corpus, data, folder=folder, out=out, about=about or {}, stop=stop):
            if team.leads:
                yield row


def run(
    trainer: Trainer,
    corpus: Corpus,
    data: DataSettings,
    *,
    folder: Path,
    out: Path,
    about: Mapping[str, Any],
    stop: Callable[[], bool],
) -> Iterator[Row]:
    """The loop of one process."""
    settings, team = trainer.settings, trainer.team
    first_step, first_seconds = trainer.step, trainer.seconds
    pace = Pace(first_step, settings.steps, settings.report_steps)
    judge = yield from prepare_judge(trainer, data, folder, out, about)
    pace.report()
    began = saved = time.monotonic()
    is_stopped = False
    pairs = iter(() if trainer.is_done else batches(trainer, corpus, data))
    for noisy, clean in pairs:
        trainer.losses.append(trainer.train_step(noisy, clean))
        trainer.seconds = first_seconds + time.monotonic() - began
        pace.step()
        is_report = trainer.step % settings.report_steps == 0 or trainer.step == settings.steps
        if is_report or pace.is_due:
            rate = settings.batch_size * data.segment_seconds / pace.step_seconds
            if pace.told == first_step:
                yield start_row(trainer, corpus, first_step, rate, pace.seconds_left)
            yield Progress(
                trainer.step, mean_of(trainer.losses[-pace.tell() :]), rate, pace.seconds_left
            )
        is_stopped = team.any(stop())
        if is_report:
            yield judge.report()
            pace.report()
            saved = time.monotonic()
        elif team.leads and time.monotonic() - saved > SAVE_SECONDS:
            save(trainer, out / RESUME)
            saved = time.monotonic()
        if is_stopped or trainer.is_done:
            break
    if team.leads and trainer.step > first_step:
        save(trainer, out / RESUME)
    if trainer.is_done and settings.average_checkpoints and (row := judge.report_average()):
        yield row


def prepare_judge(
    trainer: Trainer, data: DataSettings, folder: Path, out: Path, about: Mapping[str, Any]
) -> Generator[Row, None, Judge]:
    """Mix what the network is judged on and, where there is something left to do, tell what it has
    to beat.
    """
    settings, team = trainer.settings, trainer.team
    if not trainer.is_done:
        yield Mixing(settings.validation.pairs, settings.validation.seconds)
    validation = Validation(
        folder, data, settings.validation, settings.loss, first=team.rank, every=team.size
    )
    judge = Judge(trainer, validation, data.segment_seconds, out, about)
    if not trainer.is_done:
        row = judge.score_noisy()
        if team.leads:
            begin_history(out / HISTORY, row, trainer.step)
        yield row
    return judge


def start_row(
    trainer: Trainer, corpus: Corpus, first_step: int, rate: float, seconds_left: float
) -> Start:
    """The line of truth before a run."""
    info = trainer.average.info
    return Start(
        info.parameters,
        info.macs_per_second,
        *corpus.hours,
        trainer.settings.steps,
        first_step,
        rate,
        seconds_left,
    )


def check_metrics(settings: TrainSettings) -> None:
    """Raise `DependencyError` where the metric that decides cannot be computed."""
    if settings.best == "pesq" and find_spec("pesq") is None:
        raise DependencyError(
            "the best checkpoint is chosen by PESQ: pip install 'audioae[metrics]', or set "
            "training.best to 'si_sdr'"
        )


def check_rate(corpus: Corpus, denoiser: Denoiser, folder: Path) -> None:
    """Raise `SettingsError` where data and network differ in their sample rate."""
    if corpus.sample_rate != denoiser.settings.sample_rate:
        rates = f"{folder} holds audio of {corpus.sample_rate} Hz, the network is for {denoiser.settings.sample_rate} Hz"
        raise SettingsError(f"{rates}; prepare it with that --sample-rate, or set stft.sample_rate")


def make_folder(out: Path) -> None:
    """Make the run folder."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the run folder {out}: {error.strerror or error}") from error
