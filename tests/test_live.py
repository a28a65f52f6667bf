"""Live denoising: exact latency, blocks that equal a whole stream, and counters of lost sound."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from fake_engines import FakeEngine, foreseeing, smoothing
from fake_models import write_half_model
from fake_sounddevice import FakeSounddevice, device
from tiny import noise

from audioae import load_model
from audioae.cli import main
from audioae.denoising import PRESETS, DenoiseSettings, Stream, denoise
from audioae.denoising.live import (
    DeviceForm,
    Duplex,
    FileSource,
    Session,
    Xruns,
    choose_form,
    read_devices,
)
from audioae.denoising.live import duplex as duplex_module
from audioae.denoising.live.devices import find_device
from audioae.denoising.live.duplex import Player
from audioae.denoising.live.session import LevelMeter, TimeMeter
from audioae.engine import State
from audioae.errors import DeviceError, MissingError, OutputError, SettingsError
from audioae.signal.spectrogram import StftSettings

RATE = 16000
OVERLAPPED = StftSettings(n_fft=512, hop_length=128, win_length=512)


class Ones(FakeEngine):
    """Gains of 1. Its state holds counts only, so that streams may be long."""

    def __init__(self, **form: Any) -> None:
        super().__init__(np.ones_like, **form)

    def step(self, spectrum: np.ndarray, state: State | None = None) -> tuple[np.ndarray, State]:
        taken, given = state.tensors if state and state.tensors else (0, 0)
        taken += spectrum.shape[-1]
        due = max((taken - self.info.lookahead) // self.info.stride * self.info.stride, 0)
        return np.ones((*spectrum.shape[:2], due - given), np.float32), State(
            spectrum[..., :0], (taken, due)
        )


ENGINES = {
    "causal": Ones(),
    "overlapped": Ones(stft=OVERLAPPED),
    "lookahead": Ones(lookahead=3),
    "strides": Ones(lookahead=2, stride=4),
}


# --- latency


def most_pending(stream: Stream, block: int, *, pushes: int) -> int:
    """The most samples pending after any push of `block` samples, once the stream is full."""
    silence, most = np.zeros((stream.channels, block), np.float32), 0
    stream.push(np.tile(silence, -(-stream.latency // block)))
    for _ in range(pushes):
        stream.push(silence)
        most = max(most, stream.pending)
    return most


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
def test_latency_at_the_models_rate_is_exact(engine: FakeEngine) -> None:
    info, latency = engine.info, Stream(engine, RATE).latency
    hop = info.stft.hop_length
    assert latency == info.stft.win_length + (info.lookahead + info.stride - 1) * hop
    # A sample waits longest when samples come one by one: the push that brings the last one it
    # needs gives it back.
    assert most_pending(Stream(engine, RATE), 1, pushes=hop * info.stride) == latency - 1
    assert most_pending(Stream(engine, RATE), hop, pushes=4 * info.stride) == latency - hop


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
@pytest.mark.parametrize("block", [37, 300, 1000])
def test_latency_holds_for_odd_blocks(engine: FakeEngine, block: int) -> None:
    stream = Stream(engine, RATE)
    hops = engine.info.stft.hop_length * engine.info.stride
    most = most_pending(stream, block, pushes=hops // math.gcd(block, hops))
    assert most < stream.latency
    assert most == stream.latency_in(block) - block


@pytest.mark.parametrize("sample_rate", [8000, 11025, 22050, 44100, 48000, 96000])
@pytest.mark.parametrize(
    "engine", [ENGINES["causal"], ENGINES["strides"]], ids=["causal", "strides"]
)
def test_latency_at_other_rates_is_exact_too(sample_rate: int, engine: FakeEngine) -> None:
    # a hundred of such blocks contain the whole pattern of pushes and answers
    even = 147 if sample_rate % 147 == 0 else sample_rate // 1000
    for block in (even, 97):
        stream = Stream(engine, sample_rate)
        most = most_pending(stream, block, pushes=100)
        assert most < stream.latency
        assert most <= stream.latency_in(block) - block
        assert block != even or most == stream.latency_in(block) - block
    model = Stream(engine, RATE).latency / RATE
    assert Stream(engine, sample_rate).latency / sample_rate - model < 0.024, (
        "two filters of 6 ms each, 11 at half the rate"
    )


@pytest.mark.parametrize("sample_rate", [7919, 44056, 47999])
@pytest.mark.parametrize("low_latency", [False, True])
def test_latency_at_odd_rates_is_an_upper_bound(sample_rate: int, low_latency: bool) -> None:
    for block in (160, 701):
        stream = Stream(Ones(), sample_rate, low_latency=low_latency)
        assert most_pending(stream, block, pushes=sample_rate // block) < stream.latency


@pytest.mark.parametrize("sample_rate", [8000, 44100, 48000])
def test_low_latency_changes_no_sample(sample_rate: int) -> None:
    waveform = noise(sample_rate, 2)
    stream = Stream(foreseeing(2), sample_rate, 2)
    parts = [stream.push(waveform[:, start : start + 701]) for start in range(0, sample_rate, 701)]
    live = np.concatenate([*parts, stream.flush()], axis=-1)
    assert np.abs(live - denoise(waveform, sample_rate, model=foreseeing(2))).max() < 1e-5


# --- the command, from a file


@pytest.fixture(scope="session")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a gain of 0.5 at all frequencies."""
    return write_half_model(tmp_path_factory.mktemp("model") / "half.onnx")


