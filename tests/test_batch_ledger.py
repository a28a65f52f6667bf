"""The ledger knows which outputs are complete, which were started, and what has changed since."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from audioae.denoising.batch import Ledger
from audioae.errors import OutputError


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    src, dst = tmp_path / "in.wav", tmp_path / "out" / "in.wav"
    dst.parent.mkdir()
    src.write_bytes(b"noisy")
    return src, dst


def finished(pair: tuple[Path, Path], recipe: str = "r") -> None:
    src, dst = pair
    with Ledger(dst.parent, recipe) as ledger:
        ledger.begin(src, dst)
        dst.write_bytes(b"clean")
        ledger.end(src, dst)


def state(pair: tuple[Path, Path], recipe: str = "r") -> str:
    return Ledger(pair[1].parent, recipe).state(*pair)


def test_new_begun_done(pair: tuple[Path, Path]) -> None:
    assert state(pair) == "new"
    with Ledger(pair[1].parent, "r") as ledger:
        ledger.begin(*pair)
        assert state(pair) == "begun"
    finished(pair)
    assert state(pair) == "done"


def test_a_failed_file_is_new(pair: tuple[Path, Path]) -> None:
    with Ledger(pair[1].parent, "r") as ledger:
        ledger.begin(*pair)
        ledger.end(*pair, error="damaged")
    assert state(pair) == "new"


def test_another_input_recipe_or_output_is_new(pair: tuple[Path, Path]) -> None:
    finished(pair)
    assert state(pair, "other") == "new"
    os.utime(pair[1], ns=(1, 1))
    assert state(pair) == "new"
    finished(pair)
    pair[0].write_bytes(b"another")
    assert state(pair) == "new"
    finished(pair)
    pair[1].unlink()
    assert state(pair) == "new"


def test_a_moved_output_folder_is_still_done(pair: tuple[Path, Path], tmp_path: Path) -> None:
    finished(pair)
    pair[1].parent.rename(tmp_path / "moved")
    assert state((pair[0], tmp_path / "moved" / "in.wav")) == "done"


@pytest.mark.parametrize("kept", range(1, 400, 13))
def test_an_incomplete_line_loses_nothing_else(pair: tuple[Path, Path], kept: int) -> None:
    finished(pair)
    path = pair[1].parent / ".audioae-ledger.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + whole.splitlines(keepends=True)[0][:kept].rstrip(b"\n"))
    if kept < len(whole.splitlines()[0]):
        assert state(pair) == "done"
    finished(pair)
    assert state(pair) == "done"


def test_two_runs_do_not_write_into_one_folder(pair: tuple[Path, Path]) -> None:
    pytest.importorskip("fcntl")
    with (
        Ledger(pair[1].parent, "r"),
        pytest.raises(OutputError, match="another run"),
        Ledger(pair[1].parent, "r"),
    ):
        pass


def test_a_run_that_did_nothing_leaves_no_ledger(pair: tuple[Path, Path]) -> None:
    with Ledger(pair[1].parent, "r"):
        pass
    assert list(pair[1].parent.iterdir()) == []
