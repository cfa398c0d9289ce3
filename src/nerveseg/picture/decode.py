"""PIL's many modes → H×W×3 uint8, upright, with notes on what was changed."""

from __future__ import annotations

import struct
from io import BufferedIOBase
from typing import IO, Any, cast

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image, ImageOps

from nerveseg.errors import PictureError, PictureTooLarge
from nerveseg.picture import container, silence
from nerveseg.picture.container import gif

__all__ = ["FORMATS", "check_pixels", "decode", "open_image"]

FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "TIFF", "GIF", "BMP", "DIB", "PPM", "JPEG2000", "AVIF", "QOI")
"""The file formats read. No vector formats: they would start other programs."""

# What PIL's readers raise on damaged files, beside OSError; Image.open treats the first four the same way.
_DAMAGED = (
    *(SyntaxError, IndexError, TypeError, struct.error),
    *(OSError, ValueError, KeyError, EOFError, AttributeError),
    *(RuntimeError, ArithmeticError, MemoryError, Image.DecompressionBombError),
)
_COUNTED = gif.MOST_FRAMES  # pictures in a file; a small one may hold a million
_ORIENTATION = 0x0112  # EXIF 2.3, tag "Orientation"


def open_image(file: BufferedIOBase, where: str) -> Image.Image:
    """Read a picture file's header; no pixel is decoded.

    `PIL.Image.open` is not used: it warns from 89 and raises from 179 million pixels, by a global that is not ours to change.
    """
    silence.quiet()
    Image.preinit()
    if not set(FORMATS) <= set(Image.OPEN):
        Image.init()
    prefix = file.read(16)
    for name in FORMATS:
        if name not in Image.OPEN:
            continue
        factory, accept = Image.OPEN[name]
        try:
            fits = accept is None or accept(prefix)
            if not fits or isinstance(fits, str):  # a string says why this build of PIL cannot read the format
                continue
            file.seek(0)
            return factory(cast("IO[bytes]", file), "")
        except _DAMAGED:
            continue
    start = prefix[:8].decode("ascii", "backslashreplace")
    raise PictureError(
        f"Got {where}, which starts with {start!r} and is no whole picture. Accepted are {', '.join(FORMATS)}. Check the file."
    )


def check_pixels(size: tuple[int, ...], max_pixels: int, where: str) -> None:
    """Refuse more than ``max_pixels``; size is (height, width)."""
    height, width = size
    if height * width > max_pixels:
        raise PictureTooLarge(
            f"Got {where} with {height}×{width} = {height * width:,} pixels. Accepted are at most {max_pixels:,}. "
            "Shrink it, cut it into parts, or raise max_pixels."
        )


def decode(image: Image.Image, max_pixels: int, where: str) -> tuple[UInt8[np.ndarray, "H W 3"], int, tuple[str, ...]]:
    """Decode an opened image to upright RGB.

    Args:
        image: any PIL image; it is not changed, but its pixels are loaded.
        max_pixels: cap on height × width, checked first.
        where: what to call it in messages.

    Returns:
        Pixels, the EXIF orientation code that was applied, and notes.
    """
    check_pixels((image.height, image.width), max_pixels, where)
    if 0 in image.size:
        raise PictureError(f"Got {where} of size {image.height}×{image.width}. Accepted is at least 1×1. Give a picture with pixels.")
    notes: list[str] = []
    frames = _frames(image)
    if frames > 1:
        notes.append(f"Picture {image.tell() + 1} of the {frames}{' or more' if frames == _COUNTED else ''} in the file was taken.")
    try:
        image.load()
        container.check_exif(image.info.get("exif"), where)
        orientation = int(image.getexif().get(_ORIENTATION, 1))
        upright = ImageOps.exif_transpose(image)
        pixels = _to_rgb(upright, notes)
    except PictureError:
        raise
    except _DAMAGED as error:
        raise PictureError(
            f"Got {where}, which is damaged or cut short ({error}). Accepted is a whole picture file. Copy or save it again."
        ) from error
    if orientation not in range(2, 9):
        orientation = 1
    else:
        notes.append(f"EXIF orientation {orientation} was applied.")
    return pixels, orientation, tuple(notes)


def _frames(image: Image.Image) -> int:
    """How many pictures the file holds; a damaged later one does not matter."""
    try:
        if image.format == "GIF" and isinstance(file := getattr(image, "fp", None), BufferedIOBase):
            return gif.frames(file)
        return _directories(image) if image.format == "TIFF" else int(getattr(image, "n_frames", 1))
    except (*_DAMAGED, Image.DecompressionBombWarning):
        return 1


def _directories(image: Image.Image) -> int:
    """Pictures of a TIFF file, as far as they are counted: PIL looks for circles by comparing each with all before it."""
    here = image.tell()
    try:
        for frame in range(here + 1, _COUNTED):
            image.seek(frame)
    except EOFError:
        return image.tell() + 1
    finally:
        image.seek(here)
    return _COUNTED


def _to_rgb(image: Image.Image, notes: list[str]) -> np.ndarray:
    if image.mode == "RGB" and "transparency" not in image.info:
        return np.asarray(image)
    if image.mode.startswith("I") or image.mode == "F":
        return _deep_grey(image, notes)
    if image.has_transparency_data:
        return _over_white(image, notes)
    notes.append(f"Mode {image.mode} was turned into RGB.")
    return np.asarray(image.convert("RGB"))


def _over_white(image: Image.Image, notes: list[str]) -> np.ndarray:
    # PIL has no direct way from premultiplied grey to RGBA.
    layered = image.convert("LA").convert("RGBA") if image.mode == "La" else image.convert("RGBA")
    if layered.getchannel("A").getextrema() == (255, 255):
        return np.asarray(layered.convert("RGB"))
    white = Image.new("RGB", layered.size, "white")
    white.paste(layered, mask=layered.getchannel("A"))
    notes.append("Transparency was laid over white.")
    return np.asarray(white)


def _deep_grey(image: Image.Image, notes: list[str]) -> np.ndarray:
    """16- and 32-bit grey: its own smallest and largest value become 0 and 255, since few such files use their whole range."""
    values: NDArray[Any] = np.asarray(image).astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise PictureError(
            f"Got a grey picture with values from {low:g} to {high:g}. Accepted are finite values. Replace NaN and infinities."
        )
    if high > low:
        scaled = (values - low) * (255.0 / (high - low))
        notes.append(f"Grey of mode {image.mode} was scaled from {low:g}…{high:g} to 0…255.")
    else:
        scaled = np.clip(values / 257.0, 0.0, 255.0)  # one value only: the plain 16-bit scale, 65535 = 255 · 257
        notes.append(f"Grey of mode {image.mode}, all {low:g}, was divided by 257.")
    grey = np.rint(scaled).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)
