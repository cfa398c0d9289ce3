"""Scores that others published, read from ``published.toml``: system, networks, post-processing, scores, where they stand, how surely."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from nerveseg.errors import DataError
from nerveseg.parse import from_toml, text_of
from nerveseg.reprs import brief

__all__ = ["CERTAINTIES", "TABLES", "Published", "read"]

TABLES = ("main", "wsss", "heads", "affinity", "steps")
"""Benchmarks, pseudo-masks, and the three ablations of the NERVE paper."""

CERTAINTIES = {"read": "", "figure": "read off a figure", "aggregator": "from a third party", "memory": "from memory"}
"""How surely a number is what its authors published → what a report says beside it."""

_PROTOCOLS = ("sclip", "cliper", "own", "not stated")
_TEXTS = ("table", "system", "venue", "backbone", "post", "protocol", "source", "certainty")
_MAY = {"scores", "certainties", "average", "trained", "recipes", "note"}


@dataclass(frozen=True)
class Published:
    """One row that somebody published.

    Attributes:
        table: one of `TABLES`.
        system: as its authors call it.
        venue: where the system appeared.
        backbone: networks that it reads, or "not stated".
        post: what is done to its masks afterwards: "none", a name, "yes", "not stated".
        protocol: "sclip", "cliper", "own" or "not stated".
        source: the paper or repository, in plain words.
        certainty: one of `CERTAINTIES`.
        scores: data set → mIoU in percent.
        certainties: data set → certainty, where it differs from the row's.
        average: the average that the source prints; None where it prints none.
        trained: True where the system was trained for segmentation.
        recipes: recipes of this package that the row is to be held against.
        note: what a reader has to know; may be empty.
    """

    table: str
    system: str
    venue: str
    backbone: str
    post: str
    protocol: str
    source: str
    certainty: str
    scores: Mapping[str, float]
    certainties: Mapping[str, str] = field(default_factory=dict)
    average: float | None = None
    trained: bool = False
    recipes: tuple[str, ...] = ()
    note: str = ""

    __repr__ = brief

    def certainty_of(self, data: str) -> str:
        """How surely the number of one data set is what was published."""
        return self.certainties.get(data, self.certainty)


def read(path: Path | None = None, *, table: str | None = None) -> tuple[Published, ...]:
    """Read the published rows, in the order of the file.

    Args:
        path: a file of the same layout; None takes the one that ships.
        table: one of `TABLES`; None gives all.

    Raises:
        DataError: a file that cannot be read, or a row with an unknown key, a missing one, an unknown source or a score outside 0 … 100.

    >>> [row.scores["voc21"] for row in read(table="main") if row.recipes == ("naclip-pamr",)]
    [64.07]
    """
    name = "published.toml" if path is None else str(path)
    if table is not None and table not in TABLES:
        raise DataError(f"Got the table {table!r}. Accepted are {', '.join(TABLES)}. Choose one of them.")
    try:
        text = (files("nerveseg.bench") / "published.toml").read_text("utf-8") if path is None else text_of(path)
        content = from_toml(text)
    except (OSError, ValueError) as error:
        raise DataError(f"Got {name}, which cannot be read ({error}). Accepted is a TOML file with [[row]] tables. Mend it.") from error
    sources = content.get("sources", {})
    rows = tuple(_row(row, sources, f"row {place} of {name}") for place, row in enumerate(content.get("row", ()), 1))
    return rows if table is None else tuple(row for row in rows if row.table == table)


def _row(row: Mapping[str, Any], sources: Mapping[str, str], where: str) -> Published:
    for key in _TEXTS:
        if not isinstance(row.get(key), str) or not row[key]:
            raise DataError(f"Got {where} without {key!r}. Accepted are rows with {', '.join(_TEXTS)} and scores. Add it.")
    for key in row:
        if key not in _MAY and key not in _TEXTS:
            raise DataError(f"Got {where} with {key!r}. Accepted are {', '.join((*_TEXTS, *sorted(_MAY)))}. Leave it out.")
    choices = (("table", TABLES), ("protocol", _PROTOCOLS), ("certainty", tuple(CERTAINTIES)), ("source", tuple(sources)))
    for key, accepted in choices:
        _one_of(row[key], accepted, f"{key} of {where}")
    scores = row.get("scores") or {}
    if not scores or not all(_is_percent(score) for score in (*scores.values(), row.get("average", 0))):
        raise DataError(f"Got the scores {dict(scores)} in {where}. Accepted are numbers from 0 to 100, at least one. Mend it.")
    certainties = row.get("certainties", {})
    for data, certainty in certainties.items():
        _one_of(data, tuple(scores), f"certainties of {where}")
        _one_of(certainty, tuple(CERTAINTIES), f"certainties.{data} of {where}")
    texts = {key: row[key] for key in _TEXTS if key != "source"}
    rest = {key: row[key] for key in ("average", "trained", "note") if key in row}
    return Published(
        **texts,
        source=sources[row["source"]],
        scores=dict(scores),
        certainties=dict(certainties),
        recipes=tuple(row.get("recipes", ())),
        **rest,
    )


def _one_of(value: str, accepted: tuple[str, ...], where: str) -> None:
    if value not in accepted:
        raise DataError(f"Got {value!r} as {where}. Accepted are {', '.join(accepted)}. Choose one of them.")


def _is_percent(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and 0 <= value <= 100
