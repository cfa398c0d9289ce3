"""Files and PIL's many modes → H×W×3 uint8, upright, with notes on what was changed.

`read` is the one way from a file's bytes to pixels: bytes and plain values in, an array and plain values out, so that it can be called in
another process.
"""

from __future__ import annotations

from dataclasses import replace
from io import BufferedIOBase, BytesIO
from typing import Any, cast

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image, ImageFile

from nerveseg.errors import ImageError, ImageTooLarge
from nerveseg.image import container, raster, tiff
from nerveseg.image.opening import FORMATS, Damage, Head, Opened, directory_of, frames_of, head, open_image, opened, said_by
from nerveseg.image.orientation import Said
from nerveseg.image.samples import PLAIN, Choice, pick, scaled

__all__ = ["FORMATS", "Decoded", "Head", "check_pixels", "decode", "head", "open_image", "read"]

Decoded = tuple[UInt8[np.ndarray, "H W 3"], int, tuple[str, ...]]
"""Pixels, the orientation code that was applied, and notes."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90,
}  # fmt: skip
_LOWER = {"B": "L", "L": "B", "N": "B"}  # Pillow gives the upper byte of 16 bits: read in the other order, that is the lower one


def read(data: bytes, max_pixels: int, where: str, choice: Choice = PLAIN) -> Decoded:
    """Decode an image file to upright RGB.

    Args:
        data: the whole file.
        max_pixels: cap on height × width, checked before anything is decoded.
        where: what to call it in messages.
        choice: bands and range.

    Raises:
        ImageError: no image, damaged, or of a kind that is not read. ImageTooLarge: too many pixels. MissingExtra: what reads it
            is not installed.
    """
    container.check(BytesIO(data), where, max_pixels)
    directory = directory_of(data, where)
    if directory is not None:
        _check(directory.size, max_pixels, where)
        if choice.bands is not None or not tiff.fits_pillow(directory):
            pixels, notes = raster.read(data, choice, f"{where}, {tiff.describe(directory)}")
            return _seen(Image.fromarray(pixels), directory.said, [*_several(0, directory.frames), *notes])
    found = opened(data, where)
    _check((found.image.height, found.image.width), max_pixels, where)
    notes = _several(0, found.frames)
    with Damage(where):
        found.image.load()
        pixels = _rgb(found, directory, choice, where, notes)
        return _seen(pixels, found.said, notes)


def decode(image: Image.Image, max_pixels: int, where: str, choice: Choice = PLAIN) -> Decoded:
    """Decode an image that somebody opened with PIL; it is not changed, but its pixels are loaded.

    Args:
        image: of any mode. PIL turns a TIFF itself while it loads it.
        max_pixels: cap on height × width, checked first.
        where: what to call it in messages.
        choice: bands and range.

    Raises:
        ImageError: see `read`.
    """
    if isinstance(image, ImageFile.ImageFile) and isinstance(image.fp, BufferedIOBase):  # its pixels are not read yet
        container.check(image.fp, where, max_pixels)
    _check((image.height, image.width), max_pixels, where)
    container.check_exif(image.info.get("exif"), where)
    said = said_by(image)
    with Damage(where):
        notes = _several(image.tell(), 1 if image.format == "TIFF" else frames_of(image))
        image.load()
        pixels = _rgb(Opened(image, b""), None, choice, where, notes)
        if image.format == "TIFF":  # it is upright by now
            return np.asarray(pixels), said.code, (*notes, *said.notes)
        return _seen(pixels, said, notes)


def check_pixels(size: tuple[int, ...], max_pixels: int, where: str) -> None:
    """Refuse more than ``max_pixels``; size is (height, width)."""
    height, width = size
    if height * width > max_pixels:
        raise ImageTooLarge(
            f"Got {where} with {height}×{width} = {height * width:,} pixels. Accepted are at most {max_pixels:,}. "
            "Shrink it, cut it into parts, or raise max_pixels."
        )


def _check(size: tuple[int, int], max_pixels: int, where: str) -> None:
    check_pixels(size, max_pixels, where)
    if 0 in size:
        raise ImageError(f"Got {where} of size {size[0]}×{size[1]}. Accepted is at least 1×1. Give an image with pixels.")


def _several(at: int, frames: int) -> list[str]:
    more = " or more" if frames >= tiff.COUNTED else ""
    return [f"Image {at + 1} of the {frames}{more} in the file was taken."] if frames > 1 else []


def _seen(image: Image.Image, said: Said, notes: list[str]) -> Decoded:
    """Turn stored pixels upright."""
    turned = image.transpose(_TURNS[said.code]) if said.code in _TURNS else image
    return np.asarray(turned), said.code, (*notes, *said.notes)


def _rgb(found: Opened, directory: tiff.Directory | None, choice: Choice, where: str, notes: list[str]) -> Image.Image:
    """Any mode → RGB, as stored."""
    image = found.image
    if found.deep:
        return _deep_colours(found, choice, where, notes)
    if image.mode.startswith("I") or image.mode == "F":
        return _deep_grey(image, directory, choice, where, notes)
    if choice.bands is not None:
        image = _picked(image, choice, where, notes)
    elif image.mode != "RGB" or "transparency" in image.info:
        image = _eight_bits(image, directory, notes)
    if found.cut:
        notes.append("Colours of more than 8 bits were cut to their upper 8; where it is dark, save it as PNG or TIFF of 16 bits.")
    if choice.value_range is None:
        return image
    values, note = scaled(np.asarray(image), choice, what="8 bits")
    notes.append(note)
    return Image.fromarray(values)


def _eight_bits(image: Image.Image, directory: tiff.Directory | None, notes: list[str]) -> Image.Image:
    if image.mode == "RGBA" and directory is not None and directory.on_earth and _is_no_alpha(image.getchannel("A")):
        notes.append("Band 4 is called transparency, but most of its values are between none and all: it was left out.")
        return image.convert("RGB")
    if image.has_transparency_data:
        return _over_white(image, notes, "; if that band is none, --bands 1,2,3 leaves it out" if directory is not None else "")
    notes.append(f"Mode {image.mode} was turned into RGB.")
    return _of_lab(image) if image.mode == "LAB" else image.convert("RGB")


def _is_no_alpha(band: Image.Image) -> bool:
    """GDAL calls the fourth of four bands transparency where nobody says what it is, as for near infrared."""
    counts = band.histogram()
    return sum(counts[1:-1]) > sum(counts) / 2


def _of_lab(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    made = ImageCms.profileToProfile(image, lab, rgb, outputMode="RGB")
    return image if made is None else made


def _over_white(image: Image.Image, notes: list[str], hint: str) -> Image.Image:
    # PIL has no direct way from premultiplied grey to RGBA.
    layered = image.convert("LA").convert("RGBA") if image.mode == "La" else image.convert("RGBA")
    if layered.getchannel("A").getextrema() == (255, 255):
        return layered.convert("RGB")
    white = Image.new("RGB", layered.size, "white")
    white.paste(layered, mask=layered.getchannel("A"))
    notes.append(f"Transparency was laid over white{hint}.")
    return white


def _picked(image: Image.Image, choice: Choice, where: str, notes: list[str]) -> Image.Image:
    """Channels by choice."""
    if image.mode not in ("L", "LA", "RGB", "RGBA", "CMYK"):
        image = image.convert("RGB")
    channels = image.split()
    chosen = pick(len(channels), choice, where)
    notes.append(_asked_for(chosen, len(channels)))
    return Image.merge("RGB", [channels[place] for place in (chosen * 3)[:3]])


def _asked_for(chosen: tuple[int, ...], count: int) -> str:
    return f"Bands {', '.join(str(place + 1) for place in chosen)} of {count} were taken, as asked for."


def _deep_grey(image: Image.Image, directory: tiff.Directory | None, choice: Choice, where: str, notes: list[str]) -> Image.Image:
    """16- and 32-bit grey: its own smallest and largest value become 0 and 255, since few such files use their whole range."""
    values: NDArray[Any] = np.asarray(image)
    if directory is not None and (directory.kind, directory.bits) == ("uint", 32):
        values = values.view(np.uint32)  # PIL has no mode for these
    if choice.bands is not None:
        pick(1, choice, where)
    nodata, white = (None, False) if directory is None else (directory.nodata, directory.photometric == 0)
    rgb, note = scaled(values[:, :, None], choice, what=f"Grey of mode {image.mode}", nodata=nodata, white=white)
    notes.append(note)
    return Image.fromarray(rgb)


def _deep_colours(found: Opened, choice: Choice, where: str, notes: list[str]) -> Image.Image:
    """16-bit colours, exact: Pillow decodes the upper bytes, and once more the lower ones."""
    values = _sixteen_bits(found, where)
    bands = values.shape[2]
    alpha = None if bands % 2 else Image.fromarray((values[:, :, -1] >> 8).astype(np.uint8))
    if choice.bands is not None:
        chosen, alpha = pick(bands, choice, where), None
        notes.append(_asked_for(chosen, bands))
        values = values[:, :, chosen]
    elif alpha is not None:
        values = values[:, :, :-1]
    rgb, note = scaled(values, replace(choice, bands=None), what="16 bits a colour")
    notes.append(note)
    image = Image.fromarray(rgb)
    if alpha is None or alpha.getextrema() == (255, 255):
        return image
    image.putalpha(alpha)
    return _over_white(image, notes, "")


def _sixteen_bits(found: Opened, where: str) -> NDArray[Any]:
    again = cast("ImageFile.ImageFile", opened(found.plain, where).image)
    if again.tile[0].args == "LA;16B":  # PNG: grey and alpha of 16 bits lie as four channels of 8 do
        again.tile = [tile._replace(args="RGBA") for tile in again.tile]
        high_low = np.asarray(again).astype(np.uint16)
        return (high_low[:, :, ::2] << 8) | high_low[:, :, 1::2]
    again.tile = [tile._replace(args=_lower(tile.args)) for tile in again.tile]
    return (np.asarray(found.image).astype(np.uint16) << 8) | np.asarray(again)


def _lower(args: Any) -> Any:
    """A tile's arguments with the other order of bytes."""
    kind = args if isinstance(args, str) else args[0]
    other = kind[:-1] + _LOWER[kind[-1]]
    return other if isinstance(args, str) else (other, *args[1:])
