"""Arguments of the Python API: numbers of NumPy are accepted, wrong types are errors of audioae."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_engines import constant

import audioae
from audioae import AudioaeError, DenoiseSettings, SettingsError, StftSettings, Stream

NOISE = np.random.default_rng(0).normal(0, 0.1, 2000).astype(np.float32)
ENGINE = constant(0.5)
NOTHINGS: tuple[Any, ...] = (
    None, 5, -1, 1.5, math.nan, math.inf, True, "", "x", "a\0b", b"x", [], {}, (1, 2), object,
    str, NOISE, np.int64(3), np.bool_(True),
)  # fmt: skip


@pytest.mark.parametrize(
    "rate", [16000.0, np.int32(16000), np.uint16(16000), np.float64(16000), np.float32(16000)]
)
def test_whole_numbers_are_sample_rates(rate: Any) -> None:
    expected = audioae.denoise(NOISE, 16000, model=ENGINE)
    np.testing.assert_array_equal(audioae.denoise(NOISE, rate, model=ENGINE), expected)
    assert type(Stream(ENGINE, rate).sample_rate) is int


@pytest.mark.parametrize(
    "rate",
    [True, np.bool_(True), math.nan, math.inf, 16000.5, "16000", None, 16000 + 0j, [16000], 0, -1,
     10**30, object, np.array([16000])],
    ids=repr,
)  # fmt: skip
def test_other_values_are_no_sample_rates(rate: Any, tmp_path: Path) -> None:
    for call in (
        lambda: audioae.denoise(NOISE, rate, model=ENGINE),
        lambda: Stream(ENGINE, rate),
        lambda: StftSettings(rate),
        lambda: audioae.write(tmp_path / "a.wav", NOISE, rate),
    ):
        with pytest.raises(AudioaeError) as caught:
            call()
        assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_waveforms_of_any_memory_give_the_same_output(tmp_path: Path) -> None:
    np.save(tmp_path / "noise.npy", NOISE)
    locked = NOISE.copy()
    locked.flags.writeable = False
    expected = audioae.denoise(NOISE, 16000, model=ENGINE)
    for waveform in (
        np.load(tmp_path / "noise.npy", mmap_mode="r"),
        locked,
        np.repeat(NOISE, 2)[::2],
        NOISE.astype(">f4"),
        NOISE.astype(np.float64),
        NOISE.astype(">f8"),
        NOISE.tolist(),
    ):
        np.testing.assert_allclose(
            audioae.denoise(waveform, 16000, model=ENGINE), expected, atol=1e-6
        )
    half = audioae.denoise(NOISE.astype(np.float16), 16000, model=ENGINE)
    assert half.dtype == np.float32 and half.shape == NOISE.shape
    for shape in ((0,), (2, 0), (1,), (2, 1)):
        assert audioae.denoise(np.zeros(shape), 16000, model=ENGINE).shape == shape


@pytest.mark.parametrize(
    "waveform",
    [
        (NOISE * 3000).astype(np.int16), np.zeros(5, np.uint8), np.zeros(5, bool),
        NOISE.astype(complex), NOISE.astype(object), np.array([None]), np.array(["a"]), "abc", None,
        5, 1.5, np.float32(1), NOISE.reshape(2, 2, 500), np.zeros((0, 9)), NOISE.reshape(500, 4),
        np.append(NOISE, np.nan), np.append(NOISE, np.inf), 1e300 * NOISE.astype(float),
        [[1.0, 2.0], [1.0]], {}, object, np.zeros((2000, 3000), np.float32)[:, :1],
    ],
    ids=lambda waveform: f"{type(waveform).__name__} {getattr(waveform, 'dtype', '')}",
)  # fmt: skip
def test_other_waveforms_are_refused(waveform: Any) -> None:
    with pytest.raises(SettingsError) as caught:
        audioae.denoise(waveform, 16000, model=ENGINE)
    assert "\n" not in str(caught.value)
    with pytest.raises(SettingsError):
        Stream(ENGINE, 16000, 2).push(waveform)


@pytest.mark.parametrize("name", ["model", "settings", "residual", "subtype", "start", "end",
                                  "clip_mode", "normalize_lufs", "progress"])  # fmt: skip
def test_wrong_options_are_errors_of_audioae(name: str, tmp_path: Path) -> None:
    audioae.write(tmp_path / "in.wav", NOISE, 16000)
    for value in NOTHINGS:
        if name == "progress" and callable(value):
            continue  # a class can be called
        options: dict[str, Any] = {"model": ENGINE, "overwrite": True, name: value}
        if name == "residual" and isinstance(value, str):
            continue
        if name == "model" and value is None:
            continue
        try:
            audioae.denoise_file(tmp_path / "in.wav", tmp_path / "out.wav", **options)
        except AudioaeError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("value", NOTHINGS, ids=lambda value: repr(value)[:20])
def test_wrong_arguments_are_errors_of_audioae(
    value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    calls = [
        lambda: audioae.load_model(value),
        lambda: audioae.load_model("speech-small-16k", device=value),
        lambda: audioae.read(value),
        lambda: audioae.info(value),
        lambda: audioae.write(value, NOISE, 16000),
        lambda: audioae.denoise_file(value, "out.wav", model=ENGINE),
        lambda: audioae.denoise_file("in.wav", value, model=ENGINE),
        lambda: Stream(value, 16000),
        lambda: Stream(ENGINE, 16000, value),
        lambda: Stream(ENGINE, 16000, settings=value),
        lambda: Stream(ENGINE, 16000, noise=value),
        lambda: Stream(ENGINE, 16000, level_dbfs=value),
        lambda: Stream(ENGINE, 16000).latency_in(value),
        *(
            lambda name=name: DenoiseSettings(**{name: value})
            for name in DenoiseSettings.__dataclass_fields__
        ),
        *(
            lambda name=name: StftSettings(**{name: value})
            for name in StftSettings.__dataclass_fields__
        ),
        lambda: audioae.ModelInfo.from_dict(value),
    ]
    for call in calls:
        try:
            call()
        except AudioaeError as error:
            assert "\n" not in str(error)
