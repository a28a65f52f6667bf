"""What stays of a media file when it is denoised: lengths, times, loudspeakers, chapters, covers,
tags, tracks, and lossless encodings. PyAV, opened on its own, is the witness.

Needs the extra `media`.
"""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fake_engines import constant
from tiny_media import RATE, Form, hear, make_media, properties

from audioae.audio import info
from audioae.audio.layout import VORBIS, surround
from audioae.denoising import FileJob, FileResult, denoise_file, plan_file
from audioae.errors import AudioFileError, OutputError, SettingsError

av = pytest.importorskip("av", reason="needs PyAV: pip install 'audioae[media]'")

TAGS = {"title": "a title", "artist": "somebody", "comment": "a comment"}
BOOK = {"tags": TAGS, "chapters": True}
CODEC_FRAME = 2048  # samples that a lossy codec may round to

MATRIX = {
    "mp4 aac 1": ("in.mp4", "out.mp4", Form("aac", 1, tags=TAGS)),
    "mp4 aac 2 film": ("in.mp4", "out.mp4", Form("aac", 2, video=True, **BOOK)),
    "mp4 aac 2 tracks": ("in.mp4", "out.mp4", Form("aac", 2, tracks=2, video=True)),
    "mp4 aac 2 gap": ("in.mp4", "out.mp4", Form("aac", 2, gap=(0.5, 0.7), video=True)),
    "mp4 aac 2 late": ("in.mp4", "out.mp4", Form("aac", 2, start=0.3, video=True)),
    "mp4 aac 8": ("in.mp4", "out.mp4", Form("aac", 8)),
    "m4a aac 6": ("in.m4a", "out.m4a", Form("aac", 6, **BOOK)),
    "m4a aac 8 cover": ("in.mp4", "out.m4a", Form("aac", 8, cover=True, **BOOK)),
    "m4a aac 16": ("in.m4a", "out.m4a", Form("aac", 16, "hexadecagonal")),
    "m4a alac 2": ("in.m4a", "out.m4a", Form("alac", 2, samples="s16p", **BOOK)),
    "m4a alac 6": ("in.m4a", "out.m4a", Form("alac", 6, samples="s32p")),
    "m4b aac 1 cover": ("in.mp4", "out.m4b", Form("aac", 1, cover=True, **BOOK)),
    "mov pcm 2 film": ("in.mov", "out.mov", Form("pcm_s24le", 2, video=True, tags=TAGS)),
    "mov pcm 16": ("in.mov", "out.mov", Form("pcm_s16le", 16)),
    "mov pcm 8 tracks": ("in.mov", "out.mov", Form("pcm_f32le", 8, tracks=2)),
    "mov mu-law 1": ("in.mov", "out.mov", Form("pcm_mulaw", 1)),
    "mkv opus 2 film": ("in.mkv", "out.mkv", Form("libopus", 2, video=True, tracks=3, **BOOK)),
    "mkv opus 2 gap": ("in.mkv", "out.mkv", Form("libopus", 2, gap=(0.5, 0.7), video=True)),
    "mkv flac 6": ("in.mkv", "out.mkv", Form("flac", 6, samples="s32", tags=TAGS)),
    "mkv flac side": ("in.mkv", "out.mkv", Form("flac", 6, "5.1(side)", samples="s16")),
    "mkv ac3 6": ("in.mkv", "out.mkv", Form("ac3", 6, "5.1(side)")),
    "mkv f64 2": ("in.mkv", "out.mkv", Form("pcm_f64le", 2)),
    "mka wavpack 2": ("in.mka", "out.mka", Form("wavpack", 2, samples="s16p", **BOOK)),
    "mka wavpack 8": ("in.mka", "out.mka", Form("wavpack", 8, samples="s32p")),
    "mka s32 1": ("in.mka", "out.mka", Form("pcm_s32le", 1)),
    "mka u8 1": ("in.mka", "out.mka", Form("pcm_u8", 1)),
    "mka pcm 16": ("in.mka", "out.mka", Form("pcm_s16le", 16)),
    "mka unspecified 1": ("in.mka", "out.m4a", Form("pcm_s16le", 1, "1 channels")),
    "webm opus 1": ("in.webm", "out.webm", Form("libopus", 1, tags=TAGS)),
    "webm opus 2 gap": ("in.webm", "out.webm", Form("libopus", 2, gap=(0.4, 0.6))),
    "webm opus 6": ("in.webm", "out.webm", Form("libopus", 6)),
    "ts aac 2 film": ("in.ts", "out.ts", Form("aac", 2, video=True)),
    "ts to mp4": ("in.ts", "out.mp4", Form("aac", 2, video=True)),
    "avi mp3 to mkv": ("in.avi", "out.mkv", Form("libmp3lame", 2, video=True, tags=TAGS)),
    "avi pcm to mov": ("in.avi", "out.mov", Form("pcm_s16le", 2, video=True)),
    "mkv to mp4": ("in.mkv", "out.mp4", Form("aac", 2, video=True, tracks=2, **BOOK)),
    "mp4 to mkv": ("in.mp4", "out.mkv", Form("aac", 6, video=True, tracks=2, **BOOK)),
    "mp4 to wav": ("in.mp4", "out.wav", Form("aac", 6)),
    "mkv to opus": ("in.mkv", "out.opus", Form("libopus", 6)),
    "mkv to flac": ("in.mkv", "out.flac", Form("flac", 6, "5.1(side)", samples="s16")),
    "mov to caf": ("in.mov", "out.caf", Form("pcm_s16le", 6)),
    "ogg opus to mka": ("in.opus", "out.mka", Form("libopus", 6, tags=TAGS)),
}
LOSSLESS = ("pcm_", "flac", "alac", "wavpack")


