"""`audioae evaluate` with several systems, failed pairs, folders, recordings without a clean side,
a recogniser, and Ctrl-C.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click.testing
import numpy as np
import pytest
import soundfile

from audioae.audio import write
from audioae.cli import main
from audioae.cli.scores import csv_lines, open_new
from audioae.errors import DataError
from audioae.evaluation import PairRow, pair_folders, read_pairs, read_recordings, with_texts
from audioae.evaluation.pairs import align
from audioae.evaluation.summary import snr_band

RATE = 16000
SNRS = {"a": 20.0, "b": 10.0, "c": 0.0}


def noise(seed: int, *, seconds: float = 0.5, rate: int = RATE) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * rate))


def put(path: Path, waveform: np.ndarray, rate: int = RATE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, waveform, rate, "FLOAT" if path.suffix == ".wav" else None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """noisy/ and clean/ with three files at 20, 10 and 0 dB SNR, and a table with classes."""
    for place, (name, snr_db) in enumerate(SNRS.items()):
        clean = noise(place)
        put(tmp_path / "clean" / f"{name}.wav", clean)
        put(tmp_path / "noisy" / f"{name}.wav", clean + 10 ** (-snr_db / 20) * noise(place + 9))
    lines = [
        f"noisy/{name}.wav,clean/{name}.wav,{kind},{text}"
        for name, kind, text in zip(
            SNRS, ("rain", "fan", "rain"), ("one two", "one", "One, two three!"), strict=True
        )
    ]
    (tmp_path / "pairs.csv").write_text("noisy,clean,class,text\n" + "\n".join(lines) + "\n")
    return tmp_path


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Models whose output has the gain in their name."""
    monkeypatch.setattr(
        "audioae.denoising.ready_engine",
        lambda model, *, device: SimpleNamespace(info=SimpleNamespace(name=model or "1")),
    )
    monkeypatch.setattr(
        "audioae.denoising.denoise",
        lambda waveform, rate, *, model, settings: waveform * np.float32(model.info.name),
    )
    yield


def run(*args: object) -> click.testing.Result:
    return click.testing.CliRunner().invoke(main, ["evaluate", *map(str, args)])


def told(*args: object, exit_code: int = 0) -> dict[str, Any]:
    result = run(*args, "--json", "-j", 1)
    assert result.exit_code == exit_code, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


# --- recordings ---


def test_a_table_has_classes_snrs_and_texts(folder: Path) -> None:
    pairs = read_pairs(folder / "pairs.csv")
    assert [(pair.name, pair.group, pair.text) for pair in pairs[:2]] == [
        ("a", "rain", "one two"),
        ("b", "fan", "one"),
    ]
    table = folder / "more.csv"
    table.write_text("noisy,clean,snr_db,noise_kind,room\nn.wav,c.wav,-2.5,dog,hall\n")
    (pair,) = read_pairs(table)
    assert (pair.snr_db, pair.group, pair.text) == (-2.5, "dog", None)
    assert read_pairs(table, group_column="room")[0].group == "hall"
    with pytest.raises(DataError, match=r"'rooms'.*'room'"):
        read_pairs(table, group_column="rooms")
    with pytest.raises(DataError, match="class"):
        read_pairs(folder, group_column="class")
    table.write_text("noisy,clean,snr_db\nn.wav,c.wav,loud\n")
    with pytest.raises(DataError, match="'loud'"):
        read_pairs(table)


def test_folders_are_paired_by_stem_and_other_files_are_left_out(folder: Path) -> None:
    for name in SNRS:
        put(folder / "mine" / f"{name}.flac", noise(0))
        put(folder / "theirs" / f"{name}.ogg", noise(0))
    (folder / "mine" / "a.json").write_text("{}")
    pairs = pair_folders(folder / "clean", enhanced=[folder / "mine", folder / "theirs"])
    assert [pair.name for pair in pairs] == list(SNRS)
    assert {name: path.name for name, path in pairs[0].enhanced.items()} == {
        "mine": "a.flac",
        "theirs": "a.ogg",
    }
    assert pairs[0].noisy is None
    (folder / "mine" / "b.flac").unlink()
    with pytest.raises(DataError, match=r"mine.*b\.\*"):
        pair_folders(folder / "clean", enhanced=[folder / "mine"])
    put(folder / "mine" / "c.wav", noise(0))
    with pytest.raises(DataError, match=r"c\.wav.*c\.flac|c\.flac.*c\.wav"):
        pair_folders(folder / "clean", enhanced=[folder / "mine"])
    with pytest.raises(DataError, match="nowhere"):
        pair_folders(folder / "nowhere")


