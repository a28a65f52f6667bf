"""Decode one recording to int16 samples at a given rate, or give the reason to leave it out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from audioae.audio import AudioInfo, AudioReader
from audioae.data.manifest import FULL_SCALE
from audioae.data.sources import Entry, Role
from audioae.errors import AudioFileError, DependencyError
from audioae.signal.resample import StreamResampler

BLOCK_SECONDS = 30
# quiet recordings keep their precision in 16 bits; whoever reads them sets the level anyway
STORED_PEAK = 0.9
FLAT_TOP = 0.999  # of full scale; lossy codecs round the flat tops of a clipped recording off


@dataclass(frozen=True, kw_only=True)
class Checks:
    """Sample rate of the output, and limits for recordings.

    Args:
        sample_rate: of the output, Hz.
        min_seconds: shorter speech and noise is left out.
        silence_db: recordings with a lower peak are silent and left out, dBFS.
        max_clipped: speech with a larger fraction of samples in runs of three or more at full scale
            is left out, as a network would learn its distortion.
        max_clipped_noise: the same for noise. Room responses have no limit.
    """

    sample_rate: int = 16000
    min_seconds: float = 0.25
    silence_db: float = -60.0
    max_clipped: float = 0.001
    max_clipped_noise: float = 0.05


@dataclass(frozen=True)
class Decoded:
    """The int16 samples `[samples]` of a recording and the gain applied to them; or None and the
    reason to leave it out.
    """

    samples: npt.NDArray[np.int16] | None
    gain_db: float = 0.0
    reason: str = ""


def decode(entry: Entry, checks: Checks) -> Decoded:
    """Decode the file of an entry to one channel: the mean of all channels for speech, the first
    channel for noise and room responses.
    """
    try:
        waveform, clipped = _read(entry, checks.sample_rate)
    except (AudioFileError, DependencyError) as error:  # a media file needs the extra `media`
        return Decoded(None, reason=f"unreadable: {error}")
    except UnlikeError as error:
        return Decoded(None, reason=f"unlike its clean side: {error}")
    except MemoryError:
        return Decoded(None, reason="too long for this machine's memory; cut it into pieces")
    reason = _flaw(entry.role, waveform, clipped, checks)
    if reason:
        return Decoded(None, reason=reason)
    gain = STORED_PEAK / float(np.abs(waveform).max())
    samples = np.rint(waveform * np.float32(gain * FULL_SCALE)).astype("<i2")
    return Decoded(samples, gain_db=round(20 * math.log10(gain), 3))


class UnlikeError(Exception):
    """The recordings to subtract differ in form."""


def _read(entry: Entry, sample_rate: int) -> tuple[npt.NDArray[np.float32], float]:
    """`[samples]` at `sample_rate`, and the fraction of clipped samples of the original."""
    pieces, seen, clipped = [], 0, 0
    with AudioReader(entry.path) as reader, _minus(entry, reader.info) as minus:
        resampler = StreamResampler(reader.info.sample_rate, sample_rate, 1)
        while (block := reader.read(BLOCK_SECONDS * reader.info.sample_rate)).shape[-1]:
            seen += block.size
            clipped += _count_clipped(block)
            if minus:
                block = block - minus.read(block.shape[-1])
            mono = block.mean(axis=0, keepdims=True) if entry.role == "speech" else block[:1]
            pieces.append(resampler.process(mono)[0])
        pieces.append(resampler.process(np.zeros((1, 0), np.float32), last=True)[0])
    return np.concatenate(pieces), clipped / max(seen, 1)


@contextmanager
def _minus(entry: Entry, info: AudioInfo) -> Iterator[AudioReader | None]:
    """Open the recording to subtract, which must have the same rate, channels and length."""
    if not entry.minus:
        yield None
        return
    with AudioReader(entry.minus) as reader:
        forms = [
            (form.sample_rate, form.channels, form.num_samples) for form in (info, reader.info)
        ]
        if forms[0] != forms[1]:
            says = " and ".join(
                f"{rate} Hz x {channels} channels x {num_samples} samples"
                for rate, channels, num_samples in forms
            )
            raise UnlikeError(f"{says}; they have to be equal")
        yield reader


def _count_clipped(block: npt.NDArray[np.float32]) -> int:
    """Number of samples of `[channels, samples]` that begin a run of three at full scale. A single
    one is a peak, not clipping.
    """
    full = np.abs(block) >= FLAT_TOP
    return int(np.count_nonzero(full[:, :-2] & full[:, 1:-1] & full[:, 2:]))


def _flaw(role: Role, waveform: npt.NDArray[np.float32], clipped: float, checks: Checks) -> str:
    seconds = len(waveform) / checks.sample_rate
    if not seconds or (role != "rir" and seconds < checks.min_seconds):
        return f"too short: {seconds:.3f} s, at least {checks.min_seconds:g} s are needed"
    peak = float(np.abs(waveform).max())
    if not math.isfinite(peak):
        return "not finite: it has NaN or infinite samples"
    if peak < 10 ** (checks.silence_db / 20):
        level = f"{20 * math.log10(peak):.1f} dBFS" if peak else "digital silence"
        return f"silent: peak {level}, at least {checks.silence_db:g} dBFS is needed"
    limit = {"speech": checks.max_clipped, "noise": checks.max_clipped_noise, "rir": 1.0}[role]
    if clipped > limit:
        return f"clipped: {clipped:.2%} of the samples, at most {limit:.2%} is allowed"
    return ""
