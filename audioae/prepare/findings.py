"""What a check says, and of which rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from audioae.errors import counted
from audioae.manifest import Row
from audioae.prepare.sources import Role

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """What one check found: "error" spoils a training, "warning" costs some of it. `found` counts, `example` names the first."""

    check: str
    level: Level
    found: str
    example: str = ""
    advice: str = ""


@dataclass(frozen=True)
class Item:
    """A row and the role that its manifest gives it."""

    role: Role
    row: Row


def some(name: str, level: Level, one: str, many: str, examples: list[str], advice: str) -> Iterator[Finding]:
    """One finding for all examples, in the words for `one` or for `many` of them; none for none."""
    if examples:
        yield Finding(name, level, counted(len(examples), one, many), examples[0], advice)


def of_rows(items: Iterable[Item]) -> Iterator[tuple[Role, Row]]:
    """Roles and rows apart."""
    return ((item.role, item.row) for item in items)


def names(items: list[Item]) -> str:
    """The first two of items that are alike, with role and split."""
    return " = ".join(f"{item.row.path} ({item.role} {item.row.split})" for item in items[:2])
