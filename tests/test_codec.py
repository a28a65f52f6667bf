"""`Codec` on files, and the commands that make and refuse its models."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("librosa")
pytest.importorskip("torchaudio")

from audioae.audio import write
from audioae.cli import main
from audioae.engine import load_any, load_model
from audioae.engine.codecs import load_codec
from audioae.errors import CheckpointError, OtherKindError
from audioae.models import Reconstructor, build_autoencoder
from audioae.models.checkpoint import load_denoiser, save_model
from audioae.models.conv2d import Conv2dSettings
from audioae.pretrained import CodecInfo, registry
from audioae.signal.features import FeatureSettings
from audioae.tasks import Codec
from audioae.training.export_codec import export_codec

torch.set_num_threads(1)

FEATURES = FeatureSettings(sample_rate=8000, n_fft=128, hop_length=64, win_length=128, n_mels=16)


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)))


def small() -> Reconstructor:
    torch.manual_seed(0)
    settings = Conv2dSettings(num_bins=16, channels=(4, 6), time_strides=(2, 2))
    model = Reconstructor(build_autoencoder(settings), FEATURES, name="small").eval()
    for norm in (module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)):
        torch.nn.init.uniform_(norm.running_mean, -0.5, 0.5)
    return model


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint and all ONNX files of a small model."""
    folder, model = tmp_path_factory.mktemp("exported"), small()
    save_model(folder / "checkpoint.safetensors", model)
    files = {"checkpoint": folder / "checkpoint.safetensors"}
    for part in ("whole", "encoder", "decoder"):
        files[part] = folder / f"{part}.onnx"
        export_codec(model, files[part], name="small", part=part, overwrite=False)
    return files


def sound(seconds: float, rate: int, channels: int) -> np.ndarray:
    """Tones in noise, `[channels, samples]`."""
    rng, time = np.random.default_rng(0), np.arange(round(seconds * rate)) / rate
    tones = [0.2 * np.sin(2 * np.pi * 300 * (1 + each) * time) for each in range(channels)]
    return (np.stack(tones) + 0.01 * rng.standard_normal((channels, time.size))).astype(np.float32)


def test_all_files_of_a_model_are_one_model(exported: dict[str, Path]) -> None:
    codecs = {name: Codec(path) for name, path in exported.items()}
    assert len({codec.sha256 for codec in codecs.values()}) == 1
    assert len({codec.latent_shape for codec in codecs.values()}) == 1
    features = codecs["whole"].features(sound(0.5, 8000, 1)[0], 8000)
    latent = codecs["checkpoint"].encode(features)
    for name in ("whole", "encoder"):
        np.testing.assert_allclose(codecs[name].encode(features), latent, atol=1e-4)
    for name in ("whole", "decoder"):
        expected = codecs["checkpoint"].decode(latent)
        np.testing.assert_allclose(codecs[name].decode(latent), expected, atol=1e-4)
    with pytest.raises(CheckpointError, match="decoder"):
        codecs["encoder"].decode(latent)
    with pytest.raises(CheckpointError, match="encoder"):
        codecs["decoder"].encode(features)


@pytest.mark.parametrize(
    ("name", "rate", "channels"),
    [("a.wav", 8000, 1), ("b.flac", 44100, 2), ("c.ogg", 16000, 1), ("d.wav", 11025, 6)],
)
def test_a_file_in_blocks_equals_the_whole(
    name: str, rate: int, channels: int, exported: dict[str, Path], tmp_path: Path
) -> None:
    from audioae.audio import read

    codec, path = Codec(exported["whole"]), tmp_path / name
    write(path, sound(25.0, rate, channels), rate)  # more than two blocks of a file
    waveform, sample_rate = read(path)
    whole = codec.features(waveform.mean(0), sample_rate)
    blocks = list(codec.read_features(path))
    assert len(blocks) > 2
    # The resampler may differ in the last sample of its filter.
    np.testing.assert_allclose(np.concatenate(blocks, -1), whole, atol=2e-3)
    latent = np.concatenate(list(codec.encode_blocks(blocks)), -1)
    np.testing.assert_allclose(latent, codec.encode(np.concatenate(blocks, -1)), atol=1e-4)
    each = next(codec.read_features(path, mono=False))
    assert each.shape[:2] == (channels, codec.settings.num_bins)


def test_leading_axes_are_kept(exported: dict[str, Path]) -> None:
    codec = Codec(exported["whole"])
    features = codec.features(sound(0.5, 8000, 3), 8000)
    assert features.shape[:2] == (3, 16)
    latent = codec.encode(features)
    np.testing.assert_allclose(latent[1], codec.encode(features[1]), atol=1e-5)
    assert codec.reconstruct(features).shape == features.shape
    assert codec.waveform(features, 4000).shape == (3, 4000)


def test_an_exported_model_runs_without_torch(exported: dict[str, Path]) -> None:
    code = (
        "import sys, numpy as np\n"
        "from audioae.tasks import Codec\n"
        "codec = Codec(sys.argv[1])\n"
        "found = codec.reconstruct(codec.features(np.zeros(8000, np.float32), 8000))\n"
        "print(found.shape, 'torch' in sys.modules, 'torchaudio' in sys.modules)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, str(exported["whole"])], capture_output=True, text=True
    )
    assert ended.stdout.split("\n")[0] == "(16, 126) False False", ended.stderr


