"""The results of a long job: one line an item in the order of the plan, made from the journal when the last item is done."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nerveseg import parse
from nerveseg.errors import NerveSegError, RunError
from nerveseg.parse import from_json
from nerveseg.runs import journal
from nerveseg.runs.atomic_write import writing

__all__ = ["NAME", "read", "understood", "write"]

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
            entry = from_json(source.read(place.length))
            out.write(json.dumps({"item": item, **entry["result"]}, separators=(",", ":"), ensure_ascii=False) + "\n")


def read(folder: str | Path) -> Iterator[dict[str, Any]]:
    """Read the results of a finished job, one dict an item, in the order of its plan.

    Raises:
        RunError: the job is not finished, or its file is damaged.
    """
    path = Path(folder) / NAME
    if not path.is_file():
        raise RunError(f"Got {folder} without {NAME}. Accepted is the folder of a finished job. Start the job again to finish it.")
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                entry = parse.from_json(line)
            except ValueError as error:
                raise RunError(f"Got {path} with the damaged line {number}. Accepted is JSON. Start the job again.") from error
            if not isinstance(entry, dict) or not isinstance(entry.get("item"), str):
                raise RunError(f"Got {path} with the line {number}, which is no result. Accepted is one an item. Start the job again.")
            yield entry


@contextmanager
def understood(folder: str | Path) -> Iterator[None]:
    """Read what a job's files say; where they lack it, or say it in another shape, they are not what the job wrote.

    Raises:
        RunError: in place of what looking for a key, or counting with a text, raises.
    """
    try:
        yield
    except NerveSegError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise RunError(
            f"Got {folder}, whose run.json or {NAME} does not say what a job of its kind writes ({type(error).__name__}: {error}). "
            "Accepted is the folder as it was written. Copy it again, or start the job again in a new folder."
        ) from error
