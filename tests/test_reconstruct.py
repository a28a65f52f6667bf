"""Reconstruction as a task: every network, bottleneck, encoder and decoder trains, is saved, is
loaded, is exported and runs; invalid combinations name the alternative.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchaudio")
pytest.importorskip("librosa")

from click.testing import CliRunner

from audioae.cli import main
from audioae.data.mixtures import DataSettings
from audioae.engine.codecs import OnnxCodec, TorchCodec
from audioae.errors import SettingsError
from audioae.models import Reconstructor, build_autoencoder, settings_class
from audioae.models.bottlenecks import Gaussian, Sparse
from audioae.models.checkpoint import load_reconstructor, save_model
from audioae.models.conv1d import Conv1dSettings
from audioae.models.conv2d import Conv2dSettings
from audioae.models.dense import DenseSettings
from audioae.models.dualpath import DualpathSettings
from audioae.signal.features import FeatureSettings
from audioae.tasks import Codec
from audioae.training import (
    Baseline,
    ReconstructionReport,
    Trainer,
    TrainSettings,
    fit,
)
from audioae.training.closed_form import start_from_data
from audioae.training.losses.distances import FEATURE_LOSSES
from audioae.training.recipe import parse_recipe
from audioae.training.reconstruction import active_units, active_values, small_share
from audioae.training.sounds import SoundCorpus, SoundDataset, StartKind
from audioae.training.validation import ValidationSettings

torch.set_num_threads(1)

RATE = 8000
MEL = FeatureSettings(sample_rate=RATE, n_fft=128, hop_length=64, win_length=128, n_mels=16)
MAGNITUDE = dataclasses.replace(MEL, kind="magnitude")
SETTINGS = TrainSettings(
    steps=6,
    batch_size=2,
    learning_rate=1e-2,
    warmup_steps=1,
    ema=0.5,
    loss={"mse": 1.0},
    report_steps=3,
    best="loss",
    validation=ValidationSettings(pairs=2, seconds=0.5),
)
DATA = DataSettings(segment_seconds=0.5)

BOTTLENECKS: dict[str, dict[str, Any]] = {
    "plain": {},
    "sparse-l1": {"bottleneck": "sparse", "bottleneck_norm": 1, "latent_activation": "batch_norm"},
    "sparse-l2": {"bottleneck": "sparse", "bottleneck_norm": 2, "latent_activation": "relu"},
    "gaussian": {
        "bottleneck": "gaussian",
        "latent_activation": "identity",
        "free_bits": 0.01,
        "warmup_steps": 4,
    },
}
FORMS: dict[str, dict[str, Any]] = {
    "convolutional": {},
    "patch": {"patch": 8},
    "vector": {"patch": 8, "latent_size": 5},
}
RESAMPLING = list(
    itertools.product(["strided", "max_pool", "average_pool"], ["transpose", "nearest"])
)


def combinations() -> dict[str, tuple[str, dict[str, Any], FeatureSettings]]:
    """Every valid combination: family, settings of the network, features."""
    found: dict[str, tuple[str, dict[str, Any], FeatureSettings]] = {}
    for name, bottleneck in BOTTLENECKS.items():
        for activation in ("identity", "leaky_relu"):
            own = {"patch": 4, "widths": (12, 6), "activation": activation}
            found[f"dense-{activation}-{name}"] = ("dense", {**own, **bottleneck}, MEL)
        own = {"patch": 4, "widths": (12, 6), "linear_path": True}
        own |= {**bottleneck, "latent_activation": "identity"}
        found[f"dense-linear_path-{name}"] = ("dense", own, MEL)
        found[f"dualpath-{name}"] = (
            "dualpath",
            {
                "low_bins": 17,
                "num_bands": 16,
                "nyquist_hz": 4000.0,
                "outer": 4,
                "inner": 4,
                "squeeze": 2,
                "time_mixers": ("conv",),
                "dilations": (1,),
                "causal": False,
                "num_features": 1,
                "gain": "real",
                **bottleneck,
            },
            MAGNITUDE,
        )
        for (encoder, decoder), (form, values) in itertools.product(RESAMPLING, FORMS.items()):
            own = {"encoder": encoder, "decoder": decoder, **values, **bottleneck}
            for family, channels in (("conv1d", (8, 6)), ("conv2d", (4, 6))):
                label = f"{family}-{encoder}-{decoder}-{form}-{name}"
                changes = {"channels": channels, "time_strides": (2, 2), **own}
                found[label] = (family, changes, MEL)
    return found


THRESHOLD = {"bottleneck": "sparse", "latent_activation": "soft_threshold"}
COMBINATIONS = combinations() | {
    "dense-threshold": ("dense", {"patch": 4, "widths": (12, 6)} | THRESHOLD, MEL),
    "conv1d-threshold": ("conv1d", {"channels": (8, 6)} | THRESHOLD, MEL),
    "conv2d-threshold": ("conv2d", {"patch": 8, "latent_size": 5} | THRESHOLD, MEL),
}


def build(family: str, changes: dict[str, Any], features: FeatureSettings) -> Reconstructor:
    torch.manual_seed(0)
    settings = settings_class(family)(num_bins=features.num_bins, **changes)
    return Reconstructor(build_autoencoder(settings), features, name="small")


def sounds(count: int, seconds: float = 0.5) -> torch.Tensor:
    """Tones that glide in noise, `[count, samples]`."""
    rng = np.random.default_rng(0)
    time = np.arange(round(seconds * RATE)) / RATE
    pitch = rng.uniform(200, 900, (count, 1)) * (1 + time)
    tone = 0.2 * np.sin(2 * np.pi * np.cumsum(pitch, 1) / RATE)
    return torch.from_numpy((tone + 0.01 * rng.standard_normal(tone.shape)).astype(np.float32))


@pytest.mark.parametrize("name", COMBINATIONS)
def test_every_combination_trains_saves_loads_exports_and_runs(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    from audioae.training.export_codec import export_codec

    model = build(*COMBINATIONS[name])
    trainer = Trainer(model, dataclasses.replace(SETTINGS, loss={"mse": 1.0, "bce": 0.1}))
    batch = sounds(2)
    losses = [trainer.train_step(batch, batch) for _ in range(4)]
    assert all(np.isfinite(losses)) and not trainer.skipped
    weights = trainer.model.state_dict()

    save_model(tmp_path / "model.safetensors", trainer.model)
    loaded = load_reconstructor(tmp_path / "model.safetensors")
    assert all(torch.equal(value, weights[key]) for key, value in loaded.state_dict().items())
    assert loaded.info == trainer.model.info and loaded.sha256 == trainer.model.sha256

    path = tmp_path / "model.onnx"
    assert export_codec(loaded, path, name="small", overwrite=False).difference < 1e-4
    with torch.no_grad():
        features = loaded.features(sounds(1, 0.77))
        latent = loaded.encode(features)
        expected = loaded(features).features
    codec = Codec(OnnxCodec(path))
    assert codec.sha256 == loaded.sha256
    code = codec.encode(features[0].numpy())
    np.testing.assert_allclose(code, latent[0].numpy(), atol=1e-4)
    channels, step = codec.latent_shape
    stride = codec.info.stride
    frames = -(-features.shape[-1] // stride) * stride
    assert code.shape == (channels, frames // step)
    found = codec.reconstruct(features[0].numpy())
    np.testing.assert_allclose(found, expected[0].numpy(), atol=1e-4)

    cuts = [5, 6, 40, 41]  # blocks of a stream
    blocks = np.split(features[0].numpy(), cuts, axis=1)
    pairs = list(codec.reconstruct_blocks(blocks))
    np.testing.assert_array_equal(np.concatenate([a for a, _ in pairs], -1), features[0].numpy())
    np.testing.assert_allclose(np.concatenate([b for _, b in pairs], -1), found, atol=1e-5)


@pytest.mark.parametrize(
    ("family", "changes", "features", "alternative"),
    [
        ("dense", {"encoder": "max_pool"}, MEL, "conv1d or conv2d"),
        ("dense", {"decoder": "nearest"}, MEL, "conv1d or conv2d"),
        ("dense", {"widths": ()}, MEL, "one number"),
        ("dense", {"linear_path": True, "activation": "identity"}, MEL, "'leaky_relu'"),
        ("dense", {"linear_path": True, "widths": (9,)}, MEL, "two or more widths"),
        ("dense", {"linear_path": True, "latent_activation": "relu"}, MEL, "'identity'"),
        ("conv1d", {"encoder": "max_pool"}, MEL, "'strided'"),
        ("conv1d", {"skip": True}, MEL, "skip = false"),
        ("conv1d", {"causal": True}, MEL, "causal = false"),
        ("conv2d", {"channels": (4, 4), "time_strides": (2, 3)}, MEL, "1 or 2"),
        ("conv2d", {"channels": (4,) * 6, "time_strides": (1,) * 6}, MEL, "fewer channels"),
        ("conv2d", {"latent_size": 8}, MEL, "set patch"),
        ("conv2d", {"patch": 6}, MEL, "multiple of 8"),
        ("conv2d", {"decoder_channels": (4,)}, MEL, "mirror the encoder"),
        ("conv2d", {"encoder": "mean_pool"}, MEL, "'average_pool'"),
        ("conv2d", {"bottleneck": "gauss"}, MEL, "'gaussian'"),
        ("conv2d", {"bottleneck": "sparse", "bottleneck_norm": 3}, MEL, "1 or 2"),
        ("conv2d", {"num_features": 3}, MEL, "num_features = 1"),
        ("conv2d", {"gain": "complex"}, MEL, "gain = 'real'"),
        (
            "dualpath",
            {"low_bins": 9, "num_bands": 8, "num_features": 1, "gain": "real"},
            dataclasses.replace(MEL, n_mels=32),
            "causal = false",
        ),
        (
            "dualpath",
            {
                "low_bins": 9,
                "num_bands": 8,
                "num_features": 1,
                "gain": "real",
                "causal": False,
                "time_mixers": ("conv",),
                "dilations": (1,),
            },
            dataclasses.replace(MEL, n_mels=32),
            "features.kind = 'magnitude'",
        ),
        ("dualpath", {"decoder": "nearest"}, MAGNITUDE, "conv1d or conv2d"),
        (
            "bidirectional",
            {"low_bins": 17, "num_bands": 16},
            MAGNITUDE,
            "dense, conv1d, conv2d or dualpath",
        ),
    ],
)
def test_an_invalid_combination_names_the_alternative(
    family: str, changes: dict[str, Any], features: FeatureSettings, alternative: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        build(family, changes, features)
    assert alternative in str(caught.value)


def test_the_decoder_can_differ_from_the_mirrored_encoder() -> None:
    network = build_autoencoder(
        Conv2dSettings(num_bins=16, channels=(4, 6, 8), decoder_channels=(12, 10))
    )
    widths = [layer.conv.conv.out_channels for layer in network.decoder]
    assert widths == [12, 10]
    dense = build_autoencoder(DenseSettings(num_bins=16, widths=(9, 3), decoder_widths=(7, 8)))
    assert [layer[0].out_channels for layer in dense.decoder] == [7, 8]
    mirrored = build_autoencoder(Conv1dSettings(num_bins=16, channels=(9, 7, 5)))
    assert [layer.conv.conv.out_channels for layer in mirrored.decoder] == [7, 9]


def test_networks_of_older_settings_are_unchanged() -> None:
    """Defaults of the settings that were added leave weights, state and outputs as they were."""
    torch.manual_seed(0)
    network = build_autoencoder(Conv2dSettings(num_bins=33, channels=(4, 8), time_strides=(1, 2)))
    names = set(network.state_dict())
    assert "encoder.1.norm.running_mean" in names and not any("vector" in name for name in names)
    assert not DualpathSettings().resamples and network.context == network.lookahead > 0


def test_the_kl_weight_warms_up_in_training_only() -> None:
    bottleneck = Gaussian(2.0, warmup_steps=10)
    encoded = torch.ones(1, 4, 3)
    full = bottleneck.eval()(encoded)[1]
    shares = []
    for step in (0, 5, 10, 20):
        bottleneck.train().step = step
        shares.append(float(bottleneck(encoded)[1] / full))
    assert shares == [0.0, 0.5, 1.0, 1.0]
    bottleneck.step = 0
    assert bottleneck.eval()(encoded)[1] == full


def test_free_bits_are_per_channel() -> None:
    encoded = torch.zeros(2, 4, 5)
    encoded[:, 0] = 2.0  # the mean of the first of two channels: a KL of 2 nats
    assert Gaussian(1.0)(encoded)[1] == pytest.approx(1.0)
    assert Gaussian(1.0, free_bits=0.5)(encoded)[1] == pytest.approx((2.0 + 0.5) / 2)
    encoded.requires_grad_()
    Gaussian(1.0, free_bits=3.0)(encoded)[1].backward()
    assert not encoded.grad.any()


@pytest.mark.parametrize(("norm", "expected"), [(1, 2.0), (2, 4.0)])
def test_sparse_has_the_norm_of_its_settings(norm: int, expected: float) -> None:
    network = build_autoencoder(
        DenseSettings(num_bins=16, bottleneck="sparse", bottleneck_norm=norm, bottleneck_weight=0.5)
    )
    assert isinstance(network.bottleneck, Sparse)
    assert network.bottleneck(torch.full((1, 3, 2), -2.0))[1] == 0.5 * expected


@pytest.mark.parametrize("name", FEATURE_LOSSES)
def test_feature_losses_are_0_at_equality_and_positive_elsewhere(name: str) -> None:
    reference = torch.rand(2, 5, 7)
    loss = FEATURE_LOSSES[name]
    assert loss(reference, reference).abs() < 1e-6
    assert loss((reference + 0.3).clamp(0, 1), reference) > 0.01


def test_latent_statistics() -> None:
    latent = np.array([[1.0, -1.0, 0.5, 0.0], [0.005, 0.0, 0.0, 0.0]], np.float32)
    assert small_share(latent) == 5 / 8
    assert active_units(latent, has_prior=False) == 1
    assert active_units(np.ones((3, 4), np.float32), has_prior=True) == 0
    assert small_share(np.zeros((2, 3), np.float32)) == 1.0
    assert active_values(latent) == pytest.approx((1 + 1 + 1 + 0) / 4)
    assert active_values(np.zeros((2, 3), np.float32)) == 0


def run(folder: Path, out: Path, settings: TrainSettings = SETTINGS, **more: Any) -> list[Any]:
    model = build("conv2d", {"channels": (4, 6), "time_strides": (2, 2)} | GAUSSIAN, MEL)
    return list(fit(model, settings, DATA, folder=folder, out=out, device="cpu", **more))


GAUSSIAN = BOTTLENECKS["gaussian"]


def test_a_run_reports_the_code_and_selects_by_loss(prepared: Path, tmp_path: Path) -> None:
    rows = run(prepared, tmp_path / "run")
    baseline = [row for row in rows if isinstance(row, Baseline)]
    reports = [row for row in rows if isinstance(row, ReconstructionReport)]
    assert len(baseline) == 1 and baseline[0].baseline_loss > 0
    assert [row.step for row in reports] == [3, 6]
    last = reports[-1]
    assert last.valid_loss >= last.valid_reconstruction > 0
    assert len(last.valid_kl) == 6 * 4 and min(last.valid_kl) >= 0
    assert 0 <= last.valid_small_share <= 1 and 0 <= last.valid_active_units <= 24
    assert last.valid_explained_variance < 1
    best = min(reports, key=lambda row: row.valid_loss)
    assert best.is_best
    lines = [json.loads(line) for line in (tmp_path / "run/history.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 3, 6]
    assert lines[2]["valid_kl"] == list(last.valid_kl)
    assert load_reconstructor(tmp_path / "run").info.bottleneck == "gaussian"


def test_whitened_codes_have_the_prior_and_reconstructions_stay(prepared: Path) -> None:
    changes = {"channels": (4, 6), "time_strides": (2, 2), "patch": 8, "latent_size": 5} | GAUSSIAN
    model = build("conv2d", changes, MEL).eval()
    corpus = SoundCorpus(prepared, "train", DATA)
    with torch.no_grad():
        features = model.features(sounds(2))
        before = model(features).features
        start_from_data(model, "whitened", corpus, DATA, seed=0, crops=60)
        np.testing.assert_allclose(model.eval()(features).features, before, atol=1e-4)
        crops = SoundDataset(corpus, DATA, seed=0, count=60)
        parts = [model.posterior(model.features(crops[index][0][None])) for index in range(60)]
    mean, log_variance = (torch.cat(each, 2)[0].double() for each in zip(*parts, strict=True))
    np.testing.assert_allclose(mean.mean(1), 0, atol=1e-3)
    covariance = torch.cov(mean) + torch.diag(log_variance.exp().mean(1))
    np.testing.assert_allclose(np.diag(covariance), 1, atol=0.05)


@pytest.mark.parametrize(
    ("family", "changes", "output", "start", "alternative"),
    [
        ("conv2d", {}, "identity", "pca", "family = 'dense'"),
        ("dense", {"linear_path": True}, "sigmoid", "pca", "task.output = 'identity'"),
        ("dense", {}, "identity", "pca", "linear_path = true"),
        ("dense", {"linear_path": True} | GAUSSIAN, "identity", "pca", "a plain or a sparse one"),
        ("dense", GAUSSIAN, "identity", "whitened", "latent_size"),
        ("conv1d", {"patch": 8, "latent_size": 4}, "identity", "whitened", "'gaussian'"),
    ],
)
def test_a_start_that_a_network_cannot_have_names_the_alternative(
    prepared: Path, family: str, changes: dict, output: str, start: StartKind, alternative: str
) -> None:
    changes = {"latent_activation": "identity", **changes}
    if family == "conv2d":
        changes["channels"] = (4, 6, 8)
    model = build(family, changes, MEL)
    model.output = output
    corpus = SoundCorpus(prepared, "train", DATA)
    with pytest.raises(SettingsError) as caught:
        start_from_data(model, start, corpus, DATA, crops=10)
    assert alternative in str(caught.value)


def test_a_run_can_start_as_pca_and_is_resumed_without(prepared: Path, tmp_path: Path) -> None:
    from tiny_training import assert_same_run, stop_after

    def start_at_pca(out: Path, **more: Any) -> list[Any]:
        changes = {"patch": 4, "widths": (12, 6), "linear_path": True}
        model = build("dense", changes | {"latent_activation": "identity"}, MEL)
        model.output = "identity"
        how = {"start": "pca", "device": "cpu", **more}
        return list(fit(model, SETTINGS, DATA, folder=prepared, out=out, **how))

    rows = start_at_pca(tmp_path / "whole")
    first = next(row for row in rows if isinstance(row, ReconstructionReport))
    assert first.valid_explained_variance > 0.4
    start_at_pca(tmp_path / "parts", stop=stop_after(4))
    start_at_pca(tmp_path / "parts")
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_an_interrupted_run_is_resumed_bit_for_bit(prepared: Path, tmp_path: Path) -> None:
    from tiny_training import assert_same_run, stop_after

    run(prepared, tmp_path / "whole")
    run(prepared, tmp_path / "parts", stop=stop_after(4))
    run(prepared, tmp_path / "parts")
    assert_same_run(tmp_path / "parts", tmp_path / "whole")


@pytest.mark.parametrize("source", ["clean", "noise"])
def test_training_lowers_the_loss(source: str, prepared: Path, tmp_path: Path) -> None:
    settings = dataclasses.replace(SETTINGS, steps=40, report_steps=20, mix_on="device")
    model = build("dense", {"patch": 4, "widths": (32, 8)}, MEL)
    rows = list(fit(model, settings, DATA, folder=prepared, out=tmp_path / "run", source=source))
    first, last = (row for row in rows if isinstance(row, ReconstructionReport))
    assert last.valid_loss < first.valid_loss


def test_the_baseline_of_mixing_on_a_device_is_the_same(prepared: Path) -> None:
    from audioae.training.sounds import DeviceSounds, SoundCorpus, SoundDataset

    corpus = SoundCorpus(prepared, "train", DATA)
    dataset = SoundDataset(corpus, DATA, seed=3, count=8)
    on_device, target = DeviceSounds(dataset, torch.device("cpu")).batch([1, 5])
    assert on_device is target
    torch.testing.assert_close(on_device, torch.stack([dataset[1][0], dataset[5][0]]))


def recipe(**changes: Any) -> dict[str, Any]:
    return {"name": "r", "family": "conv2d", "task": {"kind": "reconstruct"}, **changes}


def test_a_recipe_that_reconstructs_has_its_own_defaults() -> None:
    found = parse_recipe(recipe())
    assert found.reconstructs and found.sample_rate == 16000 and found.roles == ("speech",)
    assert found.training.loss == {"mse": 1.0} and found.training.best == "loss"
    assert found.network.num_bins == 64 and found.network.latent_activation == "identity"
    assert isinstance(found.build(), Reconstructor)
    assert parse_recipe(json.loads(json.dumps(found.to_dict()))) == found
    dualpath = parse_recipe(recipe(family="dualpath", features={"kind": "magnitude"}))
    assert isinstance(dualpath.build(), Reconstructor)
    denoiser = parse_recipe({"name": "d", "family": "conv1d"})
    assert not denoiser.reconstructs and not {"task", "features"} & set(denoiser.to_dict())


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"stft": {"n_fft": 512}}, "features in place of stft"),
        ({"training": {"loss": {"negative_si_sdr": 1.0}}}, "mse, mae, bce"),
        ({"training": {"best": "pesq"}}, "loss"),
        ({"task": {"kind": "denoise"}, "features": {}}, "reconstruct"),
        ({"task": {"kind": "denoise", "source": "noise"}}, "reconstruct"),
        ({"task": {"kind": "generate"}}, "kind"),
        ({"task": {"kind": "denoise"}, "training": {"loss": {"mse": 1.0}}}, "task.kind"),
        ({"network": {"num_bins": 33}}, "leave num_bins out"),
    ],
)
def test_recipes_that_do_not_fit_together(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_recipe(recipe(**changes))
    assert word in str(caught.value)


def test_torch_and_onnx_codecs_check_what_they_get() -> None:
    codec = Codec(TorchCodec(build(*COMBINATIONS["conv2d-strided-transpose-convolutional-plain"])))
    with pytest.raises(SettingsError, match="16"):
        codec.encode(np.zeros((17, 8), np.float32))
    with pytest.raises(SettingsError, match=str(codec.latent_shape[0])):
        codec.decode(np.zeros((3, 8), np.float32))
    empty = codec.encode(np.zeros((16, 0), np.float32))
    assert empty.shape == (codec.latent_shape[0], 0) and codec.decode(empty).shape == (16, 0)


def test_a_start_and_weights_that_contradict_are_refused(prepared: Path, tmp_path: Path) -> None:
    model = build("dense", {"patch": 4, "widths": (12, 6)}, MEL)
    save_model(tmp_path / "model.safetensors", model)
    for options in (
        ["words-16k", "--set", "task.start=whitened"],
        ["pca-16k", "--set", "task.start=pca", "--from", str(tmp_path / "model.safetensors")],
    ):
        command = ["train", *options, "--data", str(prepared), "--out", str(tmp_path / "run")]
        ended = CliRunner().invoke(main, command)
        assert ended.exit_code == 2 and "task.start" in ended.stderr, ended.output
    assert not (tmp_path / "run").exists()
