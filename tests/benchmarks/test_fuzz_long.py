"""Thousands of bent files: cleaned or refused, no crash, no hang over 10 s of CPU time, nothing
half written.

Run with `pytest -s tests/benchmarks/test_fuzz_long.py`; AUDIOAE_FUZZ is the number of files of each
of the 13 bases. What it finds is made again by `python tests/fuzz.py FOLDER BASE NUMBER`, and kept
in KEPT of tests/test_fuzz.py.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
fuzz = pytest.importorskip(
    "fuzz", reason="limits of time and memory are those of Unix", exc_type=ImportError
)

EACH = int(os.environ.get("AUDIOAE_FUZZ", "200"))


def test_thousands_of_bent_files_are_cleaned_or_refused_without_a_trace(tmp_path: Path) -> None:
    cases = [fuzz.Case(name, number) for name in fuzz.BASES for number in range(EACH)]
    outcomes = list(fuzz.run(cases, tmp_path))
    kinds = Counter(outcome.kind for outcome in outcomes)
    slowest = max(outcomes, key=lambda outcome: outcome.seconds)
    figures = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
    print(
        f"\n{len(outcomes)} files: {figures}; {sum(outcome.seconds for outcome in outcomes):.0f} "
        f"CPU-s, the slowest {slowest}"
    )
    assert len(outcomes) == len(cases)
    assert [outcome for outcome in outcomes if outcome.kind == "broken"] == []
