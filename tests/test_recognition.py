"""Word error rates: normalisation, recognisers as commands and as servers, and their failures."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pytest

from audioae.errors import DependencyError, ScoreError, SettingsError
from audioae.evaluation.recognition import Recogniser, Said, normalise, word_errors

pytest.importorskip("jiwer")

RATE = 16000
TONE = 0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE).astype(np.float32)[np.newaxis]

# A recogniser that says how loud and long the file is, and at what rate and in how many channels.
HEAR = """
import soundfile
def hear(path):
    audio, rate = soundfile.read(path, always_2d=True)
    peak = round(10 * float(abs(audio).max()))
    return f"peak {peak} rate {rate} channels {audio.shape[1]} samples {len(audio)}"
"""
EACH = HEAR + "import sys\nprint(hear(sys.argv[1]))\n"
SERVER = HEAR + "import sys\nfor line in sys.stdin:\n    print(hear(line.strip()), flush=True)\n"


def command(tmp_path: Path, program: str, *arguments: str) -> str:
    script = tmp_path / "recognise it.py"
    script.write_text(program, encoding="utf-8")
    return " ".join([f"'{sys.executable}'", f"'{script}'", *arguments])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Please call Stella.", "please call stella"),
        ("ZERO THREE FIVE ONE", "zero three five one"),
        ("It\u2019s well-known -- isn't it?", "its well known isnt it"),
        ("Über 20 %, ça_va", "über 20 ça va"),
        ("...", ""),
    ],
)
def test_texts_are_normalised(text: str, expected: str) -> None:
    assert normalise(text) == normalise(normalise(text)) == expected


@pytest.mark.parametrize(
    ("heard", "percent"),
    [
        ("one two three four", 0),
        ("One, two; THREE four!", 0),
        ("one too three four", 25),
        ("one three four", 25),
        ("one two and three four", 25),
        ("", 100),
        ("a b c d e f g h", 200),
    ],
)
def test_word_errors_are_substitutions_deletions_and_insertions(heard: str, percent: int) -> None:
    assert word_errors(heard, "one two three four") == (percent, 4)


def test_a_reference_without_words_has_no_error_rate() -> None:
    with pytest.raises(ScoreError, match="no words"):
        word_errors("hello", "?!")


@pytest.mark.parametrize(("program", "arguments"), [(EACH, ["{}"]), (SERVER, [])])
def test_a_recogniser_gets_16_khz_mono_files(
    program: str, arguments: list[str], tmp_path: Path
) -> None:
    stereo = np.concatenate([TONE, 0.2 * TONE])
    with Recogniser(command(tmp_path, program, *arguments), jobs=2) as recogniser:
        texts = [recogniser.submit(stereo, rate).result() for rate in (RATE, 8000, RATE)]
    assert texts[0] == texts[2] == "peak 3 rate 16000 channels 1 samples 16000"
    assert texts[1].endswith("channels 1 samples 32000")


@pytest.mark.parametrize("answer", ['{"text": " so it \\n is "}', '{"b": 0.0, "t": "so it is"}'])
def test_answers_in_json_are_understood(answer: str, tmp_path: Path) -> None:
    with Recogniser(command(tmp_path, f"print({answer!r})", "{}")) as recogniser:
        assert recogniser.submit(TONE, RATE).result() == "so it is"


@pytest.mark.parametrize("arguments", [["{}"], []])
def test_a_recogniser_that_fails_tells_its_exit_code_and_message(
    arguments: list[str], tmp_path: Path
) -> None:
    program = "import sys\nsys.stderr.write('no model\\n')\nsys.exit(7)\n"
    with (
        Recogniser(command(tmp_path, program, *arguments)) as recogniser,
        pytest.raises(ScoreError, match=r"7.*no model"),
    ):
        recogniser.submit(TONE, RATE).result()


def test_a_server_that_dies_is_started_again(tmp_path: Path) -> None:
    program = "import sys\nline = sys.stdin.readline()\nprint('once', flush=True)\n"
    with Recogniser(command(tmp_path, program)) as recogniser:
        assert recogniser.submit(TONE, RATE).result() == "once"
        time.sleep(0.5)
        answers = []
        for _ in range(2):  # the process may not be gone yet when it is asked again
            try:
                answers.append(recogniser.submit(TONE, RATE).result())
            except ScoreError:
                answers.append("gone")
        assert "once" in answers


@pytest.mark.parametrize("arguments", [["{}"], []])
def test_a_recogniser_that_hangs_is_ended(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audioae.evaluation.recognition.TIMEOUT_SECONDS", 0.5)
    started = time.monotonic()
    with (
        Recogniser(command(tmp_path, "import time\ntime.sleep(60)\n", *arguments)) as recogniser,
        pytest.raises(ScoreError, match=r"0\.5 s"),
    ):
        recogniser.submit(TONE, RATE).result()
    assert time.monotonic() - started < 30


def test_an_error_ends_running_recognisers_at_once(tmp_path: Path) -> None:
    started = time.monotonic()
    with (
        pytest.raises(KeyboardInterrupt),
        Recogniser(command(tmp_path, "import time\ntime.sleep(60)\n")) as recogniser,
    ):
        recogniser.submit(TONE, RATE)
        raise KeyboardInterrupt
    assert time.monotonic() - started < 30


def test_commands_that_cannot_be_are_errors() -> None:
    for text in ("", "say 'it"):
        with pytest.raises(SettingsError):
            Recogniser(text)
    for text in ("/nowhere/recognise {}", "/nowhere/recognise"):
        with Recogniser(text) as recogniser, pytest.raises(DependencyError, match="start"):
            recogniser.submit(TONE, RATE).result()


def scored(text: str | None, **heard: str | ScoreError | None) -> tuple[Said, dict, dict]:
    said = Said(text, heard)
    values: dict = {"clean": {}, "noisy": {}, "enhanced": {}}
    reasons: dict = {}
    said.score(values, reasons)
    return said, values, reasons


def test_the_reference_is_the_text_or_what_is_heard_in_the_clean_recording() -> None:
    said, values, reasons = scored("a b c d", clean="a b c", noisy="a b", enhanced="a b c d")
    assert [values[side]["wer"] for side in values] == [25, 50, 0]
    assert (said.words, reasons) == (4, {})
    said, values, reasons = scored(None, clean="a b c", noisy="a b d", enhanced="a b c")
    assert values["clean"] == {}
    assert values["noisy"]["wer"] == pytest.approx(100 / 3)
    assert (values["enhanced"]["wer"], said.words) == (0, 3)
    assert said.texts == {"reference": "a b c", "clean": "a b c", "noisy": "a b d"} | {
        "enhanced": "a b c"
    }


def test_a_failed_recognition_is_a_reason() -> None:
    failed = ScoreError("it crashed")
    _, values, reasons = scored("a b", clean="a b", noisy=failed, enhanced="a b")
    assert (values["noisy"]["wer"], values["enhanced"]["wer"]) == (None, 0)
    assert reasons == {"noisy.wer": "it crashed"}
    _, values, reasons = scored(None, clean=failed, noisy="a", enhanced="a")
    assert set(reasons) == {"noisy.wer", "enhanced.wer"}
    _, values, reasons = scored(None, clean=None, noisy="a", enhanced="a")
    assert all("no text" in reason for reason in reasons.values())
