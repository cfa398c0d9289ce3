"""A robot that knows the truth: where it clicks next, and how right a label is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Integer
from scipy import ndimage

__all__ = ["RobotClick", "iou", "next_click"]

Ids = Integer[np.ndarray, "H W"]


@dataclass(frozen=True)
class RobotClick:
    """Where the robot clicks.

    Attributes:
        label: the true id there.
        instead: the id that was there.
        x, y: the pixel.
        pixels: of the error.
    """

    label: int
    instead: int
    x: int
    y: int
    pixels: int


def next_click(guess: Ids, truth: Ids, *, ids: Iterable[int], of: int | None = None) -> RobotClick | None:
    """The middle of the largest error: a connected part that is wrong and is of one label in truth.

    Args:
        guess: ids of a result.
        truth: of the same size; pixels of other ids than ``ids`` are left out.
        ids: labels that may be clicked.
        of: only errors of this label count, pixels that lack it or have it wrongly; None: all.

    Returns:
        The pixel deepest inside, by the Euclidean distance to the error's edge, the image's own edge included; None: nothing is wrong.
    """
    wrong = guess != truth if of is None else (guess == of) != (truth == of)
    image: Any = ndimage
    best: tuple[int, int, Bool[np.ndarray, "H W"]] | None = None
    for label in ids:
        marked: tuple[Any, int] = image.label(wrong & (truth == label))
        parts, count = marked
        if count:
            sizes = np.bincount(parts.ravel())[1:]
            at = int(sizes.argmax())
            if best is None or sizes[at] > best[0]:
                best = (int(sizes[at]), label, parts == at + 1)
    if best is None:
        return None
    size, label, part = best
    depth = image.distance_transform_edt(np.pad(part, 1))[1:-1, 1:-1]
    y, x = (int(place) for place in np.unravel_index(int(depth.argmax()), depth.shape))
    return RobotClick(label, int(guess[y, x]), x, y, size)


def iou(guess: Ids, truth: Ids, label: int) -> float:
    """IoU of one label, in points; 0 where it is nowhere."""
    a, b = guess == label, truth == label
    return 100.0 * float((a & b).sum()) / max(1, int((a | b).sum()))
