"""Compare the reconstruction of an autoencoder with PCA of the same code size, on the same patches.

A linear autoencoder that minimises the squared error spans the subspace of PCA (Baldi & Hornik
1989), so its error is that of PCA, and the principal angles between both subspaces are 0. A deep
one with the same number of values per patch can have a lower error.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from audioae.denoising.batch import find_inputs
from audioae.errors import AudioFileError, DataError, SettingsError, counted, require
from audioae.signal.spectrogram import Array
from audioae.tasks.autoencoder import Codec
from audioae.tasks.pictures import new_figure, save_figure

MAX_PATCHES = 20_000  # that PCA is fitted to, and on which the errors are measured
CROPS, HELD_CROPS = 3000, 1000  # of a data folder, at most
OVERLAP = 4  # and at most so many times the duration of its recordings
HELD_OUT = 4  # every fourth file is held out, or the last quarter of a single one
LINEAR = 1e-3  # error of a linear decoder's superposition, relative to its outputs

Patches = npt.NDArray[np.float32]


@dataclass(frozen=True)
class PcaComparison:
    """An autoencoder beside PCA. All errors are of held-out patches, mean squares per feature.

    Args:
        model: name of the model; in the output of the command what was given, if two models have
            one name.
        code_size: latent values per patch, and components of PCA.
        patch_frames: frames of a patch.
        fitted, held_out: number of patches that PCA is fitted to, and of those that are scored.
        model_error, pca_error: error of the reconstructions.
        mean_error: error if the mean patch is the answer, which is the variance of the patches.
        is_linear: whether the decoder is a linear map and an offset.
        angles_deg: principal angles between the subspaces of the decoder and of PCA in degrees,
            smallest first; None if the decoder is not linear.
    """

    model: str
    code_size: int
    patch_frames: int
    fitted: int
    held_out: int
    model_error: float
    pca_error: float
    mean_error: float
    is_linear: bool
    angles_deg: tuple[float, ...] | None

    @property
    def ratio(self) -> float:
        """The error of the model relative to that of PCA."""
        return self.model_error / self.pca_error

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values, and the ratio of the errors."""
        return {**asdict(self), "ratio": self.ratio}


def compare(codec: Codec, fitted: Iterable[Array], held_out: Iterable[Array]) -> PcaComparison:
    """Compare a model with PCA.

    Args:
        codec: the model.
        fitted: features that PCA is fitted to, `[bins, frames]` each; at most `MAX_PATCHES` patches
            of them are used.
        held_out: features on which both are scored.

    Raises:
        SettingsError: the code is not smaller than a patch.
        DataError: there are fewer patches than components.
        DependencyError: scikit-learn is not installed.
    """
    decomposition = require("sklearn.decomposition", extra="tasks")
    info, frames = codec.info, codec.info.stride
    code_size = info.channels * frames // info.step
    size = codec.settings.num_bins * frames
    if code_size >= size:
        raise SettingsError(
            f"model {info.name!r} has {code_size} latent values for a patch of {size} features; "
            "PCA needs fewer"
        )
    train, test = (take_patches(each, frames, MAX_PATCHES) for each in (fitted, held_out))
    if len(train) < code_size or not len(test):
        raise DataError(
            f"there are {counted(len(train), 'patch', 'patches')} to fit PCA with {code_size} "
            f"components and {len(test)} to score; give more sounds"
        )
    pca = decomposition.PCA(code_size, svd_solver="covariance_eigh").fit(train.astype(np.float64))
    by_pca = pca.inverse_transform(pca.transform(test))
    by_model = reconstruct_patches(codec, test)
    directions = linear_directions(codec)
    return PcaComparison(
        model=info.name,
        code_size=code_size,
        patch_frames=frames,
        fitted=len(train),
        held_out=len(test),
        model_error=float(np.square(by_model - test).mean(dtype=np.float64)),
        pca_error=float(np.square(by_pca - test).mean(dtype=np.float64)),
        mean_error=float(np.square(pca.mean_ - test).mean(dtype=np.float64)),
        is_linear=directions is not None,
        angles_deg=None if directions is None else principal_angles(directions, pca.components_.T),
    )


def pca_curve(
    fitted: Patches, held_out: Patches, code_sizes: Sequence[int]
) -> list[tuple[int, float]]:
    """The error of PCA on held-out patches for each code size, mean square per feature."""
    decomposition = require("sklearn.decomposition", extra="tasks")
    pca = decomposition.PCA(max(code_sizes), svd_solver="covariance_eigh")
    pca.fit(fitted.astype(np.float64))
    centred = held_out - pca.mean_
    codes = centred @ pca.components_.T
    # The components are orthonormal, so the rest of the energy is the error.
    energy, each = np.square(centred).sum(), np.square(codes).sum(0)
    return [(size, float((energy - each[:size].sum()) / held_out.size)) for size in code_sizes]


def take_patches(features: Iterable[Array], frames: int, most: int) -> Patches:
    """Patches of features `[bins, any frames]`, `[patches, bins * frames]`; a rest is left out."""
    found: list[Patches] = []
    for each in features:
        count = each.shape[-1] // frames
        patches = each[:, : count * frames].reshape(len(each), count, frames)
        found.append(patches.transpose(1, 0, 2).reshape(count, -1))
        if sum(map(len, found)) >= most:
            break
    return np.concatenate(found)[:most] if found else np.zeros((0, 0), np.float32)


