"""Engines without weights that follow `audioae.engine.Engine` and have known outputs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from audioae.engine import State
from audioae.pretrained import ModelInfo
from audioae.signal.spectrogram import StftSettings

Rule = Callable[[np.ndarray], np.ndarray]


class FakeEngine:
    """An engine that returns `rule(spectrum so far)`, gains `[batch, freq, frames]`.

    The gain of frame t may depend on the frames up to t + lookahead.
    """

    def __init__(
        self,
        rule: Rule,
        *,
        stft: StftSettings | None = None,
        gain: str = "real",
        lookahead: int = 0,
        stride: int = 1,
    ) -> None:
        stft = stft or StftSettings()
        self.info = ModelInfo(
            "fake",
            "fake",
            stft,
            gain,
            lookahead,
            0,
            stride,
            parameters=0,
            macs_per_second=0,
            version="0",
        )
        self.rule = rule
        self.most_frames = 0  # the largest step so far, over the batch

    def step(self, spectrum: np.ndarray, state: State | None = None) -> tuple[np.ndarray, State]:
        self.most_frames = max(self.most_frames, spectrum.shape[0] * spectrum.shape[2])
        past, given = (state.frames, state.tensors[0]) if state else (spectrum[..., :0], 0)
        frames = np.concatenate([past, spectrum], axis=-1)
        due = max(
            (frames.shape[-1] - self.info.lookahead) // self.info.stride * self.info.stride, 0
        )
        return self.rule(frames)[..., given:due], State(frames, (due,))

    def whole(self, spectrum: np.ndarray) -> np.ndarray:
        self.most_frames = max(self.most_frames, spectrum.shape[0] * spectrum.shape[2])
        return self.rule(spectrum)


def constant(gain: complex = 1.0, **form: object) -> FakeEngine:
    """The same gain everywhere."""
    kind = np.complex64 if isinstance(gain, complex) else np.float32
    return FakeEngine(
        lambda spectrum: np.full(spectrum.shape, gain, kind),
        gain="complex" if kind is np.complex64 else "real",
        **form,
    )


def per_bin(curve: np.ndarray, **form: object) -> FakeEngine:
    """A gain per frequency, `[freq]`, the same at all times."""
    return FakeEngine(
        lambda spectrum: np.broadcast_to(curve.astype(np.float32)[:, None], spectrum.shape), **form
    )


def smooth(spectrum: np.ndarray, level: np.ndarray | None = None) -> np.ndarray:
    """The recent level of each bin, `[batch, freq, frames]`, after `level` `[batch, freq]`."""
    level = np.zeros(spectrum.shape[:2], np.float32) if level is None else level
    levels = np.zeros(spectrum.shape, np.float32)
    for frame, magnitude in enumerate(np.moveaxis(np.abs(spectrum), -1, 0)):
        levels[..., frame] = level = 0.8 * level + 0.2 * magnitude
    return levels


class Smoothing(FakeEngine):
    """Causal: the gain of a bin rises with its recent level, which is the whole state."""

    def step(self, spectrum: np.ndarray, state: State | None = None) -> tuple[np.ndarray, State]:
        self.most_frames = max(self.most_frames, spectrum.shape[0] * spectrum.shape[2])
        level = state.tensors[0] if state else np.zeros(spectrum.shape[:2], np.float32)
        levels = smooth(spectrum, level)
        last = levels[..., -1] if spectrum.shape[-1] else level
        return levels / (levels + 1), State(spectrum[..., :0], (last,))


def smoothing(**form: object) -> FakeEngine:
    """An engine that smooths; with a look-ahead or a stride, the general engine that does so."""

    def rule(spectrum: np.ndarray) -> np.ndarray:
        levels = smooth(spectrum)
        return levels / (levels + 1)

    return FakeEngine(rule, **form) if form else Smoothing(rule)


def foreseeing(lookahead: int, **form: object) -> FakeEngine:
    """With look-ahead: magnitude and phase of the gain follow the mean level of a frame and the
    `lookahead` frames after it.
    """

    def rule(spectrum: np.ndarray) -> np.ndarray:
        level = np.pad(np.abs(spectrum), ((0, 0), (0, 0), (0, lookahead)))
        mean = np.lib.stride_tricks.sliding_window_view(level, lookahead + 1, axis=-1).mean(axis=-1)
        return (mean / (mean + 1) * np.exp(1j * mean)).astype(np.complex64)

    return FakeEngine(rule, gain="complex", lookahead=lookahead, **form)
