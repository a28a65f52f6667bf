"""Find corpora in a folder, download and unpack what is missing, and list their files."""

from __future__ import annotations

import errno
import lzma
import shutil
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from audioae.data.corpora.catalog import CORPORA
from audioae.data.corpora.download import Fetch, fetch, refuse_full_disk, was_begun
from audioae.data.corpora.layouts import matches
from audioae.data.corpora.records import Archive, PublicCorpus
from audioae.data.sources import Entry
from audioae.errors import DataError, OutputError, SettingsError, nearest

UNPACKED = ".unpacked"  # suffix of a marker: the archive was unpacked completely


@dataclass(frozen=True)
class Wanted:
    """A corpus and the parts of it that were named; `usual`: whether the corpus was named without a
    part, too.
    """

    name: str
    corpus: PublicCorpus
    named: tuple[str, ...]
    usual: bool

    def folder(self, root: Path) -> Path:
        """The folder of the corpus: below `root`, or `root` itself; if there is none, the folder
        for downloads.
        """
        places = [
            path
            for name in self.corpus.folders
            for path in sorted(root.glob(name), reverse=True)
            if path.is_dir()
        ]
        if places:
            return places[0]
        whole = any(
            all(_has(root, need) for need in part.needs) for part in self.corpus.parts.values()
        )
        return root if whole else root / self.corpus.folders[0].replace("*", self.name)

    def parts(self, folder: Path, *, download: bool = False) -> tuple[str, ...]:
        """The parts to use: those named and, if the corpus was named without a part, those that
        exist or the default ones.
        """
        if not self.usual:
            return self.named
        there = tuple(
            part
            for part in self.corpus.parts
            if self.corpus.present and not self.missing(folder, (part,))
        )
        begun = download and any(
            _begun(folder, archive) for archive in archives_of(self, self.corpus.default)
        )
        return tuple(
            dict.fromkeys(
                [*there, *(self.corpus.default if begun or not there else ()), *self.named]
            )
        )

    def missing(self, folder: Path, parts: Iterable[str]) -> list[str]:
        """The paths that these parts need and the folder does not have."""
        known = self.corpus.parts
        return [
            need
            for part in parts
            for need in (known["all"] if self.corpus.free else known[part]).needs
            if not _has(folder, need)
        ]


def choose(names: Iterable[str]) -> list[Wanted]:
    """The corpora named by `NAME` and `NAME/PART`, each once.

    Raises:
        SettingsError: an unknown name; the message has the nearest known one.
    """
    parts: dict[str, dict[str, None]] = {}
    for name in names:
        base, _, part = name.partition("/")
        if base not in CORPORA:
            hint = "" if nearest(base, CORPORA) else f"; known are {', '.join(CORPORA)}"
            raise SettingsError(f"no corpus {base!r}{nearest(base, CORPORA)}{hint}")
        corpus = CORPORA[base]
        if part and part not in corpus.parts and not corpus.free:
            raise SettingsError(
                f"{base} has no part {part!r}{nearest(part, corpus.parts)}; its "
                f"parts are {', '.join(corpus.parts)}"
            )
        parts.setdefault(base, {})[part] = None
    return [
        Wanted(name, CORPORA[name], tuple(part for part in named if part), "" in named)
        for name, named in parts.items()
    ]


def corpus_entries(names: Iterable[str], root: Path) -> list[Entry]:
    """Entries of all named corpora. Raises `DataError`, which says what is missing and how to get
    it.
    """
    return [entry for wanted in choose(names) for entry in _entries_of(wanted, root)]


def _entries_of(wanted: Wanted, root: Path) -> Iterator[Entry]:
    folder = wanted.folder(root)
    parts = wanted.parts(folder)
    missing = wanted.missing(folder, parts)
    if missing:
        raise DataError(
            f"{wanted.name}: {folder} lacks {_some(missing)}; {_advice(wanted, parts)}, or name "
            "with --root the folder that holds "
            f"{wanted.corpus.folders[0]}"
        )
    entries = wanted.corpus.read(folder, parts)
    if not entries:
        raise DataError(
            f"{wanted.name}: no audio file in {folder} for {', '.join(parts)}; "
            "unpack or download it again"
        )
    for entry in entries:
        yield replace(entry, corpus=wanted.name, licence=wanted.corpus.licence)


def _some(missing: list[str]) -> str:
    names = [need.strip("{}").replace(",", " or ") for need in missing]
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _advice(wanted: Wanted, parts: tuple[str, ...]) -> str:
    size = sum(archive.size for archive in archives_of(wanted, parts))
    if not size:
        return f"get it from {wanted.corpus.homepage} ({wanted.corpus.manual})"
    about = f"{size / 1e9:.1f} GB, {wanted.corpus.licence}, from {wanted.corpus.homepage}"
    return f"download it with --download ({about})"


def archives_of(wanted: Wanted, parts: Iterable[str]) -> list[Archive]:
    """The archives of these parts, each once: several parts may be in one."""
    known = wanted.corpus.parts
    return list(
        dict.fromkeys(
            archive for part in parts if part in known for archive in known[part].archives
        )
    )


def pending(wanted: Wanted, root: Path) -> list[Archive]:
    """The archives to download; none if the user's own copy is complete.

    Raises:
        DataError: a part is missing and cannot be downloaded.
    """
    folder = wanted.folder(root)
    parts = wanted.parts(folder, download=True)
    missing = [
        part
        for part in parts
        if wanted.missing(folder, (part,))
        or any(_begun(folder, a) for a in archives_of(wanted, (part,)))
    ]
    by_hand = [part for part in missing if not archives_of(wanted, (part,))]
    if by_hand:
        what = f"{wanted.name}: {', '.join(by_hand)} cannot be downloaded by audioae"
        raise DataError(f"{what}: {wanted.corpus.manual}; see {wanted.corpus.homepage}")
    return [
        archive for archive in archives_of(wanted, missing) if not _marker(folder, archive).exists()
    ]


