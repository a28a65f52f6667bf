"""A pair depends on its seed and index alone, has the ratio and level that were drawn, and silence
in the recordings spoils none.
"""

from __future__ import annotations

import dataclasses
import json
import pickle
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tiny import RATE
from torch.utils.data import DataLoader

from audioae.data.augment import AugmentSettings
from audioae.data.augment.settings import PROBABILITIES
from audioae.data.manifest import Row, ShardReader, write_manifest
from audioae.data.mixtures import Corpus, DataSettings, Mixer, MixtureDataset, MixtureDraw, Pool
from audioae.errors import DataError, SettingsError
from audioae.signal.mixing import active_rms, rms

EVERYTHING: dict[str, Any] = {
    "easy": 0.2,
    "speech_free": 0.1,
    "second_noise": 0.5,
    "synthetic_noise": 0.4,
    "babble": 0.2,
    "reverb": 0.5,
    "eq": 0.5,
    "clipping": 0.3,
    "speed": 0.5,
    "band_limit": 0.3,
    "codec": 0.2,
    "packet_loss": 0.3,
    "silence": 0.3,
    "vary_noise": 0.4,
    "music": 0.1,
}


def data_of(seconds: float = 1.0, **augment: Any) -> DataSettings:
    """Settings with nothing drawn but the ratio and the level, except for what is asked."""
    return DataSettings(segment_seconds=seconds, augment=AugmentSettings.plain(**augment))


def mixtures(
    folder: Path, settings: DataSettings, *, split: str = "train", seed: int = 0, pairs: int = 100
) -> MixtureDataset:
    return MixtureDataset(Mixer(Corpus(folder, split, settings), settings), seed=seed, pairs=pairs)


def pairs_of(dataset: MixtureDataset, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    return [tuple(each.numpy() for each in dataset[index]) for index in range(count)]


def white(seconds: float, seed: int) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(
        np.float32
    )


def write_recordings(folder: Path, **recordings: Sequence[np.ndarray]) -> Path:
    """Prepared data of these float recordings, all of the train split, by kind."""
    (folder / "shards").mkdir(parents=True)
    (folder / "data.json").write_text(json.dumps({"sample_rate": RATE}))
    for kind, waves in recordings.items():
        shard, offsets = f"shards/{kind}.i16", np.cumsum([0, *map(len, waves)])
        (np.concatenate(waves) * 32768).astype("<i2").tofile(folder / shard)
        rows = [
            Row(
                f"{kind}{i}.wav",
                f"{kind}{i}",
                len(w) / RATE,
                "train",
                shard,
                int(offsets[i]),
                len(w),
            )
            for i, w in enumerate(waves)
        ]
        write_manifest(folder / f"{kind}.jsonl", rows)
    return folder


def decibels(ratio: float) -> float:
    return 20 * np.log10(ratio)


def test_pairs_repeat_with_seed_and_index(prepared: Path) -> None:
    settings = DataSettings(segment_seconds=0.5)
    once, again, other = (
        pairs_of(mixtures(prepared, settings, seed=seed), 8) for seed in (3, 3, 4)
    )
    for (noisy, clean), (same_noisy, same_clean), (other_noisy, _) in zip(
        once, again, other, strict=True
    ):
        assert (
            noisy.shape == clean.shape == (RATE // 2,) and noisy.dtype == clean.dtype == np.float32
        )
        assert np.isfinite(noisy).all() and np.isfinite(clean).all()
        np.testing.assert_array_equal(noisy, same_noisy)
        np.testing.assert_array_equal(clean, same_clean)
        assert np.abs(noisy - other_noisy).max() > 1e-3
    assert all(np.abs(a[0] - b[0]).max() > 1e-3 for a, b in pairwise(once))


@pytest.mark.filterwarnings(
    "ignore:This DataLoader will create", "ignore:.*fork:DeprecationWarning"
)
def test_pairs_are_the_same_whatever_the_number_of_workers(prepared: Path) -> None:
    dataset = mixtures(prepared, DataSettings(segment_seconds=0.25), pairs=12)
    alone, shared = (
        list(DataLoader(dataset, batch_size=3, num_workers=workers)) for workers in (0, 2)
    )
    assert len(alone) == len(shared) == 4
    for one, other in zip(alone, shared, strict=True):
        assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])


def test_a_data_set_can_be_sent_to_another_process(prepared: Path) -> None:
    dataset = mixtures(prepared, DataSettings(segment_seconds=0.5))
    expected = dataset[5][0]
    sent = pickle.dumps(dataset)
    assert len(sent) < 20_000  # rows, not samples
    assert torch.equal(pickle.loads(sent)[5][0], expected)


