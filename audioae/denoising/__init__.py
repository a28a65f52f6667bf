"""Denoising with a model: of an array, a file or a live stream, all three by the same code.

The modules in reading order:

- `settings`: `DenoiseSettings` and the presets.
- `level`: scales very quiet and very loud recordings at the input of the model.
- `gains`: the gains of a model for a live stream, or a recording in the quality "fast" or "best".
- `rumble`: removes a strong DC offset and rumble before the model.
- `noise`: tracks steady noise and lowers it further than the model does.
- `shaping`: channel linking, strength, attenuation limit, the gain of the band above the model's.
- `verdict`: estimates without a reference: input SNR, attenuation, whether it is speech.
- `spectral`: denoising at the sample rate of the model.
- `stream`: denoising at any sample rate, and the latency of a live stream.
- `arrays`: a recording in memory.
- `passes`: the passes over an audio track: levels, scaling.
- `tracks`: the audio tracks of a file, and writing them.
- `files`: a file, with all checks before the first sample.
- `provenance`: hashes and levels of files, and the record of how an output was made.
- `batch`: many files, in worker processes, with resuming.
- `live`: from and to audio devices, in real time.
"""

from audioae.denoising.arrays import denoise
from audioae.denoising.files import (
    ClipMode,
    FileJob,
    FilePlan,
    FileResult,
    denoise_file,
    plan_file,
    run_plan,
)
from audioae.denoising.gains import choose_engine
from audioae.denoising.settings import PRESETS, ChannelMode, DenoiseSettings
from audioae.denoising.spectral import Attenuation
from audioae.denoising.stream import Stream
from audioae.denoising.verdict import Verdict
from audioae.engine import ready_engine

__all__ = [
    "PRESETS",
    "Attenuation",
    "ChannelMode",
    "ClipMode",
    "DenoiseSettings",
    "FileJob",
    "FilePlan",
    "FileResult",
    "Stream",
    "Verdict",
    "choose_engine",
    "denoise",
    "denoise_file",
    "plan_file",
    "ready_engine",
    "run_plan",
]
