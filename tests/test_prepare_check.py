"""What would spoil a training is found, and what would not is left in peace."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from tiny import RATE, hiss, save, voice

from audioae.cli import main
from audioae.data.manifest import Row, read_manifest, write_manifest
from audioae.data.prepare import PrepareSettings, prepare
from audioae.data.prepare.check import Finding, check, some
from audioae.data.prepare.measure import Index, fingerprint, measure
from audioae.errors import DataError

CHECKS = [
    "shards",
    "manifests",
    "splits",
    "leakage",
    "durations",
    "clipping",
    "silence",
    "DC offset",
    "duplicates",
    "near duplicates",
]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder without flaws: 8 speakers and 6 noises of 3 s, and a room."""
    root, rng = tmp_path_factory.mktemp("check"), np.random.default_rng(0)
    for number in range(8):
        save(root / f"speech/s{number}/1.wav", voice(rng, 3.0))
    for number in range(6):
        wave = hiss(rng, 3.0, number / 5)
        save(root / f"noise/n{number}.wav", wave - wave.mean())
    save(root / "rir/room.wav", np.eye(1, 400)[0])
    places = {role: (str(root / role),) for role in ("speech", "noise", "rir")}
    prepare(
        PrepareSettings(
            out=str(root / "data"), sample_rate=RATE, valid_share=0.3, shard_seconds=10.0, **places
        )
    )  # type: ignore[arg-type]
    return root / "data"


@pytest.fixture
def data(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "data"))


def bad(folder: Path) -> list[Finding]:
    return [finding for finding in check(folder) if finding.level != "ok"]


def change(data: Path, role: str, how: Callable[[list[Row]], list[Row]]) -> None:
    write_manifest(data / f"{role}.jsonl", how(read_manifest(data / f"{role}.jsonl")))


def put(data: Path, row: Row, samples: np.ndarray) -> None:
    """Replace the samples of a row, and the checksum of its shard."""
    import hashlib

    shard = np.fromfile(data / row.shard, "<i2")
    shard[row.offset : row.offset + row.samples] = samples
    shard.tofile(data / row.shard)
    about = json.loads((data / "data.json").read_text())
    about["shards"][row.shard]["sha256"] = hashlib.sha256(shard.tobytes()).hexdigest()
    (data / "data.json").write_text(json.dumps(about))


def rows(data: Path, role: str, split: str) -> list[Row]:
    return [row for row in read_manifest(data / f"{role}.jsonl") if row.split == split]


def samples_of(data: Path, row: Row) -> np.ndarray:
    return np.fromfile(data / row.shard, "<i2")[row.offset : row.offset + row.samples]


def test_a_folder_without_flaws_passes_every_check(good: Path) -> None:
    findings = check(good)
    assert [(finding.check, finding.level) for finding in findings] == [
        (name, "ok") for name in CHECKS
    ]


def test_findings_count_in_words_that_fit() -> None:
    found = [
        next(some("x", "error", "row is wrong", "rows are wrong", ["a"] * count, "")).found
        for count in (1, 2, 1200)
    ]
    assert found == ["1 row is wrong", "2 rows are wrong", "1,200 rows are wrong"]
    assert list(some("x", "error", "row is wrong", "rows are wrong", [], "")) == []


def test_progress_hears_of_every_second(good: Path) -> None:
    heard: list[float] = []
    check(good, progress=heard.append)
    assert sum(heard) == pytest.approx(14 * 3.0 + 0.05)


def test_the_synthetic_data_of_other_tests_is_usable(prepared: Path) -> None:
    assert [
        finding
        for finding in check(prepared)
        if finding.level == "error" and finding.check in ("shards", "manifests", "leakage")
    ] == []


@pytest.mark.parametrize(
    ("damage", "found", "example"),
    [
        ("remove", "1 of 6 missing", "speech-00000.i16: not there"),
        ("cut", "1 of 6 of another size", "speech-00000.i16: 100 bytes, 192,000 were written"),
        (
            "flip",
            "1 of 6 changed since they were written",
            "speech-00000.i16: another sha256 than in data.json",
        ),
    ],
)
def test_shards_that_are_not_what_was_written(
    data: Path, damage: str, found: str, example: str
) -> None:
    shard = data / "shards/speech-00000.i16"
    if damage == "remove":
        shard.unlink()
    elif damage == "cut":
        shard.write_bytes(shard.read_bytes()[:100])
    else:
        body = bytearray(shard.read_bytes())
        body[1000] ^= 1
        shard.write_bytes(body)
    about = json.loads((data / "data.json").read_text())["shards"]
    (finding,) = bad(data)
    assert finding.level == "error"
    assert finding.found == found.replace("6", str(len(about)))
    assert finding.example == "shards/" + example.replace(
        "192,000", f"{2 * about['shards/speech-00000.i16']['samples']:,}"
    )


