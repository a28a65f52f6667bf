"""The draw of a mixture: a record of everything that was drawn, which can be logged as JSON and
rendered again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from audioae.data import augment
from audioae.data.augment import (
    BandLimit,
    Clipping,
    Codec,
    DecayingRoom,
    Equaliser,
    ImageRoom,
    Level,
    MadeNoise,
    PacketLoss,
    ShapedNoise,
    SignalToNoise,
    Silence,
    Speed,
    Variation,
)
from audioae.data.mixtures.corpus import Crop, Piece
from audioae.errors import DataError


@dataclass(frozen=True)
class MeasuredRoom:
    """A room response of the corpus, by its row number."""

    number: int


@dataclass(frozen=True)
class Recording:
    """Recorded noise."""

    crop: Crop


@dataclass(frozen=True)
class Babble:
    """Several speakers at once, at equal levels."""

    crops: tuple[Crop, ...]


@dataclass(frozen=True)
class LikeRecording:
    """Stationary noise with the spectrum of a recording."""

    crop: Crop
    noise: ShapedNoise


@dataclass(frozen=True)
class SecondNoise:
    """A second noise recording, `below_db` below the first in active level. It replaces a silent
    first noise.
    """

    crop: Crop
    below_db: float


@dataclass(frozen=True)
class MixtureDraw:
    """One mixture of `samples` samples, in the order of rendering. None: the effect was not drawn.

    Args:
        blend: None: noise alone, with silence as the target.
        limits_target: whether the band limit applies to the target too.
        variation: of recorded noise.
    """

    samples: int
    speech: Crop
    speed: Speed | None
    room: MeasuredRoom | DecayingRoom | ImageRoom | None
    speech_eq: Equaliser | None
    noise: Recording | Babble | LikeRecording | MadeNoise
    noise_eq: Equaliser | None
    second: SecondNoise | None
    blend: SignalToNoise | None
    level: Level
    clipping: Clipping | None
    band_limit: BandLimit | None
    limits_target: bool
    codec: Codec | None
    packet_loss: PacketLoss | None
    silence: Silence | None
    variation: Variation | None = None

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON; each record has its class name under `is`."""
        written: dict[str, Any] = _written(self)
        return written

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MixtureDraw:
        """The draw for a value of `to_dict`, also after a round trip through JSON. Raises
        `DataError` for anything else.
        """
        try:
            draw = _read(values)
        except (KeyError, TypeError) as error:
            raise DataError(
                f"no draw of a mixture ({error}); expected what MixtureDraw.to_dict "
                "gives, of this version"
            ) from error
        if not isinstance(draw, cls):
            raise DataError(
                f"a {type(draw).__name__} is no draw of a mixture; expected what "
                "MixtureDraw.to_dict gives"
            )
        return draw


_OURS = (MixtureDraw, Crop, Piece, MeasuredRoom, Recording, Babble, LikeRecording, SecondNoise)
_EFFECTS = tuple(
    value
    for value in vars(augment).values()
    if isinstance(value, type) and dataclasses.is_dataclass(value)
)
RECORDS = {record.__name__: record for record in _OURS + _EFFECTS}


def _written(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {
            field.name: _written(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
        return {"is": type(value).__name__} | fields
    return [_written(each) for each in value] if isinstance(value, tuple) else value


def _read(value: Any) -> Any:
    if isinstance(value, Mapping):
        return RECORDS[value["is"]](
            **{name: _read(each) for name, each in value.items() if name != "is"}
        )
    return tuple(_read(each) for each in value) if isinstance(value, (list, tuple)) else value
