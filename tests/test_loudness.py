"""Loudness agrees with ITU-R BS.1770 and EBU Tech 3341 at any sample rate and block size."""

from __future__ import annotations

import math

import numpy as np
import pytest

from audioae.signal.loudness import Meter, integrated_loudness


def sines(
    *levels: float | None, seconds: float, hz: float = 1000.0, sample_rate: int = 48000
) -> np.ndarray:
    """Sines with these peak levels in dBFS, one per channel; None is silence."""
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    amplitudes = [0 if level is None else 10 ** (level / 20) for level in levels]
    return np.outer(amplitudes, np.sin(2 * np.pi * hz * time)).astype(np.float32)


def stereo(*parts: tuple[float, float]) -> np.ndarray:
    """The same sine in two channels, with successive parts of `(dBFS, seconds)`."""
    return np.concatenate(
        [sines(level, level, seconds=seconds) for level, seconds in parts], axis=-1
    )


def test_a_full_scale_sine_in_one_channel_has_minus_3_01_lufs() -> None:
    assert integrated_loudness(sines(0, seconds=3, hz=997), 48000) == pytest.approx(-3.01, abs=0.01)


@pytest.mark.parametrize(
    ("waveform", "lufs"),
    [
        (stereo((-23, 20)), -23),  # EBU Tech 3341, cases 1 to 6
        (stereo((-33, 20)), -33),
        (stereo((-36, 10), (-23, 60), (-36, 10)), -23),
        (stereo((-72, 10), (-36, 10), (-23, 60), (-36, 10), (-72, 10)), -23),
        (stereo((-26, 20), (-20, 20.1), (-26, 20)), -23),
        (sines(-28, -28, -24, -30, -30, seconds=20), -23),
        (sines(-28, -28, -24, 0, -30, -30, seconds=20), -23),  # the LFE channel does not count
    ],
)
def test_cases_of_ebu_tech_3341(waveform: np.ndarray, lufs: float) -> None:
    assert integrated_loudness(waveform, 48000) == pytest.approx(lufs, abs=0.1)


@pytest.mark.parametrize("sample_rate", [8000, 11025, 16000, 22050, 44100, 96000, 192000])
@pytest.mark.parametrize("hz", [60.0, 1000.0, 3000.0])
def test_the_sample_rate_does_not_matter(sample_rate: int, hz: float) -> None:
    # At higher frequencies the bilinear transform warps the shelf: 0.2 dB at an eighth of the rate.
    hz = min(hz, sample_rate / 16)
    reference = integrated_loudness(sines(-20, seconds=2, hz=hz), 48000)
    assert integrated_loudness(
        sines(-20, seconds=2, hz=hz, sample_rate=sample_rate), sample_rate
    ) == pytest.approx(reference, abs=0.15)


def test_blocks_equal_whole() -> None:
    rng = np.random.default_rng(0)
    waveform = rng.normal(0, 0.1, (2, 30000)) * np.linspace(0, 1, 30000)
    meter, at = Meter(11025, 2), 0
    while at < waveform.shape[-1]:
        size = int(rng.integers(0, 3000))
        meter.add(waveform[:, at : at + size])
        at += size
    assert meter.lufs == pytest.approx(integrated_loudness(waveform, 11025), abs=1e-9)
    assert meter.num_samples == 30000
    assert meter.peak == np.abs(waveform).max()
    assert meter.rms_dbfs == pytest.approx(10 * math.log10(np.mean(waveform**2)))


def test_silence_and_empty_recordings_have_no_level() -> None:
    for samples in (0, 100, 48000):
        meter = Meter(48000, 2)
        meter.add(np.zeros((2, samples), np.float32))
        assert (meter.peak_dbfs, meter.rms_dbfs, meter.lufs) == (None, None, None)


def test_less_than_a_gating_block_has_no_loudness() -> None:
    assert integrated_loudness(sines(-20, seconds=0.39), 48000) is None
    assert integrated_loudness(sines(-20, seconds=0.41), 48000) is not None


def test_too_low_sample_rates_have_no_loudness() -> None:
    assert integrated_loudness(sines(-20, seconds=1, hz=100, sample_rate=1000), 1000) is None
