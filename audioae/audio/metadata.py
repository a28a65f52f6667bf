"""What an output keeps of its source besides the samples: tags, pictures, markers, the loudspeakers
of the channels, and what it cannot keep.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from audioae.audio import copying, flac, formats, gain_tags, layout, media, mp3, ogg, riff
from audioae.audio.form import AudioInfo
from audioae.audio.reader import info
from audioae.errors import AudioFileError

# Containers between which metadata are copied byte by byte.
FAMILIES = {
    "WAV": "WAV",
    "WAVEX": "WAV",
    "RF64": "WAV",
    "AIFF": "AIFF",
    "CAF": "CAF",
    "FLAC": "FLAC",
    "MP3": "MP3",
}


def finish(path: Path, target: AudioInfo, source: AudioInfo | None, num_samples: int) -> list[str]:
    """Add the metadata to a file that has all its samples, and normalize its header.

    Args:
        path: the file, closed.
        target: the form it was written in.
        source: the form of the file that the metadata come from, if any.
        num_samples: samples per channel that were written.

    Returns:
        Names of the metadata that were not kept.
    """
    same = copies_metadata(source, target)
    lost = [] if same or source is None else _extras(source)
    origin = source.source if same and source else None
    order = target.layout if same else layout.target_order(target.layout, target.container)
    if target.container == "FLAC" and num_samples == 0:
        flac.write_empty_flac(path, target)
    if target.container == "OGG":
        drop = gain_tags.is_gain_comment if target.level_changed else lambda line: False
        lost += ogg.normalize_ogg(path, origin, drop=drop)
    elif target.container == "MP3" and origin is None:
        mp3.write_id3(path, target.tags)
    elif origin is not None:
        lost += _copy(target.container, origin, path)
        if target.level_changed:
            gain_tags.remove(path)
    riff.normalize(path, num_samples)
    if not layout.write_layout(path, target.container, order):
        lost.append(f"channel layout: {'+'.join(order)}")
    return lost


def find_losses(forms: Sequence[AudioInfo]) -> list[str]:
    """What an output cannot keep of its source, found without denoising.

    Args:
        forms: of its audio tracks, from `check_output`.

    Returns:
        One phrase for each loss; `AudioWriter.lost` has the same ones, and those that only the
        finished file shows.

    Raises:
        OutputError: the container cannot hold these tracks.
    """
    form, lost = forms[0], list[str]()
    if not form.is_native:
        lost += copying.plan_copies(forms).lost
    elif (source := source_of(form)) and not copies_metadata(source, form):
        lost += _extras(source)
    return merge_losses(lost, forms)


def merge_losses(lost: Sequence[str], forms: Sequence[AudioInfo]) -> list[str]:
    """Each loss once, with those by another encoding and another level.

    Args:
        lost: the losses that are known so far.
        forms: of the audio tracks of the output.
    """
    stale = stale_tags(forms)
    others = [each for each in lost if each.removeprefix("tag ") not in stale]
    named = [f"tags for another level: {', '.join(stale)}"] if stale else []
    return list(dict.fromkeys((*others, *losses_by_coding(forms), *named)))


def stale_tags(forms: Sequence[AudioInfo]) -> list[str]:
    """Names of the tags of a source that set the playback level and do not fit the output.

    Args:
        forms: of the audio tracks of the output.
    """
    names = []
    for form in forms:
        if form.level_changed and (source := source_of(form)):
            names += gain_tags.gain_tags(source)
    return list(dict.fromkeys(names))


def losses_by_coding(forms: Sequence[AudioInfo]) -> list[str]:
    """Losses by encoding the tracks in another way than their source."""
    lost = []
    for form in forms:
        if source := source_of(form):
            lost += formats.coding_losses(source, form)
            if source.unread_bytes:
                lost.append(f"{source.unread_bytes:,} bytes after the samples, of no known kind")
            if form.is_native and not source.is_native:
                start = media.read_track(source.source or Path(), form.track).start
                lost += [f"start time: {start:.3f} s became 0"] if start >= 0.001 else []
    return lost


def channel_order(form: AudioInfo, source: AudioInfo | None) -> list[int] | None:
    """The order in which the channels are written; None if it is that of the source."""
    if copies_metadata(source, form):
        return None
    return layout.arrange(form.layout, layout.target_order(form.layout, form.container))


def copies_metadata(source: AudioInfo | None, target: AudioInfo) -> bool:
    """Whether the metadata of the source are copied byte by byte.

    If not, the writer sets the known tags one by one.
    """
    return (
        source is not None
        and _family(source) == _family(target) != ""
        and source.tags == target.tags
    )


def lost_tags(asked: AudioInfo, written: AudioInfo) -> list[str]:
    """Names of the tags that the written file does not hold.

    The start of a text is compared, because libsndfile appends its own name to `software`.
    """
    return [
        f"tag {name}"
        for name, text in asked.tags.items()
        if not written.tags.get(name, "").startswith(text)
    ]


def _copy(container: str, source: Path, target: Path) -> list[str]:
    copy = {"FLAC": flac.copy_flac, "MP3": mp3.copy_id3}.get(container, riff.copy)
    return copy(source, target)


def _extras(source: AudioInfo) -> list[str]:
    assert source.source is not None
    if not source.is_native:
        return copying.extras(source.source, (source.track,))
    extras = {"FLAC": flac.flac_extras, "MP3": mp3.id3_extras, "OGG": ogg.ogg_extras}.get(
        source.container, riff.extras
    )
    return extras(source.source)


def _family(form: AudioInfo) -> str:
    return f"OGG {form.subtype}" if form.container == "OGG" else FAMILIES.get(form.container, "")


def source_of(form: AudioInfo) -> AudioInfo | None:
    """The form of the file that metadata are copied from, if there is one."""
    if form.source is None:
        return None
    try:
        return info(form.source, track=form.track)
    except AudioFileError:
        return None
