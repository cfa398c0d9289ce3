"""Pascal Context, 59 classes: the masks of Context-60, of which 0 is not counted."""

from __future__ import annotations

from pathlib import Path

from nerveseg.datasets import _context
from nerveseg.datasets._context import LICENCE, SPLITS, URL, archives, published, unpacked
from nerveseg.datasets._prepare import Job
from nerveseg.datasets.base import IGNORE, Item

__all__ = ["archives", "background", "convert", "count", "find", "protocols", "published", "splits", "unpacked", "values"]

title = "Pascal Context, 59 classes"
url = URL
licence = LICENCE
background = False
count = 59
splits = SPLITS
protocols = ("sclip", "cliper")


def values(protocol: str) -> dict[int, int]:
    """0 is ignored, and k is class k − 1."""
    return {0: IGNORE, **{value: value - 1 for value in range(1, count + 1)}}


def find(root: Path, split: str, protocol: str) -> tuple[Item, ...]:
    """The items of a split; see `_context.find`."""
    return _context.find("context59", root, split, protocol)


def convert(job: Job) -> None:
    """Make the layout; Context-60 and Context-59 share it. See `_context.convert`."""
    _context.convert("context59", job)
