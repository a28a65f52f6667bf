"""The codes of `compress`: MDCT coefficients divided by an envelope, and integer tables for them.

An autoencoder codes the spectral envelope as whole numbers. The coefficients of the MDCT are
divided by a power of the decoded envelope and by a step, and rounded. Both are coded with a range
coder, whose probabilities come from tables of integers that `fit_coder` counts. The table for a
value is chosen by whole numbers that the decoder knows: those of the frame before and the
neighbours in the same frame. So the decoder never depends on rounding errors of the network.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from audioae.errors import CheckpointError, require
from audioae.signal import features as signal_features
from audioae.signal.features import FeatureSettings, mel_filter_bank, mel_frequencies
from audioae.signal.mdct import mdct
from audioae.signal.spectrogram import Array
from audioae.tasks.autoencoder import Codec

Ints = npt.NDArray[np.int32]

TOTAL = 2**14  # sum of the frequencies in a table
LATENT_LIMIT = 31  # of the absolute values of the latent
LATENT_CONTEXT = 8  # the value before is limited to this in contexts
ESCAPE = 15  # magnitude that announces a larger one
ZONES = 8  # parts of the spectrum with their own tables
LEVELS = np.array([0, 1, 2, 3, 5, 8, 13, 21])  # lower limits of the sums in a context
PASSES = ((0, 4), (2, 4), (1, 2))  # first coefficient and distance; each has more neighbours
ESCAPE_BITS = 24  # most bits of a magnitude


@lru_cache(maxsize=4)
def spread_matrix(settings: FeatureSettings) -> tuple[Array, Array]:
    """How levels of mel bands become levels of coefficients: a matrix `[size, mels]`, and dB to add
    to each band for its width, `[mels]`.
    """
    size = settings.hop_length
    centres = (np.arange(size) + 0.5) * settings.sample_rate / 2 / size
    bands = mel_frequencies(settings)
    matrix = np.stack([np.interp(centres, bands, row) for row in np.eye(len(bands))], -1)
    width = -10 * np.log10(mel_filter_bank(settings).sum(1))
    return matrix.astype(np.float32), width.astype(np.float32)


def weights_of(features: Array, settings: FeatureSettings, gamma: float) -> Array:
    """The envelope to the power of `gamma`, `[..., size, frames]`, of features `[..., mels,
    frames]`.
    """
    matrix, width = spread_matrix(settings)
    levels = settings.floor_db + features * (settings.top_db - settings.floor_db)
    spread = matrix @ (levels + width[:, None])
    return cast(Array, np.float32(10) ** (spread * np.float32(gamma / 20)))


def analyse(blocks: Iterable[Array], codec: Codec) -> Iterator[tuple[Ints, Array, Array]]:
    """The latent, the decoded envelope and the MDCT of a sound, for the same frames.

    Args:
        blocks: `[channels, num_samples]` each.

    Yields:
        `[channels, units, steps]`, `[channels, mels, frames]`, `[channels, size, frames]`.
    """
    size, step = codec.settings.hop_length, codec.info.step
    latents: list[Array] = []
    coefficients: list[Array] = []

    def sounds() -> Iterator[Array]:
        """Keep the MDCT of the blocks. Whole hops, and one more for the last overlap."""
        held = None
        count, frames = 0, 0
        for block in blocks:
            held = np.zeros((len(block), size), np.float32) if held is None else held
            held, count = np.concatenate([held, block], -1), count + block.shape[-1]
            whole = held.shape[-1] // size
            if whole > 1:
                coefficients.append(mdct(held[:, : whole * size], size))
                frames += coefficients[-1].shape[-1]
                held = held[:, (whole - 1) * size :]
            yield block
        if held is None or not count:
            return
        padding = -count % size
        missing = -(-(1 + (count + padding) // size) // codec.info.stride) * codec.info.stride
        total = (missing - frames + 1) * size
        coefficients.append(mdct(np.pad(held, ((0, 0), (0, total - held.shape[-1]))), size))
        yield np.zeros((len(held), padding), np.float32)

    def kept() -> Iterator[Array]:
        for latent in codec.encode_blocks(signal_features.compute_blocks(sounds(), codec.settings)):
            latents.append(np.clip(np.rint(latent), -LATENT_LIMIT, LATENT_LIMIT))
            yield latents[-1]

    for envelope in codec.decode_blocks(kept()):
        frames = envelope.shape[-1]
        yield (
            taken(latents, frames // step).astype(np.int32),
            envelope,
            taken(coefficients, frames),
        )


def taken(parts: list[Any], columns: int) -> Any:
    """Remove the first columns from a list of blocks `[..., columns]` and return them."""
    whole = np.concatenate(parts, -1)
    parts[:] = [whole[..., columns:]]
    return whole[..., :columns]


@dataclass(frozen=True)
class RatePoint:
    """A trained point of `compress`.

    Args:
        kbps: bits per second and channel that it was fitted to, in 1000.
        step: of the quantised values.
        gamma: exponent of the envelope in the divisor: 0 gives white noise, 1 noise with the
            spectrum of the signal.
        offset: added before rounding down; below 0.5, small values become 0.
        noise: magnitude of the noise that replaces zeros, in steps; less where the envelope is low.
        level: ratio of the RMS value of the coefficients to the envelope.
        centroids: mean magnitude of the values with each code, in steps, `[ESCAPE + 1]`.
        tables: frequencies of the magnitudes, `[contexts, ESCAPE + 1]`.
    """

    kbps: float
    step: float
    gamma: float
    offset: float
    noise: float
    level: float
    centroids: Array
    tables: npt.NDArray[np.uint16]

    def quantise(self, coefficients: Array, weights: Array) -> Ints:
        """Whole numbers for coefficients `[..., size, frames]`."""
        scaled = coefficients / (weights * np.float32(self.step))
        size = np.minimum(np.floor(np.abs(scaled) + self.offset), 2**ESCAPE_BITS - 1)
        return cast(Ints, (np.sign(scaled) * size).astype(np.int32))

    def dequantise(self, codes: Ints, weights: Array, rng: np.random.Generator) -> Array:
        """The inverse of `quantise`, with noise in place of zeros."""
        size = np.abs(codes)
        shift = self.centroids[np.minimum(size, ESCAPE)] - np.minimum(size, ESCAPE)
        expected = weights ** np.float32(1 / self.gamma - 1) * np.float32(self.level / self.step)
        signs = rng.choice(np.array([-1, 1], np.float32), codes.shape)
        noise = signs * np.float32(self.noise) * np.minimum(expected, 1)
        values = np.where(codes == 0, noise, np.sign(codes) * (size + shift))
        return cast(Array, (values * weights * np.float32(self.step)).astype(np.float32))


def latent_context(before: Ints) -> Ints:
    """The numbers of the tables of latent values, by the values of the step before."""
    return np.clip(before, -LATENT_CONTEXT, LATENT_CONTEXT) + LATENT_CONTEXT


def contexts_of(before: Ints, now: Ints, first: int) -> Ints:
    """The numbers of the tables for a pass over a frame.

    Args:
        before: magnitudes of the frame before, `[..., size]`.
        now: magnitudes of this frame; those of later passes are not used.
        first: of the pass, 0, 2 or 1.
    """
    number = [start for start, _ in PASSES].index(first)
    stride, size = PASSES[number][1], before.shape[-1]
    edge = [(0, 0)] * (before.ndim - 1) + [(2, 2)]
    past = np.pad(np.minimum(before, ESCAPE), edge)
    history = 2 * past[..., 2:-2] + past[..., 1:-3] + past[..., 3:-1]
    if first == 0:  # no neighbour is known yet
        near = np.zeros_like(history)
        history = history + past[..., :-4] + past[..., 4:]
    else:
        known = np.pad(np.minimum(now, ESCAPE), edge)
        near = known[..., 2 - first : size + 2 - first] + known[..., 2 + first : size + 2 + first]
        near = 2 * near
    zone = np.arange(first, size, stride) * ZONES // size
    level = [
        np.searchsorted(LEVELS, each[..., first::stride], side="right") - 1
        for each in (history, near)
    ]
    return cast(Ints, ((number * ZONES + zone) * len(LEVELS) + level[0]) * len(LEVELS) + level[1])


NUM_CONTEXTS = len(PASSES) * ZONES * len(LEVELS) ** 2


def to_tables(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.uint16]:
    """Positive frequencies with the sum `TOTAL`, `[..., symbols]`, for counts."""
    symbols = counts.shape[-1]
    share = counts / counts.sum(-1, keepdims=True)
    found = 1 + np.floor(share * (TOTAL - symbols)).astype(np.int64)
    rest = TOTAL - found.sum(-1)
    np.put_along_axis(
        found,
        found.argmax(-1)[..., None],
        found.max(-1, keepdims=True) + rest[..., None],
        -1,
    )
    whole: npt.NDArray[np.uint16] = found.astype(np.uint16)
    return whole


@dataclass(frozen=True)
class Coder:
    """The tables of a model: those of its latent, and its trained points.

    Args:
        latent: frequencies of the latent values, `[channels, 2 * LATENT_CONTEXT + 1, 2 *
            LATENT_LIMIT + 1]`.
        points: by increasing bit rate.
    """

    latent: npt.NDArray[np.uint16]
    points: tuple[RatePoint, ...]

    def point(self, kbps: float) -> RatePoint:
        """The point that is nearest to a bit rate."""
        return min(self.points, key=lambda each: abs(each.kbps - kbps))

    def to_json(self) -> str:
        """The tables as JSON, for the metadata of a model."""
        rows = []
        for point in self.points:
            packed = {"tables": pack(point.tables), "centroids": point.centroids.tolist()}
            rows.append({**asdict(point), **packed})
        values = {"latent": pack(self.latent), "shape": self.latent.shape, "points": rows}
        return json.dumps(values, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Coder:
        """The inverse of `to_json`. Raises `CheckpointError` for damaged tables."""
        try:
            values = json.loads(text)
            points = tuple(point_of(row) for row in values["points"])
            latent = unpack(values["latent"], values["shape"])
            if latent.shape[1:] != (2 * LATENT_CONTEXT + 1, 2 * LATENT_LIMIT + 1) or not points:
                raise ValueError("another shape")
        except (ValueError, KeyError, TypeError, zlib.error) as error:
            raise CheckpointError(
                f"the model has damaged tables for compress ({error}); install it again"
            ) from error
        return cls(latent, points)


def point_of(row: dict[str, Any]) -> RatePoint:
    """A point from its JSON values."""
    numbers = {
        name: float(row[name]) for name in ("kbps", "step", "gamma", "offset", "noise", "level")
    }
    if not all(np.isfinite(list(numbers.values()))):
        raise ValueError("a number is not finite")
    if min(numbers["step"], numbers["gamma"]) <= 0:
        raise ValueError("a step or an exponent is not positive")
    centroids = np.array(row["centroids"], np.float32)
    if centroids.shape != (ESCAPE + 1,):
        raise ValueError("another number of centroids")
    tables = unpack(row["tables"], (NUM_CONTEXTS, ESCAPE + 1))
    return RatePoint(**numbers, centroids=centroids, tables=tables)


def pack(tables: npt.NDArray[np.uint16]) -> str:
    """Tables as text."""
    return base64.b85encode(zlib.compress(tables.astype("<u2").tobytes(), 9)).decode()


def unpack(text: str, shape: Sequence[int]) -> npt.NDArray[np.uint16]:
    """The inverse of `pack`; checks that the tables can be used."""
    size = int(np.prod(shape)) * 2
    data = zlib.decompressobj().decompress(base64.b85decode(text), size + 1)
    if len(data) != size:
        raise ValueError("another size")
    tables = np.frombuffer(data, "<u2").reshape(shape).astype(np.uint16)
    if not ((tables > 0).all() and (tables.sum(-1, dtype=np.int64) == TOTAL).all()):
        raise ValueError("frequencies without the right sum")
    return tables


class PacketCoder:
    """Encodes or decodes packets in order; what it remembers of the packet before is the same on
    both sides.

    Args:
        coder: the tables.
        point: the trained point.
        channels: of the sound.
        size: coefficients per frame.
    """

    def __init__(self, coder: Coder, point: RatePoint, channels: int, size: int) -> None:
        self.coding: Any = require("constriction", extra="tasks").stream
        self.family = self.coding.model.Categorical(perfect=False)
        self.latent = (coder.latent / np.float32(TOTAL)).astype(np.float32)
        self.tables = (point.tables / np.float32(TOTAL)).astype(np.float32)
        self.units = np.tile(np.arange(len(coder.latent)), channels)
        self.code = np.zeros((channels, len(coder.latent)), np.int32)  # of the step before
        self.size = np.zeros((channels, size), np.int32)  # magnitudes of the frame before

    def latent_tables(self, before: Ints) -> Array:
        """The probabilities of a step `[channels * units, values]`."""
        return self.latent[self.units, latent_context(before.ravel())]

    def encode(self, latent: Ints, codes: Ints) -> bytes:
        """A packet: a latent `[channels, units, steps]`, codes `[channels, size, frames]`."""
        encoder = self.coding.queue.RangeEncoder()
        for step in np.moveaxis(latent, -1, 0):
            symbols = np.ascontiguousarray(step.ravel() + LATENT_LIMIT, np.int32)
            encoder.encode(symbols, self.family, self.latent_tables(self.code))
            self.code = step
        for frame in np.moveaxis(codes, -1, 0):
            size, limited = np.abs(frame), np.minimum(np.abs(frame), ESCAPE)
            for first, stride in PASSES:
                rows = self.tables[contexts_of(self.size, size, first)]
                part = np.ascontiguousarray(limited[:, first::stride].ravel(), np.int32)
                encoder.encode(part, self.family, rows.reshape(len(part), -1))
            if (found := frame[size > 0]).size:
                signs = (found < 0).astype(np.int32)
                encoder.encode(signs, self.coding.model.Uniform(2))
            for value in size[size >= ESCAPE]:
                self.encode_large(encoder, int(value) - ESCAPE + 1)
            self.size = size
        return cast(bytes, encoder.get_compressed().astype("<u4").tobytes())

    def encode_large(self, encoder: Any, value: int) -> None:
        """A number of at least 1 as its number of bits and these bits (Elias gamma)."""
        bits = value.bit_length()
        encoder.encode(bits - 1, self.coding.model.Uniform(ESCAPE_BITS + 1))
        for place in range(bits - 1):
            encoder.encode((value >> place) & 1, self.coding.model.Uniform(2))

    def decode(self, packet: bytes, steps: int, frames: int) -> tuple[Ints, Ints]:
        """The inverse of `encode`.

        Raises:
            ValueError: the packet was not made by `encode` with these tables.
        """
        if len(packet) % 4:
            raise ValueError("a packet has a wrong length")
        decoder = self.coding.queue.RangeDecoder(np.frombuffer(packet, "<u4").astype(np.uint32))
        latent = []
        for _ in range(steps):
            found = decoder.decode(self.family, self.latent_tables(self.code))
            self.code = found.reshape(self.code.shape) - LATENT_LIMIT
            latent.append(self.code)
        codes = [self.decode_frame(decoder) for _ in range(frames)]
        if not decoder.maybe_exhausted():
            raise ValueError("a packet has more than its frames")
        return np.stack(latent, -1), np.stack(codes, -1)

    def decode_frame(self, decoder: Any) -> Ints:
        """The codes of a frame `[channels, size]`."""
        size = np.zeros_like(self.size)
        for first, stride in PASSES:
            rows = self.tables[contexts_of(self.size, size, first)]
            part = size[:, first::stride]
            part[:] = decoder.decode(self.family, rows.reshape(part.size, -1)).reshape(part.shape)
        signs = np.ones_like(size)
        if count := int((size > 0).sum()):
            found = decoder.decode(self.coding.model.Uniform(2), count)
            signs[size > 0] = 1 - 2 * found
        large = size >= ESCAPE
        size[large] = [self.decode_large(decoder) + ESCAPE - 1 for _ in range(int(large.sum()))]
        self.size = size
        return cast(Ints, size * signs)

    def decode_large(self, decoder: Any) -> int:
        """The inverse of `encode_large`."""
        bits = int(decoder.decode(self.coding.model.Uniform(ESCAPE_BITS + 1))) + 1
        value = 1 << (bits - 1)
        for place in range(bits - 1):
            value |= int(decoder.decode(self.coding.model.Uniform(2))) << place
        return value
