"""`audioae mix` writes pairs that repeat with their seed, have the ratio that their table says, and
share no voice with training.
"""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

pytest.importorskip("torch")

from audioae.cli import main
from audioae.data.manifest import read_manifest
from audioae.data.mixtures import parse_ratios
from audioae.errors import SettingsError
from audioae.evaluation import check_pair, read_pairs
from audioae.signal.mixing import active_rms


def mix(data: Path, out: Path, *more: str) -> Result:
    return CliRunner().invoke(
        main, ["mix", "--data", str(data), "--out", str(out), "--seconds", "1", *more]
    )


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "pairs.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def read(path: Path) -> np.ndarray:
    return soundfile.read(path, dtype="float32")[0]


@pytest.fixture(scope="module")
def grid(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven pairs of the valid split on a grid of three ratios."""
    folder = tmp_path_factory.mktemp("mix") / "pairs"
    result = mix(prepared, folder, "--pairs", "7", "--snr", "-5,0,5", "--seed", "3")
    assert result.exit_code == 0, result.output
    assert result.stdout == "" and "7 pairs, 0.1 min of valid" in result.stderr
    return folder


def test_every_pair_has_the_ratio_that_the_table_says(grid: Path) -> None:
    rows = table(grid)
    assert [float(row["snr_db"]) for row in rows] == [-5, 0, 5, -5, 0, 5, -5]
    for row in rows:
        noisy, clean = read(grid / row["noisy"]), read(grid / row["clean"])
        assert len(noisy) == len(clean) == 8000 and np.abs(noisy).max() < 0.99
        ratio = 20 * np.log10(active_rms(clean, 8000) / active_rms(noisy - clean, 8000))
        assert ratio == pytest.approx(float(row["snr_db"]), abs=0.15)  # 16 bits


def test_evaluate_reads_the_folder_and_the_table(grid: Path) -> None:
    by_folder, by_table = read_pairs(grid), read_pairs(grid / "pairs.csv")
    assert [pair.noisy for pair in by_folder] == [pair.noisy for pair in by_table]
    assert [pair.clean for pair in by_folder] == [pair.clean for pair in by_table]
    assert [pair.snr_db for pair in by_table] == [float(row["snr_db"]) for row in table(grid)]
    for pair in by_folder:
        assert check_pair(pair).subtype == "PCM_16"


def test_the_same_seed_gives_the_same_bytes_and_more_pairs_change_none(
    prepared: Path, grid: Path, tmp_path: Path
) -> None:
    for seed in ("3", "4"):
        assert (
            mix(
                prepared, tmp_path / seed, "--pairs", "8", "--snr", "-5,0,5", "--seed", seed, "-q"
            ).output
            == ""
        )
        files = [row[side] for row in table(grid) for side in ("noisy", "clean")]
        same = [
            (tmp_path / seed / file).read_bytes() == (grid / file).read_bytes() for file in files
        ]
        assert all(same) if seed == "3" else not any(same)


def test_voices_and_noises_are_of_the_split_alone(prepared: Path, grid: Path) -> None:
    for column, manifest in (("speaker", "speech"), ("noise_source", "noise")):
        rows = read_manifest(prepared / f"{manifest}.jsonl")
        sources = {source for row in table(grid) for source in row[column].split(" + ")}
        assert sources <= {row.source for row in rows if row.split == "valid"}
        assert not sources & {row.source for row in rows if row.split == "train"}


def test_a_range_is_filled_and_rooms_come_as_often_as_asked(prepared: Path, tmp_path: Path) -> None:
    assert (
        mix(
            prepared,
            tmp_path / "a",
            "--pairs",
            "30",
            "--snr",
            "-5:15",
            "--room",
            "0.5",
            "--format",
            "flac",
        ).exit_code
        == 0
    )
    rows = table(tmp_path / "a")
    ratios = [float(row["snr_db"]) for row in rows]
    assert -5 <= min(ratios) < 0 and 10 < max(ratios) <= 15
    assert 8 <= sum(bool(row["room"]) for row in rows) <= 22
    assert (
        rows[0]["noisy"] == "noisy/000.flac"
        and soundfile.info(tmp_path / "a" / "noisy" / "000.flac").subtype == "PCM_16"
    )


def test_silent_noise_is_drawn_again(prepared: Path, tmp_path: Path) -> None:
    """Half of the noise is silenced in its shard; no pair goes without, and with all of it silent
    there are none.
    """
    data = shutil.copytree(prepared, tmp_path / "data")
    rows = [row for row in read_manifest(data / "noise.jsonl") if row.split == "valid"]
    shard = np.memmap(data / rows[0].shard, "<i2", "r+")
    shard[rows[0].offset : rows[0].offset + rows[0].samples // 2] = 0
    assert (
        mix(data, tmp_path / "half", "--pairs", "12", "--seconds", "0.2", "--snr", "3").exit_code
        == 0
    )
    for row in table(tmp_path / "half"):
        noisy, clean = (
            read(tmp_path / "half" / row["noisy"]),
            read(tmp_path / "half" / row["clean"]),
        )
        assert active_rms(noisy - clean, 8000) > 0.3 * active_rms(clean, 8000)
    for row in rows:
        shard[row.offset : row.offset + row.samples] = 0
    result = mix(data, tmp_path / "none")
    assert (
        result.exit_code == 1 and "20 crops of noise in a row were digital silence" in result.stderr
    )


def test_nothing_is_overwritten(prepared: Path, grid: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in grid.rglob("*.*")}
    result = mix(prepared, grid, "--pairs", "1")
    assert result.exit_code == 1 and "exists and is not empty; name a new folder" in result.stderr
    assert {path: path.read_bytes() for path in grid.rglob("*.*")} == before
    (tmp_path / "file").touch()
    assert mix(prepared, tmp_path / "file").exit_code == 1
    assert mix(prepared, tmp_path / "file" / "below").exit_code == 1


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (("--snr", "loud"), 2, "expected a range such as -5:15"),
        (("--snr", "5:-5"), 2, "expected a range"),
        (("--split", "test"), 1, "no speech in its test split"),
        (("--pairs", "0"), 2, "0 is not in the range"),
    ],
)
def test_what_cannot_be_mixed_is_said_before_anything_is_written(
    prepared: Path, tmp_path: Path, more: tuple[str, ...], code: int, message: str
) -> None:
    result = mix(prepared, tmp_path / "out", *more)
    assert result.exit_code == code and message in result.stderr
    assert not (tmp_path / "out").exists()


def test_ratios_are_a_range_a_grid_or_one() -> None:
    assert parse_ratios("-5:15").is_range and parse_ratios("-5:15").values == (-5, 15)
    assert parse_ratios("-5, 0,2.5").values == (-5, 0, 2.5) and parse_ratios("7").values == (7,)
    rng = np.random.default_rng(0)
    assert [parse_ratios("1,2").draw(rng, number) for number in range(4)] == [1, 2, 1, 2]
    for wrong in ("", "1:2:3", "1,", "a:b", "nan"):
        with pytest.raises(SettingsError, match="signal-to-noise ratios"):
            parse_ratios(wrong)
