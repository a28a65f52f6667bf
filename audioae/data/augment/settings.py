"""Probabilities and ranges of the effects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from audioae.errors import SettingsError
from audioae.fields import check_settings

Range = tuple[float, float]

PROBABILITIES = (
    "easy", "speech_free", "second_noise", "synthetic_noise", "babble", "reverb", "eq", "clipping",
    "speed", "band_limit", "codec", "packet_loss", "silence", "remix", "vary_noise", "music",
)  # fmt: skip
# Lowest and highest values of the other settings.
LIMITS: dict[str, tuple[float, float]] = {
    "snr_db": (-100, 200),
    "easy_snr_db": (-100, 200),
    "eq_db": (0, 60),
    "level_dbfs": (-120, 20),
    "speed_factor": (0.5, 2),
    "codec_kbps": (1, 1000),
    "packet_loss_share": (0, 1),
    "silence_seconds": (0, 600),
}
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
    """Probabilities (0..1) and ranges (lowest, highest) from which each mixture is drawn.

    Args:
        snr_db: range of the signal-to-noise ratio of active levels.
        easy: probability of a ratio from `easy_snr_db`; half of these mixtures have no noise.
        speech_free: probability of noise alone, with silence as its target.
        second_noise: probability of a second noise recording, 0 to 10 dB below the first.
        synthetic_noise: probability of synthetic noise: coloured, with the spectrum of a recording,
            hum, clicks, fan or wind.
        babble: probability that the noise is 3 to 8 speakers of the same split.
        reverb: probability that the speech is convolved with a room response, half of them measured
            (if there are any), half simulated.
        eq: probability of a random equaliser, drawn separately for speech and noise; `eq_db` is its
            largest gain.
        level_dbfs: range of the mixture's RMS level.
        clipping: probability of clipping the mixture at 0.3..0.9 of its peak.
        speed: probability that the speech is resampled by a `speed_factor`, which changes its pitch
            too.
        band_limit: probability of a low-pass at 4, 8 or 11 kHz, of those below the Nyquist
            frequency.
        band_limit_target: whether the target is low-passed too; if not, the network learns to
            extend the bandwidth.
        codec: probability that the mixture is encoded with Opus or MP3 at `codec_kbps`; this takes
            10 to 20 times as long as all other effects.
        packet_loss: probability of packet loss in the mixture; `packet_loss_share` is the fraction
            of lost packets.
        silence: probability of `silence_seconds` of digital silence in mixture and target, at most
            half of the segment.
        remix: probability that the noises of a batch are exchanged between its mixtures (Défossez
            et al. 2020).
        vary_noise: probability that recorded noise is reversed in time or cut into shuffled grains.
        music: probability that the noise is replaced by synthetic music.
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
        check_settings(self, dict.fromkeys(PROBABILITIES, (0, 1)) | LIMITS)
        for name in RANGES:
            low, high = getattr(self, name)
            if not low <= high:
                raise SettingsError(
                    f"AugmentSettings.{name} is ({low}, {high}); expected (lowest, highest)"
                )

    @classmethod
    def plain(cls, **more: Any) -> AugmentSettings:
        """Settings with all probabilities 0 except those given: one noise recording at a ratio and
        a level.
        """
        nothing: dict[str, Any] = dict.fromkeys(PROBABILITIES, 0.0)
        return cls(**(nothing | more))
