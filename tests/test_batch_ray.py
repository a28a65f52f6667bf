"""A batch on a local Ray cluster gives the same bytes, and a lost worker loses no file."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fake_models import write_half_model

CHECKOUT = Path(__file__).parents[1]
HAS_RAY = importlib.util.find_spec("ray") is not None  # the batches are other processes
pytestmark = pytest.mark.skipif(not HAS_RAY, reason="needs Ray; pip install 'audioae[ray]'")


@pytest.fixture
def case(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    (tmp_path / "rec").mkdir()
    for number in range(4):
        # too short for an assessment whether it is speech
        soundfile.write(tmp_path / "rec" / f"{number}.wav", rng.normal(0, 0.1, 6000), 16000)
    write_half_model(tmp_path / "half.onnx")
    return tmp_path


HOLD_ONCE = """
import os
import sys
import time


def hold_once(event, arguments):
    if event == "os.rename" and str(arguments[1]).endswith("long.wav"):
        try:
            os.close(os.open(os.environ["HELD"], os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        time.sleep(300)


sys.addaudithook(hold_once)
"""


def batch(case: Path, out: str, *arguments: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "audioae",
        "denoise",
        "rec",
        "-O",
        out,
        "-m",
        "half.onnx",
        *arguments,
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(
            [str(case / "hooks"), str(CHECKOUT), os.environ.get("PYTHONPATH", "")]
        ),
        "HELD": str(case / "held"),
    }
    return subprocess.Popen(
        command,
        cwd=case,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def audio(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.wav")}


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc to find the worker")
def test_a_cluster_gives_the_same_bytes_reports_failures_and_loses_no_file(case: Path) -> None:
    """One cluster for all, since its start takes most of the time. One worker is killed just before
    it would publish its output; another one does the file.
    """
    soundfile.write(case / "rec" / "long.wav", np.zeros(16000), 16000)
    assert batch(case, "here").communicate(timeout=60)[1].startswith("5 files denoised")
    soundfile.write(case / "rec" / "nan.wav", np.array([np.nan]), 16000, subtype="FLOAT")
    (case / "hooks").mkdir()
    (case / "hooks" / "sitecustomize.py").write_text(HOLD_ONCE)
    running = batch(case, "there", "--ray", "--json")
    while running.poll() is None and not (case / "held").exists():
        time.sleep(0.02)
    killed = _who_writes(case / "there", but=running.pid)
    if killed:
        os.kill(killed, signal.SIGKILL)
    told, said = running.communicate(timeout=240)
    assert killed, said
    assert running.returncode == 1, said
    assert sorted(json.loads(line)["status"] for line in told.splitlines()) == ["done"] * 5 + [
        "failed"
    ], said
    assert "5 files denoised, 1 failed" in said
    assert "sample 0 of channel 0 is nan" in said
    assert soundfile.info(case / "there" / "long.wav").frames == 16000
    assert audio(case / "there") == audio(case / "here")
    assert not list((case / "there").glob(".audioae-*-*"))


def test_a_cluster_that_is_not_there(case: Path) -> None:
    told, said = (ended := batch(case, "out", "--ray=127.0.0.1:1")).communicate(timeout=240)
    assert (ended.returncode, told) == (1, "")
    assert said.splitlines()[-1].startswith("Error: no Ray cluster at 127.0.0.1:1")


def _who_writes(path: Path, *, but: int) -> int | None:
    """A process other than `but` that has a file open."""
    if not path.exists():
        return None
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if int(process.name) != but and any(
                "/.audioae-" in (name := os.readlink(handle))
                and name.startswith(str(path))
                and "ledger" not in name
                for handle in (process / "fd").iterdir()
            ):
                return int(process.name)
        except OSError:
            continue
    return None