@pytest.fixture
def folder(tmp_path: Path, half: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder; the default model is `half`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AUDIOAE_LIVE_MODEL", str(half))
    return tmp_path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["live", *map(str, arguments)], prog_name="audioae")


def values_of(result: Result) -> dict[str, Any]:
    """The JSON object on stdout."""
    values: dict[str, Any] = json.loads(result.stdout)
    return values


def whole_stream(path: Path, settings: DenoiseSettings) -> np.ndarray:
    """The output `[num_samples, channels]` of one stream that gets all of a file at once."""
    waveform, sample_rate = soundfile.read(path, dtype="float32", always_2d=True)
    level = FileSource(path, 1).level_dbfs()
    stream = Stream(
        load_model("speech-16k"), sample_rate, waveform.shape[1], settings, level_dbfs=level
    )
    return stream.process(waveform.T, last=True)[0].T


@pytest.mark.parametrize("block", [(), ("--block", "7.3")], ids=["hop", "odd"])
def test_the_blocks_of_a_file_equal_a_whole_stream(
    samples: Path, folder: Path, block: tuple[str, ...]
) -> None:
    shipped = ("--model", "speech-16k")
    result = run("--from-file", samples / "noisy.wav", "-o", "live.wav", *shipped, *block)
    assert result.exit_code == 0, result.stderr
    live, rate = soundfile.read("live.wav", always_2d=True)
    whole = whole_stream(samples / "noisy.wav", DenoiseSettings())
    assert (rate, live.shape) == (RATE, whole.shape)
    assert np.abs(live - whole).max() < 1e-4


@pytest.mark.parametrize(
    ("sample_rate", "level"),
    [(48000, 0.1), (44100, 0.1), (48000, 0.0005)],
    ids=["48k", "44k", "quiet"],
)
def test_the_blocks_of_a_stereo_file_equal_a_whole_stream(
    folder: Path, sample_rate: int, level: float
) -> None:
    fade = np.linspace(0, 1, sample_rate + 123, dtype=np.float32)
    waveform = fade * noise(sample_rate + 123, 2, level=level)
    soundfile.write("in.wav", waveform.T, sample_rate, subtype="FLOAT")
    shipped = ("--model", "speech-16k", "--preset", "strong", "--strength", "0.9")
    assert run("--from-file", "in.wav", "-o", "live.wav", *shipped).exit_code == 0
    live = soundfile.read("live.wav")[0]
    whole = whole_stream(Path("in.wav"), replace(PRESETS["strong"], strength=0.9))
    assert live.shape == whole.shape == waveform.T.shape
    assert np.abs(live - waveform.T).max() > 0.1 * level
    assert np.abs(live - whole).max() < 1e-4 * min(1, level / 0.1)


