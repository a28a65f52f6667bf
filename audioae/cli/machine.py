"""The checks of `audioae doctor`: packages, file formats, devices and models, one row each.

Packages are imported and models are run in a child process, so that a crash, a hang or a package
that prints does not affect the report.
"""

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
from typing import TYPE_CHECKING, Any, Literal

from audioae import __version__
from audioae.errors import REPAIR_COMMANDS, AudioaeError, SettingsError, nearest

if TYPE_CHECKING:
    from audioae.engine import Engine
    from audioae.engine.codecs import CodecEngine

TIMEOUT_SECONDS = 120  # for one child process; a first import from a slow disk takes long
MODEL = "model:"  # prefix of a subject that is the path of a model
Answer = dict[str, Any]

CORE = ("numpy", "soundfile", "soxr", "onnxruntime", "click", "rich")
# The packages of each extra in pyproject.toml.
EXTRAS = {
    name: tuple(packages.split())
    for name, packages in {
        "train": "torch torchaudio librosa onnx onnxscript pydantic safetensors tensorboard",
        "metrics": "pesq pystoi speechmos requests librosa jiwer",
        "plots": "matplotlib librosa",
        "tasks": "scikit-learn librosa matplotlib pyarrow constriction",
        "umap": "umap-learn",
        "media": "av",
        "ray": "ray",
        "live": "sounddevice",
        "serve": "fastapi uvicorn python-multipart",
    }.items()
}
# Packages of extras that may be installed and still fail to import.
IMPORTED = ("torch", "torchaudio", "av", "sounddevice")
REINSTALL = "pip install --force-reinstall audioae"

State = Literal["ok", "absent", "broken"]


@dataclass(frozen=True)
class SystemCheck:
    """The result of one check.

    Args:
        subject: "system", "core", "formats", "devices", "models", "self-test", or the name of an
            extra.
        name: the package, format, device or model.
        state: "ok"; "absent", which is fine if it is not needed; "broken".
        found: a version, a list or a reason.
        needed: denoising files, or an extra that was asked for, does not work without it.
        mend: the command that installs or repairs it; empty if it is ok or there is none.

    Example:
        >>> check = SystemCheck("media", "av", "absent", "not installed")
        >>> check.failed, check.to_dict()["state"]
        (False, 'absent')
    """

    subject: str
    name: str
    state: State
    found: str
    needed: bool = False
    mend: str = ""

    @property
    def failed(self) -> bool:
        """True if it is needed and absent or broken."""
        return self.needed and self.state != "ok"

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return asdict(self)


def examine(need: Collection[str] = ()) -> Iterator[SystemCheck]:
    """Run all checks and yield each result when it is known.

    Args:
        need: extras that are needed in addition to the core packages.

    Raises:
        SettingsError: `need` has an extra that does not exist.

    Example:
        >>> next(examine()).name
        'audioae'
    """
    for extra in need:
        if extra not in EXTRAS:
            raise SettingsError(
                f"audioae has no extra {extra!r}{nearest(extra, EXTRAS)}; known: "
                f"{', '.join(EXTRAS)}"
            )
    python = f"{platform.python_version()}, {sys.executable}"
    yield SystemCheck("system", "audioae", "ok", __version__, needed=True)
    yield SystemCheck("system", "python", "ok", python, needed=True)
    yield SystemCheck("system", "machine", "ok", platform.platform())
    answers: dict[str, Answer] = {}
    for name, answer in probe(CORE):
        answers[name] = answer
        yield _check_core(name, answer)
    yield from _check_formats(answers["soundfile"])
    answers.update(probe([name for name in IMPORTED if _version(name)]))
    for extra, names in EXTRAS.items():
        yield from _check_extra(extra, names, answers, needed=extra in need)
    yield from _check_devices(answers)
    yield from _check_models()


def probe(subjects: Sequence[str]) -> Iterator[tuple[str, Answer]]:
    """Import modules and run models in a child process; a new one after each crash.

    Args:
        subjects: names of modules, or "model:PATH".

    Yields:
        Each subject in order with its answer, or with `{"error": reason}` if it failed.

    Example:
        >>> dict(probe(["json", "no_such_module"]))["no_such_module"]
        {'error': "ModuleNotFoundError: No module named 'no_such_module'"}
    """
    left = list(subjects)
    while left:
        answers, end = _run_child(left)
        yield from answers
        left = left[len(answers) :]
        if left:  # the process ended while it worked on this one
            yield left.pop(0), {"error": end}


