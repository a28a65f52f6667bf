"""Effects that vary a mixture. Each is a small record: drawn with a seed, logged as JSON, applied
as a pure function. In reading order:

- `settings`: probabilities and ranges of all effects
- `backend`: how an effect works on NumPy arrays and torch tensors alike
- `blend`: ratio of speech and noise, level, digital silence, exchange of noises in a batch
- `noises`: synthetic noise and music
- `equaliser`, `rooms`: filters in the frequency domain
- `channel`: playback speed, reversal and grains, clipping, band limits, codecs, packet loss
"""

from audioae.data.augment.blend import (
    Level,
    Remix,
    SignalToNoise,
    Silence,
    mix_at_ratios,
    set_levels,
)
from audioae.data.augment.channel import (
    BandLimit,
    Clipping,
    Codec,
    PacketLoss,
    Speed,
    Variation,
    align,
)
from audioae.data.augment.equaliser import Band, Equaliser, equalise
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
from audioae.data.augment.rooms import (
    EARLY_SECONDS,
    DecayingRoom,
    ImageRoom,
    bank_room,
    direct_sound,
    filter_speech,
)
from audioae.data.augment.settings import AugmentSettings

__all__ = [
    "EARLY_SECONDS", "AugmentSettings", "Band", "BandLimit", "Clicks", "Clipping", "Codec",
    "ColouredNoise", "DecayingRoom", "Equaliser", "Fan", "Hum", "ImageRoom", "Level", "MadeNoise",
    "Melody", "PacketLoss", "Remix", "ShapedNoise", "SignalToNoise", "Silence", "Speed",
    "Variation", "Wind", "align", "bank_room", "direct_sound", "equalise", "filter_speech",
    "mix_at_ratios", "set_levels",
]  # fmt: skip
