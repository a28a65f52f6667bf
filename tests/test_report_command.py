"""`audioae report` and `audioae denoise --report`: what the pages hold, folders with an index, odd
recordings, and errors that leave every file as it was.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from fake_models import write_half_model

from audioae.cli import main
from audioae.signal.loudness import Meter
from audioae.web import Provenance, match_folders, write_folder_report, write_report
from audioae.web.columns import Peaks, Spectrogram, mel, mel_bands
from audioae.web.encoding import Parts, choose_rates, palette, png
from audioae.web.folder import page_path
from audioae.web.page import script_json, shown
from audioae.web.pairing import Pair, find_delay, mix_down
from audioae.web.report import match_loudness, read_report

RATE = 16000


@pytest.fixture(scope="session")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a gain of -6 dB."""
    return write_half_model(tmp_path_factory.mktemp("model") / "half.onnx")


@pytest.fixture
def folder(tmp_path: Path, half: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with a second of noise and its half, and `half` as the default model."""
    save(tmp_path / "in.wav", noise(1.0))
    save(tmp_path / "out.wav", 0.5 * noise(1.0))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("audioae.pretrained.default_model", lambda: str(half))
    yield tmp_path


def noise(seconds: float, rate: int = RATE, channels: int = 1) -> np.ndarray:
    """`[samples, channels]`."""
    return np.random.default_rng(0).normal(0, 0.1, (round(seconds * rate), channels))


def save(path: Path, samples: np.ndarray, rate: int = RATE, subtype: str = "PCM_16") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), prog_name="audioae")


def report(*arguments: str) -> dict[str, Any]:
    """The JSON of a report that succeeds."""
    ended = run("report", *arguments, "--json", "-q")
    assert ended.exit_code == 0, ended.output
    return json.loads(ended.stdout)


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def player(page: Path) -> dict[str, Any]:
    """The description of the tracks in a page."""
    text = page.read_text(encoding="utf-8")
    return json.loads(re.search(r'id="player-description">(.*?)</script>', text)[1])


def audio(page: Path, track: int) -> np.ndarray:
    """The audio of a track in a page, without leads: `[samples, channels]`."""
    text, parts = page.read_text(encoding="utf-8"), []
    for part in player(page)["tracks"][track]["parts"]:
        held = re.search(rf'id="{part["src"][1:]}">(.*?)</script>', text)[1]
        samples, rate = soundfile.read(io.BytesIO(base64.b64decode(held)), always_2d=True)
        start = round(part["lead"] * rate)
        parts.append(samples[start : start + round(part["seconds"] * rate)])
    return np.concatenate(parts)


def pixels(uri: str) -> np.ndarray:
    """The palette indices of a PNG image, `[height, width]`."""
    data = base64.b64decode(uri.partition(",")[2])
    width, height = struct.unpack(">II", data[16:24])
    start = data.index(b"IDAT") + 4
    length = struct.unpack(">I", data[start - 8 : start - 4])[0]
    rows = np.frombuffer(zlib.decompress(data[start : start + length]), np.uint8)
    return rows.reshape(height, width + 1)[:, 1:]


# --- One page


def test_a_page_has_tracks_numbers_and_nothing_from_outside(folder: Path) -> None:
    values = report("in.wav", "out.wav", "-o", "page.html")
    assert values["status"] == "done" and values["path"] == "page.html"
    assert values["seconds"] == 1 and values["num_bytes"] == (folder / "page.html").stat().st_size
    levels = {track["name"]: track["rms_dbfs"] for track in values["tracks"]}
    assert levels["before"] - levels["after"] == pytest.approx(6.02, abs=0.05)
    assert levels["removed"] == pytest.approx(levels["after"], abs=0.05)
    verdict = values["verdict"]
    assert verdict["mean_attenuation_db"] == pytest.approx(6.02, abs=0.05)
    assert verdict["max_attenuation_db"] == pytest.approx(6.02, abs=0.3)
    assert verdict["input_snr_db"] == pytest.approx(0, abs=0.1)
    page = (folder / "page.html").read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=\"?(https?:)?//", page)
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")
    assert "default-src 'none'" in page
    assert [each["id"] for each in player(folder / "page.html")["tracks"]] == [
        "before",
        "after",
        "removed",
    ]


def test_the_audio_is_that_of_the_recordings(folder: Path) -> None:
    report("in.wav", "out.wav", "-o", "page.html")
    before, after, removed = (audio(folder / "page.html", number) for number in range(3))
    noisy = noise(1.0)
    assert before.shape == noisy.shape
    for found, expected in ((before, noisy), (after, 0.5 * noisy), (removed, 0.5 * noisy)):
        error = 10 * np.log10(np.mean(expected**2) / np.mean((found - expected) ** 2))
        assert error > 6  # white noise is the hardest there is for a codec


def test_pictures_show_what_is_there(folder: Path) -> None:
    """A tone of 1 kHz in the second half."""
    time = np.arange(2 * RATE) / RATE
    tone = 0.25 * np.sin(2 * np.pi * 1000 * time) * (time >= 1)
    save(folder / "tone.wav", tone)
    report("tone.wav", "-o", "tone.html")
    description = player(folder / "tone.html")
    (track,) = description["tracks"]
    peaks = np.frombuffer(base64.b64decode(track["peaks"]["data"]), np.int8).reshape(-1, 2)
    assert len(peaks) * track["peaks"]["seconds"] == pytest.approx(2, rel=0.01)
    assert np.abs(peaks[:990]).max() == 0
    assert peaks[1010:].max() == 32 and peaks[1010:].min() == -32  # 0.25 * 127
    levels = np.frombuffer(base64.b64decode(track["levels"]), "<i2") / 10
    assert levels[0] == -120 and levels[-10] == pytest.approx(-15.05, abs=0.2)
    image = np.concatenate([pixels(each["src"]) for each in track["spectrogram"]["tiles"]], axis=1)
    quiet, loud = image[:, : image.shape[1] // 2 - 10], image[:, image.shape[1] // 2 + 10 : -10]
    assert quiet.max() == 0
    row = len(image) - 1 - loud.mean(axis=1).argmax()
    hertz = 700 * (10 ** ((row + 1) / (len(image) + 1) * float(mel(RATE / 2)) / 2595) - 1)
    assert hertz == pytest.approx(1000, rel=0.03)


def test_the_default_name_is_that_of_the_last_recording(folder: Path) -> None:
    report("in.wav", "out.wav")
    report("in.wav")
    assert (folder / "out.wav.html").is_file() and (folder / "in.wav.html").is_file()


def test_a_report_is_read_back(folder: Path) -> None:
    written = write_report("page.html", "in.wav", "out.wav")
    assert read_report(Path("page.html")) == written
    assert read_report(Path("in.wav")) is None


def test_the_record_beside_an_output_is_shown_while_it_is_true(folder: Path) -> None:
    assert run("denoise", "in.wav", "made.wav", "--record", "--strength", "0.5").exit_code == 0
    report("in.wav", "made.wav", "-o", "page.html")
    record = json.loads((folder / "made.wav.audioae.json").read_text())
    page = (folder / "page.html").read_text()
    assert record["models"][0]["sha256"] in page and "--record" not in page
    save(folder / "made.wav", noise(1.0))
    report("in.wav", "made.wav", "-o", "changed.html")
    page = (folder / "changed.html").read_text()
    assert record["models"][0]["sha256"] not in page and "--record" in page


@pytest.mark.parametrize("record", ["[]", "{", '{"output": 3}', "\udcff", "[" * 9999])
def test_a_damaged_record_is_left_out(folder: Path, record: str) -> None:
    path = folder / "out.wav.audioae.json"
    path.write_bytes(record.encode("utf-8", "surrogateescape"))
    assert report("in.wav", "out.wav", "-o", "page.html")["status"] == "done"


# --- Recordings of all kinds


def test_lengths_that_differ_are_filled_with_silence(folder: Path) -> None:
    save(folder / "short.wav", noise(1.0)[: RATE // 2])
    values = report("in.wav", "short.wav", "-o", "page.html")
    assert values["seconds"] == 1 and values["num_samples"] == RATE
    assert [len(audio(folder / "page.html", number)) for number in range(3)] == [RATE] * 3
    assert np.abs(audio(folder / "page.html", 1)[-4000:]).max() < 0.01
    assert "differ in length" in (folder / "page.html").read_text()


@pytest.mark.parametrize("shift", [-500, 40, 3000])
@pytest.mark.parametrize("rate", [RATE, 44100])
def test_a_delay_is_found_and_compensated(folder: Path, shift: int, rate: int) -> None:
    samples = noise(2.0)[:, 0]
    moved = np.roll(samples, shift)
    moved[slice(0, shift) if shift > 0 else slice(shift, None)] = 0
    if rate != RATE:
        from audioae.signal.resample import resample

        moved = resample(moved[np.newaxis], RATE, rate)[0]
    before = save(folder / "a.wav", samples)
    after = save(folder / "b.wav", 0.7 * moved, rate)
    assert find_delay(before, after) == pytest.approx(shift / RATE, abs=2 / RATE)
    values = report("a.wav", "b.wav", "-o", "page.html")
    levels = {track["name"]: track["rms_dbfs"] for track in values["tracks"]}
    if rate == RATE:  # removed is 0.3 of the input, but for the ends
        assert levels["removed"] - levels["before"] < -5


def test_periodic_and_unrelated_recordings_are_not_shifted(folder: Path) -> None:
    time = np.arange(2 * RATE) / RATE
    tone = save(folder / "tone.wav", 0.3 * np.sin(2 * np.pi * 100 * time))
    other = save(folder / "other.wav", np.random.default_rng(5).normal(0, 0.1, 2 * RATE))
    silent = save(folder / "silent.wav", np.zeros(RATE))
    assert find_delay(tone, tone) == 0
    assert find_delay(tone, other) == 0
    assert find_delay(silent, other) == 0 and find_delay(other, silent) == 0


@pytest.mark.parametrize(
    ("rate", "channels", "suffix", "subtype"),
    [
        (8000, 1, ".wav", "ULAW"),
        (11025, 1, ".wav", "PCM_U8"),
        (44100, 2, ".flac", "PCM_24"),
        (48000, 8, ".wav", "PCM_16"),
        (96000, 2, ".wav", "FLOAT"),
        (44100, 2, ".ogg", "VORBIS"),
        (48000, 1, ".opus", "OPUS"),
        (44100, 1, ".mp3", "MPEG_LAYER_III"),
        (3000, 1, ".wav", "PCM_16"),
    ],
)
def test_rates_channels_and_containers(
    folder: Path, rate: int, channels: int, suffix: str, subtype: str
) -> None:
    paths = [folder / f"{name}{suffix}" for name in ("noisy", "enhanced")]
    for path, factor in zip(paths, (1.0, 0.5), strict=True):
        kind = "OGG" if suffix == ".opus" else None
        soundfile.write(path, factor * noise(1.0, rate, channels), rate, subtype, format=kind)
    values = report(*map(str, paths), "-o", "page.html")
    assert values["sample_rate"] == rate and values["channels"] == channels
    assert values["delay_seconds"] == 0
    assert values["verdict"]["mean_attenuation_db"] == pytest.approx(6.02, abs=1)
    heard = audio(folder / "page.html", 1)
    assert heard.shape[1] == (2 if channels == 2 else 1)
    assert ("mixed down" in (folder / "page.html").read_text()) == (channels == 8)


@pytest.mark.parametrize("num_samples", [1, 2, 79, 2000])
def test_very_short_recordings(folder: Path, num_samples: int) -> None:
    save(folder / "a.wav", np.full(num_samples, 0.5))
    save(folder / "b.wav", np.full(num_samples, 0.25))
    values = report("a.wav", "b.wav", "-o", "page.html")
    assert values["num_samples"] == num_samples
    assert [len(audio(folder / "page.html", number)) for number in range(3)] == [num_samples] * 3


def test_an_empty_recording_has_a_page_without_a_player(folder: Path) -> None:
    save(folder / "a.wav", np.zeros(0))
    assert report("a.wav", "a.wav", "-o", "page.html")["seconds"] == 0
    assert 'id="player"' not in (folder / "page.html").read_text()


def test_silence_nan_and_samples_over_full_scale(folder: Path) -> None:
    save(folder / "silent.wav", np.zeros(RATE))
    values = report("in.wav", "silent.wav", "-o", "silent.html")
    after = values["tracks"][1]
    assert after["loudness_lufs"] is None and after["gain_db"] == 0 and not after["is_matched"]
    assert values["verdict"]["max_attenuation_db"] == 120
    wild = 3 * noise(1.0)
    wild[100], wild[200], wild[300] = np.nan, np.inf, 1e30
    save(folder / "wild.wav", wild, subtype="FLOAT")
    values = report("wild.wav", "in.wav", "-o", "wild.html")
    assert np.abs(audio(folder / "wild.html", 0)).max() < 2
    assert json.loads(json.dumps(values, allow_nan=False))


def test_video_and_other_containers_need_no_conversion(folder: Path) -> None:
    pytest.importorskip("av")
    from audioae.audio import write

    write(folder / "noisy.mka", noise(1.0).T, RATE)
    assert report("noisy.mka", "out.wav", "-o", "page.html")["seconds"] == pytest.approx(1, abs=0.1)


# --- Names, overwriting, errors


def test_names_are_shown_as_text(folder: Path) -> None:
    name = "<b>\"'&\n\u202e✓.wav"
    save(folder / name, noise(0.1))
    ended = run("report", str(folder / name), "-o", "page.html")
    assert ended.exit_code == 0, ended.output
    page = (folder / "page.html").read_text(encoding="utf-8")
    assert "<b>" not in page
    assert "&lt;b&gt;&quot;&#x27;&amp;\\n\\u202e✓.wav" in page


def test_names_that_are_no_text(folder: Path) -> None:
    name = os.fsdecode(b"\xff\xfe.wav")
    try:
        os.rename(folder / "in.wav", folder / name)
    except OSError:
        pytest.skip("the file system wants names that are text")
    ended = run("report", name, "out.wav", "-o", "page.html", "--json")
    assert ended.exit_code == 0, ended.output
    assert "\\udcff" in (folder / "page.html").read_text(encoding="utf-8")


def test_scripts_cannot_be_ended_by_names() -> None:
    text = script_json({"name": "</script><script>alert(1)</script><!--"})
    assert "<" not in text and json.loads(text)["name"].startswith("</script>")
    assert shown("a\x00\u2028b") == "a\\x00\\u2028b"


def test_an_existing_page_is_kept(folder: Path) -> None:
    report("in.wav", "out.wav", "-o", "page.html")
    before = contents(folder)
    ended = run("report", "in.wav", "-o", "page.html")
    assert ended.exit_code == 1 and "--overwrite" in ended.stderr
    assert contents(folder) == before
    report("in.wav", "-o", "page.html", "--overwrite")
    assert contents(folder) != before


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["in.wav", "missing.wav", "-o", "page.html"], 1, "missing.wav"),
        (["in.wav", "text.wav", "-o", "page.html"], 1, "text.wav"),
        (["in.wav", "out.wav", "-o", "no/page.html"], 1, "no"),
        (["in.wav", "out.wav", "-o", "in.wav", "--overwrite"], 1, "in.wav"),
        (["in.wav", "out.wav", "-o", "."], 1, "folder"),
        ([".", ".", "--json"], 2, "-o"),
        (["in.wav", ".", "-o", "pages"], 1, "in.wav"),
        ([], 2, "IN"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(
    folder: Path, arguments: list[str], code: int, word: str
) -> None:
    (folder / "text.wav").write_text("no audio")
    before = contents(folder)
    ended = run("report", *arguments)
    assert ended.exit_code == code and word in ended.stderr
    assert [line for line in ended.stderr.splitlines() if line.startswith("Error")]
    assert ended.stdout == "" and contents(folder) == before


def test_a_full_disk_leaves_no_page(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("audioae.web.page.write_page", fail)
    before = contents(folder)
    ended = run("report", "in.wav", "out.wav", "-o", "page.html")
    assert ended.exit_code == 1 and "page.html" in ended.stderr
    assert contents(folder) == before


# --- Folders


@pytest.fixture
def tree(folder: Path) -> Path:
    """in/ and out/ with recordings in 0, 10 and 20 dB of noise."""
    for name, snr in (("a.wav", 10), ("sub/b.wav", 0), ("sub/c.flac", 20)):
        clean = noise(1.0)
        save(folder / "in" / name, clean + 10 ** (-snr / 20) * np.roll(clean, 3000, axis=0))
        save(folder / "out" / name, clean)
    return folder


def rows(index: Path) -> list[str]:
    """The recordings of an index in order."""
    return re.findall(r"<tr><td data-value=\"(.*?)\"", index.read_text(encoding="utf-8"))


def test_folders_have_an_index_with_the_worst_first(tree: Path) -> None:
    ended = run("report", "in", "out", "-o", "pages", "--json")
    assert ended.exit_code == 0, ended.output
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [line["status"] for line in lines] == ["done"] * 3
    assert rows(tree / "pages/index.html") == ["sub/b.wav", "a.wav", "sub/c.flac"]
    links = re.findall(r'href="(\./.*?)"', (tree / "pages/index.html").read_text())
    assert len(links) == 3 and all((tree / "pages" / link).is_file() for link in links)
    page = (tree / "pages/sub/b.wav.html").read_text()
    assert 'href="./../index.html"' in page


def test_a_recording_that_fails_does_not_stop_the_others(tree: Path) -> None:
    (tree / "out/a.wav").write_text("no audio")
    (tree / "out/sub/c.flac").unlink()
    ended = run("report", "in", "out", "-o", "pages", "--json", "--progress", "json")
    assert ended.exit_code == 1
    found = {Path(line["before"]).name: line for line in map(json.loads, ended.stdout.splitlines())}
    assert [found[name]["status"] for name in ("a.wav", "b.wav", "c.flac")] == [
        "failed",
        "done",
        "failed",
    ]
    assert "a.wav" in found["a.wav"]["error"] and "c.flac" in found["c.flac"]["error"]
    assert sorted(rows(tree / "pages/index.html")[:2]) == ["a.wav", "sub/c.flac"]


def test_other_suffixes_match_if_there_is_one(tree: Path) -> None:
    (tree / "out/a.wav").rename(tree / "out/a.flac")  # the content is what counts for reading
    assert {str(each.name): each.problem for each in match_folders(Path("in"), Path("out"))} == {
        "a.wav": "",
        "sub/b.wav": "",
        "sub/c.flac": "",
    }
    save(tree / "out/a.ogg", noise(0.1), subtype="VORBIS")
    assert "2 files" in match_folders(Path("in"), Path("out"))[0].problem


def test_one_folder_alone_and_an_output_folder_inside(tree: Path) -> None:
    assert run("report", "in", "-o", "pages").exit_code == 0
    (tree / "out").rename(tree / "in/out")
    names = [str(each.name) for each in match_folders(Path("in"), Path("in/out"))]
    assert names == ["a.wav", "sub/b.wav", "sub/c.flac"]


def test_existing_pages_of_a_folder_are_kept(tree: Path) -> None:
    assert run("report", "in", "out", "-o", "pages").exit_code == 0
    before = contents(tree)
    ended = run("report", "in", "out", "-o", "pages")
    assert ended.exit_code == 1 and "--overwrite" in ended.stderr
    assert contents(tree) == before
    assert run("report", "in", "out", "-o", "pages", "--overwrite").exit_code == 0


def test_long_names_have_pages(tmp_path: Path) -> None:
    name = Path("ü" * 120 + ".wav")
    assert len(os.fsencode(page_path(name).name)) <= 255
    assert page_path(name) != page_path(Path("ü" * 121 + ".wav"))


# --- denoise --report


def test_denoise_writes_a_page(folder: Path) -> None:
    ended = run("denoise", "in.wav", "made.wav", "--report", "page.html", "--strength", "0.5")
    assert ended.exit_code == 0, ended.output
    found = read_report(folder / "page.html")
    assert found is not None and found.after == Path("made.wav")
    made = json.loads(run("denoise", "in.wav", "2.wav", "--strength", "0.5", "--json").stdout)
    assert found.verdict is not None
    assert found.verdict.to_dict() == made["verdict"]  # of the denoiser, not estimated
    page = (folder / "page.html").read_text()
    assert made["model_sha256"] in page and ">strength</th><td>0.5<" in page


def test_denoise_refuses_a_page_before_it_starts(folder: Path) -> None:
    (folder / "page.html").write_text("mine")
    before = contents(folder)
    for arguments in (["--report", "page.html"], ["--report", "no/page.html"]):
        assert run("denoise", "in.wav", "made.wav", *arguments).exit_code == 1
    assert run("denoise", "in.wav", "-", "--report", "new.html").exit_code == 2
    assert run("denoise", "in.wav", "made.wav", "--report", "new.html", "-n").exit_code == 0
    assert contents(folder) == before


def test_denoise_folders_writes_pages_and_resumes(tree: Path) -> None:
    line = ["denoise", "in", "-O", "made", "--report", "pages"]
    assert run(*line).exit_code == 0
    index = tree / "pages/index.html"
    assert sorted(rows(index)) == ["a.wav", "sub/b.wav", "sub/c.flac"]
    kept = (tree / "pages/a.wav.html").stat().st_ino
    (tree / "pages/sub/b.wav.html").unlink()
    save(tree / "in/new.wav", noise(0.2))
    assert run(*line).exit_code == 0
    assert sorted(rows(index)) == ["a.wav", "new.wav", "sub/b.wav", "sub/c.flac"]
    assert (tree / "pages/a.wav.html").stat().st_ino == kept  # not written again
    assert (tree / "pages/sub/b.wav.html").is_file()


def test_denoise_folders_does_not_replace_files_of_others(tree: Path) -> None:
    (tree / "pages").mkdir()
    (tree / "pages/index.html").write_text("mine")
    ended = run("denoise", "in", "-O", "made", "--report", "pages")
    assert ended.exit_code == 1 and "index.html" in ended.stderr
    assert (tree / "pages/index.html").read_text() == "mine"
    assert not (tree / "made").exists()  # refused before the batch, not after hours
    assert run("denoise", "in", "-O", "made", "--report", "pages", "-n").exit_code == 1
    assert run("denoise", "in", "-O", "other", "--report", "in/a.wav").exit_code == 1
    assert not (tree / "other/a.wav").exists()


# --- The parts


def test_blocks_of_a_pair_equal_the_whole(folder: Path) -> None:
    save(folder / "a.wav", noise(3.3, 44100, 2), 44100)
    whole, blocks = [], []
    for found, size in ((whole, 10**9), (blocks, 1000)):
        with Pair(folder / "a.wav", folder / "out.wav", stereo=False) as pair:
            assert pair.sample_rate == 48000 and pair.channels == 1
            found += [(span.before, span.after) for span in pair.blocks(size)]
    for side in (0, 1):
        joined = np.concatenate([span[side] for span in blocks], axis=-1)
        np.testing.assert_allclose(joined, whole[0][side], atol=1e-6)


def test_channels_are_mixed_down_by_their_mean() -> None:
    block = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.testing.assert_array_equal(mix_down(block, 1), block.mean(axis=0, keepdims=True))
    assert mix_down(block[:2], 2) is not None and mix_down(block, 2).shape == (2, 4)


@pytest.mark.parametrize("size", [1, 37, 1000])
def test_columns_do_not_depend_on_the_blocks(size: int) -> None:
    samples = noise(0.5).T.astype(np.float32)
    found = []
    for step in (size, 10**6):
        peaks, spectrogram = Peaks(samples.shape[1], 160), Spectrogram(RATE, 8000, 160, rows=20)
        for start in range(0, samples.shape[1], step):
            block = samples[:, start : start + step]
            peaks.add(block)
            spectrogram.add([block])
        found.append((peaks.low, peaks.high, peaks.power, spectrogram.finish()))
    for first, second in zip(*found, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-9)
    assert found[0][3].shape == (1, 50, 20)


def test_a_full_scale_sine_has_the_power_of_one() -> None:
    time = np.arange(RATE) / RATE
    spectrogram = Spectrogram(RATE, RATE, 800)
    spectrogram.add([np.sin(2 * np.pi * 1000 * time)[np.newaxis].astype(np.float32)])
    power = spectrogram.finish()[0, 5]
    assert power.max() == pytest.approx(1, rel=0.01)
    assert power.argmax() * RATE / spectrogram.n_fft == 1000


def test_mel_bands_are_complete() -> None:
    weights = mel_bands(512, RATE, 128, RATE / 2)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)
    centres = weights @ np.arange(257)
    assert (np.diff(centres) > 0).all()


def test_parts_overlap_and_cover_everything() -> None:
    samples = np.arange(70 * 100, dtype=np.float32)[np.newaxis]
    parts, found = Parts(100, samples.shape[1]), []
    for start in range(0, samples.shape[1], 333):
        found += parts.add(samples[:, start : start + 333])
    assert [(round(part[0], 6), round(part[1], 6)) for part in found] == [
        (0, 30),
        (30, 30),
        (60, 10),
    ]
    joined = np.concatenate(
        [held[0, round(lead * 100) :][: round(length * 100)] for _, length, lead, held in found]
    )
    np.testing.assert_array_equal(joined, samples[0])


@pytest.mark.parametrize("seconds", [60, 3600, 7200])
def test_an_hour_stays_within_thirty_megabytes(seconds: float) -> None:
    rates = choose_rates(seconds, 2, tracks=3)
    num_bytes = sum(rates.kbps.values()) * rates.channels * 1000 / 8 * seconds * 4 / 3
    assert num_bytes < 24e6 or seconds > 3600
    assert min(rates.kbps.values()) >= 8


def test_matched_loudness_is_equal_and_does_not_clip() -> None:
    meters = {}
    for name, level in (("before", 1.0), ("after", 0.1), ("removed", 0.0)):
        meters[name] = Meter(RATE, 1)
        meters[name].add(level * noise(2.0).T)
    before, after, removed = match_loudness(meters)
    assert before.loudness_lufs + before.gain_db == pytest.approx(
        after.loudness_lufs + after.gain_db, abs=0.02
    )
    assert removed.gain_db == 0 and not removed.is_matched
    for track in (before, after):
        assert track.peak_dbfs + track.gain_db <= -0.9


def test_images_are_valid_png() -> None:
    image = pytest.importorskip("PIL.Image")
    data = png(np.arange(64, dtype=np.uint8).reshape(8, 8), palette())
    opened = image.open(io.BytesIO(data)).convert("RGB")
    assert opened.size == (8, 8) and opened.getpixel((7, 7)) == tuple(palette()[63].tolist())


def test_python_api(folder: Path) -> None:
    seconds: list[float] = []
    made = write_report(
        "page.html",
        "in.wav",
        "out.wav",
        provenance=Provenance(warnings=("mind the gap",), models={"m": "0" * 64}),
        progress=seconds.append,
    )
    assert seconds[-1] == 1 and made.warnings[0] == "mind the gap"
    assert "0" * 64 in (folder / "page.html").read_text()
    found = write_folder_report(match_folders(folder, None), folder / "pages", title="all")
    assert [row.report is not None for row in found] == [True, True]
