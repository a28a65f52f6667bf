"""How fast and how large `audioae denoise` is: start, a short file, a long file, a live stream;
measured by `speed`.

Run with `pytest -s tests/benchmarks/test_denoise_speed.py`. The model is the default one, or
AUDIOAE_DENOISE_MODEL. Times depend on the machine and on what else it does; what is asserted leaves
room for that.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from speed import STARTS, bare_python, denoise, hops, make, quickest

from audioae.denoising import ready_engine
from audioae.pretrained import list_models

MODEL = os.environ.get("AUDIOAE_DENOISE_MODEL")
pytestmark = pytest.mark.skipif(
    not MODEL and not list_models(), reason="no model is shipped; name one in AUDIOAE_DENOISE_MODEL"
)

CLEAN_AND_LIST = """
import sys
from audioae.cli import main
main(["denoise", "-q", *sys.argv[1:]], standalone_mode=False)
print(*sys.modules)
"""


def test_help_starts_at_once() -> None:
    help_run, bare = quickest("--help"), bare_python()
    print(
        f"\n--help: {help_run.seconds:.3f} s, of which {bare.seconds:.3f} s are Python's own start"
    )
    assert help_run.seconds - bare.seconds < 0.15


def test_a_file_of_8_seconds(tmp_path: Path) -> None:
    src = make(tmp_path / "in.wav", seconds=8)
    model = ["--model", MODEL] if MODEL else []
    one = denoise(src, model=MODEL, starts=STARTS)
    listing = [sys.executable, "-c", CLEAN_AND_LIST, src, tmp_path / "again.wav", *model]
    loaded = subprocess.run(listing, capture_output=True, text=True, check=True).stdout.split()
    packages = sorted({name.partition(".")[0] for name in loaded} - set(sys.stdlib_module_names))
    print(f"\n8 s file: {one.seconds:.3f} s, {one.cpu_seconds:.3f} CPU-s, {one.peak_mib:.0f} MiB")
    print(f"{len(loaded)} modules, of {', '.join(packages)}")
    assert one.seconds < 1
    assert one.peak_mib < 150
    assert not {"torch", "librosa", "scipy", "matplotlib", "rich"} & set(packages)


@pytest.mark.parametrize(("hours", "sample_rate", "channels"), [(10, 16000, 1), (2, 48000, 2)])
def test_a_file_of_hours(tmp_path: Path, hours: int, sample_rate: int, channels: int) -> None:
    """Peak memory of hours is that of minutes, and time grows with length; takes minutes of
    processor time and 2.4 GB of disk.
    """
    long, short = 3600 * hours, 360 * hours
    runs = {}
    for seconds in (short, long):
        src = make(tmp_path / "in.wav", seconds=seconds, sample_rate=sample_rate, channels=channels)
        runs[seconds] = denoise(src, model=MODEL)
        assert soundfile.info(tmp_path / "enhanced.wav").frames == seconds * sample_rate
    cost, short_cost = runs[long].cpu_seconds / long, runs[short].cpu_seconds / short
    print(
        f"\n{hours} h at {sample_rate} Hz, {channels} channels: {runs[long].peak_mib:.0f} MiB, "
        f"{cost:.5f} CPU-s per s"
    )
    print(f"a tenth of it: {runs[short].peak_mib:.0f} MiB, {short_cost:.5f} CPU-s per s")
    assert runs[long].peak_mib < 300
    assert runs[long].peak_mib < 1.1 * runs[short].peak_mib + 5
    assert cost < 1.3 * short_cost


def test_a_hop_in_a_live_stream() -> None:
    engine = ready_engine(MODEL)
    typical, late = np.percentile(hops(engine)[0], [50, 99])
    period = 1000 * engine.info.stft.hop_length / engine.info.stft.sample_rate
    print(f"\na hop of {period:.0f} ms: {typical:.3f} ms, 99 % within {late:.3f} ms")
    assert late < period / 2
