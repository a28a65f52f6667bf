"""The training loop: rows, learning, skipped steps, interruptions, files and errors."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import os
import stat
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tiny import RATE, STFT
from tiny_training import (
    CONV1D,
    DATA,
    SAMPLED,
    SHORT,
    assert_same_run,
    build,
    history,
    reports,
    same_tensors,
    start_of,
    stop_after,
    train,
)  # fmt: skip
from torch import Tensor, nn

from audioae.data.augment import AugmentSettings
from audioae.data.mixtures import DataSettings, Mixer
from audioae.errors import (
    CheckpointError,
    DataError,
    DependencyError,
    OutputError,
    SettingsError,
    TrainingError,
)
from audioae.models import Denoiser, NetworkSettings, build_autoencoder
from audioae.models.checkpoint import load_denoiser, read_tensors
from audioae.signal.spectrogram import StftSettings
from audioae.training import (
    Batches,
    Mixing,
    Noisy,
    Pace,
    Progress,
    Start,
    Team,
    Trainer,
    TrainSettings,
    begin_history,
    fit,
    learning_rate_at,
)
from audioae.training.validation import Validation, ValidationSettings

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def undisturbed(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "undisturbed"
    train(prepared, out)
    return out


def test_a_run_yields_rows(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audioae.training.loop.PROGRESS_SECONDS", math.inf)  # slow machines
    rows = train(prepared, tmp_path / "run", dataclasses.replace(SHORT, steps=43, report_steps=20))
    assert [type(row).__name__ for row in rows] == [
        "Mixing",
        "Noisy",
        "Start",
        *3 * ["Progress", "Report"],
    ]
    mixing, noisy, start = rows[:3]
    told = reports(rows)
    assert mixing == Mixing(2, 0.5) and isinstance(noisy, Noisy) and isinstance(start, Start)
    info = build(SAMPLED).info
    assert (start.parameters, start.macs_per_second, start.steps, start.first_step) == (
        info.parameters,
        info.macs_per_second,
        43,
        0,
    )
    assert start.speech_hours == pytest.approx(42 / 3600) and start.noise_hours == pytest.approx(
        15 / 3600
    )
    assert (
        start.audio_seconds_per_second > 0
        and start.seconds_left > 23 * 2 * 0.25 / start.audio_seconds_per_second
    )  # and two reports
    progress = [row for row in rows if isinstance(row, Progress)]
    assert [row.step for row in progress] == [20, 40, 43] and progress[-1].seconds_left == 0
    assert [row.step for row in told] == [20, 40, 43]
    assert told[1].audio_hours == pytest.approx(40 * 2 * 0.25 / 3600)
    assert all(math.isfinite(row.loss) and row.skipped_steps == 0 for row in told)
    assert [
        json.loads(line) for line in (tmp_path / "run" / "history.jsonl").read_text().splitlines()
    ] == [dataclasses.asdict(row) for row in (noisy, *told)]


def test_slow_steps_have_earlier_progress_rows(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audioae.training.loop.PROGRESS_SECONDS", 0.0)
    rows = train(prepared, tmp_path / "run", dataclasses.replace(SHORT, report_steps=18))
    assert [row.step for row in rows if isinstance(row, Progress)] == [5, 10, 15, 18]


def test_the_noisy_baseline_is_scored_once(prepared: Path, tmp_path: Path) -> None:
    """A resumed run yields it again; the history contains it once."""
    rows = train(prepared, tmp_path / "run", stop=stop_after(7)) + train(prepared, tmp_path / "run")
    first, second = (row for row in rows if isinstance(row, Noisy))
    validation = Validation(prepared, DATA, SHORT.validation, SHORT.loss)
    expected = validation.score(AsItIs())  # type: ignore[arg-type]
    assert first == second and {
        name: getattr(first, f"noisy_{name}") for name in expected
    } == pytest.approx(expected)
    assert [line["step"] for line in history(tmp_path / "run")] == [0, 6, 12, 18]


@pytest.mark.parametrize("steps", [1, 3, 5])
def test_a_very_short_run_has_a_start_row(prepared: Path, tmp_path: Path, steps: int) -> None:
    rows = train(prepared, tmp_path / "run", dataclasses.replace(SHORT, steps=steps))
    assert [type(row).__name__ for row in rows] == [
        "Mixing",
        "Noisy",
        "Start",
        "Progress",
        "Report",
    ]


def paced(pace: Pace, seconds: list[float], now: list[float]) -> None:
    """Take steps of these lengths."""
    for each in seconds:
        now[0] += each
        pace.step()


def test_the_time_left_ignores_outliers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr("audioae.training.loop.time.monotonic", lambda: now[0])
    pace = Pace(40, steps=1000, report_steps=300)
    now[0] += 7
    pace.report()
    paced(pace, [50.0], now)  # it compiled, and is the only step so far
    assert pace.step_seconds == 50.0
    paced(pace, [1.0, 1.0, 2.0, 2.0], now)
    assert (
        pace.step_seconds == 1.5 and pace.seconds_left == 955 * 1.5 + 4 * 7
    )  # reports at 300, 600, 900 and 1,000
    paced(pace, [1.0] * 90 + [600.0], now)  # the machine was suspended
    assert pace.step_seconds == pytest.approx(1.0)
    paced(pace, [3.0] * 200, now)  # another program runs
    assert pace.step_seconds == 3.0
    now[0] += 20
    pace.report()
    assert pace.at == 336 and pace.seconds_left == 664 * 3 + 3 * 20


def test_loss_falls_and_the_model_denoises(prepared: Path, tmp_path: Path) -> None:
    """On mixtures like those of the validation, so that little training is enough."""
    like_valid = DataSettings(
        segment_seconds=0.5, augment=AugmentSettings.plain(snr_db=(-5.0, 15.0))
    )
    plan = dataclasses.replace(
        SHORT,
        steps=80,
        batch_size=4,
        learning_rate=5e-3,
        report_steps=20,
        validation=ValidationSettings(4, 1.0),
    )
    told = reports(
        list(fit(build(CONV1D), plan, like_valid, folder=prepared, out=tmp_path / "run"))
    )
    validation = Validation(prepared, like_valid, plan.validation, plan.loss)
    noisy, untrained = (validation.score(each) for each in (AsItIs(), build(CONV1D).eval()))
    assert told[-1].loss < 0.8 * told[0].loss
    assert told[-1].valid_loss < 0.8 * untrained["loss"]  # type: ignore[operator]
    assert told[-1].valid_si_sdr > max(noisy["si_sdr"] + 0.5, untrained["si_sdr"])
    best = validation.score(load_denoiser(tmp_path / "run"))
    assert best["si_sdr"] == pytest.approx(max(row.valid_si_sdr for row in told), abs=1e-3)


class AsItIs(nn.Module):
    """A denoiser that returns its input."""

    settings = STFT

    def __init__(self) -> None:
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(()))

    def forward(self, waveform: Tensor) -> tuple[Tensor, None]:
        return waveform, None


def test_validation_is_the_same_for_every_run(prepared: Path) -> None:
    first, second = (
        Validation(prepared, data, SHORT.validation, SHORT.loss)
        for data in (DATA, DataSettings(segment_seconds=2.0))
    )
    assert len(first.pairs) == 2
    for (noisy, clean), (same, target) in zip(first.pairs, second.pairs, strict=True):
        assert (
            noisy.shape == (RATE // 2,) and torch.equal(noisy, same) and torch.equal(clean, target)
        )


@pytest.mark.parametrize("steps", [1, 6, 11])
def test_an_interrupted_run_equals_one_without_interruption(
    prepared: Path, undisturbed: Path, tmp_path: Path, steps: int
) -> None:
    out = tmp_path / "run"
    rows = train(prepared, out, stop=stop_after(steps))
    assert [row.step for row in reports(rows)] == list(range(6, steps + 1, 6))
    assert read_tensors(out / "resume.safetensors")[1]["step"] == steps
    rows = train(prepared, out)
    assert start_of(rows).first_step == steps
    assert_same_run(out, undisturbed)


def test_a_run_may_be_interrupted_after_every_step(
    prepared: Path, undisturbed: Path, tmp_path: Path
) -> None:
    for _ in range(18):
        train(prepared, tmp_path / "run", stop=lambda: True)
    assert_same_run(tmp_path / "run", undisturbed)


@pytest.mark.filterwarnings(
    "ignore:This DataLoader will create", "ignore:.*fork:DeprecationWarning"
)
def test_workers_change_nothing(prepared: Path, undisturbed: Path, tmp_path: Path) -> None:
    shared = dataclasses.replace(SHORT, workers=2)
    train(prepared, tmp_path / "run", shared, stop=stop_after(4))
    train(prepared, tmp_path / "run", shared)
    assert_same_run(tmp_path / "run", undisturbed)


def test_a_finished_run_has_nothing_to_do(prepared: Path, undisturbed: Path) -> None:
    before = history(undisturbed)
    assert train(prepared, undisturbed) == [] and history(undisturbed) == before


def test_a_finished_run_can_take_more_steps(prepared: Path, tmp_path: Path) -> None:
    train(prepared, tmp_path / "run", dataclasses.replace(SHORT, steps=6))
    rows = train(prepared, tmp_path / "run", dataclasses.replace(SHORT, steps=12))
    assert [row.step for row in reports(rows)] == [12] and [
        line["step"] for line in history(tmp_path / "run")
    ] == [0, 6, 12]


def test_history_drops_steps_that_are_repeated(tmp_path: Path) -> None:
    path, noisy = tmp_path / "history.jsonl", Noisy(0, 1.5, 5.0, None, 0.8)
    first = json.dumps(dataclasses.asdict(noisy)) + "\n"
    begin_history(path, noisy, 0)
    assert path.read_text() == first
    path.write_text(
        '{"step": 0}\n{"step": 5}\n{"step": 10}\n{"step": 15}\n{"step": 20, "lo'
    )  # the last one cut short by a power failure
    begin_history(path, noisy, 10)
    assert path.read_text() == first + '{"step": 5}\n{"step": 10}\n'
    path.unlink()
    begin_history(path, noisy, 10)
    assert path.read_text() == first
    with pytest.raises(OutputError, match="cannot write"):
        begin_history(tmp_path / "gone" / "history.jsonl", noisy, 10)


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    clean, noise = (
        torch.from_numpy(0.1 * rng.standard_normal((2, 800)).astype(np.float32)) for _ in range(2)
    )
    return clean + noise, clean


def snapshot(trainer: Trainer) -> dict[str, Any]:
    """Everything but the counters."""
    return copy.deepcopy(
        {
            "model": trainer.model.state_dict(),
            "average": trainer.average.state_dict(),
            "optimizer": trainer.optimizer.state_dict()["state"],
        }
    )


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(
            same(value, other[name]) for name, value in one.items()
        )
    return torch.equal(one, other) if isinstance(one, Tensor) else bool(one == other)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e30])
@pytest.mark.parametrize("network", [CONV1D, SAMPLED], ids=["conv1d", "conv2d"])
def test_a_step_that_is_not_finite_changes_nothing(network: NetworkSettings, value: float) -> None:
    trainer = Trainer(build(network), SHORT)
    noisy, clean = batch()
    assert math.isfinite(trainer.train_step(noisy, clean))
    before = snapshot(trainer)
    assert any("running_mean" in name for name in before["model"]) and before["optimizer"]
    spoilt = noisy.clone()
    spoilt[1, 400] = value
    assert math.isnan(trainer.train_step(spoilt, clean))
    assert same(snapshot(trainer), before)
    assert (trainer.step, trainer.skipped) == (2, 1)
    assert math.isfinite(trainer.train_step(*batch(1))) and not same(snapshot(trainer), before)
    assert all(torch.isfinite(each).all() for each in trainer.model.state_dict().values())


def test_a_skipped_step_does_not_affect_the_next(tmp_path: Path) -> None:
    """The gradients of the bad batch are dropped."""
    constant = dataclasses.replace(SHORT, warmup_steps=0, decay_steps=1)
    clean_run, spoilt_run = (Trainer(build(CONV1D), constant) for _ in range(2))
    noisy, clean = batch()
    spoilt_run.train_step(noisy * math.nan, clean)
    spoilt_run.step = 0
    for trainer in (clean_run, spoilt_run):
        trainer.train_step(noisy, clean)
    assert same(snapshot(clean_run), snapshot(spoilt_run))


def test_skipped_steps_are_counted(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair, calls = Mixer.pair, iter(range(10**6))

    def spoil(mixer: Mixer, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        noisy, clean = pair(mixer, rng)
        return (
            noisy * np.float32(np.nan) if next(calls) in (2 + 3, 2 + 8) else noisy
        ), clean  # after the two for validation

    monkeypatch.setattr(Mixer, "pair", spoil)
    told = reports(train(prepared, tmp_path / "run"))
    assert [row.skipped_steps for row in told] == [2, 2, 2] and all(
        math.isfinite(row.loss) for row in told
    )


def test_a_diverging_training_is_stopped_and_keeps_its_checkpoints(
    prepared: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    train(prepared, out, stop=stop_after(6))  # to the first report
    kept = {path.name: path.read_bytes() for path in out.glob("*.safetensors")}
    assert {"last.safetensors", "best.safetensors", "resume.safetensors"} <= kept.keys()
    wild = dataclasses.replace(SHORT, warmup_steps=0)
    object.__setattr__(wild, "learning_rate", math.inf)  # settings refuse it
    with pytest.raises(TrainingError, match="diverged at step 12") as caught:
        train(prepared, out, wild)
    assert "last.safetensors" in str(caught.value) and caught.value.exit_code == 1
    assert {path.name: path.read_bytes() for path in out.glob("*.safetensors")} == kept
    with pytest.raises(TrainingError):
        train(prepared, tmp_path / "other", wild)
    assert list((tmp_path / "other").glob("*.safetensors")) == []


def test_many_skipped_steps_in_a_row_end_a_training(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audioae.training.state.MAX_SKIPPED", 4)
    monkeypatch.setattr(Trainer, "backward", lambda self, *_: torch.tensor(math.nan))
    with pytest.raises(TrainingError, match="4 steps"):
        train(prepared, tmp_path / "run")
    assert not (tmp_path / "run" / "resume.safetensors").exists()


def test_a_model_far_worse_than_none_ends_a_training(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audioae.training.reports.WORST", 1e-9)
    with pytest.raises(TrainingError, match="validation loss"):
        train(prepared, tmp_path / "run")
    assert list((tmp_path / "run").glob("*.safetensors")) == []


def test_large_gradients_are_clipped() -> None:
    taken = []
    for scale in (1.0, 1000.0):
        trainer = Trainer(
            build(CONV1D), dataclasses.replace(SHORT, loss={"magnitude_mse": scale}, clip_norm=0.01)
        )
        trainer.train_step(*batch())
        taken.append(
            math.sqrt(
                sum(
                    float(each.grad.square().sum())
                    for each in trainer.model.parameters()
                    if each.grad is not None
                )
            )
        )
    assert taken == pytest.approx([0.01, 0.01], rel=1e-3)


def test_the_average_follows_weights_and_statistics() -> None:
    trainer = Trainer(build(CONV1D), dataclasses.replace(SHORT, ema=0.5))
    expected = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    for step in range(1, 8):
        trainer.train_step(*batch(step))
        decay = min(0.5, (1 + step) / (10 + step))
        for name, value in trainer.model.state_dict().items():
            expected[name] = (
                decay * expected[name] + (1 - decay) * value
                if value.dtype.is_floating_point
                else value
            )
    for name, value in trainer.average.state_dict().items():
        torch.testing.assert_close(value, expected[name], atol=1e-6, rtol=1e-5)
    assert not trainer.average.training


def test_the_learning_rate_schedule() -> None:
    settings = TrainSettings(steps=1000, learning_rate=1.0, warmup_steps=100, decay_steps=200)
    rates = [learning_rate_at(step, settings) for step in range(1000)]
    assert rates[:3] == pytest.approx([0.01, 0.02, 0.03]) and rates[99] == 1
    assert rates[99:801] == [1] * 702
    assert rates[900] == pytest.approx(0.5) and 0 < rates[-1] < 1e-3
    assert all(a >= b for a, b in pairwise(rates[800:]))


def test_without_a_plateau_the_learning_rate_is_a_cosine() -> None:
    settings = TrainSettings(steps=1000, learning_rate=2.0, warmup_steps=0)
    for step in (0, 250, 500, 999):
        assert learning_rate_at(step, settings) == pytest.approx(
            1 + math.cos(math.pi * step / 1000)
        )


def test_the_optimizer_takes_the_scheduled_rate(prepared: Path, tmp_path: Path) -> None:
    told = reports(train(prepared, tmp_path / "run"))
    assert [row.learning_rate for row in told] == [
        learning_rate_at(step, SHORT) for step in (5, 11, 17)
    ]
    trainer = Trainer(build(CONV1D), SHORT)
    trainer.train_step(*batch())
    assert trainer.optimizer.param_groups[0]["lr"] == learning_rate_at(0, SHORT)


def test_bf16_trains_and_keeps_fp32_weights(prepared: Path, tmp_path: Path) -> None:
    told = reports(
        train(prepared, tmp_path / "run", dataclasses.replace(SHORT, precision="bf16", steps=6))
    )
    assert math.isfinite(told[0].loss) and told[0].skipped_steps == 0
    assert all(
        each.dtype != torch.bfloat16
        for each in read_tensors(tmp_path / "run" / "last.safetensors")[0].values()
    )


@pytest.mark.parametrize(
    ("best", "values"),
    [("si_sdr", [1.0, 3.0, 2.0]), ("pesq", [None, 2.0, 1.5]), ("loss", [0.5, 0.2, 0.3])],
)
def test_the_best_checkpoint_is_the_best_report(
    prepared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    best: str,
    values: list[float | None],
) -> None:
    scores, averages = iter(values), []

    def rows(validation: Validation, denoiser: Denoiser) -> list[dict[str, float | None]]:
        averages.append(copy.deepcopy(denoiser.state_dict()))
        return [{"loss": 1.0, "si_sdr": 1.0, "pesq": None, "stoi": None} | {best: next(scores)}]

    monkeypatch.setattr(Validation, "rows", rows)
    monkeypatch.setattr("audioae.training.loop.find_spec", lambda name: object())
    told = reports(train(prepared, tmp_path / "run", dataclasses.replace(SHORT, best=best)))
    assert [row.is_best for row in told] == [values[0] is not None, True, False]
    best_tensors, about = read_tensors(tmp_path / "run" / "best.safetensors")
    assert same_tensors(best_tensors, averages[1]) and about["training"]["step"] == 12
    assert same_tensors(read_tensors(tmp_path / "run" / "last.safetensors")[0], averages[2])


def test_checkpoints_contain_metadata(prepared: Path, tmp_path: Path) -> None:
    train(
        prepared,
        tmp_path / "run",
        dataclasses.replace(SHORT, steps=6),
        about={"recipe": {"name": "small"}},
    )
    about = read_tensors(tmp_path / "run" / "best.safetensors")[1]
    assert (
        about["recipe"] == {"name": "small"}
        and about["training"]["step"] == 6
        and about["training"]["audio_hours"] > 0
    )
    assert load_denoiser(tmp_path / "run").info == build(SAMPLED).info


def test_a_run_of_another_network_is_refused(prepared: Path, tmp_path: Path) -> None:
    train(prepared, tmp_path / "run", dataclasses.replace(SHORT, steps=1))
    before = (tmp_path / "run" / "resume.safetensors").read_bytes()
    for network, part in (
        (CONV1D, "family"),
        (dataclasses.replace(SAMPLED, skip=False), "network"),
    ):
        with pytest.raises(
            CheckpointError, match=f"another {part} than this recipe; give another --out"
        ):
            train(prepared, tmp_path / "run", network=network)
    other = Denoiser(build_autoencoder(SAMPLED), StftSettings(RATE, 64, 16, 64))
    with pytest.raises(CheckpointError, match="another stft"):
        list(fit(other, SHORT, DATA, folder=prepared, out=tmp_path / "run"))
    (tmp_path / "run" / "resume.safetensors").write_bytes(before[:500])
    with pytest.raises(CheckpointError, match=r"resume\.safetensors is not"):
        train(prepared, tmp_path / "run")


def test_errors_are_raised_before_training(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written."""
    out = tmp_path / "run"
    with pytest.raises(DataError, match="is no prepared data"):
        train(tmp_path / "gone", out)
    other_rate = Denoiser(build_autoencoder(SAMPLED), StftSettings(16000, 64, 32, 64))
    with pytest.raises(SettingsError, match="8000 Hz, the network is for 16000 Hz"):
        list(fit(other_rate, SHORT, DATA, folder=prepared, out=out))
    monkeypatch.setitem(sys.modules, "pesq", None)
    with pytest.raises(
        DependencyError, match=r"pip install 'audioae\[metrics\]', or set training.best"
    ):
        train(prepared, out, dataclasses.replace(SHORT, best="pesq"))
    assert not out.exists()


