"""Gains for the frames of a stream, as they arrive or, for a recording, with a look at what follows.

A causal model starts from an empty past and needs a second or two to adapt. For a recording there
are two remedies that need no training:

- `PrimedGains` first runs the model over the beginning of the recording, mirrored in time, and
  drops these gains.
- `ChunkedGains` sees a recording in overlapping chunks, so a model may use what comes later: a
  causal model runs over each chunk in both directions of time and the two gains are averaged, a
  model that was trained for both directions runs over it once.

The analysis window is symmetric about its middle and zero at its first sample. So the frames of a
signal that runs backwards are the complex conjugates of its frames, in reverse order: neither
remedy needs a second analysis.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from audioae.denoising.gain import Gain
from audioae.engine import Engine, Quality, State
from audioae.pretrained import ModelInfo
from audioae.signal.spectrogram import ComplexArray

CONTEXT_SECONDS = 2.0  # mirrored before a recording, and heard on either side of a chunk
CHUNK_SECONDS = 10.0
FORWARD_SHARE = 0.6  # of the gain; the rest is that of the backward run


class Gains(Protocol):
    """The gains of a stream of frames."""

    def add(self, spectrum: ComplexArray, *, last: bool = False) -> Gain | None:
        """Take the next frames `[channels, freq, frames]`; with `last` they are the final ones.

        Returns:
            The gains `[channels, freq, frames']` of the next frames that have none yet, or None
            where there are none.
        """
        ...


def build_gains(engine: Engine, quality: Quality | None) -> Gains:
    """Gains of a recording in the given quality, or of a live stream (None)."""
    info = engine.info
    if info.edges == "mirror":
        return ChunkedGains(engine, engine.whole)
    if quality == "best" and info.causal:
        return ChunkedGains(engine, lambda spectrum: both_directions(engine, spectrum))
    return PrimedGains(engine) if quality and info.causal else LiveGains(engine)


def lookahead_seconds(info: ModelInfo, quality: Quality | None) -> float:
    """How much of a recording after a sample its gain depends on, besides the window, seconds."""
    if info.edges == "mirror" or (quality == "best" and info.causal):
        return CONTEXT_SECONDS
    return (info.lookahead + info.stride) * info.stft.hop_length / info.stft.sample_rate


def mirrored(spectrum: ComplexArray) -> ComplexArray:
    """The frames `[channels, freq, frames]` of the signal that runs backwards."""
    return np.conj(spectrum[..., ::-1])


def both_directions(engine: Engine, spectrum: ComplexArray) -> Gain:
    """The mean of a causal model's gains for a spectrum and for its reversal in time."""
    forward, backward = engine.whole(spectrum), engine.whole(mirrored(spectrum))
    mean: Gain = FORWARD_SHARE * forward + (1 - FORWARD_SHARE) * np.conj(backward[..., ::-1])
    return mean.astype(forward.dtype, copy=False)


class LiveGains:
    """The gains of a model that hears frames as they arrive."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._frames = engine, 0
        self._state: State | None = None

    def add(self, spectrum: ComplexArray, *, last: bool = False) -> Gain | None:
        """See `Gains.add`. At the end a model with look-ahead is fed silence."""
        self._frames += spectrum.shape[-1]
        if last and self._frames:
            info = self._engine.info
            wanted = -(-self._frames // info.stride) * info.stride + info.lookahead
            spectrum = np.pad(spectrum, ((0, 0), (0, 0), (0, wanted - self._frames)))
        if not spectrum.shape[-1]:
            return None
        gain, self._state = self._engine.step(spectrum, self._state)
        return gain


class PrimedGains:
    """The gains of a causal model that has heard the beginning of the recording, mirrored."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._wanted = context_frames(engine) + 1
        self._waiting: ComplexArray | None = None
        self._state: State | None = None
        self._primed = False

    def add(self, spectrum: ComplexArray, *, last: bool = False) -> Gain | None:
        """See `Gains.add`."""
        if not self._primed:
            waiting = self._waiting
            spectrum = spectrum if waiting is None else np.concatenate([waiting, spectrum], -1)
            if spectrum.shape[-1] < self._wanted and not last:
                self._waiting = spectrum
                return None
            self._primed, self._waiting = True, None
            if spectrum.shape[-1] > 1:
                past = mirrored(spectrum[..., 1 : self._wanted])
                _, self._state = self._engine.step(past, None)
        if not spectrum.shape[-1]:
            return None
        gain, self._state = self._engine.step(spectrum, self._state)
        return gain


class ChunkedGains:
    """The gains of a recording that is seen in overlapping chunks, in constant memory.

    Chunks lie on a fixed grid, so gains do not depend on how the frames arrive. Before the
    beginning and after the end of the recording lies its mirror image.

    Args:
        run: from the frames `[channels, freq, frames]` of a chunk with its context to as many
            gains.
    """

    def __init__(self, engine: Engine, run: Callable[[ComplexArray], Gain]) -> None:
        self._run = run
        self._context = context_frames(engine)
        stft = engine.info.stft
        self._chunk = round(CHUNK_SECONDS * stft.sample_rate / stft.hop_length)
        self._frames: ComplexArray | None = None  # from the context of the next chunk on
        self._before = 0  # how many of them are context

    def add(self, spectrum: ComplexArray, *, last: bool = False) -> Gain | None:
        """See `Gains.add`."""
        held = self._frames
        frames = spectrum if held is None else np.concatenate([held, spectrum], -1)
        gains: list[Gain] = []
        while (due := self._due(frames.shape[-1] - self._before, last=last)) > 0:
            gains.append(self._chunk_gains(frames, due))
            keep = max(self._before + due - self._context, 0)
            frames, self._before = frames[..., keep:], self._before + due - keep
        self._frames = frames.copy()
        return np.concatenate(gains, -1) if gains else None

    def _due(self, left: int, *, last: bool) -> int:
        """Frames of the next chunk, if its context is there; a short rest joins the last chunk."""
        if left >= self._chunk + 2 * self._context or not last:
            return self._chunk if left >= self._chunk + 2 * self._context else 0
        return left

    def _chunk_gains(self, frames: ComplexArray, due: int) -> Gain:
        before, after = self._before, frames.shape[-1] - self._before - due
        heard = frames[..., : before + due + min(after, self._context)]
        if before < self._context:  # the beginning of the recording
            missing = min(self._context - before, heard.shape[-1] - 1)
            heard, before = _with_mirror_before(heard, missing), before + missing
        if after < self._context:  # its end
            missing = min(self._context - after, heard.shape[-1] - 1)
            heard = np.concatenate([heard, mirrored(heard[..., -1 - missing : -1])], -1)
        return self._run(heard)[..., before : before + due]


def context_frames(engine: Engine) -> int:
    """`CONTEXT_SECONDS` in frames."""
    stft = engine.info.stft
    return round(CONTEXT_SECONDS * stft.sample_rate / stft.hop_length)


def _with_mirror_before(frames: ComplexArray, missing: int) -> ComplexArray:
    return np.concatenate([mirrored(frames[..., 1 : missing + 1]), frames], -1)
