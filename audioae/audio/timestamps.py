"""The time of decoded samples: where a track starts, and where samples are missing in it.

A network that drops packets, or a recorder that pauses, leaves gaps between timestamps. They are
counted in samples, so that all later samples keep their time.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

# Containers whose timestamps tell where packets are missing.
TIMED = ("mov", "matroska", "mpegts", "flv")
DISCONTINUOUS = ("mpegts", "mpeg")  # clocks may start anywhere and jump
GAP_SECONDS = 0.005  # a later start than this after the end of the last packet is a gap
DRIFT_SECONDS = 0.1  # largest deviation of continuous samples from their timestamps
JUMP_SECONDS = 10.0  # a longer gap of a discontinuous clock is a jump, as FFmpeg assumes


class Clock:
    """Finds gaps in the timestamps of decoded samples.

    Args:
        container: the open file.
        rate: sample rate, Hz.

    Attributes:
        start: time of the first sample, seconds.
        filled: samples of all gaps so far.
    """

    def __init__(self, container: Any, rate: int) -> None:
        names = container.format.name.split(",")
        self._rate, self._trusted = rate, bool(set(names) & set(TIMED))
        self._jumps = bool(set(names) & set(DISCONTINUOUS))
        self._base, duration = time_base(container), container.duration
        # A damaged timestamp must not fill a disk with silence.
        self._most = duration / 1e6 * rate + 2 * rate if duration else None
        self._position, self._next = 0, 0.0
        self.start, self.filled, self._begun = Fraction(0), 0, False

    def missing(self, frame: Any) -> int:
        """The number of samples missing before a decoded frame."""
        gap = 0
        if frame.pts is not None and self._trusted:
            time = frame.pts * frame.time_base - self._base
            if not self._begun:
                self.start = time
            at = float(time - self.start) * self._rate
            gap = self._gap(at, float(frame.time_base) * self._rate)
            self._next = at + frame.samples
        self._begun = True
        self._position += gap + frame.samples
        self.filled += gap
        return gap

    def _gap(self, at: float, tick: float) -> int:
        late, jump = at - self._position, at - self._next
        tolerance = GAP_SECONDS * self._rate + 2 * tick
        gap = max(round(late), 0)
        if max(jump, late - DRIFT_SECONDS * self._rate) <= tolerance or late <= tolerance:
            return 0
        if self._jumps and jump > JUMP_SECONDS * self._rate:
            return 0
        return 0 if self._most is not None and self._position + gap > self._most else gap


def time_base(container: Any) -> Fraction:
    """The time that counts as 0, seconds: the start of the file if its clock may start anywhere."""
    free = set(container.format.name.split(",")) & set(DISCONTINUOUS)
    return Fraction(container.start_time or 0, 1_000_000) if free else Fraction(0)
