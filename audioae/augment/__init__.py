"""How a mixture may vary: each effect is a small record that is drawn, can be logged, and is applied as a pure function."""

from audioae.augment.blend import Level, Remix, SignalToNoise, Silence
from audioae.augment.channel import BandLimit, Clipping, Codec, PacketLoss, align
from audioae.augment.equaliser import Band, Equaliser
from audioae.augment.noises import Clicks, ColouredNoise, Fan, Hum, MadeNoise, Melody, ShapedNoise, Wind
from audioae.augment.rooms import EARLY_SECONDS, DecayingRoom, ImageRoom, bank_room, direct_sound, filter_noise, filter_speech
from audioae.augment.settings import AugmentSettings
from audioae.augment.speed import Speed
from audioae.augment.variation import Variation

__all__ = [
    "EARLY_SECONDS", "AugmentSettings", "Band", "BandLimit", "Clicks", "Clipping", "Codec", "ColouredNoise", "DecayingRoom", "Equaliser",
    "Fan", "Hum", "ImageRoom", "Level", "MadeNoise", "Melody", "PacketLoss", "Remix", "ShapedNoise", "SignalToNoise", "Silence", "Speed", "Variation", "Wind",
    "align", "bank_room", "direct_sound", "filter_noise", "filter_speech",
]  # fmt: skip
