"""Generating sounds: prior, paths, variations, the same seed, files, errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

pytest.importorskip("torch")
pytest.importorskip("torchaudio")
pytest.importorskip("librosa")
import torch

from audioae.audio import info, read, write
from audioae.cli import main
from audioae.engine.codecs import TorchCodec
from audioae.errors import AudioFileError, SettingsError
from audioae.models import Reconstructor, build_autoencoder
from audioae.models.conv2d import Conv2dSettings
from audioae.models.dense import DenseSettings
from audioae.signal.features import FeatureSettings
from audioae.tasks import Codec
from audioae.tasks.generate import Generator
from audioae.training.export_codec import export_codec

FEATURES = FeatureSettings(kind="magnitude", n_fft=126, win_length=126, hop_length=64)


def build(bottleneck: str = "gaussian", patch: int | None = 16) -> Reconstructor:
    torch.manual_seed(0)
    settings = Conv2dSettings(
        num_bins=64,
        channels=(4, 4),
        time_strides=(2, 2),
        patch=patch,
        latent_size=6 if patch else None,
        bottleneck=bottleneck,  # type: ignore[arg-type]
        latent_activation="identity",
    )
    return Reconstructor(build_autoencoder(settings), FEATURES).eval()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.onnx"
    export_codec(build(), path, name="tiny", overwrite=True)
    return path


@pytest.fixture(scope="module")
def generator(model: Path) -> Generator:
    return Generator(model)


@pytest.fixture
def recordings(tmp_path: Path) -> tuple[Path, Path]:
    """Two recordings of other rates and channels than the model's."""
    rng = np.random.default_rng(0)
    write(tmp_path / "a.wav", rng.normal(0, 0.1, (2, 30000)).astype(np.float32), 44100)
    tone = 0.3 * np.sin(2 * np.pi * 500 * np.arange(9000) / 8000)
    write(tmp_path / "b.flac", tone[None].astype(np.float32), 8000)
    return tmp_path / "a.wav", tmp_path / "b.flac"


