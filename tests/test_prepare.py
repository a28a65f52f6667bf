"""What goes in comes out at the asked rate, at the same place, once, under one split per source;
and no interruption changes any of it.
"""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import stat
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from audioae.cli import main
from audioae.cli.prepare import describe_summary
from audioae.data.manifest import Row, ShardReader, read_manifest
from audioae.data.mixtures.folders import MixedPair, write_table
from audioae.data.prepare import PrepareProgress, PrepareSettings, prepare
from audioae.data.sources import Entry, find_entries, has_licence
from audioae.errors import DataError, OutputError, SettingsError

SHARED = Path(__file__).parents[2] / "shared" / "data"
RATE = 16000


def tone(
    seconds: float, *, hz: float = 440.0, level: float = 0.3, rate: int = RATE, channels: int = 1
) -> np.ndarray:
    """`[samples, channels]`, the channels alike."""
    wave = level * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)
    return np.repeat(wave[:, None], channels, axis=1)


def save(path: Path, wave: np.ndarray, rate: int = RATE, subtype: str = "PCM_16") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, rate, subtype=subtype)
    return path


def table(path: Path, rows: Sequence[Mapping[str, object]]) -> str:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """Six speakers of three files of half a second each."""
    folder = tmp_path / "voices"
    for speaker in range(6):
        for take in range(3):
            save(
                folder / f"s{speaker}" / f"{take}.wav", tone(0.5, hz=100 + 50 * speaker + 10 * take)
            )
    return folder


def run(out: Path, **settings: object) -> dict[str, list[Row]]:
    prepare(PrepareSettings(out=str(out), **settings))  # type: ignore[arg-type]
    return {
        path.stem: read_manifest(path) for path in out.glob("*.jsonl") if path.stem != "dropped"
    }


