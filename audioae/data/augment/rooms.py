"""Speech in rooms, measured or made: the direct sound stays where it is, and early reflections stay
in the target.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import fft

from audioae.data.augment.equaliser import Equaliser
from audioae.signal.spectrogram import Array

# reflections up to here help intelligibility, so they stay in the target (Bradley et al. 2003)
EARLY_SECONDS = 0.05
SPEED_OF_SOUND = 343.0  # m/s
# t60 = EYRING * volume / (-log(1 - absorbed) * surface), s/m
EYRING = 24 * math.log(10) / SPEED_OF_SOUND
NUM_ROOMS = 300
BANK_SEED = 17
IMAGE_SECONDS = 0.08  # after which reflections lie so close that noise stands in for them
Point = tuple[float, float, float]


@dataclass(frozen=True)
class DecayingRoom:
    """A direct sound, then noise that decays (the idea: Lehmann & Johansson 2008).

    Args:
        t60: seconds in which the noise falls by 60 dB, and length of the response.
        distance_db: energy of the direct sound over that of the noise, dB. gap: seconds between the
            two. seed: of the noise.
    """

    t60: float
    distance_db: float
    gap: float
    seed: int

    @classmethod
    def draw(cls, rng: np.random.Generator) -> DecayingRoom:
        """A room of 0.15 to 0.8 s."""
        return cls(
            float(rng.uniform(0.15, 0.8)),
            float(rng.uniform(-3, 12)),
            float(rng.uniform(0.001, 0.008)),
            int(rng.integers(1 << 32)),
        )

    def response(self, sample_rate: int) -> Array:
        """`[samples]`; the direct sound is the first sample and is 1."""
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
    """A shoe-box room by the image source method (Allen & Berkley 1979), up to 80 ms; then noise
    that decays as the images do.

    Walls reflect alike, by the coefficient that Eyring's formula asks for `t60`. It is taken as
    negative: with positive coefficients all reflections add up at 0 Hz, where the original method
    needs a high-pass filter (Lehmann & Johansson 2008).

    Args:
        size: of the room, m. source, microphone: places in it, m. t60: seconds in which the sound
            falls by 60 dB. seed: of the noise.
    """

    size: Point
    source: Point
    microphone: Point
    t60: float
    seed: int

    @classmethod
    def draw(cls, rng: np.random.Generator) -> ImageRoom:
        """One of the `NUM_ROOMS` rooms of the bank: they are the same in every process, and each is
        computed once.
        """
        return bank_room(int(rng.integers(NUM_ROOMS)))

    def response(self, sample_rate: int) -> Array:
        """`[samples]`, not to be written to; the direct sound comes first and is 1."""
        return _image_response(self, sample_rate)

    @property
    def reflection(self) -> float:
        """What the pressure is multiplied by at each wall."""
        volume = math.prod(self.size)
        x, y, z = self.size
        return -math.exp(-EYRING * volume / (2 * self.t60 * 2 * (x * y + y * z + x * z)))

    def images(self, seconds: float) -> tuple[Array, Array]:
        """Delays in s and amplitudes of all images that arrive within `seconds`, in no order."""
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
    """Along one axis, squared distance of each image to the microphone and the walls between:
    images lie at 2nL + s and 2nL - s.
    """
    n = np.arange(-math.ceil(reach / (2 * size)) - 1, math.ceil(reach / (2 * size)) + 2)
    place = np.concatenate([2 * n * size + source, 2 * n * size - source]) - microphone
    return np.square(place), np.concatenate([np.abs(2 * n), np.abs(2 * n - 1)])


@lru_cache(maxsize=NUM_ROOMS)
def bank_room(number: int) -> ImageRoom:
    """Room `number` of the bank: 2.5 to 10 m long, 2.2 to 4 m high, 0.2 to 0.8 s."""
    rng = np.random.default_rng([BANK_SEED, number])
    size = (rng.uniform(2.5, 10), rng.uniform(2.5, 8), rng.uniform(2.2, 4))
    microphone = tuple(float(rng.uniform(0.15, 0.85) * length) for length in size)
    while True:
        source = tuple(float(rng.uniform(0.1, 0.9) * length) for length in size)
        if 0.3 < math.dist(source, microphone) < 2.5:
            break
    walls = 2 * (size[0] * size[1] + size[1] * size[2] + size[0] * size[2])
    # coefficients of less than 0.55 are no room
    shortest = EYRING * math.prod(size) / (1.2 * walls)
    t60 = max(float(rng.uniform(0.2, 0.8)), shortest)
    return ImageRoom(tuple(map(float, size)), source, microphone, t60, int(rng.integers(1 << 32)))  # type: ignore[arg-type]


@lru_cache(maxsize=2 * NUM_ROOMS)
def _image_response(room: ImageRoom, sample_rate: int) -> Array:
    delays, amplitudes = room.images(IMAGE_SECONDS)
    first = float(delays.min())
    samples = int(room.t60 * sample_rate)
    response = np.zeros(max(samples, int(IMAGE_SECONDS * sample_rate) + 1), np.float32)
    places = np.rint((delays - first) * sample_rate).astype(np.intp)
    np.add.at(response, places, amplitudes / amplitudes.max())
    # The tail goes on at the level of the last 20 ms that all images have reached.
    end = int((IMAGE_SECONDS - first) * sample_rate)
    window = min(end // 2, int(0.02 * sample_rate))
    level = float(np.sqrt(np.mean(np.square(response[end - window : end]))))
    time = (np.arange(end, len(response)) - (end - window / 2)) / sample_rate
    tail = np.random.default_rng(room.seed).standard_normal(len(time), np.float32)
    response[end:] = level * tail * np.power(10.0, -3 * time / room.t60)
    response.flags.writeable = False
    return response


def direct_sound(room: Array) -> int:
    """The sample at which the direct sound arrives: the first that reaches half of the peak."""
    loud = np.abs(room)
    return int(np.argmax(loud >= loud.max() / 2))


def filter_speech(
    speech: Array, room: Array | None, equaliser: Equaliser | None, sample_rate: int
) -> tuple[Array, Array]:
    """Speech in a room behind an equaliser: `(heard, target)`, each `[samples]`, aligned to the
    direct sound.

    The target keeps the direct sound and `EARLY_SECONDS` of reflections and passes the same
    equaliser.
    """
    if room is None and equaliser is None:
        return speech, speech
    samples = speech.shape[-1]
    size = fft.next_fast_len(samples + (0 if room is None else room.shape[-1]), real=True)
    spectrum = fft.rfft(speech, size)
    if equaliser is not None:
        spectrum *= equaliser.bins(size, sample_rate)
    if room is None:
        heard = fft.irfft(spectrum, size)[:samples]
        return heard, heard
    direct = direct_sound(room)
    room = room[direct:] / np.float32(max(float(np.abs(room).max()), 1e-9))
    early = room[: int(EARLY_SECONDS * sample_rate)]
    heard, target = (
        fft.irfft(spectrum * fft.rfft(response, size), size)[:samples] for response in (room, early)
    )
    return heard, target


def filter_noise(noise: Array, equaliser: Equaliser | None, sample_rate: int) -> Array:
    """Noise `[samples]` behind an equaliser."""
    return filter_speech(noise, None, equaliser, sample_rate)[0]
