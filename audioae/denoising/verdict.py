"""What can be said of a cleaned recording without a reference: how noisy it was, what was kept, and
whether it was speech at all.
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
HIGHEST_HZ = 8000.0  # the regression below was fitted to what lies under it
TINY = 1e-14  # of a bin's power; -120 dBFS and less
RANGE_DB = 45.0  # levels further below the loudest frame count as this far
LAGS = (0.064, 0.128)  # seconds over which harmonics are followed
FINE_HZ = (
    250.0  # half the width of the average that is taken off a spectrum so that its harmonics remain
)
COLOURS_HZ = np.geomspace(
    93.75, 8000, 13
)  # edges of the bands whose balance is the colour of a sound


@dataclass(frozen=True)
class Axes:
    """Where frames and bins of a spectrum lie."""

    frame_rate: float
    hertz: Values

    @classmethod
    def of(cls, stft: StftSettings) -> Axes:
        """Those of an STFT, up to `HIGHEST_HZ`."""
        hertz = np.arange(stft.num_bins) * stft.sample_rate / stft.n_fft
        return cls(stft.sample_rate / stft.hop_length, hertz[hertz <= HIGHEST_HZ])

    @property
    def frames(self) -> int:
        """Frames of a segment."""
        return round(SEGMENT_SECONDS * self.frame_rate)


def features(power: Array, kept: Array, axes: Axes) -> Values:
    """The numbers that tell speech from other sound.

    Args:
        power, kept: `[freq, frames]` of a segment: of the recording and of what the model leaves.
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
    """The level of each frame, dB below the loudest."""
    frames = power.sum(axis=0, dtype=np.float64) + TINY
    levels: Values = np.maximum(10 * np.log10(frames / frames.max()), -RANGE_DB)
    return levels


def _flatness_db(power: Array) -> float:
    """The geometric over the arithmetic mean of the bins, averaged over frames, dB: 0 for white
    noise.
    """
    values = power.astype(np.float64) + TINY
    return float((10 * np.log10(values).mean(axis=0) - 10 * np.log10(values.mean(axis=0))).mean())


def _persistence(power: Array, loud: npt.NDArray[np.bool_], axes: Axes) -> list[float]:
    """How far the harmonics of loud frames are where they were `LAGS` before: the correlation of
    spectra less their smooth shape.
    """
    band = (axes.hertz > 100) & (axes.hertz < 4000)
    fine = _fine_structure(10 * np.log10(power[band].astype(np.float64) + TINY), axes)
    fine /= np.sqrt((fine**2).sum(axis=0)) + 1e-9
    values = []
    for seconds in LAGS:
        lag = max(round(seconds * axes.frame_rate), 1)
        both = loud[lag:] & loud[:-lag]
        values.append(
            float((fine[:, lag:] * fine[:, :-lag]).sum(axis=0)[both].sum() / max(both.sum(), 1))
        )
    return values


def _colour_change_db(kept: Array, axes: Axes) -> float:
    """How much the share of each band in a frame changes over frames: the standard deviation,
    averaged over bands, dB.
    """
    edges = np.searchsorted(axes.hertz, COLOURS_HZ)
    edges = edges[
        np.diff(edges, prepend=-1) > 0
    ]  # each once; np.unique would import numpy.ma for it
    bands = np.add.reduceat(kept[: edges[-1]], edges[:-1], axis=0, dtype=np.float64) + TINY
    shares = np.maximum(10 * np.log10(bands / (kept.sum(axis=0, dtype=np.float64) + TINY)), -40)
    return float(shares.std(axis=1).mean())


def _fine_structure(decibels: Values, axes: Axes) -> Values:
    """Spectra `[freq, frames]` less their average over neighbouring frequencies, clipped where
    nothing is.
    """
    decibels = np.maximum(decibels, decibels.max() - 70)
    half = max(round(FINE_HZ / float(axes.hertz[1])), 1)
    padded = np.pad(decibels, ((half + 1, half), (0, 0)), mode="edge").cumsum(axis=0)
    smooth = (padded[2 * half + 1 :] - padded[: -2 * half - 1]) / (2 * half + 1)
    fine: Values = decibels - smooth
    return fine


