"""`audioae denoise IN... -O DIR`: checks come first; a failure does not stop the other files."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from fake_models import write_half_model

from audioae.cli import main
from audioae.denoising import FileJob, FilePlan, plan_file
from audioae.denoising.batch.plan import Planner
from audioae.errors import AudioFileError

CHECKOUT = Path(__file__).parents[1]
LEDGER = ".audioae-ledger.jsonl"


@pytest.fixture(scope="session")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a gain of 0.5 at all frequencies."""
    return write_half_model(tmp_path_factory.mktemp("model") / "half.onnx")


@pytest.fixture
def folder(tmp_path: Path, half: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with `rec/`: ten recordings of 0.5 s in two folders, and a text file."""
    rng = np.random.default_rng(0)
    for number in range(10):
        path = tmp_path / "rec" / ("one" if number % 2 else "two") / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, rng.normal(0, 0.1, 8000), 16000)
    (tmp_path / "rec" / "notes.txt").write_text("no sound")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AUDIOAE_DENOISE_MODEL", str(half))
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["denoise", *arguments], prog_name="audioae")


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def audio(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in contents(folder).items() if name != LEDGER}


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def counts(result: Result) -> list[int]:
    """The numbers in the last line of stderr: files that were denoised, failed, ..."""
    return [int(number) for number in re.findall(r"\d+", result.stderr.splitlines()[-1])]


def refused(folder: Path, *arguments: str, told: str, exit_code: int = 1) -> None:
    """The command prints one line with `told` in it and leaves files and folders as they were."""
    before, paths = contents(folder), sorted(folder.rglob("*"))
    result = run(*arguments)
    assert result.exit_code == exit_code, result.output
    assert (result.stdout, len(result.stderr.splitlines())) == ("", 1), result.output
    assert told in result.stderr
    assert (contents(folder), sorted(folder.rglob("*"))) == (before, paths)


def test_a_tree_is_denoised_and_mirrored(folder: Path) -> None:
    result = run("rec", "-O", "out", "-v")
    assert (result.exit_code, result.stdout) == (0, ""), result.output
    assert counts(result) == [10]
    assert "1 file in folders skipped" in result.stderr
    expected = {path.relative_to("rec").as_posix() for path in Path("rec").rglob("*.wav")}
    assert set(audio(folder / "out")) == expected
    noisy, clean = soundfile.read("rec/one/1.wav")[0], soundfile.read("out/one/1.wav")[0]
    assert np.abs(clean - 0.5 * noisy).max() < 1e-4


def test_processes_make_the_same_bytes(folder: Path) -> None:
    assert run("rec", "-O", "alone").exit_code == 0
    assert run("rec", "-O", "together", "--jobs", "2").exit_code == 0
    assert audio(folder / "together") == audio(folder / "alone")


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_one_corrupt_file_of_ten(folder: Path, jobs: str) -> None:
    """The others are done, the failed file is named and listed, and the exit code is 1. A second
    run with a repaired file denoises that file only.
    """
    whole = Path("rec/one/3.wav").read_bytes()
    Path("rec/one/3.wav").write_bytes(whole[:5000])
    result = run("rec", "-O", "out", "--failed-list", "failed.txt", "--json", "--jobs", jobs)
    assert result.exit_code == 1
    assert len(list(Path("out").rglob("*.wav"))) == 9
    assert "Error: rec/one/3.wav" in result.stderr
    assert counts(result) == [9, 1]
    assert Path("failed.txt").read_text() == "rec/one/3.wav\n"
    told = {row["src"]: row for row in lines(result.stdout)}
    assert sorted(row["status"] for row in told.values()) == ["done"] * 9 + ["failed"]
    assert told["rec/one/3.wav"]["error"].startswith("rec/one/3.wav")
    Path("rec/one/3.wav").write_bytes(whole)
    again = run("rec", "-O", "out", "--failed-list", "failed.txt")
    assert (again.exit_code, Path("failed.txt").read_text()) == (0, "")
    assert counts(again) == [1, 9]


def test_damage_found_late_fails_one_file(folder: Path) -> None:
    soundfile.write("rec/nan.wav", np.array([0.1] * 7000 + [np.nan]), 16000, subtype="FLOAT")
    result = run("rec", "-O", "out", "--jobs", "2")
    assert result.exit_code == 1
    assert "sample 7000 of channel 0 is nan" in result.stderr
    assert len(list(Path("out").rglob("*.wav"))) == 10
    assert not list(Path("out").rglob(".audioae-*-*"))


def test_fail_fast_starts_nothing_after_a_failure(folder: Path) -> None:
    soundfile.write("rec/one/0.wav", np.array([np.nan]), 16000, subtype="FLOAT")
    result = run("rec", "-O", "out", "--fail-fast")
    assert result.exit_code == 1
    assert counts(result) == [0, 1, 10]
    assert audio(folder / "out") == {}


HOLD = """
import sys
import time


def hold(event, arguments):
    if event == "os.rename" and str(arguments[1]).endswith("long.wav"):
        time.sleep(300)


sys.addaudithook(hold)
"""


@contextmanager
def start_batch(folder: Path, jobs: str) -> Iterator[subprocess.Popen[str]]:
    """A batch that cleans `rec/long.wav` first and waits just before it would publish it.

    The wait is in the process that cleans the file, so what a test does to a file that is not
    complete does not depend on the speed of the machine.
    """
    soundfile.write("rec/long.wav", np.zeros(16000), 16000)
    hooks = folder / "hooks"
    hooks.mkdir()
    (hooks / "sitecustomize.py").write_text(HOLD)
    files = ["rec/long.wav", "rec", "-O", "out"]
    command = [sys.executable, "-m", "audioae", "denoise", *files]
    batch = subprocess.Popen(
        [*command, "--jobs", jobs, "--progress", "json"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(hooks), str(CHECKOUT)])},
    )
    with batch:
        try:
            yield batch
        finally:
            batch.terminate()


def read_until_progress(batch: subprocess.Popen[str]) -> str:
    """The lines up to the first progress line of `rec/long.wav`, with it."""
    assert batch.stderr is not None
    said = ""
    for line in batch.stderr:
        said += line
        if '"progress"' in line and "long" in line:
            return said
    raise AssertionError(f"no progress line of long.wav in {said}")


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc to find the worker")
def test_a_worker_that_dies_fails_its_file(folder: Path) -> None:
    """A worker process that is killed fails the file it was at; another process does the rest."""
    with start_batch(folder, "2") as batch:
        said = read_until_progress(batch)
        worker = _who_writes(Path("out"))
        assert worker is not None
        os.kill(worker, signal.SIGKILL)
        said += batch.communicate(timeout=200)[1]
    assert batch.returncode == 1, said
    errors = [event for event in lines(said) if event["event"] == "error"]
    assert [event["label"] for event in errors] == ["rec/long.wav"], said
    assert "SIGKILL" in errors[0]["error"]
    assert len(list(Path("out").rglob("?.wav"))) == 10
    assert not Path("out/long.wav").exists()


def _who_writes(path: Path) -> int | None:
    """The process that has a file open."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(
                os.readlink(handle).startswith(f"{path.resolve()}/.audioae-")
                and "ledger" not in os.readlink(handle)
                for handle in (process / "fd").iterdir()
            ):
                return int(process.name)
        except OSError:
            continue
    return None


