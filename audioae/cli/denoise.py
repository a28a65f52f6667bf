"""`audioae denoise`: denoise a file, many files, or a pipe."""

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
    quiet_option,
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
            self.fail(f"{value!r} is not START:END; expected seconds such as 0.5:2", param, ctx)
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
            self.fail(f"{value!r} is not a loudness; expected LUFS such as -16LUFS", param, ctx)


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
    help="Output folder: denoise all IN (files, folders, patterns) into DIR.",
)
@model_option
@preset_option
@strength_option
@max_attenuation_option
@click.option(
    "--channels",
    type=click.Choice(["linked", "independent"]),
    help="One gain for all channels (keeps the stereo image), or one per channel.  "
    "[default: linked]",
)
@click.option(
    "--noise-from",
    type=Stretch(),
    metavar="START:END",
    help="Time range in seconds with nothing but steady noise, which is then reduced further.",
)
@adapt_noise_option
@quality_option
@click.option(
    "--keep-rumble",
    is_flag=True,
    help="Keep a strong DC offset and strong rumble below 40 Hz, which are removed otherwise.",
)
@click.option(
    "--start",
    type=float,
    metavar="SECONDS",
    help="Start of the range to denoise; audio before it is not changed.  [default: 0]",
)
@click.option(
    "--end",
    type=float,
    metavar="SECONDS",
    help="End of the range to denoise; audio after it is not changed.  [default: end of IN]",
)
@click.option(
    "--clip-mode",
    type=click.Choice(["clamp", "rescale"]),
    default="clamp",
    help="Clamp samples beyond full scale, or lower the level of the whole file so that none are.",
)
@click.option(
    "--normalize",
    type=Loudness(),
    metavar="LUFS",
    help="Scale the output to this integrated loudness, such as -16LUFS.  [default: keep the "
    "level]",
)
@click.option(
    "--track",
    multiple=True,
    metavar="N|LANG",
    help="Audio track of a film to denoise: its number from 1, or its language such as eng. "
    "Repeatable; the other tracks are copied unchanged.  [default: all]",
)
@click.option(
    "--residual",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Write the residual, IN - OUT, to this file; with -O, to this folder.  [default: not "
    "written]",
)
@click.option(
    "--format",
    metavar="KIND",
    help="Container of outputs in DIR or on stdout: wav, flac, mp3, ...  [default: the input's]",
)
@click.option(
    "--subtype",
    metavar="SUBTYPE",
    help="Sample format of the output, such as PCM_16, PCM_24, FLOAT.  [default: the input's]",
)
@device_option
@click.option("--overwrite", is_flag=True, help="Replace existing outputs.")
@click.option("--skip-existing", is_flag=True, help="Skip inputs whose output exists.")
@click.option(
    "--template",
    default="{stem}{ext}",
    metavar="NAME",
    help="Names of outputs in DIR. Fields: {stem}, {ext}, {folder} (path below IN), {root} (name "
    "of IN). With a / it is the path below DIR.",
)
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(0),
    default=1,
    metavar="N",
    help="Number of worker processes; 0: one per core.",
)
@click.option(
    "--ray",
    is_flag=False,
    flag_value="local",
    metavar="[ADDRESS]",
    help="Run on the Ray cluster at ADDRESS, RAY_ADDRESS or a local one.  [default: no cluster]",
)
@click.option("--fail-fast", is_flag=True, help="Stop after the first file that fails.")
@click.option(
    "--failed-list",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the names of inputs that failed to this file, one per line.",
)
@click.option(
    "-0",
    "--null",
    is_flag=True,
    help="End the names in --failed-list with NUL, for xargs -0 and names with line breaks.",
)
@click.option(
    "--raw",
    metavar="RATE:CHANNELS:SUBTYPE",
    help="Format of raw samples on stdin and stdout, such as 16000:1:PCM_16.",
)
@click.option("--record", is_flag=True, help="Write how each output was made to OUT.audioae.json.")
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    metavar="FILE.html",
    help="Write a page to compare IN and OUT by ear and eye, see `audioae report`; with -O, a "
    "folder of pages with an index.  [default: not written]",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print a JSON object per file on stdout, with hashes and levels.",
)
@progress_option
@click.option(
    "-n",
    "--dry-run",
    is_flag=True,
    help="Check inputs and outputs and print what would be done; write nothing.",
)
@quiet_option
@click.option(
    "-v",
    "--verbose",
    is_flag=True,
    help="Also print the model, the formats and how the band above the model's is treated.",
)
@click.pass_context
def command(ctx: click.Context, /, **given: Any) -> None:
    """Remove noise from the recording IN and write the result to OUT.

    With -O all IN are denoised into DIR: files, folders (recursively, keeping the tree) and
    patterns. Run the same command again to resume an interrupted run. - is stdin or stdout.

    OUT keeps the sample rate, channels, length, container, bit depth and tags of IN, unless its
    name or an option says otherwise. It appears under its name when it is complete. Existing files
    are not overwritten without --overwrite.

    Exit codes: 0 success, 1 some files failed, 2 usage error, 3 model or package missing or
    damaged, 130 interrupted.
    """
    options = DenoiseOptions(**given)
    _check(ctx, options)
    if options.output_dir is not None:
        from audioae.cli.many import denoise_many

        denoise_many(ctx, options, options.output_dir)
        return
    src, dst = options.paths
    if options.skip_existing and dst.exists():
        options.say(f"{dst} exists; skipped")
    elif PIPE in (src, dst) or src.is_fifo():  # <(command) in a shell
        from audioae.cli.piped import denoise_piped

        denoise_piped(src, dst, options)
    else:
        denoise_one(src, dst, options)