def test_a_full_disk_leaves_the_last_checkpoint(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: Path
) -> None:
    out, written = tmp_path / "run", iter(range(100))

    def full(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            return
        # 6 files: the history's first line; last, best and resume of the first report; last and
        # best of the second
        if next(written) >= 6:
            raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patched, pytest.raises(OutputError, match="No space left"):
        patched.setattr(os, "fsync", full)
        train(prepared, out)
    assert (
        read_tensors(out / "resume.safetensors")[1]["step"] == 6
        and load_denoiser(out).info.name == "small"
    )
    train(prepared, out)
    assert_same_run(out, undisturbed)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"report_steps": 0}, "report_steps is 0"),
        ({"learning_rate": -1.0}, "learning_rate is -1"),
        ({"workers": -1}, "workers is -1"),
        ({"loss": {"nothing": 1.0}}, "no loss 'nothing'"),
        ({"loss": {"magnitude_mse": -1.0}}, "loss"),
        ({"loss": {"magnitude_mse": math.nan}}, "magnitude_mse is nan"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
        ({"learning_rate": math.inf}, "learning_rate is inf"),
        ({"learning_rate": 1e6}, "learning_rate is 1000000"),
        ({"betas": (0.9, 1.0)}, "betas"),
        ({"betas": (0.9,)}, "betas"),
        ({"ema": 1.5}, "ema is 1.5"),
        ({"clip_norm": -1.0}, "clip_norm is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"steps": 10**12}, "steps is"),
        ({"steps": True}, "steps is True"),
        ({"steps": "7"}, "steps is '7'"),
        ({"precision": "fp8"}, "precision is 'fp8'"),
        ({"decay_steps": -1}, "decay_steps is -1"),
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        TrainSettings(**wrong)


def test_a_batch_that_does_not_divide_is_refused() -> None:
    with pytest.raises(SettingsError, match="batch_size 2 does not divide among 3 processes"):
        Batches(SHORT, 0, Team(0, 3))
    shares = [
        list(Batches(dataclasses.replace(SHORT, batch_size=4, steps=8), 6, Team(rank, 2)))
        for rank in (0, 1)
    ]
    assert shares == [[[24, 25], [28, 29]], [[26, 27], [30, 31]]]