def test_same_names_in_two_folders(folder: Path) -> None:
    Path("rec/two/1.wav").write_bytes(Path("rec/one/1.wav").read_bytes())
    refused(
        folder,
        "rec/one",
        "rec/two",
        "-O",
        "out",
        told="rec/one/1.wav and rec/two/1.wav would both be written to out/1.wav",
    )
    assert run("rec/one", "rec/two", "-O", "out", "--template", "{root}/{stem}{ext}").exit_code == 0
    assert Path("out/one/1.wav").is_file() and Path("out/two/1.wav").is_file()


def test_an_output_folder_inside_the_tree_is_not_an_input(folder: Path) -> None:
    assert run("rec", "-O", "rec/out").exit_code == 0
    again = run("rec", "-O", "rec/out")
    assert counts(again) == [0, 10]
    assert not Path("rec/out/out").exists()


def test_patterns_that_no_shell_expanded_are_expanded(folder: Path) -> None:
    assert run("rec/*/[13].wav", "-O", "out").exit_code == 0
    assert set(audio(folder / "out")) == {"1.wav", "3.wav"}


def test_a_read_only_output_folder_is_found_before_computing(folder: Path) -> None:
    if not Path("/proc/self").is_dir():
        pytest.skip("needs a folder that nobody may write to")
    refused(folder, "rec", "-O", "/proc/audioae", told="/proc/audioae cannot be made")
    refused(folder, "rec", "-O", "/proc/self", told="/proc/self")


