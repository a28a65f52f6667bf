"""Gains of recordings: priming, overlapping chunks and both directions of time.

The gains do not depend on how the frames arrive, and there is one for every frame.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from fake_engines import FakeEngine, constant, foreseeing, per_bin, smoothing
from fake_models import write_half_model
from tiny import noise

from audioae.cli import main
from audioae.denoising import DenoiseSettings, Stream, denoise, denoise_file
from audioae.denoising.gains import (
    CHUNK_SECONDS,
    CONTEXT_SECONDS,
    FORWARD_SHARE,
    ChunkedGains,
    Gains,
    LiveGains,
    PrimedGains,
    TwoBandEngine,
    build_gains,
    choose_engine,
    context_frames,
    lookahead_seconds,
    mirrored,
)
from audioae.engine import Engine, OnnxEngine, Quality, load_model
from audioae.errors import SettingsError
from audioae.signal.spectrogram import StftSettings, stft

QUALITIES: tuple[Quality, ...] = ("fast", "best")
STFT = StftSettings()
CONTEXT = round(CONTEXT_SECONDS * STFT.sample_rate / STFT.hop_length)  # 125 frames
CHUNK = round(CHUNK_SECONDS * STFT.sample_rate / STFT.hop_length)  # 625 frames
OVERLAPPED = StftSettings(n_fft=512, hop_length=128, win_length=512)


def frames(num_frames: int, *, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Random frames `[channels, freq, frames]`."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(2, channels, STFT.num_bins, num_frames)).astype(np.float32)
    return values[0] + 1j * values[1]


def all_gains(gains: Gains, spectrum: np.ndarray, cuts: tuple[int, ...] = ()) -> np.ndarray:
    """The gains of all frames, added in blocks that begin at `cuts`."""
    blocks = np.split(spectrum, cuts, axis=-1)
    found = [gains.add(block, last=block is blocks[-1]) for block in blocks]
    none = np.zeros((*spectrum.shape[:2], 0), np.float32)
    return np.concatenate([none, *(gain for gain in found if gain is not None)], axis=-1)


def powered() -> FakeEngine:
    """A complex gain that depends on its own bin only."""

    def rule(spectrum: np.ndarray) -> np.ndarray:
        return spectrum / (1 + np.abs(spectrum))

    return FakeEngine(rule, gain="complex")


def mirroring() -> FakeEngine:
    """A model for both directions of time, as its `edges` say."""
    engine = foreseeing(2)
    object.__setattr__(engine.info, "edges", "mirror")
    return engine


@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize(
    "cuts",
    [
        tuple(range(1, 1500)),
        (1, 2, 130, 875, 876, 1499),
        (0, 0, CONTEXT, CONTEXT + 1),
        (CHUNK + 2 * CONTEXT - 1, CHUNK + 2 * CONTEXT),
        (1500,),
    ],
    ids=["frames", "odd", "context", "chunk", "empty end"],
)
@pytest.mark.parametrize("engine", [smoothing(), mirroring()], ids=["causal", "mirror"])
def test_gains_do_not_depend_on_blocks(
    quality: Quality, cuts: tuple[int, ...], engine: FakeEngine
) -> None:
    spectrum = frames(1500)[:, ::32]
    whole = all_gains(build_gains(engine, quality), spectrum)
    assert np.array_equal(all_gains(build_gains(engine, quality), spectrum, cuts), whole)


@pytest.mark.parametrize("num_frames", [0, 1, 2, 5, 200, 700, 1300, 2500])
@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize("engine", [smoothing(), mirroring()], ids=["causal", "mirror"])
def test_every_frame_gets_a_gain(num_frames: int, quality: Quality, engine: FakeEngine) -> None:
    spectrum = frames(num_frames, channels=2)[:, ::64]
    assert all_gains(build_gains(engine, quality), spectrum).shape == spectrum.shape
    cuts = tuple(range(0, num_frames, 333))
    assert all_gains(build_gains(engine, quality), spectrum, cuts).shape == spectrum.shape


@pytest.mark.parametrize("num_frames", [1, 2, 5, CONTEXT, CONTEXT + 1, CONTEXT + 2, 700])
def test_priming_is_a_run_over_the_mirrored_beginning_and_the_recording(num_frames: int) -> None:
    spectrum, engine = frames(num_frames), smoothing()
    beginning = mirrored(spectrum[..., 1 : CONTEXT + 1])
    expected = engine.whole(np.concatenate([beginning, spectrum], axis=-1))
    primed = all_gains(PrimedGains(engine), spectrum, (3, 100, 300))
    assert np.array_equal(primed, expected[..., beginning.shape[-1] :])
    if num_frames > 5:
        assert np.abs(primed - engine.whole(spectrum)).max() > 0.01


@pytest.mark.parametrize("num_frames", [1, 2, 300, 1300])
@pytest.mark.parametrize("gain", [0.3, 0.3 + 0.2j])
def test_both_directions_agree_where_the_gain_does_not_depend_on_the_past(
    num_frames: int, gain: complex
) -> None:
    """A constant complex gain turns every phase, so that it is conjugated in reversed time."""
    spectrum = frames(num_frames)
    assert np.allclose(
        all_gains(build_gains(powered(), "best"), spectrum), powered().whole(spectrum)
    )
    curve = np.linspace(0, 1, STFT.num_bins)
    expected = per_bin(curve).whole(spectrum)
    assert np.allclose(all_gains(build_gains(per_bin(curve), "best"), spectrum), expected)
    turned = all_gains(build_gains(constant(gain), "best"), spectrum)
    assert np.allclose(turned.real, np.real(gain))
    assert np.allclose(turned.imag, (2 * FORWARD_SHARE - 1) * np.imag(gain))


def test_best_weighs_the_forward_and_the_backward_gain() -> None:
    """A recording of one chunk has a mirrored context on both sides."""
    spectrum, engine = frames(400), smoothing()
    before = mirrored(spectrum[..., 1 : CONTEXT + 1])
    after = mirrored(spectrum[..., -CONTEXT - 1 : -1])
    longer = np.concatenate([before, spectrum, after], axis=-1)
    forward, backward = engine.whole(longer), engine.whole(mirrored(longer))[..., ::-1]
    expected = FORWARD_SHARE * forward + (1 - FORWARD_SHARE) * backward
    found = all_gains(build_gains(engine, "best"), spectrum)
    assert np.allclose(found, expected[..., CONTEXT:-CONTEXT], atol=1e-6)


@pytest.mark.parametrize("settings", [STFT, OVERLAPPED], ids=["half", "quarter"])
def test_the_frames_of_a_reversed_signal_are_the_mirrored_frames(settings: StftSettings) -> None:
    """The reversed signal starts with a sample of silence, for the window starts with a zero."""
    waveform = noise(settings.hop_length * 40)
    waveform[:, 0] = 0
    backwards = np.roll(waveform[:, ::-1], 1, axis=-1)
    assert np.allclose(stft(backwards, settings), mirrored(stft(waveform, settings)), atol=1e-5)


@pytest.mark.parametrize("block", [1, 250, 4000])
def test_the_number_of_frames_held_is_bounded(block: int) -> None:
    engine = constant(0.5)
    gains, wanted = build_gains(engine, "best"), CHUNK + 3 * CONTEXT
    assert isinstance(gains, ChunkedGains)
    spectrum = frames(block)[:, ::64]
    for _ in range(3000 // block + 3):
        gains.add(spectrum)
        assert gains._frames is not None
        assert gains._frames.shape[-1] <= wanted
        assert gains._frames.base is None  # a view would keep all frames alive
    gains.add(spectrum, last=True)
    assert engine.most_frames <= CHUNK + 5 * CONTEXT


def test_what_a_gain_depends_on_is_bounded() -> None:
    """A change far away changes nothing, and a change within a chunk's context does."""
    spectrum, engine = frames(3000)[:, ::64], smoothing()
    changed = spectrum.copy()
    changed[..., 2000:] *= 2
    fast, best = (
        [all_gains(build_gains(engine, quality), each) for each in (spectrum, changed)]
        for quality in QUALITIES
    )
    assert np.array_equal(fast[0][..., :2000], fast[1][..., :2000])
    assert np.array_equal(best[0][..., :1250], best[1][..., :1250])  # two chunks
    assert not np.array_equal(best[0][..., 1990:2000], best[1][..., 1990:2000])


