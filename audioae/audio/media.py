"""Read audio tracks of m4a, mp4, webm, mkv, wma and other files with FFmpeg.

Needs PyAV, the extra `media`. `MediaSource` decodes one audio track. Gaps in its timestamps, left
by a network that dropped packets for example, are filled with silence, so that all later samples
keep their time. `muxing` writes such files.

Two faults of PyAV 18 would end the process, so the code here and in `muxing` avoids them:

- It looks for the planes of a frame up to a null pointer, which a planar frame of 8 or more
  channels does not have. All frames are converted to packed samples before they are touched.
- It shares the list of loudspeakers of a custom layout between objects that each free it.
  `loudspeakers` replaces such layouts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from audioae.audio import content
from audioae.audio.form import AudioInfo
from audioae.audio.layout import mask_of, wave_order
from audioae.audio.timestamps import Clock
from audioae.errors import AudioFileError, require

SUFFIXES = {
    *(".m4a", ".m4b", ".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".mka", ".webm", ".avi", ".ts"),
    *(".wma", ".wmv", ".asf", ".aac", ".ac3", ".amr", ".mp2", ".m2ts", ".mts", ".mpg", ".mpeg"),
    *(".flv", ".f4v", ".mxf", ".ogv", ".vob", ".3g2", ".eac3"),
    *(".wv", ".tta", ".tak", ".ape", ".mpc", ".dsf"),
}
# libsndfile's names of FFmpeg's codecs; the others keep FFmpeg's name.
SUBTYPES = {
    "pcm_u8": "PCM_U8",
    "pcm_s8": "PCM_S8",
    "pcm_mulaw": "ULAW",
    "pcm_alaw": "ALAW",
    "mp3": "MP3",
    "mp3float": "MP3",
    "libopus": "OPUS",
    "libvorbis": "VORBIS",
}
PCM_FORMATS = {"u8": "PCM_U8", "s16": "PCM_16", "flt": "FLOAT", "dbl": "DOUBLE"}
# Codecs without loss that come in several resolutions, which are part of the subtype.
RESOLUTIONS = ("ALAC", "FLAC", "WAVPACK", "TTA", "TAK", "APE", "TRUEHD", "MLP", "WMALOSSLESS")
LOSSLESS = (*RESOLUTIONS, "PCM", "FLOAT", "DOUBLE", "ULAW", "ALAW")
TAGS = {"title", "artist", "album", "comment", "date", "genre", "copyright"}
SILENT_BLOCK = 2**16  # samples per channel
MOST_PADDING = 2**13  # samples of the last block of a codec; more is another recording

_kept: list[Any] = []  # custom layouts, which must not be freed: see above


@dataclass(frozen=True)
class Track:
    """An audio track.

    Args:
        info: its form.
        start: time of its first sample, seconds.
        language: its code, such as "eng"; empty if the file does not tell.
        gap_seconds: total length of the gaps that were filled with silence.
    """

    info: AudioInfo
    start: float
    language: str = ""
    gap_seconds: float = 0.0


class MediaSource:
    """An audio track of a file, decoded in order; see `sources.Source`.

    Args:
        path: the file.
        track: number of the audio track, from 0.
    """

    exact = False

    def __init__(self, path: Path, track: int = 0) -> None:
        self._track = read_track(path, track)
        self._container = open_container(path, track)
        self._blocks = iter(Decoder(self._container, path, track))
        self._ready: list[npt.NDArray[Any]] = []
        self._left = self._track.info.num_samples

    def __enter__(self) -> MediaSource:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._container.close()

    def form(self, path: Path) -> AudioInfo:
        """The form of the track, with its exact length."""
        return self._track.info

    def seek(self, sample: int) -> int:
        """Not supported, because FFmpeg's seeks are not exact: returns -1."""
        return -1

    def read(
        self, num_samples: int, *, dtype: str, always_2d: bool
    ) -> npt.NDArray[np.floating[Any]]:
        """The next `[n, channels]` samples."""
        wanted, held = min(num_samples, self._left), sum(map(len, self._ready))
        while held < wanted and (block := next(self._blocks, None)) is not None:
            self._ready.append(block)
            held += len(block)
        whole = np.concatenate([np.zeros((0, self._track.info.channels), np.float64), *self._ready])
        self._ready = [whole[wanted:]]
        self._left -= min(wanted, len(whole))
        return whole[:wanted].astype(dtype)


