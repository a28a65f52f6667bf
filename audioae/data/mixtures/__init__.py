"""Noisy/clean pairs mixed on the fly from prepared speech and noise. Pair `index` of a seed is
always the same pair. In reading order:

- `corpus`: the prepared recordings of one split, and crops of them
- `draws`: the records of everything that is drawn for a mixture
- `mixer`: draws mixtures, for the data loader of torch or in batches on the device
- `renderer`: renders draws, on the CPU or on a device
- `folders`: writes pairs as files, for `audioae mix`
"""

from audioae.data.mixtures.corpus import Corpus, Crop, DataSettings, Piece, Pool
from audioae.data.mixtures.draws import (
    Babble,
    LikeRecording,
    MeasuredRoom,
    MixtureDraw,
    Recording,
    SecondNoise,
)
from audioae.data.mixtures.folders import MixedPair, parse_ratios, write_pairs
from audioae.data.mixtures.mixer import DeviceMixer, Mixer, MixtureDataset

__all__ = [
    "Babble", "Corpus", "Crop", "DataSettings", "DeviceMixer", "LikeRecording", "MeasuredRoom",
    "MixedPair", "Mixer", "MixtureDataset", "MixtureDraw", "Piece", "Pool", "Recording",
    "SecondNoise", "parse_ratios", "write_pairs",
]  # fmt: skip
