"""Options that several commands share, and the values of the options of `denoise`."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from audioae.cli.completion import complete_denoisers, complete_models
from audioae.cli.progress import progress_mode

if TYPE_CHECKING:
    from audioae.denoising import ClipMode, DenoiseSettings, FileJob
    from audioae.engine import Quality

PIPE = Path("-")

PRESET = click.Choice(["gentle", "default", "strong", "asr"])
QUALITY = click.Choice(["fast", "best"])

Command = TypeVar("Command", bound=Callable[..., Any])


def models_option(use: str) -> Callable[[Command], Command]:
    """The option --model, which may be given several times; `use` is its help."""
    return click.option(
        "-m",
        "--model",
        multiple=True,
        metavar="NAME|PATH",
        shell_complete=complete_models,
        help=use,
    )


model_option = click.option(
    "-m",
    "--model",
    metavar="NAME|PATH",
    shell_complete=complete_denoisers,
    help="A shipped model, an .onnx file, a checkpoint or a run folder.  [default: the best "
    "shipped model]",
)
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
device_option = click.option(
    "-d",
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    help="Where the model runs.",
)
preset_option = click.option(
    "--preset",
    type=PRESET,
    default="default",
    help="gentle leaves some noise, strong reduces steady noise further, asr is for speech "
    "recognition. The options below override it.",
)
strength_option = click.option(
    "--strength",
    type=float,
    metavar="0..1",
    help="Scale the attenuation in dB: 0 changes nothing, 1 is full strength.  [default: 1]",
)
max_attenuation_option = click.option(
    "--max-attenuation",
    type=float,
    metavar="DB",
    help="Limit the attenuation to this many dB.  [default: no limit]",
)
adapt_noise_option = click.option(
    "--adapt-noise/--no-adapt-noise",
    default=None,
    help="Track steady noise and reduce it further.  [default: no]",
    show_default=False,
)

quality_option = click.option(
    "--quality",
    type=QUALITY,
    help="best uses what comes later in a recording too, fast takes about a third of the time. "
    "Raw samples from a pipe are denoised as they arrive, with neither.  [default: best]",
)


@dataclass(frozen=True)
class DenoiseOptions:
    """The values of the options of `audioae denoise`, under their names."""

    paths: tuple[Path, ...]
    output_dir: Path | None
    model: str | None
    preset: str
    strength: float | None
    max_attenuation: float | None
    channels: Any
    noise_from: tuple[float, float] | None
    adapt_noise: bool | None
    quality: Quality | None
    keep_rumble: bool
    start: float | None
    end: float | None
    clip_mode: ClipMode
    normalize: float | None
    track: tuple[str, ...]
    residual: Path | None
    format: str | None
    subtype: str | None
    device: str
    overwrite: bool
    skip_existing: bool
    template: str
    jobs: int
    ray: str | None
    fail_fast: bool
    failed_list: Path | None
    null: bool
    raw: str | None
    record: bool
    report: Path | None
    as_json: bool
    progress: str
    dry_run: bool
    quiet: bool
    verbose: bool

    @property
    def progress_mode(self) -> str:
        """The mode of the progress display."""
        return progress_mode(self.progress, quiet=self.quiet)

    def say(self, line: str) -> None:
        """Print a line on stderr, unless --quiet."""
        if not self.quiet:
            click.echo(line, err=True)

    def model_path(self) -> Path:
        """The file of the model. Raises `ModelNotFoundError`."""
        from audioae.pretrained import default_model, find_model

        return find_model(self.model or default_model())

    @cached_property
    def settings(self) -> DenoiseSettings:
        """The preset with the settings that are given."""
        return settings_of(
            self.preset,
            strength=self.strength,
            max_attenuation_db=self.max_attenuation,
            channels=self.channels,
            noise_from=self.noise_from,
            adapt_noise=self.adapt_noise,
            quality=self.quality,
            keep_rumble=self.keep_rumble or None,
        )

    def file_job(self, src: Path, dst: Path, residual: Path | None = None) -> FileJob:
        """The job of one file."""
        from audioae.denoising import FileJob

        return FileJob(
            src,
            dst,
            residual,
            self.settings,
            overwrite=self.overwrite,
            subtype=self.subtype,
            start=self.start,
            end=self.end,
            clip_mode=self.clip_mode,
            normalize_lufs=self.normalize,
            tracks=self.track,
        )


def settings_of(preset: str, **given: Any) -> DenoiseSettings:
    """The settings of a preset, replaced by those in `given` that are not None."""
    from audioae.denoising import PRESETS

    changes = {name: value for name, value in given.items() if value is not None}
    return dataclasses.replace(PRESETS[preset], **changes)


def available_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def listen_for_interrupt() -> Iterator[list[int]]:
    """Yield a list to which the first SIGINT or SIGTERM is appended; a second one interrupts."""
    received: list[int] = []

    def receive(number: int, frame: object) -> None:
        received.append(number)
        signal.signal(number, signal.default_int_handler)

    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, receive) for number in signals}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
