"""Clean sound with a model: an array, a file, or a stream as it arrives; all three are one core.

settings  how strongly, and which channels together
gain      a model's gain before it meets the spectrum: linking, strength, limit
spectral  the core at the model's sample rate
highband  a gain for what lies above the model's band
stream    the core at any sample rate
arrays    a whole recording in memory
files     a file, in blocks
"""

from audioae.inference.arrays import denoise, ready_engine
from audioae.inference.files import FilePlan, FileResult, denoise_file, plan_file, run_plan
from audioae.inference.settings import ChannelMode, DenoiseSettings
from audioae.inference.spectral import Attenuation
from audioae.inference.stream import Stream

__all__ = [
    "Attenuation",
    "ChannelMode",
    "DenoiseSettings",
    "FilePlan",
    "FileResult",
    "Stream",
    "denoise",
    "denoise_file",
    "plan_file",
    "ready_engine",
    "run_plan",
]
