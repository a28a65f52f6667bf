"""Short-time Fourier transform and its inverse, whole or block by block, in NumPy.

A frame is a column of the spectrogram. Frame `t` covers the samples `[t * hop - past, (t + 1) *
hop)` with `past = win_length - hop_length`. Its last sample is the newest one, so a stream can
process each hop as soon as it is complete. A whole signal is the same computation with a past of
zeros: `stft` is one call of `analyse`, `istft` one call of `synthesise`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from audioae.errors import SettingsError
from audioae.fields import check_settings

Array = npt.NDArray[np.float32]
ComplexArray = npt.NDArray[np.complex64]

LOWEST_RATE, HIGHEST_RATE = 100, 768_000  # Hz, of the STFT
LONGEST_FFT = 65_536  # samples


@dataclass(frozen=True)
class StftSettings:
    """Settings of the STFT. Analysis and synthesis use the square root of a periodic Hann window.

    Args:
        sample_rate: Hz.
        n_fft: length of the transform, samples.
        hop_length: samples between frames.
        win_length: samples covered by a frame: at most `n_fft`, and a multiple of `hop_length`, at
            least twice.

    Raises:
        SettingsError: a value is no integer or is out of range, or the lengths do not fit together.

    Example:
        >>> settings = StftSettings(sample_rate=16000, n_fft=512, hop_length=256, win_length=512)
        >>> settings.num_bins, settings.num_frames(16000)
        (257, 64)
    """

    sample_rate: int = 16000
    n_fft: int = 512
    hop_length: int = 256
    win_length: int = 512

    def __post_init__(self) -> None:
        check_settings(
            self, {"sample_rate": (LOWEST_RATE, HIGHEST_RATE), "n_fft": (2, LONGEST_FFT)}
        )
        if (
            self.hop_length < 1
            or self.win_length % self.hop_length
            or self.win_length < 2 * self.hop_length
        ):
            raise SettingsError(
                f"win_length must be a multiple (at least twice) of hop_length, got "
                f"{self.win_length} and {self.hop_length}"
            )
        if self.win_length > self.n_fft:
            raise SettingsError(
                f"win_length must be at most n_fft, got {self.win_length} and {self.n_fft}"
            )

    @property
    def num_bins(self) -> int:
        """Number of frequency bins, `n_fft / 2 + 1`."""
        return self.n_fft // 2 + 1

    @property
    def past(self) -> int:
        """Samples that a frame covers before its newest hop."""
        return self.win_length - self.hop_length

    def num_frames(self, num_samples: int) -> int:
        """Number of frames of a whole signal: all that cover at least one of its samples."""
        if not num_samples:
            return 0
        return -(-num_samples // self.hop_length) + self.past // self.hop_length

    @cached_property
    def window(self) -> Array:
        """The window `[win_length]`, scaled for perfect reconstruction by overlap-add."""
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.win_length) / self.win_length)
        # Hann windows with r = win_length / hop_length of them overlapping sum to r / 2.
        return np.sqrt(hann * 2 * self.hop_length / self.win_length).astype(np.float32)


def analyse(
    block: Array, settings: StftSettings, past: Array | None = None
) -> tuple[ComplexArray, Array]:
    """Transform the next block of a waveform.

    Args:
        block: whole hops, `[..., num_frames * hop_length]`.
        past: the samples before the block, `[..., settings.past]`; None is silence.

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
    """Transform the next frames back; the inverse of `analyse`, `settings.past` samples later.

    Args:
        spectrum: `[..., num_bins, num_frames]`.
        overlap: the sum of earlier frames under the first samples, `[..., settings.past]`; None is
            silence.

    Returns:
        The waveform `[..., num_frames * hop_length]` and the overlap of the next block.
    """
    hop, parts = settings.hop_length, settings.win_length // settings.hop_length
    columns = np.fft.irfft(np.swapaxes(spectrum, -1, -2), settings.n_fft, axis=-1)
    columns = columns[..., : settings.win_length] * settings.window
    pieces = columns.reshape(*columns.shape[:-1], parts, hop)
    frames = pieces.shape[-3]
    hops = np.zeros((*spectrum.shape[:-2], parts - 1 + frames, hop), np.float32)
    if overlap is not None:
        hops[..., : parts - 1, :] = overlap.reshape(*overlap.shape[:-1], parts - 1, hop)
    for part in range(parts):  # the part-th hops of all frames are consecutive in the output
        hops[..., part : part + frames, :] += pieces[..., part, :]
    output = hops.reshape(*hops.shape[:-2], -1)
    return output[..., : frames * hop], output[..., frames * hop :]


def frame_powers(spectrum: ComplexArray) -> npt.NDArray[np.float64]:
    """The sum of the squared magnitudes of each frame.

    Args:
        spectrum: `[..., num_bins, num_frames]`.

    Returns:
        `[..., num_frames]`, float64.
    """
    frames = np.swapaxes(spectrum, -1, -2)
    powers: npt.NDArray[np.float64] = np.vecdot(frames, frames).real.astype(np.float64)
    return powers


def stft(waveform: Array, settings: StftSettings) -> ComplexArray:
    """The spectrum of a whole waveform.

    Args:
        waveform: `[..., samples]`.
        settings: see `StftSettings`.

    Returns:
        `[..., num_bins, settings.num_frames(samples)]`, complex64.

    Example:
        >>> waveform = np.random.default_rng(0).standard_normal((2, 1000)).astype(np.float32)
        >>> spectrum = stft(waveform, StftSettings())
        >>> spectrum.shape
        (2, 257, 5)
        >>> np.allclose(istft(spectrum, StftSettings(), num_samples=1000), waveform, atol=1e-5)
        True
    """
    frames = settings.num_frames(waveform.shape[-1])
    padding = [(0, 0)] * (waveform.ndim - 1) + [
        (0, frames * settings.hop_length - waveform.shape[-1])
    ]
    return analyse(np.pad(waveform, padding), settings)[0]


def istft(spectrum: ComplexArray, settings: StftSettings, *, num_samples: int) -> Array:
    """The waveform of a whole spectrum, the inverse of `stft`.

    Args:
        spectrum: `[..., num_bins, num_frames]`, from `stft`.
        settings: those of `stft`.
        num_samples: length of the waveform.

    Returns:
        `[..., num_samples]`, float32.
    """
    return synthesise(spectrum, settings)[0][..., settings.past : settings.past + num_samples]
