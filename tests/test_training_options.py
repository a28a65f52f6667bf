"""Options of a training: precision, accumulation, patience, averages, devices, TensorBoard."""

from __future__ import annotations

import dataclasses
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tiny import BINS, STFT
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
    stop_after,
    train,
)
from torch import Tensor

from audioae.data.augment import AugmentSettings
from audioae.data.mixtures import Corpus, DataSettings, Mixer, MixtureDataset
from audioae.errors import CheckpointError, DataError, ModelNotFoundError, SettingsError
from audioae.models import (
    Denoiser,
    checkpoint,
)
from audioae.models.checkpoint import (
    load_denoiser,
    load_weights,
    read_tensors,
    trained_file,
    write_tensors,
)
from audioae.models.dense import DenseSettings
from audioae.training import Batches, Team, Trainer, TrainSettings, find_device, mean_weights
from audioae.training.loop import mixed_on_device
from audioae.training.recipe import check_version, parse_recipe, stored_recipe
from audioae.training.validation import Validation

DENSE = DenseSettings(num_bins=BINS, patch=4, widths=(16,), activation="identity")


def batch(pairs: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    clean, noise = (
        torch.from_numpy(0.1 * rng.standard_normal((pairs, 800)).astype(np.float32))
        for _ in range(2)
    )
    return clean + noise, clean


def test_gradient_accumulation_takes_the_same_step() -> None:
    """Without BatchNorm, whose statistics are those of each part."""
    whole, parts = (
        Trainer(build(DENSE), dataclasses.replace(SHORT, batch_size=4, accumulate=n))
        for n in (1, 4)
    )
    for step in range(3):
        losses = [trainer.train_step(*batch(seed=step)) for trainer in (whole, parts)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for name, value in whole.model.state_dict().items():
        torch.testing.assert_close(parts.model.state_dict()[name], value, atol=1e-4, rtol=0)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains_skips_and_resumes(
    precision: Any, prepared: Path, tmp_path: Path
) -> None:
    settings = dataclasses.replace(SHORT, precision=precision, steps=12)
    train(prepared, tmp_path / "whole", settings)
    train(prepared, tmp_path / "run", settings, stop=stop_after(7))
    told = reports(train(prepared, tmp_path / "run", settings))
    assert_same_run(tmp_path / "run", tmp_path / "whole")
    assert (
        math.isfinite(told[-1].loss) and told[-1].skipped_steps < 6
    )  # the scale of fp16 is found by trying
    scaler = read_tensors(tmp_path / "run" / "resume.safetensors")[1]["scaler"]
    assert ("scale" in scaler) == (precision == "fp16")
    assert all(
        value.dtype in (torch.float32, torch.int64)
        for value in load_denoiser(tmp_path / "run").state_dict().values()
    )


def test_a_step_of_fp16_that_overflows_changes_only_the_scale() -> None:
    trainer = Trainer(build(CONV1D), dataclasses.replace(SHORT, precision="fp16"))
    noisy, clean = batch()
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    scale = trainer.scaler.get_scale()
    assert math.isnan(trainer.train_step(noisy * math.nan, clean))
    assert (
        same_tensors(trainer.model.state_dict(), before) and trainer.scaler.get_scale() == scale / 2
    )


def score_in_turn(monkeypatch: pytest.MonkeyPatch, values: list[float]) -> None:
    scores = iter(values)
    monkeypatch.setattr(
        Validation,
        "rows",
        lambda *_: [{"loss": 1.0, "si_sdr": next(scores), "pesq": None, "stoi": None}],
    )


def test_patience_ends_a_run(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score_in_turn(monkeypatch, [1.0, 3.0, 2.0, 2.5, 9.0])
    settings = dataclasses.replace(SHORT, steps=40, report_steps=4, patience=2)
    first = reports(train(prepared, tmp_path / "run", settings, CONV1D, stop=stop_after(13)))
    then = reports(
        train(prepared, tmp_path / "run", settings, CONV1D)
    )  # it is remembered how long there was no better one
    assert [row.reports_since_best for row in first + then] == [0, 0, 1, 2] and then[-1].step == 16
    assert train(prepared, tmp_path / "run", settings, CONV1D) == []
    assert (
        reports(
            train(
                prepared,
                tmp_path / "run",
                dataclasses.replace(settings, patience=3, steps=20),
                CONV1D,
            )
        )[-1].step
        == 20
    )


@pytest.mark.parametrize(("which", "steps"), [("best", (4, 8, 16)), ("last", (8, 12, 16))])
def test_the_end_of_a_run_averages_checkpoints(
    which: Any,
    steps: tuple[int, ...],
    prepared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    score_in_turn(monkeypatch, [2.0, 4.0, 1.0, 3.0, 5.0])
    settings = dataclasses.replace(
        SHORT, steps=16, report_steps=4, average_checkpoints=3, average_of=which
    )
    last = reports(train(prepared, tmp_path / "run", settings, CONV1D))[-1]
    assert last.averaged == 3 and last.is_best and last.valid_si_sdr == 5.0
    files = sorted((tmp_path / "run" / "kept").iterdir())
    assert [file.name for file in files] == [f"step-{step:09}.safetensors" for step in steps]
    averaged = read_tensors(tmp_path / "run" / "averaged.safetensors")[0]
    assert same_tensors(
        averaged, load_denoiser(tmp_path / "run" / "averaged.safetensors").state_dict()
    )
    for name, value in averaged.items():
        if value.is_floating_point():
            every = torch.stack([read_tensors(file)[0][name].double() for file in files])
            torch.testing.assert_close(value.double(), every.mean(0), atol=1e-6, rtol=1e-5)
    assert same_tensors(read_tensors(tmp_path / "run" / "best.safetensors")[0], averaged)
    assert train(prepared, tmp_path / "run", settings, CONV1D) == []


def test_averages_survive_an_interruption(prepared: Path, tmp_path: Path) -> None:
    settings = dataclasses.replace(SHORT, report_steps=3, average_checkpoints=2)
    train(prepared, tmp_path / "whole", settings)
    for steps in (4, 5, 20):
        train(prepared, tmp_path / "run", settings, stop=stop_after(steps))
    assert_same_run(tmp_path / "run", tmp_path / "whole")
    averages = [
        read_tensors(tmp_path / run / "averaged.safetensors")[0] for run in ("run", "whole")
    ]
    assert same_tensors(*averages)


def test_checkpoints_of_different_networks_are_not_averaged(tmp_path: Path) -> None:
    for number, network in enumerate((CONV1D, SAMPLED)):
        checkpoint.save_model(tmp_path / f"{number}.safetensors", build(network))
    with pytest.raises(CheckpointError, match="different networks"):
        mean_weights([tmp_path / "0.safetensors", tmp_path / "1.safetensors"])


def test_the_device_mixes_what_workers_mix(prepared: Path, tmp_path: Path) -> None:
    """On the CPU; a batch is divided among processes as with workers."""
    data = DataSettings(segment_seconds=0.25, augment=AugmentSettings.plain())
    settings = dataclasses.replace(SHORT, batch_size=4, steps=6, report_steps=6, mix_on="device")
    corpus = Corpus(prepared, "train", data)
    pairs = MixtureDataset(Mixer(corpus, data), seed=settings.seed, pairs=24)
    for rank in (0, 1):
        trainer = Trainer(build(CONV1D), settings, team=Team(rank, 2))
        for step, (noisy, clean) in enumerate(
            mixed_on_device(trainer, corpus, data, Batches(settings, 0, Team(rank, 2)))
        ):
            for number in range(2):
                expected, target = pairs[4 * step + 2 * rank + number]
                torch.testing.assert_close(noisy[number], expected, atol=1e-4, rtol=1e-3)
                torch.testing.assert_close(clean[number], target, atol=1e-4, rtol=1e-3)
    whole = reports(train(prepared, tmp_path / "whole", settings))
    train(prepared, tmp_path / "run", settings, stop=stop_after(2))
    train(prepared, tmp_path / "run", settings)
    assert math.isfinite(whole[-1].loss)
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_devices_are_found_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="device 'tpu'; expected one of auto, cpu, cuda"):
        find_device("tpu")
    assert find_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert find_device("auto") == torch.device("cpu")
    with pytest.raises(SettingsError, match="torch finds no GPU"):
        find_device("cuda")


@pytest.fixture
def spoilt(prepared: Path, tmp_path: Path) -> Path:
    """A copy of the data whose shards can be damaged."""
    shutil.copytree(prepared, tmp_path / "data")
    return tmp_path / "data"


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("damage", ["missing", "cut"])
@pytest.mark.filterwarnings(
    "ignore:This DataLoader will create", "ignore:.*fork:DeprecationWarning"
)
def test_a_damaged_shard_is_named_and_the_checkpoint_kept(
    workers: int, damage: str, spoilt: Path, tmp_path: Path
) -> None:
    settings = dataclasses.replace(SHORT, workers=workers)
    out = tmp_path / "run"
    train(spoilt, out, settings, stop=stop_after(7))
    before = (out / "resume.safetensors").read_bytes()
    for shard in (spoilt / "shards").glob("noise*"):
        data = shard.read_bytes()
        shard.unlink()
        if damage == "cut":
            shard.write_bytes(data[: len(data) // 40 * 2])
    with pytest.raises(
        DataError, match=r"(cannot read the shard|the shard is cut short).*prepare "
    ) as caught:
        train(spoilt, out, settings)
    assert "\n" not in str(caught.value) and "Traceback" not in str(caught.value)
    assert (out / "resume.safetensors").read_bytes() == before and load_denoiser(out)


def test_a_resume_file_of_the_first_version_is_read(prepared: Path, tmp_path: Path) -> None:
    """Older files have no patience and no loss scale."""
    train(prepared, tmp_path / "whole")
    train(prepared, tmp_path / "run", stop=stop_after(6))
    tensors, about = read_tensors(tmp_path / "run" / "resume.safetensors")
    old = {
        name: value for name, value in about.items() if name not in ("reports_since_best", "scaler")
    }
    write_tensors(tmp_path / "run" / "resume.safetensors", tensors, old)
    train(prepared, tmp_path / "run")
    for name in ("model", "average", "optimizer"):
        (one, _), (other, _) = (
            read_tensors(tmp_path / run / "resume.safetensors") for run in ("run", "whole")
        )
        assert any(key.startswith(f"{name}.") for key in one) and same_tensors(one, other)


def test_a_checkpoint_contains_its_recipe(prepared: Path, tmp_path: Path) -> None:
    table = {
        "name": "small",
        "family": "conv1d",
        "network": {"channels": [6]},
        "training": {"steps": 9000, "learning_rate": 1e-3},
    }
    recipe = parse_recipe(
        {**table, "stft": {"sample_rate": 8000, "n_fft": 64, "hop_length": 32, "win_length": 64}}
    )
    checkpoint.save_model(tmp_path / "a.safetensors", recipe.build(), recipe=recipe.to_dict())
    assert stored_recipe(tmp_path / "a.safetensors") == recipe
    tuned = stored_recipe(tmp_path / "a.safetensors", ["data.segment_seconds=1"], tune=True)
    assert tuned.network == recipe.network and tuned.data.segment_seconds == 1
    assert (
        tuned.training.steps == 2000
        and tuned.training.learning_rate == pytest.approx(2e-4)
        and tuned.training.report_steps == 250
    )
    checkpoint.save_model(tmp_path / "b.safetensors", recipe.build())
    with pytest.raises(CheckpointError, match="no recipe"):
        stored_recipe(tmp_path / "b.safetensors")


def test_weights_to_start_from_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from audioae.pretrained import ModelEntry

    monkeypatch.setattr("audioae.pretrained.registry.WEIGHTS", tmp_path)
    entries = [ModelEntry(name, f"{name}/model.onnx", "0" * 64) for name in ("good-16k", "bare")]
    monkeypatch.setattr(checkpoint, "list_models", lambda: entries)
    (tmp_path / "good-16k").mkdir()
    (tmp_path / "good-16k" / checkpoint.SHIPPED).touch()
    assert trained_file("good-16k") == tmp_path / "good-16k" / "weights.safetensors"
    with pytest.raises(ModelNotFoundError, match="without a checkpoint"):
        trained_file("bare")
    with pytest.raises(ModelNotFoundError, match="no model 'god-16k'; did you mean 'good-16k'"):
        trained_file("god-16k")
    (tmp_path / "x.onnx").touch()
    with pytest.raises(CheckpointError, match="is an exported model"):
        trained_file(tmp_path / "x.onnx")


def test_loading_counts_tensors(tmp_path: Path) -> None:
    denoiser = build(CONV1D)
    assert load_weights(denoiser, build(CONV1D, 1).state_dict(), tmp_path) == len(
        denoiser.state_dict()
    )


@pytest.mark.parametrize("version", ["", "0", "0.1", "0.1.0"])
def test_a_recipe_for_this_version_is_accepted(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audioae.training.recipe.__version__", "0.1.0")
    check_version(version)


@pytest.mark.parametrize(
    ("version", "message"),
    [("0.2", "for audioae 0.2, this is 0.1.0"), ("1", "audioae 1"), (0.1, "version 0.1; expected")],
)
def test_a_recipe_of_another_version_is_refused_before_its_keys(
    version: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audioae.training.recipe.__version__", "0.1.0")
    with pytest.raises(SettingsError, match=message):
        parse_recipe({"name": "x", "family": "conv1d", "version": version, "of_the_future": {}})


def test_tensorboard_has_curves_audio_and_spectrograms(prepared: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from audioae.training.tracking import Mixtures, Tracker, picture

    tracker = Tracker(tmp_path / "run", SHORT, Mixtures(prepared, DATA, SHORT, STFT))
    for row in train(prepared, tmp_path / "run", network=CONV1D):
        tracker.write(row)
    tracker.close()
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert {
        "train/loss",
        "train/learning_rate",
        "valid/si_sdr",
        "valid/loss",
        "train/skipped_steps",
    } <= set(tags["scalars"])
    assert [event.step for event in events.Scalars("valid/si_sdr")] == [6, 12, 18]
    to_beat = history(tmp_path / "run")[0]["noisy_si_sdr"]
    assert [event.value for event in events.Scalars("valid/si_sdr_noisy")] == pytest.approx(
        [to_beat] * 3
    )
    assert {"example 0/noisy", "example 0/clean", "example 1/enhanced"} <= set(tags["audio"]) & set(
        tags["images"]
    )
    tone = np.sin(2 * np.pi * 1000 * np.arange(8000) / 8000).astype(np.float32)
    image = picture(tone, STFT)
    assert image.shape == (BINS, 251) and image.max() == 255
    assert set(np.argmax(image[:, 5:-5], 0)) == {BINS - 1 - 8}  # 1 kHz of 4 kHz, from above


@pytest.mark.parametrize(
    "wrong", [{"accumulate": 0}, {"patience": -1}, {"average_checkpoints": -1}]
)
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=f"TrainSettings.{next(iter(wrong))} is"):
        TrainSettings(**wrong)


def test_the_average_shares_no_memory_with_the_network() -> None:
    trainer = Trainer(build(CONV1D), SHORT)
    assert isinstance(trainer.average, Denoiser) and trainer.average is not trainer.model
    assert not {each.data_ptr() for each in trainer.average.parameters()} & {
        each.data_ptr() for each in trainer.model.parameters()
    }
