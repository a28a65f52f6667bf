"""Features of autoencoders: librosa and torchaudio agree, blocks equal the whole, and back."""

from __future__ import annotations

import numpy as np
import pytest

from audioae.errors import SettingsError
from audioae.signal.features import (
    FeatureSettings,
    compute,
    compute_blocks,
    mel_filter_bank,
    mel_frequencies,
    to_magnitude,
    to_waveform,
)

pytest.importorskip("librosa")

FORMS = [
    FeatureSettings(),
    FeatureSettings(kind="magnitude"),
    FeatureSettings(n_mels=40, fmin=50, fmax=7000, floor_db=-60, top_db=-6),
    FeatureSettings(kind="magnitude", n_fft=1024, win_length=800, hop_length=200, top_db=-12),
]
each_form = pytest.mark.parametrize("settings", FORMS, ids=["mel", "mag", "mel-band", "mag-win"])


def noise(num_samples: int, level: float = 0.1) -> np.ndarray:
    """White noise `[num_samples]` that rises and falls."""
    rng = np.random.default_rng(0)
    swell = 0.1 + np.sin(np.arange(num_samples) / 1500) ** 2
    return (level * rng.standard_normal(num_samples) * swell).astype(np.float32)


@each_form
def test_librosa_and_torchaudio_agree(settings: FeatureSettings) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("torchaudio")
    from audioae.models.features import feature_map, torchaudio_filter_bank

    waveform = np.stack([noise(16000), noise(16000, 0.01)])
    found = feature_map(torch.from_numpy(waveform), settings).numpy()
    np.testing.assert_allclose(found, compute(waveform, settings), atol=1e-5)
    bank = torchaudio_filter_bank(settings).numpy()
    np.testing.assert_allclose(bank, mel_filter_bank(settings), atol=1e-5)


@each_form
def test_features_have_a_range_a_shape_and_silence(settings: FeatureSettings) -> None:
    features = compute(noise(5000), settings)
    assert features.shape == (settings.num_bins, settings.num_frames(5000))
    assert features.dtype == np.float32 and features.min() >= 0 and features.max() <= 1
    assert not compute(np.zeros(5000, np.float32), settings).any()
    assert compute(np.zeros((2, 0), np.float32), settings).shape == (2, settings.num_bins, 0)


@each_form
@pytest.mark.parametrize("cuts", [[1, 2, 700], [3000], [256 * k for k in range(1, 19)], []])
def test_blocks_equal_the_whole(settings: FeatureSettings, cuts: list[int]) -> None:
    waveform = np.stack([noise(5000), noise(5000)[::-1]])
    parts = list(compute_blocks(np.split(waveform, cuts, axis=1), settings))
    whole = compute(waveform, settings)
    np.testing.assert_allclose(np.concatenate(parts, -1), whole, atol=1e-6)


def test_the_blocks_of_an_empty_signal_have_no_features() -> None:
    assert list(compute_blocks([np.zeros(0, np.float32)], FeatureSettings())) == []


@pytest.mark.parametrize("num_samples", [1, 255, 256, 511, 512, 513])
def test_short_signals_have_all_their_frames(num_samples: int) -> None:
    settings = FeatureSettings()
    parts = list(compute_blocks([noise(num_samples)], settings))
    frames = settings.num_frames(num_samples)
    assert sum(part.shape[-1] for part in parts) == frames
    assert compute(noise(num_samples), settings).shape[-1] == frames


def test_a_full_scale_sine_has_0_db_in_its_bin() -> None:
    settings = FeatureSettings(kind="magnitude", compression=1.0)
    tone = np.sin(2 * np.pi * 1000 / 16000 * np.arange(16000)).astype(np.float32)
    column = compute(tone, settings)[:, 30]
    assert column.argmax() == 32 and column.max() == pytest.approx(1, abs=1e-3)
    assert mel_frequencies(settings)[32] == 1000


@each_form
def test_magnitude_is_the_inverse(settings: FeatureSettings) -> None:
    features = compute(noise(8000), settings)
    magnitude = to_magnitude(features, settings)
    assert magnitude.shape == (settings.num_frequencies, features.shape[1])
    assert magnitude.min() >= 0
    if settings.kind == "log_mel":
        power = mel_filter_bank(settings) @ np.square(magnitude)
        level = 10 * np.log10(np.maximum(power, 1e-12))
        again = (level - settings.floor_db) / (settings.top_db - settings.floor_db)
        # Not all levels are possible with powers above 0 in overlapping bands.
        assert np.abs(np.clip(again, 0, 1) - features).mean() < 0.005


@each_form
def test_griffin_lim_gives_a_waveform_with_these_features(settings: FeatureSettings) -> None:
    waveform = noise(16000)
    features = compute(waveform, settings)
    again = to_waveform(features, settings, num_samples=16000)
    assert again.shape == (16000,) and again.dtype == np.float32
    np.testing.assert_array_equal(again, to_waveform(features, settings, num_samples=16000))
    assert np.abs(compute(again, settings) - features).mean() < 0.05
    if settings.top_db == 0:  # features of louder sounds are clipped
        assert again.std() == pytest.approx(waveform.std(), rel=0.2)
    assert to_waveform(features[:, :0], settings, num_samples=300).tolist() == [0.0] * 300


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"n_fft": 511}, "n_fft"),
        ({"hop_length": 600}, "hop_length"),
        ({"fmax": 9000.0}, "fmax"),
        ({"fmin": 5000.0, "fmax": 4000.0}, "fmin"),
        ({"floor_db": 0.0}, "floor_db"),
        ({"kind": "mfcc"}, "kind"),
        ({"compression": 0.0}, "compression"),
    ],
)
def test_settings_that_cannot_be_used(changes: dict[str, object], word: str) -> None:
    with pytest.raises(SettingsError, match=word):
        FeatureSettings(**changes)  # type: ignore[arg-type]


def test_mel_bands_without_a_bin_are_an_error() -> None:
    with pytest.raises(SettingsError, match="n_mels"):
        mel_filter_bank(FeatureSettings(n_mels=256))
