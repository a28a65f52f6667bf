"""`audioae anomaly score`: score recordings and streams with a detector."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from audioae.cli.embed import jobs_option, show_file_progress
from audioae.cli.options import PIPE, quiet_option
from audioae.cli.output import print_json
from audioae.cli.progress import progress_mode, progress_option

if TYPE_CHECKING:
    from audioae.tasks.anomaly import AnomalyResult, Detector

FOUND = 4  # exit code of --fail-on-anomaly


@click.command("score")
@click.argument("model", metavar="MODEL", type=click.Path(path_type=Path))
@click.argument("inputs", metavar="IN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--labels",
    metavar="folders|TABLE[:COLUMN]",
    help="Print AUC, pAUC and F1. The label of a recording is the name of its folder, or a column "
    "of a table with the column path (default: label); normal is normal, others are anomalous.",
)
@click.option(
    "--threshold", type=float, metavar="X", help="Threshold of the score.  [default: the model's]"
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    metavar="FILE|DIR",
    help="Draw where in time and frequency the error is: a .png or .svg for one recording, a "
    "folder for several.",
)
@click.option(
    "--raw",
    metavar="RATE:CH:SUBTYPE",
    help="IN is -, raw samples without a header such as 16000:1:PCM_16; each window gives a line "
    "as soon as it has arrived.",
)
@click.option(
    "--fail-on-anomaly",
    is_flag=True,
    help=f"Exit with {FOUND} if a recording is anomalous. A stream ends with its first anomaly.",
)
@jobs_option
@click.option("--overwrite", is_flag=True, help="Replace existing pictures.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object per file on stdout.")
@progress_option
@quiet_option
@click.pass_context
def score(
    ctx: click.Context,
    model: Path,
    inputs: tuple[Path, ...],
    labels: str | None,
    threshold: float | None,
    plot: Path | None,
    raw: str | None,
    fail_on_anomaly: bool,
    jobs: int,
    overwrite: bool,
    as_json: bool,
    progress: str,
    quiet: bool,
) -> None:
    """Score the recordings IN, files and folders, with the detector MODEL.

    The score is the squared error with which the autoencoder reconstructs the sound, relative to
    that of normal sound (see --norm of audioae anomaly fit). Above the threshold a recording is
    anomalous. `intervals` in the output of --json are the parts with an unusual error. Two
    baselines are scored beside it: the Mahalanobis distance of mel statistics and the distance to
    their nearest neighbours.

    Exit codes: 0 success, 1 some files failed, 2 usage error, 3 model or package missing or
    damaged, 4 an anomaly was found (with --fail-on-anomaly), 130 interrupted.
    """
    from audioae.tasks.detector_file import load_detector

    is_stream = inputs == (PIPE,)
    if is_stream != (raw is not None):
        raise click.UsageError("--raw and IN = - belong together: audioae anomaly score MODEL - "
                               "--raw 16000:1:PCM_16")  # fmt: skip
    detector = load_detector(model).with_threshold(threshold)
    if is_stream and raw is not None:
        if labels or plot:
            raise click.UsageError("a stream has no --labels and no --plot; leave them out")
        found = _monitor(detector, raw, fail_on_anomaly, as_json, quiet)
        if fail_on_anomaly and found:
            ctx.exit(FOUND)
        return
    unreadable: list[str] = []
    failed: list[Path] = []
    paths = found_files(inputs, unreadable)
    names = _labels_of(paths, labels)
    pictures = _pictures(paths, plot, overwrite=overwrite)
    mode = progress_mode(progress, quiet=quiet)
    results = {}
    for result in _scored(ctx, model, threshold, paths, pictures, jobs, mode, as_json, failed):
        results[Path(result.path)] = result
        if not as_json and not quiet:
            click.echo(line_of(result))
    if labels and results:
        _print_separation(detector, results, names, as_json)
    for line in unreadable:
        click.echo(f"Error: {line}", err=True)
    if failed or unreadable:
        ctx.exit(1)
    if fail_on_anomaly and any(each.is_anomalous for each in results.values()):
        ctx.exit(FOUND)


def line_of(result: AnomalyResult) -> str:
    """The result of a recording in one line."""
    parts = [f"{start:.1f}-{end:.1f} s" for start, end in result.intervals[:5]]
    more = ", ..." if len(result.intervals) > 5 else ""
    where = f", at {', '.join(parts)}{more}" if result.is_anomalous and parts else ""
    state = "ANOMALOUS" if result.is_anomalous else "normal"
    return f"{result.path}: {state}, score {result.score:.3g} ({result.threshold:.3g}){where}"


def _labels_of(paths: Sequence[Path], labels: str | None) -> dict[Path, str]:
    from audioae.tasks.probe import read_table

    if labels is None:
        return {}
    if labels == "folders":
        return {path: path.absolute().parent.name for path in paths}
    table = read_table(labels, "label")
    return {path: table.get(path) for path in paths}


def _pictures(paths: Sequence[Path], plot: Path | None, *, overwrite: bool) -> dict[Path, Path]:
    """The picture of each recording; raises an error for names that cannot be written."""
    from audioae.audio.writer import check_target
    from audioae.denoising.batch.tree import refuse_clashes
    from audioae.errors import OutputError, require
    from audioae.storage import output_errors

    if plot is None:
        return {}
    require("matplotlib", extra="plots")
    if plot.suffix.lower() in (".png", ".svg") and not plot.is_dir():
        if len(paths) > 1:
            raise OutputError(f"{plot} is one picture for {len(paths)} recordings; give a folder")
        pictures = {paths[0]: plot}
    else:
        if plot.exists() and not plot.is_dir():
            raise OutputError(f"{plot} is a file; give a folder, or a .png or .svg file")
        with output_errors(plot):
            plot.mkdir(parents=True, exist_ok=True)
        pictures = {path: plot / f"{path.stem}.png" for path in paths}
    refuse_clashes(pictures)
    for picture in pictures.values():
        check_target(picture, overwrite=overwrite)
    return pictures


def _scored(
    ctx: click.Context,
    model: Path,
    threshold: float | None,
    paths: Sequence[Path],
    pictures: Mapping[Path, Path],
    jobs: int,
    mode: str,
    as_json: bool,
    failed: list[Path],
) -> Iterator[AnomalyResult]:
    """Score files while progress is shown; files that fail are added to `failed`."""
    from audioae.tasks.scoring import make_scorer
    from audioae.tasks.workers import map_files

    make = partial(make_scorer, model, threshold, dict(pictures))
    with show_file_progress(paths, mode) as (shown, listener):
        for each in map_files(make, paths, jobs=jobs, listener=listener):
            if each.value is None and ctx.find_root().params.get("debug"):
                click.echo(each.trace, err=True)
            shown.ended(str(each.path), each.error or None)
            if each.value is None:
                failed.append(each.path)
                if as_json:
                    print_json({"status": "failed", "path": str(each.path), "error": each.error})
                continue
            if as_json:
                print_json({"status": "done", **each.value.to_dict()})
            yield each.value


def _monitor(
    detector: Detector, raw: str, fail_on_anomaly: bool, as_json: bool, quiet: bool
) -> bool:
    """Score raw samples from stdin; returns whether there was an anomaly."""
    from audioae.denoising.batch.pipes import RawForm, whole_samples
    from audioae.errors import AudioFileError

    form = RawForm.parse(raw)
    if sys.stdin is None:  # `<&-` in a shell
        raise AudioFileError("stdin is closed; expected raw samples")
    source: BinaryIO = sys.stdin.buffer
    blocks = (form.decode(data) for data in whole_samples(source, form.sample_bytes))
    found = False
    for result in detector.monitor(blocks, form.sample_rate):
        if as_json:
            print_json(result.to_dict())
        elif not quiet:
            state = "ANOMALOUS" if result.is_anomalous else "normal"
            click.echo(f"{result.seconds:.1f} s: {state}, score {result.score:.3g}")
            if sys.stdout is not None:
                sys.stdout.flush()
        found = found or result.is_anomalous
        if found and fail_on_anomaly:
            break
    return found


def _print_separation(
    detector: Detector,
    results: Mapping[Path, AnomalyResult],
    labels: Mapping[Path, str],
    as_json: bool,
) -> None:
    """Print AUC, pAUC and F1 of all systems, over all anomalies and for each label alone."""
    from audioae.tasks.scoring import ALL, separate_by_label

    found = separate_by_label(list(results.values()), [labels[path] for path in results], detector)
    if as_json:
        rows: dict[str, Any] = {name: [asdict(row) for row in each] for name, each in found.items()}
        print_json({"separation": rows})
        return
    click.echo(f"\n{'anomalies':<20}{'system':<14}{'AUC':>7}{'pAUC':>7}{'F1':>7}")
    for name, each in found.items():
        best = max(row.auc for row in each)
        for number, row in enumerate(each):
            mark = " *" if row.auc == best else ""
            head = f"{name} ({row.anomalous})" if number == 0 else ""
            click.echo(
                f"{head:<20}{row.system:<14}{row.auc:>7.3f}{row.pauc:>7.3f}{row.f1:>7.3f}{mark}"
            )
    click.echo(
        f"{found[ALL][0].normal} normal recordings; * highest AUC; pAUC up to 10 % false alarms"
    )


def found_files(paths: Sequence[Path], failures: list[str]) -> list[Path]:
    """The audio files of paths; folders that cannot be searched are added to `failures`."""
    from audioae.denoising.batch import find_inputs

    found = find_inputs(paths)
    failures += found.unreadable
    return [each.path for each in found.files]
