"""Count the tables of `compress` for an exported autoencoder and write them into its file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from audioae.errors import DataError, SettingsError, require
from audioae.pretrained import find_model
from audioae.signal.resample import resample
from audioae.signal.spectrogram import Array
from audioae.storage import write_bytes
from audioae.tasks.autoencoder import Codec
from audioae.tasks.coder import (
    ESCAPE,
    LATENT_CONTEXT,
    LATENT_LIMIT,
    LEVELS,
    NUM_CONTEXTS,
    PASSES,
    TOTAL,
    ZONES,
    Coder,
    Ints,
    RatePoint,
    analyse,
    contexts_of,
    latent_context,
    to_tables,
    weights_of,
)
from audioae.tasks.compress import ENTRY, gain_of

Counts = npt.NDArray[np.float64]
PRIOR = 20.0  # observations that the tables of a whole pass weigh in each table
TRIALS = 12  # of the bisection for a step
STEP_RANGE = 1e-4, 10.0


@dataclass(frozen=True)
class Shape:
    """What is chosen for a trained point before it is fitted; see `RatePoint`."""

    kbps: float
    gamma: float
    offset: float
    noise: float


# Chosen on held-out recordings, see recipes/codec-16k/README.md.
SHAPES = (
    Shape(6.0, gamma=0.3, offset=0.45, noise=0.25),
    Shape(12.0, gamma=0.35, offset=0.45, noise=0.25),
    Shape(24.0, gamma=0.4, offset=0.45, noise=0.2),
)


@dataclass(frozen=True)
class Sound:
    """A sound as the coder sees it.

    Args:
        latent: `[units, steps]`.
        envelope: decoded features, `[mels, frames]`.
        coefficients: of the MDCT, `[size, frames]`.
    """

    latent: Ints
    envelope: Array
    coefficients: Array


def analyse_sound(waveform: Array, sample_rate: int, codec: Codec) -> Sound:
    """Analyse a mono waveform `[num_samples]` at the level that `compress_file` gives it."""
    length = max(1, sample_rate // 10)
    powers = [
        np.square(part).mean() for part in np.split(waveform, range(length, len(waveform), length))
    ]
    factor = np.float32(10 ** (gain_of(np.array(powers)) / 20))
    at_rate = resample(waveform * factor, sample_rate, codec.settings.sample_rate)
    parts = list(analyse([at_rate[None]], codec))
    return Sound(*(np.concatenate([part[index][0] for part in parts], -1) for index in range(3)))


def fit_latent(latents: Sequence[Ints]) -> npt.NDArray[np.uint16]:
    """The tables of latents `[units, steps]` given the value before."""
    units = len(latents[0])
    counts = np.zeros((units, 2 * LATENT_CONTEXT + 1, 2 * LATENT_LIMIT + 1))
    unit = np.arange(units)[:, None]
    for latent in latents:
        context = latent_context(np.pad(latent, ((0, 0), (1, 0)))[:, :-1])
        np.add.at(counts, (unit, context, latent + LATENT_LIMIT), 1)
    parent = counts.sum(1, keepdims=True) + 0.05
    return to_tables(counts + PRIOR * parent / parent.sum(-1, keepdims=True))


def fit_point(sounds: Sequence[Sound], codec: Codec, shape: Shape, latent_bits: float) -> RatePoint:
    """Find the step for a bit rate by bisection, and count the tables.

    Args:
        latent_bits: of all sounds, which are part of the rate.
    """
    seconds = sum(each.coefficients.shape[-1] for each in sounds) / codec.settings.frames_per_second
    powers = [np.square(weights_of(each.envelope, codec.settings, 1.0)).mean() for each in sounds]
    found = [np.square(each.coefficients).mean() for each in sounds]
    empty = RatePoint(
        level=float(np.sqrt(np.mean(found) / np.mean(powers))),
        **vars(shape),
        step=1.0,
        centroids=np.arange(ESCAPE + 1, dtype=np.float32),
        tables=np.zeros(0, np.uint16),
    )
    weights = [weights_of(each.envelope, codec.settings, shape.gamma) for each in sounds]
    scaled = [each.coefficients / weight for each, weight in zip(sounds, weights, strict=True)]
    low, high = STEP_RANGE
    for _ in range(TRIALS):
        step = float(np.sqrt(low * high))
        counts, other = count_symbols(scaled, replace(empty, step=step))
        rate = (bits_of(counts, tables_of(counts)) + other + latent_bits) / seconds / 1000
        low, high = (step, high) if rate > shape.kbps else (low, step)
    point = replace(empty, step=step, tables=tables_of(counts))
    return replace(point, centroids=centroids_of(scaled, point))


def count_symbols(scaled: Sequence[Array], point: RatePoint) -> tuple[Counts, float]:
    """How often each magnitude occurs in each context, and the bits of signs and large values."""
    counts, other = np.zeros(NUM_CONTEXTS * (ESCAPE + 1)), 0.0
    for values in scaled:
        size = np.abs(point.quantise(values, np.ones_like(values)))
        now = np.ascontiguousarray(size.T)  # T, K
        before = np.pad(now, ((1, 0), (0, 0)))[:-1]
        limited = np.minimum(now, ESCAPE)
        for first, stride in PASSES:
            context = contexts_of(before, now, first)
            index = context * (ESCAPE + 1) + limited[:, first::stride]
            counts += np.bincount(index.ravel(), minlength=len(counts))
        large = now[now >= ESCAPE] - ESCAPE + 1
        other += (now > 0).sum() + (5 + np.floor(np.log2(large))).sum()
    return counts.reshape(NUM_CONTEXTS, -1), float(other)


def tables_of(counts: Counts) -> npt.NDArray[np.uint16]:
    """The tables for counts; rare contexts are close to their pass and levels in all zones."""
    zones = counts.reshape(len(PASSES), ZONES, len(LEVELS) ** 2, -1)
    parent = zones.sum(1, keepdims=True)
    parent = parent + 0.5 * 0.5 ** np.arange(ESCAPE + 1)
    smooth = zones + PRIOR * parent / parent.sum(-1, keepdims=True)
    return to_tables(smooth.reshape(counts.shape))


def bits_of(counts: Counts, tables: npt.NDArray[np.uint16]) -> float:
    """The bits of symbols with these counts."""
    return float((counts * np.log2(TOTAL / tables)).sum())


def centroids_of(scaled: Sequence[Array], point: RatePoint) -> Array:
    """The mean magnitude of the values with each code, in steps."""
    sums, counts = np.zeros(ESCAPE + 1), np.zeros(ESCAPE + 1)
    for values in scaled:
        codes = np.minimum(np.abs(point.quantise(values, np.ones_like(values))), ESCAPE).ravel()
        size = np.abs(values).ravel() / point.step
        counts += np.bincount(codes, minlength=ESCAPE + 1)
        sums += np.bincount(codes, weights=size, minlength=ESCAPE + 1)
    numbers = np.arange(ESCAPE + 1)
    mean = np.where(counts > 0, sums / np.maximum(counts, 1), numbers)
    mean[ESCAPE] = ESCAPE  # larger values have no common shift
    return mean.astype(np.float32)


def fit_coder(
    model: str | Path,
    sounds: Iterable[tuple[Array, int]],
    out: str | Path,
    *,
    shapes: Sequence[Shape] = SHAPES,
) -> Coder:
    """Fit the tables of `compress` and write a model that has them.

    Args:
        model: an .onnx file of an autoencoder with a quantised bottleneck, from `audioae export`.
        sounds: mono waveforms `[num_samples]` and their sample rates; some minutes of training
            material. The latents are those of the trained model.
        out: the .onnx file to write; it may be `model`.
        shapes: the points to fit.

    Returns:
        The tables.

    Raises:
        SettingsError: the bottleneck is another one, or the features are not log-mel.
        DataError: there are no sounds.
    """
    onnx = require("onnx", extra="train")
    path = find_model(model)
    codec = Codec(path)
    if codec.info.bottleneck != "quantised" or codec.settings.kind != "log_mel":
        raise SettingsError(
            f"{model} has a {codec.info.bottleneck} bottleneck and {codec.settings.kind} features; "
            "compress needs bottleneck = 'quantised' and features.kind = 'log_mel'"
        )
    found = [analyse_sound(waveform, rate, codec) for waveform, rate in sounds]
    found = [each for each in found if each.latent.size]
    if not found:
        raise DataError("there are no sounds to fit the tables to; give some minutes of sound")
    latent = fit_latent([each.latent for each in found])
    latent_bits = latent_cost(latent, [each.latent for each in found])
    points = tuple(fit_point(found, codec, shape, latent_bits) for shape in shapes)
    coder = Coder(latent, points)
    graph = onnx.load(str(path))
    entries = {each.key: each.value for each in graph.metadata_props}
    onnx.helper.set_model_props(graph, {**entries, ENTRY: coder.to_json()})
    write_bytes(out, graph.SerializeToString())
    return coder


def latent_cost(tables: npt.NDArray[np.uint16], latents: Sequence[Ints]) -> float:
    """The bits of latents `[units, steps]`."""
    bits, unit = 0.0, np.arange(len(tables))[:, None]
    for latent in latents:
        context = latent_context(np.pad(latent, ((0, 0), (1, 0)))[:, :-1])
        bits += float(np.log2(TOTAL / tables[unit, context, latent + LATENT_LIMIT]).sum())
    return bits
