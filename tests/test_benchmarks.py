"""The benchmarks measure known losses and clips correctly; their page agrees with the JSON."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click import UsageError
from click.testing import CliRunner
from fake_engines import FakeEngine, constant

from audioae.denoising import PRESETS, DenoiseSettings
from audioae.errors import DataError
from audioae.pretrained import list_denoisers, load_card
from audioae.signal.mixing import active_rms

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "docs"), str(ROOT / "tests" / "benchmarks")]

import benchmarks_page
import make_benchmarks
import recognition
from clips import LEVEL, Clip, Source, load_clips, make_music, mixture, spread
from honesty import (
    SNRS_DB,
    Cleaned,
    attenuation_db,
    clean_speech,
    file_cleaner,
    measure_honesty,
    noise_alone,
    silence,
    speech_in_noise,
)
from machine import installed_mib, required
from peers import PEERS, at_rate, denoiser, installed
from speech_kept import HIGH, SPEECH, WHOLE, Kept, find_frames, kept, level_change_db, spectrum
from speed import launch, run

RATE = 16000


def noise(seconds: float, *, seed: int = 0, level: float = 0.1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, level, round(seconds * RATE)).astype(np.float32)


def tone(hertz: float, seconds: float, *, level: float = 0.1) -> np.ndarray:
    return (
        level * np.sqrt(2) * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)
    ).astype(np.float32)


def speech(seed: int = 0) -> np.ndarray:
    """Three seconds: a word, a pause of half a second, a second word, and a hiss at the end."""
    pause = np.zeros(RATE // 2, np.float32)
    voice = [
        sum(tone(hertz + 7 * seed, 1.0, level=0.1) for hertz in (250, 500, 1100, 2300))
        for _ in range(2)
    ]
    hiss = noise(0.5, seed=seed, level=0.02)
    hiss = np.fft.irfft(
        np.fft.rfft(hiss) * (np.fft.rfftfreq(len(hiss), 1 / RATE) > 4000), len(hiss)
    ).astype(np.float32)
    return np.concatenate([voice[0], pause, voice[1], hiss])


def clips(count: int = 2) -> tuple[list[Clip], list[Clip]]:
    voices = [Clip(f"voice {seed}", f"speaker {seed}", speech(seed)) for seed in range(count)]
    return voices, [
        Clip(f"noise {seed}", f"class {seed}", noise(2.5, seed=seed, level=0.05))
        for seed in range(count)
    ]


# --- Loss of speech


@pytest.mark.parametrize("gain", [1.0, 0.5, 0.1])
def test_a_gain_is_the_loss_in_every_set_of_frames(gain: float) -> None:
    clean = spectrum(speech(), RATE)
    frames = find_frames(clean, RATE)
    for mask, band in ((frames.active, SPEECH), (frames.onset, SPEECH), (frames.consonant, HIGH)):
        lost = kept(clean * np.float32(gain), clean, mask, band, RATE)
        assert lost.frames >= 4
        assert lost.attenuation_db == pytest.approx(-20 * np.log10(gain), abs=1e-3)
    assert level_change_db(clean * np.float32(gain), clean, frames.active) == pytest.approx(
        20 * np.log10(gain), abs=1e-3
    )


@pytest.mark.parametrize("snr_db", [-5.0, 5.0])
def test_remaining_noise_does_not_change_the_loss_of_speech(snr_db: float) -> None:
    total = Kept()
    for seed in range(20):
        voice, hiss = Clip("", "", speech(seed)), Clip("", "", noise(3, seed=seed))
        noisy, reference = mixture(voice, hiss, snr_db=snr_db, sample_rate=RATE)
        clean = spectrum(reference, RATE)
        total += kept(
            spectrum(0.5 * noisy, RATE), clean, find_frames(clean, RATE).active, SPEECH, RATE
        )
    assert total.attenuation_db == pytest.approx(6.02, abs=0.2)


def test_a_cut_is_counted_where_it_is() -> None:
    voice = speech()
    clean = spectrum(voice, RATE)
    frames = find_frames(clean, RATE)
    cut = voice.copy()
    cut[3 * RATE // 2 : 3 * RATE // 2 + RATE // 25] = 0  # the first 40 ms after the pause
    enhanced = spectrum(cut, RATE)
    assert kept(enhanced, clean, frames.onset, SPEECH, RATE).attenuation_db > 10
    assert kept(enhanced, clean, frames.active, SPEECH, RATE).attenuation_db < 0.5
    assert kept(enhanced, clean, frames.consonant, HIGH, RATE).attenuation_db == pytest.approx(
        0, abs=0.01
    )


def test_quiet_frames_count_beside_loud_ones() -> None:
    clean = spectrum(
        np.concatenate([tone(1000, 1.0, level=0.1), tone(1000, 1.0, level=0.01)]), RATE
    )
    enhanced = clean.copy()
    enhanced[:, 100:] = 0  # a loss of 1 % by power
    lost = kept(enhanced, clean, find_frames(clean, RATE).active, SPEECH, RATE).attenuation_db
    assert lost == pytest.approx(-20 * np.log10(10 / 11), abs=0.1)


def test_frames_are_found_where_they_are() -> None:
    frames = find_frames(spectrum(speech(), RATE), RATE)
    assert np.flatnonzero(frames.onset).tolist() == [
        *range(150, 155)
    ]  # 10 ms each; the first word has no pause before it
    assert set(np.flatnonzero(frames.consonant)) <= set(range(248, 302))
    assert frames.consonant.sum() > 45
    assert not frames.active[103:149].any()
    assert frames.active[:100].all()


def test_total_loss_differs_from_no_speech() -> None:
    clean = spectrum(speech(), RATE)
    frames = find_frames(clean, RATE)
    assert kept(0 * clean, clean, frames.active, SPEECH, RATE).attenuation_db == 60
    assert kept(clean, clean, np.zeros_like(frames.active), SPEECH, RATE).attenuation_db is None
    assert not find_frames(0 * clean, RATE).active.any()
    assert WHOLE[1] >= HIGH[1]


# --- Behaviour


def test_a_unit_gain_has_no_side_effects(tmp_path: Path) -> None:
    pytest.importorskip("pesq")
    voices, noises = clips()
    clean = file_cleaner(constant(1.0), tmp_path)
    found = clean_speech(clean, voices, RATE)
    assert found["level_change_db"] == {
        "mean": pytest.approx(0, abs=1e-3),
        "worst": pytest.approx(0, abs=1e-3),
    }
    assert found["speech_lost_db"] == pytest.approx(0, abs=1e-3)
    assert found["pesq_wb"]["worst"] > 4.6
    assert noise_alone(clean, noises)[0]["mean_db"] == pytest.approx(0, abs=1e-3)
    mixed = speech_in_noise(clean, voices, noises, 5.0, RATE)
    assert mixed["si_sdr_gain_db"] == pytest.approx(0, abs=1e-3)
    assert mixed["speech_lost_db"] == pytest.approx(0, abs=0.3)


def test_a_gain_of_a_half_is_6_db_everywhere(tmp_path: Path) -> None:
    pytest.importorskip("pesq")
    found = measure_honesty(constant(0.5), *clips())
    assert json.loads(json.dumps(found)) == found
    assert found["noise"]["median_db"] == pytest.approx(6.02, abs=0.01)
    assert found["noise"]["worst_class"]["attenuation_db"] == pytest.approx(6.02, abs=0.01)
    assert found["clean"]["level_change_db"]["worst"] == pytest.approx(-6.02, abs=0.01)
    assert [row["snr_db"] for row in found["mixtures"]] == list(SNRS_DB)
    assert all(row["speech_lost_db"] == pytest.approx(6.02, abs=0.5) for row in found["mixtures"])
    assert found["silence"] == {"alone": 0.0, "amid_speech": 0.0}
    assert {*found["warned"]} == {"noise", "music"}


def test_the_class_with_the_least_attenuation_is_named(tmp_path: Path) -> None:
    def spare_low(spectrum: np.ndarray) -> np.ndarray:
        gain = np.full(spectrum.shape, 0.1, np.float32)
        gain[:, :64] = 1
        return gain

    sounds = [
        Clip("a", "hum", tone(100, 2)),
        Clip("b", "whistle", tone(5000, 2)),
        Clip("c", "whistle", tone(6000, 2)),
    ]
    numbers, _ = noise_alone(file_cleaner(FakeEngine(spare_low), tmp_path), sounds)
    assert numbers["worst_class"] == {
        "name": "hum",
        "attenuation_db": pytest.approx(0, abs=0.1),
        "clips": 1,
    }
    assert numbers["mean_db"] == pytest.approx(40 / 3, abs=0.2)


def test_sound_in_digital_silence_is_found() -> None:
    found = silence(
        lambda waveform: Cleaned(waveform + np.float32(0.001), False), Clip("", "", speech()), RATE
    )
    assert found == {"alone": pytest.approx(0.001), "amid_speech": pytest.approx(0.001)}
    assert benchmarks_page._silence(found["alone"]) == "-60 dBFS"
    assert benchmarks_page._silence(0.0) == "exact zeros"


def test_attenuation_is_limited_for_silent_outputs() -> None:
    assert attenuation_db(noise(1), 0 * noise(1)) == 100
    assert attenuation_db(noise(1), noise(1) * np.float32(0.1)) == pytest.approx(20, abs=1e-3)


# --- Clips


def write(path: Path, seconds: float, *, rate: int = RATE, channels: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(
        path, np.random.default_rng(0).normal(0, 0.01, (round(seconds * rate), channels)), rate
    )


def test_clips_come_from_folders_and_tables(tmp_path: Path) -> None:
    write(tmp_path / "rain" / "a.wav", 3, rate=44100, channels=2)
    write(tmp_path / "rain" / "b.wav", 9)
    write(tmp_path / "rain" / "short.wav", 1)
    write(tmp_path / "fan" / "c.wav", 3)
    soundfile.write(tmp_path / "fan" / "silent.wav", np.zeros(3 * RATE), RATE)
    (tmp_path / "fan" / "notes.txt").write_text("no sound")
    found = load_clips(tmp_path, "noise", RATE, count=10, seconds=4.0)
    lengths = {(clip.name, clip.kind): len(clip.waveform) / RATE for clip in found}
    assert lengths == {("a", "rain"): 3, ("b", "rain"): 4, ("c", "fan"): 3}
    assert all(active_rms(clip.waveform, RATE) == pytest.approx(LEVEL, rel=0.05) for clip in found)
    assert {clip.kind for clip in load_clips(tmp_path, "noise", RATE, count=2, seconds=4.0)} == {
        "rain",
        "fan",
    }
    (tmp_path / "t.csv").write_text(
        "path,class,split\nrain/a.wav,rain,train\nrain/b.wav,rain,valid\nfan/c.wav,fan,valid\n"
    )
    assert {
        clip.name for clip in load_clips(tmp_path / "t.csv", "noise", RATE, count=10, seconds=4.0)
    } == {"b", "c"}
    with pytest.raises(DataError, match="gives no speech"):
        load_clips(tmp_path / "rain", "speech", RATE, count=10, seconds=1.0)
    with pytest.raises(DataError, match="cannot read"):
        load_clips(tmp_path / "none.csv", "noise", RATE, count=1, seconds=4.0)


def test_clips_come_from_the_validation_split_of_prepared_data(tmp_path: Path) -> None:
    from audioae.data.manifest import Row, write_manifest

    (3000 * np.random.default_rng(0).standard_normal(12 * RATE)).astype("<i2").tofile(
        tmp_path / "s.i16"
    )
    (tmp_path / "data.json").write_text(json.dumps({"sample_rate": RATE}))
    facts = [("a", "train", None), ("b", "valid", 40.0), ("c", "valid", 10.0), ("d", "valid", None)]
    rows = [
        Row(
            f"{name}.wav",
            f"speaker {name}",
            3.0,
            split,
            "s.i16",
            3 * RATE * number,
            3 * RATE,
            quiet_to_loud_db=quiet,
        )
        for number, (name, split, quiet) in enumerate(facts)
    ]
    write_manifest(tmp_path / "speech.jsonl", rows)
    found = load_clips(tmp_path, "speech", RATE, count=10, seconds=2.5)
    assert sorted((clip.name, clip.kind, len(clip.waveform)) for clip in found) == [
        ("b", "speaker b", 40000),
        ("d", "speaker d", 40000),
    ]


def test_kinds_alternate() -> None:
    names = ["a0", "a1", "b0", "b1", "b2", "c0", "c1", "c2", "c3"]
    sources = [
        Source(name, name[0], lambda seconds: (np.zeros(1, np.float32), RATE)) for name in names
    ]
    order = [source.name for source in spread(sources)]
    assert {name[0] for name in order[:3]} == set("abc")
    assert sorted(order) == names


def test_mixtures_have_the_snr_and_do_not_clip() -> None:
    voices, noises = clips(1)
    noisy, clean = mixture(voices[0], noises[0], snr_db=-5.0, sample_rate=RATE)
    assert np.abs(noisy).max() <= 0.9 + 1e-6
    ratio = 20 * np.log10(active_rms(clean, RATE) / active_rms(noisy - clean, RATE))
    assert ratio == pytest.approx(-5, abs=0.5)  # the noise is repeated, so its last frames differ


def test_music_is_reproducible() -> None:
    pieces = [make_music(number, seconds=2.0, sample_rate=RATE) for number in range(6)]
    assert len({piece.kind for piece in pieces}) == 3
    assert all(
        len(piece.waveform) == 2 * RATE and np.abs(piece.waveform).max() <= 0.9 + 1e-6
        for piece in pieces
    )
    assert np.array_equal(pieces[1].waveform, make_music(1, seconds=2.0, sample_rate=RATE).waveform)


# --- Speed


def test_memory_of_a_run_excludes_the_parent_process() -> None:
    ballast = np.ones(2**26)  # 512 MiB, written to
    taken = launch("-c", "import time; time.sleep(0.2); sum(range(10**6))")
    assert ballast[-1] == 1
    assert taken.peak_mib < 60
    assert 0 < taken.cpu_seconds < taken.seconds + 0.1
    with pytest.raises(AssertionError, match="ended with 2"):
        run("denoise", "--no-such-option")


# --- The page


def test_the_page_is_current() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert page == benchmarks_page.render(), (
        "docs/benchmarks.md is out of date: run python docs/make_benchmarks.py --page-only"
    )


def test_the_page_has_even_tables_and_every_model() -> None:
    page = benchmarks_page.render()
    for table in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE):
        assert len({line.count("|") for line in table.splitlines()}) == 1, table
    assert all(f"\n| **{entry.name}** (" in page for entry in list_denoisers())
    assert not re.search(r"\b(None|nan|inf)\b", page)


def test_side_by_side_tables_show_every_measurement() -> None:
    part = json.loads(benchmarks_page.PEERS.read_text(encoding="utf-8"))["side_by_side"]
    columns = benchmarks_page.COST + benchmarks_page.REAL + benchmarks_page.HIGH_BAND
    known = {"name", *(key for key, _, _ in columns)}
    page = benchmarks_page.render()
    for system in part["systems"]:
        assert set(system) <= known and len(system) > 1
        assert f"\n| {system['name']} |" in page


def test_measurements_of_other_model_files_are_marked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name, parts = next(
        (name, parts)
        for name, parts in json.loads(benchmarks_page.MEASURED.read_text())["models"].items()
        if parts
    )
    old = {
        part: {**values, "made": {**values["made"], "sha256": 64 * "0"}}
        for part, values in parts.items()
    }
    monkeypatch.setattr(benchmarks_page, "MEASURED", tmp_path / "benchmarks.json")
    (tmp_path / "benchmarks.json").write_text(json.dumps({"models": {name: old}}))
    assert "000000000000, **replaced since**" in benchmarks_page.render()


COST = {"seconds": 1.5, "cpu_seconds": 1.4, "peak_mib": 300.0}
PEER = {
    "speed": {"starts": 3, "8 s": COST, "60 s": {**COST, "seconds": 6.0}, "package_mib": 123.4},
    "quality": {
        "sets": [
            {
                "pairs": make_benchmarks.PAIRS["pairs"],
                "count": 44,
                "enhanced": {"pesq_wb": 1.234, "stoi": 0.876},
                "noisy": {"pesq_wb": 9.0},
            }
        ]
    },
}


def test_peers_of_the_same_run_stand_beside_the_models(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    measured = json.loads(benchmarks_page.MEASURED.read_text(encoding="utf-8"))
    monkeypatch.setattr(benchmarks_page, "MEASURED", tmp_path / "benchmarks.json")
    (tmp_path / "benchmarks.json").write_text(json.dumps({**measured, "peers": {"gate": PEER}}))
    page = benchmarks_page.render()
    part = page[page.index("## Other systems in the same run") : page.index("## Side by side")]
    rows = [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("| ")]
    assert ["gate", "1.50", "0.1000", "300", "123"] in rows
    assert ["gate", "1.23", "0.876"] in [row[:3] for row in rows]
    assert {f"**{name}**" for name in measured["models"]} & {row[0] for row in rows}
    (noisy,) = [row for row in rows if row[0].strip() == "noisy input"]
    assert noisy[1] == "1.81"  # of the cards, not of the peer
    for table in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE):
        assert len({line.count("|") for line in table.splitlines()}) == 1, table


def test_peers_are_kept_when_models_are_measured_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "benchmarks.json"
    monkeypatch.setattr(make_benchmarks, "MEASURED", path)
    make_benchmarks.keep({}, {"gate": PEER})
    make_benchmarks.keep({"speech-16k": {"speed": 3}}, {"gate": {"speed": 4}})
    found = json.loads(path.read_text())
    assert found["peers"] == {"gate": {**PEER, "speed": 4}}
    assert found["models"]["speech-16k"] == {"speed": 3}


def test_real_time_factors_and_sizes_are_rows_of_the_speed_table() -> None:
    speed = next(
        parts["speed"]
        for parts in json.loads(benchmarks_page.MEASURED.read_text())["models"].values()
        if "speed" in parts
    )
    batch = {"files": 8, "file_seconds": 20, "jobs": {"4": {**COST, "seconds": 0.8}}}
    new = {**speed, "model_mib": 1.25, "package_mib": 190.04, "batch": batch}
    (table,) = [part for part in benchmarks_page.speed({"x": new}) if part.startswith("| ")]
    rows = dict(line.strip("| ").split(" | ") for line in table.splitlines()[2:])
    assert rows["a folder with `--jobs 4`: real-time factor"] == "0.0050"
    assert [cell for title, cell in rows.items() if title.startswith("size")] == ["1.2 / 190.0"]


def test_a_peer_is_run_at_its_own_rate_in_the_length_of_the_input() -> None:
    seen = []

    def run(waveform: np.ndarray) -> np.ndarray:
        seen.append(waveform.shape)
        return waveform

    waveform = np.stack([tone(440, 1.0), tone(880, 1.0)])[:, :15999]
    back = at_rate(waveform, RATE, 48000, run)
    assert seen == [(2, 47997)]
    assert back.shape == waveform.shape
    assert np.abs(back - waveform)[:, 500:-500].max() < 1e-3
    assert at_rate(waveform, RATE, RATE, run) is waveform


@pytest.mark.parametrize("name", PEERS)
def test_installed_peers_reduce_noise_without_a_delay(name: str) -> None:
    if name not in installed():
        pytest.skip(f"{PEERS[name].package} is not installed")
    sample, rate = soundfile.read(ROOT / "samples" / "noisy.wav", dtype="float32", always_2d=True)
    enhanced = denoiser(name)(np.ascontiguousarray(sample.T), rate)
    assert enhanced.shape == sample.T.shape
    assert 0 < np.sqrt(np.mean(enhanced**2)) < np.sqrt(np.mean(sample**2))
    spectrum = np.fft.rfft(enhanced[0]) * np.conj(np.fft.rfft(sample[:, 0]))
    lag = int(np.argmax(np.fft.irfft(spectrum)))
    assert min(lag, len(sample) - lag) < rate // 500  # 2 ms


def test_the_size_of_a_package_includes_what_it_requires() -> None:
    names = required("audioae")
    assert names[0] == "audioae"
    assert {"numpy", "onnxruntime", "soundfile"} <= set(names)
    assert "torch" not in names and "pytest" not in names
    assert required("no-such-package") == []
    assert installed_mib("no-such-package") == 0
    assert installed_mib("audioae") > installed_mib("numpy") > 5


def test_new_measurements_replace_old_ones(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "benchmarks.json").write_text(
        '{"models": {"gone": {}, "speech-16k": {"speed": 1, "honesty": 2}}}'
    )
    monkeypatch.setattr(make_benchmarks, "MEASURED", tmp_path / "benchmarks.json")
    make_benchmarks.keep({"speech-16k": {"speed": 3}})
    kept_models = json.loads((tmp_path / "benchmarks.json").read_text())["models"]
    assert kept_models["speech-16k"] == {"speed": 3, "honesty": 2}
    assert "gone" not in kept_models


def test_measurements_of_the_same_file_and_pairs_complete_a_card() -> None:
    entry = list_denoisers()[0]
    on_card = load_card(entry.name).scores[-1]
    pairs, count = on_card.pairs, on_card.count
    row = {
        "pairs": pairs,
        "count": count,
        "enhanced": {"pesq_wb": 9.0, "new": 2.0},
        "noisy": {"pesq_wb": 9.0, "new": 1.0},
    }
    parts = {
        "quality": {
            "made": {"sha256": entry.sha256},
            "sets": [row, {**row, "pairs": "others", "count": 7}],
        }
    }
    found = {scores.pairs: scores for scores in benchmarks_page.scores_of(entry.name, parts)}
    assert found["others"].count == 7
    assert found[pairs].enhanced["pesq_wb"] != 9.0
    assert found[pairs].enhanced["new"] == 2.0
    assert found[pairs].quality == on_card.quality
    fewer = {"quality": {**parts["quality"], "sets": [{**row, "count": count - 1}]}}
    assert "new" not in {
        metric
        for scores in benchmarks_page.scores_of(entry.name, fewer)
        for metric in scores.enhanced
    }
    stale = {"quality": {**parts["quality"], "made": {"sha256": ""}}}
    assert "others" not in {scores.pairs for scores in benchmarks_page.scores_of(entry.name, stale)}


def test_a_model_that_is_not_shipped_needs_json(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="2"):
        make_benchmarks.main(["-m", "runs/none"])
    assert "--json" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="3"):
        make_benchmarks.main(["-m", "runs/none", "--json"])
    assert "Error: " in capsys.readouterr().err


# --- Word error rates

HEARD = "import sys\nfor line in sys.stdin:\n    print('one two', flush=True)\n"


def test_word_error_rates_of_mixed_sentences_are_resumed(tmp_path: Path) -> None:
    """Two recordings of two sentences; a recogniser that always hears the same, started twice."""
    pytest.importorskip("jiwer")
    rng = np.random.default_rng(0)
    lines = ["path,corpus,text,recording"]
    for number in range(4):
        soundfile.write(tmp_path / f"{number}.wav", rng.normal(0, 0.1, 8000), 16000)
        lines.append(f"{number}.wav,some,one {'two' if number < 2 else 'three'},{number // 2}")
    (tmp_path / "speech.csv").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "noise").mkdir()
    soundfile.write(tmp_path / "noise" / "fan.wav", rng.normal(0, 0.1, 40000), 16000)
    (tmp_path / "hear.py").write_text(HEARD, encoding="utf-8")
    pairs, rows = tmp_path / "pairs", tmp_path / "rows.jsonl"

    def invoke(*arguments: object) -> str:
        result = CliRunner().invoke(recognition.main, list(map(str, arguments)))
        assert result.exit_code == 0, result.output
        return result.output

    invoke("mix", tmp_path / "speech.csv", "--noise", tmp_path / "noise", "--out", pairs)
    mixed = [soundfile.info(path) for path in sorted((pairs / "noisy").iterdir())]
    assert [each.duration for each in mixed] == [2.0, 2.0]  # 0.5 s and a pause, twice
    command = f"one='{sys.executable}' '{tmp_path / 'hear.py'}'"
    start = ("run", pairs / "pairs.csv", "--rows", rows, "--recogniser", command)
    for systems in (["noisy"], ["clean", "noisy"], ["clean", "noisy"]):
        invoke(*start, *(option for name in systems for option in ("--system", name)))
    found = recognition.read_rows(rows)
    assert [(row.snr_db, row.system, row.words) for row in found] == [
        (-5, "noisy", 4),
        (0, "noisy", 4),
        (-5, "clean", 4),
        (0, "clean", 4),
    ]
    assert [row.percent for row in found] == [50, 75, 50, 75]
    cells = [each.strip() for each in invoke("table", rows).splitlines()[-1].split("|")]
    assert cells[1:-1] == ["one", "all", "2, 8", "62.5", "62.5"]


def test_systems_of_word_error_rates() -> None:
    assert recognition.settings_of("noisy") is None
    assert recognition.settings_of("asr") == PRESETS["asr"]
    wanted = DenoiseSettings(strength=0.5, max_attenuation_db=12.0)
    assert recognition.settings_of("strength=0.5,max_attenuation_db=12.0") == wanted
    with pytest.raises(UsageError):
        recognition.settings_of("strenth=0.5")
