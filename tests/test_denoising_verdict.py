"""Estimates without a reference: input SNR, kept speech and out-of-domain score, independent of
blocks and in constant memory.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from fake_engines import FakeEngine, constant
from tiny import noise

from audioae.audio import read
from audioae.denoising import Stream, Verdict
from audioae.denoising.verdict import Axes, VerdictMeter, features, speech_likeness
from audioae.engine import Engine, load_model
from audioae.pretrained import list_denoisers
from audioae.signal.mixing import mix_at_snr
from audioae.signal.resample import resample
from audioae.signal.spectrogram import StftSettings, analyse

SAMPLES = Path(__file__).parents[1] / "samples"


def chord(seconds: float = 10.0, *, seed: int = 0) -> np.ndarray:
    """Synthetic music: a chord of plucked strings every second, `[1, samples]` at 16 kHz."""
    rng, time = np.random.default_rng(seed), np.arange(16000) / 16000
    parts = []
    for _ in range(round(seconds)):
        roots = 110 * 2 ** (rng.choice([0, 2, 4, 5, 7, 9]) / 12) * np.array([1, 1.26, 1.5, 2])
        notes = [
            sum(np.sin(2 * np.pi * root * k * time) / k for k in range(1, 12)) for root in roots
        ]
        parts.append(np.sum(notes, axis=0) * np.exp(-1.5 * time) * 0.05)
    return np.concatenate(parts).astype(np.float32)[None]


def notes(kind: str, seconds: int = 8) -> np.ndarray:
    """Other sound than speech, `[1, samples]` at 16 kHz: arpeggio, melody with vibrato, drums or
    tone.
    """
    rng, time = np.random.default_rng(3), np.arange(seconds * 16000) / 16000
    step = {"arpeggio": 0.2, "melody": 0.5, "drums": 0.25, "tone": 1.0}[kind]
    since, number = time % step, (time // step).astype(int)
    if kind == "tone":
        waveform = np.sin(2 * np.pi * 1000 * time)
    elif kind == "drums":
        hits = [
            np.sin(2 * np.pi * 55 * since) * np.exp(-10 * since),
            rng.standard_normal(len(time)) * np.exp(-30 * since),
        ]
        waveform = np.where(number % 2, hits[1], hits[0])
    else:
        steps = (
            rng.choice([0, 2, 4, 7, 9, 12], number[-1] + 1)
            if kind == "melody"
            else np.resize([0, 4, 7, 12], number[-1] + 1)
        )
        hertz = (
            220
            * 2 ** (steps[number] / 12)
            * (1 + 0.005 * np.sin(2 * np.pi * 5.5 * time) * (kind == "melody"))
        )
        phase = 2 * np.pi * np.cumsum(hertz) / 16000
        fading = np.exp(-(4 if kind == "arpeggio" else 0.5) * since) * np.minimum(
            1, np.minimum(since, step - since) / 0.01
        )
        waveform = sum(np.sin(k * phase) / k for k in range(1, 12)) * fading
    return (0.1 * waveform).astype(np.float32)[None]


def measure(engine: Engine, waveform: np.ndarray, *, sample_rate: int = 16000) -> Verdict:
    stream = Stream(engine, sample_rate, len(waveform), with_verdict=True)
    stream.process(waveform, last=True)
    assert stream.verdict is not None
    return stream.verdict


@pytest.mark.parametrize(
    ("gain", "snr_db"), [(0.9, 19.085), (0.5, 0.0), (0.1, -19.085), (1.0, 60.0), (0.0, -60.0)]
)
def test_the_snr_is_the_ratio_of_kept_to_removed_power(gain: float, snr_db: float) -> None:
    verdict = measure(constant(gain), noise(48000))
    assert verdict.input_snr_db == pytest.approx(snr_db, abs=0.01)
    assert verdict.speech_kept == pytest.approx(gain**2, abs=1e-3)


def test_speech_kept_counts_frames_with_speech_only() -> None:
    waveform = noise(160000)
    waveform[:, 80000:] *= np.float32(0.01)

    def gate(spectrum: np.ndarray) -> np.ndarray:
        loud = np.abs(spectrum).mean(axis=1, keepdims=True) > 0.1
        return np.broadcast_to(np.where(loud, 0.8, 0.01), spectrum.shape).astype(np.float32)

    assert measure(FakeEngine(gate), waveform).speech_kept == pytest.approx(0.64, abs=0.01)


def test_the_verdict_of_silence_and_of_a_short_recording() -> None:
    silent = measure(constant(0.5), np.zeros((1, 48000), np.float32))
    assert silent == Verdict(None, 0.0, 0.0, None, None)
    assert silent.warnings == ()
    assert "unknown" in silent.line
    assert measure(constant(0.5), noise(4000)).out_of_domain is None


def test_the_verdict_does_not_depend_on_blocks() -> None:
    waveform, stream = chord(), Stream(constant(0.7), 16000, with_verdict=True)
    for part in np.split(waveform, [1, 700, 50000, 50001, 120000], axis=-1):
        stream.push(part)
    stream.flush()
    assert stream.verdict is not None
    whole = measure(constant(0.7), waveform)
    for name, value in whole.to_dict().items():
        assert stream.verdict.to_dict()[name] == pytest.approx(value, abs=1e-5), name


def test_the_score_does_not_depend_on_the_level_or_the_channels() -> None:
    waveform = chord()
    usual = measure(constant(0.7), waveform)
    for other in (waveform * np.float32(0.1), np.tile(waveform, (2, 1))):
        assert measure(constant(0.7), other).out_of_domain == pytest.approx(
            usual.out_of_domain, abs=0.01
        )


def test_memory_does_not_grow() -> None:
    meter, stft = VerdictMeter(StftSettings()), StftSettings()
    frames = np.ones((1, stft.num_bins, 250), np.complex64)
    for _ in range(20):
        meter.add(frames, np.full(frames.shape, 0.5, np.float32))
        assert meter._waiting.shape[-1] <= 2 * Axes.of(stft).frames


def test_the_likeness_is_between_zero_and_one() -> None:
    axes = Axes.of(StftSettings())
    for power in (
        np.zeros((257, 125)),
        np.ones((257, 125)),
        1e12 * np.random.default_rng(0).exponential(1, (257, 125)),
    ):
        numbers = features(power.astype(np.float32), power.astype(np.float32), axes)
        assert np.isfinite(numbers).all()
        assert 0 <= speech_likeness(numbers) <= 1


def test_moving_harmonics_and_changing_balance_look_more_like_speech() -> None:
    axes, time = Axes.of(StftSettings()), np.arange(32000) / 16000
    held = sum(np.sin(2 * np.pi * 200 * k * time) for k in range(1, 20))
    gliding = sum(
        np.sin(2 * np.pi * k * (200 * time + 10 * np.sin(2 * np.pi * 2 * time)))
        for k in range(1, 20)
    )
    hissing = np.where(time % 0.4 < 0.15, np.diff(noise(32001, level=3.0)[0]), gliding)
    likeness = []
    for waveform in (held, gliding, hissing):
        spectrum, _ = analyse(waveform[None].astype(np.float32), StftSettings())
        power = spectrum[0].real ** 2 + spectrum[0].imag ** 2
        likeness.append(speech_likeness(features(power, power, axes)))
    assert likeness[0] < likeness[1] < likeness[2]


def test_a_high_score_gives_a_warning() -> None:
    assert Verdict(0.0, 1.0, 2.0, 0.5, 0.1).warnings == ()
    (warning,) = Verdict(0.0, 1.0, 2.0, 0.5, 0.97).warnings
    assert "0.97" in warning


@pytest.fixture(scope="module", params=[entry.name for entry in list_denoisers()])
def engine(request: pytest.FixtureRequest) -> Engine:
    return load_model(request.param)


def test_music_and_noise_give_a_warning(engine: Engine) -> None:
    assert measure(engine, chord()).warnings
    assert measure(engine, noise(160000, level=0.05)).warnings


@pytest.mark.parametrize("kind", ["arpeggio", "melody", "drums", "tone"])
def test_other_music_and_tones_give_a_warning(engine: Engine, kind: str) -> None:
    assert measure(engine, notes(kind)).warnings


@pytest.mark.parametrize("snr_db", [None, 0.0, -5.0])
def test_synthetic_speech_gives_no_warning(engine: Engine, snr_db: float | None) -> None:
    """The synthetic sentences of the samples folder in a row, clean and in noise."""
    parts = [
        resample(waveform, rate, 16000)
        for waveform, rate in map(read, sorted((SAMPLES / "speech").glob("*")))
    ]
    speech = np.concatenate(parts, axis=-1)
    waveform = (
        speech
        if snr_db is None
        else mix_at_snr(speech[0], noise(speech.shape[-1])[0], snr_db=snr_db, sample_rate=16000)[
            None
        ]
    )
    assert not measure(engine, waveform).warnings


def test_speech_gives_no_warning(engine: Engine, shared_data: Path) -> None:
    rows = list(
        csv.DictReader((shared_data / "paired.csv").read_text(encoding="utf-8").splitlines())
    )[::9]
    errors = []
    for row in rows:
        clean, noisy = (read(shared_data / row[name])[0] for name in ("clean", "noisy"))
        assert not measure(engine, clean).warnings, row
        verdict = measure(engine, noisy)
        assert not verdict.warnings, row
        truth = 10 * np.log10(np.sum(clean**2) / np.sum((noisy - clean) ** 2))
        errors.append(abs(verdict.input_snr_db - truth))
    assert np.mean(errors) < 4


@pytest.mark.parametrize("snr_db", [5.0, -5.0])
def test_speech_in_loud_noise_gives_no_warning(
    engine: Engine, shared_data: Path, snr_db: float
) -> None:
    rows = [
        row
        for row in csv.DictReader(
            (shared_data / "speech.csv").read_text(encoding="utf-8").splitlines()
        )
        if row["corpus"] == "librispeech"
    ][::30]
    for row in rows[:6]:
        clean, rate = read(shared_data / row["path"])
        clean = resample(clean, rate, 16000)[0]
        noisy = mix_at_snr(
            clean, noise(clean.shape[-1], seed=1)[0], snr_db=snr_db, sample_rate=16000
        )
        assert not measure(engine, 0.1 * noisy[None].astype(np.float32)).warnings, row