def test_a_draw_that_was_logged_renders_to_the_same_bits(prepared: Path) -> None:
    settings = data_of(0.5, **EVERYTHING)
    kinds, parts = set(), set()
    for seed in range(60):
        one, other = (Mixer(Corpus(prepared, "train", settings), settings) for _ in range(2))
        draw = one.draw_mixture(np.random.default_rng([5, seed]))
        again = MixtureDraw.from_dict(json.loads(json.dumps(draw.to_dict())))
        assert again == draw
        for rendered, repeated in zip(one.render(draw), other.render(again), strict=True):
            assert rendered.tobytes() == repeated.tobytes()
            assert (
                rendered.shape == (RATE // 2,)
                and rendered.dtype == np.float32
                and np.isfinite(rendered).all()
            )
        kinds.add(type(draw.noise).__name__)
        parts |= {field.name for field in dataclasses.fields(draw) if getattr(draw, field.name)}
    assert kinds == {
        "Recording",
        "Babble",
        "LikeRecording",
        "ColouredNoise",
        "Hum",
        "Clicks",
        "Fan",
        "Wind",
        "Melody",
    }
    # Everything was drawn at least once, but the band limit: all cut-offs lie above the Nyquist
    # frequency of this rate.
    assert parts == {field.name for field in dataclasses.fields(MixtureDraw)} - {"band_limit"}


@pytest.mark.parametrize(
    "wrong",
    [{}, {"is": "Nothing"}, {"is": "Level", "dbfs": -20.0}, {"is": "MixtureDraw", "samples": 3}],
)
def test_what_is_no_draw_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="no draw of a mixture"):
        MixtureDraw.from_dict(wrong)


def test_effects_that_are_not_asked_for_leave_the_others_as_they_were(prepared: Path) -> None:
    """Each later effect draws beside the stream of the others, so the same mixture comes with it
    and without.
    """
    mixers = [
        Mixer(Corpus(prepared, "train", data), data)
        for data in (data_of(0.5, eq=0.5), data_of(0.5, eq=0.5, packet_loss=1.0))
    ]
    for seed in range(10):
        plain, lossy = (mixer.draw_mixture(np.random.default_rng(seed)) for mixer in mixers)
        assert lossy.packet_loss and dataclasses.replace(lossy, packet_loss=None) == plain


def test_silence_stays_silent_in_both(prepared: Path) -> None:
    for noisy, clean in pairs_of(
        mixtures(prepared, data_of(1.0, silence=1.0, silence_seconds=(0.3, 0.4))), 8
    ):
        silent = np.flatnonzero(noisy == 0)
        assert len(silent) > 0.29 * RATE and not clean[silent].any() and rms(noisy) > 1e-3


def test_faster_speech_fills_its_segment(prepared: Path) -> None:
    for factor in (0.8, 1.25):
        for noisy, clean in pairs_of(
            mixtures(
                prepared, data_of(0.5, speed=1.0, speed_factor=(factor, factor), snr_db=(9.0, 9.0))
            ),
            4,
        ):
            assert len(clean) == RATE // 2
            assert decibels(
                active_rms(clean, RATE) / active_rms(noisy - clean, RATE)
            ) == pytest.approx(9, abs=0.02)


@pytest.mark.filterwarnings(
    "ignore:This DataLoader will create", "ignore:.*fork:DeprecationWarning"
)
def test_a_remixed_batch_has_the_same_speech_and_noises(prepared: Path) -> None:
    plain, remixed = (
        mixtures(prepared, data_of(0.25, remix=share), pairs=8) for share in (0.0, 1.0)
    )
    (noisy, clean), (mixed, target) = (
        next(iter(DataLoader(each, batch_size=8))) for each in (plain, remixed)
    )
    assert torch.equal(clean, target)
    distances = ((noisy - clean)[:, None] - (mixed - target)[None]).abs().amax(-1)
    order = distances.argmin(0)
    assert (
        sorted(order.tolist()) == list(range(8)) != order.tolist()
        and distances.min(0).values.max() < 1e-6
    )
    again = next(iter(DataLoader(remixed, batch_size=8, num_workers=1)))
    assert torch.equal(again[0], mixed)


