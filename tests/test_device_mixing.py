"""A batch mixed on a device equals the batch mixed on the CPU, and depends on seed, index and size
only.
"""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tiny import RATE

from audioae.data.augment import AugmentSettings
from audioae.data.manifest import read_manifest
from audioae.data.mixtures import (
    Corpus,
    DataSettings,
    DeviceMixer,
    LikeRecording,
    Mixer,
    MixtureDataset,
    Recording,
)
from audioae.signal.mixing import active_rms, rms

DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
    ),
]
ALONE: list[dict[str, Any]] = [
    {},
    {"second_noise": 1.0},
    {"babble": 1.0},
    {"synthetic_noise": 1.0},
    {"reverb": 1.0},
    {"eq": 1.0},
    {"reverb": 1.0, "eq": 1.0},
    {"reverb": 0.5, "eq": 0.5},
    {"clipping": 1.0},
    {"speed": 1.0},
    {"codec": 1.0},
    {"packet_loss": 1.0, "packet_loss_share": (0.2, 0.3)},
    {"silence": 1.0},
    {"easy": 1.0},
    {"speech_free": 1.0},
    {"music": 1.0},
    {"vary_noise": 1.0},
]


def settings_of(seconds: float = 1.0, **augment: Any) -> DataSettings:
    return DataSettings(segment_seconds=seconds, augment=AugmentSettings.plain(**augment))


def mixers(folder: Path, settings: DataSettings, device: str = "cpu") -> tuple[Mixer, DeviceMixer]:
    corpus = Corpus(folder, "train", settings)
    return Mixer(corpus, settings), DeviceMixer(corpus, settings, device)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "augment", ALONE, ids=lambda augment: "+".join(name for name in augment) or "plain"
)
def test_each_effect_is_that_of_the_cpu(
    prepared: Path, augment: dict[str, Any], device: str
) -> None:
    mixer, device_mixer = mixers(prepared, settings_of(**augment), device)
    dataset = MixtureDataset(mixer, seed=3, pairs=100)
    noisy, clean = (side.cpu().numpy() for side in device_mixer.batch(3, 2, 6))
    # A batch is padded to its longest room, so equalisers wrap around elsewhere.
    both = "reverb" in augment and "eq" in augment
    inside = slice(RATE // 10, -RATE // 10) if both else slice(None)
    # A codec decides by the last bit.
    tolerance = 0.05 if "codec" in augment else 1e-3
    for number in range(6):
        expected = [side.numpy() for side in dataset[2 * 6 + number]]
        for got, cpu in zip((noisy[number], clean[number]), expected, strict=True):
            assert rms(got[inside] - cpu[inside]) <= tolerance * rms(expected[0])
            assert np.array_equal(got == 0, cpu == 0) or "silence" not in augment


@pytest.mark.parametrize("device", DEVICES)
def test_a_batch_repeats_with_seed_and_index(prepared: Path, device: str) -> None:
    settings = DataSettings(
        segment_seconds=0.5,
        augment=dataclasses.replace(AugmentSettings(), synthetic_noise=0.5, remix=0.5),
    )
    first, second = (mixers(prepared, settings, device)[1] for _ in range(2))
    for index in (0, 7):
        batch, again = first.batch(1, index, 8), second.batch(1, index, 8)
        for side, same in zip(batch, again, strict=True):
            assert (
                side.shape == (8, RATE // 2)
                and side.dtype == torch.float32
                and side.device.type == device
            )
            assert torch.isfinite(side).all() and torch.equal(side, same)
    assert not torch.equal(first.batch(1, 0, 8)[0], first.batch(2, 0, 8)[0])


@pytest.mark.parametrize("device", DEVICES)
def test_made_noise_is_that_of_the_cpu_at_the_same_ratio(prepared: Path, device: str) -> None:
    mixer, device_mixer = mixers(
        prepared, settings_of(2.0, synthetic_noise=1.0, snr_db=(3.0, 3.0)), device
    )
    kinds = set()
    for seed in range(3):
        draws = [mixer.draw_mixture(np.random.default_rng([seed, number])) for number in range(12)]
        noisy, clean = (side.cpu().numpy() for side in device_mixer.render(draws))
        for draw, mixture, target in zip(draws, noisy, clean, strict=True):
            kinds.add(type(draw.noise).__name__)
            ratio = active_rms(target, RATE) / active_rms(mixture - target, RATE)
            assert 20 * np.log10(ratio) == pytest.approx(3, abs=0.02)
            expected = mixer.render(draw)
            np.testing.assert_allclose(mixture, expected[0], atol=1e-5)
            np.testing.assert_allclose(target, expected[1], atol=1e-5)
    assert kinds == {"LikeRecording", "ColouredNoise", "Hum", "Clicks", "Fan", "Wind"}


def test_silent_recordings_are_no_noise(prepared: Path, tmp_path: Path) -> None:
    data = shutil.copytree(prepared, tmp_path / "data")
    for shard in {row.shard for row in read_manifest(data / "noise.jsonl")}:
        np.memmap(data / shard, "<i2", "r+")[:] = 0
    mixer, device_mixer = mixers(data, settings_of(0.5, synthetic_noise=0.5, second_noise=0.5))
    draws = [mixer.draw_mixture(np.random.default_rng(number)) for number in range(20)]
    noisy, clean = device_mixer.render(draws)
    assert torch.isfinite(noisy).all()
    for draw, mixture, target in zip(draws, noisy, clean, strict=True):
        if isinstance(draw.noise, Recording | LikeRecording):
            assert torch.equal(mixture, target)


def test_a_limited_band_ends_where_it_should(prepared: Path) -> None:
    """All cut-offs are above the Nyquist frequency of the small data set: double its rate."""
    settings = settings_of(0.5, band_limit=1.0)
    corpus = Corpus(prepared, "train", settings)
    corpus.sample_rate = 2 * RATE
    mixer, device_mixer = Mixer(corpus, settings), DeviceMixer(corpus, settings, "cpu")
    draws = [mixer.draw_mixture(np.random.default_rng(number)) for number in range(4)]
    for side, waveforms in enumerate(device_mixer.render(draws)):
        for draw, waveform in zip(draws, waveforms, strict=True):
            np.testing.assert_allclose(waveform.numpy(), mixer.render(draw)[side], atol=1e-4)
            assert (
                np.abs(np.fft.rfft(waveform))[int(0.56 * waveform.shape[-1] / 2) :].max()
                < 1e-3 * np.abs(np.fft.rfft(waveform)).max()
            )


def test_the_audio_is_held_as_int16(prepared: Path) -> None:
    _, device_mixer = mixers(prepared, settings_of())
    assert device_mixer.speech.held.dtype == torch.int16
    assert len(device_mixer.speech.held) == sum(
        row.samples for row in device_mixer.mixer.corpus.speech.rows
    )
