"""What an audio file is: sample rate, channels, length, container, subtype, tags; read without keeping the samples."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from audioae.audio import riff
from audioae.audio.opening import AnyPath, Sound, open_sound

UNKNOWN_LENGTH = 2**62  # libsndfile's count for a FLAC that was written to a pipe is beyond this
IN_BLOCKS = ("IMA_ADPCM", "MS_ADPCM", "GSM610")  # subtypes whose last block is filled up with silence
SKIP_BLOCK = 2**16  # samples per channel that are decoded at a time only to be counted


@dataclass(frozen=True)
class AudioInfo:
    """The form of an audio file, enough to write another one like it.

    Args:
        sample_rate: Hz.
        frames: samples per channel.
        container: "WAV", "FLAC", ... as libsndfile names them, or "MP4", "WEBM", ... for what PyAV reads.
        subtype: "PCM_16", "VORBIS", ... as libsndfile names them, or PyAV's codec name in capitals.
        endian: "FILE" (what is usual in the container), "LITTLE" or "BIG".
        tags: title, artist, album, comment, date, genre, tracknumber, copyright, license, software.
        source: the file that this was read from; a writer copies from it what libsndfile does not carry.
        bit_rate: bits per second of a lossy file, else None.
    """

    sample_rate: int
    channels: int
    frames: int
    container: str
    subtype: str
    endian: str = "FILE"
    tags: dict[str, str] = field(default_factory=dict, hash=False)
    source: Path | None = field(default=None, compare=False)
    bit_rate: float | None = field(default=None, compare=False)

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.frames / self.sample_rate


def info(path: AnyPath) -> AudioInfo:
    """The form of the file at `path`. Raises `AudioFileError` for anything that is not a readable audio file."""
    with open_sound(path) as sound:
        form = describe(sound, Path(path))
        return replace(form, frames=count(sound)) if form.frames > UNKNOWN_LENGTH else form


def describe(sound: Sound, path: Path) -> AudioInfo:
    """The form of an open file, with the length that its header tells."""
    tags = {name: text for name, text in sound.copy_metadata().items() if text}
    form = AudioInfo(sound.samplerate, sound.channels, sound.frames, sound.format, sound.subtype, sound.endian, tags, path)
    if form.subtype in IN_BLOCKS and form.container in ("WAV", "WAVEX"):
        form = replace(form, frames=riff.told_frames(path, form.frames))
    elif form.container == "W64":
        form = replace(form, frames=riff.data_frames(path, form.frames))
    lossy = form.container in ("OGG", "MP3") and form.frames
    return replace(form, bit_rate=path.stat().st_size * 8 / form.seconds) if lossy else form


def count(sound: Sound) -> int:
    """Samples per channel of a file that does not tell: it is decoded to its end."""
    total = 0
    while read := len(sound.read(SKIP_BLOCK, dtype="float32", always_2d=True)):
        total += read
    return total
