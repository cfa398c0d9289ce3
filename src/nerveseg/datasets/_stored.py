"""Read the stored values of a mask file, and refuse files whose values are evidently no ids.

An index into a palette is an id only as long as the palette was made for the ids. Editors and optimisers number colours anew, and the old
numbers are then in the colours alone: a palette whose colours are Pascal VOC's, or greys, at other places says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nerveseg.errors import DataError, ImageError
from nerveseg.image import tiff
from nerveseg.image.decode import Head, head
from nerveseg.image.opening import DAMAGED, directory_of, opened
from nerveseg.image.orientation import turned
from nerveseg.masks.palette import voc_palette
from nerveseg.reprs import brief

__all__ = ["Stored", "head_of", "read"]

_FORMATS = ("PNG", "TIFF", "BMP", "PPM")
_CHANGING = {
    "GIF": "a format whose writers number the colours of a palette anew",
    "WEBP": "a format of colours, which are changed unless it is told otherwise",
}
_MODES = ("L", "P", "1", "I;16", "I;16B", "I;16L", "I")
_STEPS = {2: 85, 4: 17}  # bits → what Pillow multiplies grey samples by
_LOSSY = frozenset({6, 7, 34712, 34887, 50001})  # TIFF: JPEG, JPEG 2000, LERC, WebP
_PNG = "Save the ids as a PNG of 8 or 16 bits in grey"


@dataclass(frozen=True, eq=False)
class Stored:
    """A mask file.

    Attributes:
        values: (height, width), turned by the file's own orientation, where it has one.
        colours: of the palette, (n, 3); None: grey.
    """

    values: NDArray[np.integer]
    colours: NDArray[np.uint8] | None = None

    __repr__ = brief

    def used(self) -> dict[int, tuple[int, ...]]:
        """Values that occur → their colours in the palette."""
        if self.colours is None:
            return {}
        return {int(value): tuple(self.colours[value].tolist()) for value in np.unique(self.values) if value < len(self.colours)}


def head_of(path: Path, what: str) -> Head:
    """What a file is, how large, and which way up.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return head(path.read_bytes(), str(path))
    except (ImageError, OSError) as error:
        raise DataError(f"Got the {what} {path}, which cannot be read: {error} Accepted is a whole file. Copy it again.") from error


def read(path: Path, *, grey: bool = False, voc: bool = False) -> Stored:
    """Read a mask.

    Args:
        path: the file.
        grey: refuse palettes.
        voc: the data set's masks are published with Pascal VOC's palette: a colour of it at another place is refused, and masks in its
            colours without a palette are read by them.

    Raises:
        DataError: no such file, damaged, a format that loses or renumbers values, colours where ids are expected, or a palette that
            contradicts them.
    """
    try:
        data = path.read_bytes()
        directory = directory_of(data, str(path))
        found = opened(data, str(path))
        _check_kind(path, str(found.image.format), directory)
        found.image.load()
        values, colours = _values(path, found.image, grey=grey, voc=voc)
    except FileNotFoundError as error:
        raise DataError(f"Got no mask {path}. Accepted is the file that the data set's list names. Complete the data set.") from error
    except DataError:
        raise
    except (ImageError, *DAMAGED) as error:
        raise DataError(f"Got the mask {path}, which cannot be read ({error}). Accepted is a whole PNG. Copy it again.") from error
    bits = data[24] if found.image.format == "PNG" else 8 if directory is None else directory.bits
    if found.image.mode == "L" and bits in _STEPS:
        values = values // _STEPS[bits]
    if directory is not None and (directory.kind, directory.bits) == ("uint", 32):
        values = values.view(np.uint32)
    if values.dtype == np.int32 and values.min(initial=0) < 0:
        raise DataError(f"Got the mask {path} with negative values. Accepted are 0 and more. Convert it anew.")
    held = Stored(np.ascontiguousarray(turned(values, found.said.code)), colours)
    _check_palette(path, held.used(), voc=voc)
    return held


def _check_kind(path: Path, name: str, directory: tiff.Directory | None) -> None:
    if name not in _FORMATS:
        why = _CHANGING.get(name, "a format that changes values")
        raise DataError(f"Got the mask {path}, which is {name}, {why}. Accepted are PNG, TIFF and BMP. {_PNG}, from what it was made from.")
    if directory is None:
        return
    said = tiff.describe(directory)
    if directory.compression in _LOSSY:
        raise DataError(f"Got the mask {path}, {said}, which changes values. Accepted is compression without loss. {_PNG}.")
    if directory.photometric == 0:
        raise DataError(f"Got the mask {path}, {said}: whether ids are counted from white is not said. Accepted is 0 for black. {_PNG}.")


def _values(path: Path, image: Image.Image, *, grey: bool, voc: bool) -> tuple[NDArray[Any], NDArray[np.uint8] | None]:
    if voc and image.mode in ("RGB", "RGBA"):
        return _by_colours(path, image), None
    if image.mode not in _MODES:
        raise DataError(
            f"Got the mask {path} with the colour mode {image.mode}. Accepted are one value a pixel: grey or a palette. Turn each colour "
            f"into its id by the list that it was made with. {_PNG}."
        )
    if image.mode != "P":
        values = np.asarray(image)
        return (values.astype(np.uint8) if values.dtype == np.bool_ else values), None
    if grey:
        raise DataError(
            f"Got the mask {path} with a palette. Accepted is grey, as it was published: an editor that makes a palette numbers "
            "the classes anew. Take the published file, or run `nerveseg datasets prepare` with --again."
        )
    return np.asarray(image), np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)


def _by_colours(path: Path, image: Image.Image) -> NDArray[np.uint8]:
    """Ids by Pascal VOC's colours, where every pixel has one of them."""
    if image.mode == "RGBA" and image.getchannel("A").getextrema() != (255, 255):
        raise DataError(f"Got the mask {path} with transparency. Accepted are ids, or the data set's own colours alone. {_PNG}.")
    codes, known = _codes(np.asarray(image.convert("RGB"))), _codes(voc_palette())
    order = np.argsort(known)
    places = order[np.searchsorted(known[order], codes).clip(max=255)]
    wrong = known[places] != codes
    if wrong.any():
        code = int(codes[wrong][0])
        raise DataError(
            f"Got the mask {path} in colours, of which {(code >> 16, code >> 8 & 255, code & 255)} is none of the data set's. Accepted are "
            f"ids, or its own colours alone. {_PNG}."
        )
    return places.astype(np.uint8)


def _codes(colours: NDArray[np.uint8]) -> NDArray[np.int64]:
    return colours.astype(np.int64) @ np.array([65536, 256, 1])


def _check_palette(path: Path, used: dict[int, tuple[int, ...]], *, voc: bool) -> None:
    """Refuse colours that speak of other ids."""
    own = {tuple(colour): value for value, colour in enumerate(voc_palette().tolist())}
    odd = [value for value, colour in used.items() if own.get(colour) != value and colour != (value,) * 3]
    if not odd:
        return
    greys = all(len(set(colour)) == 1 for colour in used.values())
    named = [value for value in odd if used[value] in own]
    if not (greys or (named and (voc or len([1 for colour in used.values() if colour in own]) == len(used)))):
        return
    value = odd[0] if greys else named[0]
    meant = used[value][0] if greys else own[used[value]]
    whose = "the grey" if greys else "the colour in Pascal VOC"
    raise DataError(
        f"Got the mask {path} whose palette has at {value} the colour {used[value]}, {whose} of {meant}: somebody numbered the ids anew. "
        f"Accepted is a palette made for the ids, or grey. Take the published file, or turn colours back into ids. {_PNG}."
    )
