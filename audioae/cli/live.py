"""`audioae live`: clean what a microphone hears, as it hears it."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from audioae.cli.options import (
    adapt_noise_option,
    device_option,
    listen_for_interrupt,
    max_attenuation_option,
    model_option,
    preset_option,
    settings_of,
    strength_option,
)
from audioae.cli.output import print_json
from audioae.cli.progress import progress_option, show_progress

if TYPE_CHECKING:
    from audioae.audio import AudioInfo, AudioWriter
    from audioae.denoising import DenoiseSettings, Stream
    from audioae.engine import Engine
    from audioae.live import Duplex, FileSource, LiveResult, Session, Sink

SHOW_SECONDS = 0.1  # between two readings of the meter
DEVICES_ONLY = ("input_device", "output_device", "sample_rate", "channels")


@dataclass(frozen=True)
class Options:
    """What the command line says; the names are those of its options."""

    input_device: str
    output_device: str | None
    list_devices: bool
    from_file: Path | None
    real_time: bool
    out: Path | None
    overwrite: bool
    seconds: float | None
    sample_rate: int | None
    channels: int
    block: float | None
    model: str | None
    preset: str
    strength: float | None
    max_attenuation: float | None
    adapt_noise: bool | None
    device: str
    as_json: bool
    progress: str
    quiet: bool

    def say(self, line: str) -> None:
        """A line on stderr, unless --quiet."""
        if not self.quiet:
            click.echo(line, err=True)


@click.command("live")
@click.option(
    "--input-device",
    default="default",
    metavar="NAME|INDEX",
    help="The microphone: its name, a part of it, its index, or default.",
)
@click.option(
    "--output-device",
    metavar="NAME|INDEX",
    help="Play what is cleaned there, likewise; use headphones.  [default: nothing is played]",
)
@click.option(
    "--list-devices", is_flag=True, help="Print the audio devices of this machine and exit."
)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Record what is cleaned.  [default: not recorded]",
)
@click.option("--overwrite", is_flag=True, help="Replace FILE if it exists.")
@click.option(
    "--from-file",
    type=click.Path(path_type=Path),
    metavar="IN",
    help="Take a recording in place of the microphone, block by block.",
)
@click.option(
    "--real-time",
    is_flag=True,
    help="Take IN as fast as a microphone would hear it, not as fast as it goes.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="End after so much sound.  [default: at Ctrl-C]",
)
@click.option(
    "--sample-rate",
    type=click.IntRange(min=100),
    metavar="HZ",
    help="Of devices and FILE.  [default: the input device's usual rate]",
)
@click.option(
    "--channels",
    type=click.IntRange(1, 64),
    default=1,
    metavar="N",
    help="That are taken from the input device.",
)
@click.option(
    "--block",
    type=click.FloatRange(0.1, 1000),
    metavar="MS",
    help="Milliseconds that come at a time.  [default: one hop of the model]",
)
@model_option
@preset_option
@strength_option
@max_attenuation_option
@adapt_noise_option
@device_option
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print what became of it as one JSON object on stdout; with --list-devices a list.",
)
@progress_option
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
@click.pass_context
def command(ctx: click.Context, /, **given: Any) -> None:
    """Clean what a microphone hears, as it hears it: to an output device, into a file, or both.

    \b
    audioae live --output-device default           hear it, with headphones
    audioae live -o talk.wav                       record it until Ctrl-C
    audioae live --from-file noisy.wav -o out.wav  no devices: the same loop, from a file

    It ends well, with exit code 0 and FILE complete, after --seconds, at Ctrl-C or SIGTERM; a
    second Ctrl-C gives up, with 130 and no FILE. Where a device vanishes, FILE has what was heard
    until then and the exit code is 1. Without PortAudio or a device it is 3.

    At the start it says how late the sound is: by the model's window and look-ahead, by resamplers
    where the rate is not the model's, and by what the devices add. At the end it says how often
    sound was lost, and how long cleaning a block took.
    """
    options = Options(**given)
    if options.list_devices:
        list_devices(options)
        return
    _check(ctx, options)
    run_live(options)


def _check(ctx: click.Context, options: Options) -> None:
    """Raise a usage error for options that exclude or need each other."""
    if options.from_file is None:
        if options.real_time:
            raise click.UsageError(
                "--real-time is for --from-file; a microphone has no other speed"
            )
        if options.output_device is None and options.out is None:
            raise click.UsageError(
                "cleaned for nobody; give --output-device NAME (or default), -o FILE, or both"
            )
        return
    for name in DEVICES_ONLY:
        if ctx.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
            raise click.UsageError(
                f"--{name.replace('_', '-')} is for devices; a file has its own form, and no "
                "device is used"
            )


def list_devices(options: Options) -> None:
    """Print every device, one a line."""
    from audioae.errors import MissingError
    from audioae.live import load_sounddevice, read_devices

    devices = read_devices(load_sounddevice())
    if options.as_json:
        click.echo(json.dumps([device.to_dict() for device in devices]))
        return
    if not devices:
        raise MissingError(
            "this machine has no audio devices; connect one, or clean a recording with --from-file"
        )
    for device in devices:
        default = f", default {' and '.join(device.default)}" if device.default else ""
        form = f"{device.inputs} in, {device.outputs} out, {device.sample_rate} Hz, {device.api}{default}"
        click.echo(f"{device.index:>3}  {device.name}: {form}")


@dataclass(frozen=True)
class Setup:
    """Everything that a session needs, checked and not begun; `form` is that of the recording, None
    where there is none.
    """

    source: FileSource | Duplex
    stream: Stream
    form: AudioInfo | None


def run_live(options: Options) -> None:
    """Prepare everything, then clean until it ends, and tell what became of it."""
    from audioae.denoising import ready_engine
    from audioae.live import load_sounddevice, warm

    sounddevice = None if options.from_file else load_sounddevice()
    engine = ready_engine(options.model, device=options.device)
    settings = settings_of(
        options.preset,
        strength=options.strength,
        max_attenuation_db=options.max_attenuation,
        adapt_noise=options.adapt_noise,
    )
    stft = engine.info.stft
    block_seconds = options.block / 1000 if options.block else stft.hop_length / stft.sample_rate
    if options.from_file is not None:
        setup = from_file(options.from_file, options, engine, settings, block_seconds)
    else:
        setup = from_devices(sounddevice, options, engine, settings, block_seconds)
    warm(engine, setup.stream.sample_rate, setup.stream.channels, settings, setup.source.block)
    clean(setup, options, engine.info.name)


def from_file(
    path: Path, options: Options, engine: Engine, settings: DenoiseSettings, block_seconds: float
) -> Setup:
    """A file in place of the microphone; a recording of it has its form."""
    from audioae.denoising import FileJob, Stream, plan_file
    from audioae.live import FileSource

    form = (
        None
        if options.out is None
        else plan_file(FileJob(path, options.out, overwrite=options.overwrite)).output
    )
    source = FileSource(path, block_seconds, real_time=options.real_time)
    return Setup(
        source,
        Stream(
            engine, source.sample_rate, source.channels, settings, level_dbfs=source.level_dbfs()
        ),
        form,
    )


def from_devices(
    sounddevice: Any,
    options: Options,
    engine: Engine,
    settings: DenoiseSettings,
    block_seconds: float,
) -> Setup:
    """A microphone, and an output device if asked for."""
    from audioae.audio import AudioInfo, check_output
    from audioae.denoising import Stream
    from audioae.live import Duplex, choose_form

    chosen = choose_form(
        sounddevice,
        source=options.input_device,
        target=options.output_device,
        sample_rate=options.sample_rate,
        channels=options.channels,
        block_seconds=block_seconds,
    )
    form = None
    if options.out is not None:
        num_samples = max(round((options.seconds or 0) * chosen.sample_rate), 1)
        like = AudioInfo(chosen.sample_rate, chosen.channels, num_samples, "WAV", "PCM_24")
        form = check_output(options.out, overwrite=options.overwrite, like=like)
    stream = Stream(engine, chosen.sample_rate, chosen.channels, settings)
    return Setup(Duplex(sounddevice, chosen, delay=stream.latency_in(chosen.block)), stream, form)


def clean(setup: Setup, options: Options, model: str) -> None:
    """The session from its first block to its last, and what is said of it."""
    from audioae.audio import AudioWriter
    from audioae.errors import OutputError
    from audioae.live import Duplex, Session

    stream, most = setup.stream, longest(setup.form)
    asked = None if options.seconds is None else max(round(options.seconds * stream.sample_rate), 1)
    limit = min(
        (num_samples for num_samples in (asked, most) if num_samples is not None), default=None
    )
    writer = None
    with ExitStack() as stack:
        heard = stack.enter_context(listen_for_interrupt())
        if setup.form is not None and options.out is not None:
            writer = stack.enter_context(
                AudioWriter(options.out, setup.form, overwrite=options.overwrite)
            )
        source = setup.source
        stack.enter_context(source)
        sinks: list[Sink] = [] if writer is None else [writer]
        if isinstance(source, Duplex) and source.form.output is not None:
            sinks.append(source)
        session = Session(stream, source, sinks, num_samples=limit, stopped=lambda: bool(heard))
        tell_start(session.result(model), setup, options)
        show(
            session,
            options,
            total=options.seconds or (None if isinstance(source, Duplex) else source.info.seconds),
        )
    result = session.result(model)
    tell_end(result, writer, options)
    if session.error is not None:
        raise session.error
    if result.ended == "limit" and asked is None:
        raise OutputError(
            f"{options.out} is as long as its container can hold, and was ended; give -o a name "
            "in .w64 or .flac"
        )


def longest(form: AudioInfo | None) -> int | None:
    """Samples per channel that the recording's container can count; None is no limit."""
    from audioae.audio.formats import HEADROOM, RIFF_LIMIT, estimated_bytes

    if form is None or form.container not in ("WAV", "WAVEX", "AIFF"):
        return None
    return (RIFF_LIMIT - HEADROOM) // max(estimated_bytes(replace(form, num_samples=1)), 1)


