"""Small copies of every corpus go through the real code: the right files, sources and splits come
out, and what is missing is named.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from audioae.cli import main
from audioae.data.corpora.catalog import CORPORA
from audioae.data.corpora.collect import choose, corpus_entries, pending
from audioae.data.corpora.layouts import DEMAND_PLACES
from audioae.data.manifest import Row, ShardReader, read_manifest
from audioae.data.prepare import PrepareSettings, prepare
from audioae.data.sources import Entry
from audioae.errors import DataError, SettingsError

SECONDS = 0.3


def save(path: Path, *, seed: int = 0, rate: int = 16000, wave: np.ndarray | None = None) -> Path:
    """A third of a second of noise; another seed, another sound."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if wave is None:
        wave = 0.1 * np.random.default_rng(
            [seed, len(path.name), ord(path.stem[-1])]
        ).standard_normal(round(SECONDS * rate))
    soundfile.write(path, wave, rate)
    return path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


# --- small copies of what is published
# --------------------------------------------------------------------------------------------------


def voicebank_demand(root: Path, rate: int = 48000) -> None:
    for part, speakers in {
        "trainset_28spk": ("p225x", "p226", "p227"),
        "testset": ("p232", "p257"),
    }.items():
        for number, speaker in enumerate(speakers):
            rng = np.random.default_rng(number)
            clean, noise = 0.1 * rng.standard_normal((2, round(SECONDS * rate)))
            save(
                root / f"VoiceBank-DEMAND/clean_{part}_wav/{speaker}_001.wav", rate=rate, wave=clean
            )
            save(
                root / f"VoiceBank-DEMAND/noisy_{part}_wav/{speaker}_001.wav",
                rate=rate,
                wave=clean + noise,
            )


def librispeech(root: Path) -> None:
    for part in ("train-clean-100", "dev-clean", "test-other"):
        for speaker in ("19", "26"):
            save(root / f"LibriSpeech/{part}/{speaker}{len(part)}/198/{speaker}-198-0000.flac")
    write(root / "LibriSpeech/SPEAKERS.TXT", "; id | sex | subset")


def ljspeech(root: Path) -> None:
    for name in ("LJ001-0001", "LJ001-0002", "LJ002-0001"):
        save(root / f"LJSpeech-1.1/wavs/{name}.wav", rate=22050)
    write(root / "LJSpeech-1.1/metadata.csv", "LJ001-0001|text|text\n")


def vctk(root: Path) -> None:
    for name in (
        "p225/p225_001_mic1",
        "p225/p225_001_mic2",
        "p280/p280_001_mic1",
        "p232/p232_001_mic2",
        "s5/s5_001_mic2",
    ):
        save(root / f"VCTK-Corpus-0.92/wav48_silence_trimmed/{name}.flac", rate=48000)


def common_voice(root: Path) -> None:
    folder = root / "cv-corpus-17.0-2024-03-15/de"
    rows = {
        "train": [("anna", 1)],
        "dev": [("bert", 2)],
        "test": [("carl", 3)],
        "validated": [("anna", 1), ("anna", 4), ("dora", 5)],
    }
    for name, clips in rows.items():
        lines = [f'{who}\tcommon_voice_de_{clip}.flac\tEr sagte: "Nein.\t2' for who, clip in clips]
        write(
            folder / f"{name}.tsv",
            "\n".join(["client_id\tpath\tsentence\tup_votes", *lines]) + "\n",
        )
    for clip in range(1, 6):
        save(folder / f"clips/common_voice_de_{clip}.flac", rate=48000)


def musan(root: Path) -> None:
    for name in (
        "noise/free-sound/noise-free-sound-0000",
        "noise/sound-bible/noise-sound-bible-0001",
        "music/fma/music-fma-0000",
    ):
        save(root / f"musan/{name}.wav")
    save(root / "musan/speech/librivox/speech-librivox-0000.wav")
    write(root / "musan/noise/free-sound/LICENSE", "public domain")


def esc50(root: Path) -> None:
    rows = ["filename,fold,target,category,esc10,src_file,take"]
    for name, fold in [
        ("1-100032-A-0", 1),
        ("2-100786-A-1", 2),
        ("5-9032-A-0", 5),
        ("5-9032-B-0", 5),
    ]:
        rows.append(f"{name}.wav,{fold},0,dog,True,{name.split('-')[1]},{name.split('-')[2]}")
        save(root / f"ESC-50-master/audio/{name}.wav", rate=44100)
    write(root / "ESC-50-master/meta/esc50.csv", "\n".join(rows) + "\n")


