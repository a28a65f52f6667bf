"""Write audio tracks to m4a, mp4, mov, webm, mkv and other files with FFmpeg, with all that the
source has besides them: pictures, subtitles, chapters, cover, timecode, flags, languages and tags.

`copying` tells what a container can hold. Needs PyAV, the extra `media`; `media` tells which of its
calls are avoided.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from audioae.audio import content
from audioae.audio.encoders import BITS_PER_SECOND, ENCODERS, MUXERS, Muxer, encoder_layout
from audioae.audio.form import AudioInfo
from audioae.audio.gain_tags import is_gain_tag
from audioae.audio.media import open_container, read_track
from audioae.audio.timestamps import time_base
from audioae.errors import AudioFileError, require

FEW_PACKETS = 300  # that are read for a trial
ATTACHED_PICTURE = 1 << 10
OWN_TAGS = ("encoder", "major_brand", "minor_version", "compatible_brands", "duration")
OWN_STREAM_TAGS = (*OWN_TAGS, "bps", "number_of_", "_statistics", "vendor_id")


@dataclass(frozen=True)
class CopyPlan:
    """What a container holds of a source besides the audio tracks that are encoded.

    Args:
        copied: indices of the streams that are copied.
        lost: one phrase for each thing that is not kept.
    """

    copied: tuple[int, ...] = ()
    lost: tuple[str, ...] = ()


def is_cover(stream: Any) -> bool:
    """Whether a track is a single picture that belongs to the whole file."""
    return stream.type == "video" and bool(int(stream.disposition) & ATTACHED_PICTURE)


def attaches(stream: Any, muxer: Muxer) -> bool:
    """Whether a cover becomes an attachment, as in Matroska."""
    return is_cover(stream) and muxer.name == "matroska"


def add_copy(output: Any, stream: Any) -> Any:
    """Add a stream for the packets of another one, with its tags and flags."""
    try:
        copy = output.add_stream_from_template(stream)
    except ValueError:  # FFmpeg has no encoder of that name, which is not needed either
        copy = output.add_stream_from_template(stream, opaque=True)
    copy.metadata.update(stream.metadata)
    copy.disposition = int(stream.disposition)
    return copy


def clean_tags(
    metadata: dict[str, str], own: Sequence[str], forms: Sequence[AudioInfo]
) -> dict[str, str]:
    """Tags without those that FFmpeg writes about its own work, and without those that do not fit
    the level of an output with these forms.
    """
    changed = any(form.level_changed for form in forms)
    return {
        name: text
        for name, text in metadata.items()
        if not name.lower().startswith(tuple(own)) and not (changed and is_gain_tag(name))
    }


class MediaSink:
    """Writes audio tracks, and copies everything else from their source.

    Args:
        target: the file to write, or memory.
        forms: of the tracks to write, from `choose`; each replaces its `track` of the source.
        plan: from `copying.plan_copies`.
        trial: copy only the first packets.

    Attributes:
        lost: one phrase for each thing of the source that is not kept.
    """

    def __init__(
        self,
        target: Path | io.BytesIO,
        forms: Sequence[AudioInfo],
        plan: CopyPlan,
        *,
        trial: bool = False,
    ) -> None:
        self._av = require("av", extra="media")
        self._forms, self._trial = forms, trial
        self._plan, self.lost = plan, list(plan.lost)
        muxer = self._muxer = MUXERS["." + forms[0].container.lower()]
        options = {"brand": muxer.brand} if muxer.brand else {}
        if muxer.name in ("mp4", "mov"):
            # The time unit is set to one sample, so that the length is exact.
            options["movie_timescale"] = str(forms[0].sample_rate)
        self._source = open_source(forms[0])
        self._base = time_base(self._source) if self._source else Fraction(0)
        if isinstance(target, Path):
            self._output = content.open_output(target, muxer.name, options)
        else:
            self._output = self._av.open(target, "w", format=muxer.name, options=options)
        self._audio: list[Any] = [None] * len(forms)
        self._written, self._starts = [0] * len(forms), [0] * len(forms)
        self._layouts = [encoder_layout(form.subtype, form) or "" for form in forms]
        self._copies: dict[int, Any] = {}
        self._add_streams()
        self._packets = self._read_packets()
        self._waiting = next(self._packets, None)

    def _add_streams(self) -> None:
        """Create the tracks in the order of the source, with chapters and tags."""
        source, output, forms = self._source, self._output, self._forms
        tags = clean_tags(source.metadata, OWN_TAGS, forms) if source else {}
        output.metadata.update({**tags, **forms[0].tags})
        if "tracknumber" in forms[0].tags:
            output.metadata.setdefault("track", output.metadata.pop("tracknumber"))
        if source is None:
            for number in range(len(forms)):
                self._add_audio(number, None)
            return
        if chapters := source.chapters():
            output.set_chapters(chapters)
        places = {source.streams.audio[form.track].index: at for at, form in enumerate(forms)}
        for stream in source.streams:
            if stream.index in places:
                self._add_audio(places[stream.index], stream)
            elif stream.index not in self._plan.copied:
                continue
            elif attaches(stream, self._muxer):
                self._attach(stream)
            else:
                self._copies[stream.index] = add_copy(output, stream)

    def _attach(self, stream: Any) -> None:
        kind = {"mjpeg": "jpeg"}.get(stream.codec_context.name, stream.codec_context.name)
        with open_container(self._source_path) as container:
            packet = next(container.demux(container.streams[stream.index]))
            name = stream.metadata.get("filename", f"cover.{'jpg' if kind == 'jpeg' else kind}")
            self._output.add_attachment(name, f"image/{kind}", bytes(packet))

    @property
    def _source_path(self) -> Path:
        assert self._forms[0].source is not None
        return self._forms[0].source

    def _add_audio(self, number: int, like: Any) -> None:
        form = self._forms[number]
        encoder = ENCODERS[form.subtype]
        # A higher bit rate than the source makes up for encoding twice.
        wanted = form.bit_rate * 1.25 if form.bit_rate else BITS_PER_SECOND * form.channels
        stream = self._output.add_stream(
            encoder.name,
            rate=form.sample_rate,
            layout=self._layouts[number],
            format=encoder.own,
            options={"b": str(round(min(wanted, encoder.limit * form.channels)))},
        )
        stream.time_base = Fraction(1, form.sample_rate)
        if like:
            stream.metadata.update(clean_tags(like.metadata, OWN_STREAM_TAGS, [form]))
            stream.disposition = int(like.disposition)
            start = read_track(self._source_path, form.track).start
            self._starts[number] = round(start * form.sample_rate)
        self._audio[number] = stream

    def _read_packets(self) -> Iterator[Any]:
        """The packets to copy; those of all streams are counted, which a trial needs."""
        if not self._copies or self._source is None:
            return
        for number, packet in enumerate(self._source.demux()):
            if self._trial and number > FEW_PACKETS:
                return
            if packet.size and packet.stream.index in self._copies:  # the last packets are empty
                if self._base:
                    shift = round(self._base / packet.time_base)
                    packet.pts = None if packet.pts is None else packet.pts - shift
                    packet.dts = None if packet.dts is None else packet.dts - shift
                yield packet

    def write(self, codes: npt.NDArray[Any], track: int = 0) -> None:
        """Append `[samples, channels]`: floats, or int32 with the code in the upper bits.

        Args:
            codes: the samples.
            track: number of the track among those that are written.
        """
        form, at = self._forms[track], self._starts[track] + self._written[track]
        self._copy_until(at / form.sample_rate)
        kind = ENCODERS[form.subtype].packed
        if kind == "s16":
            codes = (codes >> 16).astype(np.int16)
        elif kind == "u8":
            codes = ((codes >> 24) + 128).astype(np.uint8)
        else:
            codes = codes.astype({"s32": np.int32, "flt": np.float32, "dbl": np.float64}[kind])
        frame = self._av.AudioFrame.from_ndarray(
            np.ascontiguousarray(codes).reshape(1, -1), format=kind, layout=self._layouts[track]
        )
        frame.sample_rate, frame.pts = form.sample_rate, at
        # The muxer may have changed the time base of the stream.
        frame.time_base = Fraction(1, form.sample_rate)
        self._output.mux(self._audio[track].encode(frame))
        self._written[track] += len(codes)

    @property
    def positions(self) -> list[int]:
        """The number of each written track among the audio tracks of the output."""
        audio = [each for each in self._output.streams if each.type == "audio"]
        return [audio.index(each) for each in self._audio]

    def close(self) -> None:
        """Write the remaining packets and finish the file."""
        try:
            self._copy_until(float("inf"))
            for stream, written in zip(self._audio, self._written, strict=True):
                if written:
                    self._output.mux(stream.encode(None))
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
            packet.stream = self._copies[packet.stream.index]
            self._output.mux(packet)


def open_source(form: AudioInfo) -> Any:
    """The opened file that the metadata and other tracks come from, or None."""
    if form.source is None or content.sniff(form.source).library == "soundfile":
        return None
    with suppress(AudioFileError):
        return open_container(form.source)
    return None


def _time(packet: Any) -> float:
    """Seconds at which a packet is decoded."""
    stamp = packet.dts if packet.dts is not None else packet.pts
    return float(stamp * packet.time_base) if stamp is not None else 0.0
