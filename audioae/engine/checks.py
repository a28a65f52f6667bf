"""Checks of models that may be damaged: the form of the file, and the output of every run.

An ONNX file is a program: it can contain an endless loop or ask for all memory. So a file that is
not in the package is first tried in a child process, with limits of time and memory. The models of
the package are known by their sha256 and are not tried.
"""

from __future__ import annotations

import faulthandler
import functools
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from audioae.errors import (
    CheckpointError,
    DependencyError,
    OtherKindError,
    SettingsError,
    require,
)
from audioae.fields import parse_json
from audioae.pretrained import IS_AUTOENCODER, ModelInfo
from audioae.storage import is_text

if TYPE_CHECKING:
    from audioae.engine import Engine, Gain

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

MAX_GAIN = 1e9  # of a bin; squares of larger ones overflow
MAX_STATE = 2**26  # numbers in a state of one channel

CPU_SECONDS = 3  # for loading and the first runs, which take a usual model a tenth of a second
WALL_SECONDS = 60.0  # on a machine with other work
MEMORY_BYTES = 10**9
# Loading a model takes a few times the size of its file.
MEMORY_PER_FILE_BYTE = 4
SECONDS_WITHOUT_LIMITS = 10.0  # where the system cannot limit the CPU time
CODE = "import sys; from audioae.engine import main; main(sys.argv[1])"


def find_torch_device(torch: Any, device: str) -> str:
    """The name of the device of torch; `DependencyError` if it is "cuda" and there is none."""
    found = torch.cuda.is_available()
    if device == "cuda" and not found:
        raise DependencyError("torch finds no CUDA device; use the device 'cpu'")
    return "cuda" if found and device != "cpu" else "cpu"


def open_session(path: str | Path, device: str, *, plan_memory: bool = True) -> Any:
    """An ONNX Runtime session on one thread.

    Args:
        path: the ONNX file.
        device: "cuda", or the CPU.
        plan_memory: reserve the memory of a run as one block, which is held beside the memory of
            the first run. It makes runs of single frames up to a fifth faster.

    Raises:
        CheckpointError: the file cannot be loaded.
        DependencyError: `device` is "cuda" and this onnxruntime has no CUDA.
    """
    onnxruntime = require("onnxruntime", extra="train")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # no warnings about the graph
    options.enable_mem_pattern = plan_memory
    provider = "CUDAExecutionProvider" if device == "cuda" else "CPUExecutionProvider"
    if provider not in onnxruntime.get_available_providers():
        raise DependencyError(
            "this onnxruntime has no CUDA; use the device 'cpu', or install it with: pip install "
            "onnxruntime-gpu"
        )
    try:
        model = loadable(path)
        return onnxruntime.InferenceSession(model, options, providers=[provider])
    except Exception as error:  # the errors of ONNX Runtime have no common base class
        raise CheckpointError(f"ONNX Runtime cannot load {path} ({first_line(error)})") from error


def loadable(path: str | Path) -> str | bytes:
    """What ONNX Runtime opens: the path, or the content of a file whose name is not valid text.

    Example:
        >>> loadable("model.onnx")
        'model.onnx'
    """
    return str(path) if is_text(path) else Path(path).read_bytes()


def read_metadata(session: Any, path: str | Path) -> dict[str, Any]:
    """The JSON object in the metadata of the file, which `audioae export` wrote."""
    metadata = session.get_modelmeta().custom_metadata_map.get("audioae")
    if metadata is None:
        raise CheckpointError(
            f"{path} has no audioae metadata; make it with: audioae export CHECKPOINT {path}"
        )
    try:
        values = parse_json(metadata)
        if not isinstance(values, dict):
            raise ValueError("expected an object")
    except ValueError as error:
        raise CheckpointError(
            f"{path} has damaged audioae metadata ({error}); export it again"
        ) from error
    return values


