"""The registry of the models in the package: `weights/models.json` lists them, `weights/NAME/` has
`model.onnx` and `card.json`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from audioae.errors import CheckpointError, ModelNotFoundError, SettingsError, nearest
from audioae.fields import as_path, build, check_types, parse_json
from audioae.pretrained.card import Card
from audioae.pretrained.info import ModelInfo
from audioae.storage import write_text

WEIGHTS = Path(__file__).parent / "weights"
_DAMAGED, _REINSTALL = "models.json is damaged", "install audioae again"


@dataclass(frozen=True)
class ModelEntry:
    """A row of the registry.

    Args:
        name: name of the model.
        file: the model file, relative to the weights folder.
        sha256: hash of the file, hexadecimal.
        default: whether the model is used when none is named.
        full_band: name of the model that takes its place for sample rates above its own; empty for
            none.
        offline: name of the model that takes its place for recordings in the quality "best"; empty
            for none.
        card_sha256: hash of its card.json, hexadecimal; empty in registries of older versions.

    Raises:
        CheckpointError: a value has a wrong type, or is no name, path or hash.
    """

    name: str
    file: str
    sha256: str
    default: bool = False
    full_band: str = ""
    offline: str = ""
    card_sha256: str = ""

    def __post_init__(self) -> None:
        try:
            check_types(self)
        except ValueError as error:
            raise CheckpointError(f"{_DAMAGED} ({error}); {_REINSTALL}") from error
        path = PurePosixPath(self.file)
        if path.is_absolute() or ".." in path.parts or path.suffix != ".onnx":
            raise CheckpointError(
                f"{_DAMAGED} (the file of {self.name!r:.60} is {self.file!r:.60}; expected "
                f"an .onnx file below its folder); {_REINSTALL}"
            )
        for digest in filter(None, (self.sha256 or "missing", self.card_sha256)):
            if not re.fullmatch("[0-9a-f]{64}", digest):
                raise CheckpointError(
                    f"{_DAMAGED} (a sha256 of {self.name!r} is {digest[:64]!r}; expected 64 "
                    f"hexadecimal digits); {_REINSTALL}"
                )

    @property
    def path(self) -> Path:
        """The path of the model file."""
        return WEIGHTS / self.file


@dataclass(frozen=True)
class ModelCheck:
    """The result of `verify_model`.

    Args:
        name: name of the model.
        sha256: hash of the file, hexadecimal; empty if it cannot be read.
        problems: one sentence per problem; empty for an intact model.
    """

    name: str
    sha256: str
    problems: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """True if there is no problem."""
        return not self.problems


def list_models() -> list[ModelEntry]:
    """All models in the package, the default first, then by name.

    Raises:
        ModelNotFoundError: the registry cannot be read.
        CheckpointError: the registry is damaged.

    Example:
        >>> list_models()[0].name
        'speech-16k'
    """
    registry = _read_json(WEIGHTS / "models.json")
    rows = registry.get("models")
    if not isinstance(rows, dict) or registry.get("sha256", _rows_hash(rows)) != _rows_hash(rows):
        raise CheckpointError(f"{_DAMAGED} (its sha256 is wrong, or it has no rows); {_REINSTALL}")
    try:
        entries = [build(ModelEntry, {**row, "name": name}) for name, row in rows.items()]
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{_DAMAGED} ({error}); {_REINSTALL}") from error
    for entry in entries:
        lost = {entry.full_band, entry.offline} - {"", *rows}
        if lost or sum(each.default for each in entries) > 1:
            raise CheckpointError(
                f"{_DAMAGED} (it names the model {lost.pop()!r}, which it lacks); {_REINSTALL}"
                if lost
                else f"{_DAMAGED} (several models are the default); {_REINSTALL}"
            )
    return sorted(entries, key=lambda entry: (not entry.default, entry.name))


def default_model() -> str:
    """The name of the model that is used when none is named.

    Raises:
        ModelNotFoundError: the package holds no models.

    Example:
        >>> default_model()
        'speech-16k'
    """
    entries = list_models()
    if not entries:
        raise ModelNotFoundError(
            "this package holds no models; give the path of an .onnx file or of a training run"
        )
    return entries[0].name


def find_model(name_or_path: str | Path) -> Path:
    """The file of a model, given its name in the package or a path.

    A name takes precedence over a path. The sha256 of a model in the package is checked.

    Args:
        name_or_path: a name, or the path of an .onnx file, a .safetensors checkpoint or a run
            folder, of which the best checkpoint is used, or the last if there is no best one.

    Raises:
        SettingsError: it is neither a string nor a path.
        ModelNotFoundError: there is no model of that name or at that path.
        CheckpointError: the file of a model in the package is damaged.

    Example:
        >>> find_model("speech-16k").name
        'model.onnx'
    """
    entry = next((entry for entry in list_models() if entry.name == str(name_or_path)), None)
    if entry is None:
        path = as_path(name_or_path, "the model")
        try:
            return _find_path(name_or_path)
        except (OSError, ValueError) as error:  # too long, or not to be encoded
            reason = getattr(error, "strerror", None) or error
            raise ModelNotFoundError(f"cannot read {str(path)[:100]!r} ({reason})") from error
    if file_hash(entry.path) != entry.sha256:
        raise CheckpointError(
            f"model {entry.name!r} is damaged: the sha256 of {entry.path} is wrong; install "
            "audioae again"
        )
    return entry.path


def load_card(name: str) -> Card:
    """The card of a model in the package.

    Raises:
        ModelNotFoundError: there is no model of that name, or its card is missing.
        CheckpointError: the card is damaged.

    Example:
        >>> load_card("speech-16k").licence
        'MIT'
    """
    entry = get_entry(name)
    path = entry.path.with_name("card.json")
    values = _read_json(path)
    if entry.card_sha256 and file_hash(path) != entry.card_sha256:
        raise CheckpointError(f"the sha256 of {path} is wrong; {_REINSTALL}")
    try:
        return Card.from_dict(values)
    except CheckpointError as error:
        raise CheckpointError(f"{path} is damaged ({error}); {_REINSTALL}") from error


def list_denoisers() -> list[ModelEntry]:
    """The models of `list_models` that denoise, by their cards; the others are autoencoders.

    Raises:
        ModelNotFoundError, CheckpointError: see `list_models` and `load_card`.

    Example:
        >>> list_denoisers()[0].name
        'speech-16k'
    """
    return [entry for entry in list_models() if isinstance(load_card(entry.name).info, ModelInfo)]


def get_entry(name: str) -> ModelEntry:
    """The registry row of a model in the package.

    Raises:
        ModelNotFoundError: there is no model of that name.

    Example:
        >>> get_entry("speech-16k").file
        'speech-16k/model.onnx'
    """
    for entry in list_models():
        if entry.name == name:
            return entry
    raise _unknown(name)


def verify_model(name: str) -> ModelCheck:
    """Compare the file and the card of a model with their sha256 in the registry, and the card with
    the name of the model.

    Raises:
        ModelNotFoundError: there is no model of that name. Damage is returned, not raised.

    Example:
        >>> verify_model("speech-16k").ok
        True
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
            problems.append(f"its card is for model {card.name!r}")
    except (CheckpointError, ModelNotFoundError) as error:
        problems.append(str(error))
    return ModelCheck(name, found, tuple(problems))


