"""How late a stream answers, in exact arithmetic: what has to be pushed before a sample comes back."""

from __future__ import annotations

import math

import numpy as np

from audioae.pretrained import ModelInfo
from audioae.resample import Counts, Resampler

MOST_SAMPLES = 2**22  # that are looked at; a pattern that takes longer to repeat is told as an upper bound


def find_latency(info: ModelInfo, sample_rate: int, there: Resampler | None, back: Resampler | None, block: int = 1) -> int:
    """The most samples that have to be pushed, a sample being the first of them, before it comes back.

    Args:
        sample_rate: of the stream, Hz.
        there, back: resamplers to the model's rate and from it; None at the model's own rate.
        block: what is pushed at a time, samples.

    Returns:
        For a stream at the model's rate `win_length + (lookahead + stride - 1) * hop_length`, and with resamplers the delays of their
        filters more. Exact, unless a resampler or `MOST_SAMPLES` makes it an upper bound.
    """
    hops = info.stft.hop_length * info.stride
    common = math.gcd(sample_rate, info.stft.sample_rate)
    # The pattern of pushes and answers repeats when whole strides of the model and whole blocks end together.
    strides = hops // math.gcd(hops, info.stft.sample_rate // common) * (sample_rate // common)
    period = math.lcm(strides, block)
    if period > MOST_SAMPLES and block > 1:
        return find_latency(info, sample_rate, there, back) + block - 1
    samples = np.arange(min(period, MOST_SAMPLES))
    latency = int((-(-_pushed_for(samples, info, there, back) // block) * block - samples).max())
    return latency if period <= MOST_SAMPLES else latency + -(-hops * sample_rate // info.stft.sample_rate)


def _pushed_for(samples: Counts, info: ModelInfo, there: Resampler | None, back: Resampler | None) -> Counts:
    """How many samples have to be pushed before each of `samples`, counted from 0, comes back."""
    stft = info.stft
    synthesised = samples + 1 if back is None else back.needed(samples + 1)
    frames = -(-(synthesised + stft.past) // (stft.hop_length * info.stride)) * info.stride + info.lookahead
    analysed = frames * stft.hop_length
    return analysed if there is None else there.needed(analysed)
