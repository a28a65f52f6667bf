"""Spans, residuals and scaling of files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fake_engines import FakeEngine, constant, foreseeing, smoothing

from audioae.audio import info
from audioae.denoising import DenoiseSettings, denoise_file
from audioae.engine import Quality
from audioae.errors import SettingsError
from audioae.signal.loudness import integrated_loudness


def noise(samples: int, *, level: float = 0.1, channels: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, level, (samples, channels))


def codes(path: Path) -> np.ndarray:
    """The samples as 32-bit integers, `[samples, channels]`."""
    return soundfile.read(path, dtype="int32", always_2d=True)[0].astype(np.int64)


def floats(path: Path) -> np.ndarray:
    return soundfile.read(path, dtype="float64", always_2d=True)[0]


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("sample_rate", [16000, 44100])
@pytest.mark.parametrize(
    "engine", [constant(0.1), foreseeing(3, stride=4)], ids=["causal", "lookahead"]
)
def test_samples_outside_the_span_are_bit_exact(
    tmp_path: Path, subtype: str, sample_rate: int, engine: FakeEngine
) -> None:
    src, dst = tmp_path / "in.wav", tmp_path / "out.wav"
    soundfile.write(src, noise(9 * sample_rate, channels=2), sample_rate, subtype=subtype)
    denoise_file(src, dst, model=engine, start=3.0, end=5.5)
    before, after = (
        codes(path) if subtype.startswith("PCM") else floats(path) for path in (src, dst)
    )
    first, last = 3 * sample_rate, round(5.5 * sample_rate)
    assert np.array_equal(before[:first], after[:first])
    assert np.array_equal(before[last:], after[last:])
    assert (
        before[first + sample_rate // 10 : last - sample_rate // 10]
        != after[first + sample_rate // 10 : last - sample_rate // 10]
    ).mean() > 0.9


@pytest.mark.parametrize("sample_rate", [16000, 44100])
@pytest.mark.parametrize("quality", ["fast", "best"])
def test_a_span_equals_the_same_part_of_the_whole(
    tmp_path: Path, sample_rate: int, quality: Quality
) -> None:
    settings = DenoiseSettings(quality=quality)
    src = tmp_path / "in.wav"
    soundfile.write(src, noise(9 * sample_rate), sample_rate, subtype="FLOAT")
    denoise_file(src, tmp_path / "whole.wav", model=smoothing(), settings=settings)
    denoise_file(
        src, tmp_path / "part.wav", model=smoothing(), settings=settings, start=4.0, end=6.0
    )
    fade = round(0.01 * sample_rate)
    inside = slice(4 * sample_rate + fade, 6 * sample_rate - fade)
    assert (
        np.abs(floats(tmp_path / "whole.wav") - floats(tmp_path / "part.wav"))[inside].max() < 1e-4
    )


def test_edges_do_not_click(tmp_path: Path) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 220 * np.arange(16000 * 6) / 16000)
    soundfile.write(tmp_path / "in.wav", tone, 16000, subtype="FLOAT")
    denoise_file(tmp_path / "in.wav", tmp_path / "out.wav", model=constant(0.0), start=2.0, end=4.0)
    assert (
        np.abs(np.diff(floats(tmp_path / "out.wav")[:, 0])).max()
        < 1.2 * np.abs(np.diff(tone)).max()
    )


@pytest.mark.parametrize(("start", "end"), [(None, None), (0.0, None), (None, 100.0), (0.0, 3.0)])
def test_a_span_of_the_whole_recording(
    tmp_path: Path, start: float | None, end: float | None
) -> None:
    src = tmp_path / "in.wav"
    soundfile.write(src, noise(48000), 16000, subtype="FLOAT")
    denoise_file(src, tmp_path / "whole.wav", model=smoothing())
    denoise_file(src, tmp_path / "part.wav", model=smoothing(), start=start, end=end)
    assert (tmp_path / "whole.wav").read_bytes() == (tmp_path / "part.wav").read_bytes()


@pytest.mark.parametrize(
    ("start", "end"), [(4.0, None), (2.0, 1.0), (1.0, 1.0), (-1.0, None), (float("nan"), None)]
)
def test_an_impossible_span_is_refused(tmp_path: Path, start: float, end: float | None) -> None:
    soundfile.write(tmp_path / "in.wav", noise(48000), 16000)
    with pytest.raises(SettingsError, match=r"recording of 3 s|nan"):
        denoise_file(
            tmp_path / "in.wav", tmp_path / "out.wav", model=constant(), start=start, end=end
        )
    assert [path.name for path in tmp_path.iterdir()] == ["in.wav"]


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32"])
@pytest.mark.parametrize("gain", [0.3, 3.0])
@pytest.mark.parametrize("end", [None, 2.0])
def test_output_plus_residual_is_exactly_the_input(
    tmp_path: Path, subtype: str, gain: float, end: float | None
) -> None:
    src, dst, rest = (tmp_path / name for name in ("in.wav", "out.wav", "rest.wav"))
    soundfile.write(src, noise(48000, level=0.2, channels=2), 16000, subtype=subtype)
    result = denoise_file(src, dst, model=constant(gain), residual=rest, end=end)
    assert (result.num_clipped > 0) == (gain > 1)
    assert np.array_equal(codes(dst) + codes(rest), codes(src))


def test_a_file_that_would_clip_is_rescaled_to_full_scale(tmp_path: Path) -> None:
    src, dst, rest = (tmp_path / name for name in ("in.wav", "out.wav", "rest.wav"))
    soundfile.write(src, noise(48000, level=0.2), 16000, subtype="PCM_24")
    result = denoise_file(src, dst, model=constant(3.0), clip_mode="rescale", residual=rest)
    peak = 3 * np.abs(floats(src)).max()
    assert result.num_clipped == 0
    assert np.abs(floats(dst)).max() == pytest.approx(1, abs=1e-6)
    assert result.scale_db == pytest.approx(-20 * np.log10(peak), abs=1e-3)
    assert np.abs(floats(dst) - 3 * floats(src) / peak).max() < 1e-5
    assert np.abs(floats(dst) + floats(rest) - floats(src) / peak).max() < 1e-6
    over = int((3 * np.abs(floats(src)) > 1).sum())
    warning = next(warning for warning in result.warnings if "lowered by" in warning)
    assert abs(int(warning.split()[0]) - over) <= 2


@pytest.mark.parametrize(("subtype", "gain"), [("PCM_16", 0.5), ("FLOAT", 5.0)])
def test_a_file_that_would_not_clip_is_not_rescaled(
    tmp_path: Path, subtype: str, gain: float
) -> None:
    src = tmp_path / "in.wav"
    soundfile.write(src, noise(48000), 16000, subtype=subtype)
    result = denoise_file(src, tmp_path / "scaled.wav", model=constant(gain), clip_mode="rescale")
    denoise_file(src, tmp_path / "clamped.wav", model=constant(gain))
    assert result.scale_db == 0
    assert (tmp_path / "scaled.wav").read_bytes() == (tmp_path / "clamped.wav").read_bytes()


@pytest.mark.parametrize("sample_rate", [16000, 48000])
def test_the_output_has_the_requested_loudness(tmp_path: Path, sample_rate: int) -> None:
    src, dst = tmp_path / "in.wav", tmp_path / "out.wav"
    soundfile.write(
        src, noise(5 * sample_rate, level=0.01, channels=2), sample_rate, subtype="PCM_24"
    )
    result = denoise_file(src, dst, model=constant(0.5), normalize_lufs=-23.0)
    assert integrated_loudness(floats(dst).T, sample_rate) == pytest.approx(-23, abs=0.05)
    assert result.scale_db > 10


def test_silence_is_not_normalized(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", np.zeros(16000), 16000)
    result = denoise_file(
        tmp_path / "in.wav",
        tmp_path / "out.wav",
        model=constant(),
        normalize_lufs=-16.0,
        clip_mode="rescale",
    )
    assert result.scale_db == 0
    assert any("not normalized" in warning for warning in result.warnings)


def test_normalizing_with_rescale_does_not_clip(tmp_path: Path) -> None:
    clicks = noise(48000, level=0.001)
    clicks[::8000] = 0.9
    soundfile.write(tmp_path / "in.wav", clicks, 16000, subtype="PCM_16")
    result = denoise_file(
        tmp_path / "in.wav",
        tmp_path / "out.wav",
        model=constant(),
        normalize_lufs=-3.0,
        clip_mode="rescale",
    )
    assert result.num_clipped == 0
    assert np.abs(floats(tmp_path / "out.wav")).max() > 0.99
    assert any("lowered by" in warning for warning in result.warnings)


@pytest.mark.parametrize(
    "options", [{"clip_mode": "rescle"}, {"normalize_lufs": 3.0}, {"normalize_lufs": float("nan")}]
)
def test_impossible_options_are_refused(tmp_path: Path, options: dict[str, object]) -> None:
    soundfile.write(tmp_path / "in.wav", noise(48000), 16000)
    with pytest.raises(SettingsError, match=next(iter(options))):
        denoise_file(tmp_path / "in.wav", tmp_path / "out.wav", model=constant(), **options)


def test_progress_of_two_passes_ends_at_the_end(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", noise(16000 * 10), 16000)
    seconds: list[float] = []
    denoise_file(
        tmp_path / "in.wav",
        tmp_path / "out.wav",
        model=constant(3.0),
        clip_mode="rescale",
        progress=seconds.append,
    )
    assert seconds == sorted(seconds)
    assert seconds[-1] == 10.0


def test_the_result_can_be_written_as_json(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", noise(48000), 16000)
    asked = DenoiseSettings(noise_from=(0.0, 1.0), adapt_noise=True)
    result = denoise_file(
        tmp_path / "in.wav", tmp_path / "out.wav", model=constant(0.5), start=1.0, settings=asked
    )
    values = json.loads(json.dumps(result.to_dict()))
    assert set(values["verdict"]) == {
        "input_snr_db",
        "mean_attenuation_db",
        "max_attenuation_db",
        "speech_kept",
        "out_of_domain",
    }
    assert info(tmp_path / "out.wav").num_samples == 48000