def test_mixtures_have_the_ratio_and_level_that_were_asked(prepared: Path) -> None:
    for noisy, clean in pairs_of(
        mixtures(prepared, data_of(snr_db=(7.0, 7.0), level_dbfs=(-25.0, -25.0))), 10
    ):
        assert decibels(active_rms(clean, RATE) / active_rms(noisy - clean, RATE)) == pytest.approx(
            7, abs=0.02
        )
        assert decibels(rms(noisy)) == pytest.approx(-25, abs=0.01)


def test_ratios_and_levels_fill_their_ranges(prepared: Path) -> None:
    pairs = pairs_of(
        mixtures(prepared, data_of(0.5, snr_db=(-5.0, 15.0), level_dbfs=(-40.0, -12.0))), 60
    )
    ratios = [
        decibels(active_rms(clean, RATE) / active_rms(noisy - clean, RATE))
        for noisy, clean in pairs
    ]
    levels = [decibels(rms(noisy)) for noisy, _ in pairs]
    assert -5.1 < min(ratios) < -2 and 12 < max(ratios) < 15.1
    assert -40.1 < min(levels) < -36 and -16 < max(levels) < -11.9


def test_speech_free_pairs_are_noise_and_silence(prepared: Path) -> None:
    for noisy, clean in pairs_of(mixtures(prepared, data_of(speech_free=1.0)), 5):
        assert rms(noisy) > 1e-3 and not clean.any()


def test_half_of_the_easy_pairs_have_no_noise_and_the_others_little(prepared: Path) -> None:
    pairs = pairs_of(mixtures(prepared, data_of(0.25, easy=1.0)), 60)
    noises = [(noisy - clean, clean) for noisy, clean in pairs if not np.array_equal(noisy, clean)]
    assert 18 <= len(noises) <= 42
    ratios = [
        decibels(active_rms(clean, RATE) / active_rms(noise, RATE)) for noise, clean in noises
    ]
    assert min(ratios) > 19.9 and max(ratios) < 40.5


def test_everything_at_once_is_finite(prepared: Path) -> None:
    everything = data_of(
        0.5,
        **(
            dict.fromkeys(PROBABILITIES, 1.0)
            | {"speech_free": 0.1, "easy": 0.1, "babble": 0.5, "synthetic_noise": 0.5}
        ),
    )
    for noisy, clean in pairs_of(mixtures(prepared, everything), 40):
        assert np.isfinite(noisy).all() and np.isfinite(clean).all() and rms(noisy) > 0


def test_the_target_of_reverberant_speech_is_aligned_with_it(prepared: Path) -> None:
    settings = data_of(2.0, reverb=1.0, eq=1.0, snr_db=(60.0, 60.0))
    for noisy, clean in pairs_of(mixtures(prepared, settings), 10):
        size = 2 * len(noisy)
        correlation = np.fft.irfft(np.fft.rfft(noisy, size) * np.conj(np.fft.rfft(clean, size)))
        assert correlation.argmax() == 0 and correlation[0] > 0
        assert rms(noisy - clean) > 0.01 * rms(
            noisy
        )  # late reflections are what is to be taken away


def test_clipped_mixtures_leave_the_target_whole(prepared: Path) -> None:
    plain, clipped = (pairs_of(mixtures(prepared, data_of(clipping=p)), 5) for p in (0.0, 1.0))
    for (noisy, clean), (cut, target) in zip(plain, clipped, strict=True):
        np.testing.assert_array_equal(clean, target)
        assert 0.29 < np.abs(cut).max() / np.abs(noisy).max() < 0.91


@pytest.mark.parametrize("kind", ["second_noise", "synthetic_noise", "babble", "eq"])
def test_kinds_of_noise_keep_the_asked_ratio(prepared: Path, kind: str) -> None:
    """Speech passes the same equaliser in mixture and target, so the ratio holds for it too."""
    for noisy, clean in pairs_of(mixtures(prepared, data_of(snr_db=(0.0, 0.0), **{kind: 1.0})), 6):
        assert decibels(active_rms(clean, RATE) / active_rms(noisy - clean, RATE)) == pytest.approx(
            0, abs=0.02
        )


def test_silent_speech_is_drawn_again(tmp_path: Path) -> None:
    speech = np.concatenate(
        [np.zeros(8 * RATE, np.float32), white(1.0, 0), np.zeros(8 * RATE, np.float32)]
    )
    folder = write_recordings(tmp_path / "data", speech=[speech], noise=[white(3, 1)])
    for noisy, clean in pairs_of(mixtures(folder, data_of(3.0, snr_db=(5.0, 5.0))), 20):
        assert active_rms(clean, RATE) and np.isfinite(noisy).all()
        assert decibels(active_rms(clean, RATE) / active_rms(noisy - clean, RATE)) == pytest.approx(
            5, abs=0.02
        )


