"""Where and with what a measurement was made: without it a time means nothing."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import re
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from audioae import __version__
from audioae.pretrained import file_hash, find_model

PACKAGES = ("numpy", "onnxruntime", "soxr", "soundfile", "pesq", "pystoi", "speechmos")


def describe(model: str | Path) -> dict[str, Any]:
    """The machine, how busy it is, what is installed and the sha256 of the model's file, as JSON
    takes it.
    """
    return {**describe_machine(), "sha256": file_hash(find_model(model))}


def describe_machine(*packages: str) -> dict[str, Any]:
    """The machine, how busy it is and what is installed, with the versions of `packages` too."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cpu": cpu_name(),
        "cores": cores(),
        "load": round(os.getloadavg()[0], 1),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {
            "audioae": __version__,
            "python": platform.python_version(),
            **_versions((*PACKAGES, *packages)),
        },
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


def _versions(names: Iterable[str]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def installed_mib(package: str) -> float:
    """Size on disk of an installed package with the packages that it requires, MiB."""
    return sum(_package_bytes(name) for name in required(package)) / 2**20


def required(package: str) -> list[str]:
    """A package and all that it requires, as far as they are installed; extras are left out."""
    found: list[str] = []
    waiting = [package]
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        try:
            needs = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        if name not in found:
            found.append(name)
            waiting += [
                re.split(r"[^\w.-]", need.strip(), maxsplit=1)[0]
                for need in needs
                if "extra ==" not in need
            ]
    return found


def _package_bytes(name: str) -> int:
    files = [Path(str(file.locate())) for file in importlib.metadata.files(name) or []]
    spec = find_spec(name.replace("-", "_"))
    folders = list(spec.submodule_search_locations or []) if spec else []
    if folders and not any(file.is_relative_to(folders[0]) for file in files):  # editable install
        files += [path for path in Path(folders[0]).rglob("*") if "__pycache__" not in path.parts]
    return sum(file.stat().st_size for file in set(files) if file.is_file())
