"""Which way up an image is: one code, read from one place by one rule, and the turn that it stands for.

The code is tag 0x0112 (274) in the first directory of the EXIF data, or of a TIFF file: a whole number from 1 to 8, one of them (EXIF 2.32,
4.6.4). Only that entry is looked at. Whatever else the metadata hold, however damaged, decides nothing; nor do copies of the code
in a thumbnail's directory, in XMP, or in another type (text, a fraction, a list), which viewers read in different ways.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["NOTHING", "ORIENTATION", "TYPES", "Said", "entries", "of_exif", "said", "source_of", "stored_size", "turned", "turned_back"]

ORIENTATION = 0x0112
"""EXIF's and TIFF's tag."""

TYPES = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 16: "Q", 17: "q"}
"""Types of TIFF that are whole numbers → their letters in `struct`."""

_EXIF = b"Exif\0\0"
_LYING = 5  # codes from here on swap height and width
_Kind = TypeVar("_Kind", bound=np.generic)


@dataclass(frozen=True)
class Said:
    """What a file says of its orientation.

    Attributes:
        code: 1 … 8; 1 where it says none that counts.
        odd: the entry is there and is no code, so that it was not applied.
    """

    code: int = 1
    odd: bool = False

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be told of it."""
        if self.odd:
            return ("Its orientation is not stored as one whole number from 1 to 8 and was not applied.",)
        return () if self.code == 1 else (f"EXIF orientation {self.code} was applied.",)


NOTHING = Said()
"""No orientation."""


def of_exif(data: bytes) -> Said:
    r"""Read EXIF data: a TIFF header and its first directory, with or without its opening ``Exif``.

    >>> of_exif(b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0")
    Said(code=6, odd=False)
    """
    data = data[len(_EXIF) :] if data.startswith(_EXIF) else data
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None or len(data) < 8:
        return NOTHING
    (first,) = struct.unpack_from(f"{order}I", data, 4)
    return next((said(order, *entry[1:]) for entry in entries(data, first, order) if entry[0] == ORIENTATION), NOTHING)


def entries(data: bytes, first: int, order: str) -> Iterator[tuple[int, int, int, bytes]]:
    """The entries of a directory of TIFF that lie within the data: tag, type, count, and the four bytes of the value or of its place."""
    if first + 2 > len(data):
        return
    (count,) = struct.unpack_from(f"{order}H", data, first)
    for at in range(first + 2, min(first + 2 + count * 12, len(data) - 11), 12):
        yield struct.unpack_from(f"{order}HHI4s", data, at)


def said(order: str, kind: int, count: int, value: bytes) -> Said:
    """What one entry says.

    Args:
        order: of bytes, ``<`` or ``>``.
        kind: type of TIFF.
        count: of values.
        value: the bytes of the entry that hold it.
    """
    letter = TYPES.get(kind)
    if letter is None or count != 1 or struct.calcsize(letter) > len(value):
        return Said(odd=True)
    (code,) = struct.unpack_from(order + letter, value)
    return Said(code) if code in range(1, 9) else Said(odd=True)


def turned(pixels: NDArray[_Kind], code: int) -> NDArray[_Kind]:
    """Stored rows and columns, (height, width, …), as they are to be seen; a view.

    >>> turned(np.array([[1, 2], [3, 4]]), 6).tolist()
    [[3, 1], [4, 2]]
    """
    lying, down, right = _parts(code)
    seen = pixels.swapaxes(0, 1) if lying else pixels
    return seen[:: -1 if down else 1, :: -1 if right else 1]


def turned_back(pixels: NDArray[_Kind], code: int) -> NDArray[_Kind]:
    """What is seen, as it was stored: undoes `turned`; a view."""
    lying, down, right = _parts(code)
    plain = pixels[:: -1 if down else 1, :: -1 if right else 1]
    return plain.swapaxes(0, 1) if lying else plain


def stored_size(size: tuple[int, int], code: int) -> tuple[int, int]:
    """(height, width) as stored of an image that is seen with ``size``, and the other way round."""
    return (size[1], size[0]) if code >= _LYING else size


def source_of(size: tuple[int, int], code: int) -> tuple[float, float, float, float, float, float]:
    """Where a point of the image as it is seen lies in the stored one.

    Args:
        size: (height, width) as it is seen.
        code: 1 … 8.

    Returns:
        (a, b, c, d, e, f): stored x = a·x + b·y + c, stored y = d·x + e·y + f; corners of pixels are whole numbers.
    """
    lying, down, right = _parts(code)
    along = (-1.0, float(size[1])) if right else (1.0, 0.0)
    below = (-1.0, float(size[0])) if down else (1.0, 0.0)
    if lying:
        return 0.0, below[0], below[1], along[0], 0.0, along[1]
    return along[0], 0.0, along[1], 0.0, below[0], below[1]


def _parts(code: int) -> tuple[bool, bool, bool]:
    """Whether rows and columns are exchanged, and whether rows and columns then run backwards."""
    return code >= _LYING, code in (3, 4, 7, 8), code in (2, 3, 6, 7)
