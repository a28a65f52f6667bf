"""What an output device takes: a ring of samples between the thread that cleans and the callback that plays."""

from __future__ import annotations

import numpy as np

from audioae.spectrogram import Array


class Player:
    """A ring of samples for one writer and one reader, without locks: each moves its own end only, after the samples are there.

    It begins with `delay` samples of silence, so a writer that is never later than that leaves no gap. What comes too late, after silence
    was played in its place, is skipped: a gap never lengthens the delay.

    Args:
        delay: samples per channel; room: samples that may wait besides.
    """

    def __init__(self, channels: int, delay: int, room: int) -> None:
        self._ring = np.zeros((delay + room, channels), np.float32)
        self._written, self._read = delay, 0
        self._late = 0  # samples that silence was played for, and that may still come

    @property
    def waiting(self) -> int:
        """Samples per channel that are written and not played."""
        return self._written - self._read

    def write(self, block: Array) -> None:
        """Append `[channels, n]`; what there is no room for is lost, which happens only where the reader stands still."""
        room = len(self._ring) - self.waiting
        at = (self._written + np.arange(min(block.shape[-1], room))) % len(self._ring)
        self._ring[at] = block.T[: len(at)]
        self._written += len(at)

    def play(self, target: Array) -> bool:
        """Fill `[n, channels]`, or `[n, any]` from one channel; False if some of it is silence because nothing was ready."""
        skipped = min(max(self._late, 0), self.waiting)
        self._late, self._read = self._late - skipped, self._read + skipped
        ready = min(len(target), self.waiting)
        start = self._read % len(self._ring)
        first = min(ready, len(self._ring) - start)
        target[:first] = self._ring[start : start + first]
        target[first:ready] = self._ring[: ready - first]
        target[ready:] = 0
        self._read += ready
        self._late += len(target) - ready
        return ready == len(target)

    def expect_less(self, samples: int) -> None:
        """So many samples will never come: their input was dropped. To be called by the reader."""
        self._late -= samples
