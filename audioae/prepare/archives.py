"""Archives are unpacked beside where their content belongs, and moved there when all of it came out whole."""

from __future__ import annotations

import errno
import lzma
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from audioae.errors import DataError, OutputError

BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError)


def unpack(archive: Path, folder: Path, *, inside: str = "") -> None:
    """Unpack a .zip or .tar.*, or what is `inside` one folder of it, into `folder`; files that are there already stay.

    Raises:
        DataError: it is damaged, of another kind, or has members that would land outside the folder.
        OutputError: the folder cannot be written or is full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=folder) as temporary:
            _extract(archive, Path(temporary))
            source = Path(temporary, inside)
            if not source.is_dir():
                raise DataError(f"{archive} has no folder {inside}; it is not what the publisher made, nothing was kept")
            _move_into(source, folder)
    except BROKEN as error:
        raise DataError(f"{archive} is damaged or no archive ({error or type(error).__name__}); remove it and download it again") from error
    except OSError as error:
        if error.errno is None:  # gzip and bz2 report bad data so
            raise DataError(f"{archive} is damaged ({error}); remove it and download it again") from error
        advice = "free some space and run it again" if error.errno == errno.ENOSPC else "check the folder"
        raise OutputError(f"cannot unpack {archive.name} into {folder}: {error.strerror or error}; {advice}") from error


def _extract(archive: Path, folder: Path) -> None:
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as file:
            for member in file.infolist():
                _refuse_outside(archive, member.filename, stat.S_ISLNK(member.external_attr >> 16))
            file.extractall(folder)
        return
    with tarfile.open(archive, "r|*") as stream:  # one pass: seeking back in a compressed archive would start it again
        for item in stream:
            _refuse_outside(archive, item.name, not (item.isfile() or item.isdir()))
            stream.extract(item, folder, set_attrs=False, filter="data")


def _refuse_outside(archive: Path, name: str, special: bool) -> None:
    """Corpora are files and folders; a link or a name that leads elsewhere has no place in one."""
    path = PurePosixPath(name.replace("\\", "/"))
    drive = bool(path.parts) and ":" in path.parts[0]
    if special or drive or path.is_absolute() or ".." in path.parts:
        raise DataError(f"{archive} holds {name!r}, which leads out of the folder; it is not what the publisher made, nothing was kept")


def _move_into(source: Path, folder: Path) -> None:
    """Rename what is new; go into folders that exist. A folder that appears is therefore whole."""
    for item in sorted(source.iterdir()):
        target = folder / item.name
        if item.is_dir() and target.is_dir():
            _move_into(item, target)
        elif not target.exists():
            shutil.move(item, target)
