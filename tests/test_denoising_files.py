"""Files: format, length and alignment are kept, memory is bounded, no incomplete output is left."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fake_engines import constant, smoothing

from audioae.audio import info, read
from audioae.denoising import DenoiseSettings, FileJob, denoise, denoise_file, plan_file, run_plan
from audioae.denoising.stream import block_length
from audioae.engine import Quality
from audioae.errors import AudioFileError, ModelNotFoundError, OutputError

FORMAT = ("sample_rate", "channels", "num_samples", "container", "subtype", "endian", "tags")


def make(
    path: Path,
    *,
    sample_rate: int = 16000,
    channels: int = 1,
    samples: int = 8000,
    subtype: str = "PCM_16",
    level: float = 0.2,
) -> Path:
    """Noise in a file with a title."""
    waveform = np.random.default_rng(0).normal(0, level, (samples, channels)).astype(np.float32)
    with soundfile.SoundFile(path, "w", sample_rate, channels, subtype) as sound:
        sound.title = "a title"
        sound.write(waveform)
    return path


@pytest.mark.parametrize("name", ["in.wav", "in.flac", "in.aiff", "in.caf"])
@pytest.mark.parametrize("sample_rate", [8000, 22050, 48000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_the_format_is_kept(tmp_path: Path, name: str, sample_rate: int, channels: int) -> None:
    src = make(tmp_path / name, sample_rate=sample_rate, channels=channels, subtype="PCM_24")
    dst = tmp_path / f"out{src.suffix}"
    result = denoise_file(src, dst, model=constant(0.5))
    before, after = info(src), info(dst)
    for name in FORMAT:
        assert getattr(before, name) == getattr(after, name), name
    assert np.abs(read(dst)[0] - 0.5 * read(src)[0]).max() < 1e-5
    assert (result.sample_rate, result.channels) == (sample_rate, channels)
    assert result.num_samples == 8000


@pytest.mark.parametrize("sample_rate", [16000, 44100])
@pytest.mark.parametrize("extra", [None, -1, 0, 1])
@pytest.mark.parametrize("quality", ["fast", "best"])
def test_a_file_equals_an_array(
    tmp_path: Path, sample_rate: int, extra: int | None, quality: Quality
) -> None:
    samples = 1000 if extra is None else block_length(sample_rate, 1) + extra
    src, dst = (
        make(tmp_path / "in.wav", sample_rate=sample_rate, samples=samples, subtype="FLOAT"),
        tmp_path / "out.wav",
    )
    settings = DenoiseSettings(quality=quality)
    denoise_file(src, dst, model=smoothing(), settings=settings)
    array = denoise(read(src)[0], sample_rate, model=smoothing(), settings=settings)
    assert np.abs(read(dst)[0] - array).max() < 1e-5


@pytest.mark.parametrize("samples", [0, 1])
@pytest.mark.parametrize("sample_rate", [16000, 48000])
def test_files_of_no_samples_and_of_one(tmp_path: Path, samples: int, sample_rate: int) -> None:
    src, dst = (
        make(tmp_path / "in.wav", samples=samples, sample_rate=sample_rate),
        tmp_path / "out.wav",
    )
    result = denoise_file(src, dst, model=smoothing())
    assert info(dst).num_samples == result.num_samples == samples
    assert info(dst).subtype == "PCM_16"


def test_output_plus_residual_is_the_input(tmp_path: Path) -> None:
    src = make(tmp_path / "in.wav", sample_rate=44100, channels=2, subtype="FLOAT")
    denoise_file(src, tmp_path / "out.wav", model=smoothing(), residual=tmp_path / "rest.wav")
    enhanced, residual = read(tmp_path / "out.wav")[0], read(tmp_path / "rest.wav")[0]
    assert np.abs(residual).max() > 0.01
    assert np.abs(enhanced + residual - read(src)[0]).max() < 1e-6


def test_settings_and_subtype_are_used(tmp_path: Path) -> None:
    src, dst = make(tmp_path / "in.wav", subtype="PCM_24"), tmp_path / "out.wav"
    denoise_file(
        src,
        dst,
        model=constant(0.01),
        settings=DenoiseSettings(max_attenuation_db=6),
        subtype="PCM_16",
    )
    assert info(dst).subtype == "PCM_16"
    assert np.abs(read(dst)[0] - 10 ** (-6 / 20) * read(src)[0]).max() < 1e-4


def test_the_fields_of_the_result(tmp_path: Path) -> None:
    src, dst = make(tmp_path / "in.wav", sample_rate=48000, samples=48000), tmp_path / "out.wav"
    result = denoise_file(src, dst, model=constant(0.1))
    assert result.mean_attenuation_db == pytest.approx(20, abs=0.01)
    assert result.seconds == 1.0
    assert result.real_time_factor > 0
    assert result.num_clipped == 0
    assert result.verdict is not None
    assert result.verdict.input_snr_db == pytest.approx(20 * np.log10(0.1 / 0.9), abs=0.01)
    values = json.loads(json.dumps(result.to_dict()))
    assert (values["src"], values["dst"], values["residual"]) == (str(src), str(dst), None)
    assert (values["model"], values["quality"]) == ("fake", "best")


def test_samples_above_full_scale_are_clipped_and_counted(tmp_path: Path) -> None:
    src, dst = make(tmp_path / "in.wav", level=0.3), tmp_path / "out.wav"
    result = denoise_file(src, dst, model=constant(2.0))
    over = int((np.abs(2 * read(src)[0]) >= 1).sum())
    assert result.num_clipped == pytest.approx(over, abs=2)
    assert np.abs(read(dst)[0]).max() <= 1
    assert "full scale" in result.warnings[-1]


def test_progress_counts_seconds(tmp_path: Path) -> None:
    src, seconds = make(tmp_path / "in.wav", samples=16000 * 10), []
    denoise_file(src, tmp_path / "out.wav", model=constant(1.0), progress=seconds.append)
    assert seconds == sorted(seconds)
    assert len(seconds) >= 3
    assert seconds[-1] == 10.0


@pytest.mark.parametrize(
    ("quality", "most_frames"),
    [
        # "fast": a block, and what the filter of rumble holds back.
        ("fast", (block_length(16000, 1) + 2 * 16000) / 256 + 2),
        ("best", (10 + 2 * 2 + 2 * 2) * 16000 / 256),
    ],
)
def test_the_input_of_the_model_does_not_grow_with_the_file(
    tmp_path: Path, quality: Quality, most_frames: float
) -> None:
    src, engine = make(tmp_path / "in.wav", samples=16000 * 30), constant(1.0)
    settings = DenoiseSettings(quality=quality)
    denoise_file(src, tmp_path / "out.wav", model=engine, settings=settings)
    assert engine.most_frames <= most_frames


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_first_invalid_sample_is_named(tmp_path: Path, value: float) -> None:
    waveform = np.zeros((16000 * 6, 2), np.float32)
    waveform[80000:, 1] = value
    soundfile.write(tmp_path / "in.wav", waveform, 16000, subtype="FLOAT")
    with pytest.raises(AudioFileError, match=r"in\.wav.*sample 80000 of channel 1"):
        denoise_file(
            tmp_path / "in.wav",
            tmp_path / "out.wav",
            model=constant(1.0),
            residual=tmp_path / "rest.wav",
        )
    assert [path.name for path in tmp_path.iterdir()] == ["in.wav"]


def test_an_interruption_keeps_an_existing_output(tmp_path: Path) -> None:
    src, dst = make(tmp_path / "in.wav", samples=16000 * 10), make(tmp_path / "out.wav", samples=7)
    kept = dst.read_bytes()

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        denoise_file(src, dst, model=constant(1.0), overwrite=True, progress=interrupt)
    assert dst.read_bytes() == kept
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.wav", "out.wav"]


def test_an_existing_output_is_replaced_only_with_overwrite(tmp_path: Path) -> None:
    src, dst = make(tmp_path / "in.wav"), make(tmp_path / "out.wav", samples=7)
    with pytest.raises(OutputError, match=r"out\.wav"):
        denoise_file(src, dst, model=constant(1.0))
    assert info(dst).num_samples == 7
    denoise_file(src, dst, model=constant(1.0), overwrite=True)
    assert info(dst).num_samples == 8000


@pytest.mark.parametrize("same", ["in.wav", "sub/../in.wav", "link.wav", "hard.wav"])
def test_the_input_is_never_an_output(tmp_path: Path, same: str) -> None:
    src = make(tmp_path / "in.wav")
    (tmp_path / "sub").mkdir()
    (tmp_path / "link.wav").symlink_to(src)
    (tmp_path / "hard.wav").hardlink_to(src)
    kept = src.read_bytes()
    with pytest.raises(OutputError, match="both the input and the output"):
        denoise_file(src, tmp_path / same, model=constant(1.0), overwrite=True)
    with pytest.raises(OutputError, match="both the input and the residual"):
        denoise_file(
            src, tmp_path / "out.wav", residual=tmp_path / same, model=constant(1.0), overwrite=True
        )
    assert src.read_bytes() == kept


def test_a_file_that_is_named_like_a_temporary_one_is_kept(tmp_path: Path) -> None:
    src = make(tmp_path / "in.wav").rename(tmp_path / "out.wav.part")
    kept = src.read_bytes()
    denoise_file(src, tmp_path / "out.wav", model=constant(1.0))
    assert src.read_bytes() == kept


def test_an_input_that_changes_is_noticed(tmp_path: Path) -> None:
    src, engine = make(tmp_path / "in.wav"), constant(1.0)
    plan = plan_file(FileJob(src, tmp_path / "out.wav"))
    soundfile.write(src, np.zeros(5000), 48000)  # before its turn: it is planned again
    result = run_plan(plan, engine)
    assert (result.sample_rate, result.num_samples) == (48000, 5000)
    plan = plan_file(FileJob(src, tmp_path / "late.wav"))

    def append(seconds: float) -> None:
        with src.open("ab") as file:
            file.write(bytes(100))

    with pytest.raises(AudioFileError, match="changed"):
        run_plan(plan, engine, progress=append)
    assert not (tmp_path / "late.wav").exists()


@pytest.mark.skipif(os.name != "posix", reason="needs permissions")
def test_an_output_has_the_permissions_of_its_input_or_of_what_it_replaces(tmp_path: Path) -> None:
    src, dst, engine = make(tmp_path / "in.wav"), tmp_path / "out.wav", constant(1.0)
    src.chmod(0o600)
    denoise_file(src, dst, model=engine)
    assert dst.stat().st_mode & 0o777 == 0o600
    dst.chmod(0o640)
    denoise_file(src, dst, model=engine, overwrite=True)
    assert dst.stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(os.name != "posix", reason="needs the limit of POSIX")
@pytest.mark.parametrize("length", [251, 255])
def test_the_longest_names_can_be_written(tmp_path: Path, length: int) -> None:
    name = "x" * (length - 4) + ".wav"
    denoise_file(make(tmp_path / "in.wav"), tmp_path / name, model=constant(1.0))
    assert (tmp_path / name).exists()


def test_the_residual_is_not_the_output(tmp_path: Path) -> None:
    src = make(tmp_path / "in.wav")
    with pytest.raises(OutputError, match="both the output and the residual"):
        denoise_file(
            src,
            tmp_path / "out.wav",
            residual=tmp_path / "sub" / ".." / "out.wav",
            model=constant(1.0),
        )


def test_the_outputs_are_checked_before_the_model_is_loaded(tmp_path: Path) -> None:
    src = make(tmp_path / "in.wav")
    with pytest.raises(OutputError):
        denoise_file(src, tmp_path / "nowhere" / "out.wav", model="no-such-model")
    with pytest.raises(ModelNotFoundError, match="no-such-model"):
        denoise_file(src, tmp_path / "out.wav", model="no-such-model")
    assert [path.name for path in tmp_path.iterdir()] == ["in.wav"]


def test_a_plan_writes_nothing(tmp_path: Path) -> None:
    src = make(tmp_path / "in.wav", subtype="PCM_24")
    plan = plan_file(FileJob(src, tmp_path / "out.flac", residual=tmp_path / "rest.wav"))
    assert (plan.output.container, plan.output.subtype, plan.source.num_samples) == (
        "FLAC",
        "PCM_24",
        8000,
    )
    assert json.loads(json.dumps(plan.to_dict()))["container"] == "FLAC"
    assert [path.name for path in tmp_path.iterdir()] == ["in.wav"]


OPENED: list[str] = []  # while it is not empty, what is opened is added


def note_opened(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and OPENED and isinstance(arguments[0], (str, os.PathLike)):
        OPENED.append(os.fspath(arguments[0]))


def test_an_input_is_opened_three_times_at_most(tmp_path: Path) -> None:
    """For its header, for its samples and for its metadata."""
    src = make(tmp_path / "in.wav", samples=16000)
    sys.addaudithook(note_opened)  # cannot be removed
    OPENED.append("begin")
    try:
        denoise_file(src, tmp_path / "out.wav", model=constant(0.5))
        count = OPENED.count(str(src))
    finally:
        OPENED.clear()
    assert 1 <= count <= 3


@pytest.mark.parametrize("long", ["src", "dst", "residual"])
@pytest.mark.parametrize("name", ["n" * 300 + ".wav", "/".join(["n" * 200] * 30) + "/a.wav"])
def test_paths_that_are_too_long_are_errors_of_audioae(
    tmp_path: Path, long: str, name: str
) -> None:
    paths = {"src": make(tmp_path / "in.wav"), "dst": tmp_path / "out.wav", "residual": None}
    paths[long] = tmp_path / name
    with pytest.raises(AudioFileError if long == "src" else OutputError):
        denoise_file(**paths, model=constant(0.5))  # type: ignore[arg-type]
    assert os.listdir(tmp_path) == ["in.wav"]
