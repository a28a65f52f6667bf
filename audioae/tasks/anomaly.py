"""Anomaly detection: the error with which an autoencoder of normal sound reconstructs a recording.

The score of a window is 1/k times a squared norm of its errors e = x - x'. "squared" is the mean
of ||e||^2 over its frames, with k features. "whitened" takes mean and standard deviation of the
errors of each band over the window, k numbers, subtracts their mean and divides by their covariance
in normal sound; so an error counts in proportion to how unusual it is, and a normal window has
about 1. The scores of the windows are aggregated to one per recording. Two baselines score the same
windows by their mel statistics.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, Self, get_args

import numpy as np
import numpy.typing as npt

from audioae.errors import AudioFileError, SettingsError
from audioae.fields import check_settings
from audioae.signal.features import compute_blocks, finite
from audioae.signal.resample import StreamResampler
from audioae.signal.spectrogram import Array
from audioae.tasks.autoencoder import Codec
from audioae.tasks.baselines import Mahalanobis, Neighbours, mel_statistics
from audioae.tasks.workers import Advance

Aggregate = Literal["mean", "max", "p95"]
AGGREGATES: tuple[Aggregate, ...] = get_args(Aggregate)
Norm = Literal["whitened", "squared"]
SYSTEMS = ("autoencoder", "mahalanobis", "neighbours")


@dataclass(frozen=True)
class AnomalySettings:
    """How recordings are scored.

    Args:
        window: length of a window in seconds; the score over time has one value for each.
        piece: length in seconds of the normal sound whose scores give the threshold, and of what
            is judged at once in a stream.
        aggregate: "mean", "max" or "p95" (95th percentile) of the windows of a recording.
        quantile: share of held-out normal pieces below the threshold.
        norm: of the errors of a window, "whitened" or "squared".

    Raises:
        SettingsError: a value is out of range.
    """

    window: float = 1.0
    piece: float = 10.0
    aggregate: Aggregate = "mean"
    quantile: float = 0.99
    norm: Norm = "whitened"

    def __post_init__(self) -> None:
        ranges = {"window": (0.05, 60.0), "piece": (0.05, 3600.0), "quantile": (0.5, 1.0)}
        check_settings(self, ranges)
        if self.piece < self.window:
            raise SettingsError(
                f"piece is {self.piece:g} s and window {self.window:g} s; expected a piece of at "
                "least one window"
            )

    def combine(self, scores: Array) -> float:
        """The score of a recording from the scores of its windows, `[windows]`.

        Example:
            >>> AnomalySettings(aggregate="max").combine(np.array([1.0, 3.0, 2.0]))
            3.0
        """
        if self.aggregate == "max":
            return float(scores.max())
        return float(scores.mean() if self.aggregate == "mean" else np.quantile(scores, 0.95))


@dataclass(frozen=True)
class Windows:
    """The scores of consecutive windows by system, `[windows]` each, and their statistics.

    Args:
        scores: by the names in `SYSTEMS`.
        length: of a window in seconds.
        seconds: length of what they cover.
    """

    scores: Mapping[str, Array]
    length: float
    seconds: float

    @property
    def count(self) -> int:
        """Number of windows."""
        return len(self.scores[SYSTEMS[0]])


@dataclass(frozen=True)
class AnomalyResult:
    """The score of a recording.

    Args:
        path: the file.
        score: aggregated reconstruction error.
        threshold: the score above which a recording is anomalous.
        is_anomalous: whether it is.
        seconds: its length.
        intervals: start and end in seconds of parts whose windows are above the threshold of
            windows.
        baselines: scores of the baselines.
        windows: the score of each window.
        window_seconds: length of a window.
    """

    path: str
    score: float
    threshold: float
    is_anomalous: bool
    seconds: float
    intervals: tuple[tuple[float, float], ...]
    baselines: Mapping[str, float]
    windows: tuple[float, ...]
    window_seconds: float

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Detector:
    """An autoencoder of normal sound with thresholds and baselines; see `load_detector`.

    Args:
        codec: the autoencoder.
        settings: how recordings are scored.
        errors: mean and covariance of the `mel_statistics` of the errors in normal windows.
        mahalanobis, neighbours: the baselines.
        thresholds: of a recording, by system.
        window_threshold: of a window, for `AnomalyResult.intervals`.
        about: what it was fitted to, as JSON values.
    """

    codec: Codec
    settings: AnomalySettings
    errors: Mahalanobis
    mahalanobis: Mahalanobis
    neighbours: Neighbours
    thresholds: Mapping[str, float] = field(default_factory=dict)
    window_threshold: float = np.inf
    about: Mapping[str, Any] = field(default_factory=dict)

    def with_threshold(self, threshold: float | None) -> Self:
        """The detector with another threshold of the autoencoder; None keeps its own."""
        if threshold is None:
            return self
        return replace(self, thresholds={**self.thresholds, "autoencoder": threshold})

    @property
    def window_frames(self) -> int:
        """Frames per window."""
        return max(1, round(self.settings.window * self.codec.settings.frames_per_second))

    @property
    def window_seconds(self) -> float:
        """The exact length of a window."""
        return self.window_frames / self.codec.settings.frames_per_second

    @property
    def piece_windows(self) -> int:
        """Windows per piece."""
        return max(1, round(self.settings.piece / self.window_seconds))

    def norm_of(self, errors: Array) -> float:
        """The score of a window from its errors `[bins, frames]`."""
        if self.settings.norm == "squared":
            return float(np.square(errors).mean())
        vector = mel_statistics(errors)
        return float(self.errors.score(vector[None])[0]) ** 2 / vector.size

    def score_windows(
        self, features: Iterable[Array], on_error: ErrorListener | None = None
    ) -> Iterator[dict[str, float]]:
        """The scores of windows by system, as the features arrive.

        Args:
            features: blocks `[bins, frames]`.
            on_error: called with the features and the squared errors of each block, for a plot.

        Yields:
            A score by system for each window. A rest of less than half a window counts only if it
            is all there is.
        """
        held: list[tuple[Array, Array]] = []
        size, count = self.window_frames, 0

        def scored(pieces: list[tuple[Array, Array]]) -> tuple[dict[str, float], Array, Array]:
            x = np.concatenate([features for features, _ in pieces], -1)
            errors = np.concatenate([errors for _, errors in pieces], -1)
            vector = mel_statistics(x[:, :size])[None]
            scores = {
                "autoencoder": self.norm_of(errors[:, :size]),
                "mahalanobis": float(self.mahalanobis.score(vector)[0]),
                "neighbours": float(self.neighbours.score(vector)[0]),
            }
            return scores, x[:, size:], errors[:, size:]

        for block, estimate in self.codec.reconstruct_blocks(features):
            errors = block - estimate
            if on_error is not None:
                on_error(block, np.square(errors))
            held.append((block, errors))
            while sum(each.shape[-1] for each, _ in held) >= size:
                scores, x, rest = scored(held)
                held, count = [(x, rest)], count + 1
                yield scores
        left = sum(each.shape[-1] for each, _ in held)
        if left and (2 * left >= size or not count):
            yield scored(held)[0]

    def score_features(
        self, features: Iterable[Array], on_error: ErrorListener | None = None
    ) -> Windows:
        """The scores of all windows of features in blocks `[bins, frames]`.

        Raises:
            AudioFileError: there are no frames.
        """
        frames = 0

        def counted() -> Iterator[Array]:
            nonlocal frames
            for block in features:
                frames += block.shape[-1]
                yield block

        rows = list(self.score_windows(counted(), on_error))
        if not rows:
            raise AudioFileError("the recording is empty; expected at least one sample")
        scores = {name: np.array([row[name] for row in rows]) for name in SYSTEMS}
        seconds = max(0, frames - 1) / self.codec.settings.frames_per_second
        return Windows(scores, self.window_seconds, seconds)

    def score_file(
        self,
        path: str | Path,
        on_error: ErrorListener | None = None,
        progress: Advance = lambda seconds: None,
    ) -> AnomalyResult:
        """Score a recording with any container, sample rate and number of channels.

        Raises:
            AudioFileError: it cannot be read, or is empty.
        """

        def watched() -> Iterator[Array]:
            frames = 0
            for block in self.codec.read_features(path):
                frames += block.shape[-1]
                progress(frames / self.codec.settings.frames_per_second)
                yield block

        return self.result(str(path), self.score_features(watched(), on_error))

    def result(self, path: str, windows: Windows) -> AnomalyResult:
        """The result of a recording from the scores of its windows."""
        scores = {name: self.settings.combine(each) for name, each in windows.scores.items()}
        own = windows.scores["autoencoder"]
        threshold = self.thresholds.get("autoencoder", np.inf)
        return AnomalyResult(
            path,
            scores.pop("autoencoder"),
            threshold,
            bool(self.settings.combine(own) > threshold),
            windows.seconds,
            intervals_of(own > self.window_threshold, windows.length, windows.seconds),
            scores,
            tuple(float(each) for each in own),
            windows.length,
        )

    def monitor(self, blocks: Iterable[Array], sample_rate: int) -> Iterator[AnomalyResult]:
        """Score a stream that may be endless, in constant memory.

        Args:
            blocks: `[channels, num_samples]` each, full scale -1..1.
            sample_rate: of the stream, in Hz.

        Yields:
            For each window, the result of the last `settings.piece` seconds, from the first whole
            piece on; for a shorter stream, one result at its end. `intervals` are relative to the
            start of the stream.
        """
        settings = self.codec.settings
        resampler = StreamResampler(sample_rate, settings.sample_rate, 1)

        def at_rate() -> Iterator[Array]:
            for block in blocks:
                mono = finite(block).mean(0, keepdims=True, dtype=np.float32)
                yield resampler.process(mono)[0]
            yield resampler.process(np.zeros((1, 0), np.float32), last=True)[0]

        recent: deque[dict[str, float]] = deque(maxlen=self.piece_windows)
        count = 0
        for count, row in enumerate(self.score_windows(compute_blocks(at_rate(), settings)), 1):
            recent.append(row)
            if len(recent) == self.piece_windows:
                yield self._recent(recent, count)
        if recent and count < self.piece_windows:
            yield self._recent(recent, count)

    def _recent(self, recent: Sequence[dict[str, float]], count: int) -> AnomalyResult:
        scores = {name: np.array([row[name] for row in recent]) for name in SYSTEMS}
        length = self.window_seconds
        windows = Windows(scores, length, len(recent) * length)
        found, start = self.result("-", windows), (count - len(recent)) * length
        moved = tuple((start + first, start + last) for first, last in found.intervals)
        return replace(found, intervals=moved, seconds=count * length)


class ErrorListener(Protocol):
    """Receives features and squared errors `[bins, frames]`, block by block."""

    def __call__(self, features: Array, errors: Array) -> None:
        """Take the next block."""
        ...


def intervals_of(
    above: npt.NDArray[np.bool_], length: float, seconds: float
) -> tuple[tuple[float, float], ...]:
    """Start and end of each run of true windows.

    Example:
        >>> intervals_of(np.array([False, True, True, False, True]), 1.0, 4.6)
        ((1.0, 3.0), (4.0, 4.6))
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[0], above.astype(np.int8), [0]])))
    return tuple(
        (round(float(start * length), 6), round(float(min(end * length, seconds)), 6))
        for start, end in edges.reshape(-1, 2)
    )
