"""`audioae compress`: code a recording with a quantised autoencoder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from audioae.cli.options import PIPE, quiet_option
from audioae.cli.progress import progress_mode, progress_option, show_progress

if TYPE_CHECKING:
    from audioae.tasks.compress import CompressResult

file_type = click.Path(path_type=Path)
coder_option = click.option(
    "-m",
    "--model",
    metavar="NAME|PATH",
    default="codec-16k",
    help="A shipped model, or an .onnx file with the tables of compress.",
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print what was done as a JSON object on stdout."
)
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")


@click.command("compress")
@click.argument("src", metavar="IN", type=file_type)
@click.argument("dst", metavar="OUT.aae", type=file_type)
@click.option(
    "-b",
    "--bitrate",
    type=click.FloatRange(min=0, min_open=True),
    default=12.0,
    metavar="KBITS",
    help="Average bit rate per channel in kbit/s; the nearest trained point is used. The shipped "
    "model has 6, 12 and 24.",
)
@coder_option
@click.option(
    "--track",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Audio track of a film, from 0.",
)
@overwrite_option
@json_option
@progress_option
@quiet_option
def command(
    src: Path,
    dst: Path,
    bitrate: float,
    model: str,
    track: int,
    overwrite: bool,
    as_json: bool,
    progress: str,
    quiet: bool,
) -> None:
    """Compress the recording IN to a small file with a trained autoencoder.

    audioae decompress restores a recording with the same sample rate, channels and number of
    samples. Frequencies above 8 kHz and tags are not kept. Speech at 24 kbit/s is close to the
    recording, at 6 kbit/s it is intelligible. Noise and several voices at once take two to three
    times the bit rate that was asked for. At equal bit rates Opus sounds better on most recordings,
    see the recipe codec-16k.

    IN and OUT.aae can be -, which is stdin and stdout.
    """
    from audioae.audio import info
    from audioae.cli.piped import files_for_pipes
    from audioae.errors import OutputError
    from audioae.tasks.compress import Compressor, compress_file

    if dst != PIPE and dst.suffix.lower() != ".aae":
        raise OutputError(f"{dst} does not end in .aae; give OUT.aae")
    compressor = Compressor(model)
    pipes = files_for_pipes(src, dst, ".aae", overwrite=overwrite, as_json=as_json)
    with pipes as (here, there):
        form = info(here, track=track)
        with seconds_shown(progress, quiet, src.name, form.seconds) as advance:
            result = compress_file(
                here,
                there,
                compressor,
                kbps=bitrate,
                overwrite=overwrite,
                track=track,
                progress=advance,
            )
    report(replace(result, src=src, dst=dst), quiet=quiet, as_json=as_json)


@contextmanager
def seconds_shown(
    mode: str, quiet: bool, label: str, seconds: float
) -> Iterator[Callable[[float], None]]:
    """A progress display for work that reports the seconds that are done in total."""
    done = 0.0
    mode = progress_mode(mode, quiet=quiet)
    with show_progress(mode, label, total=round(seconds, 3), unit="s") as advance:

        def show(seconds: float) -> None:
            nonlocal done
            advance(seconds - done)
            done = seconds

        yield show


def report(result: CompressResult, *, quiet: bool, as_json: bool) -> None:
    """Print what was done."""
    from audioae.errors import counted

    seconds = result.num_samples / result.sample_rate
    if not quiet:
        click.echo(
            f"{result.dst}: {seconds:.2f} s, {counted(result.channels, 'channel')}, "
            f"{result.sample_rate} Hz; "
            f"{result.bytes:,} bytes, {result.kbps:.1f} kbit/s, model {result.model}",
            err=True,
        )
        for warning in result.warnings:
            click.echo(f"Warning: {result.dst}: {warning}", err=True)
    if as_json:
        click.echo(json.dumps(result.to_dict()))