def weights_folder(name: str) -> Path:
    """The folder of a model in the package, whether it exists or not.

    Raises:
        SettingsError: the name is empty, begins with a dot or contains a separator.

    Example:
        >>> weights_folder("speech-16k").name
        'speech-16k'
    """
    if not name or Path(name).name != name or name.startswith("."):
        raise SettingsError(
            f"{name!r} cannot be the name of a model; expected a word such as speech-16k"
        )
    return WEIGHTS / name


def add_model(
    card: Card, *, default: bool = False, full_band_of: str = "", offline_of: str = ""
) -> ModelEntry:
    """Write the card of `weights/NAME/model.onnx`, which must exist, and add it to the registry.

    Args:
        card: of the model; its name is NAME.
        default: make it the default model; the first model always is.
        full_band_of, offline_of: name of the model that it takes the place of, see `ModelEntry`.

    Raises:
        SettingsError: the name cannot be that of a folder.
        ModelNotFoundError: the model file cannot be read, or there is no such other model.
    """
    folder = weights_folder(card.name)
    for other in filter(None, (full_band_of, offline_of)):
        get_entry(other)
    _write_json(folder / "card.json", card.to_dict())
    others = [entry for entry in list_models() if entry.name != card.name]
    default = default or not any(entry.default for entry in others)
    before = next((entry for entry in list_models() if entry.name == card.name), None)
    added = ModelEntry(
        card.name,
        f"{card.name}/model.onnx",
        file_hash(folder / "model.onnx"),
        default,
        before.full_band if before else "",
        before.offline if before else "",
        file_hash(folder / "card.json"),
    )
    rows = {}
    for entry in sorted([*others, added], key=lambda entry: entry.name):
        row: dict[str, Any] = {"file": entry.file, "sha256": entry.sha256}
        row["default"] = entry.default and (entry is added or not default)
        row["full_band"] = card.name if entry.name == full_band_of else entry.full_band
        row["offline"] = card.name if entry.name == offline_of else entry.offline
        row["card_sha256"] = entry.card_sha256
        rows[entry.name] = {name: value for name, value in row.items() if value != ""}
    _write_json(WEIGHTS / "models.json", {"models": rows, "sha256": _rows_hash(rows)})
    return added


def file_hash(path: Path) -> str:
    """The sha256 of a file, hexadecimal.

    Raises:
        ModelNotFoundError: the file cannot be read.

    Example:
        >>> _ = Path("empty").write_bytes(b"")
        >>> file_hash(Path("empty"))[:12]
        'e3b0c44298fc'
    """
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
                f"{path} is not a model; expected an .onnx file, a .safetensors checkpoint or a "
                "run folder"
            )
        raise _unknown(str(name_or_path))
    files = [path / "best.safetensors", path / "last.safetensors"] if path.is_dir() else [path]
    for file in files:
        if file.is_file():
            return file
    raise ModelNotFoundError(
        f"there is no model at {files[0]}; train or export one, or give another name or path"
    )


def _unknown(name: str) -> ModelNotFoundError:
    names = [entry.name for entry in list_models()]
    known = f"known: {', '.join(names)}" if names else "this package holds none"
    return ModelNotFoundError(
        f"no model {name!r}{nearest(name, names)}; {known}, or give a path to an .onnx file or a "
        "run folder"
    )


def _rows_hash(rows: Any) -> str:
    """The sha256 of the rows of the registry, as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = parse_json(path.read_text(encoding="utf-8"))
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
