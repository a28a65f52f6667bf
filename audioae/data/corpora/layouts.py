"""Read the folders of public corpora as published: the source and the split of every file.

Each reader takes the folder of the corpus and the wanted parts. Sources that occur in several
corpora have one name: the speakers of VCTK (VoiceBank is cut from it), Freesound recordings, the
noises of MUSAN (SLR28 has them too).
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from audioae.data.manifest import Split
from audioae.data.sources import Entry, Role, is_audio
from audioae.errors import DataError

VOICEBANK_TEST = ("p232", "p257")  # Valentini-Botinhao 2017
VOICEBANK_VALID = ("p226", "p287")  # no official split; the two that most papers hold out
# the noises of the VoiceBank+DEMAND test set
DEMAND_TEST = ("DLIVING", "OOFFICE", "SCAFE", "SPSQUARE", "TBUS")
DEMAND_PLACES = (
    "DKITCHEN", "DLIVING", "DWASHING", "NFIELD", "NPARK", "NRIVER", "OHALLWAY", "OMEETING",
    "OOFFICE", "PCAFETER", "PRESTO", "PSTATION", "SCAFE", "SPSQUARE", "STRAFFIC", "TBUS",
    "TCAR", "TMETRO",
)  # fmt: skip
# Challenge 1 and 2 | 3 and 4 | 5; one of them is enough.
DNS_FOLDERS: dict[str, tuple[str, ...]] = {
    "speech": (
        "{datasets/clean,datasets_fullband/clean_fullband,datasets_fullband/*_speech,"
        "V5_training_dataset/Track1_Headset}",
    ),
    "noise": (
        "{datasets/noise,datasets_fullband/noise_fullband,V5_training_dataset/noise_fullband,"
        "noise_fullband}",
    ),
    "rir": (
        "{datasets/impulse_responses,datasets_fullband/impulse_responses,"
        "V5_training_dataset/impulse_responses,impulse_responses}",
    ),
}
_READER = re.compile(r"_reader_(\d+)_")
_VALIDATED = re.compile(r"freesound_validated_(\d+)", re.IGNORECASE)
_VCTK_SPEAKER = re.compile(r"([ps]\d+)_\d+")


def matches(folder: Path, needed: str) -> Iterator[Path]:
    """Paths below `folder` that match a glob, or one of several: `{a,b}`. Lazy, so the first one is
    cheap.
    """
    choices = needed[1:-1].split(",") if needed.startswith("{") else [needed]
    return (path for choice in choices for path in folder.glob(choice))


def read_voicebank_demand(folder: Path, parts: tuple[str, ...]) -> list[Entry]:
    """Clean files are speech; noisy minus clean, subtracted when decoded, is noise."""
    entries = []
    for part in parts:
        name = "trainset_28spk" if part == "train" else "testset"
        clean, noisy = (
            _wavs(min(matches(folder, f"{side}_{name}_wav*/*.wav")).parent)
            for side in ("clean", "noisy")
        )
        alone = sorted(clean.keys() ^ noisy.keys())
        if alone:
            raise DataError(
                f"{folder}: {len(alone)} files of {part} are clean or noisy only, "
                f"the first is {alone[0]}; unpack both again"
            )
        for file in clean:
            speaker = file.partition("_")[0]
            split: Split = (
                "test" if part == "test" else "valid" if speaker in VOICEBANK_VALID else "train"
            )
            entries.append(
                _entry("speech", clean[file], f"vctk/{speaker}", split=split, language="en")
            )
            minus = os.path.abspath(clean[file])
            entries.append(
                _entry(
                    "noise",
                    noisy[file],
                    f"voicebank-demand/noise-{speaker}",
                    split=split,
                    minus=minus,
                )
            )
    return entries


def read_librispeech(folder: Path, parts: tuple[str, ...]) -> list[Entry]:
    """`PART/SPEAKER/CHAPTER/*.flac`. Without a dev part, validation speakers are drawn from the
    training speakers.
    """
    has_dev = any(part.startswith("dev") for part in parts)
    splits: dict[str, Split | Literal[""]] = {
        "dev": "valid",
        "test": "test",
        "train": "train" if has_dev else "",
    }
    return [
        _entry(
            "speech",
            file,
            f"librispeech/{file.parts[-3]}",
            split=splits[part.partition("-")[0]],
            language="en",
        )
        for part in parts
        for file in _audio(folder / part)
    ]


def read_ljspeech(folder: Path, parts: tuple[str, ...]) -> list[Entry]:
    """One reader: a source is a chapter, `LJ001` of `LJ001-0001.wav`."""
    return [
        _entry("speech", file, f"ljspeech/{file.stem.partition('-')[0]}", language="en")
        for file in _audio(folder / "wavs")
    ]


def read_vctk(folder: Path, parts: tuple[str, ...]) -> list[Entry]:
    """The second microphone (the first has more rumble), or the first if there is no second."""
    entries = []
    for file in _audio(folder / "wav48_silence_trimmed"):
        if (
            file.stem.endswith("_mic1")
            and file.with_name(file.name.replace("_mic1", "_mic2")).exists()
        ):
            continue
        entries.append(_vctk_entry(file, file.parent.name))
    return entries


def read_common_voice(folder: Path, parts: tuple[str, ...]) -> list[Entry]:
    """`LANGUAGE/clips` and its tables: train, dev and test; other clips of validated get the split
    of their speaker.
    """
    entries = []
    for clips in sorted(path for path in folder.rglob("clips") if path.is_dir()):
        language = clips.parent.name
        if parts and parts != ("all",) and language not in parts:
            continue
        seen: set[str] = set()
        tables = [
            (name, clips.parent / f"{name}.tsv") for name in ("test", "dev", "train", "validated")
        ]
        if not any(table.exists() for _, table in tables):
            raise DataError(
                f"{clips.parent} has none of train.tsv, dev.tsv, test.tsv and "
                "validated.tsv; unpack the archive again"
            )
        splits: dict[str, Split | Literal[""]] = {
            "test": "test",
            "dev": "valid",
            "train": "train",
            "validated": "",
        }
        for name, table in tables:
            for row in _rows(table, "\t", ("client_id", "path")) if table.exists() else ():
                if row["path"] not in seen:
                    seen.add(row["path"])
                    source = f"common-voice/{row['client_id'][:32]}"
                    entries.append(
                        _entry(
                            "speech",
                            clips / row["path"],
                            source,
                            split=splits[name],
                            language=language,
                        )
                    )
    if not entries:
        raise DataError(
            f"{folder} has no folder with clips for {', '.join(parts)}; expected "
            "LANGUAGE/clips and LANGUAGE/train.tsv"
        )
    return entries


def read_musan(folder: Path, parts: tuple[str, ...]) -> list[Entry]:
    """`PART/COLLECTION/*.wav`; music is used as noise."""
    roles: dict[str, Role] = {"noise": "noise", "music": "noise", "speech": "speech"}
    return [
        _entry(roles[part], file, f"musan/{file.stem}", kind=part)
        for part in parts
        for file in _audio(folder / part)
    ]


def read_esc50(folder: Path, parts: tuple[str, ...]) -> list[Entry]:
    """`meta/esc50.csv` has the fold, the class and the Freesound recording of every clip."""
    entries = []
    for row in _rows(folder / "meta/esc50.csv", ",", ("filename", "fold", "category", "src_file")):
        split: Split = "valid" if row["fold"] == "5" else "train"
        file, source = folder / "audio" / row["filename"], f"freesound/{row['src_file']}"
        entries.append(_entry("noise", file, source, split=split, kind=row["category"]))
    missing = [entry.path for entry in entries if not os.path.exists(entry.path)]
    if missing:
        raise DataError(
            f"{folder} lacks {len(missing)} of {len(entries)} clips, the first is "
            f"{missing[0]}; unpack the archive again"
        )
    return entries


def read_demand(folder: Path, parts: tuple[str, ...]) -> list[Entry]:
    """`PLACE/ch01.wav`; the other 15 channels are microphones a few centimetres away."""
    entries = []
    for place in DEMAND_PLACES:
        file = min(matches(folder, f"{place}*/**/ch01.wav"))
        entries.append(
            _entry(
                "noise",
                file,
                f"demand/{place}",
                split="test" if place in DEMAND_TEST else "",
                kind=place,
            )
        )
    return entries


def read_dns(folder: Path, parts: tuple[str, ...]) -> list[Entry]:
    """The folders of the challenge's scripts. Speakers are taken from file names, or from the
    folder of a file.
    """
    readers = {"speech": _dns_speech, "noise": _dns_noise, "rir": _dns_room}
    places = [
        (readers[part], place)
        for part in parts
        for place in _outermost(matches(folder, DNS_FOLDERS[part][0]))
    ]
    return [read(place, file) for read, place in places for file in _audio(place)]


def read_slr28(folder: Path, parts: tuple[str, ...]) -> list[Entry]:
    """`rir_list` of each set has the room of every response: `--rir-id ID --room-id ROOM PATH`."""
    entries: list[Entry] = []
    lists = {
        "measured": "real_rirs_isotropic_noises/rir_list",
        "simulated": "simulated_rirs/*/rir_list",
    }
    for part in parts:
        if part == "noise":
            entries += [
                _entry("noise", file, f"musan/{file.stem}")
                for file in _audio(folder / "pointsource_noises")
            ]
        else:
            entries += [
                entry
                for table in sorted(matches(folder, lists[part]))
                for entry in _listed_rooms(folder, table)
            ]
    return entries


def _listed_rooms(folder: Path, table: Path) -> Iterator[Entry]:
    for number, line in enumerate(table.read_text(encoding="utf-8").splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        if "--room-id" not in words[:-2]:
            raise DataError(
                f"{table} line {number} names no room; expected --rir-id ID --room-id ROOM PATH"
            )
        room = words[words.index("--room-id") + 1]
        file = folder / words[-1].partition("/")[2]  # paths begin with RIRS_NOISES/
        yield _entry("rir", file, f"slr28/{table.parent.name}/{room}")


def _vctk_entry(file: Path, speaker: str) -> Entry:
    return _entry(
        "speech",
        file,
        f"vctk/{speaker}",
        split="test" if speaker in VOICEBANK_TEST else "",
        language="en",
    )


def _dns_speech(place: Path, file: Path) -> Entry:
    reader, vctk = _READER.search(file.name), _VCTK_SPEAKER.match(file.name)
    if vctk and any("vctk" in part.lower() for part in file.parts):
        return _vctk_entry(file, vctk[1])
    inside = "/".join(file.relative_to(place).parts[:-1][-2:])
    return _entry(
        "speech",
        file,
        f"dns-challenge/reader-{reader[1]}" if reader else f"dns-challenge/{inside or file.stem}",
    )


def _dns_noise(place: Path, file: Path) -> Entry:
    freesound = _VALIDATED.search(file.name)
    return _entry(
        "noise", file, f"freesound/{freesound[1]}" if freesound else f"dns-challenge/{file.stem}"
    )


def _dns_room(place: Path, file: Path) -> Entry:
    """A room is a folder; a response in no folder of its own is a room of its own."""
    inside = file.relative_to(place).parts
    return _entry(
        "rir", file, f"dns-challenge/{'/'.join(inside[:-1]) if len(inside) > 2 else file.stem}"
    )


def _outermost(folders: Iterable[Path]) -> list[Path]:
    found = sorted(set(folders))
    return [folder for folder in found if not any(other in folder.parents for other in found)]


def _entry(role: Role, file: Path, source: str, **more: Any) -> Entry:
    return Entry(role, os.path.abspath(file), source, **more)


def _audio(folder: Path) -> list[Path]:
    return sorted(
        Path(parent, name)
        for parent, _, names in os.walk(folder)
        for name in names
        if is_audio(name)
    )


def _wavs(folder: Path) -> dict[str, Path]:
    return {file.name: file for file in _audio(folder)}


def _rows(table: Path, delimiter: str, columns: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """Rows of a table that must have these columns. Quotes are not special in a TSV, as sentences
    of Common Voice have unpaired ones.
    """
    form: dict[str, Any] = {
        "delimiter": delimiter,
        "quoting": csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL,
    }
    try:
        with table.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, **form)
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                raise DataError(
                    f"{table} has no column {missing[0]!r}; it was expected to have "
                    f"{', '.join(columns)}"
                )
            yield from reader
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"cannot read the table {table}: {getattr(error, 'strerror', None) or error}"
        ) from error
