"""`audioae denoise`: output on stdout and stderr, and errors, which are one line with an exit code
and change no file.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from fake_engines import FakeEngine
from fake_models import write_half_model

from audioae.cli import main
from audioae.denoising import PRESETS, DenoiseSettings

CHECKOUT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a gain of -6 dB."""
    return write_half_model(tmp_path_factory.mktemp("model") / "half.onnx")


@pytest.fixture
def folder(tmp_path: Path, half: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with a second of noise in it, and `half` as the default model."""
    soundfile.write(
        tmp_path / "in.wav",
        np.random.default_rng(0).normal(0, 0.1, (48000, 2)),
        48000,
        subtype="PCM_16",
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("audioae.pretrained.default_model", lambda: str(half))
    yield tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["denoise", *arguments], prog_name="audioae")


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def refused(folder: Path, *arguments: str, exit_code: int, message: str) -> None:
    """The command fails with `exit_code` and one line that contains `message`; no file changes."""
    before = contents(folder)
    result = run(*arguments)
    assert result.exit_code == exit_code, result.output
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("Error: ")
    assert message in result.stderr
    assert contents(folder) == before


def test_a_file(folder: Path) -> None:
    result = run("in.wav", "out.wav")
    assert (result.exit_code, result.stdout) == (0, ""), result.output
    assert "out.wav: 1.00 s" in result.stderr
    assert "6.0 dB" in result.stderr
    before, after = soundfile.read("in.wav")[0], soundfile.read("out.wav")[0]
    assert np.abs(after - 0.5 * before).max() < 1e-4


def test_quiet_prints_nothing(folder: Path) -> None:
    result = run("in.wav", "out.wav", "-q")
    assert (result.exit_code, result.output) == (0, "")


def test_verbose_prints_the_model_the_formats_and_the_high_band(folder: Path) -> None:
    result = run("in.wav", "out.wav", "-v")
    assert "model: half-16k, 16000 Hz" in result.stderr
    assert "WAV PCM_16, 48000 Hz, 2 channels" in result.stderr
    assert "above 8 kHz" in result.stderr


def test_quiet_and_verbose_exclude_each_other(folder: Path) -> None:
    assert run("in.wav", "out.wav", "-q", "-v").exit_code == 2


def test_json_is_alone_on_stdout(folder: Path) -> None:
    result = run("in.wav", "out.wav", "--json", "--progress", "bar")
    report = json.loads(result.stdout)
    assert (report["src"], report["dst"], report["num_samples"], report["num_clipped"]) == (
        "in.wav",
        "out.wav",
        48000,
        0,
    )
    assert "in.wav" in result.stderr


def test_json_has_hashes_formats_levels_and_the_model(folder: Path, half: Path) -> None:
    report = json.loads(run("in.wav", "out.wav", "--json").stdout)
    for side, name in (("input", "in.wav"), ("output", "out.wav")):
        facts = report[side]
        assert facts["sha256"] == hashlib.sha256((folder / name).read_bytes()).hexdigest()
        assert (facts["sample_rate"], facts["channels"]) == (48000, 2)
        assert (facts["num_samples"], facts["subtype"]) == (48000, "PCM_16")
        sound = soundfile.read(name)[0]
        assert facts["peak_dbfs"] == pytest.approx(20 * np.log10(np.abs(sound).max()), abs=0.01)
        assert facts["rms_dbfs"] == pytest.approx(10 * np.log10(np.mean(sound**2)), abs=0.01)
    assert report["input"]["loudness_lufs"] - report["output"]["loudness_lufs"] == pytest.approx(
        6.02, abs=0.02
    )
    assert report["model_sha256"] == hashlib.sha256(half.read_bytes()).hexdigest()
    assert report["mean_attenuation_db"] == pytest.approx(6.02, abs=0.01)
    assert report["real_time_factor"] > 0
    assert report["verdict"]["mean_attenuation_db"] == report["mean_attenuation_db"]
    assert report["warnings"] == list(report["warnings"])


def test_the_presets_are_those_of_the_core() -> None:
    from audioae.cli.denoise import command

    preset = next(parameter for parameter in command.params if parameter.name == "preset")
    assert list(preset.type.choices) == list(PRESETS)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("arguments", "settings"),
    [
        ((), DenoiseSettings()),
        (("--preset", "gentle"), PRESETS["gentle"]),
        (("--preset", "gentle", "--strength", "0.5"), replace(PRESETS["gentle"], strength=0.5)),
        (("--preset", "strong", "--no-adapt-noise"), DenoiseSettings()),
        (
            ("--noise-from", "0.25:0.75", "--adapt-noise"),
            DenoiseSettings(noise_from=(0.25, 0.75), adapt_noise=True),
        ),
    ],
)
def test_options_override_the_preset(
    folder: Path, arguments: tuple[str, ...], settings: DenoiseSettings
) -> None:
    assert run("in.wav", "out.wav", "--record", *arguments).exit_code == 0
    assert json.loads((folder / "out.wav.audioae.json").read_text())["settings"] == json.loads(
        json.dumps(asdict(settings))
    )


def test_start_end_normalize_and_clip_mode(folder: Path) -> None:
    assert run("in.wav", "out.wav", "--start", "0.25", "--end", "0.5").exit_code == 0
    noisy, clean = soundfile.read("in.wav")[0], soundfile.read("out.wav")[0]
    assert np.array_equal(clean[:11000], noisy[:11000]) and np.array_equal(
        clean[25000:], noisy[25000:]
    )
    assert np.abs(clean[15000:20000]).max() < 0.7 * np.abs(noisy[15000:20000]).max()
    report = json.loads(
        run(
            "in.wav", "loud.wav", "--normalize", "-16LUFS", "--clip-mode", "rescale", "--json"
        ).stdout
    )
    assert report["output"]["loudness_lufs"] == pytest.approx(-16, abs=0.1)
    assert report["num_clipped"] == 0


@pytest.mark.parametrize(
    "arguments",
    [("--noise-from", "1"), ("--noise-from", "2:1"), ("--normalize", "loud"), ("--normalize", "7")],
)
def test_impossible_times_and_loudnesses(folder: Path, arguments: tuple[str, ...]) -> None:
    before = contents(folder)
    assert run("in.wav", "out.wav", *arguments).exit_code == 2
    assert contents(folder) == before


def test_a_record_is_written_beside_the_output(folder: Path) -> None:
    assert run("in.wav", "out.wav", "--record", "--subtype", "PCM_24").exit_code == 0
    record = json.loads((folder / "out.wav.audioae.json").read_text())
    assert record["options"] == {"subtype": "PCM_24"}
    assert (
        record["output"]["sha256"] == hashlib.sha256((folder / "out.wav").read_bytes()).hexdigest()
    )


def test_skip_existing_keeps_an_output(folder: Path) -> None:
    (folder / "out.wav").write_bytes(b"precious")
    result = run("in.wav", "out.wav", "--skip-existing")
    assert (result.exit_code, (folder / "out.wav").read_bytes()) == (0, b"precious")


@pytest.mark.parametrize(
    "arguments",
    [
        ("in.wav",),
        ("in.wav", "b.wav", "c.wav"),
        ("in.wav", "out.wav", "--jobs", "2"),
        ("in.wav", "out.wav", "--template", "{stem}"),
        ("in.wav", "out.wav", "--fail-fast"),
        ("in.wav", "out.wav", "--failed-list", "list"),
        ("in.wav", "out.wav", "--ray=x"),
        ("in.wav", "out.wav", "--format", "flac"),
        ("in.wav", "out.wav", "--raw", "16000:1"),
        ("in.wav", "out.wav", "--overwrite", "--skip-existing"),
        ("-", "-O", "out"),
    ],
)
def test_options_that_exclude_each_other(folder: Path, arguments: tuple[str, ...]) -> None:
    before = contents(folder)
    assert run(*arguments).exit_code == 2
    assert contents(folder) == before


def test_network_off(folder: Path, half: Path) -> None:
    """Denoising opens no socket, and the telemetry of ONNX Runtime is off."""
    code = """
import sys
forbidden = (
    "socket.__new__", "socket.connect", "socket.getaddrinfo", "socket.bind", "urllib.Request"
)
def watch(event, arguments):
    if event in forbidden:
        raise RuntimeError(f"network: {event}")
sys.addaudithook(watch)
from audioae.cli import main
main(sys.argv[1:], prog_name="audioae")
"""
    command = [sys.executable, "-c", code, "denoise", "in.wav", "out.wav", "-m", str(half)]
    (folder / "temporary").mkdir()
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("ORT_DISABLE_TELEMETRY", "CI")
    }
    environment |= {"PYTHONPATH": str(CHECKOUT), "TMPDIR": str(folder / "temporary")}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert ended.returncode == 0, ended.stderr
    # The telemetry would keep its state here.
    assert list((folder / "temporary").iterdir()) == []
    assert soundfile.info("out.wav").frames == 48000


def test_piped_stdout_without_a_terminal(folder: Path, half: Path) -> None:
    """If stdout and stderr are pipes, there is no progress bar, no colour and nothing on stdout."""
    command = [sys.executable, "-m", "audioae", "denoise", "in.wav", "out.wav", "-m", str(half)]
    ended = subprocess.run(
        command, capture_output=True, timeout=60, env={**os.environ, "PYTHONPATH": str(CHECKOUT)}
    )
    assert (ended.returncode, ended.stdout) == (0, b"")
    assert ended.stderr.startswith(b"out.wav: 1.00 s")
    assert b"\x1b" not in ended.stderr


def test_a_dry_run_writes_nothing(folder: Path) -> None:
    before = contents(folder)
    result = run("in.wav", "out.flac", "--dry-run", "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert (report["container"], report["num_samples"], report["dry_run"]) == ("FLAC", 48000, True)
    assert "nothing is written" in result.stderr
    assert contents(folder) == before


def test_options_change_the_output(folder: Path) -> None:
    assert (
        run(
            "in.wav",
            "out.wav",
            "--strength",
            "0",
            "--residual",
            "rest.wav",
            "--subtype",
            "FLOAT",
            "--channels",
            "independent",
        ).exit_code
        == 0
    )
    before = soundfile.read("in.wav")[0]
    assert soundfile.info("out.wav").subtype == "FLOAT"
    assert np.abs(soundfile.read("out.wav")[0] - before).max() < 1e-5
    assert np.abs(soundfile.read("rest.wav")[0]).max() < 1e-5
    assert run("in.wav", "out.wav", "--max-attenuation", "3", "--overwrite").exit_code == 0
    assert np.abs(soundfile.read("out.wav")[0] - 10 ** (-3 / 20) * before).max() < 1e-4


def test_environment_variables_set_options(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIOAE_DENOISE_MODEL", "no-such-model")
    refused(folder, "in.wav", "out.wav", exit_code=3, message="no-such-model")


def test_missing_file(folder: Path) -> None:
    refused(folder, "nothing.wav", "out.wav", exit_code=1, message="nothing.wav")


def test_folder_as_input(folder: Path) -> None:
    (folder / "sub").mkdir()
    refused(folder, "sub", "out.wav", exit_code=1, message="sub is a folder")


def test_empty_file(folder: Path) -> None:
    (folder / "empty.wav").touch()
    refused(folder, "empty.wav", "out.wav", exit_code=1, message="empty.wav is empty")


@pytest.mark.parametrize("kept", [0.0001, 0.5, 0.999])
def test_truncated_wav(folder: Path, kept: float) -> None:
    whole = (folder / "in.wav").read_bytes()
    (folder / "cut.wav").write_bytes(whole[: max(round(len(whole) * kept), 20)])
    refused(folder, "cut.wav", "out.wav", exit_code=1, message="cut.wav")


def test_text_renamed_wav(folder: Path) -> None:
    (folder / "text.wav").write_text("This is no sound.\n" * 100)
    refused(folder, "text.wav", "out.wav", exit_code=1, message="text.wav")


def test_nan_samples(folder: Path) -> None:
    soundfile.write("nan.wav", np.array([0.0] * 3000 + [np.nan]), 16000, subtype="FLOAT")
    refused(folder, "nan.wav", "out.wav", exit_code=1, message="sample 3000 of channel 0 is nan")


def test_existing_output(folder: Path) -> None:
    (folder / "out.wav").write_bytes(b"precious")
    refused(folder, "in.wav", "out.wav", exit_code=1, message="out.wav")


def test_existing_residual(folder: Path) -> None:
    (folder / "rest.wav").write_bytes(b"precious")
    refused(folder, "in.wav", "out.wav", "--residual", "rest.wav", exit_code=1, message="rest.wav")


def test_output_that_is_the_input(folder: Path) -> None:
    refused(folder, "in.wav", "in.wav", "--overwrite", exit_code=1, message="in.wav")


def test_missing_output_folder(folder: Path) -> None:
    refused(folder, "in.wav", "nowhere/out.wav", exit_code=1, message="nowhere")


def test_output_that_is_a_folder(folder: Path) -> None:
    (folder / "sub").mkdir()
    refused(folder, "in.wav", "sub", exit_code=1, message="sub")


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="everything is writable for root"
)
def test_unwritable_folder(folder: Path) -> None:
    (folder / "sealed").mkdir(mode=0o500)
    refused(folder, "in.wav", "sealed/out.wav", exit_code=1, message="sealed")


@pytest.mark.skipif(
    not Path("/proc/self").is_dir(), reason="needs a folder that nobody may write to"
)
def test_folder_without_write_permission(folder: Path) -> None:
    refused(folder, "in.wav", "/proc/out.wav", exit_code=1, message="/proc")


@pytest.mark.parametrize("name", ["out.xyz", "out", "out.txt"])
def test_unknown_format(folder: Path, name: str) -> None:
    refused(folder, "in.wav", name, exit_code=1, message=name)


def test_impossible_subtype(folder: Path) -> None:
    refused(folder, "in.wav", "out.flac", "--subtype", "FLOAT", exit_code=1, message="FLOAT")


def test_unknown_model(folder: Path) -> None:
    refused(
        folder, "in.wav", "out.wav", "-m", "no-such-model", exit_code=3, message="no-such-model"
    )


def test_interruption(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(spectrum: np.ndarray) -> np.ndarray:
        raise KeyboardInterrupt

    monkeypatch.setattr("audioae.engine.load_model", lambda name, device: FakeEngine(interrupt))
    (folder / "out.wav").write_bytes(b"precious")
    refused(folder, "in.wav", "out.wav", "--overwrite", exit_code=130, message="interrupted")


def test_impossible_strength(folder: Path) -> None:
    refused(folder, "in.wav", "out.wav", "--strength", "2", exit_code=2, message="strength is 2")


def test_files_of_no_samples_and_of_one(folder: Path) -> None:
    for samples in (0, 1):
        soundfile.write("short.wav", np.zeros(samples), 48000)
        assert run("short.wav", "out.wav", "--overwrite").exit_code == 0
        assert soundfile.info("out.wav").frames == samples


def test_the_command_imports_no_heavy_packages() -> None:
    """The command imports only what denoising needs."""
    heavy = ["torch", "torchaudio", "librosa", "scipy", "matplotlib", "rich", "pydantic"]
    code = (
        "import sys, audioae.cli.denoise, audioae.denoising; "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert output.stdout.strip() == "[]"


@pytest.mark.skipif(os.name != "posix", reason="needs file descriptors of a POSIX system")
@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_closed_standard_streams(folder: Path, half: Path, closed: tuple[int, ...]) -> None:
    """Files that are opened later do not get their numbers."""

    def close() -> None:
        for number in closed:
            os.close(number)

    command = [sys.executable, "-m", "audioae", "denoise", "in.wav", "out.wav", "-m", str(half)]
    ended = subprocess.run([*command, "--json"], capture_output=True, preexec_fn=close)
    assert ended.returncode == 0
    assert soundfile.info("out.wav").frames == soundfile.info("in.wav").frames
    if 1 not in closed:
        assert json.loads(ended.stdout)["status"] == "done"
    if 2 not in closed:
        assert b"Error" not in ended.stderr and b"out.wav" in ended.stderr
