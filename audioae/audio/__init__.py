"""Read and write audio files as float32 waveforms `[channels, samples]`.

An output keeps the sample rate, container, encoding and metadata of its source unless requested
otherwise. In reading order:

- `form`: `AudioInfo`, the form of an audio file.
- `reader`: `AudioReader`, `read` and `info`.
- `sources`: opens a file with libsndfile or FFmpeg, behind one interface.
- `writer`: `AudioWriter`, `write` and `check_output`.
- `formats`: which container and encoding an output gets, and how a lossy encoder is set.
- `encoders`: the same for containers that FFmpeg writes.
- `metadata`: what an output keeps of its source besides the samples.
- `gain_tags`: tags that set the playback level, such as ReplayGain.
- `layout`: the loudspeakers of the channels.
- `quantise`: float samples to integer codes.
- `riff`: chunks of WAV, RF64, W64, AIFF and CAF files.
- `flac`: metadata of FLAC files, and the comments that Ogg files have as well.
- `damage`: what is missing at the end of a file, or follows after it.
- `ogg`: metadata and parts of Ogg files.
- `mp3`: length and ID3 tags of MP3 files.
- `content`: what a file holds, told by its first bytes, and how FFmpeg opens it.
- `media`: reads audio tracks of video files and other containers that FFmpeg handles.
- `timestamps`: where samples are missing in such a track.
- `muxing`: writes them, with the pictures, subtitles and chapters of their source.
- `copying`: what of these the container of an output can hold.

All errors are `AudioFileError` for inputs and `OutputError` for outputs.
"""

from audioae.audio.form import AudioInfo
from audioae.audio.reader import AudioReader, info, read
from audioae.audio.writer import AudioWriter, check_output, write

__all__ = ["AudioInfo", "AudioReader", "AudioWriter", "check_output", "info", "read", "write"]