@pytest.mark.parametrize(
    ("how", "found"),
    [
        (lambda of: [replace(of[0], offset=10**9), *of[1:]], "1 row reaches out of its shard"),
        (lambda of: [replace(of[0], seconds=9.0), *of[1:]], f"1 row is not at {RATE} Hz"),
        (
            lambda of: [of[0], replace(of[1], shard=of[0].shard, offset=of[0].offset + 5), *of[2:]],
            "1 row shares samples with another",
        ),
        (
            lambda of: [replace(of[0], shard="shards/other.i16"), *of[1:]],
            "1 named by manifests only",
        ),
    ],
)
def test_manifests_that_do_not_fit(
    data: Path, how: Callable[[list[Row]], list[Row]], found: str
) -> None:
    change(data, "speech", how)
    findings = [finding for finding in bad(data) if finding.check in ("shards", "manifests")]
    assert [(finding.level, finding.found) for finding in findings] == [("error", found)]


def test_a_manifest_that_cannot_be_read(data: Path) -> None:
    (data / "noise.jsonl").write_text("{\n")
    finding = next(finding for finding in bad(data) if finding.check == "manifests")
    assert (finding.level, finding.found) == ("error", "noise.jsonl cannot be read")
    assert "line 1 is not JSON" in finding.example


def test_sources_and_files_in_two_splits(data: Path) -> None:
    train, valid = rows(data, "speech", "train")[0], rows(data, "speech", "valid")[0]
    change(
        data,
        "speech",
        lambda of: [replace(row, source=train.source) if row == valid else row for row in of],
    )
    (finding,) = bad(data)
    assert (finding.check, finding.level, finding.found) == (
        "leakage",
        "error",
        "1 source in two splits",
    )
    assert finding.example == f"{train.source}: train, valid"


@pytest.mark.parametrize(
    ("role", "level"), [("speech", "error"), ("noise", "error"), ("rir", "ok")]
)
def test_a_split_that_is_empty(data: Path, role: str, level: str) -> None:
    change(data, role, lambda of: [replace(row, split="train") for row in of])
    finding = next(finding for finding in check(data) if finding.check == "splits")
    assert finding.level == level
    if level == "error":
        assert (finding.found, finding.example) == (f"1 split of {role} is empty", "valid")


def test_a_folder_of_noise_alone_is_worth_a_warning(data: Path) -> None:
    (data / "speech.jsonl").unlink()
    (finding,) = bad(data)
    assert (finding.check, finding.level, finding.found) == ("splits", "warning", "no speech")


@pytest.mark.parametrize(
    ("name", "spoil", "level"),
    [
        ("clipping", lambda wave: np.clip(4.0 * wave, -20000, 20000), "error"),
        ("silence", lambda wave: 0 * wave, "error"),
        ("silence", lambda wave: wave * (np.arange(len(wave)) < 0.05 * len(wave)), "error"),
        ("DC offset", lambda wave: 0.3 * wave + 9000, "warning"),
    ],
)
def test_sound_that_spoils_is_found(
    data: Path, name: str, spoil: Callable[[np.ndarray], np.ndarray], level: str
) -> None:
    row = rows(data, "speech", "train")[0]
    put(data, row, spoil(samples_of(data, row).astype(float)).astype(np.int16))
    finding = next(finding for finding in bad(data) if finding.check == name)
    assert (finding.level, finding.example) == (level, row.path)
    assert finding.found == "1 of speech, 12.50% of its seconds"
    assert [
        other.check for other in bad(data) if other.level == "error" and other.check != name
    ] == []