def test_a_model_of_the_other_kind_is_refused(
    exported: dict[str, Path], samples: Path, tmp_path: Path
) -> None:
    for name in ("checkpoint", "whole", "encoder"):
        out = tmp_path / f"{name}.wav"
        ended = invoke("denoise", "--model", exported[name], samples / "noisy.wav", out)
        assert ended.exit_code == 3 and "autoencoder" in ended.stderr and not out.exists()
        with pytest.raises(OtherKindError):
            load_model(exported[name])
        assert isinstance(load_any(exported[name]).info, CodecInfo)
    with pytest.raises(OtherKindError):
        load_denoiser(exported["checkpoint"])
    with pytest.raises(OtherKindError, match="denoiser"):
        load_codec("speech-16k")
    assert load_any("speech-16k").info.name == "speech-16k"


def test_models_info_shows_an_autoencoder(exported: dict[str, Path]) -> None:
    found = json.loads(invoke("models", "info", exported["whole"], "--json").stdout)
    assert found["info"]["kind"] == "autoencoder" and found["info"]["features"]["n_mels"] == 16
    assert "log_mel" in invoke("models", "info", exported["checkpoint"]).stdout


@pytest.mark.parametrize("damage", ["metadata", "form", "truncated"])
def test_a_damaged_file_is_one_clear_error(
    damage: str, exported: dict[str, Path], tmp_path: Path
) -> None:
    import onnx

    path, data = tmp_path / "damaged.onnx", exported["encoder"].read_bytes()
    if damage == "truncated":
        path.write_bytes(data[: len(data) // 2])
    else:
        model = onnx.load_model_from_string(data)
        about = json.loads(model.metadata_props[0].value)
        changes: dict[str, Any] = {"metadata": {"channels": "many"}, "form": {"part": "whole"}}
        model.metadata_props[0].value = json.dumps(about | changes[damage])
        path.write_bytes(model.SerializeToString())
    with pytest.raises(CheckpointError) as caught:
        Codec(path)
    assert "\n" not in str(caught.value) and not isinstance(caught.value, OtherKindError)


RECIPE = """
name = "tiny-ae"
family = "conv2d"
[task]
kind = "reconstruct"
[features]
sample_rate = 8000
n_fft = 128
hop_length = 64
win_length = 128
n_mels = 16
[network]
channels = [4, 6]
time_strides = [2, 2]
bottleneck = "gaussian"
[data]
segment_seconds = 0.5
[training]
steps = 4
batch_size = 2
report_steps = 2
validation = { pairs = 2, seconds = 0.5 }
"""


def test_sounds_are_trained_on_exported_and_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    for number in range(4):
        (tmp_path / "sounds").mkdir(exist_ok=True)
        write(tmp_path / "sounds" / f"{number}.wav", sound(2.0 + number, 16000, 1), 16000)
    run = tmp_path / "run"
    arguments = ["train", tmp_path / "recipe.toml", "--sounds", tmp_path / "sounds", "--out", run]
    ended = invoke(*arguments, "--json", "--tensorboard", "--progress", "none")
    assert ended.exit_code == 0, ended.stderr
    rows = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [row["step"] for row in rows] == [0, 2, 4] and len(rows[-1]["valid_kl"]) == 6 * 4
    assert list((run / "tensorboard").iterdir())
    again = invoke(*arguments, "--set", "training.steps=6", "--progress", "none")
    assert again.exit_code == 0 and "step 6" in again.stderr

    exported = invoke("export", run, tmp_path / "model.onnx", "--json")
    assert json.loads(exported.stdout)["difference"] < 1e-4
    assert Codec(tmp_path / "model.onnx").sha256 == Codec(run).sha256
    part = invoke("export", run, tmp_path / "encoder.onnx", "--part", "encoder", "--json")
    assert part.exit_code == 0 and load_codec(tmp_path / "encoder.onnx").info.part == "encoder"
    denoiser = registry.get_entry("conv1d-16k").path.with_name("weights.safetensors")
    if denoiser.exists():
        wrong = invoke("export", denoiser, tmp_path / "x.onnx", "--part", "encoder")
        assert wrong.exit_code == 2 and not (tmp_path / "x.onnx").exists()

    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "models.json").write_text('{"models": {}}')
    monkeypatch.setattr(registry, "WEIGHTS", weights)
    options = ["--ship", "tiny-8k", "--data", "tones (CC0)", "--commit", "abc"]
    shipped = invoke("export", run, *options)
    assert shipped.exit_code == 0, shipped.stderr
    card = registry.load_card("tiny-8k")
    assert isinstance(card.info, CodecInfo) and card.validation["active_units"] >= 0
    assert registry.verify_model("tiny-8k").ok and Codec("tiny-8k").sha256 == card.info.sha256
    listed = json.loads(invoke("models", "list", "--json").stdout)
    assert listed[0]["info"]["kind"] == "autoencoder"
    assert "tiny-8k" in invoke("models", "list").stdout
    assert "bottleneck" in invoke("models", "info", "tiny-8k").stdout
