"""Anomaly detection: fitting, scores, thresholds, streams, pictures and baselines."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

pytest.importorskip("torch")
pytest.importorskip("sklearn")
pytest.importorskip("librosa")

from click.testing import CliRunner, Result
from tiny_codec import write_codec

from audioae.audio import read, write
from audioae.cli import main
from audioae.cli.anomaly_score import FOUND
from audioae.errors import CheckpointError, DataError, SettingsError
from audioae.tasks.anomaly import SYSTEMS, AnomalySettings, Detector, Norm
from audioae.tasks.baselines import mel_statistics
from audioae.tasks.detector_file import load_detector
from audioae.tasks.faults import FAULTS, MACHINES, add_fault, draw_machine, record, rms
from audioae.tasks.fit_anomaly import FitSettings, NormalSound, best_threshold
from audioae.tasks.pictures import ErrorMap
from audioae.tasks.scoring import separate

MACHINE = draw_machine("fan", 0)


def run(*arguments: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments], input=stdin)


def objects(result: Result) -> list[dict]:
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Normal recordings of a fan in train/ and test/normal, and with loud clicks in test/clicks."""
    top = tmp_path_factory.mktemp("machine")
    for name in ("train", "test/normal", "test/clicks"):
        (top / name).mkdir(parents=True)
    for number in range(10):
        write(top / "train" / f"{number}.wav", record(MACHINE, 5, 16000, seed=number), 16000)
    for number in range(4):
        normal = record(MACHINE, 5, 16000, seed=100 + number)
        write(top / "test/normal" / f"{number}.flac", normal, 16000)
        faulty = add_fault(normal, 16000, "bearing-clicks", fault_db=10, seed=number)
        write(top / "test/clicks" / f"{number}.flac", faulty / 2, 16000)
    return top


@pytest.fixture(scope="module")
def model(folder: Path) -> Path:
    """A detector that is fitted by the command."""
    path = folder / "fan.onnx"
    done = run("anomaly", "fit", folder / "train", "-o", path, "--steps", 60, "--piece", 5,
               "--json")  # fmt: skip
    assert done.exit_code == 0, done.output
    (values,) = objects(done)
    assert values["files"] == 10 and values["seconds"] == pytest.approx(50, abs=1)
    assert set(values["thresholds"]) == set(SYSTEMS)
    return path


@pytest.fixture(scope="module")
def detector(model: Path) -> Detector:
    return load_detector(model)


def test_faults_score_above_normal_sound(model: Path, folder: Path) -> None:
    done = run("anomaly", "score", model, folder / "test", "--labels", "folders", "--json")
    assert done.exit_code == 0, done.output
    *rows, last = objects(done)
    scores = {Path(row["path"]).parent.name: [] for row in rows}
    for row in rows:
        scores[Path(row["path"]).parent.name].append(row["score"])
        assert row["is_anomalous"] == (row["score"] > row["threshold"])
        assert row["score"] == pytest.approx(np.mean(row["windows"]))
        assert len(row["windows"]) == 5 and row["seconds"] == pytest.approx(5, abs=0.02)
    assert max(scores["normal"]) < min(scores["clicks"])
    (own, *others) = last["separation"]["all"]
    assert own["system"] == "autoencoder" and own["auc"] == 1.0 and own["f1"] > 0.8
    assert [each["system"] for each in others] == ["mahalanobis", "neighbours"]
    assert all((each["normal"], each["anomalous"]) == (4, 4) for each in (own, *others))


