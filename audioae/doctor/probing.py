"""Import packages and run models in a process of its own: what each tells, or how it failed, even when it takes the process down."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

PATIENCE = 120  # seconds for one process; a first import from a slow disk takes long
MODEL = "model:"  # a subject that begins so is the path of a model to run
Told = dict[str, Any]


def probe(subjects: Sequence[str]) -> Iterator[tuple[str, Told]]:
    """For each subject in its order what it told; {"error": reason} if it failed.

    Args:
        subjects: names of modules, or "model:PATH".
    """
    left = list(subjects)
    while left:
        answers, end = _run(left)
        yield from answers
        left = left[len(answers) :]
        if left:  # the process ended in the next one
            yield left.pop(0), {"error": end}


def _run(subjects: list[str]) -> tuple[list[tuple[str, Told]], str]:
    """The answers of one process, and how it ended in words."""
    command = [sys.executable, "-P", "-c", "from audioae.doctor.probing import main; main()", *subjects]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    try:
        ended = subprocess.run(command, capture_output=True, env=env, timeout=PATIENCE, encoding="utf-8", errors="replace")
        output, end = ended.stdout, _describe_end(ended.returncode)
    except subprocess.TimeoutExpired as error:
        output, end = (error.stdout or b"").decode("utf-8", "replace"), f"gave no answer within {PATIENCE} s"
    lines = [line for line in output.splitlines() if line.startswith('{"subject": ')]  # packages may print too
    answers = [json.loads(line) for line in lines]
    return [(answer.pop("subject"), answer) for answer in answers], end


def _describe_end(code: int) -> str:
    if code >= 0:
        return f"ended the process with exit code {code}"
    try:
        return f"crashed with {signal.Signals(-code).name}"
    except ValueError:
        return f"crashed with signal {-code}"


def main() -> None:
    """In the process: ask every subject named on the command line and print each answer as a line of JSON."""
    for subject in sys.argv[1:]:
        try:
            told = run_model(Path(subject.removeprefix(MODEL))) if subject.startswith(MODEL) else ask_module(subject)
        except Exception as error:
            told = {"error": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"}
        print(json.dumps({"subject": subject, **told}), flush=True)


def ask_module(name: str) -> Told:
    """Import a module; its version and what else is worth knowing of it."""
    module = importlib.import_module(name)
    more = DETAILS[name](module) if name in DETAILS else {}
    return {"version": str(getattr(module, "__version__", "")), **more}


def _about_soundfile(soundfile: Any) -> Told:
    formats = sorted(soundfile.available_formats())
    return {"libsndfile": soundfile.__libsndfile_version__, "formats": formats, "opus": "OPUS" in soundfile.available_subtypes("OGG")}


def _about_torch(torch: Any) -> Told:
    devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {"cuda": torch.version.cuda, "devices": devices}


def _about_sounddevice(sounddevice: Any) -> Told:
    devices = sounddevice.query_devices()
    ways = {"inputs": "max_input_channels", "outputs": "max_output_channels"}
    return {way: [device["name"] for device in devices if device[key]] for way, key in ways.items()}


DETAILS: dict[str, Callable[[Any], Told]] = {
    "soundfile": _about_soundfile,
    "onnxruntime": lambda onnxruntime: {"providers": onnxruntime.get_available_providers()},
    "torch": _about_torch,
    "av": lambda av: {"ffmpeg": getattr(av, "ffmpeg_version_info", "unknown")},
    "sounddevice": _about_sounddevice,
}


def run_model(path: Path) -> Told:
    """Clean one second of a made-up voice in noise; how many dB lower it came out."""
    import numpy as np

    from audioae.inference import denoise, ready_engine

    engine = ready_engine(path)
    rate = engine.info.stft.sample_rate
    time = np.arange(rate) / rate
    syllables = np.sin(2 * np.pi * 2 * time) ** 2
    voice = sum(np.sin(2 * np.pi * 140 * k * time) / k for k in range(1, 20)) * syllables
    noisy = (0.05 * voice + np.random.default_rng(0).normal(0, 0.02, rate)).astype(np.float32)
    enhanced = denoise(noisy, rate, model=engine)
    if enhanced.shape != noisy.shape:
        return {"error": f"{len(noisy)} samples came out as {len(enhanced)}"}
    if not np.isfinite(enhanced).all():
        return {"error": f"{np.sum(~np.isfinite(enhanced))} of {len(enhanced)} samples came out not finite"}
    power = float(np.mean(enhanced.astype(np.float64) ** 2))
    return {"lower_db": 10 * float(np.log10(np.mean(noisy.astype(np.float64) ** 2) / power)) if power else None}
