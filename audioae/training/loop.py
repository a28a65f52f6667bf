"""The loop: `fit` yields a row per report and never prints."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from audioae.dataset import Corpus, DataSettings
from audioae.errors import DependencyError, OutputError, SettingsError
from audioae.models import Denoiser
from audioae.training.batches import batches
from audioae.training.reports import Judge, mean_of
from audioae.training.rows import Progress, Row, Start
from audioae.training.settings import TrainSettings
from audioae.training.state import HISTORY, RESUME, forget_after, load, save
from audioae.training.team import process_group
from audioae.training.trainer import Trainer
from audioae.validation import Validation

PROGRESS_STEPS = 20
TIMED_STEPS = 5  # after which the start row can tell how long the run takes
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
        denoiser: changed in place. folder: what `audioae prepare` wrote. out: the run folder (checkpoints and history.jsonl).
        about: stored in the checkpoints beside the settings, such as the recipe.
        stop: asked after every step; True saves and ends the run.
        device: "auto", "cpu" or "cuda".

    Yields:
        A `Start`, a `Progress` every 20 steps, a `Report` every `report_steps`; in other processes than the first of several, nothing.
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
    trainer: Trainer, corpus: Corpus, data: DataSettings, *, folder: Path, out: Path, about: Mapping[str, Any], stop: Callable[[], bool]
) -> Iterator[Row]:
    """The loop of one process."""
    settings, team = trainer.settings, trainer.team
    validation = Validation(folder, data, settings.validation, settings.loss, first=team.rank, every=team.size)
    judge = Judge(trainer, validation, data.segment_seconds, out, about)
    if team.leads:
        forget_after(out / HISTORY, trainer.step)
    first_step = trainer.step
    next_report = first_step + settings.report_steps - first_step % settings.report_steps
    timed_step = min(first_step + TIMED_STEPS, next_report, settings.steps)
    began, mark, marked = time.monotonic() - trainer.seconds, time.monotonic(), first_step
    saved, is_stopped = time.monotonic(), False
    pairs = iter(() if trainer.is_done else batches(trainer, corpus, data))
    for noisy, clean in pairs:
        trainer.losses.append(trainer.train_step(noisy, clean))
        trainer.seconds = time.monotonic() - began
        if trainer.step in (timed_step, settings.steps) or (trainer.step - first_step) % PROGRESS_STEPS == 0:
            steps = trainer.step - marked
            rate = steps * settings.batch_size * data.segment_seconds / (time.monotonic() - mark)
            if trainer.step == timed_step:
                yield start_row(trainer, corpus, data, first_step, rate)
            yield Progress(trainer.step, mean_of(trainer.losses[-steps:]), rate)
            mark, marked = time.monotonic(), trainer.step
        is_stopped = team.any(stop())
        if trainer.step % settings.report_steps == 0 or trainer.step == settings.steps:
            yield judge.report()
            mark, marked, saved = time.monotonic(), trainer.step, time.monotonic()
        elif team.leads and time.monotonic() - saved > SAVE_SECONDS:
            save(trainer, out / RESUME)
            saved = time.monotonic()
        if is_stopped or trainer.is_done:
            break
    if team.leads and trainer.step > first_step:
        save(trainer, out / RESUME)
    if trainer.is_done and settings.average_checkpoints and (row := judge.report_average()):
        yield row


def start_row(trainer: Trainer, corpus: Corpus, data: DataSettings, first_step: int, rate: float) -> Start:
    """The line of truth before a run."""
    settings, info = trainer.settings, trainer.average.info
    seconds_left = (settings.steps - trainer.step) * settings.batch_size * data.segment_seconds / rate
    return Start(info.parameters, info.macs_per_second, *corpus.hours, settings.steps, first_step, rate, seconds_left)


def check_metrics(settings: TrainSettings) -> None:
    """Raise `DependencyError` where the metric that decides cannot be computed."""
    if settings.best == "pesq" and find_spec("pesq") is None:
        raise DependencyError("the best checkpoint is chosen by PESQ: pip install 'audioae[metrics]', or set training.best to 'si_sdr'")


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
