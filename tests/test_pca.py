"""Autoencoders beside PCA: a linear one equals it, and what the command prints."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")
pytest.importorskip("librosa")
pytest.importorskip("torchaudio")

from audioae.audio import write
from audioae.cli import main
from audioae.engine.codecs import TorchCodec
from audioae.errors import DataError, SettingsError
from audioae.models import Reconstructor, build_autoencoder
from audioae.models.checkpoint import save_model
from audioae.models.dense import DenseSettings
from audioae.signal.features import FeatureSettings
from audioae.tasks import Codec
from audioae.tasks.pca import compare, pca_curve, principal_angles, take_patches
from audioae.training.closed_form import Moments, start_as_pca

torch.set_num_threads(1)

FEATURES = FeatureSettings(sample_rate=8000, n_fft=128, hop_length=64, win_length=128, n_mels=16)
PATCH, CODE = 4, 3


def patterned(seed: int, frames: int = 4000) -> np.ndarray:
    """Features `[16, frames]` of five patterns of falling strength and a little noise."""
    patterns = np.random.default_rng(0).standard_normal((5, 16, PATCH))
    rng = np.random.default_rng(seed)
    strength = rng.standard_normal((5, frames // PATCH)) * np.array([8, 5, 3, 1, 0.5])[:, None]
    features = 0.5 + 0.01 * np.einsum("kfp,kn->fnp", patterns, strength).reshape(16, -1)
    return (features + 0.005 * rng.standard_normal(features.shape)).astype(np.float32)


def linear(activation: str = "identity") -> Reconstructor:
    torch.manual_seed(0)
    settings = DenseSettings(num_bins=16, patch=PATCH, widths=(CODE,), activation=activation)
    return Reconstructor(build_autoencoder(settings), FEATURES, output="identity", name="line")


def trained() -> Codec:
    """A linear autoencoder that was trained on `patterned(1)`."""
    model, features = linear(), torch.from_numpy(patterned(1))[None]
    optimizer = torch.optim.LBFGS(
        model.parameters(),
        max_iter=400,
        tolerance_grad=1e-9,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        error = 1000 * torch.nn.functional.mse_loss(model(features).features, features)
        error.backward()
        return error

    optimizer.step(loss)
    return Codec(TorchCodec(model))


def test_a_linear_autoencoder_has_the_error_and_the_subspace_of_pca() -> None:
    row = compare(trained(), [patterned(1)], [patterned(2), patterned(3)])
    assert (row.code_size, row.patch_frames, row.fitted, row.held_out) == (3, 4, 1000, 2000)
    assert row.is_linear and row.angles_deg is not None
    assert row.ratio == pytest.approx(1, abs=0.01)
    assert max(row.angles_deg) < 5
    assert row.pca_error < row.mean_error / 5
    [(size, error)] = pca_curve(
        *(
            take_patches(each, PATCH, 9999)
            for each in ([patterned(1)], [patterned(2), patterned(3)])
        ),
        [CODE],
    )
    assert size == CODE and error == pytest.approx(row.pca_error, rel=1e-3)


@pytest.mark.parametrize("is_deep", [False, True])
def test_a_network_that_starts_as_pca_has_its_error_and_its_subspace(is_deep: bool) -> None:
    torch.manual_seed(0)
    model = linear()
    if is_deep:
        settings = DenseSettings(
            num_bins=16,
            patch=PATCH,
            widths=(9, CODE),
            linear_path=True,
            latent_activation="identity",
        )
        model = Reconstructor(build_autoencoder(settings), FEATURES, output="identity")
    patches = Moments()
    patches.add(torch.from_numpy(take_patches([patterned(1)], PATCH, 9999)))
    start_as_pca(model, patches)
    row = compare(Codec(TorchCodec(model)), [patterned(1)], [patterned(2)])
    assert row.ratio == pytest.approx(1, abs=1e-4) and row.angles_deg is not None
    assert max(row.angles_deg) < 0.1


def test_an_untrained_one_has_neither() -> None:
    row = compare(Codec(TorchCodec(linear())), [patterned(1)], [patterned(2)])
    assert row.ratio > 2 and row.angles_deg is not None and max(row.angles_deg) > 20


def test_a_deep_decoder_is_not_linear() -> None:
    settings = DenseSettings(num_bins=16, patch=PATCH, widths=(9, CODE))
    model = Reconstructor(build_autoencoder(settings), FEATURES)
    row = compare(Codec(TorchCodec(model)), [patterned(1)], [patterned(2)])
    assert not row.is_linear and row.angles_deg is None


def test_principal_angles_are_sorted_and_in_degrees() -> None:
    one, other = np.eye(4)[:, :2], np.eye(4)[:, [0, 2]]
    np.testing.assert_allclose(principal_angles(one, other), [0, 90], atol=1e-6)


def test_what_cannot_be_compared_is_an_error() -> None:
    wide = DenseSettings(num_bins=16, patch=1, widths=(16,), activation="identity")
    model = Codec(TorchCodec(Reconstructor(build_autoencoder(wide), FEATURES)))
    with pytest.raises(SettingsError, match="16"):
        compare(model, [patterned(1)], [patterned(2)])
    with pytest.raises(DataError, match="2 patches"):
        compare(Codec(TorchCodec(linear())), [patterned(1, 8)], [patterned(2)])


def write_sounds(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    folder.mkdir()
    for number in range(5):
        tone = np.sin(np.cumsum(rng.uniform(0.1, 1.5, 30).repeat(400)))
        noisy = 0.2 * tone + 0.01 * rng.standard_normal(tone.size)
        write(folder / f"{number}.wav", noisy[None].astype(np.float32), 8000)
    return folder


def test_the_command_prints_errors_and_angles(tmp_path: Path) -> None:
    save_model(tmp_path / "line.safetensors", linear())
    sounds = write_sounds(tmp_path / "sounds")
    arguments = ["evaluate", "--against-pca", str(sounds), "-m", str(tmp_path / "line.safetensors")]
    plot = tmp_path / "errors.png"
    ended = CliRunner().invoke(main, [*arguments, "--json", "--plot", str(plot)])
    assert ended.exit_code == 0, ended.output
    found = json.loads(ended.stdout)
    assert found["models"][0]["model"] == "line" and len(found["models"][0]["angles_deg"]) == CODE
    errors = [point["error"] for point in found["pca"]]
    assert errors == sorted(errors, reverse=True) and plot.read_bytes().startswith(b"\x89PNG")
    assert found["models"][0]["fitted"] > found["models"][0]["held_out"]
    again = CliRunner().invoke(main, [*arguments, "--plot", str(plot)])
    assert again.exit_code == 2
    unknown = tmp_path / "errors.nothing"
    ended = CliRunner().invoke(main, [*arguments, "--plot", str(unknown)])
    assert ended.exit_code == 2 and str(unknown) in ended.stderr and not unknown.exists()


def test_two_runs_of_one_recipe_are_told_apart(tmp_path: Path) -> None:
    save_model(tmp_path / "line.safetensors", linear())
    (tmp_path / "other").mkdir()
    save_model(tmp_path / "other" / "line.safetensors", linear())
    models = [str(tmp_path / "line.safetensors"), str(tmp_path / "other" / "line.safetensors")]
    sounds = write_sounds(tmp_path / "sounds")
    options = ["-m", models[0], "-m", models[1], "--json"]
    ended = CliRunner().invoke(main, ["evaluate", "--against-pca", str(sounds), *options])
    assert ended.exit_code == 0, ended.output
    assert [row["model"] for row in json.loads(ended.stdout)["models"]] == models


def test_a_folder_without_audio_is_an_error(tmp_path: Path) -> None:
    save_model(tmp_path / "line.safetensors", linear())
    options = ["-m", str(tmp_path / "line.safetensors")]
    ended = CliRunner().invoke(main, ["evaluate", "--against-pca", str(tmp_path), *options])
    assert ended.exit_code == 1
    assert str(tmp_path) in ended.stderr


@pytest.mark.parametrize("options", [["--pairs", "x.csv"], ["--preset", "strong"], []])
def test_the_command_refuses_options_of_denoisers(options: list[str], tmp_path: Path) -> None:
    arguments = ["evaluate", "--against-pca", str(tmp_path), *options]
    model = ["-m", str(tmp_path)] if options else []
    assert CliRunner().invoke(main, [*arguments, *model]).exit_code == 2
    assert CliRunner().invoke(main, ["evaluate", "--plot", "x.png"]).exit_code == 2


def test_a_missing_folder_is_a_usage_error(tmp_path: Path) -> None:
    missing = tmp_path / "none"
    ended = CliRunner().invoke(main, ["evaluate", "--against-pca", str(missing), "-m", "any"])
    assert ended.exit_code == 2
    assert str(missing) in ended.stderr


def test_a_data_folder_is_used_with_its_splits(prepared: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "line.safetensors", linear())
    options = ["-m", str(tmp_path / "line.safetensors"), "--json"]
    ended = CliRunner().invoke(main, ["evaluate", "--against-pca", str(prepared), *options])
    assert ended.exit_code == 0, ended.output
    row = json.loads(ended.stdout)["models"][0]
    assert row["fitted"] > 1000 and row["held_out"] > 500
