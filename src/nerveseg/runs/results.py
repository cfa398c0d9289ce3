"""The results of a long job: one line an item in the order of the plan, made from the journal when the last item is done."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from nerveseg.errors import RunError
from nerveseg.runs import journal
from nerveseg.runs.whole import writing

__all__ = ["NAME", "read", "write"]

NAME = "results.jsonl"


def write(folder: Path, items: Iterable[str], places: Mapping[str, journal.Place]) -> None:
    """Write ``results.jsonl``: ``{"item": name, **result}`` a line. Items that ended with an error have no line.

    Lines are read from the journal one at a time, so memory does not grow with the results.
    """
    with writing(folder / NAME) as out, (folder / journal.NAME).open("rb") as source:
        for item in items:
            place = places.get(item)
            if place is None or place.bad:
                continue
            source.seek(place.start)
            entry = json.loads(source.read(place.length))
            out.write(json.dumps({"item": item, **entry["result"]}, separators=(",", ":"), ensure_ascii=False) + "\n")


def read(folder: str | Path) -> Iterator[dict[str, Any]]:
    """Read the results of a finished job, one dict an item, in the order of its plan.

    Raises:
        RunError: the job is not finished, or its file is damaged.
    """
    path = Path(folder) / NAME
    if not path.is_file():
        raise RunError(f"Got {folder} without {NAME}. Accepted is the folder of a finished job. Start the job again to finish it.")
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise RunError(f"Got {path} with the damaged line {number}. Accepted is JSON. Start the job again.") from error
