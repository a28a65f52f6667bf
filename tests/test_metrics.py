"""Metrics: invariances, signals with known scores, and the reasons for missing values."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from audioae.errors import DependencyError, ScoreError, SettingsError
from audioae.evaluation.metrics import (
    DEFAULT_METRICS,
    METRICS,
    check_metrics,
    composite,
    dnsmos,
    estoi,
    log_likelihood_ratio,
    log_spectral_distance,
    pesq_nb,
    pesq_wb,
    require_packages,
    score,
    segmental_snr,
    si_sdr,
    snr,
    stoi,
    weighted_spectral_slope,
)
from audioae.signal.resample import resample

RATE = 16000
Signal = np.ndarray
Metric = Callable[[Signal, Signal, int], float]


@pytest.fixture(scope="module")
def speech() -> Signal:
    """Three seconds of synthetic speech."""
    return soundfile.read(Path(__file__).parents[1] / "samples" / "clean.wav", dtype="float32")[0][
        : 3 * RATE
    ]


@pytest.fixture(scope="module")
def noise() -> Signal:
    return 0.05 * np.random.default_rng(1).standard_normal(3 * RATE).astype(np.float32)


def orthogonal(noise: Signal, reference: Signal) -> Signal:
    """`noise` without its mean and its projection on the reference, scaled to the power of the
    reference; float64.
    """
    noise, reference = noise - noise.mean(dtype=float), reference - reference.mean(dtype=float)
    rest = noise - (noise @ reference) / (reference @ reference) * reference
    return rest * np.sqrt((reference @ reference) / (rest @ rest))


# --- waveforms ---


@settings(max_examples=25, deadline=None)
@given(decibels=st.floats(-30, 60), gain=st.floats(0.01, 100), offset=st.floats(-1, 1))
def test_si_sdr_is_the_known_ratio_at_any_level_and_offset(
    decibels: float, gain: float, offset: float
) -> None:
    rng = np.random.default_rng(0)
    reference = rng.standard_normal(4000)
    reference -= reference.mean()
    estimate = reference + 10 ** (-decibels / 20) * orthogonal(rng.standard_normal(4000), reference)
    assert si_sdr(gain * estimate + offset, reference - offset) == pytest.approx(decibels, abs=1e-6)


def test_snr_is_the_known_ratio_and_depends_on_the_level(speech: Signal, noise: Signal) -> None:
    reference = speech.astype(float) - speech.mean(dtype=float)
    assert snr(reference + 10**-0.5 * orthogonal(noise, reference), reference) == pytest.approx(10)
    assert snr(0.9 * reference, reference) == pytest.approx(20)
    assert snr(0 * reference, reference) == 0


def test_a_perfect_estimate_is_plus_infinity_and_an_orthogonal_one_minus_infinity() -> None:
    one, other = np.array([1.0, -1, 0, 0]), np.array([0, 0, 1.0, -1])
    assert snr(one, one) == si_sdr(one, one) == math.inf
    assert si_sdr(one, other) == -math.inf


@pytest.mark.parametrize(("decibels", "expected"), [(12, 12), (50, 35), (-25, -10)])
def test_segmental_snr_is_the_ratio_of_the_frames_within_its_limits(
    noise: Signal, decibels: float, expected: float
) -> None:
    estimate = noise.astype(float) * (1 + 10 ** (-decibels / 20))
    assert segmental_snr(estimate, noise, RATE) == pytest.approx(expected, abs=1e-6)


def test_segmental_snr_weights_quiet_and_loud_frames_equally(noise: Signal) -> None:
    reference = noise.astype(float)
    reference[: RATE * 3 // 2] *= 0.01
    error = np.where(np.arange(len(reference)) < RATE * 3 // 2, 1.0, 0.1)  # 0 dB, then 20 dB
    assert segmental_snr(reference * (1 + error), reference, RATE) == pytest.approx(10, abs=0.1)


@pytest.mark.parametrize("gain_db", [-6, 6])
def test_log_spectral_distance_of_a_gain_is_the_gain(noise: Signal, gain_db: float) -> None:
    assert log_spectral_distance(noise * 10 ** (gain_db / 20), noise, RATE) == pytest.approx(
        6, abs=0.05
    )


@pytest.mark.parametrize("level", [1e-12, 1, 1000])
def test_log_spectral_distance_ignores_a_common_level_and_is_0_for_the_reference(
    speech: Signal, noise: Signal, level: float
) -> None:
    reference, estimate = speech.astype(float), speech + noise.astype(float)
    assert log_spectral_distance(reference * level, reference * level, RATE) == 0
    expected = log_spectral_distance(estimate, reference, RATE)
    assert log_spectral_distance(estimate * level, reference * level, RATE) == pytest.approx(
        expected, rel=1e-4
    )


# --- Hu & Loizou ---


def frames(signal: Signal) -> Signal:
    """Windowed frames of 480 samples, 120 apart, without the last full one."""
    window = np.hanning(482)[1:-1]
    return np.stack(
        [signal[start : start + 480] * window for start in range(0, len(signal) - 480, 120)][
            : (len(signal) - 480) // 120
        ]
    )


def best(values: list[float]) -> float:
    return float(np.mean(sorted(values)[: round(0.95 * len(values))]))


def test_log_likelihood_ratio_solves_the_normal_equations(speech: Signal, noise: Signal) -> None:
    from scipy.linalg import solve_toeplitz, toeplitz

    def predictor(lags: Signal) -> Signal:
        return np.append(1, -solve_toeplitz(lags[:-1], lags[1:]))

    estimate, reference, ratios = (
        speech + noise.astype(float),
        speech + 1e-6 * noise.astype(float),
        [],
    )
    for processed, clean in zip(frames(estimate), frames(reference), strict=True):
        processed_lags, lags = (
            np.correlate(frame, frame, "full")[479 : 479 + 17] for frame in (processed, clean)
        )
        a, c, r = predictor(processed_lags), predictor(lags), toeplitz(lags)
        ratios.append(math.log((a @ r @ a) / (c @ r @ c)))
    assert log_likelihood_ratio(estimate, reference, RATE) == pytest.approx(best(ratios), rel=1e-6)


def test_weighted_spectral_slope_equals_klatts_sum_over_bands(
    speech: Signal, noise: Signal
) -> None:
    from audioae.evaluation.metrics.hu_loizou import BAND_CENTRES, BAND_WIDTHS

    def energies(frame: Signal) -> list[float]:
        power, found = np.abs(np.fft.fft(frame, 1024)) ** 2, []
        for centre, width in zip(BAND_CENTRES, BAND_WIDTHS, strict=True):
            weights = [
                70
                / width
                * math.exp(-11 * ((k - int(centre * 1024 / RATE)) / (width * 1024 / RATE)) ** 2)
                for k in range(512)
            ]
            total = sum(
                weight * value
                for weight, value in zip(weights, power, strict=False)
                if weight > math.exp(-30 / 4.606)
            )
            found.append(10 * math.log10(max(total, 1e-10)))
        return found

    def weight(energy: list[float], band: int) -> float:
        slope, at = np.diff(energy), band
        if slope[band] > 0:
            while at < 24 and slope[at] > 0:
                at += 1
            peak = energy[at - 1]
        else:
            while at >= 0 and slope[at] <= 0:
                at -= 1
            peak = energy[at + 1]
        return 20 / (20 + max(energy) - energy[band]) / (1 + peak - energy[band])

    estimate, reference, distances = (
        speech[8000:11000] + noise[:3000].astype(float),
        speech[8000:11000].astype(float),
        [],
    )
    for processed, clean in zip(
        map(energies, frames(estimate)), map(energies, frames(reference)), strict=True
    ):
        weights = np.array(
            [(weight(processed, band) + weight(clean, band)) / 2 for band in range(24)]
        )
        distances.append(
            float(weights @ (np.diff(processed) - np.diff(clean)) ** 2 / weights.sum())
        )
    assert weighted_spectral_slope(estimate, reference, RATE) == pytest.approx(
        best(distances), rel=1e-9
    )


@pytest.mark.parametrize("measure", [log_likelihood_ratio, weighted_spectral_slope])
def test_envelope_measures_are_0_for_the_reference_and_finite_for_digital_silence(
    measure: Metric, speech: Signal
) -> None:
    loud = np.where(np.abs(speech) > 1e-3, speech, 0)
    loud[8000:24000] = 0
    assert measure(loud, loud, RATE) == 0
    assert measure(0.5 * speech, speech, RATE) == pytest.approx(0, abs=0.01)
    assert math.isfinite(measure(speech, loud, RATE))
    assert math.isfinite(measure(loud, speech, RATE))


@pytest.mark.parametrize("rate", [16000, 48000, 192000])
@pytest.mark.parametrize(
    "shape",
    [
        np.ones_like,
        np.square,
        lambda t: np.sin(700 * t) + np.sin(900 * t),
        lambda t: np.isclose(t, 0.25),
    ],
)
def test_envelope_measures_are_finite_for_predictable_signals(
    shape: Callable[[Signal], Signal], rate: int
) -> None:
    signal = shape(np.arange(rate // 2) / rate).astype(float)
    other = np.random.default_rng(0).standard_normal(len(signal))
    for measure in (log_likelihood_ratio, weighted_spectral_slope):
        assert measure(signal, signal, rate) == 0
        assert 0 < measure(signal, other, rate) < 1e4
        assert 0 < measure(other, signal, rate) < 1e4


def test_frame_measures_do_not_depend_on_the_block_size(
    speech: Signal, noise: Signal, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = weighted_spectral_slope(speech + noise, speech, RATE)
    monkeypatch.setattr("audioae.evaluation.metrics.hu_loizou.FRAMES_AT_ONCE", 7)
    assert weighted_spectral_slope(speech + noise, speech, RATE) == pytest.approx(whole, rel=1e-9)


def test_composite_is_best_for_the_reference_and_falls_with_the_noise(
    speech: Signal, noise: Signal
) -> None:
    assert composite(speech, speech, RATE, pesq=4.64) == (5, 5, 5)
    little, much = (composite(speech + level * noise, speech, RATE, pesq=2) for level in (0.01, 1))
    assert all(1 <= lower < higher <= 5 for lower, higher in zip(much, little, strict=True))


@pytest.mark.parametrize("measure", [segmental_snr, log_likelihood_ratio, weighted_spectral_slope])
def test_frame_measures_need_one_frame_and_a_hop(measure: Metric, noise: Signal) -> None:
    assert math.isfinite(measure(noise[:600], noise[:600] * 0.5, RATE))
    with pytest.raises(ScoreError, match=r"0\.0375 s"):
        measure(noise[:599], noise[:599], RATE)


# --- perceptual ---


def test_pesq_and_stoi_are_best_for_the_reference_at_any_level(speech: Signal) -> None:
    pytest.importorskip("pesq")
    pytest.importorskip("pystoi")
    assert pesq_wb(0.5 * speech, speech, RATE) == pytest.approx(4.644, abs=1e-3)
    assert pesq_nb(speech, speech, RATE) == pytest.approx(4.549, abs=1e-3)
    assert stoi(0.5 * speech, speech, RATE) == pytest.approx(1, abs=1e-6)
    assert estoi(speech, speech, RATE) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("metric", [pesq_wb, pesq_nb, stoi, estoi])
def test_perceptual_metrics_fall_with_the_noise(
    metric: Metric, speech: Signal, noise: Signal
) -> None:
    pytest.importorskip("pesq")
    pytest.importorskip("pystoi")
    falling = [metric(speech + level * noise, speech, RATE) for level in (0, 0.1, 1)]
    assert falling == sorted(falling, reverse=True)
    assert falling[0] - falling[-1] > 0.05


@pytest.mark.parametrize(("metric", "rate"), [(pesq_wb, 48000), (pesq_nb, 44100), (stoi, 48000)])
def test_perceptual_metrics_take_any_rate(
    metric: Metric, rate: int, speech: Signal, noise: Signal
) -> None:
    pytest.importorskip("pesq")
    pytest.importorskip("pystoi")
    there = metric(resample(speech + noise, RATE, rate), resample(speech, RATE, rate), rate)
    assert there == pytest.approx(metric(speech + noise, speech, RATE), abs=0.03)


def test_pesq_raises_for_signals_that_it_cannot_score(speech: Signal) -> None:
    pytest.importorskip("pesq")
    with pytest.raises(ScoreError, match="1/4 of a second"):
        pesq_wb(speech[8000:11000], speech[8000:11000], RATE)
    with pytest.raises(ScoreError, match=r"got 8000 Hz.*pesq_nb"):
        pesq_wb(speech, speech, 8000)
    with pytest.raises(ScoreError, match="estimate is silent"):
        pesq_wb(0 * speech, speech, RATE)


def test_pesq_raises_for_more_utterances_than_its_package_supports() -> None:
    pytest.importorskip("pesq")
    burst = np.append(0.1 * np.random.default_rng(0).standard_normal(2400), np.zeros(2400)).astype(
        np.float32
    )  # 0.3 s on, 0.3 s off
    assert math.isfinite(pesq_nb(np.tile(burst, 40), np.tile(burst, 40), 8000))
    with pytest.raises(ScoreError, match="60"):
        pesq_nb(np.tile(burst, 60), np.tile(burst, 60), 8000)


def test_stoi_needs_enough_speech(speech: Signal) -> None:
    pytest.importorskip("pystoi")
    for samples in (100, 2000):
        with pytest.raises(ScoreError, match=r"0\.4 s"):
            stoi(speech[8000 : 8000 + samples], speech[8000 : 8000 + samples], RATE)


def test_dnsmos_is_higher_for_clean_speech(speech: Signal, noise: Signal) -> None:
    pytest.importorskip("speechmos.dnsmos", exc_type=ImportError)
    clean, noisy = (
        dnsmos(speech, RATE),
        dnsmos(3 * (speech + noise), RATE),
    )  # beyond full scale, too
    assert clean.bak > noisy.bak + 0.5
    assert clean.ovrl > noisy.ovrl + 0.3
    with pytest.raises(ScoreError, match="estimate is silent"):
        dnsmos(0 * speech, RATE)


# --- scores by name ---


def test_score_agrees_with_the_functions(speech: Signal, noise: Signal) -> None:
    pytest.importorskip("pesq")
    pytest.importorskip("pystoi")
    found = score(speech + noise, speech, RATE)
    assert tuple(found) == DEFAULT_METRICS
    expected = [pesq_wb(speech + noise, speech, RATE), stoi(speech + noise, speech, RATE)]
    assert [found["pesq_wb"].value, found["stoi"].value] == pytest.approx(expected)
    assert found["estoi"].value == pytest.approx(
        estoi(speech + noise, speech, RATE), abs=1e-6
    )  # pystoi adds a random eps
    assert found["si_sdr"].value == pytest.approx(si_sdr(speech + noise, speech))
    assert all(one.reason is None for one in found.values())


def test_composite_by_name_uses_wide_band_pesq(speech: Signal, noise: Signal) -> None:
    pytest.importorskip("pesq")
    estimate = speech + noise
    expected = composite(estimate, speech, RATE, pesq=pesq_wb(estimate, speech, RATE))
    found = score(estimate, speech, RATE, ["csig", "cbak", "covl"])
    assert [one.value for one in found.values()] == pytest.approx(list(expected))


def without_dnsmos() -> list[str]:
    """All metrics except those that load a network."""
    return [name for name in METRICS if not name.startswith("dnsmos")]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda x: (0 * x, x), "silent"),
        (lambda x: (x, 0 * x), "silent"),
        (lambda x: (np.where(x > 0.1, np.nan, x), x), "NaN"),
        (lambda x: (x[:0], x[:0]), "no samples"),
        (lambda x: (x[:1], x[:1]), ""),
        (lambda x: (x, x), "infinite"),
    ],
    ids=["silent estimate", "silent reference", "nan", "empty", "one sample", "equal"],
)
def test_a_metric_is_a_number_or_none_with_a_reason(
    spoil: Callable[[Signal], tuple[Signal, Signal]], reason: str, speech: Signal
) -> None:
    pytest.importorskip("pesq")
    pytest.importorskip("pystoi")
    found = score(*spoil(speech), RATE, without_dnsmos())
    assert all((one.value is None) != (one.reason is None) for one in found.values())
    assert all(one.value is None or math.isfinite(one.value) for one in found.values())
    assert reason in (found["si_sdr"].reason or "")
    assert found["si_sdr"].value is None


def test_different_lengths_are_an_error_not_a_reason(speech: Signal) -> None:
    with pytest.raises(ScoreError, match=r"\[5\].*\[6\]"):
        score(speech[:5], speech[:6], RATE)


def test_errors_for_unknown_metrics_suggest_a_known_one() -> None:
    with pytest.raises(SettingsError, match=r"'pesq_bw'.*'pesq_wb'"):
        check_metrics(["pesq_bw"])
    with pytest.raises(SettingsError, match="pesq_wb"):
        check_metrics([])
    assert check_metrics(["snr", "lsd", "snr"]) == ("snr", "lsd")


def test_a_missing_package_is_a_reason_in_score_and_an_error_in_require_packages(
    speech: Signal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pesq", None)
    found = score(speech, speech, RATE, ["pesq_wb", "lsd"])
    assert "pip install 'audioae[metrics]'" in (found["pesq_wb"].reason or "")
    assert found["lsd"].value == 0
    require_packages(["lsd", "snr"])
    with pytest.raises(DependencyError, match=r"pip install 'audioae\[metrics\]'"):
        require_packages(["lsd", "cbak"])


def test_importing_metrics_imports_no_optional_package() -> None:
    heavy = ["pesq", "pystoi", "speechmos", "librosa", "scipy", "torch"]
    program = (
        "import sys, audioae.evaluation.metrics; "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


# --- real recordings ---

# Scores of the noisy recording of three public pairs. The means over all 44 are 1.812 PESQ-WB,
# 0.914 STOI and 6.26 dB SI-SDR.
PUBLIC = {
    "p232_001": {
        "pesq_wb": 2.925,
        "stoi": 0.896,
        "estoi": 0.829,
        "si_sdr": 15.469,
        "csig": 4.284,
        "cbak": 3.261,
        "covl": 3.584,
    },
    "p232_005": {
        "pesq_wb": 1.332,
        "stoi": 0.882,
        "estoi": 0.726,
        "si_sdr": 1.855,
        "csig": 2.566,
        "cbak": 1.971,
        "covl": 1.897,
    },
    "p232_011": {
        "pesq_wb": 2.733,
        "stoi": 0.965,
        "estoi": 0.914,
        "si_sdr": 16.802,
        "csig": 4.106,
        "cbak": 3.427,
        "covl": 3.431,
    },
}


@pytest.mark.parametrize("name", PUBLIC)
def test_scores_of_public_pairs_stay_the_same(name: str, shared_data: Path) -> None:
    pytest.importorskip("pesq")
    pytest.importorskip("pystoi")
    folder = shared_data / "paired" / "voicebank-demand-p232"
    (noisy, rate), (clean, _) = (
        soundfile.read(folder / side / f"{name}.flac", dtype="float32")
        for side in ("noisy", "clean")
    )
    found = {metric: one.value for metric, one in score(noisy, clean, rate, PUBLIC[name]).items()}
    assert found == pytest.approx(PUBLIC[name], abs=2e-3)


# --- agreement with the packages called by hand, and with published figures ---


def rounded(signal: Signal) -> Signal:
    return np.rint(32768 * signal.astype(float)).clip(-32768, 32767)


def test_composite_in_the_int16_convention_is_that_of_rounded_samples(
    speech: Signal, noise: Signal
) -> None:
    pytest.importorskip("pesq")
    estimate = speech + 1e-3 * noise
    names = ["csig_int16", "cbak_int16", "covl_int16"]
    found = [one.value for one in score(estimate, speech, RATE, names).values()]
    pesq = pesq_wb(estimate, speech, RATE)
    expected = composite(rounded(estimate), rounded(speech), RATE, pesq=pesq)
    assert found == pytest.approx(list(expected), abs=1e-9)
    # A pause far below the last bit counts in the one convention, and not in the other.
    faint = speech.copy()
    faint[8000:24000] = 1e-7 * noise[8000:24000]
    silent = speech.copy()
    silent[8000:24000] = 0
    both = score(faint, silent, RATE, ["csig", "csig_int16"])
    assert both["csig_int16"].value > both["csig"].value + 0.05


def test_the_composite_agrees_with_the_published_noisy_row(shared_data: Path) -> None:
    """CSIG 3.35, CBAK 2.44, COVL 2.63 and PESQ 1.97 are the means over 824 files of the test set
    (Pascual et al. 2017). These 44 of them are noisier, PESQ 1.81, which is taken into account by
    the slope of CSIG over PESQ.
    """
    pytest.importorskip("pesq")
    folder, rows = shared_data / "paired" / "voicebank-demand-p232", []
    for path in sorted((folder / "noisy").glob("*.flac"))[::6]:
        noisy, clean = (
            soundfile.read(folder / side / path.name, dtype="float32")[0]
            for side in ("noisy", "clean")
        )
        found = score(noisy, clean, RATE, ["csig", "csig_int16", "pesq_wb"])
        rows.append([one.value for one in found.values()])
    as_float, as_int16, pesq = np.mean(rows, axis=0)
    # The files have 16 bits, so there is nothing to round.
    assert as_int16 == pytest.approx(as_float, abs=1e-6)
    assert as_int16 == pytest.approx(3.35 + 0.603 * (pesq - 1.97), abs=0.35)


def test_dnsmos_agrees_with_its_package_called_by_hand(speech: Signal, noise: Signal) -> None:
    package = pytest.importorskip("speechmos.dnsmos", exc_type=ImportError)
    estimate = (0.5 * (speech + 0.1 * noise)).astype(np.float32)
    by_hand = package.run(estimate, RATE)
    expected = [by_hand[f"{name}_mos"] for name in ("sig", "bak", "ovrl", "p808")]
    assert list(dnsmos(estimate, RATE)) == pytest.approx(expected, abs=1e-6)


def by_hand(estimate: Signal, clean: Signal, rate: int) -> dict[str, float]:
    """PESQ and STOI of `[channels, samples]` by their packages."""
    from pesq import pesq
    from pystoi import stoi as taal

    def mean(measure: Callable[[Signal, Signal], float]) -> float:
        return float(np.mean([measure(*pair) for pair in zip(clean, estimate, strict=True)]))

    def wide(reference: Signal, degraded: Signal) -> float:
        wide_band = (resample(signal, rate, RATE) for signal in (reference, degraded))
        return float(pesq(RATE, *wide_band, "wb"))

    return {
        "pesq_wb": mean(wide),
        "stoi": mean(lambda reference, degraded: taal(reference, degraded, rate)),
        "estoi": mean(lambda reference, degraded: taal(reference, degraded, rate, extended=True)),
    }


def test_scores_of_the_shipped_models_agree_with_pesq_and_pystoi_by_hand() -> None:
    pytest.importorskip("pesq")
    pytest.importorskip("pystoi")
    from audioae import DenoiseSettings, denoise, load_model
    from audioae.evaluation import evaluate, read_pairs
    from audioae.pretrained import list_denoisers

    pairs = read_pairs(Path(__file__).parents[1] / "samples" / "paired.csv")
    settings, names = DenoiseSettings(quality="fast"), [entry.name for entry in list_denoisers()]
    made: dict[tuple[str, int], Signal] = {}

    def system(name: str) -> Callable[[Signal, int], Signal]:
        engine = load_model(name)

        def enhance(noisy: Signal, rate: int) -> Signal:
            made[name, rate] = denoise(noisy, rate, model=engine, settings=settings)
            return made[name, rate]

        return enhance

    systems = {name: system(name) for name in names}
    rows = list(evaluate(pairs, systems, metrics=["pesq_wb", "stoi", "estoi"]))
    assert [(row.name, row.system) for row in rows] == [
        (pair.name, name) for pair in pairs for name in names
    ]
    for pair in pairs:
        clean, rate = soundfile.read(pair.clean, dtype="float32", always_2d=True)
        noisy, _ = soundfile.read(pair.noisy, dtype="float32", always_2d=True)
        of_noisy = by_hand(noisy.T, clean.T, rate)  # one for all systems
        for row in (row for row in rows if row.name == pair.name):
            expected = by_hand(made[row.system, rate], clean.T, rate)
            assert row.enhanced == pytest.approx(expected, abs=1e-6)
            assert row.noisy == pytest.approx(of_noisy, abs=1e-6)
