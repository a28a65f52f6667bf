"""Settings of the denoiser, and presets of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from audioae.engine import Quality
from audioae.errors import SettingsError
from audioae.fields import check_settings

ChannelMode = Literal["linked", "independent"]
RUMBLE_DB = 60.0  # attenuation of rumble that strengths below 1 are a share of


@dataclass(frozen=True)
class DenoiseSettings:
    """Settings of the denoiser.

    Args:
        strength: 1 applies the gains of the model, 0 leaves the recording unchanged; values between
            them scale the gains in dB (and their phase).
        max_attenuation_db: limit of the attenuation in dB; None is no limit.
        channels: "linked" applies one gain to all channels, which keeps the stereo image;
            "independent" denoises each channel by itself.
        noise_from: start and end, in seconds, of a part of the recording with nothing but steady
            noise. What the model leaves of that noise is lowered further, see `denoising.noise`.
            For recordings only, not for live streams.
        adapt_noise: the same, with an estimate of the noise that is updated all the time.
        quality: of recordings, not of live streams, see `denoising.gains`. "best" uses the
            offline companion of the model, or the mean of a causal model in both directions of
            time, which takes 2.5 to 3 times as long as "fast". "fast" is a single causal run.
        keep_rumble: keep a strong DC offset and strong rumble below 40 Hz, which are left out
            otherwise; see `denoising.rumble`. The model gets neither.

    Raises:
        SettingsError: a value is impossible.

    Example:
        >>> settings = DenoiseSettings(max_attenuation_db=20, quality="fast")
        >>> settings.strength, settings.channels
        (1.0, 'linked')
    """

    strength: float = 1.0
    max_attenuation_db: float | None = None
    channels: ChannelMode = "linked"
    noise_from: tuple[float, float] | None = None
    adapt_noise: bool = False
    quality: Quality = "best"
    keep_rumble: bool = False

    @property
    def rumble_gain(self) -> float:
        """The gain of a DC offset and rumble: 0, unless the settings limit the attenuation."""
        if self.keep_rumble or self.strength == 0:
            return 1.0
        wanted = RUMBLE_DB * self.strength
        if self.max_attenuation_db is not None and self.max_attenuation_db < wanted:
            return float(10 ** (-self.max_attenuation_db / 20))
        return 0.0 if self.strength == 1 else float(10 ** (-wanted / 20))

    def __post_init__(self) -> None:
        check_settings(self, {})
        if not 0 <= self.strength <= 1:
            raise SettingsError(
                f"strength is {self.strength}; expected 0 (unchanged) to 1 (full strength)"
            )
        limit = self.max_attenuation_db
        if limit is not None and limit < 0:
            raise SettingsError(
                f"max_attenuation_db is {limit}; expected 0 dB or more, or None for no limit"
            )
        if self.noise_from is not None and not 0 <= self.noise_from[0] < self.noise_from[1]:
            start, end = self.noise_from
            raise SettingsError(
                f"noise_from is {start:g} to {end:g} s; expected a start of 0 or more and a "
                "later end"
            )


def check_denoise_settings(settings: DenoiseSettings | None) -> DenoiseSettings:
    """An argument `settings`; None is the default. Raises `SettingsError` for another type."""
    if settings is None:
        return DenoiseSettings()
    if not isinstance(settings, DenoiseSettings):
        raise SettingsError(
            f"settings has the type {type(settings).__name__}; expected DenoiseSettings(...) or "
            "None"
        )
    return settings


# gentle: some noise stays audible, and all speech is kept.
# strong: steady noise is lowered further than the model does.
# asr: half of the attenuation in dB, chosen by word error rates, see docs/metrics.md. Recognisers
# are trained on noisy speech; missing speech hurts them more than noise.
PRESETS: dict[str, DenoiseSettings] = {
    "gentle": DenoiseSettings(strength=0.8, max_attenuation_db=12.0),
    "default": DenoiseSettings(),
    "strong": DenoiseSettings(adapt_noise=True),
    "asr": DenoiseSettings(strength=0.5),
}
