"""How an output was made, in a file beside it: enough to make the same bytes again."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from audioae import __version__
from audioae.denoising import DenoiseSettings, FileResult
from audioae.errors import ModelNotFoundError
from audioae.pretrained import default_model, find_model
from audioae.storage import output_errors, write_text

FORMAT = 1  # raised when a key changes its meaning
SUFFIX = ".audioae.json"
PACKAGES = (
    "numpy",
    "onnxruntime",
    "soxr",
    "soundfile",
    "torch",
    "av",
)  # whose arithmetic or encoders reach the output


def record(
    result: FileResult,
    settings: DenoiseSettings,
    *,
    model_path: str | Path | None,
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """How one output was made, as JSON takes it. Of the same run it is the same: it holds no time
    and no duration.

    Args:
        result: of the run; its files are read for their sha256.
        settings: that it ran with.
        model_path: the file or the name of the model; None is the default model.
        options: what else decides about the bytes, such as `{"subtype": "PCM_24"}`: keywords of
            `denoise_file`.
    """
    files = {"input": result.src, "output": result.dst, "residual": result.residual}
    return {
        "format": FORMAT,
        "audioae": __version__,
        "model": {"name": result.model, **_file(_model_file(model_path))},
        "settings": dataclasses.asdict(settings),
        "options": dict(options or {}),
        **{role: None if path is None else _file(path) for role, path in files.items()},
        "warnings": list(result.warnings),
        "versions": _versions(),
        # another kind of processor may round in another way
        "machine": f"{platform.system()} {platform.machine()}",
    }


def write_record(
    result: FileResult,
    settings: DenoiseSettings,
    *,
    model_path: str | Path | None,
    options: Mapping[str, Any] | None = None,
) -> Path:
    """Write the `record` of an output beside it, as OUT.audioae.json, and answer that path.

    A record belongs to its output: one from an earlier run under that name is replaced. It appears
    whole or not at all.
    """
    path = record_path(result.dst)
    text = json.dumps(
        record(result, settings, model_path=model_path, options=options), indent=2, default=_plain
    )
    with output_errors(path):
        write_text(path, text + "\n")  # JSON escapes file names that are not valid text
    return path


def record_path(output: Path) -> Path:
    """Where the record of an output is."""
    return output.with_name(output.name + SUFFIX)


def sha256(path: Path) -> str:
    """sha256 of a file of any length, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _file(path: Path) -> dict[str, Any]:
    return {"path": str(path), "bytes": path.stat().st_size, "sha256": sha256(path)}


def _model_file(model_path: str | Path | None) -> Path:
    """The file behind a name, a path or a run folder."""
    found = find_model(default_model() if model_path is None else model_path)
    if not found.is_file():
        raise ModelNotFoundError(
            f"the model {found} is gone, so its record cannot be written; put it back and run again"
        )
    return found


def _versions() -> dict[str, str]:
    """Versions of what is installed, from the packages' metadata: nothing is imported for it."""
    from importlib import metadata  # 25 ms that only records need

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
    """What JSON has no word for, in its words."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return str(value)