@pytest.mark.parametrize("norm", ["squared", "whitened"])
def test_a_score_is_a_squared_norm_of_the_errors(
    detector: Detector, folder: Path, norm: Norm
) -> None:
    path = folder / "test/clicks/0.flac"
    waveform, rate = read(path)
    codec, frames = detector.codec, detector.window_frames
    features = codec.features(waveform.reshape(-1), rate)
    errors = features - codec.reconstruct(features)
    windows = [errors[:, at : at + frames] for at in range(0, 5 * frames, frames)]
    if norm == "squared":
        expected = [np.square(each).mean() for each in windows]
    else:
        apart = np.stack([mel_statistics(each) for each in windows]) - detector.errors.mean
        expected = np.einsum("nd,de,ne->n", apart, detector.errors.precision, apart) / 128
    other = replace(detector, settings=replace(detector.settings, norm=norm))
    np.testing.assert_allclose(other.score_file(path).windows, expected, rtol=1e-2)


def test_a_whitened_score_of_normal_windows_is_about_1(detector: Detector, folder: Path) -> None:
    scores = [detector.score_file(path).score for path in (folder / "train").iterdir()]
    assert 0.3 < np.mean(scores) < 3


def test_blocks_equal_the_whole(detector: Detector, rng: np.random.Generator) -> None:
    features = rng.random((detector.codec.settings.num_bins, 400)).astype(np.float32)
    whole = detector.score_features([features])
    parts = detector.score_features(np.split(features, [1, 7, 100, 333], axis=-1))
    for name in SYSTEMS:
        np.testing.assert_allclose(parts.scores[name], whole.scores[name], rtol=1e-4)


def test_rate_channels_and_container_do_not_matter(
    detector: Detector, folder: Path, tmp_path: Path
) -> None:
    waveform, _ = read(folder / "test/normal/0.flac")
    from audioae.signal.resample import resample

    other = resample(waveform.reshape(-1), 16000, 44100)
    # A whitened norm shows the losses of a codec, so the lossy file has the other one.
    for name, norm in (("stereo.ogg", "squared"), ("stereo.wav", "whitened")):
        write(tmp_path / name, np.stack([other, other]), 44100)
        own = replace(detector, settings=replace(detector.settings, norm=norm))
        first = own.score_file(folder / "test/normal/0.flac").score
        within = 0.2 if norm == "squared" else 0.6  # resampling changes the highest bands
        assert own.score_file(tmp_path / name).score == pytest.approx(first, rel=within)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_bad_file_does_not_stop_the_others(
    model: Path, folder: Path, tmp_path: Path, jobs: int
) -> None:
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"no sound")
    good = folder / "test/clicks/1.flac"
    done = run("anomaly", "score", model, bad, good, "-j", jobs, "--json", "--fail-on-anomaly")
    assert done.exit_code == 1  # a failed file is more than an anomaly
    assert [row["status"] for row in objects(done)] == ["failed", "done"]
    empty = tmp_path / "empty.wav"
    write(empty, np.zeros((1, 0), np.float32), 16000)
    assert run("anomaly", "score", model, empty).exit_code == 1


def test_fail_on_anomaly_is_an_exit_code(model: Path, folder: Path) -> None:
    clicks, normal = folder / "test/clicks", folder / "test/normal/0.flac"
    assert run("anomaly", "score", model, clicks, "--fail-on-anomaly").exit_code == FOUND
    assert run("anomaly", "score", model, clicks).exit_code == 0
    quiet = ("--fail-on-anomaly", "--threshold", 1e9)
    assert run("anomaly", "score", model, clicks, normal, *quiet).exit_code == 0


def raw(path: Path) -> bytes:
    waveform, _ = read(path)
    return (waveform.reshape(-1) * 32767).astype("<i2").tobytes()


def test_a_stream_scores_like_a_file(model: Path, folder: Path) -> None:
    sound = folder / "test/clicks/0.flac"
    form = ("--raw", "16000:1:PCM_16", "--json")
    done = run("anomaly", "score", model, "-", *form, stdin=raw(sound))
    assert done.exit_code == 0, done.output
    (row,) = objects(done)  # one piece of 5 s
    (file,) = objects(run("anomaly", "score", model, sound, "--json"))
    assert row["score"] == pytest.approx(file["score"], rel=1e-2) and row["is_anomalous"]
    long = raw(folder / "test/normal/0.flac") + 2 * raw(sound)
    rows = objects(run("anomaly", "score", model, "-", *form, stdin=long))
    assert [row["seconds"] for row in rows] == pytest.approx(range(5, 16), abs=0.2)
    scores = [row["score"] for row in rows]
    assert scores[-1] > scores[0] and len(rows[0]["windows"]) == 5
    stopped = run("anomaly", "score", model, "-", *form, "--fail-on-anomaly", stdin=long)
    assert stopped.exit_code == FOUND and len(objects(stopped)) < len(rows)
    assert objects(stopped)[-1]["is_anomalous"]


