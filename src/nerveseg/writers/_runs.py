"""Find, measure and encode the objects of a label map from its column runs in a few passes, without a mask for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt32
from numpy.typing import NDArray
from scipy import sparse as _sparse  # pyright: ignore[reportMissingTypeStubs]
from scipy.sparse import csgraph as _csgraph  # pyright: ignore[reportMissingTypeStubs]

from nerveseg.registry import knob
from nerveseg.reprs import brief
from nerveseg.segmentation import Segmentation
from nerveseg.writers import _rle

__all__ = ["EACH", "Objects", "each_knob", "objects"]

sparse: Any = _sparse  # SciPy carries no types
csgraph: Any = _csgraph

EACH = ("part", "label")


def each_knob(default: str) -> Any:
    """The knob that all formats of objects have."""
    return knob(
        default,
        "What is one object. part: every connected part of a label (two cats that touch are one); label: all pixels of a label.",
        choices=EACH,
        source="labels are all that a segmentation by words knows; parts come nearest to instances",
    )


@dataclass(frozen=True, eq=False)
class Objects:
    """The objects of a result, by label, then largest first, then from the top left; they do not overlap.

    Attributes:
        label: id of each object.
        area: pixels of each.
        box: (left, top, right, bottom) of each in pixels, right and bottom excluded.
        size: (height, width) of the image.
        owner: the object of each run.
        start: where each run begins, counted down the columns from the left; by object, then rising.
        length: pixels of each run.
    """

    label: Int64[np.ndarray, " o"]
    area: Int64[np.ndarray, " o"]
    box: Int64[np.ndarray, "o 4"]
    size: tuple[int, int]
    owner: Int64[np.ndarray, " r"]
    start: Int64[np.ndarray, " r"]
    length: Int64[np.ndarray, " r"]

    __repr__ = brief

    def painted(self, numbers: Int64[np.ndarray, " o"]) -> UInt32[np.ndarray, "H W"]:
        """A map of a number for each object, 0 where there is none."""
        height, width = self.size
        order = np.argsort(self.start)
        start, length = self.start[order], self.length[order]
        times = np.zeros(2 * order.size + 1, dtype=np.int64)  # what is between the runs, and the runs, in turn
        times[1::2] = length
        times[0::2] = np.append(start, height * width) - np.append(0, start + length)
        values = np.zeros(times.size, dtype=np.uint32)
        values[1::2] = numbers[self.owner[order]]
        return np.ascontiguousarray(np.repeat(values, times).reshape(width, height).T)

    def packed(self) -> list[str]:
        """COCO's compressed run lengths of each object."""
        if self.label.size == 0:
            return []
        ends = self.start + self.length
        apart = np.ones(self.start.size, dtype=bool)  # False: goes on from the foot of the column before
        apart[1:] = (self.owner[1:] != self.owner[:-1]) | (self.start[1:] != ends[:-1])
        first = np.flatnonzero(apart)
        owner, start = self.owner[first], self.start[first]
        end = ends[np.concatenate([first[1:] - 1, [ends.size - 1]])]
        fresh = np.ones(owner.size, dtype=bool)
        fresh[1:] = owner[1:] != owner[:-1]
        before = np.where(fresh, 0, np.concatenate([[0], end[:-1]]))
        last = np.flatnonzero(np.concatenate([fresh[1:], [True]]))
        tail = self.size[0] * self.size[1] - end[last]
        pairs = 2 * np.arange(owner.size) + owner  # one tail for each object before
        lengths = np.zeros(2 * owner.size + self.label.size, dtype=np.int64)
        lengths[pairs], lengths[pairs + 1], lengths[pairs[last] + 2] = start - before, end - start, tail
        kept = np.ones(lengths.size, dtype=bool)
        kept[pairs[last] + 2] = tail > 0
        count = np.add.reduceat(kept.astype(np.int64), pairs[fresh])
        return _rle.pack_all(lengths[kept], count)


def objects(result: Segmentation, each: str, *, skip: int | None = None) -> Objects:
    """The objects of a result; ignored pixels belong to none.

    Args:
        result: the result.
        each: ``part`` (8 neighbours) or ``label``.
        skip: an id that makes no objects.

    Cost: a few passes over the image and over its runs.
    """
    height, width = result.size
    flat = np.ascontiguousarray(result.segmentation.numpy().astype(np.uint16).T).ravel()
    breaks = np.ones(flat.size, dtype=bool)
    breaks[1:] = flat[1:] != flat[:-1]
    breaks[::height] = True
    start = np.flatnonzero(breaks).astype(np.int64)
    length = np.diff(np.append(start, flat.size))
    label = flat[start].astype(np.int64)
    owner = _connected(start, length, label, height) if each == "part" else label
    kept = np.flatnonzero((label < len(result.labels)) & (label != (-1 if skip is None else skip)))
    order = kept[np.argsort(owner[kept], kind="stable")]
    return _measured(start[order], length[order], label[order], owner[order], (height, width))


def _measured(start: NDArray[Any], length: NDArray[Any], label: NDArray[Any], owner: NDArray[Any], size: tuple[int, int]) -> Objects:
    """Number the owners of runs, which are sorted by owner, in the order that `Objects` promises."""
    fresh = np.ones(owner.size, dtype=bool)
    fresh[1:] = owner[1:] != owner[:-1]
    first = np.flatnonzero(fresh)
    if first.size == 0:
        none = np.zeros(0, dtype=np.int64)
        return Objects(none, none, np.zeros((0, 4), dtype=np.int64), size, none, none, none)
    column, top = np.divmod(start, size[0])
    last = np.append(first[1:], owner.size) - 1
    box = np.stack([column[first], np.minimum.reduceat(top, first), column[last] + 1, np.maximum.reduceat(top + length, first)], axis=1)
    area = np.add.reduceat(length, first)
    order = np.lexsort((box[:, 0], box[:, 1], -area, label[first]))
    place = np.empty(order.size, dtype=np.int64)
    place[order] = np.arange(order.size)
    runs = np.repeat(place, np.diff(np.append(first, owner.size)))
    sort = np.argsort(runs, kind="stable")
    return Objects(label[first][order], area[order], box[order], size, runs[sort], start[sort], length[sort])


def _connected(start: NDArray[Any], length: NDArray[Any], label: NDArray[Any], height: int) -> NDArray[Any]:
    """The number of each run's connected part; runs touch runs of the next column at their rows and one beyond."""
    column, top = np.divmod(start, height)
    here = np.flatnonzero(column < column[-1])
    head = (column[here] + 1) * height
    low = np.searchsorted(start, head + np.maximum(top[here] - 1, 0), side="right") - 1
    high = np.searchsorted(start, head + np.minimum(top[here] + length[here], height - 1), side="right")
    left, right = np.repeat(here, high - low), _spread(low, high - low)
    same = label[left] == label[right]
    links = sparse.coo_matrix((np.ones(int(same.sum()), dtype=np.int8), (left[same], right[same])), shape=(start.size, start.size))
    parts: NDArray[Any] = np.zeros(start.size, dtype=np.int64)
    parts[:] = csgraph.connected_components(links, directed=False)[1]
    return parts


def _spread(first: NDArray[Any], count: NDArray[Any]) -> NDArray[Any]:
    """first, first + 1, … for each, ``count`` of them."""
    before = np.concatenate([[0], np.cumsum(count)])
    places: NDArray[Any] = np.arange(int(before[-1]), dtype=np.int64)
    return places + np.repeat(first - before[:-1], count)
