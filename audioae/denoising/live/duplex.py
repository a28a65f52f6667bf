"""A microphone, and optionally an output device, driven by one callback of PortAudio that never
waits and hardly allocates.

The callback copies each block into a preallocated slot and puts the number of the slot into a
queue. The thread that denoises takes it from there and puts the number back. If no slot is free,
denoising is a second behind; the block is then dropped and counted.
"""

from __future__ import annotations

import sys
import threading
import time
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any

import numpy as np

from audioae.denoising.live.devices import DeviceForm
from audioae.denoising.live.session import Xruns
from audioae.errors import DeviceError
from audioae.signal.spectrogram import Array


class Player:
    """A ring buffer for one writer and one reader. It needs no locks: each side moves only its own
    end, after the samples are copied.

    It starts with `delay` samples of silence, so there are no gaps while the writer is at most that
    late. Samples that arrive after silence was played in their place are skipped, so that a gap
    does not lengthen the delay.

    Args:
        delay: samples per channel.
        room: further samples that may wait.
    """

    def __init__(self, channels: int, delay: int, room: int) -> None:
        self._ring = np.zeros((delay + room, channels), np.float32)
        self._written, self._read = delay, 0
        self._late = 0  # samples replaced by silence that may still arrive

    @property
    def waiting(self) -> int:
        """Samples per channel that are written but not yet played."""
        return self._written - self._read

    def write(self, block: Array) -> None:
        """Append `[channels, num_samples]`. What does not fit is lost; that happens only if the
        reader has stopped.
        """
        room = len(self._ring) - self.waiting
        at = (self._written + np.arange(min(block.shape[-1], room))) % len(self._ring)
        self._ring[at] = block.T[: len(at)]
        self._written += len(at)

    def play(self, target: Array) -> bool:
        """Fill `[num_samples, channels]`; one channel fills any number of channels. Returns False
        if some of it is silence because nothing was ready.
        """
        skipped = min(max(self._late, 0), self.waiting)
        self._late, self._read = self._late - skipped, self._read + skipped
        ready = min(len(target), self.waiting)
        start = self._read % len(self._ring)
        first = min(ready, len(self._ring) - start)
        target[:first] = self._ring[start : start + first]
        target[first:ready] = self._ring[: ready - first]
        target[ready:] = 0
        self._read += ready
        self._late += len(target) - ready
        return ready == len(target)

    def expect_less(self, samples: int) -> None:
        """Note that so many samples will not arrive, as their input was dropped. For the reader."""
        self._late -= samples


QUEUE_SECONDS = 1.0  # of input that may wait; if the machine stalls for longer, sound is lost
FEWEST_SLOTS = 8
POLL_SECONDS = 0.1
LOST_SECONDS = 3.0  # without a block, after which a device counts as disconnected
# of full scale: broken drivers give larger samples and NaN, which must not end a session
LOUDEST = 16.0
# switch interval of Python threads: the callback must not wait for the default 5 ms
SWITCH_SECONDS = 0.0005


