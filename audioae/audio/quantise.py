"""Convert float samples to the integer codes of an encoding: round, clamp, count clipping."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

# Resolution of the integer encodings, bits. The others (FLOAT, DOUBLE, VORBIS, OPUS, MPEG) take
# floats.
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
    "WAVPACK_16": 16,
    "WAVPACK_24": 24,
    "WAVPACK_32": 32,
    "DWVW_12": 12,
    "DWVW_16": 16,
    "DWVW_24": 24,
    # µ-law and A-law encode 14 and 13 bits; the adaptive codecs encode 16.
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
    """Convert a block to what `soundfile.SoundFile.write` expects.

    libsndfile's own conversion rounds down and overflows in µ-law, so the codes are computed here
    and passed as the upper bits of int32.

    Args:
        block: `[channels, samples]`, finite; full scale is 1.
        subtype: libsndfile's name of the encoding.

    Returns:
        The codes `[samples, channels]`, int32, or float for encodings that take floats, and the
        number of clamped samples in each channel, `[channels]`.

    Example:
        >>> codes, clipped = quantise(np.array([[0.5, -0.25, 1.5]]), "PCM_16")
        >>> (codes >> 16).ravel(), clipped
        (array([16384, -8192, 32767], dtype=int32), array([1]))
    """
    if subtype not in BITS:
        return np.ascontiguousarray(block.T), np.zeros(len(block), np.int64)
    bits = BITS[subtype]
    top = 2.0 ** (bits - 1)
    # float32 cannot represent 2**31 - 1, so 24 bits or more are scaled in float64.
    precision = np.float64 if bits >= 24 or block.dtype == np.float64 else np.float32
    codes: Samples = np.rint(np.multiply(block, top, dtype=precision))
    clipped = np.count_nonzero((codes > top - 1) | (codes < -top), axis=1).astype(np.int64)
    shifted = np.clip(codes, -top, top - 1).astype(np.int32) << (32 - bits)
    return np.ascontiguousarray(shifted.T), clipped
