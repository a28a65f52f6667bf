"""How often the warning that something does not look like speech comes, on speech where it should
not and on other sound where it should.

Run with `AUDIOAE_DATA=data/16k pytest -s tests/benchmarks/test_likeness.py`: speakers and noises
are those of the valid split of a folder that `audioae prepare` wrote, music is made. Models are
those in the package and the one that AUDIOAE_DENOISE_MODEL names.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from clips import Clip, load_clips, mixture

from audioae.denoising import Stream, ready_engine
from audioae.pretrained import list_denoisers
from audioae.signal.spectrogram import Array

DATA, NAMED = os.environ.get("AUDIOAE_DATA"), os.environ.get("AUDIOAE_DENOISE_MODEL")
MODELS = [*([NAMED] if NAMED else []), *(entry.name for entry in list_denoisers())]
COUNT, SECONDS, RATE = 40, 6.0, 16000
# of clips: speech by its signal-to-noise ratio in dB at most, other sound at least; a clip is 2.5 %
MOST = {"clean": 0.0, "10": 0.0, "5": 0.025, "0": 0.05, "-5": 0.1}
LEAST = {"music": 0.9, "noise": 0.5}

pytestmark = pytest.mark.skipif(not DATA, reason="name a prepared folder in AUDIOAE_DATA")


@pytest.fixture(scope="module")
def sounds() -> dict[str, list[Array]]:
    """Clips `[samples]` of each kind."""
    assert DATA is not None
    speech, noise = (
        load_clips(Path(DATA), side, RATE, count=COUNT, seconds=SECONDS)
        for side in ("speech", "noise")
    )
    pairs = list(
        zip(speech, (noise[number % len(noise)] for number in range(len(speech))), strict=True)
    )
    mixed = {name: [_mix(pair, float(name)) for pair in pairs] for name in MOST if name != "clean"}
    alone = {
        name: [clip.waveform for clip in clips]
        for name, clips in (("clean", speech), ("noise", noise))
    }
    return {**alone, **mixed, "music": [piece(number) for number in range(COUNT)]}


@pytest.mark.parametrize("model", MODELS)
def test_speech_is_spared_and_music_is_not(model: str, sounds: dict[str, list[Array]]) -> None:
    engine, told = ready_engine(model), {}
    for kind, waveforms in sounds.items():
        warned = []
        for waveform in waveforms:
            stream = Stream(engine, RATE, 1, with_verdict=True)
            stream.process(waveform[None], last=True)
            assert stream.verdict is not None
            warned.append(bool(stream.verdict.warnings))
        told[kind] = float(np.mean(warned))
    print(
        f"\n{model}, warned of: "
        + ", ".join(f"{kind} {100 * share:.0f} %" for kind, share in told.items())
    )
    assert not {kind: told[kind] for kind, most in MOST.items() if told[kind] > most}
    assert not {kind: told[kind] for kind, least in LEAST.items() if told[kind] < least}


def piece(number: int) -> Array:
    """Music `[samples]`: a timbre, tempo and key of its own; chords, broken chords or a melody with
    vibrato; every second with drums.
    """
    rng = np.random.default_rng([9, number])
    beat, root, decay = (
        60 / rng.uniform(70, 160),
        rng.uniform(110, 220),
        float(rng.choice([0.0, 1.0, 4.0])),
    )
    partials = rng.uniform(0.2, 1, 12) / np.arange(1, 13) ** rng.uniform(0.5, 1.5)
    samples, length = round(SECONDS * RATE), round(beat * RATE)
    music = np.zeros(samples + 2 * length)
    for start in range(0, samples, length):
        for offset, hertz, seconds in _notes(rng, number, root, beat):
            first, time = start + round(offset * RATE), np.arange(round(seconds * RATE)) / RATE
            music[first : first + len(time)] += _note(hertz, partials, decay, time)
    if number % 2:
        time, every = np.arange(length // 2) / RATE, length // 2
        for start in range(0, samples, every):
            kick = np.sin(2 * np.pi * 60 * time) * np.exp(-12 * time)
            music[start : start + every] += 3 * (
                kick if start // every % 2 == 0 else rng.standard_normal(every) * np.exp(-25 * time)
            )
    music = music[:samples]
    return (0.3 * music / np.abs(music).max()).astype(np.float32)


def _notes(
    rng: np.random.Generator, number: int, root: float, beat: float
) -> Iterator[tuple[float, float, float]]:
    """Start, fundamental and length of the notes of a beat."""
    first = root * 2 ** (rng.choice([0, 2, 4, 5, 7, 9]) / 12)
    if number % 3 == 0:
        yield from ((0.0, first * ratio, beat) for ratio in (1, 5 / 4, 3 / 2))
    elif number % 3 == 1:
        yield from (
            (step * beat / 4, first * ratio, beat / 2)
            for step, ratio in enumerate((1, 5 / 4, 3 / 2, 2))
        )
    else:
        yield 0.0, 2 * first, 0.95 * beat


def _note(hertz: float, partials: Array, decay: float, time: Array) -> Array:
    """A note with 0.4 % of vibrato and soft ends."""
    phase = hertz * time + 0.004 * hertz / (2 * np.pi * 5.5) * np.sin(2 * np.pi * 5.5 * time)
    note = sum(
        level * np.sin(2 * np.pi * order * phase)
        for order, level in enumerate(partials, start=1)
        if order * hertz < RATE / 2
    )
    ends = np.minimum(1, np.minimum(time, time[-1] - time) / 0.01)
    faded: Array = note * ends * np.exp(-decay * time)
    return faded


def _mix(pair: tuple[Clip, Clip], snr_db: float) -> Array:
    return mixture(*pair, snr_db=snr_db, sample_rate=RATE)[0]
