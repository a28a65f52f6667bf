"""Evaluation: finding and checking pairs, one row per pair in order, crashes of worker processes,
and the command.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import click.testing
import numpy as np
import pytest
import soundfile

from audioae.cli import main
from audioae.errors import AudioaeError, AudioFileError, DataError, DependencyError, SettingsError
from audioae.evaluation import Mean, Pair, PairRow, check_pair, evaluate, read_pairs, summarise
from audioae.evaluation.metrics import Score, si_sdr
from audioae.evaluation.workers import score_channels

RATE = 16000
NAMES = ["a", "b", "c"]


def untouched(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    return waveform


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """noisy/ and clean/ with three stereo files of 0.5 s at 20, 10 and 0 dB SNR, and pairs.csv,
    which lists them in reverse order.
    """
    rng = np.random.default_rng(0)
    for side in ("noisy", "clean"):
        (tmp_path / side).mkdir()
    for place, name in enumerate(NAMES):
        clean = 0.1 * rng.standard_normal((RATE // 2, 2))
        noisy = clean + 0.01 * 10 ** (place / 2) * rng.standard_normal(clean.shape)
        for side, waveform in (("clean", clean), ("noisy", noisy)):
            soundfile.write(tmp_path / side / f"{name}.wav", waveform, RATE, "FLOAT")
    lines = [f"noisy/{name}.wav,{name},clean/{name}.wav" for name in reversed(NAMES)]
    (tmp_path / "pairs.csv").write_text(
        "\n".join(["noisy,speaker,clean", *lines]) + "\n", encoding="utf-8-sig"
    )
    return tmp_path


# --- pairs ---


def test_pairs_come_from_a_folder_in_order_and_from_a_table_in_its_order(folder: Path) -> None:
    assert [pair.name for pair in read_pairs(folder)] == NAMES
    assert [pair.name for pair in read_pairs(folder / "pairs.csv")] == NAMES[::-1]
    assert (
        read_pairs(folder)[0]
        == Pair("a", folder / "noisy" / "a.wav", folder / "clean" / "a.wav")
        == read_pairs(folder / "pairs.csv")[2]
    )


def test_files_in_subfolders_are_paired_and_keep_unique_names(folder: Path) -> None:
    for side in ("noisy", "clean"):
        (folder / side / "more").mkdir()
        (folder / side / "more" / "a.wav").write_bytes((folder / side / "a.wav").read_bytes())
        (folder / side / ".hidden").write_text("no sound")
    assert [pair.name for pair in read_pairs(folder)] == [
        str(Path("noisy/a.wav")),
        "b",
        "c",
        str(Path("noisy/more/a.wav")),
    ]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("noisy,other\na,b\n", "no column clean.*noisy, other"),
        ("", "no column clean and noisy"),
        ("noisy,clean\n", "no pairs"),
        ("noisy,clean\na.wav,\n", "row 1"),
        ("noisy,clean\na.wav\n", "row 1"),
    ],
)
def test_tables_without_pairs_are_errors(table: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text(table)
    with pytest.raises(DataError, match=message):
        read_pairs(tmp_path / "pairs.csv")


def test_other_formats_and_missing_files_are_errors(folder: Path) -> None:
    with pytest.raises(DataError, match="CSV"):
        read_pairs(folder / "noisy" / "a.wav")
    with pytest.raises(DataError, match="nowhere"):
        read_pairs(folder / "nowhere")
    with pytest.raises(DataError, match="subfolder noisy"):
        read_pairs(folder / "clean")
    (folder / "clean" / "b.wav").unlink()
    with pytest.raises(DataError, match=r"clean.b\.wav"):
        read_pairs(folder)


@pytest.mark.parametrize(
    ("samples", "channels", "rate", "message"),
    [
        (7999, 2, RATE, "pair b.* 8000 samples.* 7999"),
        (8000, 1, RATE, "pair b.* 2 channels.* 1"),
        (8000, 2, 8000, "pair b.* 16000 Hz.* 8000"),
    ],
)
def test_a_pair_that_does_not_match_is_an_error_before_any_work(
    samples: int, channels: int, rate: int, message: str, folder: Path
) -> None:
    soundfile.write(folder / "clean" / "b.wav", np.zeros((samples, channels)), rate)
    pairs = read_pairs(folder)
    with pytest.raises(DataError, match=message):
        check_pair(pairs[1])
    with pytest.raises(DataError, match=message):
        evaluate(pairs, lambda *_: pytest.fail("computed"), metrics=["snr"])


# --- rows ---


def test_rows_are_in_order_and_have_the_metrics_of_both_sides(folder: Path) -> None:
    pairs, rates = read_pairs(folder / "pairs.csv"), []

    def halve_the_noise(noisy: np.ndarray, sample_rate: int) -> np.ndarray:
        rates.append(sample_rate)
        clean = soundfile.read(pairs[len(rates) - 1].clean, dtype="float32")[0].T
        return (noisy + clean) / 2

    rows = list(evaluate(pairs, halve_the_noise, metrics=["snr", "si_sdr"], jobs=2))
    assert [(row.name, row.sample_rate, row.seconds) for row in rows] == [
        (name, RATE, 0.5) for name in NAMES[::-1]
    ]
    assert rates == [RATE] * 3
    for row, expected in zip(rows, [0, 10, 20], strict=True):
        assert row.noisy["snr"] == pytest.approx(expected, abs=0.3)
        assert row.enhanced["snr"] == pytest.approx(row.noisy["snr"] + 6.02, abs=0.01)
        assert row.reasons == {}
    noisy, clean = (
        soundfile.read(path, dtype="float32")[0].T for path in (pairs[0].noisy, pairs[0].clean)
    )
    assert rows[0].noisy["si_sdr"] == pytest.approx(
        np.mean([si_sdr(*pair) for pair in zip(noisy, clean, strict=True)])
    )


def test_a_metric_that_cannot_be_computed_is_null_with_its_reason(folder: Path) -> None:
    pytest.importorskip("pesq")
    quarter = {
        side: soundfile.read(folder / side / "b.wav", frames=2000)[0] for side in ("noisy", "clean")
    }
    for side, waveform in quarter.items():
        soundfile.write(folder / side / "b.wav", waveform, RATE, "FLOAT")
    (row,) = evaluate(read_pairs(folder)[1:2], untouched, metrics=["pesq_wb", "snr"])
    assert row.noisy["pesq_wb"] is None
    assert row.enhanced["snr"] == pytest.approx(10, abs=0.5)
    assert row.reasons.keys() == {"noisy.pesq_wb", "enhanced.pesq_wb"}
    assert "1/4 of a second" in row.reasons["noisy.pesq_wb"]
    assert json.loads(json.dumps(row.to_dict()))["noisy"]["pesq_wb"] is None


def test_one_channel_without_a_value_makes_the_file_without(folder: Path) -> None:
    clean = 0.1 * np.random.default_rng(0).standard_normal((2, 1000), np.float32)
    clean[1] = 0
    found = score_channels(clean + 0.1, clean, RATE, ["snr", "lsd"])
    assert found["snr"] == Score(None, "reference is silent")


def test_nothing_is_scored_with_unknown_metrics_missing_packages_or_no_jobs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = read_pairs(folder)
    with pytest.raises(SettingsError, match="'snr'"):
        evaluate(pairs, untouched, metrics=["snrr"])
    with pytest.raises(SettingsError, match="jobs"):
        evaluate(pairs, untouched, metrics=["snr"], jobs=0)
    monkeypatch.setitem(__import__("sys").modules, "pystoi", None)
    with pytest.raises(DependencyError, match=r"pip install 'audioae\[metrics\]'"):
        evaluate(pairs, untouched, metrics=["stoi"])


def test_a_denoiser_that_changes_the_shape_is_an_error_with_the_pair(folder: Path) -> None:
    with pytest.raises(DataError, match=r"pair a.*\[2, 7999\].*\[2, 8000\]"):
        list(evaluate(read_pairs(folder), lambda waveform, rate: waveform[:, :-1], metrics=["snr"]))


# --- crashes ---


def crash_on_pesq(
    estimate: np.ndarray, reference: np.ndarray, sample_rate: int, names: Sequence[str]
) -> dict[str, Score]:
    """Ends the process, as a crash in C code would, for one metric on the pair at 0 dB."""
    if "pesq_wb" in names and np.mean((estimate - reference) ** 2) > 0.005:
        os._exit(9)
    return {name: Score(1.0) for name in names}


def never_start() -> None:
    raise RuntimeError("no process today")


def test_a_crash_costs_only_the_metric_that_crashed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pesq")
    monkeypatch.setattr("audioae.evaluation.workers.score_channels", crash_on_pesq)
    pairs = read_pairs(folder / "pairs.csv")  # the pair that crashes is the first
    rows = list(evaluate([*pairs, *pairs[1:]], untouched, metrics=["pesq_wb", "snr"], jobs=1))
    assert [row.noisy for row in rows] == [{"pesq_wb": None, "snr": 1}] + [
        {"pesq_wb": 1, "snr": 1}
    ] * 4
    assert all("crashed" in reason for reason in rows[0].reasons.values())
    assert set(rows[0].reasons) == {"noisy.pesq_wb", "enhanced.pesq_wb"}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_processes_that_do_not_start_are_an_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audioae.evaluation.workers._ignore_interrupts", never_start)
    with pytest.raises(AudioaeError, match="__main__"):
        list(evaluate(read_pairs(folder)[:1], untouched, metrics=["snr"]))


def threads_allowed(
    estimate: np.ndarray, reference: np.ndarray, sample_rate: int, names: Sequence[str]
) -> dict[str, Score]:
    return {name: Score(float(os.environ["OPENBLAS_NUM_THREADS"])) for name in names}


def test_workers_have_one_thread_each_and_the_caller_keeps_its_setting(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audioae.evaluation.workers.score_channels", threads_allowed)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "7")
    row = next(iter(evaluate(read_pairs(folder)[:1], untouched, metrics=["snr"])))
    assert row.noisy == {"snr": 1}
    assert os.environ["OPENBLAS_NUM_THREADS"] == "7"


# --- means ---


def row(noisy: float | None, enhanced: float | None) -> PairRow:
    return PairRow("x", RATE, 1.0, {"snr": noisy}, {"snr": enhanced}, {})


def test_means_are_over_known_values() -> None:
    means = summarise([row(1, None), row(2, 4), row(None, None)])["snr"]
    assert (means.noisy.value, means.noisy.count, means.noisy.median) == (1.5, 2, 1.5)
    assert means.enhanced == Mean(4, 1, 4)
    assert means.change == Mean(2, 1, 2)
    assert summarise([row(None, 1)])["snr"].noisy == Mean(None, 0)
    assert summarise([]) == {}


# --- the command ---


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A model that returns its input."""
    monkeypatch.setattr(
        "audioae.denoising.ready_engine",
        lambda model, *, device: SimpleNamespace(info=SimpleNamespace(name=model)),
    )
    monkeypatch.setattr("audioae.denoising.denoise", lambda waveform, rate, **_: waveform)
    yield


