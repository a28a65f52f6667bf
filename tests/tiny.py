"""Small signals and data sets, which a network is trained on within a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from audioae.data.prepare import PrepareSettings, prepare
from audioae.signal.spectrogram import StftSettings

RATE = 8000
STFT = StftSettings(RATE, 64, 32, 64)  # 33 bins, 250 frames a second
BINS = STFT.num_bins


def noise(num_samples: int, channels: int = 1, *, level: float = 0.1, seed: int = 0) -> np.ndarray:
    """White Gaussian noise of RMS `level`, float32 `[channels, samples]`."""
    rng = np.random.default_rng(seed)
    return rng.normal(0, level, (channels, num_samples)).astype(np.float32)


def voice(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """Synthetic speech `[samples]`: harmonics of a gliding pitch, four syllables per second, pauses
    between words.
    """
    time = np.arange(round(seconds * RATE)) / RATE
    pitch = rng.uniform(90, 220) * (1 + 0.1 * np.sin(2 * np.pi * rng.uniform(0.3, 1) * time))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    tone = sum(np.sin(k * phase + rng.uniform(0, 6)) / k for k in range(1, 15))
    syllables = np.sin(2 * np.pi * 2 * time + rng.uniform(0, 3)) ** 2
    words = np.sin(2 * np.pi * 0.5 * time + rng.uniform(0, 6)) > -0.7
    return 0.1 * tone * syllables * words


def hiss(rng: np.random.Generator, seconds: float, exponent: float) -> np.ndarray:
    """Noise `[samples]` with a magnitude proportional to 1 / f^exponent."""
    spectrum = np.fft.rfft(rng.standard_normal(round(seconds * RATE)))
    spectrum *= np.maximum(np.arange(len(spectrum)), 1.0) ** -exponent
    waveform = np.fft.irfft(spectrum)
    return 0.1 * waveform / waveform.std()


def save(path: Path, waveform: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, waveform, RATE)


def write_tiny(folder: Path) -> None:
    """Write `voices/` with five speakers, `noises/` with four kinds and `rooms/` with one room."""
    rng = np.random.default_rng(0)
    for speaker in range(5):
        for take in range(3):
            save(folder / "voices" / f"speaker{speaker}" / f"{take}.wav", voice(rng, 2.5 + take))
    for kind, exponent in enumerate((0.0, 0.4, 0.8, 0.2)):
        save(folder / "noises" / f"kind{kind}" / "noise.wav", hiss(rng, 5.0, exponent))
    room = np.zeros(RATE // 2)
    room[40] = 0.8  # the direct sound after 5 ms
    room[40 + RATE // 10] = 0.3  # one reflection, 100 ms later
    save(folder / "rooms" / "hall" / "hall.wav", room)


def prepare_tiny(folder: Path) -> Path:
    """Prepare the recordings of `write_tiny` for training; returns the data folder."""
    write_tiny(folder)
    places: dict[str, Any] = {
        role: (str(folder / name),)
        for role, name in (("speech", "voices"), ("noise", "noises"), ("rir", "rooms"))
    }
    data = folder / "data"
    prepare(PrepareSettings(out=str(data), sample_rate=RATE, valid_share=0.25, **places))
    return data
