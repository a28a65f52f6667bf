"""`audioae denoise`: clean a recording, many of them, or what comes through a pipe."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from audioae.cli.options import (
    adapt_noise_option,
    device_option,
    max_attenuation_option,
    model_option,
    preset_option,
    settings_of,
    strength_option,
)
from audioae.cli.progress import progress_option, show_progress

if TYPE_CHECKING:
    from audioae.batch import Cleaner, Outcome, Task, Work
    from audioae.denoising import DenoiseSettings, FilePlan, FileResult
    from audioae.pretrained import ModelInfo

PIPE = Path("-")
ONLY_MANY = ("template", "jobs", "ray", "fail_fast", "failed_list")  # options that need -O


@dataclass(frozen=True)
class Options:
    """What the command line says; the names are those of its options."""

    paths: tuple[Path, ...]
    output_dir: Path | None
    model: str | None
    preset: str
    strength: float | None
    max_attenuation: float | None
    channels: Any
    noise_from: tuple[float, float] | None
    adapt_noise: bool | None
    start: float | None
    end: float | None
    clip_mode: str
    normalize: float | None
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
    raw: str | None
    record: bool
    as_json: bool
    progress: str
    dry_run: bool
    quiet: bool
    verbose: bool

    @property
    def shown(self) -> str:
        """The mode of the progress display."""
        return "none" if self.quiet and self.progress == "auto" else self.progress

    def settings(self) -> DenoiseSettings:
        """The preset, and in place of its settings what is asked for."""
        return settings_of(
            self.preset,
            strength=self.strength,
            max_attenuation_db=self.max_attenuation,
            channels=self.channels,
            noise_from=self.noise_from,
            adapt_noise=self.adapt_noise,
        )

    def plan_options(self) -> dict[str, Any]:
        """Keywords of `plan_file`, those that are not what they are anyway."""
        usual = {
            "subtype": None,
            "start": None,
            "end": None,
            "clip_mode": "clamp",
            "normalize_lufs": None,
        }
        asked = dict(
            zip(
                usual,
                (self.subtype, self.start, self.end, self.clip_mode, self.normalize),
                strict=True,
            )
        )
        return {name: value for name, value in asked.items() if value != usual[name]}

    def work(self, *, facts: bool) -> Work:
        """What is done to each file; raises `ModelNotFoundError`."""
        from audioae.batch import Work
        from audioae.pretrained import default_model, find_model

        model = find_model(self.model or default_model())
        return Work(
            model,
            self.device,
            self.settings(),
            facts,
            self.record,
            tuple(self.plan_options().items()),
        )


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
    options = Options(**given)
    _check(ctx, options)
    if options.output_dir is not None:
        from audioae.cli.many import denoise_many

        denoise_many(ctx, options, options.output_dir)
        return
    src, dst = options.paths
    if options.skip_existing and dst.exists():
        say(options, f"{dst} exists and is left alone")
    elif PIPE in (src, dst):
        from audioae.cli.piped import denoise_piped

        denoise_piped(src, dst, options)
    else:
        denoise_one(src, dst, options)


def _check(ctx: click.Context, options: Options) -> None:
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


def denoise_one(src: Path, dst: Path, options: Options) -> None:
    """Clean one file and say so."""
    from audioae.batch import Cleaner, Task
    from audioae.denoising import plan_file

    plan = plan_file(
        src, dst, overwrite=options.overwrite, residual=options.residual, **options.plan_options()
    )
    cleaner = Cleaner(options.work(facts=options.as_json))
    if options.verbose:
        click.echo(preface(plan, cleaner.engine.info), err=True)
    if options.dry_run:
        report_plan(plan, cleaner.engine.info.name, options)
    else:
        report_outcome(
            with_progress(cleaner, Task(0, plan, options.overwrite), options, src.name), options
        )


def with_progress(cleaner: Cleaner, task: Task, options: Options, label: str) -> Outcome:
    """Do a task and show how far it has come; raises what it raises."""
    done = 0.0
    with show_progress(options.shown, label, total=task.plan.source.seconds, unit="s") as advance:

        def report(seconds: float) -> None:
            nonlocal done
            advance(seconds - done)
            done = seconds

        return cleaner.run(task, report)


def preface(plan: FilePlan, model: ModelInfo) -> str:
    """The model, the formats on both sides, and what becomes of what the model cannot hear."""
    source, output, rate = plan.source, plan.output, model.stft.sample_rate
    form = f"{source.sample_rate} Hz, {source.channels} channels, {source.num_samples} samples"
    lines = [
        f"model: {model.name}, {rate} Hz, {model.parameters:,} parameters",
        f"in: {plan.src}, {source.container} {source.subtype}, {form}",
        f"out: {plan.dst}, {output.container} {output.subtype}, {form}",
    ]
    if source.sample_rate > rate:
        lines.append(
            f"above {rate / 2000:g} kHz, beyond the model's band: lowered by the smoothed gain "
            "of the top of that band"
        )
    elif source.sample_rate < rate:
        lines.append(f"resampled to {rate} Hz for the model and back to {source.sample_rate} Hz")
    return "\n".join(lines)


def report_plan(plan: FilePlan, model: str, options: Options) -> None:
    """Say what a dry run would have done."""
    work = (
        f"{plan.source.seconds:.2f} s with {model}, {plan.output.container} {plan.output.subtype}"
    )
    say(options, f"{plan.src} -> {plan.dst}: {work}; a dry run, nothing is written")
    if options.as_json:
        print_json({**plan.to_dict(), "model": model, "dry_run": True})


def report_outcome(outcome: Outcome, options: Options) -> None:
    """Say what was done to one file."""
    if outcome.result is not None:
        for line in (
            told(outcome.result),
            *verdict(outcome.result, options),
            *warnings(outcome.result),
        ):
            say(options, line)
    if options.as_json:
        print_json(outcome.to_dict())


def told(result: FileResult) -> str:
    """What was done to one file, in a line."""
    speed = f" at {1 / result.real_time_factor:.0f} x real time" if result.real_time_factor else ""
    return f"{result.dst}: {result.seconds:.2f} s cleaned{speed}, {result.mean_attenuation_db:.1f} dB lower on the whole"


def verdict(result: FileResult, options: Options) -> list[str]:
    """What can be said of the quality, with --verbose."""
    return (
        [f"{result.dst}: {result.verdict.line}"]
        if options.verbose and result.verdict is not None
        else []
    )


def warnings(result: FileResult) -> list[str]:
    """What a listener should know, a line each."""
    return [f"Warning: {result.dst}: {warning}" for warning in result.warnings]


def print_json(values: dict[str, Any], out: IO[str] | None = None) -> None:
    """One object, one line, at once; to `out`, or stdout."""
    out = out or sys.stdout
    click.echo(json.dumps(values, default=str), file=out)
    out.flush()


def say(options: Options, line: str) -> None:
    """A line on stderr, unless --quiet."""
    if not options.quiet:
        click.echo(line, err=True)
