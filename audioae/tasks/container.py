"""The .aae file: a header, then packets of coded sound, all of them with checksums.

| part | bytes |
|---|---|
| magic | 8: 89 41 41 45 0D 0A 1A 0A, as in PNG, so that changed line ends are noticed |
| header | 1 version, 16 hash of the model, 4 sample rate, 2 channels, 8 samples per channel, |
| | 2 bit rate in 0.1 kbit/s, 2 gain in 0.01 dB, 2 frames per packet, 4 packets |
| checksum | 4: CRC-32 of magic and header |
| packet | 4 length, 4 CRC-32 of number, length and payload; payload |

Numbers are little-endian. The file ends after the last packet.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from audioae.errors import AudioFileError
from audioae.signal.spectrogram import HIGHEST_RATE
from audioae.storage import AtomicFile, output_errors

MAGIC = b"\x89AAE\r\n\x1a\n"
VERSION = 1
FORM = struct.Struct("<B16sIHQHhHI")
CHECK = struct.Struct("<I")
PACKET = struct.Struct("<II")
MAX_CHANNELS = 1024
MAX_PACKET = 2**24  # bytes; a longer one is damage


@dataclass(frozen=True)
class Header:
    """What a .aae file says about its sound.

    Args:
        model: the first 16 bytes of the hash of the model that coded it.
        sample_rate: of the recording, Hz.
        channels: number of channels.
        num_samples: samples per channel.
        kbps: the trained point, in kbit/s per channel.
        gain_db: that was applied before coding.
        packet_frames: frames per packet; the last one may have fewer.
        packets: number of packets.
    """

    model: bytes
    sample_rate: int
    channels: int
    num_samples: int
    kbps: float
    gain_db: float
    packet_frames: int
    packets: int = 0

    def to_bytes(self) -> bytes:
        """Magic, header and checksum."""
        head = MAGIC + FORM.pack(
            VERSION,
            self.model,
            self.sample_rate,
            self.channels,
            self.num_samples,
            round(self.kbps * 10),
            round(self.gain_db * 100),
            self.packet_frames,
            self.packets,
        )
        return head + CHECK.pack(zlib.crc32(head))


SIZE = len(MAGIC) + FORM.size + CHECK.size


def read_header(path: Path) -> Header:
    """Read and check the header of a .aae file.

    Raises:
        AudioFileError: the file cannot be read, is no .aae file, is damaged, or has a version that
            this audioae does not know.
    """
    with opened(path) as file:
        return header_of(file, path)


def opened(path: Path) -> BinaryIO:
    """Open a file for reading. Raises `AudioFileError`."""
    try:
        return path.open("rb")
    except OSError as error:
        raise AudioFileError(f"{path} cannot be read ({error.strerror})") from error


def header_of(file: BinaryIO, path: Path) -> Header:
    """The header at the start of an open file; see `read_header`."""
    data = file.read(SIZE)
    if not data.startswith(MAGIC):
        cut = data and MAGIC.startswith(data[: len(MAGIC)])
        raise AudioFileError(
            f"{path} is {'cut short' if cut else 'no .aae file'}; expected a file that audioae "
            "compress wrote"
        )
    if len(data) < SIZE:
        raise AudioFileError(f"{path} is cut short in its header; copy it again")
    version, *values = FORM.unpack(data[len(MAGIC) : -CHECK.size])
    if version != VERSION:
        raise AudioFileError(
            f"{path} has version {version} of the format, this audioae reads version {VERSION}; "
            "install another version"
        )
    if zlib.crc32(data[: -CHECK.size]) != CHECK.unpack(data[-CHECK.size :])[0]:
        raise AudioFileError(f"{path} is damaged: its header does not match its checksum")
    model, sample_rate, channels, num_samples, tenths, hundredths, frames, packets = values
    known = 0 < sample_rate <= HIGHEST_RATE and 0 < channels <= MAX_CHANNELS and frames
    if not known:
        raise AudioFileError(
            f"{path} is damaged: its header says {sample_rate} Hz, {channels} channels and "
            f"{frames} frames per packet"
        )
    return Header(
        model,
        sample_rate,
        channels,
        num_samples,
        tenths / 10,
        hundredths / 100,
        frames,
        packets,
    )


def read_packets(path: Path) -> Iterator[bytes]:
    """The payloads of a .aae file in order.

    Raises:
        AudioFileError: the file is damaged, cut short or has more after its end. The check of a
            whole file is `check_packets`.
    """
    with opened(path) as file:
        header = header_of(file, path)
        for number in range(header.packets):
            head = file.read(PACKET.size)
            length, checksum = PACKET.unpack(head) if len(head) == PACKET.size else (0, 0)
            payload = file.read(length) if length <= MAX_PACKET else b""
            if len(head) < PACKET.size or (length <= MAX_PACKET and len(payload) < length):
                raise AudioFileError(
                    f"{path} is cut short: {number} of {header.packets} packets are complete; "
                    "copy it again"
                )
            if checksum != checksum_of(number, payload) or len(payload) != length:
                raise AudioFileError(
                    f"{path} is damaged: packet {number + 1} of {header.packets} does not match "
                    "its checksum; copy it again"
                )
            yield payload
        if file.read(1):
            raise AudioFileError(f"{path} is damaged: it goes on after its last packet")


def check_packets(path: Path) -> int:
    """Read a whole file without decoding it, and return the bytes of its payloads.

    Raises:
        AudioFileError: see `read_packets`.
    """
    return sum(map(len, read_packets(path)))


def checksum_of(number: int, payload: bytes) -> int:
    """The checksum of a packet, which includes its number and length."""
    return zlib.crc32(payload, zlib.crc32(PACKET.pack(number, len(payload))))


def write_packets(path: Path, header: Header, packets: Iterable[bytes]) -> int:
    """Write a .aae file atomically.

    Args:
        header: its number of packets is counted here.
        packets: payloads.

    Returns:
        The size of the file in bytes.

    Raises:
        OutputError: the file cannot be written.
    """
    with output_errors(path), AtomicFile(path) as target:
        with target.path.open("r+b") as file:
            file.write(header.to_bytes())
            count = 0
            for count, payload in enumerate(packets, start=1):
                file.write(PACKET.pack(len(payload), checksum_of(count - 1, payload)))
                file.write(payload)
            size = file.tell()
            file.seek(0)
            file.write(replace(header, packets=count).to_bytes())
        target.commit()
    return size
