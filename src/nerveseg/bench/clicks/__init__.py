"""Measure clicks: a robot that knows the truth clicks at the centre of the largest error, again and again.

    made = run(Clicking(Job("mini", "embedded", limit=100)), "out")

Three questions an image, each for clicks that absorb alone, for visual words alone, and for both:

- *first*: the largest error of all is clicked once; the thing that it lies in, or that lies over it, is scored before and after;
- *things*: each thing is clicked until it reaches 90 % IoU, twenty times at most: clicks to 80 and to 90;
- *new*: the largest thing is left out of the words and made by clicks alone (both).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nerveseg import runs
from nerveseg.bench.clicks._report import figure, outcome, table
from nerveseg.bench.clicks._run import Clicking, Worker, plan
from nerveseg.runs.atomic_write import writing

__all__ = ["FIGURE", "TABLE", "Clicking", "run", "write"]

TABLE, FIGURE = "table.md", "figure.png"


def run(
    given: Clicking,
    folder: str | Path,
    *,
    workers: int = 1,
    said: Callable[[int, int], None] | None = None,
    command: str = "",
) -> runs.Summary:
    """Click through every image, or go on where the folder's run was stopped.

    Args:
        given: what is measured.
        folder: of this run alone.
        workers: that share the images, each with its own networks.
        said: called as ``said(done, all)``.
        command: for the record.

    Returns:
        How far it came; once nothing is left, ``table.md`` and ``figure.png`` are there too.
    """
    summary = runs.run(plan(given, command=command), Worker(given), folder, workers=workers, said=said)
    if summary.left == 0:
        write(folder)
    return summary


def write(folder: str | Path) -> str:
    """Write ``table.md`` and ``figure.png`` of a finished run, and give the table."""
    place = Path(folder)
    found = outcome(place)
    text = table(found)
    with writing(place / TABLE) as file:
        file.write(text)
    figure(found, place / FIGURE)
    return text
