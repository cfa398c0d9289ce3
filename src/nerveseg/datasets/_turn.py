"""Map the values of a publisher's file to those of a mask, by a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nerveseg.datasets.base import IGNORE, UNKNOWN, stored, table
from nerveseg.errors import DataError

__all__ = ["IGNORED", "by_table"]

IGNORED = 255
"""What masks of 8 bits store where nothing is counted."""


def by_table(
    name: str, values: Mapping[int, int], read: Callable[[Path], NDArray[np.integer]] = stored
) -> Callable[[Path], NDArray[np.uint8]]:
    """Make a function for `Job.masks` that turns one value into another.

    Args:
        name: of the data set, for errors.
        values: value in the publisher's file → id below 255, or `IGNORE`, which is stored as `IGNORED`.
        read: file → its values, (height, width).

    Returns:
        The function. It raises `DataError` for a value that ``values`` does not have: then the file is not the publisher's.
    """
    lookup = table(values, entries=max(values) + 1)

    def turn(path: Path) -> NDArray[np.uint8]:
        raw = read(path)
        known = raw < len(lookup)
        ids = lookup[np.where(known, raw, 0)]
        wrong = ~known | (ids == UNKNOWN)
        if wrong.any():
            raise DataError(
                f"Got {path} with the value {int(raw[wrong].min())}, which the published ids of {name} do not have. "
                f"Accepted are {len(values)} values from {min(values)} to {max(values)}. Take the file from the publisher's archive."
            )
        return np.where(ids == IGNORE, IGNORED, ids).astype(np.uint8)

    return turn
