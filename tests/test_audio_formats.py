"""Every combination of container, encoding, sample rate and channels is written and read back."""

from __future__ import annotations

import warnings
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audioae.audio import AudioInfo, AudioReader, AudioWriter, check_output, info, read, write
from audioae.audio.formats import estimated_bytes, nominal_bit_rate
from audioae.errors import OutputError

EXACT = {
    "WAV": (".wav", ["PCM_U8", "PCM_16", "PCM_24", "FLOAT", "ULAW", "ALAW"]),
    "WAVEX": (".wav", ["PCM_U8", "PCM_16", "PCM_24", "FLOAT", "ULAW", "ALAW"]),
    "RF64": (".rf64", ["PCM_16", "PCM_24", "FLOAT"]),
    "W64": (".w64", ["PCM_16", "PCM_24", "FLOAT", "ULAW"]),
    "AIFF": (".aiff", ["PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "FLOAT", "ULAW", "ALAW"]),
    "CAF": (".caf", ["PCM_S8", "PCM_16", "PCM_24", "FLOAT", "ALAC_16"]),
    "FLAC": (".flac", ["PCM_S8", "PCM_16", "PCM_24"]),
    "AU": (".au", ["PCM_16", "PCM_24", "FLOAT"]),
}
LOSSY = [
    ("OGG", ".ogg", "VORBIS"),
    ("OGG", ".opus", "OPUS"),
    ("MP3", ".mp3", "MPEG_LAYER_III"),
    ("WAV", ".wav", "IMA_ADPCM"),
    ("WAV", ".wav", "MS_ADPCM"),
]


def copy_file(source: Path, target: Path) -> AudioWriter:
    form = check_output(target, like=info(source))
    with AudioReader(source) as reader, AudioWriter(target, form) as writer:
        while (block := reader.read(1000)).shape[1]:
            writer.write(block)
    return writer


def make(
    path: Path, form: tuple[str, str], rate: int, channels: int, samples: int, endian: str = "FILE"
) -> None:
    noise = np.random.default_rng(samples).uniform(-1, 1, (samples, channels))
    with soundfile.SoundFile(path, "w", rate, channels, form[1], endian, form[0]) as sound:
        sound.write(noise)


@pytest.mark.parametrize(
    ("container", "subtype"),
    [(name, subtype) for name, (_, all_) in EXACT.items() for subtype in all_],
)
def test_integer_codes_are_kept_exactly(tmp_path: Path, container: str, subtype: str) -> None:
    suffix = EXACT[container][0]
    for rate, channels, samples in [
        (44100, 1, 1),
        (48000, 2, 2500),
        (250000, 6, 999),
        (96000, 8, 1000),
        (11025, 1, 1001),
    ]:
        source, target = tmp_path / f"a{rate}{suffix}", tmp_path / f"b{rate}{suffix}"
        make(source, (container, subtype), rate, channels, samples)
        writer = copy_file(source, target)
        assert info(target) == info(source)
        assert info(target).subtype == subtype
        assert info(target).num_samples == info(source).num_samples
        codes = [
            soundfile.read(
                path, dtype="int32" if subtype != "FLOAT" else "float32", frames=samples
            )[0]
            for path in (source, target)
        ]
        assert np.array_equal(*codes)
        assert writer.num_clipped == 0
        assert writer.lost == []


@pytest.mark.parametrize(
    ("container", "subtype"),
    [(name, subtypes[-1]) for name, (_, subtypes) in EXACT.items()] + [("OGG", "VORBIS")],
)
def test_an_empty_recording_stays_empty(tmp_path: Path, container: str, subtype: str) -> None:
    suffix = EXACT.get(container, (".ogg",))[0]
    form = AudioInfo(
        48000,
        2,
        0,
        container,
        subtype,
        tags={"title": "nothing"} if container not in ("W64", "AU") else {},
    )
    with AudioWriter(tmp_path / f"a{suffix}", form) as writer:
        writer.write(np.zeros((2, 0), np.float32))
    assert writer.lost == []
    copy_file(tmp_path / f"a{suffix}", tmp_path / f"b{suffix}")
    assert info(tmp_path / f"b{suffix}") == form
    assert read(tmp_path / f"b{suffix}")[0].shape == (2, 0)


@pytest.mark.parametrize("channels", [3, 16, 64])
def test_many_channels(tmp_path: Path, channels: int) -> None:
    for container in ("WAV", "AIFF", "CAF", "W64", "OGG"):
        suffix = EXACT.get(container, (".ogg",))[0]
        source = tmp_path / f"a{suffix}"
        make(
            source, (container, "VORBIS" if container == "OGG" else "PCM_16"), 16000, channels, 300
        )
        copy_file(source, tmp_path / f"b{suffix}")
        assert info(tmp_path / f"b{suffix}").channels == channels


@pytest.mark.parametrize(
    ("container", "endian"),
    [("WAV", "BIG"), ("AIFF", "LITTLE"), ("CAF", "LITTLE"), ("AU", "LITTLE")],
)
def test_the_byte_order_is_kept(tmp_path: Path, container: str, endian: str) -> None:
    source, target = (tmp_path / f"{name}{EXACT[container][0]}" for name in "ab")
    make(source, (container, "PCM_24"), 44100, 2, 500, endian)
    assert info(source).endian == endian
    copy_file(source, target)
    assert info(target) == info(source)
    assert np.array_equal(read(target)[0], read(source)[0])


@pytest.mark.parametrize(("container", "suffix", "subtype"), LOSSY)
def test_lossy_files_keep_form_length_and_alignment(
    tmp_path: Path, container: str, suffix: str, subtype: str
) -> None:
    for rate, channels, samples in product([8000, 22050, 48000], [1, 2], [1, 3000]):
        source, target = (
            tmp_path / f"a{rate}{channels}{samples}{suffix}",
            tmp_path / f"b{rate}{channels}{samples}{suffix}",
        )
        if subtype == "OPUS" and rate == 22050:
            continue
        tone = 0.5 * np.sin(2 * np.pi * 400 * np.arange(samples) / rate)
        with soundfile.SoundFile(source, "w", rate, channels, subtype, None, container) as sound:
            sound.write(np.repeat(tone[:, None], channels, axis=1))
        copy_file(source, target)
        assert info(target) == info(source)
        before, after = read(source)[0], read(target)[0]
        assert after.shape == before.shape
        if samples > 1:
            assert np.abs(after - before)[:, 500:-500].max() < 0.1


def test_block_codecs_keep_the_true_length(tmp_path: Path) -> None:
    like = AudioInfo(16000, 1, 1001, "WAV", "IMA_ADPCM")
    with AudioWriter(tmp_path / "a.wav", like) as writer:
        writer.write(np.zeros((1, 1001)))
    assert soundfile.info(tmp_path / "a.wav").frames == 1017
    assert info(tmp_path / "a.wav").num_samples == 1001
    assert read(tmp_path / "a.wav")[0].shape == (1, 1001)
    assert writer.lost == []


@pytest.mark.parametrize("subtype", ["PCM_S8", "PCM_U8", "ULAW", "PCM_16", "PCM_24"])
def test_padding_is_not_counted_as_a_sample(tmp_path: Path, subtype: str) -> None:
    for samples in (1, 2, 3):
        path = tmp_path / f"{samples}.aiff"
        with AudioWriter(path, AudioInfo(8000, 1, samples, "AIFF", subtype)) as writer:
            writer.write(np.full((1, samples), 0.5))
        assert writer.lost == []
        assert read(path)[0] == pytest.approx(np.full((1, samples), 0.5), abs=0.02)


@pytest.mark.parametrize("bits", [16, 24])
def test_every_code_survives_float32(tmp_path: Path, bits: int) -> None:
    top = 2 ** (bits - 1)
    codes = (
        np.arange(-top, top)
        if bits == 16
        else np.random.default_rng(0).integers(-top, top, 200_000)
    )
    codes = np.append(codes, [-top, top - 1, 0, -1, 1])
    soundfile.write(
        tmp_path / "a.wav", (codes << (32 - bits)).astype(np.int32), 48000, f"PCM_{bits}"
    )
    copy_file(tmp_path / "a.wav", tmp_path / "b.wav")
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


@pytest.mark.parametrize("subtype", ["PCM_32", "DOUBLE"])
def test_float64_is_exact_where_float32_is_not(tmp_path: Path, subtype: str) -> None:
    values = np.random.default_rng(0).uniform(-1, 1, (1, 5000))
    form = AudioInfo(48000, 1, 5000, "WAV", subtype)
    for name in ("a", "b"):
        with AudioWriter(tmp_path / f"{name}.wav", form) as writer:
            writer.write(values)
        values = read(tmp_path / f"{name}.wav", dtype="float64")[0]
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def test_float_files_keep_samples_beyond_full_scale(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", np.array([[1.5, -3.0]], np.float32), 16000, subtype="FLOAT")
    assert read(tmp_path / "a.wav")[0].tolist() == [[1.5, -3.0]]


@pytest.mark.parametrize("subtype", ["FLOAT", "PCM_16", "VORBIS"])
def test_nan_and_infinity_are_not_written(tmp_path: Path, subtype: str) -> None:
    path = tmp_path / ("a.ogg" if subtype == "VORBIS" else "a.wav")
    with warnings.catch_warnings():
        write(
            path,
            np.tile(np.array([0.1, np.nan, np.inf, -np.inf], np.float32), 500),
            16000,
            subtype=subtype,
        )
    got = read(path)[0]
    assert np.isfinite(got).all()
    if subtype != "VORBIS":
        assert got[0, :4] == pytest.approx([0.1, 0, 1, -1], abs=1e-4)


@pytest.mark.parametrize(
    ("like", "name", "expected"),
    [
        (("WAV", "FLOAT"), "a.flac", "PCM_24"),
        (("WAV", "PCM_U8"), "a.flac", "PCM_16"),
        (("WAV", "PCM_32"), "a.flac", "PCM_24"),
        (("FLAC", "PCM_24"), "a.wav", "PCM_24"),
        (("FLAC", "PCM_S8"), "a.wav", "PCM_U8"),
        (("OGG", "VORBIS"), "a.wav", "PCM_16"),
        (("OGG", "VORBIS"), "a.opus", "OPUS"),
        (("OGG", "OPUS"), "a.ogg", "OPUS"),
        (("MP3", "MPEG_LAYER_III"), "a.ogg", "VORBIS"),
        (("CAF", "ALAC_24"), "a.caf", "PCM_24"),
        (("WAV", "DOUBLE"), "a.mp3", "MPEG_LAYER_III"),
        (("WAV", "GSM610"), "a.wav", "PCM_16"),
    ],
)
def test_another_container_gets_the_nearest_encoding(
    tmp_path: Path, like: tuple[str, str], name: str, expected: str
) -> None:
    assert check_output(tmp_path / name, like=AudioInfo(48000, 2, 10, *like)).subtype == expected


@pytest.mark.parametrize(
    ("before", "after", "lost"),
    [("FLOAT", "PCM_24", True), ("PCM_16", "PCM_24", False), ("PCM_24", "PCM_16", True)],
)
def test_lost_precision_is_reported(tmp_path: Path, before: str, after: str, lost: bool) -> None:
    make(tmp_path / "a.wav", ("WAV", before), 48000, 1, 100)
    form = check_output(tmp_path / "b.flac", like=info(tmp_path / "a.wav"), subtype=after)
    with AudioWriter(tmp_path / "b.flac", form) as writer:
        writer.write(read(tmp_path / "a.wav")[0])
    assert writer.lost == ([f"precision: {before} became {after}"] if lost else [])


@pytest.mark.parametrize(
    ("name", "like", "asked", "message"),
    [
        ("a.opus", (44100, 2, 10), {}, r"OPUS takes 8, 12, 16, 24, 48 kHz, got 44\.1 kHz"),
        ("a.mp3", (96000, 2, 10), {}, r"got 96 kHz"),
        ("a.ogg", (250000, 2, 10), {}, r"up to 200 kHz, got 250 kHz"),
        ("a.mp3", (48000, 6, 10), {}, "1 to 2 channels, got 6"),
        ("a.flac", (48000, 9, 10), {}, "1 to 8 channels, got 9"),
        ("a.ogg", (48000, 256, 10), {}, "1 to 255 channels, got 256"),
        (
            "a.flac",
            (48000, 2, 10),
            {"subtype": "FLOAT"},
            "FLAC cannot hold FLOAT .* PCM_S8, PCM_16, PCM_24",
        ),
        ("a.wav", (48000, 2, 10), {"subtype": "PCM16"}, "cannot hold PCM16"),
        ("a.flak", (48000, 2, 10), {}, r"suffix '\.flak'; did you mean '\.flac'"),
        ("a", (48000, 2, 10), {}, "suffix ''"),
        ("a.wav", (48000, 2, 10), {"container": "FLAK"}, "did you mean 'FLAC'"),
        ("a.aiff", (48000, 2, 2**30), {}, r"AIFF holds up to 4 GiB, got 4\.0 GiB"),
        ("a.opus", (48000, 2, 0), {}, "cannot hold an empty"),
        ("a.mp3", (48000, 2, 0), {}, "cannot hold an empty"),
        ("a.wav", (0, 2, 10), {}, "sample rate must be positive"),
        ("a.wav", (48000, 0, 10), {}, "got 0"),
    ],
)
def test_impossible_outputs_are_errors_before_writing(
    tmp_path: Path, name: str, like: tuple[int, int, int], asked: dict[str, str], message: str
) -> None:
    with pytest.raises(OutputError, match=message):
        check_output(tmp_path / name, like=AudioInfo(*like, "WAV", "PCM_16"), **asked)
    assert not list(tmp_path.iterdir())


def test_an_encoding_that_the_container_cannot_hold_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="FLAC cannot hold PCM_32"):
        check_output(tmp_path / "a.flac", like=AudioInfo(48000, 2, 10, "FLAC", "PCM_32"))
    with pytest.raises(OutputError, match="PCM_25; did you mean"):
        check_output(tmp_path / "a.wav", like=AudioInfo(48000, 2, 10, "WAV", "PCM_25"))


def test_a_large_wav_becomes_rf64(tmp_path: Path) -> None:
    limit = 2**32 // 4
    for num_samples, container in [(limit - 2**16, "WAV"), (limit, "RF64")]:
        form = AudioInfo(48000, 2, num_samples, "WAV", "PCM_16")
        assert check_output(tmp_path / "a.wav", like=form).container == container
        assert estimated_bytes(form) == num_samples * 4


def test_the_container_of_a_foreign_suffix_is_kept(tmp_path: Path) -> None:
    make(tmp_path / "a.audio", ("FLAC", "PCM_16"), 48000, 1, 100)
    copy_file(tmp_path / "a.audio", tmp_path / "b.audio")
    assert info(tmp_path / "b.audio").container == "FLAC"
    make(tmp_path / "c.wav", ("NIST", "PCM_16"), 48000, 1, 100)
    copy_file(tmp_path / "c.wav", tmp_path / "d.wav")
    assert info(tmp_path / "d.wav").container == "NIST"


@pytest.mark.parametrize("level", [0.0, 0.3, 0.6, 0.9])
@pytest.mark.parametrize(
    ("suffix", "subtype", "rate"),
    [(".ogg", "VORBIS", 44100), (".opus", "OPUS", 48000), (".mp3", "MPEG_LAYER_III", 44100)],
)
def test_the_bit_rate_does_not_decrease(
    tmp_path: Path, suffix: str, subtype: str, rate: int, level: float
) -> None:
    source, target = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    noise = 0.2 * np.random.default_rng(0).standard_normal((3 * rate, 2))
    container = "MP3" if suffix == ".mp3" else "OGG"
    with soundfile.SoundFile(
        source, "w", rate, 2, subtype, None, container, compression_level=level
    ) as sound:
        for start in range(0, len(noise), 50_000):
            sound.write(noise[start : start + 50_000])
    copy_file(source, target)
    before, after = info(source).bit_rate, info(target).bit_rate
    assert before is not None and after is not None
    assert after >= before * 0.97
    if subtype == "VORBIS":
        before, after = nominal_bit_rate(source), nominal_bit_rate(target)
        assert before is not None and after is not None
        assert before < after < before * 1.3 or level == 0  # already the best quality


def test_long_ogg_blocks_do_not_crash(tmp_path: Path) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal((1, 600_000)).astype(np.float32)
    for name in ("a.ogg", "a.opus"):
        write(tmp_path / name, noise, 16000)
        assert info(tmp_path / name).num_samples == 600_000