def test_recordings_without_a_clean_side_come_from_files_folders_and_tables(folder: Path) -> None:
    assert [one.name for one in read_recordings(folder / "noisy")] == list(SNRS)
    assert [one.name for one in read_recordings(folder / "noisy" / "b.wav")] == ["b"]
    recordings = read_recordings(folder / "pairs.csv")
    assert [(one.group, one.clean) for one in recordings] == [
        ("rain", None),
        ("fan", None),
        ("rain", None),
    ]
    (folder / "empty").mkdir()
    for place in ("empty", "nowhere"):
        with pytest.raises(DataError, match=place):
            read_recordings(folder / place)


def test_texts_come_from_a_folder(folder: Path) -> None:
    (folder / "texts").mkdir()
    for name in SNRS:
        (folder / "texts" / f"{name}.txt").write_text(f"I am\n {name}.\n")
    texts = [pair.text for pair in with_texts(read_pairs(folder), folder / "texts")]
    assert texts == ["I am a.", "I am b.", "I am c."]
    (folder / "texts" / "b.txt").unlink()
    with pytest.raises(DataError, match=r"b\.txt"):
        with_texts(read_pairs(folder), folder / "texts")


@pytest.mark.parametrize(("samples", "rate"), [(8000, 16000), (24000, 48000), (7200, 16000)])
def test_a_waveform_is_brought_to_the_rate_and_length_of_its_reference(
    samples: int, rate: int
) -> None:
    like = np.zeros((2, 8000), np.float32)
    assert align(np.ones((2, samples), np.float32), rate, like, RATE).shape == like.shape


def test_a_waveform_of_another_length_or_with_other_channels_is_refused() -> None:
    like = np.zeros((1, 8000), np.float32)
    with pytest.raises(DataError, match=r"0\.6"):
        align(np.ones((1, 9700), np.float32), RATE, like, RATE)
    with pytest.raises(DataError, match="2 channels"):
        align(np.ones((2, 8000), np.float32), RATE, like, RATE)


# --- the command ---


@pytest.mark.usefixtures("model")
def test_several_models_are_compared_pair_by_pair(folder: Path) -> None:
    table = folder / "scores.csv"
    found = told(
        *("-m", "1", "-m", "0.5", "--pairs", folder / "pairs.csv", "--metrics", "snr,si_sdr"),
        *("--csv", table),
    )
    assert [system["name"] for system in found["systems"]] == ["1", "0.5"]
    assert (found["count"], found["failed"]) == (3, 0)
    assert "means" not in found
    assert [(row["name"], row["system"]) for row in found["rows"]] == [
        (name, system) for name in SNRS for system in ("1", "0.5")
    ]
    (compared,) = found["comparisons"]
    assert (compared["first"], compared["second"]) == ("1", "0.5")
    assert compared["metrics"]["si_sdr"]["difference"]["value"] == pytest.approx(0, abs=1e-3)
    # Half the level: an error of -6 dB beside the noise.
    quiet = compared["metrics"]["snr"]
    expected = [-10 * np.log10(0.25 + 0.25 * 10 ** (-snr / 10)) - snr for snr in SNRS.values()]
    assert quiet["difference"]["value"] == pytest.approx(np.mean(expected), abs=0.2)
    first, _ = found["systems"]
    bands = [snr_band(row["snr_db"]) for row in found["rows"][::-2]]
    assert {band: part["count"] for band, part in first["snr_bands"].items()} == dict.fromkeys(
        bands, 1
    )
    assert list(first["snr_bands"]) == bands
    assert {name: part["count"] for name, part in first["classes"].items()} == {
        "fan": 1,
        "rain": 2,
    }
    lines = list(csv.DictReader(table.read_text().splitlines()))
    assert [(line["name"], line["system"], line["group"]) for line in lines[:2]] == [
        ("a", "1", "rain"),
        ("a", "0.5", "rain"),
    ]
    assert float(lines[0]["noisy_snr"]) == pytest.approx(20, abs=0.3)


