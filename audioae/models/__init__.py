"""The networks, `Denoiser` (STFT, network, gain, inverse STFT) and `Reconstructor`.

Modules in reading order:

- `base`: the interface of all networks, the count of operations
- `features`: STFT and features in torch, compressed spectra, gains
- `denoiser`: a network between an STFT and its inverse
- `reconstructor`: a network that reconstructs its features from a code
- `bottlenecks`: plain, sparse or Gaussian latents
- `layers`: convolutions with an explicit past; frequency bins to ERB bands and back
- `convolutional`: patches and vector latents of `conv1d` and `conv2d`
- `dense`, `conv1d`, `conv2d`, `dualpath`: the autoencoders
- `bidirectional`: two `dualpath` networks, one per direction of time, for files
- `fullband`: a `dualpath` network and gains for the bands above it
- `checkpoint`: weights and settings in safetensors files
"""

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
from audioae.models.reconstructor import Reconstruction, Reconstructor

FAMILIES: dict[str, tuple[type[NetworkSettings], type[Autoencoder]]] = {
    "dense": (DenseSettings, DenseAutoencoder),
    "conv1d": (Conv1dSettings, Conv1dAutoencoder),
    "conv2d": (Conv2dSettings, Conv2dAutoencoder),
    "dualpath": (DualpathSettings, DualpathAutoencoder),
    "bidirectional": (BidirectionalSettings, BidirectionalAutoencoder),
    "fullband": (FullbandSettings, FullbandAutoencoder),
}


def settings_class(family: str) -> type[NetworkSettings]:
    """The settings class of a family of networks; `SettingsError` if there is no such family."""
    if family not in FAMILIES:
        raise SettingsError(
            f"no network {family!r}{nearest(family, FAMILIES)}; known: {', '.join(FAMILIES)}"
        )
    return FAMILIES[family][0]


def build_autoencoder(settings: NetworkSettings) -> Autoencoder:
    """The network with these settings and random weights."""
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
    "Reconstruction",
    "Reconstructor",
    "State",
    "build_autoencoder",
    "settings_class",
]
