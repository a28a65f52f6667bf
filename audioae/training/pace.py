"""How fast a run goes and how long it will take, from what its steps and reports took so far, without being misled by a few of them."""

from __future__ import annotations

import time
from collections import deque

PROGRESS_STEPS, PROGRESS_SECONDS = 20, 10.0  # between two progress rows, whichever comes first
TIMED_STEPS = 5  # at least, before anything is told
KEPT = 200  # steps that are averaged
CUT = 0.1  # of them on either side: a step that had to wait for a disk, or for a program that has ended since


class Pace:
    """A clock beside the loop: `step` and `report` say what the time since the last call went into.

    Args:
        first_step, steps: of the run. report_steps: between two reports.
    """

    def __init__(self, first_step: int, steps: int, report_steps: int) -> None:
        self.first_step = self.at = self.told = first_step
        self.steps, self.report_steps = steps, report_steps
        self.first_seconds = 0.0  # of the first step, which loads, compiles and fills caches: counts while there is no other
        self.taken: deque[float] = deque(maxlen=KEPT)  # seconds of the others
        self.report_seconds = 0.0  # of the last report
        self.marked = self.told_at = time.monotonic()

    def step(self) -> None:
        """A step was taken."""
        seconds = self.lap()
        if self.at == self.first_step:
            self.first_seconds = seconds
        else:
            self.taken.append(seconds)
        self.at += 1

    def report(self) -> None:
        """A report was made, or something that takes as long."""
        self.report_seconds = self.lap()

    def lap(self) -> float:
        """Seconds since the last call."""
        before, self.marked = self.marked, time.monotonic()
        return self.marked - before

    @property
    def is_due(self) -> bool:
        """Whether it is time to tell how far the run is."""
        steps = self.at - self.told
        return steps >= PROGRESS_STEPS or (steps >= TIMED_STEPS and self.marked - self.told_at >= PROGRESS_SECONDS)

    def tell(self) -> int:
        """It is told now; returns the steps since it last was."""
        steps, self.told, self.told_at = self.at - self.told, self.at, self.marked
        return steps

    @property
    def step_seconds(self) -> float:
        """What a step takes: the mean of the last ones, without the quickest and the slowest tenth."""
        ordered = sorted(self.taken) or [self.first_seconds]
        cut = int(CUT * len(ordered))
        middle = ordered[cut : len(ordered) - cut]
        return sum(middle) / len(middle)

    @property
    def seconds_left(self) -> float:
        """Until all steps are taken and all reports made."""
        if self.at >= self.steps:
            return 0.0
        reports = -(-self.steps // self.report_steps) - self.at // self.report_steps
        return (self.steps - self.at) * self.step_seconds + reports * self.report_seconds
