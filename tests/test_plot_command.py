"""`audioae plot`: recordings, pairs, histories and tables as PNG, SVG and HTML; errors."""

from __future__ import annotations

import builtins
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from audioae.cli import main

pytest.importorskip("matplotlib", reason="the extra plots is not installed")
pytest.importorskip("librosa", reason="the extra plots is not installed")

from audioae.errors import DataError, SettingsError
from audioae.web.charts import ChartSettings, choose_panels, plot_tables, read_table
from audioae.web.plots import PlotSettings, plot_recordings

RATE = 16000
STARTS = {".png": b"\x89PNG", ".svg": b"<?xml", ".html": b"<!doctype html>"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with a tone of 1 kHz in noise, and the tone alone."""
    time = np.arange(2 * RATE) / RATE
    tone = 0.3 * np.sin(2 * np.pi * 1000 * time)
    noise = np.random.default_rng(0).normal(0, 0.03, len(time))
    soundfile.write(tmp_path / "noisy.wav", tone + noise, RATE)
    soundfile.write(tmp_path / "tone.wav", tone, RATE)
    monkeypatch.chdir(tmp_path)
    yield tmp_path


@pytest.fixture
def runs(folder: Path) -> list[Path]:
    """Two run folders with a history each."""
    for name, gain in (("run-a", 1.0), ("run-b", 2.0)):
        rows: list[dict[str, Any]] = [{"step": 0, "noisy_loss": 2.0, "noisy_si_sdr": 1.0}]
        for step in (100, 200, 300):
            scores = {"loss": gain / step, "valid_loss": 2 * gain / step, "valid_si_sdr": step / 20}
            rows.append({"step": step, **scores, "valid_pesq": None, "seconds": 2.0 * step})
        (folder / name).mkdir()
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / name / "history.jsonl").write_text(text)
    return [folder / "run-a", folder / "run-b"]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["plot", *map(str, arguments)], prog_name="audioae")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def spectrogram(figure: Any, column: int) -> np.ndarray:
    """The values in dB of a spectrogram in a figure, `[bands, columns]`."""
    axes = [each for each in figure.axes if each.get_ylabel() or each.collections]
    meshes = [each for one in axes for each in one.collections if hasattr(each, "get_coordinates")]
    return np.asarray(meshes[column].get_array())


@pytest.mark.parametrize("suffix", STARTS)
@pytest.mark.parametrize("inputs", [["noisy.wav"], ["noisy.wav", "tone.wav"]], ids=len)
def test_recordings_as_each_format(folder: Path, inputs: list[str], suffix: str) -> None:
    ended = run(*inputs, "-o", f"figure{suffix}", "--json", "--dpi", "40")
    assert ended.exit_code == 0, ended.output
    data = (folder / f"figure{suffix}").read_bytes()
    assert data.startswith(STARTS[suffix])
    values = json.loads(ended.stdout)
    assert values["num_bytes"] == len(data) and values["inputs"] == inputs
    if suffix == ".html":
        assert b"default-src 'none'" in data and b'alt="' in data


@pytest.mark.parametrize("axis", ["linear", "log", "mel"])
def test_a_tone_is_at_its_frequency(folder: Path, axis: Any) -> None:
    figure = plot_recordings([folder / "tone.wav"], PlotSettings(axis))
    values = spectrogram(figure, 0)
    mesh = [
        each for one in figure.axes for each in one.collections if hasattr(each, "get_coordinates")
    ]
    edges = mesh[0].get_coordinates()[:, 0, 1]
    row = values[:, 20:-20].mean(axis=1).argmax()
    low, high = edges[max(row - 1, 0)], edges[min(row + 2, len(edges) - 1)]
    assert low < 1000 < high and high - low < 250
    assert values.max() == pytest.approx(0, abs=0.1)


def test_the_difference_shows_what_is_removed(folder: Path) -> None:
    figure = plot_recordings([folder / "noisy.wav", folder / "tone.wav"], PlotSettings("linear"))
    change = spectrogram(figure, 2)[:, 5:-5]
    tone = round(1000 / (RATE / 2) * (len(change) - 1))
    assert abs(change[tone].mean()) < 1
    assert np.median(change) < -15


def test_recordings_of_one_name_are_told_by_their_folders(folder: Path) -> None:
    for name in ("before", "after"):
        (folder / name).mkdir()
        (folder / name / "a.wav").write_bytes((folder / "tone.wav").read_bytes())
    figure = plot_recordings([folder / "before" / "a.wav", folder / "after" / "a.wav"])
    assert [axes.get_title() for axes in figure.axes[:2]] == ["before/a.wav", "after/a.wav"]


def test_the_same_figure_is_the_same_bytes(folder: Path) -> None:
    for name in ("a.svg", "b.svg"):
        assert run("noisy.wav", "-o", name).exit_code == 0
    assert (folder / "a.svg").read_bytes() == (folder / "b.svg").read_bytes()


@pytest.mark.parametrize("num_samples", [1, 0, 300])
def test_short_silent_and_multichannel_recordings(folder: Path, num_samples: int) -> None:
    soundfile.write(folder / "short.wav", np.zeros((num_samples, 4)), 8000)
    for inputs in (["short.wav"], ["short.wav", "noisy.wav"]):
        ended = run(*inputs, "-o", "figure.png", "--overwrite", "--dpi", "30")
        assert ended.exit_code == 0, ended.output


def test_names_are_no_mathematics(folder: Path) -> None:
    name = "a $x_1$ \\frac <b>\n.wav"
    (folder / "tone.wav").rename(folder / name)
    ended = run(name, "-o", "figure.html", "--dpi", "30")
    assert ended.exit_code == 0, ended.output
    assert "<b>" not in (folder / "figure.html").read_text(encoding="utf-8")


def test_columns_are_limited(folder: Path) -> None:
    soundfile.write(folder / "long.wav", np.zeros(120 * 8000), 8000)
    figure = plot_recordings([folder / "long.wav"])
    assert spectrogram(figure, 0).shape[1] <= 1500


# --- Histories and tables


def test_a_history_has_a_panel_per_score(runs: list[Path]) -> None:
    table = read_table(runs[0])
    assert table.is_history and table.name == "run-a"
    panels = choose_panels([table], ChartSettings())
    assert [(panel.title, panel.columns) for panel in panels] == [
        ("loss", ("loss", "valid_loss")),
        ("SI-SDR, dB", ("valid_si_sdr",)),
    ]
    figure = plot_tables([table])
    lines = figure.axes[0].lines
    assert [list(line.get_xdata()) for line in lines[:2]] == [[100, 200, 300]] * 2
    assert lines[2].get_ydata()[0] == 2.0  # the noisy baseline


def test_several_runs_in_one_figure(runs: list[Path]) -> None:
    ended = run(runs[0], runs[1] / "history.jsonl", "-o", "runs.html", "--json")
    assert ended.exit_code == 0, ended.output
    assert json.loads(ended.stdout)["kind"] == "training"
    page = Path("runs.html").read_text()
    assert "<td>run-a</td>" in page and "<td>run-b</td>" in page
    labels = plot_tables([read_table(each) for each in runs]).axes[0].get_legend_handles_labels()[1]
    assert any("run-a" in label for label in labels) and any("run-b" in label for label in labels)


def test_columns_of_a_history(runs: list[Path]) -> None:
    table = read_table(runs[0])
    figure = plot_tables([table], ChartSettings(x="seconds", y=("valid_loss", "valid_si_sdr")))
    assert len(figure.axes) == 2
    assert list(figure.axes[1].lines[0].get_xdata()) == [200, 400, 600]


@pytest.mark.parametrize("kind", ["csv", "json", "tsv", "rows"])
def test_a_table_is_drawn_by_its_columns(folder: Path, kind: str) -> None:
    rows = [
        {"codec": codec, "kbps": kbps, "error": error}
        for codec, error in (("ours", 1.0), ("opus", 2.0))
        for kbps in (24, 6, 12)
    ]
    if kind in ("csv", "tsv"):
        comma = "," if kind == "csv" else "\t"
        lines = [comma.join(rows[0]), *(comma.join(map(str, row.values())) for row in rows)]
        path, text = folder / f"table.{kind}", "\n".join(lines)
    else:
        path = folder / "table.json"
        text = json.dumps({"rows": rows} if kind == "rows" else rows)
    path.write_text(text)
    table = read_table(path)
    figure = plot_tables([table], ChartSettings(scale="log"))
    (axes,) = figure.axes
    assert axes.get_xscale() == "log" and axes.get_xlabel() == "kbps"
    assert {line.get_label(): list(line.get_xdata()) for line in axes.lines} == {
        "ours": [6, 12, 24],
        "opus": [6, 12, 24],
    }
    ended = run(path, "-o", "t.svg", "--x", "error", "--y", "kbps", "--by", "codec")
    assert ended.exit_code == 0, ended.output


def test_nested_objects_are_columns(folder: Path) -> None:
    path = folder / "t.json"
    path.write_text(json.dumps([{"size": n, "mse": {"test": 1 / n}} for n in (1, 2, 4)]))
    figure = plot_tables([read_table(path)])
    assert figure.axes[0].get_ylabel() == "mse.test"


# --- Errors


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["noisy.wav", "-o", "figure.pdf"], 2, ".pdf"),
        (["noisy.wav"], 2, "-o"),
        (["missing.wav", "-o", "figure.png"], 1, "missing.wav"),
        (["noisy.wav", "tone.wav", "noisy.wav", "-o", "figure.png"], 2, "3"),
        (["noisy.wav", "table.csv", "-o", "figure.png"], 2, "tables"),
        (["table.csv", "-o", "figure.png", "--axis", "mel"], 2, "mel"),
        (["noisy.wav", "-o", "figure.png", "--x", "a"], 2, "--x"),
        (["table.csv", "-o", "figure.png", "--y", "bb"], 2, "'bb'"),
        (["table.csv", "-o", "figure.png", "--y", "name"], 1, "name"),
        (["empty.csv", "-o", "figure.png"], 1, "empty.csv"),
        (["broken.json", "-o", "figure.png"], 1, "broken.json"),
        (["binary.csv", "-o", "figure.png"], 1, "binary.csv"),
        (["nothing.jsonl", "-o", "figure.png"], 1, "nothing.jsonl"),
        (["noisy.wav", "-o", "figure.png", "--range", "0"], 2, "range_db"),
        (["noisy.wav", "-o", "no/figure.png"], 1, "no"),
        (["noisy.wav", "-o", "old.png"], 1, "--overwrite"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(
    folder: Path, arguments: list[str], code: int, word: str
) -> None:
    (folder / "table.csv").write_text("name,a,b\nx,1,2\ny,2,3\n")
    (folder / "empty.csv").write_text("")
    (folder / "broken.json").write_text("[1, 2")
    (folder / "binary.csv").write_bytes(b"\xff\xfe\x00")
    (folder / "old.png").write_text("mine")
    before = contents(folder)
    ended = run(*arguments)
    assert ended.exit_code == code and word in ended.stderr, ended.output
    assert [line for line in ended.stderr.splitlines() if line.startswith("Error")]
    assert contents(folder) == before


def test_without_matplotlib_the_error_names_the_extra(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == "matplotlib":
            raise ModuleNotFoundError(f"No module named {name!r}")
        return given(name, *rest)

    def missing(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == "matplotlib":
            raise ModuleNotFoundError(f"No module named {name!r}")
        raise AssertionError(name)

    monkeypatch.setattr(builtins, "__import__", refuse)
    monkeypatch.setattr("audioae.errors.importlib.import_module", missing)
    from audioae.errors import DependencyError
    from audioae.web import plots

    with pytest.raises(DependencyError, match=r"audioae\[plots\]"):
        plots.plot_recordings([folder / "noisy.wav"])
    assert DependencyError.exit_code == 3


def test_settings_are_checked() -> None:
    with pytest.raises(SettingsError):
        PlotSettings("bark")  # type: ignore[arg-type]
    with pytest.raises(DataError):
        read_table(Path("no/history.jsonl"))
