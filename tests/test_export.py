"""Export: ONNX Runtime and torch agree, whole and in blocks, or nothing is written; shipping."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from torch import Tensor, nn

from audioae import denoise
from audioae.cli import main
from audioae.engine import CACHED_FRAMES, OnnxEngine, TorchEngine, load_model
from audioae.errors import CheckpointError, OutputError
from audioae.models import Denoiser, build_autoencoder
from audioae.models.bidirectional import BidirectionalSettings
from audioae.models.checkpoint import load_denoiser, save_model, stages_of, trained_file
from audioae.models.conv1d import Conv1dSettings
from audioae.models.dualpath import DualpathSettings
from audioae.models.fullband import FullbandSettings
from audioae.pretrained import ModelInfo, load_card, registry
from audioae.signal.spectrogram import StftSettings
from audioae.training.export import MAX_DIFFERENCE, export, parity

STFT = StftSettings(n_fft=64, hop_length=32, win_length=64)
BINS = STFT.num_bins
State = tuple[Tensor, ...]


def info(family: str, gain: str, around: int = 0, stride: int = 1) -> ModelInfo:
    return ModelInfo("toy", family, STFT, gain, around, around, stride, 1000, 1000, "0")


def magnitude(spectrum: Tensor) -> Tensor:
    return (spectrum.square().sum(1) + 1e-12).pow(0.15)  # B, F, T


class Recurrent(nn.Module):
    """Causal: a convolution with a past, BatchNorm, a GRU; a complex gain."""

    info = info("recurrent", "complex")

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv1d(BINS, 16, 5), nn.BatchNorm1d(16)
        self.gru, self.head = nn.GRU(16, 16, batch_first=True), nn.ConvTranspose1d(16, 2 * BINS, 1)

    def initial_state(self, batch: int) -> State:
        return torch.zeros(batch, BINS, 4), torch.zeros(1, batch, 16)

    def gain(self, spectrum: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        past, hidden = state or self.initial_state(spectrum.shape[0])
        x = torch.cat([past, magnitude(spectrum)], -1)
        y, hidden = self.gru(self.norm(self.conv(x)).transpose(1, 2), hidden)
        return self.head(y.transpose(1, 2)).unflatten(1, (2, BINS)), (x[..., -4:], hidden)


class Strided(nn.Module):
    """Stateless: two strides of two over time, mirrored; a real gain."""

    info = info("strided", "real", around=4, stride=4)

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(
            nn.Conv2d(1, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.LeakyReLU(0.2), nn.Conv2d(4, 8, 3, 2, 1)
        )
        self.up = nn.Sequential(
            nn.ConvTranspose2d(8, 4, 3, 2, 1, output_padding=(0, 1)),
            nn.LeakyReLU(0.2),
            nn.ConvTranspose2d(4, 1, 3, 2, 1, output_padding=(0, 1)),
        )

    def initial_state(self, batch: int) -> State:
        return ()

    def gain(self, spectrum: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        return torch.sigmoid(self.up(self.down(magnitude(spectrum)[:, None]))), ()


class OfFixedLength(Strided):
    """Wrong in ONNX: the number of frames at the time of tracing becomes a constant."""

    def gain(self, spectrum: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        return magnitude(spectrum)[:, None] / int(spectrum.shape[-1]), ()


class Shortsighted(Strided):
    """Wrong in blocks: it needs more context than it declares."""

    info = info("strided", "real", around=0, stride=4)


class NotANumber(Strided):
    """Its gain at silence is 0 / 0."""

    def gain(self, spectrum: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        squared = spectrum.square().sum(1, keepdim=True)
        return squared / squared, ()


def built(network: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    module = network()
    for layer in module.modules():
        if isinstance(
            layer, (nn.BatchNorm1d, nn.BatchNorm2d)
        ):  # statistics as after training, so that folding them is seen
            nn.init.normal_(layer.running_mean)
            nn.init.uniform_(layer.running_var, 0.5, 2)
    return module.eval()


def random_spectrum(frames: int, batch: int) -> np.ndarray:
    parts = np.random.default_rng(1).standard_normal((2, batch, BINS, frames)).astype(np.float32)
    return parts[0] + 1j * parts[1]


@pytest.mark.parametrize("network", [Recurrent, Strided])
def test_onnx_and_torch_compute_the_same_gains(network: type[nn.Module], tmp_path: Path) -> None:
    denoiser, path = built(network), tmp_path / "toy.onnx"
    row = export(denoiser, path, name="toy-2k")
    assert (
        row.difference <= MAX_DIFFERENCE
        and row.bytes == path.stat().st_size
        and row.name == "toy-2k"
    )
    engine, reference = OnnxEngine(path), TorchEngine(denoiser, device="cpu")
    assert engine.info.name == "toy-2k" and engine.info.stft == STFT
    assert engine.info.to_dict() == {**denoiser.info.to_dict(), "name": "toy-2k"}
    for batch, cuts in ((1, [1, 2, 3, 40]), (3, [7, 7, 50, 77])):
        spectrum, pieces, state = random_spectrum(78, batch), [], None
        for block in np.split(spectrum, cuts, axis=-1):
            gain, state = engine.step(block, state)
            pieces.append(gain)
        np.testing.assert_allclose(
            np.concatenate(pieces, -1), reference.step(spectrum)[0], atol=MAX_DIFFERENCE
        )


@pytest.mark.parametrize("network", [Recurrent, Strided])
@pytest.mark.parametrize("batch", [1, 2, 200])
def test_a_long_spectrum_is_run_in_parts(
    network: type[nn.Module], batch: int, tmp_path: Path
) -> None:
    denoiser, spectrum = (
        built(network),
        random_spectrum(15 if batch > CACHED_FRAMES else 2 * CACHED_FRAMES + 7, batch),
    )
    export(denoiser, tmp_path / "toy.onnx", name="toy")
    gain, state = OnnxEngine(tmp_path / "toy.onnx").step(spectrum)
    expected, following = TorchEngine(denoiser, device="cpu").step(spectrum)
    np.testing.assert_allclose(gain, expected, atol=MAX_DIFFERENCE)
    for mine, theirs in zip(state.tensors, following.tensors, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=MAX_DIFFERENCE)


@pytest.mark.parametrize("network", [Recurrent, Strided])
def test_torch_engine_in_blocks_equals_the_whole(network: type[nn.Module]) -> None:
    engine = TorchEngine(built(network), device="cpu")
    assert parity(engine, engine) <= MAX_DIFFERENCE


def test_inputs_outputs_and_metadata_of_the_file(tmp_path: Path) -> None:
    export(built(Recurrent), tmp_path / "toy.onnx", name="toy")
    model = onnx.load(tmp_path / "toy.onnx")
    onnx.checker.check_model(model, full_check=True)
    shapes = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in [*model.graph.input, *model.graph.output]
    }
    assert shapes["spectrum"] == ["batch", 2, BINS, "frames"] and shapes["gain"] == [
        "batch",
        2,
        BINS,
        "frames",
    ]
    assert shapes["state_0"] == ["batch", BINS, 4] and shapes["state_1"] == [1, "batch", 16]
    assert set(shapes) == {"spectrum", "gain", "state_0", "state_1", "next_state_0", "next_state_1"}
    assert ModelInfo.from_dict(json.loads(model.metadata_props[0].value)) == Recurrent.info
    assert not any("BatchNormalization" in node.op_type for node in model.graph.node)
    assert str(Path(__file__).parent).encode() not in (tmp_path / "toy.onnx").read_bytes(), (
        "no path of the machine that made it"
    )


@pytest.mark.parametrize("network", [OfFixedLength, Shortsighted, NotANumber])
def test_a_model_that_differs_is_not_written(network: type[nn.Module], tmp_path: Path) -> None:
    earlier = tmp_path / "toy.onnx"
    earlier.write_bytes(b"earlier")
    with pytest.raises(CheckpointError, match="toy was not written"):
        export(built(network), earlier, name="toy", overwrite=True)
    assert [file.name for file in tmp_path.iterdir()] == [
        "toy.onnx"
    ] and earlier.read_bytes() == b"earlier"


def test_export_is_reproducible_and_does_not_change_the_model(tmp_path: Path) -> None:
    denoiser = built(Recurrent).train()
    before = {name: value.clone() for name, value in denoiser.state_dict().items()}
    for name in ("a.onnx", "b.onnx"):
        export(denoiser, tmp_path / name, name="toy")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert denoiser.training and all(
        torch.equal(before[name], value) for name, value in denoiser.state_dict().items()
    )


def test_targets_are_checked_first(tmp_path: Path) -> None:
    (tmp_path / "there.onnx").write_bytes(b"")
    for path, message in (
        ("there.onnx", "exists"),
        ("toy.pt", r"end in \.onnx"),
        ("gone/toy.onnx", "no folder"),
    ):
        with pytest.raises(OutputError, match=message):
            export(built(Strided), tmp_path / path, name="toy")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A run folder with the checkpoint of an untrained network."""
    denoiser = Denoiser(
        build_autoencoder(Conv1dSettings(num_bins=BINS, channels=(8, 4))), STFT, name="small"
    ).eval()
    run = tmp_path / "run"
    run.mkdir()
    save_model(
        run / "best.safetensors", denoiser, recipe={"name": "small"}, training={"audio_hours": 1.5}
    )
    return run


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    file = tmp_path / "scores.json"
    means = {
        "pesq_wb": {
            "unit": "MOS",
            "noisy": {"value": 1.8, "count": 4},
            "enhanced": {"value": 2.2, "count": 4},
        }
    }
    file.write_text(
        json.dumps(
            {"model": "small", "pairs": "/data/pairs.csv", "count": 4, "means": means, "rows": []}
        )
    )
    return file


