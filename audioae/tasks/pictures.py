"""Pictures of embeddings and of anomalies."""

from __future__ import annotations

import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from audioae.errors import DataError, OutputError, SettingsError, nearest, require
from audioae.signal.features import FeatureSettings, mel_frequencies
from audioae.signal.spectrogram import Array
from audioae.storage import output_errors, write_bytes, write_text
from audioae.tasks.anomaly import AnomalyResult

Projection = Literal["pca", "tsne", "umap"]
PROJECTIONS: tuple[Projection, ...] = get_args(Projection)
MAP_SUFFIXES = (".png", ".svg", ".html")
MOST_COLUMNS = 2048  # of a picture of an anomaly
FEW = 10  # recordings on a map by UMAP that start at random places
SIZE = 640  # of a map of embeddings in HTML, pixels


def project(vectors: Array, projection: Projection, *, seed: int = 0) -> Array:
    """Project standardised vectors `[count, dim]` to the plane, `[count, 2]`.

    Args:
        vectors: at least 3.
        projection: "pca", "tsne" (scikit-learn) or "umap" (umap-learn).
        seed: of t-SNE and UMAP.

    Raises:
        DataError: there are too few vectors.
        SettingsError: there is no such projection.
        DependencyError: a package is missing.

    Example:
        >>> project(np.random.default_rng(0).normal(size=(8, 4)), "pca").shape
        (8, 2)
    """
    if projection not in PROJECTIONS:
        raise SettingsError(
            f"there is no projection {projection!r}{nearest(projection, PROJECTIONS)}; known are "
            f"{', '.join(PROJECTIONS)}"
        )
    if len(vectors) < 3:
        raise DataError(f"{len(vectors)} recordings cannot be drawn as a map; expected at least 3")
    scaled = (vectors - vectors.mean(0)) / np.maximum(vectors.std(0), 1e-6)
    near = max(2, min(30, (len(vectors) - 1) // 3))
    model: Any
    if projection == "tsne":
        manifold: Any = require("sklearn.manifold", extra="tasks")
        model = manifold.TSNE(2, perplexity=near, init="pca", random_state=seed)
    elif projection == "umap":
        umap: Any = require("umap", extra="umap")
        # Its spectral start needs more points than this.
        init = "spectral" if len(vectors) > FEW else "random"
        options = {"init": init, "random_state": seed, "n_jobs": 1}
        model = umap.UMAP(n_neighbors=min(15, len(vectors) - 1), **options)
    else:
        decomposition: Any = require("sklearn.decomposition", extra="tasks")
        model = decomposition.PCA(min(2, scaled.shape[-1]), random_state=seed)
    found = np.asarray(model.fit_transform(scaled), np.float64)
    return np.pad(found, ((0, 0), (0, 2 - found.shape[-1])))


def check_map(path: Path, projection: Projection) -> None:
    """Raise an error if a map of embeddings cannot have this name, or lacks a package.

    Raises:
        OutputError: another suffix.
        DependencyError: a package is missing.
    """
    if projection == "umap":
        require("umap", extra="umap")
    if path.suffix.lower() not in MAP_SUFFIXES:
        raise OutputError(
            f"{path} has the suffix {path.suffix!r}; expected {', '.join(MAP_SUFFIXES)}"
        )
    if path.suffix.lower() != ".html":
        require("matplotlib", extra="plots")


def draw_map(
    path: Path, points: Array, names: Sequence[str], groups: Sequence[str], *, title: str
) -> None:
    """Draw points coloured by group, as a picture or as a page that names each on hovering.

    Args:
        path: ends in .png, .svg or .html.
        points: `[count, 2]`.
        names: of the points.
        groups: of the points.
        title: of the picture.

    Raises:
        OutputError: the file cannot be written.
    """
    known = sorted(set(groups))
    if path.suffix.lower() == ".html":
        with output_errors(path):
            write_text(path, map_page(points, names, groups, known, title))
        return
    figure, (axes,) = new_figure(1, width=9, height=7)
    for number, group in enumerate(known):
        own = np.array([each == group for each in groups])
        axes.scatter(*points[own].T, s=14, color=colour(number, len(known)), label=group)
    axes.set(title=title, xticks=[], yticks=[])
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=7, ncols=1 + len(known) // 30)
    save_figure(figure, path)


def colour(number: int, count: int) -> str:
    """A colour for one of `count` groups: hues at equal distances, of two levels of lightness.

    Example:
        >>> colour(0, 4)
        '#c83c3c'
    """
    import colorsys

    lightness = 0.51 if number % 2 == 0 else 0.36
    parts = colorsys.hls_to_rgb(number / max(count, 1), lightness, 0.56)
    return "#" + "".join(f"{round(255 * each):02x}" for each in parts)


def map_page(
    points: Array, names: Sequence[str], groups: Sequence[str], known: Sequence[str], title: str
) -> str:
    """A page of one file with the points as SVG; it needs no network."""
    low, high = points.min(0), points.max(0)
    scaled = 20 + (SIZE - 40) * (points - low) / np.maximum(high - low, 1e-9)
    dots = "\n".join(
        f'<circle cx="{x:.1f}" cy="{SIZE - y:.1f}" r="4" fill="'
        f'{colour(known.index(group), len(known))}"><title>{html.escape(f"{group}: {name}")}'
        "</title></circle>"
        for (x, y), name, group in zip(scaled, names, groups, strict=True)
    )
    rows = "\n".join(
        f'<li><span style="color:{colour(number, len(known))}">&#9679;</span> '
        f"{html.escape(group)}</li>"
        for number, group in enumerate(known)
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        "<style>body{font:14px system-ui;display:flex;flex-wrap:wrap;gap:1em}h1{font-size:16px;"
        "width:100%}ul{list-style:none;columns:2;padding:0}svg{background:#fafafa;border:1px solid "
        "#ddd}circle{fill-opacity:.75}circle:hover{stroke:#000}</style>"
        f'<h1>{html.escape(title)}</h1><svg width="{SIZE}" height="{SIZE}" role="img" '
        f'aria-label="{html.escape(title)}">\n{dots}\n</svg><ul>\n{rows}\n</ul></html>\n'
    )


class ErrorMap:
    """Collects features and squared errors for a picture, in constant memory: when there are too
    many columns, neighbours are averaged.
    """

    def __init__(self, most: int = MOST_COLUMNS) -> None:
        self.most, self.factor = most, 1
        self._sums: list[Array] = []  # of whole columns, `[2, bins, columns]`
        self._rest: Array | None = None

    def __call__(self, features: Array, errors: Array) -> None:
        """Add a block of both, `[bins, frames]`."""
        block = np.stack([features, errors]).astype(np.float32)
        held = block if self._rest is None else np.concatenate([self._rest, block], -1)
        self._rest = self._reduce(held, self.factor)
        while sum(each.shape[-1] for each in self._sums) > 2 * self.most:
            whole = np.concatenate(self._sums, -1)
            pairs = whole.shape[-1] // 2
            extra = whole[..., 2 * pairs :]  # the frames of an odd column go on as they are
            mean = whole[..., : 2 * pairs].reshape(*whole.shape[:2], pairs, 2).mean(-1)
            self._rest = np.concatenate([np.repeat(extra, self.factor, -1), self._rest], -1)
            self._sums, self.factor = [mean], 2 * self.factor

    def _reduce(self, held: Array, factor: int) -> Array:
        """Add the whole columns of `held` and return the rest."""
        whole = held.shape[-1] // factor
        if whole:
            used = held[..., : whole * factor].reshape(*held.shape[:2], whole, factor)
            self._sums.append(used.mean(-1))
        return held[..., whole * factor :]

    def columns(self) -> tuple[Array, Array]:
        """Mean features and errors, `[bins, columns]` each."""
        rest = self._rest
        last = [] if rest is None or not rest.shape[-1] else [rest.mean(-1, keepdims=True)]
        whole = np.concatenate([*self._sums, *last], -1)
        return whole[0], whole[1]


def draw_anomaly(
    path: Path,
    result: AnomalyResult,
    errors: ErrorMap,
    settings: FeatureSettings,
    *,
    window_threshold: float,
) -> None:
    """Draw where in time and frequency the anomaly lies: features, errors, and the score over time.

    Args:
        path: ends in .png or .svg.
        result: the scores of the recording.
        errors: its features and errors.
        settings: of the features.
        window_threshold: drawn as a line.

    Raises:
        OutputError: the file cannot be written.
    """
    display: Any = require("librosa.display", extra="plots")
    figure, rows = new_figure(3, width=10, height=8)
    hop = settings.hop_length * errors.factor
    form = {
        "sr": settings.sample_rate,
        "hop_length": hop,
        "x_axis": "time",
        "y_axis": "mel" if settings.kind == "log_mel" else "linear",
        "fmin": settings.fmin,
        "fmax": settings.highest_hz,
    }
    if settings.kind == "log_mel":
        form["y_coords"] = mel_frequencies(settings)
    for axes, values, name, colours in zip(
        rows[:2], errors.columns(), ("features", "squared error"), ("magma", "inferno"), strict=True
    ):
        image = display.specshow(values, ax=axes, cmap=colours, **form)
        axes.set(title=name, xlabel="")
        figure.colorbar(image, ax=axes, pad=0.01)
    scores = np.array(result.windows)
    edges = np.append(np.arange(len(scores)) * result.window_seconds, result.seconds)
    rows[2].stairs(scores, edges, baseline=None, label="score of each window")
    rows[2].axhline(window_threshold, color="0.4", linestyle="--", label="threshold of windows")
    for start, end in result.intervals:
        rows[2].axvspan(start, end, color="tab:red", alpha=0.2)
    state = "anomalous" if result.is_anomalous else "normal"
    rows[2].set(
        title=f"score {result.score:.3g}, threshold {result.threshold:.3g}: {state}",
        xlabel="time in s",
        xlim=(0, max(result.seconds, 1e-3)),
    )
    figure.colorbar(image, ax=rows[2], pad=0.01).ax.set_visible(False)  # the same width
    rows[2].legend(loc="upper right", fontsize=8)
    figure.suptitle(Path(result.path).name)
    save_figure(figure, path)


def new_figure(rows: int, *, width: float, height: float) -> tuple[Any, Any]:
    """A figure without a window system, and its axes."""
    module: Any = require("matplotlib.figure", extra="plots")
    figure = module.Figure((width, height), layout="constrained")
    axes = figure.subplots(rows, 1, squeeze=False)[:, 0]
    return figure, axes


def save_figure(figure: Any, path: Path, *, dpi: int = 120) -> None:
    """Write a figure atomically, in the format of its suffix.

    Raises:
        OutputError: it cannot be written.
        SettingsError: matplotlib has no such format.
    """
    data = io.BytesIO()
    try:
        figure.savefig(data, format=path.suffix.lower().lstrip(".") or "png", dpi=dpi)
    except ValueError as error:
        raise SettingsError(f"{path}: {error}; give a name that ends in .png") from error
    with output_errors(path):
        write_bytes(path, data.getvalue())