def test_the_kind_of_gains_follows_from_the_model_and_the_quality() -> None:
    causal, ahead, both = smoothing(), foreseeing(3, stride=4), mirroring()
    for engine, quality, kind in [
        (causal, None, LiveGains),
        (causal, "fast", PrimedGains),
        (causal, "best", ChunkedGains),
        (ahead, None, LiveGains),
        (ahead, "fast", LiveGains),
        (ahead, "best", LiveGains),
        (both, "fast", ChunkedGains),
        (both, "best", ChunkedGains),
    ]:
        assert type(build_gains(engine, quality)) is kind
    assert context_frames(causal) == CONTEXT
    assert lookahead_seconds(causal.info, "best") == CONTEXT_SECONDS
    assert lookahead_seconds(causal.info, "fast") == 256 / 16000
    assert lookahead_seconds(ahead.info, "best") == 7 * 256 / 16000


@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize("stride", [1, 4, 7])
def test_a_causal_model_with_a_stride_keeps_the_length(quality: Quality, stride: int) -> None:
    waveform = noise(50001)
    settings = DenoiseSettings(quality=quality)
    enhanced = denoise(waveform, 16000, model=constant(0.5, stride=stride), settings=settings)
    assert np.abs(enhanced - 0.5 * waveform).max() < 1e-5


