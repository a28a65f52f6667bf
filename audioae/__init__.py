"""Denoise speech recordings with convolutional autoencoders.

Functions:

denoise(waveform, sample_rate)   denoise an array
denoise_file(src, dst)           denoise a file in constant memory
load_model(name_or_path)         load a model, to use it several times
list_models()                    the models in the package
read(path), info(path)           read an audio file, or its header only
write(path, waveform, rate)      write an audio file

Classes:

DenoiseSettings, PRESETS         options of denoise, denoise_file and Stream; named presets
Stream                           denoise audio in blocks as they arrive
FileResult, Verdict              what denoise_file returns: measurements, and an assessment
Engine, ModelInfo, StftSettings  a loaded model and its properties
AudioInfo                        the format of an audio file
AudioaeError and its subclasses  all errors that audioae raises on purpose

Example:
    >>> import numpy as np
    >>> import audioae
    >>> rng = np.random.default_rng(0)
    >>> noise = 0.01 * rng.standard_normal(16000).astype(np.float32)
    >>> enhanced = audioae.denoise(noise, 16000)
    >>> enhanced.shape, bool(np.std(enhanced) < np.std(noise) / 10)
    ((16000,), True)
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# audioae sends no data anywhere. ONNX Runtime does, unless this is set before its import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# Name of each public object: the module that defines it. Modules are imported on first use.
_MODULES = {
    "AudioFileError": "audioae.errors",
    "AudioInfo": "audioae.audio",
    "AudioaeError": "audioae.errors",
    "CheckpointError": "audioae.errors",
    "DataError": "audioae.errors",
    "DenoiseSettings": "audioae.denoising",
    "DependencyError": "audioae.errors",
    "DeviceError": "audioae.errors",
    "Engine": "audioae.engine",
    "FileResult": "audioae.denoising",
    "MissingError": "audioae.errors",
    "ModelInfo": "audioae.pretrained",
    "ModelNotFoundError": "audioae.errors",
    "OutputError": "audioae.errors",
    "PRESETS": "audioae.denoising",
    "ScoreError": "audioae.errors",
    "SettingsError": "audioae.errors",
    "StftSettings": "audioae.signal.spectrogram",
    "Stream": "audioae.denoising",
    "TrainingError": "audioae.errors",
    "Verdict": "audioae.denoising",
    "denoise": "audioae.denoising",
    "denoise_file": "audioae.denoising",
    "info": "audioae.audio",
    "list_models": "audioae.pretrained",
    "load_model": "audioae.engine",
    "read": "audioae.audio",
    "write": "audioae.audio",
}
_ALIASES: dict[str, str] = {}

if TYPE_CHECKING:
    from audioae.audio import AudioInfo, info, read, write
    from audioae.denoising import (
        PRESETS,
        DenoiseSettings,
        FileResult,
        Stream,
        Verdict,
        denoise,
        denoise_file,
    )
    from audioae.engine import Engine, load_model
    from audioae.errors import (
        AudioaeError,
        AudioFileError,
        CheckpointError,
        DataError,
        DependencyError,
        DeviceError,
        MissingError,
        ModelNotFoundError,
        OutputError,
        ScoreError,
        SettingsError,
        TrainingError,
    )
    from audioae.pretrained import ModelInfo, list_models
    from audioae.signal.spectrogram import StftSettings

__all__ = [
    "PRESETS",
    "AudioFileError",
    "AudioInfo",
    "AudioaeError",
    "CheckpointError",
    "DataError",
    "DenoiseSettings",
    "DependencyError",
    "DeviceError",
    "Engine",
    "FileResult",
    "MissingError",
    "ModelInfo",
    "ModelNotFoundError",
    "OutputError",
    "ScoreError",
    "SettingsError",
    "StftSettings",
    "Stream",
    "TrainingError",
    "Verdict",
    "__version__",
    "denoise",
    "denoise_file",
    "info",
    "list_models",
    "load_model",
    "read",
    "write",
]


def __getattr__(name: str) -> Any:
    """Import the module of a public name on first use, so that `import audioae` stays fast."""
    if name not in _MODULES:
        raise AttributeError(f"module 'audioae' has no attribute {name!r}")
    original = _ALIASES.get(name, name)
    value = getattr(importlib.import_module(_MODULES[name]), original)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
