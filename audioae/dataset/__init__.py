"""Prepared speech and noise become noisy/clean pairs, drawn on the fly: pair `index` of a seed is always the same pair."""

from audioae.dataset.corpus import Corpus, Crop, DataSettings, Piece, Pool
from audioae.dataset.device import DeviceMixer
from audioae.dataset.draws import Babble, LikeRecording, MeasuredRoom, MixtureDraw, Recording, SecondNoise
from audioae.dataset.folders import MixedPair, parse_ratios, write_pairs
from audioae.dataset.mixer import Mixer
from audioae.dataset.pairs import MixtureDataset

__all__ = [
    "Babble", "Corpus", "Crop", "DataSettings", "DeviceMixer", "LikeRecording", "MeasuredRoom", "MixedPair", "Mixer", "MixtureDataset",
    "MixtureDraw", "Piece", "Pool", "Recording", "SecondNoise", "parse_ratios", "write_pairs",
]  # fmt: skip
