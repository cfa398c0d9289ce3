"""A table independent of its format: typed cells, and footnotes numbered in order."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass, field

from nerveseg.reprs import brief

__all__ = ["Cell", "Notes", "Table", "number"]


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: plain; formats escape it.
        marks: letters of the footnotes that belong to it.
        style: "" , "published", "strong" or "code".
    """

    text: str
    marks: tuple[str, ...] = ()
    style: str = ""

    __repr__ = brief


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        title: plain.
        head: names of the columns.
        rows: as many cells each.
        right: columns that are set to the right.
        notes: (letter, text) of every footnote.
        about: sentences that stand under the title.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    right: frozenset[int] = frozenset()
    notes: tuple[tuple[str, str], ...] = ()
    about: str = ""

    __repr__ = brief


@dataclass
class Notes:
    """Footnotes of a table: the same text has the same letter."""

    _letters: dict[str, str] = field(default_factory=dict)

    __repr__ = brief

    def marks(self, texts: Sequence[str]) -> tuple[str, ...]:
        """The letters of some footnotes, new ones for texts that are new."""
        for text in texts:
            self._letters.setdefault(text, _letter(len(self._letters)))
        return tuple(self._letters[text] for text in dict.fromkeys(texts))

    @property
    def listed(self) -> tuple[tuple[str, str], ...]:
        """(letter, text), in order."""
        return tuple((letter, text) for text, letter in self._letters.items())


def number(value: float | None, digits: int = 1) -> str:
    """A number for people; a dash where there is none."""
    return "–" if value is None or value != value else f"{value:.{digits}f}"


def _letter(place: int) -> str:
    """Letters a … z, then aa, ab …"""
    letters = string.ascii_lowercase
    return letters[place] if place < 26 else _letter(place // 26 - 1) + letters[place % 26]
