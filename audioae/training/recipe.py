"""Recipes: TOML files with all settings of a training.

Values are type-checked, and an unknown key is an error that names the nearest known key.
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
from audioae.models import (
    Denoiser,
    NetworkSettings,
    Reconstructor,
    build_autoencoder,
    settings_class,
)
from audioae.models.checkpoint import Model, read_about
from audioae.pretrained.info import MAX_NAME
from audioae.signal.features import FeatureSettings
from audioae.signal.spectrogram import StftSettings
from audioae.training import TaskSettings, TrainSettings
from audioae.training.losses import check_task
from audioae.training.sounds import ROLES

Settings = TypeVar("Settings")

PACKAGE = Path(__file__).parents[1]
RECIPES = PACKAGE / "recipes", PACKAGE.parent / "recipes"  # installed, and in a checkout
DEFAULT_RECIPE = "quick-16k"
TUNE_STEPS = 2000
MAX_PARAMETERS = 500_000_000  # 8 GB in training
# Defaults of recipes that reconstruct, where those of denoisers do not fit.
RECONSTRUCT_NETWORK = {"latent_activation": "identity"}
RECONSTRUCT_TRAINING = {"loss": {"mse": 1.0}, "best": "loss"}
DUALPATH_NETWORK = {
    "num_features": 1,
    "gain": "real",
    "causal": False,
    "time_mixers": ["conv", "conv"],
    "dilations": [1, 3],
}


@dataclass(frozen=True)
class Recipe:
    """All settings of a training; the audio is given separately.

    In a TOML file, name, family and version are keys at the top, and the others are tables.

    Args:
        name: name of the recipe and of its model.
        family: kind of network.
        network, data, training: settings of the parts.
        stft: of a denoiser.
        task: what the network is trained for; a recipe without it denoises.
        features: of a network that reconstructs, in place of `stft`.
        version: version of audioae that the recipe is for, such as "0.1" or "0.1.0"; empty is any.
    """

    name: str
    family: str
    network: NetworkSettings
    stft: StftSettings = field(default_factory=StftSettings)
    data: DataSettings = field(default_factory=DataSettings)
    training: TrainSettings = field(default_factory=TrainSettings)
    version: str = ""
    task: TaskSettings = field(default_factory=TaskSettings)
    features: FeatureSettings | None = None

    def __post_init__(self) -> None:
        if not self.name or not self.name.isprintable() or len(self.name) > MAX_NAME:
            raise SettingsError(
                f"the recipe has the name {self.name[:MAX_NAME]!r}; expected 1 to {MAX_NAME} "
                "printable characters"
            )
        if (self.features is not None) != self.reconstructs:
            raise SettingsError(
                "features are for task.kind = 'reconstruct', which needs them; set both or none"
            )
        check_task(self.training.loss, reconstructs=self.reconstructs)
        if self.reconstructs and self.training.best != "loss":
            raise SettingsError(
                f"training.best is {self.training.best!r}; a network that reconstructs has the "
                "score 'loss' only"
            )
        num_bins = self.stft.num_bins if self.features is None else self.features.num_bins
        if self.network.num_bins != num_bins:
            raise SettingsError(
                f"network.num_bins is {self.network.num_bins}, the "
                f"{'features have' if self.features else 'STFT has'} {num_bins} bins; leave "
                "num_bins out"
            )

    @property
    def reconstructs(self) -> bool:
        """Whether the network reconstructs features instead of denoising."""
        return self.task.kind == "reconstruct"

    @property
    def roles(self) -> tuple[str, ...]:
        """The recordings that the training needs."""
        return (ROLES[self.task.source],) if self.reconstructs else ("speech", "noise")

    @property
    def sample_rate(self) -> int:
        """The sample rate of the audio, Hz."""
        return self.stft.sample_rate if self.features is None else self.features.sample_rate

    def build(self) -> Model:
        """The model of the recipe, with random weights from its seed.

        Raises:
            SettingsError: the network is too large, or the settings do not fit together.
        """
        import torch

        with torch.device("meta"):  # counts the parameters without memory for them
            network = build_autoencoder(self.network)
        if (count := sum(each.numel() for each in network.parameters())) > MAX_PARAMETERS:
            raise SettingsError(
                f"the network has {count:,} parameters; expected at most {MAX_PARAMETERS:,}"
            )
        torch.manual_seed(self.training.seed)
        network = build_autoencoder(self.network)
        if self.features is not None:
            return Reconstructor(network, self.features, output=self.task.output, name=self.name)
        return Denoiser(network, self.stft, name=self.name)

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON values, with the tables of its task only."""
        values = dataclasses.asdict(self)
        for name in ("stft",) if self.reconstructs else ("task", "features"):
            del values[name]
        return values


def list_recipes() -> list[str]:
    """The names of the recipes in the package."""
    return sorted(path.parent.name for place in RECIPES for path in place.glob("*/recipe.toml"))


