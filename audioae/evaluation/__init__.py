"""Evaluation of denoisers on pairs of noisy and clean recordings.

pairs    find the pairs, from a CSV file or from two folders
metrics  SI-SDR, PESQ, STOI, DNSMOS and others
workers  worker processes that compute metrics; a crash costs one metric, not the run
rows     the scores of each pair, and their means
"""

from audioae.evaluation.pairs import Pair, check_pair, read_pairs
from audioae.evaluation.rows import Mean, Means, PairRow, evaluate, summarise

__all__ = ["Mean", "Means", "Pair", "PairRow", "check_pair", "evaluate", "read_pairs", "summarise"]