def denoise(src: Path, dst: Path, **options: object) -> FileResult:
    return denoise_file(src, dst, model=constant(1.0), **options)  # type: ignore[arg-type]


def about(result: FileResult, word: str) -> bool:
    """Whether a warning of what is not kept names this."""
    return any(line.startswith("not kept: ") and word in line for line in result.warnings)


@pytest.mark.parametrize("case", MATRIX)
def test_what_a_file_holds_stays_or_is_named(tmp_path: Path, case: str) -> None:
    first, second, form = MATRIX[case]
    src, dst = make_media(tmp_path / first, form), tmp_path / second
    result = denoise(src, dst)
    before, after = properties(src), properties(dst)
    tracks = len(after["codecs"])
    assert tracks == len(before["codecs"])
    for track in range(tracks):
        check_track(src, dst, track, result)
    for name, text in before["tags"].items():
        if name in TAGS:
            assert after["tags"].get(name) == text or about(result, f"tag {name}")
    assert after["chapters"] == before["chapters"] or about(result, "chapter")
    assert after["covers"] == before["covers"] or about(result, "cover")
    assert after["pictures"] == before["pictures"] or about(result, "video track")
    if tracks > 1:
        assert after["languages"] == before["languages"] or about(result, "language")
        assert after["defaults"] == before["defaults"] or about(result, "flag default")
        assert [each.number for each in result.tracks] == list(range(1, tracks + 1))
    if all(codec.startswith(LOSSLESS) for codec in before["codecs"]) and dst.suffix != ".opus":
        assert all(codec.startswith(LOSSLESS) for codec in after["codecs"])
        assert not about(result, "precision")
    # A dry run finds what a run finds, apart from what only the finished file tells.
    again = plan_file(FileJob(src, dst, overwrite=True))
    late = [line for line in result.warnings if line not in again.warnings]
    assert not [line for line in late if "length" not in line and "speech" not in line]


def check_track(src: Path, dst: Path, track: int, result: FileResult) -> None:
    old, new = hear(src, track), hear(dst, track)
    exact = result.subtype.startswith(("PCM", "FLAC", "ALAC", "WAVPACK", "FLOAT", "DOUBLE"))
    allowed = 1 if exact and codec_of(src).startswith(LOSSLESS) else CODEC_FRAME
    assert abs(new.num_samples - old.num_samples) <= allowed or about(result, "length")
    assert abs(new.start - old.start) <= CODEC_FRAME / RATE or about(result, "start time")
    known = len(old.names) > 2 and "NONE" not in old.names
    if known and "NONE" not in new.names:
        assert sorted(surround(new.names)) == sorted(surround(old.names))
        order = [surround(new.names).index(name) for name in surround(old.names)]
    else:
        assert not known or about(result, "channel layout")
        order = list(range(len(old.names)))
    length = min(len(old.timeline), len(new.timeline))
    for channel, place in enumerate(order):
        one, other = old.timeline[:length, channel], new.timeline[:length, place]
        # A tone of some hundred Hz: less than 1 ms of shift lowers the correlation.
        likeness = one @ other / np.sqrt((one @ one) * (other @ other))
        assert likeness > (0.999 if exact else 0.9), (channel, likeness)


