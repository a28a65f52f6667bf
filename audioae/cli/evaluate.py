"""`audioae evaluate`: score models, or the files of other programs, on recordings."""

from __future__ import annotations

import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from audioae.cli.against_pca import compare_with_pca, pca_options
from audioae.cli.options import (
    PRESET,
    QUALITY,
    available_cores,
    device_option,
    listen_for_interrupt,
    models_option,
    settings_of,
)
from audioae.cli.progress import progress_option, show_progress

if TYPE_CHECKING:
    from audioae.engine import Quality
    from audioae.evaluation import Pair, PairRow, Recogniser
    from audioae.evaluation.rows import Denoise

INTERRUPTED = 130


@dataclass(frozen=True)
class EvaluateOptions:
    """The values of the options of `audioae evaluate`, under their names."""

    model: tuple[str, ...]
    preset: tuple[str, ...]
    quality: tuple[Quality, ...]
    pairs: Path | None
    clean: Path | None
    noisy: Path | None
    enhanced: tuple[Path, ...]
    noisy_only: Path | None
    class_column: str | None
    asr_command: str | None
    texts: Path | None
    metrics: str | None
    limit: int | None
    rows: Path | None
    csv: Path | None
    overwrite: bool
    as_json: bool
    device: str
    jobs: int | None
    progress: str
    against_pca: Path | None
    plot: Path | None


