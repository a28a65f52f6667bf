"""Level correction at the input of the model, for very quiet and very loud recordings.

Models are trained on mixtures with RMS levels between -40 and -12 dBFS. Recordings outside that
range are scaled at the input of the network. The gain of the network is applied to the original
spectrum, so the output keeps its level.

The running level is the level of the loudest recent frame minus 6 dB, because the loudest frames of
speech are about 6 dB above its RMS level. It rises immediately, is held for three seconds, and then
falls by 10 dB per second. Between `LOWEST` and `HIGHEST` the factor is exactly 1. Outside it the
input is corrected by 2 dB per dB, until the level reaches `QUIET_TARGET` or `LOUD_TARGET`.

The computation is causal and goes frame by frame, so the result does not depend on blocks. A live
stream starts with a usual level, because the start of a quiet recording is like a pause in a loud
one. For a recording, the level of the first 30 s is the initial value.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from audioae.signal.spectrogram import Array, ComplexArray, StftSettings, frame_powers

PEAK_DB = 6.0  # level of the loudest frames of speech above its RMS level
# dBFS. By this measure steady noise is 6 dB below its RMS level, and speech 4 dB above it.
LOWEST, QUIET_TARGET = -46.0, -30.0
HIGHEST, LOUD_TARGET = -6.0, -14.0
HOLD_SECONDS = 3.0  # longer than most pauses of speech
FALL_DB = 10.0  # per second, after the hold
MAX_CORRECTION_DB = 70.0  # recordings that need more contain nothing but dither
FRAME_SECONDS = 0.032  # of the frames whose level is measured at the start of a recording
START_SECONDS = 30.0  # length of that start
MIN_POWER = 1e-12  # -120 dBFS; frames of digital silence or dither do not change the level


def frame_levels(spectrum: ComplexArray, stft: StftSettings) -> npt.NDArray[np.float64]:
    """The mean square of the samples of each frame, by Parseval's theorem.

    Args:
        spectrum: `[channels, freq, frames]`.

    Returns:
        `[channels, frames]`, full scale is 1.
    """
    # The squares of the window sum to the hop length; the factor 2 is for negative frequencies.
    return frame_powers(spectrum) * (2 / (stft.n_fft * stft.hop_length))


def factor_db(level: float) -> float:
    """The correction in dB at the input of the network, for a running level in dBFS.

    Example:
        >>> factor_db(-20), factor_db(-50), factor_db(-80)
        (0.0, 8.0, 50.0)
    """
    if level < LOWEST:
        return min(2 * (LOWEST - level), max(QUIET_TARGET - level, 0.0), MAX_CORRECTION_DB)
    if level > HIGHEST:
        return max(2 * (HIGHEST - level), min(LOUD_TARGET - level, 0.0), -MAX_CORRECTION_DB)
    return 0.0


class LevelMatch:
    """The factor at the input of the network for each frame and channel of a stream.

    Args:
        stft: the STFT of the model.
        channels: number of channels.
        start_db: initial running level of each channel in dBFS; None if it is unknown.
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
        self._since = [0] * channels  # frames since a frame last had this level

    def factors(self, spectrum: ComplexArray) -> Array | None:
        """The factors `[channels, 1, frames]` of the next frames; None if all are 1."""
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
            if power > MIN_POWER:
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
    """The running level of the first `START_SECONDS` of a recording, as `LevelMatch` measures it.

    Args:
        blocks: the recording in blocks of any length, `[channels, samples]`.
        sample_rate: Hz.

    Returns:
        The level of each channel in dBFS, None for a silent channel; None if there are no samples.
    """
    frame, left = max(round(FRAME_SECONDS * sample_rate), 1), round(START_SECONDS * sample_rate)
    loudest, waiting = None, None
    for block in blocks:
        waiting = block if waiting is None else np.concatenate([waiting, block], axis=-1)
        whole = min(waiting.shape[-1], left) // frame * frame
        if whole:
            # The variance is the power without a DC offset, which the model never gets.
            frames = waiting[:, :whole].reshape(len(waiting), -1, frame)
            powers = frames.var(axis=-1, dtype=np.float64).max(axis=-1)
            loudest = powers if loudest is None else np.maximum(loudest, powers)
        waiting, left = waiting[:, whole:], left - whole
        if left < frame:
            break
    if loudest is None:
        return None
    return [
        10 * math.log10(power) - PEAK_DB if power > MIN_POWER else None
        for power in loudest.tolist()
    ]
