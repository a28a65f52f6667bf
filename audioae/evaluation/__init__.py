"""Evaluation of denoisers on recordings, with a clean side or without.

metrics      SI-SDR, PESQ, STOI, DNSMOS and others
workers      worker processes that compute metrics; a crash costs one metric, not the run
pairs        find recordings in a CSV file or in folders
recognition  word error rates by any command that recognises speech
rows         denoise each pair and score it as a row
summary      means with their intervals, by SNR and class, and paired comparisons
"""

from audioae.evaluation.pairs import (
    Pair,
    check_pair,
    pair_folders,
    read_pairs,
    read_recordings,
    with_texts,
)
from audioae.evaluation.recognition import Recogniser, word_errors
from audioae.evaluation.rows import PairRow, WithVerdict, evaluate
from audioae.evaluation.summary import (
    Comparison,
    Mean,
    Means,
    by_band,
    by_group,
    compare,
    summarise,
)

__all__ = [
    "Comparison",
    "Mean",
    "Means",
    "Pair",
    "PairRow",
    "Recogniser",
    "WithVerdict",
    "by_band",
    "by_group",
    "check_pair",
    "compare",
    "evaluate",
    "pair_folders",
    "read_pairs",
    "read_recordings",
    "summarise",
    "with_texts",
    "word_errors",
]
