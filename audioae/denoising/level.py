"""A level that the model knows: recordings far quieter or louder than its training are scaled on
their way into it, and nowhere else.

The gain acts on the recording's own spectrum, so the network alone hears the scaled one. Networks
are trained on mixtures of an RMS level between -40 and -12 dBFS. The running level here is that of
the loudest recent frame, less the 6 dB by which the loudest frames of speech stand above its mean;
it rises at once, stays for three seconds, then falls by 10 dB a second. Between `LOWEST` and
`HIGHEST` the factor is exactly 1; beyond them the level is led to `QUIET_TARGET` or `LOUD_TARGET`,
by 2 dB for each until it is there.

It is causal, and every frame is a step of its own, so a recording may be cut into any blocks. A
stream starts as one of usual level, since the first frames of a quiet recording and a pause before
a loud one are alike; where there is the whole recording, its first half minute tells the level to
start with.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from audioae.signal.spectrogram import Array, ComplexArray, StftSettings, frame_powers

PEAK_DB = 6.0  # the loudest frames of speech over its RMS level
LOWEST, QUIET_TARGET = (
    -46.0,
    -30.0,
)  # dBFS; steady noise stands 6 dB below its RMS level here, speech 4 dB above
HIGHEST, LOUD_TARGET = -6.0, -14.0
HOLD_SECONDS = 3.0  # speech pauses for less
FALL_DB = 10.0  # a second, after that
LARGEST_DB = 70.0  # what a factor may be: beyond it there is nothing but dither
FRAME_SECONDS, START_SECONDS = 0.032, 30.0  # that a recording's level is measured in
QUIETEST_POWER = 1e-12  # -120 dBFS; digital silence and dither tell nothing about a level


def frame_levels(spectrum: ComplexArray, stft: StftSettings) -> npt.NDArray[np.float64]:
    """The mean square of the samples under each frame of `[channels, freq, frames]`: `[channels,
    frames]`, by Parseval's theorem.
    """
    # The window's squares sum to a hop; negative frequencies make the 2.
    return frame_powers(spectrum) * (2 / (stft.n_fft * stft.hop_length))


def factor_db(level: float) -> float:
    """By how much a recording of this running level, dBFS, is raised on its way into the network."""
    if level < LOWEST:
        return min(2 * (LOWEST - level), max(QUIET_TARGET - level, 0.0), LARGEST_DB)
    if level > HIGHEST:
        return max(2 * (HIGHEST - level), min(LOUD_TARGET - level, 0.0), -LARGEST_DB)
    return 0.0


class LevelMatch:
    """The factor for each frame of a stream, one for each channel.

    Args:
        start_db: the running level that each channel starts with, dBFS; None where it is not known.
    """

    def __init__(
        self, stft: StftSettings, channels: int, start_db: Iterable[float | None] | None = None
    ) -> None:
        self._stft = stft
        self._fall = FALL_DB * stft.hop_length / stft.sample_rate
        self._hold = round(HOLD_SECONDS * stft.sample_rate / stft.hop_length)
        usual = (LOWEST + HIGHEST) / 2
        self._levels = [
            usual if level is None else level for level in start_db or [None] * channels
        ]
        self._since = [0] * channels  # frames since the level was last reached

    def factors(self, spectrum: ComplexArray) -> Array | None:
        """The factors `[channels, 1, frames]` of the next frames; None where all are 1."""
        decibels = [
            self._follow(channel, row)
            for channel, row in enumerate(frame_levels(spectrum, self._stft))
        ]
        if not any(any(row) for row in decibels):
            return None
        return (10 ** (np.array(decibels) / 20)).astype(np.float32)[:, None]

    def _follow(self, channel: int, powers: npt.NDArray[np.float64]) -> list[float]:
        level, since, decibels = self._levels[channel], self._since[channel], []
        for power in powers.tolist():
            if power > QUIETEST_POWER:  # silence leaves the level where it was
                now = 10 * math.log10(power) - PEAK_DB
                if now >= level:
                    level, since = now, 0
                else:
                    since += 1
                    level = max(level - self._fall, now) if since > self._hold else level
            decibels.append(factor_db(level))
        self._levels[channel], self._since[channel] = level, since
        return decibels


def running_level(
    blocks: Iterable[npt.NDArray[np.floating[Any]]], sample_rate: int
) -> list[float | None] | None:
    """The level, dBFS, of each channel of a recording's first `START_SECONDS`, as `LevelMatch`
    counts it; None where there is only silence.

    Args:
        blocks: of the recording, `[channels, samples]`, cut anyhow.
    """
    frame, left = max(round(FRAME_SECONDS * sample_rate), 1), round(START_SECONDS * sample_rate)
    loudest, waiting = None, None
    for block in blocks:
        waiting = block if waiting is None else np.concatenate([waiting, block], axis=-1)
        whole = min(waiting.shape[-1], left) // frame * frame
        if whole:
            powers = (
                np.square(waiting[:, :whole], dtype=np.float64)
                .reshape(len(waiting), -1, frame)
                .mean(axis=-1)
                .max(axis=-1)
            )
            loudest = powers if loudest is None else np.maximum(loudest, powers)
        waiting, left = waiting[:, whole:], left - whole
        if left < frame:
            break
    if loudest is None:
        return None
    return [
        10 * math.log10(power) - PEAK_DB if power > QUIETEST_POWER else None
        for power in loudest.tolist()
    ]
