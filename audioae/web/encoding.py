"""Parts of Opus audio, PNG images and base64 text, as a page holds them."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from audioae.audio.formats import OPUS_KBPS

Array = npt.NDArray[np.float32]

PART_SECONDS = 30.0  # of audio that a player decodes at once
LEAD_SECONDS = 0.1  # before a part, in which the decoder settles
TAIL_SECONDS = 0.05  # after a part, for the cross-fade to the next one
WRITE_BLOCK = 65_536  # samples per channel; libsndfile crashes on longer writes of Opus

# Budget of the audio of a page: three tracks of an hour stay below 30 MB as base64.
BUDGET_BITS = 17.5e6 * 8
MOST_KBPS, LEAST_KBPS = 64.0, 8.0  # per channel
STEREO_KBPS = 32.0  # per channel; below it two channels are mixed down to one
SHARES = {"before": 0.36, "after": 0.36, "removed": 0.28}

# Colours of the spectrogram, from silence to the loudest: dark blue, violet, orange, light yellow.
# Their lightness rises evenly, so that the image is readable without colours.
COLOURS = np.array(
    [
        (4, 5, 18),
        (22, 16, 58),
        (52, 16, 100),
        (88, 20, 121),
        (124, 31, 123),
        (161, 45, 114),
        (197, 61, 96),
        (226, 86, 75),
        (244, 123, 62),
        (251, 165, 74),
        (252, 207, 117),
        (253, 245, 195),
    ],
    np.float64,
)
NUM_COLOURS = 64


def palette() -> npt.NDArray[np.uint8]:
    """The colours of the spectrogram, `[NUM_COLOURS, 3]`."""
    places = np.linspace(0, len(COLOURS) - 1, NUM_COLOURS)
    channels = [np.interp(places, np.arange(len(COLOURS)), each) for each in COLOURS.T]
    colours: npt.NDArray[np.uint8] = np.rint(np.stack(channels, axis=1)).astype(np.uint8)
    return colours


def png(indices: npt.NDArray[np.uint8], colours: npt.NDArray[np.uint8]) -> bytes:
    """A PNG image with a palette.

    Args:
        indices: `[height, width]`, each an index of `colours`.
        colours: `[n, 3]`, red, green and blue.

    Example:
        >>> png(np.zeros((2, 3), np.uint8), palette())[:8]
        b'\\x89PNG\\r\\n\\x1a\\n'
    """
    height, width = indices.shape
    rows = np.zeros((height, width + 1), np.uint8)  # each row begins with its filter, 0: none
    rows[:, 1:] = indices
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    chunks = [
        (b"IHDR", header),
        (b"PLTE", colours.tobytes()),
        (b"IDAT", zlib.compress(rows.tobytes(), 9)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def base64_text(data: bytes | npt.NDArray[Any]) -> str:
    """Bytes, or an array in its little-endian bytes, as base64."""
    if isinstance(data, np.ndarray):
        data = data.astype(data.dtype.newbyteorder("<")).tobytes()
    return base64.b64encode(data).decode("ascii")


def data_uri(data: bytes, media_type: str) -> str:
    """A `data:` URI."""
    return f"data:{media_type};base64,{base64_text(data)}"


def opus(waveform: Array, sample_rate: int, kbps: float) -> bytes:
    """Encode a waveform as Opus in Ogg.

    Args:
        waveform: `[channels, samples]`, at least one sample.
        sample_rate: Hz, one of Opus.
        kbps: kbit/s per channel, 6 to 256.
    """
    highest, lowest = OPUS_KBPS
    level = min(max((highest - kbps) / (highest - lowest), 0.0), 1.0)
    file = io.BytesIO()
    with soundfile.SoundFile(
        file,
        "w",
        samplerate=sample_rate,
        channels=len(waveform),
        format="OGG",
        subtype="OPUS",
        compression_level=level,
    ) as sound:
        samples = np.clip(waveform.T, -1, 1)
        for start in range(0, len(samples), WRITE_BLOCK):
            sound.write(samples[start : start + WRITE_BLOCK])
    return file.getvalue()


@dataclass(frozen=True)
class Rates:
    """Bit rates of the tracks of a page.

    Args:
        channels: 1 or 2.
        kbps: kbit/s per channel, by name of track.
    """

    channels: int
    kbps: dict[str, float]


def choose_rates(seconds: float, channels: int, *, tracks: int) -> Rates:
    """The highest bit rates for which the audio of a page stays within `BUDGET_BITS`.

    Args:
        seconds: length of the recording.
        channels: of the recordings, 1 or 2.
        tracks: 1, before only, or 3.

    Example:
        >>> choose_rates(60, 2, tracks=3).kbps["after"], choose_rates(3600, 2, tracks=3).channels
        (64.0, 1)
    """
    total = BUDGET_BITS / 1000 / max(seconds, 1e-3)
    shares = SHARES if tracks == 3 else {"before": 1.0}
    if channels == 2 and total * shares["before"] / 2 < STEREO_KBPS:
        channels = 1
    return Rates(
        channels,
        {
            name: min(max(total * share / channels, LEAST_KBPS), MOST_KBPS)
            for name, share in shares.items()
        },
    )


class Parts:
    """Cuts a signal into parts that overlap by the lead and the tail.

    Args:
        sample_rate: Hz.
        num_samples: length of the signal.
    """

    def __init__(self, sample_rate: int, num_samples: int) -> None:
        self._rate, self._total = sample_rate, num_samples
        self._size = round(PART_SECONDS * sample_rate)
        self._lead, self._tail = (
            round(LEAD_SECONDS * sample_rate),
            round(TAIL_SECONDS * sample_rate),
        )
        self._waiting: Array | None = None
        self._first = 0  # position of `_waiting`
        self._done = 0  # position of the next part

    def add(self, block: Array) -> list[tuple[float, float, float, Array]]:
        """Add the next samples, `[channels, n]`.

        Returns:
            The parts that are complete: start, length and lead in seconds, and the samples with the
            lead before and the tail behind, `[channels, n]`.
        """
        held = block if self._waiting is None else np.concatenate([self._waiting, block], axis=-1)
        ready = []
        while self._done < self._total:
            end = min(self._done + self._size, self._total)
            until = min(end + self._tail, self._total)
            if until - self._first > held.shape[-1]:
                break
            start = max(self._done - self._lead, 0)
            samples = held[:, start - self._first : until - self._first]
            times = (self._done / self._rate, (end - self._done) / self._rate)
            ready.append((*times, (self._done - start) / self._rate, samples))
            self._done = end
        drop = max(min(self._done - self._lead, self._total) - self._first, 0)
        self._waiting, self._first = held[:, drop:], self._first + drop
        return ready
