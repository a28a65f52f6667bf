"""audioae cleans recordings with convolutional autoencoders; the public names below are resolved on
first use.

denoise(waveform, sample_rate)   clean an array
denoise_file(source, target)     clean a file, block by block
load_model(name_or_path)         a model that is ready to run
DenoiseSettings                  how strongly, and which channels together
Stream                           hop in, hop out, for live sound
AudioaeError                     base of all errors raised on purpose
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# audioae works offline and tells nobody; ONNX Runtime reports to its makers unless this is set
# before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_HOMES = {
    "AudioaeError": ("audioae.errors", "AudioaeError"),
    "DenoiseSettings": ("audioae.denoising", "DenoiseSettings"),
    "Stream": ("audioae.denoising", "Stream"),
    "denoise": ("audioae.denoising", "denoise"),
    "denoise_file": ("audioae.denoising", "denoise_file"),
    "load_model": ("audioae.engine", "load_engine"),
}

__all__ = [
    "AudioaeError",
    "DenoiseSettings",
    "Stream",
    "__version__",
    "denoise",
    "denoise_file",
    "load_model",
]

if TYPE_CHECKING:
    from audioae.denoising import DenoiseSettings, Stream, denoise, denoise_file
    from audioae.engine import load_engine as load_model
    from audioae.errors import AudioaeError


def __getattr__(name: str) -> Any:
    """Import the room of a public name when it is first used, so that `import audioae` costs
    nothing.
    """
    if name not in _HOMES:
        raise AttributeError(f"module 'audioae' has no attribute {name!r}")
    room, original = _HOMES[name]
    value = getattr(importlib.import_module(room), original)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
