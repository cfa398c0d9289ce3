"""VOC21: PASCAL VOC 2012 with the background as class 0. 255, the edges and what is difficult, is not counted."""

from __future__ import annotations

from pathlib import Path

from nerveseg.datasets import _voc
from nerveseg.datasets._prepare import Job
from nerveseg.datasets.base import IGNORE, PROTOCOLS, Item

__all__ = ["archives", "background", "convert", "count", "find", "protocols", "published", "splits", "unpacked", "values", "voc"]

title = "PASCAL VOC 2012, 20 classes and the background"
url = _voc.URL
licence = _voc.LICENCE
background = True
count = 21
splits = _voc.SPLITS
protocols = PROTOCOLS
voc = True
archives = _voc.ARCHIVES


def values(protocol: str) -> dict[int, int]:
    """Stored value → id; the same under both protocols."""
    return {**{index: index for index in range(21)}, 255: IGNORE}


def published(protocol: str) -> dict[str, int]:
    """Images of each split; the same under both protocols."""
    return _voc.published()


def find(root: Path, split: str, protocol: str) -> tuple[Item, ...]:
    """The items of a split; see `_voc.find` for which masks they have."""
    return _voc.find("voc21", root, split, protocol)


def unpacked(root: Path, split: str) -> bool:
    """Whether every file of the split is there."""
    return _voc.unpacked("voc21", root, split)


def convert(job: Job) -> None:
    """Make the layout."""
    _voc.convert("voc21", job)