def test_outputs_that_exist_stop_all_before_computing(folder: Path) -> None:
    Path("out/two").mkdir(parents=True)
    Path("out/two/0.wav").write_bytes(b"precious")
    refused(
        folder, "rec", "-O", "out", told="out/two/0.wav exists; choose --skip-existing, --overwrite"
    )


def test_skip_existing(folder: Path) -> None:
    Path("out/two").mkdir(parents=True)
    Path("out/two/0.wav").write_bytes(b"precious")
    result = run("rec", "-O", "out", "--skip-existing", "--json")
    assert result.exit_code == 0
    assert Path("out/two/0.wav").read_bytes() == b"precious"
    assert counts(result) == [9, 1]
    assert [row["src"] for row in lines(result.stdout) if row["status"] == "skipped"] == [
        "rec/two/0.wav"
    ]


def test_a_second_run_denoises_only_what_changed(folder: Path) -> None:
    assert run("rec", "-O", "out").exit_code == 0
    assert counts(run("rec", "-O", "out")) == [0, 10]
    soundfile.write("rec/one/1.wav", np.zeros(100), 16000)
    refused(folder, "rec", "-O", "out", told="out/one/1.wav exists")
    assert counts(run("rec", "-O", "out", "--overwrite")) == [1, 9]
    assert counts(run("rec", "-O", "out", "--overwrite", "--strength", "0.5")) == [10]


