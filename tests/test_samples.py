"""The clips in samples/ agree with their tables."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import soundfile


def rows(table: Path) -> list[dict[str, str]]:
    with table.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", ["speech.csv", "noise.csv"])
def test_rows_and_clips_correspond(samples: Path, name: str) -> None:
    table = rows(samples / name)
    for row in table:
        clip = soundfile.info(samples / row["path"])
        assert (clip.samplerate, clip.channels) == (16000, 1)
        assert clip.duration == pytest.approx(float(row["seconds"]), abs=1e-3)
    assert sorted(row["path"] for row in table) == sorted(
        f"{name[:-4]}/{path.name}" for path in (samples / name[:-4]).iterdir()
    )
    assert {row["split"] for row in table} == {"train", "valid"}


def test_both_files_of_a_pair_have_the_same_format(samples: Path) -> None:
    for row in rows(samples / "paired.csv"):
        noisy, clean = (soundfile.info(samples / row[side]) for side in ("noisy", "clean"))
        for field in ("samplerate", "frames", "channels", "subtype"):
            assert getattr(noisy, field) == getattr(clean, field)
        assert 4 <= noisy.duration <= 8


def test_all_clips_together_are_small(samples: Path) -> None:
    assert sum(path.stat().st_size for path in samples.rglob("*") if path.is_file()) < 3e6