def test_names_that_are_not_utf_8_are_escaped_in_the_table(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9, two")
    row = PairRow(name, RATE, 1.0, {"snr": None}, {"snr": 2.5}, {}, error="it is\nbroken")
    with open_new(tmp_path / "scores.csv", overwrite=False) as file:
        assert file is not None
        file.writelines(csv_lines([row]))
    (line,) = csv.DictReader((tmp_path / "scores.csv").read_text().splitlines(keepends=True))
    assert line["name"].encode("ascii", "replace").startswith(b"caf")
    assert "\\udce9" in line["name"] or "\\xe9" in line["name"]
    assert (line["noisy_snr"], line["enhanced_snr"]) == ("", "2.5")
    assert line["error"] == "it is\nbroken"


@pytest.mark.usefixtures("model")
def test_presets_and_qualities_are_systems(folder: Path) -> None:
    found = told(
        *("-m", "1", "--preset", "default", "--preset", "asr", "--quality", "fast"),
        *("--quality", "best", "--pairs", folder, "--metrics", "snr", "--limit", 1),
    )
    assert [system["name"] for system in found["systems"]] == [
        "1 default fast",
        "1 default best",
        "1 asr fast",
        "1 asr best",
    ]


@pytest.mark.usefixtures("model")
def test_the_tables_show_intervals_bands_classes_and_differences(folder: Path) -> None:
    result = run(
        *("-m", "1", "-m", "0.5", "--pairs", folder / "pairs.csv", "--metrics", "snr", "-j", 1)
    )
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines() if line.strip()]
    means = next(line for line in lines if line[:2] == ["snr", "dB"])
    assert means[3].startswith("[") and means[4].endswith("]")
    assert len(next(line for line in lines if line[0] == "median")) == 4
    assert len(next(line for line in lines if line[0] == "change")) == 7
    assert [line[0] for line in lines if line[0] in ("fan", "rain")] == ["fan", "rain"]
    assert any(line[0] == "from" for line in lines)
    assert any(line[-1] == "%" for line in lines)


@pytest.mark.usefixtures("model")
def test_a_bad_pair_is_one_failed_row_and_exit_code_1(folder: Path) -> None:
    (folder / "noisy" / "b.wav").write_text("no sound")
    put(folder / "clean" / "c.wav", noise(0, seconds=0.4))
    rows = folder / "rows.jsonl"
    found = told(*("-m", "1", "--pairs", folder, "--metrics", "snr", "--rows", rows), exit_code=1)
    good, bad, short = found["rows"]
    assert good["error"] is None
    assert good["enhanced"]["snr"] == pytest.approx(20, abs=0.3)
    assert "b.wav" in bad["error"]
    assert "8000" in short["error"] and "6400" in short["error"]
    assert bad["noisy"] == bad["enhanced"] == {"snr": None}
    assert (found["count"], found["failed"]) == (1, 2)
    assert found["means"]["snr"]["enhanced"]["count"] == 1
    assert [json.loads(line) for line in rows.read_text().splitlines()] == found["rows"]
    result = run("-m", "1", "--pairs", folder, "--metrics", "snr", "-j", 1)
    assert result.exit_code == 1
    assert [line for line in result.stderr.splitlines() if line.startswith("Error: b:")]
    assert any(line.split()[:2] == ["b", "failed"] for line in result.stdout.splitlines())


