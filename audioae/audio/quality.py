"""How hard a lossy encoder may compress, so that the output is not worse than the lossy input it was made from.

The output gets one step more than the input had, which makes up for encoding twice.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import soundfile

from audioae.audio.form import AudioInfo

# MPEG layer III bit rates in kbit/s, by version, from the fastest to the slowest: libsndfile maps its level linearly onto the range.
MP3_KBPS = {
    32000: (320, 256, 224, 192, 160, 128, 112, 96, 80, 64, 56, 48, 40, 32),
    16000: (160, 144, 128, 112, 96, 80, 64, 56, 48, 40, 32, 24, 16, 8),
    0: (64, 56, 48, 40, 32, 24, 16, 8),
}
STEP = 1.1  # for encoders without steps
OPUS_KBPS = (256.0, 6.0)  # per channel, at levels 0 and 1
DEFAULT_OPUS_KBPS = 96.0  # per channel: transparent for what comes from a lossless file
DEFAULT_MP3_KBPS = 192.0
DEFAULT_VORBIS_QUALITY = 0.6


def encoder_settings(info: AudioInfo) -> dict[str, float | str]:
    """What to hand to `soundfile.SoundFile` so that `info.bit_rate`, the input's, is reached or passed."""
    if info.subtype == "MPEG_LAYER_III":
        return {"compression_level": _mp3_level(info), "bitrate_mode": "CONSTANT"}
    if info.subtype == "OPUS":
        return {"compression_level": _opus_level(info)}
    if info.subtype == "VORBIS":
        return {"compression_level": 1 - _vorbis_quality(info)}
    return {}


def _mp3_level(info: AudioInfo) -> float:
    """The next bit rate above the input's mean."""
    table = next(rates for lowest, rates in MP3_KBPS.items() if info.sample_rate >= lowest)
    wanted = (info.bit_rate or DEFAULT_MP3_KBPS * 1000) / 1000
    kbps = min((rate for rate in table if rate > wanted), default=table[0])
    return (table[0] - kbps) / (table[0] - table[-1])


def _opus_level(info: AudioInfo) -> float:
    high, low = OPUS_KBPS
    wanted = info.bit_rate * STEP / 1000 / info.channels if info.bit_rate else DEFAULT_OPUS_KBPS
    return (high - min(max(wanted, low), high)) / (high - low)


def _vorbis_quality(info: AudioInfo) -> float:
    """The lowest quality, in steps of 0.1, whose nominal bit rate is above the input's.

    The nominal rate stands in the header of a Vorbis file; what a quality amounts to at this sample rate is asked of the encoder.
    """
    wanted = nominal_bit_rate(info.source) if info.source else None
    wanted = wanted or info.bit_rate
    if not wanted:
        return DEFAULT_VORBIS_QUALITY
    for quality in range(11):
        nominal = _nominal_at(info, quality / 10)
        if nominal is None:
            return 0.8  # above 50 kHz the encoder does not know its bit rate
        if nominal > wanted * 1.01:
            return quality / 10
    return 1.0


def _nominal_at(info: AudioInfo, quality: float) -> float | None:
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", info.sample_rate, info.channels, "VORBIS", None, "OGG", compression_level=1 - quality) as sound:
        sound.write(np.zeros((1, info.channels), np.float32))
    return _nominal(file.getvalue())


def nominal_bit_rate(path: Path) -> float | None:
    """Bits per second that the encoder of a Vorbis file aimed at; None if it is no Vorbis file or does not say."""
    with path.open("rb") as file:
        return _nominal(file.read(4096))


def _nominal(head: bytes) -> float | None:
    at = head.find(b"\x01vorbis")
    if at < 0 or len(head) < at + 28:
        return None
    nominal: int = struct.unpack_from("<i", head, at + 20)[0]  # type, "vorbis", version, channels, rate, maximum, nominal, minimum
    return float(nominal) if nominal > 0 else None
