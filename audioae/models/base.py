"""The interface of all networks: features in, an estimate and the next state out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from audioae.errors import SettingsError
from audioae.fields import check_settings
from audioae.models.bottlenecks import BottleneckName, Gaussian, build_bottleneck

# Limits of the settings: bins and channels, frames, and layers of a kind.
MAX_SIZE, MAX_FRAMES, MAX_LAYERS = 65_536, 1024, 100
MAX_STEPS = 10**9
MIN_COMPRESSION = 0.01  # a gain is a mask to the power of 1 / compression
IN_FRAMES = ("kernel", "dilations", "patch")  # settings that are limited by `MAX_FRAMES`

State = tuple[Tensor, ...]
GainKind = Literal["real", "complex"]
Edges = Literal["silence", "mirror"]
Downsampling = Literal["strided", "max_pool", "average_pool"]
Upsampling = Literal["transpose", "nearest"]
Activation = Literal["leaky_relu", "relu", "identity", "batch_norm", "soft_threshold"]


class Estimate(NamedTuple):
    """The output of a network.

    Args:
        gain: factor per bin of the noisy spectrum, `[batch, 1 or 2, freq, frames]`: real, or
            complex as real and imaginary part.
        latent: the code between encoder and decoder.
        penalty: scalar that the bottleneck adds to the loss.
    """

    gain: Tensor
    latent: Tensor
    penalty: Tensor


@dataclass(frozen=True)
class NetworkSettings:
    """Settings that all networks have.

    Args:
        num_bins: frequency bins of the features.
        num_features: 1 (compressed magnitude) or 3 (and compressed real and imaginary parts).
        gain: "real" keeps the noisy phase, "complex" corrects it.
        compression: exponent of the magnitude in the features; masks act on the compressed
            spectrum.
        bottleneck, bottleneck_weight: the bottleneck and the weight of its penalty.
        bottleneck_norm: the penalty of "sparse": 1 for absolute values, 2 for squares.
        free_bits, warmup_steps: of "gaussian", see `Gaussian`; a warm-up of None is none.
        latent_activation: of the last encoder layer: "leaky_relu" after BatchNorm, like the other
            layers, or "relu" or "identity" without BatchNorm. Codes are best "identity", so that
            they can have any value, or "batch_norm": each unit has the variance 1, and a penalty of
            "sparse" cannot be avoided by making all values small. "soft_threshold" is "batch_norm"
            and then 0 in place of values up to 0.2 and others moved by 0.2 towards 0.
        encoder: "strided" convolutions, or convolutions and "max_pool" or "average_pool".
        decoder: "transpose" for transposed convolutions, "nearest" for upsampling followed by a
            convolution, which avoids checkerboard artefacts (Odena et al. 2016).
    """

    num_bins: int = 257
    num_features: int = 1
    gain: GainKind = "real"
    compression: float = 0.3
    bottleneck: BottleneckName = "plain"
    bottleneck_weight: float = 1e-3
    bottleneck_norm: int = 1
    free_bits: float = 0.0
    warmup_steps: int | None = None
    latent_activation: Activation = "leaky_relu"
    encoder: Downsampling = "strided"
    decoder: Upsampling = "transpose"

    resamples = False  # whether the family has a choice of `encoder` and `decoder`

    def __post_init__(self) -> None:
        self._check_sizes()
        if self.num_features not in (1, 3):
            raise SettingsError(
                f"num_features is {self.num_features}; expected 1 (magnitude) or 3 (magnitude, "
                "real, imaginary)"
            )
        if self.gain not in ("real", "complex"):
            raise SettingsError(f"gain is {self.gain!r}; expected 'real' or 'complex'")
        if not MIN_COMPRESSION <= self.compression <= 1:
            raise SettingsError(
                f"compression is {self.compression}; expected a power of {MIN_COMPRESSION} to 1"
            )
        if self.bottleneck_norm not in (1, 2):
            raise SettingsError(f"bottleneck_norm is {self.bottleneck_norm}; expected 1 or 2")
        if (self.encoder, self.decoder) != ("strided", "transpose") and not self.resamples:
            raise SettingsError(
                f"{type(self).__name__} has the encoder {self.encoder!r} and the decoder "
                f"{self.decoder!r}, which this family lacks; leave both out, or choose the family "
                "conv1d or conv2d"
            )

    def _check_sizes(self) -> None:
        """Raise `SettingsError` for wrong types, and for numbers that no network can have."""
        check_settings(self, {"bottleneck_weight": (0.0, 1e6), "free_bits": (0.0, 1e3)})
        for name, value in vars(self).items():
            values = value if isinstance(value, tuple) else (value,)
            most = MAX_STEPS if name == "warmup_steps" else MAX_SIZE
            most = MAX_FRAMES if name in IN_FRAMES else most
            numbers = [each for each in values if type(each) is int]
            if len(values) > MAX_LAYERS or not all(1 <= each <= most for each in numbers):
                raise SettingsError(
                    f"{type(self).__name__}.{name} is {value}; expected numbers of 1 to {most:,}, "
                    f"at most {MAX_LAYERS} of them"
                )

    @property
    def num_outputs(self) -> int:
        """Channels of the decoder's output."""
        return 1 if self.gain == "real" else 2


