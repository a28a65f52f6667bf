"""Which container, subtype, sample rate and size go together, decided before the first sample is computed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import soundfile

from audioae.audio import media, mux
from audioae.audio.form import AudioInfo
from audioae.audio.quantise import BITS
from audioae.audio.riff import extra_bytes
from audioae.errors import OutputError, nearest

# The first container of a suffix is its usual one; the others are kept when the input has them.
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
RIFF_LIMIT = 2**32 - 1  # bytes that the 32-bit size fields of WAV and AIFF can count
HEADROOM = 2**16  # bytes kept free for headers and tags
MAX_CHANNELS = {"VORBIS": 255, "OPUS": 255, "MPEG_LAYER_III": 2, "FLAC": 8}
OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
NOT_EMPTY = ("OPUS", "MPEG_LAYER_III")  # a file of no samples in these cannot be opened again
LADDER = ("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")  # each holds what is left of it


def choose(path: Path, like: AudioInfo, container: str | None = None, subtype: str | None = None) -> AudioInfo:
    """The form that a file at `path` will have: as `like` wherever the container can, else the nearest that loses least.

    Raises:
        OutputError: the suffix is unknown, or container, subtype, rate and channels do not go together.
    """
    if container is None and path.suffix.lower() in media.SUFFIXES:
        return mux.choose(path, like, subtype and subtype.upper())
    chosen = (container or _container(path, like)).upper()
    if chosen not in soundfile.available_formats() or chosen == "RAW":
        raise OutputError(f"{path}: no container is called {chosen}{nearest(chosen, soundfile.available_formats())}")
    info = replace(like, container=chosen, subtype=_subtype(path, like, chosen, subtype and subtype.upper()))
    info = replace(info, endian=like.endian if soundfile.check_format(chosen, info.subtype, like.endian) else "FILE")
    check_limits(path, info)
    if info.frames == 0 and info.subtype in NOT_EMPTY:
        raise OutputError(f"{path}: {info.subtype} cannot hold a recording of no samples; write wav or flac")
    return _large(path, info)


def check_limits(path: Path, info: AudioInfo) -> None:
    """Raise `OutputError` where the codec cannot hold the rate, the channels or the emptiness; libsndfile would crash on some of them."""
    rates = {"OPUS": OPUS_RATES, "MPEG_LAYER_III": MP3_RATES}.get(info.subtype)
    if rates and info.sample_rate not in rates:
        known = ", ".join(f"{rate / 1000:g}" for rate in rates)
        raise OutputError(
            f"{path}: {info.subtype} takes {known} kHz, got {info.sample_rate / 1000:g} kHz; write another container (flac, wav)"
        )
    if info.subtype == "VORBIS" and info.sample_rate > 200_000:
        raise OutputError(f"{path}: VORBIS takes up to 200 kHz, got {info.sample_rate / 1000:g} kHz; write flac or wav")
    limit = MAX_CHANNELS.get(info.subtype) or MAX_CHANNELS.get(info.container, 1024)
    if not 1 <= info.channels <= limit:
        raise OutputError(f"{path}: {info.container} {info.subtype} takes 1 to {limit} channels, got {info.channels}")
    if info.sample_rate < 1:
        raise OutputError(f"{path}: the sample rate must be positive, got {info.sample_rate}")


def estimated_bytes(info: AudioInfo) -> int:
    """Bytes of the samples of an uncompressed file; 0 where the codec decides, but for ALAC: libsndfile crashes when its disk is full."""
    if not info.subtype.startswith(("PCM", "FLOAT", "DOUBLE", "ULAW", "ALAW", "ALAC")) or info.container == "FLAC":
        return 0
    bits = {"FLOAT": 32, "DOUBLE": 64, "ULAW": 8, "ALAW": 8}.get(info.subtype) or BITS[info.subtype]
    return info.frames * info.channels * bits // 8


def loses_precision(source: str, target: str) -> bool:
    """Whether whole-number or float samples of subtype `source` have more bits than uncompressed samples of subtype `target`."""
    return source in LADDER and target in LADDER[:6] and max(LADDER.index(source), 1) > max(LADDER.index(target), 1)


def _container(path: Path, like: AudioInfo) -> str:
    suffix = path.suffix.lower()
    if like.source and like.source.suffix.lower() == suffix and like.container in soundfile.available_formats():
        return like.container
    if suffix not in SUFFIXES:
        known = " ".join(SUFFIXES)
        raise OutputError(f"{path}: no audio container has the suffix {suffix!r}{nearest(suffix, SUFFIXES)}; known are {known}")
    return like.container if like.container in SUFFIXES[suffix] else SUFFIXES[suffix][0]


def _subtype(path: Path, like: AudioInfo, container: str, asked: str | None) -> str:
    possible = [name for name in soundfile.available_subtypes(container) if _fits(container, name, like.channels)]
    if asked:
        if asked not in possible:
            raise OutputError(f"{path}: {container} cannot hold {asked} with {like.channels} channels; it can hold {', '.join(possible)}")
        return asked
    if path.suffix.lower() == ".opus":
        return "OPUS"
    if like.subtype in possible:
        return like.subtype
    if like.subtype not in soundfile.available_subtypes() and like.container in soundfile.available_formats():
        raise OutputError(f"{path}: no subtype is called {like.subtype}{nearest(like.subtype, soundfile.available_subtypes())}")
    if container == like.container and like.subtype not in soundfile.available_subtypes(container):  # no file has it: somebody asked
        raise OutputError(f"{path}: {container} cannot hold {like.subtype}; it can hold {', '.join(possible)}")
    if container == "OGG":
        return "VORBIS"
    at = LADDER.index(_rung(like.subtype))
    ladder = (*LADDER[at:], *reversed(LADDER[:at]), soundfile.default_subtype(container))
    return next((name for name in ladder if name in possible), possible[0] if possible else like.subtype)


def _rung(subtype: str) -> str:
    """The place on the ladder of a subtype that is not on it: lossy and companded codes are worth 16 bits."""
    if subtype in LADDER:
        return subtype
    return {"FLAC_24": "PCM_24", "ALAC_20": "PCM_24", "ALAC_24": "PCM_24", "ALAC_32": "PCM_32", "DWVW_24": "PCM_24"}.get(subtype, "PCM_16")


def _fits(container: str, subtype: str, channels: int) -> bool:
    """Whether libsndfile writes the pair, and writes it well.

    ADPCM takes two channels, GSM and G.72x one; MP3 writes layer III only, and not inside WAV. ALAC above 16 bits loses bits of loud noise,
    DWVW files cannot be opened again.
    """
    if subtype in ("ALAC_20", "ALAC_24", "ALAC_32") or subtype.startswith("DWVW"):
        return False
    if subtype.startswith("MPEG"):
        return container == "MP3" and subtype == "MPEG_LAYER_III"
    if subtype in ("IMA_ADPCM", "MS_ADPCM"):
        return channels <= 2
    mono = subtype.startswith(("GSM", "G72", "NMS", "VOX", "DPCM")) or container in ("SVX", "HTK", "WVE", "XI")
    return channels == 1 if mono else True


def _large(path: Path, info: AudioInfo) -> AudioInfo:
    """RF64 for a WAV that 32-bit sizes cannot count; an error for an AIFF."""
    extra = extra_bytes(info.source) if info.source and info.source.is_file() else 0
    size = estimated_bytes(info) + extra + HEADROOM
    if size <= RIFF_LIMIT or info.container not in ("WAV", "WAVEX", "AIFF"):
        return info
    if info.container == "AIFF":
        raise OutputError(f"{path}: AIFF holds up to 4 GiB, got {size / 2**30:.1f} GiB; write .caf, .w64 or .flac")
    return replace(info, container="RF64", endian="FILE")
