"""Tamper with models, checkpoints and the registry, and denoise with each of them.

    python tests/tools/fuzz_models.py [--cases 300] [--seed 0] [--keep DIR] [--only KIND]

Prints a line for each case that misbehaves, and the counts at the end. A case misbehaves if its
error is internal or has several lines, if its exit code is neither 0 nor 3 (1 for `models verify`),
if a file is left behind, if it takes more than 10 s of CPU time or 1 GB, or if its output has
another length than the input. Needs the extras `train` and `test`, and a system with fork.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from audioae.pretrained import registry

KINDS = ("onnx", "safetensors", "registry")
SHARES = {"onnx": 0.5, "safetensors": 0.3, "registry": 0.2}
BASE = "speech-small-16k"
MAX_SECONDS, MAX_BYTES, HANG_SECONDS = 10.0, 1.2e9, 300.0
NUM_SAMPLES = 8000
# Tried for every field of the metadata.
VALUES: tuple[Any, ...] = (
    None, True, "", "x", "a\x1b[31mb", "9" * 5000, -1, 0, 1, 3, 7.5, 10**6, 10**9, 10**30, 1e300,
    float("nan"), float("inf"), [], [1], [None], {}, {"a": 1}, [[[[]]]], "../../x",
)  # fmt: skip


@dataclass(frozen=True)
class Result:
    """What a case did.

    Args:
        kind, number, change: the case, and what was changed.
        code: exit code; negative for a signal.
        seconds, cpu_seconds: wall time, and CPU time of the process and its children.
        megabytes: peak memory of the process and its children, without what this process held
            when it was forked.
        error: stderr.
        left: files in the folder that should not be there.
        problem: empty if it behaved.
    """

    kind: str
    number: int
    change: str
    code: int
    seconds: float
    cpu_seconds: float
    megabytes: float
    error: str
    left: list[str]
    problem: str


# Changes of bytes and JSON


def damage_bytes(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Flip, cut, insert or remove bytes."""
    how = rng.choice(["flip", "flips", "cut", "insert", "remove", "zero"])
    at, changed = rng.randrange(len(data)), bytearray(data)
    # Half of the changes are at the start or the end, where the structure is.
    if rng.random() < 0.5:
        at = rng.choice([rng.randrange(2000), len(data) - 1 - rng.randrange(2000)]) % len(data)
    if how == "cut":
        return data[:at], f"cut at {at}"
    if how == "insert":
        changed[at:at] = rng.randbytes(rng.randint(1, 50))
    elif how == "remove":
        del changed[at : at + rng.randint(1, 50)]
    elif how == "zero":
        changed[at : at + 200] = bytes(len(changed[at : at + 200]))
    else:
        for _ in range(1 if how == "flip" else 30):
            changed[(at + rng.randrange(100)) % len(changed)] ^= 1 << rng.randrange(8)
    return bytes(changed), f"{how} at {at}"


