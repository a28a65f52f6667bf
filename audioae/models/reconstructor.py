"""An autoencoder that reconstructs its features from a code: no mask and no skip connections."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from functools import cached_property
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audioae import __version__
from audioae.errors import SettingsError
from audioae.models.base import Autoencoder, count_macs_of
from audioae.models.bottlenecks import Gaussian
from audioae.models.features import feature_map
from audioae.pretrained.codec import CodecInfo
from audioae.signal.features import FeatureSettings

Output = Literal["sigmoid", "identity"]


class Reconstruction(NamedTuple):
    """The output of a `Reconstructor`.

    Args:
        features: the reconstruction, `[batch, bins, frames]`.
        latent: the code, `[batch, channels, steps]`; a sample of it for a Gaussian bottleneck in
            training.
        penalty: scalar that the bottleneck adds to the loss.
    """

    features: Tensor
    latent: Tensor
    penalty: Tensor


class Reconstructor(nn.Module):
    """An autoencoder of features.

    The latent of any network is `[batch, channels, steps]`: channels and frequencies of a
    convolutional latent are one axis. A step is `info.step` frames.

    Args:
        autoencoder: the network, with `num_bins` of the features, one input feature, a real gain,
            no skip connections and no causality.
        settings: how features are computed.
        output: activation of the decoder's output: "sigmoid" for values in (0, 1), "identity" for
            any values.
        name: name of the model; empty is the name of the network's family.

    Raises:
        SettingsError: the network cannot reconstruct; the message names the alternative.

    Example:
        >>> from audioae.models import build_autoencoder
        >>> from audioae.models.dense import DenseSettings
        >>> network = build_autoencoder(DenseSettings(num_bins=64, patch=4, widths=(16,)))
        >>> model = Reconstructor(network, FeatureSettings()).eval()
        >>> features = model.features(torch.zeros(1, 16000))
        >>> latent = model.encode(features)
        >>> features.shape, latent.shape, model.decode(latent).shape
        (torch.Size([1, 64, 63]), torch.Size([1, 16, 16]), torch.Size([1, 64, 64]))
    """

    def __init__(
        self,
        autoencoder: Autoencoder,
        settings: FeatureSettings,
        *,
        output: Output = "sigmoid",
        name: str = "",
    ) -> None:
        super().__init__()
        check_network(autoencoder, settings)
        if output not in ("sigmoid", "identity"):
            raise SettingsError(f"output is {output!r}; expected 'sigmoid' or 'identity'")
        self.autoencoder, self.settings, self.output = autoencoder, settings, output
        self.name = name or autoencoder.family

    @cached_property
    def code_shape(self) -> tuple[int, ...]:
        """The shape of the network's latent for one stride: channels, steps, and bins if any."""
        network, was_training = self.autoencoder, self.autoencoder.training
        weight = next(network.parameters())
        patch = weight.new_zeros(1, 1, self.settings.num_bins, network.stride)
        with torch.no_grad():
            code = network.bottleneck.code(network.eval().encode(patch)[0])
        network.train(was_training)
        return tuple(code.shape[1:])

    @property
    def step(self) -> int:
        """Frames per latent step."""
        return self.autoencoder.stride // self.code_shape[1]

    @property
    def channels(self) -> int:
        """Latent values per step."""
        channels, _, *bins = self.code_shape
        return channels * (bins[0] if bins else 1)

    @property
    def info(self) -> CodecInfo:
        """The properties of the model that are needed to run it."""
        network, stride = self.autoencoder, self.autoencoder.stride
        is_patched = stride > 1 and network.context == 0
        frames = -(-round(self.settings.frames_per_second) // stride) * stride
        example = next(self.parameters()).new_zeros(1, self.settings.num_bins, frames)
        macs = count_macs_of(self, lambda: self(example))
        return CodecInfo(
            name=self.name,
            family=network.family,
            features=self.settings,
            bottleneck=network.settings.bottleneck,
            channels=self.channels,
            step=self.step,
            stride=stride,
            reach=0 if is_patched else -(-network.context // stride) * stride,
            parameters=sum(each.numel() for each in self.parameters()),
            macs_per_second=round(macs * self.settings.frames_per_second / frames),
            version=__version__,
            sha256=self.sha256,
        )

    @property
    def sha256(self) -> str:
        """The hash of weights and settings, see `CodecInfo`."""
        found = hashlib.sha256(json.dumps(self.describe(), sort_keys=True).encode())
        for name, value in sorted(self.state_dict().items()):
            found.update(name.encode())
            if value.device.type != "meta":
                found.update(value.detach().cpu().contiguous().numpy().tobytes())
        return found.hexdigest()

    def describe(self) -> dict[str, object]:
        """The settings, without the name, as JSON values."""
        network = asdict(self.autoencoder.settings)
        if not network.get("linear_path"):
            network.pop("linear_path", None)  # models from before this setting keep their hash
        return {
            "family": self.autoencoder.family,
            "features": asdict(self.settings),
            "network": network,
            "output": self.output,
        }

    def features(self, waveform: Tensor) -> Tensor:
        """The features `[batch, bins, frames]` of whole waveforms `[batch, num_samples]`."""
        return feature_map(waveform, self.settings)

    def encode(self, features: Tensor) -> Tensor:
        """Encode features; the code of a Gaussian bottleneck is the mean.

        Args:
            features: `[batch, bins, frames]`; zeros are added up to a multiple of the stride.

        Returns:
            `[batch, channels, steps]`.
        """
        encoded = self.autoencoder.encode(self.padded(features)[:, None])[0]
        return self.joined(self.autoencoder.bottleneck.code(encoded))

    def posterior(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the code of a Gaussian bottleneck, `[batch, channels, steps]`.

        Raises:
            SettingsError: the bottleneck is another one.
        """
        bottleneck = self.autoencoder.bottleneck
        if not isinstance(bottleneck, Gaussian):
            raise SettingsError(
                f"model {self.name!r} has a {self.autoencoder.settings.bottleneck} bottleneck; "
                "only a gaussian one has a mean and a variance"
            )
        encoded = self.autoencoder.encode(self.padded(features)[:, None])[0]
        mean, log_variance = bottleneck.posterior(encoded)
        return self.joined(mean), self.joined(log_variance)

    def decode(self, latent: Tensor) -> Tensor:
        """Decode a latent.

        Args:
            latent: `[batch, channels, steps]`, with whole strides of steps.

        Returns:
            `[batch, bins, frames]`.
        """
        decoded = self.autoencoder.decode(self.parted(latent))[0][:, 0].float()
        return torch.sigmoid(decoded) if self.output == "sigmoid" else decoded

    def forward(self, features: Tensor) -> Reconstruction:
        """Reconstruct features `[batch, bins, frames]`."""
        frames = features.shape[-1]
        encoded = self.autoencoder.encode(self.padded(features)[:, None])[0]
        code, penalty = self.autoencoder.bottleneck(encoded)
        latent = self.joined(code)
        return Reconstruction(self.decode(latent)[..., :frames], latent, penalty)

    def padded(self, features: Tensor) -> Tensor:
        """Features with zeros up to a multiple of the stride."""
        stride = self.autoencoder.stride
        return F.pad(features, (0, -features.shape[-1] % stride)) if stride > 1 else features

    def joined(self, code: Tensor) -> Tensor:
        """The latent of the network as `[batch, channels, steps]`."""
        return code if code.ndim == 3 else code.transpose(2, 3).flatten(1, 2)

    def parted(self, latent: Tensor) -> Tensor:
        """The inverse of `joined`."""
        if len(self.code_shape) == 2:
            return latent
        channels, _, bins = self.code_shape
        # Not unflatten: the batch size of its result is a constant in an exported graph.
        return latent.reshape(latent.shape[0], channels, bins, -1).transpose(2, 3)


def check_network(network: Autoencoder, settings: FeatureSettings) -> None:
    """Raise `SettingsError` if a network cannot reconstruct features of these settings."""
    own, family = network.settings, network.family
    if family in ("bidirectional", "fullband"):
        raise SettingsError(
            f"a {family} network denoises only; choose the family dense, conv1d, conv2d or "
            "dualpath to reconstruct"
        )
    if own.num_bins != settings.num_bins:
        raise SettingsError(
            f"the network has {own.num_bins} bins, the features have {settings.num_bins}; leave "
            "num_bins out of the recipe"
        )
    if own.num_features != 1 or own.gain != "real":
        raise SettingsError(
            f"the network has num_features {own.num_features} and a {own.gain} gain; set "
            "num_features = 1 and gain = 'real' to reconstruct"
        )
    if getattr(own, "skip", False):
        raise SettingsError("skip connections bypass the code; set skip = false to reconstruct")
    if getattr(own, "causal", False):
        raise SettingsError(
            "a causal network keeps a state, which codes have no place for; set causal = false "
            "to reconstruct"
        )
    if family == "dualpath" and settings.kind != "magnitude":
        raise SettingsError(
            f"a dualpath network merges linear frequency bins and cannot use {settings.kind} "
            "features; set features.kind = 'magnitude', or choose the family conv2d"
        )