def demand(root: Path) -> None:
    for number, place in enumerate(DEMAND_PLACES):
        for channel in ("ch01", "ch02"):
            save(root / f"DEMAND/{place}/{channel}.wav", seed=number, rate=48000)


def dns_challenge(root: Path) -> None:
    folder = root / "DNS-Challenge/datasets"
    save(folder / "clean/read_speech/book_00000_chp_0009_reader_06709_0_seg_1.wav")
    save(folder / "clean/read_speech/book_00001_chp_0002_reader_06709_3_seg_2.wav")
    save(folder / "clean/vctk_wav48_silence_trimmed/p232/p232_001_mic1.wav")
    save(folder / "clean/emotional_speech/1001_DFA_ANG_XX.wav")
    save(folder / "noise/door_Freesound_validated_221567_1.wav")
    save(folder / "noise/-_AbCdEfGh1.wav")
    save(folder / "impulse_responses/SLR28/RWCP/room1/circ1.wav")
    save(folder / "impulse_responses/SLR26/simulated.wav")


def slr28(root: Path) -> None:
    real, small = "real_rirs_isotropic_noises", "simulated_rirs/smallroom"
    save(root / f"RIRS_NOISES/{real}/air_type1_air_aula_1.wav")
    save(root / f"RIRS_NOISES/{real}/RVB2014_type1_noise_largeroom1_1.wav")
    write(
        root / f"RIRS_NOISES/{real}/rir_list",
        f"--rir-id 00001 --room-id aula RIRS_NOISES/{real}/air_type1_air_aula_1.wav \n",
    )
    lines = []
    for number in (1, 2):
        save(root / f"RIRS_NOISES/{small}/Room001/Room001-0000{number}.wav", seed=number)
        lines.append(
            f"--rir-id s1-{number} --room-id Room001 "
            f"RIRS_NOISES/{small}/Room001/Room001-0000{number}.wav"
        )
    write(root / f"RIRS_NOISES/{small}/rir_list", "\n".join(lines) + "\n")
    save(root / "RIRS_NOISES/pointsource_noises/noise-free-sound-0000.wav")


COPIES: dict[str, Callable[[Path], None]] = {
    "voicebank-demand": voicebank_demand,
    "librispeech": librispeech,
    "ljspeech": ljspeech,
    "vctk": vctk,
    "common-voice": common_voice,
    "musan": musan,
    "esc50": esc50,
    "demand": demand,
    "dns-challenge": dns_challenge,
    "slr28": slr28,
}

# What each copy has to give: role, source, split ("" is drawn later), number of files.
EXPECTED = {
    "voicebank-demand": {
        ("speech", "vctk/p225x", "train", 1),
        ("speech", "vctk/p226", "valid", 1),
        ("speech", "vctk/p227", "train", 1),
        ("speech", "vctk/p232", "test", 1),
        ("speech", "vctk/p257", "test", 1),
        ("noise", "voicebank-demand/noise-p225x", "train", 1),
        ("noise", "voicebank-demand/noise-p226", "valid", 1),
        ("noise", "voicebank-demand/noise-p227", "train", 1),
        ("noise", "voicebank-demand/noise-p232", "test", 1),
        ("noise", "voicebank-demand/noise-p257", "test", 1),
    },
    "librispeech": {
        ("speech", "librispeech/1915", "train", 1),
        ("speech", "librispeech/2615", "train", 1),
        ("speech", "librispeech/199", "valid", 1),
        ("speech", "librispeech/269", "valid", 1),
        ("speech", "librispeech/1910", "test", 1),
        ("speech", "librispeech/2610", "test", 1),
    },
    "librispeech/train-clean-100": {
        ("speech", "librispeech/1915", "", 1),
        ("speech", "librispeech/2615", "", 1),
    },
    "ljspeech": {("speech", "ljspeech/LJ001", "", 2), ("speech", "ljspeech/LJ002", "", 1)},
    "vctk": {
        ("speech", "vctk/p225", "", 1),
        ("speech", "vctk/p280", "", 1),
        ("speech", "vctk/p232", "test", 1),
        ("speech", "vctk/s5", "", 1),
    },
    "common-voice/de": {
        ("speech", "common-voice/anna", "train", 1),
        ("speech", "common-voice/anna", "", 1),
        ("speech", "common-voice/bert", "valid", 1),
        ("speech", "common-voice/carl", "test", 1),
        ("speech", "common-voice/dora", "", 1),
    },
    "musan": {
        ("noise", "musan/noise-free-sound-0000", "", 1),
        ("noise", "musan/noise-sound-bible-0001", "", 1),
    },
    "musan/music": {("noise", "musan/music-fma-0000", "", 1)},
    "musan/speech": {("speech", "musan/speech-librivox-0000", "", 1)},
    "esc50": {
        ("noise", "freesound/100032", "train", 1),
        ("noise", "freesound/100786", "train", 1),
        ("noise", "freesound/9032", "valid", 2),
    },
    "demand": {
        (
            "noise",
            f"demand/{place}",
            "test" if place in ("DLIVING", "OOFFICE", "SCAFE", "SPSQUARE", "TBUS") else "",
            1,
        )
        for place in DEMAND_PLACES
    },
    "dns-challenge": {
        ("speech", "dns-challenge/reader-06709", "", 2),
        ("speech", "vctk/p232", "test", 1),
        ("speech", "dns-challenge/emotional_speech", "", 1),
        ("noise", "freesound/221567", "", 1),
        ("noise", "dns-challenge/-_AbCdEfGh1", "", 1),
        ("rir", "dns-challenge/SLR28/RWCP/room1", "", 1),
        ("rir", "dns-challenge/simulated", "", 1),
    },
    "slr28": {
        ("rir", "slr28/real_rirs_isotropic_noises/aula", "", 1),
        ("rir", "slr28/smallroom/Room001", "", 2),
    },
    "slr28/noise": {("noise", "musan/noise-free-sound-0000", "", 1)},
}