def test_the_report_on_a_file(folder: Path) -> None:
    soundfile.write("in.flac", noise(3 * RATE).T, RATE)
    result = run("--from-file", "in.flac", "-o", "out.flac", "--seconds", "1.5", "--json")
    assert result.exit_code == 0, result.stderr
    values = values_of(result)
    assert (values["seconds"], values["ended"], values["error"], values["out"]) == (
        1.5,
        "limit",
        None,
        "out.flac",
    )
    assert (
        values["latency_samples"],
        values["latency_ms"],
        values["block_ms"],
        values["device_latency_ms"],
    ) == (512, 32.0, 16.0, None)
    assert (values["overruns"], values["underruns"], values["dropped_samples"]) == (0, 0, 0)
    assert 0 < values["processing_p50_ms"] <= values["processing_p99_ms"]
    assert values["mean_attenuation_db"] == pytest.approx(6.02, abs=0.01)
    assert "in: in.flac; recording: out.flac" in result.stderr
    assert "latency 32.0 ms (512 samples)" in result.stderr
    assert "6.0 dB" in result.stderr
    assert "0 overruns, 0 underruns" in result.stderr
    assert soundfile.info("out.flac").frames == 1.5 * RATE


def test_a_file_at_the_pace_of_a_microphone(folder: Path) -> None:
    import time

    soundfile.write("in.wav", noise(RATE // 2).T, RATE)
    begun = time.monotonic()
    result = run("--from-file", "in.wav", "--real-time", "--progress", "json")
    assert (result.exit_code, result.stdout) == (0, ""), result.stderr
    assert time.monotonic() - begun >= 0.5
    events = [
        json.loads(line)["event"] for line in result.stderr.splitlines() if line.startswith("{")
    ]
    assert (events[0], events[-1]) == ("start", "done")


def test_a_damaged_file_leaves_nothing(folder: Path) -> None:
    waveform = noise(RATE).T
    waveform[9000] = np.nan
    soundfile.write("in.wav", waveform, RATE, subtype="FLOAT")
    result = run("--from-file", "in.wav", "-o", "out.wav")
    assert result.exit_code == 1
    assert "sample 9000 of channel 0 is nan" in result.stderr
    assert os.listdir() == ["in.wav"]


# --- usage


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        ((), 2, "--output-device"),
        (("-o", "out.wav", "--real-time"), 2, "--real-time is for --from-file"),
        (("--from-file", "in.wav", "--output-device", "1"), 2, "--output-device is for devices"),
        (("--from-file", "in.wav", "--sample-rate", "8000"), 2, "--sample-rate is for devices"),
        (
            ("--from-file", "in.wav", "-o", "in.wav", "--overwrite"),
            1,
            "in.wav is both the input and the output",
        ),
        (("--from-file", "in.wav", "-o", "there.wav"), 1, "there.wav exists"),
        (("--from-file", "none.wav"), 1, "none.wav"),
        (("--from-file", "in.wav", "--strength", "2"), 2, "strength is 2.0"),
        (("--from-file", "in.wav", "--model", "none"), 3, "none"),
        (("-o", "out.xyz"), 1, "suffix '.xyz'"),
        (
            ("-o", "out.wav", "--input-device", "Studio Mike"),
            2,
            "did you mean 'Studio Mic'?; there are 0 'Webcam', 1 'Studio Mic'",
        ),
        (("-o", "out.wav", "--input-device", "2"), 2, "there are 0 'Webcam', 1 'Studio Mic'"),
        (("-o", "out.wav", "--channels", "3"), 2, "'Studio Mic' has 2 channels, got --channels 3"),
        (
            ("-o", "out.wav", "--sample-rate", "12345"),
            2,
            "does not support 12345 Hz, 1 channels (Invalid sample rate)",
        ),
    ],
)
def test_what_is_wrong_is_one_line_and_leaves_nothing(
    folder: Path, sound: FakeSounddevice, arguments: tuple[str, ...], exit_code: int, said: str
) -> None:
    soundfile.write("in.wav", noise(1000).T, RATE)
    soundfile.write("there.wav", noise(1000).T, RATE)
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (exit_code, ""), result.stderr
    assert said in result.stderr.splitlines()[-1]
    assert sorted(os.listdir()) == ["in.wav", "there.wav"]


