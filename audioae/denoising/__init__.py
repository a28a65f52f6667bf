"""Clean sound with a model: an array, a file, or a stream as it arrives; all three are one core.

settings  how strongly, which channels together, what is known of the noise; presets
level     scales what the model hears to levels that it knows
noise     steady noise that is known, and the gain it takes; minimum: steady noise that is tracked
gain      a model's gain before it meets the spectrum: linking, steady noise, strength, limit
likeness  how much sound looks like speech; verdict: what can be said of a recording without a reference
spectral  the core at the model's sample rate
highband  a gain for what lies above the model's band
stream    the core at any sample rate; latency: how late it answers
arrays    a whole recording in memory
span      the stretch of a file that is cleaned; passes: over a file; files: a file, in blocks
"""

from audioae.denoising.arrays import denoise, ready_engine
from audioae.denoising.files import (
    ClipMode,
    FileJob,
    FilePlan,
    FileResult,
    denoise_file,
    plan_file,
    run_plan,
)
from audioae.denoising.settings import PRESETS, ChannelMode, DenoiseSettings
from audioae.denoising.spectral import Attenuation
from audioae.denoising.stream import Stream
from audioae.denoising.verdict import Verdict

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
    "denoise",
    "denoise_file",
    "plan_file",
    "ready_engine",
    "run_plan",
]