def run(*args: object) -> click.testing.Result:
    return click.testing.CliRunner().invoke(main, ["evaluate", *map(str, args)])


@pytest.mark.usefixtures("model")
def test_the_command_prints_one_json_object_and_writes_rows(folder: Path) -> None:
    rows = folder / "rows.jsonl"
    options = ["--json", "--rows", rows, "-j", 1, "--limit", 2, "--progress", "json"]
    result = run("--model", "same", "--pairs", folder, "--metrics", "snr,lsd", *options)
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["model"], told["count"], [one["name"] for one in told["rows"]]) == (
        "same",
        2,
        ["a", "b"],
    )
    assert told["means"]["snr"]["unit"] == "dB"
    assert told["means"]["snr"]["noisy"] == told["means"]["snr"]["enhanced"]
    assert told["means"]["snr"]["noisy"]["count"] == 2
    assert told["means"]["snr"]["noisy"]["value"] == pytest.approx(15, abs=0.3)
    assert [json.loads(line) for line in rows.read_text().splitlines()] == told["rows"]
    assert json.loads(result.stderr.splitlines()[-1])["done"] == 2


@pytest.mark.usefixtures("model")
def test_the_command_prints_a_table_with_means_and_warns_of_missing_values(folder: Path) -> None:
    soundfile.write(folder / "clean" / "c.wav", np.zeros((8000, 2)), RATE, "FLOAT")
    result = run("-m", "same", "--pairs", folder, "--metrics", "snr", "-j", 1)
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines() if line.strip()]
    assert [line[0] for line in lines if "->" in line and line[0] != "same"] == [
        "a",
        "b",
        "c",
        "mean",
    ]
    assert ["c", "0.5", "none", "->", "none"] in lines
    assert next(line for line in lines if line[0] == "mean")[-3:] == ["(of", "2,", "2)"]
    [warning] = [line for line in result.stderr.splitlines() if "noisy.snr" in line]
    assert "1 of 3" in warning and "first c" in warning and "silent" in warning


