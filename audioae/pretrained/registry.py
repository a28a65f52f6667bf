"""The registry of shipped models: `weights/models.json` names them, `weights/<name>/` holds
`model.onnx` and `card.json`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audioae.errors import CheckpointError, ModelNotFoundError, SettingsError, nearest
from audioae.pretrained.card import Card
from audioae.storage import write_text

WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class Entry:
    """A row of the registry: `file` is relative to the weights folder."""

    name: str
    file: str
    sha256: str
    default: bool = False

    @property
    def path(self) -> Path:
        """Where the model's file is."""
        return WEIGHTS / self.file


@dataclass(frozen=True)
class Verdict:
    """What `verify_model` found; `problems` is empty for a model that is as it was shipped."""

    name: str
    sha256: str
    problems: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """True if nothing is wrong."""
        return not self.problems


def list_models() -> list[Entry]:
    """All shipped models, the default first, then by name."""
    rows = _read_json(WEIGHTS / "models.json").get("models", {})
    entries = [Entry(name=name, **row) for name, row in rows.items()]
    return sorted(entries, key=lambda entry: (not entry.default, entry.name))


def default_model() -> str:
    """The name of the model that is used when none is named."""
    entries = list_models()
    if not entries:
        raise ModelNotFoundError(
            "this package holds no models; give the path of an .onnx file or of a training run"
        )
    return entries[0].name


def find_model(name_or_path: str | Path) -> Path:
    """The file of a model: of a shipped one by its name, else of a path to an .onnx file, a
    .safetensors checkpoint or a run folder.

    A shipped name goes before a path; of a run folder it is the best checkpoint, else the last. The
    sha256 of a shipped model is checked.

    Raises:
        ModelNotFoundError: neither a name nor a path of a model.
        CheckpointError: a shipped model is damaged.
    """
    entry = next((entry for entry in list_models() if entry.name == str(name_or_path)), None)
    if entry is None:
        return _find_path(name_or_path)
    if file_hash(entry.path) != entry.sha256:
        raise CheckpointError(
            f"model {entry.name!r} is damaged: {entry.path} is not the file that was shipped; "
            "install audioae again"
        )
    return entry.path


def load_card(name: str) -> Card:
    """The card of a shipped model."""
    return Card.from_dict(_read_json(get_entry(name).path.with_name("card.json")))


def get_entry(name: str) -> Entry:
    """The registry's row of a shipped model."""
    for entry in list_models():
        if entry.name == name:
            return entry
    raise _unknown(name)


def verify_model(name: str) -> Verdict:
    """Compare a shipped model's file with the registry, and its card with its name; damage is told
    in the verdict, not raised.
    """
    entry = get_entry(name)
    found, problems = "", []
    try:
        found = file_hash(entry.path)
        if found != entry.sha256:
            problems.append(
                f"{entry.file} has sha256 {found[:12]}..., expected {entry.sha256[:12]}..."
            )
        if (card := load_card(name)).name != name:
            problems.append(f"its card is of {card.name!r}")
    except (CheckpointError, ModelNotFoundError) as error:
        problems.append(str(error))
    return Verdict(name, found, tuple(problems))


def weights_folder(name: str) -> Path:
    """Where a shipped model of that name has its files, or would have them."""
    if not name or Path(name).name != name or name.startswith("."):
        raise SettingsError(
            f"{name!r} cannot name a model; expected a plain word such as speech-16k"
        )
    return WEIGHTS / name


def add_model(card: Card, *, default: bool = False) -> Entry:
    """Put `weights/<name>/model.onnx`, already written, into the registry, with its card; the first
    model becomes the default.
    """
    folder = weights_folder(card.name)
    _write_json(folder / "card.json", card.to_dict())
    others = [entry for entry in list_models() if entry.name != card.name]
    default = default or not any(entry.default for entry in others)
    added = Entry(card.name, f"{card.name}/model.onnx", file_hash(folder / "model.onnx"), default)
    rows = {}
    for entry in sorted([*others, added], key=lambda entry: entry.name):
        keeps_default = entry.default and (entry is added or not default)
        rows[entry.name] = {"file": entry.file, "sha256": entry.sha256, "default": keeps_default}
    _write_json(WEIGHTS / "models.json", {"models": rows})
    return added


def file_hash(path: Path) -> str:
    """sha256 of a file, as hexadecimal digits."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ModelNotFoundError(
            f"cannot read {path} ({error.strerror}); install audioae again"
        ) from error


def _find_path(name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    if not str(name_or_path) or (
        path.suffix not in (".onnx", ".safetensors") and not path.is_dir()
    ):
        if path.is_file():
            raise ModelNotFoundError(
                f"{path} is no model; expected an .onnx file, a .safetensors checkpoint or a run "
                "folder"
            )
        raise _unknown(str(name_or_path))
    files = [path / "best.safetensors", path / "last.safetensors"] if path.is_dir() else [path]
    for file in files:
        if file.is_file():
            return file
    raise ModelNotFoundError(
        f"there is no model at {files[0]}; train or export one there, or name another"
    )


def _unknown(name: str) -> ModelNotFoundError:
    names = [entry.name for entry in list_models()]
    known = f"known: {', '.join(names)}" if names else "this package holds none"
    return ModelNotFoundError(
        f"no model {name!r}{nearest(name, names)}; {known}, or give a path to an .onnx file or a "
        "run folder"
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelNotFoundError(
            f"cannot read {path} ({error.strerror}); install audioae again"
        ) from error
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged ({error}); install audioae again") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} is damaged (expected a JSON object); install audioae again")
    return values


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")
