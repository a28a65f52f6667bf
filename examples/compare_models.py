"""Compare two models by their scores on pairs of noisy and clean recordings.

python examples/compare_models.py samples/paired.csv speech-16k speech-small-16k

The scores on samples/paired.csv only show that the script works: synthetic speech is easier than
real speech. PESQ and STOI need the extra `metrics`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial

import audioae
from audioae.evaluation import evaluate, read_pairs, summarise

METRICS = ("pesq_wb", "stoi", "si_sdr")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("pairs", help="CSV with the columns noisy and clean, or a folder")
    parser.add_argument("models", nargs="+", help="names or paths of models")
    parser.add_argument("--metrics", nargs="+", default=METRICS)
    options = parser.parse_args()
    scores = compare(options.pairs, options.models, options.metrics)
    print(f"{'':20}", *(f"{metric:>10}" for metric in options.metrics))
    for name, values in scores.items():
        cells = (f"{'' if value is None else f'{value:.3f}':>10}" for value in values)
        print(f"{name:20}", *cells)


def compare(
    pairs: str, models: Sequence[str], metrics: Sequence[str]
) -> dict[str, list[float | None]]:
    """Mean scores by row of the table: the noisy input, then each model."""
    table: dict[str, list[float | None]] = {}
    for name in models:
        denoise = partial(audioae.denoise, model=audioae.load_model(name))
        means = summarise(evaluate(read_pairs(pairs), denoise, metrics=metrics))
        table["noisy"] = [means[metric].noisy.value for metric in metrics]
        table[name] = [means[metric].enhanced.value for metric in metrics]
    return table


if __name__ == "__main__":
    main()
