"""Fixtures that many tests share: test signals, the samples, and real recordings if available."""

from __future__ import annotations

import multiprocessing
import os
import sys

# Before NumPy and torch load their libraries: one thread per process, also in the processes that
# tests start, so that parallel test workers do not compete for cores.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(name, "1")

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

CHECKOUT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder of synthetic clips."""
    return CHECKOUT / "samples"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real recordings: AUDIOAE_SHARED, or `shared/data` next to the checkout. Tests
    that use it are skipped if there is none.
    """
    folder = Path(os.environ.get("AUDIOAE_SHARED", CHECKOUT.parent / "shared" / "data"))
    if not (folder / "paired.csv").is_file():
        pytest.skip(
            f"no recordings at {folder}; set AUDIOAE_SHARED to a folder with speech.csv, "
            "noise.csv and paired.csv"
        )
    return folder


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def tone() -> Callable[..., np.ndarray]:
    """`tone(hz)` is a sine `[channels, samples]` of RMS 0.1."""

    def make(
        hz: float = 440.0, *, seconds: float = 1.0, sample_rate: int = 16000, channels: int = 1
    ) -> np.ndarray:
        time = np.arange(round(seconds * sample_rate)) / sample_rate
        return np.tile(0.1 * np.sqrt(2) * np.sin(2 * np.pi * hz * time), (channels, 1)).astype(
            np.float32
        )

    return make


@pytest.fixture
def noise(rng: np.random.Generator) -> Callable[..., np.ndarray]:
    """`noise()` is white Gaussian noise `[channels, samples]` of RMS 0.1."""

    def make(*, seconds: float = 1.0, sample_rate: int = 16000, channels: int = 1) -> np.ndarray:
        return 0.1 * rng.standard_normal((channels, round(seconds * sample_rate)), np.float32)

    return make


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared data at 8 kHz: a minute of synthetic speech, noises and a room; see `tiny`."""
    from tiny import prepare_tiny

    return prepare_tiny(tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="session")
def commands() -> Iterator[Path]:
    """A folder for the PATH with a program `audioae` that has its libraries imported already."""
    from command_server import SUPPORTED, CommandServer

    if not SUPPORTED:
        yield Path(sys.executable).parent
        return
    server = CommandServer()
    try:
        yield server.folder
    finally:
        server.close()


@pytest.fixture
def ready_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Worker processes that have the libraries of autoencoders imported: they are forked by the
    server of `multiprocessing`, which imports them once, and otherwise start as with "spawn".
    """
    if "forkserver" in multiprocessing.get_all_start_methods():
        from forking import forking

        context = forking()
        monkeypatch.setattr(multiprocessing, "get_context", lambda method=None: context)