def tally(entries: list[Entry]) -> set[tuple[str, str, str, int]]:
    count: defaultdict[tuple[str, str, str], int] = defaultdict(int)
    for entry in entries:
        count[entry.role, entry.source, entry.split] += 1
    return {(*key, number) for key, number in count.items()}


def run(out: Path, root: Path, *names: str, **settings: object) -> dict[str, list[Row]]:
    prepare(PrepareSettings(out=str(out), root=str(root), corpora=names, **settings))
    return {
        path.stem: read_manifest(path) for path in out.glob("*.jsonl") if path.stem != "dropped"
    }


def test_every_corpus_has_a_copy_here_and_every_fact_that_people_need() -> None:
    assert set(COPIES) == set(CORPORA) == {name.partition("/")[0] for name in EXPECTED}
    for name, corpus in CORPORA.items():
        assert corpus.homepage.startswith("https://"), name
        assert corpus.licence and corpus.contents and set(corpus.default) <= set(corpus.parts), name
        for part in corpus.parts.values():
            assert part.archives or corpus.manual, name
            for archive in part.archives:
                assert archive.url.startswith("https://") and archive.size > 0
                assert (
                    re.fullmatch("sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", archive.checksum)
                    or archive.unchecked
                ), archive.url


@pytest.mark.parametrize("name", EXPECTED)
def test_the_published_layout_gives_sources_and_splits(tmp_path: Path, name: str) -> None:
    COPIES[name.partition("/")[0]](tmp_path)
    entries = corpus_entries([name], tmp_path)
    assert tally(entries) == EXPECTED[name]
    corpus = CORPORA[name.partition("/")[0]]
    assert {(entry.corpus, entry.licence) for entry in entries} == {
        (name.partition("/")[0], corpus.licence)
    }
    assert all(Path(entry.path).is_file() for entry in entries)


@pytest.mark.parametrize("name", [name for name in COPIES if name != "common-voice"])
def test_the_root_may_be_the_corpus_itself(tmp_path: Path, name: str) -> None:
    COPIES[name](tmp_path)
    (folder,) = tmp_path.iterdir()
    assert tally(corpus_entries([name], folder)) == EXPECTED[name]