def download(
    wanted: Wanted, root: Path, *, report: Callable[[Fetch], None] = lambda _: None
) -> None:
    """Download, verify and unpack the missing archives of a corpus. An interrupted download is
    resumed.

    Raises:
        DataError: the server does not answer, or the file is not the published one.
        OutputError: `root` cannot be written or has too little space.
    """
    folder = wanted.folder(root)
    archives = pending(wanted, root)
    refuse_full_disk(folder, [archive.size for archive in archives])
    for archive in archives:
        target = _target(folder, archive)
        fetch(archive, target, report=report)
        unpack(target, folder, inside=archive.inside)
        _marker(folder, archive).touch()
        target.unlink()


def _target(folder: Path, archive: Archive) -> Path:
    return folder / archive.name


def _marker(folder: Path, archive: Archive) -> Path:
    return folder / f".{archive.name}{UNPACKED}"


def _begun(folder: Path, archive: Archive) -> bool:
    """Whether this archive was downloaded here, completely or in part; otherwise existing files are
    the user's own copy.
    """
    return _marker(folder, archive).exists() or was_begun(_target(folder, archive))


def _has(folder: Path, need: str) -> bool:
    return next(matches(folder, need), None) is not None


BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    ValueError,  # names that are not UTF-8
)
# Limits of an archive: its content is at most so many times as large, and so many bytes more, as
# the archive. Corpora of silence compress 20 times, archives made to fill a disk 1000 times.
MOST_GROWTH, MOST_MORE, MOST_MEMBERS = 50, 100_000_000, 5_000_000


def unpack(archive: Path, folder: Path, *, inside: str = "") -> None:
    """Unpack a .zip or .tar.*, or the folder `inside` it, into `folder`. Existing files are kept.

    Raises:
        DataError: the archive is damaged, of another kind, has members outside the folder, or
            content that is much larger than itself.
        OutputError: the folder cannot be written or is full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=folder) as temporary:
            _extract(archive, Path(temporary))
            source = Path(temporary, inside)
            if not source.is_dir():
                raise DataError(
                    f"{archive} has no folder {inside}; it is not what the publisher "
                    "made, nothing was kept"
                )
            _move_into(source, folder)
    except BROKEN as error:
        raise DataError(
            f"{archive} is damaged or no archive ({error or type(error).__name__}); "
            "remove it and download it again"
        ) from error
    except OSError as error:
        if error.errno is None:  # gzip and bz2 report bad data so
            raise DataError(
                f"{archive} is damaged ({error}); remove it and download it again"
            ) from error
        advice = (
            "free some space and run it again"
            if error.errno == errno.ENOSPC
            else "check the folder"
        )
        raise OutputError(
            f"cannot unpack {archive.name} into {folder}: {error.strerror or error}; {advice}"
        ) from error


def _extract(archive: Path, folder: Path) -> None:
    content = _Content(archive, shutil.disk_usage(folder).free)
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as file:
            for member in file.infolist():
                link = stat.S_ISLNK(member.external_attr >> 16)
                content.add(member.filename, member.file_size, special=link)
            file.extractall(folder)
        return
    # one pass: seeking back in a compressed archive would start it again
    with tarfile.open(archive, "r|*") as stream:
        for item in stream:
            content.add(item.name, item.size, special=not (item.isfile() or item.isdir()))
            stream.extract(item, folder, set_attrs=False, filter="data")


class _Content:
    """Checks the members of an archive before they are written.

    Args:
        archive: the file.
        free: bytes free where it is unpacked.
    """

    def __init__(self, archive: Path, free: int) -> None:
        self._archive, self._free = archive, free
        self._most = MOST_GROWTH * archive.stat().st_size + MOST_MORE
        self._size = self._members = 0

    def add(self, name: str, size: int, *, special: bool) -> None:
        """Check the next member.

        Raises:
            DataError: it is a link or leads out of the folder, or the content grows too large.
            OutputError: there is no space for it.
        """
        path = PurePosixPath(name.replace("\\", "/"))
        drive = bool(path.parts) and ":" in path.parts[0]
        if special or drive or path.is_absolute() or ".." in path.parts:
            raise DataError(
                f"{self._archive} holds {name!r}, which leads out of the folder; it is not "
                "what the publisher made, nothing was kept"
            )
        if not path.parts and not name.startswith("."):
            raise DataError(
                f"{self._archive} is damaged: it holds a file without a name; remove it and "
                "download it again"
            )
        self._members += 1
        self._size += size
        if self._size > self._most or self._members > MOST_MEMBERS:
            raise DataError(
                f"{self._archive} unpacks to more than {self._size / 1e9:.1f} GB in "
                f"{self._members:,} files; it is not what the publisher made, nothing was kept"
            )
        if self._size > self._free:
            raise OutputError(
                f"cannot unpack {self._archive.name}: it needs more than {self._free / 1e9:.1f} "
                "GB; free some space and run it again"
            )


def _move_into(source: Path, folder: Path) -> None:
    """Rename new items and recurse into existing folders, so that new folders are complete."""
    for item in sorted(source.iterdir()):
        target = folder / item.name
        if item.is_dir() and target.is_dir():
            _move_into(item, target)
        elif not target.exists():
            shutil.move(item, target)
