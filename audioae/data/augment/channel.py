"""What happens to a mixture between the microphone and us: clipping, a narrow band, a codec, lost
packets. The target stays whole.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from scipy import fft

from audioae.signal.spectrogram import Array

CUTOFFS_HZ = (4000.0, 8000.0, 11000.0)
BLOCK = 65536  # libsndfile crashes on longer blocks of Opus
MAX_LAG_SECONDS = 0.2
OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
OPUS_KBPS = (6.0, 256.0)  # what libsndfile's compression levels 1 and 0 ask of a channel


@dataclass(frozen=True)
class Clipping:
    """Cuts the waveform off at `fraction` of its peak."""

    fraction: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Clipping:
        """At 0.3 to 0.9 of the peak."""
        return cls(float(rng.uniform(0.3, 0.9)))

    def apply(self, waveform: Array) -> Array:
        """`[samples]`."""
        limit = self.fraction * float(np.abs(waveform).max(initial=0.0))
        return np.clip(waveform, -limit, limit)


@dataclass(frozen=True)
class BandLimit:
    """A cut-off without phase: all passes up to `cutoff_hz`, nothing from 1.1 times that on."""

    cutoff_hz: float

    @classmethod
    def draw(cls, rng: np.random.Generator, sample_rate: int) -> BandLimit | None:
        """4, 8 or 11 kHz, of those that lie below the Nyquist frequency; None where none does."""
        known = [cutoff for cutoff in CUTOFFS_HZ if cutoff < 0.49 * sample_rate]
        return cls(float(rng.choice(known))) if known else None

    def apply(self, waveform: Array, sample_rate: int) -> Array:
        """`[..., samples]`."""
        samples = waveform.shape[-1]
        size = fft.next_fast_len(samples, real=True)
        limited: Array = fft.irfft(fft.rfft(waveform, size) * self.gains(size, sample_rate), size)[
            ..., :samples
        ]
        return limited

    def gains(self, size: int, sample_rate: int) -> Array:
        """Linear gain at the bins of a real transform of `size` samples, not to be written to."""
        return _low_pass(size, sample_rate, self.cutoff_hz)


@lru_cache(maxsize=8)
def _low_pass(size: int, sample_rate: int, cutoff_hz: float) -> Array:
    into = np.clip((np.fft.rfftfreq(size, 1 / sample_rate) / cutoff_hz - 1) / 0.1, 0, 1)
    return np.asarray(np.square(np.cos(into * math.pi / 2)), np.float32)


@dataclass(frozen=True)
class Codec:
    """Encodes and decodes, in memory, and moves the answer to where the input was, to the sample,
    by their cross-correlation.

    Args:
        name: of the codec. kbps: asked of Opus, kbit/s; MP3 takes it as quality between its best
            (64 and above) and its worst (8).
    """

    name: Literal["opus", "mp3"]
    kbps: float

    @classmethod
    def draw(
        cls, rng: np.random.Generator, kbps: tuple[float, float], sample_rate: int
    ) -> Codec | None:
        """One that has this sample rate; None where none has."""
        has: dict[Literal["opus", "mp3"], tuple[int, ...]] = {"opus": OPUS_RATES, "mp3": MP3_RATES}
        known = [name for name, rates in has.items() if sample_rate in rates]
        chosen, rate = rng.integers(2), float(np.exp(rng.uniform(*np.log(kbps))))
        return cls(known[chosen % len(known)], rate) if known else None

    @property
    def compression_level(self) -> float:
        """libsndfile's: 0 is the best, 1 the smallest."""
        if self.name == "opus":
            low, high = OPUS_KBPS
            return min(1.0, max(0.0, (high - self.kbps) / (high - low)))
        return min(0.99, max(0.0, 1 - math.log2(max(self.kbps, 8) / 8) / 3))  # LAME refuses 1.0

    def apply(self, waveform: Array, sample_rate: int) -> Array:
        """`[samples]`, of the same length."""
        peak = float(np.abs(waveform).max(initial=0.0))
        if not peak:
            return waveform
        # an encoder would clip what lies above full scale
        factor = np.float32(min(1.0, 0.95 / peak))
        decoded = self._there_and_back(waveform * factor, sample_rate)
        return align(decoded, waveform, int(MAX_LAG_SECONDS * sample_rate)) / factor

    def _there_and_back(self, waveform: Array, sample_rate: int) -> Array:
        import soundfile

        form, subtype = {"opus": ("OGG", "OPUS"), "mp3": ("MP3", "MPEG_LAYER_III")}[self.name]
        encoded = io.BytesIO()
        with soundfile.SoundFile(
            encoded,
            "w",
            sample_rate,
            1,
            subtype,
            format=form,
            compression_level=self.compression_level,
        ) as file:
            for start in range(0, len(waveform), BLOCK):
                file.write(waveform[start : start + BLOCK])
        encoded.seek(0)
        decoded: Array = soundfile.read(encoded, dtype="float32")[0]
        return decoded


def align(late: Array, reference: Array, max_lag: int) -> Array:
    """`late` moved by the lag of at most `max_lag` samples at which it is most like `reference`,
    with its length.
    """
    size = fft.next_fast_len(len(late) + len(reference), real=True)
    likeness = fft.irfft(fft.rfft(late, size) * np.conj(fft.rfft(reference, size)), size)
    lags = np.concatenate([np.arange(max_lag + 1), np.arange(-max_lag, 0)])
    lag = int(lags[likeness[lags].argmax()])
    moved = late[lag:] if lag >= 0 else np.pad(late, (-lag, 0))
    return np.pad(moved[: len(reference)], (0, max(0, len(reference) - len(moved))))


@dataclass(frozen=True)
class PacketLoss:
    """Packets of 20 ms that do not arrive, in bursts (two states: Gilbert 1960).

    Args:
        share: of lost packets, 0..1. burst: mean number of packets lost in a row.
        repeat: whether the last packet is heard again in their place, half as loud each time;
            otherwise silence.
    """

    share: float
    burst: float
    repeat: bool
    seed: int

    @classmethod
    def draw(cls, rng: np.random.Generator, share: tuple[float, float]) -> PacketLoss:
        """Bursts of 1 to 3 packets."""
        return cls(
            float(rng.uniform(*share)),
            float(rng.uniform(1, 3)),
            bool(rng.random() < 0.5),
            int(rng.integers(1 << 32)),
        )

    def lost(self, packets: int) -> list[bool]:
        """Which packets are lost."""
        draws = np.random.default_rng(self.seed).random(packets)
        found, heal = 1 / self.burst, self.share / max(1 - self.share, 1e-9) / self.burst
        lost, now = [], bool(self.share >= 1)
        for draw in draws:
            now = bool(draw >= found) if now and self.share < 1 else bool(draw < heal)
            lost.append(now)
        return lost

    def apply(self, waveform: Array, sample_rate: int) -> Array:
        """`[samples]`."""
        packet = max(1, sample_rate // 50)
        received = waveform.copy()
        for number, lost in enumerate(self.lost(math.ceil(len(waveform) / packet))):
            if lost:
                start, end = number * packet, min((number + 1) * packet, len(waveform))
                before = received[max(0, start - packet) : start][: end - start]
                received[start:end] = (
                    before / 2 if self.repeat and len(before) == end - start else 0
                )
        return received
