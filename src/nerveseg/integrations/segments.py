"""The segments of a label map, numbered and scored: what other libraries call an instance or a segment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int32, Int64
from numpy.typing import NDArray

from nerveseg.masks.regions import regions
from nerveseg.reprs import brief

__all__ = ["Segments", "segments"]

_NONE = -1  # an id of no label


@dataclass(frozen=True, eq=False)
class Segments:
    """Segments of one image, by label, then largest first; number i + 1 is entry i.

    Attributes:
        numbers: the segment of each pixel, 0 where there is none.
        labels: the id of each segment's label.
        scores: the mean confidence inside each, 0 … 1, to six digits.
        whole: whether a segment is all of its label.
    """

    numbers: Int32[np.ndarray, "H W"]
    labels: tuple[int, ...]
    scores: tuple[float, ...]
    whole: tuple[bool, ...]

    __repr__ = brief


def segments(
    ids: Int64[np.ndarray, "H W"], confidence: Float[np.ndarray, "H W"], labels: int, *, background: int | None = None, parts: bool = False
) -> Segments:
    """Number the segments of a label map.

    Args:
        ids: 0 … labels − 1; any other is of no segment.
        confidence: how sure each pixel is, 0 … 1.
        labels: how many there are.
        background: an id that is one segment whatever ``parts`` says, the largest of the ids; None: there is none.
        parts: False: a label is a segment. True: each connected part of one is (8 neighbours).
    """
    known = np.where(ids < labels, ids, _NONE)
    numbers, found = _parts(known, background) if parts else _labels(known)
    area = np.bincount(numbers.ravel(), minlength=len(found) + 1)[1:]
    total = np.bincount(numbers.ravel(), confidence.ravel(), minlength=len(found) + 1)[1:]
    scores = tuple(round(float(score), 6) for score in total / area)
    return Segments(numbers, tuple(found), scores, tuple(not parts or label == background for label in found))


def _labels(ids: NDArray[Any]) -> tuple[NDArray[Any], list[int]]:
    there = np.bincount(ids.ravel() + 1)[1:] > 0  # entry 0 is _NONE
    numbers = np.append(np.cumsum(there) * there, 0).astype(np.int32)  # the last is what _NONE takes
    return numbers[ids], np.flatnonzero(there).tolist()


def _parts(ids: NDArray[Any], background: int | None) -> tuple[NDArray[Any], list[int]]:
    numbers, found = np.zeros(ids.shape, dtype=np.int32), []
    behind = ids == background
    for region in regions(np.where(behind, _NONE, ids), ignore=_NONE):
        found.append(region.label)
        left, top, right, bottom = region.box
        numbers[top:bottom, left:right][region.mask] = len(found)
    if background is not None and behind.any():
        found.append(background)
        numbers[behind] = len(found)
    return numbers, found
