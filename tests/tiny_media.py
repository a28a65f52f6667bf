"""Small films and media files for tests, and what PyAV finds in them on its own.

A channel holds bursts of a tone of its own, so that a shift in time or a swap of channels shows.
Samples are passed as packed frames: PyAV crashes on planar frames of eight or more channels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

RATE = 48000
TONES = {"FL": 300, "FR": 420, "FC": 540, "LFE": 60, "BL": 660, "BR": 780, "SL": 900, "SR": 1020}
DEFAULT_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}


@dataclass(frozen=True)
class Form:
    """What `make_media` writes.

    Args:
        codec: FFmpeg's name of the encoder.
        channels: of each track.
        layout: FFmpeg's name; None is the usual one.
        samples: FFmpeg's name of the sample format of the codec.
        tracks: audio tracks.
        tags: of the file.
        chapters, cover, video: whether there are some.
        gap: packets that start in this stretch are left out, seconds.
        start: time of the first sample, seconds.
    """

    codec: str
    channels: int = 2
    layout: str | None = None
    samples: str | None = None
    tracks: int = 1
    tags: dict[str, str] = field(default_factory=dict)
    chapters: bool = False
    cover: bool = False
    video: bool = False
    gap: tuple[float, float] | None = None
    start: float = 0.0
    seconds: float = 1.2


def bursts(names: tuple[str, ...], seconds: float) -> np.ndarray:
    """Bursts of tones, `[samples, channels]`."""
    time = np.arange(round(seconds * RATE)) / RATE
    gate = np.random.default_rng(3).random(int(seconds / 0.04) + 2) < 0.6
    on = gate[(time / 0.04).astype(int)] * 0.3
    tones = [TONES.get(name, 300 + 60 * at) for at, name in enumerate(names)]
    return np.stack([on * np.sin(2 * np.pi * tone * time) for tone in tones], axis=1)


def make_media(path: Path, form: Form) -> Path:
    """Write a media file."""
    import av

    layout = form.layout or DEFAULT_LAYOUTS.get(form.channels, f"{form.channels} channels")
    # FFmpeg takes fewer codecs for the suffix .mka than for .mkv.
    muxer = "matroska" if path.suffix == ".mka" else None
    with av.open(str(path), "w", format=muxer) as file:
        file.metadata.update(form.tags)
        if form.chapters:
            file.set_chapters(
                [
                    {
                        "id": number,
                        "start": 500 * number,
                        "end": 500 * number + 500,
                        "time_base": Fraction(1, 1000),
                        "metadata": {"title": f"chapter {number}"},
                    }
                    for number in range(2)
                ]
            )
        video = file.add_stream("mpeg4", rate=25, width=64, height=48) if form.video else None
        audio = [_add_audio(file, form, layout, track) for track in range(form.tracks)]
        cover = _add_cover(file) if form.cover else None
        if cover is not None:
            picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            file.mux(cover.encode(picture))
        packets = [packet for track, each in enumerate(audio) for packet in _encode(each, form)]
        if video is not None:
            packets += _pictures(video, form.seconds)
        if cover is not None:
            packets += cover.encode(None)
        for packet in sorted(packets, key=lambda each: float(each.pts * each.time_base)):
            file.mux(packet)
    return path


def _add_audio(file: Any, form: Form, layout: str, track: int) -> Any:
    kind = {"format": form.samples} if form.samples else {}
    stream = file.add_stream(form.codec, rate=RATE, layout=layout, **kind)
    stream.time_base = Fraction(1, RATE)
    if form.tracks > 1:
        stream.metadata["language"] = ("eng", "deu", "fra")[track]
        stream.disposition = int(track == 0)
    return stream


def _add_cover(file: Any) -> Any:
    stream = file.add_stream("mjpeg", rate=1, width=32, height=32, pix_fmt="yuvj420p")
    stream.disposition = 1 << 10
    return stream


def _encode(stream: Any, form: Form) -> list[Any]:
    import av

    names = tuple(channel.name for channel in stream.layout.channels)
    samples, layout = bursts(names, form.seconds).astype(np.float32), stream.layout.name
    packets = []
    for start in range(0, len(samples), 4800):
        block = np.ascontiguousarray(samples[start : start + 4800]).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(block, format="flt", layout=layout)
        frame.sample_rate, frame.time_base = RATE, Fraction(1, RATE)
        frame.pts = start + round(form.start * RATE)
        packets += stream.encode(frame)
    packets += stream.encode(None)
    if form.gap is None:
        return packets
    first, last = form.gap
    return [each for each in packets if not first <= each.pts * each.time_base < last]


def _pictures(stream: Any, seconds: float) -> list[Any]:
    import av

    packets = []
    for number in range(round(seconds * 25)):
        picture = np.full((48, 64, 3), 5 * number, np.uint8)
        packets += stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24"))
    return packets + stream.encode(None)


@dataclass(frozen=True)
class Heard:
    """An audio track as PyAV plays it.

    Args:
        timeline: `[samples, channels]` from the first picture on, or from 0 without pictures.
        num_samples: from the first to the last sample.
        names: of the loudspeakers.
    """

    timeline: np.ndarray
    num_samples: int
    names: tuple[str, ...]
    start: float


def hear(path: Path, track: int = 0) -> Heard:
    """Decode an audio track and put its samples where their timestamps say."""
    import av

    with av.open(str(path)) as file:
        zero = _first_picture(path)
        stream = file.streams.audio[track]
        names = tuple(channel.name for channel in stream.codec_context.layout.channels)
        convert = av.AudioResampler(format="dbl", rate=stream.codec_context.sample_rate)
        parts, at = list[tuple[int, np.ndarray]](), 0
        for frame in file.decode(stream):
            time = at / RATE if frame.pts is None else float(frame.pts * frame.time_base) - zero
            block = np.concatenate(
                [part.to_ndarray().reshape(-1, len(names)) for part in convert.resample(frame)]
            )
            # Millisecond timestamps are rounded; only gaps move the position.
            position = at if parts and abs(time * RATE - at) < 100 else round(time * RATE)
            parts.append((position, block))
            at = position + len(block)
    first = parts[0][0]
    timeline = np.zeros((max(at, 0), len(names)))
    for position, block in parts:
        kept = block[max(-position, 0) :]
        timeline[max(position, 0) : max(position, 0) + len(kept)] = kept
    return Heard(timeline, at - first, names, first / RATE)


def _first_picture(path: Path) -> float:
    import av

    with av.open(str(path)) as file:
        for packet in file.demux(video=0) if file.streams.video else ():
            if packet.pts is not None and not int(packet.stream.disposition) & 1 << 10:
                return float(packet.pts * packet.time_base)
    return 0.0


def properties(path: Path) -> dict[str, Any]:
    """Tags, chapters, covers and tracks of a file."""
    import av

    with av.open(str(path)) as file:
        covers = [s for s in file.streams.video if int(s.disposition) & 1 << 10]
        return {
            "tags": {name.lower(): text for name, text in file.metadata.items()},
            "chapters": [
                (round(float(c["start"] * c["time_base"]), 3), c["metadata"].get("title"))
                for c in file.chapters()
            ],
            "covers": len(covers),
            "pictures": len(file.streams.video) - len(covers),
            "languages": [s.metadata.get("language") for s in file.streams.audio],
            "defaults": [bool(int(s.disposition) & 1) for s in file.streams.audio],
            "codecs": [s.codec_context.name for s in file.streams.audio],
        }
