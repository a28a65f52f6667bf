"""Detectors as files: the ONNX file of the autoencoder, with thresholds and baselines as JSON in
its metadata. They run without torch.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from audioae.errors import CheckpointError, SettingsError, require
from audioae.fields import build, parse_json
from audioae.pretrained import find_model
from audioae.signal.spectrogram import Array
from audioae.storage import output_errors, write_bytes
from audioae.tasks.anomaly import SYSTEMS, AnomalySettings, Detector
from audioae.tasks.autoencoder import Codec
from audioae.tasks.baselines import Mahalanobis, Neighbours

METADATA_KEY = "audioae_anomaly"
FORMAT = 2


def load_detector(path: str | Path, *, device: str = "cpu") -> Detector:
    """Read a detector that `audioae anomaly fit` wrote.

    Raises:
        ModelNotFoundError: there is no such file.
        CheckpointError: it is no detector, or it is damaged.
    """
    file = find_model(path)
    if file.suffix != ".onnx":
        raise CheckpointError(f"{file} is no detector; make one with: audioae anomaly fit")
    codec = Codec(file, device=device)
    text = codec.metadata.get(METADATA_KEY)
    if text is None:
        raise CheckpointError(
            f"{file} is an autoencoder without thresholds; make a detector with: audioae anomaly "
            "fit"
        )
    try:
        return from_json(codec, parse_json(text))
    except (ValueError, KeyError, TypeError, AttributeError, SettingsError) as error:
        reason = f"missing {error}" if isinstance(error, KeyError) else error
        raise CheckpointError(
            f"{file} has damaged values of anomaly detection ({reason}); fit it again"
        ) from error


def to_json(detector: Detector) -> dict[str, Any]:
    """What a detector has besides the autoencoder, as JSON values."""
    return {
        "format": FORMAT,
        "settings": asdict(detector.settings),
        "thresholds": dict(detector.thresholds),
        "window_threshold": detector.window_threshold,
        "about": dict(detector.about),
        **{
            each: {
                name: _encode(getattr(getattr(detector, each), name))
                for name in ("mean", "precision")
            }
            for each in ("errors", "mahalanobis")
        },
        "neighbours": {
            name: _encode(getattr(detector.neighbours, name))
            for name in ("normal", "mean", "deviation")
        },
    }


def from_json(codec: Codec, values: Mapping[str, Any]) -> Detector:
    """The inverse of `to_json`; raises `ValueError`, `KeyError` or `TypeError` for damaged ones."""
    if values["format"] != FORMAT:
        raise ValueError(f"format {values['format']!r}; this version of audioae reads {FORMAT}")
    dim = 2 * codec.settings.num_bins
    near = values["neighbours"]
    errors, mahalanobis = (
        Mahalanobis(
            _decode(values[name]["mean"], dim)[0], _decode(values[name]["precision"], dim, dim)
        )
        for name in ("errors", "mahalanobis")
    )
    neighbours = Neighbours(
        _decode(near["normal"], dim),
        _decode(near["mean"], dim)[0],
        _decode(near["deviation"], dim)[0],
    )
    thresholds = {name: float(values["thresholds"][name]) for name in SYSTEMS}
    own_fields = fields(AnomalySettings)
    return Detector(
        codec,
        build(AnomalySettings, {each.name: values["settings"][each.name] for each in own_fields}),
        errors,
        mahalanobis,
        neighbours,
        thresholds,
        float(values["window_threshold"]),
        dict(values["about"]),
    )


def _encode(values: Array) -> str:
    return base64.b64encode(np.ascontiguousarray(values, "<f4").tobytes()).decode()


def _decode(text: str, dim: int, rows: int | None = None) -> Array:
    """The inverse of `_encode`, `[rows, dim]`; `rows` None is any number."""
    try:
        values = np.frombuffer(base64.b64decode(text, validate=True), "<f4").reshape(-1, dim)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"an array cannot be read: {error}") from error
    if not len(values) or not np.isfinite(values).all():
        raise ValueError("an array is empty, or contains NaN or infinite numbers")
    if rows is not None and len(values) != rows:
        raise ValueError(f"a matrix has {len(values)} rows; expected {rows}")
    return values


def save_detector(detector: Detector, model: Path, path: Path) -> None:
    """Write a detector atomically.

    Args:
        detector: to write.
        model: ONNX file of its autoencoder.
        path: the file to write.

    Raises:
        OutputError: it cannot be written.
        DependencyError: the package onnx is missing.
    """
    onnx: Any = require("onnx", extra="train")
    graph = onnx.load_model(str(model))
    entry = graph.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, json.dumps(to_json(detector))
    with output_errors(path):
        write_bytes(path, graph.SerializeToString())
