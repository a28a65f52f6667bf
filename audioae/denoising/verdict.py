"""Estimates without a reference: how noisy a recording was, how much of it was kept, and whether it
was speech.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from audioae.signal.spectrogram import Array, ComplexArray, StftSettings

Values = npt.NDArray[np.float64]

SEGMENT_SECONDS = 2.0
MAX_HZ = 8000.0  # the regression below was fitted to frequencies up to this one
TINY = 1e-14  # power of a bin; -120 dBFS and less
RANGE_DB = 45.0  # levels further below the loudest frame are set to this distance
LAGS_SECONDS = (0.064, 0.128)  # distances of the frames whose harmonics are compared
SMOOTH_HZ = 250.0  # half the width of the moving average that is subtracted from a spectrum
BAND_EDGES_HZ = np.geomspace(93.75, 8000, 13)  # of the bands whose shares of the power are compared


@dataclass(frozen=True)
class Axes:
    """The axes of a spectrum.

    Args:
        frame_rate: frames per second.
        hertz: frequencies of the bins up to `MAX_HZ`, Hz.
    """

    frame_rate: float
    hertz: Values

    @classmethod
    def of(cls, stft: StftSettings) -> Axes:
        """The axes of an STFT."""
        hertz = np.arange(stft.num_bins) * stft.sample_rate / stft.n_fft
        return cls(stft.sample_rate / stft.hop_length, hertz[hertz <= MAX_HZ])

    @property
    def frames(self) -> int:
        """Number of frames of a segment."""
        return round(SEGMENT_SECONDS * self.frame_rate)


def features(power: Array, kept: Array, axes: Axes) -> Values:
    """The features that distinguish speech from other sound.

    Args:
        power: of a segment of the recording, `[freq, frames]`.
        kept: the power that the model keeps, `[freq, frames]`.
        axes: of the spectra.
    """
    total, left = float(power.sum()) + TINY, float(kept.sum()) + TINY
    level_in, level_out = _levels(power), _levels(kept)
    loud = level_out > -RANGE_DB / 2
    voice = (axes.hertz > 200) & (axes.hertz < 4000)
    return np.array(
        [
            max(10 * math.log10(left / total), -RANGE_DB),
            float(level_out.std()),
            float(level_in.std()),
            _flatness_db(power[:, loud]),
            float(kept[voice].sum()) / left,
            *_persistence(power, loud, axes),
            _colour_change_db(kept[:, loud], axes),
        ]
    )


def _levels(power: Array) -> Values:
    """The level of each frame in dB relative to the loudest."""
    frames = power.sum(axis=0, dtype=np.float64) + TINY
    levels: Values = np.maximum(10 * np.log10(frames / frames.max()), -RANGE_DB)
    return levels


def _flatness_db(power: Array) -> float:
    """Spectral flatness: the ratio of the geometric to the arithmetic mean of the bins, averaged
    over frames, in dB; 0 for a flat spectrum.
    """
    values = power.astype(np.float64) + TINY
    return float((10 * np.log10(values).mean(axis=0) - 10 * np.log10(values.mean(axis=0))).mean())


def _persistence(power: Array, loud: npt.NDArray[np.bool_], axes: Axes) -> list[float]:
    """How little the harmonics move: the correlation of the fine structure of two loud frames
    `LAGS_SECONDS` apart, averaged over frames.
    """
    band = (axes.hertz > 100) & (axes.hertz < 4000)
    fine = _fine_structure(10 * np.log10(power[band].astype(np.float64) + TINY), axes)
    fine /= np.sqrt((fine**2).sum(axis=0)) + 1e-9
    values = []
    for seconds in LAGS_SECONDS:
        lag = max(round(seconds * axes.frame_rate), 1)
        both = loud[lag:] & loud[:-lag]
        values.append(
            float((fine[:, lag:] * fine[:, :-lag]).sum(axis=0)[both].sum() / max(both.sum(), 1))
        )
    return values


def _colour_change_db(kept: Array, axes: Axes) -> float:
    """How much the spectral balance changes, in dB: the standard deviation over frames of the share
    of each band in the power, averaged over bands.
    """
    edges = np.searchsorted(axes.hertz, BAND_EDGES_HZ)
    # Remove duplicates; np.unique would import numpy.ma.
    edges = edges[np.diff(edges, prepend=-1) > 0]
    bands = np.add.reduceat(kept[: edges[-1]], edges[:-1], axis=0, dtype=np.float64) + TINY
    shares = np.maximum(10 * np.log10(bands / (kept.sum(axis=0, dtype=np.float64) + TINY)), -40)
    return float(shares.std(axis=1).mean())


def _fine_structure(decibels: Values, axes: Axes) -> Values:
    """Spectra `[freq, frames]` in dB minus their moving average over frequency.

    Values more than 70 dB below the maximum are raised to that level first.
    """
    decibels = np.maximum(decibels, decibels.max() - 70)
    half = max(round(SMOOTH_HZ / float(axes.hertz[1])), 1)
    padded = np.pad(decibels, ((half + 1, half), (0, 0)), mode="edge").cumsum(axis=0)
    smooth = (padded[2 * half + 1 :] - padded[: -2 * half - 1]) / (2 * half + 1)
    fine: Values = decibels - smooth
    return fine


# Logistic regression on standardised features, in the order of `features`. It was fitted to the
# better half of the segments of 530 clips of 5 to 6 s:
# - speech of the train split of prepared data: clean, reverberant, in noise at -5 to 15 dB, with
#   music;
# - environmental noise, synthetic tones and machines;
# - synthetic music (seven instruments, drums). Music and speech at -5 dB have the largest weights.
# The gains were those of conv1d-16k, conv2d-16k and two checkpoints of speech-16k.
#
# Share of clips with a warning (score above `WARNING_SCORE`) on the valid split, with other
# speakers, other noise and four more instruments, from the best to the worst of these four models:
# - speech: at -5 dB 2 to 5 % of 130 clips, at 0 dB 0 to 2 % of 100; at 5 dB and more, reverberant
#   and clean none;
# - music 97 to 99 % of 90 pieces, tones and machines 88 to 96 % of 24, noise alone 66 to 84 % of
#   120;
# - speech with music at 5 dB: 15 to 30 % of 20.
# The threshold and the class weights were chosen on these clips, so expect slightly worse rates. No
# music was recorded. tests/benchmarks/test_likeness.py measures the rates on clips of its own with
# equal weights for all classes of noise: speech at -5 dB 2 to 10 % of 40 clips, conv1d-16k worst.
MEANS = np.array([-12.2, 12.1, 6.71, -23.5, 0.744, 0.292, 0.224, 7.30])
SCALES = np.array([12.6, 3.77, 4.66, 11.3, 0.285, 0.252, 0.236, 2.24])
WEIGHTS = np.array([3.58, 1.04, -0.387, 0.390, 1.07, -2.05, -0.391, 1.15])
OFFSET = -1.20


def speech_likeness(values: Values) -> float:
    """The probability, 0 to 1, that a segment with these `features` is speech."""
    return float(1 / (1 + np.exp(-(OFFSET + WEIGHTS @ ((values - MEANS) / SCALES)))))


Sums = npt.NDArray[np.float64]

ACTIVE_DB = 30.0  # frames whose kept level is this close to the loudest count as speech
LEVELS_DB = (-180, 180)  # range of the histogram of frame levels
QUIET_DB = 40.0  # a segment this far below the loudest one is a pause and is not counted
MIN_SECONDS = 0.5  # of a segment that the likeness is computed for
WARNING_SCORE = 0.5  # an out-of-domain score from here on gives a warning; rates: see above


@dataclass(frozen=True)
class Verdict:
    """Estimates from the gains of the model, without a reference.

    Args:
        input_snr_db: ratio of the power that the model keeps to the power that it removes. It is 1
            to 3 dB too low, less for better models. None for silence.
        mean_attenuation_db: level of the input minus level of the output.
        max_attenuation_db: the largest attenuation of a frame.
        speech_kept: share of the power of speech frames that is kept, 0 to 1; None for silence.
        out_of_domain: score from 0 (speech, noisy or not) to 1 (not speech); None for less than
            half a second of sound.

    Example:
        >>> Verdict(12.0, 3.5, 41.0, 0.98, 0.03).line
        'input SNR 12 dB, attenuation 3.5 dB, at most 41 dB, speech kept 98 %, out of domain 0.03'
    """

    input_snr_db: float | None
    mean_attenuation_db: float
    max_attenuation_db: float
    speech_kept: float | None
    out_of_domain: float | None

    @property
    def warnings(self) -> tuple[str, ...]:
        """Possible problems of the output, one line each."""
        if self.out_of_domain is None or self.out_of_domain < WARNING_SCORE:
            return ()
        return (
            f"this does not look like speech (out-of-domain score {self.out_of_domain:.2f}); the "
            "output may be worse than the input",
        )

    @property
    def line(self) -> str:
        """A summary in one line."""
        parts = [
            "input SNR "
            + ("unknown" if self.input_snr_db is None else f"{self.input_snr_db:.0f} dB"),
            f"attenuation {self.mean_attenuation_db:.1f} dB, at most "
            f"{self.max_attenuation_db:.0f} dB",
            "speech kept "
            + ("unknown" if self.speech_kept is None else f"{100 * self.speech_kept:.0f} %"),
            "out of domain "
            + ("unknown" if self.out_of_domain is None else f"{self.out_of_domain:.2f}"),
        ]
        return ", ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return dataclasses.asdict(self)


class VerdictMeter:
    """Measures the verdict block by block in constant memory.

    The likeness is computed for segments of two seconds, the rest from a histogram of frame levels.

    Args:
        stft: the STFT of the model.
    """

    def __init__(self, stft: StftSettings) -> None:
        self._axes = Axes.of(stft)
        self._num_bins = len(self._axes.hertz)
        num_levels = LEVELS_DB[1] - LEVELS_DB[0]
        # Input power, kept power and removed power, by the level of what is kept.
        self._sums: Sums = np.zeros((3, num_levels))
        # Number of segments by likeness and level.
        self._likeness: Sums = np.zeros((20, num_levels))
        self._waiting: Array = np.zeros((3, self._num_bins, 0), np.float32)

    def add(self, noisy: ComplexArray, gain: npt.NDArray[Any]) -> None:
        """Add frames.

        Args:
            noisy: the next frames, `[channels, freq, frames]`.
            gain: of the model, `[channels or 1, freq, frames]`.
        """
        noisy, gain = noisy[:, : self._num_bins], gain[:, : self._num_bins]
        kept, removed = noisy * gain, noisy * (1 - gain)
        powers = np.stack(
            [(each.real**2 + each.imag**2).sum(axis=0) for each in (noisy, kept, removed)]
        )
        frames = powers.sum(axis=1, dtype=np.float64)
        levels = _level_index(frames[1])
        for sums, row in zip(self._sums, frames, strict=True):
            sums += np.bincount(levels, row, len(sums))
        self._waiting = np.concatenate([self._waiting, powers], axis=-1)
        size = self._axes.frames
        # Keep the last segment, because the remainder after it may be too short.
        while self._waiting.shape[-1] >= 2 * size:
            self._count(self._waiting[..., :size])
            self._waiting = self._waiting[..., size:]

    def _count(self, segment: Array) -> None:
        """Count a segment by its likeness and its level."""
        total = float(segment[0].sum(dtype=np.float64))
        if total > 0 and segment.shape[-1] >= MIN_SECONDS * self._axes.frame_rate:
            likeness = speech_likeness(features(segment[0], segment[1], self._axes))
            row = min(int(likeness * len(self._likeness)), len(self._likeness) - 1)
            self._likeness[row, _level_index(np.array([total]))[0]] += 1

    def verdict(self, mean_attenuation_db: float, max_attenuation_db: float) -> Verdict:
        """The verdict at the end of the recording."""
        size = self._axes.frames
        for start in range(0, self._waiting.shape[-1], size):
            self._count(self._waiting[..., start : start + size])
        self._waiting = self._waiting[..., :0]
        return Verdict(
            self._input_snr_db(),
            mean_attenuation_db,
            max_attenuation_db,
            self._speech_kept(),
            self._out_of_domain(),
        )

    def _input_snr_db(self) -> float | None:
        _, kept, removed = self._sums.sum(axis=1)
        if kept <= 0 and removed <= 0:
            return None
        return float(np.clip(10 * math.log10(max(kept, 1e-30) / max(removed, 1e-30)), -60, 60))

    def _speech_kept(self) -> float | None:
        found = np.flatnonzero(self._sums[0])
        if not len(found):
            return None
        power, kept, _ = self._sums[:, max(int(found[-1] - ACTIVE_DB), 0) :].sum(axis=1)
        return float(min(kept / power, 1.0))

    def _out_of_domain(self) -> float | None:
        """1 minus the mean likeness of the better half of all segments but pauses; a recording of
        speech also has segments without speech.
        """
        found = np.flatnonzero(self._likeness.sum(axis=0))
        if not len(found):
            return None
        counts = self._likeness[:, max(int(found[-1] - QUIET_DB), 0) :].sum(axis=1)
        half = max(math.ceil(counts.sum() / 2), 1)
        best = np.minimum(counts[::-1].cumsum(), half)
        taken = np.diff(best, prepend=0.0)
        likeness = (np.arange(len(counts))[::-1] + 0.5) / len(counts)
        return float(1 - (taken * likeness).sum() / taken.sum())


def _level_index(power: Sums) -> npt.NDArray[np.int64]:
    decibels = 10 * np.log10(np.maximum(power, 1e-30))
    index: npt.NDArray[np.int64] = np.clip(
        np.rint(decibels) - LEVELS_DB[0], 0, LEVELS_DB[1] - LEVELS_DB[0] - 1
    ).astype(np.int64)
    return index