def codec_of(path: Path) -> str:
    """FFmpeg's name of the first codec."""
    return str(properties(path)["codecs"][0])


def test_wave_masks_survive_containers_and_orders(tmp_path: Path) -> None:
    """5.1 from Opus order to a WAV with a mask, to FLAC and Vorbis, and back."""
    src = make_media(tmp_path / "a.opus", Form("libopus", 6))
    original = hear(src)
    for name in ("b.wav", "c.flac", "d.ogg", "e.caf", "f.rf64", "g.opus", "h.wav"):
        result = denoise(src, tmp_path / name)
        assert result.warnings == () or not about(result, "channel layout")
        assert set(info(tmp_path / name).layout) == set(VORBIS[5])
        src = tmp_path / name
    back = hear(src)
    assert back.names == original.names == ("FL", "FR", "FC", "LFE", "BL", "BR")
    for one, other in zip(original.timeline.T, back.timeline.T, strict=True):
        length = min(len(one), len(other))
        assert one[:length] @ other[:length] > 0.9 * (one @ one)


def test_a_container_without_loudspeakers_is_named(tmp_path: Path) -> None:
    src = make_media(tmp_path / "a.opus", Form("libopus", 6))
    assert about(denoise(src, tmp_path / "a.aiff"), "channel layout")
    assert not about(denoise(src, tmp_path / "a.wav"), "channel layout")


def test_a_wav_without_a_mask_gets_none(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros((4800, 6)), 48000)
    denoise(tmp_path / "a.wav", tmp_path / "b.wav")
    assert info(tmp_path / "b.wav").container == "WAV"
    assert info(tmp_path / "b.wav").layout == ()


@pytest.mark.parametrize("name", ["out.m4a", "out.mka", "out.mov", "out.mkv", "out.webm"])
@pytest.mark.parametrize("channels", [8, 12, 16, 24])
def test_many_channels_are_written_or_refused(tmp_path: Path, name: str, channels: int) -> None:
    waveform = np.random.default_rng(0).normal(0, 0.1, (4800, channels))
    soundfile.write(tmp_path / "in.wav", waveform, 48000)
    try:
        result = denoise(tmp_path / "in.wav", tmp_path / name)
    except OutputError as error:
        assert str(channels) in str(error)
        assert not (tmp_path / name).exists()
        return
    assert result.channels == channels
    assert info(tmp_path / name).channels == channels


@pytest.mark.parametrize("layout", ["FC+FL+FR", "FL+FL", "FR+FL", "FL+FR+LFE2"])
def test_custom_layouts_do_not_crash(tmp_path: Path, layout: str) -> None:
    """QuickTime stores layouts that no mask expresses; PyAV frees them twice."""
    channels = layout.count("+") + 1
    src = make_media(tmp_path / "a.mov", Form("pcm_s16le", channels, f"{channels} channels"))
    labels = {"FL": 1, "FR": 2, "FC": 3, "LFE2": 37}
    rows = b"".join(labels[name].to_bytes(4, "big") + bytes(16) for name in layout.split("+"))
    body = bytes(4) + bytes(4) + bytes(4) + channels.to_bytes(4, "big") + rows
    add_chan(src, (8 + len(body)).to_bytes(4, "big") + b"chan" + body)
    for _ in range(3):
        result = denoise(src, tmp_path / "b.wav", overwrite=True)
    assert result.channels == channels
    if layout == "FC+FL+FR":
        assert info(src).layout == ("FC", "FL", "FR")
        assert info(tmp_path / "b.wav").layout == ("FL", "FR", "FC")