@click.command("evaluate")
@models_option(
    "A shipped model, an .onnx file, a checkpoint or a run folder. Repeat it to compare models.  "
    "[default: the best shipped model]"
)
@click.option(
    "--preset",
    multiple=True,
    type=PRESET,
    help="Preset of the denoiser, see audioae denoise. Repeat it to compare presets.  [default: "
    "default]",
)
@click.option(
    "--quality",
    multiple=True,
    type=QUALITY,
    help="Quality of the denoiser, see audioae denoise. Repeat it to compare both.  "
    "[default: best]",
)
@click.option(
    "--pairs",
    type=click.Path(path_type=Path),
    metavar="CSV|DIR",
    help="CSV file with the columns noisy and clean (paths relative to it), or a folder with the "
    "subfolders noisy and clean, in which files of a pair have the same name. A CSV file may have "
    "the columns class, snr_db and text.",
)
@click.option(
    "--clean",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of clean recordings, with --noisy, --enhanced or both in place of --pairs. Files "
    "are paired by name without suffix, in any container.",
)
@click.option(
    "--noisy",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of the noisy recordings, for --clean.",
)
@click.option(
    "--enhanced",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of files that any program has enhanced, at any sample rate, for --clean. They are "
    "scored in place of a model. Repeat it to compare programs.",
)
@click.option(
    "--noisy-only",
    type=click.Path(path_type=Path),
    metavar="FILE|CSV|DIR",
    help="Recordings without a clean side: an audio file, a folder, or a CSV file with the column "
    "noisy. Metrics: DNSMOS, and the model's estimates of SNR, speech kept and whether it is "
    "speech.",
)
@click.option(
    "--class-column",
    metavar="NAME",
    help="Column of the CSV file by which the means are split.  [default: class, or noise_kind]",
)
@click.option(
    "--asr-command",
    metavar="COMMAND",
    help="Recognise the speech with this command and add the word error rate, wer. {} stands for "
    "the path of a WAV file (16 kHz, mono); without {} the command reads one path per line on "
    "stdin and prints one line of text for each. The reference is the column text, a file of "
    "--texts, or what is recognised in the clean recording.",
)
@click.option(
    "--texts",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="Folder of the texts of the recordings, as NAME.txt, for --asr-command.",
)
@click.option(
    "--metrics",
    metavar="A,B,...|all",
    help="Metrics: pesq_wb, pesq_nb, csig, cbak, covl, csig_int16, cbak_int16, covl_int16, "
    "dnsmos_sig, dnsmos_bak, dnsmos_ovrl, dnsmos_p808 (MOS, 1 to 5), stoi, estoi (0 to 1), si_sdr, "
    "snr, segmental_snr, lsd (dB). For --noisy-only the default is the four of DNSMOS.  [default: "
    "pesq_wb,stoi,estoi,si_sdr]",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of pairs, from the first one.  [default: all]",
)
@click.option(
    "--rows",
    type=click.Path(path_type=Path),
    metavar="FILE.jsonl",
    help="Write the scores of every pair to this file, as JSON Lines.",
)
@click.option(
    "--csv",
    type=click.Path(path_type=Path),
    metavar="FILE.csv",
    help="Write the scores of every pair to this file, as a table.",
)
@click.option("--overwrite", is_flag=True, help="Replace the files of --rows and --csv.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print the means and the scores of every pair as JSON on stdout.",
)
@pca_options
@device_option
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of processes that compute metrics, and of recordings that are recognised at a "
    "time.  [default: one per CPU]",
)
@progress_option
@click.pass_context
def command(ctx: click.Context, /, **given: Any) -> None:
    """Evaluate models on pairs of noisy and clean recordings.

    Computes each metric for the noisy and for the enhanced recording, with the clean one as
    reference. A metric that cannot be computed is null with a reason, and means are over the files
    that have a value. A pair that cannot be read is reported, the others are scored, and the exit
    code is 1. After Ctrl-C, what is complete is printed and written.

    Prints means with 95 % bootstrap intervals and medians, by SNR and by class, and the paired
    difference of each further model to the first. docs/metrics.md has the definitions.

    PESQ is P.862.2 without Corrigendum 2 and is limited to 50 utterances per file. CSIG, CBAK and
    COVL are computed from wide-band PESQ. DNSMOS uses no reference.

    With --against-pca it scores autoencoders, which were trained with task.kind = "reconstruct":
    the error of the reconstructed features on held-out patches, that of PCA with as many
    components, and for a linear decoder the principal angles between both subspaces.
    """
    from audioae.cli.scores import (
        Result,
        as_object,
        csv_lines,
        open_new,
        print_tables,
        report_problems,
    )

    options = EvaluateOptions(**given)
    if options.against_pca is not None:
        compare_with_pca(options)
        return
    _check_usage(options)
    pairs = _pairs(options)
    names = _metric_names(options)
    with ExitStack() as stack:
        files = [
            stack.enter_context(open_new(path, overwrite=options.overwrite))
            for path in (options.rows, options.csv)
        ]
        systems = None if options.enhanced else _systems(options)
        recogniser = _recogniser(options)
        if recogniser is not None:
            stack.enter_context(recogniser)
        rows, interrupted = _score(pairs, systems, names, recogniser, options, files[0])
        if files[1]:
            files[1].writelines(csv_lines(rows))
    qualities = () if options.enhanced else _qualities(options)
    result = Result(str(_source(options)), rows, qualities[0] if len(qualities) == 1 else "")
    report_problems(rows)
    if options.as_json:
        click.echo(json.dumps(as_object(result)))
    elif rows:
        print_tables(result)
    if interrupted:
        click.echo(f"Error: interrupted after {len(rows)} scores", err=True)
        ctx.exit(INTERRUPTED)
    if any(row.error for row in rows):
        ctx.exit(1)


def _check_usage(options: EvaluateOptions) -> None:
    if options.plot is not None:
        raise click.UsageError("--plot needs --against-pca")
    sources = [options.pairs, options.clean, options.noisy_only]
    if sum(source is not None for source in sources) != 1:
        raise click.UsageError("give one of --pairs, --clean and --noisy-only")
    if options.clean is None and (options.noisy is not None or options.enhanced):
        raise click.UsageError("--noisy and --enhanced need --clean")
    if options.clean is not None and options.noisy is None and not options.enhanced:
        raise click.UsageError("--clean needs --noisy, --enhanced or both")
    if options.enhanced and (options.model or options.preset or options.quality):
        raise click.UsageError(
            "--enhanced scores files as they are; --model, --preset and --quality do not apply"
        )
    if options.clean is not None and options.class_column is not None:
        raise click.UsageError("--class-column needs a CSV file, and --clean has none")
    if options.texts is not None and options.asr_command is None:
        raise click.UsageError("--texts needs --asr-command")


