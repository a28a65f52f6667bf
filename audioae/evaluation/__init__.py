"""How much a denoiser helps: metrics of the noisy and the enhanced side of pairs of recordings.

pairs    noisy and clean files that belong together, from a table or two folders
workers  processes that compute metrics; one that crashes costs a metric, not the run
rows     one row a pair, and the means
"""

from audioae.evaluation.pairs import Pair, check_pair, read_pairs
from audioae.evaluation.rows import Mean, Means, PairRow, evaluate, summarise

__all__ = ["Mean", "Means", "Pair", "PairRow", "check_pair", "evaluate", "read_pairs", "summarise"]
