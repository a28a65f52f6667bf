"""Audio files in and out: float32 waveforms `[channels, samples]`, with everything that makes a
file what it is kept.
"""

from audioae.audio.form import AudioInfo
from audioae.audio.reader import AudioReader, info, read
from audioae.audio.writer import AudioWriter, check_output, write

__all__ = ["AudioInfo", "AudioReader", "AudioWriter", "check_output", "info", "read", "write"]
