"""What happens to a recording on its way: playback at another speed, reversed or in shuffled
grains, clipping, band limits, codecs, lost packets. The target is not changed, except by speed and,
when asked, by a band limit.

`Clipping` and `BandLimit` take NumPy arrays or torch tensors, `Codec` and `PacketLoss` NumPy
arrays.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from scipy import fft

from audioae.data.augment.backend import Waves, beside, transforms
from audioae.signal.resample import resample
from audioae.signal.spectrogram import Array

CUTOFFS_HZ = (4000.0, 8000.0, 11000.0)
BLOCK = 65536  # libsndfile crashes on longer blocks of Opus
MAX_LAG_SECONDS = 0.2
OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
OPUS_KBPS = (6.0, 256.0)  # bit rates of one channel at libsndfile's compression levels 1 and 0


@dataclass(frozen=True)
class Clipping:
    """Clips the waveform at `fraction` of its peak."""

    fraction: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Clipping:
        """0.3 to 0.9 of the peak."""
        return cls(float(rng.uniform(0.3, 0.9)))

    def apply(self, waveform: Waves) -> Waves:
        """Clip `[samples]`."""
        if not len(waveform):
            return waveform
        limit = self.fraction * abs(waveform).max()
        clipped: Waves = waveform.clip(-limit, limit)
        return clipped


@dataclass(frozen=True)
class BandLimit:
    """A zero-phase low-pass: passes all up to `cutoff_hz`, nothing from 1.1 times that on."""

    cutoff_hz: float

    @classmethod
    def draw(cls, rng: np.random.Generator, sample_rate: int) -> BandLimit | None:
        """4, 8 or 11 kHz, of those below the Nyquist frequency; None if there is none."""
        known = [cutoff for cutoff in CUTOFFS_HZ if cutoff < 0.49 * sample_rate]
        return cls(float(rng.choice(known))) if known else None

    def apply(self, waveform: Waves, sample_rate: int) -> Waves:
        """Filter `[..., samples]`."""
        transform, samples = transforms(waveform), waveform.shape[-1]
        size = fft.next_fast_len(samples, real=True)
        gains = beside(waveform, _low_pass(size, sample_rate, self.cutoff_hz))
        limited: Waves = transform.irfft(transform.rfft(waveform, size) * gains, size)[
            ..., :samples
        ]
        return limited


@lru_cache(maxsize=8)
def _low_pass(size: int, sample_rate: int, cutoff_hz: float) -> Array:
    """Linear gains `[size // 2 + 1]` at the bins of an FFT of `size` samples."""
    into = np.clip((np.fft.rfftfreq(size, 1 / sample_rate) / cutoff_hz - 1) / 0.1, 0, 1)
    return np.asarray(np.square(np.cos(into * math.pi / 2)), np.float32)


@dataclass(frozen=True)
class Codec:
    """A codec: encodes and decodes in memory and aligns the result with the input by their
    cross-correlation.

    Args:
        name: of the codec.
        kbps: bit rate of Opus, kbit/s; for MP3 it selects a quality between the best (64 and above)
            and the worst (8).
    """

    name: Literal["opus", "mp3"]
    kbps: float

    @classmethod
    def draw(
        cls, rng: np.random.Generator, kbps: tuple[float, float], sample_rate: int
    ) -> Codec | None:
        """A codec that supports the sample rate; None if none does."""
        has: dict[Literal["opus", "mp3"], tuple[int, ...]] = {"opus": OPUS_RATES, "mp3": MP3_RATES}
        known = [name for name, rates in has.items() if sample_rate in rates]
        chosen, rate = rng.integers(2), float(np.exp(rng.uniform(*np.log(kbps))))
        return cls(known[chosen % len(known)], rate) if known else None

    @property
    def compression_level(self) -> float:
        """Compression level of libsndfile: 0 is the best quality, 1 the smallest file."""
        if self.name == "opus":
            low, high = OPUS_KBPS
            return min(1.0, max(0.0, (high - self.kbps) / (high - low)))
        return min(0.99, max(0.0, 1 - math.log2(max(self.kbps, 8) / 8) / 3))  # LAME refuses 1.0

    def apply(self, waveform: Array, sample_rate: int) -> Array:
        """Encode and decode `[samples]`; the length stays the same."""
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
    """Shift `late` by the lag of at most `max_lag` samples at which its cross-correlation with
    `reference` is highest, and cut or pad it to the length of `reference`.
    """
    size = fft.next_fast_len(len(late) + len(reference), real=True)
    likeness = fft.irfft(fft.rfft(late, size) * np.conj(fft.rfft(reference, size)), size)
    lags = np.concatenate([np.arange(max_lag + 1), np.arange(-max_lag, 0)])
    lag = int(lags[likeness[lags].argmax()])
    moved = late[lag:] if lag >= 0 else np.pad(late, (-lag, 0))
    return np.pad(moved[: len(reference)], (0, max(0, len(reference) - len(moved))))


@dataclass(frozen=True)
class PacketLoss:
    """Packets of 20 ms are lost in bursts (two-state model, Gilbert 1960).

    Args:
        share: fraction of lost packets, 0..1.
        burst: mean number of packets lost in a row.
        repeat: whether a lost packet is replaced by the one before at half its amplitude;
            otherwise by silence.
        seed: for which packets are lost.
    """

    share: float
    burst: float
    repeat: bool
    seed: int

    @classmethod
    def draw(cls, rng: np.random.Generator, share: tuple[float, float]) -> PacketLoss:
        """Mean bursts of 1 to 3 packets."""
        return cls(
            float(rng.uniform(*share)),
            float(rng.uniform(1, 3)),
            bool(rng.random() < 0.5),
            int(rng.integers(1 << 32)),
        )

    def lost(self, packets: int) -> list[bool]:
        """Whether each of `packets` packets is lost."""
        draws = np.random.default_rng(self.seed).random(packets)
        found, heal = 1 / self.burst, self.share / max(1 - self.share, 1e-9) / self.burst
        lost, now = [], bool(self.share >= 1)
        for draw in draws:
            now = bool(draw >= found) if now and self.share < 1 else bool(draw < heal)
            lost.append(now)
        return lost

    def apply(self, waveform: Array, sample_rate: int) -> Array:
        """Replace the lost packets of `[samples]`."""
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


@dataclass(frozen=True)
class Speed:
    """Plays speech `factor` times as fast by resampling, which scales pitch and formants too."""

    factor: float

    @classmethod
    def draw(cls, rng: np.random.Generator, factor: tuple[float, float]) -> Speed:
        """Uniform in the range on a logarithmic scale."""
        return cls(float(np.exp(rng.uniform(*np.log(factor)))))

    def needed(self, samples: int) -> int:
        """Number of input samples that `apply` needs for `samples` output samples."""
        return math.ceil(samples * self.factor) + 1

    def apply(self, waveform: Array, samples: int, sample_rate: int) -> Array:
        """The first `samples` samples at the new speed; `waveform` has at least
        `needed(samples)` samples.
        """
        return resample(waveform, round(self.factor * sample_rate), sample_rate)[:samples]


LEFT_DB = -50.0  # what a low-pass leaves of a noise above its cut-off
FADE_SHARE = 0.2  # of a grain, over which it fades into the next one


@dataclass(frozen=True)
class Variation:
    """Makes other noise of the same kind from recorded noise: reversed in time, or cut into grains
    that are joined in random order.

    Args:
        backwards: whether the noise is reversed in time.
        grain_seconds: length of the grains; None: no grains.
        seed: for the order of the grains.
        cutoff_hz: of a low-pass, so that a network does not infer noise in one band from another;
            None: none.
    """

    backwards: bool
    grain_seconds: float | None
    seed: int
    cutoff_hz: float | None = None

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Variation:
        """Reversed with probability 0.5; grains of 0.05 to 1 s with probability 0.5; a low-pass at
        1.5 to 15 kHz with probability 0.3.
        """
        grain = float(10 ** rng.uniform(-1.3, 0)) if rng.random() < 0.5 else None
        backwards, seed = bool(rng.random() < 0.5), int(rng.integers(1 << 32))
        cutoff = float(np.exp(rng.uniform(*np.log([1500, 15000])))) if rng.random() < 0.3 else None
        return cls(backwards, grain, seed, cutoff)

    def apply(self, noise: Array, sample_rate: int) -> Array:
        """Vary `noise` `[samples]`; the length stays the same."""
        played = noise[::-1] if self.backwards else noise
        if self.cutoff_hz is not None and self.cutoff_hz < 0.45 * sample_rate:
            limited = BandLimit(self.cutoff_hz).apply(played, sample_rate)
            played = limited + np.float32(10 ** (LEFT_DB / 20)) * played
        if self.grain_seconds is None:
            return np.ascontiguousarray(played)
        return self._shuffled(played, max(16, round(self.grain_seconds * sample_rate)))

    def _shuffled(self, noise: Array, grain: int) -> Array:
        """Grains in random order with equal-power cross-fades."""
        samples, fade = len(noise), max(1, round(FADE_SHARE * grain))
        rng = np.random.default_rng(self.seed)
        starts = rng.integers(0, max(1, samples - grain - fade), -(-samples // grain))
        rise = np.sqrt(np.linspace(0, 1, fade, dtype=np.float32))
        shuffled = np.zeros(samples + grain + fade, np.float32)
        for number, start in enumerate(starts):
            piece = noise[start : start + grain + fade].copy()
            piece[:fade] *= rise[: len(piece)]
            piece[-fade:] *= rise[::-1][-len(piece) :]
            shuffled[number * grain : number * grain + len(piece)] += piece
        return shuffled[:samples]
