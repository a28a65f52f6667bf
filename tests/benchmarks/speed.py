"""How fast and how large `audioae denoise` is, on one thread: start, short and long files, the
network alone, a live stream, a batch.

Commands run in processes of their own, as users run them, and are started by one that has hardly
any memory: a process that has just been started is charged with the memory of the one that started
it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
from machine import cores, installed_mib

from audioae.denoising import Stream, ready_engine
from audioae.denoising.batch.run import one_thread
from audioae.engine import Engine
from audioae.pretrained import find_model

CHECKOUT = Path(__file__).parents[2]
STARTS = 5  # of which the quickest counts: the others were disturbed
BATCH_FILES, BATCH_SECONDS = 32, 20
BATCH_JOBS = tuple(dict.fromkeys((1, cores())))  # one process, and one per core
PIECE_SECONDS = 4  # that the network is given at once, as `denoise` gives them

LAUNCH = """
import json, os, sys, time
started = time.perf_counter()
nowhere = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
arguments = [sys.executable, *sys.argv[1:]]
process = os.posix_spawn(sys.executable, arguments, os.environ, file_actions=nowhere)
_, status, usage = os.wait4(process, 0)
seconds = time.perf_counter() - started
cpu, memory = usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024
print(json.dumps([os.waitstatus_to_exitcode(status), seconds, cpu, memory]))
"""


@dataclass(frozen=True)
class Run:
    """One run of a command: wall-clock and processor seconds, its processes included, and peak
    resident memory in MiB.
    """

    seconds: float
    cpu_seconds: float
    peak_mib: float


def launch(*arguments: str | Path) -> Run:
    """Run Python with these arguments on one thread, from this checkout, compiled as an installed
    package is; it must succeed.
    """
    with one_thread():
        environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "PYTHONDONTWRITEBYTECODE": ""}
        command = [sys.executable, "-S", "-c", LAUNCH, *map(str, arguments)]
        told = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, check=True, text=True
        ).stdout
    code, *figures = json.loads(told)
    assert code == 0, f"{' '.join(map(str, arguments))} ended with {code}"
    return Run(*figures)


def run(*arguments: str | Path) -> Run:
    """Run `audioae` with these arguments."""
    return launch("-m", "audioae", *arguments)


def quickest(*arguments: str | Path, starts: int = STARTS) -> Run:
    """The run of `audioae` that was disturbed least."""
    return min((run(*arguments) for _ in range(starts)), key=lambda one: one.seconds)


def bare_python(starts: int = STARTS) -> Run:
    """Python that does nothing."""
    return min((launch("-c", "pass") for _ in range(starts)), key=lambda one: one.seconds)


def make(path: Path, *, seconds: int, sample_rate: int = 16000, channels: int = 1) -> Path:
    """A WAV file of noise."""
    rng = np.random.default_rng(0)
    minute = (rng.normal(0, 0.05, (60 * sample_rate, channels)) * 32767).astype(np.int16)
    with soundfile.SoundFile(path, "w", sample_rate, channels, "PCM_16") as sound:
        while seconds > 0:
            sound.write(minute[: min(seconds, 60) * sample_rate])
            seconds -= 60
    return path


def denoise(source: Path, *, model: str | Path | None, starts: int = 1) -> Run:
    """Clean a file into another one beside it."""
    target = source.with_name("enhanced.wav")
    return quickest("denoise", source, target, "--overwrite", "-q", *_named(model), starts=starts)


def hops(engine: Engine, *, seconds: int = 60) -> npt.NDArray[np.float64]:
    """What each hop of a live stream at the model's rate takes, milliseconds by the clock and of
    the processor, `[2, hops]`.
    """
    stft = engine.info.stft
    stream, hop = Stream(engine, stft.sample_rate), stft.hop_length
    waveform = (
        np.random.default_rng(0)
        .normal(0, 0.05, (1, seconds * stft.sample_rate // hop * hop))
        .astype(np.float32)
    )
    taken = []
    for start in range(0, waveform.shape[-1], hop):
        clock, processor = time.perf_counter(), time.process_time()
        stream.push(waveform[:, start : start + hop])
        taken.append((time.perf_counter() - clock, time.process_time() - processor))
    return 1000 * np.array(taken).T


def network(engine: Engine, *, seconds: int = 60) -> float:
    """Processor seconds of the network alone, on spectra of noise at the model's rate."""
    stft = engine.info.stft
    rng, state = np.random.default_rng(0), None
    pieces = rng.normal(
        size=(2, 1, stft.num_bins, PIECE_SECONDS * stft.sample_rate // stft.hop_length)
    ).astype(np.float32)
    spectrum = (pieces[0] + 1j * pieces[1]).astype(np.complex64)
    started = time.process_time()
    for _ in range(seconds // PIECE_SECONDS):
        if is_live(engine):
            _, state = engine.step(spectrum, state)
        else:
            engine.whole(spectrum)
    return time.process_time() - started


def is_live(engine: Engine) -> bool:
    """Whether a model can denoise a live stream."""
    return engine.info.edges != "mirror"


def hop_times(engine: Engine) -> dict[str, float] | None:
    """Median and 99th percentile of `hops`; None for a model that cannot denoise a live stream."""
    if not is_live(engine):
        return None
    clock, processor = hops(engine)
    return {
        "hop_ms": 1000 * engine.info.stft.hop_length / engine.info.stft.sample_rate,
        "median_ms": float(np.median(clock)),
        "p99_ms": float(np.percentile(clock, 99)),
        "cpu_median_ms": float(np.median(processor)),
        "cpu_p99_ms": float(np.percentile(processor, 99)),
    }


def make_batch(folder: Path, *, files: int = BATCH_FILES, seconds: int = BATCH_SECONDS) -> Path:
    """A folder of files of noise."""
    folder.mkdir()
    for number in range(files):
        make(folder / f"{number}.wav", seconds=seconds)
    return folder


def batch(folder: Path, jobs: int, *, model: str | Path | None) -> Run:
    """Clean all files of a folder into another one beside it, in that many processes."""
    target = folder.with_name(f"{folder.name}-{jobs}")
    taken = run("denoise", folder, "-O", target, "-q", "--jobs", str(jobs), *_named(model))
    assert len(list(target.iterdir())) == len(list(folder.iterdir())) + 1  # and the ledger
    return taken


def measure_speed(
    model: str | Path, *, starts: int = STARTS, files: int = BATCH_FILES
) -> dict[str, Any]:
    """All of it for one model, as JSON takes it."""
    engine = ready_engine(model, device="cpu")
    stft = engine.info.stft
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        short, minute = (
            make(folder / f"{seconds}.wav", seconds=seconds, sample_rate=stft.sample_rate)
            for seconds in (8, 60)
        )
        stereo = make(folder / "stereo.wav", seconds=60, sample_rate=48000, channels=2)
        recordings = make_batch(folder / "recordings", files=files)
        return {
            "starts": starts,
            "model_mib": find_model(model).stat().st_size / 2**20,
            "package_mib": installed_mib("audioae"),
            "help": asdict(quickest("--help", starts=starts)),
            "python": asdict(bare_python(starts)),
            "8 s": asdict(denoise(short, model=model, starts=starts)),
            "60 s": asdict(denoise(minute, model=model, starts=starts)),
            "60 s, 48 kHz stereo": asdict(denoise(stereo, model=model, starts=starts)),
            "network": {
                "audio_seconds": 60,
                "cpu_seconds": min(network(engine) for _ in range(starts)),
            },
            "hop": hop_times(engine),
            "batch": {
                "files": files,
                "file_seconds": BATCH_SECONDS,
                "jobs": {
                    str(jobs): asdict(batch(recordings, jobs, model=model)) for jobs in BATCH_JOBS
                },
            },
        }


def _named(model: str | Path | None) -> list[str | Path]:
    return ["--model", model] if model else []
