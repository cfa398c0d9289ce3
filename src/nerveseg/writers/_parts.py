"""The objects of `_runs` as masks in their boxes, for formats that need outlines."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from nerveseg.masks.regions import Region, regions
from nerveseg.segmentation import Segmentation
from nerveseg.writers._runs import EACH, each_knob

__all__ = ["EACH", "each_knob", "objects", "whole"]


def objects(result: Segmentation, each: str, *, skip: int | None = None) -> tuple[Region, ...]:
    """The objects of a result, by label, then largest first; ignored pixels belong to none.

    Args:
        result: the result.
        each: ``part`` or ``label``.
        skip: an id that makes no objects.
    """
    ids = result.segmentation.numpy()
    found = regions(ids, ignore=result.ignore_index) if each == "part" else whole(ids)
    return tuple(region for region in found if region.label != skip and region.label < len(result.labels))


def whole(ids: NDArray[Any]) -> tuple[Region, ...]:
    """One region a label, in order, however many parts it has."""
    found: list[Region] = []
    for label in cast("list[int]", np.unique(ids).tolist()):
        mask = ids == label
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
        inside = mask[top:bottom, left:right]
        found.append(Region(label, int(inside.sum()), (left, top, right, bottom), inside))
    return tuple(found)
