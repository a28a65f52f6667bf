"""Progress goes to stderr in the form asked for, and never to stdout."""

from __future__ import annotations

import json

import pytest

from audioae.cli import progress
from audioae.cli.progress import show_progress


def test_auto_shows_nothing_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with show_progress("auto", "in.wav", total=10, unit="s") as advance:
        advance(10, loss=1)
    assert capsys.readouterr() == ("", "")


def test_long_work_prints_a_line_after_half_a_minute_and_every_three(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [50.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with show_progress("auto", "mine", total=2000, unit="steps", is_long=True) as advance:
        for _ in range(30):
            advance(10, loss="0.5", left="about 2 h")
            now[0] += 10
    notes = ", loss 0.5, left about 2 h"
    assert capsys.readouterr() == (
        "",
        f"mine: 40/2,000 steps{notes}\nmine: 220/2,000 steps{notes}\n",
    )


def test_a_bar_shows_no_estimate_if_the_notes_have_one(capsys: pytest.CaptureFixture[str]) -> None:
    for knows_end, times in ((False, 2), (True, 1)):
        with show_progress("bar", "mine", total=10, unit="steps", knows_end=knows_end) as advance:
            advance(10)
        last = next(
            line for line in reversed(capsys.readouterr().err.splitlines()) if "10/10" in line
        )
        assert last.count("0:00:00") == times


def test_a_bar_shows_label_amount_unit_and_notes_on_stderr(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with show_progress("bar", "[in].wav", total=10, unit="s") as advance:
        advance(4, loss="0.5[dB]")
        advance(6)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert all(text in shown.err for text in ("[in].wav", "10/10 s", "loss 0.5[dB]"))


def test_a_bar_needs_no_total(capsys: pytest.CaptureFixture[str]) -> None:
    with show_progress("bar", "stdin", total=None, unit="s") as advance:
        advance(3)
    assert "3 s" in capsys.readouterr().err


def test_json_lines_have_start_progress_and_done(capsys: pytest.CaptureFixture[str]) -> None:
    with show_progress("json", "in.wav", total=10, unit="s") as advance:
        advance(4, loss=0.5)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"] for line in lines] == ["start", "progress", "done"]
    assert lines[1] == {
        "event": "progress",
        "label": "in.wav",
        "done": 4,
        "total": 10,
        "unit": "s",
        "loss": 0.5,
    }


def test_json_progress_begins_at_once_and_keeps_its_interval(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [50.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with show_progress("json", "in.wav", total=10, unit="s") as advance:
        for _ in range(10):
            advance(1)
            now[0] += 0.2
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["done"] for line in lines if line["event"] == "progress"] == [1, 4, 7, 10]


def test_json_lines_end_with_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError), show_progress("json", "in.wav", total=None, unit="files"):
        raise ValueError("cut short")
    last = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert (last["event"], last["error"]) == ("error", "cut short")
