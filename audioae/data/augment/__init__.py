"""How a mixture may vary: each effect is a small record that is drawn, can be logged, and is
applied as a pure function.
"""

from audioae.data.augment.blend import Level, Remix, SignalToNoise, Silence
from audioae.data.augment.channel import BandLimit, Clipping, Codec, PacketLoss, align
from audioae.data.augment.equaliser import Band, Equaliser
from audioae.data.augment.noises import (
    Clicks,
    ColouredNoise,
    Fan,
    Hum,
    MadeNoise,
    Melody,
    ShapedNoise,
    Wind,
)
from audioae.data.augment.playback import Speed, Variation
from audioae.data.augment.rooms import (
    EARLY_SECONDS,
    DecayingRoom,
    ImageRoom,
    bank_room,
    direct_sound,
    filter_noise,
    filter_speech,
)
from audioae.data.augment.settings import AugmentSettings

__all__ = [
    "EARLY_SECONDS", "AugmentSettings", "Band", "BandLimit", "Clicks", "Clipping", "Codec", "ColouredNoise", "DecayingRoom", "Equaliser",
    "Fan", "Hum", "ImageRoom", "Level", "MadeNoise", "Melody", "PacketLoss", "Remix", "ShapedNoise", "SignalToNoise", "Silence", "Speed", "Variation", "Wind",
    "align", "bank_room", "direct_sound", "filter_noise", "filter_speech",
]  # fmt: skip
