"""The record of an output says how it was made; following it gives the same bytes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from fake_engines import smoothing

from audioae import __version__
from audioae.denoising import (
    DenoiseSettings,
    FileJob,
    FileResult,
    denoise_file,
    plan_file,
    provenance,
    run_plan,
)
from audioae.denoising.provenance import describe, record, record_path, sha256, write_record
from audioae.errors import ModelNotFoundError, OutputError
from audioae.pretrained import ModelEntry, registry

SETTINGS = DenoiseSettings(strength=0.7, max_attenuation_db=12.0, channels="independent")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A file in place of the weights of the fake engine."""
    path = tmp_path / "fake.onnx"
    path.write_bytes(b"weights")
    return path


def run(folder: Path, name: str = "out.wav", **options: Any) -> tuple[FileResult, FileJob]:
    """Denoise a recording into `name`; also returns the job."""
    src = folder / f"in{Path(name).suffix}"
    soundfile.write(src, np.random.default_rng(0).normal(0, 0.1, (12_000, 2)), 44100)
    job = FileJob(src, folder / name, settings=SETTINGS, **options)
    return run_plan(plan_file(job), smoothing()), job


def test_a_record_has_everything_that_decides_on_the_bytes(tmp_path: Path, model: Path) -> None:
    result, job = run(tmp_path, residual=tmp_path / "rest.wav", subtype="PCM_24")
    told = record(result, job, model_path=model)
    assert told["audioae"] == __version__
    assert told["models"] == [
        {
            "name": "fake",
            "path": str(model),
            "bytes": 7,
            "sha256": hashlib.sha256(b"weights").hexdigest(),
        }
    ]
    for role, path in {
        "input": result.src,
        "output": result.dst,
        "residual": result.residual,
    }.items():
        assert path is not None
        assert told[role] == {
            "path": str(path),
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
    assert DenoiseSettings(**told["settings"]) == SETTINGS
    assert told["options"] == {"subtype": "PCM_24"}
    assert told["versions"]["numpy"] == np.__version__
    assert {"python", "onnxruntime", "soxr", "soundfile", "libsndfile"} <= set(told["versions"])


@pytest.mark.parametrize("name", ["out.wav", "out.flac", "out.ogg", "out.mp3"])
def test_a_record_is_enough_to_make_the_same_bytes_again(
    tmp_path: Path, model: Path, name: str
) -> None:
    subtype = {".wav": "PCM_24", ".flac": "PCM_24"}.get(Path(name).suffix)
    path = write_record(*run(tmp_path, name, subtype=subtype), model_path=model)
    told = json.loads(path.read_text(encoding="utf-8"))
    again = tmp_path / f"again{Path(name).suffix}"
    assert sha256(Path(told["input"]["path"])) == told["input"]["sha256"]
    denoise_file(
        told["input"]["path"],
        again,
        model=smoothing(),
        settings=DenoiseSettings(**told["settings"]),
        **told["options"],
    )
    assert sha256(again) == told["output"]["sha256"]
    other = replace(DenoiseSettings(**told["settings"]), strength=0.2)
    denoise_file(
        told["input"]["path"],
        again,
        model=smoothing(),
        settings=other,
        **told["options"],
        overwrite=True,
    )
    assert sha256(again) != told["output"]["sha256"]


def test_the_same_run_has_the_same_record(tmp_path: Path, model: Path) -> None:
    first = write_record(*run(tmp_path), model_path=model).read_bytes()
    again = write_record(*run(tmp_path, overwrite=True), model_path=model).read_bytes()
    assert again == first


def test_a_record_is_beside_its_output_and_replaces_an_earlier_one(
    tmp_path: Path, model: Path
) -> None:
    path = record_path(tmp_path / "out.wav")
    path.write_text("of an earlier run")
    assert write_record(*run(tmp_path), model_path=model) == path
    assert path == tmp_path / "out.wav.audioae.json"
    assert json.loads(path.read_text(encoding="utf-8"))["format"] == provenance.FORMAT
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "fake.onnx",
        "in.wav",
        "out.wav",
        path.name,
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux only")
def test_any_name_and_any_value_can_be_recorded(tmp_path: Path, model: Path) -> None:
    options = {"start": np.float32(0.125), "end": np.float64(0.25), "normalize_lufs": np.int64(-16)}
    result, job = run(tmp_path, "夢 \udcff.wav", **options)
    path = write_record(result, job, model_path=model)
    told = json.loads(path.read_text(encoding="utf-8"))
    assert told["options"] == {"start": 0.125, "end": 0.25, "normalize_lufs": -16}
    assert told["output"]["path"] == str(result.dst)


def test_a_record_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    result, job = run(tmp_path)
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(
        OutputError, match=r"out\.wav\.audioae\.json cannot be written \(No space left on device\)"
    ):
        write_record(result, job, model_path=model)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["fake.onnx", "in.wav", "out.wav"]


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"gone\.onnx"):
        record(*run(tmp_path), model_path=tmp_path / "gone.onnx")


@pytest.mark.parametrize("ran", ["wide", "offline", "offline+wide"])
def test_the_companions_that_ran_in_place_of_a_model_are_recorded(
    ran: str, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashes = {}
    for name in ("wide", "offline"):
        (tmp_path / f"{name}.onnx").write_text(f"weights of {name}")
        hashes[name] = sha256(tmp_path / f"{name}.onnx")
    entries = [
        ModelEntry("base", model.name, sha256(model), full_band="wide", offline="offline"),
        *(ModelEntry(name, f"{name}.onnx", hashes[name]) for name in hashes),
    ]
    monkeypatch.setattr(registry, "WEIGHTS", tmp_path)
    monkeypatch.setattr(registry, "list_models", lambda: entries)
    monkeypatch.setattr(provenance, "list_models", lambda: entries)
    result, job = run(tmp_path)
    result = dataclasses.replace(result, model=ran)
    told = record(result, job, model_path="base")
    expected = {name: hashes[name] for name in ran.split("+")}
    assert {each["name"]: each["sha256"] for each in told["models"]} == expected
    assert describe(result, "base")["model_sha256"] == "+".join(expected.values())
