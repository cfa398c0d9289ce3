"""Open an image file: detect its format, strip its metadata, and find its orientation.

Metadata are left out before Pillow sees the file (`bare`, `tiff`), and the one entry that counts, the orientation, is read by one rule
(`orientation`). What is not read is called by its name (`kinds`).
"""

from __future__ import annotations

import importlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from io import BufferedIOBase, BytesIO
from typing import IO, Any, cast

from PIL import Image

from nerveseg.errors import ImageError, NerveSegError
from nerveseg.image import quiet, strip_metadata, tiff, unsupported
from nerveseg.image.container import gif
from nerveseg.image.orientation import NOTHING, ORIENTATION, Said, of_exif, stored_size

__all__ = ["DAMAGED", "FORMATS", "Damage", "Head", "Opened", "directory_of", "frames_of", "head", "open_image", "opened", "said_by"]

FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "TIFF", "GIF", "BMP", "DIB", "PPM", "JPEG2000", "AVIF", "QOI")
"""The file formats read; HEIC with the extra ``heic``. No vector formats: they would start other programs."""

DAMAGED = (
    *(SyntaxError, IndexError, TypeError, struct.error),
    *(OSError, ValueError, KeyError, EOFError, AttributeError),
    *(RuntimeError, ArithmeticError, MemoryError, Image.DecompressionBombError),
)
"""What PIL's readers raise on damaged files, beside OSError; Image.open treats the first four the same way."""

_START = 256  # bytes that say what a file is


@dataclass(frozen=True)
class Head:
    """What the first part of a file says; nothing is decoded.

    Attributes:
        format: as Pillow calls it.
        size: (height, width) as stored.
        orientation: the code, 1 … 8.
        mode: as Pillow calls it; empty where it does not read the file.
    """

    format: str
    size: tuple[int, int]
    orientation: int
    mode: str = ""

    @property
    def upright(self) -> tuple[int, int]:
        """(height, width) as it is seen."""
        return stored_size(self.size, self.orientation)


@dataclass(frozen=True, eq=False)
class Opened:
    """A file before decoding.

    Attributes:
        image: its pixels, as stored.
        plain: the bytes that it was opened from.
        said: which way up it is.
        frames: images in the file.
        deep: colours of 16 bits, of which Pillow gives the upper eight.
        cut: colours of more than 8 bits, of which no more can be had.
    """

    image: Image.Image
    plain: bytes
    said: Said = NOTHING
    frames: int = 1
    deep: bool = False
    cut: bool = False


def head(data: bytes, where: str) -> Head:
    """What a file is, how large, and which way up; no pixel is decoded.

    Raises:
        ImageError: no image.
    """
    directory = directory_of(data, where)
    if directory is not None and not tiff.fits_pillow(directory):
        return Head("TIFF", directory.size, directory.said.code)
    found = opened(data, where)
    return Head(str(found.image.format), (found.image.height, found.image.width), found.said.code, found.image.mode)


def open_image(file: BufferedIOBase, where: str) -> Image.Image:
    """Open an image file with PIL, without its metadata; no pixel is decoded.

    `PIL.Image.open` is not used: it warns from 89 and raises from 179 million pixels, by a global that is not ours to change.

    Raises:
        ImageError: no image, or of a kind that is not read.
    """
    return opened(file.read(), where).image


def opened(data: bytes, where: str) -> Opened:
    """Open a file; no pixel is decoded.

    Raises:
        ImageError: see `open_image`.
    """
    directory = directory_of(data, where)
    if directory is not None:
        with Damage(f"{where}, {tiff.describe(directory)}"):
            plain = tiff.bare(directory)
            return Opened(_by_pillow(plain, "TIFF"), plain, directory.said, directory.frames, tiff.deep(directory))
    for name in _formats(data[:16]):
        if name not in strip_metadata.READERS:
            try:
                image = _by_pillow(data, name)
            except DAMAGED:
                continue
            return Opened(image, data, said_by(image), frames_of(image), cut=strip_metadata.cut(data, name))
        held = strip_metadata.READERS[name](data)
        try:
            return Opened(_by_pillow(held.data, name), held.data, held.said, held.frames, held.deep)
        except DAMAGED as error:
            raise ImageError(
                f"Got {where}, which starts as {name} and is no whole image of a kind that is read ({error}). Accepted are "
                f"{', '.join(FORMATS)}. Copy it again, or save it as PNG."
            ) from error
    if (kind := unsupported.unread(data[:_START])) is not None:
        return _by_extra(data, where, *kind)
    start = data[:8].decode("ascii", "backslashreplace")
    raise ImageError(f"Got {where}, which starts with {start!r} and is no whole image. Accepted are {', '.join(FORMATS)}. Check the file.")


