"""A click: a label given to points, strokes or a box, and the pixels and tokens that it covers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from nerveseg.errors import OptionError
from nerveseg.reprs import brief

__all__ = ["Click", "pixels", "tokens"]

Point = tuple[float, float]


@dataclass(frozen=True)
class Click:
    """Pixels whose label is known.

    Coordinates are pixels of the image after its EXIF turn, (x, y), origin at the top left; pixel (3, 2) covers 3 ≤ x < 4, 2 ≤ y < 3.

    Args:
        label: a label's name or one of its synonyms, ``background`` where there is one, or a name that is new.
        points: (x, y), or a list of them.
        strokes: a polyline as a list of (x, y), or a list of polylines.
        box: (x0, y0, x1, y1): every pixel in it, both corners included, has the label.

    Raises:
        OptionError: nothing is pointed at, or coordinates that are none.

    >>> Click("cat", points=(30, 40)).points
    ((30.0, 40.0),)
    >>> Click("sky", box=(50, 20, 0, 0)).box
    (0.0, 0.0, 50.0, 20.0)
    """

    label: str
    points: Any = ()
    strokes: Any = ()
    box: Any = None

    __repr__ = brief

    def __post_init__(self) -> None:
        points = _points(self.points, "points")
        strokes = _strokes(self.strokes)
        box = None if self.box is None else _box(self.box)
        if not (points or strokes or box):
            raise OptionError(
                f"Got a click for {self.label!r} that points at nothing. Accepted are points, strokes or a box. Give one of them."
            )
        if not isinstance(self.label, str):
            raise OptionError(f"Got {self.label!r} as a click's label. Accepted is a string. Give the label's name.")
        for name, value in (("points", points), ("strokes", strokes), ("box", box)):
            object.__setattr__(self, name, value)


def pixels(click: Click, size: tuple[int, int]) -> Int64[Tensor, " p"]:
    """The pixels that a click covers, row by row from the top left, each once.

    Args:
        click: the click. A stroke covers the pixels that it passes through; what of it and of a box lies outside is cut.
        size: (height, width) of the image.

    Raises:
        OptionError: a point, or a whole stroke or box, outside of the image.
    """
    found = [_inside(click, torch.tensor(click.points, dtype=torch.float64).view(-1, 2), size, whole=True)] if click.points else []
    found += [_inside(click, _along(stroke, size), size, whole=False) for stroke in click.strokes]
    if click.box is not None:
        found.append(_filled(click, size))
    return torch.cat(found).unique()


def tokens(click: Click, size: tuple[int, int], grid: tuple[int, int], *, radius: float = 0.0) -> Int64[Tensor, " t"]:
    """The tokens that a click covers, row by row from the top left, each once.

    Args:
        click: the click. Points and strokes cover the tokens that they lie in; a box those whose centres it holds, at least one.
        size: (height, width) of the image.
        grid: (h, w) of the tokens, which share the image evenly.
        radius: tokens around each point that are covered as well, those whose centres are no farther away; 0: the point's own alone.
            Larger: the click reaches more, and may cross an edge.
    """
    found: list[Tensor] = []
    if click.points:
        found.append(
            _around(
                _cells(_inside(click, torch.tensor(click.points, dtype=torch.float64).view(-1, 2), size, whole=True), size, grid),
                grid,
                radius,
            )
        )
    found += [_cells(_inside(click, _along(stroke, size), size, whole=False), size, grid) for stroke in click.strokes]
    if click.box is not None:
        found.append(_centres(click, size, grid))
    return torch.cat(found).unique()


def _points(given: Any, name: str) -> tuple[Point, ...]:
    try:
        listed = list(cast("Iterable[Any]", given))
        if listed and not isinstance(listed[0], Iterable):
            listed = [listed]
        found = tuple((float(x), float(y)) for x, y in listed)
    except (TypeError, ValueError) as error:
        raise OptionError(f"Got {name} = {given!r}. Accepted are (x, y) or a list of such pairs. Give numbers in pairs.") from error
    if not all(math.isfinite(number) for point in found for number in point):
        raise OptionError(f"Got {name} = {given!r}. Accepted are finite numbers. Give pixels of the image.")
    return found


def _strokes(given: Any) -> tuple[tuple[Point, ...], ...]:
    try:
        listed = [list(line) for line in given]
    except TypeError as error:
        raise OptionError(f"Got strokes = {given!r}. Accepted is a list of (x, y), or a list of lists. Give pairs.") from error
    if listed and listed[0] and not isinstance(listed[0][0], Iterable):
        listed = [listed]
    return tuple(_points(line, "strokes") for line in listed if line)


def _box(given: Sequence[Any]) -> tuple[float, float, float, float]:
    try:
        x0, y0, x1, y1 = (float(number) for number in given)
    except (TypeError, ValueError) as error:
        raise OptionError(f"Got box = {given!r}. Accepted is (x0, y0, x1, y1). Give two opposite corners.") from error
    if not all(math.isfinite(number) for number in (x0, y0, x1, y1)):
        raise OptionError(f"Got box = {given!r}. Accepted are finite numbers. Give pixels of the image.")
    return (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))


def _inside(click: Click, points: Float[Tensor, "all 2"], size: tuple[int, int], *, whole: bool) -> Int64[Tensor, " p"]:
    """Pixels of points; those outside are cut, unless all must be inside or none is."""
    x, y = points.double().floor().T
    within = (x >= 0) & (x < size[1]) & (y >= 0) & (y < size[0])
    if not bool(within.all() if whole else within.any()):
        raise OptionError(
            f"Got a click for {click.label!r} outside of the image, which is {size[1]} × {size[0]} pixels. "
            f"Accepted is x from 0 to {size[1] - 1} and y from 0 to {size[0] - 1}. Point into the image."
        )
    return y[within].long() * size[1] + x[within].long()


def _along(stroke: Sequence[Point], size: tuple[int, int]) -> Float[Tensor, "p 2"]:
    """Points along a polyline, at most half a pixel apart; what lies outside of the image is left out, however far it goes."""
    corners = torch.tensor(stroke, dtype=torch.float64).view(-1, 2)
    parts = [corners]
    for a, b in itertools.pairwise(corners):
        # The part of a + t(b − a), 0 ≤ t ≤ 1, inside the image: between where it enters the last strip and leaves the first.
        low, high = torch.zeros(2, dtype=torch.float64), torch.tensor([size[1], size[0]], dtype=torch.float64)
        way = b - a
        walls = torch.stack([(low - a) / way, (high - a) / way])[:, way != 0]
        start = max([0.0, *walls.amin(0).tolist()])
        end = min([1.0, *walls.amax(0).tolist()])
        if start < end:
            steps = math.ceil(2 * (end - start) * float(way.abs().max()))
            parts.append(a + way * torch.linspace(start, end, steps + 1, dtype=torch.float64)[:, None])
    return torch.cat(parts)


def _filled(click: Click, size: tuple[int, int]) -> Int64[Tensor, " p"]:
    x0, y0, x1, y1 = (math.floor(number) for number in click.box)
    top, left = max(0, y0), max(0, x0)
    ys, xs = torch.arange(top, max(top, min(size[0], y1 + 1))), torch.arange(left, max(left, min(size[1], x1 + 1)))
    if len(ys) == 0 or len(xs) == 0:
        return _inside(click, torch.tensor([[x0, y0]], dtype=torch.float64), size, whole=True)  # says so
    return (ys[:, None] * size[1] + xs).flatten()


def _cells(places: Int64[Tensor, " p"], size: tuple[int, int], grid: tuple[int, int]) -> Int64[Tensor, " p"]:
    """The token that each pixel's centre lies in."""
    y, x = places // size[1], places % size[1]
    # In whole numbers: (y + ½)·h/H, rounded down.
    row, column = (2 * y + 1) * grid[0] // (2 * size[0]), (2 * x + 1) * grid[1] // (2 * size[1])
    return row * grid[1] + column


