"""Choose the container and encoding of an output, and the quality of lossy encoders.

`choose` keeps the form of the input where the container of the output allows it, and otherwise
takes the next encoding of at least the same resolution. `encoder_settings` sets a lossy encoder one
step better than the input was, because encoding twice loses quality.
"""

from __future__ import annotations

import io
import struct
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from audioae.audio import encoders, media
from audioae.audio.form import AudioInfo, native_formats
from audioae.audio.layout import mask_of
from audioae.audio.quantise import BITS
from audioae.errors import OutputError, nearest

# Containers of a suffix: the first is the default, the others are kept if the input has them.
SUFFIXES = {
    **dict.fromkeys((".wav", ".wave", ".bwf"), ("WAV", "WAVEX", "RF64", "NIST")),
    **dict.fromkeys((".aif", ".aiff", ".aifc"), ("AIFF",)),
    **dict.fromkeys((".ogg", ".oga", ".opus"), ("OGG",)),
    **dict.fromkeys((".au", ".snd"), ("AU",)),
    **dict.fromkeys((".sph", ".nist"), ("NIST",)),
    ".flac": ("FLAC",),
    ".caf": ("CAF",),
    ".w64": ("W64",),
    ".rf64": ("RF64",),
    ".mp3": ("MP3",),
    ".voc": ("VOC",),
}
RIFF_LIMIT = 2**32 - 1  # bytes; largest value of the size fields of WAV and AIFF
HEADROOM = 2**16  # bytes reserved for headers and tags
MAX_CHANNELS = {"VORBIS": 255, "OPUS": 255, "MPEG_LAYER_III": 2, "FLAC": 8}
OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
NOT_EMPTY = ("OPUS", "MPEG_LAYER_III")  # a file without samples cannot be opened
# Each encoding can represent those before it.
LADDER = ("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")

# MPEG layer III bit rates in kbit/s by lowest sample rate, from fastest to slowest. libsndfile maps
# its compression level linearly onto the range.
MP3_KBPS = {
    32000: (320, 256, 224, 192, 160, 128, 112, 96, 80, 64, 56, 48, 40, 32),
    16000: (160, 144, 128, 112, 96, 80, 64, 56, 48, 40, 32, 24, 16, 8),
    0: (64, 56, 48, 40, 32, 24, 16, 8),
}
MP3_TAG_BYTES = 160  # of an MP3 frame with LAME's tag, without the side information
STEP = 1.1  # factor on the bit rate for encoders without steps
OPUS_KBPS = (256.0, 6.0)  # per channel, at compression levels 0 and 1
DEFAULT_OPUS_KBPS = 96.0  # per channel: transparent for a lossless source
DEFAULT_MP3_KBPS = 192.0
DEFAULT_VORBIS_QUALITY = 0.6


def choose(
    path: Path, like: AudioInfo, container: str | None = None, subtype: str | None = None
) -> AudioInfo:
    """Choose the form of an output: that of `like` where possible, else one that loses least.

    Args:
        path: the output; its suffix determines the container.
        like: the form of the input.
        container: libsndfile's name of another container.
        subtype: libsndfile's name of another encoding.

    Raises:
        OutputError: the suffix is unknown, or container, encoding, sample rate and channels do not
            fit together.
    """
    ogg_flac = path.suffix.lower() in encoders.OGG_FLAC and encoders.is_ogg_flac(like, subtype)
    if container is None and (path.suffix.lower() in media.SUFFIXES or ogg_flac):
        return encoders.choose(path, like, subtype and subtype.upper())
    chosen = (container or _container(path, like)).upper()
    if chosen == "WAV" and like.channels > 2 and mask_of(like.layout):
        chosen = "WAVEX"  # a WAV with a loudspeaker mask
    if chosen not in native_formats() or chosen == "RAW":
        raise OutputError(f"{path}: unknown container {chosen}{nearest(chosen, native_formats())}")
    kind = _subtype(path, like, chosen, subtype and subtype.upper())
    endian = like.endian if soundfile.check_format(chosen, kind, like.endian) else "FILE"
    info = replace(like, container=chosen, subtype=kind, endian=endian)
    check_limits(path, info)
    if info.num_samples == 0 and info.subtype in NOT_EMPTY:
        raise OutputError(
            f"{path}: {info.subtype} cannot hold an empty recording; write .wav or .flac"
        )
    return _large(path, info)