@pytest.mark.usefixtures("model")
def test_ctrl_c_keeps_what_is_complete(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def interrupt(waveform: np.ndarray, rate: int, **_: object) -> np.ndarray:
        calls.append(rate)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return waveform

    monkeypatch.setattr("audioae.denoising.denoise", interrupt)
    rows = folder / "rows.jsonl"
    found = told("-m", "1", "--pairs", folder, "--metrics", "snr", "--rows", rows, exit_code=130)
    assert len(found["rows"]) < 3
    assert found["rows"][0]["name"] == "a"
    assert [json.loads(line) for line in rows.read_text().splitlines()] == found["rows"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_files_of_other_programs_are_scored_at_any_rate_and_in_any_container(
    folder: Path,
) -> None:
    for name in SNRS:
        clean, _ = soundfile.read(folder / "clean" / f"{name}.wav", dtype="float32")
        noisy, _ = soundfile.read(folder / "noisy" / f"{name}.wav", dtype="float32")
        (folder / "flac").mkdir(exist_ok=True)
        write(folder / "flac" / f"{name}.flac", (clean + noisy) / 2, RATE)
        put(folder / "copy" / f"{name}.wav", noisy)
    put(folder / "copy" / "c.wav", np.zeros((8000, 2)))
    sources = ("--clean", folder / "clean", "--noisy", folder / "noisy")
    programs = ("--enhanced", folder / "flac", "--enhanced", folder / "copy")
    found = told(*sources, *programs, "--metrics", "snr", exit_code=1)
    assert [system["name"] for system in found["systems"]] == ["flac", "copy"]
    halved, same = (row for row in found["rows"] if row["name"] == "a")
    assert halved["enhanced"]["snr"] == pytest.approx(26, abs=0.3)
    assert same["enhanced"]["snr"] == same["noisy"]["snr"]
    (failed,) = [row for row in found["rows"] if row["error"]]
    assert (failed["name"], failed["system"]) == ("c", "copy")
    assert "2 channels" in failed["error"]
    assert failed["noisy"]["snr"] == pytest.approx(0, abs=0.3)
    alone = told("--clean", folder / "clean", *programs[:2], "--metrics", "snr")
    assert alone["model"] == "flac"
    assert alone["means"]["snr"]["noisy"]["count"] == 0
    assert alone["means"]["snr"]["enhanced"]["count"] == 3


def test_recordings_without_a_clean_side_get_dnsmos_and_the_verdict(tmp_path: Path) -> None:
    pytest.importorskip("speechmos.dnsmos", exc_type=ImportError)
    sample = Path(__file__).parents[1] / "samples" / "noisy.wav"
    (tmp_path / "noisy").mkdir()
    (tmp_path / "noisy" / "speech.wav").write_bytes(sample.read_bytes())
    (tmp_path / "noisy" / "broken.wav").write_bytes(sample.read_bytes()[:20])
    found = told(
        *("-m", "speech-small-16k", "--quality", "fast", "--noisy-only", tmp_path / "noisy"),
        exit_code=1,
    )
    broken, speech = found["rows"]
    assert broken["error"]
    names = {"dnsmos_sig", "dnsmos_bak", "dnsmos_ovrl", "dnsmos_p808"}
    assert speech["noisy"].keys() == speech["enhanced"].keys() == names
    assert speech["enhanced"]["dnsmos_bak"] > speech["noisy"]["dnsmos_bak"]
    assert speech["snr_db"] == speech["verdict"]["input_snr_db"]
    assert 0 <= speech["verdict"]["out_of_domain"] <= 1


def test_the_verdict_comes_with_the_same_samples(tmp_path: Path) -> None:
    from audioae import denoise, load_model
    from audioae.evaluation import WithVerdict

    engine = load_model("speech-small-16k")
    waveform = noise(0, seconds=2)[np.newaxis].astype(np.float32)
    with_verdict = WithVerdict(engine)
    assert np.array_equal(with_verdict(waveform, RATE), denoise(waveform, RATE, model=engine))
    assert with_verdict.verdict is not None
    assert with_verdict.verdict.mean_attenuation_db > 3


@pytest.mark.usefixtures("model")
def test_word_error_rates_by_a_command(folder: Path) -> None:
    pytest.importorskip("jiwer")
    script = folder / "recognise.py"
    # Hears as many words as the first sample of the file says, after the scale of the model.
    script.write_text(
        "import soundfile, sys\n"
        "for line in sys.stdin:\n"
        "    peak = abs(soundfile.read(line.strip())[0]).max()\n"
        "    print('one two' if peak > 0.25 else 'one', flush=True)\n"
    )
    command = f"'{sys.executable}' '{script}'"
    found = told(
        *("-m", "0.1", "--pairs", folder / "pairs.csv", "--metrics", "snr"),
        *("--asr-command", command, "--limit", 2),
    )
    first, second = found["rows"]
    assert first["texts"] == {"reference": "one two", "clean": "one two", "noisy": "one two"} | {
        "enhanced": "one"
    }
    assert (first["noisy"]["wer"], first["enhanced"]["wer"], first["words"]) == (0, 50, 2)
    assert (second["noisy"]["wer"], second["enhanced"]["wer"], second["words"]) == (100, 0, 1)
    wer = found["means"]["wer"]
    assert wer["unit"] == "%"
    assert [wer[side]["value"] for side in ("clean", "noisy", "enhanced")] == pytest.approx(
        [100 / 3] * 3
    )
    missing = told(
        *("-m", "1", "--pairs", folder, "--metrics", "snr", "--limit", 1),
        *("--asr-command", f"{command} fail"),
    )
    assert missing["rows"][0]["noisy"]["wer"] == 0  # the reference is heard in the clean recording
    assert missing["rows"][0]["clean"] == {}
    result = run("-m", "1", "--pairs", folder, "--asr-command", "/nowhere/asr {}", "-j", 1)
    assert result.exit_code == 3
    assert "/nowhere/asr" in result.stderr


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--pairs", "{}", "--noisy-only", "{}"], "--noisy-only"),
        (["--clean", "{}/clean"], "--enhanced"),
        (["--pairs", "{}", "--enhanced", "{}/noisy"], "--clean"),
        (["--clean", "{}/clean", "--enhanced", "{}/noisy", "-m", "1"], "--model"),
        (["--pairs", "{}", "--texts", "{}"], "--asr-command"),
        (["--noisy-only", "{}/noisy", "--metrics", "snr"], "snr"),
        (["--pairs", "{}", "--asr-command", "''"], "recogniser"),
        (["--clean", "{}/clean", "--noisy", "{}/noisy", "--class-column", "x"], "CSV"),
    ],
)
def test_impossible_combinations_are_usage_errors(
    args: list[str], message: str, folder: Path
) -> None:
    result = run(*(arg.format(folder) for arg in args))
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert result.stdout == ""