def add_chan(path: Path, atom: bytes) -> None:
    """Put a chan atom into the sample description of a QuickTime file whose moov atom is last."""
    data = bytearray(path.read_bytes())
    at = data.rindex(b"stsd") + 12  # the entry of the track
    while (old := data.find(b"chan", at)) >= 0:
        data[old : old + 4] = b"free"
    size = int.from_bytes(data[at : at + 4], "big")
    data[at + size : at + size] = atom
    data[at : at + 4] = (size + len(atom)).to_bytes(4, "big")
    for name in (b"stsd", b"stbl", b"minf", b"mdia", b"trak", b"moov"):
        start = data.rindex(name, 0, at + 4) - 4
        old_size = int.from_bytes(data[start : start + 4], "big")
        data[start : start + 4] = (old_size + len(atom)).to_bytes(4, "big")
    path.write_bytes(data)


def test_gaps_are_filled_and_named(tmp_path: Path) -> None:
    src = make_media(tmp_path / "a.mkv", Form("libopus", 1, gap=(0.4, 0.6)))
    result = denoise(src, tmp_path / "b.wav")
    assert result.tracks[0].gap_seconds == pytest.approx(0.2, abs=0.01)
    assert any("missing" in line for line in result.warnings)
    assert result.num_samples == pytest.approx(1.2 * RATE, abs=1500)
    quiet = soundfile.read(tmp_path / "b.wav")[0][round(0.43 * RATE) : round(0.58 * RATE)]
    assert np.abs(quiet).max() < 1e-3


def test_jitter_of_timestamps_is_no_gap(tmp_path: Path) -> None:
    src = make_media(tmp_path / "a.webm", Form("libopus", 2, seconds=4.0))
    assert denoise(src, tmp_path / "b.wav").tracks[0].gap_seconds == 0


def test_tracks_are_chosen_by_number_and_language(tmp_path: Path) -> None:
    src = make_media(tmp_path / "a.mkv", Form("flac", 1, tracks=3, samples="s16"))
    half = denoise_file(src, tmp_path / "b.mkv", model=constant(0.5), tracks=["deu"])
    assert [(each.number, each.language) for each in half.tracks] == [(2, "deu")]
    levels = [np.abs(hear(tmp_path / "b.mkv", track).timeline).max() for track in range(3)]
    assert levels[1] == pytest.approx(levels[0] / 2, rel=0.02)
    assert levels[2] == pytest.approx(levels[0], rel=0.001)
    assert properties(tmp_path / "b.mkv")["languages"] == ["eng", "deu", "fra"]
    wav = denoise(src, tmp_path / "c.wav", tracks=[3])
    assert [each.number for each in wav.tracks] == [3]
    assert about(wav, "audio track 0")
    for wrong in (["4"], ["spa"], ["0"]):
        with pytest.raises(SettingsError, match="audio track"):
            denoise(src, tmp_path / "d.mkv", tracks=wrong)
    with pytest.raises(SettingsError, match="one audio track"):
        denoise(src, tmp_path / "d.wav", tracks=[1, 2])


def test_all_tracks_are_denoised_and_their_residuals_written(tmp_path: Path) -> None:
    src = make_media(tmp_path / "a.mka", Form("pcm_s16le", 1, tracks=2))
    dst, residual = tmp_path / "b.mka", tmp_path / "r.mka"
    denoise_file(src, dst, model=constant(0.5), residual=residual)
    for track in range(2):
        whole, part, rest = (hear(each, track).timeline for each in (src, dst, residual))
        assert np.abs(part - 0.5 * whole).max() < 1e-3
        assert np.abs(part + rest - whole).max() == 0


@pytest.mark.parametrize(
    ("codec", "samples", "name", "subtype"),
    [
        ("wavpack", "s32p", "b.mka", "WAVPACK_24"),
        ("pcm_u8", None, "b.mka", "PCM_U8"),
        ("pcm_s32le", None, "b.mov", "PCM_32"),
        ("pcm_f64le", None, "b.mka", "DOUBLE"),
        ("pcm_alaw", None, "b.mov", "ALAW"),
        ("flac", "s16", "b.m4a", "ALAC_16"),
        ("alac", "s16p", "b.mkv", "FLAC_16"),
    ],
)
def test_lossless_codecs_stay_lossless(
    tmp_path: Path, codec: str, samples: str | None, name: str, subtype: str
) -> None:
    suffix = ".mov" if codec in ("pcm_alaw", "alac") else ".mka"
    src = make_media(tmp_path / f"a{suffix}", Form(codec, 1, samples=samples))
    if subtype == "WAVPACK_24":
        subtype = info(src).subtype
    result = denoise(src, tmp_path / name)
    assert result.subtype == subtype
    assert not about(result, "codec")
    assert not about(result, "precision")


