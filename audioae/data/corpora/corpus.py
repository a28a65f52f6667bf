"""What is known of a public corpus before any of it is here: a record of facts, no code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from audioae.data.sources import Entry

Layout = Callable[[Path, tuple[str, ...]], list[Entry]]


@dataclass(frozen=True)
class Archive:
    """One file to download.

    Args:
        url: official address.
        size: bytes; `exact` where known to the byte, so that another size is an error.
        checksum: "sha256:HEX" or "md5:HEX". unchecked: why there is none.
        inside: folder in the archive whose content belongs into the corpus' folder; all of it where there is none.
    """

    url: str
    size: int
    checksum: str = ""
    exact: bool = True
    unchecked: str = ""
    inside: str = ""

    @property
    def name(self) -> str:
        """The file's name."""
        return self.url.partition("?")[0].rpartition("/")[2]


@dataclass(frozen=True)
class Part:
    """What can be asked for on its own: the paths (globs, below the corpus' folder) that it needs and the archives that bring them."""

    needs: tuple[str, ...]
    archives: tuple[Archive, ...] = ()

    @property
    def size(self) -> int:
        """Bytes to download, nothing for a part that has to be fetched by hand."""
        return sum(archive.size for archive in self.archives)


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A public corpus.

    Args:
        title, homepage, licence, contents: what people should know before they download it.
        folders: names (globs) of its folder; the first one is where downloads go.
        parts: by name. default: those that are taken, and downloaded, where no part is named.
        present: where no part is named, take every part that is there instead.
        free: parts are folders that the corpus itself names, such as languages.
        manual: how to get what has no archives.
    """

    title: str
    homepage: str
    licence: str
    contents: str
    folders: tuple[str, ...]
    read: Layout
    parts: MappingProxyType[str, Part]
    default: tuple[str, ...] = ("all",)
    present: bool = False
    free: bool = False
    manual: str = ""
