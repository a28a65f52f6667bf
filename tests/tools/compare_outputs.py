"""Compare the outputs of two installations of audioae byte for byte.

    python tests/tools/compare_outputs.py OLD_PYTHON NEW_PYTHON

Each case runs `audioae denoise`, `audioae live --from-file` or a `Stream` in both environments on
the recordings in samples/, in an empty folder, and compares all files, stdout and the exit code.
The cases cover every model, every preset and the main options. Prints one row per case; exit codes:
0 all the same, 1 some differ.

`--new-setup CODE` runs Python code in the new environment first, to switch off a change that is
meant to alter the output. `--only TEXT` runs the cases whose name has TEXT in it.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
import wave
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

SAMPLES = Path(__file__).parents[2] / "samples"
MONO, STEREO = SAMPLES / "noisy.wav", SAMPLES / "noisy-44k-stereo.flac"
PRESETS = ("gentle", "strong", "asr")
STREAM = "stream"  # first argument of a case that is no command: model, file, preset
# Runs all cases in one process, each in a folder of its own, with files as stdin and stdout.
DRIVER = """
import json, os, sys
import numpy, soundfile
import audioae
from audioae.cli import main

PRESETS = {"gentle": dict(strength=0.8, max_attenuation_db=12.0), "strong": dict(adapt_noise=True),
    "asr": dict(strength=0.5), "default": {}}

def stream(model, path, preset):
    waveform, rate = soundfile.read(path, dtype="float32", always_2d=True)
    settings = audioae.DenoiseSettings(**PRESETS[preset])
    stream = audioae.Stream(audioae.load_model(model), rate, waveform.shape[1], settings)
    blocks = [stream.push(waveform[at : at + 1000].T) for at in range(0, len(waveform), 1000)]
    numpy.concatenate([*blocks, stream.flush()], -1).tofile("out.f32")

def run(arguments):
    if arguments[0] == "stream":
        return stream(*arguments[1:])
    main(arguments, prog_name="audioae")

cases, root = json.load(open(sys.argv[1])), sys.argv[2]
for number, case in enumerate(cases):
    folder = os.path.join(root, str(number))
    os.makedirs(os.path.join(folder, "files"))
    os.chdir(os.path.join(folder, "files"))
    for descriptor, name, flags in (
        (0, case["stdin"] or os.devnull, os.O_RDONLY),
        (1, os.path.join(folder, "stdout"), os.O_WRONLY | os.O_CREAT),
        (2, os.path.join(folder, "stderr"), os.O_WRONLY | os.O_CREAT),
    ):
        opened = os.open(name, flags)
        os.dup2(opened, descriptor)
        os.close(opened)
    try:
        run(case["arguments"])
        code = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException as error:
        code = repr(error)
    sys.stdout.flush()
    sys.stderr.flush()
    json.dump(code, open(os.path.join(folder, "exit_code"), "w"))
