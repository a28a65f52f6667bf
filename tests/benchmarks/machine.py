"""Where and with what a measurement was made: without it a time means nothing."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

from audioae import __version__
from audioae.pretrained import file_hash, find_model

PACKAGES = ("numpy", "onnxruntime", "soxr", "soundfile", "pesq", "pystoi", "speechmos")


def describe(model: str | Path) -> dict[str, Any]:
    """The machine, how busy it is, what is installed and the sha256 of the model's file, as JSON
    takes it.
    """
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cpu": cpu_name(),
        "cores": cores(),
        "load": round(os.getloadavg()[0], 1),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {"audioae": __version__, "python": platform.python_version(), **_versions()},
        "sha256": file_hash(find_model(model)),
    }


def cpu_name() -> str:
    """What the processor calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), ""
    )
    return named or platform.processor() or platform.machine()


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
