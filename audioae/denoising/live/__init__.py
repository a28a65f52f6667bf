"""Real-time denoising: blocks from a microphone or a file are denoised as they arrive and go to an
output device, a file or both.

In reading order:

session  the loop from a source to its sinks, its counters and its result; a file as source
devices  the audio devices of this machine, found by name or index
duplex   a microphone and an output device, driven by the callback of PortAudio
"""

from audioae.denoising.live.devices import (
    Device,
    DeviceForm,
    choose_form,
    load_sounddevice,
    read_devices,
)
from audioae.denoising.live.duplex import Duplex
from audioae.denoising.live.session import (
    BlockSink,
    BlockSource,
    FileSource,
    LiveResult,
    Session,
    Xruns,
    warm_up,
)

__all__ = [
    "BlockSink",
    "BlockSource",
    "Device",
    "DeviceForm",
    "Duplex",
    "FileSource",
    "LiveResult",
    "Session",
    "Xruns",
    "choose_form",
    "load_sounddevice",
    "read_devices",
    "warm_up",
]
