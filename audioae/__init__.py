"""Denoise speech recordings with convolutional autoencoders.

Functions:

denoise(waveform, sample_rate)   denoise an array
denoise_file(src, dst)           denoise a file in constant memory
load_model(name_or_path)         load a model once, to use it several times
list_models()                    the models in the package
read(path), write(...), info(path)   read and write audio files, read their headers

Classes:

DenoiseSettings, PRESETS         options of denoise, denoise_file and Stream; named presets
Stream                           denoise audio in blocks as they arrive
FileResult                       what denoise_file returns
ModelInfo, StftSettings          the properties of a loaded model
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
    "DenoiseSettings": "audioae.denoise",
    "DependencyError": "audioae.errors",
    "DeviceError": "audioae.errors",
    "FileResult": "audioae.denoise",
    "MissingError": "audioae.errors",
    "ModelInfo": "audioae.pretrained",
    "ModelNotFoundError": "audioae.errors",
    "OutputError": "audioae.errors",
    "PRESETS": "audioae.denoise",
    "ScoreError": "audioae.errors",
    "SettingsError": "audioae.errors",
    "StftSettings": "audioae.signal.spectrogram",
    "Stream": "audioae.denoise",
    "denoise_file": "audioae.denoise",
    "info": "audioae.audio",
    "list_models": "audioae.pretrained",
    "load_model": "audioae.engine",
    "read": "audioae.audio",
    "write": "audioae.audio",
}