def test_sound_in_the_last_broken_frame_alone_is_silence(tmp_path: Path) -> None:
    """20 ms frames judge the level; a crop whose only sound lies behind the last whole one has
    none.
    """
    speech = np.zeros(RATE + 80, np.float32)
    speech[-40:] = 0.5
    folder = write_recordings(
        tmp_path / "data", speech=[speech, white(1.01, 0)], noise=[speech, white(1.01, 1)]
    )
    for noisy, clean in pairs_of(mixtures(folder, data_of(1.01, second_noise=0.5, eq=0.5)), 40):
        assert np.isfinite(noisy).all() and active_rms(clean, RATE)


def test_nothing_but_silence_is_an_error(tmp_path: Path) -> None:
    folder = write_recordings(
        tmp_path / "data", speech=[np.zeros(3 * RATE, np.float32)], noise=[white(3, 1)]
    )
    with pytest.raises(DataError, match="20 crops in a row were digital silence"):
        mixtures(folder, data_of())[0]


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"second_noise": 1.0},
        {"synthetic_noise": 0.5, "second_noise": 0.5},
        {"eq": 1.0},
        {"clipping": 1.0},
    ],
)
def test_silent_noise_counts_as_no_noise(tmp_path: Path, more: dict[str, float]) -> None:
    folder = write_recordings(
        tmp_path / "data", speech=[white(3, 0)], noise=[np.zeros(3 * RATE, np.float32)]
    )
    silent = 0
    for noisy, clean in pairs_of(mixtures(folder, data_of(0.5, **more)), 12):
        assert np.isfinite(noisy).all()
        silent += np.array_equal(noisy, clean)
    if "clipping" not in more:
        assert (
            silent == 12 if "synthetic_noise" not in more else 0 < silent < 12
        )  # half of the synthetic noise is drawn, not recorded


def test_speech_free_pairs_of_silent_noise_are_silent(tmp_path: Path) -> None:
    folder = write_recordings(
        tmp_path / "data", speech=[white(3, 0)], noise=[np.zeros(3 * RATE, np.float32)]
    )
    for noisy, clean in pairs_of(mixtures(folder, data_of(speech_free=1.0)), 3):
        assert not noisy.any() and not clean.any()


def test_a_second_noise_stands_in_for_a_silent_first(tmp_path: Path) -> None:
    """Half of the noise is silent: mixtures have no noise, or noise at the given ratio."""
    folder = write_recordings(
        tmp_path / "data", speech=[white(3, 0)], noise=[np.zeros(2 * RATE, np.float32), white(2, 1)]
    )
    pairs = pairs_of(mixtures(folder, data_of(0.5, second_noise=1.0, snr_db=(3.0, 3.0))), 40)
    noises = [(noisy - clean, clean) for noisy, clean in pairs if not np.array_equal(noisy, clean)]
    assert 25 <= len(noises) < 40  # three in four
    for noise, clean in noises:
        assert decibels(active_rms(clean, RATE) / active_rms(noise, RATE)) == pytest.approx(
            3, abs=0.02
        )


def pool(folder: Path, kind: str = "speech") -> Pool:
    corpus = Corpus(folder, "train", DataSettings())
    return corpus.speech if kind == "speech" else corpus.noise


