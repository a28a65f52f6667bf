"""The models in the package. This code neither runs models nor uses the network.

info      `ModelInfo`, the properties of a denoiser
codec     `CodecInfo`, the properties of an autoencoder
card      `Card`, the training data and scores of either
registry  find models by name, verify their sha256, add models
weights/  `models.json` and a folder per model with `model.onnx` and `card.json`
"""

from __future__ import annotations

from audioae.pretrained.card import Card, Scores, card_markdown, read_scores
from audioae.pretrained.codec import IS_AUTOENCODER, IS_DENOISER, CodecInfo
from audioae.pretrained.info import ModelInfo, name_of_file
from audioae.pretrained.registry import (
    ModelCheck,
    ModelEntry,
    add_model,
    default_model,
    file_hash,
    find_model,
    get_entry,
    list_denoisers,
    list_models,
    load_card,
    verify_model,
    weights_folder,
)

__all__ = [
    "IS_AUTOENCODER",
    "IS_DENOISER",
    "Card",
    "CodecInfo",
    "ModelCheck",
    "ModelEntry",
    "ModelInfo",
    "Scores",
    "add_model",
    "card_markdown",
    "default_model",
    "file_hash",
    "find_model",
    "get_entry",
    "list_denoisers",
    "list_models",
    "load_card",
    "name_of_file",
    "read_scores",
    "verify_model",
    "weights_folder",
]