def audioae(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_command_exports_a_run_folder(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "small.onnx"
    done = audioae("export", checkpoint, out)
    assert (
        done.exit_code == 0
        and "small" in done.stdout
        and "torch" in done.stdout
        and done.stdout.count("\n") == 1
    )
    assert load_model(out).info.name == "small"
    refused = audioae("export", checkpoint, out)
    assert refused.exit_code == 1 and "--overwrite" in refused.stderr
    again = json.loads(
        audioae("export", checkpoint, out, "--overwrite", "--name", "tiny-2k", "--json").stdout
    )
    assert (
        again["name"] == "tiny-2k" == load_model(out).info.name
        and again["difference"] <= MAX_DIFFERENCE
    )


def test_a_checkpoint_and_its_export_compute_the_same_gains(
    checkpoint: Path, tmp_path: Path
) -> None:
    audioae("export", checkpoint, tmp_path / "small.onnx")
    engine, reference = load_model(tmp_path / "small.onnx"), load_model(checkpoint, device="cpu")
    assert isinstance(reference, TorchEngine) and parity(reference, engine) <= MAX_DIFFERENCE


def test_command_ships_a_model_with_its_card(
    checkpoint: Path, scores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "models.json").write_text('{"models": {}}')
    monkeypatch.setattr(registry, "WEIGHTS", weights)
    card = [
        "--scores",
        f"unseen pairs={scores}",
        "--data",
        "Some Speech (CC0)",
        "--commit",
        "abc1234",
    ]
    for name, more in (("small-2k", []), ("other-2k", ["--default"]), ("small-2k", [])):
        done = audioae("export", checkpoint, "--ship", name, *card, *more)
        assert done.exit_code == 0, done.stderr
    assert load_model("small-2k").info == load_card("small-2k").info
    listed = json.loads(audioae("models", "list", "--json").stdout)
    assert [(model["name"], model["default"]) for model in listed] == [
        ("other-2k", True),
        ("small-2k", False),
    ]
    assert "2.20 (1.80)" in audioae("models", "list").stdout
    told = audioae("models", "info", "small-2k").stdout
    for word in (
        "Some Speech (CC0)",
        "abc1234",
        "licence: MIT",
        "1.5 h",
        "4 unseen pairs",
        "| PESQ-WB | 1.80 | 2.20 |",
    ):
        assert word in told
    assert json.loads(audioae("models", "info", "small-2k", "--json").stdout)["card"]["recipe"] == {
        "name": "small"
    }
    assert audioae("models", "verify").exit_code == 0
    (weights / "small-2k" / "model.onnx").write_bytes(b"")
    damaged = audioae("models", "verify")
    assert damaged.exit_code == 1 and "expected" in damaged.stdout
    assert audioae("models", "verify", "other-2k").exit_code == 0
    assert [row["ok"] for row in json.loads(audioae("models", "verify", "--json").stdout)] == [
        True,
        False,
    ]


def test_a_card_counts_all_stages_of_a_training(
    checkpoint: Path, scores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "models.json").write_text('{"models": {}}')
    monkeypatch.setattr(registry, "WEIGHTS", weights)
    tuned = tmp_path / "tuned.safetensors"
    stages = stages_of(checkpoint / "best.safetensors")
    save_model(
        tuned,
        load_denoiser(checkpoint),
        recipe={"name": "tuned"},
        training={"audio_hours": 2.0},
        stages=stages,
    )
    done = audioae(
        "export", tuned, "--ship", "tuned-2k", "--scores", scores, "--data", "x", "--commit", "y"
    )
    assert done.exit_code == 0, done.stderr
    card = load_card("tuned-2k")
    assert card.seconds_seen == 3.5 * 3600 and card.recipe == {"name": "tuned"}
    assert card.stages == ({"recipe": {"name": "small"}, "audio_hours": 1.5},)
    markdown = audioae("models", "info", "tuned-2k").stdout
    assert "2 stages" in markdown and "1.5 h" in markdown
    assert len(stages_of(trained_file("tuned-2k"))) == 2  # what goes on from it tells all three


def test_a_model_that_cannot_be_shipped_writes_nothing(
    checkpoint: Path, scores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a new model nor a replacement."""
    weights, card = tmp_path / "weights", ["--scores", scores, "--data", "x", "--commit", "y"]
    weights.mkdir()
    (weights / "models.json").write_text('{"models": {}}')
    monkeypatch.setattr(registry, "WEIGHTS", weights)
    assert audioae("export", checkpoint, "--ship", "small-2k", *card).exit_code == 0
    before = {path: path.read_bytes() for path in weights.rglob("*") if path.is_file()}
    assert {path.name for path in before} == {
        "models.json",
        "model.onnx",
        "weights.safetensors",
        "card.json",
    }
    monkeypatch.setattr("audioae.training.export.parity", lambda *_: 0.5)
    for name in ("other-2k", "small-2k"):
        refused = audioae("export", checkpoint, "--ship", name, *card)
        assert refused.exit_code == 3 and name in refused.stderr
    assert {path.name for path in weights.iterdir()} == {"models.json", "small-2k"}
    assert {path: path.read_bytes() for path in weights.rglob("*") if path.is_file()} == before


def test_shipping_needs_a_name_a_card_and_a_trained_checkpoint(
    checkpoint: Path, scores: Path, tmp_path: Path
) -> None:
    assert audioae("export", checkpoint).exit_code == 2
    assert audioae("export", checkpoint, "--ship", "small-2k").exit_code == 2
    card = ["--scores", scores, "--data", "x", "--commit", "y"]
    for name in ("", "../elsewhere", "a/b", ".hidden"):
        refused = audioae("export", checkpoint, "--ship", name, *card)
        assert refused.exit_code == 2 and repr(name) in refused.stderr
    save_model(tmp_path / "bare.safetensors", load_denoiser(checkpoint))
    assert (
        "ship a checkpoint that"
        in audioae("export", tmp_path / "bare.safetensors", "--ship", "small-2k", *card).stderr
    )


def test_missing_files_and_models_are_named(tmp_path: Path) -> None:
    for arguments in (
        ("export", tmp_path / "gone", tmp_path / "out.onnx"),
        ("models", "info", "nothing-16k"),
        ("models", "verify", "nothing-16k"),
    ):
        done = audioae(*arguments)
        assert (
            done.exit_code == 3
            and done.stderr.startswith("Error: ")
            and done.stderr.count("\n") == 1
        )


RATE = 8000
TRUNK = {
    "num_bins": 33,
    "low_bins": 9,
    "num_bands": 8,
    "nyquist_hz": 4000.0,
    "outer": 4,
    "inner": 6,
    "squeeze": 3,
    "time_mixers": ("conv", "lstm"),
    "dilations": (1, 2),
}


def large_model(family: str) -> Denoiser:
    """A small network that runs in both directions of time, or over a wider band than its trunk."""
    torch.manual_seed(0)
    if family == "bidirectional":
        network = build_autoencoder(BidirectionalSettings(**TRUNK))
        stft = StftSettings(RATE, 64, 32, 64)
    else:
        trunk = DualpathSettings(**TRUNK)
        network = build_autoencoder(
            FullbandSettings(num_bins=97, trunk=trunk, high_bands=12, low_bands=8, hidden=10)
        )
        stft = StftSettings(3 * RATE, 192, 96, 192)
    for parameter in network.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return Denoiser(network, stft, name=family).eval()


class CountingSession:
    """An ONNX Runtime session that keeps the frames of each call."""

    def __init__(self, session: Any) -> None:
        self.session, self.frames = session, []

    def run(self, names: Any, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        self.frames.append(inputs["spectrum"].shape[-1])
        return self.session.run(names, inputs)


@pytest.mark.parametrize("family", ["bidirectional", "fullband"])
def test_composite_networks_denoise_equally_in_torch_and_onnx(family: str, tmp_path: Path) -> None:
    model, checkpoint, out = large_model(family), tmp_path / "a.safetensors", tmp_path / "a.onnx"
    save_model(checkpoint, model)
    done = audioae("export", checkpoint, out, "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["difference"] <= MAX_DIFFERENCE
    engine = load_model(out, device="cpu")
    assert isinstance(engine, OnnxEngine) and engine.info == model.info
    rate = model.settings.sample_rate
    time = np.arange(rate * 3 // 2) / rate
    waveform = 0.1 * np.random.default_rng(0).standard_normal((2, len(time))) * np.sin(3 * time)
    reference = TorchEngine(load_denoiser(checkpoint), device="cpu")
    expected = denoise(waveform.astype(np.float32), rate, model=reference)
    enhanced = denoise(waveform.astype(np.float32), rate, model=engine)
    assert np.abs(enhanced - waveform).max() > 1e-3
    np.testing.assert_allclose(enhanced, expected, atol=MAX_DIFFERENCE)


def test_a_model_for_both_directions_runs_on_whole_chunks(tmp_path: Path) -> None:
    export(large_model("bidirectional"), tmp_path / "a.onnx", name="a")
    engine = OnnxEngine(tmp_path / "a.onnx")
    engine._session = session = CountingSession(engine._session)
    for frames in (1, 7, 20 * CACHED_FRAMES):
        session.frames.clear()
        assert engine.whole(random_spectrum(frames, 2)).shape == (2, BINS, frames)
        assert session.frames == [frames, frames]  # channel by channel
