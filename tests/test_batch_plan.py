"""A plan of very many files is small, and knows what a plan of each file knows."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
from fake_models import write_half_model

from audioae.denoising import FileJob, plan_file
from audioae.denoising.batch import (
    BatchPlan,
    BatchSettings,
    Ledger,
    Outcome,
    OutputNames,
    PlannedFile,
    find_inputs,
    name_jobs,
    output_folders,
    plan_batch,
    run_batch,
)

FILES = 300
MOST_BYTES = 900  # of memory for a file


def make_files(folder: Path) -> None:
    """Short recordings, half of them longer than the others."""
    folder.mkdir()
    for number in range(FILES):
        soundfile.write(folder / f"recording-{number:06d}.wav", np.zeros(100 + number % 2), 16000)


def plan(folder: Path, out: Path) -> BatchPlan:
    jobs = name_jobs(find_inputs([folder]), OutputNames(out))
    with output_folders(jobs.outputs()):
        return plan_batch(jobs, Ledger(out, "recipe"))


def bytes_kept(make: Callable[[], object]) -> float:
    """Bytes for a file of what `make` returns."""
    make()  # caches are filled
    gc.collect()
    tracemalloc.start()
    kept = make()
    gc.collect()
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert kept is not None
    return held / FILES


def test_little_memory_is_kept_for_a_planned_file(tmp_path: Path) -> None:
    make_files(tmp_path / "rec")
    assert bytes_kept(lambda: plan(tmp_path / "rec", tmp_path / "out")) < MOST_BYTES


def test_little_memory_is_kept_for_a_line_of_the_ledger(tmp_path: Path) -> None:
    make_files(tmp_path / "rec")
    with Ledger(tmp_path, "recipe") as ledger:
        for path in (tmp_path / "rec").iterdir():
            ledger.begin(path, tmp_path / "out" / path.name)
            ledger.end(path, tmp_path / "out" / path.name)
    assert bytes_kept(lambda: Ledger(tmp_path, "recipe")) < MOST_BYTES


def test_a_planned_file_has_the_values_of_its_plan(tmp_path: Path) -> None:
    rec = tmp_path / "rec"
    rec.mkdir()
    for number, (rate, channels) in enumerate([(16000, 1), (16000, 1), (8000, 2)]):
        samples = np.zeros((100 * (number + 1), channels))
        for suffix in ("wav", "flac", "mp3"):
            soundfile.write(rec / f"{suffix}{number}.{suffix}", samples, rate)

    def job(src: Path, dst: Path, residual: Path | None) -> FileJob:
        return FileJob(src, dst, residual, normalize_lufs=-20.0)

    names = OutputNames(tmp_path / "out", tmp_path / "residual", suffix=".flac")
    jobs = name_jobs(find_inputs([rec]), names, job)
    with output_folders(jobs.outputs()):
        files = plan_batch(jobs, Ledger(tmp_path / "out", "recipe")).files
        wholes = [plan_file(each.job) for each in files]
    assert [each.to_dict() for each in files] == [whole.to_dict() for whole in wholes]
    assert [each.job for each in files] == list(jobs) == [whole.job for whole in wholes]
    assert [each.seconds for each in files] == [whole.source.seconds for whole in wholes]
    assert [each.warnings for each in files] == [whole.warnings for whole in wholes]
    by_name = {each.job.src.name: each for each in files}
    assert by_name["wav0.wav"].form is by_name["wav1.wav"].form is not by_name["wav2.wav"].form


class Outcomes:
    """Keeps the outcomes of a batch by the names of their inputs."""

    def __init__(self) -> None:
        self.found: dict[str, Outcome] = {}

    def started(self, planned: PlannedFile) -> None:
        """Nothing is kept."""

    def advanced(self, planned: PlannedFile, seconds: float) -> None:
        """Nothing is kept."""

    def ended(self, planned: PlannedFile, outcome: Outcome) -> None:
        self.found[planned.job.src.name] = outcome


def test_inputs_that_changed_since_the_batch_was_planned(tmp_path: Path) -> None:
    rec, out = tmp_path / "rec", tmp_path / "out"
    rec.mkdir()
    for name in ("longer.wav", "gone.wav", "damaged.wav", "same.wav"):
        soundfile.write(rec / name, np.zeros(8000), 16000)
    files = plan(rec, out).files
    soundfile.write(rec / "longer.wav", np.zeros((30000, 2)), 44100)
    (rec / "gone.wav").unlink()
    (rec / "damaged.wav").write_bytes(b"RIFF")
    out.mkdir()
    outcomes, model = Outcomes(), write_half_model(tmp_path / "half.onnx")
    with Ledger(out, "recipe") as ledger:
        run_batch(files, BatchSettings(model), outcomes, ledger=ledger, jobs=1)
    assert {name for name, each in outcomes.found.items() if each.error} == {
        "gone.wav",
        "damaged.wav",
    }
    form = soundfile.info(out / "longer.wav")
    assert (form.samplerate, form.channels, form.frames) == (44100, 2, 30000)
    assert sorted(path.name for path in out.glob("*.wav")) == ["longer.wav", "same.wav"]
    states = {
        path.name: Ledger(out, "recipe").state(path, out / path.name) for path in rec.iterdir()
    }
    assert states == {"longer.wav": "done", "same.wav": "done", "damaged.wav": "new"}
