"""Which loudspeaker a channel belongs to: the WAVE mask, Vorbis order and CoreAudio layout.

Loudspeakers have the names of FFmpeg, one for each bit of a WAVE mask. libsndfile passes channels
in the order of the file and tells nothing about them, so the layouts of its files are read and
written here.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from audioae.audio import flac, riff
from audioae.audio.content import splice

# Loudspeakers in the order of the bits of a WAVE mask.
SPEAKERS = (
    *("FL", "FR", "FC", "LFE", "BL", "BR", "FLC", "FRC", "BC", "SL", "SR", "TC", "TFL", "TFC"),
    *("TFR", "TBL", "TBC", "TBR"),
)
# The order of channels in Vorbis and Opus, for 1 to 8 of them.
VORBIS = (
    ("FC",),
    ("FL", "FR"),
    ("FL", "FC", "FR"),
    ("FL", "FR", "BL", "BR"),
    ("FL", "FC", "FR", "BL", "BR"),
    ("FL", "FC", "FR", "BL", "BR", "LFE"),
    ("FL", "FC", "FR", "SL", "SR", "BC", "LFE"),
    ("FL", "FC", "FR", "SL", "SR", "BL", "BR", "LFE"),
)
# The loudspeakers of a FLAC file without a mask, for 1 to 8 channels.
FLAC = (
    ("FC",),
    ("FL", "FR"),
    ("FL", "FR", "FC"),
    ("FL", "FR", "BL", "BR"),
    ("FL", "FR", "FC", "BL", "BR"),
    ("FL", "FR", "FC", "LFE", "BL", "BR"),
    ("FL", "FR", "FC", "LFE", "BC", "SL", "SR"),
    ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"),
)
MASK_COMMENT = b"WAVEFORMATEXTENSIBLE_CHANNEL_MASK"  # of a FLAC file with another layout
WAVE_CONTAINERS = ("WAV", "WAVEX", "RF64")
COREAUDIO_BITMAP = 0x10000  # the layout tag that is followed by a WAVE mask
# CoreAudio's layout tags, without the number of channels in their lower 16 bits.
COREAUDIO = {
    100: "FC",
    101: "FL FR",
    108: "FL FR BL BR",
    113: "FL FR FC",
    114: "FC FL FR",
    115: "FL FR FC BC",
    116: "FC FL FR BC",
    117: "FL FR FC BL BR",
    118: "FL FR BL BR FC",
    119: "FL FC FR BL BR",
    120: "FC FL FR BL BR",
    121: "FL FR FC LFE BL BR",
    122: "FL FR BL BR FC LFE",
    123: "FL FC FR BL BR LFE",
    124: "FC FL FR BL BR LFE",
    125: "FL FR FC LFE BL BR BC",
    126: "FL FR FC LFE BL BR FLC FRC",
    127: "FC FLC FRC FL FR BL BR LFE",
    128: "FL FR FC LFE SL SR BL BR",
}


def speakers_of(mask: int) -> tuple[str, ...]:
    """The loudspeakers of a WAVE mask, in the order of the channels.

    Example:
        >>> speakers_of(0x3F)
        ('FL', 'FR', 'FC', 'LFE', 'BL', 'BR')
    """
    return tuple(name for bit, name in enumerate(SPEAKERS) if mask >> bit & 1)


def mask_of(layout: tuple[str, ...]) -> int | None:
    """The WAVE mask of loudspeakers; None if it cannot express them.

    Example:
        >>> mask_of(("FL", "FR", "FC")), mask_of(("FC", "FC"))
        (7, None)
    """
    if len(set(layout)) < len(layout) or not set(layout) <= set(SPEAKERS):
        return None
    return sum(1 << SPEAKERS.index(name) for name in layout)


def wave_order(layout: tuple[str, ...]) -> tuple[str, ...]:
    """Loudspeakers in the order of a WAVE mask; unchanged if it cannot express them."""
    mask = mask_of(layout)
    return layout if mask is None else speakers_of(mask)


def arrange(layout: tuple[str, ...], target: tuple[str, ...]) -> list[int] | None:
    """Where each channel of `target` is in `layout`; None if both have the same order or do not
    have the same loudspeakers. The surround pair of 5.1 is either at the sides or at the back.

    Example:
        >>> arrange(("FL", "FC", "FR"), ("FL", "FR", "FC"))
        [0, 2, 1]
    """
    places, wanted = surround(layout), surround(target)
    if places == wanted or sorted(places) != sorted(wanted) or len(set(places)) < len(places):
        return None
    return [places.index(name) for name in wanted]


def surround(layout: tuple[str, ...]) -> tuple[str, ...]:
    """The layout with its only surround pair at the back, where most codecs put it."""
    if {"BL", "BR", "BC"} & set(layout):
        return layout
    return tuple({"SL": "BL", "SR": "BR"}.get(name, name) for name in layout)


def target_order(layout: tuple[str, ...], container: str) -> tuple[str, ...]:
    """The order in which a container holds these loudspeakers.

    Example:
        >>> target_order(("FL", "FR", "FC"), "OGG"), target_order(("FL", "FC", "FR"), "FLAC")
        (('FL', 'FC', 'FR'), ('FL', 'FR', 'FC'))
    """
    if container == "OGG" and len(layout) <= len(VORBIS):
        vorbis = VORBIS[len(layout) - 1]
        if sorted(surround(layout)) == sorted(surround(vorbis)):
            return vorbis
    return wave_order(layout)


def read_layout(file: BinaryIO, container: str, channels: int) -> tuple[str, ...]:
    """The loudspeakers of a file that libsndfile reads; empty if the file does not tell.

    Args:
        file: the open file.
        container: libsndfile's name of its container.
        channels: number of channels.
    """
    if container in WAVE_CONTAINERS:
        found = _wave_layout(file)
    elif container == "FLAC":
        mask = _flac_mask(file)
        found = FLAC[channels - 1] if mask is None else speakers_of(mask)
    elif container == "OGG":
        file.seek(0)
        found = _ogg_layout(file.read(4096), channels)
    elif container == "CAF":
        found = _caf_layout(file)
    else:
        found = ()
    return found if len(found) == channels else ()


def write_layout(path: Path, container: str, layout: tuple[str, ...]) -> bool:
    """Write the loudspeakers of a finished file; returns whether its container expresses them.

    Args:
        path: the file, whose channels are in `target_order`.
        container: libsndfile's name of its container.
        layout: its loudspeakers.
    """
    if len(layout) <= 2:
        return True
    mask = mask_of(layout)
    with path.open("r+b") as file:
        found = read_layout(file, container, len(layout))
        if found == layout:
            return True
        if mask is None or container not in (*WAVE_CONTAINERS, "FLAC", "CAF"):
            return surround(found) == surround(layout)
        if container in WAVE_CONTAINERS:
            return _put_wave_mask(file, mask)
        if container == "FLAC":
            return _put_flac_mask(file, mask)
        file.seek(0, 2)
        file.write(b"chan" + struct.pack(">qIII", 12, COREAUDIO_BITMAP, mask, 0))
    return True


def _wave_layout(file: BinaryIO) -> tuple[str, ...]:
    kind = riff.family(file)
    offset = riff.mask_offset(file, kind) if kind else None
    if kind is None or offset is None:
        return ()
    file.seek(offset)
    return speakers_of(struct.unpack(kind.order + "I", file.read(4))[0])


def _put_wave_mask(file: BinaryIO, mask: int) -> bool:
    kind = riff.family(file)
    offset = riff.mask_offset(file, kind) if kind else None
    if kind is None or offset is None:
        return False
    file.seek(offset)
    file.write(struct.pack(kind.order + "I", mask))
    return True


def _flac_mask(file: BinaryIO) -> int | None:
    found = flac.find_comments(file)
    for line in flac.split_comments(found.content)[1] if found else ():
        name, _, text = line.partition(b"=")
        if name.upper() == MASK_COMMENT:
            try:
                return int(text, 0)
            except ValueError:
                return None
    return None


def _put_flac_mask(file: BinaryIO, mask: int) -> bool:
    found = flac.find_comments(file)
    if found is None:
        return False
    lines = flac.split_comments(found.content)[1]
    kept = [line for line in lines if line.partition(b"=")[0].upper() != MASK_COMMENT]
    block = found.with_lines([*kept, MASK_COMMENT + b"=0x%04X" % mask])
    splice(file, found.offset, found.length, block)
    return True


def _ogg_layout(head: bytes, channels: int) -> tuple[str, ...]:
    """Vorbis has a fixed order; Opus has it too, with mapping family 0 or 1."""
    at = head.find(b"OpusHead")
    fixed = at < 0 or (len(head) > at + 18 and head[at + 18] <= 1)
    vorbis = at >= 0 or b"\x01vorbis" in head
    return VORBIS[channels - 1] if fixed and vorbis and channels <= len(VORBIS) else ()


def _caf_layout(file: BinaryIO) -> tuple[str, ...]:
    kind = riff.family(file)
    for chunk in riff.chunks(file, kind) if kind else ():
        if chunk.name == b"chan" and chunk.held >= 12:
            file.seek(chunk.offset)
            tag, mask, count = struct.unpack(">III", file.read(12))
            if tag == COREAUDIO_BITMAP:
                return speakers_of(mask)
            if tag:
                return tuple(COREAUDIO.get(tag >> 16, "").split())
            rows = [file.read(20) for _ in range(min(count, 64))]
            labels = [int.from_bytes(row[:4], "big") for row in rows]
            known = all(1 <= label <= len(SPEAKERS) for label in labels)
            return tuple(SPEAKERS[label - 1] for label in labels) if known else ()
    return ()
