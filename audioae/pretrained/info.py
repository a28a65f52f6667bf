"""All that has to be known of a model to run it; it travels in the model's own file and on its card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self

from audioae.errors import CheckpointError
from audioae.spectrogram import StftSettings


@dataclass(frozen=True)
class ModelInfo:
    """All that has to be known of a model to run it.

    Args:
        name: of the model; family: the kind of network ("conv1d", "conv2d", ...).
        stft: how waveforms become its spectra.
        gain: "real" keeps the noisy phase, "complex" corrects it.
        lookahead, context: frames after and before a frame that its gain needs; both 0 for a causal model, which carries a state instead.
        stride: frames per time step of the network; a chunk starts at a multiple of it.
        parameters: numbers learnt; macs_per_second: multiply-accumulates per second of audio.
        version: of audioae, which made the model.
    """

    name: str
    family: str
    stft: StftSettings
    gain: Literal["real", "complex"]
    lookahead: int
    context: int
    stride: int
    parameters: int
    macs_per_second: int
    version: str

    def __post_init__(self) -> None:
        if self.gain not in ("real", "complex"):
            raise CheckpointError(f"model {self.name!r} has gain {self.gain!r}; expected 'real' or 'complex'")
        if self.stride < 1 or self.lookahead < 0 or self.context < 0:
            timing = f"stride {self.stride}, lookahead {self.lookahead}, context {self.context}"
            raise CheckpointError(f"model {self.name!r} has {timing}; expected a stride of at least 1 and no negative frames")

    @property
    def causal(self) -> bool:
        """True if no gain needs a later frame and the past is carried in a state."""
        return self.lookahead == 0 and self.context == 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON takes them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The opposite of `to_dict`."""
        known = known_values(cls, values)
        return cls(**{**known, "stft": StftSettings(**known_values(StftSettings, known["stft"]))})


def known_values(settings: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that a dataclass has fields for: a newer audioae may have written more, but none may be missing."""
    names = [each.name for each in fields(settings)]
    missing = [name for name in names if name not in values]
    if missing:
        raise CheckpointError(f"{settings.__name__} lacks {', '.join(missing)}; make the file again with this version of audioae")
    return {name: values[name] for name in names}
