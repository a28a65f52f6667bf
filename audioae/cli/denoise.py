"""`audioae denoise`: clean a recording, many of them, or what comes through a pipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from audioae.cli.options import (
    PIPE,
    DenoiseOptions,
    adapt_noise_option,
    device_option,
    max_attenuation_option,
    model_option,
    preset_option,
    quality_option,
    strength_option,
)
from audioae.cli.output import preface, report_plan, report_result, run_one
from audioae.cli.progress import progress_option

ONLY_MANY = ("template", "jobs", "ray", "fail_fast", "failed_list")  # options that need -O


class Stretch(click.ParamType[tuple[float, float]]):
    """START:END in seconds."""

    name = "stretch"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, float]:
        if isinstance(value, tuple):
            return value
        try:
            start, end = (float(part) for part in value.split(":"))
        except ValueError:
            self.fail(f"{value!r} is no START:END; expected seconds such as 0.5:2", param, ctx)
        return start, end


class Loudness(click.ParamType[float]):
    """A number of LUFS, with or without the unit."""

    name = "loudness"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, float):
            return value
        try:
            return float(value.upper().removesuffix("LUFS"))
        except ValueError:
            self.fail(f"{value!r} is no loudness; expected LUFS such as -16LUFS", param, ctx)


@click.command("denoise")
@click.argument(
    "paths",
    metavar="IN... [OUT]",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path, allow_dash=True),
)
@click.option(
    "-O",
    "--output-dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Clean all IN, files, folders or patterns, into DIR.",
)
@model_option
@preset_option
@strength_option
@max_attenuation_option
@click.option(
    "--channels",
    type=click.Choice(["linked", "independent"]),
    help="One gain for all channels, or one for each.  [default: linked]",
)
@click.option(
    "--noise-from",
    type=Stretch(),
    metavar="START:END",
    help="Seconds that hold nothing but steady noise, which is lowered further.",
)
@adapt_noise_option
@quality_option
@click.option(
    "--start",
    type=float,
    metavar="SECONDS",
    help="Clean from here on, leave what is before.  [default: 0]",
)
@click.option(
    "--end",
    type=float,
    metavar="SECONDS",
    help="Clean up to here, leave what is after.  [default: the end of IN]",
)
@click.option(
    "--clip-mode",
    type=click.Choice(["clamp", "rescale"]),
    default="clamp",
    help="What would clip is held at full scale, or the whole file is lowered until nothing does.",
)
@click.option(
    "--normalize",
    type=Loudness(),
    metavar="LUFS",
    help="Scale the output to a loudness, as -16LUFS.  [default: keep the level]",
)
@click.option(
    "--residual",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Write what is taken away: OUT + PATH = IN. With -O a folder.  [default: not written]",
)
@click.option(
    "--format",
    metavar="KIND",
    help="Container of outputs in DIR or to stdout: wav, flac, mp3, ...  [default: the input's]",
)
@click.option(
    "--subtype",
    metavar="SUBTYPE",
    help="Sample format of the output, such as PCM_16, PCM_24, FLOAT.  [default: the input's]",
)
@device_option
@click.option("--overwrite", is_flag=True, help="Replace outputs that exist.")
@click.option(
    "--skip-existing", is_flag=True, help="Leave outputs that exist, and their inputs, alone."
)
@click.option(
    "--template",
    default="{stem}{ext}",
    metavar="NAME",
    help="Names of the outputs: {stem}, {ext}, {folder} below IN, {root} for IN's own name. With "
    "a / it is the path below DIR.",
)
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(0),
    default=1,
    metavar="N",
    help="Files at the same time; 0 is one for each core.",
)
@click.option(
    "--ray",
    is_flag=False,
    flag_value="local",
    metavar="[ADDRESS]",
    help="Clean on a Ray cluster; without ADDRESS that of RAY_ADDRESS or a local one.  [default: "
    "no cluster]",
)
@click.option("--fail-fast", is_flag=True, help="Begin no further file after one has failed.")
@click.option(
    "--failed-list",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the inputs that failed, one a line.",
)
@click.option(
    "--raw",
    metavar="RATE:CHANNELS:SUBTYPE",
    help="What comes and goes at - are bare samples, such as 16000:1:PCM_16.",
)
@click.option(
    "--record", is_flag=True, help="Write beside each output how it was made, as OUT.audioae.json."
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print what was done, with hashes and levels, as one JSON object a file on stdout.",
)
@progress_option
@click.option(
    "-n",
    "--dry-run",
    is_flag=True,
    help="Check everything and say what would be done; write nothing.",
)
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
@click.option(
    "-v",
    "--verbose",
    is_flag=True,
    help="Say more: the model, the formats, what happens above the model's band.",
)
@click.pass_context
def command(ctx: click.Context, /, **given: Any) -> None:
    """Clean the recording IN into OUT.

    With -O all IN are cleaned into DIR: files, folders with all that is below them (the tree is
    mirrored) and patterns. A run that was interrupted or killed goes on where it was when it is
    called again. - is stdin or stdout.

    OUT keeps the sample rate, channels, length, container, bit depth and tags of IN, unless its
    name or an option says otherwise. It appears when it is complete; nothing is overwritten without
    --overwrite.
    """
    options = DenoiseOptions(**given)
    _check(ctx, options)
    if options.output_dir is not None:
        from audioae.cli.many import denoise_many

        denoise_many(ctx, options, options.output_dir)
        return
    src, dst = options.paths
    if options.skip_existing and dst.exists():
        options.say(f"{dst} exists and is left alone")
    elif PIPE in (src, dst):
        from audioae.cli.piped import denoise_piped

        denoise_piped(src, dst, options)
    else:
        denoise_one(src, dst, options)


def _check(ctx: click.Context, options: DenoiseOptions) -> None:
    """Raise a usage error for options that exclude or need each other."""
    if options.quiet and options.verbose:
        raise click.UsageError("--quiet and --verbose exclude each other")
    if options.overwrite and options.skip_existing:
        raise click.UsageError("--overwrite and --skip-existing exclude each other")
    if options.output_dir is not None:
        if PIPE in options.paths:
            raise click.UsageError("- is one recording; give it an OUT instead of -O")
        return
    for name in ONLY_MANY:
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"--{name.replace('_', '-')} is for many files; give it with -O DIR"
            )
    if len(options.paths) != 2:
        raise click.UsageError(
            f"got {len(options.paths)} paths; expected IN OUT, or IN... -O DIR for many files"
        )
    if PIPE not in options.paths and options.raw:
        raise click.UsageError("--raw says what comes and goes at -; neither IN nor OUT is -")
    if options.format and options.paths[1] != PIPE:
        raise click.UsageError(
            "--format is for -O and for - as OUT; the suffix of OUT tells its format"
        )


def denoise_one(src: Path, dst: Path, options: DenoiseOptions) -> None:
    """Denoise one file and report it."""
    from audioae.denoising import plan_file, ready_engine
    from audioae.engine import choose_engine

    plan = plan_file(options.file_job(src, dst, options.residual))
    model = options.model_path()
    engine = ready_engine(model, device=options.device)
    chosen = choose_engine(engine, plan.source.sample_rate, plan.job.settings.quality)
    if options.verbose:
        click.echo(preface(plan, chosen.info), err=True)
    if options.dry_run:
        report_plan(plan, chosen.info.name, options)
    else:
        report_result(*run_one(plan, engine, options, src.name, model=model), options)