"""


@dataclass(frozen=True)
class Case:
    """One command: its arguments and the file that it reads as stdin."""

    name: str
    arguments: tuple[str, ...]
    stdin: str = ""


@dataclass(frozen=True)
class Output:
    """The result of a case in one environment: exit code, content by file name, last error."""

    exit_code: int | str
    files: dict[str, bytes]
    error: str


def denoise(name: str, source: Path | str, *options: str, out: str = "", stdin: str = "") -> Case:
    out = out or f"out{Path(source).suffix}"
    fixed = ("--progress", "none", "--quiet")
    return Case(name, ("denoise", str(source), out, *options, *fixed), stdin)


def write_raw(folder: Path) -> str:
    """The samples of `MONO` without a header."""
    with wave.open(str(MONO)) as file:
        samples = file.readframes(file.getnframes())
    (folder / "noisy.raw").write_bytes(samples)
    return str(folder / "noisy.raw")


def cases(models: Sequence[str], raw: str) -> Iterator[Case]:
    for model in models:
        which = ("--model", model)
        yield denoise(f"{model}, mono", MONO, *which)
        yield denoise(f"{model}, 44.1 kHz stereo", STEREO, *which)
        for preset in PRESETS:
            yield denoise(f"{model}, preset {preset}", MONO, *which, "--preset", preset)
        for preset in ("default", *PRESETS):
            yield Case(f"{model}, Stream {preset}", (STREAM, model, str(STEREO), preset))
        yield from options(model, raw)


def options(model: str, raw: str) -> Iterator[Case]:
    which = ("--model", model)
    for name, source, *arguments in (
        ("strength", MONO, "--strength", "0.5"),
        ("max attenuation", MONO, "--max-attenuation", "10"),
        ("adapt noise", MONO, "--adapt-noise"),
        ("noise from", MONO, "--noise-from", "0:0.5"),
        ("start and end", MONO, "--start", "1", "--end", "2.5"),
        ("residual", MONO, "--residual", "residual.wav"),
        ("normalize", MONO, "--normalize", "-16LUFS"),
        ("normalize, residual", STEREO, "--normalize", "-16LUFS", "--residual", "residual.flac"),
        ("rescale", STEREO, "--clip-mode", "rescale"),
        ("independent channels", STEREO, "--channels", "independent"),
        ("subtype", MONO, "--subtype", "PCM_24"),
    ):
        yield denoise(f"{model}, {name}", source, *which, *arguments)
    yield denoise(f"{model}, WAV to FLAC", MONO, *which, out="out.flac")
    yield denoise(f"{model}, pipe", "-", *which, out="-", stdin=str(MONO))
    form = ("--raw", "16000:1:PCM_16")
    yield denoise(f"{model}, raw pipe", "-", *which, *form, out="-", stdin=raw)
    folder = ("denoise", str(MONO), str(STEREO), "-O", "out", *which, "--progress", "none", "-q")
    yield Case(f"{model}, folder", folder)
    for source in (MONO, STEREO):
        live = ("live", "--from-file", str(source), "-o", "out.wav", *which, "--progress", "none")
        yield Case(f"{model}, live from {source.name}", live)


def run(python: str, chosen: Sequence[Case], root: Path, setup: str = "") -> list[Output]:
    """Run all cases in one process of an environment."""
    root.mkdir()
    listed = root / "cases.json"
    listed.write_text(json.dumps([asdict(case) for case in chosen]))
    subprocess.run(
        [python, "-P", "-c", f"{setup}\n{DRIVER}", str(listed), str(root)],
        check=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    return [read_output(root / str(number), case) for number, case in enumerate(chosen)]


def read_output(folder: Path, case: Case) -> Output:
    paths = sorted(path for path in (folder / "files").rglob("*") if path.is_file())
    files = {
        path.relative_to(folder / "files").as_posix(): path.read_bytes()
        for path in paths
        if path.suffix in (".wav", ".flac", ".f32")
    }
    if case.arguments[0] == "denoise":  # the summary of `live` has processing times
        files["stdout"] = (folder / "stdout").read_bytes()
    errors = (folder / "stderr").read_text(errors="replace").strip().splitlines()
    return Output(json.loads((folder / "exit_code").read_text()), files, " ".join(errors[-1:]))


def level_of_difference(old: bytes, new: bytes) -> str:
    """The largest difference of two audio files in dBFS, if soundfile can read them."""
    try:
        import numpy
        import soundfile

        one, other = (soundfile.read(io.BytesIO(each), always_2d=True)[0] for each in (old, new))
        peak = numpy.abs(one - other).max()
        return f" (largest difference {20 * numpy.log10(peak):.0f} dBFS)" if peak else " (header)"
    except Exception:  # other lengths, no audio, no soundfile
        return ""


def compare(old: Output, new: Output) -> str:
    """`same`, or what differs."""
    if old.exit_code != new.exit_code:
        error = (new if new.exit_code else old).error
        return f"exit code {old.exit_code}, now {new.exit_code}: {error}"
    if old.exit_code:
        return f"same, exit code {old.exit_code}"
    if old.files.keys() != new.files.keys():
        return f"files {sorted(old.files)}, now {sorted(new.files)}"
    differing = [
        f"{name}{level_of_difference(content, new.files[name])}"
        for name, content in old.files.items()
        if content != new.files[name]
    ]
    return f"different: {', '.join(differing)}" if differing else "same"


def models_of(python: str) -> dict[str, str]:
    """The models of an installation and their sha256."""
    code = "from audioae.cli import main; main(['models', 'list', '--json'])"
    ended = subprocess.run([python, "-P", "-c", code], capture_output=True, check=True, cwd="/")
    return {model["name"]: model["sha256"] for model in json.loads(ended.stdout)}


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("old", metavar="OLD_PYTHON")
    parser.add_argument("new", metavar="NEW_PYTHON")
    parser.add_argument("--new-setup", metavar="CODE", default="", help="run CODE in NEW first")
    parser.add_argument("--only", metavar="TEXT", default="", help="cases with TEXT in their name")
    asked = parser.parse_args()
    old_models, new_models = models_of(asked.old), models_of(asked.new)
    for name in sorted(old_models.keys() | new_models.keys()):
        if old_models.get(name) != new_models.get(name):
            print(f"model {name}: not the same file in both, left out")
    models = [name for name in old_models if old_models[name] == new_models.get(name)]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        chosen = [case for case in cases(models, write_raw(root)) if asked.only in case.name]
        old = run(asked.old, chosen, root / "old")
        new = run(asked.new, chosen, root / "new", asked.new_setup)
    results = [compare(*pair) for pair in zip(old, new, strict=True)]
    for case, output, result in zip(chosen, old, results, strict=True):
        digest = hashlib.sha256(b"".join(output.files.values())).hexdigest()[:8]
        print(f"{case.name:<45} {digest}  {result}")
    num_same = sum(result.startswith("same") for result in results)
    print(f"{num_same} of {len(results)} cases are the same")
    sys.exit(num_same < len(results))


if __name__ == "__main__":
    main()
