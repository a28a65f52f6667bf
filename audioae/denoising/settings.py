"""How strongly a recording is cleaned, which of its channels together, and what is known of its
noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from audioae.engine import Quality
from audioae.errors import SettingsError, nearest

ChannelMode = Literal["linked", "independent"]


@dataclass(frozen=True)
class DenoiseSettings:
    """What is done with a model's gain before it meets the spectrum.

    Args:
        strength: 0 leaves the recording untouched, 1 takes the gain as it is; between them its
            decibels (and its phase) are scaled.
        max_attenuation_db: nothing is lowered by more than this, dB; None sets no limit.
        channels: "linked" gives all channels one gain, so that the stereo image stays;
            "independent" cleans each by itself.
        noise_from: start and end, seconds, of a stretch that holds nothing but the steady noise;
            what is left of that noise is lowered further; see `inference.noise`. A recording needs
            to be there whole for it; a live stream has nothing to go back to.
        quality: of a recording that is there whole. "best" runs a causal model in both directions
            of time and takes the mean, 2.5 to 3 times the work; "fast" runs it once, after its
            beginning mirrored in time. A live stream has neither. See `denoise.gains`.
        adapt_noise: the same, with a noise level that is tracked while the recording runs.
    """

    strength: float = 1.0
    max_attenuation_db: float | None = None
    channels: ChannelMode = "linked"
    noise_from: tuple[float, float] | None = None
    adapt_noise: bool = False
    quality: Quality = "best"

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise SettingsError(
                f"strength is {self.strength}; expected a number from 0 (untouched) to 1 (full)"
            )
        limit = self.max_attenuation_db
        if limit is not None and not (limit >= 0 and math.isfinite(limit)):
            raise SettingsError(
                f"max_attenuation_db is {limit}; expected a number of dB from 0 up, or None for "
                "no limit"
            )
        if self.channels not in get_args(ChannelMode):
            known = get_args(ChannelMode)
            raise SettingsError(
                f"channels is {self.channels!r}; expected one of "
                f"{', '.join(known)}{nearest(str(self.channels), known)}"
            )
        if self.quality not in get_args(Quality):
            raise SettingsError(f"quality is {self.quality!r}; expected 'fast' or 'best'")
        if (
            self.noise_from is not None
            and not 0 <= self.noise_from[0] < self.noise_from[1] < math.inf
        ):
            start, end = self.noise_from
            raise SettingsError(
                f"noise_from is {start:g} to {end:g} s; expected a start from 0 up and an end "
                "after it"
            )


# gentle: noise stays audible, and so does all speech. strong: steady noise is lowered beyond what
# the model does.
# asr: recognisers are trained on noise and suffer more from what is missing than from what is left.
PRESETS: dict[str, DenoiseSettings] = {
    "gentle": DenoiseSettings(strength=0.8, max_attenuation_db=12.0),
    "default": DenoiseSettings(),
    "strong": DenoiseSettings(adapt_noise=True),
    "asr": DenoiseSettings(max_attenuation_db=10.0),
}
