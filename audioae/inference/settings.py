"""How strongly a recording is cleaned, and which of its channels together."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from audioae.errors import SettingsError, nearest

ChannelMode = Literal["linked", "independent"]


@dataclass(frozen=True)
class DenoiseSettings:
    """What is done with a model's gain before it meets the spectrum.

    Args:
        strength: 0 leaves the recording untouched, 1 takes the gain as it is; between them its decibels (and its phase) are scaled.
        max_attenuation_db: nothing is lowered by more than this, dB; None sets no limit.
        channels: "linked" gives all channels one gain, so that the stereo image stays; "independent" cleans each by itself.
    """

    strength: float = 1.0
    max_attenuation_db: float | None = None
    channels: ChannelMode = "linked"

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise SettingsError(f"strength is {self.strength}; expected a number from 0 (untouched) to 1 (full)")
        limit = self.max_attenuation_db
        if limit is not None and not (limit >= 0 and math.isfinite(limit)):
            raise SettingsError(f"max_attenuation_db is {limit}; expected a number of dB from 0 up, or None for no limit")
        if self.channels not in get_args(ChannelMode):
            known = get_args(ChannelMode)
            raise SettingsError(f"channels is {self.channels!r}; expected one of {', '.join(known)}{nearest(str(self.channels), known)}")
