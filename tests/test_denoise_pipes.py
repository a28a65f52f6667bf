"""Denoising through stdin and stdout: headers without a length, and raw samples as they arrive."""

from __future__ import annotations

import errno
import io
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from fake_models import write_half_model
from hypothesis import given, settings
from hypothesis import strategies as st

from audioae.cli import main
from audioae.denoising.batch.pipes import BYTES, PREFIX, RawForm
from audioae.errors import SettingsError
from audioae.storage import OWNER, PrivateFolder

CHECKOUT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a gain of 0.5 at all frequencies."""
    return write_half_model(tmp_path_factory.mktemp("model") / "half.onnx")


@pytest.fixture
def noisy(tmp_path: Path, half: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """One second of noise, `[num_samples, 2]`, also in in.wav: 44.1 kHz, 24 bits."""
    waveform = np.round(np.random.default_rng(0).normal(0, 0.1, (44100, 2)) * 2**23) / 2**23
    soundfile.write(tmp_path / "in.wav", waveform, 44100, subtype="PCM_24")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AUDIOAE_DENOISE_MODEL", str(half))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return waveform


def run(*arguments: str, stdin: bytes = b"") -> Result:
    return CliRunner().invoke(main, ["denoise", *arguments], prog_name="audioae", input=stdin)


def decoded(result: Result) -> tuple[np.ndarray, soundfile.SoundFile]:
    with soundfile.SoundFile(io.BytesIO(result.stdout_bytes)) as sound:
        return sound.read(always_2d=True), sound


def left_over() -> list[str]:
    """The names of the files besides the input."""
    return sorted(path.name for path in Path().iterdir() if path.name != "in.wav")


def test_wav_in_and_out_equals_the_files(noisy: np.ndarray) -> None:
    assert run("in.wav", "out.wav", "-q").exit_code == 0
    piped = run("-", "-", stdin=Path("in.wav").read_bytes())
    assert piped.exit_code == 0, piped.stderr
    waveform, sound = decoded(piped)
    assert (sound.format, sound.subtype, sound.samplerate, sound.frames) == (
        "WAV",
        "PCM_24",
        44100,
        44100,
    )
    assert np.array_equal(waveform, soundfile.read("out.wav")[0])
    assert left_over() == ["out.wav"], "no temporary file is left"


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFF000, 0xFFFFFFFF - 44])
def test_headers_without_the_length(noisy: np.ndarray, size: int) -> None:
    """Lengths that ffmpeg, sox, arecord and others leave in a header when they cannot seek."""
    data = bytearray(Path("in.wav").read_bytes())
    at = data.index(b"data")
    data[4:8] = struct.pack("<I", min(size + 36, 0xFFFFFFFF))
    data[at + 4 : at + 8] = struct.pack("<I", size)
    piped = run("-", "-", stdin=bytes(data))
    assert piped.exit_code == 0, piped.stderr
    waveform, sound = decoded(piped)
    assert sound.frames == 44100
    assert np.abs(waveform - noisy / 2).max() < 1e-4
    assert struct.unpack("<I", piped.stdout_bytes[4:8])[0] == len(piped.stdout_bytes) - 8


def test_a_wav_of_no_samples(noisy: np.ndarray) -> None:
    soundfile.write("empty.wav", np.zeros((0, 1)), 16000)
    piped = run("-", "-", stdin=Path("empty.wav").read_bytes())
    assert piped.exit_code == 0, piped.stderr
    assert decoded(piped)[1].frames == 0


def test_other_containers(noisy: np.ndarray) -> None:
    soundfile.write("in.flac", noisy, 44100, subtype="PCM_24")
    assert decoded(run("-", "-", stdin=Path("in.flac").read_bytes()))[1].format == "FLAC"
    assert decoded(run("in.flac", "-", "--format", "wav"))[1].format == "WAV"
    assert run("-", "out.flac", stdin=Path("in.wav").read_bytes()).exit_code == 0
    assert soundfile.info("out.flac").subtype == "PCM_24"


def test_raw_through_a_pipe(noisy: np.ndarray) -> None:
    form = RawForm(44100, 2, "PCM_16")
    data, _ = form.encode(noisy.T.astype(np.float32))
    piped = run("-", "-", "--raw", "44100:2:PCM_16", stdin=data)
    assert piped.exit_code == 0, piped.stderr
    clean = form.decode(piped.stdout_bytes)
    assert clean.shape == noisy.T.shape
    assert np.abs(clean - noisy.T / 2).max() < 1e-4


def test_raw_to_a_file_and_a_file_to_raw(noisy: np.ndarray) -> None:
    data, _ = RawForm(44100, 2, "FLOAT").encode(noisy.T.astype(np.float32))
    told = json.loads(run("-", "out.wav", "--raw", "44100:2:FLOAT", "--json", stdin=data).stdout)
    assert (told["src"], told["dst"], told["input"]["path"], told["output"]["subtype"]) == (
        "-",
        "out.wav",
        "-",
        "FLOAT",
    )
    assert np.abs(soundfile.read("out.wav")[0] - noisy / 2).max() < 1e-4
    raw = run("in.wav", "-", "--raw", "44100:2:PCM_24").stdout_bytes
    assert np.abs(RawForm(44100, 2, "PCM_24").decode(raw).T - noisy / 2).max() < 1e-4


def test_raw_samples_are_denoised_as_they_arrive(noisy: np.ndarray, half: Path) -> None:
    """Output comes before the input ends."""
    command = [
        sys.executable,
        "-m",
        "audioae",
        "denoise",
        "-",
        "-",
        "--raw",
        "16000:1:PCM_16",
        "-q",
    ]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "AUDIOAE_DENOISE_MODEL": str(half)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as live:
        assert live.stdin is not None and live.stdout is not None
        live.stdin.write(bytes(2 * 16000))
        live.stdin.flush()
        # this would block for ever if nothing came before the end
        assert len(live.stdout.read(2 * 15000)) == 2 * 15000
        live.stdin.close()
        assert len(live.stdout.read()) == 2 * 1000
    assert live.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "stdin", "exit_code", "told"),
    [
        (("-", "-"), b"", 1, "stdin is empty"),
        (("-", "-"), b"This is no sound.", 1, "stdin.wav"),
        (("-", "-", "--raw", "16000:1:PCM_16"), b"odd", 1, "stdin ended within a sample"),
        (("-", "out.wav", "--raw", "16000:1:PCM_16"), b"odd", 1, "stdin ended within a sample"),
        (("in.wav", "-", "--raw", "16000:1:PCM_16"), b"", 2, "the input has 44100 Hz, 2 channels"),
        (("-", "-", "--raw", "16000"), b"", 2, "expected RATE:CHANNELS:SUBTYPE"),
        (("-", "-", "--raw", "16000:1:PCM16"), b"", 2, "did you mean 'PCM_16'"),
        (("-", "-", "--json"), b"", 2, "stdout"),
        (("-", "-", "--record"), b"", 2, "--record"),
        (("missing.wav", "-"), b"", 1, "missing.wav"),
        (("-", "nowhere/out.wav"), b"", 1, "nowhere"),
        (("-", "-", "-m", "no-such-model"), b"", 3, "no-such-model"),
    ],
)
def test_errors_are_one_line_and_nothing_on_stdout(
    noisy: np.ndarray, arguments: tuple[str, ...], stdin: bytes, exit_code: int, told: str
) -> None:
    result = run(*arguments, stdin=stdin)
    assert (result.exit_code, result.stdout_bytes) == (exit_code, b""), result.stderr
    assert told in result.stderr
    assert left_over() == []


def test_an_output_that_exists_is_found_before_stdin_is_read(noisy: np.ndarray) -> None:
    Path("out.wav").write_bytes(b"precious")
    assert "out.wav exists" in run("-", "out.wav", stdin=Path("in.wav").read_bytes()).stderr
    assert Path("out.wav").read_bytes() == b"precious"


@pytest.mark.parametrize("subtype", BYTES)
def test_raw_samples_come_back_as_they_were(subtype: str, rng: np.random.Generator) -> None:
    form = RawForm(8000, 3, subtype)
    data = rng.integers(0, 256, 300 * form.sample_bytes, np.uint8).tobytes()
    if subtype in ("FLOAT", "DOUBLE"):
        data = rng.normal(size=900).astype(np.float32).astype(f"<f{BYTES[subtype]}").tobytes()
    block = form.decode(data)
    assert (block.shape, block.dtype) == ((3, 300), np.float32)
    if subtype == "PCM_32":  # float32 holds the upper 24 bits
        again = np.frombuffer(form.encode(block)[0], "<i4").astype(np.int64)
        assert np.abs(again - np.frombuffer(data, "<i4")).max() <= 128
    else:
        assert form.encode(block)[0] == data


def test_raw_samples_beyond_full_scale_are_clipped_and_counted() -> None:
    data, clipped = RawForm(8000, 1, "PCM_16").encode(np.array([[1.5, -1.5, 0.5]], np.float32))
    assert (np.frombuffer(data, "<i2").tolist(), clipped) == ([32767, -32768, 16384], 2)


@settings(max_examples=200, deadline=None)
@given(
    text=st.text(max_size=20) | st.from_regex(r"\d{1,6}:\d{1,3}(:[A-Z_0-9]{0,8})?", fullmatch=True)
)
def test_any_text_is_a_raw_form_or_a_settings_error(text: str) -> None:
    try:
        form = RawForm.parse(text)
    except SettingsError as error:
        assert len(str(error).splitlines()) <= 1 + text.count("\n")
    else:
        assert form.sample_rate > 0 and 1 <= form.channels <= 64 and form.subtype in BYTES


def test_a_full_temporary_folder_is_named(
    noisy: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: object, part: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    data = Path("in.wav").read_bytes()
    monkeypatch.setattr("audioae.denoising.batch.pipes._write", full)
    result = run("-", "out.wav", stdin=data)
    assert result.exit_code == 1
    assert str(tmp_path) in result.stderr and "TMPDIR" in result.stderr
    assert "internal" not in result.stderr and len(result.stderr.splitlines()) == 1
    assert left_over() == []


def test_recordings_that_killed_runs_left_in_the_temporary_folder_are_removed(
    noisy: np.ndarray, tmp_path: Path
) -> None:
    killed = tmp_path / f"{PREFIX}killed"
    killed.mkdir()
    for name in (OWNER, "stdin.wav"):
        (killed / name).touch()
    with PrivateFolder(PREFIX) as living:
        assert run("-", "-", stdin=Path("in.wav").read_bytes()).exit_code == 0
        assert left_over() == [living.path.name]
    assert left_over() == []


def test_a_temporary_folder_that_cannot_be_made_is_an_error_of_the_file(
    noisy: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.mkdtemp", fail)
    result = run("-", "out.wav", stdin=Path("in.wav").read_bytes())
    assert result.exit_code == 1 and "TMPDIR" in result.stderr
    assert "internal" not in result.stderr and len(result.stderr.splitlines()) == 1
