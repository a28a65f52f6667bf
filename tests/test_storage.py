"""Atomic writing: a file appears complete or not at all, and the earlier file survives errors."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from audioae import storage
from audioae.errors import OutputError
from audioae.storage import (
    AtomicFile,
    atomic_path,
    output_errors,
    write_json_lines,
    write_text,
)


def test_a_file_appears_only_when_the_block_succeeds(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
        assert temporary.parent == tmp_path
        assert not (tmp_path / "a.txt").exists()
    assert (tmp_path / "a.txt").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_keeps_the_earlier_file(tmp_path: Path, error: type[BaseException]) -> None:
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(error), atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("half of the new")
        raise error
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_full_disk_keeps_the_earlier_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_text(tmp_path / "a.txt", "old")

    def full(descriptor: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"a\.txt.*No space"), output_errors(tmp_path / "a.txt"):
        write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_temporary_file_of_a_killed_process_is_overwritten(tmp_path: Path) -> None:
    left = AtomicFile(tmp_path / "a.txt")
    left.path.write_text("left by a killed process, and longer")
    left._unlock()
    storage._writing.clear()
    write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.skipif(os.name == "nt", reason="no locks")
def test_two_writers_of_one_file_are_an_error(tmp_path: Path) -> None:
    with AtomicFile(tmp_path / "a.txt") as first:
        with pytest.raises(BlockingIOError):
            write_text(tmp_path / "a.txt", "second")
        first.path.write_text("first")
        first.commit()
    assert (tmp_path / "a.txt").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_symbolic_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link.txt").symlink_to(tmp_path / "real.txt")
    write_text(tmp_path / "link.txt", "text")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_text() == "text"


def test_text_is_utf8_with_unchanged_line_ends(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "ä\r\nb\n")
    assert (tmp_path / "a.txt").read_bytes() == b"\xc3\xa4\r\nb\n"
    write_json_lines(tmp_path / "a.jsonl", [{"name": "ä"}, {"name": None}])
    assert (tmp_path / "a.jsonl").read_bytes() == b'{"name": "\xc3\xa4"}\n{"name": null}\n'


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "none" / "a.txt"
    with pytest.raises(OutputError, match=r"none.a\.txt"), output_errors(path):
        write_text(path, "text")
