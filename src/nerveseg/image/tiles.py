"""A big image as equal tiles that overlap, placed so that the tokens of all of them lie on one grid.

A side of the image is measured in units, a whole number of tokens each. Every tile is ``span`` units long and begins at a whole unit, so
that cells of neighbouring tiles fall onto each other. What the image is longer or shorter than whole units is scaled away: by less than
half a unit over the whole side.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from nerveseg.errors import OptionError
from nerveseg.image.load import LoadedImage, load_image
from nerveseg.reprs import brief

__all__ = ["LEAST", "OVERLAP", "Axis", "Plan", "check", "first", "plan", "span"]

LEAST = 32
"""Smallest side of a tile in pixels."""

OVERLAP = 0.25
"""Default overlap: the share of a tile's side that its neighbour has, too."""

_FEWEST = 4  # units of a tile below which overlaps come in too coarse steps
_ENOUGH = 8  # units of a tile, where the two networks' grids have few in common
_TOKENS = 2  # tokens of the graph that neighbours share at least: then every pair of neighbouring tokens lies in one tile


@dataclass(frozen=True)
class Axis:
    """One side of an image in tiles.

    Attributes:
        pixels: length of the side.
        tile: pixels of what a network is shown of a tile.
        units: of the side.
        span: units of a tile.
        starts: unit at which each tile begins, rising from 0; the last one ends with the side.
    """

    pixels: int
    tile: int
    units: int
    span: int
    starts: tuple[int, ...]

    __repr__ = brief

    def box(self, number: int) -> tuple[float, float]:
        """Where a tile begins and ends, in pixels of the image; seldom whole numbers."""
        start = self.starts[number]
        return start * self.pixels / self.units, (start + self.span) * self.pixels / self.units

    def fitting(self, cells: int) -> int:
        """The number of cells a tile, at least this, of which each unit has a whole number."""
        return -(-cells // self.span) * self.span

    def total(self, cells: int) -> int:
        """Cells of the whole side, with so many a tile (a `fitting` number)."""
        return self.units * cells // self.span

    def firsts(self, cells: int) -> tuple[int, ...]:
        """The cell at which each tile begins."""
        return tuple(start * cells // self.span for start in self.starts)


@dataclass(frozen=True)
class Plan:
    """Tiles of an image, counted row by row. Make one with `plan`.

    Attributes:
        rows: the height.
        columns: the width.
    """

    rows: Axis
    columns: Axis

    @property
    def count(self) -> int:
        """Tiles."""
        return len(self.rows.starts) * len(self.columns.starts)

    @property
    def scale(self) -> tuple[float, float]:
        """(height, width) that a network is shown of a tile, over what the tile is of the image; 1 within half a unit over the side."""
        return tuple(axis.tile / (axis.box(0)[1] - axis.box(0)[0]) for axis in (self.rows, self.columns))  # type: ignore[return-value]

    @property
    def note(self) -> str:
        """One sentence for the record of a result."""
        down, across = len(self.rows.starts), len(self.columns.starts)
        share = min((_shared(axis) for axis in (self.rows, self.columns) if len(axis.starts) > 1), default=1.0)
        return f"Encoded in {down} × {across} tiles of {self.rows.tile} × {self.columns.tile} pixels that share at least {share:.3g}."

    def cut(self, image: LoadedImage) -> Iterator[LoadedImage]:
        """Cut the tiles out, one at a time; each is brought to the tile's size bicubically where it is not of it already.

        Memory: one copy of the image, and one tile.
        """
        pil_image = image.to_pil()
        for row in range(len(self.rows.starts)):
            for column in range(len(self.columns.starts)):
                (top, bottom), (left, right) = self.rows.box(row), self.columns.box(column)
                yield _crop(pil_image, (left, top, right, bottom), (self.columns.tile, self.rows.tile), image.name)


def check(tile: int, overlap: float) -> None:
    """Refuse a side or an overlap out of range.

    Raises:
        OptionError: a side below `LEAST`, or an overlap outside 0 … below 1.
    """
    if not isinstance(tile, int) or isinstance(tile, bool) or tile < LEAST:
        raise OptionError(f"Got tile = {tile!r}. Accepted is a whole number of pixels from {LEAST}. Try 1024.")
    if not (isinstance(overlap, (int, float)) and 0 <= overlap < 1):
        raise OptionError(f"Got overlap = {overlap!r}. Accepted is a share of the tile's side from 0 to below 1. Try {OVERLAP}.")


def first(image: LoadedImage, tile: int) -> LoadedImage:
    """The top left tile at the size that every tile is shown in: what it takes to ask networks for their grids."""
    height, width = (min(side, tile) for side in image.size)
    return _crop(image.to_pil(), (0, 0, width, height), (width, height), image.name)


def span(cells: int, others: int) -> int:
    """Units of a tile, for a graph of so many tokens along it and a label source of so many others.

    As many as both have whole numbers of cells in, where that is four or more: then nothing is resampled. Else a divisor of the graph's, at
    least eight where it has one, and the label source's cells are brought to the next multiple of it.

    >>> span(64, 24), span(40, 16), span(64, 21), span(37, 24)
    (8, 8, 8, 37)
    """
    both = math.gcd(cells, others)
    if both >= _FEWEST:
        return both
    return next((units for units in range(_ENOUGH, cells) if cells % units == 0), cells)


def plan(size: tuple[int, int], tile: int, overlap: float, grid: tuple[int, int], labels: tuple[int, int]) -> Plan:
    """Lay tiles over an image.

    Args:
        size: (height, width) of the image.
        tile: side of a tile in pixels; a side of the image that is shorter has one tile, as long as it is.
        overlap: share of a tile's side that its neighbour has at least, rounded up to units and to two tokens. Larger: smoother, more
            tiles.
        grid: (height, width) of a tile in tokens of the graph.
        labels: likewise of the label source.

    >>> plan((600, 2000), 800, 0.25, (48, 64), (24, 24)).columns
    Axis(pixels=2000, tile=800, units=20, span=8, starts=(0, 6, 12))
    """
    check(tile, overlap)
    rows, columns = (_axis(side, tile, overlap, cells, others) for side, cells, others in zip(size, grid, labels, strict=True))
    return Plan(rows, columns)


def _axis(pixels: int, tile: int, overlap: float, cells: int, others: int) -> Axis:
    units = span(cells, others)
    total = round(pixels * units / tile)
    if total <= units:
        return Axis(pixels, min(pixels, tile), 1, 1, (0,))
    shared = max(math.ceil(overlap * units - 1e-9), math.ceil(_TOKENS * units / cells))
    step = max(1, units - shared)
    count = 1 + -(-(total - units) // step)
    # Evenly: the last tile alone shifted inward would nearly repeat the one before.
    return Axis(pixels, tile, total, units, tuple(round(at * (total - units) / (count - 1)) for at in range(count)))


def _shared(axis: Axis) -> float:
    return 1 - max(later - earlier for earlier, later in itertools.pairwise(axis.starts)) / axis.span


def _crop(image: Image.Image, box: tuple[float, float, float, float], size: tuple[int, int], name: str) -> LoadedImage:
    whole = all(side == int(side) for side in box) and (box[2] - box[0], box[3] - box[1]) == size
    part = image.crop(tuple(int(side) for side in box)) if whole else image.resize(size, Image.Resampling.BICUBIC, box=box)  # type: ignore[arg-type]
    return load_image(Image.fromarray(np.asarray(part)), name=name)