def _around(cells: Int64[Tensor, " p"], grid: tuple[int, int], radius: float) -> Int64[Tensor, " t"]:
    if radius <= 0:
        return cells
    reach = math.floor(radius)
    dy, dx = torch.meshgrid(torch.arange(-reach, reach + 1), torch.arange(-reach, reach + 1), indexing="ij")
    near = dy.square() + dx.square() <= radius * radius
    row = (cells // grid[1])[:, None] + dy[near]
    column = (cells % grid[1])[:, None] + dx[near]
    within = (row >= 0) & (row < grid[0]) & (column >= 0) & (column < grid[1])
    return (row * grid[1] + column)[within]


def _centres(click: Click, size: tuple[int, int], grid: tuple[int, int]) -> Int64[Tensor, " t"]:
    _filled(click, size)
    x0, y0, x1, y1 = (math.floor(number) for number in click.box)
    y, x = ((torch.arange(cells, dtype=torch.float64) + 0.5) * (side / cells) for cells, side in zip(grid, size, strict=True))
    rows, columns = ((y >= y0) & (y < y1 + 1)).nonzero()[:, 0], ((x >= x0) & (x < x1 + 1)).nonzero()[:, 0]
    if len(rows) == 0 or len(columns) == 0:
        middle = [min(max((low + high + 1) / 2, 0.0), side - 1.0) for low, high, side in ((x0, x1, size[1]), (y0, y1, size[0]))]
        return _cells(_inside(click, torch.tensor([middle], dtype=torch.float64), size, whole=True), size, grid)
    return (rows[:, None] * grid[1] + columns).flatten()