def run(*args: object) -> Result:
    return CliRunner().invoke(main, ["generate", *(str(arg) for arg in args)])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_same_seed_gives_the_same_files(tmp_path: Path, model: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        found = run("--sample", 3, "-o", tmp_path / name, "--seed", seed, "-m", model, "-q")
        assert found.exit_code == 0, found.output
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    other = contents(tmp_path / "c")
    assert other.keys() == contents(tmp_path / "a").keys()
    assert all(data != contents(tmp_path / "a")[name] for name, data in other.items())


def test_the_first_samples_do_not_depend_on_the_number(generator: Generator) -> None:
    few, many = list(generator.sample(2, seed=1)), list(generator.sample(4, seed=1))
    for first, second in zip(few, many[:2], strict=True):
        np.testing.assert_array_equal(first.waveform, second.waveform)
    assert not np.array_equal(many[0].latent, many[1].latent)


def test_codes_are_drawn_from_the_prior(generator: Generator) -> None:
    codes = np.stack([sound.latent for sound in generator.sample(100)])
    assert codes.shape == (100, 6, 1)
    assert abs(codes.mean()) < 0.15
    assert codes.std() == pytest.approx(1, abs=0.1)


def test_a_path_begins_and_ends_at_the_recordings(
    generator: Generator, recordings: tuple[Path, Path]
) -> None:
    ends = [generator.encode_file(path) for path in recordings]
    sounds = list(generator.between(*recordings, 5))
    assert [sound.position for sound in sounds] == [0, 0.25, 0.5, 0.75, 1]
    for sound, end in ((sounds[0], ends[0]), (sounds[-1], ends[1])):
        np.testing.assert_allclose(sound.latent, end, atol=1e-6)
        np.testing.assert_allclose(sound.features, generator.codec.decode(end), atol=1e-5)
    np.testing.assert_allclose(sounds[2].latent, (ends[0] + ends[1]) / 2, atol=1e-6)


def test_the_spread_is_the_distance_from_the_recording(
    generator: Generator, recordings: tuple[Path, Path]
) -> None:
    centre = generator.encode_file(recordings[0])
    for spread in (0.0, 0.5, 2.0):
        sounds = list(generator.around(recordings[0], 30, spread=spread))
        away = np.stack([sound.latent - centre for sound in sounds])
        assert away.std() == pytest.approx(spread, rel=0.2, abs=1e-6)


def test_the_loudest_part_of_a_recording_is_encoded(tmp_path: Path, generator: Generator) -> None:
    rng, wanted = np.random.default_rng(0), generator.num_samples
    sound = rng.normal(0, 0.001, 40 * wanted).astype(np.float32)
    sound[25 * wanted : 26 * wanted] *= 100
    write(tmp_path / "long.wav", sound[None], 16000, subtype="FLOAT")
    write(tmp_path / "part.wav", sound[None, 25 * wanted : 26 * wanted], 16000, subtype="FLOAT")
    found, expected = (generator.encode_file(tmp_path / name) for name in ("long.wav", "part.wav"))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_files_have_the_form_of_the_model_and_json_names_them(
    tmp_path: Path, model: Path, generator: Generator, recordings: tuple[Path, Path]
) -> None:
    out = tmp_path / "new" / "folder"
    found = run("--between", *recordings, "--steps", 3, "-o", out, "-m", model, "--json")
    assert found.exit_code == 0, found.output
    rows = [json.loads(line) for line in found.stdout.splitlines()]
    assert [row["path"] for row in rows] == [str(path) for path in sorted(out.iterdir())]
    assert [row["position"] for row in rows] == [0, 0.5, 1]
    for row in rows:
        form = info(row["path"])
        assert (form.sample_rate, form.channels, form.num_samples, form.subtype) == (
            16000,
            1,
            generator.num_samples,
            "PCM_16",
        )
        assert row["num_samples"] == generator.num_samples
        assert np.abs(read(row["path"])[0]).max() > 0.001


def test_around_writes_variations_and_a_picture(
    tmp_path: Path, model: Path, recordings: tuple[Path, Path]
) -> None:
    pytest.importorskip("matplotlib")
    args = ("--around", recordings[1], "--count", 3, "--spread", 0.2, "-m", model, "-q")
    found = run(*args, "-o", tmp_path / "out", "--plot", tmp_path / "grid.png")
    assert found.exit_code == 0, found.output
    assert len(contents(tmp_path / "out")) == 3
    assert (tmp_path / "grid.png").read_bytes().startswith(b"\x89PNG")
    found = run(*args, "-o", tmp_path / "other", "--plot", tmp_path / "grid.png")
    assert found.exit_code == 1
    assert not (tmp_path / "other").exists()


def test_existing_files_are_kept_and_nothing_else_is_written(tmp_path: Path, model: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "sample-002.wav").write_bytes(b"mine")
    args = ("--sample", 3, "-o", out, "-m", model)
    assert run(*args).exit_code == 1
    assert contents(out) == {"sample-002.wav": b"mine"}
    assert run(*args, "--overwrite").exit_code == 0
    assert len(contents(out)) == 3
    assert contents(out)["sample-002.wav"].startswith(b"RIFF")
    (tmp_path / "file").write_bytes(b"")
    found = run("--sample", 1, "-o", tmp_path / "file", "-m", model)
    assert found.exit_code == 1
    assert "internal" not in found.stderr


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("--sample", 2, "--around", "a.wav"),
        ("--sample", 0),
        ("--between", "a.wav", "b.wav", "--steps", 1),
        ("--around", "a.wav", "--spread", -1),
        ("--sample", 20000),
        ("--around", "a.wav", "--count", 20000),
    ],
)
def test_options_that_do_not_fit_are_usage_errors(
    tmp_path: Path, model: Path, args: tuple[object, ...]
) -> None:
    assert run(*args, "-o", tmp_path / "out", "-m", model).exit_code == 2
    assert not (tmp_path / "out").exists()


def test_inputs_that_cannot_be_used_give_an_error(
    tmp_path: Path, model: Path, generator: Generator
) -> None:
    write(tmp_path / "silent.wav", np.zeros((1, 4000), np.float32), 16000)
    (tmp_path / "text.wav").write_text("no audio")
    for name in ("silent.wav", "text.wav", "missing.wav"):
        with pytest.raises(AudioFileError):
            generator.encode_file(tmp_path / name)
        found = run("--around", tmp_path / name, "-o", tmp_path / "out", "-m", model)
        assert found.exit_code == 1
        assert found.stderr.count("\n") == 1
    assert run("--sample", 1, "-o", tmp_path / "out", "-m", "no-model").exit_code == 3
    assert run("--sample", 1, "-o", tmp_path / "out", "-m", "speech-16k").exit_code == 3


@pytest.mark.parametrize(("bottleneck", "patch"), [("plain", 16), ("gaussian", None)])
def test_models_without_a_prior_or_a_length_are_refused(bottleneck: str, patch: int | None) -> None:
    with pytest.raises(SettingsError):
        Generator(Codec(TorchCodec(build(bottleneck, patch), device="cpu")))


def test_dense_models_generate_too() -> None:
    settings = DenseSettings(num_bins=64, patch=8, widths=(8,), bottleneck="gaussian")
    model = Reconstructor(build_autoencoder(settings), FEATURES).eval()
    generator = Generator(Codec(TorchCodec(model, device="cpu")))
    (sound,) = generator.sample(1)
    assert sound.features.shape == (64, 8)
    assert len(sound.waveform) == generator.num_samples == 7 * 64