def crash_on_the_third() -> Callable[..., np.ndarray]:
    """A denoiser with a bug."""
    calls = iter(range(100))

    def denoise(waveform: np.ndarray, rate: int, **_: object) -> np.ndarray:
        if next(calls) == 2:
            raise RuntimeError("a bug")
        return waveform

    return denoise


@pytest.mark.usefixtures("model")
def test_the_rows_file_is_overwritten_only_on_request_and_never_incomplete(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = folder / "rows.jsonl"
    rows.write_text("mine\n")
    result = run("-m", "same", "--pairs", folder, "--metrics", "snr", "--rows", rows)
    assert (result.exit_code, rows.read_text()) == (1, "mine\n")
    assert "--overwrite" in result.stderr
    monkeypatch.setattr("audioae.denoising.denoise", crash_on_the_third())
    result = run("-m", "same", "--pairs", folder, "--metrics", "snr", "--rows", rows, "--overwrite")
    assert (result.exit_code, rows.read_text()) == (1, "mine\n")
    assert [path.name for path in folder.iterdir() if "rows" in path.name] == ["rows.jsonl"]
    assert (
        run("-m", "same", "--pairs", folder, "--rows", folder / "none" / "rows.jsonl").exit_code
        == 1
    )


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize(
    ("args", "exit_code", "message"),
    [
        (["--pairs", "nowhere", "--metrics", "snr"], 1, "nowhere"),
        (["--pairs", "{}", "--metrics", "snrr"], 2, "'snr'"),
        (["--pairs", "{}", "--metrics", ","], 2, "pesq_wb"),
        ([], 2, "--pairs"),
    ],
)
def test_errors_have_the_right_exit_code_and_no_output(
    args: list[str], exit_code: int, message: str, folder: Path
) -> None:
    result = run(*(arg.format(folder) for arg in args))
    assert result.exit_code == exit_code
    assert message in result.stderr
    assert result.stdout == ""


@pytest.mark.usefixtures("model")
def test_a_missing_package_is_exit_code_3(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pesq", None)
    result = run("-m", "same", "--pairs", folder)
    assert result.exit_code == 3
    assert "pip install 'audioae[metrics]'" in result.stderr


def test_help_lists_every_metric_and_the_default() -> None:
    from audioae.evaluation.metrics import DEFAULT_METRICS, METRICS

    text = " ".join(run("--help").stdout.split())
    assert all(name in text for name in METRICS)
    assert f"[default: {','.join(DEFAULT_METRICS)}]" in text.replace(" ]", "]")


def test_a_pair_that_is_not_audio_is_an_error_with_its_path(folder: Path) -> None:
    (folder / "noisy" / "b.wav").write_text("no sound")
    with pytest.raises(AudioFileError, match=r"b\.wav"):
        evaluate(read_pairs(folder), untouched, metrics=["snr"])


def test_rows_come_while_later_pairs_still_wait(folder: Path) -> None:
    asked: list[float] = []

    def note(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
        asked.append(time.monotonic())
        return waveform

    pairs = read_pairs(folder) * 3
    next(iter(evaluate(pairs, note, metrics=["snr"], jobs=1)))
    assert len(asked) < len(pairs)