def read_track(path: Path, track: int = 0) -> Track:
    """An audio track of a file.

    The track is decoded to count its samples, because headers give the length roughly or not at
    all. The result is cached.

    Raises:
        AudioFileError: there is no such track, or it is damaged.
    """
    state = path.stat()
    return _read_track(path, track, state.st_size, state.st_mtime_ns)


@dataclass(frozen=True)
class TrackHead:
    """What a file tells of an audio track without decoding it.

    Args:
        number: of the track among the audio tracks, from 0.
        language: its code, such as "eng"; empty if the file does not tell.
        is_default: whether players choose it.
        is_known: whether FFmpeg can decode it.
    """

    number: int
    language: str = ""
    is_default: bool = False
    is_known: bool = True

    def is_named(self, word: str) -> bool:
        """Whether a user means this track: by its number from 1, or its language."""
        return word == str(self.number + 1) or word.lower() == (self.language.lower() or None)


def list_tracks(path: Path) -> list[TrackHead]:
    """The audio tracks of a file; one without properties if FFmpeg does not read it.

    Raises:
        AudioFileError: the file cannot be read or has no audio.
    """
    try:
        found = content.sniff(path)
    except (OSError, ValueError):  # `info` says what is wrong
        return [TrackHead(0)]
    if found.library != "media" and not (found.library == "" and path.suffix.lower() in SUFFIXES):
        return [TrackHead(0)]
    with content.open_input(path) as container:
        audio = container.streams.audio
        return [
            TrackHead(
                number,
                language_of(stream),
                bool(int(stream.disposition) & 1),
                stream.codec_context is not None,
            )
            for number, stream in enumerate(audio)
        ] or [TrackHead(0)]


def language_of(stream: Any) -> str:
    """The code of the language of a track, such as "eng"; empty if the file does not tell."""
    code = str(stream.metadata.get("language", ""))
    return "" if code == "und" else code


def track_of(form: AudioInfo) -> Track | None:
    """The track that a form was read from; None if FFmpeg did not read it."""
    if form.source is None or form.is_native:
        return None
    return read_track(form.source, form.track)


def open_container(path: Path, track: int = 0) -> Any:
    """Open a file with PyAV. Raises `AudioFileError` unless it has such a track to decode."""
    container = content.open_input(path)
    audio = container.streams.audio
    problem = ""
    if not audio:
        problem = "no audio track"
    elif track >= len(audio):
        problem = f"{len(audio)} audio tracks; there is no track {track + 1}"
    elif audio[track].codec_context is None:
        problem = "an audio codec that FFmpeg does not know"
    if problem:
        container.close()
        raise AudioFileError(f"{path} has {problem}")
    return container


def loudspeakers(context: Any) -> tuple[str, ...]:
    """The loudspeakers of a codec context that is not open yet; empty if the file does not tell.

    A custom layout is replaced by the number of its channels: see the top of this module.
    """
    layout = context.layout
    names = tuple(channel.name for channel in layout.channels)
    if wave_order(names) != names or (mask_of(names) is None and "channels (" in layout.name):
        _kept.append(layout)
        context.layout = f"{len(names)} channels"
    return names if mask_of(names) else ()


