"""Which of FFmpeg's encoders and containers an output gets, from what the encoders accept.

Needs PyAV, the extra `media`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from audioae.audio.form import AudioInfo
from audioae.audio.layout import surround, wave_order
from audioae.audio.media import LOSSLESS
from audioae.errors import OutputError, nearest, require


@dataclass(frozen=True)
class Encoder:
    """FFmpeg's encoder of a subtype.

    Args:
        name: FFmpeg's name.
        packed: FFmpeg's name of the samples that are passed to it, channels interleaved.
        own: the samples it is opened with, which may be planar.
        limit: maximum of bits per second and channel.
    """

    name: str
    packed: str
    own: str
    limit: int = 256_000


ENCODERS = {
    "AAC": Encoder("aac", "flt", "fltp"),
    "OPUS": Encoder("libopus", "flt", "flt"),
    "MP3": Encoder("libmp3lame", "flt", "fltp", 160_000),
    "MP2": Encoder("mp2", "s16", "s16", 192_000),
    "AC3": Encoder("ac3", "flt", "fltp", 106_000),
    "EAC3": Encoder("eac3", "flt", "fltp"),
    "ALAC_16": Encoder("alac", "s16", "s16p"),
    "ALAC_24": Encoder("alac", "s32", "s32p"),
    "FLAC_16": Encoder("flac", "s16", "s16"),
    "FLAC_24": Encoder("flac", "s32", "s32"),
    "WAVPACK_16": Encoder("wavpack", "s16", "s16p"),
    "WAVPACK_24": Encoder("wavpack", "s32", "s32p"),
    "WAVPACK_32": Encoder("wavpack", "s32", "s32p"),
    "WAVPACK_FLOAT": Encoder("wavpack", "flt", "fltp"),
    "PCM_U8": Encoder("pcm_u8", "u8", "u8"),
    "PCM_16": Encoder("pcm_s16le", "s16", "s16"),
    "PCM_24": Encoder("pcm_s24le", "s32", "s32"),
    "PCM_32": Encoder("pcm_s32le", "s32", "s32"),
    "FLOAT": Encoder("pcm_f32le", "flt", "flt"),
    "DOUBLE": Encoder("pcm_f64le", "dbl", "dbl"),
    "ULAW": Encoder("pcm_mulaw", "s16", "s16"),
    "ALAW": Encoder("pcm_alaw", "s16", "s16"),
}


@dataclass(frozen=True)
class Muxer:
    """FFmpeg's writer of a container.

    Args:
        name: FFmpeg's name.
        subtypes: its encodings; the first that fits is the default for a lossy source.
        brand: of an MP4 file; FFmpeg's muxer "ipod" would take no cover.
        pictures: whether it is for films.
    """

    name: str
    subtypes: tuple[str, ...]
    brand: str = ""
    pictures: bool = False


PCM = ("PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "PCM_U8")
MP4 = ("AAC", "ALAC_16", "ALAC_24", "FLAC_16", "FLAC_24", "AC3", "EAC3", "MP3")
MATROSKA = (
    *("OPUS", "FLAC_24", "FLAC_16", "AAC", "AC3", "EAC3", "MP3", "MP2", "WAVPACK_16"),
    *("WAVPACK_24", "WAVPACK_32", "WAVPACK_FLOAT", *PCM),
)
MUXERS = {
    ".m4a": Muxer("mp4", ("AAC", "ALAC_16", "ALAC_24", "AC3"), "M4A "),
    ".m4b": Muxer("mp4", ("AAC", "ALAC_16", "ALAC_24", "AC3"), "M4B "),
    ".mp4": Muxer("mp4", MP4, pictures=True),
    ".m4v": Muxer("mp4", MP4, "M4V ", pictures=True),
    ".mov": Muxer(
        "mov",
        ("AAC", "ALAC_16", "ALAC_24", *PCM, "ULAW", "ALAW", "AC3", "MP3"),
        pictures=True,
    ),
    ".webm": Muxer("webm", ("OPUS",), pictures=True),
    ".mkv": Muxer("matroska", MATROSKA, pictures=True),
    ".mka": Muxer("matroska", MATROSKA),
    ".oga": Muxer("ogg", ("FLAC_16", "FLAC_24")),
    ".ts": Muxer("mpegts", ("AAC", "AC3", "EAC3", "MP2", "MP3"), pictures=True),
}
OGG_FLAC = (".oga", ".ogg")  # suffixes of Ogg files with FLAC; others are written by libsndfile
BITS_PER_SECOND = 96_000  # per channel, for a lossless source
STANDARD = {1: "mono", 2: "stereo", 3: "2.1", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
# Layouts that only an encoder with a fixed list of layouts needs, by number of channels.
OTHERWISE = {3: "3.0", 4: "4.0", 8: "7.1(wide)", 16: "hexadecagonal", 24: "22.2"}
MAX_CHANNELS = 64


def holds_tracks(path: Path) -> bool:
    """Whether a file with this name holds pictures and several audio tracks."""
    return path.suffix.lower() in MUXERS.keys() - set(OGG_FLAC)


def is_ogg_flac(like: AudioInfo, subtype: str | None) -> bool:
    """Whether an Ogg file gets the codec FLAC: its source is one, or `subtype` asks for it."""
    codec = (subtype or like.subtype).upper()
    return codec.startswith("FLAC_") and (subtype is not None or like.container == "OGA")


def choose(path: Path, like: AudioInfo, subtype: str | None) -> AudioInfo:
    """Choose the form of an output: that of `like` where its container allows it.

    A lossless source gets a lossless encoding of at least its resolution, if there is one.

    Raises:
        OutputError: the container cannot be written, or takes no such encoding.
    """
    suffix = path.suffix.lower()
    suffix = ".oga" if suffix in OGG_FLAC else suffix
    if suffix not in MUXERS:  # WMA, raw AAC and AVI lose the first samples or the length
        raise OutputError(
            f"{path}: {suffix} files are read-only; write one of {' '.join(MUXERS)}, .flac or .wav"
        )
    require("av", extra="media")
    possible = [name for name in MUXERS[suffix].subtypes if encoder_layout(name, like)]
    if not possible:
        rate, channels = like.sample_rate / 1000, like.channels
        raise OutputError(
            f"{path}: no codec of {suffix} files takes {rate:g} kHz with {channels} channels; "
            "write .mkv, .flac or .wav"
        )
    if subtype and subtype not in possible:
        raise OutputError(
            f"{path}: {suffix} cannot hold {subtype} here{nearest(subtype, possible)}; it can "
            f"hold {', '.join(possible)}"
        )
    name = subtype or (like.subtype if like.subtype in possible else _nearest(possible, like))
    return replace(like, container=suffix[1:].upper(), subtype=name, endian="FILE")


def _nearest(possible: list[str], like: AudioInfo) -> str:
    """The encoding for a source whose own encoding the container does not take."""
    lossless = [name for name in possible if name.startswith(LOSSLESS)]
    if like.bit_rate is not None or not lossless:
        lossy = [name for name in possible if name not in lossless]
        return (lossy or possible)[0]
    wanted = resolution(like.subtype) or 16
    wanted = 24 if like.subtype == "FLOAT" else wanted

    def key(name: str) -> tuple[bool, int, int]:
        bits = resolution(name) or 16
        packs = name.startswith(("ALAC", "FLAC", "WAVPACK"))
        return (bits < wanted, not packs, bits if bits >= wanted else -bits)

    return min((name for name in lossless if name not in ("ULAW", "ALAW")), key=key)


def resolution(subtype: str) -> int | None:
    """Bits per sample of a lossless encoding; None for lossy ones.

    Example:
        >>> resolution("WAVPACK_24"), resolution("DOUBLE"), resolution("AAC")
        (24, 53, None)
    """
    known = {"FLOAT": 25, "WAVPACK_FLOAT": 25, "DOUBLE": 53, "ULAW": 14, "ALAW": 13}
    known |= {"PCM_U8": 8, "PCM_S8": 8}
    if subtype in known:
        return known[subtype]
    bits = subtype.rpartition("_")[2]
    return int(bits) if subtype.startswith(LOSSLESS) and bits.isdigit() else None


def encoder_layout(subtype: str, like: AudioInfo) -> str | None:
    """FFmpeg's name of the layout that the encoder of a subtype takes for `like`; None if the
    encoder does not take its channels or its sample rate.
    """
    count, encoder = like.channels, ENCODERS[subtype]
    layout = wave_order(like.layout) if len(like.layout) == count else ()
    own = ["+".join(layout)] if layout else []
    same = ["+".join(surround(layout))] if layout else []
    wanted = [*same, *own] if subtype == "AAC" else [*own, *same]  # AAC names no side pair of 5.1
    wanted += [STANDARD.get(count, f"{count} channels"), OTHERWISE.get(count, "")]
    if count > MAX_CHANNELS:
        return None
    tries = (each for each in wanted if each)
    return next((each for each in tries if _opens(encoder, like.sample_rate, each)), None)


@lru_cache(maxsize=512)
def _opens(encoder: Encoder, rate: int, layout: str) -> bool:
    """Whether FFmpeg opens an encoder with these settings."""
    av = require("av", extra="media")
    try:
        context = av.CodecContext.create(encoder.name, "w")
        context.sample_rate, context.layout, context.format = rate, layout, encoder.own
        context.open()
    except (av.FFmpegError, ValueError):
        return False
    return True