class Duplex:
    """A source of blocks from a microphone and a sink for an output device.

    Args:
        sounddevice: the module.
        delay: samples between input and output, so that denoised samples are ready in time; see
            `Stream.latency_in`.

    Raises:
        DeviceError: on entering, the devices cannot be opened.
    """

    def __init__(self, sounddevice: Any, form: DeviceForm, *, delay: int) -> None:
        self.form = form
        self.sample_rate, self.channels = form.sample_rate, form.channels
        self.block = form.block
        self.device_latency: float | None = None
        self.xruns = Xruns()
        self._sounddevice = sounddevice
        slots = max(round(QUEUE_SECONDS * form.sample_rate / form.block), FEWEST_SLOTS)
        self._slots = np.zeros((slots, form.block, form.channels), np.float32)
        self._free: SimpleQueue[int] = SimpleQueue()
        # number of a slot, samples in it
        self._filled: SimpleQueue[tuple[int, int]] = SimpleQueue()
        for slot in range(slots):
            self._free.put(slot)
        self._player = (
            Player(form.channels, delay, (slots + 2) * form.block) if form.output else None
        )
        self._closing = False
        self._ended = threading.Event()  # PortAudio has ended the stream
        self._received_at = time.monotonic()

    def __enter__(self) -> Duplex:
        self._stream: Any = None
        try:
            self._stream = self._open()
            self._stream.start()
        except (self._sounddevice.PortAudioError, ValueError) as error:
            if self._stream is not None:
                self._stream.close()
            names = " and ".join(
                repr(device.name) for device in (self.form.input, self.form.output) if device
            )
            raise DeviceError(
                f"{names} cannot be opened ({error}); in use by another program?"
            ) from error
        self._switch_seconds = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_SECONDS)
        self.device_latency = float(np.sum(self._stream.latency))
        self._received_at = time.monotonic()
        return self

    def _open(self) -> Any:
        form, sounddevice = self.form, self._sounddevice
        common = {
            "samplerate": form.sample_rate,
            "blocksize": form.block,
            "dtype": "float32",
            "latency": "low",
            "finished_callback": self._ended.set,
        }
        if form.output is None:
            return sounddevice.InputStream(
                device=form.input.index, channels=form.channels, callback=self._take, **common
            )
        devices, channels = (form.input.index, form.output.index), (form.channels, form.played)
        return sounddevice.Stream(
            device=devices, channels=channels, callback=self._take_and_play, **common
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        sys.setswitchinterval(self._switch_seconds)
        self._closing = True
        self._stream.abort()
        self._stream.close()

    def _take_and_play(
        self, indata: Array, outdata: Array, num_samples: int, moment: Any, status: Any
    ) -> None:
        """The callback of PortAudio, for each `[num_samples, channels]`, on its own thread."""
        self._take(indata, num_samples, moment, status)
        if self._player is not None and not (self._player.play(outdata) or self._closing):
            self.xruns.underruns += 1
        if status and status.output_underflow and not self._closing:
            self.xruns.underruns += 1

    def _take(self, indata: Array, num_samples: int, moment: Any, status: Any) -> None:
        if self._closing:
            return
        if status and status.input_overflow:
            self.xruns.overruns += 1
        try:
            slot = self._free.get_nowait()
        except Empty:
            self.xruns.overruns += 1
            self.xruns.dropped_samples += num_samples
            if self._player is not None:
                self._player.expect_less(num_samples)
            return
        self._slots[slot, :num_samples] = indata
        self._filled.put((slot, num_samples))

    def read(self) -> Array | None:
        """The next block, `[channels, num_samples]`. It is empty if none arrived for a while, and
        None after `stop`, once everything is read.

        Raises:
            DeviceError: the device was disconnected.
        """
        try:
            slot, num_samples = self._filled.get(block=not self._closing, timeout=POLL_SECONDS)
        except Empty:
            if self._closing:
                return None
            self._check_alive()
            return np.zeros((self.channels, 0), np.float32)
        self._received_at = time.monotonic()
        block = np.nan_to_num(self._slots[slot, :num_samples].T)  # a copy
        np.clip(block, -LOUDEST, LOUDEST, out=block)
        self._free.put(slot)
        return block

    def _check_alive(self) -> None:
        silent = time.monotonic() - self._received_at
        if self._ended.is_set() or silent > LOST_SECONDS:
            what = "stopped" if self._ended.is_set() else f"sent nothing for {silent:.0f} s"
            raise DeviceError(
                f"the input device {self.form.input.name!r} {what}; is it still connected?"
            )

    def stop(self) -> None:
        """Stop capturing; `read` still gives what was captured before."""
        self._closing = True

    def finish(self) -> None:
        """Stop capturing, and wait until everything that was written has been played."""
        self._closing = True
        if self._player is not None:
            until = time.monotonic() + self._player.waiting / self.sample_rate + POLL_SECONDS
            while self._player.waiting and time.monotonic() < until and not self._ended.is_set():
                time.sleep(POLL_SECONDS / 10)
            time.sleep(self.device_latency or 0.0)  # the last samples are still in the device

    def write(self, block: Array, /) -> None:
        """Queue `[channels, num_samples]` for the output device."""
        if self._player is not None:
            self._player.write(block)
