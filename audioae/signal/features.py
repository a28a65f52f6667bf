"""Features of autoencoders that reconstruct: log-mel or compressed magnitude in [0, 1].

Frame t is centred at sample `t * hop_length`, as in librosa and torchaudio: the signal continues
as silence before its start and after its end. Magnitudes are relative to a full-scale sine, which
has 0 dB in its bin. librosa computes the spectrograms and filter banks here; in training,
`models.features.feature_map` computes the same with torchaudio.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from audioae.errors import SettingsError, require
from audioae.fields import check_settings
from audioae.signal.spectrogram import HIGHEST_RATE, LONGEST_FFT, LOWEST_RATE, Array

Kind = Literal["log_mel", "magnitude"]


@dataclass(frozen=True)
class FeatureSettings:
    """How features are computed.

    Args:
        kind: "log_mel" is the level in mel bands, "magnitude" the compressed magnitude of each
            frequency bin.
        sample_rate: in Hz.
        n_fft, hop_length, win_length: in samples; `n_fft` is even. The window is a Hann window.
        n_mels: number of mel bands; triangles on the scale of Slaney with a peak of 1.
        fmin, fmax: range of the mel bands in Hz; an `fmax` of 0 is half the sample rate.
        floor_db, top_db: levels in dB that become 0 and 1. A full-scale sine has 0 dB. "magnitude"
            uses `top_db` only.
        compression: exponent of "magnitude".

    Raises:
        SettingsError: a value has a wrong type or is out of range.

    Example:
        >>> settings = FeatureSettings(n_mels=40)
        >>> settings.num_bins, settings.num_frames(16000), settings.frames_per_second
        (40, 63, 62.5)
    """

    kind: Kind = "log_mel"
    sample_rate: int = 16000
    n_fft: int = 512
    hop_length: int = 256
    win_length: int = 512
    n_mels: int = 64
    fmin: float = 0.0
    fmax: float = 0.0
    floor_db: float = -80.0
    top_db: float = 0.0
    compression: float = 0.3

    def __post_init__(self) -> None:
        ranges = {
            "sample_rate": (LOWEST_RATE, HIGHEST_RATE),
            "n_fft": (16, LONGEST_FFT),
            "hop_length": (1, LONGEST_FFT),
            "win_length": (2, LONGEST_FFT),
            "n_mels": (1, 4096),
            "fmin": (0, HIGHEST_RATE),
            "fmax": (0, HIGHEST_RATE),
            "floor_db": (-200, 100),
            "top_db": (-200, 100),
            "compression": (0.01, 1),
        }
        check_settings(self, ranges)
        if self.n_fft % 2 or self.win_length > self.n_fft or self.hop_length > self.win_length:
            raise SettingsError(
                f"n_fft is {self.n_fft}, win_length {self.win_length}, hop_length "
                f"{self.hop_length}; expected an even n_fft >= win_length >= hop_length"
            )
        if not self.fmin < self.highest_hz <= self.sample_rate / 2:
            raise SettingsError(
                f"fmin is {self.fmin:g} Hz and fmax {self.fmax:g} Hz; expected fmin < fmax <= "
                f"{self.sample_rate / 2:g} Hz, half the sample rate"
            )
        if self.floor_db >= self.top_db:
            raise SettingsError(
                f"floor_db is {self.floor_db:g} and top_db {self.top_db:g}; expected floor_db < "
                "top_db"
            )

    @property
    def num_bins(self) -> int:
        """Number of features per frame: mel bands or frequency bins."""
        return self.n_mels if self.kind == "log_mel" else self.num_frequencies

    @property
    def num_frequencies(self) -> int:
        """Number of frequency bins of the STFT, `n_fft / 2 + 1`."""
        return self.n_fft // 2 + 1

    @property
    def highest_hz(self) -> float:
        """The upper end of the highest mel band, Hz."""
        return self.fmax or self.sample_rate / 2

    @property
    def frames_per_second(self) -> float:
        """Number of frames in a second of sound."""
        return self.sample_rate / self.hop_length

    @property
    def scale(self) -> float:
        """The factor of magnitudes for which a full-scale sine has 1 in its bin."""
        return 4 / self.win_length  # a Hann window sums to half its length

    def num_frames(self, num_samples: int) -> int:
        """Number of frames of a whole signal; 0 for an empty one."""
        return 1 + num_samples // self.hop_length if num_samples else 0


@lru_cache(maxsize=16)
def mel_filter_bank(settings: FeatureSettings) -> Array:
    """The mel filter bank of librosa, `[n_mels, n_fft / 2 + 1]`.

    Raises:
        SettingsError: a band is narrower than the distance of two frequency bins, and empty.
        DependencyError: librosa is not installed.

    Example:
        >>> mel_filter_bank(FeatureSettings(n_mels=40)).shape
        (40, 257)
    """
    import warnings

    librosa = require("librosa", extra="tasks")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about empty bands, which are an error here
        bank: Array = librosa.filters.mel(
            sr=settings.sample_rate,
            n_fft=settings.n_fft,
            n_mels=settings.n_mels,
            fmin=settings.fmin,
            fmax=settings.highest_hz,
            norm=None,
        )
    if empty := int((bank.max(1) == 0).sum()):
        raise SettingsError(
            f"{empty} of {settings.n_mels} mel bands contain no frequency bin; choose fewer "
            f"n_mels or an n_fft above {settings.n_fft}"
        )
    return bank


def mel_frequencies(settings: FeatureSettings) -> Array:
    """The centre frequency of each feature in Hz, `[bins]`, for the axis of a plot.

    Example:
        >>> mel_frequencies(FeatureSettings(kind="magnitude"))[:3]
        array([ 0.  , 31.25, 62.5 ])
    """
    librosa = require("librosa", extra="tasks")
    if settings.kind == "magnitude":
        bins: Array = librosa.fft_frequencies(sr=settings.sample_rate, n_fft=settings.n_fft)
        return bins
    edges: Array = librosa.mel_frequencies(
        settings.n_mels + 2, fmin=settings.fmin, fmax=settings.highest_hz
    )
    return edges[1:-1]


def finite(waveform: Array) -> Array:
    """A waveform with NaN as 0 and infinities as full scale.

    Example:
        >>> finite(np.array([np.nan, np.inf, -np.inf, 0.5])).tolist()
        [0.0, 1.0, -1.0, 0.5]
    """
    return np.nan_to_num(waveform, nan=0.0, posinf=1.0, neginf=-1.0)


def compute(waveform: Array, settings: FeatureSettings) -> Array:
    """The features of a whole waveform.

    Args:
        waveform: `[..., num_samples]`, full scale -1..1, at `settings.sample_rate`; see `finite`
            for other values.

    Returns:
        `[..., bins, frames]` float32 in [0, 1].

    Raises:
        DependencyError: librosa is not installed.

    Example:
        >>> tone = np.sin(2 * np.pi * 1000 / 16000 * np.arange(16000)).astype(np.float32)
        >>> features = compute(tone, FeatureSettings())
        >>> features.shape, round(float(features.max()), 1)
        ((64, 63), 1.0)
    """
    if not waveform.shape[-1]:
        return np.zeros((*waveform.shape[:-1], settings.num_bins, 0), np.float32)
    half = settings.n_fft // 2
    padding = [(0, 0)] * (waveform.ndim - 1) + [(half, half)]
    return _of_padded(np.pad(finite(waveform.astype(np.float32, copy=False)), padding), settings)


def compute_blocks(blocks: Iterable[Array], settings: FeatureSettings) -> Iterator[Array]:
    """The features of a waveform that comes in blocks, in constant memory.

    Args:
        blocks: `[..., num_samples]` each, of any length.

    Yields:
        `[..., bins, frames]` for each block that completes a frame. Joined, they are the features
        that `compute` returns for the whole waveform.

    Example:
        >>> noise = np.random.default_rng(0).normal(0, 0.1, 5000).astype(np.float32)
        >>> parts = list(compute_blocks(np.split(noise, [100, 3000]), FeatureSettings()))
        >>> np.allclose(np.concatenate(parts, -1), compute(noise, FeatureSettings()), atol=1e-6)
        True
    """
    half, held = settings.n_fft // 2, None
    for block in blocks:
        if held is None:
            if not block.shape[-1]:
                continue
            held = np.zeros((*block.shape[:-1], half), np.float32)
        held = np.concatenate([held, finite(block.astype(np.float32, copy=False))], -1)
        if (frames := 1 + (held.shape[-1] - settings.n_fft) // settings.hop_length) > 0:
            used = settings.n_fft + (frames - 1) * settings.hop_length
            yield _of_padded(held[..., :used], settings)
            held = held[..., frames * settings.hop_length :]
    if held is not None:
        held = np.pad(held, [(0, 0)] * (held.ndim - 1) + [(0, half)])
        if held.shape[-1] >= settings.n_fft:
            yield _of_padded(held, settings)


def _of_padded(signal: Array, settings: FeatureSettings) -> Array:
    """The features of all whole frames of a signal of at least `n_fft` samples."""
    librosa = require("librosa", extra="tasks")
    spectrum = librosa.stft(
        signal,
        n_fft=settings.n_fft,
        hop_length=settings.hop_length,
        win_length=settings.win_length,
        center=False,
    )
    magnitude = np.abs(spectrum) * np.float32(settings.scale)
    if settings.kind == "magnitude":
        top = np.float32(10 ** (-settings.top_db / 20))
        compressed = (magnitude * top) ** np.float32(settings.compression)
        clipped: Array = np.clip(compressed, 0, 1).astype(np.float32, copy=False)
        return clipped
    power = mel_filter_bank(settings) @ np.square(magnitude)
    level = librosa.power_to_db(power, amin=10 ** (settings.floor_db / 10), top_db=None)
    scaled = (level - settings.floor_db) / (settings.top_db - settings.floor_db)
    features: Array = np.clip(scaled, 0, 1).astype(np.float32, copy=False)
    return features


def to_magnitude(features: Array, settings: FeatureSettings) -> Array:
    """The magnitude spectrogram of features, by non-negative least squares for mel bands.

    Args:
        features: `[bins, frames]`; values outside [0, 1] are clipped.

    Returns:
        `[n_fft / 2 + 1, frames]` float32; a full-scale sine has 1 in its bin.
    """
    values = np.clip(features, 0, 1)
    if settings.kind == "magnitude":
        top = 10 ** (settings.top_db / 20)
        magnitude: Array = top * values ** np.float32(1 / settings.compression)
        return magnitude.astype(np.float32, copy=False)
    librosa = require("librosa", extra="tasks")
    level = settings.floor_db + values * (settings.top_db - settings.floor_db)
    power = np.where(values > 0, librosa.db_to_power(level), 0).astype(np.float32)
    if not power.size:
        return np.zeros((settings.num_frequencies, power.shape[-1]), np.float32)
    # No power lies outside the bands: bins in no band would otherwise get any value.
    bank = mel_filter_bank(settings)
    found: Array = np.sqrt(librosa.util.nnls(bank, power))
    found[bank.max(0) == 0] = 0
    return found.astype(np.float32, copy=False)


def to_waveform(
    features: Array,
    settings: FeatureSettings,
    *,
    num_samples: int | None = None,
    iterations: int = 32,
    seed: int = 0,
) -> Array:
    """A waveform with these features, whose phase Griffin-Lim estimates (Perraudin et al. 2013).

    Args:
        features: `[bins, frames]`.
        num_samples: length of the waveform; None is `(frames - 1) * hop_length`.
        iterations: more of them give a more consistent phase.
        seed: of the first phase; the same seed gives the same samples.

    Returns:
        `[num_samples]` float32.

    Example:
        >>> tone = 0.5 * np.sin(2 * np.pi * 1000 / 16000 * np.arange(8000)).astype(np.float32)
        >>> again = to_waveform(compute(tone, FeatureSettings()), FeatureSettings())
        >>> again.shape, round(float(again[2000:6000].std()), 1)
        ((7936,), 0.4)
    """
    length = (
        max(0, features.shape[-1] - 1) * settings.hop_length if num_samples is None else num_samples
    )
    if not features.shape[-1] or not length:
        return np.zeros(length, np.float32)
    librosa: Any = require("librosa", extra="tasks")
    magnitude = to_magnitude(features, settings) / np.float32(settings.scale)
    waveform: Array = librosa.griffinlim(
        magnitude,
        n_iter=iterations,
        hop_length=settings.hop_length,
        win_length=settings.win_length,
        n_fft=settings.n_fft,
        length=length,
        random_state=seed,
    )
    return waveform.astype(np.float32, copy=False)
