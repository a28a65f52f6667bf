"""How fast and how large `audioae denoise` is: start, a short file, a long file, a live stream.

Run with `pytest -s tests/benchmarks/test_denoise_speed.py`. The model is the default one, or AUDIOAE_DENOISE_MODEL. Times depend on the
machine and on what else it does; what is asserted leaves room for that.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audioae.inference import Stream, ready_engine
from audioae.pretrained import list_models

MODEL = os.environ.get("AUDIOAE_DENOISE_MODEL")
pytestmark = pytest.mark.skipif(not MODEL and not list_models(), reason="no model is shipped; name one in AUDIOAE_DENOISE_MODEL")

CLEAN_AND_LIST = """
import sys
from audioae.cli import main
main(["denoise", "-q", *sys.argv[1:]], standalone_mode=False)
print(*sys.modules)
"""
STARTS = 5  # of which the quickest counts: the others were disturbed


@dataclass
class Run:
    """One run of a command: wall-clock and processor seconds, peak resident memory in MiB."""

    seconds: float
    cpu_seconds: float
    peak_mib: float


def run(*arguments: str | Path) -> Run:
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "audioae", *map(str, arguments)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return Run(time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def quickest(*arguments: str | Path) -> Run:
    return min((run(*arguments) for _ in range(STARTS)), key=lambda one: one.seconds)


def make(path: Path, *, seconds: int, sample_rate: int = 16000, channels: int = 1) -> Path:
    rng = np.random.default_rng(0)
    minute = (rng.normal(0, 0.05, (60 * sample_rate, channels)) * 32767).astype(np.int16)
    with soundfile.SoundFile(path, "w", sample_rate, channels, "PCM_16") as sound:
        while seconds > 0:
            sound.write(minute[: min(seconds, 60) * sample_rate])
            seconds -= 60
    return path


def test_help_starts_at_once() -> None:
    help_run = quickest("--help")
    bare = min(_bare_python() for _ in range(STARTS))
    print(f"\n--help: {help_run.seconds:.3f} s, of which {bare:.3f} s are Python's own start")
    assert help_run.seconds - bare < 0.15


def _bare_python() -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.perf_counter() - started


def test_a_file_of_8_seconds(tmp_path: Path) -> None:
    src = make(tmp_path / "in.wav", seconds=8)
    model = ["--model", MODEL] if MODEL else []
    one = quickest("denoise", src, tmp_path / "out.wav", "--overwrite", "-q", *model)
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
    """Peak memory of hours is that of minutes, and time grows with length; takes minutes of processor time and 2.4 GB of disk."""
    long, short = 3600 * hours, 360 * hours
    runs = {}
    for seconds in (short, long):
        src = make(tmp_path / "in.wav", seconds=seconds, sample_rate=sample_rate, channels=channels)
        model = ["--model", MODEL] if MODEL else []
        runs[seconds] = run("denoise", src, tmp_path / "out.wav", "--overwrite", "-q", *model)
        assert soundfile.info(tmp_path / "out.wav").frames == seconds * sample_rate
    cost, short_cost = runs[long].cpu_seconds / long, runs[short].cpu_seconds / short
    print(f"\n{hours} h at {sample_rate} Hz, {channels} channels: {runs[long].peak_mib:.0f} MiB, {cost:.5f} CPU-s per s")
    print(f"a tenth of it: {runs[short].peak_mib:.0f} MiB, {short_cost:.5f} CPU-s per s")
    assert runs[long].peak_mib < 300
    assert runs[long].peak_mib < 1.1 * runs[short].peak_mib + 5
    assert cost < 1.3 * short_cost


def test_a_hop_in_a_live_stream() -> None:
    engine = ready_engine(MODEL)
    stft = engine.info.stft
    stream, hop = Stream(engine, stft.sample_rate), stft.hop_length
    waveform = np.random.default_rng(0).normal(0, 0.05, (1, 60 * stft.sample_rate // hop * hop)).astype(np.float32)
    taken = []
    for start in range(0, waveform.shape[-1], hop):
        started = time.perf_counter()
        stream.push(waveform[:, start : start + hop])
        taken.append(1000 * (time.perf_counter() - started))
    typical, late = np.percentile(taken, [50, 99])
    period = 1000 * hop / stft.sample_rate
    print(f"\na hop of {period:.0f} ms: {typical:.3f} ms, 99 % within {late:.3f} ms, {stream.pending} samples behind")
    assert late < period / 2
