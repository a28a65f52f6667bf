"""Networks by name, and the denoiser that any of them becomes between an STFT and its inverse."""

from __future__ import annotations

from audioae.errors import SettingsError, nearest
from audioae.models.base import Autoencoder, Estimate, NetworkSettings, State
from audioae.models.bidirectional import BidirectionalAutoencoder, BidirectionalSettings
from audioae.models.conv1d import Conv1dAutoencoder, Conv1dSettings
from audioae.models.conv2d import Conv2dAutoencoder, Conv2dSettings
from audioae.models.denoiser import Denoiser
from audioae.models.dense import DenseAutoencoder, DenseSettings
from audioae.models.dualpath import DualpathAutoencoder, DualpathSettings
from audioae.models.fullband import FullbandAutoencoder, FullbandSettings

FAMILIES: dict[str, tuple[type[NetworkSettings], type[Autoencoder]]] = {
    "dense": (DenseSettings, DenseAutoencoder),
    "conv1d": (Conv1dSettings, Conv1dAutoencoder),
    "conv2d": (Conv2dSettings, Conv2dAutoencoder),
    "dualpath": (DualpathSettings, DualpathAutoencoder),
    "bidirectional": (BidirectionalSettings, BidirectionalAutoencoder),
    "fullband": (FullbandSettings, FullbandAutoencoder),
}


def settings_class(family: str) -> type[NetworkSettings]:
    """The settings of a family of networks."""
    if family not in FAMILIES:
        raise SettingsError(
            f"no network {family!r}{nearest(family, FAMILIES)}; known: {', '.join(FAMILIES)}"
        )
    return FAMILIES[family][0]


def build_autoencoder(settings: NetworkSettings) -> Autoencoder:
    """The network that these settings describe, with random weights."""
    for own_settings, network in FAMILIES.values():
        if type(settings) is own_settings:
            return network(settings)
    raise SettingsError(f"no network has settings of type {type(settings).__name__}")


__all__ = [
    "FAMILIES",
    "Autoencoder",
    "Denoiser",
    "Estimate",
    "NetworkSettings",
    "State",
    "build_autoencoder",
    "settings_class",
]
