"""The draw of a mixture: a record of all that was drawn, which can be logged as JSON and rendered
again bit for bit.
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
    """A room response of the corpus, by its number."""

    number: int


@dataclass(frozen=True)
class Recording:
    """Recorded noise."""

    crop: Crop


@dataclass(frozen=True)
class Babble:
    """Several speakers at once, at one level."""

    crops: tuple[Crop, ...]


@dataclass(frozen=True)
class LikeRecording:
    """Stationary noise with the spectrum of a recorded one."""

    crop: Crop
    noise: ShapedNoise


@dataclass(frozen=True)
class SecondNoise:
    """Another recorded noise, so many dB below the first on active levels; it stands in for a
    silent first.
    """

    crop: Crop
    below_db: float


@dataclass(frozen=True)
class MixtureDraw:
    """One mixture of `samples`, in the order in which it is rendered; what is None was not drawn.

    `blend` None is noise alone, whose target is silence. `limits_target` says whether the band
    limit holds for the target too.
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
    variation: Variation | None = None  # of recorded noise

    def to_dict(self) -> dict[str, Any]:
        """As JSON; each record carries its class under `is`."""
        written: dict[str, Any] = _written(self)
        return written

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MixtureDraw:
        """The draw that `to_dict` wrote, also after a way through JSON; `DataError` for anything
        else.
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