def dropped(out: Path) -> dict[str, str]:
    lines = [json.loads(line) for line in (out / "dropped.jsonl").read_text().splitlines()]
    return {Path(line["path"]).name: line["reason"] for line in lines}


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but data.json, which names the folder itself."""
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != "data.json"
    }


def test_samples_come_back_at_the_asked_rate(tmp_path: Path) -> None:
    save(
        tmp_path / "in/a/quiet.flac",
        tone(1.0, level=0.002, rate=44100, channels=2),
        44100,
        "PCM_24",
    )
    row = run(tmp_path / "out", speech=(str(tmp_path / "in"),))["speech"][0]
    assert (row.samples, row.seconds) == (RATE, 1.0)
    wave = ShardReader(tmp_path / "out").read(row, 0, row.samples)
    assert np.abs(wave).max() == pytest.approx(0.9, abs=1e-4)
    original = wave / 10 ** (row.gain_db / 20)
    np.testing.assert_allclose(original[200:-200], tone(1.0, level=0.002)[200:-200, 0], atol=1e-6)


def test_the_direct_sound_of_a_room_stays_where_it_is(tmp_path: Path) -> None:
    response = np.zeros((4800, 2))
    response[480, 0], response[960, 1] = 0.5, 1.0  # 10 ms in the first channel
    save(tmp_path / "in/room.wav", response, 48000)
    rows = run(tmp_path / "out", rir=(str(tmp_path / "in"),))["rir"]
    assert np.abs(ShardReader(tmp_path / "out").view(rows[0])).argmax() == 160


def test_speech_is_the_mean_of_its_channels_and_noise_the_first(tmp_path: Path) -> None:
    both = np.concatenate([tone(1, hz=300, level=0.5), tone(1, hz=1000, level=0.25)], axis=1)
    for role in ("speech", "noise"):
        save(tmp_path / role / "x.wav", both)
    rows = run(
        tmp_path / "out",
        speech=(str(tmp_path / "speech"),),
        noise=(str(tmp_path / "noise"),),
    )
    reader = ShardReader(tmp_path / "out")
    second = {
        role: np.abs(np.fft.rfft(reader.view(rows[role][0])))[1000] for role in ("speech", "noise")
    }
    assert second["noise"] < 1e-3 * second["speech"]


def test_long_recordings_are_the_same_in_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = 0.3 * np.random.default_rng(0).standard_normal((3 * 44100 + 17, 1)).clip(-3, 3)
    save(tmp_path / "in/a.wav", noise, 44100)
    whole = run(tmp_path / "whole", noise=(str(tmp_path / "in"),))["noise"]
    monkeypatch.setattr("audioae.data.prepare.decoding.BLOCK_SECONDS", 1)
    blocks = run(tmp_path / "blocks", noise=(str(tmp_path / "in"),))["noise"]
    assert whole == blocks
    views = [
        ShardReader(tmp_path / name).view(whole[0]).astype(int) for name in ("whole", "blocks")
    ]
    assert np.abs(views[0] - views[1]).max() <= 1


def test_what_would_spoil_a_training_is_left_out_with_its_reason(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    save(folder / "good.wav", tone(1))
    save(folder / "silent.wav", 0 * tone(1))
    save(folder / "whisper.wav", tone(1, level=1e-4), subtype="FLOAT")
    save(folder / "clipped.wav", tone(1, level=4).clip(-1, 1))
    save(folder / "loud.wav", np.full((RATE, 1), 0.1) + (np.arange(RATE)[:, None] == 99) * 0.9)
    save(folder / "short.wav", tone(0.2))
    save(
        folder / "nan.wav",
        np.where(np.arange(RATE)[:, None] == 5, np.nan, tone(1)),
        subtype="FLOAT",
    )
    (folder / "text.wav").write_text("not audio")
    (folder / "empty.flac").write_bytes(b"")
    (folder / "notes.txt").write_text("no audio, and nobody says so")
    (folder / "._good.wav").write_text("what a file manager left")
    rows = run(tmp_path / "out", speech=(str(folder),))["speech"]
    assert sorted(Path(row.path).name for row in rows) == ["good.wav", "loud.wav"]
    reasons = {name: reason.split(":")[0] for name, reason in dropped(tmp_path / "out").items()}
    assert reasons == {
        "silent.wav": "silent",
        "whisper.wav": "silent",
        "clipped.wav": "clipped",
        "short.wav": "too short",
        "nan.wav": "not finite",
        "text.wav": "unreadable",
        "empty.flac": "unreadable",
    }


def test_clipped_noise_is_judged_more_mildly_and_rooms_not_at_all(tmp_path: Path) -> None:
    some = tone(1)
    some[:160] = 1.0
    save(tmp_path / "in/some.wav", some)
    save(tmp_path / "in/much.wav", tone(1, level=4).clip(-1, 1))
    place = (str(tmp_path / "in"),)
    rows = run(tmp_path / "out", noise=place, rir=place)
    assert [Path(row.path).name for row in rows["noise"]] == ["some.wav"]
    assert len(rows["rir"]) == 2
    with pytest.raises(
        DataError,
        match=r"nothing kept of speech: all 2 files were dropped, the first one .*much\.wav "
        r"\(clipped: ",
    ):
        run(tmp_path / "speech", speech=place)


def test_a_table_gives_split_source_and_the_rest(tmp_path: Path) -> None:
    for name in "abcd":
        save(tmp_path / f"clips/{name}.wav", tone(0.5))
    head = {
        "corpus": "c",
        "licence": "CC0",
        "language": "de",
        "quiet_to_loud_db": "40.5",
        "mood": "calm",
    }
    plan = [
        ("a", "anna", "train"),
        ("b", "anna", ""),
        ("c", "bert", "dev"),
        ("d", "c/carl", "test"),
    ]
    rows = [
        {"path": f"clips/{name}.wav", "speaker": who, "split": split, **head}
        for name, who, split in plan
    ]
    made = run(tmp_path / "out", speech=(table(tmp_path / "t.csv", rows),))["speech"]
    assert [(row.source, row.split) for row in made] == [
        ("c/anna", "train"),
        ("c/anna", "train"),
        ("c/bert", "valid"),
        ("c/carl", "test"),
    ]
    assert {(row.licence, row.corpus, row.language, row.quiet_to_loud_db) for row in made} == {
        ("CC0", "c", "de", 40.5)
    }
    assert Path(made[0].path) == tmp_path / "clips/a.wav"


def test_a_source_in_two_splits_of_a_table_is_kept_where_it_is_held_out(tmp_path: Path) -> None:
    rows = [
        {
            "path": f"{n}.wav",
            "split": split,
            "source_file": f"1-{n // 2}-{'AB'[n % 2]}-7.wav",
            "class": "rain",
        }
        for n, split in enumerate(["train", "valid", "train", "train"])
    ]
    for row in rows:
        save(tmp_path / str(row["path"]), tone(0.5))
    made = run(tmp_path / "out", noise=(table(tmp_path / "t.csv", rows),))["noise"]
    assert [(row.source, row.split, row.kind) for row in made] == [
        ("freesound/0", "valid", "rain"),
        ("freesound/1", "train", "rain"),
        ("freesound/1", "train", "rain"),
    ]
    assert dropped(tmp_path / "out") == {
        "0.wav": "leak: freesound/0 is in valid too, this file is in train"
    }


@pytest.mark.parametrize(
    ("role", "row", "source"),
    [
        ("speech", {"path": "1.wav", "speaker": "anna"}, "anna"),
        ("speech", {"path": "1.wav", "speaker": "anna", "corpus": "c"}, "c/anna"),
        ("noise", {"path": "x/1.wav", "class": "rain", "corpus": "c"}, "c/rain"),
        (
            "noise",
            {"path": "x/1.wav", "class": "rain", "corpus": "c", "source_file": "roof.ogg"},
            "c/roof",
        ),
        ("noise", {"path": "x/1.wav", "source_file": "3-987-B.ogg"}, "freesound/987"),
        ("noise", {"path": "x/1.wav", "class": "rain"}, "rain"),
        ("rir", {"path": "x/hall-ch1.wav"}, "x/hall"),
        ("rir", {"path": "x/1.wav", "room": "hall", "corpus": "c"}, "c/hall"),
    ],
)
def test_source_of_a_table_row(tmp_path: Path, role: str, row: dict[str, str], source: str) -> None:
    entries, _ = find_entries(role, [table(tmp_path / "t.csv", [row])])  # type: ignore[arg-type]
    assert entries[0].source == source


@pytest.mark.parametrize(
    ("files", "sources"),
    [
        (["a/1.wav", "a/2.wav", "b/1.wav"], ["v/a", "v/a", "v/b"]),
        (
            ["a/x/1.wav", "a/y/1.wav", "b/x/1.wav"],
            ["v/a", "v/a", "v/b"],
        ),  # speaker / chapter / file
        (["deep/down/a/1.wav", "deep/down/b/1.wav"], ["v/a", "v/b"]),
        (
            ["1.wav", "2.wav", "5-77-A-3.wav", "5-77-B-3.wav"],
            ["v/1", "v/2", "freesound/77", "freesound/77"],
        ),
    ],
)
def test_source_of_a_file_in_a_folder(tmp_path: Path, files: list[str], sources: list[str]) -> None:
    for file in files:
        (tmp_path / "v" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "v" / file).touch()
    entries, _ = find_entries("noise", [str(tmp_path / "v")])
    assert [entry.source for entry in entries] == sources
    rows = [{"path": file, "corpus": "v"} for file in files]
    assert find_entries("noise", [table(tmp_path / "v/t.csv", rows)])[0] == entries


def test_folders_are_split_by_speaker_with_a_seed(tmp_path: Path, speech: Path) -> None:
    held_out = set()
    for seed in range(4):
        rows = run(
            tmp_path / str(seed), speech=(str(speech),), valid_share=0.2, test_share=0.2, seed=seed
        )["speech"]
        splits = defaultdict(set)
        for row in rows:
            splits[row.source].add(row.split)
        assert len(splits) == 6
        assert all(len(split) == 1 for split in splits.values())
        assert sorted(row.split for row in rows) == ["test"] * 3 + ["train"] * 12 + ["valid"] * 3
        held_out.add(frozenset(row.source for row in rows if row.split == "valid"))
    assert len(held_out) > 1


def test_a_file_given_twice_is_kept_once(tmp_path: Path, speech: Path) -> None:
    rows = run(tmp_path / "out", speech=(str(speech), str(speech / "s0")))["speech"]
    assert len(rows) == 18
    assert len(dropped(tmp_path / "out")) == 3


def test_shards_hold_every_sample_once(tmp_path: Path, speech: Path) -> None:
    rows = run(tmp_path / "out", speech=(str(speech),), shard_seconds=1.4)["speech"]
    data = json.loads((tmp_path / "out/data.json").read_text())
    assert data["sample_rate"] == RATE
    assert data["hours"]["speech"]["train"] + data["hours"]["speech"]["valid"] == pytest.approx(
        9 / 3600, abs=1e-3
    )
    assert len(data["shards"]) == 6
    for shard, about in data["shards"].items():
        stretches = sorted(
            (row.offset, row.offset + row.samples) for row in rows if row.shard == shard
        )
        assert [start for start, _ in stretches] == [0, *(end for _, end in stretches[:-1])]
        assert (
            stretches[-1][1] == about["samples"] == (tmp_path / "out" / shard).stat().st_size // 2
        )


def test_number_of_jobs_changes_nothing(tmp_path: Path, speech: Path) -> None:
    save(speech / "s0/silent.wav", 0 * tone(1))
    shutil.copytree(speech, tmp_path / "noise")
    for jobs in (1, 2):
        run(
            tmp_path / str(jobs),
            speech=(str(speech),),
            noise=(str(tmp_path / "noise"),),
            shard_seconds=2.0,
            jobs=jobs,
        )
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


KILLED = """
import os, signal, sys
from audioae.data.prepare import PrepareSettings, prepare

