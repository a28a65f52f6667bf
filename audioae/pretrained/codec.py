"""The properties of a model that encodes features and reconstructs them from its code."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Self

from audioae.errors import CheckpointError
from audioae.fields import check_types
from audioae.pretrained.info import (
    MAX_REACH_SECONDS,
    Properties,
    check_name_and_size,
    damage_errors,
)
from audioae.signal.features import FeatureSettings

MAX_CHANNELS = 2**20
IS_AUTOENCODER = (
    "is an autoencoder for codes of sound (embed, anomaly, compress, generate), and no denoiser; "
    "give a model that audioae train made without task.kind = 'reconstruct'"
)
IS_DENOISER = (
    "is a denoiser (audioae denoise), and no autoencoder for codes of sound; give a model that "
    "audioae train made with task.kind = 'reconstruct'"
)
Part = Literal["whole", "encoder", "decoder"]


@dataclass(frozen=True)
class CodecInfo(Properties):
    """The properties of an autoencoder that are needed to run it.

    Args:
        name: name of the model.
        family: kind of network ("dense", "conv2d", ...).
        features: how its input is computed.
        bottleneck: "plain", "sparse" or "gaussian".
        channels: latent values per step.
        step: frames per latent step.
        stride: the network processes whole multiples of so many frames; a multiple of `step`.
        reach: frames on either side of a frame that its code and its reconstruction depend on, a
            multiple of `stride`; 0 if patches are independent.
        parameters: number of trained parameters.
        macs_per_second: multiply-accumulate operations per second of audio.
        version: version of audioae that made the model.
        sha256: hash of the weights and settings, hexadecimal. It is the same for a checkpoint and
            for all files that are exported from it.
        part: what the file contains.
        kind: tells these files from those of a denoiser.

    Raises:
        CheckpointError: a value has a wrong type or is out of range.
    """

    name: str
    family: str
    features: FeatureSettings
    bottleneck: str
    channels: int
    step: int
    stride: int
    reach: int
    parameters: int
    macs_per_second: int
    version: str
    sha256: str
    part: Part = "whole"
    kind: Literal["autoencoder"] = "autoencoder"

    def __post_init__(self) -> None:
        with damage_errors("the properties of the model"):
            check_types(self)
        check_name_and_size(self.name, self.parameters, self.macs_per_second)
        sizes = (self.step, self.stride, self.channels)
        if min(sizes) < 1 or self.stride % self.step or self.channels > MAX_CHANNELS:
            raise CheckpointError(
                f"model {self.name!r} has {self.channels} latent channels, {self.step} frames per "
                f"step and a stride of {self.stride}; expected positive numbers, and a stride of "
                "whole steps"
            )
        longest = MAX_REACH_SECONDS * self.features.frames_per_second
        if self.reach < 0 or self.reach % self.stride or max(self.reach, self.stride) > longest:
            raise CheckpointError(
                f"model {self.name!r} has a reach of {self.reach} and a stride of {self.stride} "
                f"frames; expected a reach of whole strides, and at most {MAX_REACH_SECONDS} s"
            )

    def of_part(self, part: Part) -> Self:
        """The properties of a file with this part of the model."""
        return replace(self, part=part)
