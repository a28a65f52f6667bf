"""How a denoised recording was made, as far as it is known: from the run that made it, or from the
record beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from audioae import __version__
from audioae.denoising import FileJob, FileResult, Verdict
from audioae.denoising.provenance import model_files, record_path, sha256
from audioae.fields import parse_json

LARGEST_RECORD = 2**20  # bytes


@dataclass(frozen=True)
class Provenance:
    """How a denoised recording was made, as far as it is known.

    Args:
        verdict: of the denoiser; None is estimated from the two recordings.
        models: names of the models with their sha256.
        settings: settings and options that were used.
        warnings: of the denoiser, one line each.
        version: version of audioae.
    """

    verdict: Verdict | None = None
    models: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    version: str | None = None


def from_result(result: FileResult, job: FileJob, model_path: Path) -> Provenance:
    """The provenance of an output that was just made.

    Raises:
        ModelNotFoundError: the model file no longer exists.
    """
    return Provenance(
        verdict=result.verdict,
        models={name: sha256(path) for name, path in model_files(result, model_path).items()},
        settings={**asdict(job.settings), **job.file_options()},
        warnings=result.warnings,
        version=__version__,
    )


def from_record(after: Path) -> Provenance | None:
    """The provenance in the record beside an output, which `audioae denoise --record` writes; None
    if there is none, it cannot be read, or the output has changed since.
    """
    path = record_path(after)
    try:
        if path.stat().st_size > LARGEST_RECORD:
            return None
        found = parse_json(path.read_bytes())
        digest = found["output"]["sha256"]
        models = {str(each["name"]): str(each["sha256"]) for each in found["models"]}
        parts = [found.get(name) for name in ("settings", "options")]
        settings = {
            str(key): value
            for part in parts
            if isinstance(part, Mapping)
            for key, value in part.items()
        }
        warnings = tuple(map(str, found.get("warnings", ())))
        version = str(found["audioae"])
        if sha256(after) != digest:
            return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return Provenance(None, models, settings, warnings, version)
