"""What every data set is: named items, a table from stored mask values to classes, and how an image and its mask are read.

A data set file (`voc21.py`, …) declares what it is; nothing in it reads an image. Masks have one id a pixel, 0 … C − 1 in the order of
the classes, or `IGNORE`. What a file stores becomes that by one table, so that a conversion can be read, and checked, as a table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nerveseg.datasets import _stored
from nerveseg.datasets.classes import ClassNames
from nerveseg.errors import DataError, ImageError
from nerveseg.image import LoadedImage, load_image
from nerveseg.image.orientation import stored_size, turned_back
from nerveseg.reprs import brief

__all__ = ["IGNORE", "PROTOCOLS", "UNKNOWN", "DataSet", "Item", "Mask", "stored", "table"]

IGNORE = 65535
"""A pixel that no score counts."""

UNKNOWN = 65534
"""What a stored value becomes that the data set does not define: the file is not what it should be."""

_MEND = "Take the published file, or make it anew with `nerveseg datasets prepare` and --again; in a folder of your own, mend it."

PROTOCOLS = ("sclip", "cliper")
"""The field's two protocols: that of SCLIP and its relatives (mmseg's files and metric), and that of CLIPer and iSeg."""

Mask = NDArray[np.uint16]


@dataclass(frozen=True)
class Item:
    """One image with its mask.

    Attributes:
        id: unique in the data set, the name that its list has.
        image: the file; None where the data set draws its images.
        mask: the file; None likewise.
        box: (top, left, bottom, right) in pixels where the item is a part of both files; None: the whole.
    """

    id: str
    image: Path | None = None
    mask: Path | None = None
    box: tuple[int, int, int, int] | None = None


@dataclass(frozen=True, eq=False)
class DataSet:
    """A split of a data set under a protocol. Make one with `nerveseg.datasets.open`.

    Attributes:
        name: registry name.
        split: such as "val".
        protocol: one of `PROTOCOLS`.
        names: the classes in the order of their ids and the strings that mean each.
        background: True where class 0 is what none of the other classes is.
        items: in the order of the list.
        table: stored mask value → id, `IGNORE` or `UNKNOWN`; 256 or 65536 entries. See `table`.
        root: folder; None where nothing is read from disk.
        draw: item → image and mask of ids, where the data set draws them.
        offered: item → ids of the classes that are asked for in it; None: all classes in every image.
        about: what a report says of it beside the above, such as what its masks were made from.
        grey: True where masks are grey as published, so that one with a palette was changed by somebody, and is refused.
        voc: True where they are published with Pascal VOC's palette, so that one of its colours at another place is refused.
        left_out: a sentence on files that look like images of it and were not taken; empty: there are none.
    """

    name: str
    split: str
    protocol: str
    names: ClassNames
    background: bool
    items: tuple[Item, ...]
    table: NDArray[np.uint16]
    root: Path | None = None
    draw: Callable[[Item], tuple[LoadedImage, Mask]] | None = None
    offered: Callable[[Item], tuple[int, ...]] | None = None
    about: Mapping[str, str] = field(default_factory=dict)
    grey: bool = False
    voc: bool = False
    left_out: str = ""

    __repr__ = brief

    def __len__(self) -> int:
        return len(self.items)

    @property
    def classes(self) -> int:
        """Classes C, the background included."""
        return len(self.names)

    def read(self, item: Item) -> tuple[LoadedImage, Mask]:
        """Read an image and its mask.

        A mask that has an orientation of its own is turned by it, and its image by its own. One without follows stored pixels: an image
        that is to be turned or mirrored is left as it is stored, unless its mask has the size of the turned one alone.

        Returns:
            The image, and its mask of the same size, uint16.

        Raises:
            DataError: a file that is missing or damaged, a palette where it should not be, another size, an id out of range.
        """
        if self.draw is not None:
            return self.draw(item)
        mask = self.mask(item)
        return self.image(item, mask.shape), mask

    def image(self, item: Item, size: tuple[int, ...] | None = None) -> LoadedImage:
        """Read the image alone; ``size`` is that of its mask, where known."""
        if self.draw is not None:
            return self.draw(item)[0]
        path = _there(item.image, item, "image")
        try:
            image = load_image(path)
            if image.orientation != 1 and _follows_stored(image, item.mask):
                plain = np.ascontiguousarray(turned_back(image.pixels, image.orientation))
                image = load_image(Image.fromarray(plain), name=path.name)
        except ImageError as error:
            raise DataError(f"Got {path}, the image of {item.id!r}, which cannot be read: {error}") from error
        if item.box is not None:
            image = load_image(_cut(image.pixels, item.box, path), name=item.id)
        if size is not None and image.size != tuple(size):
            raise DataError(
                f"Got {path} of {image.size} pixels (height, width) and its mask {item.mask} of {tuple(size)}. "
                "Accepted are equal sizes. Take both files from the same release, or take the image out."
            )
        return image

    def mask(self, item: Item) -> Mask:
        """Read the mask alone, as ids."""
        if self.draw is not None:
            return self.draw(item)[1]
        path = _there(item.mask, item, "mask")
        values = stored(path, grey=self.grey, voc=self.voc)
        if item.box is not None:
            values = _cut(values, item.box, path)
        if int(values.max(initial=0)) >= len(self.table):
            raise DataError(f"Got {path} with the value {int(values.max())}. Accepted are 0 to {len(self.table) - 1}. {_MEND}")
        ids = self.table[values]
        if (ids == UNKNOWN).any():
            wrong = int(values[ids == UNKNOWN].min())
            known = np.flatnonzero(self.table != UNKNOWN)
            raise DataError(
                f"Got {path} with the value {wrong}, which is no class of {self.name}. Accepted are values from {known.min()} to "
                f"{known.max()} that the data set defines. {_MEND}"
            )
        return ids


def table(pairs: Mapping[int, int], *, entries: int = 256) -> NDArray[np.uint16]:
    """Write a table from stored values to ids; values that are not named become `UNKNOWN`.

    >>> table({0: 0, 255: IGNORE})[[0, 7, 255]].tolist()
    [0, 65534, 65535]
    """
    out = np.full(entries, UNKNOWN, np.uint16)
    for value, index in pairs.items():
        out[value] = index
    return out


def stored(path: Path, *, grey: bool = False, voc: bool = False) -> NDArray[np.integer]:
    """Read the values of a mask file as they are stored: grey of 1 to 32 bits, or the places of a palette; see `_stored.read`.

    Args:
        path: the file.
        grey: refuse palettes.
        voc: the palette is Pascal VOC's.

    Raises:
        DataError: no such file, damaged, an image in colours, or a palette that does not fit.
    """
    return _stored.read(path, grey=grey, voc=voc).values


def _there(path: Path | None, item: Item, what: str) -> Path:
    if path is None:
        raise DataError(f"Got the item {item.id!r} without a {what}. Accepted is one with a file. Open a split that has it.")
    if not path.is_file():
        raise DataError(f"Got no {what} {path} for {item.id!r}. Accepted is the file that the list names. Complete the data set.")
    return path


def _cut(pixels: NDArray[Any], box: tuple[int, int, int, int], path: Path) -> NDArray[Any]:
    top, left, bottom, right = box
    if pixels.shape[0] < bottom or pixels.shape[1] < right:
        raise DataError(
            f"Got {path} of {pixels.shape[:2]} pixels (height, width). Accepted are at least {(bottom, right)}, of which a part is taken. "
            "Take the published file."
        )
    return np.ascontiguousarray(pixels[top:bottom, left:right])


def _follows_stored(image: LoadedImage, mask: Path | None) -> bool:
    """Whether a mask belongs to an image's pixels as they lie in the file: it has their size and no orientation of its own."""
    if mask is None:
        return False
    try:
        found = _stored.head_of(mask, "mask")
    except DataError:  # `mask` says what is wrong with it
        return False
    return found.orientation == 1 and found.size == stored_size(image.size, image.orientation)
