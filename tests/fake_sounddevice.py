"""A `sounddevice` without PortAudio: its streams call back from their own thread with known input
and record what is played.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np


class PortAudioError(Exception):
    """Replaces `sounddevice.PortAudioError`."""


def device(
    name: str, *, inputs: int = 0, outputs: int = 0, api: int = 0, rate: float = 16000.0
) -> dict[str, Any]:
    return {
        "name": name,
        "hostapi": api,
        "max_input_channels": inputs,
        "max_output_channels": outputs,
        "default_samplerate": rate,
    }


@dataclass
class FakeSounddevice:
    """Replaces the module.

    Args:
        heard: input of the microphone, `[samples, channels]`, followed by silence.
        flags: status flags, by the number of the callback.
        ends_after: number of callbacks after which the device is disconnected.
        silent_after: number of callbacks after which no more follow.
        before: called with the number of each callback before it.
        pace: seconds between two callbacks.
    """

    heard: np.ndarray
    devices: list[dict[str, Any]] = field(
        default_factory=lambda: [
            device("Webcam", inputs=2),
            device("Studio Mic", inputs=2),
            device("Headphones", outputs=2),
        ]
    )
    defaults: tuple[int, int] = (1, 2)
    flags: dict[int, str] = field(default_factory=dict)
    ends_after: int | None = None
    silent_after: int | None = None
    before: Callable[[int], None] = lambda number: None
    pace: float = 0.002
    rates: tuple[int, ...] = (16000, 44100, 48000)
    opens: bool = True
    played: list[np.ndarray] = field(default_factory=list)
    opened: dict[str, Any] = field(default_factory=dict)
    PortAudioError = PortAudioError

    @property
    def default(self) -> SimpleNamespace:
        return SimpleNamespace(device=list(self.defaults))

    def query_devices(self) -> list[dict[str, Any]]:
        return self.devices

    def query_hostapis(self) -> list[dict[str, Any]]:
        return [{"name": "ALSA"}, {"name": "JACK"}]

    def check_input_settings(
        self, *, device: int, channels: int, dtype: str, samplerate: int
    ) -> None:
        if samplerate not in self.rates:
            raise PortAudioError("Invalid sample rate")

    check_output_settings = check_input_settings

    def InputStream(self, **given: Any) -> FakeStream:
        return FakeStream(self, given, plays=False)

    def Stream(self, **given: Any) -> FakeStream:
        return FakeStream(self, given, plays=True)


class FakeStream:
    """A stream that runs until it is aborted."""

    def __init__(self, module: FakeSounddevice, given: dict[str, Any], *, plays: bool) -> None:
        if not module.opens:
            raise PortAudioError("Device unavailable")
        module.opened = given
        self._module, self._given, self._plays = module, given, plays
        self.latency = (0.01, 0.02) if plays else 0.01
        self._aborted = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def abort(self) -> None:
        self._aborted.set()
        self._thread.join()

    def close(self) -> None:
        self._aborted.set()

    def _run(self) -> None:
        module, size, callback = self._module, self._given["blocksize"], self._given["callback"]
        played = self._given["channels"][1] if self._plays else 0
        number = 0
        while not self._aborted.is_set() and number != module.ends_after:
            if number != module.silent_after:
                module.before(number)
                block = np.zeros((size, module.heard.shape[1]), np.float32)
                part = module.heard[number * size : (number + 1) * size]
                block[: len(part)] = part
                status = SimpleNamespace(input_overflow=False, output_underflow=False)
                if number in module.flags:
                    setattr(status, module.flags[number], True)
                if self._plays:
                    target = np.full((size, played), np.nan, np.float32)
                    callback(block, target, size, None, status)
                    module.played.append(target)
                else:
                    callback(block, size, None, status)
                number += 1
            time.sleep(module.pace)
        if not self._aborted.is_set():
            self._given["finished_callback"]()
