"""Draw the spectrograms of a noisy and an enhanced file side by side.

python docs/draw_spectrogram.py samples/noisy.wav enhanced.wav docs/spectrogram.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import librosa
import librosa.display
import matplotlib
import numpy as np

from audioae.audio import read

matplotlib.use("Agg")
from matplotlib import pyplot as plt

RANGE_DB = 80  # dynamic range of the colours, below the loudest bin of the noisy file


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("noisy", type=Path)
    parser.add_argument("enhanced", type=Path)
    parser.add_argument("picture", type=Path, help="file to write, such as spectrogram.png")
    draw(**vars(parser.parse_args()))


def draw(noisy: Path, enhanced: Path, picture: Path) -> None:
    """Write a picture of the spectrograms of the first channels, with one colour scale."""
    recordings = {path.name: read(path) for path in (noisy, enhanced)}
    levels = {name: levels_db(waveform[0]) for name, (waveform, _) in recordings.items()}
    top = float(levels[noisy.name].max())
    figure, axes = plt.subplots(1, 2, figsize=(11, 3.4), sharey=True, layout="constrained")
    for axis, (name, level) in zip(axes, levels.items(), strict=True):
        image = librosa.display.specshow(
            level,
            sr=recordings[name][1],
            hop_length=256,
            x_axis="time",
            y_axis="linear",
            ax=axis,
            cmap="magma",
            vmin=top - RANGE_DB,
            vmax=top,
        )
        axis.set(title=name, ylabel="frequency, Hz" if axis is axes[0] else "", xlabel="time, s")
    figure.colorbar(image, ax=axes, format="%+.0f dB", pad=0.01)
    figure.savefig(picture, dpi=110)


def levels_db(waveform: np.ndarray) -> np.ndarray:
    """Magnitude of the STFT in dB, `[bins, frames]`."""
    spectrum = np.abs(librosa.stft(waveform, n_fft=1024, hop_length=256))
    levels: np.ndarray = librosa.amplitude_to_db(spectrum, ref=1.0, amin=1e-6, top_db=None)
    return levels


if __name__ == "__main__":
    main()