def _check(ctx: click.Context, options: DenoiseOptions) -> None:
    """Raise a usage error for options that do not go together."""
    if options.quiet and options.verbose:
        raise click.UsageError("--quiet and --verbose cannot be used together")
    if options.overwrite and options.skip_existing:
        raise click.UsageError("--overwrite and --skip-existing cannot be used together")
    if options.null and options.failed_list is None:
        raise click.UsageError("--null is the form of --failed-list; give it a FILE")
    if options.output_dir is not None:
        if PIPE in options.paths:
            raise click.UsageError("- is a single recording and needs an OUT instead of -O")
        return
    for name in ONLY_MANY:
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name.replace('_', '-')} needs -O DIR")
    if len(options.paths) != 2:
        raise click.UsageError(
            f"got {len(options.paths)} paths; expected IN OUT, or IN... -O DIR for many files"
        )
    if PIPE in options.paths and options.report:
        raise click.UsageError("--report needs files; IN or OUT is -")
    if PIPE not in options.paths and options.raw:
        raise click.UsageError("--raw is the format of -; neither IN nor OUT is -")
    if options.format and options.paths[1] != PIPE:
        raise click.UsageError(
            "--format needs -O or - as OUT; otherwise the suffix of OUT sets the format"
        )


def denoise_one(src: Path, dst: Path, options: DenoiseOptions) -> None:
    """Denoise one file and report it."""
    from audioae.denoising import choose_engine, plan_file, ready_engine

    plan = plan_file(options.file_job(src, dst, options.residual))
    if options.report is not None:
        from audioae.web.report import check_page

        check_page(options.report, [src, *plan.job.outputs], overwrite=options.overwrite)
    model = options.model_path()
    engine = ready_engine(model, device=options.device)
    chosen = choose_engine(engine, plan.source.sample_rate, plan.job.settings.quality)
    if options.verbose:
        click.echo(preface(plan, chosen.info), err=True)
    if options.dry_run:
        report_plan(plan, chosen.info.name, options)
    else:
        result, values = run_one(plan, engine, options, src.name, model=model)
        report_result(result, values, options, plan.warnings)
        if options.report is not None:
            from audioae.cli.report import report_denoised

            report_denoised(result, plan.job, model, options)
