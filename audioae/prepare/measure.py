"""What a prepared recording is like: its digest, flat tops, constant offset and silence."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from audioae.manifest import FULL_SCALE

FLAT_TOP = 0.9995  # of the recording's own peak: clipping stays flat whatever the level was set to afterwards
OFFSET_RATIO = 0.25  # of the RMS, -12 dB; rumble that a short clip cuts in the middle stays below
SILENT_PEAK = 0.01  # of full scale; prepare stores all peaks at 0.9
SILENT_SHARE = 0.9  # of digital silence


@dataclass(frozen=True)
class Measured:
    """What was measured of `[samples]`.

    Args:
        digest: equal for equal samples.
        clipped: share of samples in runs of three or more at the recording's own peak.
        offset: whether a constant is as strong as a quarter of the sound.
        silent: whether it is silent altogether, or nine tenths of it are digital silence.
    """

    digest: str
    clipped: float
    offset: bool
    silent: bool


def measure(samples: npt.NDArray[np.int16]) -> Measured:
    """Measure one recording, `[samples]`."""
    peak = int(np.abs(samples.astype(np.int32)).max())
    digest = hashlib.blake2b(samples.tobytes(), digest_size=16).hexdigest()
    if peak < SILENT_PEAK * FULL_SCALE:
        return Measured(digest, 0.0, False, True)
    wave = samples.astype(np.float32)
    mean, rms = float(wave.mean(dtype=np.float64)), float(np.sqrt((wave**2).mean(dtype=np.float64)))
    silent = np.count_nonzero(samples == 0) > SILENT_SHARE * len(samples)
    return Measured(digest, _clipped(samples, peak), abs(mean) > OFFSET_RATIO * rms, bool(silent))


def _clipped(samples: npt.NDArray[np.int16], peak: int) -> float:
    """Share of samples that begin a run of three on the same side, at the peak."""
    top = FLAT_TOP * peak
    runs = 0
    for full in (samples >= top, samples <= -top):
        runs += int(np.count_nonzero(full[:-2] & full[1:-1] & full[2:]))
    return runs / len(samples)
