"""Audio files in and out: float32 waveforms `[channels, samples]`, with everything that makes a file what it is kept."""

from audioae.audio.info import AudioInfo, info
from audioae.audio.reader import AudioReader, read

__all__ = ["AudioInfo", "AudioReader", "info", "read"]
