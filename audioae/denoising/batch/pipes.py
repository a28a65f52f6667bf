"""Denoise through standard input and output, in constant memory.

Files with a header pass through a temporary folder: pipes cannot seek, headers that come through
pipes often lack the length, and the header of the output has to have it. Raw samples have no header
and are denoised as they arrive, from a stream that may be endless.
"""

from __future__ import annotations

import os
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from audioae.audio import AudioInfo, formats, info, riff
from audioae.audio.quantise import quantise
from audioae.denoising import DenoiseSettings, Stream
from audioae.engine import Engine
from audioae.errors import AudioaeError, AudioFileError, OutputError, SettingsError, nearest
from audioae.storage import COPY_BYTES, PrivateFolder, output_errors

Array = npt.NDArray[np.float32]

BYTES = {"PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}  # of a sample
UNKNOWN_BYTES = 0xFFFFFFFF  # length in the header of a WAV file that is still being written
READ_BYTES = 2**16
PREFIX = "audioae-pipe-"  # start of the names of the folders of recordings from pipes
MOST_CHANNELS = 64


@dataclass(frozen=True)
class RawForm:
    """The format of raw samples: little-endian, channels interleaved.

    Args:
        sample_rate: in Hz.
        subtype: such as "PCM_16", see `BYTES`.

    Example:
        >>> RawForm.parse("16000:2:PCM_16").sample_bytes
        4
    """

    sample_rate: int
    channels: int
    subtype: str

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample of all channels."""
        return self.channels * BYTES[self.subtype]

    @classmethod
    def parse(cls, text: str) -> RawForm:
        """Parse `RATE:CHANNELS:SUBTYPE`, such as `16000:1:PCM_16`. The default subtype is PCM_16.

        Raises:
            SettingsError: the text has another form, or the subtype is unknown.
        """
        rate, channels, subtype = "", "", ""
        if text.count(":") in (1, 2):
            rate, channels, subtype = (text.upper().split(":") + ["PCM_16"])[:3]
        numbers = rate.isdecimal() and channels.isdecimal()
        if not (numbers and int(rate) > 0 and 1 <= int(channels) <= MOST_CHANNELS):
            raise SettingsError(
                f"raw form {text!r} cannot be read; expected RATE:CHANNELS:SUBTYPE such as "
                "16000:1:PCM_16"
            )
        if subtype not in BYTES:
            raise SettingsError(
                f"raw subtype {subtype!r} is unknown{nearest(subtype, BYTES)}; known are "
                f"{', '.join(BYTES)}"
            )
        return cls(int(rate), int(channels), subtype)

    def decode(self, data: bytes) -> Array:
        """Convert bytes, whole samples of all channels, to `[channels, num_samples]` in -1..1."""
        if self.subtype == "PCM_24":
            wide = np.zeros((len(data) // 3, 4), np.uint8)
            wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
            samples = wide.view("<i4")[:, 0] / 2**31
        elif self.subtype == "PCM_U8":
            samples = (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / 128
        elif self.subtype in ("FLOAT", "DOUBLE"):
            samples = np.frombuffer(data, f"<f{BYTES[self.subtype]}")
        else:
            bits = 8 * BYTES[self.subtype]
            samples = np.frombuffer(data, f"<i{bits // 8}") / 2.0 ** (bits - 1)
        return np.ascontiguousarray(samples.reshape(-1, self.channels).T, np.float32)

    def encode(self, block: Array) -> tuple[bytes, int]:
        """Convert `[channels, num_samples]` to bytes; also returns the number of clipped ones."""
        codes, clipped = quantise(block, self.subtype)
        if self.subtype in ("FLOAT", "DOUBLE"):
            return codes.astype(f"<f{BYTES[self.subtype]}").tobytes(), 0
        size = BYTES[self.subtype]
        # the upper bytes of 32 bits
        top = codes.astype("<i4").reshape(-1, 1).view(np.uint8)[:, 4 - size :]
        return (top ^ 128 if self.subtype == "PCM_U8" else top).tobytes(), int(clipped.sum())

    def header(self) -> bytes:
        """The header of a WAV file of unknown length with such samples."""
        kind = 3 if self.subtype in ("FLOAT", "DOUBLE") else 1
        bits = 8 * BYTES[self.subtype]
        form = struct.pack(
            "<HHIIHH",
            kind,
            self.channels,
            self.sample_rate,
            self.sample_rate * self.sample_bytes,
            self.sample_bytes,
            bits,
        )
        return struct.pack(
            "<4sI8sI16s4sI", b"RIFF", UNKNOWN_BYTES, b"WAVEfmt ", 16, form, b"data", UNKNOWN_BYTES
        )


@contextmanager
def pipe_folder() -> Iterator[Path]:
    """A temporary folder. Errors raised inside do not have its path, but where it is if it cannot
    be written to.
    """
    try:
        private = PrivateFolder(PREFIX)
    except OSError as error:
        raise OutputError(
            f"no temporary folder can be made ({error.strerror or error}); set TMPDIR to a folder "
            "with free space"
        ) from error
    with private:
        try:
            yield private.path
        except AudioaeError as error:
            text = str(error).replace(f"{private.path}{os.sep}", "")
            if isinstance(error, OutputError) and text != str(error):
                text = f"{text}; the temporary folder is {tempfile.gettempdir()}, see TMPDIR"
            raise type(error)(text) from error


def receive(source: BinaryIO, folder: Path, raw: RawForm | None = None) -> Path:
    """Copy all of `source` into a file in `folder`, with the suffix of its container.

    Raises:
        AudioFileError: `source` is empty or is not audio.
    """
    path = spool(source, folder / "stdin.wav", raw.header() if raw else b"")
    received = path.stat().st_size - (len(raw.header()) if raw else 0)
    if raw and received % raw.sample_bytes:
        raise AudioFileError(
            f"stdin ended within a sample: {received} bytes are no multiple of "
            f"{raw.sample_bytes}; check --raw"
        )
    if not received and not raw:
        raise AudioFileError("stdin is empty (0 bytes); expected a recording")
    _close_header(path)
    suffix = suffix_of(info(path).container)
    return path.rename(path.with_suffix(suffix))


def spool(source: BinaryIO, path: Path, head: bytes = b"") -> Path:
    """Copy `head` and all of `source` into a new file, and return its path.

    Raises:
        OutputError: the file cannot be written.
    """
    with path.open("wb", buffering=0) as file:
        file.write(head)
        while part := source.read(COPY_BYTES):
            with output_errors(path):
                _write(file, part)
    return path


def _write(file: BinaryIO, part: bytes) -> None:
    """Write all bytes to an unbuffered file."""
    left = memoryview(part)
    while left:
        left = left[file.write(left) :]


def send(path: Path, sink: BinaryIO, raw: RawForm | None = None) -> None:
    """Write a file to `sink`; with `raw`, only the samples of a WAV file."""
    with path.open("rb") as file:
        if raw is None:
            shutil.copyfileobj(file, sink, COPY_BYTES)
        else:
            _send_samples(file, sink)
    sink.flush()


def suffix_of(container: str) -> str:
    """The usual suffix of a container, ".wav" for "WAVEX"."""
    known = (suffix for suffix, names in formats.SUFFIXES.items() if container in names)
    return next(known, f".{container.lower()}")


@dataclass(frozen=True)
class RawResult:
    """The result of `denoise_raw`.

    Args:
        num_samples: samples per channel.
        num_clipped: samples beyond full scale, which were clipped.
        mean_attenuation_db: level of the input over level of the output.
    """

    num_samples: int
    num_clipped: int
    mean_attenuation_db: float


def denoise_raw(
    source: BinaryIO,
    sink: BinaryIO,
    form: RawForm,
    engine: Engine,
    *,
    settings: DenoiseSettings | None = None,
    progress: Callable[[float], None] | None = None,
) -> RawResult:
    """Denoise raw samples as they arrive. Output is written and flushed as soon as it is ready.

    Args:
        progress: called with the seconds of audio that are done.

    Raises:
        AudioFileError: `source` ends within a sample.
    """
    stream = Stream(engine, form.sample_rate, form.channels, settings)
    num_samples = clipped = 0
    for data in whole_samples(source, form.sample_bytes):
        clipped += _emit(stream.push(form.decode(data)), sink, form)
        num_samples += len(data) // form.sample_bytes
        if progress is not None:
            progress(num_samples / form.sample_rate)
    clipped += _emit(stream.flush(), sink, form)
    return RawResult(num_samples, clipped, stream.attenuation.mean_db)


def _emit(block: Array, sink: BinaryIO, form: RawForm) -> int:
    data, clipped = form.encode(block)
    if data:
        sink.write(data)
        sink.flush()
    return clipped


def whole_samples(source: BinaryIO, size: int) -> Iterator[bytes]:
    """Blocks of whole samples, each as soon as it has arrived; `size` is the bytes of a sample."""
    read: Any = getattr(source, "read1", source.read)
    rest = b""
    while data := read(READ_BYTES):
        rest += data
        whole = len(rest) // size * size
        if whole:
            yield rest[:whole]
        rest = rest[whole:]
    if rest:
        raise AudioFileError(
            f"stdin ended within a sample: {len(rest)} bytes are left of the {size} of one; "
            "check --raw"
        )


def _close_header(path: Path) -> None:
    """Fill in the length in the header of a WAV file whose writer could not seek and left it 0."""
    with path.open("r+b") as file:
        kind = riff.family(file)
        if kind is None or kind.name != "WAV":
            return
        data = next((chunk for chunk in riff.chunks(file, kind) if chunk.name == b"data"), None)
        if data is None or data.size:
            return
        end = file.seek(0, 2)
        held = end - data.offset
        file.seek(4)
        if struct.unpack(kind.order + "I", file.read(4))[0] + 8 == end:
            return  # the file is complete and has no samples
        file.seek(data.offset - 4)
        file.write(struct.pack(kind.order + "I", min(held, UNKNOWN_BYTES)))
        file.seek(4)
        file.write(struct.pack(kind.order + "I", min(held + data.offset - 8, UNKNOWN_BYTES)))


def _send_samples(file: BinaryIO, sink: BinaryIO) -> None:
    kind = riff.family(file)
    chunks = riff.chunks(file, kind) if kind else ()
    data = next((chunk for chunk in chunks if chunk.name == b"data"), None)
    if data is None:
        raise AudioFileError("the output has no samples to send; expected a WAV file")
    file.seek(data.offset)
    left = data.held
    while left and (part := file.read(min(left, COPY_BYTES))):
        sink.write(part)
        left -= len(part)


def check_raw(form: AudioInfo, raw: RawForm) -> None:
    """Raise `SettingsError` unless raw output has the sample rate and channels of the input."""
    if (raw.sample_rate, raw.channels) != (form.sample_rate, form.channels):
        got = f"{raw.sample_rate} Hz, {raw.channels} channels"
        raise SettingsError(
            f"--raw says {got}; the input has {form.sample_rate} Hz, {form.channels} channels, "
            "which the output keeps"
        )
