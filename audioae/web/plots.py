"""Plots of one or two recordings: waveforms and spectrograms, drawn by matplotlib and librosa from
a limited number of columns. A figure is written as PNG, SVG or HTML.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from audioae import __version__
from audioae.errors import SettingsError, nearest, require
from audioae.fields import check_settings
from audioae.storage import output_errors, write_bytes
from audioae.web.columns import Peaks, Spectrogram, column_samples, decibels
from audioae.web.page import shown
from audioae.web.pairing import Pair

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FrequencyAxis = Literal["linear", "log", "mel"]
FORMATS = (".png", ".svg", ".html")
MOST_COLUMNS = 1500  # of a spectrogram or a waveform
PER_SECOND = 400
MEL_BANDS = 128
DIFFERENCE_DB = 40.0  # range of the difference of two recordings, up and down
COLOURS = {"before": "#5c6b7e", "after": "#0b7285", "removed": "#b04a00"}


@dataclass(frozen=True)
class PlotSettings:
    """Settings of a plot of recordings.

    Args:
        axis: of the frequencies.
        range_db: of the spectrogram, below its loudest part.

    Raises:
        SettingsError: an unknown axis, or a range that is not 1 to 200 dB.
    """

    axis: FrequencyAxis = "mel"
    range_db: float = 80.0

    def __post_init__(self) -> None:
        check_settings(self, {"range_db": (1.0, 200.0)})


def plot_recordings(paths: Sequence[Path], settings: PlotSettings | None = None) -> Figure:
    """Plot a recording, or two side by side with their difference.

    The recordings are read block by block; memory does not depend on their length. Channels are
    mixed down to one. Two recordings are aligned, and resampled if their sample rates differ.

    Args:
        paths: one or two recordings; of two, the second is the denoised one.
        settings: None is the default.

    Raises:
        AudioFileError: a recording cannot be read.
        DependencyError: matplotlib or librosa is not installed.
        SettingsError: more than two recordings.
    """
    if not 1 <= len(paths) <= 2:
        raise SettingsError(f"got {len(paths)} recordings; expected one, or two to compare")
    settings = settings or PlotSettings()
    figure_class = require("matplotlib.figure", extra="plots").Figure
    require("librosa.display", extra="plots")
    before, after = paths[0], paths[1] if len(paths) == 2 else None
    with Pair(before, after, stereo=False) as pair:
        peaks, spectrogram = _read(pair)
        rate, seconds = pair.sample_rate, pair.seconds
        names = [each.path.name for each in pair.facts]
        if len(set(names)) < len(names):  # of two folders
            names = [f"{each.path.parent.name}/{each.path.name}" for each in pair.facts]
    powers = _on_axis(spectrogram, settings.axis)
    titles = [*names, "difference"][: len(peaks)]
    figure: Figure = figure_class(figsize=(4.6 * len(peaks) + 1.4, 6.2), layout="constrained")
    axes = figure.subplots(2, len(peaks), height_ratios=(1, 2.6), squeeze=False, sharex=True)
    top = max((float(each.max()) for each in powers[:2] if each.size), default=0.0)
    for column, (name, title) in enumerate(zip(peaks, titles, strict=True)):
        _draw_waveform(axes[0, column], peaks[name], rate, COLOURS[name])
        axes[0, column].set_title(_title(title), fontsize=11)
    limit = max([1e-3, *(float(np.abs(_both(each)).max(initial=0)) for each in peaks.values())])
    for each in axes[0]:
        each.set_ylim(-limit, limit)
        each.set_xlim(0, max(seconds, 1 / rate))
    images = [
        _draw_spectrogram(
            axes[1, column], power, spectrogram, settings.axis, (-settings.range_db, 0)
        )
        for column, power in enumerate(np.maximum(each - top, -200) for each in powers[:2])
    ]
    if images[0] is not None:
        figure.colorbar(images[0], ax=axes[1, : len(images)], label="dB", pad=0.02)
    if len(peaks) == 3:
        floor = top - settings.range_db
        change = np.maximum(powers[1], floor) - np.maximum(powers[0], floor)
        span = (-DIFFERENCE_DB, DIFFERENCE_DB)
        image = _draw_spectrogram(axes[1, 2], change, spectrogram, settings.axis, span, "RdBu_r")
        if image is not None:
            figure.colorbar(image, ax=axes[1, 2], label="after − before, dB", pad=0.02)
    for each in axes[1]:
        each.set_xlabel("time, s" if seconds < 60 else "time, min:s")
    for each in axes[:, 1:].flat:
        each.set_ylabel("")
    return figure


def _read(pair: Pair) -> tuple[dict[str, Peaks], Spectrogram]:
    """The waveforms and the spectrogram of one or two recordings."""
    rate, total = pair.sample_rate, pair.num_samples
    step = column_samples(total, rate, per_second=PER_SECOND, most=MOST_COLUMNS)
    is_pair = len(pair.facts) == 2
    names = ["before", "after", "removed"] if is_pair else ["before"]
    peaks = {name: Peaks(total, step) for name in names}
    spectrogram = Spectrogram(rate, total, step, count=2 if is_pair else 1)
    for span in pair.blocks():
        signals = [span.before]
        peaks["before"].add(span.before)
        if span.after is not None:
            signals.append(span.after)
            peaks["after"].add(span.after)
            peaks["removed"].add(span.before - span.after)
        spectrogram.add(signals)
    return peaks, spectrogram


def _on_axis(spectrogram: Spectrogram, axis: FrequencyAxis) -> list[npt.NDArray[np.float32]]:
    """The spectrograms in dB, `[bands, columns]` each."""
    power = spectrogram.finish()
    if axis == "mel" and power.size:
        filters = require("librosa", extra="plots").filters
        weights = filters.mel(
            sr=spectrogram.sample_rate, n_fft=spectrogram.n_fft, n_mels=_mel_bands(spectrogram)
        )
        weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)
        power = power @ weights.T
    return [decibels(each.T) for each in power]


def _mel_bands(spectrogram: Spectrogram) -> int:
    """As many bands as the transform can resolve."""
    return min(MEL_BANDS, max(spectrogram.n_fft // 8, 8))


def _both(peaks: Peaks) -> npt.NDArray[np.float32]:
    return np.stack([peaks.low, peaks.high])


def _draw_waveform(axes: Axes, peaks: Peaks, rate: int, colour: str) -> None:
    times = np.arange(len(peaks.low)) * peaks.step / rate
    axes.fill_between(times, peaks.low, peaks.high, color=colour, linewidth=0.4, rasterized=True)
    axes.grid(alpha=0.3)
    axes.set_ylabel("amplitude")


def _draw_spectrogram(
    axes: Axes,
    values: npt.NDArray[np.float32],
    spectrogram: Spectrogram,
    axis: FrequencyAxis,
    limits: tuple[float, float],
    colours: str = "magma",
) -> Any:
    """Draw values in dB, `[bands, columns]`; returns the image, or None without columns."""
    if not values.size:
        return None
    display = require("librosa.display", extra="plots")
    image = display.specshow(
        values,
        sr=spectrogram.sample_rate,
        hop_length=spectrogram.step,
        n_fft=spectrogram.n_fft,
        x_axis="time",
        y_axis=axis,
        ax=axes,
        cmap=colours,
        vmin=limits[0],
        vmax=limits[1],
        rasterized=True,
    )
    axes.set_ylabel("frequency, Hz")
    return image


def _title(name: str) -> str:
    """A file name as matplotlib shows it: not as mathematics, not too long."""
    text = name.encode("utf-8", "replace").decode("utf-8").replace("$", r"\$")
    text = "".join(each if each.isprintable() else "\ufffd" for each in text)
    return text if len(text) <= 40 else text[:19] + "…" + text[-20:]


def check_format(path: Path) -> str:
    """The suffix of a figure. Raises `SettingsError` unless it is .png, .svg or .html."""
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise SettingsError(
            f"{path} has the suffix {suffix!r}{nearest(suffix, FORMATS)}; expected "
            f"{', '.join(FORMATS)}"
        )
    return suffix


def write_figure(
    figure: Figure,
    path: Path,
    *,
    description: str,
    values: Sequence[Sequence[str]] = (),
    dpi: float = 110,
) -> int:
    """Write a figure as PNG, SVG or a self-contained HTML page, by its suffix.

    Args:
        description: of the figure, for readers of the page who do not see it.
        values: rows of a table that a page holds too; the first one is its heading.
        dpi: pixels per inch of a PNG image, and of the spectrograms in an SVG image.

    Returns:
        Bytes written.

    Raises:
        OutputError: it cannot be written.
        SettingsError: another suffix.
    """
    suffix, buffer = check_format(path), io.BytesIO()
    kind = "png" if suffix == ".png" else "svg"
    metadata = {} if kind == "png" else {"Date": None}
    matplotlib = require("matplotlib", extra="plots")
    with matplotlib.rc_context({"svg.hashsalt": "audioae"}):  # the same figure: the same bytes
        figure.savefig(buffer, format=kind, dpi=dpi, metadata=metadata)
    data = buffer.getvalue()
    if suffix == ".html":
        data = _figure_page(path.stem, description, data, values).encode("utf-8", "replace")
    with output_errors(path):
        write_bytes(path, data)
    return len(data)


PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="audioae {version}">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ max-width: 90rem; margin: 0 auto; padding: 1rem; font: 1rem/1.5 system-ui, sans-serif; }}
img {{ display: block; max-width: 100%; background: #ffffff; border-radius: 0.5rem; }}
h1 {{ font-size: 1.4rem; overflow-wrap: anywhere; }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ padding: 0.2rem 0.8rem 0.2rem 0; text-align: right; border-bottom: 1px solid #8886; }}
</style>
</head>
<body>
<main>
<h1>{title}</h1>
<img alt="{description}" src="data:image/svg+xml;base64,{image}">
{table}</main>
</body>
</html>
"""


def _figure_page(
    title: str, description: str, image: bytes, values: Sequence[Sequence[str]]
) -> str:
    return PAGE.format(
        version=__version__,
        title=shown(title),
        description=shown(description),
        image=base64.b64encode(image).decode("ascii"),
        table=_table(values),
    )


def _table(values: Sequence[Sequence[str]]) -> str:
    if not values:
        return ""
    head = "".join(f'<th scope="col">{shown(each)}</th>' for each in values[0])
    rows = "".join(
        "<tr>" + "".join(f"<td>{shown(each)}</td>" for each in row) + "</tr>\n"
        for row in values[1:]
    )
    return (
        "<details>\n<summary>Values</summary>\n"
        '<div class="scroll" tabindex="0" role="group" aria-label="Values">'
        f"<table><thead><tr>{head}</tr></thead>\n"
        f"<tbody>{rows}</tbody></table></div>\n</details>\n"
    )