def test_a_short_stream_has_one_score(detector: Detector) -> None:
    blocks = [
        record(MACHINE, 1.3, 16000, seed=0)[None, at : at + 999] for at in range(0, 20800, 999)
    ]
    (result,) = detector.monitor(blocks, 16000)
    assert len(result.windows) == 1
    assert list(detector.monitor([], 16000)) == []


@pytest.mark.usefixtures("ready_workers")
def test_pictures_of_anomalies(model: Path, folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    clicks = folder / "test/clicks"
    done = run("anomaly", "score", model, clicks / "0.flac", "--plot", tmp_path / "one.png")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")
    assert run("anomaly", "score", model, clicks / "0.flac", "--plot",
               tmp_path / "one.png").exit_code == 1  # fmt: skip
    assert run("anomaly", "score", model, clicks, "--plot", tmp_path / "two.png").exit_code == 1
    done = run("anomaly", "score", model, clicks, "--plot", tmp_path / "all", "-j", 2)
    assert done.exit_code == 0, done.output
    assert {each.name for each in (tmp_path / "all").iterdir()} == {f"{n}.png" for n in range(4)}


def test_a_picture_has_at_most_so_many_columns(rng: np.random.Generator) -> None:
    errors, whole = ErrorMap(most=16), rng.random((3, 1000))
    for block in np.split(whole, [3, 100, 101, 500], axis=-1):
        errors(block, 2 * block)
    features, squared = errors.columns()
    assert features.shape[-1] <= 33
    np.testing.assert_allclose(squared, 2 * features, rtol=1e-5)
    used = 1000 // errors.factor * errors.factor
    means = whole[:, :used].reshape(3, -1, errors.factor).mean(-1)
    np.testing.assert_allclose(features[:, : means.shape[-1]], means, rtol=1e-4)


def test_labelled_examples_give_the_threshold(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "fan.onnx"
    done = run("anomaly", "fit", folder / "train", "-o", path, "--steps", 30, "--piece", 5,
               "--anomalous", folder / "test/clicks", "--json")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert objects(done)[0]["threshold_from"] == "labelled examples"
    rows = objects(run("anomaly", "score", path, folder / "test", "--json"))
    assert [row["is_anomalous"] for row in rows] == ["clicks" in row["path"] for row in rows]
    assert best_threshold(np.array([1.0, 2.0]), np.array([2.5, 9.0])) == pytest.approx(2.25)


def test_the_same_seed_gives_the_same_detector(folder: Path, tmp_path: Path) -> None:
    found = []
    for name in ("a.onnx", "b.onnx"):
        args = ("-o", tmp_path / name, "--steps", 5, "--seed", 3, "--norm", "squared", "-q")
        assert run("anomaly", "fit", folder / "train", *args).exit_code == 0
        found.append(load_detector(tmp_path / name))
    assert found[0].thresholds == found[1].thresholds
    assert found[0].settings.norm == "squared" and found[0].thresholds["autoencoder"] < 0.5
    assert found[0].codec.sha256 == found[1].codec.sha256


def test_fitting_checks_first_and_keeps_what_exists(folder: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept.onnx"
    kept.write_bytes(b"mine")
    assert run("anomaly", "fit", folder / "train", "-o", kept).exit_code == 1
    assert run("anomaly", "fit", folder / "train", "-o", tmp_path / "x.txt").exit_code == 1
    short = tmp_path / "short.wav"
    write(short, np.zeros((1, 8000), np.float32), 16000)
    assert run("anomaly", "fit", short, "-o", tmp_path / "x.onnx").exit_code == 1
    for wrong in (("--window", 0), ("--window", 20, "--piece", 5), ("--quantile", 2)):
        assert run("anomaly", "fit", short, "-o", tmp_path / "x.onnx", *wrong).exit_code == 2
    assert kept.read_bytes() == b"mine"
    assert {each.name for each in tmp_path.iterdir()} == {"kept.onnx", "short.wav"}


def test_a_bad_file_is_left_out_of_the_fit(folder: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"no sound")
    done = run("anomaly", "fit", folder / "train", bad, "-o", tmp_path / "x.onnx", "--steps", 5,
               "--json")  # fmt: skip
    assert done.exit_code == 1 and str(bad) in done.stderr
    assert objects(done)[0]["files"] == 10 and (tmp_path / "x.onnx").exists()


def test_other_models_are_no_detectors(folder: Path, tmp_path: Path, model: Path) -> None:
    plain = write_codec(tmp_path / "plain.onnx")
    sound = folder / "test/normal/0.flac"
    for other in (plain, "speech-16k", tmp_path / "none.onnx"):
        assert run("anomaly", "score", other, sound).exit_code == 3
    onnx = pytest.importorskip("onnx")
    graph = onnx.load_model(str(model))
    for entry in graph.metadata_props:
        if entry.key == "audioae_anomaly":
            values = json.loads(entry.value)
            for key in values:
                for damaged in (None, -1, {}, "x"):
                    entry.value = json.dumps({**values, key: damaged})
                    if key == "about" and damaged == {}:
                        continue
                    path = tmp_path / "damaged.onnx"
                    path.write_bytes(graph.SerializeToString())
                    if key != "window_threshold" or damaged != -1:
                        with pytest.raises(CheckpointError):
                            load_detector(path)
    assert run("embed", sound, "-m", model, "-o", tmp_path / "x.npz").exit_code == 0


def test_streams_and_files_are_told_apart(model: Path, folder: Path) -> None:
    sound = folder / "test/normal/0.flac"
    assert run("anomaly", "score", model, sound, "--raw", "16000:1").exit_code == 2
    assert run("anomaly", "score", model, "-").exit_code == 2
    assert run("anomaly", "score", model, "-", "--raw", "x", stdin=b"").exit_code == 2
    odd = run("anomaly", "score", model, "-", "--raw", "16000:1:PCM_16", stdin=b"abc")
    assert odd.exit_code == 1
    labels = run("anomaly", "score", model, folder / "test/normal", "--labels", "folders")
    assert labels.exit_code == 1  # no anomalous recording


def test_holding_out_whole_files() -> None:
    sound = NormalSound(FitSettings(), 10)
    for number in range(10):
        sound.add(iter([np.full((64, 100), number, np.float32)]))
    training, held_out = sound.split()
    first = {int(piece[0, 0]) for piece in training}
    second = {int(piece[0, 0]) for piece in held_out}
    assert len(first) == 8 and len(second) == 2 and not first & second
    few = NormalSound(FitSettings(), 10)
    few.add(iter([np.tile(np.arange(1000, dtype=np.float32), (64, 1))]))
    training, held_out = few.split()
    assert max(piece.max() for piece in training) < min(piece.min() for piece in held_out)


@pytest.mark.parametrize("kind", MACHINES)
def test_machines_are_repeatable_and_differ(kind: str) -> None:
    machine = draw_machine(kind, 3)
    one = record(machine, 2, 16000, seed=1)
    np.testing.assert_array_equal(one, record(machine, 2, 16000, seed=1))
    assert one.shape == (32000,) and one.dtype == np.float32 and 0.05 < rms(one) < 0.2
    assert not np.array_equal(one, record(machine, 2, 16000, seed=2))
    assert draw_machine(kind, 4) != machine
    assert record(machine, 0, 16000, seed=1).shape == (0,)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("level", [-10.0, 0.0, 10.0])
@pytest.mark.parametrize("rate", [8000, 16000, 48000])
def test_faults_have_their_level(fault: str, level: float, rate: int) -> None:
    normal = record(MACHINE, 2, rate, seed=1)
    faulty = add_fault(normal, rate, fault, fault_db=level, seed=5)
    assert 20 * np.log10(rms(faulty - normal) / rms(normal)) == pytest.approx(level, abs=0.01)
    assert np.array_equal(faulty, add_fault(normal, rate, fault, fault_db=level, seed=5))


def test_unknown_machines_and_faults_are_settings_errors() -> None:
    with pytest.raises(SettingsError):
        draw_machine("toaster", 0)
    with pytest.raises(SettingsError):
        add_fault(np.zeros(100), 16000, "smoke", fault_db=0, seed=0)
    with pytest.raises(SettingsError):
        AnomalySettings(window=2.0, piece=1.0)
    with pytest.raises(DataError):
        separate({"autoencoder": [1.0, 2.0]}, [True, True], {"autoencoder": 1.0})


def test_simulated_recordings(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "pump"
    done = run("anomaly", "simulate", "-O", out, "--machine", "pump", "--minutes", 0.5, "--tests",
               2, "--json")  # fmt: skip
    assert done.exit_code == 0, done.output
    files = sorted(out.rglob("*.flac"))
    assert objects(done)[0]["files"] == len(files) == 3 + 2 + 10 * len(FAULTS)
    assert {each.parent.name for each in files} == {"normal", *FAULTS}
    assert run("anomaly", "simulate", "-O", out).exit_code == 1
    long = tmp_path / "long.wav"
    write(long, record(MACHINE, 65, 16000, seed=0), 16000)
    done = run("anomaly", "simulate", "-O", tmp_path / "real", "--normal", long)
    assert done.exit_code == 0, done.output
    train = list((tmp_path / "real" / "train" / "normal").iterdir())
    tests = list((tmp_path / "real" / "test" / "normal").iterdir())
    assert (len(train), len(tests)) == (4, 2)


def test_samples_that_are_not_finite_count_as_silence_or_full_scale(
    model: Path, folder: Path, tmp_path: Path
) -> None:
    waveform, rate = read(folder / "test/normal/0.flac")
    for name, values in (("bad", (np.nan, np.inf)), ("good", (0.0, 1.0))):
        waveform[..., 1000:1100], waveform[..., 5000] = values
        soundfile.write(tmp_path / f"{name}.wav", waveform.T, rate, subtype="FLOAT")
    bad, good = tmp_path / "bad.wav", tmp_path / "good.wav"
    done = run("anomaly", "score", model, bad, good, "--json")
    assert done.exit_code == 0, done.output
    first, second = objects(done)
    assert first["score"] == second["score"]
    raw = np.concatenate([waveform[0], [np.nan] * 16000]).astype("<f4").tobytes()
    streamed = run("anomaly", "score", model, "-", "--raw", "16000:1:FLOAT", "--json", stdin=raw)
    assert streamed.exit_code == 0 and np.isfinite(objects(streamed)[-1]["score"])


def test_unreadable_recordings_and_pictures_are_named(
    model: Path, folder: Path, tmp_path: Path
) -> None:
    missing, kept = tmp_path / "missing", tmp_path / "kept.wav"
    done = run("anomaly", "fit", missing, "-o", tmp_path / "x.onnx")
    assert done.exit_code == 1 and str(missing) in done.stderr
    kept.write_bytes(b"mine")
    sound = folder / "test/normal/0.flac"
    done = run("anomaly", "score", model, sound, "--plot", kept)
    assert done.exit_code == 1 and str(kept) in done.stderr and "folder" in done.stderr
    assert kept.read_bytes() == b"mine"