def check_limits(path: Path, info: AudioInfo) -> None:
    """Raise `OutputError` unless the codec supports the sample rate and the number of channels.

    libsndfile crashes on some combinations.
    """
    rates = {"OPUS": OPUS_RATES, "MPEG_LAYER_III": MP3_RATES}.get(info.subtype)
    if rates and info.sample_rate not in rates:
        known = ", ".join(f"{rate / 1000:g}" for rate in rates)
        raise OutputError(
            f"{path}: {info.subtype} takes {known} kHz, got {info.sample_rate / 1000:g} kHz; "
            "write .flac or .wav"
        )
    if info.subtype == "VORBIS" and info.sample_rate > 200_000:
        raise OutputError(
            f"{path}: VORBIS takes up to 200 kHz, got {info.sample_rate / 1000:g} kHz; "
            "write .flac or .wav"
        )
    limit = MAX_CHANNELS.get(info.subtype) or MAX_CHANNELS.get(info.container, 1024)
    if not 1 <= info.channels <= limit:
        raise OutputError(
            f"{path}: {info.container} {info.subtype} takes 1 to {limit} channels, got "
            f"{info.channels}"
        )
    if info.sample_rate < 1:
        raise OutputError(f"{path}: the sample rate must be positive, got {info.sample_rate}")


def estimated_bytes(info: AudioInfo) -> int:
    """Bytes of the samples of an uncompressed file; 0 if the size depends on the codec.

    ALAC counts as uncompressed, because libsndfile crashes if the disk is full.
    """
    if (
        not info.subtype.startswith(("PCM", "FLOAT", "DOUBLE", "ULAW", "ALAW", "ALAC"))
        or info.container == "FLAC"
    ):
        return 0
    bits = {"FLOAT": 32, "DOUBLE": 64, "ULAW": 8, "ALAW": 8}.get(info.subtype) or BITS[info.subtype]
    return info.num_samples * info.channels * bits // 8


def loses_precision(source: str, target: str) -> bool:
    """Whether PCM or float samples in the encoding `source` do not fit into `target`.

    Example:
        >>> loses_precision("PCM_24", "PCM_16"), loses_precision("PCM_16", "FLOAT")
        (True, False)
    """
    return (
        source in LADDER
        and target in LADDER[:6]
        and max(LADDER.index(source), 1) > max(LADDER.index(target), 1)
    )


def coding_changes(source: AudioInfo, output: AudioInfo) -> dict[str, list[Any]]:
    """What differs in the coding of an output: `[before, after]` of the codec and of the bits per
    sample of lossless encodings. Nothing is in it that stays.

    Example:
        >>> before = AudioInfo(48000, 1, 0, "MKV", "TTA_24")
        >>> coding_changes(before, AudioInfo(48000, 1, 0, "MKV", "FLAC_24"))
        {'codec': ['TTA_24', 'FLAC_24']}
    """
    changes: dict[str, list[Any]] = {}
    if source.subtype == output.subtype:
        return changes
    for key, convert in (("codec", _codec), ("bits", encoders.resolution)):
        before, after = convert(source.subtype), convert(output.subtype)
        if before != after and not (key == "bits" and None in (before, after)):
            changes[key] = [before, after]
    return changes


def coding_losses(source: AudioInfo, output: AudioInfo) -> list[str]:
    """Changes of the coding that lose something or that nobody asked for, in words.

    Between containers, another encoding of the same samples is no loss.
    """
    changes = coding_changes(source, output)
    if not changes:
        return []
    became = f"{source.subtype} became {output.subtype}"
    before, after = changes.get("bits", [0, 0])
    if loses_precision(source.subtype, output.subtype) or before > after:
        return [f"precision: {became}"]
    native = native_formats()
    if "codec" not in changes or (source.container in native and output.container in native):
        return []
    is_lossy = encoders.resolution(output.subtype) is None
    return [f"codec: {became}"] if is_lossy or source.container == output.container else []


