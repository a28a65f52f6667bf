"""Compression: what decompress restores, damaged files, other models, constant memory."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

pytest.importorskip("torch")
pytest.importorskip("torchaudio")
pytest.importorskip("constriction")
import torch

from audioae.audio import info, read, write
from audioae.cli import main
from audioae.engine.codecs import TorchCodec
from audioae.errors import AudioFileError, CheckpointError, DataError, OutputError, SettingsError
from audioae.models import Reconstructor, build_autoencoder
from audioae.models.bottlenecks import Quantised
from audioae.models.conv1d import Conv1dSettings
from audioae.signal.features import FeatureSettings
from audioae.signal.mdct import mdct, overlap
from audioae.tasks import Codec
from audioae.tasks.coder import (
    ESCAPE,
    LATENT_LIMIT,
    NUM_CONTEXTS,
    PASSES,
    TOTAL,
    Coder,
    PacketCoder,
    analyse,
    contexts_of,
    to_tables,
)
from audioae.tasks.compress import Compressor, compress_file, decompress_file
from audioae.tasks.container import SIZE, Header, read_header, read_packets, write_packets
from audioae.tasks.fit_coder import Shape, fit_coder
from audioae.training.export_codec import export_codec

FEATURES = FeatureSettings(n_fft=640, win_length=640, hop_length=320, n_mels=20, floor_db=-90.0)
SHAPES = (Shape(6.0, 0.45, 0.45, 0.1), Shape(24.0, 0.45, 0.45, 0.1))


def speech_like(seconds: float, rate: int, *, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Harmonics and noise with pauses, `[channels, samples]`."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    envelope = np.clip(np.sin(2 * np.pi * 2 * time), 0, None)
    tone = sum(np.sin(2 * np.pi * 150 * k * time) / k for k in range(1, 20))
    noise = rng.normal(0, 0.2, (channels, len(time)))
    return (0.1 * envelope * (tone + noise)).astype(np.float32)


def build(seed: int) -> Reconstructor:
    torch.manual_seed(seed)
    settings = Conv1dSettings(
        num_bins=20,
        channels=(16, 4),
        kernel=3,
        time_strides=(1, 2),
        bottleneck="quantised",
        latent_activation="identity",
    )
    return Reconstructor(build_autoencoder(settings), FEATURES).eval()


def make_model(path: Path, seed: int = 0) -> Path:
    export_codec(build(seed), path, name="tiny", overwrite=True)
    fit_coder(path, [(speech_like(8, 16000)[0], 16000)], path, shapes=SHAPES)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(scope="module")
def compressor(model: Path) -> Compressor:
    return Compressor(model)


@pytest.fixture(scope="module")
def coded(
    model: Path, compressor: Compressor, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """A recording of 12 s, two packets, and its .aae file."""
    folder = tmp_path_factory.mktemp("coded")
    write(folder / "in.wav", speech_like(12, 16000), 16000)
    compress_file(folder / "in.wav", folder / "in.aae", compressor, kbps=24)
    return folder / "in.wav", folder / "in.aae"


def run(*args: object) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


def si_sdr(estimate: np.ndarray, reference: np.ndarray) -> float:
    scale = (estimate * reference).sum() / np.square(reference).sum()
    error = np.square(estimate - scale * reference).sum()
    return float(10 * np.log10(np.square(scale * reference).sum() / error))


def test_the_mdct_is_orthonormal_and_blocks_equal_the_whole() -> None:
    sound = np.random.default_rng(0).normal(size=(2, 40 * 64)).astype(np.float32)
    found = mdct(np.pad(sound, ((0, 0), (64, 64))), 64)
    assert np.square(found).sum() == pytest.approx(np.square(sound).sum(), rel=1e-4)
    tail, blocks = np.zeros((2, 64), np.float32), []
    for part in np.split(found, [3, 4, 20], axis=-1):
        block, tail = overlap(part, tail)
        blocks.append(block)
    np.testing.assert_allclose(np.concatenate(blocks, -1)[:, 64:], sound, atol=1e-5)


def test_noise_takes_the_place_of_rounding_in_training() -> None:
    bottleneck, encoded = Quantised(2.0), torch.randn(4, 3, 10) * 5
    latent, penalty = bottleneck.train()(encoded)
    assert (latent - encoded).abs().max() <= 0.5
    assert not torch.equal(latent, latent.round())
    latent, same = bottleneck.eval()(encoded)
    assert torch.equal(latent, encoded.round())
    assert penalty == same
    assert bottleneck(encoded * 100)[1] > penalty > bottleneck(encoded / 100)[1] > 0


def test_the_rate_has_a_gradient_that_makes_the_latent_smaller() -> None:
    encoded = (torch.randn(2, 3, 10) * 5).requires_grad_()
    Quantised(1.0).train()(encoded)[1].backward()
    assert encoded.grad is not None
    assert (encoded.grad * encoded).sum() > 0


def test_tables_are_positive_and_sum_to_the_total() -> None:
    counts = np.random.default_rng(0).integers(0, 1000, (50, 16)) * 1.0
    counts[:, 0] += 1
    tables = to_tables(counts)
    assert (tables > 0).all()
    assert (tables.sum(-1, dtype=np.int64) == TOTAL).all()


def test_contexts_do_not_use_what_the_decoder_does_not_know() -> None:
    rng = np.random.default_rng(0)
    before, now = rng.integers(0, 20, (2, 1, 64)).astype(np.int32)
    known = np.zeros_like(now)
    for first, stride in PASSES:
        whole = contexts_of(before, now, first)
        np.testing.assert_array_equal(whole, contexts_of(before, known, first))
        assert whole.min() >= 0 and whole.max() < NUM_CONTEXTS
        known[:, first::stride] = now[:, first::stride]
    np.testing.assert_array_equal(known, now)


@pytest.mark.parametrize("channels", [1, 3])
def test_packets_decode_to_the_same_codes(compressor: Compressor, channels: int) -> None:
    rng = np.random.default_rng(channels)
    point, units = compressor.coder.points[0], len(compressor.coder.latent)
    encoder = PacketCoder(compressor.coder, point, channels, 320)
    decoder = PacketCoder(compressor.coder, point, channels, 320)
    for frames in (6, 2):
        latent = rng.integers(-LATENT_LIMIT, LATENT_LIMIT + 1, (channels, units, frames // 2))
        codes = np.rint(rng.laplace(0, 4, (channels, 320, frames)))
        codes[0, 5, :] = [
            [-(2**24) + 1, ESCAPE, 2**23, -ESCAPE, 16, 0][each] for each in range(frames)
        ]
        packet = encoder.encode(latent.astype(np.int32), codes.astype(np.int32))
        found = decoder.decode(packet, frames // 2, frames)
        np.testing.assert_array_equal(found[0], latent)
        np.testing.assert_array_equal(found[1], codes)


def test_the_tables_survive_as_json_and_damage_is_noticed(compressor: Compressor) -> None:
    text = compressor.coder.to_json()
    again = Coder.from_json(text)
    assert again.to_json() == text
    values = json.loads(text)
    for change in (
        {"points": []},
        {"latent": values["latent"][:-20]},
        {"shape": [4, 3, 2]},
        {"points": [{**values["points"][0], "step": 0.0}]},
        {"points": [{**values["points"][0], "tables": "!"}]},
    ):
        with pytest.raises(CheckpointError):
            Coder.from_json(json.dumps({**values, **change}))


def test_frames_of_blocks_equal_those_of_the_whole(compressor: Compressor) -> None:
    sound, codec = speech_like(3.01, 16000), compressor.codec
    whole = list(analyse([sound], codec))
    parts = list(analyse(np.split(sound, [1, 500, 20000, 20001], axis=-1), codec))
    for index in range(3):
        first, second = (
            np.concatenate([part[index] for part in found], -1) for found in (whole, parts)
        )
        np.testing.assert_allclose(first, second, atol=1e-5)
    frames = [sum(part[index].shape[-1] for part in whole) for index in range(3)]
    assert frames[0] * 2 == frames[1] == frames[2]


@pytest.mark.parametrize(
    ("rate", "channels", "num_samples", "suffix"),
    [
        (16000, 1, 16000, "wav"),
        (44100, 2, 44099, "flac"),
        (8000, 3, 8001, "wav"),
        (48000, 1, 1, "wav"),
        (11025, 2, 319, "ogg"),
        (96000, 1, 30001, "wav"),
    ],
)
def test_rate_channels_and_length_are_restored(
    tmp_path: Path, model: Path, rate: int, channels: int, num_samples: int, suffix: str
) -> None:
    sound = speech_like(num_samples / rate, rate, channels=channels)
    write(tmp_path / f"in.{suffix}", sound, rate)
    args = ("--model", model, "-q", "--json")
    found = run("compress", tmp_path / f"in.{suffix}", tmp_path / "a.aae", *args)
    assert found.exit_code == 0, found.output
    row = json.loads(found.stdout)
    length = info(tmp_path / f"in.{suffix}").num_samples
    assert (row["sample_rate"], row["channels"], row["num_samples"]) == (rate, channels, length)
    assert row["bytes"] == (tmp_path / "a.aae").stat().st_size
    assert bool(row["warnings"]) == (rate > 16000)
    found = run("decompress", tmp_path / "a.aae", tmp_path / "out.wav", *args)
    assert found.exit_code == 0, found.output
    form = info(tmp_path / "out.wav")
    assert (form.sample_rate, form.channels, form.num_samples) == (rate, channels, length)


def test_the_waveform_is_restored_and_more_bits_are_better(
    tmp_path: Path, compressor: Compressor
) -> None:
    sound = speech_like(4, 16000, channels=2) * np.array([[1.0], [0.3]], np.float32)
    write(tmp_path / "in.wav", sound, 16000)
    scores, sizes = [], []
    for kbps in (6, 24):
        result = compress_file(tmp_path / "in.wav", tmp_path / f"{kbps}.aae", compressor, kbps=kbps)
        decompress_file(tmp_path / f"{kbps}.aae", tmp_path / f"{kbps}.wav", compressor)
        found = read(tmp_path / f"{kbps}.wav")[0]
        scores.append([si_sdr(a, b) for a, b in zip(found, sound, strict=True)])
        sizes.append(result.bytes)
    assert sizes[0] < sizes[1]
    assert min(scores[1]) > 5
    assert min(np.array(scores[1]) - scores[0]) > 2


def test_the_level_does_not_matter(tmp_path: Path, compressor: Compressor) -> None:
    sound = speech_like(3, 16000)
    scores = []
    for number, factor in enumerate((1.0, 0.001)):
        write(tmp_path / f"{number}.wav", sound * factor, 16000, subtype="FLOAT")
        compress_file(tmp_path / f"{number}.wav", tmp_path / f"{number}.aae", compressor, kbps=24)
        target = tmp_path / f"{number}-out.wav"
        decompress_file(tmp_path / f"{number}.aae", target, compressor, subtype="FLOAT")
        scores.append(si_sdr(read(target)[0], sound))
    assert scores[0] == pytest.approx(scores[1], abs=0.2)


@pytest.mark.parametrize("num_samples", [0, 1, 319, 320, 321, 16000])
def test_silence_and_short_sounds(tmp_path: Path, compressor: Compressor, num_samples: int) -> None:
    write(tmp_path / "in.wav", np.zeros((1, num_samples), np.float32), 16000)
    try:
        expected = info(tmp_path / "in.wav").num_samples
    except AudioFileError:
        assert num_samples == 0
        return
    result = compress_file(tmp_path / "in.wav", tmp_path / "a.aae", compressor)
    decompress_file(tmp_path / "a.aae", tmp_path / "out.wav", compressor)
    found = read(tmp_path / "out.wav")[0]
    assert found.shape == (1, expected)
    assert not num_samples or np.abs(found).max() < 1e-3
    assert result.bytes < 400


def test_the_same_sound_gives_the_same_bytes(
    tmp_path: Path, coded: tuple[Path, Path], model: Path
) -> None:
    for name in ("a", "b"):
        assert (
            run("compress", coded[0], tmp_path / f"{name}.aae", "-b", 24, "-m", model).exit_code
            == 0
        )
        assert run("decompress", coded[1], tmp_path / f"{name}.wav", "-m", model).exit_code == 0
    assert (tmp_path / "a.aae").read_bytes() == coded[1].read_bytes()
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def test_onnx_and_torch_code_the_same_whole_numbers(compressor: Compressor) -> None:
    codec = Codec(TorchCodec(build(0), device="cpu"))
    features = codec.features(speech_like(2, 16000)[0], 16000)
    first, second = codec.encode(features), compressor.codec.encode(features)
    np.testing.assert_array_equal(first, np.rint(first))
    assert np.mean(first != second) < 0.01  # a value close to a half may round to either side


def check_refused(path: Path, folder: Path, model: Path, exit_code: int = 1) -> str:
    """Decompressing fails with one line, and writes nothing."""
    before = sorted(folder.iterdir())
    found = run("decompress", path, folder / "out.wav", "--model", model, "--progress", "none")
    assert found.exit_code == exit_code, found.output
    assert sorted(folder.iterdir()) == before
    assert found.stderr.startswith("Error: ")
    assert found.stderr.count("\n") == 1
    assert "internal" not in found.stderr
    return found.stderr


def test_every_truncation_is_noticed(
    tmp_path: Path, coded: tuple[Path, Path], model: Path, compressor: Compressor
) -> None:
    data = coded[1].read_bytes()
    lengths = [0, 1, 7, 8, 20, SIZE - 1, SIZE, SIZE + 3, SIZE + 8, len(data) // 2, len(data) - 1]
    for length in lengths:
        (tmp_path / "cut.aae").write_bytes(data[:length])
        with pytest.raises(AudioFileError):
            decompress_file(tmp_path / "cut.aae", tmp_path / "out.wav", compressor)
    check_refused(tmp_path / "cut.aae", tmp_path, model)
    assert [path.name for path in tmp_path.iterdir()] == ["cut.aae"]


def test_every_altered_byte_is_noticed(
    tmp_path: Path, coded: tuple[Path, Path], compressor: Compressor
) -> None:
    data = coded[1].read_bytes()
    places = [*range(SIZE + 12), *np.random.default_rng(0).integers(SIZE, len(data), 40)]
    for place in places:
        altered = bytearray(data)
        altered[place] ^= 0x10
        (tmp_path / "altered.aae").write_bytes(altered)
        with pytest.raises(AudioFileError):
            decompress_file(tmp_path / "altered.aae", tmp_path / "out.wav", compressor)
    (tmp_path / "longer.aae").write_bytes(data + b"x")
    with pytest.raises(AudioFileError):
        decompress_file(tmp_path / "longer.aae", tmp_path / "out.wav", compressor)
    assert not (tmp_path / "out.wav").exists()


def test_swapped_packets_are_noticed(tmp_path: Path, coded: tuple[Path, Path]) -> None:
    data = coded[1].read_bytes()
    first = SIZE + 8 + int.from_bytes(data[SIZE : SIZE + 4], "little")
    (tmp_path / "a.aae").write_bytes(data[:SIZE] + data[first:] + data[SIZE:first])
    with pytest.raises(AudioFileError):
        list(read_packets(tmp_path / "a.aae"))


def test_forged_files_with_right_checksums_give_an_error(
    tmp_path: Path, coded: tuple[Path, Path], model: Path
) -> None:
    header, rng = read_header(coded[1]), np.random.default_rng(0)
    payloads = list(read_packets(coded[1]))
    forged: list[tuple[Header, list[bytes]]] = [
        (header, [rng.bytes(len(each) // 4 * 4) for each in payloads]),
        (header, [b"" for _ in payloads]),
        (header, [each[:-4] for each in payloads]),
        (header, [each + b"abc" for each in payloads]),
        (header, payloads[:1]),
        (replace(header, num_samples=10**15), payloads),
        (replace(header, channels=500), payloads),
        (replace(header, packet_frames=3), payloads),
    ]
    for number, (each, packets) in enumerate(forged):
        path = tmp_path / f"{number}.aae"
        write_packets(path, each, packets)
        found = run("decompress", path, tmp_path / "out.wav", "--model", model, "--overwrite")
        assert "internal" not in found.stderr
        if number > 2:
            assert found.exit_code == 1, (number, found.output)
        # Other bits in a packet may be the codes of another sound of the same length.
        if found.exit_code == 0:
            assert info(tmp_path / "out.wav").num_samples == header.num_samples
            (tmp_path / "out.wav").unlink()
        assert found.exit_code in (0, 1)
        assert not (tmp_path / "out.wav").exists()


def test_another_version_is_named(tmp_path: Path, coded: tuple[Path, Path], model: Path) -> None:
    data = bytearray(coded[1].read_bytes())
    data[8] = 9
    data[SIZE - 4 : SIZE] = zlib.crc32(data[: SIZE - 4]).to_bytes(4, "little")
    (tmp_path / "a.aae").write_bytes(data)
    assert "version 9" in check_refused(tmp_path / "a.aae", tmp_path, model)


def test_other_files_are_no_aae_files(
    tmp_path: Path, coded: tuple[Path, Path], model: Path
) -> None:
    check_refused(coded[0], tmp_path, model)
    check_refused(tmp_path, tmp_path, model)
    check_refused(tmp_path / "missing.aae", tmp_path, model)


def test_a_wrong_or_missing_model_exits_with_3(
    tmp_path: Path, coded: tuple[Path, Path], model: Path
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    other = make_model(tmp_path / "other.onnx", seed=1)
    assert other.name not in check_refused(coded[1], work, other, 3).split("model")[0]
    check_refused(coded[1], work, tmp_path / "missing.onnx", 3)
    export_codec(build(0), tmp_path / "plain.onnx", name="plain", overwrite=True)
    assert "tables" in check_refused(coded[1], work, tmp_path / "plain.onnx", 3)
    found = run("compress", coded[0], work / "b.aae", "--model", "speech-16k")
    assert found.exit_code == 3
    assert list(work.iterdir()) == []


def test_existing_files_are_kept(tmp_path: Path, coded: tuple[Path, Path], model: Path) -> None:
    (tmp_path / "a.aae").write_bytes(b"mine")
    assert run("compress", coded[0], tmp_path / "a.aae", "-m", model).exit_code == 1
    assert (tmp_path / "a.aae").read_bytes() == b"mine"
    assert run("compress", coded[0], tmp_path / "a.aae", "-m", model, "--overwrite").exit_code == 0
    assert read_header(tmp_path / "a.aae").channels == 1
    assert run("compress", coded[0], tmp_path / "a.mp3", "-m", model).exit_code == 1
    assert run("compress", coded[0], tmp_path / "no" / "a.aae", "-m", model).exit_code == 1
    (tmp_path / "out.wav").write_bytes(b"mine")
    assert run("decompress", coded[1], tmp_path / "out.wav", "-m", model).exit_code == 1
    assert (tmp_path / "out.wav").read_bytes() == b"mine"


def test_pipes_carry_the_same_bytes_as_files(
    tmp_path: Path, coded: tuple[Path, Path], model: Path
) -> None:
    def piped(*arguments: object, stdin: bytes) -> Result:
        return CliRunner().invoke(main, [*map(str, arguments), "-m", str(model)], input=stdin)

    sound, small = (path.read_bytes() for path in coded)
    through = piped("compress", "-", "-", "-b", 24, stdin=sound)
    assert through.exit_code == 0 and through.stdout_bytes == small, through.stderr
    assert run("decompress", coded[1], tmp_path / "a.wav", "-m", model).exit_code == 0
    through = piped("decompress", "-", "-", stdin=small)
    assert through.stdout_bytes == (tmp_path / "a.wav").read_bytes()
    assert piped("decompress", "-", tmp_path / "b.flac", stdin=small).exit_code == 0
    found = json.loads(run("compress", coded[0], tmp_path / "c.aae", "-m", model, "--json").stdout)
    assert found["dst"] == str(tmp_path / "c.aae")
    for command in ("compress", "decompress"):
        for damaged in (b"", b"no sound", small[:-9]):
            ended = piped(command, "-", tmp_path / "none.aae", stdin=damaged)
            assert (
                ended.exit_code == 1
                and "stdin" in ended.stderr
                and tmp_path.name not in (ended.stderr.replace(str(tmp_path / "none.aae"), ""))
            )
        ended = piped(command, "-", "-", "--json", stdin=small)
        assert ended.exit_code == 2 and not ended.stdout_bytes
        assert piped(command, "-", tmp_path / "a.wav", stdin=small).exit_code == 1
    assert not (tmp_path / "none.aae").exists()


def test_an_interrupt_leaves_nothing(
    tmp_path: Path, coded: tuple[Path, Path], compressor: Compressor
) -> None:
    def stop(seconds: float) -> None:
        if seconds > 4:
            raise KeyboardInterrupt

    for function, src, dst in (
        (compress_file, coded[0], tmp_path / "a.aae"),
        (decompress_file, coded[1], tmp_path / "a.wav"),
    ):
        with pytest.raises(KeyboardInterrupt):
            function(src, dst, compressor, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_recording_leaves_nothing(tmp_path: Path, model: Path) -> None:
    write(tmp_path / "in.flac", speech_like(4, 16000), 16000)
    data = (tmp_path / "in.flac").read_bytes()
    (tmp_path / "in.flac").write_bytes(data[: len(data) // 2])
    found = run("compress", tmp_path / "in.flac", tmp_path / "a.aae", "-m", model)
    assert found.exit_code == 1
    assert [path.name for path in tmp_path.iterdir()] == ["in.flac"]


def test_long_files_take_constant_memory(
    tmp_path: Path, compressor: Compressor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The arrays that are alive at once do not grow with the file."""
    import tracemalloc

    monkeypatch.setattr("audioae.tasks.compress.PACKET_SECONDS", 1.0)
    monkeypatch.setattr("audioae.tasks.compress.BLOCK_SECONDS", 1.0)
    peaks = []
    for seconds in (25, 75):
        write(tmp_path / "in.wav", speech_like(seconds, 8000), 8000, overwrite=True)
        tracemalloc.start()
        compress_file(tmp_path / "in.wav", tmp_path / "a.aae", compressor, overwrite=True)
        first = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        decompress_file(tmp_path / "a.aae", tmp_path / "o.wav", compressor, overwrite=True)
        peaks.append((first, tracemalloc.get_traced_memory()[1]))
        tracemalloc.stop()
    assert peaks[1][0] < 1.15 * peaks[0][0] + 2e5
    assert peaks[1][1] < 1.15 * peaks[0][1] + 2e5


