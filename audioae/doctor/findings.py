"""The examination: packages, formats, devices, models, in rows."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import sys
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from audioae import __version__
from audioae.doctor.probing import MODEL, Told, probe
from audioae.errors import AudioaeError, SettingsError, nearest

CORE = ("numpy", "soundfile", "soxr", "onnxruntime", "click", "rich")
# The packages that each extra of pyproject.toml brings.
EXTRAS = {
    "train": ("torch", "torchaudio", "librosa", "onnx", "onnxscript", "pydantic", "safetensors", "tensorboard"),
    "metrics": ("pesq", "pystoi", "speechmos", "requests", "librosa"),
    "plots": ("matplotlib", "librosa"),
    "media": ("av",),
    "ray": ("ray",),
    "live": ("sounddevice",),
    "serve": ("fastapi", "uvicorn"),
}
IMPORTED = ("torch", "torchaudio", "av", "sounddevice")  # of the extras: those that are known to be there and yet not to work
REINSTALL = "pip install --force-reinstall audioae"
# A wrong build satisfies any version bound, so plain installing would leave it.
MENDS = {
    **dict.fromkeys(("torch", "torchaudio"), "pip install --force-reinstall 'torch>=2.9,<2.12' 'torchaudio>=2.9,<2.12'"),
    "av": "pip install --force-reinstall av",
    "sounddevice": "sudo apt-get install libportaudio2" if sys.platform == "linux" else "pip install --force-reinstall sounddevice",
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Args:
        subject: "system", "core", "formats", "devices", "models", "self-test", or the name of an extra.
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
            raise SettingsError(f"audioae has no extra {extra!r}{nearest(extra, EXTRAS)}; known: {', '.join(EXTRAS)}")
    yield Finding("system", "audioae", "ok", __version__, needed=True)
    yield Finding("system", "python", "ok", f"{platform.python_version()}, {sys.executable}", needed=True)
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
        return Finding("core", name, state, told["error"], needed=True, mend=f"pip install --force-reinstall {name}")
    more = {"soundfile": "libsndfile {libsndfile}", "onnxruntime": "providers {providers}"}.get(name, "")
    details = more.format_map({key: ", ".join(value) if isinstance(value, list) else value for key, value in told.items()})
    return Finding("core", name, "ok", ", ".join(filter(None, [told["version"] or _version(name), details])), needed=True)


def _formats(soundfile: Told) -> Iterator[Finding]:
    if "error" in soundfile:
        return
    yield Finding("formats", "containers", "ok", " ".join(soundfile["formats"]))
    for name, there in {"mp3": "MP3" in soundfile["formats"], "opus": soundfile["opus"]}.items():
        if there:
            yield Finding("formats", name, "ok", "read and written")
        else:
            yield Finding("formats", name, "absent", "libsndfile is too old for it", mend="pip install --upgrade soundfile")
    ffmpeg = shutil.which("ffmpeg")
    yield Finding("formats", "ffmpeg", "ok" if ffmpeg else "absent", ffmpeg or "not on the PATH; audioae itself takes it from PyAV")


def _extra(extra: str, names: tuple[str, ...], told: dict[str, Told], *, needed: bool) -> Iterator[Finding]:
    install = f"pip install 'audioae[{extra}]'"
    if not any(map(_version, names)):
        yield Finding(extra, ", ".join(names), "absent", "not installed", needed, install)
        return
    for name in names:
        version, answer = _version(name), told.get(name, {})
        if not version:
            yield Finding(extra, name, "absent", "not installed", needed, install)
        elif "error" in answer:
            yield Finding(extra, name, "broken", f"{version} does not work here: {answer['error']}", needed, MENDS[name])
        else:
            more = f"FFmpeg {answer['ffmpeg']}" if "ffmpeg" in answer else "imports" if answer else ""
            yield Finding(extra, name, "ok", ", ".join(filter(None, [version, more])), needed)


def _devices(told: dict[str, Told]) -> Iterator[Finding]:
    torch, audio = told.get("torch", {}), told.get("sounddevice", {})
    cuda = torch.get("devices", [])
    if cuda:
        yield Finding("devices", "cuda", "ok", f"{', '.join(cuda)}; CUDA {torch['cuda']} in torch")
    else:
        yield Finding("devices", "cuda", "absent", "torch finds none" if torch else "torch is not there to look")
    providers = told["onnxruntime"].get("providers", [])
    there = "CUDAExecutionProvider" in providers
    install = "" if there or not cuda else "pip install onnxruntime-gpu"
    yield Finding("devices", "onnxruntime", "ok" if there else "absent", "CUDA" if there else "no CUDA, the CPU only", mend=install)
    for way in ("inputs", "outputs"):
        if way in audio:
            yield Finding("devices", f"audio {way}", "ok" if audio[way] else "absent", ", ".join(audio[way]) or "none")


def _models() -> Iterator[Finding]:
    """Every shipped model: is its file the one that was shipped, and does it clean a second of sound?"""
    try:
        from audioae.pretrained import get_entry, list_models, verify_model

        verdicts = [verify_model(entry.name) for entry in list_models()]
        paths = {MODEL + str(get_entry(verdict.name).path): verdict.name for verdict in verdicts if verdict.ok}
    except (AudioaeError, ImportError) as error:
        yield Finding("models", "registry", "broken", str(error), needed=True, mend=REINSTALL)
        return
    if not verdicts:
        yield Finding("models", "registry", "absent", "this package holds no models", needed=True, mend=REINSTALL)
    for verdict in verdicts:
        if verdict.ok:
            yield Finding("models", verdict.name, "ok", f"sha256 {verdict.sha256[:12]}... as shipped", needed=True)
        else:
            yield Finding("models", verdict.name, "broken", "; ".join(verdict.problems), needed=True, mend=REINSTALL)
    for subject, told in probe(list(paths)):
        yield _self_test(paths[subject], told)


def _self_test(name: str, told: Told) -> Finding:
    if "error" in told:
        return Finding("self-test", name, "broken", told["error"], needed=True, mend=REINSTALL)
    lower = "silent" if told["lower_db"] is None else f"{told['lower_db']:.1f} dB lower"
    return Finding("self-test", name, "ok", f"a noisy second came out finite and whole, {lower}", needed=True)


def _version(distribution: str) -> str:
    """The version that a package's metadata tell, or an empty string."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""