def read_info(session: Any, path: str | Path) -> ModelInfo:
    """The properties of a denoiser in the metadata of the file. Raises `CheckpointError`."""
    values = read_metadata(session, path)
    if values.get("kind") == "autoencoder":
        raise OtherKindError(f"{path} {IS_AUTOENCODER}")
    try:
        return ModelInfo.from_dict(values)
    except CheckpointError as error:
        raise CheckpointError(
            f"{path} has damaged audioae metadata ({error}); export it again"
        ) from error


def check_form(session: Any, info: ModelInfo, path: str | Path) -> dict[str, list[int | str]]:
    """Check the names, types and shapes of the inputs and outputs of an ONNX file.

    Returns:
        The shape of each state; the batch size is a name in it.

    Raises:
        CheckpointError: they are others than those of `audioae export`.
    """
    inputs = {each.name: each for each in session.get_inputs()}
    states = {name: each.shape for name, each in inputs.items() if name != "spectrum"}
    outputs = [each.name for each in session.get_outputs()]
    problem = ""
    if "spectrum" not in inputs or any(each.type != "tensor(float)" for each in inputs.values()):
        problem = "it needs an input 'spectrum', and all inputs of type float"
    elif sorted(outputs) != sorted(["gain", *(f"next_{name}" for name in states)]):
        problem = f"its outputs are {', '.join(outputs)[:60]}; expected gain and next_state_*"
    elif not _fits(inputs["spectrum"].shape, [None, 2, info.stft.num_bins, None]):
        problem = (
            f"its spectrum has the shape {inputs['spectrum'].shape}; expected [batch, 2, "
            f"{info.stft.num_bins}, frames]"
        )
    elif states and not info.causal:
        problem = "it has a state and look-ahead or context; expected one of them"
    elif any(_state_size(shape) not in range(1, MAX_STATE) for shape in states.values()):
        problem = f"a state has an impossible size; expected at most {MAX_STATE:,} numbers"
    if problem:
        raise CheckpointError(f"{path} is not a model of audioae: {problem}; export it again")
    return states


def _fits(shape: Sequence[int | str | None], expected: Sequence[int | None]) -> bool:
    """Whether a shape has the expected sizes; names and None stand for any size."""
    return len(shape) == len(expected) and all(
        not isinstance(size, int) or wanted is None or size == wanted
        for size, wanted in zip(shape, expected, strict=True)
    )


def _state_size(shape: Sequence[int | str]) -> int:
    """Number of values in a state of one channel; -1 for a negative size."""
    sizes = [size for size in shape if isinstance(size, int)]
    return math.prod(sizes) if all(size >= 0 for size in sizes) else -1


def check_gain(gain: Any, info: ModelInfo, shape: Sequence[int]) -> None:
    """Compare the shape of the output of a network with that of its input.

    Args:
        gain: the output, of NumPy or torch.
        info: the properties of the model.
        shape: of the input, `[batch, 2, freq, frames]`.

    Raises:
        CheckpointError: it is another one than `[batch, 1 or 2, freq, frames]`.
    """
    expected = [shape[0], 1 if info.gain == "real" else 2, *shape[2:]]
    if list(gain.shape) != expected:
        raise CheckpointError(
            f"model {info.name!r} returns gains of shape {list(gain.shape)}; expected {expected} "
            f"for {shape[-1]} frames; export it again"
        )


def as_engine(value: Any) -> Engine:
    """An argument that is a loaded model. Raises `SettingsError` for anything else."""
    if not isinstance(getattr(value, "info", None), ModelInfo) or not callable(
        getattr(value, "step", None)
    ):
        raise SettingsError(
            f"the model has the type {type(value).__name__}; expected a name, a path or the result "
            "of load_model"
        )
    engine: Engine = value
    return engine


def check_engine(engine: Engine) -> None:
    """Run a model on silence and on noise.

    Raises:
        CheckpointError: the model returns the wrong number of gains, or NaN, infinite or huge ones.
    """
    info = engine.info
    frames = 4 * info.stride + info.lookahead
    for batch, level in ((1, 0.0), (2, 0.1)):
        shape = (2, batch, info.stft.num_bins, frames)
        parts = np.random.default_rng(0).normal(0, level, shape).astype(np.float32)
        spectrum = (parts[0] + 1j * parts[1]).astype(np.complex64)
        gains = [engine.whole(spectrum)]
        if info.edges == "silence":
            first, state = engine.step(spectrum)
            gains += [first, engine.step(spectrum, state)[0]]
        expected = [frames, frames - info.lookahead, frames][: len(gains)]
        if [gain.shape[-1] for gain in gains] != expected:
            raise CheckpointError(f"model {info.name!r} returns a wrong number of gains")
        for gain in gains:
            check_values(gain, info)