def test_models_and_material_that_do_not_fit_are_refused(tmp_path: Path, model: Path) -> None:
    with pytest.raises(DataError):
        fit_coder(model, [], tmp_path / "a.onnx")
    plain = Conv1dSettings(num_bins=20, channels=(16, 4), time_strides=(1, 2))
    path = tmp_path / "plain.onnx"
    export_codec(Reconstructor(build_autoencoder(plain), FEATURES), path, name="p", overwrite=True)
    with pytest.raises(SettingsError):
        fit_coder(path, [(speech_like(2, 16000)[0], 16000)], tmp_path / "a.onnx")
    assert not (tmp_path / "a.onnx").exists()


def test_progress_and_json(tmp_path: Path, coded: tuple[Path, Path], model: Path) -> None:
    args = ("-m", model, "--progress", "json", "--json")
    found = run("compress", coded[0], tmp_path / "a.aae", "-b", 7, *args)
    row = json.loads(found.stdout)
    assert row["bitrate"] == 6.0
    assert row["kbps"] == pytest.approx(row["bytes"] * 8 / 12 / 1000, abs=0.01)
    lines = [json.loads(line) for line in found.stderr.splitlines() if line.startswith("{")]
    assert lines[-1]["event"] == "done"
    assert lines[-1]["done"] == pytest.approx(12)
    with pytest.raises(OutputError):
        compress_file(coded[0], tmp_path / "a.aae", Compressor(model))
