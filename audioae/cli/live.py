"""`audioae live`: denoise a microphone in real time."""

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
    quiet_option,
    settings_of,
    strength_option,
)
from audioae.cli.output import print_json
from audioae.cli.progress import progress_mode, progress_option, show_progress

if TYPE_CHECKING:
    from audioae.audio import AudioInfo, AudioWriter
    from audioae.denoising import DenoiseSettings, Stream
    from audioae.denoising.live import BlockSink, Duplex, FileSource, LiveResult, Session
    from audioae.engine import Engine

SHOW_SECONDS = 0.1  # between two updates of the levels
DEVICES_ONLY = ("input_device", "output_device", "sample_rate", "channels")


@dataclass(frozen=True)
class LiveOptions:
    """The values of the options, under their names."""

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
        """Print a line on stderr, unless --quiet."""
        if not self.quiet:
            click.echo(line, err=True)


@click.command("live")
@click.option(
    "--input-device",
    default="default",
    metavar="NAME|INDEX",
    help="Input device: name, part of the name, index, or default.",
)
@click.option(
    "--output-device",
    metavar="NAME|INDEX",
    help="Output device to play to, as above; use headphones.  [default: none]",
)
@click.option(
    "--list-devices", is_flag=True, help="List the audio devices of this machine and exit."
)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Record the output to FILE.  [default: no recording]",
)
@click.option("--overwrite", is_flag=True, help="Replace FILE if it exists.")
@click.option(
    "--from-file",
    type=click.Path(path_type=Path),
    metavar="IN",
    help="Read a recording block by block in place of a microphone.",
)
@click.option(
    "--real-time",
    is_flag=True,
    help="Read IN at real-time speed.  [default: as fast as possible]",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Stop after this many seconds.  [default: at Ctrl-C]",
)
@click.option(
    "--sample-rate",
    type=click.IntRange(min=100),
    metavar="HZ",
    help="Sample rate of the devices and FILE.  [default: the input device's]",
)
@click.option(
    "--channels",
    type=click.IntRange(1, 64),
    default=1,
    metavar="N",
    help="Number of input channels.",
)
@click.option(
    "--block",
    type=click.FloatRange(0.1, 1000),
    metavar="MS",
    help="Block length in milliseconds.  [default: one hop of the model]",
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
    help="Print the result, or with --list-devices the list, as JSON on stdout.",
)
@progress_option
@quiet_option
@click.pass_context
def command(ctx: click.Context, /, **given: Any) -> None:
    """Denoise a microphone in real time: to an output device, a file, or both.

    \b
    audioae live --output-device default           play the output, with headphones
    audioae live -o talk.wav                       record the output until Ctrl-C
    audioae live --from-file noisy.wav -o out.wav  the same loop without devices, from a file

    The session ends after --seconds, or at Ctrl-C or SIGTERM, with exit code 0 and FILE complete. A
    second Ctrl-C aborts it with exit code 130 and without FILE. If a device is disconnected, FILE
    has everything up to then and the exit code is 1. Without PortAudio or an audio device, the exit
    code is 3.

    The latency is printed at the start: that of the model, of resampling if the sample rate is not
    the model's, and of the devices. Overruns, underruns and the processing time of a block are
    printed at the end.
    """
    options = LiveOptions(**given)
    if options.list_devices:
        list_devices(options)
        return
    _check(ctx, options)
    run_live(options)


def _check(ctx: click.Context, options: LiveOptions) -> None:
    """Raise a usage error for options that exclude or need each other."""
    if options.from_file is None:
        if options.real_time:
            raise click.UsageError("--real-time is for --from-file; devices are always real-time")
        if options.output_device is None and options.out is None:
            raise click.UsageError(
                "the output goes nowhere; give --output-device NAME (or default), -o FILE, or both"
            )
        return
    for name in DEVICES_ONLY:
        if ctx.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
            raise click.UsageError(
                f"--{name.replace('_', '-')} is for devices; --from-file uses the format of the "
                "file"
            )


def list_devices(options: LiveOptions) -> None:
    """Print all devices, one per line."""
    from audioae.denoising.live import load_sounddevice, read_devices
    from audioae.errors import MissingError

    devices = read_devices(load_sounddevice())
    if options.as_json:
        click.echo(json.dumps([device.to_dict() for device in devices]))
        return
    if not devices:
        raise MissingError(
            "this machine has no audio devices; connect one, or denoise a recording with "
            "--from-file"
        )
    for device in devices:
        default = f", default {' and '.join(device.default)}" if device.default else ""
        channels = f"{device.inputs} in, {device.outputs} out"
        form = f"{channels}, {device.sample_rate} Hz, {device.api}{default}"
        click.echo(f"{device.index:>3}  {device.name}: {form}")


@dataclass(frozen=True)
class LiveSetup:
    """What a session needs, checked but not started.

    Args:
        form: format of the file that is recorded; None records nothing.
    """

    source: FileSource | Duplex
    stream: Stream
    form: AudioInfo | None


def run_live(options: LiveOptions) -> None:
    """Prepare a session, run it and report its result."""
    from audioae.denoising import ready_engine
    from audioae.denoising.live import load_sounddevice, warm_up

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
    warm_up(engine, setup.stream.sample_rate, setup.stream.channels, settings, setup.source.block)
    run_session(setup, options, engine.info.name)