def _run_child(subjects: list[str]) -> tuple[list[tuple[str, Answer]], str]:
    """The answers of one child process, and how it ended."""
    code = "from audioae.cli.machine import main; main()"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    try:
        ended = subprocess.run(
            [sys.executable, "-P", "-c", code, *subjects],
            capture_output=True,
            env=env,
            timeout=TIMEOUT_SECONDS,
            encoding="utf-8",
            errors="replace",
        )
        output, end = ended.stdout, _describe_end(ended.returncode)
    except subprocess.TimeoutExpired as error:
        output = (error.stdout or b"").decode("utf-8", "replace")
        end = f"gave no answer within {TIMEOUT_SECONDS} s"
    # Packages may print too.
    lines = [line for line in output.splitlines() if line.startswith('{"subject": ')]
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
    """The child process: print the answer for each argument as a line of JSON."""
    for subject in sys.argv[1:]:
        try:
            if subject.startswith(MODEL):
                answer = run_model(Path(subject.removeprefix(MODEL)))
            else:
                answer = ask_module(subject)
        except Exception as error:
            first_line = (str(error).splitlines() or [""])[0]
            answer = {"error": f"{type(error).__name__}: {first_line}"}
        print(json.dumps({"subject": subject, **answer}), flush=True)


def ask_module(name: str) -> Answer:
    """Import a module and return its version and further details.

    Example:
        >>> ask_module("math")
        {'version': ''}
    """
    module = importlib.import_module(name)
    details = DETAILS[name](module) if name in DETAILS else {}
    return {"version": str(getattr(module, "__version__", "")), **details}


def _about_soundfile(soundfile: Any) -> Answer:
    formats = sorted(soundfile.available_formats())
    return {
        "libsndfile": soundfile.__libsndfile_version__,
        "formats": formats,
        "opus": "OPUS" in soundfile.available_subtypes("OGG"),
    }


def _about_torch(torch: Any) -> Answer:
    devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {"cuda": torch.version.cuda, "devices": devices}


def _about_sounddevice(sounddevice: Any) -> Answer:
    devices = sounddevice.query_devices()
    keys = {"inputs": "max_input_channels", "outputs": "max_output_channels"}
    return {way: [device["name"] for device in devices if device[key]] for way, key in keys.items()}


DETAILS: dict[str, Callable[[Any], Answer]] = {
    "soundfile": _about_soundfile,
    "onnxruntime": lambda onnxruntime: {"providers": onnxruntime.get_available_providers()},
    "torch": _about_torch,
    "av": lambda av: {"ffmpeg": getattr(av, "ffmpeg_version_info", "unknown")},
    "sounddevice": _about_sounddevice,
}


def run_model(path: Path) -> Answer:
    """The self-test of a model of either kind."""
    from audioae.engine import load_any
    from audioae.pretrained import CodecInfo

    model: Any = load_any(path)
    return _run_codec(model) if isinstance(model.info, CodecInfo) else _run_denoiser(model)


def _run_codec(codec: CodecEngine) -> Answer:
    """Encode and decode random features; returns the number of values of the code."""
    import numpy as np

    info = codec.info
    shape = (1, info.features.num_bins, 4 * info.stride)
    code = codec.encode(np.random.default_rng(0).uniform(0, 1, shape).astype(np.float32))
    features = codec.decode(code)
    if features.shape != shape:
        return {"error": f"expected features of shape {list(shape)}, got {list(features.shape)}"}
    if not np.isfinite(features).all():
        return {"error": "its features are not finite"}
    return {"code_values": code.size}


def _run_denoiser(engine: Engine) -> Answer:
    """Denoise one second of synthetic speech in noise; returns how many dB lower the output is."""
    import numpy as np

    from audioae.denoising import denoise

    rate = engine.info.stft.sample_rate
    time = np.arange(rate) / rate
    syllables = np.sin(2 * np.pi * 2 * time) ** 2
    voice = sum(np.sin(2 * np.pi * 140 * k * time) / k for k in range(1, 20)) * syllables
    noisy = (0.05 * voice + np.random.default_rng(0).normal(0, 0.02, rate)).astype(np.float32)
    enhanced = denoise(noisy, rate, model=engine)
    if enhanced.shape != noisy.shape:
        return {"error": f"expected {len(noisy)} samples, got {len(enhanced)}"}
    bad = np.sum(~np.isfinite(enhanced))
    if bad:
        return {"error": f"{bad} of {len(enhanced)} output samples are not finite"}
    power_in, power_out = (np.mean(each.astype(np.float64) ** 2) for each in (noisy, enhanced))
    return {"lower_db": 10 * float(np.log10(power_in / power_out)) if power_out else None}


def _check_core(name: str, answer: Answer) -> SystemCheck:
    if "error" in answer:
        state: State = "broken" if _version(name) else "absent"
        repair = f"pip install --force-reinstall {name}"
        return SystemCheck("core", name, state, answer["error"], needed=True, mend=repair)
    found = [answer["version"] or _version(name)]
    if name == "soundfile":
        found.append(f"libsndfile {answer['libsndfile']}")
    if name == "onnxruntime":
        found.append(f"providers {', '.join(answer['providers'])}")
    return SystemCheck("core", name, "ok", ", ".join(filter(None, found)), needed=True)