def test_a_flaw_in_little_of_the_sound_is_a_warning(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audioae.data.prepare.measure.TOLERATED", 0.2)
    row = rows(data, "speech", "train")[0]
    put(
        data,
        row,
        np.clip(4.0 * samples_of(data, row).astype(float), -20000, 20000).astype(np.int16),
    )
    assert [(finding.check, finding.level) for finding in bad(data)] == [("clipping", "warning")]


@pytest.mark.parametrize("level", [0.05, 0.9])
def test_clipping_is_found_at_any_level_and_peaks_are_none(level: float) -> None:
    wave = np.sin(2 * np.pi * 50 * np.arange(RATE) / RATE + 0.1)
    assert measure(np.rint(level * 32767 * np.clip(2 * wave, -1, 1)).astype(np.int16)).clipped > 0.3
    assert measure(np.rint(level * 32767 * wave * np.hanning(RATE)).astype(np.int16)).clipped < 1e-3


def test_equal_recordings_across_splits_spoil_and_within_one_only_warn(data: Path) -> None:
    first, second = rows(data, "speech", "train")[:2]
    put(data, second, samples_of(data, first))
    assert [(finding.check, finding.level, finding.found) for finding in bad(data)] == [
        ("duplicates", "warning", "1 recording twice in a split")
    ]
    put(data, rows(data, "speech", "valid")[0], samples_of(data, first))
    assert [(finding.check, finding.level, finding.found) for finding in bad(data)] == [
        ("duplicates", "error", "1 recording in two splits")
    ]


def test_speech_among_the_noise_spoils(data: Path) -> None:
    put(data, rows(data, "noise", "train")[0], samples_of(data, rows(data, "speech", "train")[0]))
    (finding,) = bad(data)
    assert (finding.check, finding.level, finding.found) == (
        "duplicates",
        "error",
        "1 recording is speech and noise",
    )


def encoded(wave: np.ndarray, kind: str) -> np.ndarray:
    """`wave` as a copy of it would be: another codec, level or cut, int16 `[samples]`."""
    wave = wave.astype(float) / 32768
    if kind == "mp3":
        file = io.BytesIO()
        soundfile.write(file, 0.4 * wave, RATE, format="MP3", subtype="MPEG_LAYER_III")
        file.seek(0)
        wave = soundfile.read(file)[0]
    elif kind == "cut":
        wave = np.roll(wave, -1234)  # begins elsewhere, not at a hop
    return np.rint(0.9 * 32767 * wave / np.abs(wave).max()).astype(np.int16)


@pytest.mark.parametrize("kind", ["level", "mp3", "cut"])
def test_the_same_sound_in_another_dress_is_found_across_splits(data: Path, kind: str) -> None:
    train, valid = rows(data, "speech", "train")[0], rows(data, "speech", "valid")[0]
    wave = samples_of(data, train).astype(float)
    put(
        data,
        valid,
        encoded(0.5 * wave if kind == "level" else wave, kind)[: valid.samples] - (kind == "level"),
    )
    (finding,) = bad(data)
    assert (finding.check, finding.level, finding.found) == (
        "near duplicates",
        "error",
        "1 pair of speech across splits",
    )
    assert train.path in finding.example
    assert valid.path in finding.example
    change(
        data,
        "speech",
        lambda of: [replace(row, split="train") if row == valid else row for row in of],
    )
    assert "near duplicates" not in {finding.check for finding in bad(data)}


def test_noise_that_is_cut_twice_from_one_recording_is_a_warning(data: Path) -> None:
    train, valid = rows(data, "noise", "train")[0], rows(data, "noise", "valid")[0]
    put(data, valid, encoded(samples_of(data, train), "cut"))
    assert [(finding.check, finding.level, finding.found) for finding in bad(data)] == [
        ("near duplicates", "warning", "1 pair of noise across splits")
    ]


def test_other_sounds_have_half_their_bits_in_common(rng: np.random.Generator) -> None:
    waves = [np.rint(2e4 * voice(rng, 3.0)).astype(np.int16) for _ in range(12)]
    prints = [fingerprint(wave, RATE) for wave in waves]
    index = Index(prints)
    for number, bits in enumerate(prints):
        assert [(match.known, match.bit_errors) for match in index.find(bits)] == [(number, 0.0)]
    errors = [
        np.bitwise_count(a[:100] ^ b[:100]).mean() / 32
        for a in prints
        for b in prints
        if a is not b
    ]
    assert 0.4 < np.mean(errors) < 0.6


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
def test_pauses_hums_and_short_sounds_match_nothing(rate: int) -> None:
    time = np.arange(2 * rate) / rate
    hums = [np.rint(2e4 * np.sin(2 * np.pi * hz * time)).astype(np.int16) for hz in (440, 441)]
    pause = np.zeros(2 * rate, np.int16)
    click = np.where(np.arange(2 * rate) == rate, 30000, 0).astype(np.int16)
    prints = [fingerprint(wave, rate) for wave in (*hums, pause, click)]
    index = Index(prints)
    assert [
        match.known
        for bits in prints
        for match in index.find(bits)
        if prints[match.known] is not bits
    ] == []
    assert len(fingerprint(pause[: rate // 4], rate)) == 0


def test_a_folder_that_is_none_or_not_finished_is_one_line(data: Path, tmp_path: Path) -> None:
    (data / "data.json").unlink()
    for folder in (data, tmp_path / "none"):
        with pytest.raises(
            DataError, match=r"is no data folder or was not finished \(data.json: No such file"
        ):
            check(folder)


def test_command_shows_a_table_and_its_exit_code(data: Path) -> None:
    fine = CliRunner().invoke(main, ["prepare", "--check", str(data)])
    assert (fine.exit_code, fine.stderr) == (0, "")
    assert all(name in fine.stdout for name in CHECKS)
    (data / "shards/speech-00000.i16").unlink()
    spoilt = CliRunner().invoke(main, ["prepare", "--check", str(data), "--json"])
    assert spoilt.exit_code == 1
    assert (
        spoilt.stderr
        == f"Error: {data} would spoil a training: shards; see the table for what to do\n"
    )
    told = json.loads(spoilt.stdout)
    assert [finding["check"] for finding in told["findings"] if finding["level"] == "error"] == [
        "shards"
    ]
