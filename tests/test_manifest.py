"""Manifests come back as they were written, splits never share a source, and a shard that cannot be
trusted is an error.
"""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audioae.data.manifest import (
    Row,
    ShardReader,
    assign_splits,
    hours,
    read_manifest,
    write_manifest,
)
from audioae.errors import DataError, SettingsError

ROW = Row(
    "/audio/ä.wav",
    "corpus/anna",
    1.5,
    "train",
    "shards/speech-00000.i16",
    10,
    24000,
    "CC0",
    "corpus",
    "de",
    "",
    41.5,
    -3.25,
)
SECONDS = st.dictionaries(st.text(min_size=1, max_size=8), st.floats(0.1, 1000.0), max_size=30)


def test_manifest_comes_back_as_it_was_written(tmp_path: Path) -> None:
    rows = [
        ROW,
        replace(ROW, split="valid", quiet_to_loud_db=None, path='with "quotes"\nand a line break'),
    ]
    write_manifest(tmp_path / "a.jsonl", rows)
    assert read_manifest(tmp_path / "a.jsonl") == rows
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_manifest_ignores_keys_of_others_and_fills_in_what_may_be_absent(tmp_path: Path) -> None:
    short = {
        "path": "a",
        "source": "b",
        "seconds": 1,
        "split": "test",
        "shard": "c",
        "offset": 0,
        "samples": 16000,
        "mood": "good",
    }
    (tmp_path / "a.jsonl").write_text("\n" + json.dumps(short) + "\n")
    assert read_manifest(tmp_path / "a.jsonl") == [Row("a", "b", 1, "test", "c", 0, 16000)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 is not JSON"),
        ("[]", "line 2 has no 'path'"),
        ('{"path": "a"}', "line 2 has no 'source'"),
        (
            '{"path":"a","source":"b",'
            '"seconds":"1","split":"test","shard":"c","offset":0,"samples":1}',
            "line 2 has seconds '1'",
        ),
        (
            '{"path":"a","source":"b",'
            '"seconds":1,"split":"dev","shard":"c","offset":0,"samples":1}',
            "line 2 has split 'dev'",
        ),
        (
            '{"path":"a","source":"b",'
            '"seconds":1,"split":"test","shard":"c","offset":0.5,"samples":1}',
            "line 2 has offset 0.5",
        ),
    ],
)
def test_manifest_names_the_line_that_is_wrong(tmp_path: Path, line: str, message: str) -> None:
    write_manifest(tmp_path / "a.jsonl", [ROW])
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DataError, match=message):
        read_manifest(tmp_path / "a.jsonl")


def test_manifest_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read the manifest .*none\.jsonl: No such file"):
        read_manifest(tmp_path / "none.jsonl")


def test_hours_by_split() -> None:
    assert hours([replace(ROW, seconds=1800.0), replace(ROW, seconds=5400.0)]) == {
        "train": 2.0,
        "valid": 0.0,
        "test": 0.0,
    }


@given(SECONDS, st.floats(0, 0.45), st.floats(0, 0.45), st.integers(0, 5))
def test_every_source_gets_one_split_and_training_is_never_empty(
    seconds: dict[str, float], valid: float, test: float, seed: int
) -> None:
    splits = assign_splits(seconds, valid_share=valid, test_share=test, seed=seed)
    assert set(splits) == set(seconds)
    assert not seconds or "train" in splits.values()
    if len(seconds) >= 3:
        assert ("valid" in splits.values()) == (valid > 0)
        assert ("test" in splits.values()) == (test > 0)


@given(SECONDS, st.integers(0, 5))
def test_given_splits_stay(seconds: dict[str, float], seed: int) -> None:
    known = dict.fromkeys(sorted(seconds)[::2], "test")
    splits = assign_splits(seconds, given={**known, "elsewhere": "valid"}, seed=seed)
    assert {source: splits[source] for source in known} == known
    assert "elsewhere" not in splits


def test_shares_are_met_and_the_seed_decides_who_is_held_out() -> None:
    seconds = {f"s{n}": 60.0 for n in range(200)}
    draws = [
        assign_splits(seconds, valid_share=0.1, test_share=0.05, seed=seed) for seed in (0, 0, 1)
    ]
    for splits in draws:
        assert [list(splits.values()).count(split) for split in ("train", "valid", "test")] == [
            170,
            20,
            10,
        ]
    assert draws[0] == draws[1] != draws[2]


def test_shares_that_leave_nothing() -> None:
    with pytest.raises(SettingsError, match="leave nothing to train on"):
        assign_splits({}, valid_share=0.5, test_share=0.5)


@pytest.fixture
def shard(tmp_path: Path) -> ShardReader:
    (tmp_path / "shards").mkdir()
    np.arange(-1000, 1000, dtype="<i2").tofile(tmp_path / "shards/a.i16")
    return ShardReader(tmp_path)


def test_reader_gives_the_asked_stretch_at_full_scale_one(shard: ShardReader) -> None:
    row = replace(ROW, shard="shards/a.i16", offset=900, samples=1100)
    assert shard.view(row).dtype == np.int16
    piece = shard.read(row, 50, 100)
    assert piece.dtype == np.float32
    np.testing.assert_array_equal(piece * 32768, np.arange(-50, 50))
    assert shard.read(row, 1100, 0).shape == (0,)


def test_reader_leaves_its_maps_behind_when_it_is_sent(shard: ShardReader) -> None:
    row = replace(ROW, shard="shards/a.i16", offset=0, samples=2000)
    shard.read(row, 0, 10)
    sent = pickle.dumps(shard)
    assert len(sent) < 1000
    np.testing.assert_array_equal(pickle.loads(sent).read(row, 0, 2000), shard.read(row, 0, 2000))


@pytest.mark.parametrize(("start", "count"), [(-1, 5), (0, -1), (1995, 6)])
def test_reader_refuses_what_the_row_does_not_have(
    shard: ShardReader, start: int, count: int
) -> None:
    with pytest.raises(DataError, match="which has 2000"):
        shard.read(replace(ROW, shard="shards/a.i16", offset=0, samples=2000), start, count)


def test_missing_short_and_odd_shards_are_named(shard: ShardReader) -> None:
    with pytest.raises(DataError, match=r"cannot read the shard .*shards/none\.i16: No such file"):
        shard.read(replace(ROW, shard="shards/none.i16"), 0, 1)
    with pytest.raises(
        DataError, match=r"shards/a\.i16 holds 2000 samples, /audio/ä\.wav needs 10 to 24010"
    ):
        shard.read(replace(ROW, shard="shards/a.i16"), 0, 1)
    (shard.folder / "shards/odd.i16").write_bytes(b"abc")
    with pytest.raises(DataError, match=r"shards/odd\.i16 has 3 bytes"):
        shard.read(replace(ROW, shard="shards/odd.i16"), 0, 1)
