"""Read and write audio tracks of m4a, mp4, webm, mkv, wma and other files with FFmpeg.

Needs PyAV, the extra `media`. `MediaSource` decodes the first audio track; `MediaSink` encodes one
and copies the other tracks (video, subtitles) of the source.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from audioae.audio import content
from audioae.audio.form import AudioInfo
from audioae.errors import AudioFileError, OutputError, nearest, require

SUFFIXES = {
    *(".m4a", ".m4b", ".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".mka", ".webm", ".avi"),
    *(".wma", ".wmv", ".asf", ".aac", ".ac3", ".amr", ".mp2"),
}
# libsndfile's names of FFmpeg's codecs; the others keep FFmpeg's name.
SUBTYPES = {"pcm_u8": "PCM_U8", "pcm_s32le": "PCM_32", "pcm_f32le": "FLOAT", "pcm_f64le": "DOUBLE"}
SUBTYPES |= dict.fromkeys(("pcm_s16le", "pcm_s16be"), "PCM_16")
SUBTYPES |= dict.fromkeys(("pcm_s24le", "pcm_s24be"), "PCM_24")
SUBTYPES |= dict.fromkeys(("mp3", "mp3float"), "MP3")
TAGS = {"title", "artist", "album", "comment", "date", "genre", "copyright"}


@dataclass(frozen=True)
class Track:
    """An audio track: its form, and the time of its first sample in seconds."""

    info: AudioInfo
    start: float


class MediaSource:
    """The first audio track of a file, decoded in order; see `reader.Source`."""

    exact = False

    def __init__(self, path: Path) -> None:
        self._track = read_track(path)
        self._container = open_container(path)
        self._blocks = _decode(self._container, path)
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


def read_track(path: Path) -> Track:
    """The first audio track of a file.

    The track is decoded to count its samples, because headers give the length roughly or not at
    all. The result is cached.
    """
    state = path.stat()
    return _read_track(path, state.st_size, state.st_mtime_ns)


def open_container(path: Path) -> Any:
    """Open a file with PyAV. Raises `AudioFileError` unless it has an audio track to decode."""
    container = content.open_input(path)
    audio = container.streams.audio
    if not audio or audio[0].codec_context is None:
        container.close()
        problem = "an audio codec that FFmpeg does not know" if audio else "no audio track"
        raise AudioFileError(f"{path} has {problem}")
    return container


@lru_cache(maxsize=16)
def _read_track(path: Path, size: int, mtime_ns: int) -> Track:
    """`read_track`, cached while the file has this size and modification time."""
    with open_container(path) as container:
        stream = container.streams.audio[0]
        context = stream.codec_context
        rate, channels = context.sample_rate, context.channels
        tags = _tags({**container.metadata, **stream.metadata})
        name = SUBTYPES.get(context.name, context.name.upper())
        if name in ("ALAC", "FLAC"):
            name += "_16" if "16" in context.format.name else "_24"
        known = stream.duration and stream.time_base
        declared = stream.duration * stream.time_base * rate if known else None
        start = float(max(stream.start_time or 0, 0) * stream.time_base)
        num_samples = sum(map(len, _decode(container, path)))
        # Codecs pad the last block; an MP4 declares the length without the padding.
        if declared and declared.denominator == 1 and declared < num_samples:
            num_samples = int(declared)
    coded = _coded_bytes(path)
    bit_rate = coded * 8 * rate / num_samples if num_samples else None
    suffix = path.suffix[1:].upper()
    form = AudioInfo(rate, channels, num_samples, suffix, name, "FILE", tags, path, bit_rate)
    return Track(form, start)


def _decode(container: Any, path: Path) -> Iterator[npt.NDArray[Any]]:
    """Blocks `[n, channels]` of the first audio track, float64 in [-1, 1)."""
    av = require("av", extra="media")
    stream = container.streams.audio[0]
    rate, channels = stream.codec_context.sample_rate, stream.codec_context.channels
    convert = av.AudioResampler(format="dblp", rate=rate)
    try:
        for frame in container.decode(stream):
            if frame.sample_rate != rate or len(frame.layout.channels) != channels:
                raise AudioFileError(
                    f"{path} changes its sample rate or channels in between; split it there"
                )
            for part in convert.resample(frame):
                yield part.to_ndarray().T
    except (av.FFmpegError, ValueError) as error:
        raise AudioFileError(
            f"{path} is damaged ({content.reason(error)}); copy it again"
        ) from error


def _coded_bytes(path: Path) -> int:
    with open_container(path) as container:
        return sum(packet.size for packet in container.demux(container.streams.audio[0]))


def _tags(metadata: dict[str, str]) -> dict[str, str]:
    lower = {name.lower(): text for name, text in metadata.items()}
    number = {"tracknumber": lower["track"]} if lower.get("track") else {}
    return {name: text for name, text in lower.items() if name in TAGS and text} | number


@dataclass(frozen=True)
class Encoder:
    """FFmpeg's encoder of a subtype.

    Args:
        name: FFmpeg's name.
        sample_format: FFmpeg's name of the samples it takes.
        rates: supported sample rates, Hz; empty for all.
        channels: maximum.
        limit: maximum of bits per second and channel.
    """

    name: str
    sample_format: str
    rates: tuple[int, ...] = ()
    channels: int = 8
    limit: int = 256_000


AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
ENCODERS = {
    "AAC": Encoder("aac", "fltp", AAC_RATES),
    "OPUS": Encoder("libopus", "flt", (8000, 12000, 16000, 24000, 48000)),
    "MP3": Encoder("libmp3lame", "fltp", AAC_RATES[:9], 2, 160_000),
    "AC3": Encoder("ac3", "fltp", (32000, 44100, 48000), 6, 106_000),
    "ALAC_16": Encoder("alac", "s16p"),
    "ALAC_24": Encoder("alac", "s32p"),
    "FLAC_16": Encoder("flac", "s16"),
    "FLAC_24": Encoder("flac", "s32"),
    "PCM_16": Encoder("pcm_s16le", "s16", channels=64),
    "PCM_24": Encoder("pcm_s24le", "s32", channels=64),
    "FLOAT": Encoder("pcm_f32le", "flt", channels=64),
}
# FFmpeg's muxer of a suffix and its encodings; the first that fits is the default.
MUXERS = {
    ".m4a": ("ipod", ("AAC", "ALAC_16", "ALAC_24", "AC3")),
    ".mp4": ("mp4", ("AAC", "ALAC_16", "ALAC_24", "FLAC_16", "FLAC_24", "AC3", "MP3")),
    ".mov": ("mov", ("AAC", "ALAC_16", "ALAC_24", "PCM_16", "PCM_24", "FLOAT", "AC3", "MP3")),
    ".webm": ("webm", ("OPUS",)),
    ".mkv": (
        "matroska",
        ("OPUS", "FLAC_24", "FLAC_16", "AAC", "AC3", "MP3", "PCM_16", "PCM_24", "FLOAT"),
    ),
}
MUXERS |= {".m4b": MUXERS[".m4a"], ".m4v": MUXERS[".mp4"], ".mka": MUXERS[".mkv"]}
WITH_PICTURES = (".mp4", ".m4v", ".mov", ".webm", ".mkv")
HIGH_RESOLUTION = ("PCM_24", "PCM_32", "FLOAT", "DOUBLE")  # kept as 24 bits, the others as 16
BITS_PER_SECOND = 96_000  # per channel, for a lossless source
LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}


def choose(path: Path, like: AudioInfo, subtype: str | None) -> AudioInfo:
    """Choose the form of an output: that of `like` where its container allows it.

    Raises:
        OutputError: the container cannot be written, or takes no such encoding.
    """
    suffix = path.suffix.lower()
    if suffix not in MUXERS:  # WMA and raw AAC lose the first samples or the length
        raise OutputError(
            f"{path}: {suffix} files are read-only; write one of {' '.join(MUXERS)}, .flac or .wav"
        )
    require("av", extra="media")
    possible = [name for name in MUXERS[suffix][1] if _fits(ENCODERS[name], like)]
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
    bits = "24" if like.subtype in HIGH_RESOLUTION else "16"
    lossless = [f"ALAC_{bits}", f"FLAC_{bits}"] if like.bit_rate is None else []
    wanted = (name for name in (like.subtype, *lossless) if name in possible)
    name = subtype or next(wanted, possible[0])
    return replace(like, container=suffix[1:].upper(), subtype=name, endian="FILE")


def _fits(encoder: Encoder, like: AudioInfo) -> bool:
    return (
        not encoder.rates or like.sample_rate in encoder.rates
    ) and like.channels <= encoder.channels


class MediaSink:
    """Writes one audio track, and copies the other tracks of the source.

    Args:
        path: the file to write.
        form: its form, from `choose`.

    Attributes:
        lost: names of the tracks of the source that the container cannot hold.
    """

    def __init__(self, path: Path, form: AudioInfo) -> None:
        self._av = require("av", extra="media")
        self._form, self.lost = form, list[str]()
        muxer = MUXERS["." + form.container.lower()][0]
        # The time unit of an MP4 is set to one sample, so that its length is exact.
        exact = muxer in ("ipod", "mp4", "mov")
        options = {"movie_timescale": str(form.sample_rate)} if exact else {}
        self._source = _source(form)
        self._output = content.open_output(path, muxer, options)
        self._copies: dict[int, Any] = {}
        self._packets = self._copy_streams()
        self._waiting = next(self._packets, None)
        self._written = 0

    def _copy_streams(self) -> Any:
        """Create the tracks in the order of the source; return the packets to copy."""
        output, source = self._output, self._source
        output.metadata.update({**(source.metadata if source else {}), **self._form.tags})
        chosen = source.streams.audio[0] if source else None
        for stream in source.streams if source else ():
            if stream is chosen:
                self._audio = self._add_audio(chosen)
            elif stream.type == "video" and "." + self._form.container.lower() not in WITH_PICTURES:
                self.lost.append("pictures")
            else:
                self._copy_stream(stream)
        if chosen is None:
            self._audio = self._add_audio(None)
        if not (self._copies and source):
            return iter(())
        return source.demux(*[each for each in source.streams if each.index in self._copies])

    def _copy_stream(self, stream: Any) -> None:
        try:
            copy = self._output.add_stream_from_template(stream)
        except (self._av.FFmpegError, ValueError, TypeError):
            self.lost.append(f"{stream.type} track {stream.index}")
            return
        copy.metadata.update(stream.metadata)
        self._copies[stream.index] = copy

    def _add_audio(self, like: Any) -> Any:
        form = self._form
        encoder = ENCODERS[form.subtype]
        same = like and like.codec_context.channels == form.channels
        layout = like.layout.name if same else LAYOUTS.get(form.channels)
        # A higher bit rate than the source makes up for encoding twice.
        wanted = form.bit_rate * 1.25 if form.bit_rate else BITS_PER_SECOND * form.channels
        options = {"b": str(round(min(wanted, encoder.limit * form.channels)))}
        stream = self._output.add_stream(
            encoder.name,
            rate=form.sample_rate,
            layout=layout,
            format=encoder.sample_format,
            options=options,
        )
        stream.time_base = Fraction(1, form.sample_rate)
        if like:
            stream.metadata.update(like.metadata)
        self._layout = layout
        start = read_track(form.source).start if like and form.source else 0.0
        self._start = round(start * form.sample_rate)
        return stream

    def write(self, codes: npt.NDArray[Any]) -> None:
        """Append `[samples, channels]`: floats, or int32 with the code in the upper bits."""
        self._copy_until((self._start + self._written) / self._form.sample_rate)
        kind = ENCODERS[self._form.subtype].sample_format
        if kind.startswith("s16"):
            codes = (codes >> 16).astype(np.int16)
        elif kind.startswith("flt"):
            codes = codes.astype(np.float32)
        planes = codes.T if kind.endswith("p") else codes.reshape(1, -1)
        frame = self._av.AudioFrame.from_ndarray(
            np.ascontiguousarray(planes), format=kind, layout=self._layout
        )
        frame.sample_rate, frame.pts = self._form.sample_rate, self._start + self._written
        # The muxer may have changed the time base of the stream.
        frame.time_base = Fraction(1, self._form.sample_rate)
        self._output.mux(self._audio.encode(frame))
        self._written += len(codes)

    def close(self) -> None:
        """Write the remaining packets and finish the file."""
        try:
            self._copy_until(float("inf"))
            if self._written:
                self._output.mux(self._audio.encode(None))
            self._output.close()
        finally:
            if self._source:
                self._source.close()

    def abandon(self) -> None:
        """Close the files without finishing the output."""
        for close in (self._output.close, self._source.close if self._source else None):
            if close:
                with suppress(self._av.FFmpegError, OSError, ValueError):
                    close()

    def _copy_until(self, seconds: float) -> None:
        """Copy the packets of other tracks up to a time, so that the tracks are interleaved."""
        while self._waiting is not None and _time(self._waiting) <= seconds:
            packet = self._waiting
            self._waiting = next(self._packets, None)
            if packet.size:  # the last packets are empty
                packet.stream = self._copies[packet.stream.index]
                self._output.mux(packet)


def extras(path: Path) -> list[str]:
    """Names of the tracks other than the first audio track."""
    with open_container(path) as container:
        others = [each for each in container.streams if each is not container.streams.audio[0]]
        return [f"{stream.type} track {stream.index}" for stream in others]


def _source(form: AudioInfo) -> Any:
    """The opened file that the metadata and other tracks come from, or None."""
    if form.source is None or form.source.suffix.lower() not in SUFFIXES:
        return None
    with suppress(AudioFileError):
        return open_container(form.source)
    return None


def _time(packet: Any) -> float:
    """Seconds at which a packet is decoded."""
    stamp = packet.dts if packet.dts is not None else packet.pts
    return float(stamp * packet.time_base) if stamp is not None else 0.0