# Of a logistic regression on standardised features, in the order of `features`, over the better
# half of the segments of 530 clips of 5 to
# 6 s: speech of the train split of prepared data (clean, in rooms, in noise at -5 to 15 dB, with
# music), environmental noise, made tones
# and machines, and made music (seven instruments, drums); music and speech at -5 dB count most.
# Through conv1d-16k, conv2d-16k and two
# checkpoints of speech-16k. Warnings beyond `verdict.SURE` on the valid split, of other speakers
# and noises, and on music with four more
# instruments, from the best to the worst of these four: speech at -5 dB 2 to 5 % of 130 clips, at 0
# dB 0 to 2 % of 100, at 5 dB and more,
# in rooms and clean none; music 97 to 99 % of 90 pieces, tones and machines 88 to 96 % of 24, noise
# alone 66 to 84 % of 120. On speech with
# music 5 dB below it, 15 to 30 % of 20. The limit and the weights of the classes were chosen by
# these clips, so expect somewhat worse.
# No music was recorded. tests/benchmarks/test_likeness.py measures such rates on clips of its own,
# where every class of noise counts alike:
# there speech at -5 dB comes to 2 to 10 % of 40, conv1d-16k last.
MEANS = np.array([-12.2, 12.1, 6.71, -23.5, 0.744, 0.292, 0.224, 7.30])
SCALES = np.array([12.6, 3.77, 4.66, 11.3, 0.285, 0.252, 0.236, 2.24])
WEIGHTS = np.array([3.58, 1.04, -0.387, 0.390, 1.07, -2.05, -0.391, 1.15])
OFFSET = -1.20


def speech_likeness(numbers: Values) -> float:
    """How likely such numbers are those of speech, 0..1."""
    return float(1 / (1 + np.exp(-(OFFSET + WEIGHTS @ ((numbers - MEANS) / SCALES)))))


Sums = npt.NDArray[np.float64]

ACTIVE_DB = 30.0  # frames that the model leaves this close to the loudest hold speech
LEVELS_DB = (-180, 180)  # of frames, in the histogram
QUIET_DB = 40.0  # a segment this far below the loudest one is a pause and judges nothing
SHORTEST_SECONDS = 0.5  # of sound, that a likeness can be told from
# out of domain from here on: a warning; how often it comes on speech and on other sound stands in
# `likeness`
SURE = 0.5


@dataclass(frozen=True)
class Verdict:
    """How a recording fared, by the model's own gains; estimates, for there is no reference.

    Args:
        input_snr_db: power that the model kept over power that it took; reads 1 to 3 dB low, the
            less the better the model; None without sound.
        mean_attenuation_db: level in over level out; max_attenuation_db: the most that any frame
            lost.
        speech_kept: share, 0..1, of the power of the frames with speech that is left; None without
            sound.
        out_of_domain: 0 for speech, noisy or not, to 1 for what is none; None for less than half a
            second of sound.
    """

    input_snr_db: float | None
    mean_attenuation_db: float
    max_attenuation_db: float
    speech_kept: float | None
    out_of_domain: float | None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a listener should know, one line each."""
        if self.out_of_domain is None or self.out_of_domain < SURE:
            return ()
        return (
            f"this does not look like speech (out-of-domain score {self.out_of_domain:.2f}); the "
            "output may be worse than the input",
        )

    @property
    def line(self) -> str:
        """All of it in a line."""
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
        """Plain values, as JSON takes them."""
        return dataclasses.asdict(self)


class Judge:
    """Watches a model at work, in constant memory: segments of two seconds for the likeness, a
    histogram of frame levels for the rest.
    """

    def __init__(self, stft: StftSettings) -> None:
        self._axes = Axes.of(stft)
        self._num_bins = len(self._axes.hertz)
        self._sums: Sums = np.zeros(
            (3, LEVELS_DB[1] - LEVELS_DB[0])
        )  # power in, kept and removed, by the level that is kept
        self._likeness: Sums = np.zeros(
            (20, LEVELS_DB[1] - LEVELS_DB[0])
        )  # segments by likeness and level
        self._waiting: Array = np.zeros((3, self._num_bins, 0), np.float32)

    def add(self, noisy: ComplexArray, gain: npt.NDArray[Any]) -> None:
        """Take the next frames `[channels, freq, frames]` and the model's gains for them, as many
        or one for all channels.
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
        while (
            self._waiting.shape[-1] >= 2 * size
        ):  # the last one is kept: what follows it may be too short to judge
            self._weigh(self._waiting[..., :size])
            self._waiting = self._waiting[..., size:]

    def _weigh(self, segment: Array) -> None:
        """Count a segment by its likeness and its level."""
        total = float(segment[0].sum(dtype=np.float64))
        if total > 0 and segment.shape[-1] >= SHORTEST_SECONDS * self._axes.frame_rate:
            likeness = speech_likeness(features(segment[0], segment[1], self._axes))
            row = min(int(likeness * len(self._likeness)), len(self._likeness) - 1)
            self._likeness[row, _level_index(np.array([total]))[0]] += 1

    def verdict(self, mean_attenuation_db: float, max_attenuation_db: float) -> Verdict:
        """What there is to say at the end of the recording."""
        size = self._axes.frames
        for start in range(0, self._waiting.shape[-1], size):
            self._weigh(self._waiting[..., start : start + size])
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
        """1 less the mean likeness of the better half of the segments that are no pauses: a
        recording with speech has pauses and noises.
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
