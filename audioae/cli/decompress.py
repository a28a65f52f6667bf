"""`audioae decompress`: restore a recording from a .aae file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from audioae.cli.compress import (
    coder_option,
    file_type,
    json_option,
    overwrite_option,
    report,
    seconds_shown,
)
from audioae.cli.options import quiet_option
from audioae.cli.progress import progress_option


@click.command("decompress")
@click.argument("src", metavar="IN.aae", type=file_type)
@click.argument("dst", metavar="OUT", type=file_type)
@coder_option
@click.option(
    "--subtype", metavar="NAME", help="Encoding of OUT, such as PCM_24 or FLOAT.  [default: PCM_16]"
)
@overwrite_option
@json_option
@progress_option
@quiet_option
def command(
    src: Path,
    dst: Path,
    model: str,
    subtype: str | None,
    overwrite: bool,
    as_json: bool,
    progress: str,
    quiet: bool,
) -> None:
    """Restore a recording from a file that audioae compress wrote.

    OUT has the sample rate, channels and number of samples of the compressed recording; its suffix
    sets the format. The file is checked before anything is written. It needs the model that
    compressed it, and no torch.

    IN.aae and OUT can be -, which is stdin and, as a WAV file, stdout.
    """
    from audioae.cli.piped import files_for_pipes
    from audioae.tasks.compress import Compressor, decompress_file
    from audioae.tasks.container import read_header

    pipes = files_for_pipes(src, dst, ".wav", overwrite=overwrite, as_json=as_json)
    with pipes as (here, there):
        header = read_header(here)
        seconds = header.num_samples / header.sample_rate
        with seconds_shown(progress, quiet, src.name, seconds) as advance:
            result = decompress_file(
                here,
                there,
                Compressor(model),
                subtype=subtype,
                overwrite=overwrite,
                progress=advance,
            )
    report(replace(result, src=src, dst=dst), quiet=quiet, as_json=as_json)
