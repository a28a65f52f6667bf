"""Options that several commands have: which model, where it runs, and how strongly it cleans."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from audioae.cli.completion import complete_models

if TYPE_CHECKING:
    from audioae.denoising import DenoiseSettings

model_option = click.option(
    "-m",
    "--model",
    metavar="NAME|PATH",
    shell_complete=complete_models,
    help="A shipped model, an .onnx file, a checkpoint or a run folder.  [default: the best "
    "shipped model]",
)
device_option = click.option(
    "-d",
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    help="Where the model runs.",
)
preset_option = click.option(
    "--preset",
    type=click.Choice(["gentle", "default", "strong", "asr"]),
    default="default",
    help="gentle leaves some noise, strong lowers steady noise further, asr is for recognisers; "
    "the options that follow go before it.",
)
strength_option = click.option(
    "--strength",
    type=float,
    metavar="0..1",
    help="0 leaves the recording untouched, 1 is full; scales the decibels.  [default: 1]",
)
max_attenuation_option = click.option(
    "--max-attenuation",
    type=float,
    metavar="DB",
    help="Lower nothing by more than this many dB.  [default: no limit]",
)
adapt_noise_option = click.option(
    "--adapt-noise/--no-adapt-noise",
    default=None,
    help="Track steady noise and lower it further.  [default: no]",
    show_default=False,
)


def settings_of(preset: str, **asked: Any) -> DenoiseSettings:
    """A preset, and in place of its settings those that are asked for, which are not None."""
    from audioae.denoising import PRESETS

    return dataclasses.replace(
        PRESETS[preset], **{name: value for name, value in asked.items() if value is not None}
    )


@contextmanager
def listen_for_interrupt() -> Iterator[list[int]]:
    """A list that the first SIGINT or SIGTERM adds itself to; the second acts as usual."""
    heard: list[int] = []

    def hear(number: int, frame: object) -> None:
        heard.append(number)
        signal.signal(number, signal.default_int_handler)

    before = {number: signal.signal(number, hear) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
