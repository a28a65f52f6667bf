"""Compress recordings to .aae files with a quantised autoencoder, and decompress them.

The sound is brought to the sample rate of the model and to one level. See `coder` for the codes and
`container` for the file.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from audioae.audio import AudioInfo, AudioReader, AudioWriter, check_output
from audioae.audio.writer import check_target
from audioae.errors import AudioFileError, CheckpointError, require
from audioae.signal.features import finite
from audioae.signal.mdct import overlap
from audioae.signal.resample import StreamResampler
from audioae.signal.spectrogram import Array
from audioae.tasks.autoencoder import Codec
from audioae.tasks.coder import Coder, Ints, PacketCoder, analyse, taken, weights_of
from audioae.tasks.container import Header, check_packets, read_header, read_packets, write_packets

DEFAULT_MODEL = "codec-16k"
ENTRY = "audioae_coder"  # the metadata entry of an .onnx file with the tables
LEVEL_DB = -23.0  # RMS level of the active part, to which sound is brought
MAX_GAIN_DB = 80.0
ACTIVE_DB = -20.0  # blocks below the mean power by more are pauses
PACKET_SECONDS = 10.0
BLOCK_SECONDS = 5.0
ROTATION = np.array([[1, 1], [1, -1]], np.float32) / np.float32(math.sqrt(2))  # mid and side
SEED = 0  # of the noise in place of zeros

Progress = Callable[[float], None]


@dataclass(frozen=True)
class CompressResult:
    """What `compress_file` or `decompress_file` did.

    Args:
        src, dst: the files.
        model: name of the model.
        sample_rate, channels, num_samples: of the recording.
        bitrate: the trained point, kbit/s per channel.
        kbps: measured bit rate of the .aae file, kbit/s of all channels.
        bytes: size of the .aae file.
        warnings: what the .aae file or the output does not keep, one sentence each.
    """

    src: Path
    dst: Path
    model: str
    sample_rate: int
    channels: int
    num_samples: int
    bitrate: float
    kbps: float
    bytes: int
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return {**asdict(self), "src": str(self.src), "dst": str(self.dst)}


class Compressor:
    """A model for `compress`: an autoencoder with a quantised latent, and its tables.

    Args:
        model: name of a model in the package, or the path of an .onnx file that `fit_coder` wrote.

    Attributes:
        codec: the autoencoder.
        coder: the tables.

    Raises:
        ModelNotFoundError: there is no such model.
        CheckpointError: the model has no tables for `compress`, or it is damaged.
        DependencyError: constriction or librosa is not installed.
    """

    def __init__(self, model: str | Path = DEFAULT_MODEL) -> None:
        require("constriction", extra="tasks")
        self.codec = Codec(model)
        text = self.codec.metadata.get(ENTRY)
        if text is None:
            raise CheckpointError(
                f"{model} has no tables for compress; give a model that fit_coder wrote, see "
                f"the recipe {DEFAULT_MODEL}"
            )
        self.coder = Coder.from_json(text)
        if len(self.coder.latent) != self.codec.info.channels:
            raise CheckpointError(f"{model} has tables for another latent; fit them again")
        self.hash = hashlib.sha256((self.codec.sha256 + text).encode()).digest()[:16]

    @property
    def bitrates(self) -> list[float]:
        """The trained points, kbit/s per channel."""
        return [point.kbps for point in self.coder.points]


def compress_file(
    src: str | Path,
    dst: str | Path,
    compressor: Compressor,
    *,
    kbps: float = 12.0,
    overwrite: bool = False,
    track: int = 0,
    progress: Progress = lambda seconds: None,
) -> CompressResult:
    """Compress a recording, in constant memory.

    Args:
        src: any recording that audioae reads.
        dst: the .aae file.
        kbps: bit rate per channel; the nearest trained point is used.
        overwrite: replace an existing file.
        track: number of the audio track of a film, from 0.
        progress: called with the seconds of sound that are done.

    Raises:
        AudioFileError: the recording cannot be read.
        OutputError: the file exists or cannot be written.
    """
    src, dst, point = Path(src), Path(dst), compressor.coder.point(kbps)
    check_target(dst, overwrite=overwrite)
    settings, info = compressor.codec.settings, compressor.codec.info
    frames = round(PACKET_SECONDS * settings.frames_per_second / info.stride) * info.stride
    gain_db = measure_gain(src, track)
    with AudioReader(src, track=track) as reader:
        form = reader.info
        header = Header(
            compressor.hash,
            form.sample_rate,
            form.channels,
            form.num_samples,
            point.kbps,
            gain_db,
            frames,
        )
        blocks = prepared(reader, settings.sample_rate, 10 ** (gain_db / 20), progress)
        size = write_packets(dst, header, encode_blocks(blocks, compressor, header))
    highest = settings.sample_rate // 2
    lost = (
        (f"frequencies above {highest / 1000:g} kHz are not kept",)
        if form.sample_rate > settings.sample_rate
        else ()
    )
    return result_of(src, dst, compressor, header, size, lost)


def result_of(
    src: Path,
    dst: Path,
    compressor: Compressor,
    header: Header,
    size: int,
    warnings: tuple[str, ...] = (),
) -> CompressResult:
    """The record of a compressed file of `size` bytes."""
    seconds = header.num_samples / header.sample_rate
    return CompressResult(
        src,
        dst,
        compressor.codec.info.name,
        header.sample_rate,
        header.channels,
        header.num_samples,
        header.kbps,
        round(size * 8 / seconds / 1000, 3) if seconds else 0.0,
        size,
        warnings,
    )


def measure_gain(path: Path, track: int = 0) -> float:
    """The gain in dB that brings the active part of a recording to `LEVEL_DB`, see `gain_of`."""
    powers: list[float] = []
    with AudioReader(path, track=track) as reader:
        length = max(1, reader.info.sample_rate // 10)
        while (block := reader.read(100 * length)).shape[1]:
            parts = np.split(block, range(length, block.shape[1], length), axis=1)
            powers.extend(float(np.square(each, dtype=np.float64).mean()) for each in parts)
    return gain_of(np.array(powers))


def gain_of(powers: npt.NDArray[np.float64]) -> float:
    """The gain in dB for the mean powers of short blocks; the largest for silence, so that what the
    network makes of silence is inaudible.
    """
    powers = np.where(np.isfinite(powers), powers, 0)
    active = powers[powers > powers.mean() * 10 ** (ACTIVE_DB / 10)] if len(powers) else powers
    if not len(active):
        return MAX_GAIN_DB
    gain = LEVEL_DB - 10 * math.log10(float(active.mean()))
    return round(min(MAX_GAIN_DB, max(-MAX_GAIN_DB, gain)), 2)


def prepared(
    reader: AudioReader, sample_rate: int, factor: float, progress: Progress
) -> Iterator[Array]:
    """The sound of a file at the rate and level of the model, in blocks; two channels as mid and
    side.
    """
    form, done = reader.info, 0
    resampler = StreamResampler(form.sample_rate, sample_rate, form.channels)
    length, is_last = round(BLOCK_SECONDS * form.sample_rate), False
    while not is_last:
        block = reader.read(length)
        is_last = block.shape[1] < length
        done += block.shape[1]
        block = finite(block) * np.float32(factor)
        yield rotated(resampler.process(block, last=is_last))
        progress(done / form.sample_rate)


def rotated(block: Array) -> Array:
    """Two channels as mid and side, or back; any other number unchanged."""
    return np.asarray(ROTATION @ block, np.float32) if len(block) == 2 else block


def encode_blocks(
    blocks: Iterable[Array], compressor: Compressor, header: Header
) -> Iterator[bytes]:
    """The packets of a sound, from blocks `[channels, num_samples]`."""
    codec, point = compressor.codec, compressor.coder.point(header.kbps)
    settings, step, frames = codec.settings, codec.info.step, header.packet_frames
    packer = PacketCoder(compressor.coder, point, header.channels, settings.hop_length)
    latents: list[Ints] = []
    codes: list[Ints] = []
    for latent, envelope, coefficients in analyse(blocks, codec):
        latents.append(latent)
        codes.append(point.quantise(coefficients, weights_of(envelope, settings, point.gamma)))
        while sum(each.shape[-1] for each in codes) >= frames:
            yield packer.encode(taken(latents, frames // step), taken(codes, frames))
    if sum(each.shape[-1] for each in codes):
        yield packer.encode(np.concatenate(latents, -1), np.concatenate(codes, -1))


def num_frames(header: Header, codec: Codec) -> int:
    """Number of frames in the packets of a file, whole strides of the model."""
    rate, size = codec.settings.sample_rate, codec.settings.hop_length
    samples = -(-header.num_samples * rate // header.sample_rate)
    stride = codec.info.stride
    return -(-(1 + -(-samples // size)) // stride) * stride if samples else 0


def decode_packets(
    packets: Iterable[bytes], compressor: Compressor, header: Header
) -> Iterator[Array]:
    """The sound of packets at the rate of the model, in blocks `[channels, num_samples]`.

    Raises:
        ValueError: the packets were not made with this model.
    """
    codec, point = compressor.codec, compressor.coder.point(header.kbps)
    settings, step, left = codec.settings, codec.info.step, num_frames(header, codec)
    packer = PacketCoder(compressor.coder, point, header.channels, settings.hop_length)
    rng = np.random.default_rng(SEED)
    tail = np.zeros((header.channels, settings.hop_length), np.float32)
    codes: list[Ints] = []

    def latents() -> Iterator[Array]:
        nonlocal left
        for packet in packets:
            frames = min(left, header.packet_frames)
            latent, found = packer.decode(packet, frames // step, frames)
            left -= frames
            codes.append(found)
            yield latent.astype(np.float32)

    skipped = settings.hop_length  # before the start of the sound
    for envelope in codec.decode_blocks(latents()):
        weights = weights_of(envelope, settings, point.gamma)
        coefficients = point.dequantise(taken(codes, envelope.shape[-1]), weights, rng)
        samples, tail = overlap(coefficients, tail)
        yield rotated(samples[:, skipped:])
        skipped = 0


def decompress_file(
    src: str | Path,
    dst: str | Path,
    compressor: Compressor,
    *,
    subtype: str | None = None,
    overwrite: bool = False,
    progress: Progress = lambda seconds: None,
) -> CompressResult:
    """Decompress a .aae file, in constant memory.

    Args:
        src: the .aae file.
        dst: an audio file; its suffix sets the format.
        subtype: libsndfile's name of another encoding.
        overwrite: replace an existing file.
        progress: called with the seconds of sound that are done.

    Raises:
        AudioFileError: the .aae file is damaged, cut short, or none. Nothing is written.
        CheckpointError: another model wrote the .aae file.
        OutputError: the file exists or cannot be written.
    """
    src, dst = Path(src), Path(dst)
    header = read_header(src)
    check_model(header, compressor, src)
    size = check_packets(src)
    expected = -(-num_frames(header, compressor.codec) // header.packet_frames)
    if header.packets != expected or header.packet_frames % compressor.codec.info.stride:
        raise AudioFileError(
            f"{src} is damaged: it has {header.packets} packets; expected {expected}"
        )
    like = AudioInfo(header.sample_rate, header.channels, header.num_samples, "WAV", "PCM_16")
    form = check_output(dst, overwrite=overwrite, like=like, subtype=subtype)
    rate, done = compressor.codec.settings.sample_rate, 0
    resampler = StreamResampler(rate, header.sample_rate, header.channels)
    length = -(-header.num_samples * rate // header.sample_rate)
    with AudioWriter(dst, form, overwrite=overwrite) as writer:
        blocks = decode_packets(read_packets(src), compressor, header)
        for block in damage_named(blocks, src):
            block = block[:, : length - done] / np.float32(10 ** (header.gain_db / 20))
            done += block.shape[1]
            write_up_to(writer, resampler.process(block, last=False), header.num_samples)
            progress(writer.num_samples / header.sample_rate)
        last = resampler.process(np.zeros((header.channels, 0), np.float32), last=True)
        write_up_to(writer, last, header.num_samples)
        short = header.num_samples - writer.num_samples
        if short:
            writer.write(np.zeros((header.channels, short), np.float32))
    return result_of(src, dst, compressor, header, src.stat().st_size or size, tuple(writer.lost))


def write_up_to(writer: AudioWriter, block: Array, num_samples: int) -> None:
    """Write a block, but no more than `num_samples` in total."""
    if (part := block[:, : num_samples - writer.num_samples]).shape[1]:
        writer.write(part)


def damage_named(blocks: Iterable[Array], path: Path) -> Iterator[Array]:
    """The blocks; raises `AudioFileError` where the range decoder finds no code."""
    try:
        yield from blocks
    except (ValueError, AssertionError) as error:
        raise AudioFileError(f"{path} is damaged: a packet cannot be decoded ({error})") from error


def check_model(header: Header, compressor: Compressor, path: Path) -> None:
    """Raise `CheckpointError` if another model wrote a file."""
    if header.model != compressor.hash:
        raise CheckpointError(
            f"{path} was written with another model ({header.model.hex()}); "
            f"{compressor.codec.info.name!r} is {compressor.hash.hex()}; give the model that "
            "compressed it with --model"
        )