def reconstruct_patches(codec: Codec, patches: Patches) -> Patches:
    """The reconstruction of each patch on its own, `[patches, bins * frames]`."""
    shape = (len(patches), codec.settings.num_bins, codec.info.stride)
    return codec.reconstruct(patches.reshape(shape)).reshape(len(patches), -1)


def linear_directions(codec: Codec) -> Array | None:
    """The patch that each latent value adds, `[bins * frames, values]`; None if the decoder is not
    linear apart from an offset.
    """
    steps = codec.info.stride // codec.info.step
    size = codec.info.channels * steps

    def decoded(codes: Array) -> Array:
        found = codec.decode(codes.reshape(-1, codec.info.channels, steps))
        return found.reshape(len(codes), -1)

    offset, directions = decoded(np.zeros((1, size), np.float32)), decoded(np.eye(size, dtype="f4"))
    directions = directions - offset
    codes = np.random.default_rng(0).standard_normal((8, size)).astype(np.float32)
    found, expected = decoded(codes) - offset, codes @ directions
    if np.abs(found - expected).max() > LINEAR * max(float(np.abs(expected).max()), 1e-9):
        return None
    return directions.T


def principal_angles(one: Array, other: Array) -> tuple[float, ...]:
    """The principal angles between the column spaces of two matrices in degrees, smallest first."""
    linalg = require("scipy.linalg", extra="tasks")
    angles = linalg.subspace_angles(one.astype(np.float64), other.astype(np.float64))
    return tuple(float(each) for each in np.rad2deg(angles[::-1]))


def features_of_files(codec: Codec, files: Sequence[Path]) -> tuple[list[Array], list[Array]]:
    """Features of files, to fit and held out: every fourth file, or the end of a single one."""
    whole = [np.concatenate(list(codec.read_features(file)), -1) for file in files]
    if len(whole) > 1:
        first = min(HELD_OUT, len(whole)) - 1
        held = range(first, len(whole), HELD_OUT)
        kept = [each for at, each in enumerate(whole) if at not in held]
        return kept, [whole[at] for at in held]
    cut = whole[0].shape[-1] * (HELD_OUT - 1) // HELD_OUT
    return [whole[0][:, :cut]], [whole[0][:, cut:]]


def features_of_data(
    codec: Codec, folder: Path, recipe: dict[str, Any] | None
) -> tuple[Iterator[Array], Iterator[Array]]:
    """Features of crops of a data folder, of its training and its validation split.

    Args:
        folder: written by `audioae prepare`.
        recipe: of the model, for the kind of sounds and their levels; None for the defaults.
    """
    from audioae.data.mixtures import DataSettings
    from audioae.training.recipe import parse
    from audioae.training.sounds import SoundCorpus, SoundDataset, TaskSettings

    task = parse((recipe or {}).get("task", {"kind": "reconstruct"}), TaskSettings)
    data = parse((recipe or {}).get("data", {}), DataSettings)

    def crops(split: str, count: int, seed: int) -> Iterator[Array]:
        corpus = SoundCorpus(folder, split, data, task.source)
        recordings = sum(row.seconds for row in corpus.pool.rows)
        count = min(count, math.ceil(OVERLAP * recordings / data.segment_seconds))
        sounds = SoundDataset(corpus, data, seed=seed, count=count)
        for index in range(count):
            yield codec.features(sounds[index][0].numpy(), corpus.sample_rate)

    return crops("train", CROPS, 1), crops("valid", HELD_CROPS, 2)


def sounds_of(codec: Codec, path: Path, recipe: dict[str, Any] | None) -> tuple[list[Array], ...]:
    """Features to fit and held-out ones, of a data folder, an audio file or a folder of them.

    Raises:
        AudioFileError: there is no audio file in the folder, or a file or folder cannot be read.
    """
    if (path / "data.json").exists():
        return tuple(list(each) for each in features_of_data(codec, path, recipe))
    found = find_inputs([path])
    if found.unreadable:
        raise AudioFileError("; ".join(found.unreadable))
    return features_of_files(codec, [each.path for each in found.files])


def plot_errors(
    rows: Sequence[PcaComparison], curve: Sequence[tuple[int, float]], path: Path
) -> None:
    """Draw the error of PCA and of models against the code size.

    Raises:
        OutputError, SettingsError: see `save_figure`.
    """
    figure, (axes,) = new_figure(1, width=6, height=4)
    axes.plot(*zip(*curve, strict=True), color="black", label="PCA")
    for is_linear, label, marker in ((True, "linear autoencoder", "o"), (False, "deep", "s")):
        points = [(row.code_size, row.model_error) for row in rows if row.is_linear == is_linear]
        if points:
            axes.plot(*zip(*sorted(points), strict=True), marker, ls="--", label=label)
    axes.set(
        xlabel="latent values per patch",
        ylabel="mean squared error per feature, held-out patches",
        xscale="log",
        yscale="log",
    )
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    save_figure(figure, path)