def places(values: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values in JSON."""
    items = values.items() if isinstance(values, dict) else enumerate(values)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from places(value, (*path, key))


def damage_json(values: Any, rng: random.Random) -> tuple[Any, str]:
    """Replace or remove one value."""
    changed, path = copy.deepcopy(values), rng.choice(list(places(values)))
    parent = changed
    for key in path[:-1]:
        parent = parent[key]
    value = rng.choice(VALUES)
    if rng.random() < 0.1:
        del parent[path[-1]]
        return changed, f"without {'.'.join(map(str, path))}"
    parent[path[-1]] = value
    return changed, f"{'.'.join(map(str, path))} = {value!r:.40}"


# Models


def tamper_onnx(path: Path, rng: random.Random) -> str:
    """Write a damaged ONNX file."""
    import onnx

    data = registry.get_entry(BASE).path.read_bytes()
    how = rng.choice(["bytes", "metadata", "metadata", "metadata", "shape", "node", "weights"])
    if how == "bytes":
        data, change = damage_bytes(data, rng)
        path.write_bytes(data)
        return change
    model = onnx.load_model_from_string(data)
    graph = model.graph
    if how == "metadata":
        entry = next(each for each in model.metadata_props if each.key == "audioae")
        if rng.random() < 0.1:
            entry.value = rng.choice(["", "null", "[" * 100_000, "{}", "\x00", "1e999", '"x"'])
            change = f"metadata {entry.value[:10]!r}"
        else:
            values, change = damage_json(json.loads(entry.value), rng)
            entry.value = json.dumps(values)
    elif how == "shape":
        value = rng.choice([*graph.input, *graph.output])
        sizes = value.type.tensor_type.shape.dim
        size = rng.choice([0, 1, 2, 3, 100, 257, 10**5, 2**40, -1])
        at = rng.randrange(len(sizes))
        sizes[at].dim_value = size
        change = f"shape of {value.name}, size {at} = {size}"
    elif how == "node":
        node = graph.node[rng.randrange(len(graph.node))]
        what = rng.choice(["remove", "type", "swap", "loop", "attribute"])
        change = f"{what} of node {node.name or node.op_type}"
        if what == "remove":
            graph.node.remove(node)
        elif what == "type":
            node.op_type = rng.choice(["Relu", "Transpose", "Nothing", "Shape", "Log", "Neg"])
        elif what == "swap" and len(node.input) > 1:
            node.input[0], node.input[1] = node.input[1], node.input[0]
        elif what == "attribute" and node.attribute:
            node.attribute[0].i = rng.choice([-1, 0, 5, 10**9])
        else:
            node.input.extend([node.output[0]])
    else:
        weights = rng.choice(graph.initializer)
        array = np.array(onnx.numpy_helper.to_array(weights))
        value = rng.choice([np.nan, np.inf, 1e30, -1e38, 0.0])
        if array.dtype.kind == "f":
            array.flat[: rng.choice([1, array.size])] = value
        else:
            array.flat[0] = rng.choice([-1, 0, 10**9])
        weights.CopyFrom(onnx.numpy_helper.from_array(array, weights.name))
        change = f"weights {weights.name[:40]} = {value}"
    path.write_bytes(model.SerializeToString())
    return change


def tamper_safetensors(path: Path, rng: random.Random) -> str:
    """Write a damaged checkpoint: 8 bytes for the length of the JSON header, header, weights."""
    data = registry.get_entry(BASE).path.with_name("weights.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header, weights = json.loads(data[8 : 8 + length]), data[8 + length :]
    how = rng.choice(["bytes", "header", "metadata", "metadata", "metadata", "nan"])
    if how == "bytes":
        data, change = damage_bytes(data, rng)
        path.write_bytes(data)
        return change
    if how == "header":
        about = header.pop("__metadata__")
        header, change = damage_json(header, rng)
        header = {"__metadata__": about, **header} if isinstance(header, dict) else header
    elif how == "metadata":
        about = json.loads(header["__metadata__"]["audioae"])
        part = rng.choice(["network", "stft", ""])
        if part:
            about[part], change = damage_json(about[part], rng)
        else:
            about, change = damage_json(about, rng)
        header["__metadata__"]["audioae"] = json.dumps(about)
        change = f"{part or 'metadata'}: {change}"
    else:
        changed = bytearray(weights)
        at = rng.randrange(len(changed) // 4) * 4
        changed[at : at + 4] = np.float32(rng.choice([np.nan, np.inf, 1e38])).tobytes()
        weights, change = bytes(changed), f"weight at {at}"
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + weights)
    return change


def tamper_registry(folder: Path, rng: random.Random) -> str:
    """Write a weights folder in which the registry, a card or a model is damaged."""
    for name in ("models.json", f"{BASE}/card.json", f"{BASE}/model.onnx"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(registry.WEIGHTS / name, folder / name)
    rows = json.loads((folder / "models.json").read_text(encoding="utf-8"))["models"]
    row = {**rows[BASE], "default": True, "full_band": "", "offline": ""}
    name, values = "models.json", {"models": {BASE: row}}
    if rng.random() < 0.5:
        (folder / name).write_text(json.dumps(values))
        name = f"{BASE}/card.json"
        values = json.loads((folder / name).read_text(encoding="utf-8"))
        row.pop("card_sha256", "")  # so that not the hash, but the values are checked
    file, change = folder / name, ""
    if rng.random() < 0.3:
        data, change = damage_bytes(json.dumps(values).encode(), rng)
        file.write_bytes(data)
    else:
        changed, change = damage_json(values, rng)
        file.write_text(json.dumps(changed))
    if name != "models.json":
        (folder / "models.json").write_text(json.dumps({"models": {BASE: row}}))
    return f"{name}: {change}"


# Running cases


def run_case(kind: str, number: int, seed: int, home: Path) -> Result:
    """Make a case in an empty folder and run a command with it in a child process."""
    rng = random.Random(f"{seed} {kind} {number}")
    folder = home / f"{kind}-{number}"
    folder.mkdir()
    noisy = np.random.default_rng(0).normal(0, 0.05, NUM_SAMPLES)
    soundfile.write(folder / "in.wav", noisy, 16000)
    model = folder / f"x.{kind}"
    command = ["denoise", "-m", str(model), str(folder / "in.wav"), str(folder / "out.wav")]
    weights = registry.WEIGHTS
    if kind == "registry":
        weights = folder / "weights"
        weights.mkdir()
        change = tamper_registry(weights, rng)
        command[2] = BASE
        command = rng.choice(
            [command, ["models", "list"], ["models", "verify"], ["models", "info", BASE]]
        )
    else:
        change = (tamper_onnx if kind == "onnx" else tamper_safetensors)(model, rng)
        if rng.random() < 0.2:
            command = ["models", "info", str(model)]
    there = {path.name for path in folder.iterdir()}
    ended = in_child(lambda: run_command(command, weights), folder)
    found = {path.name for path in folder.iterdir()} - there
    result = Result(kind, number, f"{' '.join(command[:2])}: {change}", *ended, sorted(found), "")
    return Result(**{**asdict(result), "problem": judge(result, command[:2], folder)})


def judge(result: Result, command: list[str], folder: Path) -> str:
    """What is wrong with a result; empty for nothing."""
    lines, allowed = result.error.strip().splitlines(), {0, 3}
    if command == ["models", "verify"]:
        allowed.add(1)
    if result.code not in allowed:
        return f"exit code {result.code}"
    if "internal" in result.error or "Traceback" in result.error:
        return "internal error"
    if result.code == 3 and (len(lines) != 1 or not lines[0].startswith("Error: ")):
        return f"an error of {len(lines)} lines"
    if result.code and result.left:
        return f"left {result.left}"
    if result.code == 0 and command[0] == "denoise":
        frames = soundfile.info(folder / "out.wav").frames if result.left else 0
        if result.left != ["out.wav"] or frames != NUM_SAMPLES:
            return f"left {result.left}, {frames} samples"
    if result.cpu_seconds > MAX_SECONDS:
        return f"{result.cpu_seconds:.1f} s of CPU time"
    return f"{result.megabytes:.0f} MB" if result.megabytes * 1e6 > MAX_BYTES else ""


def run_command(command: list[str], weights: Path) -> int:
    """Run `audioae` in this process, with another weights folder."""
    from audioae.cli import main

    registry.WEIGHTS = weights
    try:
        main(command, prog_name="audioae")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    return 0


def in_child(run: Callable[[], int], folder: Path) -> tuple[int, float, float, float, str]:
    """Call a function in a fork of this process.

    Returns:
        Its exit code, the seconds, CPU seconds and megabytes that it took, and its stderr.
    """
    log, held = folder.with_suffix(".log"), resident_bytes()
    started, pid = time.monotonic(), os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        with log.open("wb") as stderr, open(os.devnull, "wb") as nothing:
            os.dup2(stderr.fileno(), 2)
            os.dup2(nothing.fileno(), 1)
        # pytest replaces these
        sys.stdout, sys.stderr = (open(fd, "w", closefd=False) for fd in (1, 2))  # noqa: SIM115
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        code = 99
        try:
            code = run()
        finally:
            sys.stderr.flush()
            os._exit(code)
    status = usage = None
    while usage is None:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if not done:
            usage = None
            if time.monotonic() - started > HANG_SECONDS:
                os.killpg(pid, signal.SIGKILL)
            time.sleep(0.01)
    seconds = time.monotonic() - started
    code = os.waitstatus_to_exitcode(status or 0)
    text = log.read_text(encoding="utf-8", errors="replace")
    log.unlink()
    cpu_seconds = usage.ru_utime + usage.ru_stime
    return code, seconds, cpu_seconds, max(usage.ru_maxrss * 1024 - held, 0) / 1e6, text


def resident_bytes() -> int:
    """Memory that this process holds now; 0 where the kernel does not tell."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return 0
    return int(pages) * resource.getpagesize()


def run_cases(kind: str, numbers: range, seed: int = 0, keep: Path | None = None) -> list[Result]:
    """Run cases of one kind; the files of those that misbehave are kept in `keep`."""
    import onnxruntime  # noqa: F401  # forks start with everything imported

    import audioae.cli.denoise
    import audioae.cli.models
    import audioae.denoising
    import audioae.engine

    if kind == "safetensors":
        import safetensors.torch  # noqa: F401

        import audioae.models.checkpoint  # noqa: F401
    results = []
    for number in numbers:
        with tempfile.TemporaryDirectory() as home:
            results.append(run_case(kind, number, seed, Path(home)))
            if keep and results[-1].problem:
                shutil.copytree(home, keep, dirs_exist_ok=True)
    return results


def main() -> None:
    """Run all cases and print those that misbehave, and the counts."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the files of cases that misbehave")
    parser.add_argument("--only", choices=KINDS)
    options = parser.parse_args()
    results = []
    for kind in (options.only,) if options.only else KINDS:
        count = round(options.cases * (1 if options.only else SHARES[kind]))
        for number in range(count):
            result = run_cases(kind, range(number, number + 1), options.seed, options.keep)[0]
            results.append(result)
            if result.problem:
                print(json.dumps(asdict(result)), flush=True)
    codes = Counter((each.kind, each.code) for each in results)
    for (kind, code), count in sorted(codes.items()):
        print(f"{kind}: {count} with exit code {code}")
    slowest = max(results, key=lambda each: each.cpu_seconds)
    largest = max(results, key=lambda each: each.megabytes)
    print(
        f"slowest: {slowest.cpu_seconds:.1f} s of CPU time, {slowest.seconds:.1f} s, "
        f"{slowest.kind} {slowest.number}, {slowest.change}"
    )
    print(f"largest: {largest.megabytes:.0f} MB, {largest.kind} {largest.number}")
    print(f"internal errors: {sum('internal' in each.error for each in results)}")
    bad = [each for each in results if each.problem]
    print(f"{len(bad)} of {len(results)} misbehave")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
