"""The examination: packages, formats, devices, models, in rows."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from audioae import __version__
from audioae.errors import AudioaeError, SettingsError, nearest

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
    command = [
        sys.executable,
        "-P",
        "-c",
        "from audioae.cli.machine import main; main()",
        *subjects,
    ]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    try:
        ended = subprocess.run(
            command,
            capture_output=True,
            env=env,
            timeout=PATIENCE,
            encoding="utf-8",
            errors="replace",
        )
        output, end = ended.stdout, _describe_end(ended.returncode)
    except subprocess.TimeoutExpired as error:
        output, end = (
            (error.stdout or b"").decode("utf-8", "replace"),
            f"gave no answer within {PATIENCE} s",
        )
    lines = [
        line for line in output.splitlines() if line.startswith('{"subject": ')
    ]  # packages may print too
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
    """In the process: ask every subject named on the command line and print each answer as a line
    of JSON.
    """
    for subject in sys.argv[1:]:
        try:
            told = (
                run_model(Path(subject.removeprefix(MODEL)))
                if subject.startswith(MODEL)
                else ask_module(subject)
            )
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
    return {
        "libsndfile": soundfile.__libsndfile_version__,
        "formats": formats,
        "opus": "OPUS" in soundfile.available_subtypes("OGG"),
    }


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

    from audioae.denoise import denoise, ready_engine

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
        return {
            "error": f"{np.sum(~np.isfinite(enhanced))} of {len(enhanced)} samples came out not "
            "finite"
        }
    power = float(np.mean(enhanced.astype(np.float64) ** 2))
    return {
        "lower_db": 10 * float(np.log10(np.mean(noisy.astype(np.float64) ** 2) / power))
        if power
        else None
    }


CORE = ("numpy", "soundfile", "soxr", "onnxruntime", "click", "rich")
# The packages that each extra of pyproject.toml brings.
EXTRAS = {
    "train": (
        "torch",
        "torchaudio",
        "librosa",
        "onnx",
        "onnxscript",
        "pydantic",
        "safetensors",
        "tensorboard",
    ),
    "metrics": ("pesq", "pystoi", "speechmos", "requests", "librosa"),
    "plots": ("matplotlib", "librosa"),
    "media": ("av",),
    "ray": ("ray",),
    "live": ("sounddevice",),
    "serve": ("fastapi", "uvicorn"),
}
IMPORTED = (
    "torch",
    "torchaudio",
    "av",
    "sounddevice",
)  # of the extras: those that are known to be there and yet not to work
REINSTALL = "pip install --force-reinstall audioae"
# A wrong build satisfies any version bound, so plain installing would leave it.
MENDS = {
    **dict.fromkeys(
        ("torch", "torchaudio"),
        "pip install --force-reinstall 'torch>=2.9,<2.12' 'torchaudio>=2.9,<2.12'",
    ),
    "av": "pip install --force-reinstall av",
    "sounddevice": "sudo apt-get install libportaudio2"
    if sys.platform == "linux"
    else "pip install --force-reinstall sounddevice",
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Args:
        subject: "system", "core", "formats", "devices", "models", "self-test", or the name of an
            extra.
        state: "ok"; "absent", which is fine for what is not needed; "broken".
        found: a version, a list, a reason.
        needed: without it recordings cannot be cleaned, or it was asked for.
        mend: the command that brings or mends it; empty when it is ok or nothing can be done.
    """

    subject: str
    name: str
    state: Literal["ok", "absent", "broken"]
    found: str
    needed: bool = False
    mend: str = ""

    @property
    def failed(self) -> bool:
        """True if something needed is absent or broken."""
        return self.needed and self.state != "ok"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON takes them."""
        return asdict(self)


def examine(need: Collection[str] = ()) -> Iterator[Finding]:
    """Look at everything, row by row as it is found.

    Args:
        need: extras that are needed too, besides what cleans recordings.
    """
    for extra in need:
        if extra not in EXTRAS:
            raise SettingsError(
                f"audioae has no extra {extra!r}{nearest(extra, EXTRAS)}; known: "
                f"{', '.join(EXTRAS)}"
            )
    yield Finding("system", "audioae", "ok", __version__, needed=True)
    yield Finding(
        "system", "python", "ok", f"{platform.python_version()}, {sys.executable}", needed=True
    )
    yield Finding("system", "machine", "ok", platform.platform())
    told: dict[str, Told] = {}
    for name, answer in probe(CORE):
        told[name] = answer
        yield _core(name, answer)
    yield from _formats(told["soundfile"])
    for name, answer in probe([name for name in IMPORTED if _version(name)]):
        told[name] = answer
    for extra, names in EXTRAS.items():
        yield from _extra(extra, names, told, needed=extra in need)
    yield from _devices(told)
    yield from _models()


def _core(name: str, told: Told) -> Finding:
    if "error" in told:
        state: Literal["absent", "broken"] = "broken" if _version(name) else "absent"
        return Finding(
            "core",
            name,
            state,
            told["error"],
            needed=True,
            mend=f"pip install --force-reinstall {name}",
        )
    more = {"soundfile": "libsndfile {libsndfile}", "onnxruntime": "providers {providers}"}.get(
        name, ""
    )
    details = more.format_map(
        {key: ", ".join(value) if isinstance(value, list) else value for key, value in told.items()}
    )
    return Finding(
        "core",
        name,
        "ok",
        ", ".join(filter(None, [told["version"] or _version(name), details])),
        needed=True,
    )


def _formats(soundfile: Told) -> Iterator[Finding]:
    if "error" in soundfile:
        return
    yield Finding("formats", "containers", "ok", " ".join(soundfile["formats"]))
    for name, there in {"mp3": "MP3" in soundfile["formats"], "opus": soundfile["opus"]}.items():
        if there:
            yield Finding("formats", name, "ok", "read and written")
        else:
            yield Finding(
                "formats",
                name,
                "absent",
                "libsndfile is too old for it",
                mend="pip install --upgrade soundfile",
            )
    ffmpeg = shutil.which("ffmpeg")
    yield Finding(
        "formats",
        "ffmpeg",
        "ok" if ffmpeg else "absent",
        ffmpeg or "not on the PATH; audioae itself takes it from PyAV",
    )


def _extra(
    extra: str, names: tuple[str, ...], told: dict[str, Told], *, needed: bool
) -> Iterator[Finding]:
    install = f"pip install 'audioae[{extra}]'"
    if not any(map(_version, names)):
        yield Finding(extra, ", ".join(names), "absent", "not installed", needed, install)
        return
    for name in names:
        version, answer = _version(name), told.get(name, {})
        if not version:
            yield Finding(extra, name, "absent", "not installed", needed, install)
        elif "error" in answer:
            yield Finding(
                extra,
                name,
                "broken",
                f"{version} does not work here: {answer['error']}",
                needed,
                MENDS[name],
            )
        else:
            more = (
                f"FFmpeg {answer['ffmpeg']}" if "ffmpeg" in answer else "imports" if answer else ""
            )
            yield Finding(extra, name, "ok", ", ".join(filter(None, [version, more])), needed)


def _devices(told: dict[str, Told]) -> Iterator[Finding]:
    torch, audio = told.get("torch", {}), told.get("sounddevice", {})
    cuda = torch.get("devices", [])
    if cuda:
        yield Finding("devices", "cuda", "ok", f"{', '.join(cuda)}; CUDA {torch['cuda']} in torch")
    else:
        yield Finding(
            "devices",
            "cuda",
            "absent",
            "torch finds none" if torch else "torch is not there to look",
        )
    providers = told["onnxruntime"].get("providers", [])
    there = "CUDAExecutionProvider" in providers
    install = "" if there or not cuda else "pip install onnxruntime-gpu"
    yield Finding(
        "devices",
        "onnxruntime",
        "ok" if there else "absent",
        "CUDA" if there else "no CUDA, the CPU only",
        mend=install,
    )
    for way in ("inputs", "outputs"):
        if way in audio:
            yield Finding(
                "devices",
                f"audio {way}",
                "ok" if audio[way] else "absent",
                ", ".join(audio[way]) or "none",
            )


def _models() -> Iterator[Finding]:
    """Every shipped model: is its file the one that was shipped, and does it clean a second of
    sound?
    """
    try:
        from audioae.pretrained import get_entry, list_models, verify_model

        verdicts = [verify_model(entry.name) for entry in list_models()]
        paths = {
            MODEL + str(get_entry(verdict.name).path): verdict.name
            for verdict in verdicts
            if verdict.ok
        }
    except (AudioaeError, ImportError) as error:
        yield Finding("models", "registry", "broken", str(error), needed=True, mend=REINSTALL)
        return
    if not verdicts:
        yield Finding(
            "models",
            "registry",
            "absent",
            "this package holds no models",
            needed=True,
            mend=REINSTALL,
        )
    for verdict in verdicts:
        if verdict.ok:
            yield Finding(
                "models",
                verdict.name,
                "ok",
                f"sha256 {verdict.sha256[:12]}... as shipped",
                needed=True,
            )
        else:
            yield Finding(
                "models",
                verdict.name,
                "broken",
                "; ".join(verdict.problems),
                needed=True,
                mend=REINSTALL,
            )
    for subject, told in probe(list(paths)):
        yield _self_test(paths[subject], told)


def _self_test(name: str, told: Told) -> Finding:
    if "error" in told:
        return Finding("self-test", name, "broken", told["error"], needed=True, mend=REINSTALL)
    lower = "silent" if told["lower_db"] is None else f"{told['lower_db']:.1f} dB lower"
    return Finding(
        "self-test", name, "ok", f"a noisy second came out finite and whole, {lower}", needed=True
    )


def _version(distribution: str) -> str:
    """The version that a package's metadata tell, or an empty string."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""
