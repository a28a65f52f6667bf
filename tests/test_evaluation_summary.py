"""Means, bootstrap intervals, SNR bands, classes, and paired comparisons."""

from __future__ import annotations

import numpy as np
import pytest

from audioae.evaluation import Mean, PairRow, by_band, by_group, compare, summarise
from audioae.evaluation.summary import interval, snr_band


def row(
    name: str,
    noisy: float | None,
    enhanced: float | None,
    *,
    metric: str = "snr",
    words: int = 0,
    group: str = "",
    snr_db: float | None = None,
    error: str | None = None,
) -> PairRow:
    return PairRow(
        name,
        16000,
        1.0,
        {metric: noisy},
        {metric: enhanced},
        {},
        words=words,
        group=group,
        snr_db=snr_db,
        error=error,
    )


def test_the_interval_covers_the_true_mean_about_95_times_in_100() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        low, high = interval(rng.normal(3, 2, 40), np.ones(40))
        covered += low <= 3 <= high
        assert 0.6 < high - low < 2.2  # 2 * 1.96 * 2 / sqrt(40) is 1.24
    assert 180 <= covered <= 199


def test_the_interval_is_reproducible_and_does_not_depend_on_the_block_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = np.random.default_rng(0).normal(size=50)
    first = interval(values, np.ones(50))
    assert interval(values, np.ones(50)) == first
    monkeypatch.setattr("audioae.evaluation.summary.AT_ONCE", 1000)
    assert interval(values, np.ones(50)) == pytest.approx(first)
    assert interval(np.ones(7), np.ones(7)) == (1, 1)


def test_the_word_error_rate_of_a_set_counts_its_words() -> None:
    rows = [row("a", 0, 50, metric="wer", words=2), row("b", 50, 0, metric="wer", words=8)]
    means = summarise(rows)["wer"]
    assert means.noisy.value == pytest.approx(100 * 4 / 10)
    assert means.enhanced.value == pytest.approx(100 * 1 / 10)
    assert means.change.value == pytest.approx(-30)
    assert means.noisy.median == 25
    assert summarise([row("a", 1, 3), row("b", 3, 5)])["snr"].noisy.value == 2


def test_the_change_is_over_pairs_with_both_values() -> None:
    rows = [row("a", 1, 2), row("b", None, 9), row("c", 5, None), row("d", 3, 7)]
    change = summarise(rows)["snr"].change
    assert (change.value, change.count, change.median) == (2.5, 2, 2.5)
    assert change.low is not None and change.high is not None
    assert (change.low, change.high) == (1, 4)
    assert summarise([row("a", 1, 2)])["snr"].change == Mean(1, 1, 1)


def test_the_paired_difference_is_narrow_although_the_means_are_wide() -> None:
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 10, 60)
    first = [row(str(at), 0, value) for at, value in enumerate(hard)]
    second = [row(str(at), 0, value + 1 + rng.normal(0, 0.1)) for at, value in enumerate(hard)]
    second[3] = row("3", 0, None)
    compared = compare(first, second[::-1])["snr"]
    assert compared.difference.count == 59
    assert compared.difference.value == pytest.approx(1, abs=0.1)
    assert compared.difference.low is not None and compared.difference.low > 0.9
    assert compared.higher == 1
    wide = summarise(first)["snr"].enhanced
    assert wide.low is not None and wide.high is not None
    assert wide.high - wide.low > 4
    swapped = compare(second, first)["snr"]
    assert swapped.difference.value == pytest.approx(-compared.difference.value)
    assert swapped.higher == 0
    assert compare(first, first)["snr"].higher == 0.5
    assert compare(first, [row("other", 0, 1)]) == {}


@pytest.mark.parametrize(
    ("snr_db", "band"),
    [
        (-60, "below -5 dB"),
        (-5, "-5 to 0 dB"),
        (-0.1, "-5 to 0 dB"),
        (0, "0 to 5 dB"),
        (14.9, "10 to 15 dB"),
        (15, "from 15 dB"),
    ],
)
def test_bands_include_their_lower_end(snr_db: float, band: str) -> None:
    assert snr_band(snr_db) == band


def test_rows_are_split_by_snr_and_by_class_in_order() -> None:
    rows = [
        row("a", 1, 1, snr_db=12, group="rain"),
        row("b", 1, 1, snr_db=-9, group="fan"),
        row("c", 1, 1, snr_db=11),
        row("d", 1, 1, group="fan"),
        row("e", None, None, snr_db=3, error="cannot be read"),
    ]
    bands = {band: [one.name for one in found] for band, found in by_band(rows).items()}
    assert bands == {"below -5 dB": ["b"], "10 to 15 dB": ["c", "a"]}
    groups = {name: [one.name for one in found] for name, found in by_group(rows).items()}
    assert groups == {"fan": ["b", "d"], "rain": ["a"]}
    assert by_group([row("a", 1, 1)]) == {}