def _codec(subtype: str) -> str:
    return "MP3" if subtype == "MPEG_LAYER_III" else subtype


def _container(path: Path, like: AudioInfo) -> str:
    suffix = path.suffix.lower()
    if like.source and like.source.suffix.lower() == suffix and like.is_native:
        return like.container
    if suffix not in SUFFIXES:
        known = " ".join(SUFFIXES)
        raise OutputError(
            f"{path}: unknown suffix {suffix!r}{nearest(suffix, SUFFIXES)}; expected one of {known}"
        )
    return like.container if like.container in SUFFIXES[suffix] else SUFFIXES[suffix][0]


@cache
def _subtypes(container: str) -> tuple[str, ...]:
    """libsndfile's names of the encodings of a container."""
    return tuple(soundfile.available_subtypes(container))


def _subtype(path: Path, like: AudioInfo, container: str, asked: str | None) -> str:
    possible = _possible(container, like.channels)
    if asked:
        if asked not in possible:
            raise OutputError(
                f"{path}: {container} cannot hold {asked} with {like.channels} channels; it can "
                f"hold {', '.join(possible)}"
            )
        return asked
    if path.suffix.lower() == ".opus":
        return "OPUS"
    if like.subtype in possible:
        return like.subtype
    asked_for = like.source is None  # a file may have an encoding that libsndfile does not know
    if asked_for and like.subtype not in soundfile.available_subtypes() and like.is_native:
        raise OutputError(
            f"{path}: unknown subtype "
            f"{like.subtype}{nearest(like.subtype, soundfile.available_subtypes())}"
        )
    known = like.subtype in _subtypes(container)
    if asked_for and container == like.container and not known:
        raise OutputError(
            f"{path}: {container} cannot hold {like.subtype}; it can hold {', '.join(possible)}"
        )
    if container == "OGG":
        return "VORBIS"
    at = LADDER.index(_rung(like.subtype))
    ladder = (*LADDER[at:], *reversed(LADDER[:at]), soundfile.default_subtype(container))
    return next(
        (name for name in ladder if name in possible), possible[0] if possible else like.subtype
    )


@cache
def _possible(container: str, channels: int) -> tuple[str, ...]:
    """The encodings of a container that so many channels can have."""
    return tuple(name for name in _subtypes(container) if _fits(container, name, channels))


def _rung(subtype: str) -> str:
    """The entry of `LADDER` with the resolution of an encoding; 16 bits for lossy ones."""
    if subtype in LADDER:
        return subtype
    return {
        "ALAC_20": "PCM_24",
        "WAVPACK_FLOAT": "FLOAT",
    }.get(subtype) or {24: "PCM_24", 32: "PCM_32"}.get(encoders.resolution(subtype) or 16, "PCM_16")


def _fits(container: str, subtype: str, channels: int) -> bool:
    """Whether libsndfile writes the combination correctly.

    ADPCM takes up to two channels, GSM and G.72x one. MP3 is layer III only, and not inside WAV.
    ALAC above 16 bits loses bits in loud noise. DWVW files cannot be opened again.
    """
    if subtype in ("ALAC_20", "ALAC_24", "ALAC_32") or subtype.startswith("DWVW"):
        return False
    if subtype.startswith("MPEG"):
        return container == "MP3" and subtype == "MPEG_LAYER_III"
    if subtype in ("IMA_ADPCM", "MS_ADPCM"):
        return channels <= 2
    mono = subtype.startswith(("GSM", "G72", "NMS", "VOX", "DPCM")) or container in (
        "SVX",
        "HTK",
        "WVE",
        "XI",
    )
    return channels == 1 if mono else True


