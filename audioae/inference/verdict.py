"""What can be said of a cleaned recording without a reference: how noisy it was, what was kept, and whether it was speech at all."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from audioae.inference.likeness import Axes, features, speech_likeness
from audioae.spectrogram import Array, ComplexArray, StftSettings

Sums = npt.NDArray[np.float64]

ACTIVE_DB = 30.0  # frames that the model leaves this close to the loudest hold speech
LEVELS_DB = (-180, 180)  # of frames, in the histogram
QUIET_DB = 40.0  # a segment this far below the loudest one is a pause and judges nothing
SHORTEST_SECONDS = 0.5  # of sound, that a likeness can be told from
SURE = 0.5  # out of domain from here on: a warning; how often it comes on speech and on other sound stands in `likeness`


@dataclass(frozen=True)
class Verdict:
    """How a recording fared, by the model's own gains; estimates, for there is no reference.

    Args:
        input_snr_db: power that the model kept over power that it took; reads 1 to 3 dB low, the less the better the model; None without
            sound.
        mean_attenuation_db: level in over level out; max_attenuation_db: the most that any frame lost.
        speech_kept: share, 0..1, of the power of the frames with speech that is left; None without sound.
        out_of_domain: 0 for speech, noisy or not, to 1 for what is none; None for less than half a second of sound.
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
        return (f"this does not look like speech (out-of-domain score {self.out_of_domain:.2f}); the output may be worse than the input",)

    @property
    def line(self) -> str:
        """All of it in a line."""
        parts = [
            "input SNR " + ("unknown" if self.input_snr_db is None else f"{self.input_snr_db:.0f} dB"),
            f"attenuation {self.mean_attenuation_db:.1f} dB, at most {self.max_attenuation_db:.0f} dB",
            "speech kept " + ("unknown" if self.speech_kept is None else f"{100 * self.speech_kept:.0f} %"),
            "out of domain " + ("unknown" if self.out_of_domain is None else f"{self.out_of_domain:.2f}"),
        ]
        return ", ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON takes them."""
        return dataclasses.asdict(self)


class Judge:
    """Watches a model at work, in constant memory: segments of two seconds for the likeness, a histogram of frame levels for the rest."""

    def __init__(self, stft: StftSettings) -> None:
        self._axes = Axes.of(stft)
        self._sums: Sums = np.zeros((3, LEVELS_DB[1] - LEVELS_DB[0]))  # power in, kept and removed, by the level that is kept
        self._likeness: Sums = np.zeros((20, LEVELS_DB[1] - LEVELS_DB[0]))  # segments by likeness and level
        self._waiting: Array = np.zeros((3, stft.num_bins, 0), np.float32)

    def add(self, noisy: ComplexArray, gain: npt.NDArray[Any]) -> None:
        """Take the next frames `[channels, freq, frames]` and the model's gains for them, as many or one for all channels."""
        kept, removed = noisy * gain, noisy * (1 - gain)
        powers = np.stack([(each.real**2 + each.imag**2).sum(axis=0) for each in (noisy, kept, removed)])
        frames = powers.sum(axis=1, dtype=np.float64)
        levels = _level_index(frames[1])
        for sums, row in zip(self._sums, frames, strict=True):
            sums += np.bincount(levels, row, len(sums))
        self._waiting = np.concatenate([self._waiting, powers], axis=-1)
        size = self._axes.frames
        while self._waiting.shape[-1] >= 2 * size:  # the last one is kept: what follows it may be too short to judge
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
        return Verdict(self._input_snr_db(), mean_attenuation_db, max_attenuation_db, self._speech_kept(), self._out_of_domain())

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
        """1 less the mean likeness of the better half of the segments that are no pauses: a recording with speech has pauses and noises."""
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
    index: npt.NDArray[np.int64] = np.clip(np.rint(decibels) - LEVELS_DB[0], 0, LEVELS_DB[1] - LEVELS_DB[0] - 1).astype(np.int64)
    return index
