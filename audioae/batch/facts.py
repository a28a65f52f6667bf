"""What is known of a file afterwards, for programs: its hash, form and levels, read from the file as it lies there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from audioae.audio import AudioReader
from audioae.inference import FileResult
from audioae.loudness import Meter
from audioae.provenance import sha256

BLOCK = 2**16  # samples per channel


def describe(result: FileResult, model_sha256: str) -> dict[str, Any]:
    """`result`, the model's hash and both files, as plain values for JSON."""
    files = {"input": file_facts(result.src), "output": file_facts(result.dst)}
    return {"status": "done", **result.to_dict(), "model_sha256": model_sha256, **files}


def file_facts(path: Path) -> dict[str, Any]:
    """Hash, form and levels of an audio file; a level of silence is None."""
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
        "frames": meter.samples,
        "peak_dbfs": _rounded(meter.peak_dbfs),
        "rms_dbfs": _rounded(meter.rms_dbfs),
        "loudness_lufs": _rounded(meter.lufs),
    }


def _rounded(level: float | None) -> float | None:
    return None if level is None else round(level, 3)