def from_file(
    path: Path,
    options: LiveOptions,
    engine: Engine,
    settings: DenoiseSettings,
    block_seconds: float,
) -> LiveSetup:
    """A session that reads a file. The recording gets the format of the file."""
    from audioae.denoising import FileJob, Stream, plan_file
    from audioae.denoising.live import FileSource

    form = None
    if options.out is not None:
        form = plan_file(FileJob(path, options.out, overwrite=options.overwrite)).output
    source = FileSource(path, block_seconds, real_time=options.real_time)
    rate, channels, level = source.sample_rate, source.channels, source.level_dbfs()
    stream = Stream(engine, rate, channels, settings, level_dbfs=level)
    return LiveSetup(source, stream, form)


def from_devices(
    sounddevice: Any,
    options: LiveOptions,
    engine: Engine,
    settings: DenoiseSettings,
    block_seconds: float,
) -> LiveSetup:
    """A session that reads a microphone and plays to an output device if asked for."""
    from audioae.audio import AudioInfo, check_output
    from audioae.denoising import Stream
    from audioae.denoising.live import Duplex, choose_form

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
    source = Duplex(sounddevice, chosen, delay=stream.latency_in(chosen.block))
    return LiveSetup(source, stream, form)


def run_session(setup: LiveSetup, options: LiveOptions, model: str) -> None:
    """Run a session from its first block to its last and print its reports."""
    from audioae.audio import AudioWriter
    from audioae.denoising.live import Duplex, Session
    from audioae.errors import OutputError

    stream, most = setup.stream, longest(setup.form)
    asked = None if options.seconds is None else max(round(options.seconds * stream.sample_rate), 1)
    limit = min((each for each in (asked, most) if each is not None), default=None)
    writer = None
    with ExitStack() as stack:
        signals = stack.enter_context(listen_for_interrupt())
        if setup.form is not None and options.out is not None:
            writer = stack.enter_context(
                AudioWriter(options.out, setup.form, overwrite=options.overwrite)
            )
        source = setup.source
        stack.enter_context(source)
        sinks: list[BlockSink] = [] if writer is None else [writer]
        if isinstance(source, Duplex) and source.form.output is not None:
            sinks.append(source)
        session = Session(stream, source, sinks, num_samples=limit, stopped=lambda: bool(signals))
        report_start(session.result(model), setup, options)
        available = None if isinstance(source, Duplex) else source.info.seconds
        show(session, options, total=options.seconds or available)
    result = session.result(model)
    report_end(result, writer, options)
    if session.error is not None:
        raise session.error
    if result.ended == "limit" and asked is None:
        raise OutputError(
            f"{options.out} has the maximum length of its container, so the session ended; use "
            "the suffix .w64 or .flac"
        )


def longest(form: AudioInfo | None) -> int | None:
    """The most samples per channel that the container can hold; None is no limit."""
    from audioae.audio.formats import HEADROOM, RIFF_LIMIT, estimated_bytes

    if form is None or form.container not in ("WAV", "WAVEX", "AIFF"):
        return None
    return (RIFF_LIMIT - HEADROOM) // max(estimated_bytes(replace(form, num_samples=1)), 1)


def show(session: Session, options: LiveOptions, *, total: float | None) -> None:
    """Run the session with a display of its levels.

    Args:
        total: duration in seconds; None if it is unknown.
    """
    label = str(options.from_file.name if options.from_file else "live")
    mode = progress_mode(options.progress, quiet=options.quiet)
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


def report_start(result: LiveResult, setup: LiveSetup, options: LiveOptions) -> None:
    """Print the input, the outputs, the format and the latency."""
    from audioae.denoising.live import Duplex

    source = setup.source
    ends = [f"in: {options.from_file}"]
    if isinstance(source, Duplex):
        devices = (("in", source.form.input), ("out", source.form.output))
        ends = [f"{name}: {device.name!r}" for name, device in devices if device]
    if options.out is not None:
        ends.append(f"recording: {options.out}")
    own = ""
    if result.device_latency_ms is not None:
        own = f", plus {result.device_latency_ms:.1f} ms of the devices"
    options.say("; ".join(ends))
    options.say(
        f"{result.model}, {result.sample_rate} Hz, channels: {result.channels}, blocks of "
        f"{result.block_ms:.1f} ms; "
        f"latency {result.latency_ms:.1f} ms ({result.latency_samples} samples){own}"
    )


def report_end(result: LiveResult, writer: AudioWriter | None, options: LiveOptions) -> None:
    """Print the result: lines on stderr, JSON on stdout."""
    lost = ""
    if result.dropped_samples:
        lost = f", {result.dropped_samples} input samples dropped"
    options.say(
        f"{result.seconds:.2f} s denoised, mean attenuation {result.mean_attenuation_db:.1f} dB; "
        f"{result.overruns} overruns, {result.underruns} underruns{lost}; processing time of "
        f"{result.block_ms:.1f} ms blocks: median {result.processing_p50_ms:.1f} ms, 99th "
        f"percentile {result.processing_p99_ms:.1f} ms"
    )
    clipped = 0 if writer is None else writer.num_clipped
    if clipped:
        options.say(f"Warning: {clipped} samples of {options.out} were clipped")
    if options.as_json:
        print_json({**result.to_dict(), "out": options.out, "num_clipped": clipped})
