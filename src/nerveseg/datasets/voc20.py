"""VOC20: PASCAL VOC 2012 without its background: those pixels are not counted, and class k of the files is id k − 1."""

from __future__ import annotations

from pathlib import Path

from nerveseg.datasets import _voc
from nerveseg.datasets._prepare import Job
from nerveseg.datasets.base import IGNORE, PROTOCOLS, Item

__all__ = ["archives", "background", "convert", "count", "find", "protocols", "published", "splits", "unpacked", "values", "voc"]

title = "PASCAL VOC 2012, 20 classes"
url = _voc.URL
licence = _voc.LICENCE
background = False
count = 20
splits = _voc.SPLITS
protocols = PROTOCOLS
voc = True
archives = _voc.ARCHIVES


def values(protocol: str) -> dict[int, int]:
    """Stored value → id; the same under both protocols."""
    return {0: IGNORE, **{index + 1: index for index in range(20)}, 255: IGNORE}


def published(protocol: str) -> dict[str, int]:
    """Images of each split; the same under both protocols."""
    return _voc.published()


def find(root: Path, split: str, protocol: str) -> tuple[Item, ...]:
    """The items of a split; see `_voc.find` for which masks they have."""
    return _voc.find("voc20", root, split, protocol)


def unpacked(root: Path, split: str) -> bool:
    """Whether every file of the split is there."""
    return _voc.unpacked("voc20", root, split)


def convert(job: Job) -> None:
    """Make the layout."""
    _voc.convert("voc20", job)
