"""Outlines of a label map, and masks from outlines.

A part is here what touches by its sides (4 neighbours), so that its outline never crosses itself and no two outlines cross: of two, one
lies inside the other or beside it. Hence whoever paints outlines from the largest to the smallest gets every labelled pixel back. What an
outline cannot say is a hole that holds no label.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64
from numpy.typing import NDArray

from nerveseg.reprs import brief

__all__ = ["EDGES", "PIXELS", "Outline", "filled", "outlines"]

EDGES, PIXELS = "edges", "pixels"
_EAST, _SOUTH, _WEST, _NORTH = range(4)  # the next of a direction is the turn to its right
_STEP_X, _STEP_Y = np.array([1, 0, -1, 0]), np.array([0, 1, 0, -1])
# The pixel on the right of an edge, from the vertex where it begins: (row, column), vertex (y, x) being pixel (y, x)'s top left.
_INSIDE_Y, _INSIDE_X = np.array([0, 0, -1, -1]), np.array([0, -1, -1, 0])


@dataclass(frozen=True, eq=False)
class Outline:
    """The outer edge of one part, clockwise as it is seen, from its top left.

    Attributes:
        label: id of the part.
        area: pixels inside, those of its holes too.
        edges: its corners (x, y) between pixels: 0 … W and 0 … H, two neighbours differ in one of the two.
        pixels: the same from pixel to pixel, 0 … W − 1 and 0 … H − 1, neighbours in a row, a column or a diagonal. A line of pixels is
            walked there and back, one pixel is one point.
    """

    label: int
    area: int
    edges: Int64[np.ndarray, "p 2"]
    pixels: Int64[np.ndarray, "q 2"]

    __repr__ = brief


@dataclass(frozen=True, eq=False)
class _Edges:
    """Every side of a pixel that is on the edge of its part, as a step with the part on its right."""

    way: NDArray[Any]
    y: NDArray[Any]
    x: NDArray[Any]
    after: NDArray[Any]
    straight: NDArray[Any]


def outlines(ids: Int64[np.ndarray, "H W"], labels: int, *, skip: int | None = None) -> tuple[list[Outline], Bool[np.ndarray, "H W"]]:
    """Trace the outer edge of every part.

    Args:
        ids: label ids; those from ``labels`` on are no label.
        labels: their number.
        skip: an id that makes no parts.

    Returns:
        The outlines, largest first, then by label and from the top left; and the pixels without a part that lie inside one.
        Cost O(H·W), and a step in Python for each side of a pixel on an edge.
    """
    height, width = ids.shape
    named = (ids >= 0) & (ids < labels) & (ids != (-1 if skip is None else skip))
    map_ = np.pad(np.where(named, ids, -1), 1, constant_values=-1)
    edges = _edges(map_)
    found: list[Outline] = []
    change = np.zeros((height, width + 1), dtype=np.int32)
    for loop in _loops(edges):
        way, y, x = edges.way[loop], edges.y[loop], edges.x[loop]
        area = int(y[way == _WEST].sum() - y[way == _EAST].sum())
        if area < 0:  # the edge of a hole
            continue
        up, down = way == _NORTH, way == _SOUTH
        change[y[up] - 1, x[up]] += 1
        change[y[down], x[down]] -= 1
        inside = np.stack([x + _INSIDE_X[way], y + _INSIDE_Y[way]], axis=1)
        corners = np.stack([x, y], axis=1)[~edges.straight[np.roll(loop, 1)]]
        found.append(Outline(int(map_[inside[0, 1] + 1, inside[0, 0] + 1]), area, corners, _bends(inside)))
    found.sort(key=lambda outline: (-outline.area, outline.label, outline.edges[0, 1], outline.edges[0, 0]))
    return found, (np.cumsum(change, axis=1)[:, :-1] > 0) & ~named


def filled(points: Int64[np.ndarray, "p 2"], kind: str) -> tuple[tuple[slice, slice], Bool[np.ndarray, "b c"]]:
    """The pixels inside one outline, as rows and columns and a mask there.

    Args:
        points: (x, y), as in `Outline`, none below 0.
        kind: ``edges`` or ``pixels``; with the latter the pixels on the line are inside, as programs that fill polygons have it.
    """
    start, step = points, np.roll(points, -1, axis=0) - points
    length = np.abs(step).max(axis=1)
    unit = np.sign(step).repeat(length, axis=0)
    place = np.arange(int(length.sum())) - np.repeat(np.cumsum(length) - length, length)
    begin = np.repeat(start, length, axis=0) + unit * place[:, None]
    left, top = points.min(axis=0)
    right, bottom = points.max(axis=0) + 1
    toggles = np.zeros((bottom - top, right - left), dtype=np.int64)
    rising = unit[:, 1] != 0
    lower = begin[rising] + np.where(unit[rising, 1:] < 0, unit[rising], 0)  # the end of the step that is further up
    np.add.at(toggles, (lower[:, 1] - top, lower[:, 0] - left), 1)
    mask = np.cumsum(toggles, axis=1) % 2 == 1
    if kind == PIXELS:
        mask[points[:, 1] - top, points[:, 0] - left] = True
        mask[begin[:, 1] - top, begin[:, 0] - left] = True
    else:
        mask = mask[:-1, :-1]
    return (slice(int(top), int(top) + mask.shape[0]), slice(int(left), int(left) + mask.shape[1])), mask


def _edges(map_: NDArray[Any]) -> _Edges:
    """All edges, those that lead east first, from the top left; ``after`` is the number of the one that follows."""
    north_west, north_east, south_west, south_east = map_[:-1, :-1], map_[:-1, 1:], map_[1:, :-1], map_[1:, 1:]
    pairs = ((south_east, north_east), (south_west, south_east), (north_west, south_west), (north_east, north_west))
    codes = np.concatenate([np.flatnonzero((own != other) & (own >= 0)) + way * own.size for way, (own, other) in enumerate(pairs)])
    across, vertices = north_west.shape[1], north_west.size
    way, vertex = np.divmod(codes, vertices)
    y, x = np.divmod(vertex, across)
    owner = map_[y + 1 + _INSIDE_Y[way], x + 1 + _INSIDE_X[way]]
    end_y, end_x = y + _STEP_Y[way], x + _STEP_X[way]

    def ahead(turn: int) -> NDArray[Any]:
        """The pixel on the right of the edge that leads on from here after so many turns to the right."""
        on = (way + turn) % 4
        return map_[end_y + 1 + _INSIDE_Y[on], end_x + 1 + _INSIDE_X[on]]

    # Right ahead lies the pixel inside the straight edge, left ahead that inside a turn to the left. A corner alone does not connect.
    turn = np.where(ahead(0) != owner, 1, np.where(ahead(-1) != owner, 0, -1))
    after: NDArray[Any] = np.zeros(codes.size, dtype=np.int64)
    after[:] = np.searchsorted(codes, (way + turn) % 4 * vertices + end_y * across + end_x)
    return _Edges(way, y, x, after, turn == 0)


def _loops(edges: _Edges) -> list[NDArray[Any]]:
    """The edges in the order they are walked, loop by loop; each starts with its uppermost edge to the east."""
    after: list[int] = edges.after.tolist()
    seen = bytearray(len(after))
    loops: list[NDArray[Any]] = []
    for first in range(int(np.count_nonzero(edges.way == _EAST))):
        if seen[first]:
            continue
        loop: list[int] = []
        at = first
        while not seen[at]:
            seen[at] = 1
            loop.append(at)
            at = after[at]
        loops.append(np.array(loop, dtype=np.int64))
    return loops


def _bends(walk: NDArray[Any]) -> NDArray[Any]:
    """A closed walk of pixels without repeats and without points between two steps in the same direction."""
    fresh = np.any(walk != np.roll(walk, 1, axis=0), axis=1)
    if not bool(fresh.any()):
        return walk[:1]
    kept = walk[fresh] if fresh[0] else np.roll(walk[fresh], 1, axis=0)  # the first comes last, too: begin there
    bend = np.any(np.roll(kept, -1, axis=0) - kept != kept - np.roll(kept, 1, axis=0), axis=1)
    return kept[bend]