@pytest.mark.parametrize("sample_rate", [16000, 44100])
@pytest.mark.parametrize("quality", QUALITIES)
def test_arrays_files_and_streams_agree(tmp_path: Path, sample_rate: int, quality: Quality) -> None:
    waveform, settings = noise(16 * sample_rate, 2), DenoiseSettings(quality=quality)
    soundfile.write(tmp_path / "in.wav", waveform.T, sample_rate, subtype="FLOAT")
    array = denoise(waveform, sample_rate, model=smoothing(), settings=settings)
    stream = Stream(smoothing(), sample_rate, 2, settings, low_latency=False, recording=True)
    parts = [stream.push(part) for part in np.array_split(waveform, 23, axis=-1)]
    joined = np.concatenate([*parts, stream.flush()], axis=-1)
    result = denoise_file(
        tmp_path / "in.wav", tmp_path / "out.wav", model=smoothing(), settings=settings
    )
    file = soundfile.read(tmp_path / "out.wav", dtype="float32")[0].T
    assert np.abs(array - file).max() < 1e-6
    assert np.abs(array - joined).max() < 1e-6
    if sample_rate == 16000:  # resamplers round differently in other blocks
        assert np.array_equal(array, file) and np.array_equal(array, joined)
    assert result.quality == quality


@pytest.mark.parametrize("sample_rate", [16000, 44100])
@pytest.mark.parametrize("quality", QUALITIES)
def test_digital_silence_stays_silent(sample_rate: int, quality: Quality) -> None:
    settings = DenoiseSettings(quality=quality)
    waveform = noise(14 * sample_rate)
    waveform[:, 5 * sample_rate : 9 * sample_rate] = 0
    edge = sample_rate // 10
    for engine in (smoothing(), load_model("speech-small-16k")):
        silence = np.zeros((2, 3 * sample_rate), np.float32)
        assert not denoise(silence, sample_rate, model=engine, settings=settings).any()
        enhanced = denoise(waveform, sample_rate, model=engine, settings=settings)
        assert not enhanced[:, 5 * sample_rate + edge : 9 * sample_rate - edge].any()
        assert enhanced[:, : 5 * sample_rate].any()


@pytest.mark.parametrize("sample_rate", [16000, 44100])
@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize("level", [0.01, 1.0])
def test_a_span_does_not_depend_on_samples_far_away(
    tmp_path: Path, sample_rate: int, quality: Quality, level: float
) -> None:
    """Seconds 10 to 12 of two recordings that differ before second 7 and after second 15."""
    settings = DenoiseSettings(quality=quality)
    first, other = noise(20 * sample_rate), noise(20 * sample_rate, level=level, seed=1)
    near = slice(7 * sample_rate, 15 * sample_rate)
    other[:, near] = first[:, near]
    outputs = []
    for waveform in (first, other):
        soundfile.write(tmp_path / "in.wav", waveform.T, sample_rate, subtype="FLOAT")
        denoise_file(
            tmp_path / "in.wav",
            tmp_path / "out.wav",
            model=smoothing(),
            settings=settings,
            start=10.0,
            end=12.0,
            overwrite=True,
        )
        outputs.append(soundfile.read(tmp_path / "out.wav", dtype="float32")[0][None])
    assert np.array_equal(outputs[0][:, near], outputs[1][:, near])
    span = slice(10 * sample_rate, 12 * sample_rate)
    assert np.abs(outputs[0][:, span] - first[:, span]).max() > 0.01


@pytest.mark.parametrize("engine", [smoothing(), foreseeing(2, stride=4)], ids=["causal", "ahead"])
def test_a_live_stream_is_not_changed_by_the_quality(engine: Engine) -> None:
    waveform, outputs, latencies = noise(80000), [], []
    for quality in QUALITIES:
        stream = Stream(engine, 16000, settings=DenoiseSettings(quality=quality))
        outputs.append([stream.push(waveform), stream.flush()])
        latencies.append(stream.latency)
    for one, other in zip(*outputs, strict=True):
        assert np.array_equal(one, other)
    assert latencies[0] == latencies[1]


