"""What the container of an output can hold of a film besides the audio tracks that are encoded.

It is found by trying: `plan_copies` writes the first packets of every track and a moment of silence
to memory, reads that back, and names what is missing. So a dry run finds what a run finds. Needs
PyAV, the extra `media`.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from audioae.audio import content
from audioae.audio.encoders import MUXERS, Muxer
from audioae.audio.form import AudioInfo
from audioae.audio.layout import surround
from audioae.audio.media import Decoder, open_container, tags_of
from audioae.audio.muxing import (
    FEW_PACKETS,
    OWN_TAGS,
    CopyPlan,
    MediaSink,
    add_copy,
    attaches,
    clean_tags,
    is_cover,
    open_source,
)
from audioae.audio.quantise import quantise
from audioae.errors import OutputError, require

FEW_BYTES = 2**24  # that are read for a trial
# Bits of FFmpeg's dispositions that matter to players.
FLAGS = {1: "default", 1 << 6: "forced", 1 << 7: "hearing impaired", 1 << 8: "visual impaired"}
FLAGS |= {1 << 1: "dub", 1 << 2: "original", 1 << 3: "comment"}


def plan_copies(forms: Sequence[AudioInfo]) -> CopyPlan:
    """Find what the container of `forms` can hold of their source.

    Args:
        forms: of the tracks to write, from `choose`.

    Raises:
        OutputError: the container cannot hold these tracks.
    """
    source = open_source(forms[0])
    if source is None:
        return CopyPlan(lost=tuple(_try_all(forms, CopyPlan())))
    with source:
        lost, copied = list[str](), list[int]()
        muxer = MUXERS["." + forms[0].container.lower()]
        others = [each for each in source.streams if not _is_encoded(each, source, forms)]
        first = _first_packets(source, others)
        for stream in others:
            if stream.type == "video" and not (muxer.pictures or is_cover(stream)):
                lost.append("pictures")
            elif _has_other_form(stream, source):
                continue
            elif _is_refused(stream, first[stream.index], muxer):
                cover = is_cover(stream)
                lost.append("cover picture" if cover else f"{stream.type} track {stream.index}")
            else:
                copied.append(stream.index)
    lost += _try_all(forms, CopyPlan(tuple(copied)))
    return CopyPlan(tuple(copied), tuple(dict.fromkeys(lost)))


def _is_encoded(stream: Any, source: Any, forms: Sequence[AudioInfo]) -> bool:
    audio = source.streams.audio
    return any(stream is audio[form.track] for form in forms)


def _has_other_form(stream: Any, source: Any) -> bool:
    """Whether a data track is written by the muxer itself, from chapters or the timecode tag."""
    if stream.type != "data" or stream.codec_context is not None:
        return False
    chapters = source.chapters()
    timecode = "timecode" in stream.metadata and any(
        "timecode" in each.metadata for each in source.streams.video
    )
    return timecode or (bool(chapters) and stream.frames == len(chapters))


def _first_packets(source: Any, streams: Sequence[Any]) -> dict[int, list[Any]]:
    """The first packets of each stream, from the beginning of the file."""
    found: dict[int, list[Any]] = {stream.index: [] for stream in streams}
    size = 0
    for number, packet in enumerate(source.demux() if streams else ()):
        size += packet.size
        if packet.size and len(of := found.get(packet.stream.index, [])) < 3:
            of.append(packet)
        if number > FEW_PACKETS or size > FEW_BYTES:
            break
    return found


def _is_refused(stream: Any, packets: Sequence[Any], muxer: Muxer) -> bool:
    """Whether a container cannot hold a stream, found by writing its first packets to memory."""
    av = require("av", extra="media")
    if attaches(stream, muxer):
        return False
    try:
        output = av.open(io.BytesIO(), "w", format=muxer.name)
        copy = add_copy(output, stream)
        output.start_encoding()
        for packet in packets:
            packet.stream = copy
            output.mux(packet)
        output.close()
    except (av.FFmpegError, ValueError, TypeError, OSError):
        return True
    return False


def _try_all(forms: Sequence[AudioInfo], plan: CopyPlan) -> list[str]:
    """Write the beginning of a file to memory, and name what its reader does not find."""
    memory = io.BytesIO()
    av = require("av", extra="media")
    try:
        sink = MediaSink(memory, forms, plan, trial=True)
        for number, form in enumerate(forms):
            silence = np.zeros((form.channels, form.sample_rate // 4))
            sink.write(quantise(silence, form.subtype)[0], number)
        sink.close()
        memory.seek(0)
        with ExitStack() as stack:
            written = stack.enter_context(av.open(memory))
            if (source := open_source(forms[0])) is not None:
                return list(_differences(stack.enter_context(source), written, forms, plan))
            return list(_track_differences(written, forms, range(len(forms))))
    except (av.FFmpegError, ValueError, OSError) as error:
        raise OutputError(
            f"{forms[0].source} cannot be written as {forms[0].container} "
            f"({content.reason(error)}); choose another container, such as .mkv"
        ) from error


def _differences(
    source: Any, written: Any, forms: Sequence[AudioInfo], plan: CopyPlan
) -> Iterator[str]:
    """What a written file does not have of its source, apart from tracks that are not copied."""
    held = {name.lower() for name in written.metadata}
    for name in clean_tags(source.metadata, OWN_TAGS, forms):
        if name.lower() not in held:
            yield f"tag {name.lower()}"
    chapters = [each["metadata"].get("title") for each in written.chapters()]
    if len(chapters) != len(source.chapters()):
        yield "chapters"
    elif chapters != [each["metadata"].get("title") for each in source.chapters()]:
        yield "chapter titles"
    if any("timecode" in each.metadata for each in source.streams) and not any(
        name.lower() == "timecode" for each in written.streams for name in each.metadata
    ):
        yield "timecode"
    kept = [
        each
        for each in source.streams
        if each.index in plan.copied or _is_encoded(each, source, forms)
    ]
    if sum(map(is_cover, kept)) > sum(map(is_cover, written.streams)):
        yield "cover picture"
    counts = Counter(each.type for each in written.streams if not is_cover(each))
    for kind in ("video", "audio", "subtitle", "attachment"):
        before = [each for each in kept if each.type == kind and not is_cover(each)]
        after = [each for each in written.streams if each.type == kind and not is_cover(each)]
        if counts[kind] < len(before):
            yield f"{kind} track {before[counts[kind]].index}"
        for old, new in zip(before, after, strict=False):
            yield from _stream_differences(old, new)
    audio = [each for each in kept if each.type == "audio"]
    places = [audio.index(source.streams.audio[form.track]) for form in forms]
    yield from _track_differences(written, forms, places)


def _track_differences(
    written: Any, forms: Sequence[AudioInfo], places: Sequence[int]
) -> Iterator[str]:
    """Tags and loudspeakers that a written file does not have; `places` are those of its tracks."""
    # Ogg has the tags of the file in its stream.
    own = written.streams.audio[0].metadata if written.format.name == "ogg" else {}
    held = tags_of({**own, **written.metadata})
    yield from (f"tag {name}" for name in forms[0].tags if name not in held)
    for form, place in zip(forms, places, strict=True):
        found = Decoder(written, Path(), place).layout
        if (
            form.layout
            and form.channels > 2
            and sorted(surround(found)) != sorted(surround(form.layout))
        ):
            name = f" of audio track {form.track + 1}" if len(forms) > 1 else ""
            yield f"channel layout{name}: {'+'.join(form.layout)}"


def _stream_differences(old: Any, new: Any) -> Iterator[str]:
    name = f"of {old.type} track {old.index}"
    tags = {key.lower(): text for key, text in new.metadata.items()}
    language = old.metadata.get("language", "und")
    if language != tags.get("language", "und" if language == "und" else ""):
        yield f"language {language} {name}"
    if (title := old.metadata.get("title")) and title not in (
        tags.get("title"),
        tags.get("handler_name"),
    ):
        yield f"title {name}"
    for bit, flag in FLAGS.items():
        if int(old.disposition) & bit and not int(new.disposition) & bit:
            yield f"flag {flag} {name}"


def extras(path: Path, cleaned: tuple[int, ...] = (0,)) -> list[str]:
    """Names of the tracks other than the audio tracks with these numbers."""
    with open_container(path) as container:
        known = [container.streams.audio[track] for track in cleaned]
        others = [each for each in container.streams if each not in known]
        return [f"{stream.type} track {stream.index}" for stream in others]