class Autoencoder(nn.Module):
    """Encoder, bottleneck, decoder.

    A causal network has `lookahead == context == 0` and keeps its past in the state. Other networks
    are stateless and need `context` frames before and `lookahead` frames after the frames whose
    gains are wanted. Chunks start at multiples of `stride`. `edges` is the input before the start
    and after the end of a recording: silence, or the recording mirrored in time.
    """

    family = ""
    lookahead = 0
    context = 0
    stride = 1
    edges: Edges = "silence"

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.settings = settings
        self.bottleneck = build_bottleneck(
            settings.bottleneck,
            settings.bottleneck_weight,
            settings.bottleneck_norm,
            free_bits=settings.free_bits,
            warmup_steps=settings.warmup_steps or 0,
        )

    def initial_state(self, batch: int) -> State:
        """An empty past for `batch` signals; networks without state have none."""
        return ()

    def at_step(self, step: int) -> None:
        """Tell the network the number of training steps so far, for the warm-up of its penalty."""
        if isinstance(self.bottleneck, Gaussian):
            self.bottleneck.step = step

    def mute_beyond(self, names: Collection[str]) -> list[str]:
        """Set the residual blocks that a shallower network lacks to zero output.

        With the weights of the shallower network, this one then computes the same gains (Net2Net,
        Chen et al. 2016).

        Args:
            names: names of the shallower network's weights.

        Returns:
            The names of the weights of those blocks; none for families without such blocks.
        """
        return []

    def start_from(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Initial weights for a training, from the weights of another network.

        Families that contain another network map its names to their own; the default returns the
        weights unchanged.
        """
        return dict(tensors)

    def encode(
        self, features: Tensor, state: State | None = None
    ) -> tuple[Tensor, list[Tensor], State]:
        """Encode features.

        Args:
            features: `[batch, num_features, freq, frames]`.
            state: state of the encoder; None is an empty past.

        Returns:
            The input of the bottleneck, the skip connections and the next state.
        """
        raise TypeError(f"{type(self).__name__} has no encoder")

    def decode(
        self, latent: Tensor, skips: Sequence[Tensor] = (), state: State | None = None
    ) -> tuple[Tensor, State]:
        """Decode a latent.

        Args:
            latent: output of the bottleneck.
            skips: skip connections of the encoder; without them the latent is decoded alone.
            state: state of the decoder; None is an empty past.

        Returns:
            The input of `mask`, `[batch, num_outputs, freq, frames]`, and the next state.
        """
        raise TypeError(f"{type(self).__name__} has no decoder")

    def forward(self, features: Tensor, state: State | None = None) -> tuple[Estimate, State]:
        frames = features.shape[-1]
        if self.stride > 1:
            features = nn.functional.pad(features, (0, -frames % self.stride))
        if state is None:
            state = self.initial_state(features.shape[0])
        encoded, skips, encoder_state = self.encode(features, state)
        latent, penalty = self.bottleneck(encoded)
        decoded, decoder_state = self.decode(latent, skips, state[len(encoder_state) :])
        return Estimate(
            self.mask(decoded[..., :frames].float()), latent, penalty
        ), encoder_state + decoder_state

    def mask(self, decoded: Tensor) -> Tensor:
        """The gain per bin for a mask M on the compressed spectrum.

        With Xc = X |X|^(c-1), the enhanced spectrum Y has Yc = M Xc, so Y = X M |M|^(1/c - 1): a
        gain on X. A real mask is a sigmoid. A complex mask is the decoder's output plus 1.
        """
        power = 1 / self.settings.compression
        if self.settings.gain == "real":
            return torch.sigmoid(decoded).pow(power)
        mask = decoded + decoded.new_tensor([1.0, 0.0]).view(1, 2, 1, 1)
        return mask * (mask.square().sum(1, keepdim=True) + 1e-12).pow((power - 1) / 2)


def count_macs_of(model: nn.Module, run: Callable[[], object]) -> int:
    """Multiply-accumulate operations of a run in evaluation mode.

    Counted are convolutions, linear layers and recurrences.

    Args:
        model: the network, left in the mode that it has.
        run: runs it.
    """
    macs = 0

    def add(
        module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor | tuple[Tensor, ...]
    ) -> None:
        nonlocal macs
        if isinstance(module, (nn.ConvTranspose1d, nn.ConvTranspose2d)):
            macs += inputs[0].numel() * module.weight[0].numel()
        elif isinstance(module, (nn.Conv1d, nn.Conv2d)) and isinstance(output, Tensor):
            macs += output.numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            macs += inputs[0].numel() * module.out_features
        elif isinstance(module, nn.RNNBase):
            macs += inputs[0].shape[:-1].numel() * sum(
                weight.numel() for name, weight in module.named_parameters() if "weight" in name
            )

    hooks = [module.register_forward_hook(add) for module in model.modules()]
    was_training = model.training
    try:
        with torch.no_grad():
            model.eval()
            run()
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return macs
