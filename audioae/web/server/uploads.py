"""The recordings that users of the local web app have uploaded: a private folder that does not
outlive the server, and the limits of what is in it.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import tempfile
import threading
import time
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from audioae.errors import AudioaeError, OutputError
from audioae.storage import PrivateFolder, remove_tree

PREFIX = "audioae-serve-"  # start of the names of the folders of servers
MAX_STEM, MAX_SUFFIX = 120, 12  # characters of the name of an upload
SPARE_BYTES = 256 * 2**20  # of the disk, which uploads leave free

State = Literal["arriving", "ready", "waiting", "running", "done", "failed", "cancelled"]


class UnknownUploadError(AudioaeError):
    """There is no upload of that id, or it was removed."""


class TooLargeError(AudioaeError):
    """An upload is larger than the limit."""


class TooManyError(AudioaeError):
    """There are too many uploads or jobs at the moment."""


class NoSpaceError(AudioaeError):
    """The disk, or the part of it that uploads may take, is full."""


@dataclass(frozen=True)
class ServeLimits:
    """Limits of the local web app.

    Args:
        max_bytes: size of an upload.
        total_bytes: size of all uploads that are there at the same time.
        max_uploads: number of uploads at the same time.
        max_jobs: number of jobs that wait or run.
        job_seconds: time that a job may take.
        idle_seconds: time in which at least one byte of a request must arrive.
        keep_seconds: time after which an upload that nobody asks for is removed.

    Example:
        >>> ServeLimits(max_bytes=1000).max_jobs
        200
    """

    max_bytes: int = 2**30
    total_bytes: int = 20 * 2**30
    max_uploads: int = 1000
    max_jobs: int = 200
    job_seconds: float = 3600.0
    idle_seconds: float = 20.0
    keep_seconds: float = 3600.0


class ServeFolder(PrivateFolder):
    """A private temporary folder for the uploads of a server.

    Args:
        parent: where to create it; None is the folder for temporary files of the system.

    Raises:
        OutputError: it cannot be created.

    Example:
        >>> with ServeFolder(".") as folder:
        ...     folder.path.is_dir()
        True
        >>> folder.path.exists()
        False
    """

    def __init__(self, parent: str | os.PathLike[str] | None = None) -> None:
        try:
            super().__init__(PREFIX, parent)
        except OSError as error:
            place = Path(parent or tempfile.gettempdir())
            raise OutputError(
                f"no folder for uploads can be created in {place} ({error.strerror or error}); "
                "choose another with --temp-dir"
            ) from error


def clean_name(name: str) -> str:
    """The last part of a name that a user gave, without control characters; for display and
    downloads, never as a path.

    Example:
        >>> clean_name("../../etc/Gespräch.wav"), clean_name(".."), clean_name("a\\r\\nb.wav")
        ('Gespräch.wav', 'recording', 'ab.wav')
    """
    name = unicodedata.normalize("NFC", name.replace("\\", "/").rpartition("/")[2])
    name = "".join(each for each in name if unicodedata.category(each)[0] != "C").strip(" .")
    stem, dot, suffix = name.rpartition(".")
    if not stem or len(suffix) > MAX_SUFFIX:
        stem, dot, suffix = name, "", ""
    return stem[:MAX_STEM].strip() + dot + suffix or "recording"


def suffix_of(name: str) -> str:
    """The suffix of a name in lower case, if it is a plain one, for the file on disk.

    Example:
        >>> suffix_of("talk.WAV"), suffix_of("talk.w/v"), suffix_of("talk")
        ('.wav', '', '')
    """
    match = re.search(r"\.[A-Za-z0-9]{1,8}$", name)
    return match[0].lower() if match else ""


@dataclass
class Upload:
    """A recording that a user has uploaded, and what became of it.

    Args:
        id: unguessable; who has it may use the upload.
        name: as the user named it.
        folder: its own folder.
        source: the recording.
        num_bytes: its size.
        form: sample rate, channels, duration, ...; empty until the recording was checked.
        state: of its last job; "arriving" until the recording was checked, then "ready".
        progress: of the job, 0 to 1.
        error: why it failed, in one line.
        result: see `FileResult`; None without one.
        output: the denoised recording; None without one.
        download_name: the name under which it is saved.
        used: when somebody asked for it, by `time.monotonic`.
        previews: number of previews that were made.
        job: number of jobs that were started.
    """

    id: str
    name: str
    folder: Path
    source: Path
    num_bytes: int = 0
    form: dict[str, Any] = field(default_factory=dict)
    state: State = "arriving"
    progress: float = 0.0
    error: str = ""
    result: dict[str, Any] | None = None
    output: Path | None = None
    download_name: str = ""
    used: float = field(default_factory=time.monotonic)
    previews: int = 0
    job: int = 0

    @property
    def active(self) -> bool:
        """Whether a job waits or runs, or the recording is not complete yet."""
        return self.state in ("arriving", "waiting", "running")

    def public(self) -> dict[str, Any]:
        """What the web API says about it, as JSON values."""
        names = ("id", "name", "num_bytes", "form", "state", "progress", "error", "result")
        return {
            **{name: getattr(self, name) for name in names},
            "download_name": self.download_name,
        }


class UploadStore:
    """All uploads of a server.

    Args:
        folder: the folder that they are in.
        limits: their limits.
    """

    def __init__(self, folder: Path, limits: ServeLimits) -> None:
        self.folder, self.limits = folder, limits
        self._uploads: dict[str, Upload] = {}
        self._lock = threading.Lock()

    def create(self, name: str) -> Upload:
        """A new, empty upload.

        Raises:
            TooManyError: there are too many.
        """
        with self._lock:
            if len(self._uploads) >= self.limits.max_uploads:
                raise TooManyError(
                    f"there are {len(self._uploads)} uploads, the most that this server takes; "
                    "try again later"
                )
            key = secrets.token_urlsafe(16)
            folder = self.folder / secrets.token_hex(16)
            folder.mkdir(mode=0o700)
            name = clean_name(name)
            upload = Upload(key, name, folder, folder / f"input{suffix_of(name)}")
            self._uploads[key] = upload
            return upload

    def get(self, key: str) -> Upload:
        """The upload of an id; it counts as used.

        Raises:
            UnknownUploadError: there is none.
        """
        upload = self._uploads.get(key)
        if upload is None:
            raise UnknownUploadError("there is no such upload; it may have been removed")
        upload.used = time.monotonic()
        return upload

    def remove(self, upload: Upload) -> None:
        """Forget an upload and remove its files."""
        with self._lock:
            self._uploads.pop(upload.id, None)
        remove_tree(upload.folder)

    def idle(self) -> list[Upload]:
        """The uploads without a job that nobody has asked for in `keep_seconds`."""
        oldest = time.monotonic() - self.limits.keep_seconds
        uploads = list(self._uploads.values())
        return [each for each in uploads if each.used < oldest and not each.active]

    def check_space(self, more: int) -> None:
        """Check that an upload may grow by so many bytes.

        Raises:
            NoSpaceError: it may not.
        """
        held = sum(each.num_bytes for each in list(self._uploads.values()))
        if held + more > self.limits.total_bytes:
            raise NoSpaceError("the uploads of all users take all the space allowed; try later")
        if shutil.disk_usage(self.folder).free < more + SPARE_BYTES:
            raise NoSpaceError("the disk of the server is full; try later or with a smaller file")

    def __len__(self) -> int:
        return len(self._uploads)
