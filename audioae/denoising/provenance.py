"""What is known of an output after a run: hashes and levels of its files, and the record of how it
was made, which is enough to make the same bytes again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from audioae import __version__
from audioae.audio import AudioReader
from audioae.denoising import FileJob, FileResult
from audioae.errors import ModelNotFoundError
from audioae.pretrained import default_model, find_model, list_models
from audioae.signal.loudness import Meter
from audioae.storage import output_errors, write_text

FORMAT = 2  # of records; raised when a key changes its meaning
SUFFIX = ".audioae.json"
BLOCK = 2**16  # samples per channel
# packages whose arithmetic or encoders change the bytes of outputs
PACKAGES = ("numpy", "onnxruntime", "soxr", "soundfile", "torch", "av")


def describe(result: FileResult, model_path: str | Path | None) -> dict[str, Any]:
    """The result, the hash of the model, and the facts of the input and the output, for JSON.

    Args:
        model_path: path or name of the model; None is the default model.
    """
    files = {"input": file_facts(result.src), "output": file_facts(result.dst)}
    model_sha256 = "+".join(map(_model_sha256, model_files(result, model_path).values()))
    return {"status": "done", **result.to_dict(), "model_sha256": model_sha256, **files}


@lru_cache(maxsize=8)
def _model_sha256(path: Path) -> str:
    """The sha256 of a model file, which does not change while files are denoised."""
    return sha256(path)


def file_facts(path: Path) -> dict[str, Any]:
    """Hash, format and levels of an audio file. Levels of silence are None.

    Raises:
        AudioFileError: it cannot be read as audio.
    """
    with AudioReader(path) as reader:
        meter = Meter(reader.info.sample_rate, reader.info.channels)
        while (block := reader.read(BLOCK)).shape[-1]:
            meter.add(block)
        form = reader.info
    return {
        "path": str(path),
        "sha256": sha256(path),
        "bytes": path.stat().st_size,
        "container": form.container,
        "subtype": form.subtype,
        "sample_rate": form.sample_rate,
        "channels": form.channels,
        "num_samples": meter.num_samples,
        "peak_dbfs": _rounded(meter.peak_dbfs),
        "rms_dbfs": _rounded(meter.rms_dbfs),
        "loudness_lufs": _rounded(meter.lufs),
    }


def _rounded(level: float | None) -> float | None:
    return None if level is None else round(level, 3)


def record(result: FileResult, job: FileJob, *, model_path: str | Path | None) -> dict[str, Any]:
    """The record of an output as JSON values. Two runs of the same job give the same record: it
    holds no time and no duration.

    Args:
        result: of the run; its files are read for their sha256.
        job: that was run.
        model_path: path or name of the model; None is the default model.

    Raises:
        ModelNotFoundError: the model file no longer exists.
    """
    files = {"input": result.src, "output": result.dst, "residual": result.residual}
    return {
        "format": FORMAT,
        "audioae": __version__,
        "models": [
            {"name": name, **_file(path)} for name, path in model_files(result, model_path).items()
        ],
        "settings": dataclasses.asdict(job.settings),
        "options": job.file_options(),
        **{role: None if path is None else _file(path) for role, path in files.items()},
        "warnings": list(result.warnings),
        "versions": _versions(),
        # other kinds of processors may round differently
        "machine": f"{platform.system()} {platform.machine()}",
    }


def write_record(result: FileResult, job: FileJob, *, model_path: str | Path | None) -> Path:
    """Write the `record` of an output beside it, as OUT.audioae.json, and return that path.

    An earlier record of that name is replaced.

    Raises:
        OutputError: it cannot be written.
        ModelNotFoundError: the model file no longer exists.
    """
    path = record_path(result.dst)
    text = json.dumps(record(result, job, model_path=model_path), indent=2, default=_plain)
    with output_errors(path):
        write_text(path, text + "\n")  # JSON escapes file names that are not valid text
    return path


def record_path(output: Path) -> Path:
    """The path of the record of an output."""
    return output.with_name(output.name + SUFFIX)


def sha256(path: Path) -> str:
    """The sha256 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _file(path: Path) -> dict[str, Any]:
    return {"path": str(path), "bytes": path.stat().st_size, "sha256": sha256(path)}


def model_files(result: FileResult, model_path: str | Path | None) -> dict[str, Path]:
    """The files of the models that ran, by name: the given one, or companions that replaced it, see
    `denoising.choose_engine`.

    Raises:
        ModelNotFoundError: one no longer exists.
    """
    found = find_model(default_model() if model_path is None else model_path)
    entry = next((entry for entry in list_models() if entry.path == found), None)
    files, ran = {result.model: found}, result.model.split("+")
    if entry is not None and not {entry.full_band, entry.offline}.isdisjoint(ran):
        files = {name: find_model(name) for name in ran}
    for path in files.values():
        if not path.is_file():
            raise ModelNotFoundError(
                f"the model {path} no longer exists, so no record can be written; restore it and "
                "run again"
            )
    return files


def _versions() -> dict[str, str]:
    """Versions of the installed packages, from their metadata, without importing them."""
    from importlib import metadata  # takes 25 ms, and only records need it

    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found | {"libsndfile": _libsndfile()}


def _libsndfile() -> str:
    import soundfile

    return str(soundfile.__libsndfile_version__)


def _plain(value: object) -> Any:
    """A value that JSON has no type for, as one that it has."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return str(value)
