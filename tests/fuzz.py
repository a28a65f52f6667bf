"""Fuzz `denoise_file`: audio files mutated by rules that know their structure.

The files are denoised in worker processes that may crash or hang. A case is a base file and a seed
of its mutations; `python tests/fuzz.py FOLDER BASE NUMBER` writes its file.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from audioae.audio import ogg

SAMPLES = 3000
HANGS = (10.0, 120.0)  # limits of CPU time and wall time for a case, seconds
MEMORY = 4 * 2**30  # limit of address space, bytes
LARGEST = 2**28  # limit of a file, bytes, so that no mutated length fills the disk
# Suffix, and libsndfile's container, encoding and number of channels.
BASES = {
    "pcm16": ("wav", "WAV", "PCM_16", 2),
    "pcm24": ("wav", "WAVEX", "PCM_24", 1),
    "float": ("wav", "WAV", "FLOAT", 2),
    "ima": ("wav", "WAV", "IMA_ADPCM", 1),
    "rf64": ("wav", "RF64", "PCM_16", 1),
    "flac16": ("flac", "FLAC", "PCM_16", 2),
    "flac24": ("flac", "FLAC", "PCM_24", 1),
    "vorbis": ("ogg", "OGG", "VORBIS", 2),
    "opus": ("opus", "OGG", "OPUS", 1),
    "mp3": ("mp3", "MP3", "MPEG_LAYER_III", 2),
    "mp3mono": ("mp3", "MP3", "MPEG_LAYER_III", 1),
    "aiff16": ("aiff", "AIFF", "PCM_16", 2),
    "aifffloat": ("aiff", "AIFF", "FLOAT", 1),
}
BOUNDARY_VALUES = (
    *(0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF),
    *(0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1),
)


@dataclass(frozen=True)
class Case:
    """One mutated file: the name of its base and the seed of its mutations, 0 for none."""

    base: str
    number: int


@dataclass(frozen=True)
class Outcome:
    """The result of a case.

    Args:
        kind: "denoised", "rejected" (an `AudioaeError`, and no file left) or "failed".
        reason: why it was rejected or failed.
        seconds: CPU time.
    """

    case: Case
    kind: str
    reason: str
    seconds: float


@dataclass(frozen=True)
class Part:
    """A chunk, block, page or codec frame from byte `start` to `end`.

    `fields` are the numbers in its header: offset in the file, length in bytes, byte order.
    """

    start: int
    end: int
    fields: tuple[tuple[int, int, str], ...]


# Base files


@cache
def base(name: str) -> bytes:
    """A valid file with tags, and with metadata chunks if the container has chunks."""
    suffix, container, subtype, channels = BASES[name]
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"fuzz-base-{os.getpid()}.{suffix}"
    waveform = np.random.default_rng(0).normal(0, 0.1, (SAMPLES, channels))
    with soundfile.SoundFile(path, "w", 16000, channels, subtype, format=container) as sound:
        sound.title, sound.comment = "a title", "a comment"
        sound.write(waveform)
    if container == "OGG":
        ogg.normalize_ogg(path, None)  # the same stream number every time
    data = path.read_bytes()
    path.unlink()
    if container in ("WAV", "WAVEX"):
        notes = {b"bext": bytes(602), b"cue ": struct.pack("<7I", 1, 1, 5, 0, 0, 0, 0)}
        data += b"".join(
            name + struct.pack("<I", len(content)) + content for name, content in notes.items()
        )
        data = data[:4] + struct.pack("<I", len(data) - 8) + data[8:]
    if container == "MP3":
        data = (
            b"ID3\x03\x00\x00\x00\x00\x00\x16"
            + b"TIT2\x00\x00\x00\x0c\x00\x00\x00a new title"
            + data
        )
    return data


# Structure of a file


def parts_of(data: bytes) -> list[Part]:
    """The parts of a file, according to its first bytes."""
    if data[:4] in (b"RIFF", b"RF64", b"FORM"):
        return list(_chunks(data, ">" if data[:4] == b"FORM" else "<"))
    if data[:4] == b"fLaC":
        return list(_blocks(data))
    if data[:4] == b"OggS":
        return list(_pages(data))
    return list(_frames(data, 0, b"\xff\xfb", 4)) or list(_frames(data, 0, b"\xff\xf3", 4))


def _chunks(data: bytes, order: str) -> Iterator[Part]:
    yield Part(0, 12, ((0, 4, order), (4, 4, order), (8, 4, order)))
    at = 12
    while at + 8 <= len(data):
        size = struct.unpack_from(order + "I", data, at + 4)[0]
        size = len(data) - at - 8 if size == 0xFFFFFFFF else size
        end = min(at + 8 + size + size % 2, len(data))
        inner = [(offset, 2, order) for offset in range(at + 8, min(at + 48, end - 1), 2)]
        inner += [(offset, 4, order) for offset in range(at + 8, min(at + 48, end - 3), 4)]
        yield Part(at, end, ((at, 4, order), (at + 4, 4, order), (at + 4, 4, order), *inner))
        at = end


def _blocks(data: bytes) -> Iterator[Part]:
    at, last = 4, False
    while not last and at + 4 <= len(data):
        last, size = data[at] > 127, int.from_bytes(data[at + 1 : at + 4], "big")
        end = min(at + 4 + size, len(data))
        inner = [
            (offset, width, ">")
            for width in (1, 2, 4)
            for offset in range(at + 4, min(at + 44, end - width), width)
        ]
        yield Part(at, end, ((at, 1, ">"), (at + 1, 3, ">"), *inner))
        at = end
    yield from _frames(data, at, b"\xff\xf8", 8)


def _pages(data: bytes) -> Iterator[Part]:
    at = 0
    while data[at : at + 4] == b"OggS" and at + 27 <= len(data):
        table = data[at + 27 : at + 27 + data[at + 26]]
        body = at + 27 + len(table)
        end = min(body + sum(table), len(data))
        heads = (
            (at + 4, 1),
            (at + 5, 1),
            (at + 6, 8),
            (at + 14, 4),
            (at + 18, 4),
            (at + 22, 4),
            (at + 26, 1),
            (at + 27, 1),
        )
        inner = [
            (offset, width)
            for width in (1, 4)
            for offset in range(body, min(body + 48, end - width), width)
        ]
        yield Part(at, end, tuple((offset, width, "<") for offset, width in (*heads, *inner)))
        at = end


def _frames(data: bytes, start: int, sync: bytes, head: int) -> Iterator[Part]:
    """The bytes between successive sync words, and those before the first one."""
    places = []
    at = data.find(sync, start)
    while at >= 0:
        places.append(at)
        at = data.find(sync, at + head)
    if places and places[0] > start:
        places.insert(0, start)
    for here, following in itertools.pairwise([*places, len(data)]):
        fields = [
            (offset, width, ">")
            for width in (1, 4)
            for offset in range(here, min(here + 48, following - width), width)
        ]
        yield Part(here, following, tuple(fields))


# Mutations

Mutation = Callable[[bytearray, list[Part], random.Random], None]


def set_field(data: bytearray, parts: list[Part], rng: random.Random) -> None:
    """Set a field of a header to a boundary value, a similar value or a random one."""
    part = rng.choice(parts)
    if not part.fields:
        return
    offset, width, order = rng.choice(part.fields[: rng.choice((3, len(part.fields)))])
    end = "big" if order == ">" else "little"
    value = int.from_bytes(data[offset : offset + width], end)
    value = rng.choice(
        (
            rng.choice(BOUNDARY_VALUES),
            value + rng.choice((-2, -1, 1, 2)),
            value * 2,
            value // 2,
            rng.getrandbits(8 * width),
        )
    )
    data[offset : offset + width] = (value % 256**width).to_bytes(width, end)


def cut(data: bytearray, parts: list[Part], rng: random.Random) -> None:
    """Truncate the file anywhere, or near the end of a part."""
    border = rng.choice(parts).end + rng.randint(-3, 3)
    del data[max(rng.choice((border, rng.randrange(len(data)))), 1) :]


def double(data: bytearray, parts: list[Part], rng: random.Random) -> None:
    """Repeat a part, after itself or elsewhere."""
    part = rng.choice(parts)
    at = rng.choice((part.end, rng.choice(parts).start, len(data)))
    data[at:at] = data[part.start : part.end] * rng.choice((1, 1, 1, 20))


def leave_out(data: bytearray, parts: list[Part], rng: random.Random) -> None:
    """Remove a part."""
    part = rng.choice(parts)
    if part.end - part.start < len(data):
        del data[part.start : part.end]


def swap(data: bytearray, parts: list[Part], rng: random.Random) -> None:
    """Exchange two parts."""
    first, second = sorted(rng.choices(parts, k=2), key=lambda part: part.start)
    if first.end <= second.start:
        middle = data[first.end : second.start]
        data[first.start : second.end] = (
            data[second.start : second.end] + middle + data[first.start : first.end]
        )


def noise(data: bytearray, parts: list[Part], rng: random.Random) -> None:
    """Replace bytes of a part by random bytes, zeros or ones."""
    part = rng.choice(parts)
    start = rng.randint(part.start, max(part.end - 1, part.start))
    size = rng.choice((part.end - start, min(16, part.end - start)))
    data[start : start + size] = rng.choice((rng.randbytes(size), bytes(size), b"\xff" * size))


def flip(data: bytearray, parts: list[Part], rng: random.Random) -> None:
    """Flip single bits, mostly near the beginning."""
    for _ in range(rng.choice((1, 3, 30))):
        at = rng.randrange(rng.choice((min(200, len(data)), len(data))))
        data[at] ^= 1 << rng.randrange(8)


def insert(data: bytearray, parts: list[Part], rng: random.Random) -> None:
    """Insert random bytes at the beginning, between parts or at the end."""
    at = rng.choice((0, rng.choice(parts).end, len(data)))
    data[at:at] = rng.randbytes(rng.choice((1, 2, 13, 500)))


def graft(data: bytearray, parts: list[Part], rng: random.Random) -> None:
    """Continue the file with bytes of another base."""
    at, other = rng.choice(parts).end, base(rng.choice(list(BASES)))
    data[at:] = other[rng.choice((0, min(at, len(other)))) :]


MUTATIONS: tuple[Mutation, ...] = (
    *(set_field, set_field, set_field, set_field),
    *(cut, double, leave_out, swap, noise, flip, insert, graft),
)


def mutated(case: Case) -> bytes:
    """The bytes of a case: its base with one to four mutations, none for number 0.

    Most Ogg files get correct checksums, otherwise nothing after the first page would be read.
    """
    rng = random.Random(f"{case.base} {case.number}")
    data = bytearray(base(case.base))
    for _ in range(rng.choice((1, 1, 2, 3, 4)) if case.number else 0):
        rng.choice(MUTATIONS)(data, parts_of(bytes(data)) or [Part(0, len(data), ())], rng)
        data = data or bytearray(1)
    if data[:4] == b"OggS" and rng.random() < 0.8:
        for part in parts_of(bytes(data)):
            if part.end - part.start >= 27:
                data[part.start + 22 : part.start + 26] = bytes(4)
                data[part.start + 22 : part.start + 26] = struct.pack(
                    "<I", ogg._crc(bytes(data[part.start : part.end]))
                )
    return bytes(data)


# Worker process


def judge(case: Case, folder: Path) -> tuple[str, str]:
    """Denoise a case in an empty folder; return the kind of outcome and the reason."""
    from fake_engines import constant

    from audioae import AudioaeError, denoise_file
    from audioae.audio import info

    src, dst = folder / f"in.{BASES[case.base][0]}", folder / f"out.{BASES[case.base][0]}"
    data = mutated(case)
    src.write_bytes(data)
    try:
        result = denoise_file(src, dst, model=constant(0.5))
        num_samples = info(dst).num_samples
        kind, reason = "denoised", ""
        if num_samples != result.num_samples and not any(
            "length" in warning for warning in result.warnings
        ):
            kind, reason = (
                "failed",
                f"{result.num_samples} samples were denoised, the output holds {num_samples}",
            )
    except AudioaeError as error:
        kind, reason = "rejected", str(error).replace(str(folder), "")
        if "\n" in str(error):
            kind, reason = "failed", f"an error of several lines: {error!r}"
    except Exception as error:
        kind, reason = "failed", f"{type(error).__name__}: {error}"
    there, expected = (
        {path.name for path in folder.iterdir()},
        {src.name, dst.name} if kind == "denoised" else {src.name},
    )
    if kind != "failed" and there != expected:
        kind, reason = "failed", f"{kind}, and left {sorted(there)}"
    if src.read_bytes() != data:
        kind, reason = "failed", "the input was changed"
    for path in folder.iterdir():
        path.unlink()
    return kind, reason


def work(folder: Path, cases: list[Case], hangs: tuple[float, float]) -> None:
    """Judge all cases and print a line of JSON for each.

    The signal of a timer ends the process if a case hangs, whatever code it is in.
    """
    from audioae import denoising  # noqa: F401  # imported before the first case is timed

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST, LARGEST))
    for case in cases:
        signal.setitimer(signal.ITIMER_PROF, hangs[0])
        signal.setitimer(signal.ITIMER_REAL, hangs[1])
        started = time.process_time()
        kind, reason = judge(case, folder)
        print(
            json.dumps([case.base, case.number, kind, reason, time.process_time() - started]),
            flush=True,
        )


# Parent process


def run(cases: list[Case], folder: Path, hangs: tuple[float, float] = HANGS) -> Iterator[Outcome]:
    """Judge the cases in worker processes, with a new one after each crash.

    Yields the outcomes in the order of the cases.
    """
    left = list(cases)
    while left:
        home = folder / f"worker-{len(left)}"
        home.mkdir()
        outcomes, end = _run_worker(home, left, hangs)
        yield from outcomes
        left = left[len(outcomes) :]
        if left:  # the process ended during the next case
            yield Outcome(left.pop(0), "failed", end, 0.0)


def _run_worker(
    home: Path, cases: list[Case], hangs: tuple[float, float]
) -> tuple[list[Outcome], str]:
    asked = json.dumps([hangs, [[case.base, case.number] for case in cases]])
    command = [sys.executable, __file__, str(home)]
    places = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([*filter(None, sys.path), *places]),
        "OMP_NUM_THREADS": "1",
    }
    ended = subprocess.run(
        command, input=asked, capture_output=True, env=env, encoding="utf-8", errors="replace"
    )
    outcomes = [
        Outcome(Case(row[0], row[1]), *row[2:])
        for line in ended.stdout.splitlines()
        for row in [_row(line)]
        if row
    ]
    code = ended.returncode
    last = (ended.stderr.strip().splitlines() or ["no output"])[-1]
    return (
        outcomes,
        f"the process ended by {signal.Signals(-code).name}"
        if code < 0
        else f"exit code {code}: {last}",
    )


def _row(line: str) -> list[Any] | None:
    return json.loads(line) if line.startswith('["') else None  # libraries print other lines


if __name__ == "__main__":
    if len(sys.argv) == 4:
        one = Case(sys.argv[2], int(sys.argv[3]))
        (Path(sys.argv[1]) / f"{one.base}-{one.number}.{BASES[one.base][0]}").write_bytes(
            mutated(one)
        )
    else:
        limits, rows = json.load(sys.stdin)
        work(Path(sys.argv[1]), [Case(*row) for row in rows], limits)