def test_the_qualities_differ() -> None:
    waveform = noise(80000)
    fast, best = (
        denoise(waveform, 16000, model=smoothing(), settings=DenoiseSettings(quality=quality))
        for quality in QUALITIES
    )
    live, _ = Stream(smoothing(), 16000).process(waveform, last=True)
    assert np.abs(fast - best).max() > 1e-3
    assert np.abs(fast - live)[:, :8000].max() > 1e-3
    assert np.abs(fast - live)[:, 40000:].max() < 1e-5


def test_an_unknown_quality_is_refused() -> None:
    with pytest.raises(SettingsError, match="'bset'"):
        DenoiseSettings(quality="bset")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "quality"),
    [((), "best"), (("--quality", "best"), "best"), (("--quality", "fast"), "fast")],
)
def test_the_command_reports_the_quality(
    tmp_path: Path, options: tuple[str, ...], quality: str
) -> None:
    model = write_half_model(tmp_path / "half.onnx")
    soundfile.write(tmp_path / "in.wav", noise(16000).T, 16000)
    arguments = ["denoise", str(tmp_path / "in.wav"), str(tmp_path / "out.wav"), "-m", str(model)]
    result = CliRunner().invoke(main, [*arguments, *options, "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["quality"] == quality


def test_the_command_refuses_an_unknown_quality(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", noise(16000).T, 16000)
    paths = [str(tmp_path / name) for name in ("in.wav", "out.wav")]
    result = CliRunner().invoke(main, ["denoise", *paths, "--quality", "bset"])
    assert result.exit_code == 2
    assert not (tmp_path / "out.wav").exists()


class Family(OnnxEngine):
    """A model whose companions are named by their roles."""

    def __init__(self, **companions: Engine) -> None:
        self.info = constant().info
        self.companions = companions

    def companion(self, role: str) -> Engine:
        return self.companions.get(role, self)


FULL_BAND = StftSettings(48000, 1536, 768, 1536)


def falling() -> FakeEngine:
    """Full band, causal: the gain falls with the time since the first frame."""
    return FakeEngine(
        lambda spectrum: np.broadcast_to(
            np.float32(1) / (1 + np.arange(spectrum.shape[-1], dtype=np.float32)), spectrum.shape
        ).copy(),
        stft=FULL_BAND,
    )


@pytest.mark.parametrize(
    ("sample_rate", "quality", "chosen"),
    [
        (16000, None, "model"),
        (16000, "fast", "model"),
        (16000, "best", "offline"),
        (8000, "best", "offline"),
        (16001, None, "full_band"),
        (48000, "fast", "full_band"),
        (48000, "best", "both"),
    ],
)
def test_companions_take_the_place_of_a_model(
    sample_rate: int, quality: Quality | None, chosen: str
) -> None:
    full_band, offline = falling(), constant(0.5)
    model = Family(full_band=full_band, offline=offline)
    names = {"model": model, "full_band": full_band, "offline": offline}
    found = choose_engine(model, sample_rate, quality)
    assert found is names[chosen] if chosen in names else isinstance(found, TwoBandEngine)
    for alone in (Family(), constant()):
        assert choose_engine(alone, sample_rate, quality) is alone
    expected = full_band if sample_rate > 16000 else None
    lonely = Family(full_band=full_band)
    assert choose_engine(lonely, sample_rate, quality) is (expected or lonely)


def test_two_bands_have_the_gains_of_their_models() -> None:
    levels = FakeEngine(lambda spectrum: np.abs(spectrum))
    engine = TwoBandEngine(levels, falling())
    assert (engine.info.name, engine.info.edges) == ("fake+fake", "mirror")
    rng = np.random.default_rng(0)
    spectrum = rng.normal(size=(2, FULL_BAND.num_bins, 9)).astype(np.complex64)
    gain = engine.whole(spectrum)
    bins = StftSettings().num_bins
    np.testing.assert_allclose(gain[:, :bins], np.abs(spectrum[:, :bins]) / 3, rtol=1e-6)
    falls = 1 / (1 + np.arange(9))
    np.testing.assert_allclose(gain[:, bins:], np.broadcast_to(falls, (2, 512, 9)), rtol=1e-6)
    with pytest.raises(SettingsError):
        engine.step(spectrum)