def _check_formats(soundfile: Answer) -> Iterator[SystemCheck]:
    if "error" in soundfile:
        return
    yield SystemCheck("formats", "containers", "ok", " ".join(soundfile["formats"]))
    supported = {"mp3": "MP3" in soundfile["formats"], "opus": soundfile["opus"]}
    old, upgrade = "not supported by this libsndfile", "pip install --upgrade soundfile"
    for name, there in supported.items():
        if there:
            yield SystemCheck("formats", name, "ok", "read and write")
        else:
            yield SystemCheck("formats", name, "absent", old, mend=upgrade)
    if ffmpeg := shutil.which("ffmpeg"):
        yield SystemCheck("formats", "ffmpeg", "ok", ffmpeg)
    else:
        unused = "not on the PATH; not needed, audioae uses the FFmpeg in PyAV"
        yield SystemCheck("formats", "ffmpeg", "absent", unused)


def _check_extra(
    extra: str, names: tuple[str, ...], answers: dict[str, Answer], *, needed: bool
) -> Iterator[SystemCheck]:
    install = f"pip install 'audioae[{extra}]'"
    if not any(map(_version, names)):
        yield SystemCheck(extra, ", ".join(names), "absent", "not installed", needed, install)
        return
    for name in names:
        version, answer = _version(name), answers.get(name, {})
        if not version:
            yield SystemCheck(extra, name, "absent", "not installed", needed, install)
        elif "error" in answer:
            reason = f"{version} does not work: {answer['error']}"
            yield SystemCheck(extra, name, "broken", reason, needed, REPAIR_COMMANDS[name])
        else:
            details = f"FFmpeg {answer['ffmpeg']}" if "ffmpeg" in answer else ""
            if answer and not details:
                details = "imports"
            found = ", ".join(filter(None, [version, details]))
            yield SystemCheck(extra, name, "ok", found, needed)


def _check_devices(answers: dict[str, Answer]) -> Iterator[SystemCheck]:
    torch, audio = answers.get("torch", {}), answers.get("sounddevice", {})
    cuda = torch.get("devices", [])
    if cuda:
        found = f"{', '.join(cuda)}; CUDA {torch['cuda']} in torch"
        yield SystemCheck("devices", "cuda", "ok", found)
    else:
        reason = "torch finds no GPU" if torch else "unknown, torch is not installed"
        yield SystemCheck("devices", "cuda", "absent", reason)
    if "CUDAExecutionProvider" in answers["onnxruntime"].get("providers", []):
        yield SystemCheck("devices", "onnxruntime", "ok", "CUDA")
    else:
        install = "pip install onnxruntime-gpu" if cuda else ""
        yield SystemCheck("devices", "onnxruntime", "absent", "CPU only", mend=install)
    for way in ("inputs", "outputs"):
        if way in audio:
            state: State = "ok" if audio[way] else "absent"
            found = ", ".join(audio[way]) or "none"
            yield SystemCheck("devices", f"audio {way}", state, found)


def _check_models() -> Iterator[SystemCheck]:
    """Compare every model in the package with its sha256, and run those that are intact."""
    try:
        from audioae.pretrained import get_entry, list_models, verify_model

        checks = [verify_model(entry.name) for entry in list_models()]
        subjects = {MODEL + str(get_entry(each.name).path): each.name for each in checks if each.ok}
    except (AudioaeError, ImportError) as error:
        yield _model_check("registry", "broken", str(error))
        return
    if not checks:
        yield _model_check("registry", "absent", "this package holds no models")
    for check in checks:
        if check.ok:
            yield _model_check(check.name, "ok", f"sha256 {check.sha256[:12]}... matches")
        else:
            yield _model_check(check.name, "broken", "; ".join(check.problems))
    for subject, answer in probe(list(subjects)):
        yield _self_test(subjects[subject], answer)


def _model_check(name: str, state: State, found: str) -> SystemCheck:
    repair = "" if state == "ok" else REINSTALL
    return SystemCheck("models", name, state, found, needed=True, mend=repair)


def _self_test(name: str, answer: Answer) -> SystemCheck:
    if "error" in answer:
        error = answer["error"]
        return SystemCheck("self-test", name, "broken", error, needed=True, mend=REINSTALL)
    if "code_values" in answer:
        found = f"the features from {answer['code_values']} code values are complete and finite"
    else:
        lower = answer["lower_db"]
        level = "silent" if lower is None else f"{lower:.1f} dB lower"
        found = f"the output for 1 s of noisy speech is complete, finite and {level}"
    return SystemCheck("self-test", name, "ok", found, needed=True)


def _version(distribution: str) -> str:
    """The version in a package's metadata, or an empty string."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""
