"""`audioae train`: output, options, interruption, errors, own recordings, and recipes/smoke."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

torch = pytest.importorskip("torch")
pytest.importorskip("pydantic")

from tiny import write_tiny

from audioae.audio import write
from audioae.cli import main
from audioae.cli.training_rows import duration
from audioae.data.manifest import read_manifest
from audioae.models.checkpoint import load_denoiser, read_tensors

torch.set_num_threads(1)

CHECKOUT = Path(__file__).parents[1]
SMOKE = CHECKOUT / "recipes" / "smoke" / "recipe.toml"
RECIPE = """
name = "tiny"
family = "conv1d"
stft = { sample_rate = 8000, n_fft = 64, hop_length = 32, win_length = 64 }
network = { channels = [12, 8], kernel = 3 }
data = { segment_seconds = 0.25 }
[training]
steps = 8
batch_size = 2
report_steps = 4
best = "si_sdr"
validation = { pairs = 2, seconds = 0.5 }
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE)
    return path


def audioae(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def train(recipe: Path, data: Path, out: Path, *more: object) -> Result:
    return audioae("train", recipe, "--data", data, "--out", out, *more)


def test_a_run_prints_progress_on_stderr(recipe: Path, prepared: Path, tmp_path: Path) -> None:
    done = train(recipe, prepared, tmp_path / "run")
    assert done.exit_code == 0 and done.stdout == ""
    mixing, noisy, truth, *reports, last = done.stderr.splitlines()
    assert "2 validation pairs of 0.5 s" in mixing
    assert re.search(r"noisy.*: valid [\d.]+, SI-SDR -?[\d.]+ dB", noisy)
    network, speed = (
        r"[\d,]+ parameters, \d+ MMAC/s",
        r"\d+ audio-seconds per second, about \d+ s left",
    )
    assert re.fullmatch(
        f"tiny: {network}, 42 s of speech and 15 s of noise, steps 0 to 8, {speed}", truth
    )
    assert [
        re.match(r"step (\d) \(0\.0 h\): loss [\d.]+, valid [\d.]+, SI-SDR -?[\d.]+ dB", line)[1]
        for line in reports
    ] == ["4", "8"]  # type: ignore[index]
    assert re.search(r" \(best\), about \d+ s left$", reports[0]) and "left" not in reports[1]
    assert last.endswith(f"audioae denoise --model {tmp_path / 'run'} noisy.wav enhanced.wav")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "best.safetensors",
        "history.jsonl",
        "last.safetensors",
        "resume.safetensors",
    ]
    assert load_denoiser(tmp_path / "run").info.name == "tiny"


@pytest.mark.skipif(sys.platform != "linux", reason="needs file names of any bytes")
def test_names_that_are_not_utf_8(prepared: Path, tmp_path: Path) -> None:
    recipe, data, run, model, out = (
        tmp_path / os.fsdecode(name)
        for name in (b"r\xe9.toml", b"d\xff", b"run\xfe", b"m\xe9.onnx", b"o\xff.wav")
    )
    recipe.write_text(RECIPE)
    data.symlink_to(prepared)
    done = train(recipe, data, run, "--json", "--progress", "json")
    assert done.exit_code == 0, done.stderr
    assert all(json.loads(line) for line in done.stdout.splitlines())
    assert "run\\udcfe" in done.stderr
    assert train(recipe, data, run, "--set", "training.steps=10").exit_code == 0  # resumed
    done = train(recipe, data, tmp_path / "other", "--from", run, "--set", "training.steps=2")
    assert done.exit_code == 0, done.stderr
    assert audioae("export", run, model).exit_code == 0
    noisy = noisy_file(tmp_path)
    for each in (run, model):
        assert audioae("models", "info", each).exit_code == 0
        done = audioae("denoise", "-m", each, noisy, out, "--overwrite", "--json")
        assert (done.exit_code, json.loads(done.stdout)["status"]) == (0, "done"), done.stderr
    done = train(recipe, data, run, "--tensorboard")
    assert done.exit_code == 1 and "run\\udcfe" in done.stderr, done.stderr


def noisy_file(folder: Path) -> Path:
    """A second of noise."""
    path = folder / os.fsdecode(b"n\xff.wav")
    write(path, np.random.default_rng(0).normal(0, 0.1, 8000), 8000)
    return path


