"""`Codec`: an autoencoder that encodes features of sound and reconstructs them.

It runs an exported model on ONNX Runtime, without torch, and a checkpoint on torch. Long signals
are processed in chunks with as many frames on either side as the network depends on, so the result
does not depend on blocks, and files of any length take constant memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from audioae.audio import AudioReader
from audioae.engine.codecs import CodecEngine, load_codec
from audioae.errors import SettingsError
from audioae.pretrained import CodecInfo
from audioae.signal import features as signal_features
from audioae.signal.features import FeatureSettings
from audioae.signal.resample import StreamResampler, resample
from audioae.signal.spectrogram import Array

CHUNK_FRAMES = 1024  # that are encoded or decoded at once, besides those on either side
BLOCK_SECONDS = 10.0  # of a file that is read at once


class Codec:
    """An autoencoder: features to a latent and back.

    Args:
        model: the name of a model in the package, the path of an .onnx file, a .safetensors
            checkpoint or a run folder, or a loaded `CodecEngine`.
        device: "cpu", "cuda", or "auto": the CPU for ONNX files, and for checkpoints a GPU if torch
            finds one.

    Attributes:
        info: the properties of the model, `CodecInfo`.

    Raises:
        ModelNotFoundError: there is no such model.
        CheckpointError: it is no autoencoder, or it is damaged.
        DependencyError: a package is missing: torch for checkpoints, librosa for features.

    Example:
        >>> import torch
        >>> from audioae.models import Reconstructor, build_autoencoder
        >>> from audioae.models.conv2d import Conv2dSettings
        >>> from audioae.engine.codecs import TorchCodec
        >>> network = build_autoencoder(Conv2dSettings(num_bins=64, channels=(4, 8, 2)))
        >>> codec = Codec(TorchCodec(Reconstructor(network, FeatureSettings())))
        >>> noise = np.random.default_rng(0).normal(0, 0.1, 48000).astype(np.float32)
        >>> features = codec.features(noise, 48000)  # resampled to 16 kHz
        >>> latent = codec.encode(features)
        >>> features.shape, latent.shape, codec.latent_shape
        ((64, 63), (16, 8), (16, 8))
        >>> codec.decode(latent).shape, codec.reconstruct(features).shape
        ((64, 64), (64, 63))
        >>> codec.waveform(codec.reconstruct(features), 16000).shape
        (16000,)
        >>> from audioae.audio import write
        >>> write("noise.wav", np.stack([noise, noise]), 48000)
        >>> blocks = codec.encode_blocks(codec.read_features("noise.wav"))
        >>> sum(block.shape[-1] for block in blocks)
        8
    """

    def __init__(self, model: str | Path | CodecEngine, *, device: str = "auto") -> None:
        self._engine = load_codec(model, device=device) if isinstance(model, (str, Path)) else model
        self.info: CodecInfo = self._engine.info

    @property
    def settings(self) -> FeatureSettings:
        """How features are computed."""
        return self.info.features

    @property
    def sha256(self) -> str:
        """The hash of weights and settings, hexadecimal; that of a checkpoint and of all files that
        are exported from it is the same.
        """
        return self.info.sha256

    @property
    def metadata(self) -> Mapping[str, str]:
        """The metadata entries of the model file; none for a checkpoint."""
        return self._engine.metadata

    @property
    def latent_shape(self) -> tuple[int, int]:
        """Latent values per step, and frames per step: `frames` frames have `ceil(frames / step)`
        steps, rounded up to whole patches for a model of patches.
        """
        return self.info.channels, self.info.step

    @property
    def steps_per_second(self) -> float:
        """Latent steps in a second of sound."""
        return self.settings.frames_per_second / self.info.step

    def features(self, waveform: Array, sample_rate: int) -> Array:
        """The features of a whole waveform.

        Args:
            waveform: `[..., num_samples]`, full scale -1..1. Leading axes, such as channels, are
                kept.
            sample_rate: in Hz; the waveform is resampled to that of the model.

        Returns:
            `[..., bins, frames]`.
        """
        at_rate = resample(waveform, sample_rate, self.settings.sample_rate)
        return signal_features.compute(at_rate, self.settings)

    def encode(self, features: Array) -> Array:
        """Encode features; the code of a variational model is the mean.

        Args:
            features: `[..., bins, frames]`; zeros complete the last step.

        Returns:
            `[..., channels, steps]`.
        """
        return self._whole(features, self.encode_blocks, self.info.channels)

    def decode(self, latent: Array) -> Array:
        """Decode a latent.

        Args:
            latent: `[..., channels, steps]`; for a model of patches, whole patches.

        Returns:
            `[..., bins, frames]`, with all frames of all steps.
        """
        return self._whole(latent, self.decode_blocks, self.settings.num_bins)

    def reconstruct(self, features: Array) -> Array:
        """Encode and decode features `[..., bins, frames]`; the result has the same shape."""
        return self.decode(self.encode(features))[..., : features.shape[-1]]

    def waveform(self, features: Array, num_samples: int | None = None, *, seed: int = 0) -> Array:
        """A waveform with these features, with the phase of Griffin-Lim.

        Args:
            features: `[..., bins, frames]`.
            num_samples: its length at the sample rate of the model; None is all frames.
            seed: the same seed gives the same samples.

        Returns:
            `[..., num_samples]`.
        """
        rows = features.reshape(-1, *features.shape[-2:])
        found = np.stack(
            [
                signal_features.to_waveform(row, self.settings, num_samples=num_samples, seed=seed)
                for row in rows
            ]
        )
        return found.reshape(*features.shape[:-2], -1)

    def read_features(
        self, path: str | Path, *, mono: bool = True, track: int = 0
    ) -> Iterator[Array]:
        """The features of a file in blocks, in constant memory.

        Args:
            path: a file with any sample rate, number of channels and container that audioae reads.
            mono: mix the channels down to their mean first.
            track: number of the audio track of a film, from 0.

        Yields:
            `[bins, frames]` each, or `[channels, bins, frames]` unless mono. Joined along the last
            axis, they are the features of the whole file.

        Raises:
            AudioFileError: the file cannot be read.
        """
        yield from read_features(path, self.settings, mono=mono, track=track)

    def encode_blocks(self, blocks: Iterable[Array]) -> Iterator[Array]:
        """Encode features that come in blocks, in constant memory.

        Args:
            blocks: `[..., bins, frames]` each, of any length, such as `read_features` yields.

        Yields:
            `[..., channels, steps]` each. Joined, they are what `encode` returns for the whole.
        """
        info = self.info
        return advance(
            checked(blocks, self.settings.num_bins, f"features for {info.name!r}"),
            self._engine.encode,
            stride=info.stride,
            reach=info.reach,
            chunk=CHUNK_FRAMES,
        )

    def decode_blocks(self, blocks: Iterable[Array]) -> Iterator[Array]:
        """Decode a latent that comes in blocks `[..., channels, steps]`, see `encode_blocks`."""
        info = self.info
        return advance(
            checked(blocks, info.channels, f"a latent for {info.name!r}"),
            self._engine.decode,
            stride=info.stride // info.step,
            reach=info.reach // info.step,
            chunk=CHUNK_FRAMES // info.step,
        )

    def reconstruct_blocks(self, blocks: Iterable[Array]) -> Iterator[tuple[Array, Array]]:
        """Reconstruct features that come in blocks, in constant memory.

        Args:
            blocks: `[..., bins, frames]` each.

        Yields:
            Features and their reconstruction, `[..., bins, frames]` each. Joined, the first are
            those of the blocks.
        """
        waiting: list[Array] = []

        def kept() -> Iterator[Array]:
            for block in blocks:
                waiting.append(block)
                yield block

        for decoded in self.decode_blocks(self.encode_blocks(kept())):
            held = np.concatenate(waiting, -1)
            frames = min(decoded.shape[-1], held.shape[-1])  # the last step may be incomplete
            waiting[:] = [held[..., frames:]]
            if frames:
                yield held[..., :frames], decoded[..., :frames]

    def _whole(
        self, values: Array, run: Callable[[Iterable[Array]], Iterator[Array]], rows: int
    ) -> Array:
        """All blocks of `run`, joined."""
        found = list(run([values]))
        empty = np.zeros((*values.shape[:-2], rows, 0), np.float32)
        return np.concatenate(found, -1) if found else empty


def read_features(
    path: str | Path, settings: FeatureSettings, *, mono: bool = True, track: int = 0
) -> Iterator[Array]:
    """The features of a file in blocks, in constant memory; see `Codec.read_features`."""
    yield from signal_features.compute_blocks(_waveform(path, settings, mono, track), settings)


def _waveform(
    path: str | Path, settings: FeatureSettings, mono: bool, track: int
) -> Iterator[Array]:
    """The waveform of a file at the rate of the features, in blocks `[channels?, samples]`."""
    with AudioReader(path, track=track) as reader:
        channels = 1 if mono else reader.info.channels
        resampler = StreamResampler(reader.info.sample_rate, settings.sample_rate, channels)
        length, is_last = round(BLOCK_SECONDS * reader.info.sample_rate), False
        while not is_last:
            block = signal_features.finite(reader.read(length))
            is_last = block.shape[-1] < length
            if mono:
                block = block.mean(0, keepdims=True, dtype=np.float32)
            output = resampler.process(block, last=is_last)
            yield output[0] if mono else output


def checked(blocks: Iterable[Array], rows: int, what: str) -> Iterator[Array]:
    """Blocks `[..., rows, columns]`; raises `SettingsError` for another number of rows."""
    for block in blocks:
        if block.ndim < 2 or block.shape[-2] != rows:
            raise SettingsError(
                f"{what} has the shape {list(block.shape)}; expected [..., {rows}, any number]"
            )
        yield block.astype(np.float32, copy=False)


def advance(
    blocks: Iterable[Array],
    run: Callable[[Array], Array],
    *,
    stride: int,
    reach: int,
    chunk: int,
) -> Iterator[Array]:
    """Run a part of a network over blocks, in constant memory.

    Columns are frames or steps. The network pads what it is given at both ends, so an output is
    right if it has `reach` columns on either side, or is next to the start or end of the signal.

    Args:
        blocks: `[..., rows, columns]` each.
        run: maps `[batch, rows, columns]` to the same or another number of rows and columns.
        stride: columns that are processed together; zeros complete the last of them.
        reach: columns on either side that an output depends on, whole strides.
        chunk: columns that are processed at once, besides those on either side.
    """
    chunk = max(stride, chunk // stride * stride)
    held: Array | None = None
    done = 0  # columns of `held` that were processed before

    def outputs(held: Array, is_last: bool) -> Iterator[tuple[Array, int]]:
        """The outputs of the columns that are due, and their number."""
        at, columns = done, held.shape[-1]
        while (
            due := min(chunk, (columns - at - (0 if is_last else reach)) // stride * stride)
        ) > 0:
            start, end = max(0, at - reach), min(columns, at + due + reach)
            part = held[..., start:end].reshape(-1, held.shape[-2], end - start)
            found = run(part)
            first, last = (
                (each - start) * found.shape[-1] // (end - start) for each in (at, at + due)
            )
            shape = (*held.shape[:-2], found.shape[-2], last - first)
            yield found[..., first:last].reshape(shape), due
            at += due

    for block in blocks:
        held = block if held is None else np.concatenate([held, block], -1)
        for output, due in outputs(held, False):
            yield output
            done += due
        dropped = max(0, done - reach)
        held, done = held[..., dropped:], done - dropped
    if held is not None:
        padding = [(0, 0)] * (held.ndim - 1) + [(0, -held.shape[-1] % stride)]
        for output, _ in outputs(np.pad(held, padding), True):
            yield output
