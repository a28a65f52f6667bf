"""Float samples to the whole numbers of a subtype: nearest value, clamped, what was clamped
counted.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

# Bits that a code of the subtype can tell apart; the others (FLOAT, DOUBLE, VORBIS, OPUS, MPEG)
# take floats as they are.
BITS = {
    "PCM_S8": 8,
    "PCM_U8": 8,
    "PCM_16": 16,
    "PCM_24": 24,
    "PCM_32": 32,
    "FLAC_16": 16,
    "FLAC_24": 24,
    "ALAC_16": 16,
    "ALAC_20": 20,
    "ALAC_24": 24,
    "ALAC_32": 32,
    "DWVW_12": 12,
    "DWVW_16": 16,
    "DWVW_24": 24,
    # µ-law and A-law are tables over 14 and 13 bits; the adaptive codecs start from 16 bits.
    "ULAW": 14,
    "ALAW": 13,
    "IMA_ADPCM": 16,
    "MS_ADPCM": 16,
    "VOX_ADPCM": 16,
    "GSM610": 16,
    "DPCM_8": 8,
    "DPCM_16": 16,
    "G721_32": 16,
    "G723_24": 16,
    "G723_40": 16,
    "NMS_ADPCM_16": 16,
    "NMS_ADPCM_24": 16,
    "NMS_ADPCM_32": 16,
}

Samples: TypeAlias = npt.NDArray[np.floating[Any]]


def quantise(block: Samples, subtype: str) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Make a block ready to be written.

    libsndfile's own conversion rounds down and has no guard for µ-law, so the codes are made here
    and handed over as int32 (top bits).

    Args:
        block: `[channels, samples]`, finite.

    Returns:
        `[samples, channels]` int32, or float where the subtype takes floats, and how many samples
        of each channel were clamped.
    """
    if subtype not in BITS:
        return np.ascontiguousarray(block.T), np.zeros(len(block), np.int64)
    bits = BITS[subtype]
    top = 2.0 ** (bits - 1)
    # 2**31 - 1 is no float32: what has 24 bits or more is scaled in float64.
    codes: Samples = np.rint(
        np.multiply(
            block, top, dtype=np.float64 if bits >= 24 or block.dtype == np.float64 else np.float32
        )
    )
    clipped = np.count_nonzero((codes > top - 1) | (codes < -top), axis=1).astype(np.int64)
    shifted = np.clip(codes, -top, top - 1).astype(np.int32) << (32 - bits)
    return np.ascontiguousarray(shifted.T), clipped
