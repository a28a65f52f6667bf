"""`audioae embed`: embeddings of recordings, maps of them, and a linear probe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from audioae.cli.completion import complete_models
from audioae.cli.options import device_option, quiet_option
from audioae.cli.output import print_json
from audioae.cli.progress import FilesProgress, progress_mode, progress_option, show_files
from audioae.errors import counted

if TYPE_CHECKING:
    from audioae.tasks.autoencoder import Codec
    from audioae.tasks.embed import Embedding, EmbedSettings, Pooling
    from audioae.tasks.pictures import Projection
    from audioae.tasks.probe import Probe
    from audioae.tasks.workers import FilesListener

    Kept = tuple["Recording", Embedding]

PATCHES = 16  # of each file, that PCA is fitted to
JOBS_HELP = "Number of files that are processed at the same time, each in a process."

jobs_option = click.option(
    "-j", "--jobs", type=click.IntRange(1), default=1, metavar="N", help=JOBS_HELP
)


@dataclass(frozen=True)
class EmbedOptions:
    """The values of the options of `audioae embed`, under their names."""

    inputs: tuple[Path, ...]
    output: Path | None
    model: str
    pool: Pooling
    plot: Path | None
    projection: Projection
    with_probe: bool
    labels: str | None
    groups: str | None
    folds: int
    seed: int
    jobs: int
    device: str
    overwrite: bool
    as_json: bool
    progress: str
    quiet: bool

    @property
    def settings(self) -> EmbedSettings:
        """What is computed for each file; patches and statistics are for the probe."""
        from audioae.tasks.embed import EmbedSettings

        patches = PATCHES if self.with_probe else 0
        return EmbedSettings(self.model, self.pool, self.device, self.with_probe, patches)


@dataclass(frozen=True)
class Recording:
    """A recording with its label, and its source for the folds of the probe."""

    path: Path
    label: str
    source: str


@click.command("embed")
@click.argument("inputs", metavar="IN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The file for the embeddings, .npz or .parquet.",
)
@click.option(
    "-m",
    "--model",
    default="sound-16k",
    metavar="NAME|PATH",
    shell_complete=complete_models,
    help="A shipped autoencoder, an .onnx file, a checkpoint or a run folder.",
)
@click.option(
    "--pool",
    type=click.Choice(["none", "mean", "mean+std", "max"]),
    default="mean",
    help="Statistics of the latent over each file; none keeps every step.",
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Draw a map with a point per file, .png, .svg or .html, coloured by folder or --labels.",
)
@click.option(
    "--projection",
    type=click.Choice(["pca", "tsne", "umap"]),
    default="pca",
    help="How the map is made; umap needs the package umap-learn.",
)
@click.option(
    "--probe",
    "with_probe",
    is_flag=True,
    help="Train a linear classifier of the folders or --labels, and print its accuracy beside "
    "those of mel statistics and PCA.",
)
@click.option(
    "--labels",
    metavar="TABLE[:COLUMN]",
    help="Labels from a table instead of the folders: CSV, or JSON Lines, with the column path and "
    "another (default: label).",
)
@click.option(
    "--groups",
    metavar="TABLE[:COLUMN]",
    help="Sources from a table (default column: source). The files of a source are in one fold.  "
    "[default: what precedes the first -, _, . or space of the file name]",
)
@click.option("--folds", type=click.IntRange(2), default=5, help="Folds of the probe.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Seed of the map and the folds.")
@jobs_option
@device_option
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object per file on stdout.")
@progress_option
@quiet_option
@click.pass_context
def command(ctx: click.Context, /, **given: Any) -> None:
    """Compute embeddings of the recordings IN: the latent of an autoencoder.

    IN are files and folders, which are searched recursively. Channels are mixed down. The output
    has the embeddings with file names, times and the sha256 of the model.

    Exit codes: 0 success, 1 some files failed (the others are written), 2 usage error, 3 model or
    package missing or damaged, 130 interrupted.
    """
    options = EmbedOptions(**given)
    if options.output is None and options.plot is None and not options.with_probe:
        raise click.UsageError("nothing to do; give -o FILE, --plot FILE or --probe")
    from audioae.audio.writer import check_target
    from audioae.denoising.batch import find_inputs
    from audioae.tasks.autoencoder import Codec
    from audioae.tasks.pictures import check_map

    if options.plot is not None:
        check_map(options.plot, options.projection)
        check_target(options.plot, overwrite=options.overwrite)
    found = find_inputs(options.inputs)
    recordings = _labelled([each.path for each in found.files], options)
    codec = Codec(options.model, device=options.device)
    kept = _embed(ctx, recordings, codec, options)
    if options.plot is not None and kept:
        _draw(options.plot, kept, codec, options)
    if options.with_probe and kept:
        _print_probe(_probe(kept, codec, options), options.as_json)
    for line in found.unreadable:
        click.echo(f"Error: {line}", err=True)
    if len(kept) < len(recordings) or found.unreadable:
        ctx.exit(1)


def _labelled(paths: Sequence[Path], options: EmbedOptions) -> list[Recording]:
    """The recordings with their labels and sources, from tables or from their folders and names."""
    from audioae.tasks.probe import read_table, source_of

    labels = read_table(options.labels, "label") if options.labels else None
    groups = read_table(options.groups, "source") if options.groups else None
    return [
        Recording(
            path,
            labels.get(path) if labels else path.absolute().parent.name,
            groups.get(path) if groups else source_of(path),
        )
        for path in paths
    ]


def _embed(
    ctx: click.Context, recordings: Sequence[Recording], codec: Codec, options: EmbedOptions
) -> list[Kept]:
    """Embed the recordings, write the embeddings if wanted, and return them without their steps.

    Recordings that fail are reported and left out.
    """
    from audioae.storage import PrivateFolder, output_errors
    from audioae.tasks.embedding_file import EmbeddingFile

    kept: list[Kept] = []
    with ExitStack() as stack:
        with output_errors("the temporary folder"):
            private = PrivateFolder("audioae-embed-")
        spill = stack.enter_context(private).path
        sink = None
        if options.output is not None:
            sink = stack.enter_context(
                EmbeddingFile(options.output, codec, options.pool, options.overwrite)
            )
        found = _embedded(ctx, [each.path for each in recordings], spill, options)
        for recording, embedding in zip(recordings, found, strict=True):
            if embedding is None:
                continue
            if sink is not None:
                sink.add(embedding, recording.label)
            kept.append((recording, replace(embedding, steps=None)))
        if sink is not None and kept:
            sink.commit()
    if options.output is not None and kept and not options.quiet:
        rows = sum(embedding.rows for _, embedding in kept)
        of = f"{counted(rows, 'embedding')} of {counted(len(kept), 'file')}"
        click.echo(f"{options.output}: {of} with {codec.info.name}", err=True)
    return kept


def _embedded(
    ctx: click.Context, paths: Sequence[Path], spill: Path, options: EmbedOptions
) -> Iterator[Embedding | None]:
    """The embedding of each file, or None if it failed, while progress is shown."""
    from audioae.tasks.embed import embed_files

    mode = progress_mode(options.progress, quiet=options.quiet)
    settings, jobs = options.settings, options.jobs
    with show_file_progress(paths, mode) as (shown, listener):
        for each in embed_files(paths, settings, spill=spill, jobs=jobs, listener=listener):
            if each.value is None and ctx.find_root().params.get("debug"):
                click.echo(each.trace, err=True)
            shown.ended(str(each.path), each.error or None)
            if options.as_json and each.value is None:
                print_json({"status": "failed", "path": str(each.path), "error": each.error})
            elif options.as_json and each.value is not None:
                facts = {"seconds": each.value.seconds, "rows": each.value.rows}
                print_json({"status": "done", "path": str(each.path), **facts})
            yield each.value


@contextmanager
def show_file_progress(
    paths: Sequence[Path], mode: str
) -> Iterator[tuple[FilesProgress, FilesListener]]:
    """Show the progress over files. Yields the display, and the listener for `map_files`."""
    from audioae.tasks.workers import FilesListener

    lengths = {path: length_of(path) for path in paths} if mode != "none" else {}
    with show_files(mode, files=len(paths), seconds=sum(lengths.values())) as shown:

        class Listener(FilesListener):
            def started(self, path: Path) -> None:
                shown.started(str(path), lengths.get(path, 0.0))

            def advanced(self, path: Path, seconds: float) -> None:
                shown.advanced(str(path), min(seconds, lengths.get(path, seconds)))

        yield shown, Listener()


def length_of(path: Path) -> float:
    """The length of a recording in seconds for the progress display; 0 if it cannot be read."""
    from audioae.audio import info
    from audioae.errors import AudioaeError

    try:
        return info(path).seconds
    except (AudioaeError, OSError):
        return 0.0


def _draw(path: Path, kept: Sequence[Kept], codec: Codec, options: EmbedOptions) -> None:
    """Draw a map of the embeddings."""
    import numpy as np

    from audioae.tasks.pictures import draw_map, project

    vectors = np.stack([embedding.pooled for _, embedding in kept])
    points = project(vectors, options.projection, seed=options.seed)
    names = [str(recording.path) for recording, _ in kept]
    labels = [recording.label for recording, _ in kept]
    files = counted(len(kept), "file")
    title = f"{files}, {codec.info.name}, {options.projection}"
    draw_map(path, points, names, labels, title=title)
    if not options.quiet:
        click.echo(f"{path}: map of {files}", err=True)


def _probe(kept: Sequence[Kept], codec: Codec, options: EmbedOptions) -> Probe:
    """Probe the embeddings, mel statistics, and PCA with as many components as channels."""
    import numpy as np

    from audioae.errors import AudioFileError
    from audioae.tasks.baselines import PcaEncoder
    from audioae.tasks.embed import embed_files
    from audioae.tasks.probe import probe

    embeddings = [embedding for _, embedding in kept]
    patches = np.concatenate([each.patches for each in embeddings if each.patches is not None])
    info, seed = codec.info, options.seed
    encoder = PcaEncoder.fit(patches, channels=info.channels, frames=info.step, seed=seed)
    pooling: Pooling = "mean" if options.pool == "none" else options.pool
    again = replace(options.settings, pooling=pooling, statistics=False, patches=0)
    paths = [recording.path for recording, _ in kept]
    pca = []
    for each in embed_files(paths, again, encoder=encoder, jobs=options.jobs):
        if each.value is None:  # it has changed since the first time
            raise AudioFileError(each.error)
        pca.append(each.value.pooled)
    statistics = [each.statistics for each in embeddings if each.statistics is not None]
    vectors = {
        "latent": np.stack([each.pooled for each in embeddings]),
        "PCA": np.stack(pca),
        "mel statistics": np.stack(statistics),
    }
    labels = [recording.label for recording, _ in kept]
    sources = [recording.source for recording, _ in kept]
    return probe(vectors, labels, sources, folds=options.folds, seed=seed)


def _print_probe(result: Probe, as_json: bool) -> None:
    if as_json:
        print_json({"probe": result.to_dict()})
        return
    click.echo(
        f"{counted(result.files, 'file')}, {counted(result.classes, 'class', 'classes')}, "
        f"{counted(result.sources, 'source')}; chance {100 * result.chance:.1f} %"
    )
    if result.dropped:
        click.echo(f"left out, too few sources: {', '.join(result.dropped)}")
    for row in result.rows:
        accuracy = f"{100 * row.accuracy:.1f} ± {100 * row.spread:.1f} %"
        click.echo(f"{row.name:<16}{row.dimensions:>5} values{accuracy:>16}")
