"""Generators of machine sounds and of faults, to try out and to test anomaly detection.

A machine is a set of fixed properties (speed, blades, resonances) drawn from a seed; each of its
recordings has its own noise, drift and phases. A fault is added to a recording, which may also be
a real one, at a given level.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from audioae.audio import read, write
from audioae.errors import DataError, OutputError, SettingsError, nearest
from audioae.signal.resample import resample

Array = npt.NDArray[np.floating[Any]]
Kind = Literal["fan", "engine", "pump"]
Fault = Literal["bearing-clicks", "missing-blade", "shifted-tone", "rattle"]
MACHINES: tuple[Kind, ...] = get_args(Kind)
FAULTS: tuple[Fault, ...] = get_args(Fault)
LEVEL = 0.1  # RMS of a recording of a machine, on average
LEVEL_DB = 3.0  # that recordings are louder or softer, at most
SPEED = 0.1  # relative change of the speed between recordings, at most: the load differs
BACKGROUND_DB = (-12.0, 0.0)  # level of the noise of other machines relative to the machine
DRIFT = 0.01  # standard deviation of the relative speed
DRIFT_SECONDS = 1.0  # of the smoothing of the speed
RATE, SECONDS = 16000, 10.0  # of simulated recordings
FAULT_DB = (-10.0, -5.0, 0.0, 5.0, 10.0)
NORMAL = "normal"  # name of the folder of normal recordings
TRAIN_SHARE = 0.6  # of real recordings


@dataclass(frozen=True)
class Machine:
    """The fixed properties of a machine; see `draw_machine`.

    Args:
        kind: "fan", "engine" or "pump".
        rotation_hz: revolutions per second.
        blades: blades of a fan, firings of an engine or strokes of a pump per revolution.
        harmonics: amplitude of each harmonic of the blade-pass frequency.
        tone_hz, tone_level: a whine that does not depend on the speed, such as of a motor.
        noise_hz: centre frequencies of the resonances of the flow noise.
        noise_widths: their widths, Hz.
        noise_levels: their amplitudes.
        tonal_share: share of the power in the harmonics.
    """

    kind: Kind
    rotation_hz: float
    blades: int
    harmonics: tuple[float, ...]
    tone_hz: float
    tone_level: float
    noise_hz: tuple[float, ...]
    noise_widths: tuple[float, ...]
    noise_levels: tuple[float, ...]
    tonal_share: float


# Ranges of rotation_hz, blades, tone_hz and tonal_share of each kind.
RANGES: dict[Kind, tuple[tuple[float, float], tuple[int, int], tuple[float, float], float]] = {
    "fan": ((15, 35), (4, 9), (800, 1600), 0.4),
    "engine": ((10, 25), (2, 4), (400, 900), 0.7),
    "pump": ((20, 50), (3, 6), (1500, 3000), 0.5),
}


def draw_machine(kind: Kind, seed: int) -> Machine:
    """Draw a machine; the same seed gives the same machine.

    Raises:
        SettingsError: there is no such kind.

    Example:
        >>> draw_machine("fan", 0).kind, draw_machine("fan", 0) == draw_machine("fan", 0)
        ('fan', True)
    """
    if kind not in MACHINES:
        raise SettingsError(
            f"there is no machine {kind!r}{nearest(kind, MACHINES)}; known are "
            f"{', '.join(MACHINES)}"
        )
    rng = np.random.default_rng([seed, MACHINES.index(kind)])
    rotation, blades, tone, tonal_share = RANGES[kind]
    slope = rng.uniform(0.7, 1.5)
    harmonics = [float(rng.uniform(0.4, 1) / order**slope) for order in range(1, 25)]
    centres = sorted(float(10 ** rng.uniform(2.3, 3.7)) for _ in range(4))
    return Machine(
        kind,
        float(rng.uniform(*rotation)),
        int(rng.integers(blades[0], blades[1] + 1)),
        tuple(harmonics),
        float(rng.uniform(*tone)),
        float(rng.uniform(0.05, 0.3)),
        tuple(centres),
        tuple(float(centre * rng.uniform(0.2, 0.8)) for centre in centres),
        tuple(float(rng.uniform(0.3, 1)) for _ in centres),
        tonal_share,
    )


def record(machine: Machine, seconds: float, sample_rate: int, *, seed: int) -> Array:
    """A recording of a machine in its normal state, `[num_samples]` float32.

    Recordings of a machine differ in speed, level, distance and in the noise of other machines.

    Args:
        machine: from `draw_machine`.
        seconds: length.
        sample_rate: in Hz.
        seed: of the noise, the speed and its drift, the level and the phases.

    Example:
        >>> record(draw_machine("pump", 0), 2.0, 16000, seed=1).shape
        (32000,)
    """
    rng = np.random.default_rng([seed, 1])
    num_samples = round(seconds * sample_rate)
    phase = rotation_phase(machine, num_samples, sample_rate, seed=seed)
    turns = machine.blades * phase
    tonal = np.zeros(num_samples)
    first = np.exp(2j * np.pi * turns)
    harmonic = np.ones(num_samples, complex)
    for order, amplitude in enumerate(machine.harmonics, 1):
        harmonic *= first
        if order * machine.blades * machine.rotation_hz < 0.45 * sample_rate:
            tonal += amplitude * (harmonic * np.exp(2j * np.pi * rng.uniform())).imag
    if machine.kind == "engine":  # firings differ in strength
        firings = rng.normal(1, 0.15, int(turns[-1]) + 2 if num_samples else 1)
        tonal *= firings[turns.astype(int)]
    time = np.arange(num_samples) / sample_rate
    if machine.tone_hz < 0.45 * sample_rate:
        whine = np.sin(2 * np.pi * (machine.tone_hz * time + rng.uniform()))
        tonal += machine.tone_level * np.sqrt(2) * rms(tonal) * whine
    flow = shaped_noise(machine, num_samples, sample_rate, rng)
    if machine.kind == "pump":  # the flow pulsates with the strokes
        flow *= 1 + 0.5 * np.sin(2 * np.pi * turns)
    mixed = np.sqrt(machine.tonal_share) * tonal / max(rms(tonal), 1e-9)
    mixed += np.sqrt(1 - machine.tonal_share) * flow / max(rms(flow), 1e-9)
    other = draw_machine(MACHINES[rng.integers(len(MACHINES))], int(rng.integers(2**31)))
    background = shaped_noise(other, num_samples, sample_rate, rng)
    level_db = rng.uniform(*BACKGROUND_DB)
    mixed += 10 ** (level_db / 20) * background * rms(mixed) / max(rms(background), 1e-9)
    level = LEVEL * 10 ** (rng.uniform(-LEVEL_DB, LEVEL_DB) / 20)
    found: Array = (level * mixed / max(rms(mixed), 1e-9)).astype(np.float32)
    return found


def rotation_phase(machine: Machine, num_samples: int, sample_rate: int, *, seed: int) -> Array:
    """Revolutions since the start, `[num_samples]`; the speed drifts slowly around its mean."""
    rng = np.random.default_rng([seed, 2])
    seconds = num_samples / sample_rate
    knots = max(4, int(seconds / DRIFT_SECONDS) + 2)
    drift = rng.normal(0, DRIFT, knots)
    at = np.linspace(0, knots - 1, num_samples)
    usual = machine.rotation_hz * (1 + rng.uniform(-SPEED, SPEED))
    speed = usual * (1 + np.interp(at, np.arange(knots), drift))
    return np.cumsum(speed) / sample_rate + rng.uniform()


def shaped_noise(
    machine: Machine, num_samples: int, sample_rate: int, rng: np.random.Generator
) -> Array:
    """White noise with the resonances of a machine over a falling spectrum, `[num_samples]`."""
    if not num_samples:
        return np.zeros(0)
    spectrum = np.fft.rfft(rng.normal(size=num_samples))
    hz = np.fft.rfftfreq(num_samples, 1 / sample_rate)
    gain = 0.1 * np.sqrt(200 / (200 + hz))
    for centre, width, level in zip(
        machine.noise_hz, machine.noise_widths, machine.noise_levels, strict=True
    ):
        gain += level / (1 + ((hz - centre) / width) ** 2)
    shaped: Array = np.fft.irfft(spectrum * gain, num_samples)
    return shaped


def rms(waveform: Array) -> float:
    """The root mean square of a waveform; 0 for an empty one."""
    return float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64)))) if waveform.size else 0.0


def add_fault(
    waveform: Array,
    sample_rate: int,
    fault: Fault,
    *,
    fault_db: float,
    seed: int,
    rotation_hz: float = 25.0,
    tone_hz: float = 1000.0,
) -> Array:
    """Add the sound of a fault to a recording.

    - "bearing-clicks": short ringing impulses, a few per revolution.
    - "missing-blade": a dip in level once per revolution; the fault is what the dip changes.
    - "shifted-tone": a second whine 5 to 15 % above or below that of the machine.
    - "rattle": irregular bursts of noise between 1.5 and 5 kHz.

    Args:
        waveform: `[num_samples]`, full scale -1..1.
        sample_rate: in Hz.
        fault: one of `FAULTS`.
        fault_db: power of the fault over the power of the recording, dB, both over the whole
            length.
        seed: the properties of the fault.
        rotation_hz: speed of the machine, for faults that come once per revolution.
        tone_hz: frequency of its whine.

    Returns:
        `[num_samples]` float32.

    Raises:
        SettingsError: there is no such fault.

    Example:
        >>> normal = record(draw_machine("fan", 0), 2.0, 16000, seed=1)
        >>> faulty = add_fault(normal, 16000, "rattle", fault_db=0.0, seed=2)
        >>> round(rms(faulty - normal) / rms(normal), 3)
        1.0
    """
    if fault not in FAULTS:
        raise SettingsError(
            f"there is no fault {fault!r}{nearest(fault, FAULTS)}; known are {', '.join(FAULTS)}"
        )
    rng = np.random.default_rng([seed, FAULTS.index(fault)])
    makers: dict[Fault, Callable[[], Array]] = {
        "bearing-clicks": lambda: _clicks(len(waveform), sample_rate, rotation_hz, rng),
        "missing-blade": lambda: _dips(waveform, sample_rate, rotation_hz, rng),
        "shifted-tone": lambda: _tone(len(waveform), sample_rate, tone_hz, rng),
        "rattle": lambda: _rattle(len(waveform), sample_rate, rng),
    }
    sound = makers[fault]()
    level = rms(sound)
    if level == 0:
        return waveform.astype(np.float32)
    scale = rms(waveform) * 10 ** (fault_db / 20) / level
    return (waveform + scale * sound).astype(np.float32)


def _clicks(
    num_samples: int, sample_rate: int, rotation_hz: float, rng: np.random.Generator
) -> Array:
    period = sample_rate / (rotation_hz * rng.uniform(2.5, 5.5))
    at = np.arange(rng.uniform() * period, num_samples, period)
    at = np.clip(at + rng.normal(0, 0.01 * period, len(at)), 0, num_samples - 1).astype(int)
    impulses = np.zeros(num_samples)
    impulses[at] = rng.uniform(0.5, 1.5, len(at))
    top = min(6000.0, 0.4 * sample_rate)
    return _ring(impulses, sample_rate, rng.uniform(0.4 * top, top), rng.uniform(0.002, 0.006))


def _dips(waveform: Array, sample_rate: int, rotation_hz: float, rng: np.random.Generator) -> Array:
    speed = rotation_hz * (1 + rng.normal(0, DRIFT))
    turn = (np.arange(len(waveform)) * speed / sample_rate + rng.uniform()) % 1
    dip = np.exp(-0.5 * ((turn - 0.5) / rng.uniform(0.05, 0.12)) ** 2)
    return waveform * -dip


def _tone(num_samples: int, sample_rate: int, tone_hz: float, rng: np.random.Generator) -> Array:
    shift = rng.uniform(0.05, 0.15) * rng.choice([-1, 1])
    hz = min(tone_hz * (1 + shift), 0.45 * sample_rate)
    time = np.arange(num_samples) / sample_rate
    wobble = 0.002 * np.sin(2 * np.pi * rng.uniform(0.3, 1) * time)
    tone: Array = np.sin(2 * np.pi * (hz * (time + wobble / 10) + rng.uniform()))
    return tone


def _rattle(num_samples: int, sample_rate: int, rng: np.random.Generator) -> Array:
    rate = rng.uniform(6, 15)  # bursts per second
    gaps = rng.exponential(sample_rate / rate, int(3 * rate * num_samples / sample_rate) + 8)
    at = np.cumsum(gaps).astype(int)
    impulses = np.zeros(num_samples)
    impulses[at[at < num_samples]] = 1
    decay = np.exp(-np.arange(int(0.05 * sample_rate)) / (rng.uniform(0.005, 0.015) * sample_rate))
    envelope = _convolve(impulses, decay)
    spectrum = np.fft.rfft(rng.normal(size=num_samples)) if num_samples else np.zeros(0)
    hz = np.fft.rfftfreq(num_samples, 1 / sample_rate) if num_samples else np.zeros(0)
    low, high = rng.uniform(1500, 2500), rng.uniform(3000, 5000)
    band = np.fft.irfft(spectrum * ((hz > low) & (hz < high)), num_samples)
    return envelope * band if num_samples else np.zeros(0)


def _ring(impulses: Array, sample_rate: int, hz: float, seconds: float) -> Array:
    """Impulses that excite a resonance with the decay time `seconds`."""
    time = np.arange(int(8 * seconds * sample_rate)) / sample_rate
    return _convolve(impulses, np.exp(-time / seconds) * np.sin(2 * np.pi * hz * time))


def _convolve(signal: Array, response: Array) -> Array:
    """The convolution, with the length of `signal`."""
    size = len(signal) + len(response)
    product = np.fft.rfft(signal, size) * np.fft.rfft(response, size)
    found: Array = np.fft.irfft(product, size)[: len(signal)]
    return found


def write_simulation(
    folder: Path,
    kind: Kind,
    *,
    seed: int,
    minutes: float = 10.0,
    tests: int = 20,
    normal: Sequence[Path] = (),
) -> int:
    """Write recordings for training, and test recordings with and without faults, as FLAC files.

    Args:
        folder: must not exist, or be empty. It gets `train/normal`, `test/normal` and `test/FAULT`.
        kind: of machine.
        seed: of the machine and of all recordings.
        minutes: of normal sound for training.
        tests: number of normal test recordings; the faults have two for each level in `FAULT_DB`.
        normal: real recordings of normal sound in place of a machine, cut into pieces of 10 s.
            The first part of each is for training and the rest for tests.

    Returns:
        The number of recordings.

    Raises:
        OutputError: the folder is not empty.
        DataError: the real recordings are too short.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} exists and is not empty; give a new folder")
    machine = draw_machine(kind, seed)
    wanted = tests + len(FAULTS) * 2 * len(FAULT_DB)
    if normal:
        training, rest = split_recordings(normal)
        pieces = [rest[at % len(rest)] for at in range(wanted)]
        pieces[: min(tests, len(rest))] = rest[: min(tests, len(rest))]
        tests = min(tests, len(rest))
    else:
        count = max(1, round(60 * minutes / SECONDS))
        training = [record(machine, SECONDS, RATE, seed=1000 * seed + at) for at in range(count)]
        pieces = [
            record(machine, SECONDS, RATE, seed=1000 * seed + 10_000_000 + at)
            for at in range(wanted)
        ]
    sounds = {f"train/{NORMAL}/{at:04d}.flac": each for at, each in enumerate(training)}
    sounds |= {f"test/{NORMAL}/{at:04d}.flac": each for at, each in enumerate(pieces[:tests])}
    for at, piece in enumerate(pieces[tests:]):
        fault = FAULTS[at % len(FAULTS)]
        number = at // len(FAULTS)
        if number >= 2 * len(FAULT_DB):
            break
        level = FAULT_DB[number % len(FAULT_DB)]
        sounds[f"test/{fault}/{level:+03.0f}dB-{number:02d}.flac"] = add_fault(
            piece,
            RATE,
            fault,
            fault_db=level,
            seed=1000 * seed + at,
            rotation_hz=machine.rotation_hz,
            tone_hz=machine.tone_hz,
        )
    for name, sound in sounds.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        peak = float(np.abs(sound).max(initial=0))
        write(path, sound / max(1.0, peak), RATE)
    return len(sounds)


def split_recordings(paths: Sequence[Path]) -> tuple[list[Array], list[Array]]:
    """Pieces of real recordings at `RATE` for training and for tests.

    Raises:
        DataError: there are fewer than 2 pieces for either.
    """
    training, tests = [], []
    size = round(SECONDS * RATE)
    for path in paths:
        waveform, rate = read(path)
        mono = resample(waveform.reshape(-1, waveform.shape[-1]).mean(0), rate, RATE)
        pieces = [mono[at : at + size] for at in range(0, len(mono) - size + 1, size)]
        border = round(TRAIN_SHARE * len(pieces))
        training += pieces[:border]
        tests += pieces[border:]
    if min(len(training), len(tests)) < 2:
        raise DataError(
            f"{len(paths)} recordings have {len(training) + len(tests)} pieces of {SECONDS:g} s; "
            "expected more than 4, of which the last two fifths are for tests"
        )
    return training, tests
