"""Values of any depth, of one band or three, → 8-bit RGB: which bands, which range, and what is no data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray

from nerveseg.errors import ImageError, OptionError

__all__ = ["PLAIN", "Choice", "pick", "scaled"]

_ROWS = 1 << 22  # values that are scaled at a time, as floats of 64 bits


@dataclass(frozen=True)
class Choice:
    """How the values of a file become red, green and blue.

    Attributes:
        bands: three numbers of bands, from 1, for red, green and blue; or one, for grey. None: what the file says.
        value_range: (low, high): the values that become 0 and 255; what is beyond is cut. None: 8-bit values stay, others are scaled from
            the smallest to the largest of the image.
    """

    bands: tuple[int, ...] | None = None
    value_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        bands, limits = self.bands, self.value_range
        if bands is not None and (len(bands) not in (1, 3) or any(type(band) is not int or band < 1 for band in bands)):
            raise OptionError(f"Got the bands {bands!r}. Accepted are three numbers from 1 for red, green and blue, or one. Write 4,3,2.")
        if limits is not None and not (len(limits) == 2 and all(map(math.isfinite, limits)) and limits[0] < limits[1]):
            raise OptionError(f"Got the range {limits!r}. Accepted are two finite numbers, the smaller one first. Write 0,3000.")


PLAIN = Choice()
"""What the file says."""


def pick(count: int, choice: Choice, where: str) -> tuple[int, ...]:
    """The chosen bands as places from 0.

    Raises:
        ImageError: the file has no such band.
    """
    chosen = choice.bands or ()
    if any(band > count for band in chosen):
        raise ImageError(
            f"Got {where} with {count} band{'s' * (count != 1)} for the bands {','.join(map(str, chosen))}. Accepted are numbers from 1 to "
            f"{count}. Choose others."
        )
    return tuple(band - 1 for band in chosen)


def scaled(
    values: NDArray[Any], choice: Choice, *, what: str, nodata: float | None = None, white: bool = False
) -> tuple[UInt8[np.ndarray, "H W 3"], str]:
    """Scale values to 0…255.

    Args:
        values: (H, W, 1) or (H, W, 3), of any real type.
        choice: its range; its bands are chosen beforehand.
        what: the values in a few words, for the note.
        nodata: the value that stands for none, NaN included: it takes no part in the range and becomes black.
        white: the smallest value is white.

    Returns:
        Pixels, and a sentence on what was done.

    Raises:
        ImageError: values that are not finite, or none but ``nodata``.
    """
    there = _there(values, nodata)
    low, high = _range(values, there, what)
    came = (low, high)
    left = "" if there is None else f" {int(there.size - np.count_nonzero(there)):,} values are no data ({nodata:g}) and were made black."
    if choice.value_range is not None:
        low, high = choice.value_range
        note = f"{what} from {came[0]:g} to {came[1]:g} was scaled from {low:g}…{high:g}, as asked for, to 0…255."
    elif high > low:
        note = f"{what} was scaled from {low:g}…{high:g} to 0…255."
    else:  # one value only: the plain 16-bit scale, 65535 = 255 · 257
        note = f"{what}, all {low:g}, was divided by 257."
        low, high = 0.0, 65535.0
    rgb = np.empty((*values.shape[:2], 3), np.uint8)
    rows = max(1, _ROWS // max(1, values[:1].size))
    for start in range(0, len(values), rows):
        part = values[start : start + rows].astype(np.float64)
        part -= low
        part *= 255.0 / (high - low)
        if there is not None:
            part[~there[start : start + rows]] = 255.0 if white else 0.0
        part = np.rint(np.clip(part, 0.0, 255.0, out=part), out=part)
        rgb[start : start + rows] = 255.0 - part if white else part
    return rgb, note + left


def _there(values: NDArray[Any], nodata: float | None) -> NDArray[np.bool_] | None:
    """Which values are data; None: all."""
    if nodata is None:
        return None
    if values.dtype.kind in "iu":
        limits = np.iinfo(values.dtype)
        if not (math.isfinite(nodata) and nodata == int(nodata) and limits.min <= nodata <= limits.max):
            return None
        found = values != int(nodata)
    else:  # as the file's own type has it: -3.4e38 in text is not quite the number of 32 bits
        with np.errstate(over="ignore"):
            found = ~np.isnan(values) if math.isnan(nodata) else values != values.dtype.type(nodata)
    return None if found.all() else found


def _range(values: NDArray[Any], there: NDArray[np.bool_] | None, what: str) -> tuple[float, float]:
    if there is None:
        low, high = float(values.min()), float(values.max())
    else:
        held = values[there]
        if not held.size:
            raise ImageError(f"Got {what.lower()} without a value that is data. Accepted is an image with pixels. Take another one.")
        low, high = float(held.min()), float(held.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ImageError(
            f"Got {what[:1].lower()}{what[1:]} with values from {low:g} to {high:g}. Accepted are finite values. Replace NaN and "
            "infinities, or say in the file that NaN is no data."
        )
    return low, high