@lru_cache(maxsize=16)
def _read_track(path: Path, track: int, size: int, mtime_ns: int) -> Track:
    """`read_track`, cached while the file has this size and modification time."""
    with open_container(path, track) as container:
        stream, demuxer = container.streams.audio[track], container.format.name
        context, decoder = stream.codec_context, Decoder(container, path, track)
        # Codecs pad the last block; these containers declare the length without the padding.
        exact = demuxer.partition(",")[0] in ("mov", "caf")
        known = exact and stream.duration and stream.time_base
        rate, channels = context.sample_rate, context.channels
        if not rate or not channels:
            raise AudioFileError(f"{path} declares {rate} Hz, {channels} channels; it is damaged")
        declared = stream.duration * stream.time_base * rate if known else None
        wide, num_samples, unused = _samples(context) == "s32", 0, True
        for block in decoder:
            num_samples += len(block)
            unused = unused and not (wide and np.any(np.mod(block * 2.0**23, 1)))
        is_padding = declared and 0 < num_samples - declared <= MOST_PADDING
        if declared and declared.denominator == 1 and is_padding:
            num_samples = int(declared)
        name = _subtype(context, 24 if unused else 32)
        metadata = {**stream.metadata, **container.metadata}
        language = language_of(stream)
    lossless = name.startswith(LOSSLESS)
    coded = 0 if lossless else _coded_bytes(path, track)
    form = AudioInfo(
        rate,
        channels,
        num_samples,
        content.container_of(demuxer, path.suffix),
        name,
        "FILE",
        tags_of(metadata),
        path,
        coded * 8 * rate / num_samples if num_samples and not lossless else None,
        decoder.layout,
        track,
    )
    gaps = decoder.clock.filled / rate
    return Track(form, max(float(decoder.clock.start), 0.0), language, gaps)


def _subtype(context: Any, used_bits: int) -> str:
    """The subtype of a codec. FFmpeg has one format for 24 and 32 bits; `used_bits` tells which."""
    name, samples = context.name, _samples(context)
    if name in SUBTYPES:
        return SUBTYPES[name]
    if name.startswith("pcm_"):
        return PCM_FORMATS.get(samples) or f"PCM_{24 if 's24' in name else used_bits}"
    kind = name.upper()
    if kind not in RESOLUTIONS:
        return str(kind)
    return f"{kind}_{'FLOAT' if samples == 'flt' else 16 if samples != 's32' else used_bits}"


def _samples(context: Any) -> str:
    """FFmpeg's name of the samples of a codec; empty if a damaged file does not tell."""
    return context.format.name.removesuffix("p") if context.format else ""


class Decoder:
    """Blocks `[n, channels]` of an audio track, float64 in [-1, 1), with silence in its gaps.

    Args:
        container: from `open_container`.
        path: of the file, for errors.
        track: number of the audio track, from 0.

    Attributes:
        layout: its loudspeakers; empty if the file does not tell.
        clock: its start and its gaps.
    """

    def __init__(self, container: Any, path: Path, track: int) -> None:
        self._container, self._path = container, path
        self._stream = container.streams.audio[track]
        context = self._stream.codec_context
        self.layout = loudspeakers(context)
        self._rate, self._channels = context.sample_rate, context.channels
        self.clock = Clock(container, self._rate)
        if container.format.name == "caf" and context.name == "alac":
            # FFmpeg shortens the last packet by the padding that its length leaves out already.
            context.flags2 |= 1 << 29  # AV_CODEC_FLAG2_SKIP_MANUAL

    def __iter__(self) -> Iterator[npt.NDArray[Any]]:
        av = require("av", extra="media")
        convert = av.AudioResampler(format="dbl", rate=self._rate)
        try:
            for frame in self._container.decode(self._stream):
                layout = frame.layout
                if (frame.sample_rate, layout.nb_channels) != (self._rate, self._channels):
                    raise AudioFileError(
                        f"{self._path} changes its sample rate or channels in between; split it "
                        "there"
                    )
                yield from self._silence(self.clock.missing(frame))
                for part in convert.resample(frame):
                    yield part.to_ndarray().reshape(-1, self._channels)
        except (av.FFmpegError, ValueError) as error:
            raise AudioFileError(
                f"{self._path} is damaged ({content.reason(error)}); copy it again"
            ) from error

    def _silence(self, num_samples: int) -> Iterator[npt.NDArray[Any]]:
        for start in range(0, num_samples, SILENT_BLOCK):
            yield np.zeros((min(num_samples - start, SILENT_BLOCK), self._channels))


def _coded_bytes(path: Path, track: int) -> int:
    with open_container(path, track) as container:
        return sum(packet.size for packet in container.demux(container.streams.audio[track]))


def tags_of(metadata: dict[str, str]) -> dict[str, str]:
    """The tags of `AudioInfo` among those of FFmpeg."""
    lower = {name.lower(): text for name, text in metadata.items()}
    number = {"tracknumber": lower["track"]} if lower.get("track") else {}
    return {name: text for name, text in lower.items() if name in TAGS and text} | number
