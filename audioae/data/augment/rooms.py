"""Room responses, measured or simulated, and their convolution with speech. The direct sound is not
delayed, and the target keeps the early reflections.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import fft

from audioae.data.augment.backend import Waves, beside, transforms
from audioae.data.augment.equaliser import Equaliser, bin_gains, equalise
from audioae.signal.spectrogram import Array

# reflections up to here help intelligibility and stay in the target (Bradley et al. 2003)
EARLY_SECONDS = 0.05
SPEED_OF_SOUND = 343.0  # m/s
# t60 = EYRING * volume / (-log(1 - absorbed) * surface), s/m
EYRING = 24 * math.log(10) / SPEED_OF_SOUND
NUM_ROOMS = 300
BANK_SEED = 17
IMAGE_SECONDS = 0.08  # later reflections are so dense that decaying noise replaces them
Point = tuple[float, float, float]


@dataclass(frozen=True)
class DecayingRoom:
    """The direct sound followed by decaying noise (after Lehmann & Johansson 2008).

    Args:
        t60: reverberation time, and length of the response, seconds.
        distance_db: direct-to-reverberant energy ratio, dB.
        gap: time between the direct sound and the noise, seconds.
        seed: for the noise.
    """

    t60: float
    distance_db: float
    gap: float
    seed: int

    @classmethod
    def draw(cls, rng: np.random.Generator) -> DecayingRoom:
        """A reverberation time of 0.15 to 0.8 s."""
        return cls(
            float(rng.uniform(0.15, 0.8)),
            float(rng.uniform(-3, 12)),
            float(rng.uniform(0.001, 0.008)),
            int(rng.integers(1 << 32)),
        )

    def response(self, sample_rate: int) -> Array:
        """The response `[samples]`; its first sample is the direct sound, 1."""
        samples = int(self.t60 * sample_rate)
        decay = np.exp(
            np.arange(samples, dtype=np.float32)
            * np.float32(-3 * math.log(10) / (self.t60 * sample_rate))
        )
        tail: Array = np.random.default_rng(self.seed).standard_normal(samples, np.float32) * decay
        tail[: int(self.gap * sample_rate)] = 0
        tail *= np.float32(
            10 ** (-self.distance_db / 20) / max(float(np.sqrt(np.square(tail).sum())), 1e-9)
        )
        tail[0] = 1.0
        return tail


@dataclass(frozen=True)
class ImageRoom:
    """A shoebox room by the image source method (Allen & Berkley 1979) up to 80 ms, then noise with
    the same decay.

    All walls have the reflection coefficient that gives `t60` by Eyring's formula. It is negative:
    with positive coefficients all reflections add up at 0 Hz, and the original method needs a
    high-pass filter (Lehmann & Johansson 2008).

    Args:
        size: of the room, m.
        source, microphone: their positions, m.
        t60: reverberation time, seconds.
        seed: for the noise.
    """

    size: Point
    source: Point
    microphone: Point
    t60: float
    seed: int

    @classmethod
    def draw(cls, rng: np.random.Generator) -> ImageRoom:
        """One of the `NUM_ROOMS` rooms of the bank, which are the same in every process; each
        response is computed once.
        """
        return bank_room(int(rng.integers(NUM_ROOMS)))

    def response(self, sample_rate: int) -> Array:
        """The response `[samples]`, read-only; its first sample is the direct sound, 1."""
        return _image_response(self, sample_rate)

    @property
    def reflection(self) -> float:
        """Reflection coefficient of the sound pressure at each wall."""
        volume = math.prod(self.size)
        x, y, z = self.size
        return -math.exp(-EYRING * volume / (2 * self.t60 * 2 * (x * y + y * z + x * z)))

    def images(self, seconds: float) -> tuple[Array, Array]:
        """Delays (s) and amplitudes of all images that arrive within `seconds`, unordered."""
        reach = SPEED_OF_SOUND * seconds
        squares, bounces = zip(
            *(
                _axis(*axis, reach)
                for axis in zip(self.size, self.source, self.microphone, strict=True)
            ),
            strict=True,
        )
        square = squares[0][:, None, None] + squares[1][:, None] + squares[2]
        bounce = bounces[0][:, None, None] + bounces[1][:, None] + bounces[2]
        near = square < reach * reach
        distance = np.sqrt(square[near])
        return (distance / SPEED_OF_SOUND).astype(np.float32), (
            self.reflection ** bounce[near] / distance
        ).astype(np.float32)


def _axis(size: float, source: float, microphone: float, reach: float) -> tuple[Array, Array]:
    """Squared distances of the images to the microphone along one axis, and their numbers of
    reflections. Images lie at 2nL + s and 2nL - s.
    """
    n = np.arange(-math.ceil(reach / (2 * size)) - 1, math.ceil(reach / (2 * size)) + 2)
    place = np.concatenate([2 * n * size + source, 2 * n * size - source]) - microphone
    return np.square(place), np.concatenate([np.abs(2 * n), np.abs(2 * n - 1)])


@lru_cache(maxsize=NUM_ROOMS)
def bank_room(number: int) -> ImageRoom:
    """Room `number` of the bank: 2.5 to 10 m long, 2.2 to 4 m high, T60 of 0.2 to 0.8 s."""
    rng = np.random.default_rng([BANK_SEED, number])
    size = (rng.uniform(2.5, 10), rng.uniform(2.5, 8), rng.uniform(2.2, 4))
    microphone = tuple(float(rng.uniform(0.15, 0.85) * length) for length in size)
    while True:
        source = tuple(float(rng.uniform(0.1, 0.9) * length) for length in size)
        if 0.3 < math.dist(source, microphone) < 2.5:
            break
    walls = 2 * (size[0] * size[1] + size[1] * size[2] + size[0] * size[2])
    # below a reflection coefficient of 0.55 it would not sound like a room
    shortest = EYRING * math.prod(size) / (1.2 * walls)
    t60 = max(float(rng.uniform(0.2, 0.8)), shortest)
    seed = int(rng.integers(1 << 32))
    width, depth, height = map(float, size)
    room = width, depth, height
    return ImageRoom(room, source, microphone, t60, seed)  # type: ignore[arg-type]


@lru_cache(maxsize=2 * NUM_ROOMS)
def _image_response(room: ImageRoom, sample_rate: int) -> Array:
    delays, amplitudes = room.images(IMAGE_SECONDS)
    first = float(delays.min())
    samples = int(room.t60 * sample_rate)
    response = np.zeros(max(samples, int(IMAGE_SECONDS * sample_rate) + 1), np.float32)
    places = np.rint((delays - first) * sample_rate).astype(np.intp)
    np.add.at(response, places, amplitudes / amplitudes.max())
    # The tail continues at the level of the last 20 ms for which all images are computed.
    end = int((IMAGE_SECONDS - first) * sample_rate)
    window = min(end // 2, int(0.02 * sample_rate))
    level = float(np.sqrt(np.mean(np.square(response[end - window : end]))))
    time = (np.arange(end, len(response)) - (end - window / 2)) / sample_rate
    tail = np.random.default_rng(room.seed).standard_normal(len(time), np.float32)
    response[end:] = level * tail * np.power(10.0, -3 * time / room.t60)
    response.flags.writeable = False
    return response


def direct_sound(room: Array) -> int:
    """Index of the direct sound: the first sample that reaches half of the peak."""
    loud = np.abs(room)
    return int(np.argmax(loud >= loud.max() / 2))


def from_direct_sound(room: Array) -> Array:
    """A room response from its direct sound on, scaled to a peak of 1."""
    peak = float(np.abs(room).max())
    return room[direct_sound(room) :] / np.float32(max(peak, 1e-9))


def filter_speech(
    speech: Waves,
    rooms: Sequence[Array | None],
    equalisers: Sequence[Equaliser | None],
    sample_rate: int,
) -> tuple[Waves, Waves]:
    """Convolve speech with room responses and filter it by equalisers.

    Args:
        speech: `[batch, samples]`.
        rooms: one response `[samples]` of any length for each row; None: no room.
        equalisers: one for each row; None: no equaliser.

    Returns:
        `(heard, target)`, each `[batch, samples]`, aligned to the direct sound. The target has the
        direct sound and `EARLY_SECONDS` of reflections and passes the same equaliser.
    """
    if all(room is None for room in rooms):
        heard = equalise(speech, equalisers, sample_rate)
        return heard, heard
    transform, samples = transforms(speech), speech.shape[-1]
    responses = beside(speech, _stacked(rooms))
    early = responses[:, : int(EARLY_SECONDS * sample_rate)]
    size = fft.next_fast_len(samples + responses.shape[-1], real=True)
    spectrum = transform.rfft(speech, size)
    if any(equalisers):
        spectrum = spectrum * bin_gains(speech, equalisers, size, sample_rate)
    heard, target = (
        transform.irfft(spectrum * transform.rfft(response, size), size)[:, :samples]
        for response in (responses, early)
    )
    return heard, target


def _stacked(rooms: Sequence[Array | None]) -> Array:
    """Responses from their direct sound on, scaled to a peak of 1: `[batch, samples]`. None becomes
    an impulse.
    """
    direct = [np.ones(1, np.float32) if room is None else _from_direct(room) for room in rooms]
    stacked = np.zeros((len(rooms), max(map(len, direct))), np.float32)
    for row, response in zip(stacked, direct, strict=True):
        row[: len(response)] = response
    return stacked


def _from_direct(room: Array) -> Array:
    return room[direct_sound(room) :] / np.float32(max(float(np.abs(room).max()), 1e-9))