def show(session: Session, options: Options, *, total: float | None) -> None:
    """Run the session of so many seconds, None if that is not known, with its levels on stderr."""
    label = str(options.from_file.name if options.from_file else "live")
    mode = "none" if options.quiet and options.progress == "auto" else options.progress
    with show_progress(mode, label, total=total, unit="s") as advance:
        samples, shown_at = 0, time.monotonic()
        for count in session.run():
            samples += count
            if time.monotonic() - shown_at >= SHOW_SECONDS:
                before, after = session.levels.take()
                xruns = session.source.xruns
                notes = {
                    "in": f"{before:.0f} dBFS",
                    "lower": f"{before - after:.0f} dB",
                    "xruns": xruns.overruns + xruns.underruns,
                }
                advance(samples / session.stream.sample_rate, **notes)
                samples, shown_at = 0, time.monotonic()
        advance(samples / session.stream.sample_rate)


def tell_start(result: LiveResult, setup: Setup, options: Options) -> None:
    """Where the sound comes from and goes to, in what form, and how late."""
    from audioae.live import Duplex

    source = setup.source
    ends = [f"in: {options.from_file or 'device'}"]
    if isinstance(source, Duplex):
        ends = [
            f"in: {source.form.input.name!r}",
            *([f"out: {source.form.output.name!r}"] if source.form.output else []),
        ]
    if options.out is not None:
        ends.append(f"recorded in {options.out}")
    own = (
        ""
        if result.device_latency_ms is None
        else f", and {result.device_latency_ms:.1f} ms of the devices"
    )
    options.say("; ".join(ends))
    options.say(
        f"{result.model}, {result.sample_rate} Hz, channels: {result.channels}, blocks of "
        f"{result.block_ms:.1f} ms; "
        f"latency {result.latency_ms:.1f} ms ({result.latency_samples} samples){own}"
    )


def tell_end(result: LiveResult, writer: AudioWriter | None, options: Options) -> None:
    """What became of it: on stderr in lines, or on stdout as JSON."""
    lost = (
        f"; {result.dropped_samples} samples of input were dropped"
        if result.dropped_samples
        else ""
    )
    options.say(
        f"{result.seconds:.2f} s cleaned, {result.mean_attenuation_db:.1f} dB lower on the whole; "
        f"{result.overruns} overruns, {result.underruns} underruns{lost}; a block of "
        f"{result.block_ms:.1f} ms took "
        f"{result.processing_p50_ms:.1f} ms (99 %: {result.processing_p99_ms:.1f} ms)"
    )
    clipped = 0 if writer is None else writer.num_clipped
    if clipped:
        options.say(
            f"Warning: {clipped} samples of {options.out} were beyond full scale and were clamped"
        )
    if options.as_json:
        print_json({**result.to_dict(), "out": options.out, "num_clipped": clipped})