def _source(options: EvaluateOptions) -> Path:
    source = options.pairs or options.clean or options.noisy_only
    assert source is not None  # `_check_usage`
    return source


def _pairs(options: EvaluateOptions) -> list[Pair]:
    from audioae.evaluation import pair_folders, read_pairs, read_recordings, with_texts

    if options.clean is not None:
        found = pair_folders(options.clean, noisy=options.noisy, enhanced=options.enhanced)
    else:
        find = read_pairs if options.pairs else read_recordings
        found = find(_source(options), group_column=options.class_column)
    found = found[: options.limit]
    return found if options.texts is None else with_texts(found, options.texts)


def _metric_names(options: EvaluateOptions) -> tuple[str, ...]:
    from audioae.evaluation.metrics import (
        DEFAULT_METRICS,
        METRICS,
        check_metrics,
        require_packages,
    )

    without_reference = [name for name, one in METRICS.items() if not one.needs_reference]
    alone = options.noisy_only is not None
    if options.metrics is None:
        names: Sequence[str] = without_reference if alone else DEFAULT_METRICS
    elif options.metrics == "all":
        names = without_reference if alone else list(METRICS)
    else:
        names = [name.strip() for name in options.metrics.split(",") if name.strip()]
    names = check_metrics(names)
    require_packages(names)
    return names


def _recogniser(options: EvaluateOptions) -> Recogniser | None:
    from audioae.evaluation import Recogniser

    if options.asr_command is None:
        return None
    return Recogniser(options.asr_command, options.jobs or available_cores())


def _qualities(options: EvaluateOptions) -> tuple[Quality, ...]:
    return tuple(dict.fromkeys(options.quality)) or ("best",)


def _systems(options: EvaluateOptions) -> dict[str, Denoise]:
    """Every model with every preset in every quality, by name."""
    from audioae.denoising import denoise, ready_engine
    from audioae.evaluation import WithVerdict

    presets, qualities = options.preset or ("default",), _qualities(options)
    engines = [ready_engine(model, device=options.device) for model in options.model or (None,)]
    names = [engine.info.name for engine in engines]
    count = Counter(names)
    if len(count) < len(names):  # two checkpoints of one recipe
        names = list(options.model)
    systems: dict[str, Denoise] = {}
    for (name, engine), preset, quality in itertools.product(
        zip(names, engines, strict=True), dict.fromkeys(presets), qualities
    ):
        parts = [name, *([preset] if len(presets) > 1 else [])]
        parts += [quality] if len(qualities) > 1 else []
        settings = settings_of(preset, quality=quality)
        systems[" ".join(parts)] = (
            partial(denoise, model=engine, settings=settings)
            if options.noisy_only is None
            else WithVerdict(engine, settings)
        )
    return systems


def _score(
    pairs: Sequence[Pair],
    systems: Mapping[str, Denoise] | None,
    names: Sequence[str],
    recogniser: Recogniser | None,
    options: EvaluateOptions,
    file: IO[str] | None,
) -> tuple[list[PairRow], bool]:
    """Score all pairs with a progress display; the rows, and whether Ctrl-C ended it early."""
    from audioae.evaluation import evaluate

    labels = list(systems) if systems else list(pairs[0].enhanced)
    rows: list[PairRow] = []
    total = len(pairs) * len(labels)
    found = evaluate(
        pairs,
        systems,
        metrics=names,
        jobs=options.jobs or available_cores(),
        recogniser=recogniser,
        keep_going=True,
    )
    with (
        listen_for_interrupt() as received,
        show_progress(
            options.progress,
            ", ".join(labels),
            total=total,
            unit="files",
            is_long=True,
            knows_end=True,
        ) as advance,
    ):
        left = _time_left(total)
        for row in found:
            rows.append(row)
            if file:
                file.write(json.dumps(row.to_dict()) + "\n")
            advance(1, last=row.name, left=left(len(rows)))
            if received:
                break
    return rows, bool(received)


def _time_left(total: int) -> Callable[[int], str]:
    started = time.monotonic()

    def left(done: int) -> str:
        seconds = round((time.monotonic() - started) * (total - done) / done)
        return f"{seconds // 60}:{seconds % 60:02}"

    return left