@pytest.mark.parametrize("name", COPIES)
def test_a_corpus_that_is_not_there_says_what_it_lacks_and_how_to_get_it(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(DataError, match=rf"^{name}: .* lacks ") as error:
        corpus_entries([name], tmp_path)
    assert CORPORA[name].homepage in str(error.value)
    assert ("--download (" in str(error.value)) == (name != "common-voice")


@pytest.mark.parametrize(
    ("name", "remove", "lacks"),
    [
        (
            "voicebank-demand",
            "VoiceBank-DEMAND/noisy_testset_wav",
            r"lacks noisy_testset_wav\*/\*.wav; download it with --download \(5",
        ),
        (
            "voicebank-demand",
            "VoiceBank-DEMAND/noisy_testset_wav/p257_001.wav",
            "1 files of test are clean or noisy only, the first is p2",
        ),
        (
            "librispeech/dev-other",
            "LibriSpeech/SPEAKERS.TXT",
            r"lacks dev-other/\*/\*/\*.flac; "
            r"download it with --download "
            r"\(0.3 GB",
        ),
        ("ljspeech", "LJSpeech-1.1/metadata.csv", "lacks metadata.csv;"),
        ("esc50", "ESC-50-master/meta/esc50.csv", "lacks meta/esc50.csv;"),
        (
            "esc50",
            "ESC-50-master/audio/5-9032-B-0.wav",
            "lacks 1 of 4 clips, the first is .*5-9032-B-0.wav",
        ),
        ("demand", "DEMAND/TBUS", r"lacks TBUS\*/\*\*/ch01.wav;"),
        (
            "dns-challenge/speech",
            "DNS-Challenge/datasets/clean",
            "lacks datasets/clean or datasets_fullband/.*its speech is 850 GB",
        ),
        (
            "slr28/simulated",
            "RIRS_NOISES/simulated_rirs/smallroom/rir_list",
            r"lacks simulated_rirs/\*/rir_list",
        ),
        ("musan", "musan/noise", r"lacks noise/\*/\*.wav"),
    ],
)
def test_a_partial_layout_names_what_is_missing(
    tmp_path: Path, name: str, remove: str, lacks: str
) -> None:
    COPIES[name.partition("/")[0]](tmp_path)
    gone = tmp_path / remove
    gone.rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=lacks):
        corpus_entries([name], tmp_path)


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("ESC-50-master/meta/esc50.csv", "file,fold\n", "esc50.csv has no column 'filename'"),
        (
            "RIRS_NOISES/simulated_rirs/smallroom/rir_list",
            "Room001-00001.wav\n",
            "rir_list line 1 names no room",
        ),
        (
            "cv-corpus-17.0-2024-03-15/de/train.tsv",
            "path\tsentence\n",
            "train.tsv has no column 'client_id'",
        ),
    ],
)
def test_tables_of_corpora_that_are_wrong(
    tmp_path: Path, path: str, text: str, message: str
) -> None:
    for name in ("esc50", "slr28", "common-voice"):
        COPIES[name](tmp_path)
    write(tmp_path / path, text)
    with pytest.raises(DataError, match=message):
        corpus_entries(["esc50", "slr28", "common-voice"], tmp_path)


def test_names_that_nobody_knows_get_the_nearest() -> None:
    for name, message in [
        ("librispech", "no corpus 'librispech'; did you mean 'librispeech'"),
        ("xyz", "no corpus 'xyz'; known are voicebank-demand, "),
        (
            "librispeech/train-clean",
            "librispeech has no part 'train-clean'; did you mean 'train-clean-",
        ),
    ]:
        with pytest.raises(SettingsError, match=message):
            choose([name])
    assert [
        (one.name, one.named, one.usual)
        for one in choose(["musan/noise", "esc50", "musan/music", "musan/noise"])
    ] == [
        ("musan", ("noise", "music"), False),
        ("esc50", (), True),
    ]


@pytest.mark.parametrize("rate", [16000, 48000])
def test_noisy_minus_clean_is_the_noise_to_the_sample(tmp_path: Path, rate: int) -> None:
    voicebank_demand(tmp_path)
    rows = run(tmp_path / "out", tmp_path, "voicebank-demand", sample_rate=rate)
    assert {role: len(of_role) for role, of_role in rows.items()} == {"speech": 5, "noise": 5}
    row = next(row for row in rows["noise"] if row.source.endswith("p226"))
    stored = ShardReader(tmp_path / "out").read(row, 0, row.samples) / 10 ** (row.gain_db / 20)
    assert row.samples == round(SECONDS * rate)
    if (
        rate == 48000
    ):  # the noise that the copy was mixed from, to the rounding of three 16-bit files
        _, noise = 0.1 * np.random.default_rng(1).standard_normal((2, row.samples))
        np.testing.assert_allclose(stored, noise, atol=6e-5)
    speakers = {
        split: {row.source for row in rows["speech"] if row.split == split}
        for split in ("train", "valid", "test")
    }
    assert speakers == {
        "train": {"vctk/p225x", "vctk/p227"},
        "valid": {"vctk/p226"},
        "test": {"vctk/p232", "vctk/p257"},
    }


