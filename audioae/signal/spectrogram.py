"""Waveforms to spectra and back, whole or block by block, in NumPy.

A frame is an STFT column. Frame `t` covers the samples `[t * hop - past, (t + 1) * hop)` with `past
= win_length - hop_length`: its last sample is the newest one, so a stream can answer each hop as
soon as it is complete. Whole signals are the same computation with an empty (zero) past: `stft` is
one call of `analyse`, `istft` one call of `synthesise`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from audioae.errors import SettingsError

Array = npt.NDArray[np.float32]
ComplexArray = npt.NDArray[np.complex64]


@dataclass(frozen=True)
class StftSettings:
    """How a waveform becomes a spectrum. The window is the square root of a periodic Hann window,
    for analysis and synthesis alike.

    Args:
        sample_rate: Hz.
        n_fft: length of the transform, samples.
        hop_length: samples between frames; `win_length` must be a multiple of it, at least twice.
        win_length: samples that a frame covers, at most `n_fft`.
    """

    sample_rate: int = 16000
    n_fft: int = 512
    hop_length: int = 256
    win_length: int = 512

    def __post_init__(self) -> None:
        if (
            self.hop_length < 1
            or self.win_length % self.hop_length
            or self.win_length < 2 * self.hop_length
        ):
            raise SettingsError(
                f"win_length {self.win_length} is no multiple (two or more) of hop_length "
                f"{self.hop_length}"
            )
        if self.win_length > self.n_fft:
            raise SettingsError(f"win_length {self.win_length} is longer than n_fft {self.n_fft}")

    @property
    def num_bins(self) -> int:
        """Frequency bins of a spectrum."""
        return self.n_fft // 2 + 1

    @property
    def past(self) -> int:
        """Samples before the newest hop that a frame still covers."""
        return self.win_length - self.hop_length

    def num_frames(self, samples: int) -> int:
        """Frames of a whole signal: enough that every sample lies under a full set of overlapping
        windows.
        """
        return -(-samples // self.hop_length) + self.past // self.hop_length if samples else 0

    @cached_property
    def window(self) -> Array:
        """`[win_length]`, scaled so that analysis, synthesis and overlap-add give the waveform
        back.
        """
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.win_length) / self.win_length)
        # Hann windows at overlap r = win / hop sum to r / 2.
        return np.sqrt(hann * 2 * self.hop_length / self.win_length).astype(np.float32)


def analyse(
    block: Array, settings: StftSettings, past: Array | None = None
) -> tuple[ComplexArray, Array]:
    """Turn whole hops into frames.

    Args:
        block: `[..., num_frames * hop_length]`.
        past: `[..., settings.past]`, the samples before the block; None is silence.

    Returns:
        The spectrum `[..., num_bins, num_frames]` and the past of the next block.
    """
    if past is None:
        past = np.zeros((*block.shape[:-1], settings.past), np.float32)
    signal = np.concatenate([past, block.astype(np.float32, copy=False)], axis=-1)
    if not block.shape[-1]:
        return np.zeros((*block.shape[:-1], settings.num_bins, 0), np.complex64), signal
    hop, frames = settings.hop_length, block.shape[-1] // settings.hop_length
    hops = signal.reshape(*signal.shape[:-1], -1, hop)
    columns = np.concatenate(
        [hops[..., part : part + frames, :] for part in range(settings.win_length // hop)], axis=-1
    )
    spectrum = np.fft.rfft(columns * settings.window, settings.n_fft, axis=-1)
    return np.ascontiguousarray(np.swapaxes(spectrum, -1, -2)).astype(
        np.complex64, copy=False
    ), signal[..., -settings.past :]


def synthesise(
    spectrum: ComplexArray, settings: StftSettings, overlap: Array | None = None
) -> tuple[Array, Array]:
    """Turn frames into whole hops, `settings.past` samples later than `analyse` took them.

    Args:
        spectrum: `[..., num_bins, num_frames]`.
        overlap: `[..., settings.past]`, what earlier frames add to the first samples; None is
            silence.

    Returns:
        The waveform `[..., num_frames * hop_length]` and the overlap for the next block.
    """
    hop, parts = settings.hop_length, settings.win_length // settings.hop_length
    columns = (
        np.fft.irfft(np.swapaxes(spectrum, -1, -2), settings.n_fft, axis=-1)[
            ..., : settings.win_length
        ]
        * settings.window
    )
    pieces = columns.reshape(*columns.shape[:-1], parts, hop)
    frames = pieces.shape[-3]
    hops = np.zeros((*spectrum.shape[:-2], parts - 1 + frames, hop), np.float32)
    if overlap is not None:
        hops[..., : parts - 1, :] = overlap.reshape(*overlap.shape[:-1], parts - 1, hop)
    for part in range(parts):  # every frame's part-th hop lands on consecutive output hops
        hops[..., part : part + frames, :] += pieces[..., part, :]
    output = hops.reshape(*hops.shape[:-2], -1)
    return output[..., : frames * hop], output[..., frames * hop :]


def frame_powers(spectrum: ComplexArray) -> npt.NDArray[np.float64]:
    """The sum of the squared magnitudes of each frame, `[..., num_frames]`, of `[..., num_bins,
    num_frames]`.
    """
    frames = np.swapaxes(spectrum, -1, -2)
    powers: npt.NDArray[np.float64] = np.vecdot(frames, frames).real.astype(np.float64)
    return powers


def stft(waveform: Array, settings: StftSettings) -> ComplexArray:
    """The spectrum `[..., num_bins, num_frames(samples)]` of a whole waveform `[..., samples]`."""
    frames = settings.num_frames(waveform.shape[-1])
    padding = [(0, 0)] * (waveform.ndim - 1) + [
        (0, frames * settings.hop_length - waveform.shape[-1])
    ]
    return analyse(np.pad(waveform, padding), settings)[0]


def istft(spectrum: ComplexArray, settings: StftSettings, *, samples: int) -> Array:
    """The waveform `[..., samples]` of a whole spectrum made by `stft`."""
    return synthesise(spectrum, settings)[0][..., settings.past : settings.past + samples]