def find_recipe(name_or_path: str | Path) -> Path:
    """Find the TOML file of a recipe.

    Args:
        name_or_path: a TOML file, a folder with a recipe.toml, or the name of a recipe in the
            package.
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
    """The recipe that a checkpoint was trained with.

    Args:
        checkpoint: a .safetensors file.
        overrides: see `read_recipe`.
        tune: change it for fine-tuning: at most `TUNE_STEPS` steps, a fifth of the learning rate.
    """
    table = read_about(checkpoint).get("recipe")
    if not isinstance(table, dict):
        raise CheckpointError(f"{checkpoint} has no recipe in its metadata; give the recipe too")
    if tune:
        training = table.setdefault("training", {})
        training["steps"] = min(TUNE_STEPS, training.get("steps", TUNE_STEPS))
        training["learning_rate"] = training.get("learning_rate", TrainSettings().learning_rate) / 5
        training |= {
            "warmup_steps": TUNE_STEPS // 20,
            "decay_steps": 0,
            "report_steps": min(TUNE_STEPS // 8, training["steps"]),
        }
        table.get("task", {}).pop("start", None)  # from the weights
    for override in overrides:
        apply_override(table, override)
    return parse_recipe(table)


def read_recipe(path: Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        path: the TOML file.
        overrides: changes such as `training.steps=100`; values are TOML, bare words are strings.

    Raises:
        SettingsError: the file cannot be read, a key is unknown, or a value is wrong.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read the recipe {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from error
    for override in overrides:
        apply_override(table, override)
    return parse_recipe(table)


def apply_override(table: dict[str, Any], override: str) -> None:
    """Set one `dotted.key=value` in a table of tables."""
    key, equals, text = override.partition("=")
    if not equals:
        raise SettingsError(f"--set {override!r} is not KEY=VALUE, such as training.steps=100")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    *parents, last = key.strip().split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise SettingsError(f"--set {override!r}: {parent} is a value and not a table")
    table[last] = value


def parse_recipe(table: Mapping[str, Any]) -> Recipe:
    """Build a recipe from a table of tables."""
    check_version(table.get("version", ""))
    check_keys(table, Recipe, "the recipe")
    for name in ("name", "family"):
        if not isinstance(table.get(name), str):
            raise SettingsError(f"the recipe needs a {name} at its top, a string")
    stft = parse(table.get("stft", {}), StftSettings)
    task = parse(table.get("task", {}), TaskSettings)
    num_bins, features = stft.num_bins, None
    network, training = table.get("network", {}), table.get("training", {})
    if task.kind == "reconstruct":
        if "stft" in table:
            raise SettingsError("a recipe that reconstructs has features in place of stft")
        features = parse(table.get("features", {}), FeatureSettings)
        num_bins = features.num_bins
        network, training = RECONSTRUCT_NETWORK | network, RECONSTRUCT_TRAINING | training
        if table["family"] == "dualpath":
            network = DUALPATH_NETWORK | {"nyquist_hz": features.sample_rate / 2} | network
    elif "features" in table:
        raise SettingsError("features are for recipes with task.kind = 'reconstruct'")
    network = {"num_bins": num_bins, **network}
    return Recipe(
        name=table["name"],
        family=table["family"],
        stft=stft,
        network=parse(network, settings_class(table["family"])),
        data=parse(table.get("data", {}), DataSettings),
        training=parse(training, TrainSettings),
        version=table.get("version", ""),
        task=task,
        features=features,
    )


def check_version(version: Any) -> None:
    """Raise `SettingsError` for a recipe for another version of audioae."""
    if not isinstance(version, str):
        raise SettingsError(
            f"the recipe has version {version!r}; expected a string such as {__version__!r}"
        )
    wanted, own = version.split(".") if version else [], __version__.split(".")
    if own[: len(wanted)] != wanted:
        raise SettingsError(
            f"the recipe is for audioae {version}, this is {__version__}; install that version, "
            "or adapt the recipe and its version"
        )


def parse(table: Mapping[str, Any], settings: type[Settings]) -> Settings:
    """Build settings from a table with strict types: a string is not accepted as a number."""
    pydantic = require("pydantic", extra="train")
    check_keys(table, settings, settings.__name__)
    try:
        # Validated as JSON: with strict types, Python values would have to be tuples, and TOML has
        # only lists.
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
    """Raise `SettingsError` for the first unknown key of a table or a table inside it."""
    if not isinstance(table, Mapping):
        raise SettingsError(f"{where} should be a table; got {table!r}")
    hints = get_type_hints(settings)
    for key, value in table.items():
        if key not in hints:
            raise SettingsError(f"{where} has no setting {key!r}{nearest(key, hints)}")
        if dataclasses.is_dataclass(hints[key]) and key != "network":
            check_keys(value, hints[key], hints[key].__name__)
