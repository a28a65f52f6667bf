"""The models that ship inside the package: found by name, checked by sha256, each with a card of
where it comes from.

Nothing here runs a model, and nothing here knows of a network connection.
"""

from __future__ import annotations

from audioae.pretrained.card import Card, ModelInfo, Scores, card_markdown, read_scores
from audioae.pretrained.registry import (
    Entry,
    Verdict,
    add_model,
    default_model,
    file_hash,
    find_model,
    get_entry,
    list_models,
    load_card,
    verify_model,
    weights_folder,
)

__all__ = [
    "Card",
    "Entry",
    "ModelInfo",
    "Scores",
    "Verdict",
    "add_model",
    "card_markdown",
    "default_model",
    "file_hash",
    "find_model",
    "get_entry",
    "list_models",
    "load_card",
    "read_scores",
    "verify_model",
    "weights_folder",
]
