"""Embeddings of recordings: the latent of an autoencoder, per step or pooled over each file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np

from audioae.errors import AudioFileError, SettingsError, nearest
from audioae.signal.spectrogram import Array
from audioae.tasks.autoencoder import Codec
from audioae.tasks.workers import Advance, FilesListener, Work, Worked, map_files

DEFAULT_MODEL = "sound-16k"
Pooling = Literal["none", "mean", "mean+std", "max"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)


class Encoder(Protocol):
    """Anything that encodes blocks of features: a `Codec`, or a baseline."""

    def encode_blocks(self, blocks: Iterable[Array]) -> Iterator[Array]:
        """`[bins, frames]` blocks to `[channels, steps]` blocks."""
        ...


class Pooler:
    """Statistics over time of blocks `[channels, steps]`, in constant memory.

    Args:
        pooling: "mean", "mean+std" or "max".

    Example:
        >>> pooler = Pooler("mean+std")
        >>> for block in (np.array([[1.0, 2.0]]), np.array([[3.0]])):
        ...     pooler.add(block)
        >>> pooler.result().round(3)
        array([2.   , 0.816], dtype=float32)
    """

    def __init__(self, pooling: Pooling) -> None:
        self.pooling, self.steps = pooling, 0
        self._sums: Any = 0.0
        self._squares: Any = 0.0
        self._largest: Any = -np.inf

    def add(self, block: Array) -> None:
        """Add a block `[channels, steps]`."""
        if not block.shape[-1]:
            return
        wide = block.astype(np.float64)
        self.steps += block.shape[-1]
        self._sums = self._sums + wide.sum(-1)
        self._squares = self._squares + (wide**2).sum(-1)
        self._largest = np.maximum(self._largest, wide.max(-1))

    def result(self) -> Array:
        """The pooled vector, `[channels]`, or `[2 * channels]` for "mean+std".

        Raises:
            AudioFileError: there were no steps.
        """
        if not self.steps:
            raise AudioFileError("the recording is empty; expected at least one sample")
        mean = self._sums / self.steps
        deviation = np.sqrt(np.maximum(self._squares / self.steps - mean**2, 0))
        values = {
            "mean": mean,
            "mean+std": np.concatenate([mean, deviation]),
            "max": self._largest,
        }
        return np.asarray(values[self.pooling], np.float32)


@dataclass(frozen=True)
class EmbedSettings:
    """What is computed for each file.

    Args:
        model: name or path of an autoencoder, see `Codec`.
        pooling: "none" keeps the latent of every step; the others are statistics over a file.
        device: where the model runs.
        statistics: compute mel statistics and samples of patches too, for the baselines of a probe.
        patches: number of patches to sample per file.
    """

    model: str | Path = DEFAULT_MODEL
    pooling: Pooling = "mean"
    device: str = "auto"
    statistics: bool = False
    patches: int = 0

    def __post_init__(self) -> None:
        if self.pooling not in POOLINGS:
            raise SettingsError(
                f"pooling is {self.pooling!r}{nearest(self.pooling, POOLINGS)}; expected one of "
                f"{', '.join(POOLINGS)}"
            )


@dataclass(frozen=True)
class Embedding:
    """The embedding of a file.

    Args:
        path: the file.
        seconds: its length.
        pooled: the mean over time for the pooling "none", otherwise the embedding, `[dim]`.
        rows: number of rows: steps for the pooling "none", otherwise 1.
        steps: the latent of all steps, `[rows, channels]`, or a file with it as raw float32; None
            if it is pooled.
        statistics: mean and standard deviation of the features, `[2 * bins]`; None unless asked
            for.
        patches: samples of patches of features, `[patches, bins * frames]`; None unless asked for.
    """

    path: Path
    seconds: float
    pooled: Array
    rows: int = 1
    steps: Array | Path | None = None
    statistics: Array | None = None
    patches: Array | None = None


def embed_file(
    path: str | Path,
    codec: Codec,
    pooling: Pooling = "mean",
    *,
    encoder: Encoder | None = None,
    statistics: bool = False,
    patches: int = 0,
    spill: Path | None = None,
    progress: Advance = lambda seconds: None,
) -> Embedding:
    """The embedding of a file, in constant memory unless `pooling` is "none" without `spill`.

    Args:
        path: a recording with any container, sample rate and number of channels, which are mixed
            down.
        codec: computes the features, and the latent unless there is an `encoder`.
        pooling: see `EmbedSettings`.
        encoder: encodes the features in place of `codec`.
        statistics, patches: see `EmbedSettings`.
        spill: file that the latent of all steps is written to.
        progress: called with the seconds that are done.

    Raises:
        AudioFileError: the file cannot be read, or is empty.

    Example:
        >>> import torch
        >>> from audioae.audio import write
        >>> from audioae.engine.codecs import TorchCodec
        >>> from audioae.models import Reconstructor, build_autoencoder
        >>> from audioae.models.dense import DenseSettings
        >>> from audioae.signal.features import FeatureSettings
        >>> network = build_autoencoder(DenseSettings(num_bins=64, patch=4, widths=(16,)))
        >>> codec = Codec(TorchCodec(Reconstructor(network, FeatureSettings())))
        >>> write("noise.wav", np.random.default_rng(0).normal(0, 0.1, 48000), 48000)
        >>> embed_file("noise.wav", codec, "mean+std").pooled.shape
        (32,)
    """
    path, settings = Path(path), codec.settings
    pooler = Pooler("mean" if pooling == "none" else pooling)
    mel, sampler = Pooler("mean+std"), PatchSampler(patches, codec.info.step)
    frames = 0

    def watched() -> Iterator[Array]:
        nonlocal frames
        for block in codec.read_features(path):
            frames += block.shape[-1]
            if statistics:
                mel.add(block)
            sampler.add(block)
            progress(frames / settings.frames_per_second)
            yield block

    latents = (encoder or codec).encode_blocks(watched())
    steps: Array | Path | None = None
    if pooling == "none" and spill is not None:
        steps = spill
        with spill.open("wb") as file:
            for block in latents:
                pooler.add(block)
                file.write(np.ascontiguousarray(block.T, np.float32).tobytes())
    elif pooling == "none":
        blocks = list(latents)
        for block in blocks:
            pooler.add(block)
        empty = np.zeros((codec.info.channels, 0), np.float32)
        steps = np.concatenate([empty, *blocks], -1).T
    else:
        for block in latents:
            pooler.add(block)
    return Embedding(
        path,
        max(0, frames - 1) / settings.frames_per_second,
        pooler.result(),
        pooler.steps if pooling == "none" else 1,
        steps,
        mel.result() if statistics else None,
        sampler.result() if patches else None,
    )


class PatchSampler:
    """A uniform sample of the patches of a file (reservoir sampling, Vitter 1985).

    Args:
        size: number of patches to keep.
        frames: frames per patch.
    """

    def __init__(self, size: int, frames: int, seed: int = 0) -> None:
        self.size, self.frames = size, frames
        self._rng, self._seen = np.random.default_rng(seed), 0
        self._kept: list[Array] = []
        self._rest: Array | None = None

    def add(self, block: Array) -> None:
        """Add a block of features `[bins, frames]`."""
        if not self.size:
            return
        held = block if self._rest is None else np.concatenate([self._rest, block], -1)
        whole = held.shape[-1] // self.frames
        self._rest = held[:, whole * self.frames :]
        for number in range(whole):
            self._seen += 1
            place = len(self._kept)
            if place == self.size:
                place = int(self._rng.integers(self._seen))
            if place < self.size:
                at = number * self.frames
                self._kept[place : place + 1] = [held[:, at : at + self.frames].flatten()]

    def result(self) -> Array:
        """The sample, `[patches, bins * frames]`."""
        if not self._kept and self._rest is not None:  # shorter than a patch
            missing = self.frames - self._rest.shape[-1]
            self._kept = [np.pad(self._rest, ((0, 0), (0, missing))).flatten()]
        return np.stack(self._kept)


def make_embedder(
    settings: EmbedSettings, spill: Path | None = None, encoder: Encoder | None = None
) -> Work[Embedding]:
    """Load the model and return a function that embeds a file; see `map_files`."""
    codec = Codec(settings.model, device=settings.device)
    count = 0

    def work(path: Path, advance: Advance) -> Embedding:
        nonlocal count
        place = None
        if spill is not None and settings.pooling == "none":
            count += 1
            with tempfile.NamedTemporaryFile(dir=spill, suffix=".f32", delete=False) as file:
                place = Path(file.name)
        return embed_file(
            path,
            codec,
            settings.pooling,
            encoder=encoder,
            statistics=settings.statistics,
            patches=settings.patches,
            spill=place,
            progress=advance,
        )

    return work


def embed_files(
    paths: Sequence[Path],
    settings: EmbedSettings,
    *,
    spill: Path | None = None,
    encoder: Encoder | None = None,
    jobs: int = 1,
    listener: FilesListener | None = None,
) -> Iterator[Worked[Embedding]]:
    """Embed files, in order; a file that fails is a result with an error.

    Args:
        paths: the files.
        settings: of the embedding.
        spill: folder for the latents of the pooling "none"; without it they are kept in memory.
        encoder: encodes the features in place of the model.
        jobs: number of processes.
        listener: gets the events.
    """
    make: Callable[[], Work[Embedding]] = partial(make_embedder, settings, spill, encoder)
    return map_files(make, paths, jobs=jobs, listener=listener)
