"""Connected components of a label map: their areas and boxes, and the removal of tiny ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from jaxtyping import Bool, Int64
from numpy.typing import NDArray
from scipy import ndimage as _ndimage  # pyright: ignore[reportMissingTypeStubs]

from nerveseg.errors import OptionError
from nerveseg.reprs import brief

__all__ = ["Region", "merge_small", "regions"]

ndimage: Any = _ndimage  # SciPy carries no types
_Part = tuple[int, int, tuple[slice, slice], NDArray[Any]]  # area, id, rows and columns, mask inside them


@dataclass(frozen=True)
class Region:
    """One connected part of one label.

    Attributes:
        label: its id.
        area: pixels.
        box: (left, top, right, bottom) in image pixels, right and bottom excluded.
        mask: the part inside its box.
    """

    label: int
    area: int
    box: tuple[int, int, int, int]
    mask: Bool[np.ndarray, "b c"]

    __repr__ = brief


def regions(ids: Int64[np.ndarray, "H W"], *, corners: bool = True, ignore: int | None = None) -> tuple[Region, ...]:
    """List the connected parts, by label, then by area (largest first), then from the top left.

    Args:
        ids: label ids at image size.
        corners: whether pixels that touch by a corner only are connected (8 neighbours, else 4).
        ignore: an id that makes no parts.

    Returns:
        The parts; their masks are disjoint and together cover the image. Cost O(labels · H · W) at worst.
    """
    found = [
        Region(label, area, (columns.start, rows.start, columns.stop, rows.stop), mask)
        for area, label, (rows, columns), mask in _parts(ids, corners=corners)
        if label != ignore
    ]
    return tuple(sorted(found, key=lambda part: (part.label, -part.area, part.box[1], part.box[0])))


def merge_small(
    ids: Int64[np.ndarray, "H W"], min_area: int, *, corners: bool = True, ignore: int | None = None
) -> Int64[np.ndarray, "H W"]:
    """Give each part smaller than ``min_area`` the label that touches it most; the smallest parts go first.

    Args:
        ids: label ids at image size; not changed.
        min_area: pixels. Larger: calmer maps, small things are lost. 0 and 1 change nothing.
        corners: as in `regions`.
        ignore: an id whose parts stay and to which nothing is merged.

    Returns:
        A new map. A part with nothing around it stays, however small. Ties go to the lowest id.
    """
    if min_area < 0:
        raise OptionError(f"Got min_area = {min_area}. Accepted is 0 or more pixels. Use 0 for no clean-up.")
    cleaned = ids.copy()
    if min_area <= 1:
        return cleaned
    merged = True
    while merged:  # ends: each merge joins one whole part to a neighbour, so the number of parts falls
        small = [part for part in _parts(cleaned, corners=corners) if part[0] < min_area and part[1] != ignore]
        small.sort(key=lambda part: (part[0], part[2][0].start, part[2][1].start))
        touched = np.zeros(ids.shape, dtype=bool)
        merged = sum(_merge(cleaned, touched, part, ignore, corners=corners) for part in small) > 0
    return cleaned


def _parts(ids: NDArray[Any], *, corners: bool) -> Iterator[_Part]:
    present, dense = np.unique(ids, return_inverse=True)
    boxes = cast("list[tuple[slice, slice]]", ndimage.find_objects(dense.reshape(ids.shape) + 1))
    for label, (rows, columns) in zip(present.tolist(), boxes, strict=True):
        numbered, _ = cast("tuple[NDArray[Any], int]", ndimage.label(ids[rows, columns] == label, structure=_structure(corners=corners)))
        areas = np.bincount(numbered.ravel())
        inner = cast("list[tuple[slice, slice]]", ndimage.find_objects(numbered))
        for number, (down, across) in enumerate(inner, start=1):
            place = (
                slice(rows.start + down.start, rows.start + down.stop),
                slice(columns.start + across.start, columns.start + across.stop),
            )
            yield int(areas[number]), label, place, numbered[down, across] == number


def _merge(ids: NDArray[Any], touched: NDArray[Any], part: _Part, ignore: int | None, *, corners: bool) -> bool:
    """Relabel one part in place after the commonest label on its rim; False if there is none, or the rim changed in this pass."""
    _, _, (rows, columns), mask = part
    top, left = max(rows.start - 1, 0), max(columns.start - 1, 0)
    place = (slice(top, rows.stop + 1), slice(left, columns.stop + 1))
    window = ids[place]
    inside = np.zeros(window.shape, dtype=bool)
    inside[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = mask
    rim = ndimage.binary_dilation(inside, structure=_structure(corners=corners)) & ~inside
    if bool(touched[place][rim | inside].any()):
        return False
    around = window[rim]
    around, counts = np.unique(around if ignore is None else around[around != ignore], return_counts=True)
    if around.size == 0:
        return False
    window[inside] = int(around[counts.argmax()])
    touched[place] |= inside
    return True


def _structure(*, corners: bool) -> NDArray[Any]:
    return ndimage.generate_binary_structure(2, 2 if corners else 1)
