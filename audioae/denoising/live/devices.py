"""Find the audio devices of this machine by name or index, through sounddevice and PortAudio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from audioae.errors import (
    REPAIR_COMMANDS,
    DependencyError,
    MissingError,
    SettingsError,
    nearest,
    require,
)

Direction = Literal["input", "output"]
DEFAULT = "default"
MOST_CHANNELS = 64
LIST = "see them with: audioae live --list-devices"


@dataclass(frozen=True)
class Device:
    """One audio device.

    Args:
        index: the number that PortAudio gives it.
        api: the audio interface of the system that it belongs to, such as ALSA or Core Audio.
        inputs, outputs: numbers of channels.
        sample_rate: its default sample rate in Hz.
        default: the directions in which it is the default device of the machine.
    """

    index: int
    name: str
    api: str
    inputs: int
    outputs: int
    sample_rate: int
    default: tuple[Direction, ...] = ()

    def channels(self, way: Direction) -> int:
        """The number of channels in one direction."""
        return self.inputs if way == "input" else self.outputs

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class DeviceForm:
    """Which devices to open, and how.

    Args:
        output: None plays nothing.
        sample_rate: in Hz.
        channels: taken from the input device.
        played: channels that go to the output device.
        block: samples per channel in one block.
    """

    input: Device
    output: Device | None
    sample_rate: int
    channels: int
    played: int
    block: int


def load_sounddevice() -> Any:
    """Import the module `sounddevice`.

    Raises:
        DependencyError: it or the library PortAudio is not installed. The message has the command
            that installs it.
    """
    try:
        return require("sounddevice", extra="live")
    except DependencyError as error:
        if isinstance(error.__cause__, ModuleNotFoundError):
            raise
        raise DependencyError(
            f"sounddevice does not work here ({error.__cause__}); mend it with: "
            f"{REPAIR_COMMANDS['sounddevice']}"
        ) from error


def read_devices(sounddevice: Any) -> list[Device]:
    """All audio devices of this machine."""
    apis = [api["name"] for api in sounddevice.query_hostapis()]
    defaults = dict(zip(("input", "output"), sounddevice.default.device, strict=True))
    return [
        Device(
            index,
            found["name"],
            apis[found["hostapi"]],
            found["max_input_channels"],
            found["max_output_channels"],
            round(found["default_samplerate"]),
            tuple(way for way in ("input", "output") if defaults[way] == index),
        )
        for index, found in enumerate(sounddevice.query_devices())
    ]


def find_device(
    devices: Sequence[Device], wanted: str, way: Direction, *, api: str | None = None
) -> Device:
    """Find a device by its index, its name or a part of its name.

    Args:
        wanted: "default" is the default device of the machine.
        api: preferred if several devices match: an input and an output device work together only
            through the same interface.

    Raises:
        MissingError: the machine has no device in this direction.
        SettingsError: no device matches, or several do. The message lists the devices.
    """
    able = [device for device in devices if device.channels(way)]
    if not able:
        raise MissingError(
            f"this machine has no audio {way} device; connect one, or denoise a recording with "
            f"--from-file ({LIST})"
        )
    found = _matching(able, wanted, way)
    if len(found) > 1:
        found = [
            device for device in found if device.api == (api or _usual_api(able, way))
        ] or found
    if len(found) == 1:
        return found[0]
    names = ", ".join(f"{device.index} {device.name!r}" for device in (found or able))
    if found:
        raise SettingsError(
            f"{wanted!r} is the name of {len(found)} {way} devices: {names}; give the index of one"
        )
    near = nearest(wanted, [device.name for device in able])
    raise SettingsError(f"no {way} device is called {wanted!r}{near}; there are {names}")


def _matching(able: Sequence[Device], wanted: str, way: Direction) -> list[Device]:
    if wanted == DEFAULT:
        return [device for device in able if way in device.default] or list(able[:1])
    if wanted.isdecimal():
        return [device for device in able if device.index == int(wanted)]
    same = [device for device in able if device.name.casefold() == wanted.casefold()]
    return same or [device for device in able if wanted.casefold() in device.name.casefold()]


def _usual_api(able: Sequence[Device], way: Direction) -> str:
    return next((device.api for device in able if way in device.default), able[0].api)


def choose_form(
    sounddevice: Any,
    *,
    source: str,
    target: str | None,
    sample_rate: int | None,
    channels: int,
    block_seconds: float,
) -> DeviceForm:
    """Choose devices and check that they support the format. Opens nothing.

    Args:
        source, target: names or indices of the input and the output device; `target` None plays
            nothing.
        sample_rate: in Hz; None is the default sample rate of the input device.
        block_seconds: rounded to whole samples.

    Raises:
        MissingError, SettingsError: see `find_device`; also if a device has too few channels or
            does not support the sample rate.
    """
    devices = read_devices(sounddevice)
    microphone = find_device(devices, source, "input")
    speaker = None if target is None else find_device(devices, target, "output", api=microphone.api)
    rate = sample_rate or microphone.sample_rate
    _check(
        sounddevice.check_input_settings,
        sounddevice.PortAudioError,
        microphone,
        "input",
        rate,
        channels,
    )
    played = channels
    if speaker is not None:
        # one channel is played on both sides
        played = min(2, speaker.outputs) if channels == 1 else channels
        _check(
            sounddevice.check_output_settings,
            sounddevice.PortAudioError,
            speaker,
            "output",
            rate,
            played,
        )
    return DeviceForm(
        microphone, speaker, rate, channels, played, max(round(block_seconds * rate), 1)
    )


def _check(
    check: Any,
    error_type: type[Exception],
    device: Device,
    way: Direction,
    rate: int,
    channels: int,
) -> None:
    most = device.channels(way)
    if channels > most:
        raise SettingsError(
            f"the {way} device {device.name!r} has {most} channels, got --channels {channels}"
        )
    try:
        check(device=device.index, channels=channels, dtype="float32", samplerate=rate)
    except error_type as error:
        usual = f"its default rate is {device.sample_rate} Hz (--sample-rate {device.sample_rate})"
        raise SettingsError(
            f"the {way} device {device.name!r} does not support {rate} Hz, {channels} channels "
            f"({error}); {usual}"
        ) from error
