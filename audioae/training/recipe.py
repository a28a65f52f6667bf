"""Recipes: a TOML file becomes the settings of the rooms, and a key that no room knows is an error
that names the nearest.
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from audioae import __version__
from audioae.data.mixtures import DataSettings
from audioae.errors import CheckpointError, SettingsError, nearest, require
from audioae.models import Denoiser, NetworkSettings, build_autoencoder, settings_class
from audioae.models.checkpoint import read_about
from audioae.signal.spectrogram import StftSettings
from audioae.training import TrainSettings

Settings = TypeVar("Settings")

PACKAGE = Path(__file__).parents[1]
RECIPES = (
    PACKAGE / "recipes",
    PACKAGE.parent / "recipes",
)  # in an installed package, and in a checkout
DEFAULT_RECIPE = "quick-16k"
TUNE_STEPS = 2000


@dataclass(frozen=True)
class Recipe:
    """All that a training depends on but the audio: a name and a family at the top of a TOML file,
    and its tables [stft], [network], [data] and [training].

    `version` names the audioae that a recipe is for, "0.1" or "0.1.0"; a recipe without one is for
    any.
    """

    name: str
    family: str
    network: NetworkSettings
    stft: StftSettings = field(default_factory=StftSettings)
    data: DataSettings = field(default_factory=DataSettings)
    training: TrainSettings = field(default_factory=TrainSettings)
    version: str = ""

    def build(self) -> Denoiser:
        """The denoiser that the recipe describes, with weights drawn from its seed."""
        import torch

        torch.manual_seed(self.training.seed)
        return Denoiser(build_autoencoder(self.network), self.stft, name=self.name)

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON."""
        return dataclasses.asdict(self)


def list_recipes() -> list[str]:
    """The names of the recipes that come with audioae."""
    return sorted(path.parent.name for place in RECIPES for path in place.glob("*/recipe.toml"))


def find_recipe(name_or_path: str | Path) -> Path:
    """The TOML file of a recipe: itself, in a folder, or of a recipe that comes with audioae by its
    name.
    """
    path = Path(name_or_path)
    candidates = [path, path / "recipe.toml", *(place / path / "recipe.toml" for place in RECIPES)]
    for file in candidates:
        if file.is_file():
            return file
    name, known = str(name_or_path), list_recipes()
    raise SettingsError(
        f"no recipe {name!r}{nearest(name, known)}; give a .toml file, or one of {', '.join(known)}"
    )


def stored_recipe(checkpoint: Path, overrides: Iterable[str] = (), *, tune: bool = False) -> Recipe:
    """The recipe that a checkpoint was trained by.

    Args:
        tune: shorten it to what adapts a network that is trained already to other sounds: few
            steps, a fifth of the learning rate.
    """
    table = read_about(checkpoint).get("recipe")
    if not isinstance(table, dict):
        raise CheckpointError(
            f"{checkpoint} does not tell by which recipe it was trained; name the recipe too"
        )
    if tune:
        training = table.setdefault("training", {})
        training["steps"] = min(TUNE_STEPS, training.get("steps", TUNE_STEPS))
        training["learning_rate"] = training.get("learning_rate", TrainSettings().learning_rate) / 5
        training |= {
            "warmup_steps": TUNE_STEPS // 20,
            "decay_steps": 0,
            "report_steps": min(TUNE_STEPS // 8, training["steps"]),
        }
    for override in overrides:
        apply_override(table, override)
    return parse_recipe(table)


def read_recipe(path: Path, overrides: Iterable[str] = ()) -> Recipe:
    """The recipe in a TOML file, after overrides such as `training.steps=100` (their values are
    TOML; bare words are strings).
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read the recipe {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is no TOML: {error}") from error
    for override in overrides:
        apply_override(table, override)
    return parse_recipe(table)


def apply_override(table: dict[str, Any], override: str) -> None:
    """Set one `dotted.key=value` in a table of tables."""
    key, equals, text = override.partition("=")
    if not equals:
        raise SettingsError(f"--set {override!r} is no key=value, such as training.steps=100")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    *parents, last = key.strip().split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise SettingsError(f"--set {override!r}: {parent} is a value, no table")
    table[last] = value


def parse_recipe(table: Mapping[str, Any]) -> Recipe:
    """The recipe in a table of tables."""
    check_version(table.get("version", ""))
    check_keys(table, Recipe, "the recipe")
    for name in ("name", "family"):
        if not isinstance(table.get(name), str):
            raise SettingsError(f"the recipe needs a {name} at its top, a text")
    stft = parse(table.get("stft", {}), StftSettings)
    network = {"num_bins": stft.num_bins, **table.get("network", {})}
    return Recipe(
        name=table["name"],
        family=table["family"],
        stft=stft,
        network=parse(network, settings_class(table["family"])),
        data=parse(table.get("data", {}), DataSettings),
        training=parse(table.get("training", {}), TrainSettings),
        version=table.get("version", ""),
    )


def check_version(version: Any) -> None:
    """Raise `SettingsError` for a recipe of another audioae."""
    if not isinstance(version, str):
        raise SettingsError(
            f"the recipe has version {version!r}; expected a text such as {__version__!r}"
        )
    wanted, own = version.split(".") if version else [], __version__.split(".")
    if own[: len(wanted)] != wanted:
        raise SettingsError(
            f"the recipe is for audioae {version}, this is {__version__}; install that version, "
            "or adapt the recipe and its version"
        )


def parse(table: Mapping[str, Any], settings: type[Settings]) -> Settings:
    """A settings class from a table; types are checked, numbers are not taken from texts."""
    pydantic = require("pydantic", extra="train")
    check_keys(table, settings, settings.__name__)
    try:
        # By way of JSON, because strictly checked Python values would have to be tuples where TOML
        # has only lists.
        found: Settings = pydantic.TypeAdapter(settings).validate_json(
            json.dumps(table, default=str), strict=True
        )
        return found
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SettingsError(
            f"{settings.__name__}.{where}: {first['msg']}; got {first['input']!r}"
        ) from error


def check_keys(table: Any, settings: type, where: str) -> None:
    """Raise `SettingsError` for the first key that a settings class, or one inside it, does not
    have.
    """
    if not isinstance(table, Mapping):
        raise SettingsError(f"{where} should be a table; got {table!r}")
    hints = get_type_hints(settings)
    for key, value in table.items():
        if key not in hints:
            raise SettingsError(f"{where} has no setting {key!r}{nearest(key, hints)}")
        if dataclasses.is_dataclass(hints[key]) and key != "network":
            check_keys(value, hints[key], hints[key].__name__)