def test_a_missing_package_or_library_is_reported_with_its_installation(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    result = run("-o", "out.wav")
    assert result.exit_code == 3
    monkeypatch.delitem(sys.modules, "sounddevice")
    (folder / "packages").mkdir()
    (folder / "packages" / "sounddevice.py").write_text(
        "raise OSError('PortAudio library not found')"
    )
    monkeypatch.syspath_prepend(folder / "packages")
    for arguments in (("-o", "out.wav"), ("--list-devices",)):
        result = run(*arguments)
        assert (result.exit_code, result.stdout) == (3, "")
        mend = "sudo apt-get install libportaudio2" if sys.platform == "linux" else "pip install"
        assert "PortAudio library not found" in result.stderr and mend in result.stderr
        assert len(result.stderr.splitlines()) == 1
    assert os.listdir() == ["packages"]


def test_help_loads_no_array_library() -> None:
    code = (
        "import sys; from audioae.cli import main; "
        "main(['live', '--help'], standalone_mode=False); print(*sys.modules, file=sys.stderr)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert not {"numpy", "sounddevice", "onnxruntime", "rich"} & set(ended.stderr.split())


# --- the command, with devices


@pytest.fixture
def sound(monkeypatch: pytest.MonkeyPatch) -> FakeSounddevice:
    """A fake `sounddevice` whose microphone records half a second of noise."""
    fake = FakeSounddevice(noise(RATE // 2).T)
    monkeypatch.setitem(sys.modules, "sounddevice", fake)  # type: ignore[arg-type]
    return fake


def test_a_microphone_is_recorded(folder: Path, sound: FakeSounddevice) -> None:
    result = run("-o", "out.wav", "--seconds", "0.4", "--json")
    assert result.exit_code == 0, result.stderr
    recorded, rate = soundfile.read("out.wav")
    assert (rate, len(recorded), soundfile.info("out.wav").subtype) == (RATE, 6400, "PCM_24")
    assert np.abs(recorded - sound.heard[:6400, 0] / 2).max() < 1e-5
    assert (sound.opened["device"], sound.opened["blocksize"], sound.opened["channels"]) == (
        1,
        256,
        1,
    )
    values = values_of(result)
    assert (values["seconds"], values["ended"], values["device_latency_ms"]) == (
        0.4,
        "limit",
        10.0,
    )
    assert "in: 'Studio Mic'; recording: out.wav" in result.stderr
    assert os.listdir() == ["out.wav"]


@pytest.mark.parametrize(("sample_rate", "block"), [(16000, None), (16000, "10"), (48000, None)])
def test_playback_is_late_by_the_reported_latency(
    folder: Path, sound: FakeSounddevice, sample_rate: int, block: str | None
) -> None:
    sound.heard = noise(sample_rate // 2, 2).T
    sound.pace = 0.02  # enough time for the denoising thread, so that there is no underrun
    more = ["--block", block] if block else []
    devices = [
        "--input-device",
        "webc",
        "--output-device",
        "default",
        "--sample-rate",
        str(sample_rate),
        "--channels",
        "2",
    ]
    result = run(*devices, "--seconds", "0.25", "--json", *more)
    assert result.exit_code == 0, result.stderr
    values = values_of(result)
    assert values["device_latency_ms"] == pytest.approx(30)
    assert "in: 'Webcam'; out: 'Headphones'" in result.stderr
    played, delay = np.concatenate(sound.played), values["latency_samples"]
    cleaned = sample_rate // 4
    assert not played[:delay].any()
    if not values["underruns"]:  # a machine that stalls for 20 ms has one, and may cut the end
        came = played[delay : delay + cleaned]
        assert len(came) > cleaned / 2
        assert np.abs(came - sound.heard[: len(came)] / 2).max() < 1e-5
        assert not played[delay + cleaned :].any()


def test_one_channel_is_played_on_both_sides(folder: Path, sound: FakeSounddevice) -> None:
    assert run("--output-device", "head", "--seconds", "0.1").exit_code == 0
    played = np.concatenate(sound.played)
    assert played.shape[1] == 2 and np.array_equal(played[:, 0], played[:, 1]) and played.any()


def test_ctrl_c_completes_the_recording(folder: Path, sound: FakeSounddevice) -> None:
    sound.before = lambda number: os.kill(os.getpid(), signal.SIGINT) if number == 20 else None
    result = run("-o", "out.wav", "--json")
    assert result.exit_code == 0, result.stderr
    values, recorded = values_of(result), soundfile.read("out.wav")[0]
    assert values["ended"] == "stopped"
    assert len(recorded) == round(values["seconds"] * RATE) >= 20 * 256
    assert np.abs(recorded[: 20 * 256] - sound.heard[: 20 * 256, 0] / 2).max() < 1e-5
    assert os.listdir() == ["out.wav"]


def test_a_second_ctrl_c_aborts(
    folder: Path, sound: FakeSounddevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplex_module.Duplex, "stop", lambda self: None)  # it hangs
    sent = []

    def interrupt(number: int) -> None:
        """Send SIGINT, and once more after the first was handled."""
        if (number == 10 and not sent) or (
            len(sent) == 1 and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        ):
            sent.append(number)
            os.kill(os.getpid(), signal.SIGINT)

    sound.before = interrupt
    result = run("-o", "out.wav")
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (130, "Error: interrupted")
    assert os.listdir() == []


@pytest.mark.parametrize("way", ["ends_after", "silent_after"])
def test_a_disconnected_device_leaves_what_was_recorded(
    folder: Path, sound: FakeSounddevice, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(duplex_module, "LOST_SECONDS", 0.3)
    setattr(sound, way, 12)
    result = run("-o", "out.wav", "--json")
    assert result.exit_code == 1
    assert (
        "'Studio Mic'" in result.stderr.splitlines()[-1]
        and "is it still connected?" in result.stderr
    )
    values, recorded = values_of(result), soundfile.read("out.wav")[0]
    assert (values["ended"], values["seconds"]) == ("error", 12 * 256 / RATE)
    assert "Studio Mic" in values["error"]
    assert np.abs(recorded - sound.heard[: 12 * 256, 0] / 2).max() < 1e-5


def test_a_device_that_does_not_open_is_named(folder: Path, sound: FakeSounddevice) -> None:
    sound.opens = False
    result = run("-o", "out.wav")
    assert result.exit_code == 1
    assert "'Studio Mic' cannot be opened (Device unavailable)" in result.stderr
    assert os.listdir() == []


def test_xruns_of_the_devices_are_counted(folder: Path, sound: FakeSounddevice) -> None:
    sound.flags = {3: "input_overflow", 5: "output_underflow", 6: "input_overflow"}
    sound.pace = 0.02
    values = values_of(run("--output-device", "default", "--seconds", "0.2", "--json"))
    assert values["overruns"] == 2
    assert values["underruns"] >= 1


def test_a_machine_without_a_microphone_says_so(folder: Path, sound: FakeSounddevice) -> None:
    sound.devices, sound.defaults = [device("Headphones", outputs=2)], (-1, 0)
    result = run("-o", "out.wav")
    assert result.exit_code == 3
    assert "no audio input device" in result.stderr and "--from-file" in result.stderr
    assert os.listdir() == []


def test_devices_are_listed(folder: Path, sound: FakeSounddevice) -> None:
    shown = run("--list-devices")
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert (
        "  1  Studio Mic: 2 in, 0 out, 16000 Hz, ALSA, default input" in shown.stdout.splitlines()
    )
    rows = json.loads(run("--list-devices", "--json").stdout)
    assert [row["name"] for row in rows] == ["Webcam", "Studio Mic", "Headphones"]
    sound.devices = []
    assert run("--list-devices").exit_code == 3


# --- devices, players and sessions


def test_devices_are_found_by_index_name_and_part_of_it() -> None:
    both = [device("Mic", inputs=1, api=api) for api in (0, 1)]
    fake = FakeSounddevice(
        noise(1).T,
        [*both, device("Microphone Array", inputs=4), device("Speaker", outputs=2, api=1)],
        defaults=(1, 3),
    )
    devices = read_devices(fake)
    assert find_device(devices, "2", "input").name == "Microphone Array"
    assert find_device(devices, "ARRAY", "input").index == 2
    assert find_device(devices, "default", "input").index == 1
    assert find_device(devices, "mic", "input").index == 1, "by the interface of the default device"
    assert find_device(devices, "mic", "input", api="ALSA").index == 0
    fake.defaults = (2, 3)
    with pytest.raises(
        SettingsError, match="no output device is called 'Mic'; there are 3 'Speaker'"
    ):
        find_device(devices, "Mic", "output")
    twins = read_devices(
        FakeSounddevice(
            noise(1).T, [device("Mic", inputs=1), device("Mic", inputs=1)], defaults=(-1, -1)
        )
    )
    with pytest.raises(
        SettingsError,
        match="'mic' is the name of 2 input devices: 0 'Mic', 1 'Mic'; give the index",
    ):
        find_device(twins, "mic", "input")
    with pytest.raises(MissingError, match="no audio output device"):
        find_device(twins, "default", "output")


def form(
    *, output: bool = False, channels: int = 1, block: int = 256
) -> tuple[FakeSounddevice, DeviceForm]:
    fake = FakeSounddevice(noise(RATE).T)
    target = "default" if output else None
    chosen = choose_form(
        fake,
        source="default",
        target=target,
        sample_rate=RATE,
        channels=channels,
        block_seconds=block / RATE,
    )
    return fake, chosen


def test_blocks_are_dropped_and_counted_when_denoising_falls_behind() -> None:
    fake, chosen = form()
    link = Duplex(fake, chosen, delay=512)
    slots = RATE // 256 + 1
    blocks = [np.full((256, 1), number, np.float32) for number in range(slots + 5)]
    for block in blocks:
        link._take(block / 1000, 256, None, None)
    dropped = link.xruns.overruns
    assert 4 <= dropped <= 6 and link.xruns.dropped_samples == 256 * dropped
    link.stop()
    read = []
    while (block := link.read()) is not None:
        read.append(float(block[0, 0]))
    assert read == pytest.approx([number / 1000 for number in range(len(blocks) - dropped)]), (
        "the queue has not grown"
    )


def test_invalid_samples_of_a_driver_are_replaced() -> None:
    fake, chosen = form()
    link = Duplex(fake, chosen, delay=0)
    link._take(np.array([[np.nan], [np.inf], [-1e36], [0.5]], np.float32), 4, None, None)
    block = link.read()
    assert block is not None and block.tolist() == [[0, 16, -16, 0.5]]


def test_a_player_is_late_by_its_delay_and_skips_what_is_too_late() -> None:
    player = Player(1, delay=4, room=20)
    target = np.zeros((4, 1), np.float32)

    def play() -> tuple[list[float], bool]:
        whole = player.play(target)
        return target[:, 0].tolist(), whole

    assert play() == ([0, 0, 0, 0], True)
    player.write(np.array([[1, 2, 3, 4, 5, 6]], np.float32))
    assert play() == ([1, 2, 3, 4], True)
    assert play() == ([5, 6, 0, 0], False)
    player.write(np.array([[7, 8, 9, 10, 11, 12]], np.float32))
    assert play() == ([9, 10, 11, 12], True), "7 and 8 are too late"
    player.expect_less(4)
    assert play() == ([0, 0, 0, 0], False), "they were dropped before"
    player.write(np.array([[17, 18, 19, 20]], np.float32))
    assert play() == ([17, 18, 19, 20], True), "so nothing is skipped for them"
    player.write(np.zeros((1, 100), np.float32))
    assert player.waiting == 24


class Given:
    """A source of some blocks."""

    sample_rate, channels, block, device_latency = RATE, 1, 256, None

    def __init__(self, blocks: int, *, ends: Exception | None = None) -> None:
        self.xruns, self.left, self.ends = Xruns(), blocks, ends

    def read(self) -> np.ndarray | None:
        if not self.left and self.ends:
            raise self.ends
        self.left -= 1
        return noise(256) if self.left >= 0 else None

    def stop(self) -> None:
        self.left = 0

    def finish(self) -> None:
        pass


class Kept:
    """A sink that can fail."""

    def __init__(self, *, fails_at: int = -1) -> None:
        self.num_samples, self.fails_at = 0, fails_at

    def write(self, block: np.ndarray, /) -> None:
        if 0 <= self.fails_at <= self.num_samples:
            raise OutputError("the disk is full")
        self.num_samples += block.shape[-1]


def test_a_session_counts_samples() -> None:
    sink = Kept()
    session = Session(Stream(smoothing(), RATE), Given(10), [sink], num_samples=None)
    assert list(session.run()) == [256] * 10
    assert sink.num_samples == 2560
    assert (session.result("fake").ended, session.result("fake").seconds) == ("source", 0.16)


def test_a_session_ends_at_its_number_of_samples_within_a_block() -> None:
    sink = Kept()
    session = Session(Stream(smoothing(), RATE), Given(10), [sink], num_samples=1000)
    assert sum(session.run()) == sink.num_samples == 1000


@pytest.mark.parametrize(
    ("source", "sink"),
    [(Given(5, ends=DeviceError("gone")), Kept()), (Given(10), Kept(fails_at=768))],
    ids=["device", "disk"],
)
def test_a_session_keeps_what_was_denoised_before_an_error(source: Given, sink: Kept) -> None:
    session = Session(Stream(smoothing(), RATE), source, [sink])
    list(session.run())
    assert session.error is not None and session.result("fake").error == str(session.error)
    assert sink.num_samples == (768 if sink.fails_at > 0 else 5 * 256)


def test_percentiles_of_durations() -> None:
    times = TimeMeter()
    assert times.percentile(50) == 0
    for milliseconds in range(1, 101):
        times.add(milliseconds / 1000)
    assert times.percentile(50) == pytest.approx(0.050, rel=0.02)
    assert times.percentile(99) == pytest.approx(0.099, rel=0.02)
    for extreme in (0.0, 1e9):
        times.add(extreme)
    assert times.percentile(100) == pytest.approx(100, rel=0.02)


def test_levels_are_those_since_they_were_taken(tone: Callable[..., np.ndarray]) -> None:
    levels = LevelMeter()
    levels.add(tone(), tone() / 10)
    assert levels.take() == pytest.approx((-20, -40), abs=0.01)
    levels.add(np.zeros((1, 10), np.float32), np.zeros((1, 10), np.float32))
    assert levels.take() == (-120, -120)