def test_a_disk_that_is_too_small_is_found_before_computing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each output fits by itself, all together do not."""
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 20000})())
    refused(folder, "rec", "-O", "out", told="the outputs need 0 MiB")


@pytest.mark.parametrize(
    ("arguments", "exit_code", "told"),
    [
        (("-m", "no-such-model"), 3, "no-such-model"),
        (("--strength", "2"), 2, "strength is 2"),
        (("--template", "{steam}"), 2, "did you mean 'stem'"),
        (("--format", "flak"), 2, "did you mean 'flac'"),
        (("--failed-list", "rec/one/1.wav"), 1, "is a recording of this batch"),
        (("--failed-list", "nowhere/list"), 1, "nowhere/list cannot be written"),
        (("--residual", "out"), 1, "the folder of the outputs as well as of the residuals"),
    ],
)
def test_errors_are_reported_before_anything_is_made(
    folder: Path, arguments: tuple[str, ...], exit_code: int, told: str
) -> None:
    refused(folder, "rec", "-O", "out", *arguments, exit_code=exit_code, told=told)


def test_a_dry_run_writes_nothing(folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    result = run("rec", "-O", "out", "--dry-run", "--json")
    assert result.exit_code == 0
    assert len(lines(result.stdout)) == 10
    assert "10 files, 5 s with half" in result.stderr
    assert sorted(folder.rglob("*")) == before


def test_format_subtype_residual_and_record(folder: Path) -> None:
    result = run(
        "rec",
        "-O",
        "out",
        "--format",
        "flac",
        "--subtype",
        "PCM_24",
        "--residual",
        "rest",
        "--record",
    )
    assert result.exit_code == 0, result.output
    noisy, clean, rest = (
        soundfile.read(name)[0] for name in ("rec/one/1.wav", "out/one/1.flac", "rest/one/1.flac")
    )
    assert np.abs(clean + rest - noisy).max() < 1e-6
    assert soundfile.info("out/one/1.flac").subtype == "PCM_24"
    assert Path("out/one/1.flac.audioae.json").is_file()


def test_progress_json_has_start_progress_and_end_of_each_file(folder: Path) -> None:
    Path("rec/one/3.wav").write_bytes(b"text")
    result = run("rec", "-O", "out", "--progress", "json", "--jobs", "2")
    events = lines(result.stderr)
    assert result.stdout == ""
    by_kind = {
        kind: {event["label"] for event in events if event["event"] == kind}
        for kind in ("start", "progress", "done", "error")
    }
    assert by_kind["error"] == {"rec/one/3.wav"}
    assert len(by_kind["start"]) == 9
    assert by_kind["start"] == by_kind["progress"] == by_kind["done"]


def test_a_bar_for_all_files(folder: Path) -> None:
    result = run("rec", "-O", "out", "--progress", "bar")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "10/10 files" in result.stderr


def test_quiet_prints_errors_only(folder: Path) -> None:
    assert run("rec", "-O", "out", "-q").output == ""
    Path("rec/bad.wav").write_bytes(b"text")
    said = run("rec", "-O", "other", "-q")
    assert said.exit_code == 1
    assert [line.split()[1] for line in said.stderr.splitlines()] == ["rec/bad.wav"]


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_an_interrupted_batch_leaves_nothing_incomplete_and_resumes(
    folder: Path, jobs: str
) -> None:
    with start_batch(folder, jobs) as batch:
        read_until_progress(batch)
        batch.send_signal(signal.SIGINT)
        said = batch.communicate(timeout=200)[1]
    assert batch.returncode == 130, said
    assert said.splitlines()[-1] == "Error: interrupted"
    assert "Traceback" not in said
    assert "resume" in said
    assert not list(Path("out").rglob(".audioae-*-*"))
    assert not Path("out/long.wav").exists()
    assert run("rec/long.wav", "rec", "-O", "out").exit_code == 0


def test_two_batches_into_one_folder(folder: Path) -> None:
    """The second is refused while the first is running."""
    from audioae.denoising.batch import Ledger

    Path("out").mkdir()
    with Ledger(Path("out"), "r"):
        refused(folder, "rec", "-O", "out", told="another run is writing into out")


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can mount a small disk"
)
def test_full_disk(folder: Path) -> None:
    """Formats whose size is known are refused beforehand. Others fail with one line each; inputs
    stay as they are and nothing incomplete is left.
    """
    disk = folder / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(disk)],
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        pytest.skip(f"no small disk: {mounted.stderr.strip()}")
    try:
        before = contents(folder / "rec")
        refused(folder, "rec", "-O", "disk/out", told="make space")
        result = run("rec", "-O", "disk/out", "--format", "flac")
        assert result.exit_code == 1
        assert not list(disk.rglob(".audioae-*-*"))
        for path in disk.rglob("*.flac"):
            assert soundfile.info(path).frames == 8000
        assert contents(folder / "rec") == before
        assert all(
            line.startswith(("Error: ", "Warning: ")) or "denoised" in line
            for line in result.stderr.splitlines()
        )
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.skipif(os.name != "posix", reason="needs names with line breaks, and FIFOs")
def test_failed_names_with_line_breaks_and_pipes_in_folders(folder: Path) -> None:
    Path("rec/a\nb.wav").write_bytes(b"no sound")
    os.mkfifo("rec/waiting.wav")
    more = ("--failed-list", "failed", "-0", "--json", "--progress", "json")
    result = run("rec", "-O", "out", *more)
    assert result.exit_code == 1
    assert Path("failed").read_bytes() == b"rec/a\nb.wav\0"
    skipped = [row for row in lines(result.stdout) if row["status"] == "skipped"]
    assert [row["src"] for row in skipped] == ["rec/waiting.wav"]
    events = lines(result.stderr)
    assert any("rec/waiting.wav" in event.get("text", "") for event in events)
    assert run("rec", "-O", "out", "-0").exit_code == 2


def crashing_plan(job: FileJob) -> FilePlan:
    if job.src.name == "crash.mka":
        os.kill(os.getpid(), signal.SIGSEGV)
    return plan_file(job)


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_a_decoder_that_crashes_fails_one_file(folder: Path) -> None:
    """Files for FFmpeg are planned in a process of their own."""
    files = [Path("rec/one/1.wav"), Path("rec/crash.mka"), Path("rec/one/3.wav")]
    with Planner(crashing_plan) as planner:
        for path in files:
            job = FileJob(path, Path(f"{path.stem}.out.wav"))
            if path.suffix == ".mka":
                with pytest.raises(AudioFileError, match=r"rec/crash\.mka.*SIGSEGV"):
                    planner.plan(job)
            else:
                assert planner.plan(job).job == job
        with pytest.raises(AudioFileError, match="nowhere"):
            planner.plan(FileJob(Path("nowhere.wav"), Path("out.wav")))


def test_files_with_decoders_are_denoised_in_another_process(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("in this process")

    assert run("rec", "-O", "plain", "-j", "1").exit_code == 0
    monkeypatch.setattr("audioae.denoising.batch.run._run_here", refuse)
    for number in range(2):
        soundfile.write(f"rec/{number}.flac", np.zeros(4000), 16000)
    result = run("rec", "-O", "out", "-j", "1")
    assert result.exit_code == 0, result.stderr
    assert audio(Path("plain")).items() <= audio(Path("out")).items()
