"""What is drawn for each mixture, and how often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from audioae.errors import SettingsError

Range = tuple[float, float]

PROBABILITIES = (
    "easy", "speech_free", "second_noise", "synthetic_noise", "babble", "reverb", "eq", "clipping",
    "speed", "band_limit", "codec", "packet_loss", "silence", "remix", "vary_noise", "music",
)  # fmt: skip
RANGES = (
    "snr_db",
    "easy_snr_db",
    "level_dbfs",
    "speed_factor",
    "codec_kbps",
    "packet_loss_share",
    "silence_seconds",
)


@dataclass(frozen=True)
class AugmentSettings:
    """What is drawn for each mixture; probabilities are 0..1, ranges (lowest, highest).

    Args:
        snr_db: range of the signal-to-noise ratio on active levels.
        easy: probability of `easy_snr_db` instead, half of them without any noise.
        speech_free: probability of noise alone, whose target is silence.
        second_noise: probability of a second recording, 0..10 dB below the first.
        synthetic_noise: probability that the noise is made: coloured, with the spectrum of a
            recording, hum, clicks, fan or wind.
        babble: probability that the noise is 3 to 8 speakers of the split.
        reverb: probability of a room on the speech; half measured (when there are any), half made.
        eq: probability of a random equaliser, drawn apart for speech and noise; `eq_db` is its
            largest gain.
        level_dbfs: range of the mixture's RMS level.
        clipping: probability of clipping the mixture at 0.3..0.9 of its peak.
        speed: probability of speech that is faster and higher, or slower and lower, by a
            `speed_factor`.
        band_limit: probability of a cut-off at 4, 8 or 11 kHz, as far as the sample rate has it.
        band_limit_target: whether the cut-off holds for the target too; if not, the network learns
            to extend the band.
        codec: probability of Opus or MP3 on the mixture, at `codec_kbps`; an encoding takes 10 to
            20 times as long as all other effects.
        packet_loss: probability that packets of the mixture are lost, a `packet_loss_share` of
            them.
        silence: probability of a stretch of digital silence in mixture and target,
            `silence_seconds` long, at most half the segment.
        remix: probability that the noises of a batch change places among its mixtures (Defossez et
            al. 2020).
        vary_noise: probability that recorded noise is played backwards or cut into grains that
            change places.
        music: probability that the noise is synthetic music instead.
    """

    snr_db: Range = (-5.0, 20.0)
    easy: float = 0.1
    easy_snr_db: Range = (20.0, 40.0)
    speech_free: float = 0.02
    second_noise: float = 0.25
    synthetic_noise: float = 0.1
    babble: float = 0.1
    reverb: float = 0.2
    eq: float = 0.4
    eq_db: float = 9.0
    level_dbfs: Range = (-40.0, -12.0)
    clipping: float = 0.05
    speed: float = 0.1
    speed_factor: Range = (0.9, 1.1)
    band_limit: float = 0.05
    band_limit_target: bool = True
    codec: float = 0.0
    codec_kbps: Range = (12.0, 64.0)
    packet_loss: float = 0.01
    packet_loss_share: Range = (0.02, 0.1)
    silence: float = 0.02
    silence_seconds: Range = (0.1, 1.0)
    remix: float = 0.0
    vary_noise: float = 0.0
    music: float = 0.0

    def __post_init__(self) -> None:
        for name in PROBABILITIES:
            if not 0 <= getattr(self, name) <= 1:
                raise SettingsError(
                    f"AugmentSettings.{name} is {getattr(self, name)}; expected a probability, 0..1"
                )
        for name in RANGES:
            low, high = getattr(self, name)
            if not low <= high:
                raise SettingsError(
                    f"AugmentSettings.{name} is ({low}, {high}); expected (lowest, highest)"
                )
        if not 0.5 <= self.speed_factor[0] <= self.speed_factor[1] <= 2:
            raise SettingsError(
                f"AugmentSettings.speed_factor is {self.speed_factor}; expected factors of 0.5 to 2"
            )

    @classmethod
    def plain(cls, **more: Any) -> AugmentSettings:
        """One noise at a ratio and a level, and nothing else but what is asked."""
        nothing: dict[str, Any] = dict.fromkeys(PROBABILITIES, 0.0)
        return cls(**(nothing | more))