def test_a_change_of_codec_is_a_warning_and_a_field(tmp_path: Path) -> None:
    src = make_media(tmp_path / "a.mka", Form("flac", 2, samples="s16"))
    result = denoise(src, tmp_path / "b.webm")
    assert result.to_dict()["changes"] == {"codec": ["FLAC_16", "OPUS"]}
    assert about(result, "codec")
    assert json.dumps(result.to_dict())
    plan = plan_file(FileJob(src, tmp_path / "c.webm"))
    assert plan.to_dict()["changes"] == result.changes
    assert any("codec" in line for line in plan.warnings)
    deep = make_media(tmp_path / "d.mka", Form("pcm_s32le", 2))
    assert about(denoise(deep, tmp_path / "e.m4a"), "precision")


def test_subtitles_fonts_and_flags_that_do_not_fit_are_named_before_work(tmp_path: Path) -> None:
    src = tmp_path / "a.mkv"
    with av.open(str(src), "w") as file:
        audio = file.add_stream("flac", rate=RATE, layout="mono", format="s16")
        text = file.add_mux_stream("subrip")
        text.metadata["language"] = "eng"
        text.disposition = 1 << 6
        file.add_attachment("font.ttf", "font/ttf", b"no font")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4800), np.int16), layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
        file.mux(audio.encode(frame))
        packet = av.Packet(b"hello")
        packet.stream, packet.pts, packet.dts, packet.duration = text, 0, 0, 50
        packet.time_base = Fraction(1, 1000)
        file.mux(packet)
        file.mux(audio.encode(None))
    with av.open(str(src)) as file:
        assert [each.type for each in file.streams] == ["audio", "subtitle", "attachment"]
    kept = plan_file(FileJob(src, tmp_path / "b.mkv"))
    assert kept.warnings == ()
    denoise(src, tmp_path / "b.mkv")
    with av.open(str(tmp_path / "b.mkv")) as file:
        assert [each.type for each in file.streams] == ["audio", "subtitle", "attachment"]
        assert int(file.streams[1].disposition) & 1 << 6
    plan = plan_file(FileJob(src, tmp_path / "b.mp4"))
    assert {"not kept: subtitle track 1", "not kept: attachment track 2"} <= set(plan.warnings)
    result = denoise(src, tmp_path / "b.mp4")
    assert set(plan.warnings) <= set(result.warnings)


def test_a_timecode_track_is_kept_or_named(tmp_path: Path) -> None:
    src = tmp_path / "a.mov"
    with av.open(str(src), "w") as file:
        video = file.add_stream("mpeg4", rate=25, width=64, height=48)
        video.metadata["timecode"] = "01:00:00:00"
        audio = file.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for number in range(25):
            picture = np.full((48, 64, 3), 5 * number, np.uint8)
            file.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1920), np.int16), layout="mono")
            frame.sample_rate, frame.pts = RATE, 1920 * number
            file.mux(audio.encode(frame))
        file.mux(video.encode(None))
    for name in ("b.mov", "b.mp4", "b.mkv"):
        assert not about(denoise(src, tmp_path / name), "timecode")
        with av.open(str(tmp_path / name)) as file:
            tags = {key.lower(): text for key, text in file.streams.video[0].metadata.items()}
            assert tags["timecode"] == "01:00:00:00"
    assert about(denoise(src, tmp_path / "b.m4a"), "timecode")


def test_a_file_that_cannot_be_muxed_is_refused_before_work(tmp_path: Path) -> None:
    src = make_media(tmp_path / "a.mkv", Form("flac", 1, samples="s16"))
    with pytest.raises(OutputError, match="kHz"):
        soundfile.write(tmp_path / "odd.wav", np.zeros(1000), 44100)
        plan_file(FileJob(tmp_path / "odd.wav", tmp_path / "b.webm"))
    with pytest.raises(AudioFileError):
        info(src, track=3)