def directory_of(data: bytes, where: str) -> tiff.Directory | None:
    """The first directory of a TIFF file; None: another format.

    Raises:
        ImageError: it has none, or a sensor's own values.
    """
    if data[:4] not in tiff.STARTS:
        return None
    if data[8:10] == b"CR":
        raise _unread(where, *unsupported.CAMERA_RAW)
    found = tiff.read(data)
    if found is None:
        raise ImageError(f"Got {where}, a TIFF that ends before its directory. Accepted is a whole image file. Copy or save it again.")
    if found.camera_raw:
        raise _unread(where, *unsupported.CAMERA_RAW)
    return found


def said_by(image: Image.Image) -> Said:
    """Which way up an image is that somebody else opened, by the same rule."""
    held = image.info.get("exif")
    if isinstance(held, bytes):
        return of_exif(held)
    try:
        entry = (getattr(image, "tag_v2", None) or image.getexif()).get(ORIENTATION)
    except DAMAGED:
        return NOTHING
    if entry is None:
        return NOTHING
    return Said(entry) if type(entry) is int and entry in range(1, 9) else Said(odd=True)


class Damage:
    """Whatever PIL raises on the way is one error of ours."""

    def __init__(self, where: str) -> None:
        self._where = where

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, DAMAGED) and not isinstance(error, NerveSegError):
            raise ImageError(
                f"Got {self._where}, which is damaged or cut short ({error}). Accepted is a whole image file. Copy or save it again."
            ) from error


def _formats(start: bytes) -> list[str]:
    """Formats whose files start so."""
    readers = _readers()
    found = []
    for name in FORMATS:
        _, accept = readers.get(name, (None, None))
        try:
            fits = accept is not None and accept(start)
        except struct.error:  # fewer bytes than it looks at
            continue
        if fits and not isinstance(fits, str):  # a string says why this build of PIL cannot read the format
            found.append(name)
    return [name for name in found if name != "TIFF"]


def frames_of(image: Image.Image) -> int:
    """How many images the file holds; a damaged later one does not matter."""
    try:
        if image.format == "GIF" and isinstance(file := getattr(image, "fp", None), BufferedIOBase):
            return gif.frames(file)
        return int(getattr(image, "n_frames", 1))
    except (*DAMAGED, Image.DecompressionBombWarning):
        return 1


def _by_pillow(data: bytes, name: str) -> Image.Image:
    factory, _ = _readers()[name]
    return factory(cast("IO[bytes]", BytesIO(data)), "")


def _readers() -> Mapping[str, Any]:
    """PIL's readers by format; they register themselves when they are first imported."""
    quiet.quiet()
    Image.preinit()
    if not set(FORMATS) <= set(Image.OPEN):
        Image.init()
    return Image.OPEN


def _by_extra(data: bytes, where: str, name: str, advice: str) -> Opened:
    """A format that takes an extra, or none that is read."""
    if name != unsupported.HEIC:
        raise _unread(where, name, advice)
    try:
        library = importlib.import_module("pillow_heif")
    except ImportError as error:
        raise _unread(where, name, advice) from error
    with Damage(f"{where}, {name}"):
        image = library.HeifImageFile(BytesIO(data), "")
        # HEIF says in a box of its own how to turn, which goes before EXIF, and libheif does it.
        return Opened(image, data, NOTHING, int(image.n_frames))


def _unread(where: str, name: str, advice: str) -> ImageError:
    return ImageError(f"Got {where}, which is {name}. Accepted are {', '.join(FORMATS)}, and HEIC where its reader is installed. {advice}.")
