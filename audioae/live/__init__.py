"""Live sound: blocks of a microphone, or of a file in its place, are cleaned as they come and go on
to a device, a file or both.

session  the loop, and what is told of it
meters   levels, and how long blocks take, in constant memory
files    a file in place of a microphone
devices  the audio devices of this machine, by name
duplex   a microphone and an output device, driven by the callback of PortAudio; player: what the output device takes
"""

from audioae.live.devices import Device, DeviceForm, choose_form, load_sounddevice, read_devices
from audioae.live.duplex import Duplex
from audioae.live.files import FileSource
from audioae.live.session import LiveResult, Session, Sink, Source, Xruns, warm

__all__ = [
    "Device",
    "DeviceForm",
    "Duplex",
    "FileSource",
    "LiveResult",
    "Session",
    "Sink",
    "Source",
    "Xruns",
    "choose_form",
    "load_sounddevice",
    "read_devices",
    "warm",
]
