"""Thousands of mutated files are denoised or rejected: no crash, no hang, no file left behind.

Run with `pytest -s tests/benchmarks/test_fuzz_long.py`; AUDIOAE_FUZZ is the number of files of each
of the 13 bases. `python tests/fuzz.py FOLDER BASE NUMBER` writes the file of a case; cases that
failed are added to KEPT in tests/test_fuzz.py.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
fuzz = pytest.importorskip("fuzz", reason="needs the resource limits of Unix", exc_type=ImportError)

EACH = int(os.environ.get("AUDIOAE_FUZZ", "200"))


def test_thousands_of_mutated_files_are_denoised_or_rejected(tmp_path: Path) -> None:
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
    assert [outcome for outcome in outcomes if outcome.kind == "failed"] == []
