"""What a model does above 8 kHz, on noisy/clean pairs of full-band recordings.

    python tests/benchmarks/high_band.py PAIRS.csv [--model NAME] [--quality best]

All measures are of the band from 8 to 20 kHz, in frames of 32 ms every 16 ms:

- Magnitude SNR, dB: sum |S|^2 over sum (|E| - |S|)^2 in frames with speech; E enhanced, S clean.
- Level of sibilants, dB: |E|^2 over |S|^2, of each run of frames whose clean high band is within
  15 dB of its loudest; the mean over all runs and the mean of the lowest tenth.
- Level of pauses, dB: |E|^2 over |S|^2 in frames without speech.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from audioae.signal.spectrogram import Array, StftSettings, stft

LOW_HZ, HIGH_HZ = 8000.0, 20000.0
SPEECH_DB, SIBILANT_DB, PAUSE_DB = 30.0, 15.0, 45.0  # below the 95th percentile of the frames
SILENT = 1e-9  # of the loudest frame's power: digital silence


@dataclass(frozen=True)
class HighBand:
    """Measures of one pair.

    Args:
        magnitude_snr_db: in frames with speech.
        sibilants_db: level of each sibilant.
        pauses_db: level of the pauses; None where there are none.
    """

    magnitude_snr_db: float
    sibilants_db: tuple[float, ...]
    pauses_db: float | None


def measure(enhanced: Array, clean: Array, sample_rate: int) -> HighBand:
    """Compare `[samples]` with their clean side."""
    hop = round(0.016 * sample_rate)
    form = StftSettings(sample_rate, 2 * hop, hop, 2 * hop)
    guess, truth = (np.abs(stft(each, form)).astype(np.float64) for each in (enhanced, clean))
    hertz = np.arange(form.num_bins) * sample_rate / form.n_fft
    high = (hertz > LOW_HZ) & (hertz < HIGH_HZ)
    level = _decibels((truth**2).sum(0))
    high_level = _decibels((truth[high] ** 2).sum(0))
    speech = level > np.percentile(level, 95) - SPEECH_DB
    sibilant = high_level > np.percentile(high_level, 98) - SIBILANT_DB
    pause = level < np.percentile(level, 95) - PAUSE_DB
    error = ((guess - truth)[high][:, speech] ** 2).sum()
    snr = 10 * np.log10((truth[high][:, speech] ** 2).sum() / max(error, 1e-20))
    powers = [(each[high] ** 2).sum(0) for each in (guess, truth)]
    sibilants = tuple(_ratio_db(*(power[run] for power in powers)) for run in _runs(sibilant))
    pauses = _ratio_db(*(power[pause] for power in powers)) if pause.any() else None
    return HighBand(float(snr), sibilants, pauses)


def summarise(rows: list[HighBand]) -> dict[str, float]:
    """Means over pairs, sibilants and pauses."""
    sibilants = np.sort([level for row in rows for level in row.sibilants_db])
    pauses = [row.pauses_db for row in rows if row.pauses_db is not None]
    return {
        "magnitude_snr_db": float(np.mean([row.magnitude_snr_db for row in rows])),
        "sibilants_db": float(sibilants.mean()),
        "worst_tenth_db": float(sibilants[: max(1, len(sibilants) // 10)].mean()),
        "pauses_db": float(np.mean(pauses)),
    }


def _decibels(power: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    decibels: npt.NDArray[np.float64] = 10 * np.log10(power + SILENT * power.max() + 1e-20)
    return decibels


def _ratio_db(power: npt.NDArray[np.float64], reference: npt.NDArray[np.float64]) -> float:
    return float(10 * np.log10((power.sum() + 1e-12) / (reference.sum() + 1e-12)))


def _runs(frames: npt.NDArray[np.bool_]) -> list[slice]:
    """The runs of true frames, two at least."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], frames.astype(int), [0]])))
    runs = zip(edges[::2], edges[1::2], strict=True)
    return [slice(first, last) for first, last in runs if last - first > 1]


def main() -> None:
    """Measure a model, and the noisy side, on a table of pairs."""
    import audioae
    from audioae.audio import read
    from audioae.denoising import DenoiseSettings

    parser = argparse.ArgumentParser(description="What a model does above 8 kHz.")
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--quality", default="best", choices=["fast", "best"])
    options = parser.parse_args()
    settings = DenoiseSettings(quality=options.quality)
    before, after = [], []
    with options.pairs.open(newline="") as table:
        for row in csv.DictReader(table):
            folder = options.pairs.parent
            (noisy, rate), (clean, _) = (read(folder / row[side]) for side in ("noisy", "clean"))
            enhanced = audioae.denoise(noisy[0], rate, model=options.model, settings=settings)
            before.append(measure(noisy[0], clean[0], rate))
            after.append(measure(enhanced, clean[0], rate))
    for name, rows in (("noisy", before), (options.model or "default model", after)):
        print(name, {key: round(value, 2) for key, value in summarise(rows).items()})


if __name__ == "__main__":
    main()