def check_values(gain: Gain, info: ModelInfo) -> None:
    """Raise `CheckpointError` if gains are NaN, infinite or above `MAX_GAIN`."""
    if gain.size and not np.abs(gain).max() <= MAX_GAIN:
        raise CheckpointError(
            f"model {info.name!r} returns NaN, infinite or huge gains; train or install it again"
        )


@functools.lru_cache(maxsize=64)
def try_model(path: Path, sha256: str) -> None:
    """Load an ONNX file and run it on silence and noise in a child process.

    Args:
        path: the file.
        sha256: its hash. A file is tried once per process, until its content changes.

    Raises:
        CheckpointError: the model is damaged, takes too long or too much memory, or crashes.
    """
    if getattr(sys, "frozen", False) or not sys.executable:
        return  # an application with Python inside: there is no interpreter to start
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    env = {**os.environ, **threads, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        ended = subprocess.run(
            [sys.executable, "-P", "-c", CODE, str(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=env,
            timeout=WALL_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise _refused(path, f"takes more than {WALL_SECONDS:g} s") from error
    lines = ended.stdout.decode("utf-8", "replace").splitlines()
    answers = [line for line in lines if line.startswith('{"problem": ')]
    if not answers:
        raise _refused(path, _describe_end(ended.returncode))
    if problem := json.loads(answers[-1])["problem"]:
        raise CheckpointError(problem)


def answer(path: Path, check: Callable[[Path], None]) -> None:
    """The child process: run `check` within the limits and print what is wrong with the file."""
    _set_limits(path)
    problem = ""
    try:
        check(path)
    except CheckpointError as error:
        problem = str(error)
    except MemoryError:
        problem = str(_refused(path, f"takes more than {MEMORY_BYTES / 1e9:g} GB of memory"))
    except Exception as error:  # of ONNX Runtime and NumPy, for values that no check expected
        problem = str(_refused(path, f"fails with {type(error).__name__} ({first_line(error)})"))
    print(json.dumps({"problem": problem}), flush=True)
    os._exit(0)  # threads of a runtime that failed cannot delay the end


def _set_limits(path: Path) -> None:
    """Limit the CPU time and the memory of this process, where the system can."""
    if resource is None:
        faulthandler.dump_traceback_later(SECONDS_WITHOUT_LIMITS, exit=True)
        return
    more = MEMORY_BYTES + MEMORY_PER_FILE_BYTE * path.stat().st_size
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(ValueError, OSError):
        used = resource.getrusage(resource.RUSAGE_SELF)
        seconds = math.ceil(used.ru_utime + used.ru_stime) + CPU_SECONDS
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 2))
    with suppress(ValueError, OSError):  # macOS does not limit memory
        size, resident = _memory_pages()
        limit = more + (size - resident) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _memory_pages() -> tuple[int, int]:
    """Size of the address space and of the memory in use, in pages. Raises `OSError`."""
    used, resident = Path("/proc/self/statm").read_text().split()[:2]
    return int(used), int(resident)


def _describe_end(code: int) -> str:
    if code >= 0:
        return f"takes too long or ends the process (exit code {code})"
    with suppress(ValueError):
        name = signal.Signals(-code).name
        if name in ("SIGXCPU", "SIGKILL"):
            return f"takes more than {CPU_SECONDS} s or all memory"
        return f"crashes ONNX Runtime with {name}"
    return f"crashes ONNX Runtime with signal {-code}"


def _refused(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{path} {reason} when it is tried on silence; it is damaged, export it again"
    )


def first_line(error: Exception) -> str:
    """The first line of the message of an error."""
    return str(error).strip().partition("\n")[0]
