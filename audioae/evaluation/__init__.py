"""Evaluation of denoisers on pairs of noisy and clean recordings.

metrics  SI-SDR, PESQ, STOI, DNSMOS and others
workers  worker processes that compute metrics; a crash costs one metric, not the run
rows     find pairs in a CSV file or in two folders, and score them as rows
"""

from audioae.evaluation.rows import (
    Mean,
    Means,
    Pair,
    PairRow,
    check_pair,
    evaluate,
    read_pairs,
    summarise,
)

__all__ = ["Mean", "Means", "Pair", "PairRow", "check_pair", "evaluate", "read_pairs", "summarise"]
