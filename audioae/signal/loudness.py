"""Peak, RMS level and integrated loudness (ITU-R BS.1770-4), measured block by block."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]
Float64 = npt.NDArray[np.float64]

STEP_SECONDS = 0.1
GATING_STEPS = 4  # in a gating block, which overlaps the next one by three steps
ABSOLUTE_GATE = -70.0  # LUFS
RELATIVE_GATE = -10.0  # LU, relative to the mean of the blocks above the absolute gate
OFFSET = -0.691  # dB; a full-scale sine of 997 Hz in one channel has -3.01 LUFS
LOWEST_RATE = 4000  # Hz; below it the shelf of the weighting filter is outside the band
MEMORY_SECONDS = 0.1  # of the weighting filter: its double pole at 38 Hz decays by 200 dB
# Gain of the high-pass filter. BS.1770 gives the numerator 1, -2, 1 at 48 kHz; that of a filter of
# unit gain is smaller by this factor.
PASS_GAIN = 1.0050
SURROUND = 10 ** (1.5 / 10)  # 1.5 dB; rounded to 1.41 in BS.1770
# Channel weights by number of channels, in the order of WAV files (left, right, centre, LFE, ...).
# Other numbers of channels have weights of 1.
WEIGHTS = {
    4: (1, 1, SURROUND, SURROUND),
    5: (1, 1, 1, SURROUND, SURROUND),
    6: (1, 1, 1, 0, SURROUND, SURROUND),
    8: (1, 1, 1, 0, 1, 1, SURROUND, SURROUND),
}


class Meter:
    """Measures a recording block by block. Memory grows by 80 bytes per second.

    Args:
        sample_rate: Hz. Below 4000 Hz there is no loudness, only peak and RMS level.
        channels: number of channels.

    Attributes:
        num_samples: samples per channel so far.
        peak: largest magnitude in any channel; full scale is 1.

    Example:
        >>> meter = Meter(16000, 1)
        >>> for second in range(3):
        ...     meter.add(0.1 * np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)[np.newaxis])
        >>> round(meter.peak_dbfs, 1), round(meter.rms_dbfs, 1), round(meter.lufs, 1)
        (-20.0, -23.0, -23.0)
    """

    def __init__(self, sample_rate: int, channels: int) -> None:
        self.num_samples, self.peak = 0, 0.0
        self._power = 0.0
        self._channels = channels
        self._weighting = _Weighting(sample_rate, channels) if sample_rate >= LOWEST_RATE else None
        self._step = sample_rate * STEP_SECONDS
        self._steps: list[float] = []  # energy of each complete step
        self._open = 0.0  # energy of the incomplete step
        self._weights = np.array(WEIGHTS.get(channels, (1,) * channels), np.float64)

    def add(self, block: Array) -> None:
        """Measure the next block `[channels, n]`."""
        if not block.size:
            return
        self.peak = max(self.peak, float(np.abs(block).max()))
        self._power += float(np.square(block, dtype=np.float64).sum())
        if self._weighting is not None:
            self._gather(self._weights @ np.square(self._weighting.filter(block)))
        self.num_samples += block.shape[-1]

    def _gather(self, energy: Float64) -> None:
        """Sum the energies of the next samples, `[n]`, over steps."""
        first = len(self._steps)
        last = int((self.num_samples + len(energy)) / self._step)  # number of complete steps
        ends = np.array([round((step + 1) * self._step) for step in range(first, last)], np.int64)
        ends -= self.num_samples
        for part in np.split(energy, ends)[: len(ends)]:
            self._steps.append(self._open + float(part.sum()))
            self._open = 0.0
        self._open += float(energy[ends[-1] if len(ends) else 0 :].sum())

    @property
    def peak_dbfs(self) -> float | None:
        """The peak in dBFS; None for silence."""
        return 20 * math.log10(self.peak) if self.peak else None

    @property
    def rms_dbfs(self) -> float | None:
        """The RMS level of all channels in dBFS, 0 for a square wave; None for silence."""
        if not self._power:
            return None
        return 10 * math.log10(self._power / (self.num_samples * self._channels))

    @property
    def lufs(self) -> float | None:
        """The integrated loudness in LUFS; None for less than 0.4 s or if all is below the gate."""
        steps = np.array(self._steps)
        if len(steps) < GATING_STEPS:
            return None
        blocks = np.lib.stride_tricks.sliding_window_view(steps, GATING_STEPS).sum(axis=-1) / (
            GATING_STEPS * self._step
        )
        gated = blocks[blocks > _power(ABSOLUTE_GATE)]
        if not len(gated):
            return None
        return _lufs(float(gated[gated > gated.mean() * 10 ** (RELATIVE_GATE / 10)].mean()))


def integrated_loudness(waveform: Array, sample_rate: int) -> float | None:
    """The integrated loudness of a whole recording.

    Args:
        waveform: `[channels, samples]`.
        sample_rate: Hz.

    Returns:
        LUFS; None for less than 0.4 s, below 4000 Hz, or if all is below the gate.

    Example:
        >>> tone = np.sin(2 * np.pi * 997 * np.arange(96000) / 48000)
        >>> round(integrated_loudness(tone[np.newaxis], 48000), 2)
        -3.01
    """
    meter = Meter(sample_rate, len(waveform))
    meter.add(waveform)
    return meter.lufs


def _lufs(power: float) -> float:
    return OFFSET + 10 * math.log10(power)


def _power(lufs: float) -> float:
    return float(10 ** ((lufs - OFFSET) / 10))


class _Weighting:
    """The K-weighting filter of BS.1770 as a convolution with its impulse response (overlap-save).

    The response is truncated after `MEMORY_SECONDS`.
    """

    def __init__(self, sample_rate: int, channels: int) -> None:
        taps = math.ceil(MEMORY_SECONDS * sample_rate)
        self._size = 2 ** math.ceil(math.log2(4 * taps))
        impulse = np.fft.irfft(_response(sample_rate, self._size), self._size)[:taps]
        self._kernel = np.fft.rfft(impulse, self._size)
        self._past = np.zeros((channels, taps - 1), np.float64)

    def filter(self, block: Array) -> Float64:
        """Filter the next block, `[channels, n]` to `[channels, n]`."""
        held = self._past.shape[-1]
        signal = np.concatenate([self._past, block], axis=-1)
        self._past = signal[:, signal.shape[-1] - held :].copy()
        step = self._size - held
        parts = []
        for start in range(0, block.shape[-1], step):
            piece = signal[:, start : start + self._size]
            filtered = np.fft.irfft(np.fft.rfft(piece, self._size) * self._kernel, self._size)
            parts.append(filtered[:, held : piece.shape[-1]])
        return np.concatenate(parts, axis=-1)


def _response(sample_rate: int, size: int) -> npt.NDArray[np.complex128]:
    """The frequency response of the K-weighting, `[size / 2 + 1]`.

    BS.1770 gives coefficients for 48 kHz. As in libebur128, they are derived here from the analogue
    shelf and high-pass filter for any sample rate. The gain of the high-pass filter is that at
    48 kHz, so a sine has the same loudness at all sample rates.
    """
    delay = np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size)  # z^-1 on the unit circle

    tangent, quality = math.tan(math.pi * 1681.974450955533 / sample_rate), 0.7071752369554196
    high = 10 ** (3.999843853973347 / 20)
    band = high**0.4996667741545416
    over = (high - band * tangent / quality + tangent**2) * delay**2
    shelf = (high + band * tangent / quality + tangent**2) + 2 * (tangent**2 - high) * delay + over
    shelf /= (
        (1 + tangent / quality + tangent**2)
        + 2 * (tangent**2 - 1) * delay
        + (1 - tangent / quality + tangent**2) * delay**2
    )

    tangent, quality = math.tan(math.pi * 38.13547087602444 / sample_rate), 0.5003270373238773
    poles = (
        (1 + tangent / quality + tangent**2)
        + 2 * (tangent**2 - 1) * delay
        + (1 - tangent / quality + tangent**2) * delay**2
    )
    return np.asarray(shelf * PASS_GAIN * (1 - delay) ** 2 / poles, np.complex128)