def _large(path: Path, info: AudioInfo) -> AudioInfo:
    """Turn a WAV that is too large for 32-bit sizes into RF64; raise `OutputError` for an AIFF."""
    size = estimated_bytes(info) + info.metadata_bytes + HEADROOM
    if size <= RIFF_LIMIT or info.container not in ("WAV", "WAVEX", "AIFF"):
        return info
    if info.container == "AIFF":
        raise OutputError(
            f"{path}: AIFF holds up to 4 GiB, got {size / 2**30:.1f} GiB; write .caf, .w64 or .flac"
        )
    return replace(info, container="RF64", endian="FILE")


def encoder_settings(info: AudioInfo) -> dict[str, float | str]:
    """Options of `soundfile.SoundFile` for a bit rate of at least `info.bit_rate`, the input's."""
    if info.subtype == "MPEG_LAYER_III":
        return {"compression_level": _mp3_level(info), "bitrate_mode": "CONSTANT"}
    if info.subtype == "OPUS":
        return {"compression_level": _opus_level(info)}
    if info.subtype == "VORBIS":
        return {"compression_level": 1 - _vorbis_quality(info)}
    return {}


def _mp3_level(info: AudioInfo) -> float:
    """The compression level of the next bit rate above the input's mean.

    LAME writes the delays of encoder and decoder into the first MP3 frame, and leaves them out
    where that is too short. Without them the output would start late.
    """
    table = next(rates for lowest, rates in MP3_KBPS.items() if info.sample_rate >= lowest)
    wanted = (info.bit_rate or DEFAULT_MP3_KBPS * 1000) / 1000
    mpeg1 = info.sample_rate >= 32000
    side_bytes = (17 if mpeg1 else 9) if info.channels == 1 else (32 if mpeg1 else 17)
    smallest = (MP3_TAG_BYTES + side_bytes) * info.sample_rate / (144_000 if mpeg1 else 72_000)
    kbps = min((rate for rate in table if rate > wanted and rate >= smallest), default=table[0])
    return (table[0] - kbps) / (table[0] - table[-1])


def _opus_level(info: AudioInfo) -> float:
    high, low = OPUS_KBPS
    wanted = info.bit_rate * STEP / 1000 / info.channels if info.bit_rate else DEFAULT_OPUS_KBPS
    return (high - min(max(wanted, low), high)) / (high - low)


def _vorbis_quality(info: AudioInfo) -> float:
    """The lowest quality, in steps of 0.1, whose nominal bit rate is above the input's.

    The nominal rate is in the header of a Vorbis file. To find the rate of a quality, an empty file
    is encoded.
    """
    wanted = nominal_bit_rate(info.source) if info.source else None
    wanted = wanted or info.bit_rate
    if not wanted:
        return DEFAULT_VORBIS_QUALITY
    for quality in range(11):
        nominal = _nominal_at(info, quality / 10)
        if nominal is None:
            return 0.8  # above 50 kHz the encoder writes no nominal bit rate
        if nominal > wanted * 1.01:
            return quality / 10
    return 1.0


def _nominal_at(info: AudioInfo, quality: float) -> float | None:
    file = io.BytesIO()
    with soundfile.SoundFile(
        file,
        "w",
        info.sample_rate,
        info.channels,
        "VORBIS",
        None,
        "OGG",
        compression_level=1 - quality,
    ) as sound:
        sound.write(np.zeros((1, info.channels), np.float32))
    return _nominal(file.getvalue())


def nominal_bit_rate(path: Path) -> float | None:
    """Nominal bits per second of a Vorbis file; None if it is not one or does not tell."""
    with path.open("rb") as file:
        return _nominal(file.read(4096))


def _nominal(head: bytes) -> float | None:
    at = head.find(b"\x01vorbis")
    if at < 0 or len(head) < at + 28:
        return None
    # Type, "vorbis", version, channels, sample rate, maximum, nominal and minimum bit rate.
    nominal: int = struct.unpack_from("<i", head, at + 20)[0]
    return float(nominal) if nominal > 0 else None