def test_a_finished_run_prints_that_it_is_done(
    recipe: Path, prepared: Path, tmp_path: Path
) -> None:
    train(recipe, prepared, tmp_path / "run")
    again = train(recipe, prepared, tmp_path / "run")
    assert again.exit_code == 0
    first = again.stderr.splitlines()[0]
    assert "all 8 steps" in first and str(tmp_path / "run") in first
    assert "--set training.steps=N" in first
    more = train(recipe, prepared, tmp_path / "run", "--set", "training.steps=10")
    assert more.exit_code == 0 and "steps 8 to 10" in more.stderr


def test_stdout_has_json_reports_only(recipe: Path, prepared: Path, tmp_path: Path) -> None:
    done = train(recipe, prepared, tmp_path / "run", "--json", "--quiet")
    assert done.stderr == ""
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["step"] for row in rows] == [0, 4, 8] and rows[0]["noisy_si_sdr"] is not None
    assert rows == [
        json.loads(line) for line in (tmp_path / "run" / "history.jsonl").read_text().splitlines()
    ]


def test_progress_ends_at_the_last_step(
    recipe: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audioae.cli.progress.JSON_INTERVAL", 0.0)
    done = train(
        recipe,
        prepared,
        tmp_path / "run",
        "--progress",
        "json",
        "--set",
        "training.steps=20",
        "--set",
        "training.report_steps=20",
    )
    events = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert [(event["event"], event["done"]) for event in events] == [
        ("start", 0),
        ("progress", 20),
        ("done", 20),
    ]
    assert all(event["total"] == 20 and event["unit"] == "steps" for event in events)
    assert (
        float(events[1]["loss"]) > 0
        and events[1]["audio"].endswith("s/s")
        and events[1]["left"] == "about 0 s"
    )
    bar = train(recipe, prepared, tmp_path / "other", "--progress", "bar")
    assert bar.exit_code == 0 and bar.stdout == "" and "8/8 steps" in bar.stderr


def test_a_log_file_has_progress_before_the_first_report(
    recipe: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audioae.cli.progress.FIRST_LINE", 0.0)
    monkeypatch.setattr("audioae.cli.progress.LINE_INTERVAL", 3600.0)
    more = ["--set", "training.steps=60", "--set", "training.report_steps=60"]
    lines = train(recipe, prepared, tmp_path / "run", *more).stderr.splitlines()
    assert re.fullmatch(
        r"tiny: 20/60 steps, loss [\d.]+, audio \d+ s/s, left about \d+ s", lines[3]
    ) and lines[4].startswith("step 60")
    for silent in ("--quiet", "--progress=none"):
        assert "20/60" not in train(recipe, prepared, tmp_path / silent, silent, *more).stderr


def test_overrides_are_used_and_stored(recipe: Path, prepared: Path, tmp_path: Path) -> None:
    overrides = [
        "--set",
        "training.steps=2",
        "--set",
        "network.channels=[6]",
        "--set",
        "training.loss.magnitude_mae=2",
        "--set",
        "name=mine",
    ]
    done = train(recipe, prepared, tmp_path / "run", *overrides)
    assert done.exit_code == 0, done.stderr
    about = read_tensors(tmp_path / "run" / "best.safetensors")[1]
    assert about["name"] == about["recipe"]["name"] == "mine" and about["network"]["channels"] == [
        6
    ]
    assert (
        about["recipe"]["training"]["loss"] == {"magnitude_mae": 2.0}
        and about["training"]["step"] == 2
    )


@pytest.mark.parametrize(
    ("override", "exit_code", "message"),
    [
        ("training.learning_rte=1", 2, "no setting 'learning_rte'; did you mean 'learning_rate'?"),
        ("trainin.steps=1", 2, "did you mean 'training'?"),
        ("training.steps", 2, "KEY=VALUE"),
        ("training.steps=many", 2, "got 'many'"),
        ("training.loss.si_sdr=1", 2, "no loss 'si_sdr'"),
        ("stft.sample_rate=16000", 2, "8000 Hz, the network is for 16000 Hz"),
        ("network.channels=[8, 4, 2]", 3, "has another network than this recipe"),
    ],
)
def test_wrong_values_are_named(
    recipe: Path, prepared: Path, tmp_path: Path, override: str, exit_code: int, message: str
) -> None:
    out = tmp_path / "run"
    if exit_code == 3:
        train(recipe, prepared, out, "--set", "training.steps=1")
    done = train(recipe, prepared, out, "--set", override)
    assert done.exit_code == exit_code
    assert (
        done.stderr.startswith("Error: ")
        and done.stderr.count("\n") == 1
        and message in done.stderr
    )
    assert out.exists() == (exit_code == 3)


def test_missing_files_and_packages_are_named(
    recipe: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    no_data = train(recipe, tmp_path / "gone", out)
    assert (
        no_data.exit_code == 1
        and "make it with: audioae prepare" in no_data.stderr
        and no_data.stderr.count("\n") == 1
    )
    no_recipe = train(tmp_path / "gone.toml", prepared, out)
    assert (
        no_recipe.exit_code == 2
        and "no recipe" in no_recipe.stderr
        and "quick-16k" in no_recipe.stderr
    )
    assert train(recipe, prepared, recipe).exit_code == 1  # the run folder is a file
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "resume.safetensors").write_bytes(b"nothing")
    damaged = train(recipe, prepared, tmp_path / "damaged")
    assert damaged.exit_code == 3 and "is not an audioae checkpoint" in damaged.stderr
    monkeypatch.setitem(sys.modules, "pesq", None)
    no_pesq = train(recipe, prepared, out, "--set", "training.best=pesq")
    assert no_pesq.exit_code == 3 and "pip install 'audioae[metrics]'" in no_pesq.stderr
    monkeypatch.setitem(sys.modules, "torch", None)
    no_torch = train(recipe, prepared, out)
    assert no_torch.exit_code == 3 and "pip install 'audioae[train]'" in no_torch.stderr
    assert not out.exists()


def test_signal_handlers_are_restored(recipe: Path, prepared: Path, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    train(recipe, prepared, tmp_path / "run", "--set", "training.steps=1")
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


@contextmanager
def started(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A Python process in its own group, which is killed at the end."""
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(CHECKOUT),
        "PYTHONWARNINGS": "ignore",
    }
    command = [sys.executable, *map(str, arguments)]
    process = subprocess.Popen(
        command,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate()


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGINT, 2), (signal.SIGTERM, 0)])
def test_an_interrupted_run_can_be_resumed(
    recipe: Path, prepared: Path, tmp_path: Path, number: signal.Signals, workers: int
) -> None:
    """Ctrl-C in a terminal goes to the whole process group, including the workers."""
    out, endless = (
        tmp_path / "run",
        ["--set", "training.steps=1000000", "--set", "training.report_steps=1000000"],
    )
    arguments = [
        "-m",
        "audioae",
        "train",
        recipe,
        "--data",
        prepared,
        "--out",
        out,
        *endless,
        "--set",
        f"training.workers={workers}",
    ]
    with started(*arguments) as process:
        assert process.stderr is not None
        truth = [process.stderr.readline() for _ in range(3)][-1]
        assert "steps 0 to 1,000,000" in truth, truth + process.stderr.read()
        os.killpg(process.pid, number)
        _, told = process.communicate(timeout=200)
    assert process.returncode == 130 and told == "Error: interrupted\n"
    assert sorted(path.name for path in out.iterdir()) == ["history.jsonl", "resume.safetensors"]
    step = read_tensors(out / "resume.safetensors")[1]["step"]
    assert 5 <= step < 100_000
    done = train(recipe, prepared, out, "--set", f"training.steps={step + 2}")
    assert (
        done.exit_code == 0
        and f"steps {step:,} to {step + 2:,}" in done.stderr
        and load_denoiser(out)
    )


@pytest.mark.skipif(
    not torch.distributed.is_available(), reason="this torch has no torch.distributed"
)
def test_torchrun_trains_in_two_processes_of_which_one_prints(
    recipe: Path, prepared: Path, tmp_path: Path
) -> None:
    arguments = [
        "-m",
        "audioae",
        "train",
        recipe,
        "--data",
        prepared,
        "--out",
        tmp_path / "run",
        "--json",
    ]
    with started(
        "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *arguments
    ) as process:
        stdout, stderr = process.communicate(timeout=200)
    assert process.returncode == 0, stderr
    assert (
        stderr.count("parameters") == 1
        and stderr.count("(best)") >= 1
        and "all 8 steps" not in stderr
    )
    assert [json.loads(line)["step"] for line in stdout.splitlines()] == [0, 4, 8]
    assert load_denoiser(tmp_path / "run").info.name == "tiny"


def voices(tmp_path: Path) -> Path:
    """Write recordings of five voices and, in `hum`, of one noise."""
    write_tiny(tmp_path)
    (tmp_path / "hum").mkdir()
    (tmp_path / "noises" / "kind0" / "noise.wav").rename(tmp_path / "hum" / "mine.wav")
    return tmp_path


def test_own_recordings_are_prepared_and_trained_on(recipe: Path, tmp_path: Path) -> None:
    sounds, out = voices(tmp_path / "sounds"), tmp_path / "run"
    arguments = [
        "train",
        recipe,
        "--clean",
        sounds / "voices",
        "--noise",
        sounds / "noises",
        "--rir",
        sounds / "rooms",
        "--out",
        out,
    ]
    done = audioae(*arguments, "--tensorboard")
    assert done.exit_code == 0, done.stderr
    assert load_denoiser(out).info.name == "tiny" and list((out / "tensorboard").iterdir())
    more = audioae(*arguments, "--set", "training.steps=10")
    assert more.exit_code == 0 and "steps 8 to 10" in more.stderr and "preparing" not in more.stderr
    assert [row.samples for row in read_manifest(out / "data" / "rir.jsonl")] == [
        4000
    ]  # a room is not cut to hold some of it out
    # A model of theirs, and noise of another place; its speech is where it was.
    done = audioae(
        "train",
        "--noise",
        sounds / "hum",
        "--from",
        out,
        "--out",
        tmp_path / "tuned",
        "--set",
        "training.steps=2",
    )
    assert done.exit_code == 0, done.stderr
    count = len(load_denoiser(out).state_dict())
    assert f"loaded {count} of {count} tensors from {out / 'best.safetensors'}" in done.stderr
    about = read_tensors(tmp_path / "tuned" / "best.safetensors")[1]
    assert about["recipe"]["training"]["learning_rate"] == pytest.approx(2e-3 / 5)
    first = read_tensors(out / "best.safetensors")[1]
    assert about["stages"] == [
        {"recipe": first["recipe"], "audio_hours": first["training"]["audio_hours"]}
    ]
    rows = {
        role: read_manifest(tmp_path / "tuned" / "data" / f"{role}.jsonl")
        for role in ("speech", "noise", "rir")
    }
    assert len({row.source for row in rows["speech"]}) == 5 and [
        row.split for row in rows["noise"]
    ] == ["train", "valid"]
    assert rows["noise"][1].offset == rows["noise"][0].samples


def test_preparation_prints_what_it_keeps_and_drops(recipe: Path, tmp_path: Path) -> None:
    sounds, out = voices(tmp_path / "sounds"), tmp_path / "run"
    (sounds / "voices" / "empty.wav").touch()
    done = audioae(
        "train", recipe, "--clean", sounds / "voices", "--noise", sounds / "hum", "--out", out
    )
    assert done.exit_code == 0, done.stderr
    told = done.stderr.splitlines()
    assert told[:2] == [
        f"preparing 16 files of speech into {out / 'data'}",
        f"preparing 1 file of noise into {out / 'data'}",
    ]
    assert re.fullmatch(
        r"speech: kept 0\.01 h in 15 files \(train 0\.01 h, valid 0\.00 h\)", told[2]
    )
    assert (
        told[3] == "noise: kept 0.00 h in 1 file (train 0.00 h)"
        and told[4].startswith("noise: ")
        and "20%" in told[4]
    )
    assert told[5] == f"dropped: 1 unreadable; see {out / 'data'}/dropped.jsonl" and told[
        6
    ].startswith("mixing 2 ")


def test_fine_tuning_loads_all_weights_or_none(
    recipe: Path, prepared: Path, tmp_path: Path
) -> None:
    train(recipe, prepared, tmp_path / "run")
    still = [
        "--set",
        "training.steps=1",
        "--set",
        "training.learning_rate=0",
        "--set",
        "training.ema=0",
    ]
    tuned = train(
        recipe,
        prepared,
        tmp_path / "tuned",
        "--from",
        tmp_path / "run" / "last.safetensors",
        *still,
    )
    assert tuned.exit_code == 0 and "last.safetensors" in tuned.stderr
    weights, others = (
        read_tensors(tmp_path / run / "last.safetensors")[0] for run in ("run", "tuned")
    )
    assert all(
        torch.equal(value, others[name])
        for name, value in weights.items()
        if "running" not in name and "batches" not in name
    )
    other = train(
        recipe,
        prepared,
        tmp_path / "other",
        "--from",
        tmp_path / "run",
        "--set",
        "network.channels=[6, 8]",
    )
    assert (
        other.exit_code == 3
        and re.search(r"fits \d+ of \d+ tensors", other.stderr)
        and not (tmp_path / "other").exists()
    )


def test_missing_inputs_of_a_training_are_named(
    recipe: Path, prepared: Path, tmp_path: Path
) -> None:
    sounds, out = voices(tmp_path / "sounds"), tmp_path / "run"
    nothing = audioae("train", recipe, "--out", out)
    assert (
        nothing.exit_code == 2
        and "no speech and no noise to train on; give --clean DIR and --noise DIR, or --data"
        in nothing.stderr
    )
    no_speech = audioae("train", recipe, "--noise", sounds / "hum", "--out", out)
    assert (
        no_speech.exit_code == 2
        and "no speech to train on; give --clean DIR, or --data DATA" in no_speech.stderr
    )
    no_model = train(recipe, prepared, out, "--from", "speech-61k")
    assert no_model.exit_code == 3 and "no model 'speech-61k'" in no_model.stderr
    no_recipe = train("quick-61k", prepared, out)  # type: ignore[arg-type]
    assert no_recipe.exit_code == 2 and "did you mean 'quick-16k'" in no_recipe.stderr
    other_rate = audioae("train", "--noise", sounds / "hum", "--data", prepared, "--out", out)
    assert other_rate.exit_code == 1 and "8000 Hz" in other_rate.stderr
    no_gpu = train(recipe, prepared, tmp_path / "gpu", "--device", "cuda")
    assert torch.cuda.is_available() or (
        no_gpu.exit_code == 2 and "torch finds no GPU" in no_gpu.stderr
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (90, "90 s"),
        (150, "2.5 min"),
        (3600, "60 min"),
        (9000, "2.5 h"),
        (180000, "50 h"),
    ],
)
def test_durations_have_a_suitable_unit(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def si_sdr(enhanced: Path, samples: Path) -> float:
    import soundfile

    from audioae.evaluation.metrics import si_sdr as metric

    return metric(soundfile.read(enhanced)[0], soundfile.read(samples / "clean.wav")[0])


def test_the_smoke_recipe_trains_and_denoises(samples: Path, tmp_path: Path) -> None:
    """The commands of recipes/smoke/README.md, in its order."""
    pytest.importorskip("onnx")
    done = audioae(
        "prepare",
        "--speech",
        samples / "speech.csv",
        "--noise",
        samples / "noise.csv",
        "--out",
        tmp_path / "data",
    )
    assert done.exit_code == 0, done.output
    began = time.process_time()
    done = train(SMOKE, tmp_path / "data", tmp_path / "run", "--json")
    assert done.exit_code == 0, done.output
    assert time.process_time() - began < 60
    noisy_side, *rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert rows[-1]["valid_si_sdr"] > noisy_side["noisy_si_sdr"]
    assert (
        rows[-1]["valid_loss"] < 0.9 * rows[0]["valid_loss"]
        and rows[-1]["loss"] < 0.9 * rows[0]["loss"]
    )
    assert rows[-1]["skipped_steps"] == 0
    exported = tmp_path / "smoke.onnx"
    done = audioae("export", tmp_path / "run", exported)
    assert done.exit_code == 0, done.output
    noisy = si_sdr(samples / "noisy.wav", samples)
    for name, model in (("run", tmp_path / "run"), ("onnx", exported)):
        enhanced = tmp_path / f"{name}.wav"
        done = audioae("denoise", "--model", model, samples / "noisy.wav", enhanced)
        assert done.exit_code == 0, done.output
        assert si_sdr(enhanced, samples) > noisy + 2
