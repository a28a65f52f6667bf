"""Fit a detector of anomalies to recordings of normal sound. This needs torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from audioae import __version__
from audioae.audio.writer import check_target
from audioae.engine.codecs import OnnxCodec
from audioae.errors import AudioaeError, DataError, OutputError, require
from audioae.fields import check_settings
from audioae.pretrained import name_of_file
from audioae.signal.features import FeatureSettings
from audioae.signal.spectrogram import Array
from audioae.tasks.anomaly import SYSTEMS, AnomalySettings, Detector, Windows
from audioae.tasks.autoencoder import Codec, read_features
from audioae.tasks.baselines import Mahalanobis, Neighbours, mel_statistics
from audioae.tasks.detector_file import save_detector

if TYPE_CHECKING:
    from audioae.models import Reconstructor

MOST_SECONDS = 7200.0  # of normal sound that are held in memory; a random choice of more
FEWEST_FILES = 5  # to hold out whole files rather than the end of each
MIN_SECONDS = 10.0  # of normal sound
HELD_OUT = 0.2  # share of the normal sound that gives the threshold


@dataclass(frozen=True)
class FitSettings:
    """How a detector is trained.

    Args:
        features: how features are computed.
        patch: frames of an observation.
        widths: units of each encoder layer, the last one being the latent; the decoder mirrors
            them.
        steps: training steps.
        batch_size: patches per step.
        learning_rate: largest learning rate; it rises over the first tenth and falls to zero.
        seed: of the weights, the patches and the held-out part.
    """

    features: FeatureSettings = field(default_factory=FeatureSettings)
    patch: int = 1
    widths: tuple[int, ...] = (64, 32, 4)
    steps: int = 500
    batch_size: int = 256
    learning_rate: float = 2e-3
    seed: int = 0

    def __post_init__(self) -> None:
        ranges = {
            "patch": (1, 256),
            "widths": (1, 65536),
            "steps": (1, 10_000_000),
            "batch_size": (2, 65536),
            "learning_rate": (1e-6, 1.0),
            "seed": (0, 2**31),
        }
        check_settings(self, ranges)


def collect(blocks: Iterator[Array], frames: int) -> Iterator[Array]:
    """Features in pieces of `frames` frames from blocks of any length; the last may be shorter."""
    rest: Array | None = None
    for block in blocks:
        rest = block if rest is None else np.concatenate([rest, block], -1)
        while rest.shape[-1] >= frames:
            yield rest[:, :frames]
            rest = rest[:, frames:]
    if rest is not None and rest.shape[-1]:
        yield rest


class NormalSound:
    """Pieces of the features of normal recordings, divided into a training and a held-out part.

    Args:
        settings: of the training.
        piece_frames: frames per piece.
    """

    def __init__(self, settings: FitSettings, piece_frames: int) -> None:
        self.settings, self.piece_frames = settings, piece_frames
        self.files: list[list[Array]] = []
        self.seconds = 0.0
        self._rng = np.random.default_rng([settings.seed, 3])
        most = MOST_SECONDS * settings.features.frames_per_second
        self._most = max(10, int(most / piece_frames))
        self._seen = 0

    def add(self, blocks: Iterator[Array]) -> None:
        """Add the features of a file in blocks `[bins, frames]`."""
        own: list[Array] = []
        self.files.append(own)
        for piece in collect(blocks, self.piece_frames):
            self.seconds += piece.shape[-1] / self.settings.features.frames_per_second
            self._seen += 1
            if self._seen <= self._most:
                own.append(piece)
            elif (place := int(self._rng.integers(self._seen))) < self._most:
                self._drop(place)
                own.append(piece)

    def _drop(self, place: int) -> None:
        for pieces in self.files:
            if place < len(pieces):
                del pieces[place]
                return
            place -= len(pieces)

    def split(self) -> tuple[list[Array], list[Array]]:
        """The training and the held-out pieces: whole files, or the end of each if there are few.

        Raises:
            DataError: there is too little sound.
        """
        if self.seconds < MIN_SECONDS:
            raise DataError(
                f"{self.seconds:.1f} s of normal sound; expected at least {MIN_SECONDS:g} s, "
                "better 10 minutes"
            )
        files = [pieces for pieces in self.files if pieces]
        if len(files) >= FEWEST_FILES:
            order = self._rng.permutation(len(files))
            count = max(1, round(HELD_OUT * len(files)))
            held = {int(each) for each in order[:count]}
            return (
                [piece for at, own in enumerate(files) if at not in held for piece in own],
                [piece for at, own in enumerate(files) if at in held for piece in own],
            )
        training, held_out = [], []
        for own in files:
            whole = np.concatenate(own, -1)
            at = round((1 - HELD_OUT) * whole.shape[-1])
            training += list(collect(iter([whole[:, :at]]), self.piece_frames))
            held_out += list(collect(iter([whole[:, at:]]), self.piece_frames))
        return training, held_out


def train(
    pieces: Sequence[Array],
    settings: FitSettings,
    *,
    progress: Callable[[int, float], None] = lambda step, loss: None,
) -> Reconstructor:
    """Train a dense autoencoder on patches of features `[bins, frames]`, with MSE.

    Args:
        pieces: of normal sound.
        settings: of the training.
        progress: called with the number of steps done and the loss.

    Raises:
        DataError: all pieces are shorter than a patch.
        DependencyError: torch is not installed.
    """
    torch: Any = require("torch", extra="train")
    from audioae.models import Reconstructor, build_autoencoder
    from audioae.models.dense import DenseSettings

    patch = settings.patch
    long = [np.ascontiguousarray(piece, np.float32) for piece in pieces if piece.shape[-1] >= patch]
    if not long:
        raise DataError(f"all recordings are shorter than {patch} frames; expected longer ones")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = build_autoencoder(
            DenseSettings(num_bins=settings.features.num_bins, patch=patch, widths=settings.widths)
        )
    model = Reconstructor(network, settings.features, output="identity", name="anomaly")
    whole = torch.from_numpy(np.concatenate(long, -1))  # bins, frames
    with torch.no_grad():  # it starts with the mean spectrum as its answer
        head: Any = model.autoencoder.head
        head.bias.copy_(whole.mean(-1)[:, None].expand(-1, patch).flatten())
    lengths = np.array([piece.shape[-1] for piece in long])
    firsts = np.cumsum(lengths) - lengths
    ranges = zip(firsts, lengths - patch + 1, strict=True)
    starts = np.concatenate([first + np.arange(count) for first, count in ranges])
    rng = np.random.default_rng([settings.seed, 4])
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.steps + 1, pct_start=0.1
    )
    offsets = np.arange(patch)
    model.train()
    for step in range(1, settings.steps + 1):
        at = rng.choice(starts, settings.batch_size)[:, None] + offsets
        # One sequence of patches: many times faster than a batch of short ones.
        batch = whole[:, at.flatten()][None]  # 1, bins, batch * patch
        loss = torch.nn.functional.mse_loss(model(batch).features, batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        progress(step, loss.item())
    return model.eval()


def calibrate(
    codec: Codec,
    settings: AnomalySettings,
    training: Sequence[Array],
    held_out: Sequence[Array],
    anomalous: Sequence[Sequence[Array]] = (),
    about: Mapping[str, Any] | None = None,
) -> Detector:
    """Fit the covariance of the errors, the baselines and the thresholds of a detector.

    Args:
        codec: the trained autoencoder.
        settings: how recordings are scored.
        training: pieces that the autoencoder was trained on; the baselines are fitted to them.
        held_out: normal pieces that give the thresholds.
        anomalous: pieces of each labelled anomalous recording. With some, the threshold is the
            one with the highest F1 score on them and the held-out pieces.
        about: what it was fitted to.
    """
    nothing = np.zeros((1, 2 * codec.settings.num_bins), np.float32)
    empty = Mahalanobis(nothing[0], nothing)
    frames = Detector(codec, settings, empty, empty, Neighbours(*3 * [nothing])).window_frames
    long = [piece for piece in training if 2 * piece.shape[-1] >= frames]  # as in `score_windows`
    normal, errors = [], []
    for piece in long or training:
        normal += statistics_of(piece, frames)
        errors += statistics_of(piece - codec.reconstruct(piece), frames)
    normal_vectors = np.stack(normal)
    detector = Detector(
        codec,
        settings,
        Mahalanobis.fit(np.stack(errors)),
        Mahalanobis.fit(normal_vectors),
        Neighbours.fit(normal_vectors),
        about=about or {},
    )
    least = piece_frames(codec.settings, settings) / 2
    whole = [piece for piece in held_out if piece.shape[-1] >= least]
    low = [detector.score_features([piece]) for piece in whole or held_out]
    high = [detector.score_features(iter(pieces)) for pieces in anomalous]
    thresholds = {name: _threshold(name, settings, low, high) for name in SYSTEMS}
    windows = np.concatenate([each.scores["autoencoder"] for each in low])
    limit = float(np.quantile(windows, settings.quantile))
    return replace(detector, thresholds=thresholds, window_threshold=limit)


def piece_frames(features: FeatureSettings, settings: AnomalySettings) -> int:
    """Frames per piece, at least one."""
    return max(1, round(settings.piece * features.frames_per_second))


def statistics_of(piece: Array, frames: int) -> list[Array]:
    """The mel statistics of each whole window of a piece; of all of it, if it is shorter."""
    count = max(1, piece.shape[-1] // frames)
    return [mel_statistics(piece[:, at * frames : (at + 1) * frames]) for at in range(count)]


def _threshold(
    name: str, settings: AnomalySettings, normal: Sequence[Windows], faulty: Sequence[Windows]
) -> float:
    low = np.array([settings.combine(each.scores[name]) for each in normal])
    if not faulty:
        return float(np.quantile(low, settings.quantile))
    return best_threshold(low, np.array([settings.combine(each.scores[name]) for each in faulty]))


def best_threshold(normal: Array, anomalous: Array) -> float:
    """The threshold with the highest F1 score; the middle of the widest gap if there are several.

    Example:
        >>> best_threshold(np.array([1.0, 2.0, 3.0]), np.array([7.0, 9.0]))
        5.0
    """
    values = np.unique(np.concatenate([normal, anomalous])).astype(np.float64)
    edges = np.concatenate([[values[0] - 1e-9], values])
    candidates = (edges[:-1] + edges[1:]) / 2
    gaps = np.diff(edges)

    def f1(threshold: float) -> float:
        hits = int((anomalous > threshold).sum())
        return 2 * hits / (hits + int((normal > threshold).sum()) + len(anomalous))

    scores = [f1(each) for each in candidates]
    best = max(range(len(candidates)), key=lambda at: (round(scores[at], 12), gaps[at]))
    return float(candidates[best])


def check_detector_path(path: Path, *, overwrite: bool) -> None:
    """Raise an error if a detector cannot be fitted or written to `path`; called before any work.

    Raises:
        OutputError: it exists, has another suffix than .onnx, or its folder does not exist.
        DependencyError: torch or onnx is missing.
    """
    if path.suffix.lower() != ".onnx":
        raise OutputError(f"{path} has the suffix {path.suffix!r}; expected .onnx")
    check_target(path, overwrite=overwrite)
    for module in ("torch", "onnx"):
        require(module, extra="train")


def fit_detector(
    normal: Sequence[Path],
    output: Path,
    settings: AnomalySettings,
    training: FitSettings,
    *,
    anomalous: Sequence[Path] = (),
    progress: Callable[[int, float], None] = lambda step, loss: None,
    failed: Callable[[str], None] = lambda error: None,
) -> Detector:
    """Fit a detector to recordings and write it to `output`, which is replaced if it exists.

    Args:
        normal: recordings of normal sound.
        output: ends in .onnx.
        settings: how recordings are scored.
        training: how the autoencoder is trained.
        anomalous: labelled anomalous recordings, see `calibrate`.
        progress: called with the number of steps done and the loss.
        failed: called with the error of each recording that cannot be read.

    Raises:
        DataError: there is too little normal sound, or no anomalous recording can be read.
        OutputError: the file cannot be written.
    """
    from audioae.training.export_codec import export_codec

    frames = piece_frames(training.features, settings)
    sound = NormalSound(training, frames)
    for path in normal:
        try:
            sound.add(read_features(path, training.features))
        except (AudioaeError, OSError) as error:
            failed(_line(path, error))
    train_pieces, held_out = sound.split()
    examples = []
    for path in anomalous:
        try:
            examples.append(list(collect(read_features(path, training.features), frames)))
        except (AudioaeError, OSError) as error:
            failed(_line(path, error))
    if anomalous and not any(examples):
        raise DataError("no anomalous recording can be read; give others, or leave them out")
    model = train(train_pieces, training, progress=progress)
    with TemporaryDirectory(prefix="audioae-") as folder:
        file = Path(folder) / "model.onnx"
        export_codec(model, file, name=name_of_file(output), overwrite=True)
        about = {
            "version": __version__,
            "files": sum(bool(pieces) for pieces in sound.files),
            "seconds": sound.seconds,
            "held_out_pieces": len(held_out),
            "threshold_from": "labelled examples" if examples else "held-out normal sound",
        }
        detector = calibrate(
            Codec(OnnxCodec(file)), settings, train_pieces, held_out, examples, about
        )
        save_detector(detector, file, output)
    return detector


def _line(path: Path, error: Exception) -> str:
    message = " ".join(str(error).split())
    return message if str(path) in message else f"{path}: {message}"