def test_a_pair_of_other_lengths_is_dropped_with_its_reason(tmp_path: Path) -> None:
    voicebank_demand(tmp_path)
    save(
        tmp_path / "VoiceBank-DEMAND/noisy_testset_wav/p257_001.wav",
        wave=0.1 * np.ones(9600),
        rate=48000,
    )
    rows = run(tmp_path / "out", tmp_path, "voicebank-demand")
    assert len(rows["noise"]) == 4
    dropped = json.loads((tmp_path / "out/dropped.jsonl").read_text())
    expected = (
        "unlike its clean side: 48000 Hz x 1 channels x 9600 samples and "
        "48000 Hz x 1 channels x 14400 samples; they have to be equal"
    )
    assert (Path(dropped["path"]).name, dropped["reason"]) == ("p257_001.wav", expected)


def test_several_corpora_and_a_folder_become_one_data_folder(tmp_path: Path) -> None:
    for name in ("librispeech", "esc50", "vctk", "musan", "slr28"):
        COPIES[name](tmp_path)
    save(tmp_path / "mine/fan/1.wav")
    names = ("librispeech", "vctk", "esc50", "musan", "slr28", "slr28/noise")
    rows = run(tmp_path / "out", tmp_path, *names, noise=(str(tmp_path / "mine"),))
    assert {row.corpus for row in rows["speech"]} == {"librispeech", "vctk"}
    assert {row.corpus for row in rows["noise"]} == {"esc50", "musan", "slr28", "mine"}
    assert [row.source for row in rows["rir"]].count("slr28/smallroom/Room001") == 2
    splits = defaultdict(set)
    for row in [*rows["speech"], *rows["noise"]]:
        splits[row.source].add(row.split)
    assert all(len(of_source) == 1 for of_source in splits.values())
    assert (
        sum(row.source == "musan/noise-free-sound-0000" for row in rows["noise"]) == 2
    )  # one recording, two corpora, one source


def test_an_own_copy_is_never_downloaded_again(tmp_path: Path) -> None:
    for name, copy in COPIES.items():
        copy(tmp_path / name)
        (wanted,) = choose([name])
        assert pending(wanted, tmp_path / name) == [], name


def test_what_is_pending_is_each_archive_once(tmp_path: Path) -> None:
    (wanted,) = choose(["slr28", "slr28/noise"])
    assert [archive.name for archive in pending(wanted, tmp_path)] == ["rirs_noises.zip"]
    (wanted,) = choose(["librispeech"])
    assert [archive.name for archive in pending(wanted, tmp_path)] == [
        "train-clean-100.tar.gz",
        "dev-clean.tar.gz",
    ]
    (wanted,) = choose(["common-voice/de"])
    with pytest.raises(DataError, match="terms have to be accepted in a browser"):
        pending(wanted, tmp_path)


def test_folders_made_before_corpora_had_names_are_gone_on_with(tmp_path: Path) -> None:
    fields = [field.name for field in dataclasses.fields(Entry)]
    assert (
        fields[-1] == "minus"
    )  # the identity of a data folder leaves it out where it is empty, and relies on its place


def test_command_prepares_by_name(tmp_path: Path) -> None:
    librispeech(tmp_path / "corpora")
    esc50(tmp_path / "corpora")
    command = [
        "prepare",
        "librispeech",
        "esc50",
        "--root",
        str(tmp_path / "corpora"),
        "--out",
        str(tmp_path / "out"),
        "--json",
    ]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["files"] == {"speech": 6, "noise": 4}
    again = CliRunner().invoke(
        main, [*command, "--download"]
    )  # all is there: nothing is asked of anybody
    assert (again.exit_code, json.loads(again.stdout)["files"]) == (0, {"speech": 6, "noise": 4})


def test_command_lists_corpora_and_refuses_unknown_ones(tmp_path: Path) -> None:
    shown = CliRunner().invoke(main, ["prepare", "--list"])
    assert shown.exit_code == 0
    assert all(
        name in shown.stdout and corpus.licence[:9] in shown.stdout
        for name, corpus in CORPORA.items()
    )
    for arguments, message in [
        (["esc51", "--out", "x"], "did you mean 'esc50'"),
        (["esc50"], "Missing option '--out'"),
    ]:
        result = CliRunner().invoke(main, ["prepare", *arguments])
        assert (result.exit_code, result.stdout) == (2, "")
        assert message in result.stderr
