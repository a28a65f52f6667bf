"""Prepared speech and noise become noisy/clean pairs, drawn on the fly: pair `index` of a seed is
always the same pair.
"""

from audioae.data.mixtures.corpus import Corpus, Crop, DataSettings, Piece, Pool
from audioae.data.mixtures.device import DeviceMixer
from audioae.data.mixtures.draws import (
    Babble,
    LikeRecording,
    MeasuredRoom,
    MixtureDraw,
    Recording,
    SecondNoise,
)
from audioae.data.mixtures.folders import MixedPair, parse_ratios, write_pairs
from audioae.data.mixtures.mixer import Mixer, MixtureDataset

__all__ = [
    "Babble", "Corpus", "Crop", "DataSettings", "DeviceMixer", "LikeRecording", "MeasuredRoom", "MixedPair", "Mixer", "MixtureDataset",
    "MixtureDraw", "Piece", "Pool", "Recording", "SecondNoise", "parse_ratios", "write_pairs",
]  # fmt: skip
