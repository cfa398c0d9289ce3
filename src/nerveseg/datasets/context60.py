"""Pascal Context, 60 classes: the 59 most frequent labels of 459, and class 0 for all others."""

from __future__ import annotations

from pathlib import Path

from nerveseg.datasets import _context
from nerveseg.datasets._context import LICENCE, SPLITS, URL, archives, published, unpacked
from nerveseg.datasets._prepare import Job
from nerveseg.datasets.base import Item

__all__ = ["archives", "background", "convert", "count", "find", "protocols", "published", "splits", "unpacked", "values"]

title = "Pascal Context, 59 classes and the rest"
url = URL
licence = LICENCE
background = True
count = 60
splits = SPLITS
protocols = ("sclip", "cliper")


def values(protocol: str) -> dict[int, int]:
    """Masks store the ids. No value is ignored."""
    return {value: value for value in range(count)}


def find(root: Path, split: str, protocol: str) -> tuple[Item, ...]:
    """The items of a split; see `_context.find`."""
    return _context.find("context60", root, split, protocol)


def convert(job: Job) -> None:
    """Make the layout; Context-60 and Context-59 share it. See `_context.convert`."""
    _context.convert("context60", job)