def test_a_crop_is_a_stretch_of_one_recording(tmp_path: Path) -> None:
    recording = white(2, 0)
    drawn = pool(write_recordings(tmp_path / "data", speech=[recording], noise=[white(1, 1)]))
    starts = set()
    for seed in range(20):
        crop = drawn.read(drawn.draw_crop(np.random.default_rng(seed), RATE // 2))
        windows = np.lib.stride_tricks.sliding_window_view(recording, 16)
        start = int((windows @ crop[:16] / np.linalg.norm(windows, axis=-1)).argmax())
        starts.add(start)
        piece = recording[start : start + len(crop)]
        np.testing.assert_allclose(crop, piece * 0.05 / rms(piece), atol=1e-4)
    assert len(starts) > 10 and max(starts) <= len(recording) - RATE // 2


def test_short_recordings_follow_each_other(tmp_path: Path) -> None:
    words = [np.full(RATE // 10, level, np.float32) for level in (0.1, -0.2, 0.3)]
    drawn = pool(write_recordings(tmp_path / "data", speech=words, noise=[white(1, 1)]))
    crop = drawn.read(drawn.draw_crop(np.random.default_rng(0), RATE))
    assert len(crop) == RATE and set(np.round(np.unique(crop), 4)) == {
        np.float32(v) for v in (-0.05, 0.0, 0.05)
    }
    changes = np.flatnonzero(np.diff(crop != 0))
    assert len(np.flatnonzero(np.diff(crop))) >= 6 and (np.diff(changes) <= RATE // 10).any()
    assert np.abs(crop).astype(bool).mean() > 0.6  # pauses are half a recording at most


def test_recordings_are_drawn_by_their_length_up_to_a_limit(tmp_path: Path) -> None:
    noise = [white(1, 0), white(2, 1), white(12, 2)]
    folder = write_recordings(tmp_path / "data", speech=noise, noise=noise)
    corpus = Corpus(folder, "train", DataSettings(max_noise_weight_seconds=3.0))
    rng = np.random.default_rng(0)
    for drawn, shares in (
        (corpus.speech, (1 / 15, 2 / 15, 12 / 15)),
        (corpus.noise, (1 / 6, 2 / 6, 3 / 6)),
    ):
        counts = Counter(drawn.draw(rng) for _ in range(3000))
        assert [counts[index] / 3000 for index in range(3)] == pytest.approx(list(shares), abs=0.03)
    assert corpus.hours == pytest.approx((15 / 3600, 15 / 3600))


def test_noisy_speech_is_left_out_when_it_is_known(tmp_path: Path) -> None:
    folder = write_recordings(
        tmp_path / "data", speech=[white(1, seed) for seed in range(4)], noise=[white(1, 9)]
    )
    rows = [Row(**json.loads(line)) for line in (folder / "speech.jsonl").read_text().splitlines()]
    known = [
        dataclasses.replace(row, quiet_to_loud_db=value)
        for row, value in zip(rows, (None, 0.0, 20.0, 40.0), strict=True)
    ]
    write_manifest(folder / "speech.jsonl", known)
    kept = lambda least: [
        row.quiet_to_loud_db
        for row in Corpus(folder, "train", DataSettings(min_quiet_to_loud_db=least)).speech.rows
    ]
    assert kept(0.0) == [None, 0.0, 20.0, 40.0]
    assert kept(20.0) == [None, 20.0, 40.0]


def test_splits_are_kept_apart(prepared: Path) -> None:
    train, valid = (Corpus(prepared, split, DataSettings()) for split in ("train", "valid"))
    for one, other in ((train.speech, valid.speech), (train.noise, valid.noise)):
        assert not {row.source for row in one.rows} & {row.source for row in other.rows}
    assert len(train.rooms) == len(valid.rooms) == 1  # the only room there is


def test_measured_rooms_are_used(prepared: Path) -> None:
    mixer = Mixer(Corpus(prepared, "train", DataSettings()), DataSettings())
    kinds = Counter(
        type(mixer.draw_room(np.random.default_rng(seed))).__name__ for seed in range(80)
    )
    assert (
        25 <= kinds["MeasuredRoom"] <= 55 and kinds["ImageRoom"] > 8 and kinds["DecayingRoom"] > 8
    )
    assert len(mixer.corpus.room(0)) == RATE // 2  # the hall of 0.5 s


def test_data_that_is_not_there_is_named(prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"gone is no prepared data .*; make it with: audioae prepare"
    ):
        Corpus(tmp_path / "gone", "train", DataSettings())
    with pytest.raises(DataError, match="no speech in its test split"):
        Corpus(prepared, "test", DataSettings())
    (tmp_path / "data.json").write_text("{broken")
    with pytest.raises(DataError, match="is no prepared data"):
        Corpus(tmp_path, "train", DataSettings())
    folder = write_recordings(tmp_path / "quiet", speech=[white(1, 0)])
    with pytest.raises(DataError, match="no noise in its train split"):
        Corpus(folder, "train", DataSettings())
    with pytest.raises(SettingsError, match="segment_seconds is 0"):
        DataSettings(segment_seconds=0)


def test_a_shard_that_was_cut_short_is_named(tmp_path: Path) -> None:
    folder = write_recordings(tmp_path / "data", speech=[white(2, 0)], noise=[white(2, 1)])
    (folder / "shards" / "noise.i16").write_bytes(b"\0" * 100)
    with pytest.raises(DataError, match=r"noise\.i16 holds 50 samples"):
        mixtures(folder, data_of())[0]
    assert ShardReader(folder).read(pool(folder).rows[0], 0, 10).shape == (
        10,
    )  # the other one is whole
