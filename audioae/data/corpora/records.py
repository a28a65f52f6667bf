"""The record of a public corpus: parts, archives, licence."""

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
        size: bytes.
        exact: whether another size is an error.
        checksum: "sha256:HEX" or "md5:HEX".
        unchecked: why there is no checksum.
        inside: folder in the archive whose content is unpacked; "" for the whole archive.
    """

    url: str
    size: int
    checksum: str = ""
    exact: bool = True
    unchecked: str = ""
    inside: str = ""

    @property
    def name(self) -> str:
        """File name of the archive."""
        return self.url.partition("?")[0].rpartition("/")[2]


@dataclass(frozen=True)
class Part:
    """A part that can be prepared on its own.

    Args:
        needs: paths that it needs, globs below the folder of the corpus.
        archives: the archives that contain them.
    """

    needs: tuple[str, ...]
    archives: tuple[Archive, ...] = ()

    @property
    def size(self) -> int:
        """Bytes to download; 0 for a part that cannot be downloaded by audioae."""
        return sum(archive.size for archive in self.archives)


@dataclass(frozen=True, kw_only=True)
class PublicCorpus:
    """A public corpus.

    Args:
        title, homepage, licence, contents: shown to the user.
        folders: names (globs) of its folder; downloads go into the first.
        read: lists the files of the parts in its folder.
        parts: by name.
        default: the parts used, and downloaded, if none is named.
        present: if no part is named, use all parts that exist instead.
        free: parts are folders named by the corpus itself, such as languages.
        manual: how to get parts without archives.
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
