"""How loud a recording is: peak, RMS, and the integrated loudness of ITU-R BS.1770-4, measured
block by block.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]
Float64 = npt.NDArray[np.float64]

STEP_SECONDS = 0.1  # a gating block is four of them and overlaps the next by three
GATING_STEPS = 4
ABSOLUTE_GATE = -70.0  # LUFS
RELATIVE_GATE = -10.0  # LU below the mean of what passes the absolute gate
OFFSET = -0.691  # dB; makes a full-scale 997 Hz sine in one channel -3.01 LUFS
LOWEST_RATE = 4000  # Hz; below it the shelf of the weighting filter lies beyond the band
MEMORY_SECONDS = 0.1  # the weighting filter's double pole at 38 Hz has fallen by 200 dB after it
# of the high pass: at 48 kHz its numerator is 1, -2, 1 where unit gain would take 0.995 times that
PASS_GAIN = 1.0050
SURROUND = 10 ** (1.5 / 10)  # BS.1770 rounds it to 1.41
# Weights of the channels in the order of WAV files (left, right, centre, low frequencies, ...); all
# others count once.
WEIGHTS = {
    4: (1, 1, SURROUND, SURROUND),
    5: (1, 1, 1, SURROUND, SURROUND),
    6: (1, 1, 1, 0, SURROUND, SURROUND),
    8: (1, 1, 1, 0, 1, 1, SURROUND, SURROUND),
}


class Meter:
    """Measures `[channels, samples]` as they come; memory grows by 80 bytes a second.

    Attributes:
        samples: per channel, so far.
        peak: the largest sample of all channels, 1 is full scale.
    """

    def __init__(self, sample_rate: int, channels: int) -> None:
        self.samples, self.peak = 0, 0.0
        self._power = 0.0
        self._channels = channels
        self._weighting = _Weighting(sample_rate, channels) if sample_rate >= LOWEST_RATE else None
        self._step = sample_rate * STEP_SECONDS
        self._steps: list[float] = []  # energy of every 100 ms that are complete
        self._open = 0.0  # energy of those that are not
        self._weights = np.array(WEIGHTS.get(channels, (1,) * channels), np.float64)

    def add(self, block: Array) -> None:
        """Take the next `[channels, n]` samples."""
        if not block.size:
            return
        self.peak = max(self.peak, float(np.abs(block).max()))
        self._power += float(np.square(block, dtype=np.float64).sum())
        if self._weighting is not None:
            self._gather(self._weights @ np.square(self._weighting.filter(block)))
        self.samples += block.shape[-1]

    def _gather(self, energy: Float64) -> None:
        """Cut the energies of the next samples at the ends of steps."""
        first = len(self._steps)
        last = int((self.samples + len(energy)) / self._step)  # steps that are complete then
        ends = (
            np.array([round((step + 1) * self._step) for step in range(first, last)], np.int64)
            - self.samples
        )
        for part in np.split(energy, ends)[: len(ends)]:
            self._steps.append(self._open + float(part.sum()))
            self._open = 0.0
        self._open += float(energy[ends[-1] if len(ends) else 0 :].sum())

    @property
    def peak_dbfs(self) -> float | None:
        """The peak in dB below full scale; None for silence."""
        return 20 * math.log10(self.peak) if self.peak else None

    @property
    def rms_dbfs(self) -> float | None:
        """The level over all channels, dB, 0 for a square wave of full scale; None for silence."""
        return (
            10 * math.log10(self._power / (self.samples * self._channels)) if self._power else None
        )

    @property
    def lufs(self) -> float | None:
        """The integrated loudness; None for less than 0.4 s, for silence, and where everything is
        below the gate.
        """
        steps = np.array(self._steps)
        if len(steps) < GATING_STEPS:
            return None
        blocks = np.lib.stride_tricks.sliding_window_view(steps, GATING_STEPS).sum(axis=-1) / (
            GATING_STEPS * self._step
        )
        heard = blocks[blocks > _power(ABSOLUTE_GATE)]
        if not len(heard):
            return None
        return _lufs(float(heard[heard > heard.mean() * 10 ** (RELATIVE_GATE / 10)].mean()))


def integrated_loudness(waveform: Array, sample_rate: int) -> float | None:
    """LUFS of a whole recording `[channels, samples]`; None where there is none, see `Meter.lufs`."""
    meter = Meter(sample_rate, len(waveform))
    meter.add(waveform)
    return meter.lufs


def _lufs(power: float) -> float:
    return OFFSET + 10 * math.log10(power)


def _power(lufs: float) -> float:
    return float(10 ** ((lufs - OFFSET) / 10))


class _Weighting:
    """The K-weighting of BS.1770, `[channels, n]` to `[channels, n]`, as a convolution with its
    impulse response (overlap-save).
    """

    def __init__(self, sample_rate: int, channels: int) -> None:
        taps = math.ceil(MEMORY_SECONDS * sample_rate)
        self._size = 2 ** math.ceil(math.log2(4 * taps))
        impulse = np.fft.irfft(_response(sample_rate, self._size), self._size)[:taps]
        self._kernel = np.fft.rfft(impulse, self._size)
        self._past = np.zeros((channels, taps - 1), np.float64)

    def filter(self, block: Array) -> Float64:
        """The weighted samples, as many as given."""
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
    """The filter's response at the bins of a DFT of `size`.

    BS.1770 gives coefficients for 48 kHz; these are the analogue shelf and high pass that they come
    from, as in libebur128. The gain of its high pass is that at 48 kHz at any rate, so that a sine
    is equally loud at all of them.
    """
    delay = np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size)  # one sample

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
