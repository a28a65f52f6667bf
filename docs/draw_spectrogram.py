"""Draw a recording before and after: `python docs/draw_spectrogram.py samples/noisy.wav
enhanced.wav docs/spectrogram.png`.
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

RANGE_DB = 80  # shown below the loudest bin of the first file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("picture", type=Path)
    draw(**vars(parser.parse_args()))


def draw(before: Path, after: Path, picture: Path) -> None:
    """Write a picture of the first channels' spectrograms, both on one scale."""
    (first, rate), (second, _) = read(before), read(after)
    levels = [levels_db(waveform[0]) for waveform in (first, second)]
    top = float(levels[0].max())
    figure, axes = plt.subplots(1, 2, figsize=(11, 3.4), sharey=True, layout="constrained")
    for axis, level, title in zip(axes, levels, ("before", "after"), strict=True):
        image = librosa.display.specshow(
            level,
            sr=rate,
            hop_length=256,
            x_axis="time",
            y_axis="linear",
            ax=axis,
            cmap="magma",
            vmin=top - RANGE_DB,
            vmax=top,
        )
        axis.set(title=title, ylabel="frequency, Hz" if axis is axes[0] else "", xlabel="time, s")
    figure.colorbar(image, ax=axes, format="%+.0f dB", pad=0.01)
    figure.savefig(picture, dpi=110)


def levels_db(waveform: np.ndarray) -> np.ndarray:
    """`[freq, frames]`, dB of the magnitude of the STFT."""
    spectrum = np.abs(librosa.stft(waveform, n_fft=1024, hop_length=256))
    levels: np.ndarray = librosa.amplitude_to_db(spectrum, ref=1.0, amin=1e-6, top_db=None)
    return levels


if __name__ == "__main__":
    main()
