"""Mutated files are denoised or rejected with one line: no crash, no hang, no file left behind.

The long run is tests/benchmarks/test_fuzz_long.py.
"""

from __future__ import annotations

import os
import struct
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fake_engines import constant

from audioae import denoise_file
from audioae.denoising import Stream
from audioae.errors import AudioFileError, SettingsError

if os.name == "nt":
    pytest.skip("needs the resource limits of Unix", allow_module_level=True)
from fuzz import BASES, Case, mutated, run

EACH = 16  # files of each base
# Found by the long run: a sample rate of 1.4 GHz took seconds to filter.
KEPT = [Case("pcm16", 129)]


def test_mutated_files_are_denoised_or_rejected(tmp_path: Path) -> None:
    outcomes = list(
        run([*(Case(name, number) for name in BASES for number in range(EACH)), *KEPT], tmp_path)
    )
    assert [outcome for outcome in outcomes if outcome.kind == "failed"] == []
    unchanged = [outcome for outcome in outcomes if outcome.case.number == 0]
    assert all(outcome.kind == "denoised" for outcome in unchanged)
    kinds = Counter(outcome.kind for outcome in outcomes)
    assert kinds.total() == EACH * len(BASES) + len(KEPT)
    assert [outcome.kind for outcome in outcomes[-len(KEPT) :]] == ["rejected"]
    # The mutations are neither too weak nor too strong.
    assert min(kinds["denoised"], kinds["rejected"]) > 0.2 * kinds.total(), kinds


@pytest.mark.parametrize("rate", [1, 99, 10_000_001, 2**31 - 1])
def test_implausible_sample_rates_are_rejected_at_once(tmp_path: Path, rate: int) -> None:
    """3000 samples at 1 Hz would take 50 minutes and gigabytes of memory."""
    soundfile.write(tmp_path / "in.wav", np.zeros(3000), 16000)
    data = (tmp_path / "in.wav").read_bytes()
    (tmp_path / "in.wav").write_bytes(data[:24] + struct.pack("<I", rate) + data[28:])
    with pytest.raises(AudioFileError, match=rf"in\.wav .* {rate} Hz; expected 100 Hz to 10 MHz"):
        denoise_file(tmp_path / "in.wav", tmp_path / "out.wav", model=constant())
    assert [path.name for path in tmp_path.iterdir()] == ["in.wav"]
    with pytest.raises(SettingsError, match=rf"{rate} Hz.*100 Hz to 10 MHz"):
        Stream(constant(), rate)


def test_a_case_is_reproducible() -> None:
    for name in BASES:
        assert mutated(Case(name, 5)) == mutated(Case(name, 5)) != mutated(Case(name, 6))


# By number of the case: code of `denoise_file` in the worker, and part of the reported reason.
FAULTS = {
    1: ("os.abort()", "SIGABRT"),
    2: ("while True: pass", "SIGPROF"),
    3: ("time.sleep(60)", "SIGALRM"),
    4: ("os._exit(3)", "exit code 3"),
    5: ("raise MemoryError", "MemoryError"),
    6: ("Path(dst).write_text('x'); raise AudioaeError('no')", "left ['in.wav', 'out.wav']"),
    7: ("raise AudioaeError('two\\nlines')", "several lines"),
    8: ("Path(src).write_text('x'); raise AudioaeError('no')", "the input was changed"),
}
FAULTY = """
import os, sys, time
sys.path[:0] = [{tests!r}, {checkout!r}]
import audioae, fuzz
from pathlib import Path
from audioae import AudioaeError
def denoise_file(src, dst, **options):
    data = Path(src).read_bytes()
    number = next(n for n in range(10) if fuzz.mutated(fuzz.Case("pcm16", n)) == data)
    exec({faults!r}.get(number, "raise AudioaeError('rejected')"))
audioae.denoise_file = denoise_file
"""


def test_all_kinds_of_faults_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tests = Path(__file__).parent
    code = FAULTY.format(
        tests=str(tests),
        checkout=str(tests.parent),
        faults={number: code for number, (code, _) in FAULTS.items()},
    )
    (tmp_path / "sitecustomize.py").write_text(code)  # Python runs it at start
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    outcomes = list(run([Case("pcm16", number) for number in range(10)], tmp_path, hangs=(1, 8)))
    assert [outcome.case.number for outcome in outcomes if outcome.kind == "failed"] == list(FAULTS)
    assert [
        number for number, (_, reason) in FAULTS.items() if reason not in outcomes[number].reason
    ] == [], outcomes[1:9]
    assert (outcomes[0].kind, outcomes[9].kind) == ("rejected", "rejected")