speech, out, when, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
replace, calls = os.replace, 0

def counted(source, target):
    global calls
    calls += 1
    if calls == count and when == "before": os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
    if calls == count and when == "after": os.kill(os.getpid(), signal.SIGKILL)

def heard(progress):
    if progress.done == count and when == "file": os.kill(os.getpid(), signal.SIGKILL)

os.replace = counted
prepare(PrepareSettings(out=out, speech=(speech,), shard_seconds=2.0), progress=heard)
"""


def test_killed_at_any_moment_it_goes_on_to_the_same_data(tmp_path: Path, speech: Path) -> None:
    (tmp_path / "killed.py").write_text(KILLED)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    # settings page | shard and page of the 1st shard | amid the 2nd | its shard and page | amid the
    # last | dropped, speech, data
    moments = [
        "before 1",
        "after 1",
        "before 1",
        "after 1",
        "after 2",
        "file 6",
        "before 2",
        "after 2",
        "file 17",
        "after 5",
        "before 3",
        "after 2",
    ]
    for moment in moments:
        command = [
            sys.executable,
            str(tmp_path / "killed.py"),
            str(speech),
            str(tmp_path / "out"),
            *moment.split(),
        ]
        assert subprocess.run(command, env=environment, check=False).returncode == -9, moment
    steps: list[PrepareProgress] = []
    settings = PrepareSettings(out=str(tmp_path / "out"), speech=(str(speech),), shard_seconds=2.0)
    prepare(settings, progress=steps.append)
    assert [step.done for step in steps] == [18]  # nothing was left to decode
    run(tmp_path / "whole", speech=(str(speech),), shard_seconds=2.0)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_two_processes_do_not_prepare_one_folder(tmp_path: Path, speech: Path) -> None:
    """The second process changes nothing in the folder of the first."""
    pytest.importorskip("fcntl")
    out, heard = tmp_path / "out", []

    def meanwhile(progress: PrepareProgress) -> None:
        if progress.done == 7:
            before = {path.name for path in out.rglob("*")}
            for more in ([], ["--sample-rate", "8000"]):
                command = [
                    sys.executable,
                    "-m",
                    "audioae",
                    "prepare",
                    "--speech",
                    str(speech),
                    "--out",
                    str(out),
                    *more,
                ]
                done = subprocess.run(
                    command, env=environment, capture_output=True, text=True, check=False
                )
                heard.append((done.returncode, done.stderr))
            assert {path.name for path in out.rglob("*")} == before

    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    prepare(
        PrepareSettings(out=str(out), speech=(str(speech),), shard_seconds=2.0), progress=meanwhile
    )
    assert heard == 2 * [
        (1, f"Error: another process is preparing {out}; wait for it, or choose another folder\n")
    ]
    run(tmp_path / "whole", speech=(str(speech),), shard_seconds=2.0)
    assert contents(out) == contents(tmp_path / "whole")


def test_shards_that_are_cut_or_strangers_are_made_again(tmp_path: Path, speech: Path) -> None:
    settings = {"speech": (str(speech),), "shard_seconds": 2.0}
    run(tmp_path / "out", **settings)
    good = contents(tmp_path / "out")
    shards = tmp_path / "out/shards"
    with (shards / "speech-00001.i16").open("r+b") as file:
        file.truncate(100)
    (shards / "speech-00099.i16").write_bytes(b"stranger")
    (shards / "speech-00003.i16.part").write_bytes(b"half")
    (tmp_path / "out/journal/speech-00002.json").write_text("{")
    run(tmp_path / "out", **settings)
    assert contents(tmp_path / "out") == good


def test_full_disk_is_one_line_and_costs_nothing_that_was_done(
    tmp_path: Path, speech: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"speech": (str(speech),), "shard_seconds": 2.0}
    calls = []

    def full(descriptor: int) -> None:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            calls.append(descriptor)
        if len(calls) > 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(
            OutputError, match="No space left on device; free some space and run it again"
        ):
            run(tmp_path / "out", **settings)
    assert [path.name for path in (tmp_path / "out/shards").iterdir()] == ["speech-00000.i16"]
    assert not (tmp_path / "out/data.json").exists()
    run(tmp_path / "out", **settings)
    run(tmp_path / "whole", **settings)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_other_settings_or_files_are_refused_and_change_nothing(
    tmp_path: Path, speech: Path
) -> None:
    run(tmp_path / "out", speech=(str(speech),))
    before = contents(tmp_path / "out")
    with pytest.raises(SettingsError, match="out was made with sample_rate 16000, not 48000"):
        run(tmp_path / "out", speech=(str(speech),), sample_rate=48000)
    with pytest.raises(SettingsError, match="out was made with other files"):
        run(tmp_path / "out", speech=(str(speech / "s0"),))
    assert contents(tmp_path / "out") == before


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path, speech: Path) -> None:
    with pytest.raises(OutputError, match="voices is not empty"):
        run(speech, speech=(str(speech),))
    assert not (speech / "journal").exists()
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"cannot write to .*file: Not a directory"):
        run(tmp_path / "file", speech=(str(speech),))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,split\na.wav,train\n", r"t\.csv has no column 'path' \(its columns: file, split\)"),
        ("", r"has no column 'path' \(its columns: none\)"),
        ("path,split\n", "names no file"),
        (
            "path,split\na.wav,later\n",
            "line 2 has split 'later', expected one of train, valid, test",
        ),
        ("path,split\n,train\n", "line 2 has an empty path"),
        ("path,quiet_to_loud_db\na.wav,loud\n", "line 2 has quiet_to_loud_db 'loud'"),
    ],
)
def test_tables_that_are_wrong(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        run(tmp_path / "out", speech=(str(tmp_path / "t.csv"),))
    assert not (tmp_path / "out").exists()


def test_places_that_are_wrong(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.wav").touch()
    (tmp_path / "binary.csv").write_bytes(b"path\n\xff\xfe\n")
    for name, message in [
        ("none", "does not exist"),
        ("empty", "no audio file in"),
        ("a.wav", "neither a folder"),
        ("binary.csv", "cannot read"),
    ]:
        with pytest.raises(DataError, match=message):
            run(tmp_path / "out", noise=(str(tmp_path / name),))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"speech": ("a",), "jobs": 0},
        {"speech": ("a",), "sample_rate": 0},
        {"speech": ("a",), "valid_share": 1.0},
    ],
)
def test_settings_that_are_impossible(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        PrepareSettings(out="out", **wrong)  # type: ignore[arg-type]


def test_a_file_that_a_table_names_and_nobody_has_is_dropped(tmp_path: Path) -> None:
    save(tmp_path / "a.wav", tone(0.5))
    run(
        tmp_path / "out",
        speech=(table(tmp_path / "t.csv", [{"path": "a.wav"}, {"path": "gone.wav"}]),),
    )
    assert dropped(tmp_path / "out")["gone.wav"].startswith("unreadable: ")


def test_command_takes_several_places_and_says_what_it_kept(tmp_path: Path, speech: Path) -> None:
    save(tmp_path / "rain/1.wav", tone(0.5))
    save(tmp_path / "rain/2.wav", 0 * tone(0.5))
    out = str(tmp_path / "out")
    places = ["--speech", str(speech / "s0"), str(speech / "s1"), "--noise", str(tmp_path / "rain")]
    result = CliRunner().invoke(
        main, ["prepare", *places, "--out", out, "--json", "--progress", "json"]
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["files"] == {"speech": 6, "noise": 1}
    assert "speech: kept 0.00 h in 6 files" in result.stderr
    assert "Warning: noise: nothing is held out for validation" in result.stderr
    assert f"dropped: 1 silent; see {out}/dropped.jsonl" in result.stderr
    events = [json.loads(line) for line in result.stderr.splitlines() if line.startswith("{")]
    assert [(e["label"], e["done"]) for e in events if e["event"] == "done"] == [
        ("speech", 6),
        ("noise", 2),
    ]


def test_command_fails_in_one_line(tmp_path: Path, speech: Path) -> None:
    for arguments, code in [
        (["--speech", str(tmp_path / "none")], 1),
        ([], 2),
        (["--speech", str(speech), "--sample-rate", "3"], 2),
    ]:
        result = CliRunner().invoke(main, ["prepare", *arguments, "--out", str(tmp_path / "out")])
        assert (result.exit_code, result.stdout) == (code, "")
        assert result.stderr.startswith("Error: ")
        assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not SHARED.is_dir(), reason="the recordings of ../shared/data are not here")
@pytest.mark.parametrize(("role", "num_left_out"), [("speech", 0), ("noise", 1)])
def test_tables_of_the_shared_recordings_share_no_source_between_splits(
    role: str, num_left_out: int
) -> None:
    entries, left_out = find_entries(role, [str(SHARED / f"{role}.csv")])  # type: ignore[arg-type]
    splits = defaultdict(set)
    for entry in entries:
        splits[entry.source].add(entry.split)
    assert all(len(split) == 1 for split in splits.values())
    assert {split for both in splits.values() for split in both} == {"train", "valid"}
    assert (len(left_out), min(entry.size for entry in entries) > 0) == (num_left_out, True)


def licensed(folder: Path) -> tuple[str, str]:
    """Tables of speech and noise whose files have different licences, or none."""
    files = {
        "speech": {"a": "CC0 1.0", "b": "cc0", "c": "CC BY 4.0", "d": ""},
        "noise": {"e": "MIT", "f": "CC BY-NC 3.0"},
    }
    tables = []
    for role, licences in files.items():
        for name in licences:
            save(folder / f"{name}.wav", tone(0.5, hz=200 + 10 * ord(name)))
        rows = [
            {"path": f"{name}.wav", "speaker": name, "source_file": name, "licence": licence}
            for name, licence in licences.items()
        ]
        tables.append(table(folder / f"{role}.csv", rows))
    return tables[0], tables[1]


def test_only_files_with_a_wanted_licence_are_kept(tmp_path: Path) -> None:
    speech, noise = licensed(tmp_path)
    rows = run(tmp_path / "out", speech=(speech,), noise=(noise,), licences=("cc0*", "MIT"))
    assert {Path(row.path).stem for role in rows.values() for row in role} == {"a", "b", "e"}
    assert set(dropped(tmp_path / "out")) == {"c.wav", "d.wav", "f.wav"}
    data = json.loads((tmp_path / "out/data.json").read_text())
    assert data["dropped"] == {"licence": 3}
    assert data["settings"]["licences"] == ["cc0*", "MIT"]
    assert data["licences"] == {
        "CC0 1.0": {"kept": 1, "dropped": 0},
        "cc0": {"kept": 1, "dropped": 0},
        "CC BY 4.0": {"kept": 0, "dropped": 1},
        "none given": {"kept": 0, "dropped": 1},
        "MIT": {"kept": 1, "dropped": 0},
        "CC BY-NC 3.0": {"kept": 0, "dropped": 1},
    }


def test_without_the_option_every_licence_is_kept_and_counted(tmp_path: Path) -> None:
    speech, noise = licensed(tmp_path)
    rows = run(tmp_path / "out", speech=(speech,), noise=(noise,))
    assert (len(rows["speech"]), len(rows["noise"])) == (4, 2)
    licences = json.loads((tmp_path / "out/data.json").read_text())["licences"]
    assert all(count == {"kept": 1, "dropped": 0} for count in licences.values())
    assert set(licences) == {"CC0 1.0", "cc0", "CC BY 4.0", "none given", "MIT", "CC BY-NC 3.0"}


@pytest.mark.parametrize(
    ("licence", "patterns", "kept"),
    [
        ("CC0 1.0", ("CC0*",), True),
        ("cc by 4.0", ("CC BY 4*",), True),
        ("CC BY-NC 3.0", ("CC BY 4*", "CC0*"), False),
        ("CC BY-NC 3.0", ("CC BY*",), True),
        ("CC BY-NC 3.0", ("CC BY [0-9]*",), False),
        ("MIT License", ("MIT",), False),
        ("", ("*",), False),
        ("", (), True),
    ],
)
def test_licences_match_as_globs(licence: str, patterns: tuple[str, ...], kept: bool) -> None:
    assert has_licence(Entry("speech", "a.wav", "a", licence=licence), patterns) is kept


def test_a_role_without_a_wanted_licence_is_an_error_before_anything_is_decoded(
    tmp_path: Path,
) -> None:
    speech, noise = licensed(tmp_path)
    command = ["prepare", "--speech", speech, "--noise", noise, "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(main, [*command, "--licence", "CC0*"])
    assert result.exit_code == 1 and "noise" in result.stderr and "licence" in result.stderr
    assert not (tmp_path / "out").exists()


def test_the_command_reports_licences_and_other_ones_need_another_folder(tmp_path: Path) -> None:
    speech, _ = licensed(tmp_path)
    command = ["prepare", "--speech", speech, "--out", str(tmp_path / "out"), "--json"]
    result = CliRunner().invoke(main, [*command, "--licence", "CC0*", "--licence", "CC BY 4*"])
    assert result.exit_code == 0, result.output
    licences = json.loads(result.stdout)["licences"]
    assert licences["none given"] == {"kept": 0, "dropped": 1}
    assert sum(count["kept"] for count in licences.values()) == 3
    assert "CC BY 4.0" in result.stderr
    assert CliRunner().invoke(main, [*command, "--licence", "CC0*"]).exit_code == 2


def test_what_folders_hold_besides_is_named_and_counted(tmp_path: Path, speech: Path) -> None:
    (speech / "notes.txt").write_text("notes")
    (speech / "s1" / "more.TXT").write_text("notes")
    (speech / "LICENCE").write_text("notes")
    (speech / ".hidden.txt").write_text("notes")
    os.mkfifo(speech / "s2" / "pipe.wav")
    (speech / "closed").mkdir()
    denied = PermissionError(errno.EACCES, "Permission denied", str(speech / "closed"))
    scandir = os.scandir

    def refusing(path: str) -> object:  # root may search every folder
        if str(path) == str(speech / "closed"):
            raise denied
        return scandir(path)

    out = tmp_path / "data"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "scandir", refusing)
        summary = prepare(PrepareSettings(out=str(out), speech=(str(speech),)))
    assert summary.skipped == {"": 1, ".txt": 2}
    assert json.loads((out / "data.json").read_text())["skipped"] == summary.skipped
    assert summary.files == {"speech": 18}
    left = dropped(out)
    assert set(left) == {"pipe.wav", "closed"}
    assert "pipe" in left["pipe.wav"] and "Permission denied" in left["closed"]
    lines = list(describe_summary(summary, out, ""))
    assert any("3 files" in line and ".txt 2" in line for line in lines)


def test_a_media_file_without_the_extra_is_dropped_with_its_reason(
    tmp_path: Path, speech: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (speech / "s1" / "talk.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    monkeypatch.setitem(sys.modules, "av", None)
    prepare(PrepareSettings(out=str(tmp_path / "data"), speech=(str(speech),)))
    assert "audioae[media]" in dropped(tmp_path / "data")["talk.m4a"]


def test_names_that_are_not_utf8(tmp_path: Path, speech: Path) -> None:
    """Bytes that are not UTF-8 are kept through manifests, splits and the list of dropped files."""
    names = [os.fsdecode(name) for name in (b"a\xe9.wav", b"silent\xfe.wav")]
    folder = speech / os.fsdecode(b"s\xff9")
    folder.mkdir()
    for name, wave in zip(names, (tone(0.5, hz=900), np.zeros((RATE, 1))), strict=True):
        shutil.move(save(tmp_path / "plain.wav", wave), folder / name)  # soundfile takes text only
    out = tmp_path / "data"
    rows = run(out, speech=(str(speech),), valid_share=0.3)["speech"]
    assert [Path(row.path) for row in rows if row.source.endswith(folder.name)] == [
        folder / names[0]
    ]
    assert list(dropped(out)) == [names[1]]
    assert (out / "speech.jsonl").read_bytes().decode("utf-8")
    pairs = tmp_path / "pairs.csv"
    pair = MixedPair("000.wav", "000.wav", 1.0, RATE, 0.0, folder.name, "rain", "", "", "valid")
    write_table(pairs, [pair])
    assert rb"s\udcff9" in pairs.read_bytes()
