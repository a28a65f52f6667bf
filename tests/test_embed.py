"""Embeddings of files: values, containers, failures, maps and the probe."""

from __future__ import annotations

import io
import json
import os
import sys
from importlib.util import find_spec
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
from audioae.errors import DataError
from audioae.tasks.autoencoder import Codec
from audioae.tasks.baselines import PcaEncoder
from audioae.tasks.embed import Embedding, Pooler, embed_file
from audioae.tasks.pictures import project
from audioae.tasks.probe import probe, read_table, source_of

RATES = {"a": 8000, "b": 44100, "c": 48000}
CHANNELS = {"a": 1, "b": 2, "c": 3}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_codec(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six files of hiss and six of a tone, of three forms, from three sources each."""
    folder, rng = tmp_path_factory.mktemp("sounds"), np.random.default_rng(0)
    for kind in ("hiss", "tone"):
        (folder / kind).mkdir()
        for number, (form, rate) in enumerate([*RATES.items()] * 2):
            time = np.arange(rate) / rate
            sound = 0.05 * rng.normal(size=rate)
            if kind == "tone":
                sound = 0.01 * sound + 0.2 * np.sin(2 * np.pi * rng.uniform(400, 900) * time)
            suffix = ".flac" if form == "b" else ".wav"
            path = folder / kind / f"{form}-{number}{suffix}"
            write(path, np.tile(sound, (CHANNELS[form], 1)).astype(np.float32), rate)
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments])


def load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


def objects(result: Result) -> list[dict]:
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.usefixtures("ready_workers")
@pytest.mark.parametrize("pool", ["none", "mean", "mean+std", "max"])
@pytest.mark.parametrize("jobs", [1, 2])
def test_embeddings_are_those_of_the_codec(
    model: Path, sounds: Path, tmp_path: Path, pool: str, jobs: int
) -> None:
    out = tmp_path / "out.npz"
    done = run("embed", sounds, "-o", out, "-m", model, "--pool", pool, "-j", jobs, "--json", "-q")
    assert done.exit_code == 0, done.output
    found, codec = load(out), Codec(model)
    assert list(found["paths"]) == [row["path"] for row in objects(done)]
    assert str(found["sha256"]) == codec.sha256 and str(found["pooling"]) == pool
    assert set(found["folders"]) == {"hiss", "tone"} and len(found["paths"]) == 12
    for number, path in enumerate(found["paths"]):
        waveform, rate = read(path)
        mono = waveform.mean(0, dtype=np.float32) if waveform.ndim > 1 else waveform
        latent = codec.encode(codec.features(mono, rate))
        expected = {
            "none": latent.T,
            "mean": latent.mean(-1)[None],
            "mean+std": np.concatenate([latent.mean(-1), latent.std(-1)])[None],
            "max": latent.max(-1)[None],
        }[pool]
        own = found["file"] == number
        np.testing.assert_allclose(found["embeddings"][own], expected, atol=1e-4)
        if pool == "none":
            steps = np.arange(len(expected)) / codec.steps_per_second
            np.testing.assert_allclose(found["times"][own], steps, rtol=1e-5)
    np.testing.assert_allclose(found["seconds"], 1.0, atol=0.02)


@pytest.mark.parametrize("pool", ["none", "max"])
def test_parquet_has_the_same_values(model: Path, sounds: Path, tmp_path: Path, pool: str) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    for name in ("out.npz", "out.parquet"):
        done = run("embed", sounds, "-o", tmp_path / name, "-m", model, "--pool", pool)
        assert done.exit_code == 0, done.output
    found, table = load(tmp_path / "out.npz"), parquet.read_table(tmp_path / "out.parquet")
    rows = np.stack(table["embedding"].to_pylist())
    np.testing.assert_array_equal(rows.astype(np.float32), found["embeddings"])
    assert table["path"].to_pylist() == [str(found["paths"][each]) for each in found["file"]]
    np.testing.assert_allclose(table["time"].to_pylist(), found["times"])
    assert table.schema.metadata[b"sha256"].decode() == str(found["sha256"])


@pytest.mark.skipif(sys.platform != "linux", reason="needs file names of any bytes")
def test_names_that_are_not_utf_8(model: Path, sounds: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    folder = tmp_path / os.fsdecode(b"s\xff")
    folder.symlink_to(sounds / "hiss")
    codec = tmp_path / os.fsdecode(b"c\xe9.onnx")
    codec.symlink_to(model)
    for suffix in (".npz", ".parquet"):
        out = tmp_path / f"{codec.stem}{suffix}"
        done = run("embed", folder, "-o", out, "-m", codec, "--json")
        assert done.exit_code == 0, done.stderr
        assert {Path(row["path"]).parent for row in objects(done)} == {folder}
    table = parquet.read_table(io.BytesIO(out.read_bytes()))
    assert all("s\\udcff" in path for path in table["path"].to_pylist())


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_bad_file_is_a_failed_row(model: Path, sounds: Path, tmp_path: Path, jobs: int) -> None:
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"no sound")
    empty = tmp_path / "empty.wav"
    write(empty, np.zeros((1, 0), np.float32), 8000)
    good = sounds / "hiss" / "a-0.wav"
    done = run("embed", bad, good, empty, "-o", tmp_path / "o.npz", "-m", model, "-j", jobs,
               "--json")  # fmt: skip
    assert done.exit_code == 1
    assert [row["status"] for row in objects(done)] == ["failed", "done", "failed"]
    assert str(bad) in objects(done)[0]["error"] and str(empty) in objects(done)[2]["error"]
    assert list(load(tmp_path / "o.npz")["paths"]) == [str(good)]
    only = run("embed", bad, "-o", tmp_path / "none.npz", "-m", model)
    assert only.exit_code == 1 and not (tmp_path / "none.npz").exists()
    assert {each.name for each in tmp_path.iterdir()} == {"bad.wav", "empty.wav", "o.npz"}


def test_outputs_are_checked_first(model: Path, sounds: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept.npz"
    kept.write_bytes(b"mine")
    for path, code in ((kept, 1), (tmp_path / "x.txt", 1), (tmp_path / "no" / "x.npz", 1)):
        assert run("embed", sounds, "-o", path, "-m", model).exit_code == code
    assert kept.read_bytes() == b"mine" and list(tmp_path.iterdir()) == [kept]
    assert run("embed", sounds).exit_code == 2
    assert run("embed", sounds, "-o", tmp_path / "x.npz", "-m", "speech-16k").exit_code == 3
    assert run("embed", sounds, "-o", kept, "-m", model, "--overwrite").exit_code == 0
    assert len(load(kept)["embeddings"]) == 12


@pytest.mark.parametrize("suffix", [".png", ".svg", ".html"])
def test_a_map_has_a_point_per_file(model: Path, sounds: Path, tmp_path: Path, suffix: str) -> None:
    if suffix != ".html":
        pytest.importorskip("matplotlib")
    path = tmp_path / f"map{suffix}"
    done = run("embed", sounds, "-m", model, "--plot", path)
    assert done.exit_code == 0, done.output
    content = path.read_bytes()
    if suffix == ".html":
        assert content.count(b"<circle") == 12 and b"hiss: " in content and b"http" not in content
    else:
        assert content[:5] in (b"\x89PNG\r", b"<?xml") and len(content) > 2000


@pytest.mark.filterwarnings("ignore::ImportWarning")  # umap without tensorflow
def test_projections_keep_clusters_apart() -> None:
    rng = np.random.default_rng(0)
    vectors = np.concatenate([rng.normal(0, 1, (15, 8)), rng.normal(9, 1, (15, 8))])
    names = ["pca", "tsne"] + ["umap"] * (find_spec("umap") is not None)
    for name in names:
        points = project(vectors, name)
        assert points.shape == (30, 2)
        first, second = points[:15], points[15:]
        apart = np.linalg.norm(first.mean(0) - second.mean(0))
        spread = max(first.std(0).max(), second.std(0).max())
        assert apart > 2 * spread
    with pytest.raises(DataError):
        project(vectors[:2], "pca")
    for name in names:
        assert project(vectors[:4], name).shape == (4, 2)


def test_a_missing_umap_is_named_before_anything_is_done(
    model: Path, sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    options = ("-m", model, "--plot", tmp_path / "map.html", "--projection", "umap")
    done = run("embed", sounds, "-o", tmp_path / "x.npz", *options)
    assert done.exit_code == 3 and "audioae[umap]" in done.stderr
    assert not list(tmp_path.iterdir())


def test_the_probe_tells_hiss_from_tones(model: Path, sounds: Path, tmp_path: Path) -> None:
    done = run("embed", sounds, "-m", model, "--probe", "--folds", 3, "--json")
    assert done.exit_code == 0, done.output
    found = objects(done)[-1]["probe"]
    names = {row["name"]: row for row in found["rows"]}
    assert found["files"] == 12 and found["classes"] == 2 and found["sources"] == 3
    assert names["mel statistics"]["dimensions"] == 64 and names["PCA"]["dimensions"] == 6
    assert names["latent"]["dimensions"] == 6 and names["mel statistics"]["accuracy"] == 1.0
    assert all(len(row["folds"]) == 3 for row in names.values())


def test_folds_keep_sources_together() -> None:
    """Vectors that tell the source but not the class are worth nothing."""
    rng = np.random.default_rng(0)
    labels = [str(number % 2) for number in range(60)]
    sources = [str(number % 20) for number in range(60)]  # the class of a source is fixed
    vectors = np.eye(20)[np.arange(60) % 20] + 0.01 * rng.normal(size=(60, 20))
    alone = probe({"x": vectors}, labels, [str(each) for each in range(60)], folds=4)
    grouped = probe({"x": vectors}, labels, sources, folds=4)
    assert alone.rows[0].accuracy > 0.9 and grouped.rows[0].accuracy < 0.7
    assert grouped.sources == 20


def test_rare_classes_are_left_out() -> None:
    labels = ["a"] * 6 + ["b"] * 6 + ["rare"]
    vectors = np.random.default_rng(0).normal(size=(13, 2))
    found = probe({"x": vectors}, labels, [str(each) for each in range(13)], folds=3)
    assert found.dropped == ("rare",) and found.files == 12
    with pytest.raises(DataError):
        probe({"x": vectors}, labels, ["one"] * 13, folds=3)


def test_labels_and_groups_come_from_tables(model: Path, sounds: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    files = sorted(sounds.rglob("*.*"))
    rows = [f"{path},{path.parent.name},{number}" for number, path in enumerate(files)]
    table.write_text("path,kind,source\n" + "\n".join(rows))
    done = run("embed", sounds, "-m", model, "--probe", "--folds", 3, "--labels", f"{table}:kind",
               "--groups", table, "--json")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert objects(done)[-1]["probe"]["sources"] == 12
    lines = tmp_path / "table.jsonl"
    lines.write_text("\n".join(json.dumps({"path": str(path), "label": "x"}) for path in files))
    assert read_table(str(lines), "label").get(files[0]) == "x"
    for wrong in (f"{table}:none", tmp_path / "missing.csv", lines):
        if wrong == lines:
            lines.write_text(json.dumps({"path": "other.wav", "label": "x"}))
        assert run("embed", sounds, "-m", model, "--probe", "--labels", wrong).exit_code == 1
    assert source_of("x/p1_003.wav") == "p1" and source_of("fan.wav") == "fan"


def test_long_files_take_constant_memory(model: Path, tmp_path: Path) -> None:
    """The latent of all steps goes through the disk, and pooling sees one block at a time."""
    path, codec = tmp_path / "long.wav", Codec(model)
    write(path, np.random.default_rng(0).normal(0, 0.1, (1, 8000 * 60)).astype(np.float32), 8000)
    spill = tmp_path / "steps.f32"
    found = embed_file(path, codec, "none", spill=spill)
    assert isinstance(found, Embedding) and found.steps == spill
    assert spill.stat().st_size == 4 * 6 * found.rows
    held = embed_file(path, codec, "none")
    np.testing.assert_array_equal(np.fromfile(spill, np.float32).reshape(-1, 6), held.steps)


def test_pooling_does_not_depend_on_blocks(rng: np.random.Generator) -> None:
    latent = rng.normal(size=(5, 101)).astype(np.float32)
    for pooling in ("mean", "mean+std", "max"):
        results = []
        for sizes in ([101], [1, 0, 60, 40]):
            pooler = Pooler(pooling)
            for block in np.split(latent, np.cumsum(sizes)[:-1], axis=-1):
                pooler.add(block)
            results.append(pooler.result())
        np.testing.assert_allclose(*results, atol=1e-6)


def test_pca_of_blocks_is_that_of_the_whole(rng: np.random.Generator) -> None:
    features = rng.random((8, 103)).astype(np.float32)
    patches = rng.random((50, 32)).astype(np.float32)
    encoder = PcaEncoder.fit(patches, channels=3, frames=4)
    whole = np.concatenate(list(encoder.encode_blocks([features])), -1)
    parts = np.split(features, [1, 30, 31, 90], axis=-1)
    np.testing.assert_allclose(np.concatenate(list(encoder.encode_blocks(parts)), -1), whole)
    expected = encoder.components @ (features[:, 4:8].flatten() - encoder.mean)
    np.testing.assert_allclose(whole[:, 1], expected, atol=1e-5)


def test_samples_that_are_not_finite_count_as_silence_or_full_scale(
    model: Path, tmp_path: Path
) -> None:
    waveform = 0.1 * np.random.default_rng(0).normal(size=8000).astype(np.float32)
    for name, values in (("bad", (np.nan, -np.inf)), ("good", (0.0, -1.0))):
        waveform[1000:1100], waveform[5000] = values
        soundfile.write(tmp_path / f"{name}.wav", waveform, 16000, subtype="FLOAT")
    done = run("embed", tmp_path, "-o", tmp_path / "x.npz", "-m", model)
    assert done.exit_code == 0, done.output
    first, second = load(tmp_path / "x.npz")["embeddings"]
    np.testing.assert_array_equal(first, second)
