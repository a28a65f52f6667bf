"""Recipes: tables become settings, overrides, errors for unknown keys and wrong values."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("pydantic")

from audioae.errors import SettingsError
from audioae.models.conv1d import Conv1dSettings
from audioae.models.conv2d import Conv2dSettings
from audioae.signal.spectrogram import StftSettings
from audioae.training import TrainSettings
from audioae.training.recipe import parse_recipe, read_recipe

RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*/recipe.toml"))

FULL = """
name = "small"
family = "conv2d"

[stft]
sample_rate = 8000
n_fft = 64
hop_length = 32
win_length = 64

[network]
channels = [4, 6]
time_strides = [1, 2]
skip = true
compression = 1

[data]
segment_seconds = 2
augment = { snr_db = [0, 10], reverb = 0.5 }

[training]
steps = 7
learning_rate = 1e-3
loss = { magnitude_mse = 2, negative_si_sdr = 0.1 }
validation = { pairs = 3, snr_db = [0, 5] }
best = "si_sdr"
"""


def written(folder: Path, text: str = FULL) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_table_becomes_a_settings_class(tmp_path: Path) -> None:
    recipe = read_recipe(written(tmp_path))
    assert recipe.name == "small" and recipe.stft == StftSettings(8000, 64, 32, 64)
    assert recipe.network == Conv2dSettings(
        num_bins=33, channels=(4, 6), time_strides=(1, 2), skip=True, compression=1.0
    )
    assert (
        recipe.data.segment_seconds == 2
        and recipe.data.augment.snr_db == (0, 10)
        and recipe.data.augment.reverb == 0.5
    )
    training = recipe.training
    assert (training.steps, training.learning_rate, training.best, training.validation.pairs) == (
        7,
        1e-3,
        "si_sdr",
        3,
    )
    assert (
        training.loss == {"magnitude_mse": 2, "negative_si_sdr": 0.1}
        and training.batch_size == TrainSettings().batch_size
    )
    assert json.loads(json.dumps(recipe.to_dict()))["network"]["channels"] == [4, 6]


def test_missing_keys_have_defaults() -> None:
    recipe = parse_recipe({"name": "plain", "family": "conv1d"})
    assert (
        recipe.network == Conv1dSettings()
        and recipe.training == TrainSettings()
        and recipe.stft == StftSettings()
    )


def test_a_recipe_builds_the_same_weights_every_time(tmp_path: Path) -> None:
    recipe = read_recipe(written(tmp_path))
    first, second = recipe.build(), recipe.build()
    assert first.name == "small" and first.info.stft == recipe.stft
    assert all(
        torch.equal(a, b)
        for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )
    other = read_recipe(written(tmp_path), ["training.seed=1"]).build()
    assert not torch.equal(next(first.parameters()), next(other.parameters()))


@pytest.mark.parametrize(
    ("override", "got", "expected"),
    [
        ("training.steps=100", lambda r: r.training.steps, 100),
        ("training.learning_rate=1e-4", lambda r: r.training.learning_rate, 1e-4),
        ("training.best=loss", lambda r: r.training.best, "loss"),  # a bare word is a text
        ('name="quoted"', lambda r: r.name, "quoted"),
        ("network.channels=[8, 10]", lambda r: r.network.channels, (8, 10)),
        ("network.skip=false", lambda r: r.network.skip, False),
        ("data.augment.eq=0.25", lambda r: r.data.augment.eq, 0.25),
        ("training.validation.seconds=2", lambda r: r.training.validation.seconds, 2),
        ("training.loss.magnitude_mae=3", lambda r: r.training.loss["magnitude_mae"], 3),
        ("training.precision = bf16", lambda r: r.training.precision, "bf16"),
    ],
)
def test_overrides_replace_values(override: str, got, expected: object, tmp_path: Path) -> None:
    assert got(read_recipe(written(tmp_path), [override])) == expected


def test_the_last_override_counts(tmp_path: Path) -> None:
    assert (
        read_recipe(written(tmp_path), ["training.steps=3", "training.steps=5"]).training.steps == 5
    )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "training.learning_rte=1",
            "TrainSettings has no setting 'learning_rte'; did you mean 'learning_rate'",
        ),
        ("trainin.steps=1", "the recipe has no setting 'trainin'; did you mean 'training'"),
        ("network.chanels=[1]", "Conv2dSettings has no setting 'chanels'; did you mean 'channels'"),
        ("stft.hop=128", "StftSettings has no setting 'hop'"),
        (
            "data.augment.reverberation=1",
            "AugmentSettings has no setting 'reverberation'; did you mean 'reverb'",
        ),
        (
            "training.validation.pair=1",
            "ValidationSettings has no setting 'pair'; did you mean 'pairs'",
        ),
        (
            "training.loss.compressed_magntude=1",
            "no loss 'compressed_magntude'; did you mean 'compressed_magnitude'",
        ),
        ("family=conv3d", "no network 'conv3d'; did you mean"),
        (
            "training.best=psq",
            r"TrainSettings.best: .*'pesq', 'si_sdr', 'loss' or 'combined'; got 'psq'",
        ),
        ("training.steps=many", "TrainSettings.steps: .*integer; got 'many'"),
        ('training.steps="100"', "TrainSettings.steps: .*integer; got '100'"),
        ("training.steps=1.5", "TrainSettings.steps: .*integer; got 1.5"),
        ("training.steps=true", "TrainSettings.steps: .*integer; got True"),
        ("training.steps=0", "TrainSettings.steps is 0; expected 1 to"),
        ("training.workers=-1", "TrainSettings.workers is -1"),
        ('data.segment_seconds="2"', "DataSettings.segment_seconds: .*number; got '2'"),
        ("data.segment_seconds=0", "DataSettings.segment_seconds is 0"),
        ("data.augment.snr_db=[5, 1]", r"AugmentSettings.snr_db is \(5.0, 1.0\)"),
        ("data.augment.snr_db=[5]", r"DataSettings.augment.snr_db"),
        ("network.skip=1", "Conv2dSettings.skip: .*boolean; got 1"),
        ("network.time_strides=[2]", "differ in length"),
        ("stft.hop_length=100", "hop_length"),
        ("training=5", "TrainSettings should be a table; got 5"),
        ("name=5", "needs a name at its top"),
        ("name.first=5", "name is a value"),
        ("training.steps", r"--set 'training.steps' is not KEY=VALUE"),
        ("training.started=2026-01-01", "no setting 'started'"),
        ("training.seed=2026-01-01", "TrainSettings.seed: .*; got '2026-01-01'"),
    ],
)
def test_errors_name_the_key_in_one_line(override: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        read_recipe(written(tmp_path), [override])
    assert "\n" not in str(caught.value)


def test_files_that_are_not_recipes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"cannot read the recipe .*gone\.toml: No such file"):
        read_recipe(tmp_path / "gone.toml")
    with pytest.raises(SettingsError, match="TOML"):
        read_recipe(written(tmp_path, "name = "))
    (tmp_path / "recipe.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="TOML"):
        read_recipe(tmp_path / "recipe.toml")
    with pytest.raises(SettingsError, match="needs a family"):
        read_recipe(written(tmp_path, 'name = "x"'))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.parent.name)
def test_recipes_of_the_project_build(path: Path) -> None:
    recipe = read_recipe(path)
    info = recipe.build().info
    assert info.name == recipe.name and info.parameters > 1000 and recipe.sample_rate >= 8000
