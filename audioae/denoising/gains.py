"""The gains of a model for the frames of a live stream or of a recording.

A causal model starts with an empty state and needs a second or two to adapt to a recording. Two
methods improve its gains for recordings without training:

- `PrimedGains` (quality "fast") first runs the model over the first seconds of the recording,
  reversed in time, and discards these gains.
- `ChunkedGains` (quality "best") processes a recording in overlapping chunks. A causal model runs
  over each chunk in both directions of time, and the two gains are averaged. A model that was
  trained for both directions runs over each chunk once.

Neither method needs a second STFT: the analysis window is symmetric about its middle and zero at
its first sample, so for `n_fft == win_length` the frames of a reversed signal are the complex
conjugates of its frames, in reverse order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import numpy as np

from audioae.denoising.shaping import Gain
from audioae.engine import Engine, OnnxEngine, Quality, State, not_causal
from audioae.pretrained import ModelInfo
from audioae.signal.spectrogram import ComplexArray

CONTEXT_SECONDS = 2.0  # of the reversed beginning, and of the context on each side of a chunk
CHUNK_SECONDS = 10.0  # without the context on both sides
FORWARD_SHARE = 0.6  # weight of the forward gain; the weight of the backward gain is the rest


class Gains(Protocol):
    """Computes the gains of a sequence of frames that arrive in blocks of any length."""

    def add(self, spectrum: ComplexArray, *, last: bool = False) -> Gain | None:
        """Add frames.

        Args:
            spectrum: the next frames, `[channels, freq, frames]`.
            last: whether these are the last ones.

        Returns:
            The gains `[channels, freq, frames']` that have become known, in the order of the
            frames; None if there are none. After the last frames a model with look-ahead or a
            stride may return more gains than there are frames.
        """
        ...


def choose_engine(engine: Engine, sample_rate: int, quality: Quality | None) -> Engine:
    """The model that takes the place of a model of the package for a recording or a live stream.

    In the quality "best" this is its offline companion, for sample rates above its own its
    full-band companion, for both a `TwoBandEngine` of the two. Without companions it is the model
    itself.

    Args:
        engine: the model.
        sample_rate: of the recording or the live stream, Hz.
        quality: of the recording; None for a live stream.
    """
    if not isinstance(engine, OnnxEngine):
        return engine
    offline = engine.companion("offline") if quality == "best" else engine
    if sample_rate <= engine.info.stft.sample_rate:
        return offline
    full_band = engine.companion("full_band")
    if offline is engine or full_band is engine:
        return full_band if offline is engine else offline
    return TwoBandEngine(offline, full_band)


def build_gains(engine: Engine, quality: Quality | None) -> Gains:
    """The gains of a recording in the given quality, or of a live stream if `quality` is None."""
    info = engine.info
    if info.edges == "mirror":
        return ChunkedGains(engine, engine.whole)
    if quality == "best" and info.causal:
        return ChunkedGains(engine, lambda spectrum: both_directions(engine, spectrum))
    # Priming would shift the time steps of a network that takes several frames at once.
    if quality and info.causal and info.stride == 1:
        return PrimedGains(engine)
    return LiveGains(engine)


def lookahead_seconds(info: ModelInfo, quality: Quality | None) -> float:
    """How far ahead of a frame its gain depends on a recording, in seconds, without the window."""
    if info.edges == "mirror" or (quality == "best" and info.causal):
        return CONTEXT_SECONDS
    return (info.lookahead + info.stride) * info.stft.hop_length / info.stft.sample_rate


def mirrored(spectrum: ComplexArray) -> ComplexArray:
    """The frames of the signal reversed in time, `[channels, freq, frames]`."""
    return np.conj(spectrum[..., ::-1])


def both_directions(engine: Engine, spectrum: ComplexArray) -> Gain:
    """The weighted mean of the gains of a causal model in both directions of time."""
    forward, backward = engine.whole(spectrum), engine.whole(mirrored(spectrum))
    with np.errstate(invalid="ignore", over="ignore"):  # the gains of a damaged model: see `checks`
        mean: Gain = FORWARD_SHARE * forward + (1 - FORWARD_SHARE) * np.conj(backward[..., ::-1])
    return mean.astype(forward.dtype, copy=False)


class TwoBandEngine:
    """An offline model for the lower bins of a spectrum, and a causal one for those above.

    With the same window and hop in seconds, the frames and the bin spacing of both are the same,
    and a bin is larger by the ratio of the sample rates.

    Args:
        lower: the model with the lower sample rate.
        upper: the causal model. It runs forwards only: the mean of both directions has 0.4 dB less
            magnitude SNR above 8 kHz.
    """

    def __init__(self, lower: Engine, upper: Engine) -> None:
        self._lower, self._upper = lower, upper
        self._ratio = upper.info.stft.sample_rate / lower.info.stft.sample_rate
        name = f"{lower.info.name}+{upper.info.name}"
        self.info = replace(upper.info, name=name, edges="mirror")

    def step(self, spectrum: ComplexArray, state: State | None = None) -> tuple[Gain, State]:
        """Raises SettingsError: the model needs a whole recording, see `Engine.whole`."""
        raise not_causal(self.info)

    def whole(self, spectrum: ComplexArray) -> Gain:
        """See `Engine.whole`."""
        gain = self._upper.whole(spectrum)
        bins = self._lower.info.stft.num_bins
        gain[:, :bins] = self._lower.whole(spectrum[:, :bins] / np.float32(self._ratio))
        return gain


class LiveGains:
    """The gains of a live stream, from an empty past."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._frames = engine, 0
        self._state: State | None = None

    def add(self, spectrum: ComplexArray, *, last: bool = False) -> Gain | None:
        """See `Gains.add`. The look-ahead after the last frame is silence."""
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
    """The gains of a causal model that first runs over the reversed beginning of the recording."""

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
    """The gains of a recording in overlapping chunks, in constant memory.

    Chunks start at fixed frames, so the gains do not depend on how the frames arrive. The context
    before the start and after the end of the recording is the recording reversed in time.

    Args:
        engine: the model.
        run: maps the frames of a chunk with its context, `[channels, freq, frames]`, to the gains
            of the same shape.
    """

    def __init__(self, engine: Engine, run: Callable[[ComplexArray], Gain]) -> None:
        self._run = run
        self._context = context_frames(engine)
        stft = engine.info.stft
        self._chunk = round(CHUNK_SECONDS * stft.sample_rate / stft.hop_length)
        self._frames: ComplexArray | None = None  # the context before the next chunk, and the rest
        self._before = 0  # number of frames of that context

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
        """Length of the next chunk; 0 if its context is incomplete.

        A remainder of less than two contexts becomes part of the last chunk.
        """
        if left >= self._chunk + 2 * self._context:
            return self._chunk
        return left if last else 0

    def _chunk_gains(self, frames: ComplexArray, due: int) -> Gain:
        """The gains of the `due` frames after the context, the first of `frames`."""
        before, after = self._before, frames.shape[-1] - self._before - due
        chunk = frames[..., : before + due + min(after, self._context)]
        if before < self._context:  # the beginning of the recording
            missing = min(self._context - before, chunk.shape[-1] - 1)
            chunk = np.concatenate([mirrored(chunk[..., 1 : missing + 1]), chunk], -1)
            before += missing
        if after < self._context:  # the end of the recording
            missing = min(self._context - after, chunk.shape[-1] - 1)
            chunk = np.concatenate([chunk, mirrored(chunk[..., -1 - missing : -1])], -1)
        return self._run(chunk)[..., before : before + due]


def context_frames(engine: Engine) -> int:
    """`CONTEXT_SECONDS` as a number of frames."""
    stft = engine.info.stft
    return round(CONTEXT_SECONDS * stft.sample_rate / stft.hop_length)
